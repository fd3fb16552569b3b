# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the lips meet: they seal at any jaw opening, do not cross, and tuck for f and v.

Works on pairs of facing vertices of the contact ring.  Their displacements spread over the
surrounding skin by fixed smooth weights, so the whole of it costs one small matrix product per
frame. Legend: `F` frames, `P` pairs, `N` skin vertices that follow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .head_frame import LIFE_EYE_DISTANCE
from .lip_shapes import nose_stiffness
from .mesh import Floats, Integers
from .topology import FaceTopology

Array = NDArray[np.floating]
Strengths = Mapping[str, Array]

MM = 1e-3 / LIFE_EYE_DISTANCE
"""A millimetre of a life-size head, in eye distances."""

OVERLAP = 0.016
"""Overlap of sealed lips in the middle, in eye distances: soft tissue is pressed flat at contact
(Löfqvist & Gracco 1997), and a mere touch would show slits on a polygon mesh."""

LOWER_SHARE = 0.66
"""Part of a closing motion that the lower lip makes."""

SOFTNESS = 0.012
"""Range over which lips that collide, or meet the teeth, begin to give way, in eye distances."""

REACH = 1.35
"""How far the skin follows, in half mouth widths."""


@dataclass(frozen=True)
class Teeth:
    """Edge of the upper incisors: a parabola-like arch in the canonical frame."""

    edge: float
    """Height of the biting edge."""
    front: float
    """Depth of the edge on the midline."""
    half_width: float
    """Where the arch turns back."""
    depth: float
    """How far the arch runs back."""

    def arch(self, lateral: Array) -> Array:
        """Depth of the edge at lateral positions (...)."""
        share = np.clip(lateral / self.half_width, -0.995, 0.995)
        return np.asarray(self.front - self.depth * (1 - np.sqrt(1 - share**2)))


@dataclass(frozen=True)
class LipContact:
    """Contact pairs of one head and how their motion spreads."""

    upper: Integers
    """Upper vertices of the pairs (P,)."""
    lower: Integers
    """Lower vertices of the pairs (P,)."""
    along: Floats
    """Arc coordinate of the pairs (P,)."""
    rest: Floats
    """Upper minus lower at rest (P, 3)."""
    closed: Floats
    """Upper minus lower when sealed (P, 3)."""
    follow: Integers
    """Skin vertices that follow (N,)."""
    spread: Floats = field(repr=False)
    """Weight of each upper, then each lower contact vertex at each follower (N, 2P)."""
    teeth: Teeth
    """Upper incisors, real or estimated."""

    def solve(self, upper: Array, lower: Array, strengths: Strengths) -> Array:
        """Return displacements (F, 2P, 3) of the contact vertices now at upper, lower (F, P, 3).

        `strengths` gives mouthClose, mouthPucker, mouthFunnel, mouthRoll* and lipTuck as (F, 1).
        """
        seal = self._sealing(strengths)
        gap = upper - lower
        push = np.zeros_like(gap)
        free = 1 - np.clip(strengths["mouthRollLower"] + strengths["mouthRollUpper"], 0, 1)
        # Deeper overlap than at rest is pushed apart; zero at rest, smooth around it.
        floor = np.minimum(self.rest[:, 1], 0)
        at_rest = _soft_collision(self.rest[:, 1] - floor)
        spare = gap[..., 1] - floor.astype(gap.dtype)
        push[..., 1] = free * (_soft_collision(spare) - at_rest.astype(gap.dtype))
        change = push + seal[..., None] * (gap - push - self.closed.astype(gap.dtype))
        tuck = self._tucking(strengths)[..., None]
        change *= 1 - tuck
        towards_teeth = tuck * (self._tooth_line(lower) - lower)
        return np.concatenate(
            [(LOWER_SHARE - 1) * change, LOWER_SHARE * change + towards_teeth], axis=1
        )

    def _sealing(self, strengths: Strengths) -> Array:
        """How far each pair closes (F, P): sealed, or pursed from the corners by rounding."""
        round_ = strengths["mouthPucker"] * (1 - 0.6 * strengths["mouthFunnel"])
        purse = np.minimum(round_ * (0.30 + 0.55 * self.along**2).astype(round_.dtype), 0.9)
        return np.asarray(1 - (1 - strengths["mouthClose"]) * (1 - purse))

    def _tucking(self, strengths: Strengths) -> Array:
        """How far each lower vertex goes to the teeth (F, P); a seal comes before a tuck."""
        middle = (1 - self.along**4).astype(strengths["lipTuck"].dtype)
        return strengths["lipTuck"] * middle * (1 - strengths["mouthClose"])

    def _tooth_line(self, lower: Array) -> Array:
        """Where lower-lip vertices (F, P, 3) meet the upper incisors."""
        goal = lower.copy()
        goal[..., 1] = self.teeth.edge + 0.010
        # Back to the teeth where the lip stands before them; it never comes forwards to them.
        before = lower[..., 2] - self.teeth.arch(lower[..., 0]) - 0.030
        goal[..., 2] -= 0.5 * (before + np.hypot(before, SOFTNESS))
        return goal


def _soft_collision(spare: Array) -> Array:
    """Return about min(spare, 0), smooth within `SOFTNESS` and 0 at 0."""
    return np.asarray(0.5 * (spare - np.hypot(spare, SOFTNESS) + SOFTNESS))


def lip_contact(face: FaceTopology, teeth: Teeth | None = None) -> LipContact:
    """Derive the contact of one head; `teeth` where it has its own."""
    mouth, p = face.mouth, face.positions
    upper, lower = mouth.contact_pairs()
    ring = mouth.rings[mouth.contact]
    near = face.surface.distance(ring, 2.2 * face.half_width) < REACH * face.half_width
    known = np.concatenate([upper, lower, mouth.corners[mouth.contact]])
    spread = face.surface.extend(known, np.eye(len(known)), near, stiffness=nose_stiffness(face))
    follow = np.flatnonzero(np.abs(spread).max(1) > 1e-4)
    along = mouth.along[upper]
    rest = p[upper] - p[lower]
    closed = rest.copy()
    overlap = -OVERLAP * np.clip(1 - np.abs(along) ** 6, 0, 1)
    closed[:, 1] = np.minimum(closed[:, 1], overlap)
    closed[:, 0] = np.clip(closed[:, 0], -0.065, 0.065)
    closed[:, 2] = np.clip(closed[:, 2], -0.035, 0.02)
    return LipContact(
        upper, lower, along, rest, closed, follow, spread[follow, : 2 * len(upper)],
        teeth or guess_teeth(face),
    )  # fmt: skip


def guess_teeth(face: FaceTopology) -> Teeth:
    """Guess the upper incisors: 2 mm below the lip line, 1.6 mm behind the lips' inside."""
    mouth = face.mouth
    inside = list(mouth.middles[max(mouth.contact - 1, 0)])
    front = face.positions[inside, 2].min() - 1.6 * MM
    width = min(1.16 * face.half_width, 27 * MM)
    return Teeth(face.mouth_centre[1] - 2.0 * MM, float(front), width, 1.6 * face.half_width)
