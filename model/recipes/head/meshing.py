# SPDX-License-Identifier: GPL-3.0-or-later
"""Mend a triangle mesh: one sense of turning, mirrored halves, better edges, even spacing.

Development only (the demo head is made with it); plain loops where arrays would not be clearer.
``V`` vertices, ``T`` triangles.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import sculpt
from .sculpt import Array

Integers = NDArray[np.integer[Any]]
Edges = dict[tuple[int, int], tuple[int, int]]
"""Directed edge → its triangle and that triangle's third corner."""

MIRROR = np.array([-1.0, 1.0, 1.0])


def orient(points: Array, triangles: Integers) -> Integers:
    """Return triangles (T, 3) that all turn the same way, front faces towards +Z on the whole."""
    beside: dict[tuple[int, int], list[int]] = {}
    for number, face in enumerate(triangles.tolist()):
        for k in range(3):
            a, b = face[k], face[(k + 1) % 3]
            beside.setdefault((min(a, b), max(a, b)), []).append(number)
    faces = triangles.tolist()
    done = [False] * len(faces)
    for seed in range(len(faces)):
        queue = [] if done[seed] else [seed]
        done[seed] = True
        while queue:
            face = faces[queue.pop()]
            for k in range(3):
                a, b = face[k], face[(k + 1) % 3]
                for other in beside[min(a, b), max(a, b)]:
                    if not done[other]:
                        turned = faces[other]
                        if (a, b) in zip(turned, turned[1:] + turned[:1], strict=True):
                            faces[other] = turned[::-1]
                        done[other] = True
                        queue.append(other)
    result = np.array(faces)
    corner = points[result]
    outward = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    side = (outward * (corner.mean(1) - [0, 0, -0.01])).sum()
    return result if side > 0 else result[:, ::-1].copy()


def mirror_pairs(
    points: Array, triangles: Integers, middle: Integers
) -> tuple[Array, Integers, Integers]:
    """Double a left half: return points, triangles and each vertex's partner (V,)."""
    points = points.copy()
    points[middle, 0] = 0
    count = len(points)
    own = np.setdiff1d(np.arange(count), middle)
    partner = np.arange(count)
    partner[own] = count + np.arange(len(own))
    faces = np.r_[triangles, partner[triangles][:, ::-1]]
    both = np.arange(count + len(own))
    both[:count] = partner
    both[partner[own]] = own
    return np.r_[points, points[own] * MIRROR], faces, both


def flip_edges(
    points: Array, triangles: Integers, mirror: Integers, fixed: NDArray[np.bool_], passes: int = 3
) -> Integers:
    """Turn edges whose opposite angles sum to more than half a turn, on both sides alike."""
    faces = triangles.copy()
    for _ in range(passes):
        edges: Edges = {}
        for number, (a, b, c) in enumerate(faces.tolist()):
            edges[a, b], edges[b, c], edges[c, a] = (number, c), (number, a), (number, b)
        used: set[int] = set()
        for (a, b), (one, c) in edges.items():
            if a > b or (b, a) not in edges or (fixed[a] and fixed[b]):
                continue
            two, d = edges[b, a]
            ma, mb, mc, md = (int(mirror[k]) for k in (a, b, c, d))
            if ma == b or {ma, mb} == {a, b} or (c, d) in edges or (d, c) in edges:
                continue  # the middle's own edges stay, and no edge is made twice
            if (mb, ma) not in edges or (ma, mb) not in edges:
                continue
            three, four = edges[mb, ma][0], edges[ma, mb][0]
            if {one, two, three, four} & used or len({one, two, three, four}) < 4:
                continue
            if _better_flipped(points, a, b, c, d):
                faces[one], faces[two] = (c, d, b), (d, c, a)
                faces[three], faces[four] = (md, mc, mb), (mc, md, ma)
                used |= {one, two, three, four}
        if not used:
            break
    return faces


def _better_flipped(points: Array, a: int, b: int, c: int, d: int) -> bool:
    """Return whether c–d parts the quad better than a–b, without folding it over."""

    def angle(apex: int) -> float:
        u, v = points[a] - points[apex], points[b] - points[apex]
        cosine = u @ v / np.sqrt((u @ u) * (v @ v))
        return float(np.arccos(min(1.0, max(-1.0, cosine))))

    if angle(c) + angle(d) <= np.pi + 0.02:
        return False
    before = np.cross(points[b] - points[a], points[c] - points[a])
    first = np.cross(points[d] - points[c], points[b] - points[c])
    second = np.cross(points[c] - points[d], points[a] - points[d])
    return bool(before @ first > 0 and before @ second > 0)


def relax(
    points: Array,
    triangles: Integers,
    mirror: Integers,
    fixed: NDArray[np.bool_],
    pull: float = 0.5,
) -> Array:
    """Move free vertices towards their neighbours' mean, back onto the sculpture, symmetrically."""
    total, count = np.zeros_like(points), np.zeros(len(points))
    for i, j in ((0, 1), (1, 2), (2, 0)):
        for a, b in ((i, j), (j, i)):
            np.add.at(total, triangles[:, a], points[triangles[:, b]])
            np.add.at(count, triangles[:, a], 1)
    mean = total / np.maximum(count, 1)[:, None]
    moved = points.copy()
    moved[~fixed] = sculpt.project(points[~fixed] + pull * (mean - points)[~fixed], 3)
    moved = 0.5 * (moved + moved[mirror] * MIRROR)
    moved[fixed] = points[fixed]
    return np.asarray(moved)


def spacing(loop: Array) -> Array:
    """Return the longer of the two edges (C,) at each vertex of a loop (C, 3)."""
    ahead = np.linalg.norm(np.roll(loop, -1, 0) - loop, axis=1)
    ahead[-1] = min(ahead[-1], ahead[-2])  # the mouth's is open
    return np.asarray(np.maximum(ahead, np.roll(ahead, 1)))


def in_polygon(points: Array, outline: Array) -> NDArray[np.bool_]:
    """Return which points (N, 2) lie inside a closed outline (C, 2), by counting crossings."""
    x, y = points.T
    inside = np.zeros(len(points), bool)
    for (x0, y0), (x1, y1) in zip(outline, np.roll(outline, -1, 0), strict=True):
        if y0 != y1:
            inside ^= ((y0 > y) != (y1 > y)) & (x < (x1 - x0) * (y - y0) / (y1 - y0) + x0)
    return inside
