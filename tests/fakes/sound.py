# SPDX-License-Identifier: GPL-3.0-or-later
"""A second of voice made by rule, for tests that need a sound and nobody's recording."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np

_RATE = 16_000  # Hz


def write_test_sound(path: Path) -> Path:
    """Write one second of a voice-like sound (mono, 16 kHz): "a–i" with a pause for breath.

    A pulse train of 120 Hz through three resonances each, after the source-filter model of speech
    (Fant 1960); formants of the two vowels from Peterson and Barney (1952).
    """
    time = np.arange(_RATE) / _RATE
    pulses = np.zeros(_RATE)
    pulses[:: _RATE // 120] = 1.0
    half = _RATE // 2
    first, second = (_vowel(pulses[:half], f) for f in ((730, 1090, 2440), (270, 2290, 3010)))
    voice = np.concatenate([first / abs(first).max(), second / abs(second).max()])
    voice *= np.clip(np.minimum(time, 1 - time) * 20, 0, 1) * (np.abs(time - 0.5) > 0.04)
    with wave.open(str(path), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(_RATE)
        sound.writeframes((voice * 20_000).astype("<i2").tobytes())
    return path


def _vowel(pulses: np.ndarray, formants: tuple[int, ...]) -> np.ndarray:
    """Return pulses (n,) heard through resonances of 80 Hz width at the formants (Hz)."""
    spectrum = np.fft.rfft(pulses)
    frequency = np.fft.rfftfreq(len(pulses), 1 / _RATE)
    for centre in formants:
        spectrum = spectrum / (1 + ((frequency - centre) / 80) ** 2 + 0.02j)
    return np.fft.irfft(spectrum, len(pulses)).real
