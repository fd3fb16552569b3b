# SPDX-License-Identifier: GPL-3.0-or-later
"""Tracks → the rig's controls: how jaw and lips share an opening out.

The formulas are regressions on `Rig.opening`, and on the distance of the mouth's corners, over 600
random speech poses of two heads (mean of both; rms error 0.0015 for the opening, 0.0001 for the
width).  All lengths are divided by the distance of the outer corners of the eyes.  With the
correctives that the rig has learned since, its own opening is nine tenths of this one (r 0.998).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from ..rig.controls import CONTROLS, INDEX
from .styles import Manner

Array = npt.NDArray[np.float64]

SPEECH_NAMES: tuple[str, ...] = (
    "jawOpen", "mouthClose", "mouthFunnel", "mouthPucker", "mouthStretchLeft",
    "mouthStretchRight", "mouthPressLeft", "mouthPressRight", "mouthLowerDownLeft",
    "mouthLowerDownRight", "mouthUpperUpLeft", "mouthUpperUpRight", "lipTuck", "tongueOut",
    "tongueTip", "tongueBack",
)  # fmt: skip
"""Controls that speech moves."""

JAW_OPENING = 0.27
"""Opening that jawOpen gives, about."""
PUCKER_WIDTH, FUNNEL_WIDTH, SPREAD_WIDTH = 0.1945, 0.153, 0.121
"""By how much mouthPucker and mouthFunnel narrow the mouth and mouthStretch widens it."""
OVERLAP = 0.016
"""By how much a full seal (mouthClose 1) would overlap the lips."""


def unsealed_opening(jaw: Array, pucker: Array, funnel: Array, lower: Array, upper: Array) -> Array:
    """Return the inner opening for controls (F,) with lips not sealed; negative: lips pressed."""
    return (
        -0.0094
        + jaw * (0.308 - 0.038 * jaw - 0.082 * pucker)
        - 0.017 * pucker
        + 0.111 * funnel
        + 0.066 * lower
        + 0.055 * upper
    )


def mouth_width(jaw: Array, pucker: Array, funnel: Array, spread: Array) -> Array:
    """Return the distance of the mouth's corners for controls (F,)."""
    narrower = PUCKER_WIDTH * pucker + FUNNEL_WIDTH * funnel
    return 0.495 - 0.0615 * jaw - narrower + SPREAD_WIDTH * spread


def lip_opening(controls: npt.NDArray[np.floating]) -> Array:
    """Return the inner opening (F,) of whole control curves (F, C): jaw, lips, tuck and seal."""
    names = ["jawOpen", "mouthPucker", "mouthFunnel", "mouthLowerDownLeft", "mouthUpperUpLeft"]
    opening = unsealed_opening(*(controls[:, INDEX[name]].astype(np.float64) for name in names))
    tucked = opening * (1 - 0.5 * controls[:, INDEX["lipTuck"]])
    return np.maximum(tucked - controls[:, INDEX["mouthClose"]] * (opening + OVERLAP), 0.0)


MOST_PARTED = 0.9
"""Parting beyond which only the jaw opens the mouth further."""
LOWER_SHARE, UPPER_SHARE = 0.55, 0.40
"""How far lowerDown and upperUp go in parting the lips, per unit of parting."""


def as_controls(
    tracks: Mapping[str, Array], touches: Mapping[str, Array], manner: Manner
) -> npt.NDArray[np.float32]:
    """Share the opening out over jaw and lips and return the controls (F, C)."""
    seal, tuck = touches["seal"], touches["tuck"]
    pucker, spread = tracks["pucker"], tracks["spread"] * (1 - 0.3 * seal)
    funnel = tracks["funnel"] * (1 - 0.75 * seal) * (1 - 0.5 * tuck)
    jaw, part, narrow = share_opening(tracks["opening"], tracks["jaw"], pucker, funnel, seal)
    lower = LOWER_SHARE * part * (1 - seal) * (1 - tuck)
    upper = UPPER_SHARE * part * (1 - seal)
    values = {
        "jawOpen": jaw,
        "mouthClose": 1 - (1 - seal) * (1 - narrow * (1 - tuck)),
        "mouthFunnel": funnel,
        "mouthPucker": pucker,
        "lipTuck": tuck,
        "tongueOut": touches["tongue"],
        "tongueTip": touches["tip"],
        "tongueBack": touches["back"],
    }
    for side in ("Left", "Right"):
        values[f"mouthStretch{side}"] = spread
        values[f"mouthPress{side}"] = tracks["press"] * seal * manner.press
        values[f"mouthLowerDown{side}"] = lower
        values[f"mouthUpperUp{side}"] = upper
    controls = np.zeros((len(jaw), len(CONTROLS)), np.float32)
    for name, curve in values.items():
        controls[:, INDEX[name]] = np.clip(curve, 0.0, 1.0)
    return controls


def share_opening(
    opening: Array, jaw: Array, pucker: Array, funnel: Array, seal: Array
) -> tuple[Array, Array, Array]:
    """Return jawOpen, lip parting (0..1) and lip narrowing (0..1) that together give an opening.

    The lips make up what the jaw leaves: they part, less and less willingly, and the jaw follows,
    or they narrow, as a seal that is not complete.  On video the chin moves about half as far as
    the lips part.
    """
    none = np.zeros_like(jaw)
    jaw = jaw * (1 - 0.35 * seal)
    lips = 0.066 * LOWER_SHARE + 0.055 * UPPER_SHARE
    missing = opening - unsealed_opening(jaw, pucker, funnel, none, none)
    part = MOST_PARTED * (1 - np.exp(-np.maximum(missing, 0.0) / (lips * MOST_PARTED)))
    jaw = jaw + np.maximum(missing - part * lips, 0.0) / JAW_OPENING
    reached = unsealed_opening(jaw, pucker, funnel, LOWER_SHARE * part, UPPER_SHARE * part)
    narrow = np.clip((reached - opening) / np.maximum(reached + OVERLAP, 1e-3), 0.0, 0.9)
    return jaw, part, narrow
