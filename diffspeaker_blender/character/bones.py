# SPDX-License-Identifier: GPL-3.0-or-later
"""Faces that bones or a rig's own properties move: try each axis both ways, keep what works.

Nothing is believed of a rig but what its mesh does: a channel is set, Blender evaluates, the lips
are measured, the channel goes back. The jaw is the turn that parts the lips most; lips are moved by
bones near them, solved so that they do what our own lips do; the seal is the rig's lock, or lip
bones solved to meet, or a jaw that lets go.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

import bpy
import numpy as np
from mathutils import Matrix
from numpy.typing import NDArray

from . import detect, names
from .fewshapes import control_landmarks
from .mapping import JAW, SEAL, TUCK, Mapping, Place, Row, Term
from .mouth import Mouth, features, find_mouth
from .probe import OPENS, Face, Part, moving
from .proposal import Proposal, Remark, propose

Floats = NDArray[np.float64]

_AXES: tuple[Literal["X"], Literal["Y"], Literal["Z"]] = ("X", "Y", "Z")
_TURN = 0.2
"""Radians that a bone is turned by to see what it does."""
_STEP = 0.12
"""Mouth widths that a lip bone is moved by to see what it does."""
_MOST_TURN = 0.7
_JAWS = re.compile(r"jaw|mandib|あご|顎|kiefer", re.IGNORECASE)
_NOT_JAWS = re.compile(r"^(?:DEF|MCH|ORG)-", re.IGNORECASE)
_LIPS = re.compile(r"lip|mouth|oris|corner|口|唇", re.IGNORECASE)
_LIP_ROLES = ("lipUpper", "lipLower", "corners", "lipSides", "lips")
_MOST_BONES = 26
_TRIED = 14
_LOCKS = re.compile(r"mouth_?lock|lips?_?(?:lock|seal|zip|close)|sticky_?lips?", re.IGNORECASE)


def complete(
    rig: Any, meshes: list[Any], parts: list[Part], proposal: Proposal | None
) -> Proposal | None:
    """Return what the shapes can do, with what the bones and properties of their rig add."""
    weak = proposal is None or not proposal.speaks or _narrow(proposal)
    if not weak:
        return proposal
    with _Bench(rig, meshes, parts) as bench:
        if proposal is not None and proposal.speaks:
            return _with_jaw(bench, proposal)
        by_properties = _by_properties(bench)
        if by_properties is not None and by_properties.speaks:
            return by_properties
        return _by_bones(bench) or proposal


def _narrow(proposal: Proposal) -> bool:
    """Return whether the shapes part the lips less than a jaw must (Character Creator's do)."""
    face = proposal.face
    return face is not None and max(r.opening for r in face.readings.values()) < 0.3


class _Bench:
    """A rig on which channels can be tried, in its rest pose; everything is put back at the end."""

    def __init__(self, rig: Any, meshes: list[Any], parts: list[Part]) -> None:
        self.rig, self.meshes = rig, meshes
        self.position = rig.data.pose_position
        self.parts = parts

    def __enter__(self) -> _Bench:
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
        self.rig.data.pose_position = self.position
        for name, stood in self.stood.items():
            self.rig.pose.bones[name].matrix_basis = stood
        self._update()

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
            return _holder(self.rig, place)[place.name]
        return self.rig.pose.bones[place.name].matrix_basis.copy()

    def _put(self, place: Place, value: Any) -> None:
        if place.kind == "property":
            _holder(self.rig, place)[place.name] = value
            self.rig.update_tag()
        else:
            self.rig.pose.bones[place.name].matrix_basis = value

    def _add(self, place: Place, value: float) -> None:
        if place.kind == "property":
            holder = _holder(self.rig, place)
            kind = type(holder[place.name])
            holder[place.name] = kind(round(value)) if kind in (int, bool) else float(value)
            self.rig.update_tag()
            return
        bone = self.rig.pose.bones[place.name]
        if place.path == "rotation":
            bone.matrix_basis = bone.matrix_basis @ Matrix.Rotation(value, 4, _AXES[place.index])
        else:
            step = [0.0, 0.0, 0.0]
            step[place.index] = value
            bone.matrix_basis = Matrix.Translation(step) @ bone.matrix_basis


def _holder(rig: Any, place: Place) -> Any:
    if place.path == "data":
        return rig.data
    return rig.pose.bones[place.path] if place.path else rig


# -- properties of a rig ----------------------------------------------------------------------


def _by_properties(bench: _Bench) -> Proposal | None:
    """Return a mapping onto custom properties that drive the face (Daz rigs and the like)."""
    found = list(_properties(bench.rig))
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
            if moving(offsets, _size(bench.rest[mesh])):
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


def _properties(rig: Any) -> Iterable[Place]:
    """Yield every number among the custom properties of a rig, its data and its bones."""
    holders = [("", rig), ("data", rig.data), *((bone.name, bone) for bone in rig.pose.bones)]
    for path, holder in holders:
        for name, value in holder.items():
            if isinstance(value, float) and not name.startswith("_"):
                yield Place("property", rig.name, name, path)


def _size(points: Floats) -> float:
    return float(np.linalg.norm(np.ptp(points, 0))) if len(points) else 0.0


# -- the jaw ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Jaw:
    place: Place
    turn: float
    """Radians (or moves) that open the mouth as far as our jaw does at 1."""
    mesh: Any
    part: Part
    mouth: Mouth


def _find_jaw(bench: _Bench, known: Face | None = None) -> _Jaw | None:
    """Return the bone, axis and sense that open the mouth: turns first, then moves."""
    for path in ("rotation", "location"):
        best: tuple[float, _Jaw] | None = None
        for name in _jaw_names(bench.rig):
            for place, amount in _tries(bench, name, path):
                found = _opening(bench, place, amount, known)
                if found is not None and (best is None or found[0] > 1.15 * best[0]):
                    best = found
            if best is not None:
                break
        if best is not None:
            return _scaled(bench, best[1])
    return None


def _jaw_names(rig: Any) -> list[str]:
    """Return bones that may be the jaw: by convention, by name, then any free bone of the head."""
    free = [bone.name for bone in rig.pose.bones if _free(bone)]
    named = [name for name in names.bones_of("jaw", free) if name in free]
    alike = [name for name in free if _JAWS.search(name) and not _NOT_JAWS.match(name)]
    alike.sort(key=lambda name: (len(name), name))
    others = [name for name in free if _NOT_JAWS.match(name) and _JAWS.search(name)]
    ordered = list(dict.fromkeys([*named, *alike, *others]))
    return ordered[:_TRIED] or _weighing(rig)[:_TRIED]


def _free(bone: Any) -> bool:
    """Return whether a pose bone obeys a turn: nothing else holds it."""
    held = {
        "COPY_TRANSFORMS",
        "COPY_ROTATION",
        "CHILD_OF",
        "ARMATURE",
        "DAMPED_TRACK",
        "STRETCH_TO",
    }
    return not any(c.type in held and not c.mute and c.influence > 0.99 for c in bone.constraints)


def _weighing(rig: Any) -> list[str]:
    """Return free bones of the upper end of a rig, the nearest to a head's children first."""
    heads = [b for b in rig.pose.bones if re.search(r"head", b.name, re.IGNORECASE)]
    below = [child.name for head in heads for child in head.children_recursive if _free(child)]
    return list(dict.fromkeys(below))


def _tries(bench: _Bench, name: str, path: str) -> Iterable[tuple[Place, float]]:
    """Yield the channels of a bone that can be set, and by how much to try them."""
    bone = bench.rig.pose.bones[name]
    if path == "location" and bone.bone.use_connect:
        return
    locked = bone.lock_rotation if path == "rotation" else bone.lock_location
    for axis in range(3):
        if not locked[axis]:
            place = Place("bone", bench.rig.name, name, path, axis)
            yield place, _TURN if path == "rotation" else 0.25 * bone.length


def _opening(
    bench: _Bench, place: Place, amount: float, known: Face | None
) -> tuple[float, _Jaw] | None:
    """Return how wide a try opens the mouth (world units), and the jaw it would be.

    What one sense closes, the other opens: the one in which things sink is taken.
    """
    moved = bench.moved({place: amount})
    best: tuple[float, _Jaw] | None = None
    for part, mesh in zip(bench.parts, bench.meshes, strict=True):
        offsets = moved[mesh.name]
        size = np.linalg.norm(offsets, axis=1)
        peak = float(size.max(initial=0.0))
        share = float((size > 0.3 * peak).mean()) if peak > 0 else 1.0
        if not moving(offsets, _size(bench.rest[mesh.name])) or share > 0.9:
            continue
        here = replace(part, rest=bench.rest[mesh.name])
        sense = -1.0 if offsets[size > 0.4 * peak, 2].mean() > 0 else 1.0
        mouth = _mouth_of(here, sense * offsets, known)
        if mouth is None or len(mouth.upper) < 5:
            continue
        opened = mouth.opening(sense * offsets)
        if opened > OPENS and (best is None or len(here.rest) > len(best[1].part.rest)):
            best = opened * mouth.width, _Jaw(place, sense * amount, mesh, here, mouth)
    return best


def _mouth_of(part: Part, offsets: Floats, known: Face | None) -> Mouth | None:
    """Return the lips that offsets open, or those that are known already."""
    if known is not None:
        return known.mouth if known.part.name == part.name else None
    return find_mouth(part.rest, offsets, part.triangles, hints=part.axes, islands=part.islands)


def _scaled(bench: _Bench, jaw: _Jaw) -> _Jaw:
    """Return the jaw with the turn that opens as far as our own jaw at 1."""
    wanted = features(control_landmarks()[JAW])[0]
    turn = jaw.turn
    for _ in range(2):
        opened = jaw.mouth.opening(bench.moved({jaw.place: turn}, jaw.mesh)[jaw.mesh.name])
        turn *= float(np.clip(wanted / max(opened, 1e-3), 0.3, 3.0))
        if jaw.place.path == "rotation":
            turn = float(np.clip(turn, -_MOST_TURN, _MOST_TURN))
    offsets = bench.moved({jaw.place: turn}, jaw.mesh)[jaw.mesh.name]
    again = find_mouth(
        jaw.part.rest, offsets, jaw.part.triangles, hints=jaw.part.axes, islands=jaw.part.islands
    )
    return replace(jaw, turn=turn, mouth=again or jaw.mouth)


def _with_jaw(bench: _Bench, proposal: Proposal) -> Proposal:
    """Add the jaw bone to shapes that open the mouth too little."""
    jaw = _find_jaw(bench, proposal.face)
    mapping = proposal.mapping
    if jaw is None or mapping.few is not None:
        return proposal
    lets_go = () if mapping.lips == "key" else (SEAL,)
    row = Row(
        (jaw.place,), (Term(round(jaw.turn, 4), (JAW,), lets_go),), low=-3.2, high=3.2, group="jaw"
    )
    remark = Remark(
        jaw.place.name,
        "turned as well: the shapes alone open the mouth by "
        f"{100 * max(r.opening for r in proposal.face.readings.values()):.0f} % of its width"
        if proposal.face
        else "turned as well",
    )
    bases = _bases(bench, [jaw.place])
    return replace(
        proposal,
        mapping=replace(mapping, rows=(*mapping.rows, row), bases=bases),
        remarks=(*proposal.remarks, remark),
    )


def _bases(bench: _Bench, places: Iterable[Place]) -> dict[str, dict[str, list[float]]]:
    """Return how the bones stood before they were tried."""
    rig, stood = bench.rig, bench.stood
    found = {}
    for name in dict.fromkeys(place.name for place in places if place.kind == "bone"):
        basis = stood.get(name) or rig.pose.bones[name].matrix_basis
        found[name] = {
            "rotation": [round(v, 6) for v in basis.to_quaternion()],
            "location": [round(v, 6) for v in basis.to_translation()],
        }
    return found


# -- a face of bones --------------------------------------------------------------------------


def _by_bones(bench: _Bench) -> Proposal | None:
    """Return a mapping onto bones, or None where none opens a mouth."""
    jaw = _find_jaw(bench)
    if jaw is None:
        return None
    return _Lips(bench, jaw).build()


class _Lips:
    """Solve what the bones around a mouth have to do."""

    def __init__(self, bench: _Bench, jaw: _Jaw) -> None:
        self.bench, self.jaw = bench, jaw
        self.remarks: list[Remark] = []
        self.opened = self.marks({jaw.place: jaw.turn})
        self.places, self.units, self.table = self._responses()

    def marks(self, values: dict[Place, float]) -> Floats:
        """Return the landmarks' motion (L, 3) when channels are set."""
        offsets = self.bench.moved(values, self.jaw.mesh)[self.jaw.mesh.name]
        return self.jaw.mouth.landmarks(offsets)

    def _responses(self) -> tuple[list[Place], list[float], Floats]:
        """Return channels of lip bones, by how much each was tried, and (N, L × 3) responses."""
        rows, places, units = [], [], []
        for name in self._near():
            bone = self.bench.rig.pose.bones[name]
            path = "location" if not bone.bone.use_connect else "rotation"
            locked = bone.lock_location if path == "location" else bone.lock_rotation
            scale = float(self.bench.rig.matrix_world.median_scale)
            unit = _STEP * self.jaw.mouth.width / max(scale, 1e-12) if path == "location" else _TURN
            for axis in range(3):
                if locked[axis]:
                    continue
                place = Place("bone", self.bench.rig.name, name, path, axis)
                marks = self.marks({place: unit})
                if 0.01 < np.linalg.norm(marks, axis=1).max() < 1.0:
                    rows.append(marks.ravel())
                    places.append(place)
                    units.append(unit)
        return places, units, np.array(rows).reshape(len(rows), 24)

    def _near(self) -> list[str]:
        """Return free bones beside the lips that are no jaw, named ones first."""
        rig, mouth = self.bench.rig, self.jaw.mouth
        lips = self.jaw.part.rest[np.r_[mouth.upper, mouth.lower]]
        free = {
            b.name: b
            for b in rig.pose.bones
            if _free(b) and b.name != self.jaw.place.name and not _NOT_JAWS.match(b.name)
        }
        world = np.array(rig.matrix_world)

        def away(bone: Any) -> float:
            ends = np.array([bone.head, bone.tail]) @ world[:3, :3].T + world[:3, 3]
            apart = ends[:, None] - lips[None]
            return float(np.linalg.norm(apart, axis=2).min() / mouth.width)

        named = [n for role in _LIP_ROLES for n in names.bones_of(role, free)]
        near = [n for n, bone in free.items() if _LIPS.search(n) and away(bone) < 0.9]
        others = [n for n, bone in free.items() if away(bone) < 0.45]
        close = sorted(others, key=lambda n: away(free[n]))
        wanted = [n for n in dict.fromkeys([*named, *near]) if away(free[n]) < 1.2]
        return (wanted if len(wanted) >= 4 else list(dict.fromkeys([*wanted, *close])))[
            :_MOST_BONES
        ]

    def solve(self, wanted: Floats, ridge: float = 0.08) -> Floats:
        """Return amounts (N,), in units, that move the landmarks as wanted (L × 3,)."""
        if not len(self.places):
            return np.zeros(0)
        square = self.table @ self.table.T
        weight = ridge * float(np.trace(square)) / len(square)
        solved = np.linalg.solve(square + weight * np.eye(len(square)), self.table @ wanted)
        return np.asarray(solved, np.float64)

    def build(self) -> Proposal:
        jaw, rig = self.jaw, self.bench.rig
        lock = self._lock()
        terms: dict[Place, list[Term]] = {place: [] for place in self.places}
        for control, marks in control_landmarks().items():
            if control in (JAW, "jawForward", "jawLeft", "jawRight", "cheekPuff", SEAL):
                continue
            parts = features(marks)[0] > 0.01
            for place, amount in self._amounts(self.solve(marks.ravel())):
                unless = (SEAL,) if parts else ()
                terms[place].append(Term(amount, (control,), unless))
        lips, jaw_terms = "gate", self._jaw_terms(0.0, (SEAL,))
        if lock is not None:
            lips, jaw_terms = "lock", self._jaw_terms(0.0)
        elif len(self.places) >= 6:
            closing, left = self._closing()
            if left < 0.35:
                lips, jaw_terms = "bones", self._jaw_terms(left)
                for place, amount in self._amounts(closing):
                    terms[place].append(Term(amount / 2, (JAW, SEAL)))
                    terms[place].append(Term(amount / 2, (JAW, SEAL), (TUCK,)))
        rows = [Row((jaw.place,), tuple(jaw_terms), low=-3.2, high=3.2, group="jaw")]
        rows += [
            Row((place,), tuple(found), low=-100.0, high=100.0)
            for place, found in terms.items()
            if found
        ]
        if lock is not None:
            rows.append(Row((lock,), (Term(1.0, (SEAL,)),), group="lips"))
        rows += self._lids()
        if not self.places:
            self.remarks.append(
                Remark("Lips", "no bone moves them: the jaw opens, nothing rounds or spreads", True)
            )
        title = _title(rig)
        mapping = Mapping(
            title,
            tuple(rows),
            lips=lips,
            bases=_bases(self.bench, [p for row in rows for p in row.places]),
        )
        self._missing(mapping)
        face = Face(jaw.part, jaw.mouth, {}, jaw.place.name)
        moved = self.bench.moved({jaw.place: jaw.turn})
        meshes = [n for n, o in moved.items() if moving(o, _size(self.bench.rest[n]))]
        return Proposal(mapping, tuple(self.remarks), face, tuple(meshes))

    def _missing(self, mapping: Mapping) -> None:
        controls = mapping.controls()
        if not controls & {"tongueOut", "tongueTip", "tongueBack"}:
            self.remarks.append(Remark("Tongue", "it follows the jaw alone", True))
        if not controls & {"eyeBlinkLeft", "eyeBlinkRight"}:
            self.remarks.append(Remark("Blinks", "no pair of lid bones was found", True))

    def _amounts(self, solved: Floats) -> Iterable[tuple[Place, float]]:
        """Yield channels with the amounts that are worth a term."""
        for place, unit, amount, row in zip(
            self.places, self.units, solved, self.table, strict=True
        ):
            if np.linalg.norm(row * amount) > 0.008:
                yield place, round(float(unit * amount), 7)

    def _jaw_terms(self, left: float, unless: tuple[str, ...] = ()) -> list[Term]:
        """Return the jaw's terms when lip bones close all but a share of its opening.

        It rises half-way when the lower lip goes under the teeth.
        """
        half = round(self.jaw.turn / 2, 4)
        terms = [Term(half, (JAW,), unless), Term(half, (JAW,), (*unless, TUCK))]
        if left > 0.01:
            terms.append(Term(round(-self.jaw.turn * left, 4), (JAW, SEAL), (TUCK,)))
        return terms

    def _lock(self) -> Place | None:
        """Return the rig's own lip lock, when it really shuts an open mouth."""
        candidates = [
            Place("property", self.bench.rig.name, c.seal["property"], c.seal["bone"])
            for c in names.conventions()
            if c.seal and c.seal["bone"] in self.bench.rig.pose.bones
            and c.seal["property"] in self.bench.rig.pose.bones[c.seal["bone"]]
        ]  # fmt: skip
        candidates += [p for p in _properties(self.bench.rig) if _LOCKS.search(p.name)]
        for place in candidates[:8]:
            shut = self.marks({self.jaw.place: self.jaw.turn, place: 1.0})
            if features(shut)[0] < 0.15 * features(self.opened)[0]:
                return place
        return None

    def _closing(self) -> tuple[Floats, float]:
        """Return amounts of lip bones that shut the fully open mouth, and the share left open.

        Solved again from what is really left, for bones turn and chains pull.
        """
        total = np.zeros(len(self.places))
        marks = self.opened
        for _ in range(6):
            wanted = np.zeros((8, 3))
            for up, down in ((0, 1), (2, 4), (3, 5)):
                apart = marks[up] - marks[down]
                wanted[up], wanted[down] = -0.3 * apart, 0.7 * apart
            total = total + self.solve(wanted.ravel(), 0.03)
            values = {p: u * a for p, u, a in zip(self.places, self.units, total, strict=True)}
            marks = self.marks({self.jaw.place: self.jaw.turn} | values)
        left = features(marks)[0] / max(features(self.opened)[0], 1e-6)
        return total, float(np.clip(left, 0.0, 1.0))

    # -- lids -------------------------------------------------------------------------------

    def _lids(self) -> list[Row]:
        """Return rows that shut the lids: each upper lid bone goes to its lower one."""
        rig = self.bench.rig
        present = [bone.name for bone in rig.pose.bones if _free(bone)]
        pairs = [
            (name, name.replace(".T.", ".B."))
            for name in names.bones_of("lids", present)
            if ".T." in name and name.replace(".T.", ".B.") in present
        ]
        rows: list[Row] = []
        world = np.array(rig.matrix_world)[:3, :3]
        for upper, lower in pairs:
            side = "Left" if re.search(r"\.L\b", upper) else "Right"
            top, bottom = rig.pose.bones[upper], rig.pose.bones[lower]
            way = np.array(bottom.head) - np.array(top.head)
            for bone, share in ((top, 0.9), (bottom, -0.1)):
                axes = np.array(bone.matrix)[:3, :3]
                local = np.linalg.solve(axes, way * share)
                rows += [
                    Row(
                        (Place("bone", rig.name, bone.name, "location", axis),),
                        (Term(round(float(local[axis]), 7), ("eyeBlink" + side,)),),
                        low=-100.0, high=100.0, group="lids",
                    )
                    for axis in range(3)
                    if abs(local[axis]) > 1e-5
                ]  # fmt: skip
        return rows if np.isfinite(world).all() else []


def _title(rig: Any) -> str:
    """Return the convention whose bones a rig has most of."""
    present = {bone.name for bone in rig.pose.bones}

    def share(convention: names.Convention) -> float:
        bones = [name for group in convention.bones.values() for name in group]
        return len(present & set(bones)) - 0.01 * len(bones)

    known = [c for c in names.conventions() if c.bones and share(c) > 1]
    return max(known, key=share).title if known else "Bones"
