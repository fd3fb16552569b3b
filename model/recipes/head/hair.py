# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo head's hair: short locks that grow from a whorl at the crown, over a dark cap.

The scalp is measured in polar coordinates about the whorl: ``s`` radians away from it and ``phi``
around (0 towards the forehead). Locks are laid like roof tiles, row over row, a fringe last.
"""

from __future__ import annotations

import numpy as np

from ...rig.demo_head import Part
from . import sculpt
from .mouth_inside import tube
from .parts import MM, _gather, still, tuft
from .sculpt import Array
from .skin import _axis_depth, cast

CENTRE = np.array([0.0, 0.030, -0.012])
WHORL = np.array([0.10, 0.86, -0.50]) / np.linalg.norm([0.10, 0.86, -0.50])
HAIRLINE_TURN = np.radians([0, 20, 38, 52, 64, 74, 82, 90, 100, 112, 124, 138, 155, 180])
HAIRLINE = MM * np.array([70, 71, 66, 50, 26, 6, -6, -4, 16, 10, -30, -56, -66, -68])
"""Chart height v of the hair's edge, at angles from the face's middle to the back."""
POINTS, SIDES = 9, 6
SWEEP = 0.75
"""How far (radians around the whorl) the fringe falls to the left."""
ROWS = ((0.01, 10), (0.10, 22), (0.22, 34), (0.35, 44), (0.48, 50), (0.60, 54), (0.72, 58))
"""Where rows of locks start, as a part of the way to the hairline, and how many there are."""


def _basis() -> tuple[Array, Array]:
    """Return the directions phi = 0 (forward) and phi = 90° (left) at the whorl."""
    ahead = np.array([0, 0, 1.0]) - WHORL * WHORL[2]
    ahead /= np.linalg.norm(ahead)
    return ahead, np.cross(WHORL, ahead)


def scalp(s: Array, phi: Array) -> Array:
    """Return the skin points (N, 3) at polar places."""
    ahead, left = _basis()
    direction = (
        np.cos(s)[:, None] * WHORL
        + (np.sin(s) * np.cos(phi))[:, None] * ahead
        + (np.sin(s) * np.sin(phi))[:, None] * left
    )
    return sculpt.march(np.broadcast_to(CENTRE, direction.shape), direction, 0.2)


class Hairline:
    """How far hair reaches from the whorl, in every direction."""

    def __init__(self) -> None:
        line = cast(HAIRLINE_TURN, HAIRLINE)
        phi, s = np.linspace(-np.pi, np.pi, 97), np.linspace(0.3, 2.6, 70)
        places = np.stack(np.meshgrid(s, phi, indexing="ij"), -1).reshape(-1, 2)
        points = scalp(*places.T)
        turn = np.abs(np.arctan2(points[:, 0], points[:, 2] - _axis_depth(points[:, 1])))
        below = points[:, 1] < np.interp(turn, HAIRLINE_TURN, line[:, 1])
        reach = s[np.argmax(below.reshape(len(s), len(phi)), 0)]
        for _ in range(2):  # no kinks
            reach[1:-1] = (reach[:-2] + 2 * reach[1:-1] + reach[2:]) / 4
        self.phi, self.reach = phi, reach

    def at(self, phi: Array) -> Array:
        """Return the distance s of the hairline (N,) at angles phi (N,)."""
        return np.asarray(np.interp((phi + np.pi) % (2 * np.pi) - np.pi, self.phi, self.reach))


def covered(points: Array) -> Array:
    """Return how far skin points (N, 3) lie under the hair: 0 outside, 1 well inside."""
    ahead, left = _basis()
    away = points - CENTRE
    away = away / np.linalg.norm(away, axis=1, keepdims=True)
    s = np.arccos(np.clip(away @ WHORL, -1, 1))
    place = s / Hairline().at(np.arctan2(away @ left, away @ ahead))
    return np.asarray(np.clip((1.0 - place) / 0.08, 0, 1))


def hair(seed: int = 11) -> list[Part]:
    """Return the cap and the locks."""
    line = Hairline()
    return [_cap(line), _locks(line, np.random.default_rng(seed))]


def _cap(line: Hairline) -> Part:
    """Return a close shell that hides the scalp between the locks."""
    columns, rows = 72, 16
    phi = 2 * np.pi * np.arange(columns) / columns
    rings = []
    for row in range(rows):
        t = (row + 0.02) / (rows - 1)
        points = scalp(line.at(phi) * 0.955 * min(t, 1.0), phi)
        lift = 3.0 * MM * np.sqrt(max(0.0, 1 - t**6)) - 0.8 * MM * t**6
        rings.append(points + lift * sculpt.gradient(points))
    vertices = np.concatenate(rings)
    return still(vertices, tube(rows, columns)[:, ::-1], "hair")


def _locks(line: Hairline, generator: np.random.Generator) -> Part:
    """Return the locks of all rows: each leaves the scalp, arches over roots and comes down."""
    places, widths = _lock_places(line, generator)
    flat = places.reshape(-1, 2)
    base = scalp(*flat.T)
    normals = sculpt.gradient(base).reshape(*places.shape[:2], 3)
    base = base.reshape(normals.shape)
    volume = np.interp(base[:, :1, 1], [-0.06, 0.02, 0.09], [0.50, 0.80, 1.25])
    t = np.linspace(0, 1, POINTS)
    lift = (1.5 + 6.5 * np.sin(np.pi * np.clip(0.10 + 0.78 * t, 0, 1)) ** 0.9) * MM * volume
    lift = lift * generator.uniform(0.80, 1.25, (len(places), 1))
    paths = base + normals * lift[..., None]
    tufts = [
        tuft(path, normal, width, 4.2 * MM * float(thick), SIDES)
        for path, normal, width, thick in zip(paths, normals, widths, volume[:, 0], strict=True)
    ]
    vertices, triangles = _gather(tufts, POINTS, SIDES)
    return still(vertices, triangles, "hair")


def _lock_places(line: Hairline, generator: np.random.Generator) -> tuple[Array, Array]:
    """Return every lock's path as s and phi (L, P, 2), and its width (L,) in metres."""
    t = np.linspace(0, 1, POINTS)
    places, widths = [], []
    for row, (start, count) in enumerate(ROWS):
        for k in range(count):
            phi = 2 * np.pi * (k + 0.5 * (row % 2) + generator.uniform(-0.3, 0.3)) / count
            forward = (1 + np.cos(phi)) / 2
            begin = start + generator.uniform(-0.03, 0.03)
            length = (0.46 + 0.12 * forward**2) * generator.uniform(0.8, 1.2)
            end = min(begin + length, 1.0 + 0.10 * forward**4 + generator.uniform(-0.05, 0.05))
            reach = float(line.at(np.array([phi]))[0])
            s = reach * np.maximum(begin + (end - begin) * t, 0.01)
            sweep = SWEEP * forward**1.5 + 0.16 * generator.uniform(-1, 1)
            turn = phi + sweep * t**1.4 * min(1.0, 0.35 / max(0.15, np.sin(min(s[0], 1.5))))
            places.append(np.stack([s, turn], 1))
            girth = 2 * np.pi * np.sin(min(max(s[3], 0.25), 1.5)) * 0.085
            widths.append(min(1.75 * girth / count, 0.0125) * generator.uniform(0.8, 1.25))
    return np.array(places), np.array(widths)
