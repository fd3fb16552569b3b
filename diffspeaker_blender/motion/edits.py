# SPDX-License-Identifier: GPL-3.0-or-later
"""What an animator changed on a line's curves, kept apart from what was generated.

    N samples   C curves   n keys   F frames

A layer holds differences in the sound's own seconds and at strength 1. So it follows a line that is
moved or retimed, is scaled by the live controls with everything else, and lies over another take.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..files.arrays import read_npz
from .adjust import gain
from .motion import Adjustments

Floats = NDArray[np.float32]
Seconds = NDArray[np.float64]

CONSTANT, LINEAR, BEZIER = 0, 1, 2
"""Blender's numbers for the interpolation of keys."""
KEY = 7
"""Numbers that describe a key: frame, value, left handle (2), right handle (2), interpolation."""
_SAME = 1e-4
"""Difference of a value that no hand made."""
_AT = 1e-4
"""Frames from a key within which a time is the key's, as Blender's single precision has it."""


@dataclass(frozen=True)
class Edits:
    """A layer of hand edits; empty as built."""

    times: Seconds = field(default_factory=lambda: np.zeros(0))
    """(N,) ascending seconds of the sound; between them straight lines, beyond them nothing."""
    names: tuple[str, ...] = ()
    """(C,) shapes of the motion."""
    values: Floats = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    """(N, C) what is added at strength 1."""
    pins: tuple[tuple[str, float], ...] = ()
    """Shape and second of each key that was set by hand: it is to stay a key."""

    def __bool__(self) -> bool:
        return bool(np.any(np.abs(self.values) > _SAME))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Edits) and self.dump() == other.dump()

    def __hash__(self) -> int:
        return hash(self.dump())

    def at(self, times: Seconds) -> Floats:
        """Return the layer at some seconds (F, C)."""
        found = np.zeros((len(times), len(self.names)), np.float32)
        if len(self.times):
            for column in range(len(self.names)):
                curve = self.values[:, column]
                found[:, column] = np.interp(times, self.times, curve, left=0.0, right=0.0)
        return found

    def held(self, times: Seconds) -> Floats:
        """Return the layer at some seconds (F, C), each sample holding until the next."""
        if not len(self.times):
            return np.zeros((len(times), len(self.names)), np.float32)
        row = np.searchsorted(self.times, np.asarray(times) + 1e-4, "right") - 1
        inside = (row >= 0) & (times <= self.times[-1] + 1e-4)
        return np.where(inside[:, None], self.values[np.maximum(row, 0)], np.float32(0))

    def over(
        self, weights: Floats, names: tuple[str, ...], times: Seconds, live: Adjustments
    ) -> Floats:
        """Return weights (F, K) at some seconds with the layer on top, as strong as they are."""
        if not self:
            return weights
        changed, layer = weights.copy(), self.at(times)
        for column, name in enumerate(self.names):
            if name in names:
                changed[:, names.index(name)] += strength_of(name, live) * layer[:, column]
        return changed

    def plus(self, other: Edits) -> Edits:
        """Return both layers as one."""
        if not self or not other:
            return self or other
        times = _merged(self.times, other.times)
        names = tuple(dict.fromkeys((*self.names, *other.names)))
        values = np.zeros((len(times), len(names)), np.float32)
        for layer in (self, other):
            values[:, [names.index(name) for name in layer.names]] += layer.at(times)
        return Edits(times, names, values, tuple(dict.fromkeys((*self.pins, *other.pins))))

    def outside(self, first: float, last: float) -> Edits:
        """Return the layer without what lies between two seconds, both included."""
        inside = (self.times >= first - 1e-4) & (self.times <= last + 1e-4)
        pins = tuple(pin for pin in self.pins if not first - 1e-4 <= pin[1] <= last + 1e-4)
        return Edits(self.times, self.names, np.where(inside[:, None], 0, self.values), pins)

    def of(self, names: Iterable[str]) -> Edits:
        """Return the layer of some shapes only."""
        wanted = set(names)
        chosen = [column for column, name in enumerate(self.names) if name in wanted]
        pins = tuple(pin for pin in self.pins if pin[0] in wanted)
        kept = tuple(self.names[column] for column in chosen)
        return Edits(self.times, kept, self.values[:, chosen], pins)

    def pinned(self, names: tuple[str, ...], times: Seconds) -> NDArray[np.bool_]:
        """Return which rows and shapes (F, K) bear a key that was set by hand."""
        found = np.zeros((len(times), len(names)), bool)
        for name, second in self.pins if len(times) else ():
            row = int(np.abs(times - second).argmin())
            near = len(times) < 2 or abs(times[row] - second) < times[1] - times[0]
            if name in names and near:
                found[row, names.index(name)] = True
        return found

    def moved(self) -> tuple[str, ...]:
        """Return the shapes that are really changed."""
        far = np.abs(self.values).max(0, initial=0.0) > _SAME
        return tuple(name for name, changed in zip(self.names, far, strict=True) if changed)

    def dump(self) -> bytes:
        """Return the layer as bytes."""
        if not self:
            return b""
        stream = io.BytesIO()
        np.savez_compressed(
            stream,
            times=self.times,
            names=np.array(self.names, str),
            values=self.values,
            pin_names=np.array([name for name, _ in self.pins], str),
            pin_times=np.array([second for _, second in self.pins], np.float64),
        )
        return stream.getvalue()

    @classmethod
    def load(cls, data: bytes) -> Edits:
        """Read what `dump` wrote; an empty layer for no bytes."""
        if not data:
            return cls()
        found = read_npz(data)
        pins = zip(found["pin_names"], found["pin_times"], strict=True)
        return cls(
            found["times"],
            tuple(str(name) for name in found["names"]),
            found["values"],
            tuple((str(name), float(second)) for name, second in pins),
        )


NO_EDITS = Edits()


def strength_of(name: str, live: Adjustments) -> float:
    """Return what the live controls multiply a shape by; 1 for one without a meaning."""
    found = gain(name, live)
    return 1.0 if found is None else found


def _merged(one: Seconds, other: Seconds) -> Seconds:
    """Return the seconds of both, those nearer than a tenth of a millisecond only once."""
    times = np.sort(np.concatenate([one, other]))
    return np.asarray(times[np.concatenate([[True], np.diff(times) > 1e-4])], np.float64)


# -- keys -------------------------------------------------------------------------------------


def same_keys(one: Floats, other: Floats) -> bool:
    """Return whether two curves' keys (n, 7) are the same but for rounding.

    Automatic handles at the ends follow whatever key comes next, so they do not count.
    """
    if one.shape != other.shape:
        return False
    if not np.allclose(one[:, :2], other[:, :2], atol=_SAME, rtol=0):
        return False
    if not np.array_equal(one[:, 6], other[:, 6]):
        return False
    bent = np.flatnonzero(one[:, 6] == BEZIER)
    bent = bent[(bent > 0) & (bent < len(one) - 1)]
    return bool(np.allclose(one[bent, 2:6], other[bent, 2:6], atol=2e-2, rtol=0))


def evaluate(keys: Floats, frames: NDArray[np.float64]) -> Floats:
    """Return what Blender shows at `frames` (F,) of a curve with these keys (n, 7)."""
    if not len(keys):
        return np.zeros(len(frames), np.float32)
    frames = np.asarray(frames, np.float64)
    if len(keys) == 1:
        return np.full(len(frames), keys[0, 1], np.float32)
    rows = np.asarray(keys, np.float64)
    place = np.clip(np.searchsorted(rows[:, 0], frames, "right") - 1, 0, len(keys) - 2)
    left, right = rows[place], rows[place + 1]
    width = np.maximum(right[:, 0] - left[:, 0], 1e-9)
    share = np.clip((frames - left[:, 0]) / width, 0.0, 1.0)
    share = np.where(right[:, 0] - frames < _AT, 1.0, share)
    value = left[:, 1] + share * (right[:, 1] - left[:, 1])
    bent = left[:, 6] == BEZIER
    value = np.where(bent, _bezier(left, right, frames), value)
    value = np.where((left[:, 6] == CONSTANT) & (share < 1), left[:, 1], value)
    return np.asarray(value, np.float32)


def _bezier(
    left: NDArray[np.float64], right: NDArray[np.float64], frames: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the values of cubic segments at frames inside them, by bisection.

    Handles that are longer than the segment are shortened first, as Blender does.
    """
    begin, end = left[:, 0:2], right[:, 0:2]
    out, back = left[:, 4:6] - begin, right[:, 2:4] - end
    width = end[:, 0] - begin[:, 0]
    out, back = (
        handle * np.minimum(1.0, width / np.maximum(np.abs(handle[:, 0]), 1e-9))[:, None]
        for handle in (out, back)
    )
    points = begin, begin + out, end + back, end

    def cubic(t: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
        a, b, c, d = (point[:, axis] for point in points)
        s = 1 - t
        return np.asarray(a * s**3 + 3 * b * s * s * t + 3 * c * s * t * t + d * t**3)

    frames = np.clip(frames, begin[:, 0], end[:, 0])
    low, high = np.zeros(len(frames)), np.ones(len(frames))
    for _ in range(40):
        middle = (low + high) / 2
        before = cubic(middle, 0) < frames
        low, high = np.where(before, middle, low), np.where(before, high, middle)
    return cubic((low + high) / 2, 1)
