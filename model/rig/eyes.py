# SPDX-License-Identifier: GPL-3.0-or-later
"""Eyelids: the rings of an eye socket, its corners, and how far each lid vertex turns.

A lid turns about the axis through the eyeball's centre along the line of the eye's corners, so it
keeps its distance from the ball whatever the blink.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import FaceError
from .head_frame import Eye
from .mesh import Connectivity, Floats, Integers, unit
from .surface import Surface

RINGS = 14

CLEAR_OF_BALL = 1.02
"""Mean distance, in ball radii, from which a socket ring counts as lying outside the ball."""

REACH = 0.34
"""How far from the lid margin the lids' motion reaches, in eye distances."""


@dataclass(frozen=True)
class Lids:
    """The two lids of one eye, in the canonical frame."""

    eye: Eye
    """The ball that the lids cover."""
    rings: list[list[int]]
    """Rings around the bottom of the socket, from the inside out."""
    margin: int
    """Ring of the outer edge of the lid margin."""
    inner: int
    """Vertex of the inner (nasal) corner."""
    outer: int
    """Vertex of the outer corner."""
    upper: list[int]
    """Margin vertices of the upper lid."""
    lower: list[int]
    """Margin vertices of the lower lid."""
    axis: Floats
    """Unit vector along the corners, towards the subject's left, level in depth (3,)."""


def read_lids(
    positions: Floats, connectivity: Connectivity, eye: Eye, margin: int | None = None
) -> Lids:
    """Read the lids around the socket of `eye`; canonical positions (V, 3).

    `margin` is the margin's ring where it is known; otherwise the first one clear of the ball,
    plus 1.
    """
    rings = connectivity.rings([eye.apex], RINGS)
    if len(rings) < 10 or len(rings[2]) < 12:
        raise FaceError(
            "The eye sockets of this head are not built as rings that close behind the eye.",
            "Use a FLAME-topology head, or one built like the demo head.",
        )
    if margin is None:
        margin = 1 + _first_clear_ring(positions, rings, eye)
    ring = rings[margin]
    rightmost, leftmost = (ring[int(f(positions[ring, 0]))] for f in (np.argmin, np.argmax))
    sign = np.sign(eye.centre[0])
    inner, outer = (rightmost, leftmost) if sign > 0 else (leftmost, rightmost)
    between = set(ring) - {inner, outer}
    aside = np.abs(positions[:, 0] - eye.centre[0])
    top = max(between, key=lambda v: positions[v, 1] - aside[v])
    bottom = min(between, key=lambda v: positions[v, 1] + aside[v])
    upper = connectivity.within([top], between - {bottom})
    lower = connectivity.within([bottom], between - upper)
    axis = unit((positions[outer] - positions[inner]) * np.array([1.0, 1.0, 0.0]) * sign)
    return Lids(eye, rings, margin, inner, outer, sorted(upper), sorted(lower), axis)


def _first_clear_ring(positions: Floats, rings: list[list[int]], eye: Eye) -> int:
    """Return the first ring that lies outside the ball (ring 3 on FLAME topology)."""
    for number in range(2, 8):
        away = np.linalg.norm(positions[rings[number]] - eye.centre, axis=1).mean()
        if away > CLEAR_OF_BALL * eye.radius:
            return number
    return 3


def lid_angles(positions: Floats, surface: Surface, lids: Lids) -> Floats:
    """Full-travel angles (V, 2) of each vertex, radians about `lids.axis`.

    Column 0 brings the upper margin down onto the lower one, column 1 the lower margin up onto the
    upper one (negative).  Blinks, squints and gaze use fractions of the two.
    """
    arm = positions - lids.eye.centre
    front = unit(np.array([0.0, 0.0, 1.0]) - lids.axis * lids.axis[2])
    above = np.cross(front, lids.axis)
    turn = np.arctan2(arm @ above, arm @ front)
    lateral = arm @ lids.axis
    top, bottom = _margin_lines(lids, lateral, turn)
    handles, values = [lids.eye.apex], [(0.0, 0.0)]
    for number in range(1, lids.margin + 1):
        share = min(1.0, number / max(lids.margin - 1, 1))
        for v in lids.rings[number]:
            high, low = np.interp(lateral[v], *top), np.interp(lateral[v], *bottom)
            if number == lids.margin:
                side = (v in lids.upper) - (v in lids.lower)
            else:
                side = 1 if turn[v] > (high + low) / 2 else -1
            travel = share * (high - low)
            handles.append(v)
            values.append((travel * (side == 1), -travel * (side == -1)))
    margin = lids.rings[lids.margin]
    free = np.zeros(len(positions), dtype=bool)
    free[[v for ring in lids.rings[lids.margin + 1 : 13] for v in ring]] = True
    free &= surface.distance(margin, 0.6) < REACH
    return surface.extend(handles, values, free)


def _margin_lines(
    lids: Lids, lateral: Floats, turn: Floats
) -> tuple[tuple[Floats, Floats], tuple[Floats, Floats]]:
    """Return the upper and the lower margin as (lateral, angle) polylines from corner to corner."""
    ends = sorted((lids.inner, lids.outer), key=lambda v: lateral[v])
    lines = []
    for lid in (lids.upper, lids.lower):
        chain: Integers = np.array([ends[0], *sorted(lid, key=lambda v: lateral[v]), ends[1]])
        lines.append((lateral[chain], turn[chain]))
    return lines[0], lines[1]
