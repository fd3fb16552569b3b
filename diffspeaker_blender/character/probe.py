# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure what a character's shapes really do, so that no name is believed.

A face is given as plain arrays (`Part`): rest vertices in world space and, for every shape, how it
moves them. The lips are found once, from the shapes that open them; then each shape gets its
`Reading`: what it does to the lips, and where on the face it acts.

Legend: `V` vertices, `L` landmarks, `M` measures. Pure numpy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .mouth import Frame, Mouth, features, find_mouth, label_islands, widest

Floats = NDArray[np.float64]

MOVES = 2e-3
"""Share of a mesh's size that a shape must move something by, to be more than empty."""
ABOVE = 0.85
"""Mouth widths above the lips where the upper face begins."""
EYES = 1.1
"""Mouth widths above the lips from which nothing takes part in an opening mouth."""
OPENS = 0.06
"""Mouth widths that a shape must part the lips by, to be said to open the mouth."""
_CLEAR = 0.25
"""Mouth widths of opening from which lips cannot be mistaken."""
_SHARE = 0.15
"""Share of its own reach that a shape must part the lips by: a body that grows fat opens none."""
_TRIED = 8
"""Shapes tried at most by name; twice as many when no name says which one opens the mouth."""


@dataclass(frozen=True)
class Part:
    """One mesh of a character."""

    name: str
    rest: Floats
    """(V, 3) in world space."""
    triangles: NDArray[Any]
    keys: Mapping[str, Floats]
    """Shape → offsets (V, 3) in world space; only shapes that move something and nothing drives."""
    axes: Floats = field(default_factory=lambda: np.eye(3))
    """(3, 3) the object's own axes in world space, as rows."""
    empty: tuple[str, ...] = ()
    """Shapes that move nothing."""
    driven: tuple[str, ...] = ()
    """Shapes that something else sets."""

    @cached_property
    def islands(self) -> NDArray[Any]:
        """Return which connected piece each vertex is of (V,)."""
        return label_islands(self.rest, self.triangles)

    @property
    def size(self) -> float:
        """Return the diagonal of its box."""
        return float(np.linalg.norm(np.ptp(self.rest, 0))) if len(self.rest) else 0.0


@dataclass(frozen=True)
class Reading:
    """What one shape does."""

    landmarks: Floats
    """(L, 3) motion of the lips, in mouth widths."""
    measures: Floats
    """(M,) of `mouth.FEATURES`."""
    upper_face: float
    """Share of its motion that lies above the nose's root: 1 for a blink, 0 for a jaw."""
    height: float
    """Where it acts: mouth widths above the lips, mean."""
    side: float
    """Where it acts: -1 right half of the face, 0 both, 1 left half."""
    reach: float
    """Farthest any vertex goes, in mouth widths."""
    down: float
    """Mean motion downwards of what it moves, -1 to 1 of its own size."""
    meshes: tuple[str, ...] = ()
    """Parts that it moves."""
    at_eyes: float = 0.0
    """Farthest any vertex at the eyes or above goes, in mouth widths."""
    strays: tuple[str, ...] = ()
    """Parts other than the face that it moves high above the mouth, where the face stays."""

    @property
    def opening(self) -> float:
        """Return how far it parts the lips."""
        return float(self.measures[0])

    @property
    def at_lips(self) -> float:
        """Return how far the lips go."""
        return float(np.linalg.norm(self.landmarks, axis=1).max())


@dataclass(frozen=True)
class Face:
    """A measured face."""

    part: Part
    """The mesh that has the lips."""
    mouth: Mouth
    readings: dict[str, Reading]
    """Every shape of every part."""
    opener: str
    """The shape that opened the mouth widest when the lips were looked for."""


def moving(offsets: Floats, size: float) -> bool:
    """Return whether offsets (V, 3) on a mesh of some size are more than nothing."""
    return bool(len(offsets)) and float(np.abs(offsets).max()) > MOVES * 0.25 * size


def measure(parts: Iterable[Part], likely: Iterable[str] = ()) -> Face | None:
    """Find the lips and read every shape; None where no shape opens a mouth.

    likely: names that should open it, tried first.
    """
    parts = [part for part in parts if len(part.rest) > 8]
    found = _find(parts, list(likely))
    if found is None:
        return None
    part, mouth, opener = found
    return Face(part, mouth, read_all(parts, part, mouth), opener)


@dataclass(frozen=True)
class _Find:
    """Lips that one shape opened."""

    part: Part
    mouth: Mouth
    name: str
    middle: Floats
    """(3,) the middle of all that the shapes move together."""

    @property
    def opening(self) -> float:
        """Return how far the lips part, in mouth widths."""
        return self.mouth.opening(self.part.keys[self.name])

    @property
    def parted(self) -> float:
        """Return how far the lips part, in the units of the mesh."""
        return self.opening * self.mouth.width

    @property
    def central(self) -> bool:
        """Return whether it lies in the face's middle, as no eye does."""
        lips = self.part.rest[np.r_[self.mouth.upper, self.mouth.lower]].mean(0)
        aside = float((lips - self.middle) @ self.mouth.frame.axes[0])
        return abs(aside) < 0.5 * self.mouth.width


def _find(parts: list[Part], likely: list[str]) -> tuple[Part, Mouth, str] | None:
    """Return the part with the lips, the lips, and the shape that opened them."""
    found = _openers(parts, likely[:_TRIED])
    if found is None or found[3] < 2 * OPENS:
        other = _openers(parts, _strongest(parts, set(likely)))
        if found is None or (other is not None and other[3] > 2 * found[3]):
            found = other
    return None if found is None else found[:3]


def _openers(parts: list[Part], names: list[str]) -> tuple[Part, Mouth, str, float] | None:
    """Return the lips that these shapes open: of the largest mesh that has any."""
    for part in sorted(parts, key=lambda part: -len(part.rest)):
        finds = _agreeing(_finds(part, [name for name in names if name in part.keys]))
        mouth = widest([find.mouth for find in finds])
        if mouth is not None:
            opened = {find.name: mouth.opening(part.keys[find.name]) for find in finds}
            name = max(opened, key=lambda key: opened[key])
            return part, mouth, name, opened[name]
    return None


def _finds(part: Part, names: list[str]) -> list[_Find]:
    """Return the lips that each shape opens; once a mouth is clear, it is looked at from there."""
    finds: list[_Find] = []
    frame: Frame | None = None
    middle = _middle(part, names)
    for name in names:
        offsets = part.keys[name]
        mouth = find_mouth(
            part.rest,
            offsets,
            part.triangles,
            hints=part.axes,
            islands=part.islands,
            frame=frame,
        )
        find = None if mouth is None else _Find(part, mouth, name, middle)
        if mouth is None or find is None or find.opening <= OPENS:
            continue
        if find.parted > _SHARE * float(np.linalg.norm(offsets, axis=1).max()):
            finds.append(find)
            if find.opening > _CLEAR and find.central:
                frame = frame or mouth.frame
    return finds


def _middle(part: Part, names: list[str]) -> Floats:
    """Return the middle (3,) of the vertices that any of some shapes moves."""
    moved = np.zeros(len(part.rest), bool)
    for name in names:
        size = np.abs(part.keys[name]).max(1)
        moved |= size > 0.05 * size.max()
    points = part.rest[moved] if moved.any() else part.rest
    return np.asarray((points.min(0) + points.max(0)) / 2)


def _agreeing(finds: list[_Find]) -> list[_Find]:
    """Return the finds of one mouth: the one that most shapes part farthest."""
    if len(finds) < 2:
        return finds
    same = np.array([[_same(one.mouth, other.mouth) for other in finds] for one in finds])
    agree = same @ np.array([find.parted * (1.0 if find.central else 0.1) for find in finds])
    return [find for find, chosen in zip(finds, same[int(agree.argmax())], strict=True) if chosen]


def _same(one: Mouth, other: Mouth) -> bool:
    """Return whether two finds look one way and share vertices."""
    mine, theirs = np.r_[one.upper, one.lower], np.r_[other.upper, other.lower]
    shared = len(np.intersect1d(mine, theirs)) / min(len(mine), len(theirs))
    return bool(one.frame.axes[2] @ other.frame.axes[2] > 0.9 and shared > 0.3)


def _strongest(parts: list[Part], tried: set[str]) -> list[str]:
    """Return shapes that move much of a mesh downwards, the farthest first."""
    reach: dict[str, float] = {}
    for part in parts:
        for name, offsets in part.keys.items():
            if name not in tried:
                size = float(np.percentile(np.linalg.norm(offsets, axis=1), 99.5))
                reach[name] = max(reach.get(name, 0.0), size / max(part.size, 1e-12))
    ordered = sorted(reach, key=lambda name: -reach[name])
    return ordered[: 2 * _TRIED]


def read_all(parts: Iterable[Part], face: Part, mouth: Mouth) -> dict[str, Reading]:
    """Return the reading of every shape on every part."""
    parts = [face, *(part for part in parts if part is not face)]
    lips = mouth.frame.local(face.rest[np.r_[mouth.upper, mouth.lower]]).mean(0)
    where = [(part, (mouth.frame.local(part.rest) - lips) / mouth.width) for part in parts]
    names = dict.fromkeys(name for part in parts for name in part.keys)
    return {name: _read(where, mouth, name) for name in names}


def _read(where: list[tuple[Part, Floats]], mouth: Mouth, name: str) -> Reading:
    """Return what a shape does on all parts, the face first; where: (V, 3) from the lips, in mouth
    widths."""
    has = [(part, places) for part, places in where if name in part.keys]
    face = where[0][0]
    offsets = face.keys.get(name)
    marks = mouth.landmarks(offsets) if offsets is not None else np.zeros((8, 3))
    pieces = []
    for part, places in has[:1] if offsets is not None else has:
        moved = part.keys[name].any(1)
        pieces.append((places[moved], mouth.frame.local(part.keys[name][moved]) / mouth.width))
    places, moved = (np.concatenate(rows) for rows in zip(*pieces, strict=True))
    size = np.linalg.norm(moved, axis=1)
    weight = size**2
    total = max(float(weight.sum()), 1e-30)
    left, right = weight[places[:, 0] > 0].sum(), weight[places[:, 0] < 0].sum()
    at_eyes = float(size[places[:, 1] > EYES].max(initial=0.0))
    others = has[1:] if offsets is not None else []
    return Reading(
        landmarks=marks,
        measures=features(marks),
        upper_face=float(weight[places[:, 1] > ABOVE].sum() / total),
        height=float((weight * places[:, 1]).sum() / total),
        side=float((left - right) / max(left + right, 1e-30)),
        reach=float(size.max(initial=0.0)),
        down=float(-(size * moved[:, 1]).sum() / total),
        meshes=tuple(part.name for part, _ in has),
        at_eyes=at_eyes,
        strays=tuple(
            part.name for part, at in others if _strays(part.keys[name], at, mouth, at_eyes)
        ),
    )


def _strays(offsets: Floats, places: Floats, mouth: Mouth, at_eyes: float) -> bool:
    """Return whether a part moves high above the mouth, where the face goes at most `at_eyes`."""
    size = np.linalg.norm(offsets, axis=1) / mouth.width
    high = places[:, 1] > EYES
    there, beneath = float(size[high].max(initial=0.0)), float(size[~high].max(initial=0.0))
    return there > 0.1 + 2 * at_eyes and there >= beneath
