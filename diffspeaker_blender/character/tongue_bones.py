# SPDX-License-Identifier: GPL-3.0-or-later
"""A tongue of bones: its tip raised, its back raised, and out between the lips.

The chain is solved on three places of the tongue's own mesh: root, middle and tip. Everything is
measured in the face's space (`bench.Space`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import names
from .bench import TURN, Bench, Space, solve
from .mapping import Place, Row, Term

Floats = NDArray[np.float64]

_TONGUES = re.compile(r"tongue|t[ao]ng(?:_|\d|$)|tng|舌|zunge|lengua", re.IGNORECASE)
_SIDED = re.compile(r"(?:^|[._\- ])(?:l|r|left|right)(?:$|[._\- ])", re.IGNORECASE)
_MOST = 10
_OUT = 0.4
"""Mouth widths before the lips that the tip goes to, fully out."""
_BEHIND = -0.06
"""Mouth widths before the lips that nothing of the tongue may pass, but for tongueOut."""
_REACHES = 0.5
"""Share of the wanted way that the tip must go, for a control to be taken."""


@dataclass(frozen=True)
class _Tongue:
    """The tongue's mesh."""

    mesh: Any
    tip: Any
    middle: Any
    root: Any
    """Vertices of its front, middle and back."""
    front: Any
    """Its foremost third."""
    at: Floats
    """(3, 3) where root, middle and tip are."""


def rows(bench: Bench, space: Space) -> list[Row]:
    """Return rows that move the tongue by its bones, as far as they can."""
    bones = _bones(bench, space)
    if not bones:
        return []
    tongue = _mesh_of(bench, space, bones)
    if tongue is None:
        return []
    return _Solver(bench, space, tongue, bones).rows()


def _bones(bench: Bench, space: Space) -> list[Any]:
    """Return the control bones of a tongue that lie in the middle."""
    controls = {bone.name: bone for bone in bench.controls()}
    named = names.bones_of("tongue", controls)
    alike = [name for name in controls if _TONGUES.search(name)]
    found = [controls[name] for name in dict.fromkeys([*named, *alike])]
    found = [bone for bone in found if not _SIDED.search(bone.name)]
    return [b for b in found if abs(space.points(bench.ends(b)[:1])[0, 0]) < 0.12][:_MOST]


def _mesh_of(bench: Bench, space: Space, bones: list[Any]) -> _Tongue | None:
    """Return the piece of a mesh that the bones move, in the mouth."""
    best: tuple[float, Any, Any] | None = None
    for bone in bones[:1] + bones[-1:]:
        places = bench.channels(bone, "rotation")
        moved = [bench.moved({place: TURN}) for place in places]
        for part, mesh in zip(bench.parts, bench.meshes, strict=True):
            skin = space.skin() if part.name == space.part.name else np.zeros(len(part.rest), bool)
            size = (
                np.max([np.linalg.norm(space.offsets(m[mesh.name]), axis=1) for m in moved], 0)
                if moved
                else np.zeros(len(part.rest))
            )
            where = space.points(bench.rest[part.name])
            goes = ~skin & (size > 0.02) & (np.abs(where[:, 0]) < 1.0) & (where[:, 2] < 0.1)
            for island in np.unique(part.islands[goes]):
                rows = np.flatnonzero(part.islands == island)
                total = float(size[rows].mean())
                if len(rows) >= 12 and (best is None or total > best[0]):
                    best = total, mesh, rows
    if best is None:
        return None
    _, mesh, piece = best
    where = space.points(bench.rest[mesh.name])
    along = where[piece, 2]

    def part_of(low: float, high: float) -> Any:
        ends = np.percentile(along, [low, high])
        return piece[(along >= ends[0]) & (along <= ends[1])]

    root, middle, tip = part_of(0, 12), part_of(42, 60), part_of(93, 100)
    at = np.stack([where[chosen].mean(0) for chosen in (root, middle, tip)])
    return _Tongue(mesh, tip, middle, root, part_of(67, 100), at)


class _Solver:
    """Find what each bone has to do."""

    def __init__(self, bench: Bench, space: Space, tongue: _Tongue, bones: list[Any]) -> None:
        self.bench, self.space, self.tongue = bench, space, tongue
        self.places: list[Place] = []
        self.units: list[float] = []
        table = []
        step = bench.unit(0.1 * space.mouth.width)
        for bone in bones:
            for path, unit in (("rotation", TURN), ("location", step)):
                for place in bench.channels(bone, path):
                    marks = self._marks({place: unit})
                    size = np.linalg.norm(marks, axis=1).max()
                    if size > 0.01 and np.abs(marks[:, 0]).max() < 0.3 * size:
                        self.places.append(place)
                        self.units.append(unit)
                        table.append(marks.ravel())
        self.table = np.array(table).reshape(len(table), 9)

    def _marks(self, values: dict[Place, float]) -> Floats:
        """Return how root, middle and tip go (3, 3) when channels are set."""
        offsets = self._offsets(values)
        chosen = (self.tongue.root, self.tongue.middle, self.tongue.tip)
        return np.stack([offsets[rows].mean(0) for rows in chosen])

    def _offsets(self, values: dict[Place, float]) -> Floats:
        name = self.tongue.mesh.name
        return self.space.offsets(self.bench.moved(values, self.tongue.mesh)[name])

    def _wanted(self) -> dict[str, Floats]:
        """Return how root, middle and tip go for each control: as ours, from where they are."""
        _, height, forward = self.tongue.at[2]
        rise = float(np.clip(0.08 - height, 0.12, 0.32))
        out = float(np.clip(_OUT - forward, 0.2, 0.8))
        up = float(np.clip(-height, 0.0, 0.3))
        return {
            "tongueTip": np.array([[0, 0, 0], [0, 0.02, 0], [0, rise, 0.02]]),
            "tongueBack": np.array([[0, 0, 0], [0, 0.115, -0.03], [0, 0, -0.095]]),
            "tongueOut": np.array([[0, 0, 0.1], [0, 0.3 * up, 0.45 * out], [0, up, out]]),
        }

    def rows(self) -> list[Row]:
        """Return the rows of every control that the bones can follow."""
        terms: dict[Place, list[Term]] = {place: [] for place in self.places}
        for control, wanted in self._wanted().items() if self.places else ():
            values = self._solved(wanted, behind=control != "tongueOut")
            for place, value in values.items():
                if abs(value) > 1e-5:
                    terms[place].append(Term(value, (control,)))
        return [
            Row((place,), tuple(found), low=-100.0, high=100.0, group="tongue")
            for place, found in terms.items()
            if found
        ]

    def _solved(self, wanted: Floats, *, behind: bool) -> dict[Place, float]:
        """Return the channels' values for a motion of the tongue, or none where it fails.

        behind: nothing of it may pass the lips.
        """
        total = np.zeros(len(self.places))
        got = np.zeros((3, 3))
        for _ in range(4):
            total = total + solve(self.table, (wanted - got).ravel(), 0.01)
            got = self._marks(self._values(total))
        main = np.linalg.norm(wanted, axis=1).argmax()
        for share in (1.0, 0.8, 0.6, 0.4):
            values = self._values(share * total)
            got = self._marks(values)
            along = float((got[main] @ wanted[main]) / (wanted[main] @ wanted[main]))
            aside = float(np.linalg.norm(got[main] - along * wanted[main]))
            if along < _REACHES * share or along < 0.35 or aside > 0.5 * np.linalg.norm(wanted):
                return {}
            if not behind or not self._passes(values):
                return values
        return {}

    def _passes(self, values: dict[Place, float]) -> bool:
        """Return whether the tongue's front pokes out between the lips."""
        rest = self.space.points(self.bench.rest[self.tongue.mesh.name])[self.tongue.front]
        there = rest + self._offsets(values)[self.tongue.front]
        limit = max(_BEHIND, float(rest[:, 2].max()) + 0.03)
        return bool(there[:, 2].max() > limit)

    def _values(self, amounts: Floats) -> dict[Place, float]:
        found = {}
        for place, unit, amount in zip(self.places, self.units, amounts, strict=True):
            value = float(unit * amount)
            found[place] = round(
                float(np.clip(value, -0.9, 0.9)) if place.path == "rotation" else value, 7
            )
        return found
