# SPDX-License-Identifier: GPL-3.0-or-later
"""The jaw's bone: the turn that parts the lips most, or that carries the lower teeth along."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import names
from .bench import MACHINERY, TURN, Bench, Space, size_of
from .fewshapes import FewShapes, control_landmarks
from .mapping import JAW, SEAL, Mapping, Place, Row, Term
from .mouth import Mouth, features, find_mouth
from .probe import OPENS, Face, Part, moving
from .proposal import Proposal, Remark, propose

Floats = NDArray[np.float64]

MOST_TURN = 0.7
_JAWS = re.compile(r"jaw|mandib|あご|顎|kiefer|mand[ií]bula|m[aâ]choire|челюсть|턱", re.IGNORECASE)
_TRIED = 14
_WAY = 0.12
"""Share of what a jaw moves that it is moved by, to see whether the mouth opens."""
_SPELT = ("jawOpen", "JawOpen", "jaw_open", "Jaw_Open", "jaw open")
"""What the bone is called among the shapes: the first that none of them bears."""
_AJAR = 0.2
"""How far the jaw is open, mostly, where the lips meet in speech."""
_NARROW = 0.3
"""Mouth widths that a jaw must part the lips by; shapes that do less leave the rest to a bone."""
_TEETH = 0.785
"""How far the front teeth sink for each step of the lower lip's middle, on a measured head."""
_FOLLOWS = 0.25
"""Share of the lip's way that something in the mouth must go, to follow the jaw."""
_MIDDLE = 0.06
"""Widths of a rig that a bone without a name may lie off its middle, to be the jaw."""
_NAMELESS = 40


@dataclass(frozen=True)
class Jaw:
    """A channel that opens a mouth."""

    place: Place
    turn: float
    """Radians (or moves) that open the mouth as far as our jaw does at 1."""
    mesh: Any
    part: Part
    mouth: Mouth
    remarks: tuple[Remark, ...] = ()


def find_jaw(bench: Bench, known: Face | None = None) -> Jaw | None:
    """Return the bone, axis and sense that open the mouth: turns first, then moves.

    Without a bone that is called so, any bone in the middle of the rig is tried.
    """
    named = _named(bench)
    for tried, paths in ((named, ("rotation", "location")), (_any(bench), ("rotation",))):
        for path in paths:
            best: tuple[float, Jaw] | None = None
            for name in tried:
                for place, amount in _tries(bench, name, path):
                    found = _opening(bench, place, amount, known, best)
                    if found is not None and (best is None or found[0] > 1.15 * best[0]):
                        best = found
                if best is not None:
                    return _scaled(bench, best[1])
    return None


def _named(bench: Bench) -> list[str]:
    """Return bones that may be the jaw: by convention, then by name."""
    free = [bone.name for bone in bench.rig.pose.bones if bench.free(bone)]
    named = [name for name in names.bones_of("jaw", free) if name in free]
    alike = [name for name in free if _JAWS.search(name) and not MACHINERY.match(name)]
    alike.sort(key=lambda name: (len(name), name))
    others = [name for name in free if MACHINERY.match(name) and _JAWS.search(name)]
    return list(dict.fromkeys([*named, *alike, *others]))[:_TRIED]


def _any(bench: Bench) -> list[str]:
    """Return free bones in the middle of a rig that move a part of a mesh, below a head first."""
    rig = bench.rig
    heads = [b for b in rig.pose.bones if re.search(r"head", b.name, re.IGNORECASE)]
    below = [child for head in heads for child in head.children_recursive]
    weighted = {group.name for mesh in bench.meshes for group in mesh.vertex_groups}
    pool = [*below, *(bone for bone in rig.pose.bones if bone.name in weighted)]
    points = np.concatenate([bench.rest[mesh.name] for mesh in bench.meshes])
    middle, width = (points.min(0) + points.max(0)) / 2, np.ptp(points, 0)
    sides = [axis for axis in range(2) if _even(bench, axis)] or [0, 1]

    def off(bone: Any) -> float:
        ends = np.abs(bench.ends(bone)[0] - middle) / np.maximum(width, 1e-12)
        return float(min(ends[axis] for axis in sides))

    found = [bone for bone in pool if bench.free(bone) and off(bone) < _MIDDLE]
    return list(dict.fromkeys(bone.name for bone in found))[:_NAMELESS]


def _even(bench: Bench, axis: int) -> bool:
    """Return whether the bones of a rig lie alike on both sides of a world axis."""
    heads = np.array([bench.ends(bone)[0] for bone in bench.rig.pose.bones])
    points = np.concatenate([bench.rest[mesh.name] for mesh in bench.meshes])
    centre = (points.min(0) + points.max(0)) / 2
    mirrored = heads.copy()
    mirrored[:, axis] = 2 * centre[axis] - mirrored[:, axis]
    gap = np.sqrt(((heads[:, None] - mirrored[None]) ** 2).sum(2)).min(1).mean()
    return bool(gap < 0.02 * np.ptp(points, 0).max())


def locked(bench: Bench) -> str:
    """Return a jaw bone that may not be turned because its channels are locked, or ""."""
    for name in _named(bench):
        bone = bench.rig.pose.bones[name]
        if len(bench.channels(bone, "rotation")) < 3:
            return name
    return ""


def _tries(bench: Bench, name: str, path: str) -> Iterable[tuple[Place, float]]:
    """Yield the channels of a bone that can be set, and by how much to try them."""
    bone = bench.rig.pose.bones[name]
    amount = TURN if path == "rotation" else 0.25 * bone.length
    tries = []
    for place in bench.channels(bone, path):
        moved = bench.moved({place: amount})
        rise = max(float(np.abs(offsets[:, 2]).max(initial=0.0)) for offsets in moved.values())
        tries.append((rise, place, amount * (_farther(bench, moved) if path != "rotation" else 1)))
    for _, place, tried in sorted(tries, key=lambda one: -one[0]):
        yield place, tried


def _farther(bench: Bench, moved: dict[str, Floats]) -> float:
    """Return how much farther a bone has to be moved, for a jaw to open well."""
    name = max(moved, key=lambda key: float(np.abs(moved[key]).max(initial=0.0)))
    size = np.linalg.norm(moved[name], axis=1)
    peak = float(size.max(initial=0.0))
    if peak <= 0:
        return 1.0
    extent = size_of(bench.rest[name][size > 0.15 * peak])
    return float(np.clip(_WAY * extent / peak, 0.1, 100.0))


def _opening(
    bench: Bench,
    place: Place,
    amount: float,
    known: Face | None,
    best: tuple[float, Jaw] | None,
) -> tuple[float, Jaw] | None:
    """Return how wide a try opens the mouth (world units), and the jaw it would be.

    What one sense closes, the other opens: the one in which things sink is taken. A limit of the
    rig may hold one sense back, so the other one is tried where nothing moves.
    best: what another channel did, whose lips this one is measured on.
    """
    found: tuple[float, Jaw] | None = None
    for sign in (1.0, -1.0):
        moved = bench.moved({place: sign * amount})
        if best is not None:
            jaw = best[1]
            opened = jaw.mouth.opening(moved[jaw.mesh.name])
            return abs(opened) * jaw.mouth.width, replace(
                jaw, place=place, turn=float(np.copysign(amount, sign * opened))
            )
        for part, mesh in zip(bench.parts, bench.meshes, strict=True):
            one = _parted(bench, (place, sign * amount), (part, mesh), moved[mesh.name], known)
            if one is not None and (found is None or len(part.rest) > len(found[1].part.rest)):
                found = one
        if any(moving(o, size_of(bench.rest[name])) for name, o in moved.items()):
            break
    return found


def _parted(
    bench: Bench, tried: tuple[Place, float], where: tuple[Part, Any], offsets: Floats,
    known: Face | None,
) -> tuple[float, Jaw] | None:  # fmt: skip
    """Return how wide a motion of one mesh opens its lips, and the jaw it would be."""
    (place, amount), (part, mesh) = tried, where
    size = np.linalg.norm(offsets, axis=1)
    peak = float(size.max(initial=0.0))
    share = float((size > 0.3 * peak).mean()) if peak > 0 else 1.0
    if not moving(offsets, size_of(bench.rest[mesh.name])) or share > 0.9:
        return None
    here = replace(part, rest=bench.rest[mesh.name])
    sense = -1.0 if offsets[size > 0.4 * peak, 2].mean() > 0 else 1.0
    mouth = _mouth_of(here, sense * offsets, known)
    if mouth is None or len(mouth.upper) < 5:
        return None
    opened = mouth.opening(sense * offsets)
    if opened <= OPENS:
        return None
    return opened * mouth.width, Jaw(place, sense * amount, mesh, here, mouth)


def _mouth_of(part: Part, offsets: Floats, known: Face | None) -> Mouth | None:
    """Return the lips that offsets open, or those that are known already."""
    if known is not None:
        return known.mouth if known.part.name == part.name else None
    return find_mouth(part.rest, offsets, part.triangles, hints=part.axes, islands=part.islands)


def _scaled(bench: Bench, jaw: Jaw, wanted: float | None = None) -> Jaw:
    """Return the jaw with the turn that opens as far as our own jaw at 1, or as its rig allows.

    wanted: opening in mouth widths.
    """
    ours = features(control_landmarks()[JAW])[0] if wanted is None else wanted

    def opened(turn: float) -> float:
        moved = bench.moved({jaw.place: turn}, jaw.mesh)[jaw.mesh.name]
        return max(jaw.mouth.opening(moved), 1e-3)

    turn = jaw.turn
    for _ in range(2):
        turn *= float(np.clip(ours / opened(turn), 0.3, 3.0))
        if jaw.place.path == "rotation":
            turn = float(np.clip(turn, -MOST_TURN, MOST_TURN))
    turn, remarks = _allowed(jaw, turn, opened, ours)
    offsets = bench.moved({jaw.place: turn}, jaw.mesh)[jaw.mesh.name]
    again = find_mouth(
        jaw.part.rest,
        offsets,
        jaw.part.triangles,
        islands=jaw.part.islands,
        frame=jaw.mouth.frame,
    )
    mouth = jaw.mouth if wanted is not None else again or jaw.mouth
    return replace(jaw, turn=turn, mouth=mouth, remarks=remarks)


def _allowed(jaw: Jaw, turn: float, opened: Any, wanted: float) -> tuple[float, tuple[Remark, ...]]:
    """Return the turn without what a limit of the rig swallows, and what to say of it."""
    full = opened(turn)
    if opened(0.85 * turn) < 0.97 * full:
        return turn, ()
    low, high = 0.0, 1.0
    for _ in range(6):
        middle = (low + high) / 2
        low, high = (low, middle) if opened(middle * turn) > 0.985 * full else (middle, high)
    remark = Remark(
        jaw.place.name,
        f"the rig limits it: the mouth opens {100 * min(full / wanted, 1.0):.0f} % as far as ours",
    )
    return turn * high, (remark,) if full < 0.9 * wanted else ()


# -- together with shapes ---------------------------------------------------------------------


def join(bench: Bench, proposal: Proposal) -> Proposal:
    """Return a face of shapes with the jaw's bone turned as well, where it is needed.

    Shapes may leave the opening to the bone, or the skin may open by a shape while teeth and tongue
    hang on the bone (Character Creator). Both together never open further than ours.
    """
    face = proposal.face
    if face is None or any(place.kind != "key" for place in proposal.mapping.places()):
        return proposal
    if _opens(proposal.mapping, face) < _NARROW:
        return _opens_more(bench, proposal, face)
    return _carries(bench, proposal, face)


def _as_a_shape(bench: Bench) -> Proposal | None:
    """Return a mapping for which the jaw's bone is one more shape: the one that opens the mouth.

    The lips are then found where the bone parts them, and every other shape is measured there.
    """
    jaw = find_jaw(bench) if _named(bench) else None
    taken = {name for part in bench.parts for name in part.keys}
    name = next((name for name in _SPELT if name not in taken), "")
    if jaw is None or not name:
        return None
    ajar = bench.moved({jaw.place: _AJAR * jaw.turn})
    parts = []
    for part in bench.parts:
        offsets = ajar[part.name] / _AJAR
        opens = {name: offsets} if moving(offsets, size_of(bench.rest[part.name])) else {}
        parts.append(replace(part, rest=bench.rest[part.name], keys={**part.keys, **opens}))
    found = propose(parts)
    if found is None or not any(place.name == name for place in found.mapping.places()):
        return None

    def turned(row: Row) -> Row:
        if row.places[0].name != name:
            return row
        terms = tuple(replace(t, gain=round(t.gain * jaw.turn, 4)) for t in row.terms)
        return replace(row, places=(jaw.place,), terms=terms, low=-3.2, high=3.2, group="jaw")

    mapping = replace(
        found.mapping,
        rows=tuple(map(turned, found.mapping.rows)),
        few_rows=tuple(map(turned, found.mapping.few_rows)),
    )
    said = Remark(jaw.place.name, "turned as well: the shapes leave the mouth's opening to it")
    return _added(bench, found, mapping, jaw.place, (said, *jaw.remarks))


def _opens_more(bench: Bench, proposal: Proposal, face: Face) -> Proposal:
    """Add the jaw's bone to shapes that open the mouth too little."""
    found = _as_a_shape(bench)
    if found is not None and found.mapping.few is None:
        return found
    jaw = find_jaw(bench, face)
    if jaw is None:
        return proposal
    mapping = proposal.mapping
    shaped = _opens(mapping, face)
    said = Remark(
        jaw.place.name,
        f"turned as well: the shapes alone open the mouth by {100 * shaped:.0f} % of its width",
    )
    if mapping.few is not None:
        grown = _as_a_mouth(bench, jaw, mapping, mapping.few)
        return _added(bench, proposal, grown, jaw.place, (said, *jaw.remarks))
    ours = float(features(control_landmarks()[JAW])[0])
    jaw = _scaled(bench, jaw, max(ours - shaped, 0.1))
    row = Row(
        (jaw.place,), (Term(round(jaw.turn, 4), (JAW,), (SEAL,)),), low=-3.2, high=3.2, group="jaw"
    )
    grown = replace(mapping, rows=(*mapping.rows, row))
    return _added(bench, proposal, grown, jaw.place, (said, *jaw.remarks))


def _opens(mapping: Mapping, face: Face) -> float:
    """Return how far the shapes part the lips for our jaw (mouth widths)."""
    if mapping.few is not None:
        return max(float(row[0]) for row in mapping.few.measured)
    return sum(
        term.gain * face.readings[row.places[0].name].opening
        for row in mapping.rows
        for term in row.terms
        if term.controls == (JAW,) and row.places[0].name in face.readings
    )


def _as_a_mouth(bench: Bench, jaw: Jaw, mapping: Mapping, few: FewShapes) -> Mapping:
    """Return a mapping of few mouths with the open jaw as one mouth more."""
    marks = jaw.mouth.landmarks(bench.moved({jaw.place: jaw.turn}, jaw.mesh)[jaw.mesh.name])
    measured = tuple(round(float(value), 4) for value in features(marks))
    grown = FewShapes(
        (*few.names, jaw.place.name), (*few.measured, measured), (*few.roles, ""), few.limit
    )
    row = Row((jaw.place,), (Term(round(jaw.turn, 4), ()),), low=-3.2, high=3.2, group="jaw")
    return replace(mapping, few=grown, few_rows=(*mapping.few_rows, row), lips="gate")


def _added(
    bench: Bench, proposal: Proposal, mapping: Mapping, place: Place, remarks: tuple[Remark, ...]
) -> Proposal:
    bases = mapping.bases | bench.bases([place])
    moved = bench.moved({place: TURN})
    carried = {name for name, o in moved.items() if moving(o, size_of(bench.rest[name]))}
    left = [
        one
        for one in proposal.remarks
        if "does not follow the jaw" not in one.reason or not carried & set(one.subject.split(", "))
    ]
    return replace(
        proposal,
        mapping=replace(mapping, bases=bases),
        remarks=(*left, *remarks),
        meshes=tuple(dict.fromkeys((*proposal.meshes, *carried))),
    )


def _carries(bench: Bench, proposal: Proposal, face: Face) -> Proposal:
    """Add the bone that teeth and tongue hang on to shapes that open the skin alone."""
    space = Space(face.mouth, face.part)
    inside = _left_behind(bench, proposal, space)
    if not inside:
        return proposal
    found = _carrier(bench, space, inside)
    if found is None:
        return proposal
    place, turn, opened = found
    sinks = _lip_sinks(proposal, face)
    turn *= _TEETH * sinks
    if abs(turn) > MOST_TURN:
        turn = float(np.copysign(MOST_TURN, turn))
    mapping, reason = proposal.mapping, "turned as well: teeth and tongue hang on it"
    if abs(opened * turn) > OPENS:  # it opens the skin, too: then the shape has to stay behind
        if mapping.few is not None:
            return _as_a_shape(bench) or proposal
        mapping = _without_jaw(mapping)
        reason = "turned instead of the shape that opens the mouth: it moves teeth and skin"
        turn *= float(np.clip(features(control_landmarks()[JAW])[0] / abs(opened * turn), 0.3, 2.0))
    terms = _as_the_shape(proposal.mapping, turn)
    if mapping.lips == "gate":
        terms = tuple(
            t if SEAL in t.unless else replace(t, unless=(*t.unless, SEAL)) for t in terms
        )
    row = Row((place,), terms, low=-3.2, high=3.2, group="jaw")
    grown = replace(mapping, rows=(*mapping.rows, row))
    return _added(bench, proposal, grown, place, (Remark(place.name, reason),))


def _left_behind(bench: Bench, proposal: Proposal, space: Space) -> dict[str, Any]:
    """Return vertices in the mouth that no shape takes along with the jaw, by mesh."""
    driven = {
        place
        for row in (*proposal.mapping.rows, *proposal.mapping.few_rows)
        for place in row.places
        if proposal.mapping.few is not None or any(JAW in term.controls for term in row.terms)
    }
    found = {}
    for part in bench.parts:
        points = space.points(bench.rest[part.name])
        inside = (np.abs(points[:, 0]) < 0.9) & (np.abs(points[:, 1]) < 0.9)
        inside &= (points[:, 2] > -2.5) & (points[:, 2] < 0.05)
        if part.name == space.part.name:
            inside &= ~space.skin()
        reach = np.zeros(len(points))
        for place in driven:
            if place.kind == "key" and place.owner == part.name and place.name in part.keys:
                offsets = space.offsets(part.keys[place.name])
                reach = np.maximum(reach, np.linalg.norm(offsets, axis=1))
        still = inside & (reach < 0.05)
        if still.sum() >= 8:
            found[part.name] = still
    return found


def _carrier(
    bench: Bench, space: Space, inside: dict[str, Any]
) -> tuple[Place, float, float] | None:
    """Return the channel that lets what is inside the mouth sink.

    With it come radians that let its front sink by one mouth width, and how far the lips part in a
    radian.
    """
    best: tuple[float, Place, float, float] | None = None
    for name in _named(bench):
        for place, amount in _tries(bench, name, "rotation"):
            moved = bench.moved({place: amount})
            sunk = _front_sinks(space, bench, moved, inside) / amount
            opened = space.mouth.opening(moved[space.part.name]) / amount
            if abs(sunk) * TURN > 0.05 and (best is None or abs(sunk) > 1.15 * best[0]):
                best = abs(sunk), place, 1.0 / sunk, opened
        if best is not None:
            return best[1:]
    return None


def _front_sinks(
    space: Space, bench: Bench, moved: dict[str, Floats], inside: dict[str, Any]
) -> float:
    """Return how far the front of what moves in the mouth sinks (mouth widths)."""
    points, offsets = [], []
    for name, chosen in inside.items():
        points.append(space.points(bench.rest[name])[chosen])
        offsets.append(space.offsets(moved[name])[chosen])
    where, motion = np.concatenate(points), np.concatenate(offsets)
    size = np.linalg.norm(motion, axis=1)
    goes = size > 0.2 * size.max(initial=0.0)
    if goes.sum() < 4 or size.max() < 0.01:
        return 0.0
    front = goes & (where[:, 2] > np.percentile(where[goes, 2], 80))
    return float(-motion[front, 1].mean())


def _lip_sinks(proposal: Proposal, face: Face) -> float:
    """Return how far the middle of the lower lip sinks when our jaw is at 1 (mouth widths)."""
    ours = float(-control_landmarks()[JAW][1, 1])
    if proposal.mapping.few is not None:
        return ours
    sunk = -sum(
        term.gain * float(face.readings[row.places[0].name].landmarks[1, 1])
        for row in proposal.mapping.rows
        for term in row.terms
        if term.controls == (JAW,) and row.places[0].name in face.readings
    )
    return sunk if sunk > _FOLLOWS * ours else ours


def _as_the_shape(mapping: Mapping, turn: float) -> tuple[Term, ...]:
    """Return a jaw's terms that let go when the shape that opens the mouth does."""
    for row in mapping.rows:
        found = [term for term in row.terms if term.controls == (JAW,)]
        total = sum(term.gain for term in found)
        if total > 0:
            return tuple(replace(t, gain=round(turn * t.gain / total, 4)) for t in found)
    return (Term(round(turn, 4), (JAW,), (SEAL,)),)


def _without_jaw(mapping: Mapping) -> Mapping:
    """Return a mapping whose shapes leave opening, and shutting what is open, to a bone."""
    rows = []
    for row in mapping.rows:
        terms = tuple(t for t in row.terms if t.controls not in ((JAW,), (JAW, SEAL)))
        if terms:
            rows.append(replace(row, terms=terms))
    return replace(mapping, rows=tuple(rows), lips="gate")


__all__ = ["Jaw", "find_jaw", "join", "locked"]
