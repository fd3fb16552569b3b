# SPDX-License-Identifier: GPL-3.0-or-later
"""A mesh of any making → welded vertices, parts, normals, edge distances, dense surface samples.

Other people's meshes are split along texture seams, cut up into objects and of any density.  Here
seams are closed (edges that coincide, never vertices that merely touch: the lips of a shut mouth
touch), and everything works on arrays, so that a body of a hundred thousand vertices is no trouble.

`V` vertices as given, `N` after welding, `T` triangles, `E` edges, `S` samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .mesh import Floats, Integers, vertex_normals

Mask = NDArray[np.bool_]

SEAM = 1e-5
"""Distance, as a share of the mesh's extent, within which the two sides of a seam coincide."""

MOST_STEPS = 24
"""Parts into which a triangle's edge is cut at most when it is sampled."""


class AnyMesh:
    """Triangles (T, 3) over vertices (V, 3), welded along seams."""

    def __init__(self, vertices: ArrayLike, triangles: ArrayLike) -> None:
        points = np.asarray(vertices, dtype=np.float64)
        corners = np.asarray(triangles, dtype=np.int64).reshape(-1, 3)
        self.weld: Integers = _weld(points, corners)
        """Welded vertex of each given vertex (V,)."""
        first = np.full(int(self.weld.max(initial=-1)) + 1, -1, dtype=np.int64)
        first[self.weld[::-1]] = np.arange(len(points))[::-1]
        self.positions: Floats = points[first]
        """(N, 3)."""
        joined = self.weld[corners]
        whole = (
            (joined[:, 0] != joined[:, 1])
            & (joined[:, 1] != joined[:, 2])
            & (joined[:, 2] != joined[:, 0])
        )
        self.triangles: Integers = joined[whole]
        """(T, 3), none of them degenerate."""

    @cached_property
    def edges(self) -> Integers:
        """Edges (E, 2), each once."""
        return np.asarray(np.unique(np.sort(_sides(self.triangles), axis=1), axis=0))

    @cached_property
    def normals(self) -> Floats:
        """Unit normals (N, 3)."""
        return vertex_normals(self.positions, self.triangles)

    @cached_property
    def graph(self) -> Graph:
        """Neighbours of every vertex."""
        return Graph(self.edges, len(self.positions))

    @cached_property
    def part(self) -> Integers:
        """Label (N,) of the connected part that each vertex belongs to."""
        label = np.arange(len(self.positions))
        a, b = self.edges.T
        while True:
            low = np.minimum(label[a], label[b])
            lowered = label.copy()
            np.minimum.at(lowered, a, low)
            np.minimum.at(lowered, b, low)
            lowered = lowered[lowered]
            if np.array_equal(lowered, label):
                break
            label = lowered
        return np.asarray(np.unique(label, return_inverse=True)[1]).reshape(-1)

    def landing(self, point: ArrayLike, allowed: Mask) -> int:
        """Return the vertex that belongs to the nearest point of the surface `allowed` (N,).

        It is a corner of the triangle that a point (3,) lies on: the nearest vertex of a coarse
        mesh may be on the other lip.
        """
        goal = np.asarray(point, dtype=np.float64)
        faces = self.triangles[allowed[self.triangles].all(1)]
        if not len(faces):
            ids = np.flatnonzero(allowed)
            return int(ids[((self.positions[ids] - goal) ** 2).sum(1).argmin()])
        p = self.positions[faces]
        away = np.linalg.norm(p - goal, axis=2)
        span = np.linalg.norm(p - np.roll(p, 1, axis=1), axis=2).max(1)
        near = np.flatnonzero(away.min(1) - span <= away.min())
        shares = closest_on_triangles(goal, p[near])
        gap = np.linalg.norm(np.einsum("nk,nkc->nc", shares, p[near]) - goal, axis=1)
        best = int(gap.argmin())
        return int(faces[near[best], shares[best].argmax()])

    def distance(self, sources: ArrayLike, limit: float = np.inf) -> Floats:
        """Length (N,) of the shortest edge path to the nearest source; `inf` beyond `limit`."""
        return self.graph.distance(self.positions, np.asarray(sources, dtype=np.int64), limit)

    def sample(self, triangles: Integers, step: float) -> Samples:
        """Spread points over some triangles (t, 3), no further apart than about `step`."""
        p = self.positions[triangles]
        longest = np.max([np.linalg.norm(p[:, k] - p[:, k - 1], axis=1) for k in range(3)], axis=0)
        cuts = np.clip(np.ceil(longest / step), 1, MOST_STEPS).astype(np.int64)
        used = np.unique(triangles)
        corner, share = [np.repeat(used[:, None], 3, axis=1)], [np.eye(1, 3).repeat(len(used), 0)]
        for count in np.unique(cuts):
            inside = _grid(int(count))
            chosen = triangles[cuts == count]
            corner.append(np.repeat(chosen, len(inside), axis=0))
            share.append(np.tile(inside, (len(chosen), 1)))
        return Samples.at(self, np.concatenate(corner), np.concatenate(share))


@dataclass(frozen=True)
class Samples:
    """Points on a surface, each a weighted sum of a triangle's corners."""

    corners: Integers
    """(S, 3) vertices."""
    shares: Floats
    """(S, 3) their weights, adding up to 1."""
    positions: Floats
    """(S, 3)."""
    normals: Floats
    """(S, 3) unit."""

    @classmethod
    def at(cls, mesh: AnyMesh, corners: Integers, shares: Floats) -> Samples:
        """Evaluate points on a mesh."""
        positions = np.einsum("sk,skc->sc", shares, mesh.positions[corners])
        normals = np.einsum("sk,skc->sc", shares, mesh.normals[corners])
        length = np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
        return cls(corners, shares, positions, normals / length)

    @classmethod
    def joined(cls, sets: list[Samples]) -> Samples:
        """Put several sets of points together."""
        return cls(
            np.concatenate([s.corners for s in sets]), np.concatenate([s.shares for s in sets]),
            np.concatenate([s.positions for s in sets]), np.concatenate([s.normals for s in sets]),
        )  # fmt: skip

    @property
    def main(self) -> Integers:
        """The corner (S,) that each point is nearest to."""
        return np.asarray(np.take_along_axis(self.corners, self.shares.argmax(1)[:, None], 1)[:, 0])

    def thinned(self, cell: float, label: Integers) -> Samples:
        """Keep one point in each cube of side `cell`, side of the surface and `label` (S,)."""
        cube = np.floor(self.positions / cell).astype(np.int64)
        facing = np.round(self.normals).astype(np.int64)
        key = np.concatenate([cube, facing, label[:, None]], axis=1)
        kept = np.sort(np.unique(key, axis=0, return_index=True)[1])
        return Samples(
            self.corners[kept], self.shares[kept], self.positions[kept], self.normals[kept]
        )


class Graph:
    """Undirected edges (E, 2) over `count` vertices, sorted by vertex for sums over neighbours."""

    def __init__(self, edges: Integers, count: int) -> None:
        row = np.concatenate([edges[:, 0], edges[:, 1]])
        column = np.concatenate([edges[:, 1], edges[:, 0]])
        order = np.argsort(row, kind="stable")
        self.count = count
        self.row, self.column = row[order], column[order]
        self.degree = np.bincount(row, minlength=count)
        self._start = np.flatnonzero(np.diff(self.row, prepend=-1))
        self._joined = self.row[self._start]

    def sum(self, values: Floats) -> Floats:
        """Sum values (2E, ...), one for each directed edge, over each vertex (N, ...)."""
        total = np.zeros((self.count, *values.shape[1:]))
        if len(values):
            total[self._joined] = np.add.reduceat(values, self._start, axis=0)
        return total

    def distance(self, positions: Floats, sources: Integers, limit: float = np.inf) -> Floats:
        """Length (N,) of the shortest edge path to the nearest source; `inf` beyond `limit`."""
        length = np.linalg.norm(positions[self.row] - positions[self.column], axis=1)
        distance = np.full(self.count, np.inf)
        distance[sources] = 0.0
        if not len(length):
            return distance
        while True:
            through = np.minimum.reduceat(distance[self.column] + length, self._start)
            through[through > limit] = np.inf
            closer = through < distance[self._joined] - 1e-12
            if not closer.any():
                return distance
            distance[self._joined[closer]] = through[closer]

    def grow(self, mask: Mask, steps: int = 1) -> Mask:
        """Add `steps` rings of neighbours to a vertex mask (N,)."""
        for _ in range(steps):
            grown = mask.copy()
            grown[self.row[mask[self.column]]] = True
            mask = grown
        return mask

    def rest(self, values: Floats) -> Floats:
        """Return each vertex's value less the mean of its neighbours' (N, ...)."""
        shape = (-1,) + (1,) * (values.ndim - 1)
        mean = self.sum(values[self.column]) / np.maximum(self.degree, 1).reshape(shape)
        return np.asarray(values - mean)

    def spread_back(self, values: Floats) -> Floats:
        """Apply the transpose of `rest` to values (N, D)."""
        share = values / np.maximum(self.degree, 1)[:, None]
        return np.asarray(values - self.sum(share[self.column]))


def _sides(triangles: Integers) -> Integers:
    """Return the directed edges (3T, 2) of triangles."""
    return np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])


def _weld(points: Floats, triangles: Integers) -> Integers:
    """Return the joined vertex (V,) of each vertex, closing edges that lie on one another."""
    count = len(points)
    sides = _sides(triangles)
    key = np.sort(sides, axis=1) @ np.array([count, 1])
    _, inverse, uses = np.unique(key, return_inverse=True, return_counts=True)
    open_sides = sides[uses[inverse.reshape(-1)] == 1]
    grain = max(float(np.ptp(points, axis=0).max(initial=0.0)), 1e-12) * SEAM
    ends = np.unique(open_sides)
    cell = np.round(points[ends] / grain).astype(np.int64)
    place = np.full(count, -1, dtype=np.int64)
    place[ends] = np.unique(cell, axis=0, return_inverse=True)[1].reshape(-1)
    there = np.sort(place[open_sides], axis=1) @ np.array([count, 1])
    _, inverse, uses = np.unique(there, return_inverse=True, return_counts=True)
    seam = np.unique(open_sides[uses[inverse.reshape(-1)] > 1])
    label = np.arange(count)
    label[seam] = count + place[seam]
    return np.asarray(np.unique(label, return_inverse=True)[1]).reshape(-1)


def _grid(count: int) -> Floats:
    """Return inner points of a triangle (n, 3) whose edges are cut into `count` parts."""
    if count == 1:
        return np.full((1, 3), 1 / 3)
    i, j = np.meshgrid(np.arange(count + 1), np.arange(count + 1), indexing="ij")
    keep = (i + j <= count) & ((i == 0) + (j == 0) + (i + j == count) < 2)
    shares = np.stack([i[keep], j[keep], count - i[keep] - j[keep]], axis=1) / count
    return np.asarray(shares, dtype=np.float64)


def closest_on_triangles(points: Floats, triangles: Floats) -> Floats:
    """Return barycentric weights (..., 3) of the points of triangles (..., 3, 3) nearest points.

    The three edges and the inside are tried and the best is taken; points (..., 3) broadcast.
    """
    a, b, c = (triangles[..., k, :] for k in range(3))
    ab, ac, ap = b - a, c - a, points - a
    d = [(x * y).sum(-1) for x, y in ((ab, ab), (ab, ac), (ac, ac), (ap, ab), (ap, ac))]
    scale = np.maximum(d[0] * d[2] - d[1] ** 2, 1e-18)
    v = (d[2] * d[3] - d[1] * d[4]) / scale
    w = (d[0] * d[4] - d[1] * d[3]) / scale
    shares = np.stack([1 - v - w, v, w], axis=-1)
    outside = np.asarray((shares < 0).any(-1))
    options, gaps = [], []
    for i, j in ((0, 1), (1, 2), (2, 0)):
        start, side = triangles[..., i, :], triangles[..., j, :] - triangles[..., i, :]
        length = np.maximum((side**2).sum(-1), 1e-18)
        t = np.clip(((points - start) * side).sum(-1) / length, 0, 1)
        option = np.zeros(np.broadcast_shapes(shares.shape, (*t.shape, 3)))
        option[..., i], option[..., j] = 1 - t, t
        options.append(option)
        gaps.append(((start + t[..., None] * side - points) ** 2).sum(-1))
    edge = np.stack(gaps, -1).argmin(-1)
    along = np.take_along_axis(np.stack(options, -2), edge[..., None, None], -2)[..., 0, :]
    return np.where(outside[..., None], along, shares)
