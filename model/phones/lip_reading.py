"""Bend blended tracks towards lips that a reader heard in the sound itself.

A table knows what a sound wants; a reader trained on real lips (`lipreader.py`) hears how this
voice says it: stress, haste, breath.  With table and reader both fitted to five GRID clips and
scored on the sixth, in turn, the median correlation with the measured opening is 0.72 for the table
and 0.79 for their mean.  Contacts stay the table's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from .mouth_opening import FUNNEL_WIDTH, JAW_OPENING, PUCKER_WIDTH, SPREAD_WIDTH
from .phonemes import SILENCE, Phone

Array = npt.NDArray[np.float64]

EDGE = 0.2  # seconds of a pause in which the reader still has a say
PAUSE = 0.3  # seconds from which a silence is a pause
WIDTH_SHARE = 0.8  # of the share; rounding is more the table's than opening is
JAW_SHARE = 0.5  # of a change of opening that the jaw makes, the rest is the lips'


def bend(
    tracks: Mapping[str, Array],
    seal: Array,
    heard: npt.ArrayLike,
    times: Array,
    phones: Sequence[Phone],
    share: float,
) -> dict[str, Array]:
    """Return tracks (F,) whose opening and width follow what was heard by ``share`` (0 to 1).

    ``heard`` (F, 2) holds opening and width in any scale: mean and spread are brought to the
    table's own in this clip, so that styles and loudness keep their say.
    """
    read = np.asarray(heard, np.float64)
    trust = share * speaking(times, phones)
    bent = dict(tracks)
    if (trust > 0).sum() < 3:
        return bent
    lips = tracks["opening"] * (1 - seal)
    change = trust * (matched(read[:, 0], lips, trust) - tracks["opening"]) * (1 - seal)
    bent["opening"] = np.maximum(tracks["opening"] + change, 0.0)
    bent["jaw"] = np.maximum(tracks["jaw"] + JAW_SHARE * change / JAW_OPENING, 0.0)
    width = (
        SPREAD_WIDTH * tracks["spread"]
        - PUCKER_WIDTH * tracks["pucker"]
        - FUNNEL_WIDTH * tracks["funnel"]
    )
    wider = WIDTH_SHARE * trust * (matched(read[:, 1], width, trust) - width)
    less_round = np.minimum(np.maximum(wider, 0.0) / PUCKER_WIDTH, tracks["pucker"])
    less_spread = np.minimum(np.maximum(-wider, 0.0) / SPREAD_WIDTH, tracks["spread"])
    rounder = np.maximum(-wider - less_spread * SPREAD_WIDTH, 0.0) / PUCKER_WIDTH
    broader = np.maximum(wider - less_round * PUCKER_WIDTH, 0.0) / SPREAD_WIDTH
    bent["pucker"] = tracks["pucker"] - less_round + rounder
    bent["spread"] = tracks["spread"] - less_spread + broader
    return bent


def speaking(times: Array, phones: Sequence[Phone]) -> Array:
    """Return 1 in speech and at the edges of pauses, 0 inside pauses (F,), with ramps between."""
    level = np.ones(len(times))
    for phone in phones:
        if phone.name == SILENCE and phone.end - phone.start > PAUSE:
            depth = np.minimum(times - phone.start, phone.end - times) / EDGE
            level = np.minimum(level, 1 - np.clip(2 * depth - 1, 0.0, 1.0))
    return level


def matched(read: Array, own: Array, weights: Array) -> Array:
    """Return what was read (F,) with the weighted mean and standard deviation of our own.

    A reading that does not move says nothing: then our own returns.
    """
    total = weights.sum()
    middle, centre = (float((weights * curve).sum() / total) for curve in (read, own))
    spread, size = (
        float(np.sqrt((weights * (curve - mean) ** 2).sum() / total))
        for curve, mean in ((read, middle), (own, centre))
    )
    if spread < 1e-6:
        return own
    return np.asarray(centre + (read - middle) * (size / spread))
