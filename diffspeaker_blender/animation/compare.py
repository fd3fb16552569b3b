# SPDX-License-Identifier: GPL-3.0-or-later
"""Show another take on a copy of the head, beside it, and take the copy away again."""

from __future__ import annotations

from typing import Any

import bpy
from mathutils import Vector

from ..character import detect
from ..errors import HeadError
from . import actions, clips, takes

MARK = "diffspeaker_compare"
"""Custom property of copies made for comparing; holds the name of the head they stand beside."""


def compare(context: Any, target: Any, clip: str, place: int) -> Any:
    """Put a copy of a head and all that follows it beside it, showing another take.

    A copy that stood there goes first. Raises HeadError, MotionError.
    """
    end(target)
    if target.override_library is not None:
        raise HeadError(
            f"{target.name} is linked, so its takes cannot stand side by side.",
            "Switch between them instead.",
        )
    drawn = detect.read_mapping(target)
    if drawn is not None and drawn.drawn is not None:
        raise HeadError(
            f"{target.name} has drawn mouths, which its copy would share.",
            "Switch between the takes instead.",
        )
    members = _members(target)
    wide = 1.3 * max(_width(members), 1e-3)
    copies = _duplicate(context, members)
    twin = next((obj for obj in copies if _lines_of(obj)), None)
    if twin is None:
        _remove(copies)
        raise HeadError(f"{target.name} cannot be copied.", "Select it in Object Mode.")
    for obj in copies:
        obj[MARK] = target.name
        if obj.parent not in copies:
            obj.matrix_world.translation.x += wide
    context.view_layer.update()
    actions.unshare(*_animated(copies))
    record = clips.stored_clip(twin, clip)
    assert record is not None
    twin.name, twin.show_name = f"{target.name}: {takes.label(record, place)}", True
    clips.show_take(twin, clip, place)
    return twin


def end(target: Any) -> int:
    """Remove the copies that stand beside a head for comparing; return how many objects went."""
    copies = [obj for obj in bpy.data.objects if obj.get(MARK) == target.name]
    _remove(copies)
    return len(copies)


def compared(target: Any) -> bool:
    """Return whether a copy stands beside a head."""
    return any(obj.get(MARK) == target.name for obj in bpy.data.objects)


def original(obj: Any) -> Any:
    """Return the head that a copy stands beside; a head that is no copy itself."""
    return bpy.data.objects.get(obj.get(MARK, obj.name), obj)


def _lines_of(obj: Any) -> tuple[str, ...]:
    return clips.clips(obj)


def _members(target: Any) -> list[Any]:
    """Return a head, its children and what follows its keys; of a character, all of its parts."""
    names = set(clips.followed(target).values())
    found = [target, *target.children_recursive]
    if detect.is_mapped(target):
        rig = detect.armature_of(target)
        found += [*detect.members(target), *([rig, *rig.children_recursive] if rig else [])]
        found = list(dict.fromkeys(found))
    found += [obj for obj in bpy.data.objects if obj.name in names and obj not in found]
    return [obj for obj in found if obj.name in bpy.context.view_layer.objects]


def _width(members: list[Any]) -> float:
    """Return how wide objects stand together along the world's X axis."""
    edges = [
        (obj.matrix_world @ Vector(corner)).x
        for obj in members
        if obj.type not in {"ARMATURE", "EMPTY"}
        for corner in obj.bound_box
    ]
    return float(max(edges) - min(edges))


def _animated(objects: list[Any]) -> list[Any]:
    """Return objects with their data and shape keys: all of them that may play an action."""
    data = [obj.data for obj in objects if obj.data is not None]
    keys = [one.shape_keys for one in data if getattr(one, "shape_keys", None)]
    return list(dict.fromkeys([*objects, *data, *keys]))


def _duplicate(context: Any, members: list[Any]) -> list[Any]:
    """Copy objects with their data and the bonds between them, the selection left as it was."""
    layer = context.view_layer
    active, chosen = layer.objects.active, list(layer.objects.selected)
    hidden = [obj for obj in members if obj.hide_get()]
    for obj in chosen:
        obj.select_set(False)
    for obj in members:
        obj.hide_set(False)
        obj.select_set(True)
    layer.objects.active = members[0]
    bpy.ops.object.duplicate(linked=False)
    copies = list(layer.objects.selected)
    for obj in copies:
        obj.select_set(False)
    for obj in hidden:
        obj.hide_set(True)
    for obj in chosen:
        obj.select_set(True)
    layer.objects.active = active
    return copies


def _remove(copies: list[Any]) -> None:
    """Remove objects with the data and actions that only they use."""
    data = {obj.data for obj in copies if obj.data is not None}
    played = [one.animation_data for one in _animated(copies) if one.animation_data]
    held = {action for data in played for action in actions.actions_in(data)}
    for obj in copies:
        bpy.data.objects.remove(obj)
    bpy.data.batch_remove([one for one in data if one.users == 0])
    bpy.data.batch_remove([action for action in held if action.users == 0])
