# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo head: a face that anyone may use, with teeth, tongue, eyes, brows, ears and hair.

`load` reads what ships (`weights/head.npz`); ``python -m model head OUT.npz`` makes it anew from
the numbers in `model/recipes/head`: no scan, no downloaded mesh.
The face itself has 5,023 vertices, skin then left and right eyeball, like the heads that
researchers use, but its own connectivity. Metres, Y up, Z to the front, X to the subject's left.

``V`` vertices of the face, ``T`` triangles, ``N`` vertices of a part, ``K`` shapes, ``F`` frames.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ..errors import FaceError
from ..files.arrays import read_npz
from .shapes import FORMULAS

Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.integer[Any]]

ASSET = Path(__file__).parents[1] / "weights" / "head.npz"
JAW_SHAPES = ("jawOpen", "jawForward", "jawLeft", "jawRight")
STEP = 4e-6
"""Resolution of stored positions and shapes, metres."""
SEEN = 1.2e-4
"""A part's shape that moves nothing further than this is left out, metres."""


@dataclass(frozen=True)
class Part:
    """Something that sits on or in the head and follows it."""

    vertices: Floats
    """(N, 3) metres."""
    triangles: Integers
    material: str
    jaw: Floats
    """(N,) 0..1: how far each vertex follows the jaw bone."""
    anchor: Integers
    """(N,) the face vertex that each vertex is tied to."""
    pull: Floats
    """(N,) 0..1: how far each vertex follows its anchor."""
    root: Integers
    """(N, 3) the face triangle that each vertex is rooted in and turns with, or (0, 3)."""
    shapes: dict[str, Floats] = field(default_factory=dict)
    """Name → offsets (N, 3), for those shapes of the face that move this part, and its own."""


@dataclass(frozen=True)
class Head:
    """A face with its parts."""

    vertices: Floats
    """(5023, 3) metres."""
    triangles: Integers
    """(T, 3), skin first."""
    colours: Floats
    """(V, 3) linear colour of each vertex, painted: lips, lids, cheeks, iris."""
    materials: tuple[str, ...]
    """Names of the face's materials."""
    material: Integers
    """(T,) which of them each triangle has."""
    jaw_vertices: Integers
    """Skin that sits tight on the jaw bone; what `jaw_motion` is measured on."""
    parts: dict[str, Part]
    shapes: dict[str, Floats] = field(default_factory=dict)
    """Name → offsets (V, 3) of the rig's named shapes on this face."""

    def pose(self, face: Floats, tongue: dict[str, float] | None = None) -> dict[str, Floats]:
        """Return every part's vertices for a moved face (V, 3) in this head's own place.

        ``tongue`` holds the values of tongueOut, tongueTip and tongueBack, which no face shows.
        """
        jaw = jaw_motion(self.vertices, face, self.jaw_vertices)
        posed: dict[str, Floats] = {}
        for name, part in self.parts.items():
            moved = part.vertices.copy()
            for key, value in (tongue or {}).items():
                if value and key in part.shapes:
                    moved += np.float32(value) * part.shapes[key]
            posed[name] = moved + follow(part, self.vertices, face, jaw, moved)
        return posed


@dataclass(frozen=True)
class Rigid:
    """A turn, then a shift: point → point · turnᵀ + shift."""

    turn: Floats
    """(3, 3)."""
    shift: Floats
    """(3,) metres."""

    def offsets(self, points: Floats) -> Floats:
        """Return how far points (N, 3) are moved."""
        return (points @ self.turn.T + self.shift - points).astype(np.float32)


REST = Rigid(np.eye(3, dtype=np.float32), np.zeros(3, np.float32))


def jaw_motion(rest: Floats, face: Floats, jaw_vertices: Integers) -> Rigid:
    """Return how the jaw bone moved, from the skin that sits tight on it (Kabsch's fit)."""
    before, after = (points[jaw_vertices].astype(np.float64) for points in (rest, face))
    middle, place = before.mean(0), after.mean(0)
    u, _, v = np.linalg.svd((before - middle).T @ (after - place))
    upright = np.diag([1, 1, np.sign(np.linalg.det(v.T @ u.T))])
    turn = v.T @ upright @ u.T
    return Rigid(turn.astype(np.float32), (place - turn @ middle).astype(np.float32))


def follow(part: Part, rest: Floats, face: Floats, jaw: Rigid, moved: Floats) -> Floats:
    """Return the offsets (N, 3) of a part whose face moves from ``rest`` to ``face`` (V, 3).

    ``jaw`` comes from `jaw_motion`; ``moved`` (N, 3) is where the part is before it follows.
    """
    if len(part.root):
        base, now = _frames(rest[part.root]), _frames(face[part.root])
        origin, place = rest[part.root].mean(1), face[part.root].mean(1)
        local = np.einsum("nij,nj->ni", base, moved - origin)
        return np.asarray(place + np.einsum("nij,ni->nj", now, local) - moved)
    offset = part.pull[:, None] * (face - rest)[part.anchor]
    if part.jaw.any():
        offset = offset + part.jaw[:, None] * jaw.offsets(moved)
    return offset.astype(np.float32)


def _frames(corners: Floats) -> Floats:
    """Return orthonormal rows (N, 3, 3): along the first edge, across it, out of the triangle."""
    along = corners[:, 1] - corners[:, 0]
    out = np.cross(along, corners[:, 2] - corners[:, 0])
    axes = np.stack([along, np.cross(out, along), out], 1)
    return np.asarray(axes / np.maximum(np.linalg.norm(axes, axis=2, keepdims=True), 1e-20))


# -- the file -------------------------------------------------------------------------------------


def _pack(values: Floats) -> Integers:
    """Return metres as whole steps, in 16 bits where they fit."""
    whole = np.round(np.asarray(values) / STEP)
    small = len(whole) == 0 or np.abs(whole).max() < 32767
    return whole.astype(np.int16 if small else np.int32)


def _sparse(offsets: Floats) -> tuple[NDArray[np.uint16], NDArray[np.integer]]:
    """Return the vertices that move, and their packed offsets."""
    moving = np.flatnonzero(np.abs(offsets).max(1) > STEP)
    return moving.astype(np.uint16), _pack(offsets[moving])


def save(path: Path, head: Head) -> None:
    """Write a head as one compressed .npz of plain arrays (positions in steps of 4 µm)."""
    arrays: dict[str, NDArray[np.generic]] = {
        "vertices": np.asarray(head.vertices, np.float32),
        "triangles": head.triangles.astype(np.uint16),
        "colours": np.round(head.colours * 255).astype(np.uint8),
        "materials": np.array(head.materials),
        "material": head.material.astype(np.uint8),
        "jaw_vertices": head.jaw_vertices.astype(np.uint16),
        "parts": np.array(list(head.parts)),
        "formulas": np.array([[n, FORMULAS[n]] for n in head.shapes if n in FORMULAS]),
    }
    for name, offsets in head.shapes.items():
        arrays[f"shape/{name}/at"], arrays[f"shape/{name}/by"] = _sparse(offsets)
    for name, part in head.parts.items():
        key = f"part/{name}"
        arrays[f"{key}/vertices"] = _pack(part.vertices)
        arrays[f"{key}/triangles"] = part.triangles.astype(np.uint16)
        arrays[f"{key}/material"] = np.array(part.material)
        arrays[f"{key}/jaw"] = np.round(part.jaw * 255).astype(np.uint8)
        arrays[f"{key}/anchor"] = part.anchor.astype(np.uint16)
        arrays[f"{key}/pull"] = np.round(part.pull * 255).astype(np.uint8)
        arrays[f"{key}/root"] = part.root.astype(np.uint16)
        for shape, offsets in part.shapes.items():
            arrays[f"{key}/shape/{shape}/at"], arrays[f"{key}/shape/{shape}/by"] = _sparse(offsets)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        np.savez_compressed(file, **cast(dict[str, Any], arrays))


def load(path: Path | str = ASSET) -> Head:
    """Read a head. Raises FaceError where the file is missing or is no head."""
    try:
        return _head(read_npz(Path(path)))
    except (OSError, KeyError, ValueError, IndexError) as error:
        raise FaceError(
            f"The demo head {Path(path).name} cannot be read: {error}.",
            "Make it again: python -m model head OUT.npz.",
        ) from error


def _head(arrays: dict[str, NDArray[np.generic]]) -> Head:
    """Put a head together from its stored arrays."""
    vertices = arrays["vertices"].astype(np.float32)
    return Head(
        vertices=vertices,
        triangles=arrays["triangles"].astype(np.int32),
        colours=arrays["colours"].astype(np.float32) / 255,
        materials=tuple(str(name) for name in arrays["materials"]),
        material=arrays["material"].astype(np.int32),
        jaw_vertices=arrays["jaw_vertices"].astype(np.int32),
        parts={str(name): _part(arrays, f"part/{name}") for name in arrays["parts"]},
        shapes=_shapes(arrays, "shape/", len(vertices)),
    )


def _part(arrays: dict[str, NDArray[np.generic]], key: str) -> Part:
    vertices = arrays[f"{key}/vertices"].astype(np.float32) * np.float32(STEP)
    return Part(
        vertices=vertices,
        triangles=arrays[f"{key}/triangles"].astype(np.int32),
        material=str(arrays[f"{key}/material"]),
        jaw=arrays[f"{key}/jaw"].astype(np.float32) / 255,
        anchor=arrays[f"{key}/anchor"].astype(np.int32),
        pull=arrays[f"{key}/pull"].astype(np.float32) / 255,
        root=arrays[f"{key}/root"].astype(np.int32),
        shapes=_shapes(arrays, f"{key}/shape/", len(vertices)),
    )


def _shapes(arrays: dict[str, NDArray[np.generic]], prefix: str, count: int) -> dict[str, Floats]:
    """Return dense offsets (count, 3) of every shape stored under a prefix."""
    shapes = {}
    for key, moving in arrays.items():
        if key.startswith(prefix) and key.endswith("/at"):
            name = key[len(prefix) : -len("/at")]
            offsets = np.zeros((count, 3), np.float32)
            offsets[moving] = arrays[f"{prefix}{name}/by"].astype(np.float32) * STEP
            shapes[name] = offsets
    return shapes


# -- the command ----------------------------------------------------------------------------------
