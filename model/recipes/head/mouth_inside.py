# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo head's mouth inside: teeth, gums, tongue and the dark bag behind the lips.

Placed from the hand-laid mouth loops (`headloops`): the upper incisors end a little below the line
where the lips meet, all teeth stand behind the lips' inner wall. Metres in `sculpt`'s axes.

``N`` vertices of a part.
"""

from __future__ import annotations

import numpy as np

from ...rig.demo_head import Floats, Integers, Part
from .sculpt import Array

MM = 1e-3
WIDTHS = np.array([8.3, 6.6, 7.4, 6.8, 6.6, 9.0, 8.6]) * MM
"""Upper teeth from the middle back: two incisors, canine, two premolars, two molars."""
LOWER_WIDTHS = WIDTHS * [0.63, 0.88, 0.90, 0.98, 1.02, 1.08, 1.08]
HEIGHTS = np.array([9.8, 8.8, 9.8, 8.0, 7.4, 6.9, 6.4]) * MM
DEPTHS = np.array([6.0, 5.5, 6.5, 7.5, 8.0, 9.0, 9.0]) * MM
TOOTH_SIDES, TOOTH_LEVELS = 14, 8
ARCH_WIDTH, ARCH_DEPTH = 0.0245, 0.0400
BEHIND_LIP = 2.2 * MM
EDGE_BELOW_LINE = 1.4 * MM
"""How far the upper incisors' edge lies below the line where the lips meet."""
OVERBITE = 1.2 * MM
OVERJET = 2.4 * MM


def _part(vertices: Array, triangles: Integers, material: str, jaw: float | Array) -> Part:
    """Return a part that follows the jaw bone alone."""
    count = len(vertices)
    return Part(
        vertices=vertices.astype(np.float32),
        triangles=np.asarray(triangles, np.int32),
        material=material,
        jaw=np.broadcast_to(np.float32(jaw), (count,)).copy(),
        anchor=np.zeros(count, np.int32),
        pull=np.zeros(count, np.float32),
        root=np.zeros((0, 3), np.int32),
    )


def join(parts: list[Part]) -> Part:
    """Return one part of several that share a material and are not rooted in the skin."""
    starts = np.cumsum([0] + [len(part.vertices) for part in parts])
    return Part(
        np.concatenate([part.vertices for part in parts]),
        np.concatenate([p.triangles + s for p, s in zip(parts, starts, strict=False)]),
        parts[0].material,
        np.concatenate([part.jaw for part in parts]),
        np.concatenate([part.anchor for part in parts]),
        np.concatenate([part.pull for part in parts]),
        np.concatenate([part.root for part in parts]),
    )


def tube(rows: int, sides: int) -> Integers:
    """Return the triangles between ``rows`` closed rings of ``sides`` vertices each."""
    k = np.arange(sides)
    after = (k + 1) % sides
    quads = [np.c_[k, after, after + sides, k + sides] + row * sides for row in range(rows - 1)]
    quad = np.concatenate(quads)
    return np.concatenate([quad[:, [0, 1, 2]], quad[:, [0, 2, 3]]]).astype(np.int32)


def outward(vertices: Array, triangles: Integers) -> Integers:
    """Return triangles that enclose a positive volume."""
    corner = vertices[triangles] - vertices.mean(0)
    volume = np.einsum("ij,ij->i", corner[:, 0], np.cross(corner[:, 1], corner[:, 2])).sum()
    return triangles if volume > 0 else triangles[:, ::-1].copy()


class _Arch:
    """The curve that a row of teeth stands on: half an ellipse, by length along it."""

    def __init__(self, front: float, width: float, depth: float) -> None:
        turn = np.linspace(0, np.radians(84), 400)
        self.x, self.z = width * np.sin(turn), front - depth * (1 - np.cos(turn))
        step = np.hypot(np.diff(self.x), np.diff(self.z))
        self.length = np.r_[0, np.cumsum(step)]

    def at(self, length: float) -> tuple[Array, Array, Array]:
        """Return place, direction backwards along the arch, and the outward direction."""
        length = min(length, self.length[-1] - MM)
        place, ahead = (
            np.array([np.interp(s, self.length, self.x), 0, np.interp(s, self.length, self.z)])
            for s in (length, length + MM)
        )
        along = (ahead - place) / np.linalg.norm(ahead - place)
        return place, along, np.array([-along[2], 0, along[0]])


def _tooth(number: int, width: float, height: float, depth: float) -> Array:
    """Return one tooth (N, 3) at the origin: x along the arch, y edge to root, z outwards."""
    turn = 2 * np.pi * np.arange(TOOTH_SIDES) / TOOTH_SIDES
    x, z = (np.sign(w) * np.abs(w) ** 0.62 for w in (np.cos(turn), np.sin(turn)))
    incisor, canine = number < 3, number == 2
    rings = []
    for level in np.linspace(0, 1, TOOTH_LEVELS):
        edge = max(0.0, (0.22 - level) / 0.22) ** 2  # the biting edge is rounded
        half = width / 2 * (1 - 0.24 * level**1.4 - (0.30 if canine else 0.10) * edge)
        thick = (0.30 + 0.70 * min(1.0, level * 1.35)) if incisor else (0.80 + 0.20 * level)
        deep = depth / 2 * thick * (1 - 0.25 * edge)
        belly = 0.5 * MM * np.sin(np.pi * level) - 0.35 * MM * edge
        corners = 0.55 * MM * edge * np.abs(x) ** 2 * (2.2 if canine else 1.0)
        rings.append(np.c_[half * x, height * level + corners, deep * (z - 1) + belly])
    cap = rings[0].mean(0) + np.array([0, 0 if incisor else 0.35 * MM, 0])
    return np.concatenate([*rings, cap[None]])


def _tooth_triangles() -> Integers:
    side = np.arange(TOOTH_SIDES)
    cap = np.full(TOOTH_SIDES, TOOTH_SIDES * TOOTH_LEVELS)
    fan = np.c_[(side + 1) % TOOTH_SIDES, side, cap]
    return np.concatenate([tube(TOOTH_LEVELS, TOOTH_SIDES), fan]).astype(np.int32)


def _row(arch: _Arch, edge: float, lower: bool) -> tuple[Array, Integers]:
    """Return one jaw's teeth, both sides."""
    vertices: list[Array] = []
    triangles: list[Integers] = []
    up = -1.0 if lower else 1.0
    widths = LOWER_WIDTHS if lower else WIDTHS
    along = 0.0
    for number, width in enumerate(widths):
        place, back, out = arch.at(along + width / 2)
        along += width
        height = HEIGHTS[number] * (0.90 if lower else 1.0)
        shape = _tooth(number, width * 0.97, height, DEPTHS[number] * (0.9 if lower else 1.0))
        lift = edge + (0.0 if lower else (0.0, 0.5, 0.0, 0.3, 0.6, 1.0, 1.6)[number] * MM)
        world = place + np.outer(shape[:, 0], back) + np.outer(shape[:, 2], out)
        world[:, 1] = lift + up * shape[:, 1]
        for side in (1.0, -1.0):
            turned = outward(world * [side, 1, 1], _tooth_triangles())
            triangles.append(turned + sum(len(tooth) for tooth in vertices))
            vertices.append(world * [side, 1, 1])
    return np.concatenate(vertices), np.concatenate(triangles)


def _gum(arch: _Arch, height: float, up: float) -> tuple[Array, Integers]:
    """Return the gum over a row's roots: a band, scalloped between the teeth."""
    lengths = np.r_[-arch.length[-1] : arch.length[-1] : 61j]
    turn = 2 * np.pi * np.arange(12) / 12
    rings = []
    for length in lengths:
        place, _, out = arch.at(abs(length))
        side = np.array([np.sign(length) or 1.0, 1, 1])
        scallop = 0.5 * MM * np.cos(2 * np.pi * abs(length) / (7.4 * MM))
        rise = np.cos(turn) * 4.6 * MM + np.where(np.cos(turn) < 0, scallop, 0)
        ring = np.outer(np.sin(turn) * 3.0 * MM - 2.6 * MM, out)
        ring[:, 1] = height + up * rise
        rings.append((place * [1, 0, 1] + ring) * side)
    vertices = np.concatenate(rings)
    return vertices, outward(vertices, tube(len(rings), len(turn)))


def teeth_and_gums(mouth: list[Array]) -> tuple[Part, Part]:
    """Return teeth and gums, upper (fixed) and lower (following the jaw), for mouth loops."""
    line = mouth[3][[0, -1], 1].mean()
    front = min(ring[k, 2] for ring in mouth[2:4] for k in (0, -1)) - BEHIND_LIP
    teeth, gums = [], []
    for lower in (False, True):
        arch = _Arch(
            front - (OVERJET if lower else 0),
            ARCH_WIDTH * (0.92 if lower else 1),
            ARCH_DEPTH * (0.94 if lower else 1),
        )
        edge = line - EDGE_BELOW_LINE + (OVERBITE if lower else 0)
        teeth.append(_part(*_row(arch, edge, lower), "teeth", float(lower)))
        up = -1.0 if lower else 1.0
        gums.append(_part(*_gum(arch, edge + up * 10.2 * MM, up), "gums", float(lower)))
    return join(teeth), join(gums)


def tongue(mouth: list[Array]) -> Part:
    """Return the tongue at rest, with shapes tongueOut, tongueTip and tongueBack."""
    around, along = 24, 18
    turn = 2 * np.pi * np.arange(around) / around
    line = mouth[3][[0, -1], 1].mean()
    tip = min(ring[k, 2] for ring in mouth[2:4] for k in (0, -1)) - BEHIND_LIP - 7.0 * MM
    rings = []
    for place in np.linspace(0.015, 0.985, along):  # 0 tip, 1 root
        swell = np.sqrt(np.sin(np.pi * min(place, 0.52) / 1.04)) * (1 - 0.25 * max(0, place - 0.6))
        half, thick = 16.5 * MM * swell, 5.5 * MM * swell * (0.75 + 0.5 * place)
        x, y = half * np.cos(turn), thick * np.sin(turn)
        groove = (
            1.5 * MM * np.exp(-((x / (3.5 * MM)) ** 2)) * (np.sin(turn) > 0) * min(1, 4 * place)
        )
        hump = 5.5 * MM * np.sin(np.pi * min(1.0, place * 1.15)) ** 2
        rings.append(
            np.c_[x, line - 8.0 * MM + y - groove + hump, np.full(around, tip - 46 * MM * place)]
        )
    ends = [rings[0].mean(0) + np.array([0, 0, 0.6 * MM]), rings[-1].mean(0)]
    vertices = np.concatenate([*rings, ends])
    side, last = np.arange(around), around * (along - 1)
    after = (side + 1) % around
    tail = len(vertices) - 1
    fans = [
        np.c_[after, side, np.full(around, tail - 1)],
        np.c_[last + side, last + after, np.full(around, tail)],
    ]
    triangles = outward(vertices, np.concatenate([tube(along, around), *fans]).astype(np.int32))
    part = _part(vertices, triangles, "tongue", 1.0)
    part.shapes.update(_tongue_shapes(vertices))
    return part


def _tongue_shapes(rest: Array) -> dict[str, Floats]:
    """Return the tongue's three own shapes: out between the lips, tip up, back up."""
    depth = rest[:, 2]
    front = (depth - depth.min()) / np.ptp(depth)  # 0 root, 1 tip

    def ease(start: float) -> Array:
        t = np.clip((front - start) / (1 - start), 0, 1)
        return np.asarray(t * t * (3 - 2 * t))

    zero = np.zeros(len(rest))
    hump = np.exp(-(((front - 0.32) / 0.22) ** 2)) * (1 - np.exp(-front / 0.08))
    thin = (rest[:, 1] - rest[:, 1].mean()) * ease(0.5) * -0.35
    shapes = {
        "tongueOut": np.c_[zero, (12 * ease(0.2) - 3 * ease(0.8)) * MM + thin, 22 * MM * ease(0.1)],
        "tongueTip": np.c_[zero, 9.5 * MM * ease(0.45) + thin, 1.5 * MM * ease(0.45)],
        "tongueBack": np.c_[zero, 9.0 * MM * hump, -4.0 * MM * ease(0.2)],
    }
    return {name: offsets.astype(np.float32) for name, offsets in shapes.items()}


def bag(loop: Array, loop_ids: Integers, jaw: Array) -> Part:
    """Return the dark bag welded to the mouth's open edge, loop (32, 3) of face vertices.

    ``jaw`` (32,) says how far each of them follows the jaw, which the bag's depth fades out of.
    """
    rows = 8
    centre, count = loop.mean(0), len(loop)
    rings, jaws, pulls = [], [], []
    for row in range(rows):
        t = row / (rows - 1)
        ring = centre + (loop - centre) * (1 + 0.55 * np.sin(np.pi * t) ** 0.7) * (1 - 0.55 * t**2)
        rings.append(ring + np.array([0, -0.004 * t, -0.055 * t]))
        pulls.append(np.full(count, (1 - t) ** 1.5))
        jaws.append((1 - (1 - t) ** 1.5) * (jaw * (1 - t) + 0.3 * t))
    end = rings[-1].mean(0) + np.array([0, 0, -0.004])
    vertices = np.concatenate([*rings, end[None]])
    side, last = np.arange(count), count * (rows - 1)
    fan = np.c_[last + side, last + (side + 1) % count, np.full(count, len(vertices) - 1)]
    triangles = np.concatenate([tube(rows, count), fan]).astype(np.int32)
    part = _part(
        vertices, outward(vertices, triangles)[:, ::-1], "mouth", np.r_[np.concatenate(jaws), 0.3]
    )
    part.anchor[:-1] = np.tile(loop_ids, rows)
    part.pull[:-1] = np.concatenate(pulls)
    return part
