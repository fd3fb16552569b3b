# SPDX-License-Identifier: GPL-3.0-or-later
"""What bones or a rig's own properties add to a face: the jaw, lips, lids, eyes, brows, tongue.

Every axis is tried both ways on a `Bench`, and what works is kept: names only say where to look.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import HeadError
from . import eye_bones, jaw_bones, names, tongue_bones
from .bench import Bench, Space, size_of
from .lip_bones import Lips, properties
from .mapping import Row
from .probe import Part, moving
from .proposal import Proposal, Remark, propose

Floats = NDArray[np.float64]


def complete(
    rig: Any, meshes: list[Any], parts: list[Part], proposal: Proposal | None
) -> Proposal | None:
    """Return what the shapes can do, with what the bones and properties of their rig add.

    Raises HeadError where the rig cannot be tried now, or its jaw may not be turned.
    """
    if rig.mode == "EDIT":
        raise HeadError(f"{rig.name} is in Edit Mode.", "Go back to Object Mode.")
    with Bench(rig, meshes, parts) as bench:
        if proposal is not None and proposal.speaks:
            found: Proposal | None = jaw_bones.join(bench, proposal)
        else:
            found = _by_properties(bench)
            if found is None or not found.speaks:
                found = _by_bones(bench, proposal)
        if found is None or found.face is None or not found.speaks:
            return found
        found = _with_the_rest(bench, found)
    if rig.data.pose_position == "REST":
        stands = Remark(
            rig.name,
            "shows its rest position, in which no bone moves: switch it to its pose (Data tab)",
        )
        found = replace(found, remarks=(*found.remarks, stands))
    return found


def _by_properties(bench: Bench) -> Proposal | None:
    """Return a mapping onto custom properties that drive the face (Daz rigs and the like)."""
    found = list(properties(bench.rig))
    known = {place.name: place for place in found}
    hits = {
        name
        for guess in names.guesses(known)[:4]
        for table in (guess.controls, guess.visemes)
        for named in table.values()
        for name in named
    }
    if len(hits) < 2:
        return None
    keys: dict[str, dict[str, Floats]] = {mesh.name: {} for mesh in bench.meshes}
    for name in sorted(hits)[:150]:
        for mesh, offsets in bench.moved({known[name]: 1.0}).items():
            if moving(offsets, size_of(bench.rest[mesh])):
                keys[mesh][name] = offsets
    parts = [
        replace(part, rest=bench.rest[part.name], keys=keys[part.name]) for part in bench.parts
    ]
    proposal = propose(parts)
    if proposal is None:
        return None

    def onto(row: Row) -> Row:
        place = known[row.places[0].name]
        return replace(row, places=(place,))

    mapping = replace(
        proposal.mapping,
        rows=tuple(map(onto, proposal.mapping.rows)),
        few_rows=tuple(map(onto, proposal.mapping.few_rows)),
    )
    return replace(proposal, mapping=mapping)


def _by_bones(bench: Bench, proposal: Proposal | None) -> Proposal | None:
    """Return a mapping onto bones, or what there was where none opens a mouth.

    Raises HeadError where there is a jaw that may not be turned.
    """
    jaw = jaw_bones.find_jaw(bench)
    if jaw is not None:
        found = Lips(bench, jaw).build(_title(bench.rig))
        return replace(found, remarks=(*jaw.remarks, *found.remarks))
    locked = jaw_bones.locked(bench)
    if locked and proposal is None:
        raise HeadError(
            f"The jaw bone “{locked}” of {bench.rig.name} is locked, so it may not be turned.",
            "Unlock its rotation (Sidebar, Item tab) and press Fit to This Character again.",
        )
    return proposal


def _with_the_rest(bench: Bench, proposal: Proposal) -> Proposal:
    """Return a face with the eyes, lids, brows and tongue that bones move, where it has none."""
    assert proposal.face is not None
    space = Space(proposal.face.mouth, proposal.face.part)
    has = proposal.mapping.controls()
    rows: list[Row] = []
    eyes = eye_bones.Eyes(bench, space)
    for start, found in (
        ("eyeLook", eyes.gaze),
        ("eyeBlink", eyes.lids),
        ("brow", eyes.brows),
        ("tongue", lambda: tongue_bones.rows(bench, space)),
    ):
        if not any(control.startswith(start) for control in has):
            rows += found()
    remarks = _settled(proposal.remarks, rows, eyes.remarks)
    if not rows:
        return replace(proposal, remarks=remarks)
    mapping = proposal.mapping
    bases = mapping.bases | bench.bases(place for row in rows for place in row.places)
    mapping = replace(mapping, rows=(*mapping.rows, *rows), bases=bases)
    return replace(proposal, mapping=mapping, remarks=remarks)


def _settled(
    remarks: Iterable[Remark], rows: list[Row], doubts: list[Remark]
) -> tuple[Remark, ...]:
    """Return the remarks without those that bones have settled, with what bones leave in doubt."""
    controls = {name for row in rows for term in row.terms for name in term.controls}
    settled = {
        subject
        for subject, start in (("Tongue", "tongue"), ("Blinks", "eyeBlink"))
        if any(name.startswith(start) for name in controls)
    }
    subjects = {one.subject for one in doubts}
    kept = [r for r in remarks if r.subject not in settled and r.subject not in subjects]
    return (*kept, *doubts)


def _title(rig: Any) -> str:
    """Return the convention whose bones a rig has most of."""
    present = {bone.name for bone in rig.pose.bones}

    def share(convention: names.Convention) -> float:
        bones = [name for group in convention.bones.values() for name in group]
        return len(present & set(bones)) - 0.01 * len(bones)

    known = [c for c in names.conventions() if c.bones and share(c) > 1]
    return max(known, key=share).title if known else "Bones"
