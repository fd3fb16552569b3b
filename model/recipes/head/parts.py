# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo head's ears, brows, lashes and hair, laid onto the sculpted skin.

Hair, brows and lashes are tufts: tapered strips along a path, thick enough to look like a
sculptor's locks and light enough for any viewport. Metres in `sculpt`'s axes; left, then mirrored.

``N`` vertices, ``P`` points of a path, ``C`` columns.
"""

from __future__ import annotations

import numpy as np

from ...rig.demo_head import Integers, Part
from . import loops, sculpt
from .mouth_inside import outward, tube
from .sculpt import Array
from .skin import cast

MM = 1e-3
MIRROR = np.array([-1.0, 1.0, 1.0])


def still(
    vertices: Array, triangles: Integers, material: str, root: Integers | None = None
) -> Part:
    """Return a part that stays on the skull, or is rooted in face triangles (N, 3)."""
    count = len(vertices)
    return Part(
        vertices=vertices.astype(np.float32),
        triangles=np.asarray(triangles, np.int32),
        material=material,
        jaw=np.zeros(count, np.float32),
        anchor=np.zeros(count, np.int32),
        pull=np.zeros(count, np.float32),
        root=np.zeros((0, 3), np.int32) if root is None else root.astype(np.int32),
    )


def _both_sides(vertices: Array, triangles: Integers) -> tuple[Array, Integers]:
    """Add the right side to the left."""
    return (
        np.r_[vertices, vertices * MIRROR],
        np.r_[triangles, triangles[:, ::-1] + len(vertices)],
    )


def tuft(path: Array, normals: Array, width: float, thickness: float, sides: int) -> Array:
    """Return a tapered strip's vertices: P-1 rings of ``sides``, then the tip.

    It starts at ``path[0]``, is thickest at a third, and lies flat on the surface whose normals
    (P, 3) are given.
    """
    along = np.gradient(path, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    across = np.cross(normals, along)
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    out = np.cross(along, across)
    turn = 2 * np.pi * np.arange(sides) / sides
    place = np.linspace(0, 1, len(path))[:-1]
    swell = np.minimum(1, 0.55 + 1.6 * place) * np.clip(1 - place**1.9, 0, 1) ** 0.8
    rings = [
        path[k]
        + swell[k] * width / 2 * np.outer(np.cos(turn), across[k])
        + swell[k] * thickness / 2 * np.outer(np.sin(turn), out[k])
        for k in range(len(path) - 1)
    ]
    return np.concatenate([*rings, path[-1:]])


def tuft_triangles(points: int, sides: int) -> Integers:
    """Return the triangles of `tuft`: its rings, its tip and its blunt end."""
    side = np.arange(sides)
    last = sides * (points - 2)
    tip = np.c_[last + side, last + (side + 1) % sides, np.full(sides, sides * (points - 1))]
    end = np.c_[np.zeros(sides - 2, int), side[2:], side[1:-1]]
    return np.concatenate([tube(points - 1, sides), tip, end]).astype(np.int32)


def _gather(tufts: list[Array], points: int, sides: int) -> tuple[Array, Integers]:
    """Join equal tufts into one mesh."""
    one = tuft_triangles(points, sides)
    one = outward(tufts[0], one)
    count = len(tufts[0])
    return np.concatenate(tufts), np.concatenate([one + k * count for k in range(len(tufts))])


# -- ears -----------------------------------------------------------------------------------------

EAR_COLUMNS = 40
EAR_HALF = np.array([0.0168, 0.0305])
EAR_PROFILE = (
    # radius (of the outline), height above the ear's plane (mm), the same in the lobe
    (0.93, -3.6, -2.6),  # back of the rim
    (1.00, -1.4, -1.2),
    (1.00, 0.6, 0.4),  # rim
    (0.95, 1.6, 1.2),
    (0.88, 0.9, 1.5),
    (0.82, -1.5, 1.5),  # furrow behind the rim
    (0.73, -1.9, 1.3),
    (0.63, 0.2, 1.0),  # antihelix
    (0.54, 0.0, 0.5),
    (0.47, -2.6, -1.0),  # bowl
    (0.37, -5.4, -4.5),
    (0.22, -7.0, -6.5),
    (0.08, -8.5, -8.0),
)
BOWL_EDGE = 9
"""Row of the profile where the bowl begins; up to it the front of the ear runs along the cheek."""


def ears() -> Part:
    """Return both ears: foot on the skin, up the back, over the rim, down into the bowl."""
    turn = 2 * np.pi * np.arange(EAR_COLUMNS) / EAR_COLUMNS
    c, s = np.cos(turn), np.sin(turn)  # c: 1 back, -1 front; s: 1 top
    lobe = np.clip((-s - 0.45) / 0.35, 0, 1)
    front = np.clip((-c - 0.30) / 0.45, 0, 1)
    front = front * front * (3 - 2 * front)
    outline = np.c_[
        EAR_HALF[0] * np.sign(c) * np.abs(c) ** 0.85 * (1 + 0.14 * s)
        - 0.0035 * np.clip(-s, 0, 1) ** 2,
        EAR_HALF[1] * s * (1 - 0.06 * np.clip(c, 0, 1)),
    ]
    outline[:, 0] *= 1 - 0.18 * lobe
    origin, axes = _ear_frame()
    foot = _ear_foot(turn, origin, axes)
    rings = [foot[0], foot[1]]
    bowl = np.array([-0.0030, -0.0030])
    edge = bowl * (1 - EAR_PROFILE[BOWL_EDGE][0]) + outline * EAR_PROFILE[BOWL_EDGE][0]
    for row, (radius, height, low) in enumerate(EAR_PROFILE):
        flat = bowl * (1 - min(radius, 1)) + outline * radius
        lift = (height * (1 - lobe) + low * lobe) * MM
        ring = origin + flat @ axes[:2] + np.outer(lift, axes[2])
        cheek = _on_cheek(foot[1], origin + edge @ axes[:2], axes[2], row / BOWL_EDGE, s)
        keep = front * np.clip((BOWL_EDGE + 1 - row) / 2, 0, 1)
        rings.append(ring * (1 - keep[:, None]) + cheek * keep[:, None])
    vertices = np.concatenate([*rings, rings[-1].mean(0, keepdims=True)])
    side, last = np.arange(EAR_COLUMNS), EAR_COLUMNS * (len(rings) - 1)
    fan = np.c_[
        last + side, last + (side + 1) % EAR_COLUMNS, np.full(EAR_COLUMNS, len(vertices) - 1)
    ]
    triangles = np.concatenate([tube(len(rings), EAR_COLUMNS), fan])
    return still(*_both_sides(vertices, triangles), "skin")


def _ear_frame() -> tuple[Array, Array]:
    """Return the ear's origin on the skin and its axes: backwards, upwards, outwards (rows)."""
    origin = cast(np.radians([97.0]), np.array([-0.012]))[0]
    normal = sculpt.gradient(origin[None])[0]
    up = np.array([0, np.cos(0.16), -np.sin(0.16)])
    up -= normal * (up @ normal)
    up /= np.linalg.norm(up)
    back = np.cross(up, normal)
    back *= -np.sign(back[2])
    flare = np.radians(27)
    backwards = np.cos(flare) * back + np.sin(flare) * normal
    outwards = np.cos(flare) * normal - np.sin(flare) * back
    axes = np.stack([backwards, up, outwards])
    return origin + 0.013 * np.sin(flare) * normal, axes


def _ear_foot(turn: Array, origin: Array, axes: Array) -> tuple[Array, Array]:
    """Return two rings (C, 3) where the ear grows out of the skin; the first lies just under it."""
    rings = []
    for scale, lift in ((1.12, -0.0006), (1.0, 0.0004)):
        flat = np.c_[0.0125 * np.cos(turn) - 0.0045, 0.0235 * np.sin(turn)] * scale
        ring = sculpt.project(origin + flat @ axes[:2], 12)
        rings.append(ring + lift * sculpt.gradient(ring))
    return rings[0], rings[1]


def _on_cheek(foot: Array, edge: Array, outwards: Array, along: float, s: Array) -> Array:
    """Return a row's front part (C, 3), ``along`` the way from the foot to the bowl's edge.

    It stays on the cheek, but for the tragus, the little flap before the ear's hole.
    """
    t = min(1.0, along)
    ring = sculpt.project(foot * (1 - t) + edge * t, 12)
    tragus = np.exp(-(((s + 0.12) / 0.32) ** 2)) * np.exp(-(((along - 0.80) / 0.22) ** 2))
    return ring + np.outer(0.0008 * t + 0.0040 * tragus, outwards)


# -- brows and lashes -----------------------------------------------------------------------------


def brows(face: Array, seed: int = 3) -> Part:
    """Return both brows, each hair carried along by the skin under it."""
    generator = np.random.default_rng(seed)
    count, points, sides = 110, 5, 3
    flat, skull = [], []  # anchored above the brow, where the lid's skin does not pull
    for k in range(count):
        u = (k + generator.uniform(0, 1)) / count
        v = generator.uniform(-1, 1)
        lean = np.radians(np.interp(u, [0, 0.15, 0.5, 1], [68, 38, 14, -20]) - 16 * v)
        length = np.interp(u, [0, 0.2, 0.7, 1], [5.5, 7.5, 8.0, 5.0]) * MM
        step = np.linspace(0, length * generator.uniform(0.85, 1.15), points)
        bend = lean - np.radians(22) * (step / step[-1])
        skull.append(_brow_point(u, 0.0) + np.array([0, 5.0 * MM]))
        flat.append(_brow_point(u, v) + np.c_[np.cos(bend), np.sin(bend)] * step[:, None])
    skin = sculpt.front(np.concatenate(flat))
    normals = sculpt.gradient(skin).reshape(count, points, 3)
    lift = np.sin(np.linspace(0.15, 0.9, points) * np.pi)[:, None] * 0.9 * MM + 0.2 * MM
    paths = skin.reshape(count, points, 3) + normals * lift
    tufts = [
        tuft(path, normal, 1.25 * MM, 0.55 * MM, sides)
        for path, normal in zip(paths, normals, strict=True)
    ]
    roots = list(sculpt.front(np.array(skull)))
    vertices, faces = _both_sides(*_gather(tufts, points, sides))
    part = still(vertices, faces, "brows")
    part.anchor[:] = _nearest(roots, len(tufts[0]), face)
    part.pull[:] = 1.0
    return part


def _brow_point(u: float, v: float) -> Array:
    """Return (x, y) at u along the brow (0 nose, 1 temple) and v across it (-1..1)."""
    x = 0.0125 + 0.0355 * u
    arch = np.interp(u, [0, 0.25, 0.5, 0.68, 0.85, 1], [17.2, 19.6, 21.8, 22.8, 21.8, 19.2]) * MM
    half = np.interp(u, [0, 0.12, 0.45, 0.75, 1], [2.2, 2.9, 2.5, 1.6, 0.5]) * MM
    return np.array([x, arch + half * v])


def _nearest(roots: list[Array], each: int, face: Array) -> Integers:
    """Return the nearest skin vertex (N,) for tufts of ``each`` vertices, both sides."""
    left = np.asarray(roots)
    both = [np.linalg.norm(face - root, axis=1).argmin() for root in np.r_[left, left * MIRROR]]
    return np.repeat(both, each)


def _rooted(roots: list[Array], each: int, face: Array, triangles: Integers) -> Integers:
    """Return the nearest triangle's corners (N, 3) for tufts of ``each`` vertices, both sides."""
    left = np.asarray(roots)
    middle = face[triangles].mean(1)
    away = [np.linalg.norm(middle - root, axis=1).argmin() for root in np.r_[left, left * MIRROR]]
    return np.repeat(triangles[away], each, 0)


def lashes(edge: Array, face: Array, triangles: Integers, seed: int = 5) -> Part:
    """Return both eyes' lashes, along the left lid's edge (30, 3) and mirrored, rooted there."""
    generator = np.random.default_rng(seed)
    points, sides = 5, 3
    tufts, roots = [], []
    for lower, count, size, reach in ((False, 40, 6.8, 0.90), (True, 20, 2.6, 0.74)):
        for k in range(count):
            u = 0.03 + reach * (k + generator.uniform(0.2, 0.8)) / count  # outer to inner corner
            column = u * 15 if not lower else 30 - u * 15
            root = _along(edge, column)
            out = root - loops.EYE_CENTRE
            out /= np.linalg.norm(out)
            fan = np.array([(0.5 - u) * 0.9, -0.35 if lower else 0.30, 0.55])
            way = out + fan
            way /= np.linalg.norm(way)
            length = size * MM * np.interp(u, [0, 0.3, 0.8, 1], [0.9, 1.0, 0.72, 0.45])
            length *= generator.uniform(0.85, 1.1)
            step = np.linspace(0, 1, points)[:, None]
            lift = np.array([0, -0.10 if lower else 0.45, 0])
            path = root + length * (way * step + lift * step**2)
            normals = np.tile(np.cross(way, [1.0, 0, 0]), (points, 1))
            tufts.append(tuft(path, normals, 0.55 * MM, 0.35 * MM, sides))
            roots.append(root)
    vertices, faces = _gather(tufts, points, sides)
    vertices, faces = _both_sides(vertices, faces)
    return still(vertices, faces, "lashes", _rooted(roots, len(tufts[0]), face, triangles))


def _along(ring: Array, column: float) -> Array:
    """Return the point of a closed ring (C, 3) at a fractional column."""
    low = int(np.floor(column)) % len(ring)
    part = column - np.floor(column)
    return np.asarray(ring[low] * (1 - part) + ring[(low + 1) % len(ring)] * part)
