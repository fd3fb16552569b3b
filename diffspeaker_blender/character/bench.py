# SPDX-License-Identifier: GPL-3.0-or-later
"""A rig on which channels are tried: set, let Blender evaluate, measure the meshes, put back.

Nothing is believed of a rig but what its meshes do. Everything is measured in the face's own space
(`Space`): left, up and forward of the lips' middle, in mouth widths.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import bpy
import numpy as np
from mathutils import Matrix
from numpy.typing import NDArray

from . import detect
from .mapping import Place
from .mouth import Mouth
from .probe import Part

Floats = NDArray[np.float64]

_AXES: tuple[Literal["X"], Literal["Y"], Literal["Z"]] = ("X", "Y", "Z")
TURN = 0.2
"""Radians that a bone is turned by to see what it does."""
MACHINERY = re.compile(r"^(?:DEF|MCH|ORG)-", re.IGNORECASE)
"""Bones of a generated rig that its controls move."""
_HELD = {
    "COPY_TRANSFORMS",
    "COPY_ROTATION",
    "CHILD_OF",
    "ARMATURE",
    "DAMPED_TRACK",
    "TRACK_TO",
    "LOCKED_TRACK",
    "STRETCH_TO",
    "IK",
}
_DRIVEN = re.compile(r'^pose\.bones\["(.+?)"\]\.(?:rotation|location)')


class Bench:
    """A rig in its rest pose; everything is put back at the end."""

    def __init__(self, rig: Any, meshes: list[Any], parts: list[Part]) -> None:
        self.rig, self.meshes = rig, meshes
        self.position = rig.data.pose_position
        self.parts = parts
        data = rig.animation_data
        paths = [curve.data_path for curve in data.drivers] if data is not None else []
        found = [_DRIVEN.match(path) for path in paths]
        self.driven = {bpy.utils.unescape_identifier(one.group(1)) for one in found if one}
        prefixes = {b.name[:4].upper() for b in rig.data.bones}
        self.generated = bool(prefixes & {"MCH-", "ORG-"})

    def __enter__(self) -> Bench:
        if self.position != "POSE":
            self.rig.data.pose_position = "POSE"
        upright = Matrix.Identity(4)
        self.stood = {
            bone.name: bone.matrix_basis.copy()
            for bone in self.rig.pose.bones
            if bone.matrix_basis != upright
        }
        for name in self.stood:
            self.rig.pose.bones[name].matrix_basis = upright
        self._update()
        self.rest = {mesh.name: self._points(mesh) for mesh in self.meshes}
        return self

    def __exit__(self, *_: object) -> None:
        if self.position != "POSE":
            self.rig.data.pose_position = self.position
        for name, stood in self.stood.items():
            self.rig.pose.bones[name].matrix_basis = stood
        self._update()

    # -- which bones may be tried -------------------------------------------------------------

    def free(self, bone: Any) -> bool:
        """Return whether a pose bone obeys: no constraint and no driver holds it."""
        return bone.name not in self.driven and not any(
            c.type in _HELD and not c.mute and c.is_valid and c.influence > 0.99
            for c in bone.constraints
        )

    def controls(self) -> list[Any]:
        """Return free bones that are nobody's machinery."""
        return [
            bone
            for bone in self.rig.pose.bones
            if self.free(bone) and not (self.generated and MACHINERY.match(bone.name))
        ]

    def channels(self, bone: Any, path: str) -> list[Place]:
        """Return the axes of a bone that are not locked; a connected bone does not move."""
        if path == "location" and bone.bone.use_connect:
            return []
        locked = bone.lock_rotation if path == "rotation" else bone.lock_location
        return [
            Place("bone", self.rig.name, bone.name, path, axis)
            for axis in range(3)
            if not locked[axis]
        ]

    def ends(self, bone: Any) -> Floats:
        """Return a bone's head and tail (2, 3) in the world, as it rests."""
        world = np.array(self.rig.matrix_world)
        ends = np.array([bone.bone.head_local, bone.bone.tail_local])
        return np.asarray(ends @ world[:3, :3].T + world[:3, 3])

    def unit(self, length: float) -> float:
        """Return a length of the world in the rig's own unit."""
        return length / max(float(self.rig.matrix_world.median_scale), 1e-12)

    # -- trying -------------------------------------------------------------------------------

    def _update(self) -> None:
        bpy.context.view_layer.update()

    def _points(self, mesh: Any) -> Floats:
        graph = bpy.context.evaluated_depsgraph_get()
        shown = mesh.evaluated_get(graph)
        data = shown.to_mesh()
        points = detect.coordinates(data.vertices)
        shown.to_mesh_clear()
        world = np.array(shown.matrix_world)
        count = len(mesh.data.vertices)
        return np.asarray(points[:count] @ world[:3, :3].T + world[:3, 3])

    def moved(self, values: dict[Place, float], only: Any = None) -> dict[str, Floats]:
        """Return how the meshes move (V, 3) when channels are set (turns in radians)."""
        undo = [(place, self._get(place)) for place in values]
        try:
            for place, value in values.items():
                self._add(place, value)
            self._update()
            wanted = self.meshes if only is None else [only]
            return {m.name: self._points(m) - self.rest[m.name] for m in wanted}
        finally:  # Blender hears of it with the next update
            for place, former in reversed(undo):
                self._put(place, former)

    def _get(self, place: Place) -> Any:
        if place.kind == "property":
            return holder_of(self.rig, place)[place.name]
        return self.rig.pose.bones[place.name].matrix_basis.copy()

    def _put(self, place: Place, value: Any) -> None:
        if place.kind == "property":
            holder_of(self.rig, place)[place.name] = value
            self.rig.update_tag()
        else:
            self.rig.pose.bones[place.name].matrix_basis = value

    def _add(self, place: Place, value: float) -> None:
        if place.kind == "property":
            holder = holder_of(self.rig, place)
            kind = type(holder[place.name])
            holder[place.name] = kind(round(value)) if kind in (int, bool) else float(value)
            self.rig.update_tag()
            return
        bone = self.rig.pose.bones[place.name]
        if place.path == "rotation":  # about X, then Y, then Z, as `channels.turns` has it
            at = Matrix.Translation(bone.matrix_basis.to_translation())
            turned = Matrix.Rotation(value, 3, _AXES[place.index]) @ bone.matrix_basis.to_3x3()
            bone.matrix_basis = at @ turned.to_4x4()
        else:
            step = [0.0, 0.0, 0.0]
            step[place.index] = value
            bone.matrix_basis = Matrix.Translation(step) @ bone.matrix_basis

    def bases(self, places: Iterable[Place]) -> dict[str, dict[str, list[float]]]:
        """Return how the bones stood before they were tried."""
        found = {}
        for name in dict.fromkeys(place.name for place in places if place.kind == "bone"):
            basis = self.stood.get(name) or self.rig.pose.bones[name].matrix_basis
            found[name] = {
                "rotation": [round(v, 6) for v in basis.to_quaternion()],
                "location": [round(v, 6) for v in basis.to_translation()],
            }
        return found


def holder_of(rig: Any, place: Place) -> Any:
    """Return the datablock or bone that has a custom property."""
    if place.path == "data":
        return rig.data
    return rig.pose.bones[place.path] if place.path else rig


def size_of(points: Floats) -> float:
    """Return the diagonal of the box around points."""
    return float(np.linalg.norm(np.ptp(points, 0))) if len(points) else 0.0


@dataclass(frozen=True)
class Space:
    """A face's own space: left, up, forward of the middle of its lips, in mouth widths."""

    mouth: Mouth
    part: Part
    """The mesh that has the lips."""

    def points(self, points: Floats) -> Floats:
        """Turn points of the world (V, 3) into the face's space."""
        rest = self.part.rest[np.r_[self.mouth.upper, self.mouth.lower]]
        local = (points - rest.mean(0)) @ self.mouth.frame.axes.T
        return np.asarray(local / self.mouth.width)

    def offsets(self, offsets: Floats) -> Floats:
        """Turn motion in the world (V, 3) into the face's space."""
        return np.asarray(offsets @ self.mouth.frame.axes.T / self.mouth.width)

    def skin(self) -> Any:
        """Return which vertices of the mesh with the lips are of their piece (V,)."""
        pieces = self.part.islands
        lips = pieces[np.r_[self.mouth.upper, self.mouth.lower]]
        return np.asarray(pieces == np.bincount(lips).argmax())


def solve(table: Floats, wanted: Floats, ridge: float) -> Floats:
    """Return amounts (N,) of responses (N, D) that come to what is wanted (D,), none too large."""
    if not len(table):
        return np.zeros(0)
    square = table @ table.T
    weight = ridge * float(np.trace(square)) / len(square)
    return np.asarray(np.linalg.solve(square + weight * np.eye(len(square)), table @ wanted))
