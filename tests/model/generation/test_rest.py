# SPDX-License-Identifier: GPL-3.0-or-later
"""Lips in pauses: shut as early as is asked, together in long silences, never in speech."""

from __future__ import annotations

import numpy as np
import pytest

from model import audio
from model.generation.rest import rest_lips, shortest_pause, shut
from model.rig.controls import CONTROLS

TIMES = np.arange(150) / 30
JAW, SMILE = CONTROLS.index("jawOpen"), CONTROLS.index("mouthSmileLeft")


def middle(level: np.ndarray, start: float, end: float) -> np.ndarray:
    quarter = (end - start) / 4
    return level[(start + quarter <= TIMES) & (end - quarter >= TIMES)]


@pytest.mark.parametrize(
    ("length", "rest", "together"),
    [(0.4, 0.5, False), (0.6, 0.5, False), (1.0, 0.5, True), (2.0, 0.0, True), (1.0, 0.0, False),
     (0.2, 1.0, True), (0.4, 1.0, True)],
)  # fmt: skip
def test_rest_says_how_long_a_pause_must_be(length, rest, together):
    """As people at 0.5: apart between words, together over a second; 0 and 1 are the extremes."""
    level = shut(TIMES, [(1.5, 1.5 + length)], rest)
    assert (middle(level, 1.5, 1.5 + length).min() > 0.9) == together
    assert level[TIMES < 1.5].max() == 0 and level[1.5 + length <= TIMES].max() == 0


def test_a_clip_begins_and_ends_shut():
    """Silence before the first word and after the last holds to the clip's end."""
    level = shut(TIMES, [(0.0, 0.6), (4.2, 5.0)], 0.5)
    assert level[0] == level[-1] == 1.0 and level[30:120].max() == 0


def test_the_mouth_rests_and_the_face_does_not():
    """At rest jaw and lips are neutral; a smile and the eyes stay."""
    controls = np.full((3, len(CONTROLS)), 0.4, np.float32)
    still = rest_lips(controls, CONTROLS, np.array([0.0, 0.5, 1.0], np.float32))
    assert still[:, JAW] == pytest.approx([0.4, 0.2, 0.0])
    assert (still[:, SMILE] == np.float32(0.4)).all() and (still[:, 0] == np.float32(0.4)).all()


def test_more_rest_never_parts_lips():
    """The control is monotone."""
    levels = [shut(TIMES, [(1.0, 1.5), (2.0, 3.1)], rest) for rest in np.linspace(0, 1, 11)]
    assert all((more >= less - 1e-6).all() for less, more in zip(levels, levels[1:], strict=False))
    assert shortest_pause(0.5) == pytest.approx(0.79)


def test_pauses_are_found_in_the_sound():
    """Quiet between two bursts, to a hundredth of a second; none in a steady tone."""
    time = np.arange(3 * audio.RATE) / audio.RATE
    tone = np.sin(2 * np.pi * 200 * time).astype(np.float32) * 0.2
    spoken = np.where((time > 1.0) & (time < 1.7), 0, tone).astype(np.float32)
    ((start, end),) = audio.pauses(spoken)
    assert (start, end) == pytest.approx((1.0, 1.7), abs=0.021)
    assert audio.pauses(tone) == []
    assert audio.pauses(np.zeros(0, np.float32)) == []
