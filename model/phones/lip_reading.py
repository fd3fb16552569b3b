# SPDX-License-Identifier: GPL-3.0-or-later
"""Bend blended tracks towards lips that were measured, or that a reader heard in the sound.

A table knows what a sound wants; people show how it is said: how far, how late, how far between.
Curves of the two are right about different things: their mean is closer to real lips than either
(`docs/quality.md`).  Contacts stay the table's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from .mouth_opening import FUNNEL_WIDTH, JAW_OPENING, PUCKER_WIDTH, SPREAD_WIDTH
from .phonemes import SILENCE, VOWELS, Phone
from .styles import MANNERS, Manner

Array = npt.NDArray[np.float64]

WIDE = 0.195  # opening of wide lips: of 15 people's, so much that the network's come out as theirs
EDGE = 0.4  # seconds of a pause in which the reader still has a say
PAUSE = 0.6  # seconds from which it has none in the middle
WIDTH_SHARE = 0.8  # of the share; rounding is more the table's than opening is
JAW_SHARE = 0.5  # of a change of opening that the jaw makes, the rest is the lips'
LEAST_VOWEL = 0.045  # opening that the middle of a vowel reaches, however short


def bend(
    tracks: Mapping[str, Array],
    seal: Array,
    lips: npt.ArrayLike,
    trust: Array,
    manner: Manner,
) -> dict[str, Array]:
    """Return tracks (F,) whose opening and width follow given lips as far as they are trusted.

    ``lips`` (F, 2) holds the opening (1: wide for this voice) and the width (1: usual), ``trust``
    (F,) goes from 0 to 1. The width's mean and spread are brought to the table's own.
    """
    read = np.asarray(lips, np.float64)
    bent = dict(tracks)
    if (trust > 0).sum() < 3:
        return bent
    wide = WIDE * manner.opening / MANNERS["neutral"].opening
    opening = wide * np.clip(read[:, 0], 0.0, 1.6)
    change = trust * (opening - tracks["opening"]) * (1 - seal)
    bent["opening"] = np.maximum(tracks["opening"] + change, 0.0)
    bent["jaw"] = np.maximum(tracks["jaw"] + JAW_SHARE * change / JAW_OPENING, 0.0)
    bend_width(bent, read[:, 1], WIDTH_SHARE * trust)
    return bent


def bend_width(tracks: dict[str, Array], read: Array, trust: Array) -> None:
    """Let spreading and rounding follow a width (F,), in place."""
    width = (
        SPREAD_WIDTH * tracks["spread"]
        - PUCKER_WIDTH * tracks["pucker"]
        - FUNNEL_WIDTH * tracks["funnel"]
    )
    wider = trust * (matched(read, width, trust) - width)
    less_round = np.minimum(np.maximum(wider, 0.0) / PUCKER_WIDTH, tracks["pucker"])
    less_spread = np.minimum(np.maximum(-wider, 0.0) / SPREAD_WIDTH, tracks["spread"])
    rounder = np.maximum(-wider - less_spread * SPREAD_WIDTH, 0.0) / PUCKER_WIDTH
    broader = np.maximum(wider - less_round * PUCKER_WIDTH, 0.0) / SPREAD_WIDTH
    tracks["pucker"] = tracks["pucker"] - less_round + rounder
    tracks["spread"] = tracks["spread"] - less_spread + broader


def open_vowels(opening: Array, times: Array, phones: Sequence[Phone], manner: Manner) -> Array:
    """Return an opening (F,) that lets every vowel be seen, also between two closures."""
    least = LEAST_VOWEL * min(manner.opening, 1.0)
    for phone in phones:
        if phone.name in VOWELS:
            middle, half = (phone.start + phone.end) / 2, max(phone.end - phone.start, 0.05) / 2
            near = np.abs(times - middle) < half
            bump = least * np.cos(np.pi / 2 * (times[near] - middle) / half) ** 2
            opening[near] = np.maximum(opening[near], bump)
    return opening


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
