# SPDX-License-Identifier: GPL-3.0-or-later
"""Sound of any rate arrives at 16 kHz: what both rates can say is exact, the rest is gone."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.resampling import RATE, Resampler, resample


def tones(rate: int, at: int, seconds: float) -> np.ndarray:
    """Return tones up to 0.9 of what both rates can say, sampled at `at` Hz."""
    top = min(rate, RATE) / 2
    time = np.arange(int(np.ceil(seconds * at))) / at
    shares = (0.01, 0.1, 0.3, 0.5, 0.7, 0.9)
    return sum(np.sin(2 * np.pi * share * top * time + share) for share in shares) / len(shares)


@pytest.mark.parametrize("rate", [1000, 8000, 11025, 22050, 44100, 44099, 48000, 96000, 192000])
def test_what_both_rates_can_say_is_exact_and_on_time(rate):
    out = resample(tones(rate, rate, 7.3).astype(np.float32), rate)
    expected = tones(rate, RATE, 7.3)
    assert abs(len(out) - len(expected)) <= 1
    inside = slice(1600, min(len(out), len(expected)) - 1600)
    near = 5e-6 if rate >= 8000 else 1e-4  # a narrow band rings longer
    np.testing.assert_allclose(out[inside], expected[inside], atol=near)


@pytest.mark.parametrize("rate", [44100, 48000, 96000])
def test_what_16_khz_cannot_say_leaves_no_alias(rate):
    time = np.arange(5 * rate) / rate
    for hertz in (8100, 9000, 12000, 20000):
        out = resample(np.sin(2 * np.pi * hertz * time).astype(np.float32), rate)
        assert np.abs(out[1600:-1600]).max() < 1e-4


@settings(max_examples=25, deadline=None)
@given(
    rate=st.integers(1000, 200_000),
    count=st.integers(1, 60_000),
    cuts=st.lists(st.integers(0, 60_000), max_size=6),
)
def test_blocks_of_any_size_give_what_one_block_gives(rate, count, cuts):
    samples = np.random.default_rng(count).standard_normal(count).astype(np.float32)
    whole = resample(samples, rate)
    assert len(whole) == -(-count * RATE // rate)
    stream = Resampler(rate)
    edges = [0, *sorted(min(cut, count) for cut in cuts), count]
    parts = [stream.push(samples[a:b]) for a, b in itertools.pairwise(edges)]
    np.testing.assert_allclose(np.concatenate([*parts, stream.finish()]), whole, atol=1e-6)


def test_16_khz_passes_untouched():
    samples = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    np.testing.assert_array_equal(resample(samples, RATE), samples)
