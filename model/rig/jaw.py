# SPDX-License-Identifier: GPL-3.0-or-later
"""The jaw: the axis it turns about and how much each skin vertex goes with it."""

from __future__ import annotations

import numpy as np

from .landmarks import SIDES
from .lip_shapes import Fields
from .mesh import Floats, rotate, smoothstep
from .surface import Mask
from .topology import AXIS_FLIP, FaceTopology

OPEN_ANGLE = np.radians(22.0)
"""Rotation at jawOpen 1 (a wide, not yet a maximal opening)."""

SIDE_ANGLE = np.radians(5.0)
"""Rotation about the vertical axis at jawLeft or jawRight 1."""

FORWARD = np.array([0.0, -0.012, 0.09])
"""Motion at jawForward 1, in eye distances."""

GLIDE = 0.02
"""How far the joint slides forwards as the jaw begins to open, in eye distances."""

TAIL = 0.003
"""Share of the jaw's motion that counts as none."""

CORNER_SHARE = 0.42
"""Share of the jaw's motion at the mouth corners, which lie between both lips."""


def jaw_hinge(face: FaceTopology) -> Floats:
    """Return a point (3,) on the axis through both jaw joints, on the midline.

    An anthropometric estimate: 22 % of the way from the eyes down to the chin; in depth the mean
    of a guess from the head's length and one from the ears.  The true joint is hidden in every
    mesh.
    """
    p = face.positions
    height = -p[face.landmarks["menton"], 1]
    front = p[face.landmarks["glabella"], 2]
    skull = face.skin[p[face.skin, 1] > -0.1]
    length = front - p[skull, 2].min()
    ear = np.mean([p[face.landmarks[f"ear_{side}"], 2] for side, _ in SIDES])
    depth = 0.5 * (front - 0.385 * length) + 0.5 * (ear + 0.66)
    return np.array([0.0, -0.22 * height, depth])


def jaw_weights(face: FaceTopology, hinge: Floats) -> Floats:
    """Return how far each vertex (V,) follows the jaw: 0 skull … 1 chin and lower lip.

    Harmonic between the chin and what cannot move, then smoothed; along the lips an ellipse law,
    so that the open mouth is round and its corners keep their place between both lips.
    """
    surface, ring = face.surface, face.mouth.ring
    lips = ring <= face.mouth.border + 1
    moving, still = _chin(face, hinge), _skull(face, hinge)
    moving &= ~still
    known = np.flatnonzero((moving | still) & face.is_skin)
    free = face.is_skin & ~(moving | still)
    weight = surface.extend(known, moving[known].astype(float), free, order=1)[:, 0]
    weight = 0.55 * smoothstep(weight) + 0.45 * np.clip(weight, 0, 1)
    weight = _smoothed(face, weight, hinge)
    weight[lips] = lip_share(face)[lips]
    near = np.flatnonzero(face.is_skin & (weight > 1e-4) & ~lips)
    weight = surface.diffuse(weight[:, None], near, time=0.004, times=2)[:, 0]
    # A tail of thousandths would stir ears and neck by hundredths of a millimetre.
    return np.where(face.is_skin, np.clip((weight - TAIL) / (1 - TAIL), 0, 1), 0.0)


def jaw_fields(face: FaceTopology, hinge: Floats, weight: Floats) -> Fields:
    """Return the additive fields (V, 3) of the jaw's small motions; its opening is a rotation."""
    fields = {"jawForward": weight[:, None] * FORWARD}
    vertical = np.array([0.0, 1.0, 0.0])
    for name, sign in (("jawLeft", 1.0), ("jawRight", -1.0)):
        turned = rotate(face.positions, hinge, vertical, sign * SIDE_ANGLE * weight)
        fields[name] = turned - face.positions
    return fields


def lip_share(face: FaceTopology) -> Floats:
    """Jaw share (V,) of lip vertices: lower lip about 1, upper about 0, corners between."""
    bulge = np.maximum(1 - face.mouth.along**2, 0.0)
    lower = CORNER_SHARE + (1 - CORNER_SHARE) * bulge**0.62
    upper = CORNER_SHARE * (1 - bulge**0.8)
    side = face.mouth.side
    return np.where(side == 0, CORNER_SHARE, np.where(side < 0, lower, upper))


def _height_above(face: FaceTopology, start: Floats, end: Floats) -> Floats:
    """Signed height (V,) above the line start → end as seen from the side."""
    along = (end - start)[1:] / np.linalg.norm((end - start)[1:])
    arm = face.positions[:, 1:] - start[1:]
    return np.asarray(arm[:, 0] * along[1] - arm[:, 1] * along[0])


def _corner(face: FaceTopology) -> Floats:
    """Mean mouth corner, both sides folded onto the left (3,)."""
    return np.asarray((face.point("corner_left") + face.point("corner_right") * AXIS_FLIP) / 2)


def _skull(face: FaceTopology, hinge: Floats) -> Mask:
    """Mark skin (V,) that stays: upper face, behind the joint, neck, upper lip."""
    x, y, z = face.positions.T
    mouth, centre, menton = face.mouth, face.mouth_centre, face.point("menton")
    on_lips = mouth.ring <= mouth.border + 1
    still = on_lips & (mouth.side == 1) & (np.abs(mouth.along) < 0.86)
    still |= _height_above(face, hinge, _corner(face)) > 0.26
    still |= (z < hinge[2] - 0.02) | (y < menton[1] - 0.62)
    behind = np.array([0, menton[1] - 0.10, hinge[2] + 0.05])
    throat = np.array([0, menton[1] - 0.55, menton[2]])
    still |= (_height_above(face, behind, throat) < -0.25) & (y < menton[1] - 0.1)
    under_nose = (y > centre[1] + 0.10) & (np.abs(x) < 0.9 * face.half_width)
    still |= under_nose & (z > centre[2] - 0.3) & (mouth.ring > mouth.border)
    return np.asarray(still & face.is_skin)


def _chin(face: FaceTopology, hinge: Floats) -> Mask:
    """Mark skin (V,) that goes with the jaw in full: lower lip and chin."""
    y, z = face.positions[:, 1], face.positions[:, 2]
    mouth, height, menton = face.mouth, face.mouth_centre[1], face.point("menton")
    on_lips = mouth.ring <= mouth.border + 1
    lower = on_lips & (mouth.side == -1) & (np.abs(mouth.along) < 0.80)
    back = np.array([0, height - 0.35, hinge[2] + 0.35])
    front = np.array([0, height - 0.18, _corner(face)[2]])
    chin = (_height_above(face, back, front) < 0) & (y > menton[1] - 0.02)
    chin &= (z > menton[2] - 0.35) & (mouth.ring > mouth.border + 1)
    return np.asarray((lower | chin) & face.is_skin)


def _smoothed(face: FaceTopology, weight: Floats, hinge: Floats) -> Floats:
    """Diffuse the weights over cheeks and throat, keeping the lips."""
    y, z = face.positions[:, 1], face.positions[:, 2]
    mouth = face.mouth
    fixed = (mouth.ring <= mouth.border + 1) & (np.abs(mouth.along) < 0.93) & (mouth.side != 0)
    around = face.is_skin & (z > hinge[2] - 0.15) & (y > face.point("menton")[1] - 0.9)
    return face.surface.diffuse(
        weight[:, None], np.flatnonzero(around & ~fixed), time=0.006, times=2
    )[:, 0]
