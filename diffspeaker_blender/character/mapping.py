# SPDX-License-Identifier: GPL-3.0-or-later
"""A mapping: how a character's own channels follow our controls. Pure data, pure numpy.

A channel is a shape key (often the same on several meshes), one axis of a pose bone, or a custom
property. A row gives a channel the sum of products of our controls; few ready mouths (visemes,
vowels) are fitted together, frame by frame, so that they give the measured mouth that the controls
ask for (`FewShapes`); of drawn mouths one is shown at a time (`DrawnMouths`).

How it is written
-----------------
`Mapping.evaluate(controls, names, fps)` returns a list of `(Place, values (F,))`, one row a frame
of `controls`. A place says which datablock: kind "key" → the shape-key datablock of the mesh of
object `owner`, path `key_blocks["NAME"].value`; "bone" → object `owner`, a rotation about or a move
along one of the bone's own axes; "property" → object `owner`; "setting" and
"shown" → whatever chooses a drawing. `animation.channels` turns that into
(datablock, data path, index) → values, bones in their own rotation mode, and writes it.

Legend: `F` frames, `C` controls, `N` shapes, `M` measures (`mouth.FEATURES`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import fewshapes
from .drawn import DrawnMouths
from .fewshapes import FewShapes

Floats = NDArray[np.float64]

VERSION = 1
SEAL, TUCK, JAW = "mouthClose", "lipTuck", "jawOpen"
_FIRM = 1.05
"""The seal is complete a little before the control is, or a twentieth of the jaw stays open."""
NONE, PARTING, ALL = "none", "parting", "all"
"""Which shapes of the mouth rest while a line is spoken that no row drives."""
GROUPS = ("jaw", "lips", "tongue", "lids", "brows", "eyes", "cheeks")
"""Whose strength can be set apart."""
DRAWN = "drawn"
"""Group of channels that choose a drawing: they jump and have no strength."""


@dataclass(frozen=True)
class Place:
    """One channel of one datablock."""

    kind: str
    """"key", "bone", "property", "setting" or "shown"."""
    owner: str
    """Name of the object: a mesh, an armature."""
    name: str
    """Shape key, bone or property; of a setting its data path; of what is shown or hidden, the
    object's name without its number."""
    path: str = ""
    """Of a bone: "rotation", "location" or "scale"; of a property: the pose bone that holds it, or
    "" for the object, "data" for its data. Of a setting: "" for the object, "data" for its data,
    "material" for the nodes of a material. Of what is shown: "hide_viewport" or "hide_render"."""
    index: int = 0
    """Axis of a bone, in the bone's own space; of a material, its slot."""

    @property
    def key(self) -> tuple[str, str, str, int]:
        """Return what tells the place apart on whatever object it lies."""
        return self.kind, self.name, self.path, self.index


@dataclass(frozen=True)
class Term:
    """`gain` times all of `controls`, times (1 - c) for each c of `unless`."""

    gain: float
    controls: tuple[str, ...]
    unless: tuple[str, ...] = ()

    def text(self) -> str:
        """Return it as one would write it: "0.5 jawOpen × (1 − mouthClose)"."""
        parts = [f"{self.gain:g} {' × '.join(self.controls)}".removeprefix("1 ")]
        return " × ".join([*parts, *(f"(1 − {name})" for name in self.unless)])


def parse_terms(text: str) -> tuple[Term, ...]:
    """Read what `Term.text` writes, by hand too: "0.5 jawOpen * (1 - mouthClose) + lipTuck".

    Raises ValueError naming what it cannot read.
    """
    plain = text.replace("×", "*").replace("−", "-").replace("–", "-")
    plain = re.sub(r"\(\s*1\s*-\s*(\w+)\s*\)", r"!\1", plain)
    found = []
    for part in re.findall(r"[+-]?[^+-]+", re.sub(r"(\d)e-", r"\1@", plain)):
        words = re.findall(r"![\w]+|[\w.@]+", part.lstrip("+- "))
        gain, controls, unless = (-1.0 if part.strip().startswith("-") else 1.0), [], []
        for word in words:
            if word.startswith("!"):
                unless.append(word[1:])
            elif re.fullmatch(r"[\d.@]+", word):
                gain *= float(word.replace("@", "e-"))
            else:
                controls.append(word)
        if not controls:
            raise ValueError(f"“{part.strip()}” names no control")
        found.append(Term(gain, tuple(controls), tuple(unless)))
    return tuple(found)


@dataclass(frozen=True)
class Row:
    """What drives one channel, on every object that has it."""

    places: tuple[Place, ...]
    terms: tuple[Term, ...] = ()
    offset: float = 0.0
    low: float = 0.0
    high: float = 1.0
    group: str = "lips"

    def text(self) -> str:
        """Return the row for a list: "jawOpen ← jawOpen × (1 − mouthClose)"."""
        place = self.places[0]
        axis = f".{'XYZ'[place.index]} {place.path}" if place.kind == "bone" else ""
        said = " + ".join(term.text() for term in self.terms) or "held still"
        return f"{place.name}{axis} ← {said}".replace("+ -", "− ")


@dataclass(frozen=True)
class Mapping:
    """Everything that makes one character speak."""

    title: str
    """What it was taken for: "ARKit", "VRM 1", "Rigify" …"""
    rows: tuple[Row, ...] = ()
    few: FewShapes | None = None
    few_rows: tuple[Row, ...] = ()
    """Rows of the fitted shapes; their terms name shapes of `few` in place of controls."""
    lips: str = ""
    """How the lips are sealed: "lock", "key", "bones", "gate", or "" where they cannot be."""
    strengths: dict[str, float] = field(default_factory=dict)
    """Group → factor; 1 where it is not named."""
    bases: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    """Bone → how it stood when the mapping was made: "rotation" (w, x, y, z), "location"."""
    hold: str = PARTING
    """Which other shapes of the mouth are kept at rest: NONE, those PARTING the lips, or ALL."""
    steps: int = 0
    """Hold each pose for so many frames at least (2: "on twos"); 0 or 1 moves on every frame."""
    drawn: DrawnMouths | None = None
    drawn_rows: tuple[Row, ...] = ()
    """Rows of what chooses the drawing; their terms name drawings of `drawn`."""

    def __post_init__(self) -> None:
        """Let rows of fitted shapes that name none stand for these in their order."""
        if self.few is not None:
            object.__setattr__(self, "few_rows", _with_terms(self.few_rows, self.few))

    def places(self) -> tuple[Place, ...]:
        """Return every channel that is driven."""
        return tuple(place for row in self.every_row() for place in row.places)

    def groups(self) -> dict[Place, str]:
        """Return whose strength each channel belongs to."""
        return {place: row.group for row in self.every_row() for place in row.places}

    def every_row(self) -> tuple[Row, ...]:
        """Return the rows of all channels."""
        return (*self.rows, *self.few_rows, *self.drawn_rows)

    def controls(self) -> set[str]:
        """Return which of our controls move anything."""
        named = {name for row in self.rows for term in row.terms for name in term.controls}
        ready = self.few is not None or self.drawn is not None
        return named | (fewshapes.MOUTH_CONTROLS if ready else set())

    def evaluate(
        self, controls: Any, names: Sequence[str], fps: float = 30.0, start: float = 1.0
    ) -> list[tuple[Place, NDArray[np.float32]]]:
        """Return the values (F,) of every place, for controls (F, C) named `names`.

        start: scene frame of the first row. Held poses change on frames 1, 1 + `steps` …
        """
        values = np.asarray(controls, np.float64)
        column = {name: values[:, place] for place, name in enumerate(names)}
        if SEAL in column:
            column[SEAL] = np.clip(column[SEAL] * _FIRM, 0.0, 1.0)
        found = [(row, _row(row, column, len(values))) for row in self.rows]
        if self.few is not None:
            weights = self.few.solve(column, len(values), fps)
            shape = dict(zip(self.few.names, weights.T, strict=True))
            found += [(row, _row(row, shape, len(values))) for row in self.few_rows]
        grid = max(self.steps, 1), round(1 - start) % max(self.steps, 1)
        if self.drawn is not None:
            shown = self.drawn.solve(column, len(values), fps, grid)
            one = dict(zip(self.drawn.names, shown.T, strict=True))
            found += [(row, _row(row, one, len(values))) for row in self.drawn_rows]
        curves: dict[Place, NDArray[np.float32]] = {}
        for row, curve in found:
            strength = self.strengths.get(row.group, 1.0)
            limited = np.clip(row.offset + strength * (curve - row.offset), row.low, row.high)
            held = (limited if row.group == DRAWN else _hold(limited, *grid)).astype(np.float32)
            for place in row.places:  # one shape may be part of a mouth and of something else
                twice = place in curves and place.kind == "key"
                curves[place] = np.clip(curves[place] + held, 0, row.high) if twice else held
        return list(curves.items())

    # -- as text ------------------------------------------------------------------------------

    def to_json(self) -> str:
        """Return the mapping as text, for a property or a preset file."""
        return json.dumps({"version": VERSION, **asdict(self)}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Mapping:
        """Read what `to_json` wrote. Raises ValueError when it is something else."""
        try:
            data = json.loads(text)
            if data.pop("version") != VERSION:
                raise ValueError("the mapping is of another version")
            found = data.pop("few")
            few = FewShapes.from_dict(found) if found else None
            found = data.pop("drawn", None)
            drawn = DrawnMouths.from_dict(found) if found else None
            rows, few_rows, drawn_rows = (
                tuple(_row_from(r) for r in data.pop(n, ()))
                for n in ("rows", "few_rows", "drawn_rows")
            )
            return cls(
                rows=rows,
                few=few,
                few_rows=few_rows,
                drawn=drawn,
                drawn_rows=drawn_rows,
                **data,
            )
        except (TypeError, KeyError, IndexError, AttributeError) as error:
            raise ValueError(f"this is no mapping ({error})") from error

    def with_row(self, number: int, row: Row) -> Mapping:
        """Return the mapping with another row in a place."""
        rows = list(self.rows)
        rows[number] = row
        return replace(self, rows=tuple(rows))

    def moved_to(
        self, owners: Iterable[tuple[str, Iterable[tuple[str, str, str, int]]]]
    ) -> Mapping:
        """Return the mapping for another character of the same names, as presets and copies need.

        owners: (object, the `Place.key`s that it has). Rows that find no channel are left out.
        """
        where = [(name, set(keys)) for name, keys in owners]

        def moved(row: Row) -> Row:
            keys = {place.key: place for place in row.places}
            places = [
                replace(place, owner=owner)
                for key, place in keys.items()
                for owner, there in where
                if key in there
            ]
            return replace(row, places=tuple(places))

        rows = tuple(row for row in map(moved, self.rows) if row.places)
        few_rows = tuple(row for row in map(moved, self.few_rows) if row.places)
        used = {name for row in few_rows for term in row.terms for name in term.controls}
        few = self.few
        if few is not None:
            left = [k for k, name in enumerate(few.names) if name in used]
            few = few.only(left) if left else None
        drawn_rows = tuple(row for row in map(moved, self.drawn_rows) if row.places)
        return replace(
            self,
            rows=rows,
            few=few,
            few_rows=few_rows if few else (),
            drawn=self.drawn if drawn_rows else None,
            drawn_rows=drawn_rows,
        )


def _with_terms(rows: tuple[Row, ...], few: FewShapes) -> tuple[Row, ...]:
    """Return rows that name their shape; others stand for the shapes in their order.

    A term without a shape says what the channel is set to at the shape's full strength.
    """

    def named(row: Row, place: int) -> Row:
        if any(term.controls for term in row.terms):
            return row
        gain = row.terms[0].gain if row.terms else 1.0
        return replace(row, terms=(Term(gain, (few.names[place],)),))

    return tuple(named(row, place) for place, row in enumerate(rows))


def _row_from(data: dict[str, Any]) -> Row:
    places = tuple(Place(**place) for place in data.pop("places"))
    terms = tuple(
        Term(term["gain"], tuple(term["controls"]), tuple(term["unless"]))
        for term in data.pop("terms")
    )
    return Row(places, terms, **data)


def _row(row: Row, column: dict[str, Floats], frames: int) -> Floats:
    """Return a row's values (F,) before limits."""
    total = np.full(frames, row.offset)
    for term in row.terms:
        if not all(name in column for name in term.controls):
            continue
        part = np.full(frames, term.gain)
        for name in term.controls:
            part = part * column[name]
        for name in term.unless:
            if name in column:
                part = part * (1 - np.clip(column[name], 0.0, 1.0))
        total += part
    return total


def _hold(curve: Floats, steps: int, row: int = 0) -> Floats:
    """Return a curve that changes only every so many frames, as drawn animation does.

    row: one of the rows on which it changes.
    """
    if steps < 2:
        return curve
    kept = (np.arange(len(curve)) - row) // steps * steps + row
    return curve[np.maximum(kept, 0)]


def group_of(control: str) -> str:
    """Return whose strength a control belongs to."""
    for start, group in (
        ("jaw", "jaw"),
        ("tongue", "tongue"),
        ("eyeLook", "eyes"),
        ("eye", "lids"),
        ("brow", "brows"),
        ("cheek", "cheeks"),
        ("nose", "cheeks"),
    ):
        if control.startswith(start):
            return group
    return "lips"
