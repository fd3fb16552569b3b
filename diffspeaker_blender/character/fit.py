# SPDX-License-Identifier: GPL-3.0-or-later
"""Fit to a character: look at all it has, measure it, and keep the mapping on it."""

from __future__ import annotations

import json
from typing import Any

import bpy

from ..errors import HeadError
from . import bones, declared, detect
from .mapping import Mapping
from .proposal import Proposal, Remark, propose, sentence

REPORT = "diffspeaker.remarks"
NEEDS = (
    "it has no face that moves: it would need shape keys that open the mouth, a jaw bone, or a rig "
    "with face controls"
)


def find(context: bpy.types.Context, name: str = "") -> Any | None:
    """Return an object of the character that is meant: by its name, or the active one."""
    if name:
        found = bpy.data.objects.get(name)
        collection = bpy.data.collections.get(name)
        if found is None and collection is not None:
            pool = [o for o in collection.all_objects if o.type in {"ARMATURE", "MESH"}]
            found = next((o for o in pool if detect.speaker_of(o)), pool[0] if pool else None)
        return found
    return getattr(context, "object", None) or context.view_layer.objects.active


def fit(obj: Any, *, keep: bool = True) -> tuple[Any, Proposal]:
    """Measure a character and return its speaking mesh and what was found; keep the mapping on it.

    Raises HeadError where there is no face.
    """
    if obj is None or obj.type not in {"MESH", "ARMATURE", "EMPTY"}:
        raise HeadError("No character is picked.", "Pick its mesh or its armature.")
    bpy.context.view_layer.update()
    meshes = _candidates(obj)
    if not meshes:
        raise HeadError(f"{obj.name} has no mesh.", "Pick the character's face.")
    parts = detect.read_parts(meshes)
    rig = detect.armature_of(obj) or next(filter(None, map(detect.armature_of, meshes)), None)
    proposal = propose(parts, declared.read([*meshes, rig] if rig is not None else meshes))
    if rig is not None:
        proposal = bones.complete(rig, meshes, parts, proposal)
    if proposal is None or proposal.face is None or not proposal.speaks:
        raise HeadError(f"{obj.name} cannot speak: {NEEDS}.")
    face = bpy.data.objects[proposal.face.part.name]
    if keep:
        detect.forget_all(meshes)
        detect.store(face, proposal.mapping)
        detect.store_lips(face, proposal.face.mouth)
        remarks = [[one.subject, one.reason, one.missing] for one in proposal.remarks]
        detect.notes(face, make=True)[REPORT] = json.dumps(remarks, ensure_ascii=False)
    return face, proposal


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
    """Return the speaking mesh of a character, fitted now where it was not. Raises HeadError."""
    speaker = detect.speaker_of(obj)
    return speaker if speaker is not None else fit(obj)[0]


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
