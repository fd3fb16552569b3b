# SPDX-License-Identifier: GPL-3.0-or-later
"""Sound of every kind is heard, or refused in one sentence."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

from model import audio
from model.errors import AudioError, Cancelled
from tests.model import tiny


def tone(rate: int, seconds: float = 1.0, pitch: float = 440.0) -> np.ndarray:
    """Return a sine (n,)."""
    return 0.5 * np.sin(2 * np.pi * pitch * np.arange(round(rate * seconds)) / rate)


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 48000, 96000])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_any_rate_and_channels_give_the_same_tone(tmp_path, rate, channels):
    path = tmp_path / "ton.wav"
    soundfile.write(path, np.repeat(tone(rate)[:, None], channels, axis=1), rate)
    speech = audio.load(path)
    assert len(speech.samples) == audio.RATE
    assert speech.duration == 1.0
    inner = slice(800, -800)  # filters ring at the ends
    assert np.abs(speech.samples - tone(audio.RATE))[inner].max() < 2e-3


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".mp3", ".aiff"])
def test_every_common_format_is_read(tmp_path, suffix):
    path = tiny.sound(tmp_path / f"Ä ton{suffix}", 1.0, 44100, 2)
    speech = audio.load(path)
    assert abs(speech.duration - 1.0) < 0.1
    assert np.abs(speech.samples).max() > 0.1


def test_a_span_is_exact_to_the_sample_and_silent_outside(tmp_path):
    path = tmp_path / "a.wav"
    ramp = np.arange(16000) / 16000
    soundfile.write(path, ramp, 16000, subtype="FLOAT")
    inside = audio.load(path, (0.25, 0.5))
    assert np.array_equal(inside.samples, ramp[4000:12000].astype(np.float32))
    around = audio.load(path, (-0.5, 2.0))
    assert len(around.samples) == 32000
    assert not around.samples[:8000].any()
    assert not around.samples[24000:].any()
    assert np.array_equal(around.samples[8000:24000], ramp.astype(np.float32))


def test_channels_that_cancel_each_other_are_not_lost(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.stack([tone(16000), -tone(16000)], axis=1), 16000)
    assert np.abs(audio.load(path).samples).max() > 0.4


def test_clipping_silence_and_telephones_are_noticed(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.clip(8 * tone(8000), -1, 1), 8000)
    words = " ".join(audio.load(path).warnings)
    assert "clipped" in words
    assert "8 kHz" in words
    soundfile.write(path, np.zeros(8000), 16000)
    assert "silent" in " ".join(audio.load(path).warnings)


def test_one_sample_is_enough_to_go_on(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, [0.5], 48000)
    assert len(audio.load(path).samples) == 1


def broken(folder, kind):
    """Write a file that is no good sound."""
    path = folder / "kaputt.wav"
    if kind == "text":
        path.write_text("Dear diary, this is not a sound.", encoding="utf-8")
    elif kind == "empty":
        path.touch()
    elif kind == "header":
        soundfile.write(path, np.zeros(0), 16000)
    elif kind == "cut header":
        soundfile.write(path, tone(16000), 16000)
        path.write_bytes(path.read_bytes()[:20])
    elif kind == "folder":
        path.mkdir()
    elif kind == "not numbers":
        soundfile.write(path, np.full(16000, np.nan), 16000, subtype="FLOAT")
    elif kind == "one not a number":
        samples = tone(16000)
        samples[900] = np.inf
        soundfile.write(path, samples, 16000, subtype="FLOAT")
    return path


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("missing", "no sound file"),
        ("text", "not a sound file"),
        ("empty", "is empty"),
        ("header", "holds no sound"),
        ("cut header", "not a sound file"),
        ("folder", "is not a file"),
        ("not numbers", "not numbers"),
        ("one not a number", "not numbers"),
    ],
)
def test_what_is_no_sound_is_refused_in_a_sentence(tmp_path, kind, words):
    with pytest.raises(AudioError, match=words) as caught:
        audio.load(broken(tmp_path, kind))
    assert caught.value.hint


def test_a_file_that_is_cut_off_is_used_as_far_as_it_goes(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(16000, 2.0), 16000)
    path.write_bytes(path.read_bytes()[:32044])
    assert audio.load(path).duration == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("suffix", [".flac", ".ogg", ".mp3"])
def test_damaged_compressed_sound_never_crashes(tmp_path, suffix):
    path = tiny.sound(tmp_path / f"a{suffix}", 3.0, 44100)
    whole = bytearray(path.read_bytes())
    rng = np.random.default_rng(0)
    for position in rng.integers(200, len(whole), 300):
        whole[position] = rng.integers(256)
    for content in (bytes(whole), bytes(whole[: len(whole) // 2])):
        path.write_bytes(content)
        try:
            assert np.isfinite(audio.load(path).samples).all()
        except AudioError as error:
            assert "\n" not in error.message


def test_impossible_spans_and_lengths_are_refused(tmp_path):
    path = tiny.sound(tmp_path / "a.wav", 1.0)
    for span, words in (((5, 1), "ends before"), ((0, -1), "no length"), ((0, 1e6), "hours")):
        with pytest.raises(AudioError, match=words):
            audio.load(path, span)


def test_reading_can_be_cancelled(tmp_path):
    with pytest.raises(Cancelled):
        audio.load(tiny.sound(tmp_path / "a.wav"), cancelled=lambda: True)


def noise(seconds: float, level: float, seed: int = 0) -> np.ndarray:
    """Return white noise (n,) float32."""
    count = round(seconds * audio.RATE)
    return (level * np.random.default_rng(seed).normal(size=count)).astype(np.float32)


def test_the_gate_silences_pauses_and_leaves_speech_alone():
    speech = noise(1.0, 0.1)
    samples = np.concatenate([speech, noise(1.0, 3e-4, 1), speech])
    gated, silent = audio.gate(samples)
    assert 0.3 < silent < 0.36
    assert np.array_equal(gated[:15000], samples[:15000])
    assert np.array_equal(gated[-15000:], samples[-15000:])
    assert np.abs(gated[17600:30400]).max() == 0.0


def test_the_gate_keeps_the_closure_of_a_p():
    samples = np.concatenate([noise(1.0, 0.1), noise(0.12, 1e-5), noise(1.0, 0.1)])
    gated, silent = audio.gate(samples)
    assert silent == 0.0
    assert np.array_equal(gated, samples)


@pytest.mark.parametrize("level", [0.0, 1e-5, 3e-4])
def test_a_clip_in_which_nobody_speaks_is_all_silence(level):
    gated, silent = audio.gate(noise(2.0, level) + 0.3)  # with DC
    assert silent == 1.0
    assert not gated.any()


def test_steady_loud_sound_is_not_taken_for_a_pause():
    assert audio.gate(noise(2.0, 0.05))[1] == 0.0
