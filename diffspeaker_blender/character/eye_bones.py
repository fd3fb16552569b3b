# SPDX-License-Identifier: GPL-3.0-or-later
"""Eyes, lids and brows of bones: what turns eyeballs, brings lids together, lifts brows.

An eyeball is what turns as one piece beside the skin; the lids' edges are where the skin gives the
eye free, seen from its middle. Lengths are mouth widths, places are the face's (`bench.Space`).

Legend: `N` channels, `K` pairs of points on a lid's edges.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import names
from .bench import TURN, Bench, Space, solve
from .mapping import Place, Row, Term
from .proposal import Remark

Floats = NDArray[np.float64]

GAZE = {"Out": np.radians(28.0), "In": np.radians(28.0), "Up": np.radians(20.0),
        "Down": np.radians(25.0)}  # fmt: skip
"""Turns of an eyeball at full gaze, as our own."""
_FLAT = 0.35
"""Widths of an eye that its front may go aside: drawn eyes hang on bones far behind them."""
_STIFF = 0.06
"""Share of a piece's motion that may be left when it is taken to turn as one."""
_EYES = re.compile(
    r"eye(?!.*(?:lid|brow|lash|blink|socket|bag|wide|squint))|^[左右両]目", re.IGNORECASE
)
_LIDS = re.compile(r"(?<!s)lid(?!e)|blink|orbicularis|瞼|まぶた", re.IGNORECASE)
_BROWS = re.compile(r"brow|oculi0?[12]|眉", re.IGNORECASE)
_MOST = 30
_BLINKS = 0.7
"""Share of an eye's opening that lids must close, to blink."""
_LIFT = 0.09
"""Mouth widths that brows go up or down by."""


@dataclass(frozen=True)
class Eye:
    """One eyeball."""

    side: str
    centre: Floats
    radius: float
    pieces: tuple[tuple[str, int], ...]
    """(mesh, island) that it is made of."""


@dataclass(frozen=True)
class _Spin:
    """How a channel turns an eye."""

    eye: Eye
    turn: Floats
    """Rotation vector (3,) about left, up, forward."""
    aside: float
    """Farthest that its front goes, over its width."""


class Eyes:
    """Find what bones do above the mouth."""

    def __init__(self, bench: Bench, space: Space) -> None:
        self.bench, self.space = bench, space
        self.remarks: list[Remark] = []
        self.points = {part.name: space.points(bench.rest[part.name]) for part in bench.parts}
        self.pieces = _pieces(bench, self.points, space)
        self.eyes: dict[str, Eye] = {}
        """Side → the eyeball that bones were seen to turn."""

    def _candidates(self, role: str, pattern: re.Pattern[str]) -> list[Any]:
        """Return control bones of a role: those that conventions name, then those called alike."""
        controls = {bone.name: bone for bone in self.bench.controls()}
        named = names.bones_of(role, controls)
        alike = [name for name in controls if pattern.search(name)]
        return [controls[name] for name in dict.fromkeys([*named, *alike])][:_MOST]

    # -- gaze ---------------------------------------------------------------------------------

    def gaze(self) -> list[Row]:
        """Return rows that turn the eyes, each by its own bone, else both by one."""
        rows: list[Row] = []
        shared: list[tuple[list[Place], list[float], dict[str, Floats]]] = []
        for bone in self._candidates("eyes", _EYES):
            places, units, spins = self._spins(bone)
            if len(spins) == 1 and not any(side in _sides(rows) for side in spins):
                rows += self._turned(places, units, spins)
            elif len(spins) == 2:
                shared.append((places, units, spins))
        if not rows:
            for places, units, spins in shared:
                rows = rows or self._turned(places, units, spins)
        return rows

    def _spins(self, bone: Any) -> tuple[list[Place], list[float], dict[str, Floats]]:
        """Return a bone's channels, how far each was tried, and side → turns (N, 3) of that eye."""
        for path in ("rotation", "location"):
            places = self.bench.channels(bone, path)
            away = np.linalg.norm(
                self.space.points(self.bench.ends(bone)[:1])[0] - [0.0, 1.6, -0.7]
            )
            step = self.bench.unit(0.25 * max(float(away), 0.2) * self.space.mouth.width)
            unit = TURN if path == "rotation" else step
            found = [self._turn({place: unit}) for place in places]
            sides = {side for spins in found for side in spins}
            if sides:
                table = {
                    side: np.array([
                        spins[side].turn if side in spins else np.zeros(3) for spins in found
                    ])
                    for side in sides
                }  # fmt: skip
                for side, spin in (pair for spins in found for pair in spins.items()):
                    self.eyes.setdefault(side, spin.eye)
                return places, [unit] * len(places), table
        return [], [], {}

    def _turn(self, values: dict[Place, float]) -> dict[str, _Spin]:
        """Return side → how an eye turns when channels are set."""
        moved = self.bench.moved(values)
        offsets = {name: self.space.offsets(rows) for name, rows in moved.items()}
        groups: dict[str, list[tuple[str, int, Any]]] = {"Left": [], "Right": []}
        for name, island, rows in self.pieces:
            centre = _middle(self.points[name][rows])
            groups["Left" if centre[0] > 0 else "Right"].append((name, island, rows))
        found = {}
        for side, pieces in groups.items():
            spin = self._spin_of(side, pieces, offsets)
            if spin is not None:
                found[side] = spin
        return found

    def _spin_of(
        self, side: str, pieces: list[tuple[str, int, Any]], offsets: dict[str, Floats]
    ) -> _Spin | None:
        goes = [
            (name, island, rows)
            for name, island, rows in pieces
            if np.linalg.norm(offsets[name][rows], axis=1).max(initial=0.0) > 0.004
        ]
        turning = []
        for name, island, rows in goes:
            turn, left = _rotation(self.points[name][rows], offsets[name][rows])
            if left < _STIFF and np.linalg.norm(turn) > 0.02:
                turning.append((name, island, rows, turn))
        if not turning:
            return None
        widest = max(turning, key=lambda one: np.ptp(self.points[one[0]][one[2]], 0)[0])
        points = self.points[widest[0]][widest[2]]
        width = float(np.ptp(points, 0)[0])
        aside = float(np.linalg.norm(offsets[widest[0]][widest[2]], axis=1).max()) / width
        eye = Eye(side, _middle(points), width / 2, tuple((n, k) for n, k, _, _ in turning))
        return _Spin(eye, widest[3], aside)

    def _turned(
        self, places: list[Place], units: list[float], spins: dict[str, Floats]
    ) -> list[Row]:
        """Return the rows that turn one eye, or both, to where our gaze controls say."""
        terms: dict[Place, list[Term]] = {place: [] for place in places}
        table = np.mean(list(spins.values()), axis=0)
        for way, angle in GAZE.items():
            for side in spins:
                wanted = np.zeros(3)
                outwards = 1.0 if side == "Left" else -1.0
                if way in ("Out", "In"):
                    wanted[1] = angle * outwards * (1 if way == "Out" else -1)
                else:
                    wanted[0] = angle * (-1 if way == "Up" else 1)
                amounts = self._aimed(places, units, table, side, wanted)
                if amounts is None:
                    return []
                for place, amount in zip(places, amounts, strict=True):
                    if abs(amount) > 1e-4:
                        gain = round(float(amount) / len(spins), 7)
                        terms[place].append(Term(gain, (f"eyeLook{way}{side}",)))
        return [
            Row((place,), tuple(found), low=-100.0, high=100.0, group="eyes")
            for place, found in terms.items()
            if found
        ]

    def _aimed(
        self, places: list[Place], units: list[float], table: Floats, side: str, wanted: Floats
    ) -> Floats | None:
        """Return amounts that turn an eye as wanted, checked on the mesh; None where none do."""
        importance = np.array([1.0, 1.0, 0.3])
        solved = solve(table * importance, wanted * importance, 1e-3) * units
        for _ in range(2):
            got = self._turn(dict(zip(places, solved.tolist(), strict=True))).get(side)
            if got is None:
                return None
            along = float(got.turn @ wanted) / float(wanted @ wanted)
            if along < 0.2:
                return None
            solved = solved / along
            if got.aside / along > _FLAT:
                solved = solved * _FLAT * along / got.aside
                break
        got = self._turn(dict(zip(places, solved.tolist(), strict=True))).get(side)
        if got is None or got.turn @ wanted < 0.9 * np.linalg.norm(got.turn) * np.linalg.norm(
            wanted
        ):
            return None
        return np.asarray(solved)

    # -- lids ---------------------------------------------------------------------------------

    def lids(self) -> list[Row]:
        """Return rows that shut the lids, of each eye by itself."""
        bones = self._candidates("lids", _LIDS)
        if not bones:
            return []
        eyes = self.eyes or self._eyeballs()
        if not eyes:
            self.remarks.append(Remark("Blinks", "there are lid bones, but no eyeballs to shut "
                                       "the lids over", True))  # fmt: skip
            return []
        rows: list[Row] = []
        for eye in eyes.values():
            rows += self._shut(eye, bones)
        return rows

    def _eyeballs(self) -> dict[str, Eye]:
        """Return the eyes by their shape: two round pieces, one a mirror of the other."""
        round_ones = []
        for name, island, rows in self.pieces:
            extent = np.ptp(self.points[name][rows], 0)
            if extent[:2].min() > 0.25 and extent[:2].max() < 1.5 * extent[:2].min() < 3.0:
                centre = _middle(self.points[name][rows])
                round_ones.append((float(extent[0]), centre, name, island))
        best: tuple[float, dict[str, Eye]] = (0.0, {})
        for width, centre, name, island in round_ones:
            for other, place, mesh, number in round_ones:
                mirrored = np.abs(place - centre * [-1, 1, 1]).max() < 0.1
                if centre[0] > 0.25 and mirrored and abs(other - width) < 0.1 and width > best[0]:
                    left = Eye("Left", centre, width / 2, ((name, island),))
                    right = Eye("Right", place, other / 2, ((mesh, number),))
                    best = width, {"Left": left, "Right": right}
        return best[1]

    def _shut(self, eye: Eye, bones: list[Any]) -> list[Row]:
        """Return the rows that shut one eye."""
        upper, lower = self._edges(eye)
        if len(upper) < 2:
            return []
        lids = _Lids(self, eye, upper, lower, bones)
        if not lids.places:
            return []
        amounts, closed = lids.shut()
        if closed < _BLINKS:
            self.remarks.append(
                Remark(
                    "Blinks",
                    f"the {eye.side.lower()} lids' bones shut {100 * max(closed, 0.0):.0f} % of "
                    "the eye, so they are left alone",
                    True,
                )
            )
            return []
        return lids.rows(amounts)

    def _edges(self, eye: Eye) -> tuple[Any, Any]:
        """Return pairs of vertices (K,), (K,) on the upper and lower edge of an eye's opening.

        Seen from the eye's middle, the skin before it leaves the widest angle free between them.
        """
        points = self.points[self.space.part.name] - eye.centre
        skin = self.space.skin()
        far = np.linalg.norm(points, axis=1) / eye.radius
        near = skin & (far > 0.7) & (far < 1.6) & (points[:, 2] > 0.25 * eye.radius)
        upper, lower = [], []
        for low in np.linspace(-0.6, 0.36, 5) * eye.radius:
            there = (points[:, 0] > low) & (points[:, 0] < low + 0.24 * eye.radius)
            column = np.flatnonzero(near & there)
            angle = np.arctan2(points[column, 1], points[column, 2])
            order = np.argsort(angle)
            column, angle = column[order], angle[order]
            gaps = np.diff(angle)
            if not len(gaps) or gaps.max() < np.radians(8):
                continue
            widest = int(gaps.argmax())
            if abs(angle[widest] + angle[widest + 1]) < np.radians(70):
                lower.append(column[widest])
                upper.append(column[widest + 1])
        return np.array(upper, int), np.array(lower, int)

    # -- brows --------------------------------------------------------------------------------

    def brows(self) -> list[Row]:
        """Return rows that lift and lower the brows."""
        places, units, motions = [], [], []
        mesh = next(m for m in self.bench.meshes if m.name == self.space.part.name)
        rest = self.points[mesh.name]
        weights: dict[str, Floats] = {}
        for bone in self._candidates("brows", _BROWS):
            moves = self.bench.channels(bone, "location")
            step = self.bench.unit(0.1 * self.space.mouth.width)
            for place in moves or self.bench.channels(bone, "rotation"):
                unit = step if place.path == "location" else TURN
                offsets = self.space.offsets(self.bench.moved({place: unit}, mesh)[mesh.name])
                size = np.linalg.norm(offsets, axis=1)
                if size.max(initial=0.0) < 0.02:
                    continue
                strong = np.where(size > 0.5 * size.max(), size, 0.0) ** 2
                where = (strong[:, None] * rest).sum(0) / strong.sum()
                if where[1] < 1.2 or where[1] > 4.0 or (size > 0.3 * size.max()).mean() > 0.3:
                    continue
                places.append(place)
                units.append(unit)
                motions.append(offsets)
                weights.setdefault(bone.name, strong / strong.sum())
        return _lifted(places, units, motions, list(weights.values()), rest) if places else []


class _Lids:
    """The lids of one eye: channels that move their edges, and what shuts them."""

    def __init__(self, eyes: Eyes, eye: Eye, upper: Any, lower: Any, bones: list[Any]) -> None:
        self.bench, self.space, self.eye = eyes.bench, eyes.space, eye
        self.mesh = next(m for m in self.bench.meshes if m.name == self.space.part.name)
        self.upper, self.lower = upper, lower
        self.rest = eyes.points[self.mesh.name]
        self.apart = self.rest[lower] - self.rest[upper]
        ball = np.concatenate([
            eyes.points[name][rows] for name, island, rows in eyes.pieces
            if (name, island) in eye.pieces
        ])  # fmt: skip
        self.ball = float(np.percentile(np.linalg.norm(ball - eye.centre, axis=1), 95))
        self.places: list[Place] = []
        self.units: list[float] = []
        table: list[Floats] = []
        for bone in bones:
            for place, unit in self._tries(bone):
                edges = self._edges({place: unit})
                if np.abs(edges).max() > 0.03 * eye.radius:
                    self.places.append(place)
                    self.units.append(unit)
                    table.append(edges)
        self.table = np.array(table).reshape(len(table), 2, len(upper), 3)

    def _tries(self, bone: Any) -> list[tuple[Place, float]]:
        """Return a bone's channels: turned where it sits in the eye, moved where in the lid."""
        start = self.space.points(self.bench.ends(bone)[:1])[0]
        if np.linalg.norm(start - self.eye.centre) > 3.0 * self.eye.radius:
            return []
        edge = self.rest[np.r_[self.upper, self.lower]]
        lever = float(np.linalg.norm(edge - start, axis=1).min())
        turns = self.bench.channels(bone, "rotation")
        moves = self.bench.channels(bone, "location")
        chosen = (turns or moves) if lever > 0.45 * self.eye.radius else (moves or turns)
        step = self.bench.unit(0.3 * self.eye.radius * self.space.mouth.width)
        return [(place, TURN if place.path == "rotation" else step) for place in chosen]

    def _skin(self, values: dict[Place, float]) -> Floats:
        return self.space.offsets(self.bench.moved(values, self.mesh)[self.mesh.name])

    def _edges(self, values: dict[Place, float]) -> Floats:
        """Return how the upper and lower edge go (2, K, 3) when channels are set."""
        offsets = self._skin(values)
        return np.stack([offsets[self.upper], offsets[self.lower]])

    def shut(self) -> tuple[Floats, float]:
        """Return amounts (N,) that shut the eye, and the share of its opening that they close.

        Solved again from what is really left, for bones turn and chains pull; where the eyeball
        would come through, the lids are led before it.
        """
        falls = self._share()
        best, most = np.zeros(len(self.places)), -1.0
        total, out = best.copy(), 0.0
        got = np.zeros((2, len(self.upper), 3))
        for turn in range(9):
            wanted = np.stack([falls * 1.03 * self.apart, (falls - 1) * 1.03 * self.apart])
            wanted[..., 2] += out
            total = total + 0.8 * self._solved(wanted - got)
            offsets = self._skin(self.values(total))
            got = np.stack([offsets[self.upper], offsets[self.lower]])
            closed = self._closed(got)
            through = self._through(offsets)
            if closed - 3.0 * through > most:
                best, most = total.copy(), closed - 3.0 * through
            if turn % 2:
                out += min(through, 0.1)
        return best, self._closed(self._edges(self.values(best)))

    def _share(self) -> float:
        """Return how much of the way the upper lid goes: nearly all, where both can."""
        up, low = np.abs(self.table).max((0, 2, 3))
        least = 0.1 * max(up, low)
        return 1.0 if low < least else 0.0 if up < least else 0.88

    def _solved(self, wanted: Floats) -> Floats:
        weight = np.array([0.3, 1.0, 0.5])
        table = (self.table * weight).reshape(len(self.places), -1)
        return solve(table, (wanted * weight).ravel(), 0.15)

    def _closed(self, got: Floats) -> float:
        left = self.apart - (got[0] - got[1])
        return 1 - float(np.abs(left[:, 1]).mean() / np.abs(self.apart[:, 1]).mean())

    def _through(self, offsets: Floats) -> float:
        """Return how deep the eyeball comes through the lids (mouth widths)."""
        before, after = self.rest - self.eye.centre, self.rest + offsets - self.eye.centre
        far = np.linalg.norm(before, axis=1)
        lids = self.space.skin() & (far < 1.8 * self.ball) & (far >= 0.99 * self.ball)
        lids &= (after[:, 2] > 0.3 * self.ball) & (np.linalg.norm(offsets, axis=1) > 0.01)
        if not lids.any():
            return 0.0
        deep = np.clip(self.ball - np.linalg.norm(after[lids], axis=1), 0.0, None)
        return float(np.sort(deep)[-max(3, lids.sum() // 8) :].mean())

    def values(self, amounts: Floats) -> dict[Place, float]:
        """Return what the channels are set to; no lid turns further than a third of a circle."""
        found = _values(self.places, self.units, amounts)
        return {
            place: float(np.clip(value, -1.2, 1.2)) if place.path == "rotation" else value
            for place, value in found.items()
        }

    def rows(self, amounts: Floats) -> list[Row]:
        """Return the rows that shut the eye, narrow it and widen it."""
        side = self.eye.side
        blink = f"eyeBlink{side}"
        half = self._through(self._skin(self.values(0.5 * amounts)))
        out = np.zeros((2, len(self.upper), 3))
        out[..., 2] = half if half > 0.02 * self.eye.radius else 0.0
        bulge = self.values(self._solved(out))
        rows = []
        for place, amount in self.values(amounts).items():
            terms = [
                Term(amount, (blink,)),
                Term(round(-0.25 * amount, 7), (f"eyeWide{side}",)),
                Term(round(0.25 * amount, 7), (f"eyeSquint{side}",), (blink,)),
            ]
            if abs(bulge[place]) > 1e-5:
                terms.append(Term(round(4 * bulge[place], 7), (blink,), (blink,)))
            if abs(amount) > 1e-5:
                rows.append(Row((place,), tuple(terms), low=-100.0, high=100.0, group="lids"))
        return rows


def _lifted(
    places: list[Place],
    units: list[float],
    motions: list[Floats],
    marks: list[Floats],
    rest: Floats,
) -> list[Row]:
    """Return the rows that lift the skin at every brow bone as our own brows go."""
    where = np.array([mark @ rest for mark in marks])
    table = np.array([np.concatenate([mark @ motion for mark in marks]) for motion in motions])
    across = np.abs(where[:, 0])
    span = max(float(np.ptp(across)), 1e-6)
    outer = (
        np.clip((across - across.min()) / span, 0, 1) if span > 0.25 else np.full(len(where), 0.5)
    )
    left = where[:, 0] > 0
    middle = across < 0.15
    shapes = {
        "browInnerUp": 1 - outer,
        "browOuterUpLeft": outer * left,
        "browOuterUpRight": outer * ~left,
        "browDownLeft": -1.0 * (left | middle),
        "browDownRight": -1.0 * (~left | middle),
    }
    terms: dict[Place, list[Term]] = {place: [] for place in places}
    for control, lift in shapes.items():
        wanted = np.zeros((len(where), 3))
        wanted[:, 1] = _LIFT * lift
        amounts = solve(table, wanted.ravel(), 0.02)
        got = (amounts @ table).reshape(-1, 3)
        if (got * wanted).sum() < 0.5 * (wanted**2).sum():
            continue
        for place, unit, amount, row in zip(places, units, amounts, table, strict=True):
            if np.abs(row * amount).max() > 0.004:
                terms[place].append(Term(round(float(unit * amount), 7), (control,)))
    return [
        Row((place,), tuple(found), low=-100.0, high=100.0, group="brows")
        for place, found in terms.items()
        if found
    ]


def _pieces(bench: Bench, points: dict[str, Floats], space: Space) -> list[tuple[str, int, Any]]:
    """Return pieces of meshes (mesh, island, rows) that lie where eyes are."""
    found = []
    for part in bench.parts:
        skin = space.skin() if part.name == space.part.name else np.zeros(len(part.rest), bool)
        here = points[part.name]
        near = ~skin & (here[:, 1] > 0.5) & (here[:, 1] < 5.0) & (np.abs(here[:, 0]) < 4.0)
        for island in np.unique(part.islands[near]):
            rows = np.flatnonzero(part.islands == island)
            extent = np.ptp(here[rows], 0)
            if len(rows) >= 6 and near[rows].all() and 0.1 < extent.max() < 3.0:
                found.append((part.name, int(island), rows))
    return found


def _middle(points: Floats) -> Floats:
    return np.asarray((points.min(0) + points.max(0)) / 2)


def _rotation(points: Floats, offsets: Floats) -> tuple[Floats, float]:
    """Return the rotation vector (3,) that moves points as one, and the share of motion left."""
    before, after = points - points.mean(0), points + offsets
    after = after - after.mean(0)
    first, _, second = np.linalg.svd(before.T @ after)
    flip = np.diag([1.0, 1.0, np.sign(np.linalg.det(second.T @ first.T))])
    turn = second.T @ flip @ first.T
    left = np.linalg.norm(before @ turn.T - after, axis=1).mean()
    angle = float(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1)))
    axis = np.array([turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]])
    size = float(np.linalg.norm(axis))
    went = float(np.linalg.norm(offsets, axis=1).max(initial=0.0))
    vector = axis / size * angle if size > 1e-9 else np.zeros(3)
    return vector, float(left / max(went, 1e-12))


def _values(places: Sequence[Place], units: Sequence[float], amounts: Any) -> dict[Place, float]:
    return {
        place: round(float(unit * amount), 7)
        for place, unit, amount in zip(places, units, amounts, strict=True)
    }


def _sides(rows: Iterable[Row]) -> set[str]:
    """Return the eyes that rows turn already."""
    return {
        side
        for row in rows
        for term in row.terms
        for side in ("Left", "Right")
        if term.controls[0].endswith(side)
    }
