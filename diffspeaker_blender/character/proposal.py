# SPDX-License-Identifier: GPL-3.0-or-later
"""From names and measurements to a mapping: what is believed, what is left out and why.

Names propose (`names`), geometry decides (`probe`). Two kinds of character come out: one whose
shapes are our controls under other names, each driven by its own; and one with a few ready mouths,
which are fitted together (`fewshapes`). What is missing is made of what is there where that comes
close, and said otherwise.

Pure numpy.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping as Table
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from . import names as naming
from . import seal
from .declared import BROWS, Bind, Declared
from .drawn import DrawnMouths
from .fewshapes import FewShapes, control_features, control_landmarks
from .mapping import JAW, SEAL, TUCK, Mapping, Place, Row, Term, group_of
from .mouth import features
from .probe import ABOVE, OPENS, Face, Part, Reading, measure

Floats = NDArray[np.float64]

MOUTH = ("jaw", "mouth", "lip")
UPPER = ("eye", "brow")
_ENOUGH = 5
"""Mouth controls found by name, the jaw among them, that make a face one of controls."""
_FEWEST = 2
"""Ready mouths that can speak at all."""
_FEW = 16
_EXPRESSION, _EXPRESSED = 0.125, 0.2
"""Mouth widths, and share of its reach, that a shape that opens the mouth may move lids and brows
by; a long face has cheeks where a broad one has lids."""
_MIRRORED = [0, 1, 3, 2, 5, 4, 7, 6]
"""Landmarks of the other side, `mouth.LANDMARKS`."""
_STRAY = 0.5
"""Share of a mouth's motion that may lie in the upper face before it is no mouth."""


@dataclass(frozen=True)
class Remark:
    """One line for the panel: what is missing or doubtful, and why."""

    subject: str
    reason: str
    missing: bool = False


@dataclass(frozen=True)
class Proposal:
    """What `propose` made of a character."""

    mapping: Mapping
    remarks: tuple[Remark, ...] = ()
    face: Face | None = None
    meshes: tuple[str, ...] = ()
    """Parts that speak."""

    @property
    def speaks(self) -> bool:
        """Return whether the mouth can open at all."""
        return bool(self.mapping.few_rows or self.mapping.drawn_rows) or any(
            JAW in term.controls for row in self.mapping.rows for term in row.terms
        )

    def sentence(self) -> str:
        """Return "Ready to speak: 52 controls on 4 meshes, lips seal, no tongue"."""
        return sentence(self.mapping, len(self.meshes))


def sentence(mapping: Mapping, meshes: int) -> str:
    """Say in one line what a mapped character can do."""
    names = mapping.controls()
    if mapping.drawn is not None:
        return _drawn_sentence(mapping.drawn)
    if mapping.few is not None:
        count = f"{len(mapping.few.names)} mouth shapes"
    else:
        count = f"{len(names)} controls"
    where = f" on {meshes} mesh{'es' if meshes != 1 else ''}" if meshes else ""
    parts = [f"{count}{where}", "lips seal" if mapping.lips else "lips cannot seal"]
    lacking = [
        word
        for word, wanted in (
            ("tongue", ("tongueOut", "tongueTip", "tongueBack")),
            ("blinks", ("eyeBlinkLeft", "eyeBlinkRight")),
        )
        if not names & set(wanted)
    ]
    if lacking:
        parts.append("no " + ", no ".join(lacking))
    return "Ready to speak: " + ", ".join(parts)


def _drawn_sentence(drawn: DrawnMouths) -> str:
    """Say what drawn mouths can do."""
    lacking = [
        word
        for word, sounds in (("closed mouth", {"PP", "sil"}), ("F and V", {"FF"}))
        if not set(drawn.sounds) & sounds
    ]
    said = f"{len(drawn.names)} drawn mouths ({drawn.switch})"
    return "Ready to speak: " + ", ".join([said, *(f"no {word}" for word in lacking)])


def propose(parts: Iterable[Part], declared: Declared | None = None) -> Proposal | None:
    """Return a mapping for a character with face shapes, or None where no shape opens a mouth.

    declared: what the character itself says of them, which goes before what their names say.
    """
    parts = list(parts)
    declared = declared or Declared()
    found = naming.guesses({name for part in parts for name in part.keys})
    parts, made = declared.added(parts)
    said = declared.guesses(parts)
    face = measure(parts, _likely([*said, *found]))
    if face is None:
        return None
    return _Builder(parts, face, found, declared, said, made).build()


def _likely(found: list[naming.Guess]) -> list[str]:
    """Return the shapes that should open the mouth by their names."""
    ordered: dict[str, None] = {}
    for guess in found[:6]:
        for key in (JAW,):
            ordered.update(dict.fromkeys(guess.controls.get(key, ())))
        for key in ("aa", "oh", "E", "ou", "kk"):
            ordered.update(dict.fromkeys(guess.visemes.get(key, ())))
        for key in ("mouthFunnel", "mouthLowerDownLeft"):
            ordered.update(dict.fromkeys(guess.controls.get(key, ())))
    return list(ordered)


@dataclass
class _Builder:
    """Work on one character."""

    parts: list[Part]
    face: Face
    named: list[naming.Guess]
    """What names propose."""
    declared: Declared
    said: list[naming.Guess]
    """What the character declares."""
    made: dict[str, tuple[Bind, ...]]
    """Shape that stands for an expression → what it is made of."""
    remarks: list[Remark] = field(default_factory=list)

    expressions: bool = False
    """Whether whole expressions may speak: only where nothing else does."""

    def build(self) -> Proposal:
        """Return the mapping; whole expressions speak only where nothing else opens the mouth."""
        proposal = self._build()
        if proposal.speaks or self.expressions:
            return proposal
        lenient = replace(self, remarks=[], expressions=True)._build()
        return lenient if lenient.speaks else proposal

    def _build(self) -> Proposal:
        chosen = self._controls()
        mouth = [c for c in chosen if c.startswith(MOUTH)]
        guess = max(
            (g for g in self.found if g.controls),
            key=lambda g: (len(g.controls), g.exact - len(g.visemes)),
            default=None,
        )
        if JAW in chosen and len(mouth) >= _ENOUGH:
            title = guess.convention.title if guess else "Shapes"
            mapping = self._by_controls(title, chosen)
        else:
            mapping = self._by_mouths(chosen)
        self._missing(mapping)
        places = mapping.places()
        meshes = tuple(dict.fromkeys(place.owner for place in places))
        return Proposal(mapping, tuple(self.remarks), self.face, meshes)

    @property
    def found(self) -> list[naming.Guess]:
        """Return all proposals, what is declared before what names say."""
        return [*self.said, *self.named]

    def _doubt(self, subject: str, reason: str) -> None:
        if not any(r.subject == subject for r in self.remarks):
            self.remarks.append(Remark(subject, reason))

    # -- what the names say, measured -----------------------------------------------------------

    def _controls(self) -> dict[str, list[str]]:
        """Return for each of our controls the shapes that really do it, both sides apart."""
        chosen: dict[str, list[str]] = {}
        best = self.named[0].score if self.named else 0.0
        for guess in self.found:
            strong = guess in self.said or guess is self.named[0] or guess.score > 0.4 * best
            for control, named in guess.controls.items():
                sides = (
                    [control.replace("*", side) for side in ("Left", "Right")]
                    if control.endswith("*")
                    else [control]
                )
                if all(side in chosen for side in sides) or not (strong or len(named[0]) > 5):
                    continue
                good = self._apart([key for key in named if self._does(control, key)])
                for side in sides if good else ():
                    chosen.setdefault(side, good)
        return chosen

    def _does(self, control: str, key: str) -> bool:
        """Return whether a shape does what a control's name asks; else remark why not."""
        reading = self.face.readings[key]
        lips = control.startswith(("mouth", "jaw", "lip"))
        if lips and not reading.meshes:
            return False
        if lips and reading.upper_face > _STRAY and reading.at_lips < 0.5 * reading.reach:
            self._doubt(
                key,
                f"left out: it moves the upper face ({100 * reading.upper_face:.0f} %"
                " of its motion), not the mouth",
            )
            return False
        if lips and self._filed_elsewhere(key):
            return False
        if control == JAW and self._is_expression(key):
            return False
        if control == JAW and reading.opening < OPENS:
            self._doubt(
                key,
                "left out: it does not open the mouth "
                f"(lips part by {100 * reading.opening:.0f} % of the mouth's width)",
            )
            return False
        if control == SEAL and reading.opening > -0.02:
            self._doubt(key, "left out: it does not bring the lips together")
            return False
        if control.startswith(UPPER) and reading.at_lips > 0.6 * reading.reach > 0:
            self._doubt(key, "left out: it moves the lips, not the eyes or brows")
            return False
        return True

    def _filed_elsewhere(self, key: str) -> bool:
        """Return whether the character files a shape under eyes or brows, and it moves there."""
        area, reading = self.declared.elsewhere(key), self.face.readings[key]
        if not area or (reading.upper_face < 0.2 and reading.at_lips > 0.05):
            return False
        self._doubt(key, f"left out: the character files it under {area}, not the mouth")
        return True

    def _apart(self, keys: list[str]) -> list[str]:
        """Return the first of several shapes, and those that act elsewhere: its parts."""
        kept: list[str] = []
        for key in keys:
            if all(self._overlap(key, other) < 0.5 for other in kept):
                kept.append(key)
        return kept

    def _overlap(self, one: str, other: str) -> float:
        dots, ones, others = 0.0, 1e-30, 1e-30
        for part in self.parts:
            if one in part.keys:
                ones += float((part.keys[one] ** 2).sum())
            if other in part.keys:
                others += float((part.keys[other] ** 2).sum())
            if one in part.keys and other in part.keys:
                size = np.linalg.norm(part.keys[one], axis=1)
                dots += float((size * np.linalg.norm(part.keys[other], axis=1)).sum())
        return dots / float(np.sqrt(ones * others))

    def _rows(
        self, terms: Table[str, Iterable[Term]], groups: Table[str, str], high: Table[str, float]
    ) -> tuple[Row, ...]:
        """Return rows for what drives each shape; of an expression, for the shapes it is made of.

        groups, high: shape → whose strength it belongs to, and its limit where that is not 1.
        """
        sums: dict[Place, list[Term]] = {}
        first: dict[Place, str] = {}
        for key, found in terms.items():
            meshes = self._meshes(key)
            for mesh, shape, weight in self.made.get(key, [(mesh, key, 1.0) for mesh in meshes]):
                place = Place("key", mesh, shape)
                first.setdefault(place, key)
                scaled = [replace(t, gain=round(t.gain * weight, 4)) for t in found]
                sums.setdefault(place, []).extend(scaled if weight != 1.0 else found)
        rows: dict[tuple[str, tuple[Term, ...]], list[Place]] = {}
        for place, total in sums.items():
            rows.setdefault((place.name, tuple(total)), []).append(place)
        return tuple(
            Row(
                tuple(places),
                total,
                group=groups.get(first[places[0]], "lips"),
                high=high.get(first[places[0]], 1.0),
            )
            for (_, total), places in rows.items()
        )

    def _meshes(self, key: str) -> list[str]:
        """Return where a shape is driven: not on a mesh that it moves far from the mouth."""
        reading = self.face.readings[key]
        strays = reading.strays if reading.at_lips > 0.02 else ()
        for name in strays:
            self._doubt(f"{key} on {name}", "left out: it moves the upper face there")
        return [name for name in reading.meshes if name not in strays]

    # -- a face of controls ---------------------------------------------------------------------

    def _by_controls(self, title: str, chosen: dict[str, list[str]]) -> Mapping:
        terms: dict[str, list[Term]] = {}
        groups: dict[str, str] = {}
        for control, keys in chosen.items():
            if control == SEAL:
                continue
            for key in keys:
                terms.setdefault(key, []).append(Term(1.0, (control,)))
                groups.setdefault(key, group_of(control))
        terms = {key: _sides(found) for key, found in terms.items()}
        self._substitutes(chosen, terms, groups)
        closed, lips = seal.of_keys(
            terms, self.face.readings, chosen.get(SEAL, []), posed=bool(self._bite())
        )
        rows = self._rows(closed, groups, dict.fromkeys(chosen.get(SEAL, []), 1.5))
        return Mapping(title, rows, lips=lips)

    def _substitutes(
        self, chosen: dict[str, list[str]], terms: dict[str, list[Term]], groups: dict[str, str]
    ) -> None:
        """Make controls of the lips that have no shape out of one or two that come close."""
        pool = self._units(set(chosen.get(SEAL, [])) | set(chosen.get(JAW, [])))
        bite = self._bite()
        for control, marks in control_landmarks().items():
            if control in chosen or control.startswith(("cheek", JAW)):
                continue
            if control == TUCK:
                found = {(bite,): 1.0} if bite else self._roll(pool, marks.ravel())
            else:
                found = _closest(pool, marks.ravel(), 0.6)
            for unit, weight in found.items():
                for key in unit:
                    terms.setdefault(key, []).append(Term(round(weight, 3), (control,)))
                    groups.setdefault(key, group_of(control))

    def _bite(self) -> str:
        """Return the shape that puts the lower lip under the teeth, by name."""
        for guess in self.found:
            for key in guess.visemes.get("FF", ()):
                if self._is_mouth(key) and self.face.readings[key].opening < 0.25:
                    return key
        return ""

    def _roll(
        self, pool: dict[tuple[str, ...], Floats], marks: Floats
    ) -> dict[tuple[str, ...], float]:
        """Return the shape that draws the lower lip in without opening: a made-up bite."""
        inwards = {
            unit: row
            for unit, row in pool.items()
            if features(row.reshape(-1, 3))[4] < -0.03
            and features(row.reshape(-1, 3))[0] < 0.06
            and abs(features(row.reshape(-1, 3))[5]) < 0.1
        }
        best = max(inwards, key=lambda unit: _angle(inwards[unit], marks), default=None)
        if best is None or _angle(inwards[best], marks) < 0.35:
            return {}
        want, have = features(marks.reshape(-1, 3)), features(inwards[best].reshape(-1, 3))
        found = {best: float(np.clip(want[4] / have[4], 0.2, 1.0))}
        lifts = [
            unit
            for unit, row in pool.items()
            if features(row.reshape(-1, 3))[1] > 0.05
            and abs(features(row.reshape(-1, 3))[5]) < 0.1
            and abs(features(row.reshape(-1, 3))[2]) < 0.02
        ]
        for unit in lifts[:1]:  # the upper teeth are seen over the lower lip
            found[unit] = float(np.clip(want[1] / features(pool[unit].reshape(-1, 3))[1], 0.0, 0.6))
        return found

    def _units(self, without: set[str]) -> dict[tuple[str, ...], Floats]:
        """Return shapes of the lips, left and right ones together, and what they do (L × 3,)."""
        readings = self.face.readings
        free = [key for key in self._mouths() if key not in without]
        visemes = {k for g in self.found for hits in g.visemes.values() for k in hits}
        free = [key for key in free if key not in visemes] or free
        found: dict[tuple[str, ...], Floats] = {}
        for key in free:
            plain = naming.normalise(key)
            if plain[-1:] in "<>":
                other = plain[:-1] + (">" if plain[-1] == "<" else "<")
                pair = [k for k in free if naming.normalise(k) == other]
                unit = tuple(sorted([key, *pair[:1]]))
            else:
                unit = (key,)
            found[unit] = sum((readings[k].landmarks.ravel() for k in unit), np.zeros(24))
        return found

    def _mouths(self) -> list[str]:
        """Return the shapes that move the lips and little else, largest first."""
        found = [
            key
            for key, r in self.face.readings.items()
            if r.at_lips > 0.02
            and r.upper_face < 0.25
            and self.face.part.name in r.meshes
            and abs(r.side) < 0.98
            and not self.declared.elsewhere(key)
        ]
        sided = [
            key
            for key, r in self.face.readings.items()
            if r.at_lips > 0.02
            and r.upper_face < 0.25
            and abs(r.side) >= 0.98
            and not self.declared.elsewhere(key)
        ]
        return [*found, *sided]

    # -- a face of few mouths -------------------------------------------------------------------

    def _by_mouths(self, chosen: dict[str, list[str]]) -> Mapping:
        title, roles = self._visemes()
        keys = [key for key in roles if roles[key]]
        fitted = [key for key, role in roles.items() if not role]
        if JAW in chosen:
            fitted += [key for key in chosen[JAW] if key not in roles]
        other: dict[str, str] = {}
        if len(fitted) < _FEWEST:
            fresh = [key for key in self._unknown() if key not in roles and key not in fitted]
            fresh, other = self._paired(fresh)
            fitted += fresh
            bite = self._inwards() if "bites" not in roles.values() else ""
            if bite and bite not in roles:
                roles[bite] = "bites"
                keys.append(bite)
            title = title or "Shapes found by what they do"
        fitted = self._apart_mouths(fitted)[:_FEW]
        keys = [*fitted, *keys]
        few = FewShapes(
            tuple(keys),
            tuple(
                tuple(round(float(v), 4) for v in self._together(key, other).measures)
                for key in keys
            ),
            tuple(roles.get(key, "") for key in keys),
        )
        few_terms = {key: [Term(1.0, (key,))] for key in keys}
        few_terms |= {other[key]: [Term(1.0, (key,))] for key in keys if key in other}
        few_rows = self._rows(few_terms, {}, {})
        upper = self._upper(chosen)
        rows = self._rows(upper, {k: group_of(t[0].controls[0]) for k, t in upper.items()}, {})
        rest_open = self.face.mouth.gap > 0.12
        if rest_open and "closes" not in few.roles:
            self._doubt(
                "Lips",
                f"they are {100 * self.face.mouth.gap:.0f} % of the mouth's width "
                "apart at rest and no shape closes them, so p, b and m stay open",
            )
        return Mapping(
            title,
            rows,
            few,
            few_rows,
            lips="" if rest_open and "closes" not in few.roles else "gate",
        )

    def _visemes(self) -> tuple[str, dict[str, str]]:
        """Return the best set of ready mouths: its title, and shape → role.

        What is declared goes first; mouths that close or bite, which it lacks, come from names.
        """
        for guess in self.said:
            roles = self._roles(guess)
            if sum(not role for role in roles.values()) >= _FEWEST:
                for key, role in self._named_mouths()[1].items():
                    if role and key not in roles and role not in roles.values():
                        roles[key] = role
                return guess.convention.title, roles
        return self._named_mouths()

    def _named_mouths(self) -> tuple[str, dict[str, str]]:
        """Return the best set of ready mouths by names alone."""
        best: tuple[float, str, dict[str, str]] = (0.0, "", {})
        before = list(self.remarks)
        said: list[Remark] = []
        for guess in self.named:
            self.remarks = list(before)
            roles = self._roles(guess)
            open_ones = [key for key, role in roles.items() if not role]
            spread = len(open_ones) + 0.5 * (len(roles) - len(open_ones)) + guess.exact / 100
            if open_ones and spread > best[0]:
                best = (spread, guess.convention.title, roles)
                said = self.remarks
        self.remarks = said or before
        return best[1], best[2]

    def _roles(self, guess: naming.Guess) -> dict[str, str]:
        roles: dict[str, str] = {}
        for viseme, named in guess.visemes.items():
            if guess in self.said and self.face.readings[named[0]].at_lips <= 0.005:
                self._doubt(named[0], f"left out: it is declared for {viseme}, but moves no lip")
            for key in self._apart([k for k in named if self._is_mouth(k)])[:1]:
                reading = self.face.readings[key]
                role = {"PP": "closes", "sil": "closes", "FF": "bites"}.get(viseme, "")
                if viseme == "sil" or (role == "closes" and "closes" in roles.values()):
                    continue
                if role and reading.opening > 0.25:
                    self._doubt(
                        key, f"named for {viseme}, but it opens the mouth: taken for what it does"
                    )
                    role = ""
                roles.setdefault(key, role)
        opens = max((self.face.readings[k].opening for k, r in roles.items() if not r), default=0.0)
        return roles if opens > OPENS else {}

    def _is_mouth(self, key: str) -> bool:
        reading = self.face.readings[key]
        if reading.upper_face > _STRAY and reading.at_lips < 0.5 * reading.reach:
            self._doubt(key, "left out: it moves the upper face, not the mouth")
            return False
        if self._filed_elsewhere(key):
            return False
        return reading.at_lips > 0.005 and not self._is_expression(key)

    def _is_expression(self, key: str) -> bool:
        """Return whether a shape opens the mouth and moves lids or brows with it, as a scream."""
        reading = self.face.readings[key]
        most = max(_EXPRESSION, _EXPRESSED * reading.reach)
        if self.expressions or reading.opening < OPENS or reading.at_eyes < most:
            return False
        self._doubt(
            key,
            "left out: it is a whole expression, it moves lids or brows by "
            f"{100 * reading.at_eyes:.0f} % of the mouth's width",
        )
        return True

    def _unknown(self) -> list[str]:
        """Return shapes of the mouth whatever their names, largest first."""
        keys = [k for k in self._mouths() if self.face.readings[k].opening > -0.1]
        keys = [k for k in keys if not self._is_expression(k) and not self._aside(k)]
        return sorted(keys, key=lambda key: -self.face.readings[key].at_lips)

    def _together(self, key: str, other: Table[str, str]) -> Reading:
        """Return what a shape does with its other side, where it has one."""
        reading = self.face.readings[key]
        if key not in other:
            return reading
        marks = reading.landmarks + self.face.readings[other[key]].landmarks
        return replace(reading, landmarks=marks, measures=features(marks))

    def _paired(self, keys: list[str]) -> tuple[list[str], dict[str, str]]:
        """Return shapes of the middle, and of one side with another that mirrors them; and which.

        What moves one side alone would pull the mouth askew.
        """
        readings = self.face.readings
        kept: list[str] = []
        other: dict[str, str] = {}
        for key in keys:
            if abs(readings[key].side) < 0.5:
                kept.append(key)
            elif key not in other.values():
                mirrored = (readings[key].landmarks[_MIRRORED] * (-1, 1, 1)).ravel()
                alike = {k: _angle(mirrored, readings[k].landmarks.ravel()) for k in keys}
                best = max(alike, key=lambda k: alike[k])
                if alike[best] > 0.95 and best not in {*other, *other.values()}:
                    kept.append(key)
                    other[key] = best
        return kept, other

    def _aside(self, key: str) -> bool:
        """Return whether a shape moves the mouth aside, draws the lips in, or is of the cheeks.

        Two of them, one for each side, would cancel out and pinch the mouth instead.
        """
        measures = self.face.readings[key].measures
        if self.face.readings[key].at_lips < 0.5 * self.face.readings[key].reach:
            return True
        sideways = abs(measures[6]) > float(np.linalg.norm(measures[:6]))
        return bool(sideways or (measures[0] < -0.05 and measures[3:5].min() < -0.05))

    def _inwards(self) -> str:
        """Return the shape that draws the lower lip in and does little else, for f and v."""
        found = {
            key: measures[4]
            for key in self._mouths()
            if (measures := self.face.readings[key].measures)[4] < -0.05
            and -0.15 < measures[0] < OPENS
            and np.abs(measures[[3, 5, 6]]).max() < 0.5 * -measures[4]
        }
        return min(found, key=lambda key: found[key], default="")

    def _apart_mouths(self, keys: list[str]) -> list[str]:
        """Return mouths that differ: of two that do the same, the first."""
        kept: list[str] = []
        for key in keys:
            mine = self.face.readings[key].landmarks.ravel()
            others = (self.face.readings[other].landmarks.ravel() for other in kept)
            if all(_angle(mine, other) < 0.995 for other in others):
                kept.append(key)
        return kept

    def _upper(self, chosen: dict[str, list[str]]) -> dict[str, list[Term]]:
        """Return the rows of everything that is no mouth, found by name or by what it does."""
        terms: dict[str, list[Term]] = {}
        for control, keys in chosen.items():
            if not control.startswith(MOUTH):
                for key in keys:
                    terms.setdefault(key, []).append(Term(1.0, (control,)))
        if not any("Blink" in term.controls[0] for found in terms.values() for term in found):
            for key, controls in self._blinks().items():
                terms[key] = [Term(1.0, (control,)) for control in controls]
        return {key: _sides(found) for key, found in terms.items()}

    def _blinks(self) -> dict[str, tuple[str, ...]]:
        """Return shapes that close lids, by motion alone: high up, downwards, on one side.

        Lids go farthest; of those that go far, brows act higher up than lids.
        """
        found: dict[str, list[tuple[float, float, str]]] = {"Left": [], "Right": []}
        for key, r in self.face.readings.items():
            lid = r.upper_face > 0.9 and r.down > 0.4 and r.at_lips < 0.02 and abs(r.side) > 0.85
            lid = lid and self.declared.elsewhere(key) != BROWS
            if lid and self.face.part.name in r.meshes and ABOVE < r.height < 10 * ABOVE:
                found["Left" if r.side > 0 else "Right"].append((r.height, r.reach, key))
        if not (found["Left"] and found["Right"]):
            return {}
        farthest = max(reach for lids in found.values() for _, reach, _ in lids)
        pair = {}
        for side, lids in found.items():
            far = [(height, key) for height, reach, key in lids if reach > 0.7 * farthest]
            if far:
                pair["eyeBlink" + side] = min(far)[1]
        return {key: (control,) for control, key in pair.items()} if len(pair) == 2 else {}

    # -- what is missing ------------------------------------------------------------------------

    def _missing(self, mapping: Mapping) -> None:
        names = mapping.controls()
        inside = [part for part in self.parts if _in_mouth(part, self.face)]
        still = [part.name for part in inside if not part.keys]
        opener = self.face.opener
        if still and not any(opener in part.keys for part in inside):
            verb = "have" if len(still) > 1 else "has"
            self.remarks.append(
                Remark(
                    ", ".join(still),
                    f"{verb} no shapes, so what lies inside does not follow the jaw",
                    True,
                )
            )
        if not mapping.lips:
            self.remarks.append(
                Remark("Lips", "nothing here closes them while the jaw is open", True)
            )
        if not names & {"tongueOut", "tongueTip", "tongueBack"}:
            self.remarks.append(Remark("Tongue", "no shape moves it", True))
        if not names & {"eyeBlinkLeft", "eyeBlinkRight"}:
            self.remarks.append(Remark("Blinks", "no shape closes the lids", True))
        empty = sorted(
            {k for part in self.parts for k in part.empty}
            - {k for part in self.parts for k in part.keys}
        )
        known = [
            k
            for k in empty
            if any(
                k in hits
                for g in naming.guesses(empty)[:1]
                for hits in (*g.controls.values(), *g.visemes.values())
            )
        ]
        if known:
            shown = ", ".join(known[:4]) + (f" and {len(known) - 4} more" if len(known) > 4 else "")
            self.remarks.append(
                Remark(
                    shown,
                    "empty: they move nothing" if len(known) > 1 else "empty: it moves nothing",
                )
            )


def _in_mouth(part: Part, face: Face) -> bool:
    """Return whether a part lies behind the lips, as teeth and tongue do."""
    mouth, base = face.mouth, face.part
    if part is base or not len(part.rest):
        return False
    lips = mouth.frame.local(base.rest[np.r_[mouth.upper, mouth.lower]]).mean(0)
    points = (mouth.frame.local(part.rest) - lips) / mouth.width
    centre = (points.min(0) + points.max(0)) / 2
    return bool(
        abs(centre[0]) < 0.3
        and abs(centre[1]) < 0.6
        and np.ptp(points, 0).max() < 4
        and -2.0 < centre[2] < 0.1
    )


def _sides(terms: list[Term]) -> list[Term]:
    """Give a shape that is driven by both sides of one control their mean."""
    controls = {term.controls[0] for term in terms}
    pairs = {c for c in controls if c.endswith("Left") and c[:-4] + "Right" in controls}
    pairs |= {c[:-4] + "Right" for c in pairs}
    return [
        replace(term, gain=term.gain * 0.5) if term.controls[0] in pairs else term for term in terms
    ]


def _angle(one: Floats, other: Floats) -> float:
    return float(one @ other) / max(float(np.linalg.norm(one) * np.linalg.norm(other)), 1e-12)


def _closest(
    pool: dict[tuple[str, ...], Floats], wanted: Floats, limit: float
) -> dict[tuple[str, ...], float]:
    """Return one or two of a pool's motions (D,) with strengths that come close to one, or none.

    limit: share of the wanted motion that may be left.
    """
    best: tuple[float, dict[tuple[str, ...], float]] = (limit, {})
    size = float(np.linalg.norm(wanted))
    units = [(unit, row) for unit, row in pool.items() if row @ wanted > 0]
    for first, (unit, row) in enumerate(units):
        weight = float(np.clip(row @ wanted / (row @ row), 0.0, 1.0))
        left = float(np.linalg.norm(wanted - weight * row)) / size
        if left < best[0] - 0.02:
            best = (left, {unit: weight})
        for other, second in units[first + 1 :]:
            table = np.stack([row, second])
            both = np.linalg.lstsq(table.T, wanted, rcond=None)[0]
            if both.min() < 0.05 or both.max() > 1.0:
                continue
            left = float(np.linalg.norm(wanted - both @ table)) / size
            if left < best[0] - 0.1:
                best = (left, {unit: float(both[0]), other: float(both[1])})
    return best[1]


__all__ = ["Proposal", "Remark", "control_features", "propose", "sentence"]
