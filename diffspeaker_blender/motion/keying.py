# SPDX-License-Identifier: GPL-3.0-or-later
"""Choose the keys of a face's curves: few, where an animator would set them, and true to its lips.

How far the lips may stray is said in distance, not in slider units. Lips that are shut stay shut:
jaw and seal have keys on the first and the last frame of a closure and share every key between, so
that they are equal throughout; the lower lip's tuck for f and v has its keys on the frames it is
held. Lids blink in three or four keys. Left and right share their keys where they do the same.

Legend: `F` frames, `K` shapes, `C` keyed curves, `V` vertices, `n` keys.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .formulas import derived
from .motion import CLOSED, Floats, Motion, closed_runs, closedness
from .sparse import KEY, Doubles, Fitter, Wishes, played

USUAL = 95
"""Percentage of frames at which the lips keep within the tolerance."""
_JAW, _SEAL, _TUCK, _LID = "jawOpen", "mouthClose", "lipTuck", "eyeBlink"
_UPPER = ("eye", "brow", "cheekSquint", "noseSneer")
_HANG = 0.01  # least jaw behind sealed lips
_SEALED = 0.9  # of the seal, at which lips count as meant to be shut
_HELD = 0.9  # of its peak, at which a tuck counts as held
_SHUT = 0.97  # of its peak, at which a blink does
_PEAK = 0.5  # least tuck or blink that is one
_BRIEF = 0.25  # seconds that a closure lasts at most that is held level
_LID_ERROR = 0.25  # of a whole blink: its course hardly shows, its ends do
_UNSEEN = 0.22  # error of a control that moves no vertex of the face (a tongue's), of its range
_LOOKED_AT = 160  # vertices of the lips
_TRIES = 9
_SCALES = (0.25, 0.5, 0.75, 1.0, 1.4, 2.0, 2.8, 4.0, 6.0)
_RESTING = 0.2  # share of what is allowed that counts as rest
_TOO_STILL = 0.4  # share of what is allowed below which a curve is not worth a key


def every_frame(motion: Motion, frames: NDArray[np.int32]) -> list[Floats]:
    """Return keys (n, 3) of each shape, one a frame and straight lines between; none if derived."""
    found = []
    for column in range(motion.weights.shape[1]):
        keys = np.full((len(frames), KEY), np.nan, np.float32)
        keys[:, 0], keys[:, 1] = frames, motion.weights[:, column]
        if len(frames) > 1:  # so that the way from rest and to it can be bent
            keys[0, 2], keys[-1, 2] = keys[1, 1] - keys[0, 1], keys[-1, 1] - keys[-2, 1]
        still = column < len(motion.formulas) and bool(motion.formulas[column])
        found.append(keys[:0] if still or not keys[:, 1].any() else keys)
    return found


def few_keys(
    motion: Motion,
    frames: NDArray[np.int32],
    tolerance: float,
    pinned: NDArray[np.bool_] | None = None,
) -> list[Floats]:
    """Return keys (n, 3) of each shape: frame, value, slope; none for derived and still ones.

    `motion` has one row a frame. The lips keep within `tolerance` (units of the mesh) at `USUAL`
    per cent of the frames, wherever formulas take them. `pinned` (F, K) rows bear a key.
    """
    return _Face(motion, tolerance, pinned).keys(frames)


class _Face:
    """One motion whose keys are sought."""

    def __init__(
        self, motion: Motion, tolerance: float, pinned: NDArray[np.bool_] | None = None
    ) -> None:
        self.motion, self.tolerance = motion, tolerance
        formulas = motion.formulas or ("",) * len(motion.names)
        self._reach = np.sqrt(np.einsum("kvc,kvc->kv", motion.shapes, motion.shapes).max(1))
        allowed = np.array([self._allowed(k) for k in range(len(motion.names))])
        span = np.ptp(motion.weights, axis=0) if motion.frames else np.zeros(len(allowed))
        level = np.abs(motion.weights).max(0, initial=0.0)
        worth = (span > _TOO_STILL * allowed) | (level > allowed)
        worth |= False if pinned is None else pinned.any(0)
        self._columns = [k for k, formula in enumerate(formulas) if not formula and worth[k]]
        self._names = [motion.names[k] for k in self._columns]
        self._curves = motion.weights[:, self._columns].astype(np.float64)
        self._accepted = allowed[self._columns]
        self._curves[np.abs(self._curves) < _RESTING * self._accepted] = 0.0
        self._pinned = None if pinned is None else pinned[:, self._columns]
        self._lips = self._lip_shapes()

    def keys(self, frames: NDArray[np.int32]) -> list[Floats]:
        """Return the keys of every shape of the motion."""
        found: list[Floats] = [np.empty((0, KEY), np.float32)] * len(self.motion.names)
        if not self._columns or self.motion.frames < 2:
            return found if not self._columns else every_frame(self.motion, frames)
        runs = self._seal_runs()
        groups = self._groups()
        fitter = Fitter(self._curves, self._accepted, groups, self.motion.fps, self._wishes(runs))
        chosen = self._cheapest(fitter, groups, runs)
        for column, rows in zip(self._columns, chosen, strict=True):
            found[column] = (rows + np.array([frames[0], 0.0, 0.0])).astype(np.float32)
        return found

    def _cheapest(
        self, fitter: Fitter, groups: list[list[int]], runs: list[tuple[int, int]]
    ) -> list[Doubles]:
        """Return the keys of all curves that together stray just as far as they may.

        Each group is fitted at several tolerances. Which it gets is decided by one price of a key
        in squared error, the same for all (Lagrange): a busy jaw may stray where a calm lip may
        not. The price is the highest at which the lips keep within the tolerance.
        """
        rows = np.arange(self.motion.frames)
        reach = np.sqrt(np.square(self._lips.reshape(len(self._lips), -1, 3)).sum(2).max(1))
        fits, counts, errors = [], [], []
        for scale in _SCALES:
            keys = fitter.fit(scale)
            off = [
                float(np.square(played(one, rows) - self._curves[:, place]).mean())
                * float(reach[self._columns[place]]) ** 2
                for place, one in enumerate(keys)
            ]
            fits.append(keys)
            counts.append([len(keys[group[0]]) * len(group) for group in groups])
            errors.append([sum(off[place] for place in group) for group in groups])
        count, error = np.array(counts, np.float64), np.array(errors)
        fixed = np.array([self._fixed(group) for group in groups])
        low, high, best = -9.0, 1.0, None  # powers of ten of the price, in tolerances squared
        for _ in range(_TRIES):
            middle = (low + high) / 2
            cost = error + 10**middle * self.tolerance**2 * count
            level = np.where(fixed, _SCALES.index(1.0), cost.argmin(0))
            keys = [np.empty((0, KEY))] * len(self._columns)
            for group, which in zip(groups, level, strict=True):
                for place in group:
                    keys[place] = fits[which][place]
            keys = self._joined(keys, runs)
            if self._error(keys) <= self.tolerance:
                low, best = middle, keys
            else:
                high = middle
        return best or self._joined(list(fits[0]), runs)

    def _fixed(self, group: list[int]) -> bool:
        """Return whether a group's curves do nothing to the lips."""
        name = self._names[group[0]]
        return name.startswith(_UPPER) or self._reach[self._columns[group[0]]] <= 0

    def _allowed(self, column: int) -> float:
        """Return the error of a shape's weight that alone would use half of the tolerance."""
        name, reach = self.motion.names[column], float(self._reach[column])
        if reach <= 0:
            return _UNSEEN
        share = 0.25 if name.startswith(_UPPER) else 0.5
        allowed = share * self.tolerance / reach
        return max(allowed, _LID_ERROR) if name.startswith(_LID) else allowed

    def _groups(self) -> list[list[int]]:
        """Return the columns, left and right together where they do nearly the same."""
        groups: dict[str, list[int]] = {}
        for place, name in enumerate(self._names):
            stem = name.removesuffix("Left").removesuffix("Right")
            mates = groups.setdefault(stem, [])
            gap = 0.0
            if mates:
                gap = float(np.abs(self._curves[:, mates[0]] - self._curves[:, place]).max())
            if mates and gap > self._accepted[place]:
                groups[name] = [place]
            else:
                mates.append(place)
        return list(groups.values())

    # -- what must hold ---------------------------------------------------------------------

    def _curve(self, name: str) -> Doubles | None:
        return self._curves[:, self._names.index(name)] if name in self._names else None

    def _seal_runs(self) -> list[tuple[int, int]]:
        """Return the first and last row of every closure that jaw and seal make together."""
        jaw, seal = self._curve(_JAW), self._curve(_SEAL)
        if jaw is None or seal is None or not any(self.motion.formulas):
            return []
        shut = seal >= _SEALED * np.maximum(jaw, _HANG)
        return closed_runs(np.where(shut, 1.0, 0.0).astype(np.float32))

    def _wishes(self, runs: list[tuple[int, int]]) -> Wishes:
        """Return the rows that need a key, and those where it is level."""
        wishes = Wishes.none(*self._curves.shape)
        if self._pinned is not None:
            wishes.pinned[self._pinned] = True
        for place, name in enumerate(self._names):
            held = runs if name in (_JAW, _SEAL) else []
            if name == _TUCK or name.startswith(_LID):
                share = _HELD if name == _TUCK else _SHUT
                held = _holds(self._curves[:, place], share)
            elif not self._derives and not name.startswith(_UPPER):
                held = self._closures()
            for first, last in held:
                edges = [first, last]
                wishes.pinned[edges, place] = True
                if last - first <= _BRIEF * self.motion.fps:
                    wishes.flat[first : last + 1, place] |= name in (_JAW, _SEAL, _TUCK) or (
                        name.startswith(_LID)
                    )
        return wishes

    @property
    def _derives(self) -> bool:
        return any(self.motion.formulas) and {_JAW, _SEAL} <= set(self._names)

    def _closures(self) -> list[tuple[int, int]]:
        return closed_runs((closedness(self.motion) >= CLOSED).astype(np.float32))

    def _joined(self, keys: list[Doubles], runs: list[tuple[int, int]]) -> list[Doubles]:
        """Return the keys with those of the seal taken from the jaw wherever the lips are shut."""
        if not runs:
            return keys
        jaw, seal = keys[self._names.index(_JAW)], keys[self._names.index(_SEAL)]
        inside = np.zeros(len(seal), bool)
        lent = np.zeros(len(jaw), bool)
        for first, last in runs:
            inside |= (seal[:, 0] >= first) & (seal[:, 0] <= last)
            lent |= (jaw[:, 0] >= first) & (jaw[:, 0] <= last)
        merged = np.concatenate([seal[~inside], jaw[lent]])
        keys[self._names.index(_SEAL)] = merged[np.argsort(merged[:, 0])]
        return keys

    # -- how far off it is ------------------------------------------------------------------

    def _lip_shapes(self) -> Floats:
        """Return the shapes (K, 3 V) at some vertices of the lips, or of the whole face."""
        motion, chosen = self.motion, np.arange(self.motion.vertices)
        if motion.regions is not None and "lips" in motion.region_names:
            lips = np.flatnonzero(motion.regions[motion.region_names.index("lips")] > 0.5)
            chosen = lips if len(lips) else chosen
        chosen = chosen[:: max(1, len(chosen) // _LOOKED_AT)]
        return motion.shapes[:, chosen].reshape(len(motion.shapes), -1)

    def _error(self, keys: list[Doubles]) -> float:
        """Return how far the lips are off at `USUAL` per cent of the frames."""
        return float(np.percentile(self.errors(keys), USUAL))

    def errors(self, keys: list[Doubles]) -> Floats:
        """Return how far the lips are off at each frame (F,), in units of the mesh."""
        motion, rows = self.motion, np.arange(self.motion.frames)
        shown = motion.weights.copy()
        for column, one in zip(self._columns, keys, strict=True):
            shown[:, column] = played(one, rows)
        shown = derived(shown, motion.names, motion.formulas)
        off = (shown - motion.weights) @ self._lips
        off = off.reshape(len(off), -1, 3)
        return np.asarray(np.sqrt(np.einsum("fvc,fvc->fv", off, off).max(1, initial=0.0)))


def _holds(curve: Doubles, share: float) -> list[tuple[int, int]]:
    """Return the first and last row of every stretch that is held near a peak."""
    found = []
    for first, last in closed_runs((curve >= _PEAK).astype(np.float32)):
        part = curve[first : last + 1]
        held = np.flatnonzero(part >= share * part.max())
        found.append((first + int(held[0]), first + int(held[-1])))
    return found
