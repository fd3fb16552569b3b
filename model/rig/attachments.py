# SPDX-License-Identifier: GPL-3.0-or-later
"""What else is in a head's mesh besides skin and eyeballs: teeth, tongue, corneas, lashes, hair.

Told apart by where it is, part by part: a shell around an eyeball turns with it, what lies in the
lower half of the mouth goes with the jaw, what sits on the skin goes with the nearest skin, and
the rest stays.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .head_frame import Eye
from .mesh import Floats, Integers
from .topology import FaceTopology

TOUCH = 0.15
"""Distance, in eye distances, at which a part touches the skin: it then follows as a whole."""

SHELL = 1.3
"""Size, in ball radii, up to which a part around an eyeball counts as a shell of it."""


@dataclass(frozen=True)
class Attachments:
    """Vertices outside skin and balls, by what carries them."""

    jaw: Integers
    """Vertices that go with the jaw (lower teeth, tongue)."""
    balls: tuple[Integers, Integers]
    """Vertices that turn with the left and the right eye."""
    bound: Integers
    """Vertices (B,) that follow the skin …"""
    anchor: Integers
    """… at these skin vertices (B,)."""


def read_attachments(face: FaceTopology) -> Attachments:
    """Sort the other parts of a head."""
    label = face.connectivity.component
    known = {int(label[face.skin[0]])} | {int(label[e.ball[0]]) for e in face.eyes if len(e.ball)}
    jaw: list[Integers] = []
    balls: tuple[list[Integers], list[Integers]] = ([], [])
    bound: list[Integers] = []
    for part in np.setdiff1d(np.unique(label), list(known)):
        vertices = np.flatnonzero(label == part)
        points = face.positions[vertices]
        eye = next((k for k, e in enumerate(face.eyes) if _is_shell(points, e)), None)
        if eye is not None:
            balls[eye].append(vertices)
        elif _in_mouth(face, points):
            if points[:, 1].mean() < face.mouth_centre[1]:
                jaw.append(vertices)
        else:
            bound.append(vertices)
    return _bind(face, jaw, balls, bound)


def _bind(
    face: FaceTopology, jaw: list[Integers], balls: tuple[list[Integers], list[Integers]],
    bound: list[Integers],
) -> Attachments:  # fmt: skip
    """Join the lists, and tie what sits on the skin to its nearest vertex."""
    nothing = np.empty(0, dtype=np.int64)
    skin = face.positions[face.skin]
    followers, anchors = [nothing], [nothing]
    for part in bound:
        away = [np.linalg.norm(skin - point, axis=1) for point in face.positions[part]]
        if min(distance.min() for distance in away) < TOUCH:
            followers.append(part)
            anchors.append(face.skin[[int(distance.argmin()) for distance in away]])
    left, right = (np.concatenate([nothing, *parts]) for parts in balls)
    return Attachments(
        np.concatenate([nothing, *jaw]), (left, right), np.concatenate(followers),
        np.concatenate(anchors),
    )  # fmt: skip


def _is_shell(points: Floats, eye: Eye) -> bool:
    """Whether a part lies around the front or all of an eyeball, and is no larger."""
    away = np.linalg.norm(points - eye.centre, axis=1)
    return bool(away.max() < SHELL * eye.radius and np.ptp(points[:, 1]) > 0.7 * eye.radius)


def _in_mouth(face: FaceTopology, points: Floats) -> bool:
    """Whether a part lies behind the lips, between the palate, the chin and the throat."""
    low, high = points.min(0), points.max(0)
    top, bottom = face.point("subnasale")[1], face.point("menton")[1]
    inside = bool(low[1] > bottom and high[1] < top + 0.35)
    behind = bool(points[:, 2].mean() < face.mouth_centre[2])
    return inside and behind and bool(np.abs(points[:, 0]).max() < 1.5 * face.half_width)
