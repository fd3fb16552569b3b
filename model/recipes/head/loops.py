# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo head's hand-laid loops: mouth, eyelids, nostrils, eyeballs.

Where a face moves, edges must follow its muscles, so these parts are rings of quads, as in every
production head (and in FLAME, whose ring counts are kept: the same rig reads both). The rest of
the skin is filled in around them by `headmesh`. Left half only; metres in `sculpt`'s axes.

``R`` rings, ``C`` columns of a ring.
"""

from __future__ import annotations

import numpy as np

from . import sculpt
from .sculpt import Array

EYE_CENTRE = np.array([0.0312, 0.0, 0.0662])
EYE_RADIUS = 0.0128
EYE_COLUMNS = 30
LIDS = np.array([0.0149, 0.0056, 0.0049])
"""Half width of the eye's opening, height of its upper and of its lower arc, metres."""

MOUTH_HEIGHT = -0.0645
MOUTH_HALF = 0.0235
MOUTH_COLUMNS = 17
"""Columns from the upper to the lower middle, both included; the whole ring has 32."""
UPPER_LIP, LOWER_LIP = 0.0080, 0.0096
"""Height of the red of each lip in the middle, metres."""

NOSTRIL_COLUMNS = 12


def eye_loops() -> tuple[Array, list[Array]]:
    """Return the pit's apex behind the eyeball (3,) and 9 rings (30, 3) outwards from it.

    Columns start at the outer corner and go over the upper lid. Rings 0–2 line the pit, 3 is the
    lid's edge, 4–8 the lid's skin, with a crease, until the face.
    """
    angle = 2 * np.pi * np.arange(EYE_COLUMNS) / EYE_COLUMNS
    inner = np.clip(-np.cos(angle), 0, 1)
    width, upper, lower = LIDS
    almond = _almond(angle, width * 0.975, upper - 0.0003, lower - 0.0003)
    rings = [
        EYE_CENTRE + np.c_[almond * 0.5, np.full(EYE_COLUMNS, 0.003)],
        _on_ball(almond * 1.06, 1.0) - [0, 0, 0.0012],
        _on_ball(almond, 1.07),
        _on_ball(_almond(angle, width, upper, lower), 1.165),
    ]
    steps = ((0.0015, 0.10), (0.0034, 0.36), (0.0060, 0.70), (0.0092, 0.95), (0.0125, 1.0))
    for number, (out, flat) in enumerate(steps):
        sideways = 1 - 0.62 * inner**1.5  # little room towards the nose
        outline = _almond(
            angle, width + out * 0.95 * sideways, upper + out * 1.10, lower + out * 0.95
        )
        ring = sculpt.front(outline + EYE_CENTRE[:2])
        if number < 3:
            ring = _on_ball(outline, 1.20 + 0.02 * number) * (1 - flat) + ring * flat
        if number == 1:  # the crease of the upper lid
            ring = ring - np.outer(np.clip(np.sin(angle), 0, 1) ** 0.8, [0, 0, 0.0011])
        rings.append(ring)
    return EYE_CENTRE.copy(), rings


def _almond(
    angle: Array, width: float | Array, upper: float | Array, lower: float | Array
) -> Array:
    """Return an eye's outline (C, 2): the upper arc peaks nasally, the lower one temporally."""
    c, s = np.cos(angle), np.sin(angle)
    arc = np.abs(s) ** 1.02
    y = np.where(s >= 0, upper * arc * (1 - 0.14 * c), -lower * arc * (1 + 0.10 * c))
    y = y + 0.0010 * c - 0.0009 * np.clip(-c, 0, 1) ** 6  # the outer corner stands higher
    return np.stack([width * c, y], -1)


def _on_ball(outline: Array, radius: float) -> Array:
    """Lift an outline (C, 2) about the eye's centre onto a ball ``radius`` eyeballs wide."""
    depth = (radius * EYE_RADIUS) ** 2 - (outline**2).sum(-1)
    return np.asarray(EYE_CENTRE + np.c_[outline, np.sqrt(np.maximum(depth, 1e-8))])


def mouth_loops() -> list[Array]:
    """Return 11 half rings (17, 3), from inside the mouth outwards, upper middle to lower middle.

    Ring 0 is the open edge inside, 3 the line where the lips meet, 8 the border of the red, 9 and
    10 lie on the face.
    """
    place = np.linspace(-1, 1, MOUTH_COLUMNS)
    side = -np.sign(np.round(place, 6))  # 1 upper, -1 lower, 0 corner
    x = 1 - np.abs(place) ** 1.35  # 0 at the middle, 1 at the corner
    level = MOUTH_HEIGHT + 0.0023 * x**2.6  # corners a touch higher: friendly
    line = level + 0.0006 * (np.exp(-(((x - 0.42) / 0.22) ** 2)) - np.exp(-((x / 0.24) ** 2)))
    surface = sculpt.front(np.c_[x * MOUTH_HALF, np.full(len(x), MOUTH_HEIGHT)])[:, 2]
    inset = 0.0017 + 0.0010 * x**3
    contact = np.c_[MOUTH_HALF * x, line + 0.00001 * side, surface - inset + 0.00025 * side]
    border = _lip_outline(x, side, level, 1.075, UPPER_LIP, LOWER_LIP, 0.0007)
    border = sculpt.front(border) + np.array([0, 0, 0.0005])
    rings = [*_inner_wall(x, side, line, contact), contact]
    bulge = np.where(side > 0, 0.0031, 0.0041) * (1 - x**2) ** 0.45 + 0.0006 * x**2
    for step in (0.17, 0.38, 0.60, 0.81):
        ease = (1 - np.cos(np.pi * step)) / 2
        flat = contact[:, :2] * (1 - ease) + border[:, :2] * ease
        flat[:, 0] += (border[:, 0] - contact[:, 0]) * (step - ease)  # even steps at the corner
        depth = contact[:, 2] * (1 - step) + border[:, 2] * step + bulge * np.sin(np.pi * step)
        rings.append(np.c_[flat, depth])
    rings.append(border)
    for out in (0.0024, 0.0053):
        outline = _lip_outline(
            x, side, level, 1.075 + out * 34, UPPER_LIP + out, LOWER_LIP + out, 0.0007 + out * 0.8
        )
        rings.append(sculpt.front(outline))
    return rings


def _lip_outline(
    x: Array, side: Array, level: Array, width: float, upper: float, lower: float, corner: float
) -> Array:
    """Return a lip outline (C, 2) around the mouth's line, with Cupid's bow above."""
    bow = 1 + 0.10 * (np.exp(-(((x - 0.24) / 0.16) ** 2)) - 0.9 * np.exp(-((x / 0.11) ** 2)))
    lens = np.clip(1 - x**2, 0, 1)
    height = np.where(side > 0, upper * lens**0.60 * bow, lower * lens**0.52)
    return np.asarray(np.c_[width * MOUTH_HALF * x, level + side * np.maximum(height, corner)])


def _inner_wall(x: Array, side: Array, line: Array, contact: Array) -> list[Array]:
    """Return rings 0–2, which fold back from the lips into the mouth."""
    rings = []
    for width, height, depth, corner, sink in (
        (1.060, 0.0083, 0.0145, 0.0055, 0.0),
        (1.020, 0.0044, 0.0105, 0.0030, 0.0004),
        (0.995, 0.0006, 0.0052, 0.0020, 0.0012),  # the lips' touch slopes down inwards
    ):
        y = line - sink + side * height * np.clip(1 - x**2, 0, 1) ** 0.5
        rings.append(np.c_[width * MOUTH_HALF * x, y, contact[:, 2] - depth - corner * x**2])
    return rings


def nostril_loops() -> tuple[Array, list[Array]]:
    """Return the left nostril's innermost point (3,) and 4 rings (12, 3), outwards from it."""
    angle = 2 * np.pi * np.arange(NOSTRIL_COLUMNS) / NOSTRIL_COLUMNS
    forward = np.array([-0.32, 0.12, 0.94])  # the hole's long axis, towards the tip
    inward = np.array([0.10, 0.93, -0.20])  # into the nose
    forward -= inward * (forward @ inward) / (inward @ inward)
    forward /= np.linalg.norm(forward)
    inward /= np.linalg.norm(inward)
    across = np.cross(inward, forward)
    centre = np.array([0.0066, -0.0448, 0.0945])

    def ring(scale: float) -> Array:
        flat = np.c_[np.cos(angle) * 0.0050, np.sin(angle) * 0.0031] * scale
        return np.asarray(centre + flat @ np.stack([forward, across]))

    rim = sculpt.project(ring(1.0))
    outer = sculpt.project(ring(1.42))
    middle = rim.mean(0)
    rings = [
        middle + (rim - middle) * 0.55 + inward * 0.0070,
        middle + (rim - middle) * 0.85 + inward * 0.0030,
        rim,
        outer,
    ]
    return middle + inward * 0.0085, rings


EYE_LATITUDES = np.radians(
    [5, 9.5, 11, 15, 19.5, 24, 27.5, 29, 33, 40, 50, 62, 78, 96, 116, 136, 158]
)
"""Polar angles of the eyeball's rings; pairs stand close where the pupil and the iris end."""
EYE_SEGMENTS = 32
PUPIL, IRIS = np.radians(10.25), np.radians(28.25)


def eyeball() -> tuple[Array, np.ndarray]:
    """Return the left eyeball's vertices (546, 3) and triangles; its pole looks to the front."""
    around = 2 * np.pi * np.arange(EYE_SEGMENTS) / EYE_SEGMENTS
    rings = [
        np.c_[
            np.sin(a) * np.cos(around), np.sin(a) * np.sin(around), np.full(EYE_SEGMENTS, np.cos(a))
        ]
        for a in EYE_LATITUDES
    ]
    points = np.concatenate([[[0, 0, 1.0]], *rings, [[0, 0, -1.0]]])
    angle = np.arccos(np.clip(points[:, 2], -1, 1))
    points = points * (1 + 0.045 * np.exp(-((angle / np.radians(24)) ** 4)))[:, None]  # cornea
    count, last = len(rings), len(points) - 1
    near = np.arange(EYE_SEGMENTS)
    far = (near + 1) % EYE_SEGMENTS
    triangles = [np.c_[np.zeros_like(near), 1 + near, 1 + far]]
    for k in range(count - 1):
        a, b = 1 + k * EYE_SEGMENTS + near, 1 + k * EYE_SEGMENTS + far
        triangles += [np.c_[a, a + EYE_SEGMENTS, b + EYE_SEGMENTS], np.c_[a, b + EYE_SEGMENTS, b]]
    base = 1 + (count - 1) * EYE_SEGMENTS
    triangles.append(np.c_[np.full_like(near, last), base + far, base + near])
    return EYE_CENTRE + EYE_RADIUS * points, np.concatenate(triangles)
