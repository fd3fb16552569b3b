# SPDX-License-Identifier: GPL-3.0-or-later
"""The 52 shapes that engines know from ARKit, playing what all of a head's shapes play.

Correctives, and controls that ARKit lacks (a lip tucked under the teeth, a tongue tip), are left
out of the file; the 52 are moved to where they come nearest to the whole.

Legend: `F` frames, `K` shapes, `A` shapes that stay, `N` = 3 V coordinates.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..character import head
from .stand_ins import Baked

_SIDED = """
    eyeBlink eyeLookDown eyeLookIn eyeLookOut eyeLookUp eyeSquint eyeWide mouthSmile mouthFrown
    mouthDimple mouthStretch mouthPress mouthLowerDown mouthUpperUp browDown browOuterUp cheekSquint
    noseSneer jaw mouth
"""
_SINGLE = """
    jawForward jawOpen mouthClose mouthFunnel mouthPucker mouthRollLower mouthRollUpper
    mouthShrugLower mouthShrugUpper browInnerUp cheekPuff tongueOut
"""
NAMES = frozenset(
    [stem + side for stem in _SIDED.split() for side in ("Left", "Right")] + _SINGLE.split()
)
"""ARKit's blend shapes."""

_PULL = 0.03
"""How much a weight is drawn to what its control says, of its shape's own size."""
_SWEEPS = 40
_BLOCK = 128


def only(baked: list[Baked], objects: list[Any]) -> tuple[list[Baked], float, float]:
    """Return the same with ARKit's shapes alone on every mesh that has some.

    Also returns how far any vertex of the face is off then, in millimetres: at 95 of 100 frames,
    and at most. The face is the first mesh that loses shapes; a tongue behind it is not counted.
    """
    meshes = {obj.name: obj for obj in objects}
    found: list[Baked] = []
    error: NDArray[np.float64] | None = None
    for one in baked:
        keep = [k for k, name in enumerate(one.names) if name in NAMES]
        if not keep or len(keep) == len(one.names):
            found.append(one)
            continue
        shapes = _shapes(meshes[one.object_name], one.names)
        weights = _nearest(one.values, shapes, keep)
        names = tuple(one.names[k] for k in keep)
        found.append(Baked(one.object_name, names, weights))
        if error is None:
            unit = head.millimetres(meshes[one.object_name])
            error = _off(one.values, weights, shapes, keep) * unit
    worst = np.zeros(1) if error is None else error
    return found, float(np.percentile(worst, 95)), float(worst.max())


def _shapes(obj: Any, names: tuple[str, ...]) -> NDArray[np.float32]:
    """Return the offsets (K, N) of a mesh's shape keys, each from the key it is relative to."""
    key = obj.data.shape_keys

    def points(block: Any) -> NDArray[np.float32]:
        values = np.empty(3 * len(obj.data.vertices), np.float32)
        block.points.foreach_get("co", values)
        return values

    blocks = [key.key_blocks[name] for name in names]
    return np.stack([points(block) - points(block.relative_key) for block in blocks])


def _nearest(
    values: NDArray[np.float32], shapes: NDArray[np.float32], keep: list[int]
) -> NDArray[np.float32]:
    """Return weights (F, A) in 0..1 whose shapes come nearest to values (F, K) of all shapes."""
    gram = (shapes @ shapes.T).astype(np.float64)
    inner = gram[np.ix_(keep, keep)]
    ridge = _PULL * np.diag(inner) + 1e-9 * np.trace(gram) + 1e-18
    start = np.clip(values[:, keep], 0, 1).astype(np.float64)
    load = values @ gram[:, keep] + ridge * start
    inner[np.diag_indices_from(inner)] += ridge
    weights = start.copy()
    for _ in range(_SWEEPS):
        for k in range(len(keep)):
            step = (load[:, k] - weights @ inner[k]) / inner[k, k]
            weights[:, k] = np.clip(weights[:, k] + step, 0, 1)
    weights[:, values[:, keep].max(0) <= 0] = 0  # what the line does not move stays still
    return weights.astype(np.float32)


def _off(
    values: NDArray[np.float32],
    weights: NDArray[np.float32],
    shapes: NDArray[np.float32],
    keep: list[int],
) -> NDArray[np.float64]:
    """Return how far any vertex is off at each frame (F,)."""
    change = values.copy()
    change[:, keep] -= weights
    far = np.zeros(len(change))
    for first in range(0, len(change), _BLOCK):
        moved = (change[first : first + _BLOCK] @ shapes).reshape(-1, shapes.shape[1] // 3, 3)
        far[first : first + _BLOCK] = np.sqrt(np.square(moved).sum(2).max(1))
    return far
