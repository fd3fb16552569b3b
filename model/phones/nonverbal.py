# SPDX-License-Identifier: GPL-3.0-or-later
"""What a face does beside the words: blinks, brows, gaze and a little asymmetry.

    phones ─► pauses ─────────► blinks, glances
    sound  ─► pitch accents ──► brow raises, blinks
    seed   ─► everything that chance decides

Statistics: people blink about 17 times a minute at rest and 26 in conversation, at log-normal
intervals (Bentivoglio et al. 1997), often at pauses and with stresses; lids fall about twice as
fast as they rise and many blinks are incomplete.  Brow raises go with pitch accents in most, not
all, cases (Cavé et al. 1996) and begin a little before the vowel.  Chance comes from `numpy`'s
seeded generator, one stream a kind, so that changing one sound does not reshuffle the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from ..rig.controls import CONTROLS, INDEX
from .phonemes import SILENCE, VOWELS, Phone, sound_of
from .pitch import semitones

Array = npt.NDArray[np.float64]

LIFE_NAMES: tuple[str, ...] = (
    "eyeBlinkLeft", "eyeBlinkRight", "eyeSquintLeft", "eyeSquintRight", "eyeWideLeft",
    "eyeWideRight", "eyeLookInLeft", "eyeLookOutLeft", "eyeLookUpLeft", "eyeLookDownLeft",
    "eyeLookInRight", "eyeLookOutRight", "eyeLookUpRight", "eyeLookDownRight", "browInnerUp",
    "browDownLeft", "browDownRight", "browOuterUpLeft", "browOuterUpRight", "cheekSquintLeft",
    "cheekSquintRight", "mouthSmileLeft", "mouthSmileRight",
)  # fmt: skip
LIFE_CONTROLS: tuple[int, ...] = tuple(INDEX[name] for name in LIFE_NAMES)
"""Columns that `life_curves` moves; none of them is moved by speech."""

LIVELINESS = {"neutral": 1.0, "mumbled": 0.55, "energetic": 1.5, "over-articulated": 1.2}
"""How much more or less the brows and cheeks do in each speaking style."""

BLINKS_A_MINUTE = 22.0
BLINK_SPREAD = 0.6  # standard deviation of the logarithm of the interval
LIDS_DOWN, LIDS_SHUT, LIDS_UP = 0.085, 0.030, 0.170  # seconds
FIXATION = 1.3  # median seconds between glances
SACCADE = 0.05  # seconds a glance takes
ACCENT = 3.0  # semitones above the clip's median from which a vowel counts as accented


def life_curves(
    phones: Sequence[Phone],
    samples: npt.ArrayLike,
    rate: float,
    *,
    fps: float = 30.0,
    frames: int,
    seed: int = 0,
    style: str | Mapping[str, float] = "neutral",
) -> npt.NDArray[np.float32]:
    """Return control curves (frames, C) of eyes, brows and cheeks; frame i is at ``i / fps`` s.

    All but the `LIFE_CONTROLS` columns stay 0. ``samples`` (n,) at ``rate`` Hz may be empty: then
    there are no accents.
    """
    times = np.arange(frames) / fps
    streams = [np.random.default_rng([seed, kind]) for kind in range(4)]
    lively = liveliness(style)
    accents = find_accents(phones, np.asarray(samples, np.float64), rate)
    pauses = [p.start for p in phones if is_pause(p)]
    curves: dict[str, Array] = {name: np.zeros(frames) for name in LIFE_NAMES}
    add_blinks(curves, times, pauses, [at for at, _ in accents], streams[0])
    add_gaze(curves, times, pauses, streams[1])
    add_brows(curves, times, accents, lively, streams[2])
    add_moods(curves, times, lively, streams[3])
    controls = np.zeros((frames, len(CONTROLS)), np.float32)
    for name, curve in curves.items():
        controls[:, INDEX[name]] = np.clip(curve, 0.0, 1.0)
    return controls


def liveliness(style: str | Mapping[str, float]) -> float:
    """Return the weighted liveliness of a style or a mixture of styles."""
    weights = {style: 1.0} if isinstance(style, str) else dict(style)
    total = sum(weights.values())
    return sum(w * LIVELINESS.get(name, 1.0) for name, w in weights.items()) / total


def is_pause(phone: Phone) -> bool:
    """Return whether a phone is a silence long enough to blink in."""
    return sound_of(phone.name) == SILENCE and phone.end - phone.start > 0.15


def find_accents(phones: Sequence[Phone], samples: Array, rate: float) -> list[tuple[float, float]]:
    """Return (time, strength 0..1) of vowels whose pitch stands out, at least 0.8 s apart."""
    vowels = [p for p in phones if sound_of(p.name) in VOWELS]
    if not len(samples) or not vowels:
        return []
    times, pitch = semitones(samples, rate)
    peaks = []
    for vowel in vowels:
        inside = pitch[(times >= vowel.start) & (times <= vowel.end)]
        inside = inside[np.isfinite(inside)]
        peaks.append(float(inside.max()) if len(inside) else -np.inf)
    ordered = sorted(zip(peaks, vowels, strict=True), key=lambda found: -found[0])
    chosen: list[tuple[float, float]] = []
    for peak, vowel in ordered:
        if peak < ACCENT:
            break
        if all(abs(vowel.start - at) > 0.8 for at, _ in chosen):
            chosen.append((vowel.start, min(peak / 8.0, 1.0)))
    return sorted(chosen)


def add_blinks(
    curves: dict[str, Array],
    times: Array,
    pauses: Sequence[float],
    accents: Sequence[float],
    random: np.random.Generator,
) -> None:
    """Blink at log-normal intervals, moved to a pause or a stress nearby; in place."""
    middle = np.log(60.0 / BLINKS_A_MINUTE) - BLINK_SPREAD**2 / 2
    end = len(times) and times[-1]
    at = 0.6 * random.lognormal(middle, BLINK_SPREAD)
    while at < end:
        depth, late = random.uniform(0.8, 1.0), random.uniform(0.0, 0.012)
        near = [p + 0.05 for p in pauses if abs(p - at) < 0.5]
        near = near or [a for a in accents if abs(a - at) < 0.25]
        start = min(near, key=lambda moment: abs(moment - at)) if near else at
        for side, delay in (("Left", 0.0), ("Right", late)):
            lid = depth * pulse(times - start - delay, LIDS_DOWN, LIDS_SHUT, LIDS_UP)
            curves[f"eyeBlink{side}"] = np.maximum(curves[f"eyeBlink{side}"], lid)
            curves[f"eyeSquint{side}"] += 0.12 * lid
        at = max(at, start) + max(0.6, random.lognormal(middle, BLINK_SPREAD))


def pulse(x: Array, rise: float, hold: float, fall: float) -> Array:
    """Return a smooth pulse of height 1 that starts at x = 0."""
    return ease(x / rise) * (1.0 - ease((x - rise - hold) / fall))


def ease(x: Array) -> Array:
    """Return the minimum-jerk step: 0 below 0, 1 above 1."""
    x = np.clip(x, 0.0, 1.0)
    return x * x * x * (10.0 + x * (6.0 * x - 15.0))


def add_gaze(
    curves: dict[str, Array], times: Array, pauses: Sequence[float], random: np.random.Generator
) -> None:
    """Look at the listener with small shifts of fixation, and away at some pauses; in place."""
    side, up = np.zeros(len(times)), np.zeros(len(times))
    end = len(times) and times[-1]
    at, here = 0.0, (0.0, 0.0)
    while at < end:
        away = any(abs(p - at) < 0.4 for p in pauses) and random.random() < 0.45
        reach = (0.30, 0.16) if away else (0.07, 0.04)
        there = (random.normal(0.0, reach[0]), random.normal(0.0, reach[1]))
        step = ease((times - at) / SACCADE)
        side += step * (there[0] - here[0])
        up += step * (there[1] - here[1])
        here = there
        at += max(0.25, random.lognormal(np.log(0.7 if away else FIXATION), 0.5))
    right, left = np.maximum(-side, 0.0), np.maximum(side, 0.0)  # positive side: subject's left
    curves["eyeLookOutLeft"], curves["eyeLookInRight"] = left, left.copy()
    curves["eyeLookInLeft"], curves["eyeLookOutRight"] = right, right.copy()
    for eye in ("Left", "Right"):
        curves[f"eyeLookUp{eye}"] = np.maximum(up, 0.0)
        curves[f"eyeLookDown{eye}"] = np.maximum(-up, 0.0)
        curves[f"eyeBlink{eye}"] = np.maximum(curves[f"eyeBlink{eye}"], 0.35 * np.maximum(-up, 0.0))


def add_brows(
    curves: dict[str, Array],
    times: Array,
    accents: Sequence[tuple[float, float]],
    lively: float,
    random: np.random.Generator,
) -> None:
    """Raise the brows on most pitch accents, from 0.1 s before the vowel; in place."""
    for at, strength in accents:
        chance, size, tilt = random.random(), random.uniform(0.6, 1.0), random.normal(0.0, 0.12)
        if chance > 0.75:
            continue
        raised = (
            lively * (0.18 + 0.32 * strength) * size * pulse(times - at + 0.10, 0.18, 0.06, 0.36)
        )
        curves["browInnerUp"] = np.maximum(curves["browInnerUp"], 0.8 * raised)
        for side, sign in (("Left", 1.0), ("Right", -1.0)):
            outer = raised * 0.7 * (1 + sign * tilt)
            curves[f"browOuterUp{side}"] = np.maximum(curves[f"browOuterUp{side}"], outer)
            curves[f"eyeWide{side}"] = np.maximum(curves[f"eyeWide{side}"], 0.25 * raised)


def add_moods(
    curves: dict[str, Array], times: Array, lively: float, random: np.random.Generator
) -> None:
    """Let brows, cheeks and mouth corners drift a little, more on one side; in place."""
    lopsided = random.normal(0.0, 0.35)
    smile, frown, squint = (drift(times, random) for _ in range(3))
    for side, sign in (("Left", 1.0), ("Right", -1.0)):
        more = float(np.clip(1 + sign * lopsided, 0.4, 1.6))
        curves[f"mouthSmile{side}"] += 0.035 * lively * more * np.maximum(smile, 0.0)
        curves[f"cheekSquint{side}"] += 0.06 * lively * more * np.maximum(squint, 0.0)
        curves[f"browDown{side}"] += 0.07 * lively * more * np.maximum(frown, 0.0)


def drift(times: Array, random: np.random.Generator) -> Array:
    """Return a slow, seeded wander (F,), mostly within ±1: six waves of 0.05 to 0.45 Hz."""
    speeds, phases = random.uniform(0.05, 0.45, 6), random.uniform(0, 2 * np.pi, 6)
    return np.asarray(np.sin(2 * np.pi * times[:, None] * speeds + phases).sum(1) / np.sqrt(3.0))
