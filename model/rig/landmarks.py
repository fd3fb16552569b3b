# SPDX-License-Identifier: GPL-3.0-or-later
"""Named points of a face, found on its profile and its sides, or by number on FLAME's topology.

Extremal points (the foremost, the lowest …) hop to a neighbouring vertex from head to head.  On
FLAME's connectivity a table of vertex numbers is used instead.  `test_topology.py` derives the
table again by the rules of this module.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np

from ..errors import FaceError
from .mesh import Connectivity, Floats, Integers
from .mouth_rings import Mouth

FLAME_SKIN_VERTICES = 3931
FLAME_EDGES_SHA256 = "194e22411b21017fba3f322011b813f4c86c6461be3e68a4cc7f7f6bbfe46752"
"""SHA-256 over the sorted edges among the skin vertices (int32, little endian)."""

FLAME_LANDMARKS: dict[str, int] = {
    "nose_tip": 3526, "subnasale": 3552, "nasion": 3555, "glabella": 3540, "mentolabial": 3790,
    "pogonion": 3401, "menton": 3400, "alar_left": 2065, "alar_right": 3100,
    "eye_inner_left": 3833, "eye_inner_right": 3632, "eye_outer_left": 1175,
    "eye_outer_right": 2437, "ear_left": 29, "ear_right": 989,
}  # fmt: skip
"""Vertex numbers on FLAME 2019, 2020 and 2023, with or without eyeballs (the skin comes first).

Facts about a connectivity, found by `find_landmarks` and the lid search on one neutral head.
"""

SIDES = (("left", 1.0), ("right", -1.0))


def is_flame(connectivity: Connectivity) -> bool:
    """Tell whether the skin has FLAME's edges and vertex order."""
    if connectivity.count < FLAME_SKIN_VERTICES:
        return False
    edges = np.array([e for e in connectivity.opposite if max(e) < FLAME_SKIN_VERTICES])
    return edge_digest(edges) == FLAME_EDGES_SHA256


def edge_digest(edges: Integers) -> str:
    """SHA-256 of edges (E, 2): each low–high, without repeats, sorted, as little-endian int32."""
    ordered = np.unique(np.sort(edges.reshape(-1, 2), axis=1), axis=0)
    return hashlib.sha256(ordered.astype("<i4").tobytes()).hexdigest()


def flame_landmarks(positions: Floats) -> dict[str, int]:
    """Return the table, left and right exchanged on a mirrored head (positions canonical)."""
    if positions[FLAME_LANDMARKS["ear_left"], 0] > 0:
        return dict(FLAME_LANDMARKS)
    other = {"left": "right", "right": "left"}
    swapped = {}
    for name, vertex in FLAME_LANDMARKS.items():
        stem, _, side = name.rpartition("_")
        swapped[f"{stem}_{other[side]}" if side in other and stem else name] = vertex
    return swapped


def find_landmarks(
    positions: Floats, skin: Integers, middle: Integers, mouth: Mouth
) -> dict[str, int]:
    """Find the profile and side points of a head by their shape; canonical positions (V, 3).

    `middle` are the skin's midline vertices.  Raises `FaceError` where the profile has no nose or
    chin.
    """
    try:
        points = _profile(positions, middle, mouth)
        points |= _side_points(positions, skin, mouth, points)
    except ValueError as error:
        raise FaceError(
            "The profile of this head has no nose, chin or ears where a face has them.",
            "Check that it is one whole head, neutral and undistorted.",
        ) from error
    return points


def _profile(p: Floats, middle: Integers, mouth: Mouth) -> dict[str, int]:
    """Find the midline points from the forehead down to the chin."""

    def best(where: np.ndarray, score: Callable[[Floats], Floats]) -> int:
        candidates = middle[where]
        return int(candidates[score(p[candidates]).argmax()])

    y, z = p[middle, 1], p[middle, 2]
    front = z > -0.35
    (upper, lower), centre = mouth.middles[mouth.border], mouth.middles[mouth.contact][0]
    lip_top, lip_bottom = p[upper, 1], p[lower, 1]
    tip = best(front & (y > lip_top) & (y < 0.2), lambda q: q[:, 2])
    nasion = best(
        front & (y > p[tip, 1] + 0.1) & (y < 0.35),
        lambda q: -q[:, 2] - 0.15 * np.abs(q[:, 1] - 0.1),
    )
    subnasale = best(
        front & (y > lip_top) & (y < p[tip, 1]), lambda q: 0.6 * (q[:, 1] - lip_top) - q[:, 2]
    )
    glabella = best(front & (y > p[nasion, 1]) & (y < 0.75), lambda q: q[:, 2])
    chin = front & (y < lip_bottom) & (y > lip_bottom - 1.2) & (z > p[centre, 2] - 0.7)
    chin &= mouth.ring[middle] > mouth.border
    pogonion = best(chin & (y < lip_bottom - 0.12), lambda q: q[:, 2])
    menton = best(chin, lambda q: 0.75 * q[:, 2] - q[:, 1])
    fold = chin & (y > p[pogonion, 1])
    mentolabial = best(fold, lambda q: -q[:, 2]) if fold.any() else pogonion
    return {
        "nose_tip": tip, "nasion": nasion, "subnasale": subnasale, "glabella": glabella,
        "pogonion": pogonion, "menton": menton, "mentolabial": mentolabial,
    }  # fmt: skip


def _side_points(
    p: Floats, skin: Integers, mouth: Mouth, profile: dict[str, int]
) -> dict[str, int]:
    """Find the lateral extremes: ears and nose wings."""
    points = {}
    tip, base = p[profile["nose_tip"]], p[profile["subnasale"]]
    floor = p[mouth.middles[mouth.contact][0], 1] - 0.1
    x, y, z = p[skin].T
    for name, sign in SIDES:
        ears = skin[(y < 0.45) & (y > floor) & (sign * x > 0.5)]
        points[f"ear_{name}"] = int(ears[(sign * p[ears, 0]).argmax()])
        near = (np.abs(y - tip[1] + 0.06) < 0.12) & (z > max(tip[2] - 0.35, base[2] - 0.22))
        wing = skin[near & (sign * x < 0.4) & (sign * x > 0.1)]
        depth = np.maximum(0.0, base[2] - 0.05 - p[wing, 2])
        points[f"alar_{name}"] = int(wing[(sign * p[wing, 0] - 0.6 * depth).argmax()])
    return points
