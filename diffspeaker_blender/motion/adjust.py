# SPDX-License-Identifier: GPL-3.0-or-later
"""Work on a finished motion: live controls, smoothing, other forms. Pure numpy, no model.

Legend: `F` frames, `K` shapes, `V` vertices, `R` regions.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .formulas import derived as derived_weights
from .motion import CLOSED, Adjustments, Floats, Motion, closedness

SMOOTHING_SECONDS = 0.05
"""Standard deviation of the averaging window at full smoothing."""

_REFLEXES = ("eyeBlink", "eyeLook")
_UPPER = ("eye", "brow", "cheekSquint", "noseSneer")
_EXPRESSION = (
    "brow",
    "cheekSquint",
    "noseSneer",
    "eyeSquint",
    "eyeWide",
    "mouthSmile",
    "mouthFrown",
    "mouthDimple",
)
_JAW = "jaw"
_SEAL = "mouthClose"  # undoes what the jaw opens and lips part, so it grows with them
_PRESS = 0.4
"""How much of the lips' lead over the jaw the seal makes up for: the least that left no frame of a
minute's p, b and m open by 0.1 mm, at any setting tried (jaw 0.01–2, lips 0.5–1.5)."""
_LIPS = ("mouth", "lip", "tongue", "cheekPuff")


# -- live controls ----------------------------------------------------------------------------


def adjust(motion: Motion, adjustments: Adjustments) -> Motion:
    """Return the motion with the live controls applied; the given one is left as it is.

    Named shapes are scaled through their weights, by the group their control belongs to. Shapes
    without a meaning of their own ("speech.01", "detail.03") are scaled vertex by vertex through
    the region masks, so that the jaw can grow where it shares a shape with the brows.
    """
    if adjustments.smoothing > 0:
        motion = smooth(motion, adjustments.smoothing)
    gains = [gain(name, adjustments) for name in motion.names]
    weights = motion.weights * np.array([1.0 if g is None else g for g in gains], np.float32)
    unnamed = [k for k, known in enumerate(gains) if known is None]
    shapes, dense = motion.shapes, motion.dense
    field = vertex_gain(motion, adjustments)
    if unnamed and not np.all(field == 1):
        shapes = shapes.copy()
        shapes[unnamed] *= field[None, :, None]
    weights = derived_weights(weights, motion.names, motion.formulas)
    if dense is not None:
        dense = dense + replace(motion, dense=None, weights=weights, shapes=shapes).offsets()
        dense -= replace(motion, dense=None).offsets()
    return replace(
        motion,
        weights=weights,
        shapes=shapes,
        dense=dense,
        start=motion.start + adjustments.offset * motion.fps,
    )


def gain(name: str, adjustments: Adjustments) -> float | None:
    """Return the factor for a named shape, or None for a shape without a meaning of its own."""
    if name.startswith(_REFLEXES):
        return min(adjustments.intensity, 1.0) * adjustments.upper
    if name.startswith(_UPPER):
        factor = adjustments.upper
    elif name.startswith(_SEAL):
        factor = adjustments.jaw + _PRESS * max(adjustments.lips - adjustments.jaw, 0.0)
    elif name.startswith(_JAW):
        factor = adjustments.jaw
    elif name.startswith(_LIPS):
        factor = adjustments.lips
    else:
        return None
    if name.startswith(_EXPRESSION):
        factor *= adjustments.expression
    return factor * adjustments.intensity


def vertex_gain(motion: Motion, adjustments: Adjustments) -> Floats:
    """Return the factor of each vertex (V,) for shapes that mix the whole face.

    Upper and lower lip share one factor, so lips that meet go on meeting.
    """
    factor = np.ones(motion.vertices, np.float32)
    if motion.regions is not None:
        for name, amount in (
            ("jaw", adjustments.jaw),
            ("upper", adjustments.upper * adjustments.expression),
            ("lips", adjustments.lips),
        ):
            if name in motion.region_names:
                mask = motion.regions[motion.region_names.index(name)]
                factor += mask * (amount - factor)  # the later region wins where masks overlap
    return np.asarray(factor * adjustments.intensity, np.float32)


# -- smoothing --------------------------------------------------------------------------------


def smooth(motion: Motion, strength: float) -> Motion:
    """Average each curve over time by `strength` (0..1), and never open a closed mouth by it.

    Rows with shut lips keep their exact pose; rows beside them go over to the average gradually.
    """
    deviation = float(np.clip(strength, 0.0, 1.0)) * SMOOTHING_SECONDS * motion.fps
    if deviation < 0.05 or motion.frames < 3:
        return motion
    closed = closedness(motion)
    keep = np.where(closed >= CLOSED, 1.0, closed / CLOSED * 0.5)
    reach = np.pad(keep, 1, mode="edge")
    keep = np.maximum(keep, 0.5 * np.maximum(reach[:-2], reach[2:]))

    def averaged(curves: Floats) -> Floats:
        part = keep.reshape(-1, *[1] * (curves.ndim - 1)).astype(np.float32)
        return np.asarray(part * curves + (1 - part) * _gaussian(curves, deviation), np.float32)

    return replace(
        motion,
        weights=averaged(motion.weights),
        controls=None if motion.controls is None else averaged(motion.controls),
        opening=None if motion.opening is None else averaged(motion.opening),
        dense=None if motion.dense is None else averaged(motion.dense),
    )


def _gaussian(curves: Floats, deviation: float) -> Floats:
    """Average (F, …) with a normal window of `deviation` rows; the ends are held."""
    reach = max(1, int(np.ceil(3 * deviation)))
    window = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deviation) ** 2).astype(np.float32)
    window /= window.sum()
    padded = np.pad(curves, [(reach, reach)] + [(0, 0)] * (curves.ndim - 1), mode="edge")
    total = np.zeros_like(curves)
    for shift, share in enumerate(window):
        total += share * padded[shift : shift + len(curves)]
    return total


# -- other forms ------------------------------------------------------------------------------


def compact(motion: Motion, tolerance: float) -> Motion:
    """Return the motion in as few shapes as hold every vertex within `tolerance` (mesh units).

    The principal components are found in the span of the shapes, never on frames x vertices:
    offsets = W S with S^T = Q R, so the small matrix W R^T has the same singular values.
    """
    basis, mix = np.linalg.qr(motion.shapes.reshape(len(motion.shapes), -1).T.astype(np.float64))
    left, sizes, right = np.linalg.svd(motion.weights @ mix.T, full_matrices=False)
    most = int((sizes > 1e-9 * max(float(sizes[0]), 1e-30)).sum()) or 1
    low, high = 1, most
    while low < high:  # the error falls with the number of components
        middle = (low + high) // 2
        lost = (left * sizes)[:, middle:] @ right[middle:]
        far = _farther(lost, basis, tolerance)
        low, high = (middle + 1, high) if far else (low, middle)
    weights = (left * sizes)[:, :low]
    peak = np.maximum(np.abs(weights).max(0), 1e-12)
    shapes = (right[:low] * peak[:, None]) @ basis.T
    return replace(
        motion,
        weights=(weights / peak).astype(np.float32),
        shapes=shapes.astype(np.float32).reshape(low, -1, 3),
        names=tuple(f"speech.{k + 1:02d}" for k in range(low)),
        formulas=(),
    )


def _farther(rows: NDArray[Any], basis: NDArray[Any], tolerance: float) -> bool:
    """Return whether rows (F, K) of an orthonormal basis (3V, K) move a vertex beyond tolerance.

    A row is at least as long as its longest vertex offset, so short rows need no look, and the
    longest are looked at first.
    """
    length = np.linalg.norm(rows, axis=1)
    order = np.argsort(-length)[: int((length > tolerance).sum())]
    for first in range(0, len(order), 64):
        moved = (rows[order[first : first + 64]] @ basis.T).reshape(-1, basis.shape[0] // 3, 3)
        if np.einsum("fvc,fvc->fv", moved, moved).max(initial=0.0) > tolerance**2:
            return True
    return False


def unit_weights(motion: Motion) -> Motion:
    """Scale shapes without a meaning of their own so that no weight leaves -1..1."""
    peak = np.abs(motion.weights).max(0, initial=0.0)
    named = np.array([gain(name, Adjustments()) is not None for name in motion.names], bool)
    factor = np.where(named | (peak <= 1.0), 1.0, peak).astype(np.float32)
    if np.all(factor == 1):
        return motion
    shapes = motion.shapes * factor[:, None, None]
    return replace(motion, weights=motion.weights / factor, shapes=shapes)


def each_frame(motion: Motion, first: int) -> Motion:
    """Return the motion as one shape a row, named after the scene's frames from `first` on."""
    return replace(
        motion,
        weights=np.eye(motion.frames, dtype=np.float32),
        shapes=motion.offsets(),
        names=tuple(f"frame.{first + row:04d}" for row in range(motion.frames)),
        formulas=(),
        dense=None,
    )
