# SPDX-License-Identifier: GPL-3.0-or-later
"""Lips compared with video."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from model.errors import ConfigError
from model.evaluation import video_lips
from model.phones.phonemes import SOUNDS, Phone
from model.phones.styles import TIMING
from model.recipes.corpus import fit
from tests.shared import shared

PHONES = [["SIL", 0, 0.4], ["B", 0.4, 0.5], ["AA", 0.5, 0.8], ["P", 0.8, 0.9], ["AE", 0.9, 1.2],
          ["M", 1.2, 1.3], ["AY", 1.3, 1.6], ["SIL", 1.6, 2.0]]  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    """One made-up recording: lips that shut at B, P and M, 40 ms of offset."""
    times = (np.arange(50) + 0.5) / 25
    inner = np.full(50, 0.1)
    for _, start, end in (phone for phone in PHONES if phone[0] in "BPM"):
        inner[(times > start - 0.02) & (times < end + 0.06)] = 0.0
    soundfile.write(tmp_path / "one.wav", np.sin(np.arange(32000)) * 0.1, 16000)
    np.savez(
        tmp_path / "one.npz", fps=25.0, inner=inner, width=0.5 + inner, jaw=inner, offset_ms=40
    )
    words = {"words": [["all", 0, 2, PHONES]]}
    (tmp_path / "one.phones.json").write_text(json.dumps(words), encoding="utf-8")
    return tmp_path


class Meter:
    """Measures controls without a head."""

    def measure(self, controls, fps):
        from model.phones.mouth_opening import lip_opening

        return video_lips.Lips(lip_opening(controls), None, fps)


def test_offsets_move_the_video(folder):
    (clip,) = video_lips.read(folder)
    assert clip.times[0] == pytest.approx(0.02 - 0.04) and len(clip.phones) == 8


def test_the_measured_lips_score_perfectly(folder):
    (clip,) = video_lips.read(folder)
    found = video_lips.score_curves(clip, clip.opening, clip.width)
    assert found["r"] == pytest.approx(1) and found["width r"] == pytest.approx(1)
    assert found["closures"] == 1 and found["shut vowels"] == 0


def test_a_shift_is_found_as_lag(folder):
    (clip,) = video_lips.read(folder)
    late = np.interp(np.arange(250) / 100, clip.times + 0.03, clip.opening)
    found = video_lips.score(clip, video_lips.Lips(late, None, 100.0))
    assert found["lag"] == pytest.approx(-0.03) and found["best r"] > found["r"]


def test_the_table_has_all_rows(folder):
    result = video_lips.report(folder, video_lips.energy_lips, meter=Meter())
    assert set(result["mean"]) == {"model", "log energy", "true phones", "real lips"}
    assert result["mean"]["true phones"]["closures"] == 1
    assert result["mean"]["model"]["r"] == result["mean"]["log energy"]["r"]
    table = video_lips.format_table(result)
    assert "| real lips | 1.00 |" in table and "–" in table
    json.dumps(result)


def test_a_still_mouth_has_no_correlation(folder):
    (clip,) = video_lips.read(folder)
    found = video_lips.score(clip, video_lips.Lips(np.zeros(60), None, 30.0))
    assert np.isnan(found["r"]) and np.isnan(found["best r"])


def test_an_empty_or_broken_folder_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no measured lips"):
        video_lips.read(tmp_path)
    np.savez(tmp_path / "one.npz", fps=25.0)
    with pytest.raises(ConfigError, match="cannot be read"):
        video_lips.read(tmp_path)


def test_our_gestures_on_true_phones_match_real_lips():
    """The teacher: mean over six GRID clips, closures, jitter."""
    folder = shared("data/lips_grid")
    result = video_lips.report(folder, video_lips.energy_lips, meter=Meter())
    teacher = result["mean"]["true phones"]
    assert teacher["r"] > 0.65 > result["mean"]["log energy"]["r"]
    assert teacher["closures"] >= 0.9 and teacher["shut vowels"] <= 0.05
    assert 0.5 <= teacher["jitter"] <= 1.2


def test_the_bundled_model_moves_lips_as_people_outside_its_corpus_do():
    """On seven clips that no recipe was fitted on: at lag 0, with closures, as wide as people."""
    mean = video_lips.evaluate(shared("data/lips_other"), "bundled", device="cpu")["mean"]
    ours, real = mean["model"], mean["real lips"]
    assert ours["r"] > 0.76 > mean["true phones"]["r"] > mean["log energy"]["r"]
    assert abs(ours["lag"]) <= 0.015 and ours["width r"] > 0.6
    assert ours["closures"] >= 0.9 and ours["shut vowels"] <= 0.05
    assert 0.5 * real["p95"] < ours["p95"] < 1.2 * real["p95"]


def test_pauses_between_words_are_counted_by_their_middles(folder):
    (clip,) = video_lips.read(folder)
    phones = (Phone("AA", 0, 0.4), Phone("SIL", 0.4, 0.7), Phone("SIL", 0.7, 1.2),
              Phone("AA", 1.2, 2.0))  # fmt: skip
    paused = replace(clip, phones=phones)
    for level, apart in ((0.0, 0.0), (0.08, 1.0)):
        opening = np.where((paused.times > 0.6) & (paused.times < 1.0), level, 0.1)
        found = video_lips.score_curves(paused, opening, None)
        assert (found["apart 0.6"], found["#apart 0.6"]) == (apart, 1)
        assert found["#apart 1"] == 0 and np.isnan(found["apart 1"])


def test_speakers_count_alike_and_every_sound_counts_once():
    one = {"r": 0.9, "closures": 1.0, "#closures": 9.0}
    two = {"r": 0.5, "closures": 0.0, "#closures": 1.0}
    clips = {"a/1": {"model": one}, "a/2": {"model": one}, "b/1": {"model": two}}
    mean = video_lips.means(clips, {"a/1": "a", "a/2": "a", "b/1": "b"})["model"]
    assert mean["r"] == pytest.approx(0.7)
    assert mean["closures"] == pytest.approx(18 / 19) and mean["#closures"] == 19


def test_fitting_starts_from_the_table_and_improves_on_it(folder):
    clips = video_lips.read(folder)
    layout = fit.Layout(("AA", "B"), 1)
    timing, sounds = layout.model(np.zeros(layout.size))
    assert timing == TIMING and sounds == dict(SOUNDS)
    better = video_lips.score(clips[0], fit.opening(clips[0], *fit.fit(clips)))
    assert better["r"] > video_lips.score(clips[0], fit.opening(clips[0], TIMING, SOUNDS))["r"]
