# SPDX-License-Identifier: GPL-3.0-or-later
"""Ways in which a character may face, the likeliest first: a head is its own mirror image.

In Blender's axes, up is +Z; a character that stands turned in the scene has its mirror plane
anywhere about it.  One that lies is tried along its own object's axes.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .any_mesh import AnyMesh, Mask
from .mesh import Floats, unit

SPOTS = 700
"""Points of the skin that are compared with their mirror images."""

STEP = np.radians(4.0)
"""Between the planes that are tried at first."""

STRAIGHT, TURNED = np.radians(3.0), np.radians(8.0)
"""A plane so near an axis is taken to be meant along it; from the second on, it is tried first …"""

CLEARLY = 0.75
"""… where both halves agree better by this factor.  Faces are crooked by a few degrees."""


def facings(mesh: AnyMesh, skin: Mask, own: Floats) -> Iterator[Floats]:
    """Yield rows left, up and front (3, 3) for a mesh in Blender's axes.

    `own` (3, 3) are the directions of the face's object's axes as columns.
    """
    spots = _spots(mesh, skin)
    tried: list[Floats] = []
    for up in [np.array([0.0, 0.0, 1.0]), *(unit(own[:, k]) for k in (2, 1))]:
        if any(up @ other > 0.99 for other in tried):
            continue
        tried.append(up)
        yield from _about(up, spots)


def _about(up: Floats, spots: Floats) -> Iterator[Floats]:
    """Yield the facings about one direction that is up, by how well both halves agree."""
    ahead = np.eye(3)[int(np.abs(up).argmin())]
    if abs(up[2]) > 0.9:
        ahead = np.array([0.0, -1.0, 0.0])  # what most characters look along
    front = unit(ahead - (ahead @ up) * up)
    left = np.cross(up, front)
    local = spots @ np.stack([left, up, front]).T
    local = local[local[:, 1] > _head(local)]
    angles = np.arange(0, np.pi, STEP)
    error = np.array([_asymmetry(local, angle) for angle in angles])
    best = float(angles[error.argmin()])
    fine = best + np.linspace(-STEP, STEP, 9)
    best = float(fine[np.argmin([_asymmetry(local, angle) for angle in fine])])
    quarter = round(best / (np.pi / 2)) * (np.pi / 2)
    turned = abs(best - quarter) > TURNED
    turned &= _asymmetry(local, best, 12) < CLEARLY * _asymmetry(local, quarter, 12)
    planes = [best, quarter] if turned else [quarter, best]
    if abs(best - quarter) < STRAIGHT:
        planes = [quarter]
    for angle in [*planes, planes[0] + np.pi / 2]:
        turn = (angle + np.pi / 4) % np.pi - np.pi / 4
        for facing in (turn, turn + np.pi):
            x, z = np.cos(facing), np.sin(facing)
            yield np.stack([x * left + z * front, up, x * front - z * left])


def _spots(mesh: AnyMesh, skin: Mask) -> Floats:
    """Return points (n, 3) spread evenly over the skin, the upper part of it more densely."""
    faces = mesh.triangles[skin[mesh.triangles].all(1)]
    p = mesh.positions[faces]
    area = np.linalg.norm(np.cross(p[:, 1] - p[:, 0], p[:, 2] - p[:, 0]), axis=1)
    random = np.random.default_rng(0)
    chosen = random.choice(len(faces), 12 * SPOTS, p=area / area.sum())
    share = random.dirichlet([1.0, 1.0, 1.0], len(chosen))
    return np.asarray(np.einsum("nk,nkc->nc", share, p[chosen]))


def _head(local: Floats) -> float:
    """Return the height above which head and shoulders are (up is the second axis)."""
    height = local[:, 1]
    top, tall = float(height.max()), float(np.ptp(height))
    cap = local[height > top - 0.06 * tall]
    return top - max(2.0 * float(np.ptp(cap[:, [0, 2]], axis=0).max()), 1e-9)


def _asymmetry(local: Floats, angle: float, dense: int = 1) -> float:
    """Return how far points (n, 3) are from their mirror images about an upright plane.

    `dense` times as many points are looked at as images.
    """
    some = local[:: max(1, len(local) // SPOTS)]
    across = np.array([np.cos(angle), 0.0, np.sin(angle)])
    side = some @ across
    middle = (side.min() + side.max()) / 2
    image = some - 2 * (side - middle)[:, None] * across
    there = local[:: max(1, len(local) // (dense * SPOTS))]
    square = (image**2).sum(1)[:, None] - 2 * image @ there.T + (there**2).sum(1)
    return float(np.sqrt(np.maximum(square.min(1), 0)).mean())
