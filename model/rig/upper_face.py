# SPDX-License-Identifier: GPL-3.0-or-later
"""Additive fields of cheeks, nose and brows."""

from __future__ import annotations

import numpy as np

from .landmarks import SIDES
from .lip_shapes import Fields, split
from .mesh import Floats, Integers, smoothstep, vertex_normals
from .topology import FaceTopology

BROW_LIFT = 0.10
"""Height of a full inner brow raise, in eye distances."""

BROW_HEIGHTS = (0.30, 0.36, 0.30)
"""How high the inner end, middle and outer end of a brow lie above the eye."""

BROW_BREADTH = 0.075
"""Half the breadth of the strip of skin that is moved as a brow."""

Places = tuple[tuple[float, float, float], ...]

STILL = (0.0, 0.0, 0.0)
BROWS: dict[str, Places] = {
    "browInnerUp": ((0.01, BROW_LIFT, 0.0), (0.0, 0.45 * BROW_LIFT, 0.0), STILL),
    "browDown": ((-0.035, -0.075, 0.012), (-0.02, -0.065, 0.008), (0.0, -0.03, 0.0)),
    "browOuterUp": ((0.0, 0.01, 0.0), (0.0, 0.07, 0.0), (0.01, 0.09, 0.0)),
}
"""Motion of the left brow's inner end, middle and outer end: (outwards, up, forwards)."""


def upper_fields(face: FaceTopology) -> Fields:
    """Return the displacement (V, 3) at full strength of each cheek, nose and brow control."""
    normals = _outward_normals(face)
    fields = {"cheekPuff": _cheek(face, normals, 0.34, (0.55, -0.02), 1.45, (0, 0, 0))}
    squint = _cheek(face, normals, 0.05, (0.62, 1.25), 1.25, (-0.01, 0.17, 0.03))
    fields |= split(face, "cheekSquint", squint)
    fields |= split(face, "noseSneer", _sneer(face))
    return fields | _brow_fields(face, normals)


def _outward_normals(face: FaceTopology) -> Floats:
    """Vertex normals (V, 3) that point out of the head, however its triangles are wound."""
    normals = vertex_normals(face.positions, face.triangles)
    return np.asarray(normals * np.sign(normals[face.landmarks["nose_tip"], 2]))


def _cheek(
    face: FaceTopology, normals: Floats, push: float, place: tuple[float, float], radius: float,
    drag: tuple[float, float, float],
) -> Floats:  # fmt: skip
    """Swell both cheeks around `place`, an offset from the mouth corner, and drag them along.

    All lengths are half mouth widths; `drag` is (outwards, up, forwards).
    """
    unit = face.half_width
    field = np.zeros_like(face.positions)
    for side, sign in SIDES:
        corner = face.point(f"corner_{side}")
        centre = face.nearest(corner + np.array([sign * place[0], place[1], -0.2]) * unit)
        away = face.surface.distance([centre], radius * unit * 1.05) / (radius * unit)
        bulge = smoothstep(1 - away)
        bulge[face.mouth.ring <= face.mouth.border] *= 0.25
        direction = normals[centre] * push + np.array(drag) * [sign, 1, 1]
        field += bulge[:, None] * direction * unit
    moved = np.flatnonzero(np.abs(field).max(1) > 0)
    return face.surface.diffuse(field, moved, time=0.004, times=2)


def _sneer(face: FaceTopology) -> Floats:
    """Raise both nose wings and the skin beside them; handles are patches, so nothing spikes."""
    unit, p = face.half_width, face.positions
    handles: dict[int, Floats] = {}
    wings = [face.landmarks[f"alar_{side}"] for side, _ in SIDES]
    for wing, (_, sign) in zip(wings, SIDES, strict=True):
        beside = face.nearest(p[wing] + np.array([sign * 0.22, -0.25, -0.05]) * unit)
        for centre, motion in ((wing, (0.03, 0.17, 0.0)), (beside, (0.02, 0.16, 0.03))):
            around = face.connectivity.neighbours[centre]
            patch = {centre} | {v for v in around if face.mouth.ring[v] > face.mouth.border}
            handles |= {v: np.array(motion) * [sign, 1, 1] * unit for v in patch}
    tip = face.landmarks["nose_tip"]
    handles[tip] = np.array([0, 0.03, 0]) * unit
    free = face.surface.distance(wings, 1.2 * unit) < 1.05 * unit
    free &= (face.mouth.ring > 3) & (p[:, 1] <= -0.12)
    return face.surface.extend(list(handles), list(handles.values()), free)


def _brow_fields(face: FaceTopology, normals: Floats) -> Fields:
    """Spread the brows' motion over the forehead, zero at the lids and on the other side."""
    strips = [_brow_strip(face, side) for side in range(2)]
    brows = np.concatenate([vertices for vertices, _ in strips])
    lids = sorted({v for lid in face.lids for ring in lid.rings[: lid.margin + 2] for v in ring})
    motions: dict[str, Floats] = {}
    for name, places in BROWS.items():
        left, right = (
            _slide(normals[vertices], _along_brow(places, along, sign))
            for (vertices, along), (_, sign) in zip(strips, SIDES, strict=True)
        )
        if name == "browInnerUp":
            motions[name] = np.vstack([left, right])
        else:
            motions[f"{name}Left"] = np.vstack([left, 0 * right])
            motions[f"{name}Right"] = np.vstack([0 * left, right])
    values = np.hstack(list(motions.values()))
    held = np.zeros((len(lids), values.shape[1]))
    free = face.surface.distance(brows, 1.3) < 0.80
    free &= face.positions[:, 1] > 0.02
    free[lids] = False
    handles = np.concatenate([lids, brows]).astype(np.int64)
    stacked = face.surface.extend(handles, np.vstack([held, values]), free)
    return dict(zip(motions, np.split(stacked, len(motions), axis=1), strict=True))


def _brow_strip(face: FaceTopology, side: int) -> tuple[Integers, Floats]:
    """Return the skin of the left (0) or right (1) brow and where it lies along it, −1 … 1.

    A strip rather than single vertices: no vertex of another head hops into a peak.
    """
    p, lids = face.positions, face.lids[side]
    sign = SIDES[side][1]
    inner, outer = (sign * p[v, 0] + 0.02 for v in (lids.inner, lids.outer))
    along = 2 * (sign * p[:, 0] - inner) / (outer - inner) - 1
    height = lids.eye.centre[1] + _quadratic(np.array(BROW_HEIGHTS)[:, None], along)[:, 0]
    near = np.abs(p[:, 1] - height) < BROW_BREADTH
    inside = face.is_skin & near & (np.abs(along) < 1.15) & (p[:, 2] > -0.6)
    inside[[v for ring in lids.rings[: lids.margin + 3] for v in ring]] = False
    vertices = np.flatnonzero(inside)
    return vertices, along[vertices]


def _along_brow(places: Places, along: Floats, sign: float) -> Floats:
    """Motion (n, 3) at coordinates (n,) of a brow, mirrored for the right one."""
    return _quadratic(np.array(places), np.clip(along, -1, 1)) * [sign, 1, 1]


def _quadratic(values: Floats, at: Floats) -> Floats:
    """Parabola through values (3, D) at −1, 0 and 1, evaluated at (n,): (n, D)."""
    x = at[:, None]
    low, middle, high = values
    return np.asarray(middle + x * (high - low) / 2 + x * x * ((high + low) / 2 - middle))


def _slide(normals: Floats, motion: Floats) -> Floats:
    """Keep motions (n, 3) near the surface: skin slides over the bone rather than leave it."""
    outwards = (normals * motion).sum(1, keepdims=True)
    return np.asarray(motion - 0.85 * normals * outwards)
