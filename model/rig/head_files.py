# SPDX-License-Identifier: GPL-3.0-or-later
"""Read a head mesh and find how it lies against the model's own: order, axes, units.

    V vertices   T triangles

A vertex model moves vertices in the order, axes and units of its template. The user's head has the
same vertices in the same order, but may be turned, moved, scaled or another person's: a similarity
fit (Umeyama 1991, eqs. 34-42) says how, and its residual tells another head from another order.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import FaceError
from ..files import arrays, meshes

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

DEMO_HEAD = Path(__file__).parents[1] / "weights" / "head.npz"
FARTHEST = 1e9  # units; a head in thousandths of a millimetre stays far below
HEAD_WIDTH = 0.16  # metres, from ear to ear of a life-size head
_SAME_HEAD = 0.25  # residual, as a share of the head's radius, above which the order must differ
_STRAIGHT = np.cos(np.radians(4.0))  # turns smaller than this come from a different face, not axes


@dataclass(frozen=True)
class Face:
    """A head mesh: vertices (V, 3) in its own units and axes, triangles (T, 3), a name."""

    vertices: Floats
    triangles: Integers
    name: str

    @property
    def key(self) -> str:
        """A digest of the geometry, for caches."""
        digest = hashlib.sha256(np.ascontiguousarray(self.vertices, np.float32).tobytes())
        digest.update(np.ascontiguousarray(self.triangles, np.int32).tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class Placement:
    """How a face lies against the model's template: face ≈ scale · rotation · template + shift.

    residual is the root mean square distance left, as a share of the template's radius.
    """

    scale: float
    rotation: Floats
    residual: float

    def carry(self, offsets: ArrayLike) -> NDArray[np.float32]:
        """Bring offsets (…, V, 3) of the template to the face's units and axes."""
        matrix = (self.scale * self.rotation.T).astype(np.float32)
        return np.asarray(offsets, np.float32) @ matrix


def read(path: str | Path) -> Face:
    """Read a `.npz`, `.ply` or `.obj` head, or the demo head for "demo". Raises `FaceError`."""
    path = DEMO_HEAD if str(path) == "demo" else Path(path)
    reader = {".npz": _read_npz, ".ply": meshes.read_ply, ".obj": meshes.read_obj}.get(
        path.suffix.lower()
    )
    if reader is None:
        raise FaceError(f"{path.name} is no .ply, .obj or .npz head.", hint="Convert it to one.")
    if not os.path.isfile(path):  # noqa: PTH113 - False for a name too long, too
        raise FaceError(f"There is no head file {path}.", hint="Choose another file.")
    try:
        vertices, triangles = reader(path)
        with np.errstate(over="ignore", invalid="ignore"):
            return _checked(vertices, triangles, path.name)
    except (OSError, ValueError, KeyError, MemoryError) as error:
        raise FaceError(
            f"{path.name} is not a readable head mesh ({error}).", hint="Export it again."
        ) from error


def _checked(vertices: ArrayLike, triangles: ArrayLike, name: str) -> Face:
    for numbers in (np.asarray(vertices), np.asarray(triangles)):
        if numbers.dtype.kind not in "fiu":
            raise ValueError("its vertices or triangles are no numbers")
    if not (np.abs(np.asarray(triangles, np.float64)) < 2**31).all():
        raise ValueError("its triangles are no indices")
    points = np.asarray(vertices, np.float64)
    corners = np.asarray(triangles, np.int64).reshape(-1, 3)
    if points.ndim != 2 or points.shape[1] != 3 or len(points) < 4:
        raise FaceError(f"{name} holds no vertices (V, 3).")
    if not np.isfinite(points).all():
        raise FaceError(f"{name} holds coordinates that are not numbers.", hint="Export it again.")
    if corners.size and (corners.min() < 0 or corners.max() >= len(points)):
        raise FaceError(
            f"{name} has triangles that name missing vertices.", hint="Export it again."
        )
    if np.abs(points).max() > FARTHEST:
        raise FaceError(f"{name} holds coordinates beyond all measure.", hint="Export it again.")
    if np.ptp(points, axis=0).max() <= 1 / FARTHEST:
        raise FaceError(f"All vertices of {name} lie in one point.")
    return Face(points, corners, name)


def _read_npz(path: Path) -> tuple[ArrayLike, ArrayLike]:
    found = arrays.read_npz(path, ("vertices", "triangles", "faces"))
    empty = np.zeros((0, 3), np.int64)
    return found["vertices"], found.get("triangles", found.get("faces", empty))


def place(face: Face, template: ArrayLike | None, what: str, count: int) -> Placement:
    """Fit the model's template of `count` vertices onto a face with the same vertices.

    Without a template only the number of vertices can be checked: the face is then taken to lie as
    the model's faces do, in units guessed from its width.

    A rotation within four degrees of the coordinate axes is taken for those axes: two people's
    heads differ by that much without one being turned. Raises `FaceError` for another number of
    vertices or another order; `what` names the model in it.
    """
    if count != len(face.vertices):
        raise FaceError(
            f"{face.name} has {len(face.vertices):,} vertices; {what} moves heads of {count:,}.",
            hint="Choose a head with the model's own mesh, or the bundled model, which fits any.",
        )
    if template is None:
        return Placement(metres(face.vertices), np.eye(3), float("nan"))
    model = np.asarray(template, np.float64)
    scale, rotation, residual = similarity(model, face.vertices)
    if residual > _SAME_HEAD:  # a mirrored head is fine, too
        scale, rotation, residual = similarity(model, face.vertices, handedness=-1.0)
    if residual > _SAME_HEAD:
        raise FaceError(
            f"{face.name} has the right number of vertices, but in another order than {what}.",
            hint="Import the head again with its vertex order kept.",
        )
    straight = _nearest_axes(rotation)
    turned = (np.trace(straight.T @ rotation) - 1) / 2  # cosine of the angle between the two
    return Placement(scale, straight if turned > _STRAIGHT else rotation, residual)


def similarity(
    source: Floats, target: Floats, handedness: float = 1.0
) -> tuple[float, Floats, float]:
    """Return scale, rotation (3, 3) and relative residual of the best target ≈ s · R · source + t.

    `handedness` is the rotation's determinant: -1 looks for a mirrored target.
    """
    a, b = source - source.mean(axis=0), target - target.mean(axis=0)
    u, singular, vt = np.linalg.svd(b.T @ a / len(a))
    sign = np.array([1.0, 1.0, handedness * (np.sign(np.linalg.det(u @ vt)) or 1.0)])
    rotation = u @ np.diag(sign) @ vt
    variance = np.square(a).sum() / len(a)
    scale = float((singular * sign).sum() / variance)
    left = b - scale * a @ rotation.T
    radius = np.sqrt(np.square(b).sum(axis=1).mean())
    return scale, rotation, float(np.sqrt(np.square(left).sum(axis=1).mean()) / radius)


def _nearest_axes(rotation: Floats) -> Floats:
    """Return the axis-aligned rotation nearest to one within reach, else the rotation itself."""
    straight = np.zeros((3, 3))
    rows = np.abs(rotation).argmax(axis=0)
    straight[rows, range(3)] = np.sign(rotation[rows, range(3)])
    return straight if np.isclose(np.linalg.det(straight @ rotation), 1.0) else rotation


def metres(vertices: ArrayLike) -> float:
    """Return how many of a head's own units make a metre, from its width if it is not in metres."""
    width = float(np.sort(np.ptp(np.asarray(vertices), axis=0))[0])
    return 1.0 if 0.1 < width < 0.4 else width / HEAD_WIDTH
