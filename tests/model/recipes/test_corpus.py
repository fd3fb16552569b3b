# SPDX-License-Identifier: GPL-3.0-or-later
"""The corpus: timed phones from anywhere, recordings varied, nothing lost when a build breaks."""

import json
from argparse import Namespace
from itertools import islice

import numpy as np
import pytest
import soundfile

from model.data import measured
from model.errors import CorpusError
from model.phones.coarticulation import Phone
from model.phones.mouth_opening import lip_opening
from model.recipes.corpus import augment, compare, corpus, lip_reader, sentences
from model.recipes.corpus.align import fill_gaps, words_of
from model.rig.controls import CONTROLS
from tests.model import tiny

RATE = corpus.RATE


def speech(seconds: float = 1.0) -> np.ndarray:
    """Return something voiced: a buzz whose loudness rises and falls."""
    time = np.arange(int(seconds * RATE)) / RATE
    buzz = sum(np.sin(2 * np.pi * 120 * k * time) / k for k in range(1, 12))
    return (0.2 * buzz * np.sin(np.pi * time / seconds)).astype(np.float32)


PHONES = [Phone("M", 0.1, 0.3), Phone("AA", 0.3, 0.7), Phone("P", 0.7, 0.8)]


@pytest.fixture
def recordings(tmp_path):
    """Return a folder of two aligned recordings, as the corpus takes them."""
    folder = tmp_path / "speech é"
    folder.mkdir()
    rows = []
    for name in ("11-1.flac", "12-1.flac"):
        soundfile.write(folder / name, speech(), RATE)
        rows.append({"file": name, "words": [["map", 0.1, 0.8,
                     [[p.name, p.start, p.end] for p in PHONES]]]})  # fmt: skip
    (folder / "phones.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return folder


def test_gaps_become_silence_and_noises_too():
    """Phones cover the clip without holes; what is no phone is SIL."""
    filled = fill_gaps([Phone("M", 0.1, 0.3), Phone("+NSN+", 0.3, 0.5)], 1.0)
    assert [(p.name, p.start, p.end) for p in filled] == [
        ("SIL", 0.0, 0.1), ("M", 0.1, 0.3), ("SIL", 0.3, 0.5), ("SIL", 0.5, 1.0),
    ]  # fmt: skip


def test_words_are_what_a_dictionary_knows():
    """Case, digits and typographic quotes go; words with apostrophes stay."""
    assert words_of("Don’t panic - it's 42!") == ["don't", "panic", "it's"]


def test_speed_moves_sound_and_phones_alike():
    """Twice as fast is half as long, for both."""
    samples, phones = augment.change_speed(speech(), PHONES, 2.0)
    assert len(samples) == pytest.approx(RATE / 2, abs=2)
    assert phones[1] == Phone("AA", 0.15, 0.35)


def test_variations_are_seeded_and_finite():
    """The same seed gives the same variation; no variation is silent, clipped or not a number."""
    one, _ = augment.vary(speech(), PHONES, np.random.default_rng(3), speech())
    two, _ = augment.vary(speech(), PHONES, np.random.default_rng(3), speech())
    np.testing.assert_array_equal(one, two)
    for seed in range(12):
        samples, phones = augment.vary(speech(), PHONES, np.random.default_rng(seed), speech())
        assert np.isfinite(samples).all()
        assert 0.001 < np.abs(samples).max() <= 1.0
        assert phones[-1].end <= len(samples) / RATE


def test_what_is_not_speech_is_made_of_all_kinds():
    """Hush, noise and music have the asked length and stay within full scale."""
    for seed in range(6):
        samples = augment.without_speech(2.0, np.random.default_rng(seed))
        assert len(samples) == 2 * RATE
        assert np.isfinite(samples).all()
        assert np.abs(samples).max() <= 1.0


def test_sentences_fill_every_slot():
    """No frame's braces survive, and lone letters are spoken."""
    said = list(islice(sentences.sentences([], seed=1), 200))
    assert not any("{" in text for text in said)
    assert len(set(said)) > 150


def test_a_speaker_is_trained_on_or_held_out_but_never_both(recordings):
    """The split hangs on the speaker's name alone."""
    clips = list(corpus.aligned_speech(recordings))
    again = list(corpus.aligned_speech(recordings))
    assert [clip.split for clip in clips] == [clip.split for clip in again]
    shares = [corpus.split_of(f"speaker {index}") for index in range(1000)]
    assert 60 < shares.count("validation") < 140


def test_a_corpus_is_built_and_continues(recordings, tmp_path):
    """Clips, phones, curves and manifest come out; a second run adds nothing twice."""
    out = tmp_path / "corpus"
    given = Namespace(out=out, speech=recordings, voices=[], minutes=0.2, variations=1, styles=2,
                      lips=None, without=[], ears=[], share=0.5, stage="all")  # fmt: skip
    assert corpus.run(given) == 0
    listed = corpus.read_clips(out)
    assert corpus.run(given) == 0
    assert corpus.read_clips(out) == listed
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    motion = np.load(out / "motion.npy")
    assert motion.shape[1] == len(CONTROLS)
    assert manifest["clips"][-1]["motion_span"][1] == len(motion)
    first = next(clip for clip in manifest["clips"] if clip["name"] == "11-1@0")
    curve = motion[slice(*first["motion_span"])]
    assert curve[:, CONTROLS.index("mouthClose")].max() > 0.9  # the m and the p
    assert curve[:, CONTROLS.index("jawOpen")].max() > 0.05  # the aa


@pytest.fixture
def people(tmp_path):
    """Return a folder of two people, one with two clips, whose lips follow their sound."""
    for speaker, stems in (("ann", ("a", "b")), ("bob", ("c",))):
        folder = tmp_path / "people" / speaker
        folder.mkdir(parents=True)
        rows = [[p.name, p.start, p.end, 0] for p in PHONES]
        (folder / "phones.json").write_text(json.dumps(dict.fromkeys(stems, rows)))
        for stem in stems:
            soundfile.write(folder / f"{stem}.flac", speech(), RATE)
            times = (np.arange(25) + 0.5) / 25
            inner = 0.15 * np.sin(np.pi * times)
            np.savez(folder / f"{stem}.npz", fps=25.0, inner=inner, width=0.5 - 0.2 * inner)
    return tmp_path / "people"


def test_people_are_learned_from_by_what_was_measured(recordings, people, tmp_path):
    """Their curves follow their lips; those left out are not there; variations move alike."""
    ear = tmp_path / "ear.safetensors"
    tiny.checkpoint(ear, tiny.listening())
    given = Namespace(out=tmp_path / "out", speech=recordings, voices=[], minutes=0.1,
                      variations=1, styles=1, lips=people, without=["bob"],
                      ears=[f"{ear}@1+2"], share=0.75, stage="all")  # fmt: skip
    assert corpus.run(given) == 0
    records = corpus.read_clips(given.out)
    assert {r["speaker"] for r in records if r["source"] == "people"} == {"people-ann"}
    manifest = json.loads((given.out / "manifest.json").read_text(encoding="utf-8"))
    motion = np.load(given.out / "motion.npy").astype(np.float32)
    clip = next(c for c in manifest["clips"] if c["name"] == "people-ann-a@0")
    opening = lip_opening(motion[slice(*clip["motion_span"])])
    assert 12 <= opening.argmax() <= 19 and opening.max() > 0.1


def test_a_reader_reads_what_its_ear_can_hear(people, tmp_path):
    """Fitted on sounds whose lips follow their loudness, it finds the loud middle again."""
    ear = tmp_path / "ear.safetensors"
    tiny.checkpoint(ear, tiny.listening())
    reader = lip_reader.fit([lip_reader.Ear(str(ear), [1, 2])], measured.read(people))
    read = reader.read(speech(), (np.arange(25) + 0.5).astype(np.float32) / 25)
    truth = np.sin(np.pi * (np.arange(25) + 0.5) / 25)
    assert np.corrcoef(read[:, 0], truth)[0, 1] > 0.9


def test_the_ridge_is_compared_on_people_it_never_saw(people, tmp_path, capsys):
    """Whoever is scored is left out of what is fitted; the table has a row for the ridge."""
    ear = tmp_path / "ear.safetensors"
    tiny.checkpoint(ear, tiny.listening())
    scored = tmp_path / "scored"
    (people / "bob").rename(scored)
    given = Namespace(folder=scored, model=str(ear), people=people, ears=[f"{ear}@1+2"],
                      device="cpu", output=tmp_path / "scores")  # fmt: skip
    assert compare.run(given) == 0
    assert "| ridge |" in capsys.readouterr().out
    kept = json.loads((tmp_path / "scores" / "lips.json").read_text(encoding="utf-8"))
    assert kept["mean"]["ridge"]["r"] > 0.5


def test_a_folder_without_phones_is_refused(tmp_path):
    """The message names the folder and what it lacks."""
    with pytest.raises(CorpusError, match=r"no phones\.jsonl"):
        list(corpus.aligned_speech(tmp_path))
