# SPDX-License-Identifier: GPL-3.0-or-later
"""Smooth fields on a skin: cotangent Laplacian, (bi)harmonic extension, heat, edge distance.

Sizes are small (a face region has 300 to 2,000 vertices), so systems are dense and need numpy only.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .mesh import Connectivity, Floats, Integers

Mask = NDArray[np.bool_]


class Surface:
    """Differential operators of skin triangles (T, 3) over positions (V, 3)."""

    def __init__(self, positions: Floats, triangles: Integers, connectivity: Connectivity) -> None:
        self.positions = positions
        self.neighbours = connectivity.neighbours
        self._assemble(triangles)

    def _assemble(self, triangles: Integers) -> None:
        """Collect cotangent weights per edge and a third of the triangle areas per vertex."""
        p = self.positions
        side = [p[triangles[:, (k + 2) % 3]] - p[triangles[:, (k + 1) % 3]] for k in range(3)]
        area = 0.5 * np.linalg.norm(np.cross(side[0], side[1]), axis=1)
        rows, columns, weights = [], [], []
        for k in range(3):
            i, j = triangles[:, (k + 1) % 3], triangles[:, (k + 2) % 3]
            dot = -(side[(k + 1) % 3] * side[(k + 2) % 3]).sum(1)
            # Clipped: an obtuse sliver must neither repel nor tie its neighbours together.
            weight = np.clip(0.25 * dot / np.maximum(area, 1e-9), 0.02, 3.0)
            rows += [i, j]
            columns += [j, i]
            weights += [weight, weight]
        self.row, self.column = np.concatenate(rows), np.concatenate(columns)
        self.weight = np.concatenate(weights)
        mass = np.bincount(triangles.T.ravel(), np.tile(area / 3, 3), len(p))
        self.area = np.maximum(mass, np.median(mass[mass > 0]) * 0.15)
        self._length = np.linalg.norm(p[self.row] - p[self.column], axis=1)

    def grow(self, mask: Mask, steps: int = 1) -> Mask:
        """Add `steps` rings of neighbours to a vertex mask (V,)."""
        for _ in range(steps):
            grown = mask.copy()
            grown[self.column[mask[self.row]]] = True
            mask = grown
        return mask

    def laplacian(self, vertices: Integers) -> Floats:
        """Dense stiffness matrix (n, n) of the subset `vertices` (n,)."""
        place = np.full(len(self.positions), -1)
        place[vertices] = np.arange(len(vertices))
        i, j = place[self.row], place[self.column]
        inside = (i >= 0) & (j >= 0)
        size = len(vertices)
        flat = np.bincount(i[inside] * size + j[inside], -self.weight[inside], size * size)
        matrix: Floats = flat.reshape(size, size).astype(np.float64)
        matrix[np.arange(size), np.arange(size)] = -matrix.sum(1)
        return matrix

    def extend(
        self, known: ArrayLike, values: ArrayLike, free: Mask, *, order: int = 2,
        stiffness: Floats | None = None,
    ) -> Floats:  # fmt: skip
        """Spread `values` (n, D) at vertices `known` (n,) smoothly over the `free` mask (V,).

        Every other vertex is held at zero.  `order` 1 is harmonic (continuous), 2 biharmonic
        (smooth at the handles and at the edge).  `stiffness` (V,), per fourth power of length,
        holds vertices near zero softly: the field dies out over stiffness^(-1/4).  Returns (V,
        D).
        """
        known = np.asarray(known, dtype=np.int64)
        handles = np.asarray(values, dtype=np.float64).reshape(len(known), -1)
        field = np.zeros((len(self.positions), handles.shape[1]))
        field[known] = handles
        unknown = free.copy()
        unknown[known] = False
        if not unknown.any():
            return field
        ids = np.flatnonzero(self.grow(unknown, order))
        matrix = self.laplacian(ids)
        is_free = unknown[ids]
        if order == 2:
            right = matrix / self.area[ids][:, None]
            free_rows = matrix[is_free] @ right
            if stiffness is not None:
                held = stiffness[ids[is_free]] * self.area[ids[is_free]]
                free_rows[np.arange(len(held)), np.flatnonzero(is_free)] += held
        else:
            free_rows = matrix[is_free]
        load = -free_rows[:, ~is_free] @ field[ids[~is_free]]
        field[ids[is_free]] = np.linalg.solve(free_rows[:, is_free], load)
        return field

    def diffuse(self, field: Floats, vertices: Integers, *, time: float, times: int = 1) -> Floats:
        """Smooth field (V, D) on `vertices` by implicit heat flow; the rest is held."""
        mask = np.zeros(len(self.positions), dtype=bool)
        mask[vertices] = True
        ids = np.flatnonzero(self.grow(mask))
        matrix, inner = self.laplacian(ids) * time, mask[ids]
        mass = self.area[ids[inner]]
        system = np.diag(mass) + matrix[np.ix_(inner, inner)]
        field = field.copy()
        outside = matrix[np.ix_(inner, ~inner)] @ field[ids[~inner]]
        for _ in range(times):
            load = mass[:, None] * field[ids[inner]] - outside
            field[ids[inner]] = np.linalg.solve(system, load)
        return field

    def distance(self, sources: ArrayLike, limit: float = np.inf) -> Floats:
        """Length (V,) of the shortest edge path to the nearest source; `inf` beyond `limit`."""
        distance = np.full(len(self.positions), np.inf)
        distance[np.asarray(sources, dtype=np.int64)] = 0.0
        order = np.argsort(self.column, kind="stable")
        row, length = self.row[order], self._length[order]
        target, first = np.unique(self.column[order], return_index=True)
        while True:
            nearest = np.minimum.reduceat(distance[row] + length, first)
            nearest[nearest > limit] = np.inf
            closer = nearest < distance[target] - 1e-12
            if not closer.any():
                return distance
            distance[target[closer]] = nearest[closer]
