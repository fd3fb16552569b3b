"""Turn a motion into what its keys will be: adjusted, retimed, compacted, thinned.

Pure and slow (seconds for a minute of speech), so `jobs` lets a thread do it while Blender goes on;
`writing` only writes what comes out, or does it on the spot where nobody did it before.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import adjust
from . import motion as motions
from .edits import NO_EDITS, Edits
from .motion import Adjustments, Motion

COMPACT_MILLIMETRES = 0.05
"""Error that compact keys may have, on the head as it is."""


@dataclass(frozen=True)
class Recipe:
    """Everything that decides how a motion becomes keys.

    mode: "named", "compact" or "every frame".
    tolerance: millimetres that thinning may cost; 0 keeps every key.
    start_frame, fps: where the sound begins on the scene's timeline, and its frames a second.
    unit: millimetres of one unit of the mesh.
    adjustments: the live controls.
    limit: (first, last) frames, when a neighbour has taken the rest.
    edits: what was changed by hand, put over the motion.
    speed: how much faster than it was spoken the line is played.
    """

    mode: str
    tolerance: float
    start_frame: float
    fps: float
    unit: float
    adjustments: Adjustments
    limit: tuple[float, float] | None = None
    edits: Edits = NO_EDITS
    speed: float = 1.0


@dataclass(frozen=True)
class Shaped:
    """A motion at scene frames, and which of its keys are kept.

    placed: the motion, one row a scene frame.
    frames: (F,) scene frames of the rows; keep: (F, K) bool.
    millimetres: how far the mouth moves at most.
    recipe, source: what it was made from.
    """

    placed: Motion
    frames: NDArray[Any]
    keep: NDArray[Any]
    millimetres: float
    recipe: Recipe
    source: Motion

    def serves(self, motion: Motion, recipe: Recipe) -> bool:
        """Return whether this is still what a motion and a recipe give."""
        return self.source is motion and self.recipe == recipe


def shape(motion: Motion, recipe: Recipe) -> Shaped:
    """Return what the keys of a motion will be."""
    shown = adjust.adjust(motion, recipe.adjustments)
    reached = motions.travel(shown, recipe.unit)
    if recipe.mode == "compact" and any(adjust.gain(n, Adjustments()) for n in shown.names):
        shown = adjust.compact(shown, COMPACT_MILLIMETRES / recipe.unit)
    placed, frames = motions.retime(
        adjust.unit_weights(shown), recipe.fps / recipe.speed, start_frame=recipe.start_frame
    )
    if recipe.limit is not None:
        inside = (frames >= recipe.limit[0]) & (frames <= recipe.limit[1])
        placed, frames = _rows(placed, inside), frames[inside]
    if recipe.mode == "named" and recipe.edits:
        seconds = (frames - recipe.start_frame) / recipe.fps * recipe.speed
        times = np.asarray(seconds - recipe.adjustments.offset, np.float64)
        edited = recipe.edits.over(placed.weights, placed.names, times, recipe.adjustments)
        placed = replace(placed, weights=edited)
    keep = np.ones(placed.weights.shape, bool)
    if recipe.mode == "every frame":
        placed = adjust.each_frame(placed, int(frames[0]))
        keep = _hats(len(frames))
    elif recipe.tolerance > 0:
        keep = adjust.thin(placed, recipe.tolerance / recipe.unit)
    return Shaped(placed, frames, keep, reached, recipe, motion)


def mode_for(mode: str, names: Iterable[str], followed: Container[str]) -> str:
    """Return the mode in which everything moves: "named" where other objects follow those names.

    `followed` are the head's keys that drive something else (teeth, a tongue, lashes); compact
    and every-frame keys would leave it still.
    """
    return "named" if any(name in followed for name in names) else mode


def with_parts(motion: Motion, keys: Container[str]) -> Motion:
    """Add controls that move no vertex of the face but have a key on it (a tongue follows them).

    `keys` are the names of the head's shape keys. Without such a control the motion itself returns.
    """
    if motion.controls is None:
        return motion
    more = [
        (name, column)
        for column, name in enumerate(motion.control_names)
        if name not in motion.names
        and name in keys
        and np.abs(motion.controls[:, column]).max() > 1e-4
    ]
    if not more:
        return motion
    still = np.zeros((len(more), motion.vertices, 3), np.float32)
    return replace(
        motion,
        weights=np.concatenate([motion.weights, motion.controls[:, [c for _, c in more]]], 1),
        shapes=np.concatenate([motion.shapes, still]),
        names=(*motion.names, *(name for name, _ in more)),
    )


def _rows(motion: Motion, chosen: NDArray[Any]) -> Motion:
    """Return the motion's chosen rows only."""

    def of(curves: Any) -> Any:
        return None if curves is None else curves[chosen]

    return replace(
        motion,
        weights=of(motion.weights),
        controls=of(motion.controls),
        opening=of(motion.opening),
        dense=of(motion.dense),
    )


def _hats(count: int) -> NDArray[Any]:
    """Return keep (F, F) bool for one key a frame: its own frame and both neighbours."""
    row = np.arange(count)
    return np.asarray(np.abs(row[:, None] - row[None, :]) <= 1)
