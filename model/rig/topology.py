# SPDX-License-Identifier: GPL-3.0-or-later
"""A head mesh → its parts, frame, lips, lids and landmarks, from its own edges and shape.

Any identity, unit, axes and pose of FLAME's connectivity works, with eyeballs (5,023 vertices) or
without (3,931), and so does another head built the same way: one skin with two open edge loops
(mouth, neck), lips made of rings, eye sockets that close behind the eye.  Everything else is
refused in a sentence.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from ..errors import FaceError
from .eyes import Lids, read_lids
from .head_frame import Eye, Frame, find_eyes, first_frame, refine_frame
from .landmarks import find_landmarks, flame_landmarks, is_flame
from .mesh import Connectivity, Floats, Integers
from .mouth_rings import Mouth, read_mouth
from .surface import Surface

FLAME_MARGIN = 4
"""Ring of the lid margin on FLAME's connectivity."""

CLEARLY_SYMMETRIC = 0.06
"""Mean distance, in eye distances, between mirrored partners of even a rather crooked face."""

AXIS_FLIP = np.array([-1.0, 1.0, 1.0])


@dataclass(frozen=True)
class FaceTopology:
    """What a rig needs to know of one head; positions and eyes are in the canonical frame."""

    positions: Floats
    """Vertices in the canonical frame (V, 3)."""
    triangles: Integers
    """Triangles (T, 3)."""
    connectivity: Connectivity
    """Edges of the whole mesh."""
    frame: Frame
    """Change from mesh space to the canonical frame."""
    skin: Integers
    """Vertices of the skin, the largest component."""
    neck: list[int]
    """The open edge at the neck."""
    mouth: Mouth
    """Lips."""
    lids: tuple[Lids, Lids]
    """Left and right eyelids, with their eyes."""
    mirror: Integers
    """Mirror image of each vertex (V,); vertices of the midline are their own."""
    landmarks: dict[str, int]
    """Named points, `landmarks.FLAME_LANDMARKS` and the rings' own."""
    flame: bool
    """Whether connectivity and vertex order are FLAME's."""

    @classmethod
    def from_mesh(cls, vertices: ArrayLike, triangles: ArrayLike) -> FaceTopology:
        """Read vertices (V, 3) and triangles (T, 3); raise `FaceError` where they are no head."""
        points, faces = _checked(vertices, triangles)
        try:
            with np.errstate(divide="raise", invalid="raise"):
                return cls._read(points, faces)
        except (ArithmeticError, LookupError, ValueError, np.linalg.LinAlgError) as error:
            raise FaceError(
                "This mesh is connected like a head, but its shape is not a face's.",
                "Check that it is one whole neutral head whose vertices keep their order.",
            ) from error

    @classmethod
    def _read(cls, points: Floats, faces: Integers) -> FaceTopology:
        """Read a mesh whose arrays are sound; may raise anything where the shape is no face's."""
        connectivity = Connectivity(faces, len(points))
        label = connectivity.component
        skin = np.flatnonzero(label == np.bincount(label).argmax())
        neck, loop = _open_edges(points, connectivity, skin)
        eyes = find_eyes(points, connectivity, skin)
        frame, swap = first_frame(eyes, points[loop].mean(0), points[skin])
        eyes = eyes[::-1] if swap else eyes
        flame = is_flame(connectivity)
        rough = frame.canonical(points)
        mirror = _mirror(rough, connectivity, loop, skin)
        mouth = read_mouth(rough, connectivity, loop, mirror)
        frame = level(frame, points, rough, mirror, skin, mouth)
        positions = frame.canonical(points)
        middle = skin[mirror[skin] == skin]
        if len(middle) < 20:
            middle = skin[np.abs(positions[skin, 0]) < 0.03]
        left, right = (
            read_lids(positions, connectivity, eye.inside(frame), FLAME_MARGIN if flame else None)
            for eye in eyes
        )
        if flame:
            landmarks = flame_landmarks(positions)
        else:
            landmarks = find_landmarks(positions, skin, middle, mouth)
            landmarks |= _eye_landmarks(left, right)
        return cls(
            positions, faces, connectivity, frame, skin, neck, mouth, (left, right), mirror,
            landmarks | _lip_landmarks(mouth), flame,
        )  # fmt: skip

    @property
    def eyes(self) -> tuple[Eye, Eye]:
        """Left and right eye."""
        return self.lids[0].eye, self.lids[1].eye

    @cached_property
    def surface(self) -> Surface:
        """Differential operators of the skin."""
        on_skin = self.is_skin[self.triangles[:, 0]]
        return Surface(self.positions, self.triangles[on_skin], self.connectivity)

    @cached_property
    def is_skin(self) -> np.ndarray:
        """Mask (V,) of the skin."""
        mask = np.zeros(len(self.positions), dtype=bool)
        mask[self.skin] = True
        return mask

    @property
    def half_width(self) -> float:
        """Half the mouth's width, the unit of all lip motion, in eye distances."""
        left, right = self.mouth.corners[self.mouth.contact]
        return float(self.positions[left, 0] - self.positions[right, 0]) / 2

    @property
    def mouth_centre(self) -> Floats:
        """Middle of the lips' contact (3,)."""
        middles = list(self.mouth.middles[self.mouth.contact])
        return np.asarray(self.positions[middles].mean(0))

    def point(self, name: str) -> Floats:
        """Position (3,) of a landmark."""
        return np.asarray(self.positions[self.landmarks[name]])

    def nearest(self, point: Floats) -> int:
        """Return the skin vertex nearest a canonical point (3,)."""
        away = np.linalg.norm(self.positions[self.skin] - point, axis=1)
        return int(self.skin[away.argmin()])


def _checked(vertices: ArrayLike, triangles: ArrayLike) -> tuple[Floats, Integers]:
    """Return float64 vertices and int64 triangles, or raise `FaceError` saying what is wrong."""
    points = np.asarray(vertices, dtype=np.float64)
    faces = np.asarray(triangles)
    if points.ndim != 2 or points.shape[1] != 3 or len(points) < 500:
        raise FaceError(f"A head needs vertices of shape (V, 3), not {points.shape}.")
    if faces.ndim != 2 or faces.shape[1] != 3 or len(faces) == 0:
        raise FaceError(f"A head needs triangles of shape (T, 3), not {faces.shape}.")
    faces = faces.astype(np.int64)
    if faces.min() < 0 or faces.max() >= len(points):
        raise FaceError(
            f"A triangle names vertex {int(faces.max())}, but there are {len(points)} vertices."
        )
    if not np.isfinite(points).all():
        raise FaceError("Some vertices of this head are not finite numbers.")
    return points, faces


def _open_edges(
    points: Floats, connectivity: Connectivity, skin: Integers
) -> tuple[list[int], list[int]]:
    """Return the neck loop and the mouth loop, the two open edges of the skin."""
    part = connectivity.component[skin[0]]
    loops = [loop for loop in connectivity.loops if connectivity.component[loop[0]] == part]
    if len(loops) != 2:
        raise FaceError(
            f"The skin of this head has {len(loops)} open edge loops, but a FLAME-topology head "
            "has two: the mouth and the neck.",
            "Use a FLAME-topology head or the demo head.",
        )
    sides = [points[loop] - points[np.roll(loop, 1)] for loop in loops]
    neck = int(np.argmax([np.linalg.norm(side, axis=1).sum() for side in sides]))
    return loops[neck], loops[1 - neck]


def _mirror(p: Floats, connectivity: Connectivity, loop: list[int], skin: Integers) -> Integers:
    """Pair vertices by walking both halves from the upper middle of the mouth loop; rough frame.

    What the walk cannot pair (and every other component) is paired with the nearest mirrored point.
    """
    half_edges, count = connectivity.opposite, len(loop)
    best: tuple[float, dict[int, int]] = (0.25, {})
    central = np.argsort(-(p[loop, 1] - 2 * np.abs(p[loop, 0])))
    for i in central[:6]:
        before, here, after = loop[i - 1], loop[i], loop[(i + 1) % count]
        if (after, here) in half_edges:
            start, image = (after, here), (before, here)
        else:
            start, image = (here, after), (here, before)
        partner = connectivity.mirror_walk(start, image)
        if len(partner) < 0.9 * len(skin):
            continue
        here_, there = np.array(list(partner.items())).T
        error = float(np.linalg.norm(p[here_] * AXIS_FLIP - p[there], axis=1).mean())
        if error < best[0]:
            best = (error, partner)
        if error < CLEARLY_SYMMETRIC:
            break
    mirror = np.full(len(p), -1)
    for a, b in best[1].items():
        if best[1].get(b) == a:
            mirror[a] = b
    is_skin = np.zeros(len(p), dtype=bool)
    is_skin[skin] = True
    for v in np.flatnonzero(mirror < 0):
        same = np.flatnonzero(is_skin == is_skin[v])
        mirror[v] = same[np.linalg.norm(p[same] - p[v] * AXIS_FLIP, axis=1).argmin()]
    return mirror


def level(
    frame: Frame, points: Floats, rough: Floats, mirror: Integers, skin: Integers, mouth: Mouth
) -> Frame:
    """Refine the rough frame by the face's mirror pairs and the mouth corners."""
    face = skin[(rough[skin, 2] > -0.5) & (rough[skin, 1] > -1.6) & (rough[skin, 1] < 0.6)]
    left = face[(rough[face, 0] > 0.05) & (rough[mirror[face], 0] < -0.05)]
    corners = points[list(mouth.corners[mouth.contact])].mean(0)
    return refine_frame(frame, points, (left, mirror[left]), corners)


def _lip_landmarks(mouth: Mouth) -> dict[str, int]:
    """Name the corners and midline points of the lips."""
    contact, border = mouth.contact, mouth.border
    return {
        "corner_left": mouth.corners[contact][0],
        "corner_right": mouth.corners[contact][1],
        "contact_upper": mouth.middles[contact][0],
        "contact_lower": mouth.middles[contact][1],
        "border_upper": mouth.middles[border][0],
        "border_lower": mouth.middles[border][1],
    }


def _eye_landmarks(left: Lids, right: Lids) -> dict[str, int]:
    """Name the eye corners."""
    return {
        "eye_inner_left": left.inner,
        "eye_inner_right": right.inner,
        "eye_outer_left": left.outer,
        "eye_outer_right": right.outer,
    }
