# SPDX-License-Identifier: GPL-3.0-or-later
"""The mel spectrogram and the positions that Whisper's encoder is fed with.

Written from the published description (Radford et al. 2022).

n samples at 16 kHz   M mel frames (100 a second)   S speech frames (50 a second)
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

RATE, FFT, HOP = 16_000, 400, 160
FLOOR = 8.0  # decades below the clip's loudest mel bin that still count
LEVEL = 1.0  # log10 power given to the loudest bin when a model is levelled: usual for read speech
CHUNK = 6_000  # mel frames per spectrogram piece


def log_mel(clip: Array, bins: int, levelled: bool) -> Array:
    """Return a clip's log-mel spectrogram and, as last row, log energy: (bins + 1, M), M even.

    Whisper's recipe: Hann window of 25 ms every 10 ms, power, mel filters, log10, no lower than 8
    under the clip's maximum, (x + 4) / 4. The energy is the log of the mels' mean, treated alike.
    """
    logs = _mel_power(clip, bins)
    np.log10(np.maximum(logs, 1e-10, out=logs), out=logs)
    peak = float(logs[:bins].max())
    if levelled and peak > -9.0:
        logs += LEVEL - peak
        peak = LEVEL
    np.maximum(logs, peak - FLOOR, out=logs)
    logs += 4.0
    logs /= 4.0
    return logs


def _mel_power(clip: Array, bins: int) -> Array:
    """Return mel power and, as last row, its mean: (bins + 1, M).

    The clip is read in pieces where it lies: an hour has 230 MB, and no copy of it is made.
    """
    half, hop = FFT // 2, 2 * HOP  # two mel frames make a speech frame
    length = max(hop, -(-len(clip) // hop) * hop)
    frames = length // HOP
    filters, window = mel_filters(bins), hann_window()
    result = np.empty((bins + 1, frames), np.float32)
    for start in range(0, frames, CHUNK):
        end = min(frames, start + CHUNK)
        part = _mirrored(clip, length, start * HOP - half, (end - 1) * HOP + FFT - half)
        rows = np.lib.stride_tricks.sliding_window_view(part, FFT)[::HOP] * window
        spectrum = np.fft.rfft(rows)  # (M', FFT/2 + 1)
        power = (np.square(spectrum.real) + np.square(spectrum.imag)).astype(np.float32)
        result[:bins, start:end] = filters @ power.T
    result[bins] = result[:bins].mean(0)
    return result


def _mirrored(clip: Array, length: int, first: int, last: int) -> Array:
    """Return samples first:last of a clip that is silent up to `length`, and mirrored beyond it."""
    places = np.abs(np.arange(first, last))
    places = np.where(places >= length, 2 * (length - 1) - places, places)
    inside = (places >= 0) & (places < len(clip))  # shorter than the mirror: silent there
    return np.where(inside, clip[np.where(inside, places, 0)], np.float32(0))


@lru_cache(maxsize=1)
def hann_window() -> Array:
    """Return the periodic Hann window (FFT,)."""
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FFT) / FFT)).astype(np.float32)


@lru_cache(maxsize=4)
def mel_filters(bins: int) -> Array:
    """Return triangular mel filters (bins, FFT/2 + 1), each of unit area, on Slaney's mel scale.

    Linear below 1 kHz (200/3 Hz per mel), logarithmic above (factor 6.4 in 27 mels).
    """
    step = math.log(6.4) / 27.0
    top = 15.0 + math.log(RATE / 2 / 1000.0) / step
    mels = np.linspace(0.0, top, bins + 2)
    edges = np.where(mels < 15.0, mels * 200.0 / 3.0, 1000.0 * np.exp(step * (mels - 15.0)))
    hertz = np.fft.rfftfreq(FFT, 1.0 / RATE)[None, :]
    rise = (hertz - edges[:-2, None]) / np.diff(edges)[:-1, None]
    fall = (edges[2:, None] - hertz) / np.diff(edges)[1:, None]
    area = 2.0 / (edges[2:] - edges[:-2])[:, None]
    return np.asarray(np.maximum(0.0, np.minimum(rise, fall)) * area, np.float32)


@lru_cache(maxsize=4)
def sinusoids(positions: int, width: int) -> Array:
    """Return Whisper's positions (positions, width): sines of every rate, then cosines."""
    half = width // 2
    rates = np.exp(-math.log(10000.0) / (half - 1) * np.arange(half, dtype=np.float32))
    angles = np.arange(positions, dtype=np.float32)[:, None] * rates[None, :].astype(np.float32)
    return np.concatenate((np.sin(angles), np.cos(angles)), 1).astype(np.float32)
