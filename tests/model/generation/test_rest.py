# SPDX-License-Identifier: GPL-3.0-or-later
"""Lips in pauses: shut as early as is asked, together in long silences, never in speech."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import soundfile

from model import audio
from model.generation.generate import GenerateRequest, generate
from model.generation.rest import parted, rest_lips, shortest_pause, shut
from model.generation.session import Session
from model.generation.windows import Sampled, crisper
from model.resampling import RATE
from model.rig.controls import CONTROLS
from tests.model import tiny

TIMES = np.arange(150) / 30
JAW, SMILE = CONTROLS.index("jawOpen"), CONTROLS.index("mouthSmileLeft")


def middle(level: np.ndarray, start: float, end: float) -> np.ndarray:
    quarter = (end - start) / 4
    return level[(start + quarter <= TIMES) & (end - quarter >= TIMES)]


@pytest.mark.parametrize(
    ("length", "rest", "together"),
    [(0.4, 0.5, False), (0.6, 0.5, False), (1.0, 0.5, True), (2.0, 0.0, True), (1.2, 0.0, False),
     (0.2, 1.0, True), (0.4, 1.0, True)],
)  # fmt: skip
def test_rest_says_how_long_a_pause_must_be(length, rest, together):
    """As people at 0.5: apart between words, together over a second; 0 and 1 are the extremes."""
    level = shut(TIMES, [(1.5, 1.5 + length)], rest)
    assert (middle(level, 1.5, 1.5 + length).min() > 0.9) == together
    assert level[TIMES < 1.5].max() == 0 and level[1.5 + length <= TIMES].max() == 0


def test_a_clip_begins_and_ends_shut():
    """Silence before the first word and after the last holds to the clip's end."""
    level = shut(TIMES, [(0.0, 1.0), (4.0, 5.0)], 0.5)
    assert level[0] == level[-1] == 1.0 and level[30:120].max() == 0
    assert shut(TIMES, [(0.0, 0.6), (4.4, 5.0)], 0.5).max() == 0  # the network knows better


def test_the_mouth_rests_and_the_face_does_not():
    """At rest jaw and lips are neutral; a smile and the eyes stay."""
    controls = np.full((3, len(CONTROLS)), 0.4, np.float32)
    still = rest_lips(controls, CONTROLS, np.array([0.0, 0.5, 1.0], np.float32))
    assert still[:, JAW] == pytest.approx([0.4, 0.2, 0.0])
    assert (still[:, SMILE] == np.float32(0.4)).all() and (still[:, 0] == np.float32(0.4)).all()


def test_less_rest_parts_lips_that_the_network_would_shut():
    """At 0 a pause of a second stays apart, at 0.5 it is as the network has it."""
    controls = np.zeros((len(TIMES), len(CONTROLS)), np.float32)
    controls[:, CONTROLS.index("mouthClose")] = 0.8
    pauses = [(1.5, 2.5)]
    for rest, least in ((0.0, 0.15), (0.25, 0.08), (0.5, 0.0)):
        level, apart = shut(TIMES, pauses, rest), parted(TIMES, pauses, rest)
        jaw = rest_lips(controls, CONTROLS, level, apart)[:, JAW]
        assert jaw[60] >= least and jaw[:45].max() == jaw[76:].max() == 0
        if rest == 0.5:
            assert apart.max() == 0


def test_more_rest_never_parts_lips():
    """The control is monotone."""
    levels = [shut(TIMES, [(1.0, 1.5), (2.0, 3.1)], rest) for rest in np.linspace(0, 1, 11)]
    assert all((more >= less - 1e-6).all() for less, more in itertools.pairwise(levels))
    assert shortest_pause(0.5) == pytest.approx(0.91)


def test_pauses_are_found_in_the_sound():
    """Quiet between two bursts, to a hundredth of a second; none in a steady tone."""
    time = np.arange(3 * RATE) / RATE
    tone = np.sin(2 * np.pi * 200 * time).astype(np.float32) * 0.2
    spoken = np.where((time > 1.0) & (time < 1.7), 0, tone).astype(np.float32)
    ((start, end),) = audio.pauses(spoken)
    assert (start, end) == pytest.approx((1.0, 1.7), abs=0.021)
    assert audio.pauses(tone) == []
    assert audio.pauses(np.zeros(0, np.float32)) == []
    assert audio.pauses(np.zeros(16000, np.float32)) == [(0.0, 1.0)]


def test_pauses_are_found_over_noise_and_past_a_click():
    """A noise floor 25 dB below speech, a click of 20 ms: still one pause; none in steady noise."""
    random = np.random.default_rng(0)
    noise = 0.008 * random.standard_normal(3 * RATE).astype(np.float32)
    time = np.arange(len(noise)) / RATE
    spoken = noise + np.where((time > 1.0) & (time < 2.0), 0, 0.2 * np.sin(1200 * time))
    spoken[24_000:24_320] += 0.1
    ((start, end),) = audio.pauses(spoken.astype(np.float32))
    assert (start, end) == pytest.approx((1.0, 2.0), abs=0.04)
    assert audio.pauses(noise) == []


def test_a_request_rests_as_asked(tmp_path):
    """From the sound to the controls: a pause of half a second, parted, then shut."""
    model = tiny.checkpoint(tmp_path / "m.safetensors", tiny.listening())
    time = np.arange(2 * RATE) / RATE
    tone = 0.2 * np.sin(1200 * time) * ((time < 0.7) | (time > 1.3))
    soundfile.write(tmp_path / "a.wav", tone, RATE)
    session, moved = Session("cpu"), []
    for rest in (0.0, 1.0):
        request = GenerateRequest(str(tmp_path / "a.wav"), checkpoint=str(model), rest=rest)
        moved.append(generate(request, session=session).controls)
    mouth = [i for i, name in enumerate(CONTROLS) if name.startswith(("jaw", "mouthP", "lip"))]
    assert moved[1][30, mouth].max() == 0 < moved[0][30, mouth].max()
    np.testing.assert_array_equal(moved[0][:20], moved[1][:20])


def test_mouths_move_crisply_and_eyes_as_they_were():
    """A corner of the jaw's curve is sharpened by half its bend; straight lines and blinks stay."""
    random = np.random.default_rng(0)
    features = random.standard_normal((20, 3)).astype(np.float32)
    weight = random.standard_normal((len(CONTROLS), 3)).astype(np.float32)
    before = Sampled(features, weight, np.zeros(len(CONTROLS), np.float32), 30.0, {})
    after = crisper(before, CONTROLS).motion()
    jaw = before.motion()[:, JAW]
    bend = jaw[2:] - 2 * jaw[1:-1] + jaw[:-2]
    np.testing.assert_allclose(after[1:-1, JAW], jaw[1:-1] - 0.25 * bend, atol=1e-5)
    np.testing.assert_allclose(after[:, 0], before.motion()[:, 0], atol=1e-6)


def test_lead_moves_the_face_before_the_sound(tmp_path):
    """Two frames of lead: what was at frame i + 2 is at i."""
    model = tiny.checkpoint(tmp_path / "m.safetensors", tiny.listening())
    soundfile.write(tmp_path / "a.wav", 0.1 * np.sin(np.arange(32000) ** 1.3), RATE)
    session = Session("cpu")
    one, two = (
        generate(
            GenerateRequest(str(tmp_path / "a.wav"), checkpoint=str(model), lead=lead, rest=0.0),
            session=session,
        ).controls
        for lead in (0.0, 2 / 30)
    )
    np.testing.assert_allclose(two[:-2, JAW], one[2:, JAW], atol=1e-5)
