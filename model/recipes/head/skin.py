# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo head's skin: hand-laid loops, filled in with even triangles, mirrored.

The left half is unrolled onto a chart (θ around the head, v along it), where points are thrown
until they are as dense as `edge_length` wants and Delaunay joins them. Then both halves are
relaxed on the sculpted surface. Development only (SciPy): what ships is the result.

``V`` vertices, ``T`` triangles, ``C`` columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ConfigError
from . import loops as headloops
from . import sculpt
from .meshing import flip_edges, in_polygon, mirror_pairs, orient, relax, spacing
from .sculpt import Array

Integers = NDArray[np.integer[Any]]

SKIN_VERTICES = 3931
CROWN_START = 0.035  # v above which rays fan out like a dome, metres
CROWN_LENGTH = 0.150  # v from there to the top
NECK_END = -0.178
CHART_ASPECT = 0.075  # metres per radian, so that Delaunay's circles are round on the skin
CANDIDATES = 30_000


@dataclass(frozen=True)
class Skin:
    """The head's skin, symmetric about x = 0."""

    vertices: Array
    """(3931, 3) metres."""
    triangles: Integers
    mouth: list[Integers]
    """Left half rings, inside to outside, upper to lower middle."""
    eye: list[Integers]
    """Left eye's rings, pit to face."""
    nostril: list[Integers]
    """Left nostril's apex, then its rings."""
    mirror: Integers
    """(V,) the vertex on the other side."""


def scipy_spatial() -> Any:
    """Return ``scipy.spatial``. Raises ConfigError where SciPy is not installed."""
    try:
        import scipy.spatial
    except ImportError:
        raise ConfigError(
            "Making the demo head anew needs SciPy.", "Install it: pip install scipy."
        ) from None
    return scipy.spatial


# -- the chart ------------------------------------------------------------------------------------


def _smooth(t: Array) -> Array:
    t = np.clip(t, 0, 1)
    return t * t * (3 - 2 * t)


def _tilt(v: Array) -> Array:
    """Return how far rays dip (radians): they look up under the chin, and level out at the neck."""
    return np.asarray(
        np.radians(36) * (_smooth((0.015 - v) / 0.115) - _smooth((-0.100 - v) / 0.078))
    )


def _axis_depth(v: Array) -> Array:
    """Return the chart's axis, z at height v; it leans back into the neck."""
    return np.asarray(-0.004 - 0.22 * np.clip(-0.02 - v, 0, 0.2))


def rays(theta: Array, v: Array) -> tuple[Array, Array]:
    """Return origins and unit directions (N, 3) of chart points."""
    tilt = _tilt(v)
    rise = np.clip((v - CROWN_START) / CROWN_LENGTH, 0, 1) * np.pi / 2
    dome = v > CROWN_START
    sin, cos = np.sin(theta), np.cos(theta)
    direction = np.stack(
        [
            sin * np.cos(rise),
            np.where(dome, np.sin(rise), -np.sin(tilt) * cos),
            np.where(dome, cos * np.cos(rise), np.cos(tilt) * cos),
        ],
        -1,
    )
    direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
    height = np.minimum(v, CROWN_START)
    return np.stack([0 * v, height, _axis_depth(height)], -1), direction


def cast(theta: Array, v: Array) -> Array:
    """Return the skin points (N, 3) at chart points."""
    return sculpt.march(*rays(np.asarray(theta, float), np.asarray(v, float)), 0.20)


def chart(points: Array) -> Array:
    """Return (N, 2) θ and v of points (N, 3) below the crown: `cast` undone, by bisection."""
    low = np.full(len(points), NECK_END - 0.1)
    high = np.full(len(points), CROWN_START)
    for _ in range(50):
        middle = (low + high) / 2
        reached = middle - np.tan(_tilt(middle)) * (points[:, 2] - _axis_depth(middle))
        low = np.where(reached < points[:, 1], middle, low)
        high = np.where(reached < points[:, 1], high, middle)
    v = (low + high) / 2
    depth = (points[:, 2] - _axis_depth(v)) / np.cos(_tilt(v))
    return np.asarray(np.c_[np.arctan2(points[:, 0], depth), v])


# -- filling in -----------------------------------------------------------------------------------

FINE: tuple[tuple[sculpt.Point, float, float], ...] = (
    ((0, -0.040, 0.098), 0.022, 0.0032),  # nose
    ((0.008, -0.044, 0.094), 0.014, 0.0021),  # nostril and wing
    ((0, -0.064, 0.093), 0.034, 0.0036),  # mouth
    ((0.032, 0, 0.075), 0.032, 0.0037),  # eye
    ((0, -0.005, 0.090), 0.020, 0.0042),  # root of the nose
    ((0.030, 0.020, 0.070), 0.030, 0.0052),  # brow
    ((0.030, -0.035, 0.070), 0.030, 0.0052),  # cheek
)
"""Where the mesh is finer: centre, reach and edge length, metres."""


def edge_length(points: Array) -> Array:
    """Return the wanted edge length (N,) at points (N, 3), metres."""
    x, y, z = np.abs(points[:, 0]), points[:, 1], points[:, 2]
    spread = np.maximum(0, np.hypot(x / 0.062, (y + 0.033) / 0.085) - 0.75) / 0.35
    face = np.exp(-(spread**2)) * (z > 0)
    length = 0.0142 * (1 - face) + 0.0072 * face
    for centre, reach, fine in FINE:
        away = np.linalg.norm(np.c_[x, y, z] - centre, axis=-1) / reach
        near = np.exp(-(np.maximum(0, away - 0.5) ** 2) * 3)
        length = np.minimum(length, length * (1 - near) + fine * near)
    return np.asarray(length)


class _Fill:
    """Points between the loops of the left half, at a density that can be turned up and down."""

    def __init__(self, loops: list[Array], mouth: Array, seed: int) -> None:
        """``loops`` (C, 3) are the outermost rings; ``mouth``, the first, touches the middle."""
        generator = np.random.default_rng(seed)
        self.fixed = np.concatenate(loops)
        self.holes = [chart(loop) for loop in loops]
        self.mouth = chart(mouth)
        self.top = CROWN_START + CROWN_LENGTH * 0.93
        self.uv = np.c_[
            generator.uniform(0, np.pi, CANDIDATES),
            generator.uniform(NECK_END, self.top, CANDIDATES),
        ]
        self.points = cast(*self.uv.T)
        self.wanted = edge_length(self.points)
        away, nearest = scipy_spatial().cKDTree(self.fixed).query(self.points)
        apart = np.concatenate([spacing(loop) for loop in loops])[nearest]
        self.free = (away > 0.85 * apart) & ~self.inside_holes(self.uv)

    def inside_holes(self, uv: Array) -> NDArray[np.bool_]:
        """Return which chart points (N, 2) lie inside a loop."""
        closed = [
            np.r_[self.mouth, [[-1, self.mouth[-1, 1]], [-1, self.mouth[0, 1]]]],
            *self.holes[1:],
        ]
        return np.asarray(np.any([in_polygon(uv, outline) for outline in closed], axis=0))

    def boundary(self, density: float) -> Array:
        """Return chart points (N, 2) along the middle, the neck's edge and around the crown."""
        front_low = self._walk(0.0, NECK_END, self.mouth[-1, 1], density)[:-1]
        front_high = self._walk(0.0, self.mouth[0, 1], self.top, density)[1:]
        back = self._walk(np.pi, NECK_END, self.top, density)
        around = np.linspace(0, np.pi, round(16 * density**0.5) + 1)[1:-1]
        crown = np.linspace(0, np.pi, 6)[1:-1]
        front = np.r_[front_low, front_high]
        return np.concatenate(
            [
                np.c_[0 * front, front],
                np.c_[np.full(len(back), np.pi), back],
                np.c_[around, np.full(len(around), NECK_END)],
                np.c_[crown, np.full(len(crown), self.top)],
            ]
        )

    @staticmethod
    def _walk(theta: float, start: float, stop: float, density: float) -> Array:
        """Return v from start to stop along a meridian, spaced as `edge_length` wants."""
        v = np.linspace(start, stop, 1200)
        path = cast(np.full(len(v), theta), v)
        wanted = edge_length(path)
        step = np.linalg.norm(np.diff(path, axis=0), axis=1)
        count = np.r_[0, np.cumsum(0.5 * (1 / wanted[1:] + 1 / wanted[:-1]) * step)]
        pieces = max(2, round(count[-1] * density))
        return np.interp(np.linspace(0, count[-1], pieces + 1), count, v)

    def interior(self, boundary: Array, density: float) -> Integers:
        """Return the candidates that keep their distance from each other and from the boundary."""
        wanted = self.wanted / density * 0.80
        tree = scipy_spatial().cKDTree(np.r_[self.fixed, boundary])
        able = self.free & (tree.query(self.points)[0] > wanted * 0.92)
        order = np.flatnonzero(able)
        tree = scipy_spatial().cKDTree(self.points[order])
        alive = np.ones(len(order), bool)
        chosen = []
        for place, candidate in enumerate(order):  # first come, first served
            if alive[place]:
                chosen.append(candidate)
                alive[tree.query_ball_point(self.points[candidate], wanted[candidate])] = False
        return np.array(chosen)


def build(vertices: int = SKIN_VERTICES, seed: int = 1, rounds: int = 7) -> Skin:
    """Make the skin with exactly so many vertices; a fixed seed gives the same mesh."""
    mouth = headloops.mouth_loops()
    (eye_apex, eye), (nose_apex, nose) = headloops.eye_loops(), headloops.nostril_loops()
    apexes, rings = (eye_apex, nose_apex), (eye, nose)
    loops = [mouth[-1], rings[0][-1], rings[1][-1]]
    fill = _Fill(loops, mouth[-1], seed)
    boundary, extra = _meet_count(fill, vertices, mouth, rings)
    half = _Half(mouth, apexes, rings, fill, boundary, extra)
    points, triangles, mirror = mirror_pairs(half.points, half.triangles(), half.middle())
    fixed = np.zeros(len(points), bool)
    fixed[np.r_[half.laid(), mirror[half.laid()]]] = True
    for _ in range(rounds):
        triangles = flip_edges(points, triangles, mirror, fixed)
        points = relax(points, triangles, mirror, fixed)
    triangles = flip_edges(points, triangles, mirror, fixed)
    return Skin(points, triangles, half.mouth, half.rings[0], half.nostril(), mirror)


def _meet_count(
    fill: _Fill, vertices: int, mouth: list[Array], rings: tuple[list[Array], ...]
) -> tuple[Array, Integers]:
    """Return boundary (N, 2) and interior candidates so that the whole skin has ``vertices``."""
    laid = 2 * (15 * len(mouth) + sum(1 + sum(map(len, each)) for each in rings)) + 2 * len(mouth)
    low, high = 0.5, 2.2
    for _ in range(10):
        density = (low + high) / 2
        boundary = fill.boundary(density)
        extra = fill.interior(cast(*boundary.T), density)
        middle = np.isin(boundary[:, 0], (0, np.pi)).sum()
        count = laid + 1 + middle + 2 * (len(boundary) - middle + len(extra))
        if count < vertices:
            low = density
        else:
            high, best = density, (boundary, extra, count)
    boundary, extra, count = best
    if (count - vertices) % 2:  # one vertex less in the middle of the back
        spare = (boundary[:, 0] == np.pi) & (np.abs(boundary[:, 1]) < 0.05)
        boundary = np.delete(boundary, np.flatnonzero(spare)[0], 0)
        count -= 1
    behind = np.flatnonzero(fill.points[extra][:, 2] < 0)
    surplus = np.random.default_rng(0).choice(behind, (count - vertices) // 2, replace=False)
    return boundary, np.delete(extra, surplus)


class _Half:
    """The left half: its points in one array, and the triangles that join them."""

    def __init__(
        self,
        mouth: list[Array],
        apexes: tuple[Array, ...],
        rings: tuple[list[Array], ...],
        fill: _Fill,
        boundary: Array,
        extra: Integers,
    ) -> None:
        self.pieces: list[Array] = []
        self.count = 0
        self.fill = fill
        self.mouth = [self._take(ring) for ring in mouth]
        self.apexes = [self._take(apex[None]) for apex in apexes]
        self.rings = [[self._take(ring) for ring in each] for each in rings]
        self.edge = self._take(cast(*boundary.T))
        inner = self._take(fill.points[extra])
        self.pole = self._take(cast(np.zeros(1), np.array([CROWN_START + CROWN_LENGTH])))
        self.points = np.concatenate(self.pieces)
        self.boundary = boundary
        self.outer = np.concatenate([self.mouth[-1], *(each[-1] for each in self.rings)])
        self.charted = np.r_[self.outer, self.edge, inner]
        self.uv = np.r_[np.concatenate(fill.holes), boundary, fill.uv[extra]]

    def _take(self, points: Array) -> Integers:
        self.pieces.append(points)
        self.count += len(points)
        return np.arange(self.count - len(points), self.count)

    def nostril(self) -> list[Integers]:
        """Return the nostril's apex and rings."""
        return [self.apexes[1], *self.rings[1]]

    def laid(self) -> Integers:
        """Return the vertices that must stay where they were laid: loops and the neck's edge."""
        neck = self.edge[np.abs(self.boundary[:, 1] - NECK_END) < 1e-9]
        rings = [ring for each in self.rings for ring in each]
        return np.concatenate([*self.mouth, *self.apexes, *rings, neck])

    def middle(self) -> Integers:
        """Return the vertices on x = 0."""
        on = self.edge[np.isin(self.boundary[:, 0], (0, np.pi))]
        ends = [ring[[0, -1]] for ring in self.mouth]
        return np.concatenate([on, self.pole, *ends])

    def triangles(self) -> Integers:
        """Return the half's triangles, facing outwards."""
        plane = self.uv * [CHART_ASPECT, 1]
        simplices = scipy_spatial().Delaunay(plane).simplices
        a, b, c = (plane[simplices[:, k]] for k in range(3))
        area = (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]
        keep = (np.abs(area) > 1e-9) & ~self.fill.inside_holes(self.uv[simplices].mean(1))
        faces = [self.charted[simplices[keep]]]
        crown = self.edge[np.abs(self.boundary[:, 1] - self.fill.top) < 1e-9]
        crown = crown[np.argsort(self.boundary[crown - self.edge[0], 0])]
        faces.append(np.c_[crown[:-1], crown[1:], np.full(len(crown) - 1, self.pole[0])])
        faces += [_strip(a, b, False) for a, b in pairwise(self.mouth)]
        for apex, each in zip(self.apexes, self.rings, strict=True):
            faces += [_strip(a, b, True) for a, b in pairwise(each)]
            inner = each[0]
            faces.append(np.c_[np.full(len(inner), apex[0]), inner, np.roll(inner, -1)])
        return orient(self.points, np.concatenate(faces))


def _strip(one: Integers, other: Integers, closed: bool) -> Integers:
    """Return two triangles per quad between two rings of equal length."""
    after, beyond = np.roll(one, -1), np.roll(other, -1)
    quads = np.concatenate([np.c_[one, after, beyond], np.c_[one, beyond, other]])
    if not closed:
        last = len(one) - 1
        quads = np.delete(quads, [last, last + len(one)], 0)
    return quads
