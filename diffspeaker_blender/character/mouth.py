# SPDX-License-Identifier: GPL-3.0-or-later
"""Find the lips of any mesh from how it opens, and measure what its lips do, in mouth widths.

Nothing here knows a name, a unit or an axis. The lips are where the skin tears when the mouth
opens: pairs of vertices that lie against each other at rest and part. The foremost of them, from
side to side, are the line between the lips; its ends are the corners and give the mouth's width.

Legend: `V` vertices, `P` lip pairs, `L` landmarks. Pure numpy.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

LANDMARKS = (
    "upper",
    "lower",
    "upperLeft",
    "upperRight",
    "lowerLeft",
    "lowerRight",
    "cornerLeft",
    "cornerRight",
)
"""Points of the lips that are followed, in the order of the rows of landmark arrays."""

FEATURES = (
    "opening",
    "upperHeight",
    "lowerHeight",
    "upperForward",
    "lowerForward",
    "width",
    "sideways",
)
"""What is measured of a mouth, each in mouth widths, as change from rest."""

_TEARS = 1.5
"""How many times their distance two vertices part, at least, to be lips and no stretched skin."""
_PARTS = 0.05
"""Share of the widest parting that still counts as lips (towards the corners)."""
_CROOKED = 0.02
"""Mean distance of mirrored points, over the face's size, from which another mirror is sought."""
_MOST = 2000
"""Vertices looked at on each side; more are thinned out."""
_UPRIGHT = 1.2
"""How much farther lips must part in a stance than in a likelier one, to be believed."""
_STRAIGHT = 0.4
"""Share of the lips' parting that must go up and down: what slides past is no opening."""
_BINS = 15


@dataclass(frozen=True)
class Frame:
    """Where a face looks: rows of `axes` (3, 3) are its left, up and forward, unit length."""

    axes: Floats

    def local(self, vectors: Any) -> Floats:
        """Turn world vectors (..., 3) into left, up and forward parts."""
        return np.asarray(vectors, np.float64) @ self.axes.T


@dataclass(frozen=True)
class Mouth:
    """The lips of one mesh."""

    frame: Frame
    upper: Integers
    """Vertices of the upper lip (P,), from the character's right to its left."""
    lower: Integers
    """Their partners on the lower lip (P,)."""
    along: Floats
    """Where each pair lies (P,): -1 right corner, 0 middle, 1 left corner."""
    width: float
    """From corner to corner, in the units of the vertices given."""
    gap: float
    """Height between the lips at rest in the middle third, in mouth widths."""

    def landmarks(self, offsets: Any) -> Floats:
        """Return the landmarks' motion (L, 3) left, up, forward, in mouth widths.

        offsets: (V, 3) as the mesh's vertices, from rest.
        """
        moved = np.asarray(offsets, np.float64)
        upper = self.frame.local(moved[self.upper]) / self.width
        lower = self.frame.local(moved[self.lower]) / self.width
        both = (upper + lower) / 2
        rows = [
            _mean(rows, self.along, where)
            for rows, where in (
                (upper, 0.0),
                (lower, 0.0),
                (upper, 0.55),
                (upper, -0.55),
                (lower, 0.55),
                (lower, -0.55),
                (both, 1.0),
                (both, -1.0),
            )
        ]
        return np.stack(rows)

    def opening(self, offsets: Any) -> float:
        """Return how much farther apart the lips' middles are than at rest, in mouth widths."""
        marks = self.landmarks(offsets)
        return float(marks[0, 1] - marks[1, 1])


def _mean(rows: Floats, along: Floats, where: float) -> Floats:
    """Return the mean (3,) of pair rows (P, 3) near a place along the lips."""
    weight = np.exp(-0.5 * ((along - where) / 0.2) ** 2)
    if weight.max() < 0.5:  # few vertices: the nearest speak
        weight = np.exp(-0.5 * ((np.abs(along - where) - np.abs(along - where).min()) / 0.1) ** 2)
    return np.asarray((weight[:, None] * rows).sum(0) / weight.sum())


def features(landmarks: Any) -> Floats:
    """Return `FEATURES` (..., 7) of landmark motion (..., L, 3)."""
    marks = np.asarray(landmarks, np.float64)
    upper, lower = marks[..., 0, :], marks[..., 1, :]
    width = marks[..., 6, 0] - marks[..., 7, 0]
    return np.stack(
        [
            upper[..., 1] - lower[..., 1],
            upper[..., 1],
            lower[..., 1],
            upper[..., 2],
            lower[..., 2],
            width,
            (marks[..., 6, 0] + marks[..., 7, 0]) / 2,
        ],
        -1,
    )


# -- finding ----------------------------------------------------------------------------------


def find_mouth(
    rest: Any,
    opened: Any,
    triangles: Any,
    *,
    hints: Any = None,
    islands: Any = None,
    frame: Frame | None = None,
) -> Mouth | None:
    """Return the lips of a mesh, or None when the motion opens none.

    rest, opened: (V, 3) vertices at rest and their offsets with the mouth open, in world space,
    where characters mostly stand upright. triangles: (T, 3).
    hints: (n, 3) directions that may be the face's axes, such as the object's own.
    islands: (V,) which connected piece each vertex is of, `label_islands`; made when not given.
    frame: where the face looks, when it is known: nothing else is tried.
    """
    rest, opened = np.asarray(rest, np.float64), np.asarray(opened, np.float64)
    corners = np.asarray(triangles, np.int64).reshape(-1, 3)
    size = np.linalg.norm(opened, axis=1)
    peak = float(size.max(initial=0.0))
    if peak <= 0:
        return None
    axes = np.eye(3) if hints is None else np.concatenate([np.eye(3), _unit(hints)])
    pieces = label_islands(rest, corners) if islands is None else np.asarray(islands)
    if frame is not None:
        stances = [[frame]]
    else:
        stances = _stances(rest[size > 0.15 * peak], axes)
    best: Mouth | None = None
    most = 0.0
    for likely in stances:
        for stance in likely:
            found = _line(stance, rest, opened, corners, pieces)
            if found is None:
                continue
            parted, straight = _parting(found, opened)
            if straight < _STRAIGHT:
                continue
            upside = _upper_moves(found, opened)
            worth = parted * (0.5 if upside else 1.0)
            if best is None or worth > _UPRIGHT * most:
                best, most = found, worth
            if straight > 0.8 and not upside:
                return best
        if best is not None and not _upper_moves(best, opened):
            break
    return best


def widest(mouths: Any) -> Mouth | None:
    """Return of several finds of one mouth (or None) the one that reaches farthest to its corners.

    A key that opens the jaw alone tears the corners little; another one may show them better.
    """
    found = [mouth for mouth in mouths if mouth is not None and len(mouth.upper) >= 3]
    return max(found, key=lambda mouth: mouth.width, default=None)


def _stances(near: Floats, axes: Floats) -> list[list[Frame]]:
    """Return where the face may look: upright or as its object stands; then any other way.

    The likeliest come first. axes: (3 + n, 3) the world's, then others that may be the face's.
    """

    def skew(axis: Floats) -> float:
        return _asymmetry(near, axis) + 0.02 * abs(float(axis[2]))

    sides = sorted((a for k, a in enumerate(axes) if not _among(a, axes[:k])), key=skew)[:2]
    sides = [a for a in sides if skew(a) <= 1.5 * skew(sides[0]) + 0.01]
    if skew(sides[0]) > _CROOKED:  # turned within its mesh: look all around
        angles = np.radians(np.arange(0, 180, 4))
        around = [np.array([np.cos(a), np.sin(a), 0.0]) for a in angles]
        best = min(around, key=skew)
        sides = [best, *sides[:1]] if skew(best) < 0.7 * skew(sides[0]) else sides
    own = sorted(axes[3:], key=lambda axis: -abs(float(axis[2])))
    likely = _frames(sides, [axes[2], *own])
    return [likely, _frames(sides, axes, likely)]


def _frames(sides: Iterable[Floats], ups: Iterable[Floats], known: Any = ()) -> list[Frame]:
    """Return the frames of these axes, each way up, that are not among those that are known."""
    found: list[Frame] = []
    for side, axis in itertools.product(sides, ups):
        for up in (axis, -axis):
            flat = up - (up @ side) * side
            if np.linalg.norm(flat) < 0.9 or any(
                flat @ other.axes[1] > 0.98 and abs(side @ other.axes[0]) > 0.98
                for other in (*known, *found)
            ):
                continue
            flat = flat / np.linalg.norm(flat)
            found.append(Frame(np.stack([side, flat, np.cross(side, flat)])))
    return found


def _among(axis: Floats, others: Floats) -> bool:
    return bool(len(others) and np.abs(others @ axis).max() > 0.98)


def _parting(mouth: Mouth, opened: Floats) -> tuple[float, float]:
    """Return how far the lips part upwards, summed over pairs, and its share of all parting."""
    between = opened[mouth.upper] - opened[mouth.lower]
    upwards = np.clip(between @ mouth.frame.axes[1], 0, None)
    return float(upwards.sum()), float(
        upwards.sum() / max(np.linalg.norm(between, axis=1).sum(), 1e-12)
    )


def _upper_moves(mouth: Mouth, opened: Floats) -> bool:
    """Return whether the upper lip goes farther by far: then it is a jaw, upside down."""
    upper, lower = (np.linalg.norm(opened[lip], axis=1).sum() for lip in (mouth.upper, mouth.lower))
    return bool(upper > 2 * lower)


def _line(
    frame: Frame, rest: Floats, opened: Floats, triangles: Integers, pieces: Integers
) -> Mouth | None:
    """Return the line between the lips as seen in a frame, facing the way the skin does."""
    points, sinks = frame.local(rest), -frame.local(opened)[:, 1]
    found = _torn(points, sinks, pieces)
    if found is None:
        return None
    level = _level(points, sinks, *found)
    upper, lower = found[0][level], found[1][level]
    if len(upper) < 3:
        return None
    middle = (rest[upper] + rest[lower]) / 2
    if _faces(rest, triangles, middle) @ frame.axes[2] < 0:
        frame = Frame(frame.axes * np.array([[-1.0], [1.0], [-1.0]]))
        points = frame.local(rest)
    chosen = _foremost((points[upper] + points[lower]) / 2)
    if len(chosen) < 3:
        return None
    upper, lower = upper[chosen], lower[chosen]
    middle = (points[upper] + points[lower]) / 2
    ends = middle[:, 0].min(), middle[:, 0].max()
    width = float(ends[1] - ends[0])
    along = 2 * (middle[:, 0] - ends[0]) / width - 1
    order = np.argsort(along)
    upper, lower, along = upper[order], lower[order], along[order]
    if _skin_height(points, triangles, upper) <= _skin_height(points, triangles, lower):
        return None  # the lips pass through each other: this motion shuts a mouth
    gap = _mean(points[upper] - points[lower], along, 0.0)[1] / width
    return Mouth(frame, upper, lower, along, width, float(gap))


def _level(points: Floats, sinks: Floats, upper: Integers, lower: Integers) -> Any:
    """Return which torn pairs lie at the height of those that part most: no lids, no brows."""
    middle = (points[upper] + points[lower]) / 2
    weight = (sinks[lower] - sinks[upper]) ** 2
    order = np.argsort(middle[:, 1])
    half = int(np.searchsorted(np.cumsum(weight[order]), weight.sum() / 2))
    aside = np.abs(middle[:, 1] - middle[order[min(half, len(order) - 1)], 1])
    band = max(float(np.ptp(sinks)), 0.25 * float(np.ptp(middle[:, 0])))
    near = aside < band
    return aside < max(0.5 * float(np.ptp(middle[near, 0], axis=0)), 0.25 * band)


def _skin_height(points: Floats, triangles: Integers, lip: Integers) -> float:
    """Return how high the skin lies that hangs on a lip: mean of the triangles at its vertices."""
    marked = np.zeros(len(points), bool)
    marked[lip] = True
    return float(points[triangles[marked[triangles].any(1)], 1].mean())


def _faces(rest: Floats, triangles: Integers, middle: Floats) -> Floats:
    """Return the way the face looks: from the middle of its mesh to its mouth, and out of the skin.

    What lies inside the mouth cancels out of the skin's area vector, since only its border counts
    (Stokes); where a mouth sits well before the head's middle, that alone decides.
    """
    centre = middle.mean(0)
    width = max(float(np.linalg.norm(np.ptp(middle, 0))), 1e-12)
    corners = rest[triangles]
    near = np.linalg.norm(corners.mean(1) - centre, axis=1) < 0.75 * width
    first, second, third = corners[near].transpose(1, 0, 2)
    skin = np.cross(second - first, third - first).sum(0)
    before = (centre - (rest.min(0) + rest.max(0)) / 2) / width
    return np.asarray(before + 0.5 * skin / max(float(np.linalg.norm(skin)), 1e-12))


def _unit(vectors: Any) -> Floats:
    rows = np.asarray(vectors, np.float64).reshape(-1, 3)
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12))


def _asymmetry(points: Floats, axis: Floats) -> float:
    """Return how far mirrored points lie from the points, over their extent."""
    chosen = points[:: max(1, len(points) // 600)]
    across = chosen @ axis
    middle = (across.min() + across.max()) / 2
    mirrored = chosen - 2 * (across - middle)[:, None] * axis
    square = ((mirrored[:, None] - chosen[None]) ** 2).sum(2).min(1)
    return float(np.sqrt(square).mean() / max(np.ptp(chosen, 0).max(), 1e-9))


def _torn(points: Floats, sinks: Floats, pieces: Integers) -> tuple[Integers, Integers] | None:
    """Return pairs (upper, lower) that lie together at rest and are torn apart.

    points: (V, 3) left, up, forward; sinks: (V,) how far each goes down; pieces: (V,) islands.
    """
    peak = float(np.ptp(sinks))
    low = _thin(np.flatnonzero(sinks > sinks.min() + 0.3 * peak))
    if peak <= 0 or len(low) < 3:
        return None
    box = points[low].min(0), points[low].max(0)
    reach = 0.3 * (box[1] - box[0]).max()
    inside = np.all((points > box[0] - reach) & (points < box[1] + reach), 1)
    high = _thin(np.flatnonzero(inside & (sinks < sinks.min() + 0.8 * peak)))
    if len(high) < 3:
        return None
    upper, lower = _mutual(points, sinks, high, low, peak, pieces)
    return (upper, lower) if len(upper) >= 3 else None


def label_islands(rest: Any, triangles: Any) -> Integers:
    """Return a number (V,) for each connected piece of a mesh; vertices in one place count as one.

    Importers split vertices at seams of texture and shading, which tears no skin.
    """
    points = np.asarray(rest, np.float64)
    size = max(float(np.ptp(points, 0).max(initial=0.0)), 1e-12)
    _, weld = np.unique(np.round(points / size, 5), axis=0, return_inverse=True)
    corners = weld.reshape(-1)[np.asarray(triangles, np.int64)]
    ends = np.concatenate([corners[:, [0, 1]], corners[:, [1, 2]]])
    label = np.arange(int(weld.max(initial=-1)) + 1)
    while len(ends):
        lowest = np.minimum(label[ends[:, 0]], label[ends[:, 1]])
        before = label.copy()
        np.minimum.at(label, label[ends[:, 0]], lowest)
        np.minimum.at(label, label[ends[:, 1]], lowest)
        label = label[label]
        label = label[label]
        if np.array_equal(label, before):
            break
    return np.asarray(label[weld.reshape(-1)])


def _thin(vertices: Integers) -> Integers:
    return vertices[:: 1 + len(vertices) // _MOST]


def _mutual(
    points: Floats, sinks: Floats, high: Integers, low: Integers, peak: float, pieces: Integers
) -> tuple[Integers, Integers]:
    """Return pairs of one piece that are each other's nearest among those that would tear apart.

    Pieces that slide over one another (hidden hair, a blush, teeth) tear, too, and are no lips.
    """
    best_low = np.full(len(high), -1)
    best_high = np.full(len(low), -1)
    near_low, near_high = np.full(len(high), np.inf), np.full(len(low), np.inf)
    centred = points - points[low].mean(0)
    squares = (centred**2).sum(1)
    for first in range(0, len(high), 256):
        rows = slice(first, first + 256)
        part = sinks[None, low] - sinks[high[rows], None]
        square = squares[high[rows], None] + squares[None, low]
        square -= 2 * centred[high[rows]] @ centred[low].T
        torn = (part > _PARTS * peak) & (part**2 > _TEARS**2 * square)
        torn &= pieces[high[rows], None] == pieces[None, low]
        distance = np.full(part.shape, np.inf)
        distance[torn] = np.sqrt(np.maximum(square[torn], 0.0))
        above = points[high[rows], None, 1] - points[None, low, 1]
        distance[above <= -0.02 * peak - 0.5 * distance] = np.inf  # the upper one is not below
        near_low[rows], best_low[rows] = distance.min(1), distance.argmin(1)
        column = distance.min(0)
        nearer = column < near_high
        near_high[nearer] = column[nearer]
        best_high[nearer] = first + distance.argmin(0)[nearer]
    found = [
        k for k in range(len(high)) if np.isfinite(near_low[k]) and best_high[best_low[k]] == k
    ]
    return high[found], low[best_low[found]]


def _foremost(middle: Floats) -> Integers:
    """Return which torn pairs are seen from the front: the foremost at each place across.

    middle: (N, 3) left, up, forward. Pairs deeper in the mouth than their neighbours are left out.
    """
    ends = middle[:, 0].min(), middle[:, 0].max()
    step = max((ends[1] - ends[0]) / _BINS, 1e-12)
    bins = np.minimum(((middle[:, 0] - ends[0]) / step).astype(int), _BINS - 1)
    chosen = []
    for place in np.unique(bins):
        there = np.flatnonzero(bins == place)
        chosen.append(int(there[middle[there, 2].argmax()]))
    kept = np.array(chosen)
    for _ in range(3):
        line = middle[kept]
        if len(kept) < 5:
            break
        smooth = np.polyval(np.polyfit(line[:, 0], line[:, 2], 2), line[:, 0])
        behind = smooth - line[:, 2]
        bad = behind > max(0.06 * (ends[1] - ends[0]), 2.5 * float(np.median(np.abs(behind))))
        if not bad.any():
            break
        kept = kept[~bad]
    return kept
