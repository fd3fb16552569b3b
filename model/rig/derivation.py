# SPDX-License-Identifier: GPL-3.0-or-later
"""What a rig knows about one head, as plain arrays: derived once, kept in a cache file.

Only the vertices that ever move are kept (`active`); every other array is over them.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..files import safe_write
from ..files.arrays import read_npz
from .attachments import Attachments, read_attachments
from .eyes import lid_angles
from .jaw import jaw_fields, jaw_hinge, jaw_weights
from .lip_contact import LipContact, Teeth, lip_contact
from .lip_shapes import Fields, lip_ids, mouth_fields
from .mesh import Floats, Integers, smoothstep
from .topology import FaceTopology
from .upper_face import upper_fields

Array = NDArray[np.floating]

SHIPPED = Path(__file__).parents[1] / "weights" / "rigs"
"""Derivations that come with the extension."""

VERSION = 5
"""Raised whenever a derivation would come out differently; part of the cache key."""

NEGLIGIBLE = 1e-5
"""Largest motion, in eye distances, that counts as none (0.6 µm of a life-size head)."""


@dataclass(frozen=True)
class EyeMotion:
    """How one eye and its lids turn; indices are into the active vertices."""

    centre: Array
    """Centre of the ball (3,)."""
    axis: Array
    """Axis of the lids (3,)."""
    ball: Integers
    """Vertices of the ball (B,)."""
    lids: Integers
    """Vertices of the lids (N,)."""
    angles: Array
    """Full travel of each lid vertex for the upper and the lower lid, radians (N, 2)."""


@dataclass(frozen=True)
class Derivation:
    """Everything that moves one head, in its canonical frame."""

    origin: Array
    """Canonical origin in mesh space (3,)."""
    axes: Array
    """Canonical axes in mesh space as columns (3, 3)."""
    unit: float
    """Eye distance in mesh units."""
    vertex_count: int
    """Vertices of the mesh."""
    active: Integers
    """Vertices that move (A,)."""
    positions: Array
    """Their rest positions (A, 3)."""
    linear_names: tuple[str, ...]
    """Controls with an additive field."""
    linear: Array
    """Their fields (L, A, 3)."""
    hinge: Array
    """Point on the jaw's axis (3,)."""
    jaw: Array
    """Share of the jaw's motion (A,)."""
    contact: LipContact
    """Lip contact; indices into the active vertices."""
    eyes: tuple[EyeMotion, EyeMotion]
    """Left and right."""
    eye_corners: Integers
    """Outer corners of both eyes, as mesh vertices (2,)."""
    eye_corner_distance: float
    """Their distance at rest, in eye distances."""
    regions: Array
    """Soft masks over all mesh vertices: jaw, lips, upper face (3, V)."""
    bound: Integers
    """Mesh vertices that follow the skin (B,) …"""
    anchor: Integers
    """… as these mesh vertices do (B,)."""


def derive(vertices: ArrayLike, triangles: ArrayLike) -> Derivation:
    """Derive everything from vertices (V, 3) and triangles (T, 3); raises `FaceError`."""
    return derive_face(FaceTopology.from_mesh(vertices, triangles))


def derive_face(face: FaceTopology) -> Derivation:
    """Derive everything from a head that has been read."""
    fields_ = mouth_fields(face)
    for name, field in upper_fields(face).items():
        fields_[name] = fields_[name] + field if name in fields_ else field
    hinge = jaw_hinge(face)
    jaw = jaw_weights(face, hinge)
    contact = lip_contact(face)
    angles = [lid_angles(face.positions, face.surface, lids) for lids in face.lids]
    for field in fields_.values():
        field[~face.is_skin] = 0.0
    others = read_attachments(face)
    jaw[others.jaw] = 1.0
    fields_ |= jaw_fields(face, hinge, jaw)
    moving = jaw > 0
    moving[contact.follow] = True
    for lids, shell, angle in zip(face.lids, others.balls, angles, strict=True):
        moving[lids.eye.ball] = moving[shell] = True
        moving |= np.abs(angle).max(1) > NEGLIGIBLE
    for field in fields_.values():
        moving |= np.abs(field).max(1) > NEGLIGIBLE
    active = np.flatnonzero(moving)
    place = np.full(len(moving), -1)
    place[active] = np.arange(len(active))
    outer = [lids.outer for lids in face.lids]
    return Derivation(
        face.frame.origin, face.frame.axes, face.frame.unit, len(moving), active,
        _single(face.positions[active]), tuple(fields_),
        _single(np.stack([field[active] for field in fields_.values()])),
        hinge, _single(jaw[active]), _placed(contact, place),
        (_eye_motion(face, 0, angles[0], others, place),
         _eye_motion(face, 1, angles[1], others, place)),
        np.array(outer), float(np.linalg.norm(face.positions[outer[0]] - face.positions[outer[1]])),
        _regions(face, jaw, fields_), others.bound, others.anchor,
    )  # fmt: skip


def _single(array: Floats) -> Array:
    """Return the array as float32, which is exact to 0.01 µm here."""
    return array.astype(np.float32)


def _placed(contact: LipContact, place: Integers) -> LipContact:
    """Return the contact with indices into the active vertices and single-precision weights."""
    values = {f.name: getattr(contact, f.name) for f in fields(contact)}
    for name in ("upper", "lower", "follow"):
        values[name] = place[values[name]]
    values["spread"] = _single(values["spread"])
    return LipContact(**values)


def _eye_motion(
    face: FaceTopology, which: int, angles: Floats, others: Attachments, place: Integers
) -> EyeMotion:
    """Collect the motion of the left (0) or right (1) eye."""
    lids = face.lids[which]
    turned = np.flatnonzero(np.abs(angles).max(1) > NEGLIGIBLE)
    ball = np.concatenate([lids.eye.ball, others.balls[which]])
    return EyeMotion(
        lids.eye.centre, lids.axis, place[ball], place[turned], _single(angles[turned])
    )


def _regions(face: FaceTopology, jaw: Floats, moves: Fields) -> Array:
    """Soft masks (3, V): what the jaw carries, what the lips move, and the upper face.

    The upper face is what brows and lids move, up to a smooth edge at the lower lids' height.
    """
    lips = np.zeros_like(jaw)
    for name in ("mouthPucker", "mouthFunnel", "mouthStretchLeft", "mouthStretchRight"):
        strength = np.linalg.norm(moves[name], axis=1)
        lips = np.maximum(lips, strength / strength.max())
    lips[lip_ids(face)] = 1.0
    height = smoothstep(face.positions[:, 1], -0.45, -0.15)
    depth = smoothstep(face.positions[:, 2], -0.9, -0.5)
    upper = np.where(face.is_skin, height * depth, 0.0)
    for eye in face.eyes:
        upper[eye.ball] = 1.0
    return _single(np.stack([jaw, smoothstep(lips, 0.0, 0.6), upper]))


def cached_derivation(
    vertices: NDArray[np.floating], triangles: Integers, folder: Path | None
) -> Derivation:
    """Return the derivation of a mesh, read from or written to `folder` when one is given.

    The demo head's comes with the extension.
    """
    if folder is None:
        return derive(vertices, triangles)
    path = cache_file(folder, vertices, triangles)
    for known in (SHIPPED / path.name, path):
        with suppress(OSError, KeyError, ValueError, TypeError, IndexError):
            return _load(known)
    derivation = derive(vertices, triangles)
    save(path, derivation)
    return derivation


def cache_file(folder: Path, vertices: NDArray[np.floating], triangles: Integers) -> Path:
    """Return where the derivation of a mesh is kept in a folder."""
    digest = hashlib.sha256(f"rig {VERSION}".encode())
    digest.update(np.ascontiguousarray(vertices, dtype="<f4").tobytes())
    digest.update(np.ascontiguousarray(triangles, dtype="<i4").tobytes())
    return folder / f"rig-{digest.hexdigest()[:32]}.npz"


def save(path: Path, derivation: Derivation, *, compressed: bool = False) -> None:
    """Write a derivation whole or, where the folder cannot be written, not at all."""
    arrays = {name: value for name, value in asdict(derivation).items() if name != "eyes"}
    contact = arrays.pop("contact")
    teeth = contact.pop("teeth")
    arrays |= {f"contact.{name}": value for name, value in contact.items()}
    arrays["contact.teeth"] = np.array(list(teeth.values()))
    for side, eye in enumerate(derivation.eyes):
        arrays |= {f"eye{side}.{name}": value for name, value in asdict(eye).items()}
    write = np.savez_compressed if compressed else np.savez
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with safe_write.written(path) as part, part.open("r+b") as file:
            write(file, **arrays)


def _load(path: Path) -> Derivation:
    """Read a derivation back; raises where there is none or it is damaged."""
    arrays: dict[str, Any] = dict(read_npz(path))
    eyes = [
        EyeMotion(**{f.name: arrays.pop(f"eye{side}.{f.name}") for f in fields(EyeMotion)})
        for side in range(2)
    ]
    contact = {f.name: arrays.pop(f"contact.{f.name}") for f in fields(LipContact)}
    contact["teeth"] = Teeth(*contact["teeth"].tolist())
    arrays["linear_names"] = tuple(arrays["linear_names"].tolist())
    for name in ("unit", "vertex_count", "eye_corner_distance"):
        arrays[name] = arrays[name].item()
    return Derivation(contact=LipContact(**contact), eyes=(eyes[0], eyes[1]), **arrays)
