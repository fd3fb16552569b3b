# SPDX-License-Identifier: GPL-3.0-or-later
"""The made-up set: VOCASET's layout to the letter, speech with something to hear in it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from model.data import dataset, layouts
from model.errors import ConfigError
from model.phones.coarticulation import Phone
from model.recipes.corpus import synthetic
from model.recipes.corpus.formants import speak


def test_the_formant_voice_depends_on_the_phones() -> None:
    """Vowels are louder than stops, s is higher than a, silence is silent."""
    phones = [Phone("SIL", 0, 0.2), Phone("AA", 0.2, 0.5), Phone("S", 0.5, 0.8)]
    samples = speak(phones, 16_000, pitch=120, random=np.random.default_rng(0))
    assert samples.shape == (12_800,)
    quiet, vowel, hiss = samples[:3000], samples[3600:7600], samples[8400:12400]
    assert np.abs(quiet).max() < 0.02 * np.abs(vowel).max()
    crossings = [int((np.diff(np.sign(part)) != 0).sum()) for part in (vowel, hiss)]
    assert crossings[1] > 3 * crossings[0]


def test_a_set_opens_as_vocaset(tmp_path) -> None:
    """Twelve subjects with their own heads; lips move, the back of the head does not."""
    source = synthetic.made_up(1.2, 0)
    counts = {"train": 1, "validation": 1, "test": 1}
    clips, _ = synthetic.make(tmp_path / "set", source, counts, seed=0)
    found = layouts.open_data(tmp_path / "set", "vocaset")
    assert clips == 12
    assert [len(found.split(name)) for name in dataset.SPLITS] == [8, 2, 2]
    assert found.channels == 15069
    heads = list(found.templates.values())
    assert np.abs(heads[0] - heads[1]).max() > 1e-3
    motion = found.motion(found.split("train")[0]).reshape(-1, 5023, 3)
    reach = np.linalg.norm(motion, axis=-1).max(0)
    assert 2e-3 < reach.max() < 0.06
    assert (reach < 1e-6).sum() > 500


def test_recordings_are_cut_between_words() -> None:
    """Sentences are runs of whole words no longer than asked, timed from their own start."""
    words = [
        [f"w{index}", index * 0.5, (index + 1) * 0.5, [["AA", index * 0.5, (index + 1) * 0.5]]]
        for index in range(10)
    ]
    cuts = list(synthetic.sentences(words, 2.0))
    assert [(start, end) for start, end, _ in cuts] == [(0.0, 2.0), (2.0, 4.0)]
    assert cuts[1][2][0] == Phone("AA", 0.0, 0.5)


def test_too_little_speech_is_said(tmp_path) -> None:
    """A source that ends early is a sentence for the user, not a half-written set."""
    counts = {"train": 2, "validation": 1, "test": 1}
    with pytest.raises(ConfigError, match="not enough speech"):
        synthetic.make(tmp_path / "x", itertools.islice(synthetic.made_up(0.8, 0), 1), counts, 0)
