# SPDX-License-Identifier: GPL-3.0-or-later
"""The slits of a character's face: lips that must meet, lids that must close, on its own edges.

`B` places along a slit, `N` vertices of the character.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .controls import CONTROLS
from .head_frame import LIFE_EYE_DISTANCE
from .mesh import Floats, Integers
from .registration import NO_BALL, Target, edge_curve, lid_ends

Shapes = NDArray[np.float32]

TOUCH = 0.014
"""How far lips and lids that meet overlap, in eye distances (0.9 mm)."""

FACING = 0.07
"""How near to each other vertices of both lips are that touch at rest, in eye distances."""

Spots = tuple[Integers, Floats]
"""Points of a surface: the corners (B, 3) of their triangles and the weights (B, 3) of these."""


@dataclass(frozen=True)
class Opening:
    """A lip or lid slit of the character: its two edges and the vertices of both sides."""

    ends: tuple[Floats, Floats]
    """Left and right corner."""
    places: Floats
    """Where the edges are read, -1 right … 1 left (B,)."""
    edges: tuple[Spots, Spots]
    """Points of the upper and the lower edge (B)."""
    sides: Integers
    """+1 upper, -1 lower, 0 neither (N,)."""

    def gaps(self, positions: Floats) -> Floats:
        """Return upper minus lower height (B,)."""
        upper, lower = ((positions[at, 1] * shares).sum(1) for at, shares in self.edges)
        return np.asarray(upper - lower)

    def widest(self, positions: Floats) -> float:
        """Return the gap that nine in ten of the middle places keep below."""
        return float(np.percentile(self.gaps(positions)[np.abs(self.places) < 0.7], 90))

    def place(self, positions: Floats) -> Floats:
        """Return where vertices lie between the corners (N,)."""
        left, right = self.ends
        middle = (left[0] + right[0]) / 2
        return np.asarray((positions[:, 0] - middle) / (left[0] - right[0]) * 2)


def find_opening(target: Target, which: int | None = None) -> Opening | None:
    """Read the mouth's slit, or that of the left (0) or right (1) eye; None where it has none."""
    points, samples = target.points, target.samples
    if which is None:
        ends = points["corner_left"], points["corner_right"]
        sides, ball = target.lips, None
    else:
        ends = lid_ends(target, which)
        sides, ball = target.lids[which], target.eyes[which] or NO_BALL
    label = sides[samples.main]
    common = np.linspace(-0.9, 0.9, 25)
    edges: list[Spots] = []
    for sign in (1, -1):
        place, curve = edge_curve(samples, label, ends, sign, ball)
        if len(place) < 8:
            return None
        ids = np.flatnonzero(label == sign)
        goals = np.stack([np.interp(common, place, curve[:, k]) for k in range(3)], axis=1)
        near = [ids[((samples.positions[ids] - point) ** 2).sum(1).argmin()] for point in goals]
        edges.append((samples.corners[near], samples.shares[near]))
    return Opening(ends, common, (edges[0], edges[1]), np.where(target.skin, sides, 0))


def tighten(shape: Shapes, opening: Opening, before: Floats, goal: Floats, limit: float) -> None:
    """Scale a closing shape (N, 3) along its slit, in place, until the edges meet.

    `before` (N, 3) is the face without the shape, `goal` (B,) the gaps wanted.  What one place
    wants is smoothed along the slit; no more than `limit` is added or taken.
    """
    start = opening.gaps(before)
    place, mine = opening.place(before), opening.sides != 0
    kernel = np.array([1.0, 2.0, 3.0, 4.0, 3.0, 2.0, 1.0]) / 16
    total = np.ones(len(goal))
    for _ in range(4):  # smoothing along the slit takes back a part of each round
        travel = start - opening.gaps(before + shape)
        scale = np.where(travel > 0.01, (start - goal) / np.maximum(travel, 0.01), 1.0)
        scale = np.convolve(np.pad(scale, 3, mode="edge"), kernel, mode="valid")
        new = np.clip(total * scale, 1 / (1 + limit), 1 + limit)
        factor = np.interp(place, opening.places, new / total)
        total = new
        shape *= np.where(mine, factor, 1.0)[:, None].astype(np.float32)


def facing_lips(target: Target) -> Integers:
    """Return pairs (n, 2) of upper and lower vertices that lie against each other at rest."""
    p, points = target.mesh.positions, target.points
    left, right = points["corner_left"], points["corner_right"]
    middle, half = (left + right) / 2, float(np.linalg.norm(left - right)) / 2
    near = target.skin & (np.linalg.norm(p - middle, axis=1) < 1.1 * half)
    near &= p[:, 2] > middle[2] - 0.1
    upper, lower = (np.flatnonzero(near & (target.lips == sign)) for sign in (1, -1))
    if not len(upper) or not len(lower):
        return np.empty((0, 2), dtype=np.int64)
    away = np.linalg.norm(p[upper][:, None] - p[lower][None], axis=2)
    one, other = away.argmin(1), away.argmin(0)
    mutual = (other[one] == np.arange(len(upper))) & (away.min(1) < FACING)
    return np.stack([upper[mutual], lower[one[mutual]]], axis=1)


def close_lips(target: Target, shapes: Shapes) -> None:
    """Let mouthClose undo what jawOpen opens, on the character's own edges."""
    p = target.mesh.positions
    mouth = find_opening(target)
    if mouth is not None:
        jaw = shapes[CONTROLS.index("jawOpen")]
        goal = np.minimum(mouth.gaps(p), -TOUCH)
        tighten(shapes[CONTROLS.index("mouthClose")], mouth, p + jaw, goal, 0.6)


def measure(target: Target, shapes: Shapes) -> dict[str, float]:
    """Measure what the shapes do, in millimetres of a life-size head."""
    p, mm = target.mesh.positions, 1000 * LIFE_EYE_DISTANCE
    jaw, close = (shapes[CONTROLS.index(name)] for name in ("jawOpen", "mouthClose"))
    found: dict[str, float] = {}
    mouth = find_opening(target)
    if mouth is not None:
        found["rest"] = float(mouth.widest(p)) * mm
        found["opening"] = float(mouth.widest(p + jaw)) * mm
        found["sealed"] = float(mouth.widest(p + jaw + close)) * mm
        half = p + 0.5 * (jaw + close)
        found["half sealed"] = float(mouth.widest(half)) * mm
    for which, side in enumerate(("Left", "Right")):
        eye = find_opening(target, which)
        if eye is not None:
            shut = p + shapes[CONTROLS.index(f"eyeBlink{side}")]
            found[f"eye {side.lower()}"] = float(eye.widest(p)) * mm
            found[f"shut {side.lower()}"] = float(eye.widest(shut)) * mm
    return found
