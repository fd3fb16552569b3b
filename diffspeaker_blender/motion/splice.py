# SPDX-License-Identifier: GPL-3.0-or-later
"""Put a range of one motion into another: everything else stays as it was, to the bit."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import MotionError
from .motion import Floats, Motion

FADE_SECONDS = 0.2
"""Time in which a motion that was not filled in between goes over into its neighbours."""


def splice(before: Motion, after: Motion, first: int, last: int, *, filled: bool) -> Motion:
    """Return `before` with its rows `first` to `last` taken from `after`.

    With `filled` the range already joins its neighbours; else it fades over, inside the range.
    Shapes without a meaning of their own stand beside those that are there. Raises MotionError.
    """
    if before.frames != after.frames or abs(before.fps - after.fps) > 1e-6:
        raise MotionError(
            "The new motion has other frames than the line.", "Generate the whole line again."
        )
    share = _share(before, first, last, filled)
    names, shapes, old, new = _together(before, after)

    def joined(one: Floats | None, other: Floats | None) -> Floats | None:
        if one is None or other is None or one.shape != other.shape:
            return one
        part = share.reshape(-1, *[1] * (one.ndim - 1))
        mixed = (1 - part) * one + part * other
        kept = part == 0
        return np.asarray(np.where(kept, one, mixed), np.float32)

    weights = joined(old, new)
    assert weights is not None
    same_controls = before.control_names == after.control_names
    return replace(
        before,
        weights=weights,
        shapes=shapes,
        names=names,
        controls=joined(before.controls, after.controls if same_controls else None),
        opening=joined(before.opening, after.opening),
        dense=None,
        report=after.report,
    )


def _share(motion: Motion, first: int, last: int, filled: bool) -> Floats:
    """Return how much of the new motion each row has (F,): 0 outside the range."""
    rows = np.arange(motion.frames)
    share = ((rows >= first) & (rows <= last)).astype(np.float32)
    if not filled:
        reach = max(1.0, FADE_SECONDS * motion.fps)
        left = (rows - first + 1) / reach if first > 0 else np.inf
        right = (last + 1 - rows) / reach if last < motion.frames - 1 else np.inf
        near = np.clip(np.minimum(left, right), 0.0, 1.0)
        share *= (near * near * (3 - 2 * near)).astype(np.float32)
    return share


def _together(
    before: Motion, after: Motion
) -> tuple[tuple[str, ...], NDArray[Any], Floats, Floats]:
    """Return one set of shapes for both motions: names, shapes, and the weights of each."""
    names, shapes, place = list(before.names), list(before.shapes), []
    for name, shape in zip(after.names, after.shapes, strict=True):
        known = names.index(name) if name in names else -1
        if known < 0 or not np.allclose(shapes[known], shape, atol=1e-7):
            names.append(name if known < 0 else _free(name, names))
            shapes.append(shape)
            known = len(names) - 1
        place.append(known)
    old = np.zeros((before.frames, len(names)), np.float32)
    old[:, : len(before.names)] = before.weights
    new = np.zeros_like(old)
    new[:, place] = after.weights
    return tuple(names), np.stack(shapes), old, new


def _free(name: str, taken: list[str]) -> str:
    """Return the next free number of a name: "speech.03" after "speech.02"."""
    stem = re.sub(r"\.\d+$", "", name)
    number = 1
    while f"{stem}.{number:02d}" in taken:
        number += 1
    return f"{stem}.{number:02d}"
