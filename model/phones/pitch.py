# SPDX-License-Identifier: GPL-3.0-or-later
"""The pitch of a voice by autocorrelation, in numpy alone; good enough to find accents."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

WINDOW, HOP = 0.040, 0.010  # seconds
LOWEST, HIGHEST = 65.0, 420.0  # Hz
VOICED = 0.5  # normalised autocorrelation from which a frame counts as voiced
LOW_RATE = 8000.0
BLOCK = 2048  # frames analysed at once


def semitones(samples: Array, rate: float) -> tuple[Array, Array]:
    """Return (times (N,) s, semitones (N,) above the clip's median pitch; NaN where unvoiced)."""
    times, hertz = fundamental(samples, rate)
    voiced = np.isfinite(hertz)
    if not voiced.any():
        return times, hertz
    return times, 12 * np.log2(hertz / np.median(hertz[voiced]))


def fundamental(samples: Array, rate: float) -> tuple[Array, Array]:
    """Return (times (N,) s, fundamental frequency (N,) Hz; NaN where unvoiced or silent).

    The normalised autocorrelation of 40 ms windows every 10 ms, corrected for the window's own
    (Boersma 1993); the highest peak between 65 and 420 Hz wins if it is high enough.
    """
    step = max(int(rate // LOW_RATE), 1)
    low = samples[: len(samples) // step * step].reshape(-1, step).mean(1)
    rate = rate / step
    size, hop = round(WINDOW * rate), round(HOP * rate)
    count = (len(low) - size) // hop + 1
    if count < 1:
        return np.zeros(0), np.zeros(0)
    windows = np.lib.stride_tricks.sliding_window_view(low, size)[::hop]
    taper = np.hanning(size)
    own = autocorrelation(taper[None])
    quiet = 1e-4 * float(np.mean(low**2)) + 1e-10
    shortest, longest = int(rate / HIGHEST), int(rate / LOWEST)
    hertz = np.full(count, np.nan)
    for start in range(0, count, BLOCK):
        part = windows[start : start + BLOCK]
        part = (part - part.mean(1, keepdims=True)) * taper
        found = autocorrelation(part) / np.maximum(own, 1e-3)
        band = found[:, shortest:longest]
        best = band.argmax(1)
        rows = np.arange(len(part))
        voiced = (band[rows, best] > VOICED) & ((part**2).mean(1) > quiet)
        hertz[start : start + BLOCK] = np.where(voiced, rate / (best + shortest), np.nan)
    return np.asarray((np.arange(count) * hop + size / 2) / rate), hertz


def autocorrelation(windows: Array) -> Array:
    """Return the autocorrelation of every row, 1 at lag 0 (0 where the row is silent)."""
    size = windows.shape[1]
    spectrum = np.fft.rfft(windows, 2 * size)
    found = np.fft.irfft(np.abs(spectrum) ** 2)[:, :size]
    return np.asarray(found / np.maximum(found[:, :1], 1e-12))
