# SPDX-License-Identifier: GPL-3.0-or-later
"""A small formant voice: phones in, intelligible-enough noise out.

Source and filter, after Klatt (1980) in spirit: a pulse train or noise runs through resonators at
each phone's formants. It is no voice for people; it gives training pipelines something to hear
that depends on the phones, where no recording is at hand.

Legend: `n` samples.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ...phones.coarticulation import Phone

Floats = npt.NDArray[np.floating]

# First three formants in Hz (Peterson and Barney 1952, men; consonants by place of articulation).
VOICED: dict[str, tuple[int, int, int]] = {
    "AA": (730, 1090, 2440), "AE": (660, 1720, 2410), "AH": (640, 1190, 2390),
    "AO": (570, 840, 2410), "AY": (660, 1400, 2450), "EH": (530, 1840, 2480),
    "ER": (490, 1350, 1690), "EY": (450, 2000, 2600), "IH": (390, 1990, 2550),
    "IY": (270, 2290, 3010), "OW": (480, 900, 2400), "UH": (440, 1020, 2240),
    "UW": (300, 870, 2240), "L": (360, 1100, 2600), "R": (330, 1100, 1600),
    "W": (290, 650, 2200), "M": (250, 950, 2200), "N": (250, 1500, 2500),
    "B": (220, 800, 2200), "D": (220, 1700, 2600), "G": (220, 2000, 2400),
    "V": (220, 1100, 2200), "Z": (220, 1600, 2600),
}  # fmt: skip
# Centre and width in Hz of a consonant's noise, and its strength.
NOISE: dict[str, tuple[int, int, float]] = {
    "F": (4500, 4000, 0.10), "V": (4500, 4000, 0.05), "S": (6000, 2000, 0.25),
    "Z": (6000, 2000, 0.12), "SH": (3200, 1800, 0.30), "HH": (1500, 2500, 0.10),
    "P": (900, 1200, 0.25), "B": (900, 1200, 0.10), "T": (4500, 2500, 0.30),
    "D": (4500, 2500, 0.12), "K": (2000, 1200, 0.30), "G": (2000, 1200, 0.12),
}  # fmt: skip
STOPS = frozenset("P B T D K G".split())
WIDTHS = (80.0, 110.0, 160.0)  # Hz, of the three resonances
LOUDNESS = {"M": 0.4, "N": 0.4, "B": 0.15, "D": 0.15, "G": 0.15, "V": 0.3, "Z": 0.3}


def speak(
    phones: Sequence[Phone], rate: int, *, pitch: float, random: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Return samples (n,) float32 that last until the last phone's end."""
    count = round(phones[-1].end * rate)
    result = np.zeros(count)
    for phone in phones:
        start, end = round(phone.start * rate), min(count, round(phone.end * rate))
        if end > start and phone.name != "SIL":
            result[start:end] += sound(phone.name, end - start, rate, pitch, random)
    result += random.normal(0, 3e-4, count)
    return np.asarray(0.5 * result / max(1e-6, np.abs(result).max()), dtype=np.float32)


def sound(name: str, count: int, rate: int, pitch: float, random: np.random.Generator) -> Floats:
    """Return one phone's samples, faded at both ends."""
    result = np.zeros(count)
    if name in VOICED:
        result += LOUDNESS.get(name, 1.0) * voiced(VOICED[name], count, rate, pitch)
    if name in NOISE:
        centre, width, strength = NOISE[name]
        hiss = band(random.normal(0, 1, count), centre, width, rate)
        if name in STOPS:  # silence, then a burst
            hiss[: 2 * count // 3] = 0
        result += strength * hiss / max(1e-9, np.abs(hiss).max())
    fade = min(count // 2, rate // 100)
    ramp = np.linspace(0, 1, fade)
    result[:fade] *= ramp
    result[count - fade :] *= ramp[::-1]
    return result


def voiced(formants: tuple[int, int, int], count: int, rate: int, pitch: float) -> Floats:
    """Return harmonics of a falling pitch, each as loud as the formants let it through."""
    time = np.arange(count) / rate
    phase = 2 * np.pi * np.cumsum(pitch * (1 - 0.1 * time)) / rate
    result = np.zeros(count)
    for harmonic in range(1, int(min(4000, rate / 2) / pitch)):
        frequency = harmonic * pitch
        gain = sum(
            weight / (1 + ((frequency - formant) / width) ** 2)
            for formant, width, weight in zip(formants, WIDTHS, (1.0, 0.6, 0.3), strict=True)
        )
        result += gain / harmonic**0.5 * np.sin(harmonic * phase)
    return np.asarray(result / max(1e-9, np.abs(result).max()))


def band(noise: Floats, centre: int, width: int, rate: int) -> Floats:
    """Return noise (n,) limited to a band with soft edges."""
    hertz = np.fft.rfftfreq(len(noise), 1 / rate)
    shape = np.exp(-0.5 * ((hertz - centre) / (width / 2)) ** 2)
    return np.asarray(np.fft.irfft(np.fft.rfft(noise) * shape, len(noise)))
