"""Timed phones → control curves of lips, jaw and tongue.

    phones ─► gestures (one a sound, two a diphthong) ─► blended tracks ─► lips that meet ─► controls
              loudness of the sound ┘        style ┘

Three ideas, all deterministic:

* Shapes are *blended*: each gesture pulls every track towards its target with a weight that rises
  before the sound, holds, and falls after it, as minimum-jerk flanks (Flash & Hogan 1985); a track is
  the weighted mean of all pulls (Cohen & Massaro 1993).  Short sounds among insistent neighbours so
  undershoot by themselves, and rounding spreads over sounds that do not care.
* Contacts are *imposed*: p b m shut the lips and f v tuck the lower one whatever the blend says, with
  a plateau that always covers at least one frame.
* The inner *opening* is a track of its own, in the unit in which lips are measured on video; jaw,
  lower and upper lip share it out.  So amplitude and timing can be fitted to real lips.

Legend: `F` frames, `G` gestures, `T` tracks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from .articulation import CONTROLS, INDEX
from .errors import StyleError
from .life import LIFE_CONTROLS, life_curves
from .phonemes import ROUNDED, SILENCE, SOUNDS, VOWELS, Aim, sound_of

__all__ = ["LIFE_CONTROLS", "SPEECH_CONTROLS", "STYLES", "Phone", "life_curves", "speech_curves"]

Array = npt.NDArray[np.float64]

SPEECH_NAMES = """jawOpen mouthClose mouthFunnel mouthPucker mouthStretchLeft mouthStretchRight
    mouthPressLeft mouthPressRight mouthLowerDownLeft mouthLowerDownRight mouthUpperUpLeft
    mouthUpperUpRight lipTuck tongueOut tongueTip tongueBack""".split()
SPEECH_CONTROLS: tuple[int, ...] = tuple(INDEX[name] for name in SPEECH_NAMES)
"""Columns that `speech_curves` moves."""

TRACKS = ("opening", "jaw", "pucker", "funnel", "spread", "press")
GRIPS = ("grip", "bite", "lips", "lips", "lips", "lips")
CONTACTS = ("seal", "tuck", "tongue", "tip", "back")
BLOCK = 240  # frames blended at once, against the gestures near them
REACH = 0.6  # seconds beyond which no gesture is felt; longer than lead + rise


@dataclass(frozen=True)
class Phone:
    """A speech sound in time: ``name`` (ARPAbet, IPA or ``SIL``), ``start`` and ``end`` in seconds."""

    name: str
    start: float
    end: float


@dataclass(frozen=True)
class Manner:
    """How one speaks.

    Attributes:
        opening: factor on how far the mouth opens beyond rest.
        lips: factor on lip shapes.
        grip: exponent on consonants' insistence; above 1 their targets are reached, below 1 slurred.
        loudness: how much the opening follows the local loudness.
        flank: factor on the duration of transitions.
        press: factor on how firmly shut lips are pressed.
        part: opening wanted in speech when no sound insists, as added bias on every target.
    """

    opening: float = 1.0
    lips: float = 1.0
    grip: float = 1.0
    loudness: float = 1.0
    flank: float = 1.0
    press: float = 1.0


MANNERS: dict[str, Manner] = {
    "neutral": Manner(),
    "mumbled": Manner(0.52, 0.55, 0.75, 0.7, 1.2, 0.3),
    "energetic": Manner(1.22, 1.12, 1.1, 1.6, 0.95, 1.3),
    "over-articulated": Manner(1.32, 1.35, 1.6, 0.8, 0.9, 1.8),
}
STYLES: tuple[str, ...] = tuple(MANNERS)
"""Names of the speaking styles; they can be mixed."""


@dataclass(frozen=True)
class Timing:
    """When gestures act, in seconds; see `fit.py` for where the numbers come from.

    Attributes:
        lead: how much earlier than its sound a gesture holds.
        rise, fall: flanks before and after the hold.
        hold: part of the sound's duration that the hold covers.
        lips_lead: extra lead of rounded sounds' lip shapes.
        smooth: standard deviation of the last smoothing.
        jaw_smooth: the same for the heavier jaw.
        loudness: gain of the opening per standard deviation of loudness, for vowels.
        ready: opening with which one waits to speak, from ``breath`` seconds before.
        breath: see ``ready``.
    """

    lead: float = 0.030
    rise: float = 0.120
    fall: float = 0.120
    hold: float = 0.75
    lips_lead: float = 0.050
    smooth: float = 0.016
    jaw_smooth: float = 0.030
    loudness: float = 0.12
    ready: float = 0.05
    breath: float = 0.6


TIMING = Timing()


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


def speech_curves(
    phones: Sequence[Phone],
    samples: npt.ArrayLike,
    rate: float,
    *,
    fps: float = 30.0,
    frames: int,
    style: str | Mapping[str, float] = "neutral",
    timing: Timing = TIMING,
    sounds: Mapping[str, tuple[Aim, ...]] = SOUNDS,
) -> npt.NDArray[np.float32]:
    """Return control curves (frames, C) of lips, jaw and tongue; frame i is at ``i / fps`` seconds.

    ``samples`` (n,) at ``rate`` Hz give the loudness and may be empty.  The columns are those of
    `CONTROLS`; all but `SPEECH_CONTROLS` stay 0.

    Raises:
        StyleError: the style is unknown, or the mixture has no positive weight.
    """
    manner = mixed_manner(style)
    spoken = tidy(phones, frames / fps)
    times = np.arange(frames) / fps
    gains = loudness_gains(spoken, np.asarray(samples, np.float64), rate, timing, manner)
    gestures = as_gestures(spoken, gains, manner, timing, sounds)
    tracks = blend(times, gestures, timing, manner.flank)
    tracks = {name: smoothed(tracks[:, i], timing.smooth * fps) for i, name in enumerate(TRACKS)}
    tracks["jaw"] = smoothed(tracks["jaw"], timing.jaw_smooth * fps)
    touches = contacts(times, spoken, manner, timing, fps, sounds)
    return as_controls(tracks, touches, manner)


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


def tidy(phones: Iterable[Phone], duration: float) -> list[Phone]:
    """Return the phones in order, in inventory names, gaps filled with silence, clip's end included."""
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


def as_gestures(
    phones: Sequence[Phone],
    gains: Array,
    manner: Manner,
    timing: Timing,
    sounds: Mapping[str, tuple[Aim, ...]],
) -> Gestures:
    """Return the blended part of every sound; diphthongs give two gestures."""
    rows = []
    for place, (phone, gain) in enumerate(zip(phones, gains, strict=True)):
        if phone.name == SILENCE:
            rows += silence_rows(phone, place + 1 < len(phones), sounds[SILENCE][0], timing)
            continue
        start = phone.start
        for aim in sounds[phone.name]:
            end = start + aim.share * (phone.end - phone.start)
            rows.append((aim, gain, start, end, phone.name))
            start = end
    rest = sounds[SILENCE][0].opening
    targets, grips = [], []
    for aim, gain, _, _, name in rows:
        speaks = name != SILENCE
        wide = gain * (manner.opening if speaks else 1.0)
        shape = manner.lips if speaks else 1.0
        targets.append([rest + (aim.opening - rest) * wide, aim.jaw * wide,
                        aim.pucker * shape, aim.funnel * shape, aim.spread * shape, aim.press])  # fmt: skip
        power = manner.grip if speaks and name not in VOWELS else 1.0
        grips.append([getattr(aim, grip) * power for grip in GRIPS])
    return Gestures(
        np.array(targets),
        np.array(grips),
        np.array([row[2] for row in rows]),
        np.array([row[3] for row in rows]),
        np.array([row[4] in ROUNDED for row in rows]),
    )


def silence_rows(
    phone: Phone, speech_follows: bool, rest: Aim, timing: Timing
) -> list[tuple[Aim, float, float, float, str]]:
    """Return a silence's gestures: rest, then lips parted for the breath before speaking."""
    row = (rest, 1.0, phone.start, phone.end, SILENCE)
    breath = min(timing.breath, 0.6 * (phone.end - phone.start))
    if not speech_follows or phone.end - phone.start < 0.25:
        return [row]
    ready = Aim(timing.ready, rest.grip, 0.12, rest.bite, lips=rest.lips)
    turn = phone.end - breath
    return [(rest, 1.0, phone.start, turn, SILENCE), (ready, 1.0, turn, phone.end, SILENCE)]


def flank(x: Array) -> Array:
    """Return the minimum-jerk rise from 0 (x ≤ 0) to 1 (x ≥ 1): 10x³ − 15x⁴ + 6x⁵."""
    x = np.clip(x, 0.0, 1.0)
    return x * x * x * (10.0 + x * (6.0 * x - 15.0))


def blend(times: Array, gestures: Gestures, timing: Timing, slower: float) -> Array:
    """Return the weighted mean of all pulls on every track (F, T)."""
    tracks = np.zeros((len(times), len(TRACKS)))
    early = np.where(gestures.heavy, timing.lips_lead, 0.0)
    rise, fall = timing.rise * slower, timing.fall * slower
    for low in range(0, len(times), BLOCK):
        now = times[low : low + BLOCK]
        near = (gestures.end > now[0] - REACH) & (gestures.start < now[-1] + REACH)
        start, end = gestures.start[near] - timing.lead, gestures.end[near] - timing.lead
        release = start + timing.hold * (end - start)
        down = 1.0 - flank((now[:, None] - release) / fall)  # F G
        vertical = flank((now[:, None] - start) / rise + 1.0) * down
        shapes = flank((now[:, None] - start + early[near]) / rise + 1.0) * down
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
    manner: Manner,
    timing: Timing,
    fps: float,
    sounds: Mapping[str, tuple[Aim, ...]],
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


def contact_span(
    name: str, phones: Sequence[Phone], place: int, timing: Timing
) -> tuple[float, float, float, float]:
    """Return (rise, on, off, fall) of a contact: rise and fall durations, on and off times in s.

    The flanks of a closure take at most about half of the neighbouring sounds, so that a vowel
    between two closures still opens ("my mum").
    """
    phone = phones[place]
    before = phones[place - 1] if place else phone
    after = phones[place + 1] if place + 1 < len(phones) else phone
    if name != "seal":
        ahead = 0.09 if name == "tuck" else 0.06
        return ahead, phone.start - 0.5 * timing.lead, phone.end - 0.02, ahead
    on = phone.start - timing.lead - (0.03 if before.name == SILENCE else 0.0)
    off = max(phone.end - timing.lead, on + 0.045)
    rise = float(np.clip(0.55 * (before.end - before.start), 0.035, 0.080))
    fall = float(np.clip(0.45 * (after.end - after.start), 0.035, 0.080))
    return rise, on, off, fall


def impose(
    curve: Array,
    strength: float,
    span: tuple[float, float, float, float],
    fps: float,
    *,
    snap: bool,
) -> None:
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


# --- from tracks to the rig's controls ---------------------------------------------------------


def unsealed_opening(jaw: Array, pucker: Array, funnel: Array, lower: Array, upper: Array) -> Array:
    """Return the rig's inner opening / outer-eye distance for controls (F,), lips not sealed.

    A polynomial fitted to `Rig.opening` on speech poses.
    """
    return (
        jaw * (0.26 - 0.036 * jaw - 0.072 * pucker)
        - 0.015 * pucker + 0.103 * funnel + 0.064 * lower + 0.054 * upper
    )  # fmt: skip


LOWER_SHARE, UPPER_SHARE = 0.6, 0.35
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

    The lips make up what the jaw leaves: they part up to a limit, beyond which the jaw follows, or
    narrow, as a seal that is not complete.
    """
    none = np.zeros_like(jaw)
    jaw = jaw * (1 - 0.35 * seal)
    lips = 0.064 * LOWER_SHARE + 0.054 * UPPER_SHARE
    missing = opening - unsealed_opening(jaw, pucker, funnel, none, none)
    part = np.clip(missing / lips, 0.0, 0.75)
    jaw = jaw + np.maximum(missing - part * lips, 0.0) / 0.24
    reached = unsealed_opening(jaw, pucker, funnel, LOWER_SHARE * part, UPPER_SHARE * part)
    narrow = np.clip(1 - opening / np.maximum(reached, 1e-3), 0.0, 0.95)
    return jaw, part, narrow
