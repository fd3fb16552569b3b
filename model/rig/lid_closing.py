# SPDX-License-Identifier: GPL-3.0-or-later
"""Close a character's lids on its own edges: each slides over the eyeball until both meet.

Lids are the finest part of a face and of every mesh another: what is carried from a fitted skin
closes them, but ragged.  Here the angle about the eyeball at which each edge stands is read along
the slit; every vertex of a lid turns by what its edge turns, less towards the brow and the cheek;
turning about the ball's centre, none gets nearer to the ball than it was.

`N` vertices of the character, `B` places along a slit.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .any_mesh import AnyMesh
from .controls import CONTROLS
from .mesh import Floats, smoothstep, unit
from .openings import TOUCH, Opening, Shapes, find_opening, tighten
from .registration import Target

UPPER_SHARE = 0.85
"""Part of the way that the upper lid makes."""

EDGE, FOLD = 0.3, 1.3
"""Way along the skin from its edge, in heights of the slit, up to which a lid moves as its edge
does, and from which it stays."""


def close_lids(target: Target, balls: list[tuple[Floats, float]], shapes: Shapes) -> None:
    """Make the blinks of a character with these eyeballs, left and right, in place."""
    p = target.mesh.positions
    for which, side in enumerate(("Left", "Right")):
        eye = find_opening(target, which)
        if eye is not None:
            shape = shapes[CONTROLS.index(f"eyeBlink{side}")]
            shape[target.skin] = blink(target.mesh, eye, balls[which])[target.skin]
            tighten(shape, eye, p, np.full(len(eye.places), -TOUCH), 0.3)


def blink(mesh: AnyMesh, opening: Opening, ball: tuple[Floats, float]) -> NDArray[np.float32]:
    """Return how vertices (N, 3) move when the lids at an opening close over a ball."""
    positions, (centre, radius) = mesh.positions, ball
    axes = _axes(opening)
    arm = (positions - centre) @ axes.T
    angle, far = np.arctan2(arm[:, 1], arm[:, 2]), np.hypot(arm[:, 1], arm[:, 2])
    upper, lower = (_edge_angles(opening, k, positions - centre, axes) for k in (0, 1))
    gap = _calm(np.maximum(upper - lower, 0.0))
    over = TOUCH / radius * np.minimum(gap / max(float(gap.max()), 1e-6) * 2, 1.0)
    place = opening.place(positions)
    turn = np.zeros(len(positions))
    height = radius * float(gap.max())
    ways = -UPPER_SHARE * gap - over / 2, (1 - UPPER_SHARE) * gap + over / 2
    for sign, (corners, _), way in zip((1, -1), opening.edges, ways, strict=True):
        mine = opening.sides == sign
        beyond = mesh.distance(np.unique(corners), 1.5 * FOLD * height)[mine]
        share = 1 - smoothstep(np.minimum(beyond, 9.0), EDGE * height, FOLD * height)
        turn[mine] = share * _along(place[mine], opening.places, way)
    for _ in range(2):  # two neighbours that differ much make a spike
        turn -= 0.5 * mesh.graph.rest(turn) * (turn != 0)
    away = np.linalg.norm(arm, axis=1) / radius
    turn *= (1 - smoothstep(away, 1.4, 2.1)) * smoothstep(arm[:, 2], -0.2 * radius, 0.25 * radius)
    moved = np.stack([arm[:, 0], far * np.sin(angle + turn), far * np.cos(angle + turn)], axis=1)
    return np.asarray(np.where(turn[:, None] != 0, (moved - arm) @ axes, 0.0), dtype=np.float32)


def _axes(opening: Opening) -> Floats:
    """Return rows along the slit, up and front (3, 3)."""
    left, right = opening.ends
    along = unit(left - right)
    front = unit(np.array([0.0, 0.0, 1.0]) - along[2] * along)
    return np.stack([along, np.cross(front, along), front])


def _edge_angles(opening: Opening, which: int, arms: Floats, axes: Floats) -> Floats:
    """Return the angle about the ball (B,) of the upper (0) or lower (1) edge."""
    at, shares = opening.edges[which]
    arm = (arms[at] * shares[..., None]).sum(1) @ axes.T
    return _calm(np.arctan2(arm[:, 1], arm[:, 2]))


def _calm(values: Floats) -> Floats:
    """Smooth values (B,) along the slit."""
    kernel = np.array([1.0, 2.0, 3.0, 2.0, 1.0]) / 9
    return np.asarray(np.convolve(np.pad(values, 2, mode="edge"), kernel, mode="valid"))


def _along(place: Floats, places: Floats, values: Floats) -> Floats:
    """Interpolate values (B,) at some places, nothing being moved at and beyond the corners."""
    ends = np.concatenate([[-1.05], places, [1.05]])
    return np.asarray(np.interp(place, ends, np.concatenate([[0.0], values, [0.0]])))
