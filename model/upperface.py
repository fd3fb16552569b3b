"""Additive fields of cheeks, nose and brows."""

from __future__ import annotations

import numpy as np

from .landmarks import SIDES
from .lipshapes import Fields, split
from .mesh import Floats, smoothstep, vertex_normals
from .surface import Mask
from .topology import FaceTopology

BROW_LIFT = 0.10
"""Height of a full inner brow raise, in eye distances."""

BrowMotion = dict[str, tuple[float, float, float]]

BROWS: dict[str, BrowMotion] = {
    "browInnerUp": {"inner": (0.01, BROW_LIFT, 0), "mid": (0, 0.45 * BROW_LIFT, 0)},
    "browDown": {"inner": (-0.035, -0.075, 0.012), "mid": (-0.02, -0.065, 0.008),
                 "outer": (0, -0.03, 0)},
    "browOuterUp": {"inner": (0, 0.01, 0), "mid": (0, 0.07, 0), "outer": (0.01, 0.09, 0)},
}  # fmt: skip
"""Motion of the three points of the left brow: (outwards, up, forwards) in eye distances."""


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
    return normals * np.sign(normals[face.landmarks["nose_tip"], 2])


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
    """Spread the brow points' motion over the forehead, zero at the lids and on the other side."""
    both = ("left", "right")
    motions = {"browInnerUp": _brow_motion(BROWS["browInnerUp"], both)}
    for side in both:
        for name in ("browDown", "browOuterUp"):
            motions[name + side.capitalize()] = _brow_motion(BROWS[name], (side,))
    lids = sorted({v for lid in face.lids for ring in lid.rings[: lid.margin + 3] for v in ring})
    patches = _brow_patches(face, set(lids))
    handles = np.concatenate([lids, list(patches)]).astype(int)
    values = np.zeros((len(handles), len(motions), 3))
    for row, (vertex, place) in enumerate(patches.items(), len(lids)):
        for column, motion in enumerate(motions.values()):
            step = np.array(motion.get(place, (0, 0, 0)))
            # The skin slides over the bone rather than leave it.
            values[row, column] = step - 0.85 * normals[vertex] * (normals[vertex] @ step)
    free = _forehead(face, list(patches), set(lids))
    stacked = face.surface.extend(handles, values.reshape(len(handles), -1), free)
    return dict(zip(motions, np.split(stacked, len(motions), axis=1), strict=True))


def _brow_motion(motion: BrowMotion, sides: tuple[str, ...]) -> BrowMotion:
    """Name the brow points of `sides` and mirror what the right ones do."""
    signs = {"left": 1.0, "right": -1.0}
    return {
        f"{place}_{side}": (signs[side] * x, y, z)
        for side in sides
        for place, (x, y, z) in motion.items()
    }


def _brow_patches(face: FaceTopology, lids: set[int]) -> dict[int, str]:
    """Return the skin around each brow point: vertex → name of the point ("inner_left" …)."""
    patches: dict[int, str] = {}
    for side, _ in SIDES:
        for place in ("inner", "mid", "outer"):
            centre = face.landmarks[f"brow_{place}_{side}"]
            for v in {centre} | face.connectivity.neighbours[centre]:
                if v not in lids:
                    patches[v] = f"{place}_{side}"
    return patches


def _forehead(face: FaceTopology, brows: list[int], lids: set[int]) -> Mask:
    """Mark the skin (V,) that follows the brows."""
    free = face.surface.distance(brows, 1.3) < 0.80
    free &= face.positions[:, 1] > 0.02
    free[list(lids)] = False
    return free
