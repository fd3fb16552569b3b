# SPDX-License-Identifier: GPL-3.0-or-later
"""An idle face: blinks like people's, small glances and brows, at rest at both ends."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from diffspeaker_blender.motion.idle import CONTROLS, idle


@given(seed=st.integers(0, 10**6), frames=st.integers(0, 400), fps=st.sampled_from([24, 30, 60]))
@settings(max_examples=40, deadline=None)
def test_it_keeps_its_range_and_rests_at_both_ends(seed: int, frames: int, fps: float) -> None:
    """Values within 0..1, nothing at the ends, left and right blink together."""
    curves = idle(frames, fps, seed)
    assert curves.shape == (frames, len(CONTROLS)) and np.isfinite(curves).all()
    assert curves.min(initial=0) >= 0 and curves.max(initial=0) <= 1
    if frames:
        assert not curves[[0, -1]].any() and np.array_equal(curves[:, 0], curves[:, 1])
    if frames > 4:
        assert curves[-4:, 2:].max() < 0.02, "eyes and brows come to rest before the end"


def test_blinks_are_as_frequent_as_peoples() -> None:
    """Ten to thirty a minute, whole ones."""
    lids = idle(60 * 60 * 5, 60.0, 3)[:, 0]
    blinks = np.sum((lids[1:] > 0.5) & (lids[:-1] <= 0.5))
    assert 50 <= blinks <= 150 and lids.max() > 0.9
