# SPDX-License-Identifier: GPL-3.0-or-later
"""Fill a range of a motion that is kept elsewhere: known values go back at every denoising step.

    F frames   C control channels

With DDIM (no added noise) a channel whose prediction is always replaced by the value that is known
walks exactly through "the known value at this step's noise level", so putting values back *is*
replacing the prediction. The edge is soft: what the prediction is wrong by at the nearest known
frames fades out over `REACH` into the frames that are free, and the network sees it at every step
(in-painting as in Lugmayr et al. 2022, without their resampling). A single known value, a key set
by hand, is the same thing with one frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import RequestError
from ..files.arrays import read_npz
from ..motion import resample

Array = NDArray[np.float32]
Flags = NDArray[np.bool_]

REACH = 0.2
"""Seconds over which a free frame still follows a known one."""


@dataclass(frozen=True)
class Keep:
    """Values that a new take must keep."""

    known: Array
    """(F, C); read only where `mask` is set."""
    mask: Flags
    """(F, C): which values are known."""
    fps: float
    """Frames a second; frame i is at i / fps."""

    def to(self, frames: int, fps: float, start: float = 0.0) -> Keep:
        """Return the values from `start` seconds at another rate, `frames` long; beyond is free."""
        if fps == self.fps and frames == len(self.known) and not start:
            return self
        where = np.round(np.arange(frames) * (self.fps / fps) + start * self.fps).astype(int)
        inside = (where >= 0) & (where < len(self.known))
        mask = self.mask[np.clip(where, 0, len(self.known) - 1)] & inside[:, None]
        return Keep(resample(self.known, self.fps, fps, frames, start), mask, fps)

    def scaled(self, factor: Array, offset: Array) -> Keep:
        """Return known · factor + offset, one of each a channel (C,)."""
        return Keep((self.known * factor + offset).astype(np.float32), self.mask, self.fps)

    def part(self, start: int, stop: int) -> Keep:
        """Return some of the frames."""
        return Keep(self.known[start:stop], self.mask[start:stop], self.fps)

    def hook(self) -> PutBack:
        """Return what puts the values back into a prediction (F, C)."""
        return PutBack(self)


class PutBack:
    """Put known values back into a prediction, its error there fading out beside them."""

    def __init__(self, keep: Keep) -> None:
        self.keep = keep
        reach = max(1.0, REACH * keep.fps)
        last, following = _neighbours(keep.mask)
        row = np.arange(len(keep.mask))[:, None]
        near = _fall((row - last) / reach) * (last >= 0)
        far = _fall((following - row) / reach) * (following < len(row))
        share = np.maximum(
            near + far, 1.0
        )  # a short gap between two known frames shares their pull
        self.weights = (near / share).astype(np.float32), (far / share).astype(np.float32)
        self.rows = np.maximum(last, 0), np.minimum(following, len(row) - 1)

    def __call__(self, values: Array) -> Array:
        """Return values (F, C) with the known ones in place, exactly."""
        error = self.keep.known - values
        moved = values.copy()
        for weight, rows in zip(self.weights, self.rows, strict=True):
            moved += weight * np.take_along_axis(error, rows, 0)
        return np.where(self.keep.mask, self.keep.known, moved).astype(np.float32)


def _neighbours(mask: Flags) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return for each entry the known row up to it (-1: none) and from it on (F: none)."""
    rows = np.arange(len(mask))[:, None]
    before = np.maximum.accumulate(np.where(mask, rows, -1), 0)
    after = np.minimum.accumulate(np.where(mask, rows, len(mask))[::-1], 0)[::-1]
    return before, after


def _fall(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 1 at distance 0, falling smoothly to 0 at distance 1 and beyond."""
    near = np.clip(1.0 - distance, 0.0, 1.0)
    return near * near * (3 - 2 * near)


def read_keep(path: str | Path, names: tuple[str, ...]) -> Keep:
    """Read the values to keep, in the order of a model's controls.

    The `.npz` holds controls (F, N), names (N,), mask (F,) or (F, N), fps. Raises `RequestError`.
    """
    try:
        file = read_npz(Path(path), ("controls", "names", "mask", "fps"))
        known = np.asarray(file["controls"], np.float32)
        given = [str(name) for name in file["names"]]
        mask = np.asarray(file["mask"], bool)
        fps = float(file["fps"])
    except (OSError, ValueError, KeyError, TypeError, MemoryError) as error:
        raise RequestError(f"The motion to keep cannot be read: {error}") from error
    if mask.ndim == 1:
        mask = np.repeat(mask[:, None], len(given), 1)
    fits = known.ndim == 2 and known.shape == mask.shape and known.shape[1] == len(given)
    if not fits or not len(known) or not 1 <= fps <= 1000 or not np.isfinite(known[mask]).all():
        raise RequestError(
            "The motion to keep is damaged: its arrays do not belong together.",
            hint="Generate the whole line again.",
        )
    ordered = np.zeros((len(known), len(names)), np.float32)
    flags = np.zeros(ordered.shape, bool)
    for column, name in enumerate(names):
        if name in given:
            ordered[:, column] = np.where(
                mask[:, given.index(name)], known[:, given.index(name)], 0
            )
            flags[:, column] = mask[:, given.index(name)]
    return Keep(ordered, flags, fps)
