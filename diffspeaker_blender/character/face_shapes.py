# SPDX-License-Identifier: GPL-3.0-or-later
"""A character without face shapes: what the worker gets of it, its points, the keys it is given.

The points are empties that bear the name of what they mark; whoever finds one in the wrong place
moves it.  The geometry itself is the worker's (`model/rig/transfer.py`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import bpy
import numpy as np
from mathutils import Vector
from numpy.typing import NDArray

from ..errors import HeadError
from ..files.arrays import read_npz
from . import detect

Floats = NDArray[np.floating]

POINT = "diffspeaker.face_point"
"""Property of an empty: the name of the point that it marks …"""
OWNER = "diffspeaker.face_of"
"""… and that of the mesh it was set for."""
MADE = "diffspeaker.made_shapes"
"""Property of a mesh's keys: the names that were made, so that they can be taken away again."""
BASIS = "diffspeaker.made_basis"
"""Property of the keys: whether they were all made by us."""

LABELS = {
    "eye_inner_left": "inner corner of the left eye",
    "eye_inner_right": "inner corner of the right eye",
    "eye_outer_left": "outer corner of the left eye",
    "eye_outer_right": "outer corner of the right eye",
    "nose_tip": "tip of the nose",
    "corner_left": "left corner of the mouth",
    "corner_right": "right corner of the mouth",
    "lip_upper": "foremost point of the upper lip",
    "lip_lower": "foremost point of the lower lip",
    "chin": "tip of the chin",
    "ear_left": "outermost point of the left ear",
    "ear_right": "outermost point of the right ear",
}
"""The points, in the words of the guide; left is the character's own left."""

HEAD, STILL = 0.15, 0.02
"""Upper share of a mesh that is head in any case, and what a bone may be turned or moved there."""

LEAST = 1e-5
"""A shape that moves nothing of an object by this share of the face's size makes no key there."""


def check(obj: Any) -> None:
    """Raise HeadError where shapes cannot be made on an object, saying why."""
    if obj is None or obj.type != "MESH":
        raise HeadError("No mesh is picked.", "Pick the mesh of the character's face.")
    if obj.mode != "OBJECT":
        raise HeadError(f"{obj.name} is being edited.", "Go back to Object Mode.")
    for one in detect.members(obj):
        if one.library or one.data.library or one.data.override_library:
            raise HeadError(
                f"{one.name} is linked, so it can be given no shape keys here.",
                "Make it local, or make the shapes in its own file.",
            )
    if made(obj):
        raise HeadError(f"{obj.name} has been given face shapes already.", "Remove them first.")
    if any(one.type == "MIRROR" and one.show_viewport for one in obj.modifiers):
        raise HeadError(
            f"{obj.name} is half a face, completed by a Mirror modifier.",
            "Apply the modifier; left and right need shapes of their own.",
        )
    if obj.data.shape_keys is not None and not obj.data.shape_keys.use_relative:
        raise HeadError(f"The shape keys of {obj.name} are absolute.", "Make them relative.")
    bone = _posed(obj)
    if bone:
        raise HeadError(
            f"{obj.name} is posed: its bone {bone} is turned.",
            "Set its armature to Rest Position until the shapes are made.",
        )


def _posed(obj: Any) -> str:
    """Return the name of a bone that holds the head out of its rest, or nothing."""
    rigs = [one.object for one in obj.modifiers if one.type == "ARMATURE" and one.object]
    rigs = [rig for rig in rigs if rig.data.pose_position == "POSE"]
    if not rigs or not len(obj.data.vertices):
        return ""
    height = detect.coordinates(obj.data.vertices) @ np.array(obj.matrix_world)[2, :3]
    top = np.flatnonzero(height > height.max() - HEAD * np.ptp(height))
    near = [obj.data.vertices[int(v)] for v in top[:: max(1, len(top) // 200)]]
    used = {obj.vertex_groups[g.group].name for v in near for g in v.groups if g.weight > 0.1}
    for rig in rigs:
        for bone in (rig.pose.bones[name] for name in sorted(used) if name in rig.pose.bones):
            change = np.array(bone.matrix) - np.array(bone.bone.matrix_local)
            size = np.array([STILL, STILL, STILL, 2 * STILL * bone.bone.length])
            if (np.abs(change[:3]) > size).any():
                return str(bone.name)
    return ""


def _shown(mesh: Any) -> Floats:
    """Return the form (V, 3) that a mesh's own keys give it now: a modelled person, often."""
    keys = mesh.shape_keys
    if keys is None:
        return np.asarray(detect.coordinates(mesh.vertices))
    form = np.array(detect.coordinates(keys.reference_key.points))
    for block in keys.key_blocks:
        if block != keys.reference_key and block.value and not block.mute:
            change = detect.coordinates(block.points) - detect.coordinates(
                block.relative_key.points
            )
            form += block.value * change
    return form


def write(obj: Any, path: Path, points: dict[str, Vector] | None = None) -> Path:
    """Write the character that an object is of, in world space at rest, for the worker."""
    members = detect.members(obj)
    vertices, triangles, owner, count = [], [], [], 0
    for number, one in enumerate(members):
        mesh = one.data
        world = np.array(one.matrix_world)
        local = _shown(mesh)
        vertices.append(local @ world[:3, :3].T + world[:3, 3])
        triangles.append(detect.triangles(mesh) + count)
        owner.append(np.full(len(mesh.vertices), number))
        count += len(mesh.vertices)
    given = points or {}
    upright = np.array(obj.matrix_world)[:3, :3]
    upright = upright / np.maximum(np.linalg.norm(upright, axis=0), 1e-12)
    np.savez(
        path, vertices=np.concatenate(vertices), triangles=np.concatenate(triangles),
        owner=np.concatenate(owner), face=members.index(obj), names=np.array(list(given)),
        points=np.array([[place.x, place.y, place.z] for place in given.values()]).reshape(-1, 3),
        upright=upright,
    )  # fmt: skip
    return path


# -- points ---------------------------------------------------------------------------------------


def markers(obj: Any) -> dict[str, Any]:
    """Return the empties that mark an object's face, by the names of their points."""
    return {
        str(one[POINT]): one
        for one in bpy.data.objects
        if one.type == "EMPTY" and one.get(OWNER) == obj.name and one.get(POINT)
    }


def points_of(obj: Any) -> dict[str, Vector]:
    """Return where the points of a face are, in world space. Raises HeadError where one lacks."""
    bpy.context.view_layer.update()
    found = {name: one.matrix_world.translation.copy() for name, one in markers(obj).items()}
    lacking = [text for name, text in LABELS.items() if name not in found]
    if lacking:
        raise HeadError(
            f"A point is missing: the {lacking[0]}.", "Press Find Points to set them all again."
        )
    return {name: found[name] for name in LABELS}


def move_points(obj: Any, given: dict[str, Any]) -> None:
    """Move points of a face to places (3,) in world space. Raises HeadError."""
    there = markers(obj)
    for name, where in given.items():
        if name not in LABELS:
            raise HeadError(f"There is no point {name}.", "The points: " + ", ".join(LABELS))
        if name not in there or np.shape(where) != (3,):
            raise HeadError(f"The point {name} needs a place of three numbers, in world space.")
        there[name].matrix_world.translation = where


def place(obj: Any, found: Path) -> int:
    """Set the points of a face from the worker's answer; return how many of them are doubtful."""
    remove_markers(obj)
    file = read_npz(found)
    names, places, doubtful = file["names"], file["points"], file["doubtful"]
    size = 0.04 * float(np.linalg.norm(np.ptp(places, axis=0)))
    for name, where, unsure in zip(names.tolist(), places, doubtful, strict=True):
        marker = bpy.data.objects.new(f"{obj.name} {name}{' ?' if unsure else ''}", None)
        marker.empty_display_type, marker.empty_display_size = "SPHERE", size
        marker.show_name = marker.show_in_front = True
        marker[POINT], marker[OWNER] = name, obj.name
        marker.location = where
        for collection in obj.users_collection:
            collection.objects.link(marker)
    return int(doubtful.sum())


def snap(obj: Any, *, mirror: bool) -> None:
    """Put each point on the nearest place of the face's surface, or set the right by the left."""
    bpy.context.view_layer.update()
    world = obj.matrix_world
    back = world.inverted_safe()
    local = {name: back @ one.matrix_world.translation for name, one in markers(obj).items()}
    if mirror:
        middle, across = _plane(local)
        for name in [n for n in local if n.endswith("_left")]:
            away = (local[name] - middle).dot(across)
            local[name.replace("_left", "_right")] = local[name] - 2 * away * across
    for name, marker in markers(obj).items():
        hit, there, _normal, _face = obj.closest_point_on_mesh(local[name])
        if hit:
            marker.matrix_world.translation = world @ there


def _plane(local: dict[str, Vector]) -> tuple[Vector, Vector]:
    """Return a point of the face's mirror plane and its unit normal, towards the left."""
    pairs = [
        (place, local[name.replace("_left", "_right")])
        for name, place in local.items()
        if name.endswith("_left") and name.replace("_left", "_right") in local
    ]
    if not pairs:
        raise HeadError("There are no pairs of points to mirror.", "Press Find Points first.")
    across = sum(((one - other) for one, other in pairs), Vector()).normalized()
    axis = max(range(3), key=lambda k: abs(across[k]))
    straight = Vector([np.sign(across[k]) * (k == axis) for k in range(3)])
    if across.dot(straight) > 0.99:  # a character stands straight in its own space
        across = straight
    middle = sum(((one + other) / 2 for one, other in pairs), Vector()) / len(pairs)
    for name in ("nose_tip", "chin"):
        if name in local:
            middle = local[name].copy()
            break
    return middle, across


def remove_markers(obj: Any) -> None:
    """Take the points of a face away."""
    for one in markers(obj).values():
        bpy.data.objects.remove(one)


# -- keys -----------------------------------------------------------------------------------------


def made(obj: Any) -> list[str]:
    """Return the names of the shapes that were made on a mesh."""
    keys = obj.data.shape_keys if obj is not None and obj.type == "MESH" else None
    return list(json.loads(keys.get(MADE, "[]"))) if keys is not None else []


def add(obj: Any, answer: Path) -> dict[str, Any]:
    """Give a character the shapes in the worker's answer; return its report.

    Each object gets the keys that move it; keys of the same name that are there already stay as
    they are.  Raises HeadError when the character has changed meanwhile.
    """
    file = read_npz(answer)
    names, shapes = file["names"].tolist(), file["shapes"]
    report = dict(json.loads(str(file["report"])))
    members = detect.members(obj)
    if sum(len(one.data.vertices) for one in members) != shapes.shape[1]:
        raise HeadError(f"{obj.name} was changed while its shapes were made.", "Make them again.")
    least = LEAST * float(np.abs(shapes).max(initial=0.0)) * 50
    start = 0
    for one in members:
        part = shapes[:, start : start + len(one.data.vertices)]
        start += len(one.data.vertices)
        turn = np.linalg.inv(np.array(one.matrix_world)[:3, :3])
        moving = np.abs(part).max((1, 2)) > least
        _add(one, {n: part[k] @ turn.T for k, n in enumerate(names) if moving[k]})
    return report


def _add(obj: Any, shapes: dict[str, Floats]) -> None:
    """Give one object keys."""
    if not shapes:
        return
    fresh = obj.data.shape_keys is None
    if fresh:
        obj.shape_key_add(name="Basis", from_mix=False)
    keys = obj.data.shape_keys
    rest = detect.coordinates(keys.reference_key.points)
    new = [name for name in shapes if name not in keys.key_blocks]
    for name in new:
        block = obj.shape_key_add(name=name, from_mix=False)
        block.points.foreach_set("co", (rest + shapes[name]).astype(np.float32).ravel())
        block.value = 0.0  # Blender 5.2 starts at 1
    keys[MADE], keys[BASIS] = json.dumps(new), fresh
    obj.active_shape_key_index = 0


def remove(obj: Any) -> int:
    """Take all shapes that were made away from a character; return how many keys went."""
    gone = 0
    for one in detect.members(obj):
        keys, names = one.data.shape_keys, made(one)
        if keys is None or not names:
            continue
        alone = bool(keys.get(BASIS)) and len(keys.key_blocks) == len(names) + 1
        for name in names:
            block = keys.key_blocks.get(name)
            if block is not None:
                one.shape_key_remove(block)
                gone += 1
        if alone:
            one.shape_key_clear()
        else:
            for name in (MADE, BASIS):
                del keys[name]
    detect.forget_all(detect.members(obj))
    return gone


POSES: dict[str, dict[str, float]] = {
    "Ah": {"jawOpen": 0.6},
    "Ee": {"jawOpen": 0.15, "mouthStretchLeft": 0.6, "mouthStretchRight": 0.6},
    "Oo": {"jawOpen": 0.15, "mouthPucker": 0.9},
    "M": {"jawOpen": 0.2, "mouthClose": 0.2},
    "F": {"jawOpen": 0.1, "lipTuck": 1.0},
    "Smile": {"mouthSmileLeft": 0.9, "mouthSmileRight": 0.9},
    "Blink": {"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0},
    "Brows": {"browInnerUp": 1.0, "browOuterUpLeft": 1.0, "browOuterUpRight": 1.0},
}
"""Test poses: what the made keys are set to."""


def pose(obj: Any, name: str) -> bool:
    """Show a test pose on a character, or its rest where the pose is shown; return which."""
    wanted = POSES.get(name, {})
    blocks = [
        (block, wanted.get(block.name, 0.0))
        for one in detect.members(obj)
        if (keys := one.data.shape_keys) is not None
        for block in keys.key_blocks
        if block.name in made(one)
    ]
    shown = bool(wanted) and all(abs(block.value - value) < 1e-4 for block, value in blocks)
    for block, value in blocks:
        block.value = 0.0 if shown else value
    return not shown
