# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo head's colours: painted on its vertices, and materials on its triangles.

Linear colours. Where mesh edges follow the form (lips, lids, iris), so does the paint.
``V`` vertices, ``T`` triangles.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...rig.demo_head import Floats, Integers
from . import hair, loops
from .sculpt import Array
from .skin import Skin

SKIN = np.array([0.640, 0.395, 0.295])
LIPS = np.array([0.500, 0.205, 0.170])
MOUTH_INSIDE = np.array([0.260, 0.060, 0.060])
FLUSH = np.array([0.600, 0.290, 0.230])
LIDS = np.array([0.520, 0.275, 0.215])
LID_EDGE = np.array([0.330, 0.150, 0.125])
NOSTRIL = np.array([0.110, 0.035, 0.030])
HAIR_SHADE = np.array([0.330, 0.185, 0.125])
SCLERA = np.array([0.760, 0.735, 0.715])
SCLERA_CORNER = np.array([0.660, 0.470, 0.440])
IRIS_RIM = np.array([0.020, 0.042, 0.055])
IRIS = np.array([0.085, 0.185, 0.215])
IRIS_INNER = np.array([0.200, 0.230, 0.150])
PUPIL = np.array([0.004, 0.004, 0.005])
MATERIALS = ("skin", "eye", "iris", "pupil")


@dataclass(frozen=True)
class Paint:
    """Colours of vertices and materials of triangles."""

    colours: Floats
    """(V, 3) linear."""
    material: Integers
    """(T,) index into ``materials``."""
    materials: tuple[str, ...] = MATERIALS


def paint(skin: Skin, vertices: Floats, triangles: Integers) -> Paint:
    """Return the face's paint; vertices (V, 3) are the skin's, then two equal eyeballs'."""
    count = len(skin.vertices)
    coat = _skin(skin)
    ball = (len(vertices) - count) // 2
    centre = vertices[count : count + ball].astype(np.float64)
    eye, eye_material = _eyeball(centre, triangles[len(skin.triangles) :][: _half(skin, triangles)])
    material = np.zeros(len(triangles), np.int32)
    material[len(skin.triangles) :] = np.r_[eye_material, eye_material]
    return Paint(np.r_[coat, eye, eye].astype(np.float32), material)


def _half(skin: Skin, triangles: Integers) -> int:
    """Return the number of triangles of one eyeball."""
    return (len(triangles) - len(skin.triangles)) // 2


def _skin(skin: Skin) -> Array:
    """Return the skin's colours (V, 3): flushed cheeks, lips, lids, shade under brows and hair."""
    points = skin.vertices
    coat = np.tile(SKIN, (len(points), 1))

    def tint(colour: Array, centre: tuple[float, float, float], reach: float, much: float) -> None:
        away = np.linalg.norm(np.abs(points * [1, 0, 0]) + points * [0, 1, 1] - centre, axis=1)
        _blend(coat, slice(None), colour, much * np.exp(-((away / reach) ** 2)))

    tint(FLUSH, (0.038, -0.030, 0.068), 0.022, 0.55)  # cheeks
    tint(FLUSH, (0.0, -0.037, 0.108), 0.013, 0.60)  # tip of the nose
    tint(FLUSH, (0.0, -0.092, 0.088), 0.016, 0.30)  # chin
    tint(LIDS, (0.031, 0.006, 0.076), 0.0135, 0.45)
    tint(LIDS, (0.026, -0.010, 0.078), 0.0110, 0.30)
    tint(NOSTRIL, (0.0066, -0.0430, 0.0940), 0.0042, 0.50)
    scalp = hair.covered(points)
    _blend(coat, slice(None), HAIR_SHADE * 0.45, 0.92 * scalp)
    tint(MOUTH_INSIDE, (0.0715, -0.014, -0.012), 0.0085, 0.45)  # the ear's bowl
    for part in _brow_line():
        tint(HAIR_SHADE, part, 0.0052, 0.35)
    for number, ring in enumerate(skin.mouth):
        red = (1, 1, 1, 1, 1, 1, 1, 0.97, 0.62, 0.14, 0.0)[number]
        colour = MOUTH_INSIDE if number < 3 else LIPS * (0.80 if number == 3 else 1)
        _blend(coat, _both(ring, skin), colour, red)
    for number, ring in enumerate(skin.eye):
        strength = (1, 1, 1, 0.85, 0.25, 0.12, 0, 0, 0)[number]
        _blend(coat, _both(ring, skin), LID_EDGE, strength)
    for number, ring in enumerate(skin.nostril):
        _blend(coat, _both(ring, skin), NOSTRIL, (1, 1, 0.9, 0.45, 0.0)[number])
    return coat


def _brow_line() -> list[tuple[float, float, float]]:
    """Return points along the left brow; the skin under its hairs is darker."""
    return [(0.015, 0.0185, 0.083), (0.024, 0.0210, 0.081), (0.033, 0.0228, 0.077),
            (0.041, 0.0215, 0.070)]  # fmt: skip


def _both(ring: Integers, skin: Skin) -> Integers:
    """Return a left ring's vertices and their mirror images."""
    return np.unique(np.r_[ring, skin.mirror[ring]])


def _blend(coat: Array, where: Integers | slice, colour: Array, much: float | Array) -> None:
    """Mix a colour into some vertices, in place."""
    share = np.asarray(much)[..., None] if np.ndim(much) else much
    coat[where] = coat[where] * (1 - share) + colour * share


def _eyeball(points: Array, triangles: Integers) -> tuple[Array, Integers]:
    """Return the colours (546, 3) and materials of the left eyeball; the right one has the same."""
    local = points - loops.EYE_CENTRE
    radius = np.linalg.norm(local, axis=1)
    angle = np.arccos(np.clip(local[:, 2] / radius, -1, 1))
    colours = np.tile(SCLERA, (len(points), 1))
    sides = np.clip(np.abs(local[:, 0]) / radius - 0.55, 0, 1) * 2.2
    _blend(colours, slice(None), SCLERA_CORNER, np.clip(sides, 0, 0.8))
    inside = (angle - loops.PUPIL) / (loops.IRIS - loops.PUPIL)  # 0 pupil, 1 rim
    around = np.arctan2(local[:, 1], local[:, 0])
    fibre = 0.82 + 0.18 * np.sin(16 * around + 2.0 * np.sin(5 * around))
    iris = IRIS_INNER + (IRIS - IRIS_INNER) * np.clip(inside * 1.8, 0, 1)[:, None]
    iris = iris * fibre[:, None]
    rim = np.clip((inside - 0.72) / 0.28, 0, 1)[:, None]
    iris = iris * (1 - rim) + IRIS_RIM * rim
    colours = np.where((inside < 1.02)[:, None], iris, colours)
    colours = np.where((inside < 0.04)[:, None], PUPIL, colours)
    corner = triangles - triangles.min()
    middle = angle[corner].mean(1)
    material = np.where(middle < loops.IRIS, 2, 1)
    return colours, np.where(middle < loops.PUPIL, 3, material).astype(np.int32)
