# SPDX-License-Identifier: GPL-3.0-or-later
"""Which objects are one character, what its shapes are, and where its mapping is kept.

The mapping is JSON on the object that has the lips: linked and overridden rigs keep it, copies take
it along.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import bpy
import numpy as np
from mathutils import Vector

from .mapping import Mapping, Place
from .mouth import Mouth
from .probe import Part, moving

STORED = "diffspeaker.mapping"
LIPS = "diffspeaker.lips"
OF = "diffspeaker.of"
"""On a text: the overridden object whose mapping and lines it keeps."""
MODELLING = ("$md-", "$fa-", "$ra-", "$no-", "$bs-", "$cp-", "$ma-", "mmd_sdef_")
"""Prefixes of keys that are not to be driven: MakeHuman's, which shape a person, and MMD's, which
hold numbers for its skinning."""
PLACEHOLDER = ".placeholder"
"""Start of the name of the object whose shape keys drive those of a bound MMD model."""
_NOBODY = {"CAMERA", "LIGHT", "LIGHT_PROBE", "SPEAKER"}
"""Kinds of objects that no one takes for a character."""
_NUMBER = re.compile(r"\.\d+$")
_NEAR = 0.25
"""Share of the face's size within which loose meshes without a parent belong to it."""


def may_speak(obj: Any) -> bool:
    """Return whether an object is of a kind that can be a character or a part of one."""
    return obj is not None and obj.type not in _NOBODY


# -- who belongs ------------------------------------------------------------------------------


def armature_of(obj: Any) -> Any | None:
    """Return the armature that moves an object, by modifier or as its ancestor."""
    if obj.type == "ARMATURE":
        return obj
    for modifier in getattr(obj, "modifiers", ()):
        if modifier.type == "ARMATURE" and modifier.object is not None:
            return modifier.object
    parent = obj.parent
    while parent is not None:
        if parent.type == "ARMATURE":
            return parent
        parent = parent.parent
    return None


def members(obj: Any) -> list[Any]:
    """Return the meshes of the character that an object is of, the object itself first.

    All under its armature, or under its topmost parent; loose meshes belong together when they
    stand in the same place.
    """
    rig = armature_of(obj)
    pool = [o for o in _scene_objects(obj) if o.type == "MESH"]
    if rig is not None:
        found = [o for o in pool if armature_of(o) == rig]
    else:
        root = _root(obj)
        found = [o for o in pool if _root(o) == root]
        if root == obj:
            found += [o for o in pool if o.parent is None and o != obj and _close(obj, o)]
    ordered = ([obj] if obj.type == "MESH" else []) + found
    return list(dict.fromkeys(o for o in ordered if len(o.data.vertices)))


def company(obj: Any) -> list[Any]:
    """Return all objects of a character, meshes or not, the object itself first.

    Of an object that stands alone, what lies in its collections: drawings are often kept so.
    """
    found = kin(obj)
    if len(found) < 2:
        found += [o for c in obj.users_collection for o in c.objects if o.type not in _NOBODY]
    return list(dict.fromkeys(found))


def kin(obj: Any) -> list[Any]:
    """Return the objects under an object's armature or topmost parent, the object itself first."""
    rig, root = armature_of(obj), _root(obj)
    pool = [o for o in _scene_objects(obj) if o.type not in _NOBODY]
    found = [o for o in pool if (armature_of(o) == rig if rig is not None else _root(o) == root)]
    return list(dict.fromkeys([obj, *([rig] if rig is not None else []), *found]))


def stem(name: str) -> str:
    """Return a name without the number that Blender gives to copies: "Mouth.001" → "Mouth"."""
    return _NUMBER.sub("", name)


def _scene_objects(obj: Any) -> list[Any]:
    """Return the objects of the scenes that show an object: what is shown belongs to it first."""
    scenes = [scene for scene in bpy.data.scenes if obj.name in scene.objects]
    return [o for scene in scenes for o in scene.objects] or [obj]


def _root(obj: Any) -> Any:
    while obj.parent is not None:
        obj = obj.parent
    return obj


def _close(face: Any, other: Any) -> bool:
    """Return whether a loose mesh lies inside the widened box of a face, and is smaller."""
    if armature_of(other) is not None:
        return False
    low, high = _box(face)
    margin = _NEAR * float((high - low).max())
    first, last = _box(other)
    small = bool((last - first).max() <= 1.5 * (high - low).max())
    return small and bool(np.all(first >= low - margin) and np.all(last <= high + margin))


def _box(obj: Any) -> tuple[Any, Any]:
    corners = np.array([obj.matrix_world @ Vector(corner) for corner in obj.bound_box])
    return corners.min(0), corners.max(0)


# -- what there is ----------------------------------------------------------------------------


def read_parts(objects: Iterable[Any]) -> list[Part]:
    """Return meshes with their shapes as arrays in world space."""
    return [read_part(obj) for obj in objects]


def read_part(obj: Any) -> Part:
    """Return one mesh: rest, triangles, and each shape that moves something and is free."""
    mesh, key = obj.data, obj.data.shape_keys
    world = np.array(obj.matrix_world, np.float64)
    turn = world[:3, :3].T
    base = key.reference_key.points if key is not None else mesh.vertices
    local = coordinates(base)
    rest = local @ turn + world[:3, 3]
    size = float(np.linalg.norm(np.ptp(rest, 0))) if len(rest) else 0.0
    free: dict[str, Any] = {}
    empty, driven = [], []
    masks: dict[str, Any] = {}
    bases: dict[str, Any] = {}
    held = driven_keys(key)
    for block in () if key is None else key.key_blocks:
        if block == key.reference_key or block.name.startswith(MODELLING):
            continue
        if block.name in held:
            driven.append(block.name)
            continue
        under = block.relative_key
        if under.name not in bases:
            bases[under.name] = coordinates(under.points)
        offsets = (coordinates(block.points) - bases[under.name]) @ turn
        if block.vertex_group:
            if block.vertex_group not in masks:
                masks[block.vertex_group] = mask(obj, block.vertex_group)
            offsets = offsets * masks[block.vertex_group][:, None]
        if moving(offsets, size):
            free[block.name] = offsets
        else:
            empty.append(block.name)
    axes = turn / np.maximum(np.linalg.norm(turn, axis=1, keepdims=True), 1e-12)
    return Part(obj.name, rest, triangles(mesh), free, axes, tuple(empty), tuple(driven))


def coordinates(points: Any) -> Any:
    """Return the coordinates (V, 3) of vertices or of a shape key's points."""
    flat = np.empty(3 * len(points), np.float32)
    points.foreach_get("co", flat)
    return flat.reshape(-1, 3).astype(np.float64)


def triangles(mesh: Any) -> Any:
    """Return a mesh's triangles (T, 3)."""
    mesh.calc_loop_triangles()
    flat = np.empty(3 * len(mesh.loop_triangles), np.int32)
    mesh.loop_triangles.foreach_get("vertices", flat)
    return flat.reshape(-1, 3)


def mask(obj: Any, name: str) -> Any:
    """Return a vertex group's weights (V,)."""
    weights = np.zeros(len(obj.data.vertices))
    group = obj.vertex_groups.get(name)
    if group is not None:
        for vertex in obj.data.vertices:
            for entry in vertex.groups:
                if entry.group == group.index:
                    weights[vertex.index] = entry.weight
    return weights


def driven_keys(key: Any | None) -> set[str]:
    """Return the shape keys that a driver sets."""
    if key is None or key.animation_data is None:
        return set()
    paths = {driver.data_path for driver in key.animation_data.drivers}
    return {
        block.name
        for block in key.key_blocks
        if f'key_blocks["{bpy.utils.escape_identifier(block.name)}"].value' in paths
    }


# -- where the mapping is ---------------------------------------------------------------------


def notes(obj: Any, *, make: bool = False) -> Any:
    """Return the datablock that keeps what is known of a face: the object, or a text of this file.

    What is added to a library override is gone after saving, so that it is kept beside it.
    """
    if obj is None or obj.type in _NOBODY:
        return None
    if obj.override_library is None:
        return obj
    for text in bpy.data.texts:
        if text.get(OF) == obj:
            return text
    if not make:
        return None
    text = bpy.data.texts.new(f"{obj.name} Lip-Sync")
    text.write(f"What DiffSpeaker knows of {obj.name}, which is linked: its mapping and lines.\n")
    text[OF] = obj
    return text


def _has_mapping(obj: Any) -> bool:
    found = notes(obj)
    return found is not None and STORED in found


def speaker_of(obj: Any) -> Any | None:
    """Return the object with the mapping of the character that an object is of, or None.

    It is the mesh with the lips; of drawn mouths, what chooses the drawing.
    """
    if obj is None:
        return None
    if _has_mapping(obj):
        return obj
    if obj.type in _NOBODY:
        return None
    rig = armature_of(obj)
    root = _root(obj)
    for other in _scene_objects(obj):
        if _has_mapping(other):
            same_rig = rig is not None and armature_of(other) == rig
            if same_rig or (rig is None and (_root(other) == root or _lies_in(obj, other))):
                return other
    return None


def _lies_in(obj: Any, face: Any) -> bool:
    """Return whether a loose mesh is one of the `members` of a loose face."""
    loose = obj.type == "MESH" and obj.parent is None and _root(face) == face
    return loose and armature_of(face) is None and _close(face, obj)


def is_mapped(obj: Any) -> bool:
    """Return whether an object carries a mapping; cheap enough for every redraw."""
    return _has_mapping(obj)


def read_mapping(obj: Any) -> Mapping | None:
    """Return the mapping stored on an object, its owners as the objects are called now.

    A copied character has a copy of the mapping, which still names the objects it was made on.
    """
    if not is_mapped(obj):
        return None
    found = _parsed(notes(obj)[STORED])
    if found is None:
        return None
    rig = armature_of(obj)
    own = {obj.name} if rig is None else {obj.name, rig.name}
    names = {place.owner for place in found.places()}
    for name in names:
        stand_in = bpy.data.objects.get(name) if name.startswith(PLACEHOLDER) else None
        if stand_in is not None and _root(stand_in) == _root(obj):
            own.add(name)
    if all(name in bpy.data.objects for name in names):
        drawn = [place.kind for row in found.drawn_rows for place in row.places]
        if drawn and not names & own:
            own = {o.name for o in (company if "shown" in drawn else kin)(obj)}
        if names & own:
            return found
    return found.moved_to(owners(obj, found))


@lru_cache(64)
def _parsed(text: str) -> Mapping | None:
    try:
        return Mapping.from_json(text)
    except ValueError:
        return None


def stored(obj: Any) -> Mapping | None:
    """Return the mapping on an object as it was stored, whether its channels are there or not."""
    return _parsed(notes(obj)[STORED]) if is_mapped(obj) else None


def placeholder_of(obj: Any) -> Any | None:
    """Return the object through whose shape keys a bound MMD model is moved, None for others."""
    root = _root(obj)
    if root.type != "EMPTY":
        return None
    pool = (o for o in _scene_objects(obj) if o.type == "MESH" and o.name.startswith(PLACEHOLDER))
    return next((o for o in pool if _root(o) == root and o.data.shape_keys is not None), None)


def is_there(place: Place) -> bool:
    """Return whether a channel exists now."""
    owner = bpy.data.objects.get(place.owner)
    if owner is None:
        return False
    if place.kind == "key":
        key = owner.data.shape_keys if owner.type == "MESH" else None
        return key is not None and place.name in key.key_blocks
    if place.kind == "bone":
        return owner.type == "ARMATURE" and place.name in owner.pose.bones
    return setting(owner, place) is not None


def owners(
    obj: Any, mapping: Mapping | None = None
) -> list[tuple[str, list[tuple[str, str, str, int]]]]:
    """Return every object of a character with the channels it could offer (`Place.key`).

    mapping: the one that asks, for what chooses its drawings.
    """
    found: list[tuple[str, list[tuple[str, str, str, int]]]] = []
    stand_in = placeholder_of(obj)
    for mesh in [*members(obj), *([stand_in] if stand_in is not None else [])]:
        key = mesh.data.shape_keys
        blocks = key.key_blocks.keys() if key is not None else ()
        found.append((mesh.name, [("key", name, "", 0) for name in blocks]))
    rig = armature_of(obj)
    if rig is not None:
        axes = [
            ("bone", bone.name, path, axis)
            for bone in rig.pose.bones
            for path in ("rotation", "location")
            for axis in range(3)
        ]
        held = [("property", name, "", 0) for name in rig.keys()]  # noqa: SIM118 ID properties
        held += [("property", name, "data", 0) for name in rig.data.keys()]  # noqa: SIM118
        for bone in rig.pose.bones:
            held += [("property", name, bone.name, 0) for name in bone.keys()]  # noqa: SIM118
        found.append((rig.name, axes + held))
    rows = mapping.drawn_rows if mapping is not None else ()
    for place in (place for row in rows for place in row.places if place.kind != "key"):
        there = [o for o in kin(obj) if setting(o, place) is not None and o != rig]
        there = there or [o for o in company(obj) if setting(o, place) is not None and o != rig]
        mine = obj.name.removeprefix(stem(obj.name))  # ".001", as all of a copy are called
        there.sort(key=lambda o: (o != obj, not o.name.endswith(mine)))
        same = [o for o in there if stem(o.name) == stem(place.owner)]
        found += [(o.name, [place.key]) for o in (same or there)[:1]]
    return found


def setting(obj: Any, place: Place) -> tuple[Any, str] | None:
    """Return the datablock and the data path that choose a drawing; None where they are not."""
    found: Any = obj
    if place.kind == "shown":
        return (obj, place.path) if stem(obj.name) == place.name else None
    if place.kind == "property":
        return property_of(obj, place)
    if place.path == "data":
        found = obj.data
    elif place.path == "material":
        slots = getattr(obj, "material_slots", ())
        material = slots[place.index].material if place.index < len(slots) else None
        found = material.node_tree if material is not None else None
    try:
        found.path_resolve(place.name)
    except (AttributeError, ValueError):
        return None
    return found, place.name


def property_of(obj: Any, place: Place) -> tuple[Any, str] | None:
    """Return the datablock and the data path of a custom property; None when it is not there."""
    name = f'["{bpy.utils.escape_identifier(place.name)}"]'
    if place.path == "data":
        return (obj.data, name) if obj.data is not None and place.name in obj.data else None
    if place.path:
        bone = obj.pose.bones.get(place.path) if obj.type == "ARMATURE" else None
        held = bpy.utils.escape_identifier(place.path)
        there = bone is not None and place.name in bone
        return (obj, f'pose.bones["{held}"]{name}') if there else None
    return (obj, name) if place.name in obj else None


def store(obj: Any, mapping: Mapping) -> None:
    """Keep a mapping on its character."""
    notes(obj, make=True)[STORED] = mapping.to_json()


def store_lips(obj: Any, mouth: Mouth) -> None:
    """Keep where the lips are, to measure what they do later."""
    up = np.linalg.inv(np.array(obj.matrix_world, np.float64)[:3, :3]) @ mouth.frame.axes[1]
    notes(obj, make=True)[LIPS] = json.dumps(
        {
            "upper": mouth.upper.tolist(),
            "lower": mouth.lower.tolist(),
            "along": np.round(mouth.along, 4).tolist(),
            "width": mouth.width,
            "up": (up / max(float(np.linalg.norm(up)), 1e-12)).tolist(),
        }
    )


def forget(obj: Any) -> None:
    """Take the mapping off again."""
    found = notes(obj)
    for name in (STORED, LIPS):
        if found is not None and name in found:
            del found[name]


def forget_all(objects: Iterable[Any]) -> None:
    """Take mappings off the meshes of a character: it has one, on its face."""
    for obj in objects:
        forget(obj)


def lips_of(obj: Any) -> dict[str, Any] | None:
    """Return the stored lips: "upper", "lower" (vertex numbers), "along", "width" (world), "up"
    (a direction in the mesh's own space). None where the mesh has fewer vertices since."""
    try:
        found = notes(obj)
        lips = dict(json.loads(found[LIPS])) if found is not None and LIPS in found else None
    except ValueError:
        return None
    if lips is None or max([*lips["upper"], *lips["lower"]]) >= len(obj.data.vertices):
        return None
    return lips
