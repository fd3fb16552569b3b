"""Lips compared with video."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile

from model.errors import ConfigError
from model.evaluation import video_lips
from model.phones.phonemes import SOUNDS
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
    assert set(result["median"]) == {"model", "log energy", "true phones", "real lips"}
    assert result["median"]["true phones"]["closures"] == 1
    assert result["median"]["model"]["r"] == result["median"]["log energy"]["r"]
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
    """The teacher: median over six GRID clips, closures, jitter."""
    folder = shared("data/lips_grid")
    result = video_lips.report(folder, video_lips.energy_lips, meter=Meter())
    teacher, real = (result["median"][who] for who in ("true phones", "real lips"))
    assert teacher["r"] > 0.7 > result["median"]["log energy"]["r"]
    assert teacher["closures"] >= 0.9 and teacher["shut vowels"] <= 0.05
    assert teacher["jitter"] <= 1.1 * real["jitter"]


def test_fitting_starts_from_the_table_and_improves_on_it(folder):
    clips = video_lips.read(folder)
    layout = fit.Layout(("AA", "B"), 1)
    timing, sounds = layout.model(np.zeros(layout.size))
    assert timing == TIMING and sounds == dict(SOUNDS)
    better = video_lips.score(clips[0], fit.opening(clips[0], *fit.fit(clips)))
    assert better["r"] > video_lips.score(clips[0], fit.opening(clips[0], TIMING, SOUNDS))["r"]
