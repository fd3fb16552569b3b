# SPDX-License-Identifier: GPL-3.0-or-later
"""Few keys with fitted handles instead of one key a frame, as an animator would set them.

Legend: `F` frames, `K` curves, `G` groups of curves that share their keys, `n` keys of a curve,
`L` lengths of a segment.

A key has a frame, a value and a slope. Both handles lie on the slope, a third of the way to the
next key, so that between two keys Blender's Bézier curve is the cubic polynomial with those values
and slopes (time runs evenly along it). Keys lie on the curve, at whole frames, and on its extremes
where they can; there the slope is zero. Which frames get a key is found by the shortest path over
all segments whose error is allowed; the slopes come from least squares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Bools = NDArray[np.bool_]

KEY = 3
"""Numbers of a key: frame or row, value, slope (value a frame; NaN: straight lines around it)."""
LONGEST = 6.0
"""Seconds that one segment may last."""
BENT = 0.8
"""Seconds that a segment may last that is no hold."""
_BONUS = 0.6
"""How much rather a key is set on an extreme than elsewhere."""
_FEW = 0.15
"""How much a path's errors weigh against its number of keys."""


@dataclass(frozen=True)
class Wishes:
    """What must be so at some rows, whatever it costs."""

    pinned: Bools
    """(F, K) rows that get a key."""
    flat: Bools
    """(F, K) rows at which a key, where there is one, is level."""

    @classmethod
    def none(cls, frames: int, curves: int) -> Wishes:
        """Return no wish but a first and a last key."""
        pinned = np.zeros((frames, curves), bool)
        pinned[[0, -1]] = True
        return cls(pinned, np.zeros((frames, curves), bool))


class Fitter:
    """Curves (F, K) at whole frames, prepared so that several tolerances are quick to try.

    allowed: (K,) error that counts as 1. groups: columns that share their keys. fps: frames a
    second.
    """

    def __init__(
        self,
        curves: Floats | Doubles,
        allowed: Doubles,
        groups: Sequence[Sequence[int]],
        fps: float,
        wishes: Wishes | None = None,
    ) -> None:
        self.curves = np.asarray(curves, np.float64)
        self.groups = [list(group) for group in groups]
        frames, count = self.curves.shape
        self._wishes = wishes or Wishes.none(frames, count)
        self._extreme = _extremes(self.curves, 0.3 * allowed)
        level = self._extreme | self._wishes.flat | _holds(self.curves)
        self._slopes = np.where(level, 0.0, np.gradient(self.curves, axis=0)) if frames > 1 else 0.0
        self._level = level
        self._lengths = _lengths(frames, fps)
        self._step = max(1, round(fps / 30))  # rows between two looks at a segment
        self._bent = round(BENT * fps)
        self._errors = self._segment_errors(allowed)

    def fit(self, scale: float | NDArray[np.float64]) -> list[Doubles]:
        """Return keys (n, 3) of each curve whose segments err by at most `scale` × allowed.

        `scale` is one number or one for each group. Frames of the keys are rows.
        """
        paths = self._paths(np.broadcast_to(np.asarray(scale, np.float64), len(self.groups)))
        keys: list[Doubles] = [np.empty((0, KEY))] * self.curves.shape[1]
        for rows, group in zip(paths, self.groups, strict=True):
            for column in group:
                values = self.curves[:, column]
                slopes = _fitted_slopes(values, rows, self._level[rows, column])
                keys[column] = np.stack([rows, values[rows], slopes], 1)
        return keys

    def _segment_errors(self, allowed: Doubles) -> NDArray[np.float32]:
        """Return the largest error (F, L, G) of the segment that ends at a row, per length."""
        frames = len(self.curves)
        errors = np.full((frames, len(self._lengths), len(self.groups)), np.inf, np.float32)
        scaled = np.asarray(self.curves / allowed, np.float32)
        slopes = np.asarray(self._slopes / allowed, np.float32)
        ranges = _Ranges(scaled)
        for place, length in enumerate(self._lengths.tolist()):
            if length > self._bent:  # holds only
                worst = ranges.over(length + 1)
            else:
                worst = np.zeros((frames - length, scaled.shape[1]), np.float32)
                begin, end = scaled[:-length], scaled[length:]
                rise, fall = slopes[:-length] * length, slopes[length:] * length
                for row in range(self._step if length > 1 else 1, length, self._step):
                    a, b, c, d = (np.float32(part) for part in _basis(row / length))
                    found = a * begin + b * rise + c * end + d * fall
                    found -= scaled[row : row + frames - length]
                    np.maximum(worst, np.abs(found, out=found), out=worst)
            for g, group in enumerate(self.groups):
                errors[length:, place, g] = worst[:, group].max(1)
        return errors

    def _paths(self, scale: Doubles) -> list[NDArray[np.intp]]:
        """Return the rows of the keys of each group: the cheapest way from the first to the last.

        A segment costs one key, a little less where it ends on an extreme, a little more the
        worse it fits; it may not pass over a pinned row.
        """
        frames, lengths = len(self.curves), self._lengths
        share = self._errors / scale.astype(np.float32)
        cost = np.where(share <= 1, 1 + _FEW * share * share, np.inf)
        cost[:, lengths == 1] = 1 + _FEW  # always possible
        extreme, pinned = (
            np.stack([of[:, group].any(1) for group in self.groups], 1)
            for of in (self._extreme, self._wishes.pinned)
        )
        cost -= np.where(extreme, _BONUS, 0.0)[:, None]
        rows = np.arange(frames)[:, None]
        # The last pinned row before each row: no segment starts before it.
        last = np.maximum.accumulate(np.where(pinned, rows, 0), axis=0)
        last = np.concatenate([np.zeros((1, last.shape[1]), last.dtype), last[:-1]])
        starts = rows - lengths
        cost[starts[:, :, None] < last[:, None, :]] = np.inf
        cost[starts < 0] = np.inf
        total = np.full((frames, len(self.groups)), np.inf)
        total[0] = 0.0
        chosen = np.zeros((frames, len(self.groups)), int)
        every = np.arange(len(self.groups))
        for row in range(1, frames):
            ways = total[np.maximum(starts[row], 0)] + cost[row]
            best = ways.argmin(0)
            total[row], chosen[row] = ways[best, every], lengths[best]
        paths = []
        for g in range(len(self.groups)):
            path = [frames - 1]
            while path[-1] > 0:
                path.append(path[-1] - chosen[path[-1], g])
            paths.append(np.array(path[::-1], np.intp))
        return paths


class _Ranges:
    """How much curves (F, K) vary in windows of any length, from windows twice as long each."""

    def __init__(self, curves: Floats) -> None:
        self._most, self._least = [curves], [-curves]
        while 2 ** len(self._most) <= len(curves):
            half = 2 ** (len(self._most) - 1)
            for levels in (self._most, self._least):
                levels.append(np.maximum(levels[-1][:-half], levels[-1][half:]))

    def over(self, length: int) -> Floats:
        """Return largest minus smallest value (F - length + 1, K) of each window."""
        level = length.bit_length() - 1
        shift, count = length - 2**level, len(self._most[0]) - length + 1
        most, least = (
            np.maximum(of[level][:count], of[level][shift : shift + count])
            for of in (self._most, self._least)
        )
        return np.asarray(most + least)


def _lengths(frames: int, fps: float) -> NDArray[np.intp]:
    """Return the lengths of segments that are tried: all short ones, fewer long ones."""
    found, most = [1], max(min(round(LONGEST * fps), frames - 1), 1)
    while found[-1] < most:
        found.append(min(max(found[-1] + 1, round(found[-1] * 1.12)), most))
    return np.array(found, np.intp)


def _extremes(curves: Doubles, least: Doubles) -> Bools:
    """Return where curves (F, K) turn or begin to rest, by more than `least` (K,)."""
    before = np.diff(curves, axis=0, prepend=curves[:1])
    after = np.diff(curves, axis=0, append=curves[-1:])
    found = before * after <= 0
    # A turn of a level curve is none, nor is one that hardly leaves the values around it.
    reach = np.abs(before) + np.abs(after)
    moving = reach > 1e-6
    wide = np.zeros_like(found)
    padded = np.pad(curves, [(3, 3), (0, 0)], mode="edge")
    around = np.lib.stride_tricks.sliding_window_view(padded, 7, axis=0)
    wide = np.ptp(around, axis=-1) > least
    return np.asarray(found & moving & wide)


def _holds(curves: Doubles) -> Bools:
    """Return where curves (F, K) rest: hold a value on both sides, or touch the zero they leave."""
    before = np.abs(np.diff(curves, axis=0, prepend=curves[:1]))
    after = np.abs(np.diff(curves, axis=0, append=curves[-1:]))
    touching = (curves == 0) & (curves.min(0) >= 0)
    return np.asarray((before + after < 1e-9) | touching)


def _basis(t: float | Doubles) -> tuple[Doubles, Doubles, Doubles, Doubles]:
    """Return the weights of first value, first slope, last value, last slope at t in 0..1."""
    s = 1 - np.asarray(t, np.float64)
    t = 1 - s
    return (1 + 2 * t) * s * s, t * s * s, t * t * (3 - 2 * t), -t * t * s


def _fitted_slopes(values: Doubles, rows: NDArray[np.intp], level: Bools) -> Doubles:
    """Return the slopes (n,) of keys at `rows` that come nearest to values (F,).

    Normal equations of least squares, three to a row, solved by elimination.
    """
    count = len(rows)
    if count < 2:
        return np.zeros(count)
    gap = np.diff(rows).astype(np.float64)
    inside = np.arange(len(values))
    segment = np.clip(np.searchsorted(rows, inside, "right") - 1, 0, count - 2)
    a, b, c, d = _basis((inside - rows[segment]) / gap[segment])
    b, d = b * gap[segment], d * gap[segment]
    left = values - a * values[rows[segment]] - c * values[rows[segment + 1]]

    def sums(terms: Doubles) -> Doubles:
        return np.asarray(np.bincount(segment, terms, count - 1), np.float64)

    # Where a segment has no row inside, its slopes lean to its secant.
    secant = np.diff(values[rows]) / gap
    weak = 1e-3 * gap * gap
    bb, bd, dd = sums(b * b) + weak, sums(b * d), sums(d * d) + weak
    bl, dl = sums(b * left) + weak * secant, sums(d * left) + weak * secant
    main, side, load = np.zeros(count), bd.copy(), np.zeros(count)
    main[:-1], load[:-1] = bb, bl
    main[1:] += dd
    load[1:] += dl
    slopes = _tridiagonal(main, side, load, level)
    steepest = 3 * np.maximum(*np.abs([np.r_[secant[:1], secant], np.r_[secant, secant[-1:]]]))
    return np.asarray(np.clip(slopes, -steepest, steepest))


def _tridiagonal(main: Doubles, side: Doubles, load: Doubles, level: Bools) -> Doubles:
    """Solve a symmetric tridiagonal system (n,), unknowns at `level` held at zero."""
    main, load = np.where(level, 1.0, main), np.where(level, 0.0, load)
    side = np.where(level[:-1] | level[1:], 0.0, side)
    diagonal, right, beside = main.tolist(), load.tolist(), side.tolist()
    for k in range(1, len(diagonal)):
        factor = beside[k - 1] / diagonal[k - 1]
        diagonal[k] -= factor * beside[k - 1]
        right[k] -= factor * right[k - 1]
    found = [0.0] * len(diagonal)
    for k in range(len(diagonal) - 1, -1, -1):
        rest = beside[k] * found[k + 1] if k < len(diagonal) - 1 else 0.0
        found[k] = (right[k] - rest) / diagonal[k]
    return np.array(found)


def played(keys: Doubles | Floats, frames: NDArray[Any]) -> Doubles:
    """Return what a curve with keys (n, 3) shows at frames (F,); held before and after."""
    if len(keys) == 0:
        return np.zeros(len(frames))
    if len(keys) == 1:
        return np.full(len(frames), float(keys[0, 1]))
    at = np.clip(np.asarray(frames, np.float64), keys[0, 0], keys[-1, 0])
    segment = np.clip(np.searchsorted(keys[:, 0], at, "right") - 1, 0, len(keys) - 2)
    begin, end = keys[segment].astype(np.float64), keys[segment + 1].astype(np.float64)
    gap = end[:, 0] - begin[:, 0]
    t = (at - begin[:, 0]) / gap
    a, b, c, d = _basis(t)
    bent = a * begin[:, 1] + b * begin[:, 2] * gap + c * end[:, 1] + d * end[:, 2] * gap
    straight = begin[:, 1] + t * (end[:, 1] - begin[:, 1])
    return np.where(np.isnan(begin[:, 2] + end[:, 2]), straight, bent)
