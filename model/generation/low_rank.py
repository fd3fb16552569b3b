# SPDX-License-Identifier: GPL-3.0-or-later
"""Find the fewest shapes that hold a clip's motion within a stated vertex error.

    F frames   C channels (3 × vertices)   D latent   r, K ranks   V vertices

A vertex model's last layer is linear: offsets = Y Wᵀ + b with Y (F, D). Everything below works on
Y and on products with it, never on frames × channels: the singular values are those of an r × r
matrix, and the promised error is checked exactly, frame by frame, worst candidates first.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..progress import UNWATCHED, Watch

Floats = NDArray[np.float64]
Array = NDArray[np.float32]
_CHUNK = 128  # frames whose vertex errors are computed at a time


def factor(
    features: NDArray[Any],
    weight: NDArray[Any],
    bias: NDArray[Any],
    tolerance: float,
    watch: Watch = UNWATCHED,
) -> tuple[Array, Array, float]:
    """Return weights (F, K), shapes (K, V, 3) and the largest vertex error of their product.

    features (F, D), weight (C, D), bias (C,); the error is at most `tolerance`, both in the
    model's units. Shapes are scaled so that each weight's largest magnitude is 1, and come in
    order of how much they move. `watch` is called between steps and may raise `Cancelled`.
    """
    y = np.concatenate([np.asarray(features, np.float64), np.ones((len(features), 1))], axis=1)
    w = np.concatenate([np.asarray(weight, np.float32), np.asarray(bias, np.float32)[:, None]], 1)
    u, basis, spent = _compress(y, w, tolerance / 4)  # (F, r), (r, D+1)
    watch(0.2)
    product = w @ basis.T.astype(np.float32)  # (C, r)
    root = _root(u.T @ u)  # uᵀu = rootᵀ root, so singular values are those of root · productᵀ
    gram = (product.T @ product).astype(np.float64)
    values, vectors = np.linalg.eigh(root @ gram @ root.T)
    vectors = vectors[:, ::-1][:, values[::-1] > 1e-14 * max(values[-1], 1e-300)]
    onto = np.linalg.lstsq(root, vectors, rcond=None)[0]  # (r, K): u @ onto has orthonormal columns
    weights = u @ onto  # (F, K)
    shapes = (weights.T @ u).astype(np.float32) @ product.T  # (K, C)
    weights, shapes, dropped = _trim(weights, shapes, tolerance / 8)
    spent += dropped
    watch(0.5)
    rank, error = _fewest(weights, shapes, tolerance - spent, watch)
    return *_scaled(weights[:, :rank], shapes[:rank]), error + spent


def _compress(y: Floats, w: Array, allowed: float) -> tuple[Floats, Floats, float]:
    """Drop directions of `y` (F, D+1) that move no vertex by `allowed`; return u, basis, the bound.

    y ≈ u @ basis with orthonormal basis rows. The bound is Σ over vertices' worst: the largest
    norm of a vertex's three rows of `w` times the largest norm of what a frame loses.
    """
    vectors = np.linalg.eigh(y.T @ y)[1][:, ::-1]  # strongest first
    along = y @ vectors  # (F, D+1)
    reach = float(np.sqrt(np.square(w, dtype=np.float64).sum(axis=1).reshape(-1, 3).sum(1)).max())
    lost = np.sqrt(np.cumsum(np.square(along[:, ::-1]), axis=1).max(axis=0))[::-1] * reach
    keep = max(1, int((lost > allowed).sum()))
    spent = float(lost[keep]) if keep < len(lost) else 0.0
    return along[:, :keep], np.ascontiguousarray(vectors[:, :keep].T), spent


def _root(gram: Floats) -> Floats:
    """Return a square R with Rᵀ R = gram, for a positive semi-definite gram."""
    values, vectors = np.linalg.eigh(gram)
    root: Floats = np.sqrt(np.maximum(values, 0))[:, None] * vectors.T
    return root


def _trim(weights: Floats, shapes: Array, allowed: float) -> tuple[Floats, Array, float]:
    """Drop the last shapes whose largest moves, added up, stay within `allowed`."""
    moves = np.abs(weights).max(axis=0) * _lengths(shapes).max(axis=1, initial=0.0)  # (K,)
    tail = np.append(np.cumsum(moves[::-1])[::-1], 0.0)
    keep = int((tail > allowed).sum())
    return weights[:, :keep], shapes[:keep], float(tail[keep])


def _fewest(weights: Floats, shapes: Array, tolerance: float, watch: Watch) -> tuple[int, float]:
    """Return the smallest rank whose largest vertex error is within `tolerance`, and that error.

    Searched on the frames that look worst, then confirmed on all of them.
    """
    sizes = np.sqrt(np.square(shapes, dtype=np.float64).sum(axis=1))
    low, high = 0, weights.shape[1]  # nothing is lost at `high`
    while low < high:
        middle = (low + high) // 2
        hardest = np.argsort(-(np.square(weights[:, middle:] * sizes[middle:]).sum(axis=1)))
        some = weights[hardest[:_CHUNK], middle:]
        if _error(some, shapes[middle:], tolerance, watch) <= tolerance:
            high = middle
        else:
            low = middle + 1
    while (error := _error(weights[:, high:], shapes[high:], tolerance, watch)) > tolerance:
        high += 1
    return high, error


def _error(weights: Floats, shapes: Array, enough: float, watch: Watch) -> float:
    """Return the largest vertex length of weights @ shapes, or the first found above `enough`."""
    worst = 0.0
    for start in range(0, len(weights) if len(shapes) else 0, _CHUNK):
        left = weights[start : start + _CHUNK].astype(np.float32) @ shapes  # (frames, C)
        worst = max(worst, float(_lengths(left).max()))
        watch(0.7)
        if worst > enough:
            break
    return worst


def _lengths(offsets: Array) -> Array:
    """Return the lengths (N, V) of offsets (N, 3V)."""
    x, y, z = offsets[:, 0::3], offsets[:, 1::3], offsets[:, 2::3]
    lengths: Array = np.sqrt(x * x + y * y + z * z)
    return lengths


def _scaled(weights: Floats, shapes: Array) -> tuple[Array, Array]:
    """Give every shape the size it has where its weight is largest, and that weight the value 1."""
    if not len(shapes):
        return weights.astype(np.float32), np.zeros((0, shapes.shape[1] // 3, 3), np.float32)
    peaks = weights[np.abs(weights).argmax(axis=0), range(weights.shape[1])]
    peaks = np.where(peaks == 0, 1.0, peaks)
    spread = (shapes * peaks[:, None]).reshape(len(shapes), shapes.shape[1] // 3, 3)
    return (weights / peaks).astype(np.float32), spread.astype(np.float32)
