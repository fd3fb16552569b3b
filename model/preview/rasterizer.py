# SPDX-License-Identifier: GPL-3.0-or-later
"""Triangles → picture with numpy alone: scan-line spans, a z-buffer, Gouraud light.

Good enough to look at motion without Blender and fast enough to make films of it (some tens of
frames a second at 384 pixels on one core). All triangles of a frame are handled at once: every
triangle is cut into rows, every row into pixels, and the nearest fragment of each pixel wins.

``V`` vertices, ``T`` triangles, ``R`` rows, ``N`` fragments. Screen space: x right, y down in
pixels, z towards the viewer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.integer[Any]]

BACKGROUND = (0.30, 0.33, 0.37)
LIGHTS = (  # direction towards the light in camera space, linear colour
    ((-0.48, 0.52, 0.71), (0.86, 0.82, 0.78)),
    ((0.85, 0.12, 0.45), (0.20, 0.22, 0.26)),
    ((0.00, -0.80, 0.35), (0.07, 0.06, 0.06)),
)
AMBIENT_SKY = (0.30, 0.32, 0.36)
AMBIENT_GROUND = (0.17, 0.15, 0.14)
FAR = np.float32(-1e30)


@dataclass(frozen=True)
class Camera:
    """A perspective camera that looks at ``target``."""

    rotation: Floats
    """(3, 3) rows: right, up and towards the viewer, in the scene's axes."""
    target: Floats
    """(3,) the point in the middle of the picture."""
    half: float
    """Half of the picture's height at the target's depth, in scene units."""
    distance: float
    """Viewer to target, in scene units."""

    def project(self, vertices: Floats, size: int) -> Floats:
        """Return (V, 3) pixel x, pixel y and depth (larger is nearer) in a square picture."""
        local = (vertices - self.target) @ self.rotation.T  # (V,3)
        scale = self.distance / np.maximum(self.distance - local[:, 2], 0.05 * self.distance)
        out = np.empty_like(local, dtype=np.float32)
        out[:, 0] = (local[:, 0] * scale / self.half * 0.5 + 0.5) * size
        out[:, 1] = (0.5 - local[:, 1] * scale / self.half * 0.5) * size
        out[:, 2] = scale  # monotonic in depth and linear on screen, unlike depth itself
        return out


def light(normals: Floats, gloss: Floats | None = None) -> Floats:
    """Return (V, 3) light that reaches a surface with these camera-space normals.

    ``gloss`` (V,) adds a highlight from the first light; it comes back in the same array because
    the highlight of skin, teeth and eyes alike is near white.
    """
    sky = (normals[:, 1:2] + 1) / 2
    total = sky * np.array(AMBIENT_SKY, np.float32) + (1 - sky) * np.array(
        AMBIENT_GROUND, np.float32
    )
    for direction, colour in LIGHTS:
        towards = np.array(direction, np.float32) / np.float32(np.linalg.norm(direction))
        wrapped = np.clip((normals @ towards + 0.15) / 1.15, 0, None)
        total = total + wrapped[:, None] * np.array(colour, np.float32)
    if gloss is not None:
        half = np.array(LIGHTS[0][0], np.float32) + np.array((0, 0, 1), np.float32)
        half /= np.linalg.norm(half)
        total = total + (gloss * np.clip(normals @ half, 0, None) ** 40)[:, None]
    return total.astype(np.float32)


@dataclass
class Canvas:
    """A square picture being drawn, with the depth of what is nearest so far."""

    size: int
    picture: Floats
    """(size², 3) linear."""
    depth: Floats
    """(size²,) larger is nearer."""

    @classmethod
    def blank(cls, size: int) -> Canvas:
        """Return an empty canvas."""
        picture = np.empty((size * size, 3), np.float32)
        picture[:] = np.array(BACKGROUND, np.float32)
        return cls(size, picture, np.full(size * size, FAR))

    def copy(self) -> Canvas:
        """Return a canvas that can be drawn on without changing this one."""
        return Canvas(self.size, self.picture.copy(), self.depth.copy())


def rasterize(
    canvas: Canvas, points: Floats, triangles: Integers, front: Floats, back: Floats
) -> None:
    """Draw triangles with smooth colours onto a canvas.

    ``points`` (V, 3) come from `Camera.project`; ``front`` (V, 3) are the lit colours of the outer
    side, ``back`` those of the inner side, chosen per triangle by the sense it turns on screen.
    """
    size = canvas.size
    points, triangles, turn = _visible(points, triangles, size)
    if not len(triangles):
        return
    depth = _planes(points, triangles, points[:, 2:3])  # (T,3,1)
    owner, column, row = _fragments(points, triangles, size)
    plane = depth[owner, :, 0]  # (N,3)
    z = plane[:, 0] * column + plane[:, 1] * row + plane[:, 2]
    pixel = row.astype(np.int64) * size + column.astype(np.int64)
    np.maximum.at(canvas.depth, pixel, z)
    won = np.flatnonzero(z == canvas.depth[pixel])
    colours = np.where(
        (turn < 0)[:, None, None],
        _planes(points, triangles, front),
        _planes(points, triangles, back),
    ).astype(np.float32)  # (T,3,3)
    plane = colours[owner[won]]
    canvas.picture[pixel[won]] = (
        plane[:, 0] * column[won, None] + plane[:, 1] * row[won, None] + plane[:, 2]
    )


def _visible(points: Floats, triangles: Integers, size: int) -> tuple[Floats, Integers, Floats]:
    """Drop triangles that are off the picture or have no area; also return twice their area."""
    corner = points[triangles]  # (T,3,3)
    low, high = corner[:, :, :2].min(1), corner[:, :, :2].max(1)
    edge1, edge2 = corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]
    turn = edge1[:, 0] * edge2[:, 1] - edge1[:, 1] * edge2[:, 0]
    inside = (high > 0).all(1) & (low < size).all(1) & (np.abs(turn) > 1e-6)
    return points, triangles[inside], turn[inside]


def _planes(points: Floats, triangles: Integers, values: Floats) -> Floats:
    """Return (T, 3, C) coefficients of ``a·x + b·y + c`` through the corners' values."""
    p, value = points[triangles], values[triangles]  # (T,3,3) (T,3,C)
    e1, e2 = p[:, 1, :2] - p[:, 0, :2], p[:, 2, :2] - p[:, 0, :2]
    v1, v2 = value[:, 1] - value[:, 0], value[:, 2] - value[:, 0]
    turn = (e1[:, 0] * e2[:, 1] - e1[:, 1] * e2[:, 0])[:, None]
    a = (v1 * e2[:, 1:2] - v2 * e1[:, 1:2]) / turn
    b = (v2 * e1[:, 0:1] - v1 * e2[:, 0:1]) / turn
    c = value[:, 0] - a * p[:, 0, 0:1] - b * p[:, 0, 1:2]
    return np.stack([a, b, c], 1)


def _fragments(points: Floats, triangles: Integers, size: int) -> tuple[Integers, Floats, Floats]:
    """Return every covered pixel centre as (triangle, column, row), each (N,)."""
    corner = points[triangles][:, :, :2]
    first = np.ceil(np.clip(corner[:, :, 1].min(1), 0, size)).astype(np.int64)
    last = np.floor(np.clip(corner[:, :, 1].max(1), -1, size - 1)).astype(np.int64)
    owner, row = _runs(first, last - first + 1)
    y = row.astype(np.float32)
    left = np.full(len(owner), np.float32(size))
    right = np.full(len(owner), np.float32(-1))
    for k in range(3):
        x0, y0 = corner[:, k].T
        x1, y1 = corner[:, (k + 1) % 3].T
        drop = np.where(y1 == y0, 1, y1 - y0)
        slope = ((x1 - x0) / drop)[owner]
        x = x0[owner] + (y - y0[owner]) * slope
        on = (np.minimum(y0, y1)[owner] <= y) & (y <= np.maximum(y0, y1)[owner])
        on &= (y0 != y1)[owner]
        left = np.where(on, np.minimum(left, x), left)
        right = np.where(on, np.maximum(right, x), right)
    start = np.ceil(np.clip(left, 0, size)).astype(np.int64)
    stop = np.floor(np.clip(right, -1, size - 1)).astype(np.int64)
    span, column = _runs(start, stop - start + 1)
    return owner[span], column.astype(np.float32), y[span]


def _runs(start: Integers, count: Integers) -> tuple[Integers, Integers]:
    """Return (index, value) of the integers ``start[i] … start[i] + count[i] - 1`` for every i."""
    count = np.maximum(count, 0)
    index = np.repeat(np.arange(len(start)), count)
    before = np.cumsum(count) - count
    return index, np.arange(len(index)) - before[index] + start[index]
