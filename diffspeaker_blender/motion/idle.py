# SPDX-License-Identifier: GPL-3.0-or-later
"""What a face does that listens or waits: blinks, glances, small movements of the brows.

Blinks come as people's do at rest, some seventeen a minute at uneven distances, closing faster
than they open (Bentivoglio et al. 1997); eyes rest on a place and jump to the next, and wide jumps
take a blink along.

Legend: `F` frames, `C` controls.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Random = np.random.Generator

CONTROLS = (
    "eyeBlinkLeft", "eyeBlinkRight",
    "eyeLookInLeft", "eyeLookOutLeft", "eyeLookUpLeft", "eyeLookDownLeft",
    "eyeLookInRight", "eyeLookOutRight", "eyeLookUpRight", "eyeLookDownRight",
    "browInnerUp", "browOuterUpLeft", "browOuterUpRight",
)  # fmt: skip
"""Controls that an idle face moves."""

BLINKS_APART = 3.5
"""Seconds between two blinks, as a rule."""
SHUTTING, SHUT, OPENING = 0.085, 0.03, 0.17
"""Seconds of a blink's parts."""
JUMP = 0.06
"""Seconds of a glance's way."""


def idle(frames: int, fps: float, seed: int = 0) -> Floats:
    """Return the curves (F, C) of `CONTROLS`, at rest on the first and the last frame."""
    random = np.random.default_rng(seed)
    seconds = np.arange(frames) / fps
    aside, level, jumps = _gaze(seconds, random)
    curves = dict.fromkeys(CONTROLS, np.zeros(frames))
    lids = _blinks(seconds, random, jumps)
    brows = _brows(seconds, random)
    curves["eyeBlinkLeft"] = curves["eyeBlinkRight"] = lids
    curves["eyeLookOutLeft"] = curves["eyeLookInRight"] = np.maximum(aside, 0)
    curves["eyeLookInLeft"] = curves["eyeLookOutRight"] = np.maximum(-aside, 0)
    for side in ("Left", "Right"):
        curves[f"eyeLookUp{side}"], curves[f"eyeLookDown{side}"] = (
            np.maximum(level, 0),
            np.maximum(-level, 0),
        )
        curves[f"browOuterUp{side}"] = 0.7 * brows
    curves["browInnerUp"] = brows
    found = np.stack([curves[name] for name in CONTROLS], 1)
    if frames:
        found[[0, -1]] = 0
    return found.astype(np.float32)


def _times(seconds: NDArray[np.float64], apart: float, random: Random) -> list[float]:
    """Return moments at uneven distances, `apart` as a rule, none near either end."""
    end = float(seconds[-1]) - 0.5 if len(seconds) else 0.0
    found: list[float] = []
    now = 0.4 - apart * random.random()  # in the middle of waiting
    while True:
        now += float(np.clip(random.lognormal(np.log(apart), 0.5), 0.4 * apart, 2.5 * apart))
        now = max(now, 0.4)
        if now >= end:
            return found
        found.append(now)


def _ease(share: NDArray[np.float64]) -> NDArray[np.float64]:
    share = np.clip(share, 0, 1)
    return np.asarray(share * share * (3 - 2 * share))


def _blinks(
    seconds: NDArray[np.float64], random: Random, jumps: list[float]
) -> NDArray[np.float64]:
    """Return how far the lids are shut (F,): their own blinks, and those that jumps bring."""
    lids = np.zeros(len(seconds))
    times: list[float] = []
    for when in sorted([*jumps, *_times(seconds, BLINKS_APART, random)]):
        if not times or when - times[-1] > 0.8:
            times.append(when)
    for when in times:
        since = seconds - when
        shut = _ease(since / SHUTTING) * (1 - _ease((since - SHUTTING - SHUT) / OPENING))
        lids = np.maximum(lids, random.uniform(0.92, 1.0) * shut)
    return lids


def _gaze(
    seconds: NDArray[np.float64], random: Random
) -> tuple[NDArray[np.float64], NDArray[np.float64], list[float]]:
    """Return gaze aside and up (F,), each −1..1, and the seconds of wide jumps."""
    aside, level = np.zeros(len(seconds)), np.zeros(len(seconds))
    at, wide = np.zeros(2), []
    moments = _times(seconds, 1.6, random)
    for place, when in enumerate(moments):
        home = random.random() < 0.35 or place == len(moments) - 1
        to = np.zeros(2) if home else random.normal(0, (0.13, 0.07))
        if np.abs(to - at).max() > 0.2:
            wide.append(when)
        way = _ease((seconds - when) / JUMP)
        aside, level = aside + (to - at)[0] * way, level + (to - at)[1] * way
        at = to
    return aside, level, wide


def _brows(seconds: NDArray[np.float64], random: Random) -> NDArray[np.float64]:
    """Return how far the brows are up (F,): now and then, a little, held for a moment."""
    brows = np.zeros(len(seconds))
    for when in _times(seconds, 6.0, random):
        since, held = seconds - when, random.uniform(0.3, 0.9)
        up = _ease(since / 0.3) * (1 - _ease((since - 0.3 - held) / 0.5))
        brows = np.maximum(brows, random.uniform(0.05, 0.18) * up)
    if len(brows):
        brows *= _ease((seconds[-1] - seconds) / 0.6)
    return brows
