# SPDX-License-Identifier: GPL-3.0-or-later
"""Lips of bones: solve what the bones around a mouth have to do, so that they do what ours do."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import names
from .bench import TURN, Bench, size_of, solve
from .fewshapes import control_landmarks
from .jaw_bones import Jaw
from .mapping import JAW, SEAL, TUCK, Mapping, Place, Row, Term
from .mouth import features
from .probe import Face, moving
from .proposal import Proposal, Remark

Floats = NDArray[np.float64]

_STEP = 0.12
"""Mouth widths that a lip bone is moved by to see what it does."""
_LIPS = re.compile(r"lip(?!s?_?offset)|mouth|oris|corner|口|唇", re.IGNORECASE)
_ROLES = ("lipUpper", "lipLower", "corners", "lipSides", "lips")
_PAIRS = ((0, 1), (2, 4), (3, 5))
"""Landmarks of the upper and the lower lip that meet."""
_PARTS = 0.002
"""Mouth widths of parting from which a control lets go while the lips are sealed."""
_HALF = 0.4
"""Share of our jaw at which closing is solved once more."""
_MOST_BONES = 26
_DROOPS = 0.7
"""Share of the jaw's opening that the upper lip may come down by to meet the lower one."""
_LOCKS = re.compile(r"mouth_?lock|lips?_?(?:lock|seal|zip|close)|sticky_?lips?", re.IGNORECASE)


def properties(rig: Any) -> Iterable[Place]:
    """Yield every number among the custom properties of a rig, its data and its bones."""
    holders = [("", rig), ("data", rig.data), *((bone.name, bone) for bone in rig.pose.bones)]
    for path, holder in holders:
        for name, value in holder.items():
            if isinstance(value, float) and not name.startswith("_"):
                yield Place("property", rig.name, name, path)


class Lips:
    """Solve what the bones around a mouth have to do."""

    def __init__(self, bench: Bench, jaw: Jaw) -> None:
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
            found = self.bench.channels(bone, "location")
            for place in found or self.bench.channels(bone, "rotation"):
                step = self.bench.unit(_STEP * self.jaw.mouth.width)
                unit = step if place.path == "location" else TURN
                marks = self.marks({place: unit})
                if 0.01 < np.linalg.norm(marks, axis=1).max() < 1.0:
                    rows.append(marks.ravel())
                    places.append(place)
                    units.append(unit)
        return places, units, np.array(rows).reshape(len(rows), 24)

    def _near(self) -> list[str]:
        """Return free bones beside the lips that are no jaw, named ones first."""
        mouth = self.jaw.mouth
        lips = self.jaw.part.rest[np.r_[mouth.upper, mouth.lower]]
        free = {b.name: b for b in self.bench.controls() if b.name != self.jaw.place.name}

        def away(bone: Any) -> float:
            apart = self.bench.ends(bone)[:, None] - lips[None]
            return float(np.linalg.norm(apart, axis=2).min() / mouth.width)

        named = [n for role in _ROLES for n in names.bones_of(role, free)]
        near = [n for n, bone in free.items() if _LIPS.search(n) and away(bone) < 0.9]
        others = [n for n, bone in free.items() if away(bone) < 0.45]
        close = sorted(others, key=lambda n: away(free[n]))
        wanted = [n for n in dict.fromkeys([*named, *near]) if away(free[n]) < 1.2]
        return (wanted if len(wanted) >= 4 else list(dict.fromkeys([*wanted, *close])))[
            :_MOST_BONES
        ]

    def solve(self, wanted: Floats, ridge: float = 0.08) -> Floats:
        """Return amounts (N,), in units, that move the landmarks as wanted (L × 3,)."""
        return solve(self.table, wanted, ridge)

    def build(self, title: str) -> Proposal:
        """Return the mapping onto the jaw and the bones at the lips."""
        jaw = self.jaw
        lock = self._lock()
        terms: dict[Place, list[Term]] = {place: [] for place in self.places}
        for control, marks in control_landmarks().items():
            if control in (JAW, "jawForward", "jawLeft", "jawRight", "cheekPuff", SEAL):
                continue
            amounts = self.solve(marks.ravel())
            got = (amounts @ self.table).reshape(8, 3) if len(amounts) else marks
            parts = max(float((m[up] - m[down])[1]) for m in (marks, got) for up, down in _PAIRS)
            unless = (SEAL,) if parts > _PARTS else ()
            for place, amount in self._amounts(amounts):
                terms[place].append(Term(amount, (control,), unless))
        for place, amount in self._amounts(self._biting()):
            terms[place].append(Term(amount, (JAW, TUCK), (SEAL,)))
        lips, jaw_terms = "gate", self._jaw_terms(0.0, (SEAL,))
        if lock is not None:
            lips, jaw_terms = "lock", self._jaw_terms(0.0)
        elif len(self.places) >= 6:
            closing, early, left = self._closing()
            if left < 0.35:
                lips, jaw_terms = "bones", self._jaw_terms(left)
                for amounts, unless in ((closing, ()), (early, (JAW,))):
                    for place, amount in self._amounts(amounts):
                        terms[place].append(Term(amount / 2, (JAW, SEAL), unless))
                        terms[place].append(Term(amount / 2, (JAW, SEAL), (*unless, TUCK)))
        most = 3.2 if jaw.place.path == "rotation" else 1e4
        rows = [Row((jaw.place,), tuple(jaw_terms), low=-most, high=most, group="jaw")]
        rows += [
            Row((place,), tuple(found), low=-100.0, high=100.0)
            for place, found in terms.items()
            if found
        ]
        if lock is not None:
            rows.append(Row((lock,), (Term(1.0, (SEAL,)),), group="lips"))
        if not self.places:
            self.remarks.append(
                Remark("Lips", "no bone moves them: the jaw opens, nothing rounds or spreads", True)
            )
        mapping = Mapping(
            title,
            tuple(rows),
            lips=lips,
            bases=self.bench.bases(p for row in rows for p in row.places),
        )
        self._missing(mapping)
        face = Face(jaw.part, jaw.mouth, {}, jaw.place.name)
        moved = self.bench.moved({jaw.place: jaw.turn})
        meshes = [n for n, o in moved.items() if moving(o, size_of(self.bench.rest[n]))]
        return Proposal(mapping, tuple(self.remarks), face, tuple(meshes))

    def _missing(self, mapping: Mapping) -> None:
        controls = mapping.controls()
        if not controls & {"tongueOut", "tongueTip", "tongueBack"}:
            self.remarks.append(Remark("Tongue", "it follows the jaw alone", True))
        if not controls & {"eyeBlinkLeft", "eyeBlinkRight"}:
            self.remarks.append(Remark("Blinks", "no bone shuts the lids", True))

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
        half = round(self.jaw.turn / 2, 6)
        terms = [Term(half, (JAW,), unless), Term(half, (JAW,), (*unless, TUCK))]
        if left > 0.01:
            terms.append(Term(round(-self.jaw.turn * left, 6), (JAW, SEAL), (TUCK,)))
        return terms

    def _lock(self) -> Place | None:
        """Return the rig's own lip lock, when it really shuts an open mouth."""
        candidates = [
            Place("property", self.bench.rig.name, c.seal["property"], c.seal["bone"])
            for c in names.conventions()
            if c.seal and c.seal["bone"] in self.bench.rig.pose.bones
            and c.seal["property"] in self.bench.rig.pose.bones[c.seal["bone"]]
        ]  # fmt: skip
        candidates += [p for p in properties(self.bench.rig) if _LOCKS.search(p.name)]
        for place in candidates[:8]:
            shut = self.marks({self.jaw.place: self.jaw.turn, place: 1.0})
            if features(shut)[0] < 0.15 * features(self.opened)[0]:
                return place
        return None

    def _biting(self) -> Floats:
        """Return amounts that keep the lower lip at the teeth while the jaw is half open."""
        wanted = np.zeros((8, 3))
        for up, down in _PAIRS:
            wanted[down] = -0.5 * (self.opened[down] - self.opened[up])
        return self.solve(wanted.ravel(), 0.03)

    def _closing(self) -> tuple[Floats, Floats, float]:
        """Return amounts of lip bones that shut the fully open mouth, and the share left open.

        Between them, how much more of j × (1 - j) a mouth needs that the jaw opens by j: bones turn
        and look at one another, so that half the way is not half the amount.
        """
        total, marks = self._shut(1.0, np.zeros(len(self.places)))
        some, _ = self._shut(_HALF, _HALF * total)
        early = (some - _HALF * total) / (_HALF * (1 - _HALF))
        opened = max(float(features(self.opened)[0]), 1e-6)
        if -marks[0, 1] > _DROOPS * opened:  # the upper lip does what the lower one cannot
            return total, early, 1.0
        left = max(float((marks[up] - marks[down])[1]) for up, down in _PAIRS)
        return total, early, float(np.clip(left / opened, 0.0, 1.0))

    def _shut(self, jaw: float, total: Floats) -> tuple[Floats, Floats]:
        """Return amounts that shut a mouth opened by a share of our jaw, and the landmarks then.

        Solved again from what is really left, for bones turn and chains pull.
        """

        def shown() -> Floats:
            values = {p: u * a for p, u, a in zip(self.places, self.units, total, strict=True)}
            return self.marks({self.jaw.place: jaw * self.jaw.turn} | values)

        marks = shown()
        for _ in range(6):
            wanted = np.zeros((8, 3))
            for up, down in _PAIRS:
                apart = marks[up] - marks[down]
                wanted[up], wanted[down] = -0.3 * apart, 0.7 * apart
            total = total + self.solve(wanted.ravel(), 0.03)
            marks = shown()
        return total, marks
