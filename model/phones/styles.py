# SPDX-License-Identifier: GPL-3.0-or-later
"""Speaking styles and the timing of speech gestures: every number that is not one sound's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from ..errors import StyleError


@dataclass(frozen=True)
class Manner:
    """How one speaks.

    Attributes:
        opening: factor on how far the mouth opens beyond rest.
        lips: factor on lip shapes.
        grip: factor on consonants' insistence; above 1 their targets are reached, below 1 slurred.
        loudness: how much the opening follows the local loudness.
        flank: factor on the duration of transitions.
        press: factor on how firmly shut lips are pressed.
    """

    opening: float = 1.0
    lips: float = 1.0
    grip: float = 1.0
    loudness: float = 1.0
    flank: float = 1.0
    press: float = 1.0


MANNERS: dict[str, Manner] = {
    "neutral": Manner(opening=1.38, lips=1.3),
    "mumbled": Manner(opening=0.72, lips=0.75, grip=0.75, loudness=0.7, flank=1.2, press=0.3),
    "energetic": Manner(opening=1.65, lips=1.45, grip=1.1, loudness=1.6, flank=0.95, press=1.3),
    "over-articulated": Manner(
        opening=1.85, lips=1.6, grip=1.6, loudness=0.8, flank=0.9, press=1.8
    ),
}
STYLES: tuple[str, ...] = tuple(MANNERS)
"""Names of the speaking styles; they can be mixed."""


@dataclass(frozen=True)
class Timing:
    """When gestures act, in seconds; see `fit.py` for where the numbers come from.

    Attributes:
        lead: how much earlier than its sound a gesture holds.
        rise, fall: flanks before and after the hold.
        hold: part of the sound's duration that the hold covers, or all but ``tail`` of a long one.
        tail: see ``hold``.
        lips_lead, lips_rise: extra lead of rounded sounds' lip shapes, and their rise.
        smooth: standard deviation of the last smoothing.
        jaw_smooth: the same for the heavier jaw.
        loudness: gain of the opening per standard deviation of loudness, for vowels.
        parted: opening in a short pause, and while one waits to speak.
        breath: seconds before speech at which shut lips part.
        short_pause, shut_pause: seconds from which a pause shuts the lips, beside a p, b or m and
            elsewhere; people's lips are apart in half of the pauses over 0.6 s, and hardly ever
            in those over 1 s.
        shut_early, part_early: how much before their sound begins and ends the lips shut and part.
        first_early: how much earlier still they shut when silence comes before.
    """

    lead: float = 0.0
    rise: float = 0.080
    fall: float = 0.110
    hold: float = 0.700
    tail: float = 0.060
    lips_lead: float = 0.020
    lips_rise: float = 0.1
    smooth: float = 0.016
    jaw_smooth: float = 0.030
    loudness: float = 0.06
    parted: float = 0.050
    breath: float = 0.22
    short_pause: float = 0.25
    shut_pause: float = 0.78
    shut_early: float = 0.012
    part_early: float = 0.022
    first_early: float = 0.035


TIMING = Timing()


def mixed_manner(style: str | Mapping[str, float]) -> Manner:
    """Return the weighted mean of the named manners."""
    weights = {style: 1.0} if isinstance(style, str) else dict(style)
    unknown = [name for name in weights if name not in MANNERS]
    if unknown:
        raise StyleError(
            f"There is no speaking style “{unknown[0]}”.", hint=f"Use one of: {', '.join(STYLES)}."
        )
    total = sum(weights.values())
    if min(weights.values(), default=0.0) < 0 or total <= 0:
        raise StyleError("The weights of the speaking styles must be positive.")
    return Manner(
        **{
            f.name: sum(w * getattr(MANNERS[name], f.name) for name, w in weights.items()) / total
            for f in fields(Manner)
        }
    )
