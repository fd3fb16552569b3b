# SPDX-License-Identifier: GPL-3.0-or-later
"""Few keys: they hold what they promise, on any curves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffspeaker_blender.motion.sparse import Fitter, Wishes, played


def wandering(seed: int, frames: int, curves: int) -> np.ndarray:
    """Smooth noise (F, C) with rests."""
    random = np.random.default_rng(seed)
    raw = random.normal(0, 1, (frames + 20, curves))
    window = np.hanning(9) / np.hanning(9).sum()
    smooth = np.stack([np.convolve(raw[:, k], window, "valid") for k in range(curves)], 1)
    return np.maximum(smooth[:frames], 0)


@given(seed=st.integers(0, 1000), frames=st.integers(2, 90), scale=st.floats(0.1, 3))
@settings(max_examples=40, deadline=None)
def test_keys_lie_on_the_curve_in_order_and_hold_its_range(
    seed: int, frames: int, scale: float
) -> None:
    """First and last row have keys, values are the curve's own, nothing strays far beyond them."""
    curves = wandering(seed, frames, 3)
    fitter = Fitter(curves, np.full(3, 0.1), [[0], [1, 2]], 30.0)
    keys = fitter.fit(scale)
    fine = np.linspace(0, frames - 1, 10 * frames)
    for column, found in enumerate(keys):
        rows = found[:, 0].astype(int)
        assert rows[0] == 0 and rows[-1] == frames - 1 and np.all(np.diff(rows) > 0)
        np.testing.assert_allclose(found[:, 1], curves[rows, column])
        shown = played(found, fine)
        assert shown.min() >= curves[:, column].min() - 0.05 - 0.2 * scale
        assert shown.max() <= curves[:, column].max() + 0.05 + 0.2 * scale
    assert np.array_equal(keys[1][:, 0], keys[2][:, 0]), "a group shares its keys"


@given(seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_a_wider_tolerance_never_needs_more_keys_by_much(seed: int) -> None:
    """Ten times the tolerance leaves clearly fewer keys; the error stays in proportion."""
    curves = wandering(seed, 240, 2)
    fitter = Fitter(curves, np.full(2, 0.05), [[0], [1]], 30.0)
    fine, coarse = fitter.fit(1.0), fitter.fit(10.0)
    assert sum(map(len, coarse)) < 0.7 * sum(map(len, fine))
    for column in range(2):
        error = np.abs(played(fine[column], np.arange(240)) - curves[:, column])
        assert np.percentile(error, 95) < 0.1


def test_wishes_are_kept() -> None:
    """Pinned rows have keys, and a key at a level row is level."""
    curves = wandering(3, 120, 1)
    wishes = Wishes.none(120, 1)
    wishes.pinned[[31, 47], 0] = True
    wishes.flat[[31, 47], 0] = True
    keys = Fitter(curves, np.full(1, 5.0), [[0]], 30.0, wishes).fit(1.0)[0]
    assert {31, 47} <= set(keys[:, 0].astype(int))
    assert np.all(keys[np.isin(keys[:, 0], [31, 47]), 2] == 0)


def test_a_hold_is_two_keys_and_a_bump_three() -> None:
    """A curve that rests, rises and falls once is keyed as an animator would."""
    rows = np.arange(200)
    bump = 0.5 * (1 - np.cos(np.clip((rows - 90) / 20, 0, 1) * 2 * np.pi))
    keys = Fitter(bump[:, None], np.full(1, 0.08), [[0]], 30.0).fit(1.0)[0]
    inside = keys[(keys[:, 0] > 80) & (keys[:, 0] < 120)]
    assert 3 <= len(inside) <= 5 and inside[:, 1].max() == pytest.approx(1.0)
    assert len(keys) <= 9, "six seconds is the longest hold"
