# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a head looks: its skin, eyes and a frame of its own, whatever its axes, unit and pose.

Inside the rig everything is in the *canonical frame*: origin midway between the eyeballs, unit
the distance between their centres, x to the subject's left, y up, z to the front.  It is made of
the face's own parts (eyes, mouth corners, mirror pairs), so a turned, scaled or mirrored head
gives the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import FaceError
from .mesh import Connectivity, Floats, Integers, fit_sphere, unit

LIFE_EYE_DISTANCE = 0.063
"""Metres between the eyeball centres of an average adult; the scale of a "life-size" head."""

CORNER_PITCH = np.radians(15.8)
"""Slope, from the eyes, at which the mouth corners of a level head lie in front (14.4° to 16.8° on
six FLAME-topology identities, 12.6° on the demo head)."""

LOOP_PITCH = np.radians(5.0)
"""The same for the centre of the mouth's boundary loop, which lies deeper; a first guess only."""

BALL_TOLERANCE = 0.35
"""Largest relative deviation from a sphere that an eyeball may have (smoothly warped heads)."""


@dataclass(frozen=True)
class Frame:
    """Change between mesh space and the canonical frame."""

    origin: Floats
    """Point midway between the eyes, in mesh units (3,)."""
    axes: Floats
    """Columns are left, up and front as unit vectors of mesh space (3, 3)."""
    unit: float
    """Distance between the eyes in mesh units."""

    def canonical(self, points: Floats) -> Floats:
        """Bring points (..., 3) of mesh space into the canonical frame."""
        return (points - self.origin) @ self.axes / self.unit

    @property
    def metres(self) -> float:
        """Metres of a life-size head per mesh unit."""
        return LIFE_EYE_DISTANCE / self.unit


@dataclass(frozen=True)
class Eye:
    """One eyeball, present in the mesh or inferred from its socket."""

    centre: Floats
    """Centre (3,) in the space it was found in."""
    radius: float
    """Radius in the same space."""
    ball: Integers
    """Vertices of the ball (none when the head has only sockets)."""
    apex: int
    """Skin vertex at the bottom of the socket."""

    def inside(self, frame: Frame) -> Eye:
        """Return the same eye in the canonical frame."""
        centre = frame.canonical(self.centre)
        return Eye(centre, self.radius / frame.unit, self.ball, self.apex)


def find_eyes(vertices: Floats, connectivity: Connectivity, skin: Integers) -> tuple[Eye, Eye]:
    """Find both eyes, in mesh space and either order; raise `FaceError` where there are none."""
    balls = _ball_pair(vertices, connectivity, skin)
    if balls is not None:
        return balls
    apexes = sorted(skin.tolist(), key=lambda v: -len(connectivity.neighbours[v]))[:2]
    if len(connectivity.neighbours[apexes[1]]) < 16:
        raise FaceError(
            "This head has neither two eyeballs nor two eye sockets that close behind the eye, "
            "so its eyelids cannot be found.",
            "Use a FLAME-topology head, or one built like the demo head.",
        )
    first, second = (_socket(vertices, connectivity, apex) for apex in apexes)
    return first, second


def _ball_pair(
    vertices: Floats, connectivity: Connectivity, skin: Integers
) -> tuple[Eye, Eye] | None:
    """Return the largest two separate components that are spheres of like size, if any."""
    label = connectivity.component
    count = np.bincount(label)
    candidates = []
    for part in np.flatnonzero(count >= 20):
        if part == label[skin[0]]:
            continue
        ball = np.flatnonzero(label == part)
        centre, radius, deviation = fit_sphere(vertices[ball])
        spread = np.linalg.norm(vertices[ball].mean(0) - centre)
        if deviation < BALL_TOLERANCE and spread < 0.5 * radius:
            candidates.append((centre, radius, ball))
    best: tuple[Eye, Eye] | None = None
    for i, (centre, radius, ball) in enumerate(candidates):
        for other_centre, other_radius, other_ball in candidates[i + 1 :]:
            apart = np.linalg.norm(centre - other_centre) > 2 * radius
            alike = 0.8 < radius / other_radius < 1.25
            if apart and alike and (best is None or radius > best[0].radius):
                near = [
                    int(skin[np.linalg.norm(vertices[skin] - c, axis=1).argmin()])
                    for c in (centre, other_centre)
                ]
                best = (
                    Eye(centre, radius, ball, near[0]),
                    Eye(other_centre, other_radius, other_ball, near[1]),
                )
    return best


def _socket(vertices: Floats, connectivity: Connectivity, apex: int) -> Eye:
    """Infer an eyeball from its socket, which closes at the ball's centre.

    On FLAME-topology heads with eyeballs the apex lies within 0.6 mm of the centre, and the
    second ring around it touches the ball (0.96 to 1.03 radii).
    """
    ring = connectivity.rings([apex], 2)[2]
    radius = float(np.linalg.norm(vertices[ring] - vertices[apex], axis=1).mean())
    return Eye(vertices[apex].copy(), radius, np.empty(0, dtype=np.int64), apex)


def first_frame(eyes: tuple[Eye, Eye], mouth: Floats, skin: Floats) -> tuple[Frame, bool]:
    """Guess the frame from the eyes, the mouth loop's centre (3,) and the skin (n, 3).

    Returns the frame and whether the first of the two eyes is the right one (they must be swapped).
    """
    origin = (eyes[0].centre + eyes[1].centre) / 2
    lateral = eyes[0].centre - eyes[1].centre
    distance = float(np.linalg.norm(lateral))
    lateral = lateral / distance
    up = _tilted(origin - mouth, lateral, LOOP_PITCH)
    swap = bool(np.cross(lateral, up) @ (origin - skin.mean(0)) < 0)
    if swap:
        lateral = -lateral
    up = _tilted(origin - mouth, lateral, LOOP_PITCH)
    axes = np.column_stack([lateral, up, np.cross(lateral, up)])
    return Frame(origin, axes, distance), swap


def refine_frame(
    frame: Frame, vertices: Floats, pairs: tuple[Integers, Integers], corners: Floats
) -> Frame:
    """Level the frame: x from mirror pairs of skin vertices, pitch from the mouth corners (3,)."""
    left, right = pairs
    lateral = unit((vertices[left] - vertices[right]).sum(0))
    up = _tilted(frame.origin - corners, lateral, CORNER_PITCH)
    return Frame(frame.origin, np.column_stack([lateral, up, np.cross(lateral, up)]), frame.unit)


def _tilted(towards_eyes: Floats, lateral: Floats, pitch: float) -> Floats:
    """Return up, given the direction from the mouth to the eyes, which leans back by `pitch`."""
    lean = unit(towards_eyes - lateral * (towards_eyes @ lateral))
    front = np.cross(lateral, lean)
    return np.asarray(lean * np.cos(pitch) + front * np.sin(pitch))
