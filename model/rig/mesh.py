# SPDX-License-Identifier: GPL-3.0-or-later
"""Connectivity of a triangle mesh: neighbours, components, boundary loops, rings, mirror partners.

Nothing here knows positions, except the small vector functions at the end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Reals = NDArray[np.floating]
Integers = NDArray[np.int64]
HalfEdge = tuple[int, int]


class Connectivity:
    """What follows from triangles (T, 3) over `count` vertices alone."""

    def __init__(self, triangles: Integers, count: int) -> None:
        self.triangles = triangles
        self.count = count
        self.neighbours: list[set[int]] = [set() for _ in range(count)]
        self.opposite: dict[HalfEdge, int] = {}
        """The third corner of the triangle to the left of each half-edge."""
        for a, b, c in triangles.tolist():
            self.opposite[a, b], self.opposite[b, c], self.opposite[c, a] = c, a, b
        for a, b in self.opposite:
            self.neighbours[a].add(b)
            self.neighbours[b].add(a)

    @cached_property
    def component(self) -> Integers:
        """Label (V,) of the connected part that each vertex belongs to."""
        label = np.full(self.count, -1, dtype=np.int64)
        parts = 0
        for seed in range(self.count):
            if label[seed] >= 0:
                continue
            label[seed], stack = parts, [seed]
            while stack:
                for other in self.neighbours[stack.pop()]:
                    if label[other] < 0:
                        label[other] = parts
                        stack.append(other)
            parts += 1
        return label

    @cached_property
    def loops(self) -> list[list[int]]:
        """Boundary loops, each a cyclic list of vertices along the open half-edges."""
        following = {b: a for a, b in self.opposite if (b, a) not in self.opposite}
        loops: list[list[int]] = []
        seen: set[int] = set()
        for start in following:
            loop, vertex = [], start
            while vertex in following and vertex not in seen:
                loop.append(vertex)
                seen.add(vertex)
                vertex = following[vertex]
            if len(loop) > 2:
                loops.append(loop)
        return loops

    def rings(self, seeds: Iterable[int], depth: int) -> list[list[int]]:
        """Breadth-first rings around `seeds`: ring 0 is the seeds, ring k lies k edges away."""
        rings = [list(seeds)]
        seen = set(rings[0])
        for _ in range(depth):
            ring: list[int] = []
            for vertex in rings[-1]:
                for other in sorted(self.neighbours[vertex]):
                    if other not in seen:
                        seen.add(other)
                        ring.append(other)
            if not ring:
                break
            rings.append(ring)
        return rings

    def within(self, seeds: Iterable[int], allowed: set[int]) -> set[int]:
        """Return what can be reached from `seeds` by edges whose ends lie in `allowed`."""
        reached = set(seeds)
        stack = list(reached)
        while stack:
            new = (self.neighbours[stack.pop()] & allowed) - reached
            reached |= new
            stack.extend(new)
        return reached

    def mirror_walk(self, start: HalfEdge, image: HalfEdge) -> dict[int, int]:
        """Map vertices to mirror images by walking both halves of the mesh at once.

        Half-edge `start` corresponds to `image` walked the other way round.  Where the two sides
        differ, the walk stops; the map then has no entry or a one-sided one.
        """
        partner: dict[int, int] = {}
        queue = deque([(start, image)])
        done: set[HalfEdge] = set()
        while queue:
            (a, b), (p, q) = queue.popleft()
            if (a, b) in done or partner.get(a, p) != p or partner.get(b, q) != q:
                continue
            done.add((a, b))
            partner[a], partner[b] = p, q
            here, there = self.opposite.get((a, b)), self.opposite.get((q, p))
            if here is None or there is None or partner.get(here, there) != there:
                continue
            partner[here] = there
            # Each triangle is left by its two other edges, seen from outside.
            queue.append(((here, b), (there, q)))
            queue.append(((a, here), (p, there)))
        return partner


def fit_sphere(points: Floats) -> tuple[Floats, float, float]:
    """Return centre (3,), radius and largest relative deviation of the sphere nearest `points`."""
    middle = points.mean(0)
    arms = points - middle  # a head far from the origin must not cost digits
    system = np.column_stack([2 * arms, np.ones(len(arms))])
    solution = np.linalg.lstsq(system, (arms**2).sum(1), rcond=None)[0]
    offset = solution[:3]
    radius = float(np.sqrt(max(solution[3] + offset @ offset, 1e-30)))
    deviation = np.abs(np.linalg.norm(arms - offset, axis=1) - radius).max() / radius
    return middle + offset, radius, float(deviation)


def unit(vector: Floats) -> Floats:
    """Scale a vector (..., 3) to length one (a zero vector stays zero)."""
    length = np.linalg.norm(vector, axis=-1, keepdims=True)
    return np.asarray(vector / np.maximum(length, 1e-30))


def vertex_normals(
    positions: NDArray[np.floating[Any]], triangles: NDArray[np.integer[Any]]
) -> Floats:
    """Area-weighted unit normals (V, 3)."""
    a, b, c = (positions[triangles[:, k]] for k in range(3))
    face = np.cross(b - a, c - a)
    corner = triangles.T.ravel()
    total = [np.bincount(corner, np.tile(face[:, axis], 3), len(positions)) for axis in range(3)]
    return unit(np.stack(total, axis=1))


def smoothstep(value: NDArray[np.floating] | float, low: float = 0.0, high: float = 1.0) -> Floats:
    """Rise from 0 at `low` to 1 at `high` with zero first and second derivative at both ends."""
    x = np.clip((np.asarray(value, dtype=np.float64) - low) / (high - low), 0.0, 1.0)
    return np.asarray(x * x * x * (x * (6 * x - 15) + 10))


def rotate(points: Reals, centre: Reals, axis: Reals, angle: Reals) -> Reals:
    """Turn points (..., 3) about the line through `centre` along `axis` by angle (...) radians.

    Rodrigues' formula; right-handed about the unit vector `axis`.
    """
    dtype = points.dtype
    axis, centre = (axis / np.linalg.norm(axis)).astype(dtype), centre.astype(dtype)
    arm = points - centre
    along = (arm @ axis)[..., None] * axis
    across = arm - along
    side = np.cross(axis, across).astype(dtype)
    cosine, sine = np.cos(angle)[..., None].astype(dtype), np.sin(angle)[..., None].astype(dtype)
    return np.asarray(centre + along + across * cosine + side * sine)
