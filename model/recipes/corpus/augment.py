# SPDX-License-Identifier: GPL-3.0-or-later
"""Make one recording sound like many: speed, pitch, rooms, noise, microphones, levels.

Every function takes and returns (n,) float32 samples at 16 kHz and draws from a seeded generator.
Only `change_speed` moves time, and says by how much.
"""

from __future__ import annotations

import numpy as np
import soxr

from ...phones.coarticulation import Phone
from .align import RATE


def change_speed(
    samples: np.ndarray, phones: list[Phone], factor: float
) -> tuple[np.ndarray, list[Phone]]:
    """Play ``factor`` times faster, pitch and formants included (a smaller or larger speaker)."""
    faster = soxr.resample(samples, RATE * factor, RATE).astype(np.float32)
    return faster, [Phone(p.name, p.start / factor, p.end / factor) for p in phones]


def add_room(samples: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Convolve with a made-up room: exponentially decaying noise, RT60 0.15–0.7 s."""
    decay = random.uniform(0.15, 0.7)
    length = int(decay * RATE)
    tail = random.standard_normal(length) * np.exp(-6.9 * np.arange(length) / length)
    tail *= random.uniform(0.05, 0.4) / np.sqrt(np.sum(tail**2))
    tail[0] = 1.0
    return convolve(samples, tail)


def convolve(samples: np.ndarray, response: np.ndarray) -> np.ndarray:
    """Filter by FFT; the result keeps the input's length."""
    size = 1 << (len(samples) + len(response) - 1).bit_length()
    spectrum = np.fft.rfft(samples, size) * np.fft.rfft(response, size)
    return np.asarray(np.fft.irfft(spectrum, size)[: len(samples)], np.float32)


def add_noise(
    samples: np.ndarray, random: np.random.Generator, babble: np.ndarray | None = None
) -> np.ndarray:
    """Add coloured noise, or other people's speech, at 3–30 dB below the speech."""
    if babble is not None and len(babble) and random.random() < 0.3:
        noise = np.resize(np.roll(babble, int(random.integers(len(babble)))), len(samples))
        quietest = 12.0
    else:
        noise = coloured_noise(len(samples), random.uniform(0.0, 2.0), random)
        quietest = 3.0
    ratio = 10 ** (-random.uniform(quietest, 30.0) / 20)
    power = np.sqrt(np.mean(samples**2) / max(float(np.mean(noise**2)), 1e-12))
    return np.asarray(samples + noise * power * ratio, np.float32)


def coloured_noise(length: int, tilt: float, random: np.random.Generator) -> np.ndarray:
    """Return noise whose power falls as 1/f**tilt (0 white, 1 pink, 2 brown), unit variance."""
    spectrum = np.fft.rfft(random.standard_normal(length))
    frequency = np.maximum(np.fft.rfftfreq(length, 1 / RATE), 30.0)
    noise = np.fft.irfft(spectrum * frequency ** (-tilt / 2), length)
    return (noise / max(float(noise.std()), 1e-12)).astype(np.float32)


def change_microphone(samples: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Tilt and band-limit the spectrum as cheap microphones and telephones do."""
    spectrum = np.fft.rfft(samples)
    frequency = np.fft.rfftfreq(len(samples), 1 / RATE)
    octaves = np.log2(np.maximum(frequency, 50.0) / 1000.0)
    gain = 10 ** (random.uniform(-4.0, 4.0) * octaves / 20)
    low, high = random.uniform(20, 250), random.uniform(3400, 8000)
    gain /= (1 + (low / np.maximum(frequency, 1.0)) ** 4) * (1 + (frequency / high) ** 8)
    return np.fft.irfft(spectrum * gain, len(samples)).astype(np.float32)


def change_level(samples: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Scale to a peak of −32…0 dBFS, or now and then clip."""
    peak = max(float(np.abs(samples).max()), 1e-6)
    if random.random() < 0.05:
        return np.clip(samples / peak * random.uniform(1.5, 4.0), -1, 1).astype(np.float32)
    return (samples / peak * 10 ** (-random.uniform(0, 32) / 20)).astype(np.float32)


def vary(
    samples: np.ndarray,
    phones: list[Phone],
    random: np.random.Generator,
    babble: np.ndarray | None = None,
) -> tuple[np.ndarray, list[Phone]]:
    """Return one random variation of a clip and its phones on the new clock."""
    samples, phones = change_speed(samples, phones, float(np.exp(random.normal(0.0, 0.10))))
    if random.random() < 0.35:
        samples = add_room(samples, random)
    if random.random() < 0.5:
        samples = change_microphone(samples, random)
    if random.random() < 0.6:
        samples = add_noise(samples, random, babble)
    return change_level(samples, random), phones


def without_speech(seconds: float, random: np.random.Generator) -> np.ndarray:
    """Return something that is not speech: near silence, noise, or a few bars of made-up music."""
    length = int(seconds * RATE)
    kind = random.integers(3)
    if kind == 0:
        return (coloured_noise(length, 1.0, random) * 10 ** random.uniform(-4, -2.5)).astype("f4")
    if kind == 1:
        swell = 1 + 0.8 * np.sin(2 * np.pi * random.uniform(0.1, 2) * np.arange(length) / RATE)
        return change_level(coloured_noise(length, random.uniform(0, 2), random) * swell, random)
    return change_level(music(length, random), random)


def music(length: int, random: np.random.Generator) -> np.ndarray:
    """Return plucked and sustained harmonic notes on a random scale with a noise drum."""
    time = np.arange(length) / RATE
    mix = np.zeros(length)
    beat = random.uniform(0.2, 0.6)
    scale = 110 * 2 ** (np.array([0, 2, 4, 7, 9, 12, 14, 16]) / 12) * 2 ** random.uniform(-1, 1)
    for start in np.arange(0, length / RATE, beat):
        age = np.maximum(time - start, 0)
        envelope = (time >= start) * np.exp(-age * random.uniform(1, 6))
        for pitch in random.choice(scale, size=int(random.integers(1, 4))):
            for partial in range(1, 6):
                mix += envelope * np.sin(2 * np.pi * pitch * partial * age) / partial**1.5
        mix += 0.5 * (time >= start) * np.exp(-age * 40) * random.standard_normal(length)
    return mix.astype(np.float32)
