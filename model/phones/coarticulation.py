# SPDX-License-Identifier: GPL-3.0-or-later
"""Timed phones → control curves of lips, jaw and tongue.

    phones ─► gestures ─► blended tracks ─► controls
                 loudness ┘   contacts ┘       style ┘

Three ideas, all deterministic:

* Shapes are *blended*: each sound's gesture pulls every track towards its target with a weight that
  rises before the sound, holds, and falls after it, as minimum-jerk flanks (Flash & Hogan 1985); a
  track is the weighted mean of all pulls (Cohen & Massaro 1993).  So short sounds among insistent
  neighbours undershoot, and rounding spreads over sounds that do not care.
* Contacts are *imposed*: p b m shut the lips and f v tuck the lower one whatever the blend says,
  with a plateau that always covers at least one frame.
* The inner *opening* is a track of its own, in the unit in which lips are measured on video; jaw,
  lower and upper lip share it out.  So amplitude and timing can be fitted to real lips (`fit.py`).

`phonemes.py` has the sounds' targets, `styles.py` timing and manners, `gestures.py` the blending,
`mouth_opening.py` the sharing, `lip_reading.py` what people add.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..rig.controls import INDEX
from .gestures import TRACKS, Array, Sounds, as_gestures, blend, contacts, smoothed
from .lip_reading import bend, open_vowels, speaking
from .mouth_opening import SPEECH_NAMES, as_controls
from .nonverbal import LIFE_CONTROLS, life_curves
from .phonemes import SILENCE, SOUNDS, VOWELS, Phone, sound_of
from .styles import STYLES, TIMING, Manner, Timing, mixed_manner

__all__ = [
    "LIFE_CONTROLS", "SPEECH_CONTROLS", "STYLES", "Lips", "Phone", "life_curves", "speech_curves",
]  # fmt: skip


@dataclass(frozen=True)
class Lips:
    """What is known of the lips of a clip beside its phones."""

    curves: npt.NDArray[np.floating]
    """(frames, 2): opening, 1 wide for this voice, and width, 1 usual for it."""
    share: float
    """How much of the result they decide, 0 to 1; the rest is the table's."""
    seen: bool = False
    """Measured on video, so right in pauses too; what is heard says nothing of those."""


SPEECH_CONTROLS: tuple[int, ...] = tuple(INDEX[name] for name in SPEECH_NAMES)
"""Columns that `speech_curves` moves."""


def speech_curves(
    phones: Sequence[Phone],
    samples: npt.ArrayLike,
    rate: float,
    *,
    fps: float = 30.0,
    frames: int,
    style: str | Mapping[str, float] = "neutral",
    lips: Lips | None = None,
    timing: Timing = TIMING,
    sounds: Sounds = SOUNDS,
) -> npt.NDArray[np.float32]:
    """Return control curves (frames, C) of lips, jaw and tongue; frame i is at ``i / fps`` seconds.

    ``samples`` (n,) at ``rate`` Hz give the loudness and may be empty.  The columns are those of
    `CONTROLS`; all but `SPEECH_CONTROLS` stay 0.  ``lips`` are what was seen or heard of them.

    Raises:
        StyleError: the style is unknown, or the mixture has no positive weight.
    """
    manner = mixed_manner(style)
    spoken = tidy(phones, frames / fps)
    times = np.arange(frames) / fps
    gains = loudness_gains(spoken, np.asarray(samples, np.float64), rate, timing, manner)
    blended = blend(times, as_gestures(spoken, gains, manner, timing, sounds), timing, manner.flank)
    tracks = {name: smoothed(blended[:, i], timing.smooth * fps) for i, name in enumerate(TRACKS)}
    tracks["jaw"] = smoothed(tracks["jaw"], timing.jaw_smooth * fps)
    touches = contacts(times, spoken, timing, fps, sounds)
    if lips is not None:
        trust = np.ones(frames) if lips.seen else speaking(times, spoken)
        tracks = bend(tracks, touches["seal"], lips.curves, lips.share * trust, manner)
    tracks["opening"] = open_vowels(tracks["opening"], times, spoken, manner)
    return as_controls(tracks, touches, manner)


def tidy(phones: Iterable[Phone], duration: float) -> list[Phone]:
    """Return the phones in order, in inventory names, with silence in every gap."""
    found: list[Phone] = []
    at = 0.0
    for phone in sorted(phones, key=lambda p: p.start):
        start, end = max(phone.start, at), max(phone.end, at)
        if end - start < 1e-4:
            continue
        if start - at > 1e-3:
            found.append(Phone(SILENCE, at, start))
        found.append(Phone(sound_of(phone.name), start, end))
        at = end
    if duration - at > 1e-3 or not found:
        found.append(Phone(SILENCE, at, max(duration, at + 0.1)))
    merged: list[Phone] = []
    for phone in found:
        if merged and merged[-1].name == phone.name == SILENCE:
            merged[-1] = Phone(SILENCE, merged[-1].start, phone.end)
        else:
            merged.append(phone)
    return merged


def loudness_gains(
    phones: Sequence[Phone], samples: Array, rate: float, timing: Timing, manner: Manner
) -> Array:
    """Return each phone's factor (P,) on its opening: louder vowels open further."""
    gains = np.ones(len(phones))
    if not len(samples):
        return gains
    energy = np.concatenate([[0.0], np.cumsum(samples**2)])
    edges = np.array([(p.start, p.end) for p in phones]) * rate
    edges = np.clip(edges.round().astype(int), 0, len(samples))
    length = np.maximum(edges[:, 1] - edges[:, 0], 1)
    level = 10 * np.log10((energy[edges[:, 1]] - energy[edges[:, 0]]) / length + 1e-9)
    vowel = np.array([p.name in VOWELS for p in phones])
    if vowel.sum() < 2:
        return gains
    middle, spread = np.median(level[vowel]), max(float(level[vowel].std()), 3.0)
    score = np.clip((level - middle) / spread, -2.0, 2.0)
    gains[vowel] = 1.0 + timing.loudness * manner.loudness * score[vowel]
    return gains
