# SPDX-License-Identifier: GPL-3.0-or-later
"""Speak with few ready mouths: fit the measured mouth that the controls ask for.

Copying controls into visemes fails, because a viseme is a whole pose and two of them add up. So the
mouth is measured instead: what each control does to our own lips (`controls.json`) is what is asked
for, what each of the character's shapes does to its lips is what there is, and the shapes'
strengths are the non-negative least-squares answer, smoothed over three frames. Then the lips' seal
gates them, so that p, b and m shut whatever else happens.

Legend: `F` frames, `N` shapes, `M` measures (`mouth.FEATURES`). Pure numpy.
"""

from __future__ import annotations

import json
from collections.abc import Mapping as Table
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .mouth import FEATURES, LANDMARKS, features

Floats = NDArray[np.float64]

_IMPORTANCE = np.array([2.0, 0.5, 0.5, 0.3, 0.3, 0.6, 0.0])
"""Of each measure, in the order of `FEATURES`."""
_RIDGE = 2e-4
"""Cost of a shape's strength: of mouths alike, the one with fewer shapes."""
_SWEEPS = 120
_PRESS = 0.045
"""Mouth widths by which a p/b/m mouth may press the lips beyond meeting; drawn ones press hard."""
_BITES = 0.8
"""How much of every other mouth a full bite of the lower lip replaces, on our own head."""


@cache
def control_landmarks() -> dict[str, Floats]:
    """Return the lip motion (L, 3) of each of our controls at 1, in mouth widths."""
    text = Path(__file__).with_name("controls.json").read_text(encoding="utf-8")
    found = {}
    for name, rows in json.loads(text)["landmarks"].items():
        found[name] = np.array(rows, np.float64).reshape(len(LANDMARKS), 3)
    return found


@cache
def control_features() -> dict[str, Floats]:
    """Return the measured mouth (M,) of each of our controls at 1."""
    return {name: features(marks) for name, marks in control_landmarks().items()}


MOUTH_CONTROLS = frozenset(control_landmarks())
"""Controls that move the lips."""


@dataclass(frozen=True)
class FewShapes:
    """A character's ready mouths, measured."""

    names: tuple[str, ...]
    measured: tuple[tuple[float, ...], ...]
    """(N, M) what each does at 1."""
    roles: tuple[str, ...]
    """"closes" for a p/b/m mouth, "bites" for f/v, "" for one that is fitted."""
    limit: float = 1.0
    """Largest strength."""

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> FewShapes:
        """Read it from JSON."""
        measured = tuple(tuple(float(v) for v in row) for row in data["measured"])
        return cls(tuple(data["names"]), measured, tuple(data["roles"]), float(data["limit"]))

    def only(self, kept: list[int]) -> FewShapes:
        """Return some of the shapes."""
        return FewShapes(
            tuple(self.names[k] for k in kept),
            tuple(self.measured[k] for k in kept),
            tuple(self.roles[k] for k in kept),
            self.limit,
        )

    def solve(self, column: Table[str, Floats], frames: int, fps: float = 30.0) -> Floats:
        """Return the strengths (F, N) of the shapes for control curves (F,) by name."""
        seal = np.clip(column.get("mouthClose", np.zeros(frames)), 0.0, 1.0)
        tuck = np.clip(column.get("lipTuck", np.zeros(frames)), 0.0, 1.0)
        bites = "bites" in self.roles
        wanted = asked(column, frames, skip=("lipTuck",) if bites else ())
        fitted = [k for k, role in enumerate(self.roles) if not role]
        weights = np.zeros((frames, len(self.names)))
        if fitted:
            table = np.array(self.measured)[fitted]
            solved = smoothed(nonnegative(table, wanted, self.limit), fps)
            weights[:, fitted] = solved * (1 - seal)[:, None]
        for k, role in enumerate(self.roles):
            if role == "closes":
                pressed = max(-self.measured[k][0], 1e-6)
                weights[:, k] = seal * float(np.clip(_PRESS / pressed, 0.25, 1.0))
            elif role == "bites":
                weights[:, k] = tuck * (1 - seal)
        if bites and fitted:
            weights[:, fitted] *= (1 - _BITES * tuck)[:, None]
        return weights


def asked(column: Table[str, Floats], frames: int, skip: tuple[str, ...] = ()) -> Floats:
    """Return the mouth (F, M) that control curves ask for; the seal is no part of it."""
    table = control_features()
    total = np.zeros((frames, len(FEATURES)))
    for name, row in table.items():
        if name in column and name not in ("mouthClose", "lipTuck"):
            total += np.asarray(column[name], np.float64)[:, None] * row
    if "lipTuck" in column and "lipTuck" not in skip:  # a bite takes the lip from the jaw
        tuck = np.clip(np.asarray(column["lipTuck"], np.float64), 0.0, 1.0)[:, None]
        total = total * (1 - _BITES * tuck) + tuck * table["lipTuck"]
    return total


def nonnegative(table: Floats, wanted: Floats, limit: float = 1.0) -> Floats:
    """Return strengths (F, N) in 0..limit whose sum of shapes (N, M) comes closest to (F, M).

    Coordinate descent on all frames at once: each shape in turn takes its best strength.
    """
    shapes = table * _IMPORTANCE
    rest = wanted * _IMPORTANCE
    weights = np.zeros((len(wanted), len(table)))
    length = (shapes**2).sum(1) + 1e-9
    left = rest.copy()
    for _ in range(_SWEEPS):
        most = 0.0
        for k in range(len(table)):
            best = weights[:, k] + (left @ shapes[k] - _RIDGE) / length[k]
            change = np.clip(best, 0.0, limit) - weights[:, k]
            weights[:, k] += change
            left -= change[:, None] * shapes[k]
            most = max(most, float(np.abs(change).max(initial=0.0)))
        if most < 1e-4:
            break
    return weights


def smoothed(weights: Floats, fps: float) -> Floats:
    """Average strengths (F, N) over three frames of thirty a second, the middle one double."""
    reach = max(1, round(fps / 30.0))
    if len(weights) < 3:
        return weights
    padded = np.pad(weights, ((reach, reach), (0, 0)), mode="edge")
    share = np.r_[np.arange(1, reach + 2), np.arange(reach, 0, -1)] / (reach + 1) ** 2
    total = sum(part * padded[k : k + len(weights)] for k, part in enumerate(share))
    return np.asarray(total)
