# SPDX-License-Identifier: GPL-3.0-or-later
"""Phones → overlapping gestures → tracks of opening, jaw and lip shapes, and contacts.

Legend: `F` frames, `P` phones, `G` gestures, `T` tracks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .phonemes import BILABIALS, ROUNDED, SILENCE, TONGUE_STOPS, VOWELS, Aim, Phone
from .styles import Manner, Timing

Array = npt.NDArray[np.float64]
Sounds = Mapping[str, tuple[Aim, ...]]

TRACKS = ("opening", "jaw", "pucker", "funnel", "spread", "press")
GRIPS = ("grip", "bite", "lips", "lips", "lips", "lips")
CONTACTS = ("seal", "tuck", "tongue", "tip", "back")
BLOCK = 240  # frames blended at once, against the gestures near them
REACH = 0.6  # seconds beyond which no gesture is felt; longer than lead + rise


class Span(NamedTuple):
    """A contact in time: seconds to rise, when it is on and when off, seconds to fall."""

    rise: float
    on: float
    off: float
    fall: float


class Row(NamedTuple):
    """One gesture before styles act on it: its aim, gain on the opening, times and sound."""

    aim: Aim
    gain: float
    start: float
    end: float
    name: str


@dataclass(frozen=True)
class Gestures:
    """All gestures of a clip as arrays.

    targets (G, T) in the order of `TRACKS`, grips (G, T), start and end (G,) seconds,
    heavy (G,) whether rounded lips come early.
    """

    targets: Array
    grips: Array
    start: Array
    end: Array
    heavy: npt.NDArray[np.bool_]


def as_gestures(
    phones: Sequence[Phone], gains: Array, manner: Manner, timing: Timing, sounds: Sounds
) -> Gestures:
    """Return the blended part of every sound; diphthongs give two gestures.

    ``gains`` (P,) are the phones' factors on their opening.
    """
    rows: list[Row] = []
    for place, (phone, gain) in enumerate(zip(phones, gains, strict=True)):
        if phone.name == SILENCE:
            rows += silence_rows(phones, place, sounds[SILENCE][0], timing)
            continue
        start = phone.start
        for aim in sounds[phone.name]:
            end = start + aim.share * (phone.end - phone.start)
            rows.append(Row(aim, float(gain), start, end, phone.name))
            start = end
    if rows[0].name == SILENCE:
        rows[0] = rows[0]._replace(start=rows[0].start - REACH)
    if rows[-1].name == SILENCE:
        rows[-1] = rows[-1]._replace(end=rows[-1].end + REACH)
    rest = sounds[SILENCE][0].opening
    return Gestures(
        np.array([row_targets(row, manner, rest) for row in rows]),
        np.array([row_grips(row, manner) for row in rows]),
        np.array([row.start for row in rows]),
        np.array([row.end for row in rows]),
        np.array([row.name in ROUNDED for row in rows]),
    )


def row_targets(row: Row, manner: Manner, rest: float) -> list[float]:
    """Return a gesture's targets in the order of `TRACKS`."""
    aim = row.aim
    if row.name == SILENCE:
        return [aim.opening, aim.jaw, aim.pucker, aim.funnel, aim.spread, aim.press]
    wide = row.gain * manner.opening
    shapes = (aim.pucker, aim.funnel, aim.spread)
    opening = rest + (aim.opening - rest) * wide
    return [opening, aim.jaw * wide, *(shape * manner.lips for shape in shapes), aim.press]


def row_grips(row: Row, manner: Manner) -> list[float]:
    """Return how strongly a gesture pulls on each of `TRACKS`."""
    factor = 1.0 if row.name == SILENCE or row.name in VOWELS else manner.grip
    return [getattr(row.aim, grip) * factor for grip in GRIPS]


def silence_rows(phones: Sequence[Phone], place: int, rest: Aim, timing: Timing) -> list[Row]:
    """Return a silence's gestures: lips parted in a short pause, shut in a long one.

    What is shut already for a p, b or m stays shut; after a long silence the lips part once, for
    the breath before speech.
    """
    phone = phones[place]
    length = phone.end - phone.start
    inside = 0 < place < len(phones) - 1
    before, after = phones[max(place - 1, 0)].name, phones[min(place + 1, len(phones) - 1)].name
    parted = replace(rest, opening=timing.parted, jaw=2 * timing.parted, spread=0.0)
    long = not inside or length >= timing.shut_pause
    closure = after in BILABIALS or before in BILABIALS
    if not long and not (closure and length >= timing.short_pause):
        return [Row(parted, 1.0, phone.start, phone.end, SILENCE)]
    if place + 1 == len(phones) or not long or length < timing.breath:
        return [Row(rest, 1.0, phone.start, phone.end, SILENCE)]
    turn = phone.end - timing.breath
    return [
        Row(rest, 1.0, phone.start, turn, SILENCE),
        Row(replace(parted, pucker=0.08), 1.0, turn, phone.end, SILENCE),
    ]


def flank(x: Array) -> Array:
    """Return the minimum-jerk rise from 0 (x ≤ 0) to 1 (x ≥ 1): 10x³ − 15x⁴ + 6x⁵."""
    x = np.clip(x, 0.0, 1.0)
    return x * x * x * (10.0 + x * (6.0 * x - 15.0))


def blend(times: Array, gestures: Gestures, timing: Timing, slower: float) -> Array:
    """Return the weighted mean of all pulls on every track (F, T)."""
    tracks = np.zeros((len(times), len(TRACKS)))
    early = np.where(gestures.heavy, timing.lips_lead, 0.0)
    rise, fall = timing.rise * slower, timing.fall * slower
    lips_rise = np.where(gestures.heavy, timing.lips_rise * slower, rise)
    for low in range(0, len(times), BLOCK):
        now = times[low : low + BLOCK]
        near = (gestures.end > now[0] - REACH) & (gestures.start < now[-1] + REACH)
        start, end = gestures.start[near] - timing.lead, gestures.end[near] - timing.lead
        release = np.maximum(start + timing.hold * (end - start), end - timing.tail)
        down = 1.0 - flank((now[:, None] - release) / fall)  # F G
        vertical = flank((now[:, None] - start) / rise + 1.0) * down
        shapes = flank((now[:, None] - start + early[near]) / lips_rise[near] + 1.0) * down
        for columns, pull in ((slice(0, 2), vertical), (slice(2, None), shapes)):
            grips, targets = gestures.grips[near, columns], gestures.targets[near, columns]
            total = pull @ grips + 1e-6
            tracks[low : low + BLOCK, columns] = (pull @ (grips * targets)) / total
    return tracks


def smoothed(curve: Array, frames: float) -> Array:
    """Return a curve (F,) smoothed by a Gaussian of so many frames' standard deviation."""
    radius = int(np.ceil(3 * frames))
    if radius < 1 or len(curve) < 2:
        return curve
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / frames) ** 2)
    padded = np.pad(curve, radius, mode="edge")
    return np.convolve(padded, kernel / kernel.sum(), mode="valid")


def contacts(
    times: Array,
    phones: Sequence[Phone],
    timing: Timing,
    fps: float,
    sounds: Sounds,
) -> dict[str, Array]:
    """Return the imposed gestures, each (F,) in 0..1: seal, tuck and what the tongue does."""
    curves = {name: np.zeros(len(times)) for name in CONTACTS}
    for place, phone in enumerate(phones):
        aim = sounds[phone.name][0]
        for name in CONTACTS:
            strength = getattr(aim, name)
            if strength:
                span = contact_span(name, phones, place, timing)
                impose(curves[name], strength, span, fps, snap=name in ("seal", "tuck"))
    return curves


def contact_span(name: str, phones: Sequence[Phone], place: int, timing: Timing) -> Span:
    """Return when a contact rises, is on, goes off, and falls (see `Span`)."""
    phone = phones[place]
    if name == "seal":
        return seal_span(phones, place, timing)
    flank_time = 0.09 if name == "tuck" else 0.06
    return Span(flank_time, phone.start - timing.lead / 2, phone.end - 0.02, flank_time)


def seal_span(phones: Sequence[Phone], place: int, timing: Timing) -> Span:
    """Return when the lips shut for a sound.

    Real lips are early: some 70 ms before the first sound of an utterance, and within the tongue's
    own closure for a t, d or n before it ("in blue", "white by").  The flanks take at most about
    half of the neighbouring sounds, so that a vowel between two closures still opens ("my mum").
    """
    phone = phones[place]
    before = phones[place - 1] if place else phone
    after = phones[place + 1] if place + 1 < len(phones) else phone
    early = 0.0
    if before.name == SILENCE:
        early = timing.first_early
    elif before.name in TONGUE_STOPS:
        early = min(0.5 * (before.end - before.start), 0.05)
    on = phone.start - timing.shut_early - early
    off = max(phone.end - timing.part_early, phone.start - timing.shut_early + 0.04)
    rise = float(np.clip(0.55 * (before.end - before.start), 0.035, 0.080))
    fall = float(np.clip(0.45 * (after.end - after.start), 0.035, 0.080))
    return Span(rise, on, off, fall)


def impose(curve: Array, strength: float, span: Span, fps: float, *, snap: bool) -> None:
    """Raise a curve to a contact, in place; with ``snap`` its plateau covers at least one frame."""
    rise, on, off, fall = span
    if snap and np.ceil(on * fps) > np.floor(off * fps):
        nearest = np.round((on + off) / 2 * fps) / fps
        on, off = min(on, nearest), max(off, nearest)
    low = max(int((on - rise) * fps), 0)
    high = min(int((off + fall) * fps) + 2, len(curve))
    if low >= high:
        return
    now = np.arange(low, high) / fps
    level = flank((now - on) / rise + 1.0) * (1.0 - flank((now - off) / fall))
    curve[low:high] = np.maximum(curve[low:high], strength * level)
