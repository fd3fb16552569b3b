# SPDX-License-Identifier: GPL-3.0-or-later
"""Weights of named shapes for one clip, and details for what they miss.

Legend: `F` frames, `C` controls, `K` shapes, `N` coordinates of the active vertices.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..processors import each
from ..products import product
from ..progress import UNWATCHED, Watch
from .shapes import Array, ShapeSet, main_directions, shape_weights

PER_ROUND = 6
"""Details added between two looks at the largest error: with 4 there were as many or more in the
end, and half the time more."""

MOST_DETAILS = 60
"""Details at which the solver gives up reaching the tolerance."""

WORST_FRAMES = 240
"""Frames from which a round of details is made."""

PACK = 32_000
"""Residuals wait as whole numbers, in shares of their frame's largest: exact to 1/32,000 of it."""

HELD = 9000
"""Frames whose residuals are held: five minutes, 180 MB of a FLAME head; a longer clip is looked at
again instead."""

MOST_LOOKS = 4
"""Looks at all of a long clip at which the solver gives up reaching the tolerance."""

LEAST = 1e-9
"""Where a frame's residual counts as nothing, in eye distances."""

PROJECTED = 64
"""Frames whose residual is projected at once."""


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
    moves: Array
    """How far the vertex goes that goes farthest in each frame (F,)."""


def solve_weights(
    motion: Callable[[slice], Array],
    blocks: Sequence[slice],
    controls: Array,
    named: ShapeSet,
    tolerance: float,
    watch: Watch = UNWATCHED,
) -> Solved:
    """Fit exact `motion`, the offsets (f, A, 3) of a block of frames, of controls (F, C).

    Primaries and correctives weigh what their controls and formulas say; details are added while
    a vertex is off by more than `tolerance` (infinite: none are).  Of a long clip only the frames
    that need details most are held, and `motion` is asked again to look at all. `watch` is told the
    share done after every block and round, and may raise `Cancelled`.
    """
    weights = shape_weights(controls, named.names[: controls.shape[1]])
    errors, moves = np.zeros((2, len(controls)), dtype=np.float32)
    packed, rows = Packed.empty(blocks, named.shapes.shape[1])

    def miss(frames: slice) -> Array:
        left = motion(frames).reshape(frames.stop - frames.start, -1)
        moves[frames] = vertex_error(left)
        left -= product(weights[frames], named.shapes)
        return left

    def compare(number: int) -> slice:
        frames, left = blocks[number], miss(blocks[number])
        errors[frames] = vertex_error(left)
        packed.put(rows[number], left, errors[frames])
        return frames

    for frames in each(compare, range(len(blocks))):
        watch(0.6 * frames.stop / len(controls))
    if not (errors > tolerance).any():
        return Solved(named.names, named.shapes, weights, errors, moves)
    details, use, errors = fit_details(packed, miss, blocks, tolerance, watch)
    names = named.names + tuple(f"detail.{k + 1:02d}" for k in range(len(details)))
    shapes = np.concatenate([named.shapes, details])
    return Solved(names, shapes, np.concatenate([weights, use], axis=1), errors, moves)


@dataclass(frozen=True)
class Packed:
    """The residual of the frames that need details most (all of a short clip), in half the room."""

    numbers: NDArray[np.int16]
    """(n, N) in shares of each frame's largest, times `PACK`."""
    largest: Array
    """The largest vertex displacement of each frame (n,)."""
    whole: bool
    """Whether these are all frames, in order."""

    @classmethod
    def empty(cls, blocks: Sequence[slice], numbers: int) -> tuple[Packed, list[slice]]:
        """Return room for a clip, and which rows each of its blocks may fill."""
        frames = blocks[-1].stop if blocks else 0
        share = min(1.0, HELD / max(1, frames))
        counts = [math.ceil(share * (block.stop - block.start)) for block in blocks]
        ends = list(itertools.accumulate(counts))
        rows = [slice(end - count, end) for end, count in zip(ends, counts, strict=True)]
        room = np.empty((sum(counts), numbers), dtype=np.int16)
        return cls(room, np.zeros(len(room), dtype=np.float32), share == 1.0), rows

    def put(self, rows: slice | NDArray[np.integer], left: Array, errors: Array) -> None:
        """Hold the worst of some frames (f, N), as many as there are rows, in their order."""
        count = rows.stop - rows.start if isinstance(rows, slice) else len(rows)
        worst = np.sort(np.argsort(-errors)[:count])
        unit = PACK / np.maximum(errors[worst], LEAST)
        self.numbers[rows], self.largest[rows] = left[worst] * unit[:, None], errors[worst]

    def frames(self, chosen: slice | NDArray[np.integer]) -> Array:
        """Return the residual of some frames (f, N)."""
        unit = np.maximum(self.largest[chosen], LEAST) / np.float32(PACK)
        return np.asarray(self.numbers[chosen] * unit[:, None], np.float32)


def fit_details(
    packed: Packed,
    miss: Callable[[slice], Array],
    blocks: Sequence[slice],
    tolerance: float,
    watch: Watch = UNWATCHED,
) -> tuple[Array, Array, Array]:
    """Return details (D, N), their weights (F, D) within the bound, and the errors left (F,).

    `miss` gives the residual of a block again, for clips that are not held whole.
    """
    directions = np.zeros((0, packed.numbers.shape[1]), dtype=np.float32)
    for _ in range(MOST_LOOKS):
        directions, use, errors = _grow(packed, directions, tolerance, watch)
        if packed.whole:
            break
        held = errors
        use, errors, bad = _look(miss, blocks, directions, tolerance)
        if not len(bad) or len(directions) >= MOST_DETAILS:
            break
        # In place of those that need them least.
        packed.put(np.argsort(held)[: len(bad)], bad, vertex_error(bad))
    # Each detail is scaled so that its largest weight in the clip is 1.
    peak = np.maximum(np.abs(use).max(0), 1e-12)
    return directions * peak[:, None], use / peak, errors


def _grow(
    packed: Packed, directions: Array, tolerance: float, watch: Watch
) -> tuple[Array, Array, Array]:
    """Return more directions (D, N), how the frames held use them (n, D), the errors left (n,).

    Greedy: the worst frames give the next few, until no vertex is off by more than `tolerance`
    (canonical units) or there are `MOST_DETAILS`.
    """
    use, errors = _project(packed, directions)
    while errors.max() > tolerance and len(directions) < MOST_DETAILS:
        worst = np.sort(np.argsort(-errors)[:WORST_FRAMES])
        left = packed.frames(worst) - product(use[worst], directions)
        # Rated by its error: the mean is small already, it is the maximum that must fall.
        left *= (errors[worst] / errors.max())[:, None]
        new = main_directions(left, PER_ROUND)
        joined = np.concatenate([directions, new]).astype(np.float64)
        directions = np.linalg.qr(joined.T)[0].T.astype(np.float32)
        use, errors = _project(packed, directions)
        watch(0.6 + 0.4 * len(directions) / MOST_DETAILS)
    return directions, use, errors


def _look(
    miss: Callable[[slice], Array], blocks: Sequence[slice], directions: Array, tolerance: float
) -> tuple[Array, Array, Array]:
    """Return every frame's use (F, D) and error (F,), and residuals still too far off (f, N)."""
    frames = blocks[-1].stop
    use = np.zeros((frames, len(directions)), dtype=np.float32)
    errors = np.zeros(frames, dtype=np.float32)

    def look(block: slice) -> Array:
        left = miss(block)
        use[block] = product(left, directions.T)
        errors[block] = vertex_error(left - product(use[block], directions))
        return left[errors[block] > tolerance]

    bad: list[Array] = []
    for found in each(look, blocks):
        room = HELD // 4 - sum(map(len, bad))
        bad.append(found[: max(0, room)])
    return use, errors, np.concatenate(bad)


def _project(packed: Packed, directions: Array) -> tuple[Array, Array]:
    """Return weights (F, D) of orthonormal directions (D, N) and the errors (F,) they leave."""
    count = len(packed.largest)
    if not len(directions):
        return np.zeros((count, 0), dtype=np.float32), packed.largest
    use = np.zeros((count, len(directions)), dtype=np.float32)
    left = np.zeros(count, dtype=np.float32)

    def project(frames: slice) -> None:
        rest = packed.frames(frames)
        use[frames] = product(rest, directions.T)
        rest -= product(use[frames], directions)
        left[frames] = vertex_error(rest)

    blocks = [slice(begin, begin + PROJECTED) for begin in range(0, count, PROJECTED)]
    for _ in each(project, blocks):
        pass
    return use, left


def vertex_error(residual: Array) -> Array:
    """Largest vertex displacement (F,) of residual (F, N)."""
    squares = np.square(residual).reshape(len(residual), -1, 3)
    lengths = squares[..., 0] + squares[..., 1]
    lengths += squares[..., 2]
    return np.asarray(np.sqrt(lengths.max(1)))
