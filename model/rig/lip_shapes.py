# SPDX-License-Identifier: GPL-3.0-or-later
"""The mouth's additive fields: the lip table spread over the skin around the mouth."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from .lip_table import SIDED, WHOLE, Curve, LipShape
from .mesh import Floats, Integers, smoothstep
from .topology import AXIS_FLIP, FaceTopology

Fields = dict[str, Floats]

SIDEWAYS = 0.26
"""How far the mouth moves to one side, in half mouth widths."""

SIDEWAYS_REACH = 2.0

NOSE_GIVE = 0.05
"""Length over which the lips' motion dies out on the nose, in eye distances."""


def mouth_fields(face: FaceTopology) -> Fields:
    """Return the displacement (V, 3) of each mouth control at full strength, in eye distances.

    `jawOpen`'s is only what the lips do on top of the jaw's rotation.
    """
    extended = _extend_all(face, {**SIDED, **WHOLE})
    fields = {name: extended[name] for name in WHOLE}
    for name in SIDED:
        fields |= split(face, name, extended[name])
    fields["mouthLeft"], fields["mouthRight"] = extended["mouthLeft"], extended["mouthRight"]
    return fields


def split(face: FaceTopology, name: str, field: Floats) -> Fields:
    """Divide a symmetric field (V, 3) into a left and a right one that add up to it."""
    left = smoothstep(face.positions[:, 0] / face.half_width, -0.45, 0.45)[:, None]
    return {f"{name}Left": field * left, f"{name}Right": field * (1 - left)}


def lip_ids(face: FaceTopology) -> Integers:
    """Return the vertices of the lips, from the innermost ring to the vermilion border."""
    return np.flatnonzero(face.mouth.ring <= face.mouth.border)


def nose_stiffness(face: FaceTopology) -> Floats:
    """Return the stiffness (V,) of the nose, which follows the lips at its base only."""
    base = face.point("subnasale")
    x, y, z = face.positions.T
    high = smoothstep(y, base[1] - 0.06, base[1] + 0.06)
    near = smoothstep(-np.abs(x), -0.42, -0.26) * smoothstep(z, base[2] - 0.45, base[2] - 0.3)
    return high * near / NOSE_GIVE**4


def _extend_all(face: FaceTopology, table: dict[str, LipShape]) -> Fields:
    """Extend every lip shape over its reach; shapes with the same handles share one solve."""
    lips, near = lip_ids(face), _lip_distance(face) / face.half_width
    stiff = nose_stiffness(face)
    groups: dict[float, dict[str, Floats]] = defaultdict(dict)
    fields: Fields = {}
    for name, shape in table.items():
        motion = lip_motion(face, shape, lips)
        patches = _handles(face, shape, set(lips.tolist()))
        if patches:
            known = np.concatenate([lips, list(patches)])
            values = np.vstack([motion, list(patches.values())])
            fields[name] = face.surface.extend(known, values, near < shape.reach, stiffness=stiff)
        else:
            groups[shape.reach][name] = motion
    for sign, name in ((1.0, "mouthLeft"), (-1.0, "mouthRight")):
        groups[SIDEWAYS_REACH][name] = _sideways(face, lips, sign)
    for reach, motions in groups.items():
        handles = np.hstack(list(motions.values()))
        stacked = face.surface.extend(lips, handles, near < reach, stiffness=stiff)
        fields |= dict(zip(motions, np.split(stacked, len(motions), axis=1), strict=True))
    return fields


def _lip_distance(face: FaceTopology) -> Floats:
    """Distance (V,) over the skin to the lips' contact ring."""
    return face.surface.distance(face.mouth.rings[face.mouth.contact], 2.6 * face.half_width)


def _sideways(face: FaceTopology, lips: Integers, sign: float) -> Floats:
    """Motion (n, 3) of the lips to one side, the leading corner pressed back against the teeth."""
    lateral = face.positions[lips, 0]
    motion = np.zeros((len(lips), 3))
    motion[:, 0] = sign * SIDEWAYS * face.half_width
    motion[:, 2] = -0.05 * lateral * sign
    return motion


def _handles(face: FaceTopology, shape: LipShape, taken: set[int]) -> dict[int, Floats]:
    """Return skin patches outside the lips and how they move (3,): vertex → motion."""
    handles: dict[int, Floats] = {}
    corner, unit = face.point("corner_left"), face.half_width
    for offset, motion in shape.handles:
        centre = face.nearest(corner + np.array(offset) * unit)
        moved = np.array(motion) * unit
        for vertex, step in ((centre, moved), (int(face.mirror[centre]), moved * AXIS_FLIP)):
            patch = {vertex} | face.connectivity.neighbours[vertex]
            handles |= dict.fromkeys(patch - taken, step)
    if shape.chin is not None:
        handles[face.landmarks["pogonion"]] = np.array(shape.chin) * unit
    return handles


def lip_motion(face: FaceTopology, shape: LipShape, lips: Integers) -> Floats:
    """Evaluate a lip shape at lip vertices (n,): displacements (n, 3) in eye distances."""
    mouth = face.mouth
    along = mouth.along[lips]
    across = (mouth.ring[lips] - mouth.contact) / (mouth.border - mouth.contact)
    outward = np.clip(across, 0, 1)[:, None]
    outward = 0.5 * smoothstep(outward) + 0.5 * outward
    upper = _along_lip(shape.upper_contact, along) * (1 - outward)
    upper += _along_lip(shape.upper_border, along) * outward
    lower = _along_lip(shape.lower_contact, along) * (1 - outward)
    lower += _along_lip(shape.lower_border, along) * outward
    is_upper = (mouth.side[lips, None] + 1) / 2
    rings_in = np.clip((mouth.contact - mouth.ring[lips]) / max(mouth.contact, 1), 0, None)
    follow = 1 - rings_in * shape.inner
    motion: Floats = (upper * is_upper + lower * (1 - is_upper)) * follow[:, None]
    return motion * face.half_width


def _along_lip(curve: Curve, along: Floats) -> Floats:
    """Interpolate a curve (middle, half-way, corner) at arc coordinates (n,) by an even quartic."""
    middle, half, corner = (np.array(place, dtype=np.float64) for place in curve)
    square = (along**2)[:, None]
    rise, total = 16 * (half - middle), corner - middle
    second = (rise - total) / 3
    motion = middle + second * square + (total - second) * square**2
    motion[:, 0] *= np.sign(along)
    return motion
