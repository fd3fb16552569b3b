# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys set by hand on a mapped character's channels → our controls, which guide the next take.

The rows of the mapping are asked backwards: bounded least squares on the controls that a channel
follows, with its products and turns as they are. What no controls give (a ready mouth that was
fitted, a value beyond what the row reaches) guides nothing; there the key itself is kept exactly.

Legend: `F` rows of the motion, `C` controls, `K` controls that are looked for, `N` channels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..character.mapping import Mapping, Row
from ..motion.edits import Edits
from ..motion.motion import Motion
from . import channels, edits, mapped, mapped_edits, storage

Floats = NDArray[np.float64]

REACH = 0.2
"""Seconds around a key that is kept exactly within which the curve goes over to it."""
_STEP = 0.02
_ROUNDS, _SWEEPS = 8, 60
_RIDGE = 1e-5
_MISSED = 0.03
"""Share of what a control moves a channel by that a key may be missed by and still be read."""


@dataclass(frozen=True)
class Guides:
    """What the keys of a line say in our controls."""

    known: Floats
    """(F, C) the shown take's controls, with what was read."""
    mask: NDArray[np.bool_]
    """(F, C) which of them the keys fix."""
    unread: tuple[str, ...]
    """Channels of keys that no controls give."""


def read(obj: Any, clip: str, fps: float) -> Guides:
    """Read the keys set by hand over the shown take of a line; its motion has controls."""
    record = storage.read(storage.holder(obj)).clips[clip]
    motion = storage.get_motion(storage.holder(obj), record)
    assert motion is not None
    assert motion.controls is not None
    layer, unread = mapped.layer_of(obj, clip, fps), set[str]()
    solver = _Solver(mapped.require(obj), motion.control_names)
    while True:  # without those that cannot be read, the others are
        found = _read(solver, motion, layer, unread)
        if set(found.unread) <= unread:
            return found
        unread |= set(found.unread)


def _read(solver: _Solver, motion: Motion, layer: Edits, unread: set[str]) -> Guides:
    assert motion.controls is not None
    times = np.asarray((np.arange(motion.frames) + motion.start) / motion.fps, np.float64)
    known = motion.controls.astype(np.float64)
    mask, missed = np.zeros(known.shape, bool), set(unread)
    asked: dict[int, dict[str, float]] = {}
    moved = layer.at(times)
    column = {name: place for place, name in enumerate(layer.names)}
    for name, second in layer.pins:
        if name not in solver.follows:
            missed.add(name)
        for row in np.flatnonzero(np.abs(times - second) < 0.999 / motion.fps):
            if name not in missed:
                change = float(moved[row, column[name]]) if name in column else 0.0
                asked.setdefault(int(row), {})[name] = change
    for one, changes in asked.items():
        columns, values, failed = solver.solve(known[one], changes)
        known[one, columns], mask[one, columns] = values, True
        missed |= failed
    return Guides(known, mask, tuple(sorted(missed)))


class _Solver:
    """A mapping asked backwards, one frame at a time."""

    def __init__(self, mapping: Mapping, names: tuple[str, ...]) -> None:
        self.names = names
        self.mapping = replace(mapping, few=None, few_rows=(), drawn=None, drawn_rows=())
        self.mapping = replace(self.mapping, steps=0)
        self.follows: dict[str, list[Row]] = {}
        for row in self.mapping.rows:
            still = [(place, np.zeros(1)) for place in row.places]
            for channel, _ in channels.curves_of(still, mapping.bases):
                self.follows.setdefault(channel.name, []).append(row)

    def solve(
        self, controls: Floats, changes: dict[str, float]
    ) -> tuple[list[int], Floats, set[str]]:
        """Return columns and values of the controls that change channels so, and what failed.

        controls: (C,) of the frame as it is.
        """
        rows = [row for name in changes for row in self.follows[name]]
        free = {n for row in rows for t in row.terms for n in (*t.controls, *t.unless)}
        columns = [k for k, name in enumerate(self.names) if name in free]
        mapping = replace(self.mapping, rows=tuple(dict.fromkeys(rows)))
        found = controls.copy()
        now, slopes = self._slopes(mapping, found, columns, list(changes))
        wanted = now + np.array(list(changes.values()))
        for _ in range(_ROUNDS):
            size = _sizes(list(changes), slopes)
            step = _bounded(slopes / size[:, None], (wanted - now) / size, found[columns])
            found[columns] += step
            now, slopes = self._slopes(mapping, found, columns, list(changes))
        size = _sizes(list(changes), slopes)
        failed = np.abs(wanted - now) > _MISSED * size
        return columns, found[columns], {n for n, bad in zip(changes, failed, strict=True) if bad}

    def _slopes(
        self, mapping: Mapping, controls: Floats, columns: list[int], names: list[str]
    ) -> tuple[Floats, Floats]:
        """Return channels' values (N,) and how they change with controls (N, K)."""
        table = np.repeat(controls[None], 1 + len(columns), 0)
        steps = np.where(controls[columns] > 0.5, -_STEP, _STEP)
        table[np.arange(len(columns)) + 1, columns] += steps
        curves = channels.curves_of(mapping.evaluate(table, self.names), mapping.bases)
        found = {channel.name: np.asarray(values, np.float64) for channel, values in curves}
        values = np.stack([found[name] for name in names])
        return values[:, 0], (values[:, 1:] - values[:, :1]) / steps


def _sizes(names: list[str], slopes: Floats) -> Floats:
    """Return what a control moves each channel by (N,), alike for all parts of one rotation."""
    most = np.abs(slopes).max(1, initial=0.0)
    parts = [name.rpartition("|")[0] for name in names]
    together = {
        part: max(m for p, m in zip(parts, most, strict=True) if p == part) for part in parts
    }
    return np.maximum([together[part] for part in parts], 1e-6)


def _bounded(slopes: Floats, wanted: Floats, values: Floats) -> Floats:
    """Return the step (K,) that slopes (N, K) take to changes (N,), values staying in 0..1."""
    step, left = np.zeros(len(values)), wanted.copy()
    length = (slopes**2).sum(0) + _RIDGE
    for _ in range(_SWEEPS):
        for k in range(len(values)):
            best = step[k] + (left @ slopes[:, k] - _RIDGE * step[k]) / length[k]
            change = float(np.clip(best, -values[k], 1.0 - values[k])) - step[k]
            step[k] += change
            left -= change * slopes[:, k]
    return step


def _drawings(keys: Any, record: Any, pins: Any, line: Any, fps: float) -> Any:
    """Return what leads (T,) to the drawings that were chosen by hand, each until the next key."""
    name, every, times, values = line
    column = np.zeros(len(every))
    for second in (second for n, second in pins if n == name):
        frame = float(edits.frames_at(record, np.array([second]), fps)[0])
        ends = [point.co[0] for point in keys if point.co[0] > frame + 0.1]
        chosen = [point.co[1] for point in keys if abs(point.co[0] - frame) < 0.1]
        last = edits.seconds(record, np.array([min(ends, default=frame + 1)]), fps)[0]
        inside = (every > second - 1e-4) & (every < last - 1e-4)
        row = np.clip(np.searchsorted(times, every + 1e-4) - 1, 0, len(times) - 1)
        column[inside] = (chosen[0] if chosen else 0.0) - values[row[inside]]
    return column


def exactly(obj: Any, clip: str, motion: Motion, unread: tuple[str, ...], fps: float) -> Edits:
    """Return the hand edits that lead a new take's channels through the keys that guide nothing."""
    record = storage.read(storage.holder(obj)).clips[clip]
    mapping, live = mapped.require(obj), storage.adjustments(record)
    shown = mapped.adjusted(motion, live)
    played = mapping.evaluate(shown.weights, shown.names, motion.fps)
    values = {channel.name: v for channel, v in channels.curves_of(played, mapping.bases)}
    curves = mapped_edits.curves_of(mapped.owners_of(mapping))
    times = (np.arange(motion.frames) + motion.start) / motion.fps
    pins = [pin for pin in mapped.layer_of(obj, clip, fps).pins if pin[0] in unread]
    pins = [pin for pin in pins if pin[0] in curves and pin[0] in values]
    every = np.unique(np.r_[times, [second for _, second in pins]])
    names = tuple(dict.fromkeys(name for name, _ in pins))
    table = np.zeros((len(every), len(names)), np.float32)
    drawn = mapped.choosing(obj)
    for place, name in enumerate(names):
        if name in drawn:
            keys = drawn[name].keyframe_points
            table[:, place] = _drawings(keys, record, pins, (name, every, times, values[name]), fps)
            continue
        at = np.array(sorted({second for n, second in pins if n == name}))
        keys = [curves[name].evaluate(frame) for frame in edits.frames_at(record, at, fps)]
        off = np.array(keys) - np.interp(at, times, values[name])
        near = np.abs(every[:, None] - at).min(1)
        table[:, place] = np.interp(every, at, off) * np.clip(1 - near / REACH, 0, 1)
    return Edits(every, names, table / mapped_edits.strength_of(record), tuple(pins))
