# SPDX-License-Identifier: GPL-3.0-or-later
"""Fit to a character: look at all it has, measure it, and keep the mapping on it."""

from __future__ import annotations

import difflib
import json
import zlib
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import bpy

from ..errors import HeadError
from . import bones, declared, detect, presets, switches
from .mapping import Mapping, Place, Row
from .proposal import Proposal, Remark, propose, sentence

REPORT = "diffspeaker.remarks"
SEEN = "diffspeaker.seen"
"""On a face: which vertices and shapes its meshes had when it was fitted, and its rows' digest."""
NEEDS = (
    "it has no face that moves: it would need shape keys that open the mouth, a jaw bone, or a rig "
    "with face controls"
)


def find(context: bpy.types.Context, name: str = "") -> Any | None:
    """Return an object of the character that is meant: by its name, or the active one.

    A name may be a mesh's, an armature's, an empty's, a collection's, or that of data they bear; of
    linked characters their override is meant. Raises HeadError where a name means several.
    """
    if not name:
        return getattr(context, "object", None) or context.view_layer.objects.active
    found = _local(bpy.data.objects, name)
    if found is not None and found.type == "EMPTY" and found.instance_collection is not None:
        return _instanced(found)
    if found is not None:
        return _overridden(found)
    group = _local(bpy.data.collections, name)
    if group is not None:
        return _of_collection(group)
    bearers = (o for o in bpy.data.objects if o.data is not None and o.data.name == name)
    return next((o for o in bearers if o.type in {"MESH", "ARMATURE"}), None)


def named(context: bpy.types.Context, name: str) -> Any:
    """Return the object that a name means. Raises HeadError that tells the nearest names."""
    found = find(context, name)
    if found is not None:
        return found
    known = [o.name for o in bpy.data.objects if could_speak(o)]
    known += [group.name for group in bpy.data.collections if group.objects]
    plain = {one.lower(): one for one in dict.fromkeys(known)}
    near = [plain[one] for one in difflib.get_close_matches(name.lower(), plain, 3, 0.5)]
    hint = "Check the name."
    if near:
        hint = f"Did you mean {' or '.join(f'“{one}”' for one in near)}?"
    elif known:
        hint = f"This file has {', '.join(list(plain.values())[:5])}."
    raise HeadError(f"There is no object called “{name}”.", hint)


def _local(pool: Any, name: str) -> Any | None:
    """Return a datablock by name, this file's own before linked ones."""
    return pool.get((name, None)) or pool.get(name)


def _overridden(obj: Any) -> Any:
    """Return the override of a linked object, or the object where there is none."""
    if obj.library is None:
        return obj
    return next((o for o in bpy.data.objects if _reference(o) == obj), obj)


def _reference(obj: Any) -> Any | None:
    return obj.override_library.reference if obj.override_library is not None else None


def _instanced(holder: Any) -> Any | None:
    """Return who is in the collection that an empty shows. Raises HeadError where nobody can be."""
    group = holder.instance_collection
    found = _of_collection(group)
    if found is None or _overridden(found).library is not None:
        return found
    found = _overridden(found)
    if any(found.name in scene.objects for scene in bpy.data.scenes):
        return found
    raise HeadError(
        f"{holder.name} shows the collection “{group.name}”, whose objects are in no scene.",
        "Link the collection itself into the scene, or use Object > Apply > Make Instances Real.",
    )


def _of_collection(group: Any) -> Any | None:
    """Return who is in a collection: the one that was fitted, else the richest in shapes or bones.

    Raises HeadError where several were fitted.
    """
    pool = [o for o in group.all_objects if detect.may_speak(o)]
    if not any(detect.speaker_of(o) for o in pool):
        pool = [_overridden(o) for o in pool]
    faces = list(dict.fromkeys(filter(None, map(detect.speaker_of, pool))))
    if len(faces) > 1:
        some = ", ".join(sorted(face.name for face in faces))
        raise HeadError(f"“{group.name}” holds several characters: {some}.", "Name one of them.")
    return faces[0] if faces else max(pool, key=_riches, default=None)


def _riches(obj: Any) -> tuple[int, int]:
    """Return how much a character could be moved by: shapes before bones, and what is drawn."""
    if obj.type == "ARMATURE":
        return 0, len(obj.data.bones)
    return (len(_key_names(obj)), 0) if obj.type == "MESH" else (0, 0)


def _own(obj: Any) -> None:
    """Raise HeadError for a linked object that nothing can be kept or animated on."""
    if obj.library is not None:
        raise HeadError(
            f"{obj.name} is linked from {Path(obj.library.filepath).name}, so it cannot be "
            "animated here.",
            "Make a library override of the character (Object > Library Override > Make).",
        )


def fit(obj: Any, *, keep: bool = True) -> tuple[Any, Proposal]:
    """Measure a character and return its speaking mesh and what was found; keep the mapping on it.

    Raises HeadError where there is no face.
    """
    if obj is None or not detect.may_speak(obj):
        raise HeadError("No character is picked.", "Pick its mesh or its armature.")
    _own(obj)
    bpy.context.view_layer.update()
    meshes = _candidates(obj)
    proposal = _measured(obj, meshes)
    if proposal is None:
        return _drawn(obj, keep=keep)
    assert proposal.face is not None
    face = next(mesh for mesh in meshes if mesh.name == proposal.face.part.name)
    _own(face)
    proposal = replace(proposal, mapping=_bound(face, proposal.mapping))
    proposal = replace(proposal, remarks=(*proposal.remarks, *_muted(proposal.mapping)))
    if keep:
        kept = _choices(meshes)
        detect.forget_all(detect.company(face))
        detect.store(face, replace(proposal.mapping, **kept))
        detect.store_lips(face, proposal.face.mouth)
        seen = {"meshes": _look(meshes), "rows": _digest(detect.stored(face))}
        _note_seen(face, seen)
        remembered = _by_hand(face)
        if remembered is not None:
            detect.store(face, remembered[1])
            said = Remark("Mapping", f"taken from “{remembered[0]}”, made by hand", missing=True)
            proposal = replace(proposal, remarks=(*proposal.remarks, said))
        remarks = [[one.subject, one.reason, one.missing] for one in proposal.remarks]
        detect.notes(face, make=True)[REPORT] = json.dumps(remarks, ensure_ascii=False)
    return face, proposal


def _measured(obj: Any, meshes: list[Any]) -> Proposal | None:
    """Return what moves the face of some meshes, None where no mouth opens."""
    if not meshes:
        return None
    _relative(meshes)
    parts = detect.read_parts(meshes)
    rig = detect.armature_of(obj) or next(filter(None, map(detect.armature_of, meshes)), None)
    proposal = propose(parts, declared.read([*meshes, rig] if rig is not None else meshes))
    if rig is not None:
        proposal = bones.complete(rig, meshes, parts, proposal)
    if proposal is None or proposal.face is None or not proposal.speaks:
        return None
    return proposal


def _drawn(obj: Any, *, keep: bool) -> tuple[Any, Proposal]:
    """Return who speaks with drawn mouths that their names tell. Raises HeadError."""
    switch, former = switches.certain(obj), detect.speaker_of(obj)
    known = detect.read_mapping(former)
    if switch is None and known is not None and known.drawn is not None:
        return former, Proposal(known)  # which drawing is which, the user has said
    if switch is None:
        also = switches.likely(obj)
        hint = f" For drawn mouths ({also.title}), press Drawn Mouth." if also else ""
        raise HeadError(f"{obj.name} cannot speak: {NEEDS}.{hint}")
    mapping = switches.mapping_of(switch, switch.proposed(), known)
    face = switches.keep(switch, mapping, obj) if keep else bpy.data.objects[switch.speaker]
    return face, Proposal(mapping)


def _muted(mapping: Mapping) -> list[Remark]:
    """Return what to say of shapes that are driven though they are switched off."""
    off: list[str] = []
    for place in mapping.places():
        obj = bpy.data.objects.get(place.owner) if place.kind == "key" else None
        key = obj.data.shape_keys if obj is not None else None
        block = key.key_blocks.get(place.name) if key is not None else None
        if block is not None and block.mute:
            off.append(place.name)
    names = list(dict.fromkeys(off))
    if not names:
        return []
    shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
    return [Remark(shown, "muted: switch on its box in Shape Keys, or it moves nothing", True)]


def _bound(face: Any, mapping: Mapping) -> Mapping:
    """Return a mapping that moves what the shapes of a bound MMD model hang on, not these.

    Binding mutes a model's shapes and lets copies of them follow the keys of a stand-in.
    """
    stand_in = detect.placeholder_of(face)
    if stand_in is None:
        return mapping
    held = stand_in.data.shape_keys.key_blocks

    def through(place: Place) -> Place:
        key = bpy.data.objects[place.owner].data.shape_keys if place.kind == "key" else None
        muted = key is not None and key.key_blocks[place.name].mute
        return replace(place, owner=stand_in.name) if muted and place.name in held else place

    def moved(row: Row) -> Row:
        return replace(row, places=tuple(dict.fromkeys(map(through, row.places))))

    rows, few_rows = (tuple(map(moved, some)) for some in (mapping.rows, mapping.few_rows))
    return replace(mapping, rows=rows, few_rows=few_rows)


def could_speak(obj: Any) -> bool:
    """Return whether an object has what a face could be moved by; cheap enough for every redraw."""
    if obj is None or obj.type not in {"MESH", "ARMATURE", "GREASEPENCIL", "GPENCIL"}:
        return False
    if obj.type not in {"MESH", "ARMATURE"}:
        return True
    if obj.type == "MESH" and obj.data.shape_keys is not None:
        return True
    return detect.armature_of(obj) is not None


def _choices(meshes: list[Any]) -> dict[str, Any]:
    """Return what the user has set on a character that is fitted again."""
    former = next(filter(None, map(detect.stored, meshes)), None)
    if former is None:
        return {}
    return {"strengths": former.strengths, "steps": former.steps, "hold": former.hold}


def _by_hand(face: Any) -> tuple[str, Mapping] | None:
    """Return what was made by hand for a character of just these channels, and where it is from.

    What is edited on another character of this file goes before what was saved.
    """
    mine = detect.read_mapping(face)
    if mine is None:
        return None
    wanted, found = presets.keys_of(mine), None
    for other in bpy.data.objects:
        if other == face or not wanted or not detect.is_mapped(other):
            continue
        theirs = detect.read_mapping(other)
        if theirs is not None and presets.keys_of(theirs) == wanted and edited(other):
            found = other.name, theirs.moved_to(detect.owners(face, theirs))
            break
    found = found or presets.matching(face, mine)
    if found is None:
        return None
    kept = replace(found[1], strengths=mine.strengths, steps=mine.steps, hold=mine.hold)
    return found[0], kept


def _relative(meshes: list[Any]) -> None:
    """Raise HeadError for shape keys that cannot be mixed."""
    for mesh in meshes:
        key = mesh.data.shape_keys
        if key is not None and not key.use_relative and len(key.key_blocks) > 1:
            raise HeadError(
                f"{mesh.name} cannot speak: its shape keys are absolute, one follows the other in "
                "time.",
                "Turn on Relative in its Shape Keys panel and fit again.",
            )


def _candidates(obj: Any) -> list[Any]:
    """Return the meshes of the character an object is of; of a loose mesh, of what it stands in."""
    meshes = detect.members(obj)
    if len(meshes) == 1 and obj.type == "MESH" and detect.armature_of(obj) is None:
        hosts = [
            other
            for other in bpy.context.view_layer.objects
            if other.type == "MESH" and other != obj and obj in detect.members(other)
        ]
        if hosts:
            return detect.members(max(hosts, key=lambda other: len(other.data.vertices)))
    return meshes


def ensure(obj: Any) -> Any:
    """Return the speaking mesh of a character, fitted now where need be. Raises HeadError.

    It is fitted again where channels are gone or the mesh has other vertices, and the mapping is
    just as it was measured; of one that was made by hand the lips alone are looked for again.
    """
    speaker = detect.speaker_of(obj)
    if speaker is None:
        return fit(obj)[0]
    if needs_fitting(speaker):
        return fit(speaker)[0]
    if _other_vertices(speaker):
        face, found = fit(speaker, keep=False)
        if face == speaker and found.face is not None:
            detect.store_lips(face, found.face.mouth)
            meshes = {**_seen(face)["meshes"], **_look([face])}
            _note_seen(face, {**_seen(face), "meshes": meshes})
    return speaker


# -- what became of it --------------------------------------------------------------------------


def needs_fitting(face: Any) -> bool:
    """Return whether a mesh or channels changed under a mapping that nobody changed by hand."""
    return (bool(lost(face)) or _other_vertices(face)) and not edited(face)


def _other_vertices(face: Any) -> bool:
    """Return whether a face has another number of vertices than when it was fitted."""
    seen = _seen(face).get("meshes", {}).get(face.name)
    return seen is not None and face.type == "MESH" and len(face.data.vertices) != seen[0]


def lost(face: Any) -> list[str]:
    """Return the channels of a face's mapping that are not there any more, by name."""
    kept, now = detect.stored(face), detect.read_mapping(face)
    if kept is None or now is None:
        return []
    moved = {place.key for place in now.places()}
    gone = [place.name for place in kept.places() if place.key not in moved]
    gone += [place.name for place in now.places() if not detect.is_there(place)]
    return list(dict.fromkeys(gone))


def edited(face: Any) -> bool:
    """Return whether rows were changed by hand or loaded; True where nobody knows."""
    seen, mapping = _seen(face), detect.stored(face)
    return mapping is None or seen.get("rows") != _digest(mapping)


def changed(face: Any) -> str:
    """Return what is not as it was when a face was fitted, "" for nothing; cheap to ask."""
    words: list[str] = []
    for name, (vertices, keys) in _seen(face).get("meshes", {}).items():
        mesh = bpy.data.objects.get(name)
        if mesh is None or mesh.type != "MESH":
            continue  # renamed, or a copy: its channels are looked for by their own names
        names = _key_names(mesh)
        gone, new = set(keys) - set(names), set(names) - set(keys)
        if len(mesh.data.vertices) != vertices:
            words.append(f"{name} has other vertices")
        words += [f"{sorted(gone)[0]} is gone"] if len(gone) == 1 else []
        words += [f"{len(gone)} shapes are gone"] if len(gone) > 1 else []
        words += [f"{sorted(new)[0]} is new"] if len(new) == 1 else []
        words += [f"{len(new)} shapes are new"] if len(new) > 1 else []
    return ", ".join(dict.fromkeys(words))


def _look(meshes: list[Any]) -> dict[str, Any]:
    return {mesh.name: [len(mesh.data.vertices), _key_names(mesh)] for mesh in meshes}


def _key_names(mesh: Any) -> list[str]:
    return list(mesh.data.shape_keys.key_blocks.keys()) if mesh.data.shape_keys else []


def _digest(mapping: Mapping | None) -> int:
    """Return a number for what a mapping's rows say, on whatever objects."""
    if mapping is None:
        return 0
    rows = [
        (sorted({place.key for place in row.places}), row.terms, row.offset, row.low, row.high)
        for row in mapping.every_row()
    ]
    return zlib.crc32(repr(rows).encode())


def _note_seen(face: Any, seen: dict[str, Any]) -> None:
    detect.notes(face, make=True)[SEEN] = json.dumps(seen, ensure_ascii=False)


def _seen(face: Any) -> dict[str, Any]:
    found = detect.notes(face)
    return _read(str(found.get(SEEN, "{}"))) if found is not None else {}


@lru_cache(64)
def _read(text: str) -> dict[str, Any]:
    try:
        return dict(json.loads(text))
    except (ValueError, TypeError):
        return {}


# -- what is shown ------------------------------------------------------------------------------


def remarks_of(obj: Any) -> list[Remark]:
    """Return the rows of the panel for a fitted character."""
    try:
        found = detect.notes(obj)
        return [Remark(*row) for row in json.loads(found.get(REPORT, "[]"))] if found else []
    except (ValueError, TypeError):
        return []


def sentence_of(obj: Any) -> str:
    """Return "Ready to speak: 52 controls on 4 meshes, lips seal, no tongue" for a fitted face."""
    mapping = detect.read_mapping(obj)
    if mapping is None:
        return ""
    owners = {place.owner for place in mapping.places()}
    meshes = [name for name in owners if (o := bpy.data.objects.get(name)) and o.type == "MESH"]
    return sentence(mapping, len(meshes))


def set_mapping(obj: Any, mapping: Mapping) -> None:
    """Give a fitted face another mapping."""
    detect.store(obj, mapping)
