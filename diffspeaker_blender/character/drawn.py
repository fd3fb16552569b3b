# SPDX-License-Identifier: GPL-3.0-or-later
"""Drawn mouths: which of a character's few drawings is shown, frame by frame, and for how long.

A drawing stands for a sound (`SOUNDS`). Our controls of a frame are compared with what the model
does at each class of speech sounds (`_CLASSES`, measured); a class that no drawing was made for
goes to the likest drawing there is. Sealed lips (p, b, m) take the closed drawing and a bite (f, v)
the biting one, whatever else the mouth does. Then the cheapest sequence of drawings is found in
which each is held for its frames: no drawing flickers past, and a closure is never dropped for a
vowel, it takes the frames that it needs.

Legend: `F` frames, `N` drawings, `K` classes of sounds, `M` measures, `B` steps of frames. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping as Table
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .fewshapes import asked

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

SOUNDS = {
    "sil": "Rest",
    "PP": "M B P (closed)",
    "FF": "F V (teeth on lip)",
    "aa": "Ah (wide open)",
    "E": "Eh (open)",
    "ih": "Ee (wide, teeth)",
    "oh": "Oh (round)",
    "ou": "Oo (small, round)",
    "W": "W (tightest)",
    "SS": "S T K (teeth)",
    "DD": "D T N",
    "kk": "K G",
    "nn": "L (tongue up)",
    "TH": "Th (tongue out)",
    "CH": "Ch Sh",
    "RR": "R",
}
"""Sound that a drawing may be made for → what people call it."""
NOTHING = ""
"""The sound of a drawing that is no mouth."""

_MEASURED = ("tongueTip", "tongueOut", "tongueBack", "mouthFunnel")
_SPREAD = np.array([0.092, 0.044, 0.030, 0.30, 0.20, 0.25, 0.09])
"""Of each measure among frames of one class: opening, width, forward, then `_MEASURED`."""
_CLASSES: dict[str, tuple[tuple[float, ...], tuple[str, ...]]] = {
    "aa": ((0.56, -0.04, 0.01, 0, 0, 0, 0.02), ("aa", "E", "oh", "ih")),
    "ae": ((0.42, 0.00, 0.00, 0, 0, 0, 0.02), ("E", "aa", "ih", "oh")),
    "uh": ((0.30, -0.04, 0.02, 0, 0, 0, 0.03), ("E", "aa", "ih", "oh")),
    "ih": ((0.35, -0.02, 0.01, 0, 0, 0, 0.03), ("ih", "E", "SS", "aa")),
    "ee": ((0.43, 0.01, 0.00, 0, 0, 0, 0.01), ("ih", "E", "SS", "aa")),
    "er": ((0.22, -0.09, 0.04, 0, 0, 0, 0.10), ("RR", "oh", "ou", "SS", "E")),
    "oh": ((0.39, -0.14, 0.06, 0, 0, 0, 0.15), ("oh", "aa", "ou", "E")),
    "ow": ((0.27, -0.14, 0.07, 0, 0, 0, 0.08), ("oh", "ou", "W", "aa")),
    "oo": ((0.17, -0.13, 0.06, 0, 0, 0, 0.03), ("ou", "W", "oh", "PP", "sil")),
    "w": ((0.12, -0.17, 0.09, 0, 0, 0, 0.04), ("W", "ou", "oh", "PP", "sil")),
    "th": ((0.24, -0.03, 0.02, 0, 0.61, 0, 0.02), ("TH", "SS", "DD", "nn", "ih", "E")),
    "ch": ((0.33, -0.06, 0.07, 0, 0, 0, 0.39), ("CH", "SS", "DD", "ou", "ih", "E")),
    "s": ((0.34, 0.00, 0.01, 0, 0, 0, 0.01), ("SS", "DD", "kk", "ih", "E")),
    "t": ((0.30, -0.02, 0.01, 1, 0, 0, 0.03), ("DD", "SS", "kk", "nn", "ih", "E")),
    "l": ((0.32, -0.07, 0.03, 1, 0, 0, 0.05), ("nn", "DD", "SS", "ih", "E")),
    "k": ((0.33, -0.03, 0.02, 0, 0, 1, 0.04), ("kk", "DD", "SS", "ih", "E")),
    "grin": ((0.14, 0.16, -0.02, 0, 0, 0, 0), ("ih", "SS", "E", "aa")),
    "purse": ((0.18, -0.35, 0.19, 0, 0, 0, 0.30), ("ou", "W", "oh", "PP", "sil")),
    "shut": ((0.05, 0.00, 0.00, 0, 0, 0, 0), ("PP", "sil", "W", "ou")),
}
"""Class of sounds → (M,) what our model does in its middle (means over 14 speakers), and the sounds
whose drawing shows it, the best first. A grin and pursed lips are "ee" and "oo" overdone."""
_RARE = {"l": 1.2, "er": 0.6}
"""Cost of classes that look like much more frequent ones."""
_MUST = 60.0
"""Cost of a frame that shows open lips while they are sealed: more than any vowel is worth."""
_CHANGE = 1.6
"""Cost of another drawing: of two that fit, the one that is there stays."""
_SEALED, _BITTEN = 0.5, 0.5
"""From where on the seal and the bite count."""
_SHUT, _LOOSE = 0.07, 0.30
"""Openings in mouth widths: lips that have come to rest, and lips that hang apart in a pause."""
_QUIET, _HANGING = 0.12, 0.25
"""Seconds that shut and hanging lips must be still to be at rest."""
_SLACK = 2.0
"""Spreads by which a mouth that hangs open may be shaped, in width, rounding and tongue."""
_STILL = 0.4
"""Mouth widths a second below which hanging lips are still."""


@dataclass(frozen=True)
class DrawnMouths:
    """A character's drawings, and how they are timed."""

    names: tuple[str, ...]
    """Of the drawings (N,), no two alike."""
    sounds: tuple[str, ...]
    """What each is made for, of `SOUNDS`."""
    switch: str = ""
    """What chooses them: "Grease Pencil layers", "an image sequence" …"""
    hold: int = 2
    """Frames that each drawing is shown at least."""
    lead: int = 0
    """Frames that the drawings come before the sound."""

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> DrawnMouths:
        """Read it from JSON."""
        names, sounds = (tuple(str(v) for v in data[key]) for key in ("names", "sounds"))
        if len(names) != len(sounds) or not names or set(sounds) - set(SOUNDS):
            raise ValueError("the drawn mouths name sounds that are unknown")
        return cls(names, sounds, str(data["switch"]), int(data["hold"]), int(data["lead"]))

    def only(self, kept: list[int]) -> DrawnMouths:
        """Return some of the drawings."""
        return DrawnMouths(
            tuple(self.names[k] for k in kept),
            tuple(self.sounds[k] for k in kept),
            self.switch,
            self.hold,
            self.lead,
        )

    def solve(
        self,
        column: Table[str, Floats],
        frames: int,
        fps: float = 30.0,
        grid: tuple[int, int] = (1, 0),
    ) -> Floats:
        """Return which drawing is shown (F, N), 1 for it and 0 for others, for curves by name.

        grid: drawings change on every so manieth frame only, counted from that row.
        """
        cost = self.costs(column, frames, fps)
        if self.lead:
            cost = cost[np.clip(np.arange(frames) + self.lead, 0, frames - 1)]
        shown = sequence(cost, self.hold, grid, start=self.rest)
        return np.asarray(shown[:, None] == np.arange(len(self.names)), np.float64)

    @property
    def rest(self) -> int:
        """Return the drawing of a face that says nothing."""
        return self._first("sil", *_CLASSES["shut"][1])

    @property
    def closed(self) -> int:
        """Return the drawing that shows p, b and m."""
        return self._first(*_CLASSES["shut"][1])

    def _first(self, *sounds: str) -> int:
        """Return the drawing of the first of some sounds that there is, else the least open."""
        found = (self.sounds.index(sound) for sound in sounds if sound in self.sounds)
        return next(found, int(np.argmin([_openness(sound) for sound in self.sounds])))

    def shows(self) -> dict[str, int]:
        """Return which drawing shows each class of sounds."""
        return {name: self._first(*prefer) for name, (_, prefer) in _CLASSES.items()}

    def costs(self, column: Table[str, Floats], frames: int, fps: float = 30.0) -> Floats:
        """Return how badly each drawing fits each frame (F, N)."""
        wanted = measures(column, frames)
        cost = np.full((frames, len(self.names)), np.inf)
        for name, place in self.shows().items():
            away = ((wanted - np.array(_CLASSES[name][0])) / _SPREAD) ** 2
            cost[:, place] = np.minimum(cost[:, place], away.sum(1) + _RARE.get(name, 0.0))
        # What counts is how much worse than the best: the best of a grimace is far off, too.
        cost = np.minimum(cost - cost.min(1, keepdims=True), _MUST / 3)
        seal, tuck = (_curve(column, name, frames) for name in ("mouthClose", "lipTuck"))
        quiet = still(wanted, fps) & (seal < _SEALED) & (tuck < _BITTEN)
        places = np.arange(len(self.names))
        if "FF" in self.sounds:
            cost = self._must(cost, self.sounds.index("FF"), tuck, _BITTEN)
        if self.rest != self.closed:  # else it shows a mouth that is hardly open as well
            cost[:, self.rest] = _MUST / 3
        cost[quiet] = np.where(places == self.rest, 0.0, _MUST / 3)
        return self._must(cost, self.closed, seal, _SEALED)

    def _must(self, cost: Floats, place: int, curve: Floats, least: float) -> Floats:
        """Return costs (F, N) that leave a curve's frames (F,) above a limit to one drawing."""
        on = curve > least
        cost = cost.copy()
        cost[on] = np.where(np.arange(len(self.names)) == place, 0.0, _MUST * curve[on, None])
        if self.sounds[place] == "FF":
            cost[~on, place] = _MUST / 3 * (1 - curve[~on])
        return cost


def _openness(sound: str) -> float:
    """Return how far the mouth of a sound is open, in mouth widths."""
    found = [row[0] for row, prefer in _CLASSES.values() if prefer[0] == sound]
    return found[0] if found else 0.0 if sound == "sil" else 0.15


def _curve(column: Table[str, Floats], name: str, frames: int) -> Floats:
    return np.clip(np.asarray(column.get(name, np.zeros(frames)), np.float64), 0.0, 1.0)


def measures(column: Table[str, Floats], frames: int) -> Floats:
    """Return what is looked at of a mouth (F, M): opening, width, forward, then `_MEASURED`."""
    mouth = asked(column, frames, skip=("lipTuck",))
    rest = [_curve(column, name, frames) for name in _MEASURED]
    return np.stack([mouth[:, 0], mouth[:, 5], mouth[:, 3], *rest], 1)


def still(wanted: Floats, fps: float) -> NDArray[np.bool_]:
    """Return where a mouth (F, M) is at rest: shut for a moment, or hanging open for longer."""
    opening, frames = wanted[:, 0], len(wanted)
    speed = np.abs(np.gradient(opening)) * fps if frames > 1 else np.zeros(frames)
    slack = (np.abs(wanted[:, 1:]) < _SLACK * _SPREAD[1:]).all(1)
    hanging = _runs((opening < _LOOSE) & (speed < _STILL) & slack, _HANGING * fps)
    ends = _runs(opening < _SHUT, _QUIET * fps, ends=True)
    return hanging | (ends & (np.abs(wanted[:, 1]) < _LOOSE))


def _runs(flags: NDArray[np.bool_], least: float, *, ends: bool = False) -> NDArray[np.bool_]:
    """Return flags (F,) without runs that are shorter than `least`; with `ends`, but at these."""
    found = flags.copy()
    edges = np.flatnonzero(np.diff(np.r_[False, flags, False].astype(int)))
    for first, end in edges.reshape(-1, 2):
        if end - first < least and not (ends and (first == 0 or end == len(flags))):
            found[first:end] = False
    return found


# -- timing -----------------------------------------------------------------------------------


def sequence(cost: Floats, hold: int, grid: tuple[int, int] = (1, 0), start: int = -1) -> Integers:
    """Return the drawing (F,) of each frame that costs (F, N) least, each held for `hold` frames.

    grid: (n, row) changes fall on rows n apart, one of them `row`. start: the drawing that was
    there before, which may go at once.
    """
    frames = len(cost)
    every, first = max(1, grid[0]), grid[1] % max(1, grid[0])
    step = (np.arange(frames) + every - first) // every if first else np.arange(frames) // every
    blocks = np.zeros((int(step[-1]) + 1 if frames else 0, cost.shape[1]))
    np.add.at(blocks, step, cost)
    least = max(1, -(-hold // every))
    return _held(blocks, least, start)[step] if frames else np.zeros(0, np.int64)


def _held(cost: Floats, least: int, start: int) -> Integers:
    """Return the cheapest drawing (B,) of each step, each for `least` steps: dynamic programming.

    A state is a drawing and how long it has been shown, counted up to `least`.
    """
    count, drawings = cost.shape
    if count <= least:
        return np.full(count, int(cost.sum(0).argmin()))
    ages = np.full((drawings, least), np.inf)
    ages[:, 0] = cost[0]
    if start >= 0:
        ages[start] = np.inf
        ages[start, -1] = cost[0, start]
    came = np.zeros((count, drawings), np.int64)
    """Drawing before, where one begins at a step."""
    stayed = np.zeros((count, drawings), bool)
    """Whether one that is old enough was so before."""
    for step in range(1, count):
        old = ages[:, -1]
        two = np.argsort(old, kind="stable")[:2]
        best = np.where(np.arange(drawings) == two[0], two[-1], two[0])
        new = np.empty_like(ages)
        new[:, 1:] = ages[:, :-1]
        if drawings > 1:
            new[:, 0] = old[best] + _CHANGE
        else:
            new[:, 0] = np.inf
        stayed[step] = old <= (ages[:, -2] if least > 1 else np.minimum(old, new[:, 0]))
        new[:, -1] = np.minimum(new[:, -1], old)
        came[step] = best
        ages = new + cost[step][:, None]
    return _walked(ages, came, stayed, start)


def _walked(ages: Floats, came: Integers, stayed: NDArray[np.bool_], start: int) -> Integers:
    """Return the drawings (B,) on the cheapest way back from the last step."""
    count, least = len(came), ages.shape[1]
    ends = ages.copy()
    if start >= 0:  # rest goes on after the line, so it may be short
        ends[:start, :-1] = ends[start + 1 :, :-1] = np.inf
    else:
        ends[:, :-1] = np.inf
    drawing, age = (int(k) for k in np.unravel_index(int(ends.argmin()), ends.shape))
    shown = np.zeros(count, np.int64)
    for step in range(count - 1, -1, -1):
        shown[step] = drawing
        if step == 0:
            break
        if age == least - 1 and stayed[step, drawing]:
            continue
        if age > 0:
            age -= 1
        else:
            drawing, age = int(came[step, drawing]), least - 1
    return shown
