# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring sound of any rate to 16 kHz, block by block, with numpy alone.

Windows of four seconds are taken to their spectrum, cut off where both rates can follow, and
brought back at the other rate; the middle three seconds of each are kept. Whole seconds hold whole
numbers of samples at any rate, so nothing is interpolated and no time is shifted. The cut-off falls
as a cosine between 91 and 100 % of the lower Nyquist frequency; what it rings at half a second's
distance is below -140 dB, so windows join exactly.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

RATE = 16_000
WINDOW, KEPT = 4, 3  # seconds
PASSED = 0.9127  # share of the lower Nyquist frequency that passes whole, as in soxr's HQ


class Resampler:
    """Samples at one rate in, in blocks of any size; samples at 16 kHz out."""

    def __init__(self, rate: int) -> None:
        """`rate` is the incoming one, in Hz."""
        self.rate = rate
        self._lead = rate // 2  # samples before those that a window is kept for
        self._held = np.zeros(self._lead, np.float32)
        self._came = 0
        self._given = 0

    def push(self, block: Array) -> Array:
        """Return what can be said for certain after another block (n,)."""
        self._came += len(block)
        if self.rate == RATE:
            return np.asarray(block, np.float32)
        self._held = np.concatenate([self._held, np.asarray(block, np.float32)])
        parts = []
        while len(self._held) >= WINDOW * self.rate:
            parts.append(self._middle(self._held[: WINDOW * self.rate]))
            self._held = self._held[KEPT * self.rate :]
        self._given += KEPT * RATE * len(parts)
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)

    def finish(self) -> Array:
        """Return the rest: in all ⌈n · 16000 / rate⌉ samples."""
        if self.rate == RATE:
            return np.zeros(0, np.float32)
        missing = -(-self._came * RATE // self.rate) - self._given
        parts = [np.zeros(0, np.float32)]
        while missing > sum(map(len, parts)):
            window = self._held[: WINDOW * self.rate]
            parts.append(self._middle(np.pad(window, (0, WINDOW * self.rate - len(window)))))
            self._held = self._held[KEPT * self.rate :]
        return np.concatenate(parts)[:missing]

    def _middle(self, window: Array) -> Array:
        """Return what starts `_lead` samples into a window (WINDOW · rate,): (KEPT · 16000,)."""
        cut = WINDOW * min(self.rate, RATE) // 2  # the bin of the lower Nyquist frequency
        spectrum = np.fft.rfft(window)[: cut + 1]
        beyond = (np.arange(cut + 1) / cut - PASSED) / (1 - PASSED)
        spectrum *= 0.5 + 0.5 * np.cos(np.pi * np.clip(beyond, 0.0, 1.0))
        first = self._lead * RATE / self.rate
        if first % 1:  # at an odd rate the start falls between two samples: turn it onto one
            spectrum *= np.exp(2j * np.pi * np.arange(cut + 1) * (first % 1) / (WINDOW * RATE))
        whole = np.fft.irfft(spectrum, WINDOW * RATE)[int(first) : int(first) + KEPT * RATE]
        return (whole * (RATE / self.rate)).astype(np.float32)


def resample(samples: Array, rate: int) -> Array:
    """Return samples (n,) of any rate at 16 kHz."""
    stream = Resampler(rate)
    return np.concatenate([stream.push(samples), stream.finish()])
