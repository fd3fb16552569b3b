# SPDX-License-Identifier: GPL-3.0-or-later
"""What the face does beside the words."""

from __future__ import annotations

import numpy as np
import pytest

from model.phones.coarticulation import LIFE_CONTROLS, Phone, life_curves
from model.phones.nonverbal import find_accents
from model.phones.pitch import fundamental, semitones
from model.rig.controls import INDEX

RATE = 16000


def tone(seconds, hertz):
    """Return a buzz whose pitch (n,) or number follows ``hertz``."""
    phase = 2 * np.pi * np.cumsum(np.broadcast_to(hertz, int(seconds * RATE))) / RATE
    return sum(np.sin(k * phase) / k for k in range(1, 8)) * 0.1


def live(seconds=60.0, seed=0, phones=(), samples=(), **more):
    return life_curves(phones, samples, RATE, fps=30, frames=int(seconds * 30), seed=seed, **more)


def blinks(curves):
    """Return the frames in which a blink is deepest."""
    lid = curves[:, INDEX["eyeBlinkLeft"]]
    peak = (lid[1:-1] > 0.6) & (lid[1:-1] >= lid[:-2]) & (lid[1:-1] > lid[2:])
    return np.flatnonzero(peak) + 1


def test_only_the_life_controls_move_and_stay_weights():
    curves = live()
    others = np.setdiff1d(np.arange(curves.shape[1]), LIFE_CONTROLS)
    assert not curves[:, others].any()
    assert curves.min() >= 0 and curves.max() <= 1


def test_a_seed_decides_everything():
    assert np.array_equal(live(seed=4), live(seed=4))
    assert np.abs(live(seed=4) - live(seed=5)).max() > 0.5


def test_blinks_come_as_often_as_human_ones():
    counts = [len(blinks(live(seed=seed))) for seed in range(12)]
    assert 14 <= np.mean(counts) <= 30


def test_intervals_of_blinks_vary_like_human_ones():
    gaps = np.concatenate([np.diff(blinks(live(300, seed=seed))) / 30 for seed in range(4)])
    assert 0.35 < np.log(gaps).std() < 0.9
    assert gaps.min() > 0.3


def test_both_eyes_blink_together_and_look_the_same_way():
    curves = live()
    left, right = (curves[:, INDEX[f"eyeBlink{side}"]] for side in ("Left", "Right"))
    assert np.abs(left - right).max() < 0.3
    assert np.array_equal(curves[:, INDEX["eyeLookOutLeft"]], curves[:, INDEX["eyeLookInRight"]])


def test_blinks_wait_for_pauses():
    phones = []
    for k in range(30):
        phones += [Phone("AA", 2 * k, 2 * k + 1.6), Phone("SIL", 2 * k + 1.6, 2 * k + 2)]
    starts = np.array([p.start for p in phones if p.name == "SIL"])
    near = lambda curves: np.mean(  # noqa: E731
        [np.abs(starts - frame / 30).min() < 0.2 for frame in blinks(curves)]
    )
    assert near(live(phones=phones)) > near(live()) + 0.15


def test_a_pitch_accent_raises_the_brows():
    pitch = np.full(int(3 * RATE), 120.0)
    pitch[int(1.5 * RATE) : int(1.7 * RATE)] = 170.0
    phones = [Phone("AA", k / 10, (k + 1) / 10) for k in range(30)]
    samples = tone(3, pitch)
    accents = find_accents(phones, samples, RATE)
    assert len(accents) == 1 and 1.4 <= accents[0][0] <= 1.7
    raised = [
        live(3, seed=s, phones=phones, samples=samples)[30:70, INDEX["browInnerUp"]].max()
        for s in range(20)
    ]
    assert 0.4 < np.mean(np.array(raised) > 0.08) < 1.0


def test_styles_scale_liveliness():
    pitch = 120 + 60 * (np.sin(np.arange(4 * RATE) / RATE * 2 * np.pi) > 0.8)
    phones = [Phone("AA", k / 10, (k + 1) / 10) for k in range(40)]
    size = {
        style: np.mean([
            live(4, seed=s, phones=phones, samples=tone(4, pitch), style=style)[
                :, INDEX["browInnerUp"]
            ].max()
            for s in range(6)
        ])
        for style in ("mumbled", "neutral", "energetic")
    }  # fmt: skip
    assert size["mumbled"] < size["neutral"] < size["energetic"]


def test_the_lips_hardly_notice():
    smile = live(60)[:, INDEX["mouthSmileLeft"]]
    assert smile.max() < 0.2


@pytest.mark.parametrize("hertz", [80.0, 120.0, 210.0, 350.0])
def test_the_pitch_is_found(hertz):
    times, found = fundamental(tone(1, hertz), RATE)
    assert np.median(found) == pytest.approx(hertz, rel=0.03)
    assert np.abs(np.diff(times) - 0.01).max() < 1e-9


def test_noise_and_silence_have_no_pitch():
    noise = np.random.default_rng(0).normal(size=RATE)
    assert np.isfinite(fundamental(noise, RATE)[1]).mean() < 0.1
    assert not np.isfinite(semitones(np.zeros(RATE), RATE)[1]).any()
    assert len(semitones(np.zeros(10), RATE)[0]) == 0


@pytest.mark.parametrize("frames", [0, 1, 2])
def test_tiny_clips(frames):
    assert life_curves([], [], RATE, fps=30, frames=frames).shape[0] == frames
