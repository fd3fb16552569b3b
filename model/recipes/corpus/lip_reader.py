# SPDX-License-Identifier: GPL-3.0-or-later
"""Read lips from sound: regressions from Whisper's hidden states to lips measured on video.

Phone tables say which sounds open a mouth; only measured lips say how far, how late and for whom.
The corpus builder fits this reader on people whose lips were measured and blends what it reads into
the curves that the tables make.  It has several ears, each one encoder and some of its states: the
*middle* ones, for the last know words, and the few sentences that people were filmed with are then
learnt by heart.  One ear hears a little less than the mean of two.  Development only; the folder
and the fitted weights stay where the corpus is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from ...conversion.encoders import keep_states, load_encoder
from ...data.measured import Recording
from ...network.encoders.build import build_encoder
from ...network.frames import FEATURE_RATE
from ...resampling import resample
from . import augment

Array = npt.NDArray[np.float32]

CONTEXT = (-0.12, -0.06, 0.0, 0.06, 0.12)  # seconds around a frame that the regression sees
COMPONENTS = 256  # directions of the hidden states that it sees
PENALTY = 0.4  # ridge, of the mean eigenvalue
COPIES = 4  # other speeds, rooms and microphones of each clip of a speaker with few


class Ear:
    """Some hidden states of a frozen encoder."""

    def __init__(self, source: str, states: Sequence[int]) -> None:
        """Load a Whisper encoder from a file, a folder or a hub name."""
        spec, tensors = keep_states(*load_encoder(source, "whisper"), list(states))
        self._encoder = build_encoder(spec).eval()
        self._encoder.load_state_dict(
            {name.removeprefix("audio_encoder."): tensor for name, tensor in tensors.items()}
        )

    @torch.no_grad()
    def hear(self, samples: Array) -> Array:
        """Return the joined states (S, W) of 16 kHz sound (n,), 50 a second."""
        sound = torch.from_numpy(np.ascontiguousarray(samples, np.float32))[None]
        return np.asarray(self._encoder(sound, None)[0].numpy())


@dataclass(frozen=True)
class Reading:
    """A linear map from one ear's states and their context to opening and width."""

    mean: Array  # (W,)
    directions: Array  # (W, components)
    centre: Array  # (context · components,)
    weights: Array  # (context · components, 2)
    bias: Array  # (2,)

    def features(self, states: Array, times: Array) -> Array:
        """Return the main directions of states (S, W) around times (F,) → (F, context · D)."""
        return around(np.asarray((states - self.mean) @ self.directions, np.float32), times)

    def read(self, states: Array, times: Array) -> Array:
        """Return opening and width (F, 2) at the given seconds."""
        features = self.features(states, times) - self.centre
        return np.asarray(features @ self.weights + self.bias, np.float32)


@dataclass(frozen=True)
class LipReader:
    """The mean of what several ears read, brought to the size of real movement."""

    ears: tuple[Ear, ...]
    readings: tuple[Reading, ...]
    gain: Array  # (2,) a regression moves less than what it predicts
    middle: Array  # (2,) around which

    def read(self, samples: Array, times: Array) -> Array:
        """Return (F, 2): opening (0 shut, 1 wide for this voice) and width (1: usual)."""
        pairs = zip(self.ears, self.readings, strict=True)
        mean = np.mean([reading.read(ear.hear(samples), times) for ear, reading in pairs], 0)
        return np.asarray(self.middle + self.gain * (mean - self.middle), np.float32)


def around(states: Array, times: Array) -> Array:
    """Interpolate states (S, D) at seconds (F,) and their context → (F, context · D)."""
    columns = []
    for shift in CONTEXT:
        place = np.clip((times + shift) * FEATURE_RATE, 0, len(states) - 1)
        low = np.floor(place).astype(int)
        high = np.minimum(low + 1, len(states) - 1)
        part = (place - low)[:, None].astype(np.float32)
        columns.append(states[low] * (1 - part) + states[high] * part)
    return np.concatenate(columns, axis=1).astype(np.float32)


@dataclass(frozen=True)
class Lesson:
    """One clip to learn from: its sound, when its lips were where, and how much it counts."""

    samples: Array
    times: Array
    lips: Array  # (F, 2)
    weight: float


def lessons(clips: Sequence[Recording]) -> Iterator[Lesson]:
    """Yield every clip, and seeded variations for speakers who have few.

    A speaker with n clips counts √n: neither the one with most nor the one with one decides.
    """
    counts: dict[str, int] = {}
    for clip in clips:
        counts[clip.speaker] = counts.get(clip.speaker, 0) + 1
    most = max(counts.values())
    for place, clip in enumerate(clips):
        samples = resample(clip.samples.astype(np.float32), clip.rate)
        copies = COPIES if counts[clip.speaker] < most or most <= 1 else 0
        weight = counts[clip.speaker] ** -0.5 / (1 + copies)
        times, lips = clip.times.astype(np.float32), clip.relative
        yield Lesson(samples, times, lips, weight)
        for index in range(copies):
            random = np.random.default_rng([place, index])
            factor = float(np.exp(random.normal(0.0, 0.10)))
            faster, _ = augment.change_speed(samples, [], factor)
            if random.random() < 0.5:
                faster = augment.change_microphone(faster, random)
            faster = augment.add_noise(faster, random)
            yield Lesson(faster, times / np.float32(factor), lips, weight)


def fit(ears: Sequence[Ear], clips: Sequence[Recording]) -> LipReader:
    """Fit one ridge regression an ear, on all clips and their variations."""
    given = list(lessons(clips))
    y = np.concatenate([lesson.lips for lesson in given])
    weights = np.concatenate([np.full(len(a.times), a.weight, np.float32) for a in given])
    found = [fit_reading([ear.hear(a.samples) for a in given], given, y, weights) for ear in ears]
    predicted = np.mean([prediction for _, prediction in found], 0)
    middle = np.average(y, axis=0, weights=weights)
    spread = [np.sqrt(np.average((v - middle) ** 2, 0, weights)) for v in (y, predicted)]
    gain = spread[0] / np.maximum(spread[1], 1e-6)
    readings = tuple(reading for reading, _ in found)
    return LipReader(tuple(ears), readings, gain.astype(np.float32), middle.astype(np.float32))


def fit_reading(
    heard: list[Array], given: Sequence[Lesson], y: Array, weights: Array
) -> tuple[Reading, Array]:
    """Return one ear's reading and what it predicts (F, 2) of its own lessons."""
    sample = np.concatenate([states[:: 1 + len(heard) // 200] for states in heard])
    mean = sample.mean(0)
    _, vectors = np.linalg.eigh(np.cov(sample.T))
    directions = np.ascontiguousarray(vectors[:, ::-1][:, :COMPONENTS], np.float32)
    none = np.zeros(0, np.float32)
    reading = Reading(mean, directions, none, none, none)
    pairs = zip(heard, given, strict=True)
    x = np.concatenate([reading.features(states, lesson.times) for states, lesson in pairs])
    centre, bias = (np.average(a, axis=0, weights=weights).astype(np.float32) for a in (x, y))
    x -= centre
    pull = x * weights[:, None]
    gram = pull.T @ x
    ridge = PENALTY * np.trace(gram) / len(gram) * np.eye(len(gram), dtype=np.float32)
    slopes = np.linalg.solve(gram + ridge, pull.T @ (y - bias)).astype(np.float32)
    return Reading(mean, directions, centre, slopes, bias), x @ slopes + bias
