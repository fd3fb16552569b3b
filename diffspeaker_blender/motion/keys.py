# SPDX-License-Identifier: GPL-3.0-or-later
"""Turn a motion into what its keys will be: adjusted, retimed, compacted, reduced to few keys.

Pure and slow (seconds for a minute of speech), so `jobs` lets a thread do it while Blender goes on;
`writing` only writes what comes out, or does it on the spot where nobody did it before.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Container, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import adjust, keying
from . import motion as motions
from .edits import NO_EDITS, Edits, strength_of
from .formulas import derived
from .motion import Adjustments, Floats, Motion

COMPACT_MILLIMETRES = 0.05
"""Error that compact keys may have, on the head as it is."""
_recent: deque[tuple[Any, tuple[Motion, NDArray[Any], list[Floats]]]] = deque(maxlen=3)


@dataclass(frozen=True)
class Recipe:
    """Everything that decides how a motion becomes keys.

    mode: "named", "exact" (named keys and details, on every frame), "compact" or "every frame".
    tolerance: millimetres that the lips may stray for the sake of few keys; 0 keys every frame.
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
    """A motion at scene frames, and the keys that play it.

    placed: the motion, one row a scene frame.
    frames: (F,) scene frames of the rows.
    curves: keys (n, 3) of each shape, as `sparse` describes them; none for derived and still ones.
    millimetres: how far the mouth moves at most.
    recipe, source: what it was made from.
    """

    placed: Motion
    frames: NDArray[Any]
    curves: tuple[Floats, ...]
    millimetres: float
    recipe: Recipe
    source: Motion

    def serves(self, motion: Motion, recipe: Recipe) -> bool:
        """Return whether this is still what a motion and a recipe give."""
        return self.source is motion and self.recipe == recipe


def shape(motion: Motion, recipe: Recipe) -> Shaped:
    """Return what the keys of a motion will be.

    Named keys are chosen on the motion at full strength and then scaled by the live controls, so
    that a slider that is dragged changes how far keys are from rest, never which ones there are.
    """
    named = recipe.mode in ("named", "exact")
    live = recipe.adjustments
    shown = adjust.adjust(motion, live)
    reached = motions.travel(shown, recipe.unit)
    if not named:
        placed, frames = _placed(_unnamed(shown, recipe), recipe)
        if recipe.mode == "every frame":
            placed = adjust.each_frame(placed, int(frames[0]))
        curves = _curves(placed, frames, recipe)
        return Shaped(placed, frames, tuple(curves), reached, recipe, motion)
    full = adjust.adjust(motion, Adjustments(smoothing=live.smoothing, offset=live.offset))
    placed, frames, keys = _kept(full, recipe)
    gains = np.array([strength_of(name, live) for name in placed.names], np.float32)
    curves = [
        one * np.array([1, gain, gain], np.float32) for one, gain in zip(keys, gains, strict=True)
    ]
    curves = [one if gain else one[:0] for one, gain in zip(curves, gains, strict=True)]
    weights = derived(placed.weights * gains, placed.names, placed.formulas)
    placed = replace(placed, weights=weights, shapes=shown.shapes)
    return Shaped(placed, frames, tuple(curves), reached, recipe, motion)


def _placed(motion: Motion, recipe: Recipe) -> tuple[Motion, NDArray[Any]]:
    """Return a motion at the scene's frames that it may use, and those frames."""
    placed, frames = motions.retime(
        motion, recipe.fps / recipe.speed, start_frame=recipe.start_frame
    )
    if recipe.limit is not None:
        inside = (frames >= recipe.limit[0]) & (frames <= recipe.limit[1])
        placed, frames = _rows(placed, inside), frames[inside]
    return motions.derived(placed), frames


def _unnamed(motion: Motion, recipe: Recipe) -> Motion:
    """Return a motion in compact shapes, where that was asked for and it has names."""
    if recipe.mode == "compact" and any(adjust.gain(n, Adjustments()) for n in motion.names):
        motion = adjust.compact(motion, COMPACT_MILLIMETRES / recipe.unit)
    return adjust.unit_weights(motion)


def _kept(full: Motion, recipe: Recipe) -> tuple[Motion, NDArray[Any], list[Floats]]:
    """Return a motion at full strength on the scene's frames, those, and its keys.

    The last few are kept, for sliders that change the strength alone.
    """
    live = recipe.adjustments
    neutral = Adjustments(smoothing=live.smoothing, offset=live.offset)
    digest = zlib.crc32(full.weights.tobytes()), full.names, full.weights.shape
    wanted = (digest, replace(recipe, adjustments=neutral))
    for known, found in _recent:
        if known == wanted:
            return found
    placed, frames = _placed(full, recipe)
    pinned = None
    if recipe.edits:
        seconds = (frames - recipe.start_frame) / recipe.fps * recipe.speed
        times = np.asarray(seconds - live.offset, np.float64)
        edited = recipe.edits.over(placed.weights, placed.names, times, Adjustments())
        placed = motions.derived(replace(placed, weights=edited))
        pinned = recipe.edits.pinned(placed.names, times)
    found = (placed, frames, _curves(placed, frames, recipe, pinned))
    _recent.append((wanted, found))
    return found


def _curves(
    placed: Motion, frames: NDArray[Any], recipe: Recipe, pinned: NDArray[np.bool_] | None = None
) -> list[Floats]:
    """Return the keys of every shape: few where a tolerance is given, else one a frame.

    Few keys are for shapes that an animator knows; others are there to be exact. `pinned` (F, K)
    bear a key whatever it costs: it was set by hand.
    """
    if recipe.mode == "every frame":
        return [_hat(placed.weights[:, k], frames, k) for k in range(len(frames))]
    known = any(adjust.gain(name, Adjustments()) is not None for name in placed.names)
    if recipe.tolerance > 0 and recipe.mode == "named" and known:
        return keying.few_keys(placed, frames, recipe.tolerance / recipe.unit, pinned)
    return keying.every_frame(placed, frames)


def _hat(column: Floats, frames: NDArray[Any], row: int) -> Floats:
    """Return the keys of a shape that is seen on one frame: that one and both neighbours."""
    rows = np.arange(max(row - 1, 0), min(row + 2, len(frames)))
    straight = np.full(len(rows), np.nan)
    return np.stack([frames[rows], column[rows], straight], 1).astype(np.float32)


def mode_for(mode: str, names: Iterable[str], followed: Container[str]) -> str:
    """Return the mode in which everything moves: "named" where other objects follow those names.

    `followed` are the head's keys that drive something else (teeth, a tongue, lashes); compact
    and every-frame keys would leave it still.
    """
    return "named" if mode != "exact" and any(name in followed for name in names) else mode


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
        formulas=motion.formulas and (*motion.formulas, *("" for _ in more)),
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
