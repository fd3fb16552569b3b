"""Weights of named shapes for one clip, and details for what they miss.

Legend: `F` frames, `C` controls, `K` shapes, `N` coordinates of the active vertices.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..progress import UNWATCHED, Watch
from .shapes import Array, ShapeSet, main_directions, shape_weights

PER_ROUND = 4
"""Details added between two looks at the largest error."""

MOST_DETAILS = 60
"""Details at which the solver gives up reaching the tolerance."""

WORST_FRAMES = 240
"""Frames from which a round of details is made."""

PACK = 1000.0
"""Residuals wait as half floats in thousandths of an eye distance: exact to 0.1 µm below 0.1 mm."""


@dataclass(frozen=True)
class Solved:
    """Shapes and weights over the active vertices, in canonical units."""

    names: tuple[str, ...]
    """Controls, correctives, details (K,)."""
    shapes: Array
    """(K, N)."""
    weights: Array
    """(F, K)."""
    errors: Array
    """Largest vertex error of each frame (F,)."""


def solve_weights(
    motion: Iterable[tuple[slice, Array]],
    controls: Array,
    named: ShapeSet,
    tolerance: float,
    watch: Watch = UNWATCHED,
) -> Solved:
    """Fit exact `motion`, blocks of frames and offsets (f, A, 3), of controls (F, C).

    Primaries and correctives weigh what their controls and formulas say; details are added while
    a vertex is off by more than `tolerance` (infinite: none are).  `watch` is told the share done
    after every block and round, and may raise `Cancelled`.
    """
    weights = shape_weights(controls, named.names[: controls.shape[1]])
    rest = np.empty((len(controls), named.shapes.shape[1]), dtype=np.float16)
    errors = np.zeros(len(controls), dtype=np.float32)
    for frames, moved in motion:
        left = moved.reshape(len(moved), -1) - weights[frames] @ named.shapes
        rest[frames], errors[frames] = left * PACK, vertex_error(left)
        watch(0.6 * frames.stop / len(controls))
    if not (errors > tolerance).any():
        return Solved(named.names, named.shapes, weights, errors)
    details, use, errors = fit_details(rest, errors, tolerance, watch)
    names = named.names + tuple(f"detail.{k + 1:02d}" for k in range(len(details)))
    shapes = np.concatenate([named.shapes, details])
    return Solved(names, shapes, np.concatenate([weights, use], axis=1), errors)


def fit_details(
    packed: NDArray[np.float16], errors: Array, tolerance: float, watch: Watch = UNWATCHED
) -> tuple[Array, Array, Array]:
    """Return details (D, N), their weights (F, D) within the bound, and the errors left (F,).

    Greedy: the worst frames give the next few directions, until no vertex is off by more than
    `tolerance` (canonical units) or there are `MOST_DETAILS`.
    """
    directions = np.zeros((0, packed.shape[1]), dtype=np.float32)
    use = np.zeros((len(packed), 0), dtype=np.float32)
    while errors.max() > tolerance and len(directions) < MOST_DETAILS:
        worst = np.sort(np.argsort(-errors)[:WORST_FRAMES])
        left = packed[worst].astype(np.float32) / PACK - use[worst] @ directions
        # Rated by its error: the mean is small already, it is the maximum that must fall.
        left *= (errors[worst] / errors.max())[:, None]
        new = main_directions(left, PER_ROUND)
        joined = np.concatenate([directions, new]).astype(np.float64)
        directions = np.linalg.qr(joined.T)[0].T.astype(np.float32)
        use, errors = _project(packed, directions, errors)
        watch(0.6 + 0.4 * len(directions) / MOST_DETAILS)
    # Each detail is scaled so that its largest weight in the clip is 1.
    peak = np.maximum(np.abs(use).max(0), 1e-12)
    return directions * peak[:, None], use / peak, errors


def _project(packed: NDArray[np.float16], directions: Array, errors: Array) -> tuple[Array, Array]:
    """Return weights (F, D) of orthonormal directions (D, N) and the errors (F,) they leave."""
    use = np.zeros((len(packed), len(directions)), dtype=np.float32)
    left = np.zeros_like(errors)
    for begin in range(0, len(packed), 256):
        frames = slice(begin, begin + 256)
        rest = packed[frames].astype(np.float32) / PACK
        use[frames] = rest @ directions.T
        left[frames] = vertex_error(rest - use[frames] @ directions)
    return use, left


def vertex_error(residual: Array) -> Array:
    """Largest vertex displacement (F,) of residual (F, N)."""
    parts = residual.reshape(len(residual), -1, 3)
    return np.asarray(np.sqrt(np.einsum("fac,fac->fa", parts, parts).max(1)))
