# SPDX-License-Identifier: GPL-3.0-or-later
"""Data sets: every layout opens, nothing is held in memory, every fault is listed at once."""

from __future__ import annotations

import json
import pickle
import struct

import numpy as np
import pytest
import soundfile

from model.data import dataset, layouts
from model.data.dataset import read_pickle
from model.errors import DataError
from tests.model import recordings


def test_vocaset_as_published(tmp_path) -> None:
    """Splits, 30 of 60 fps from frame 0, offsets from each subject's template, style order."""
    found = layouts.open_data(recordings.vocaset(tmp_path / "set"), "vocaset")
    assert [len(found.split(name)) for name in dataset.SPLITS] == [16, 4, 4]
    clip = found.split("train")[0]
    assert (found.fps, clip.frames, clip.stride) == (30.0, 30, 2)
    stored = np.load(clip.motion)
    template = found.template(clip)
    assert np.array_equal(found.motion(clip), stored[::2] - template)
    assert np.array_equal(found.motion(clip, 3, 7), stored[6:14:2] - template)
    assert clip.style[layouts.VOCASET.train.index(clip.subject)] == 1.0
    assert found.split("test")[0].style == ()


def test_biwi_splits() -> None:
    """Sentences 1–32 train, 33–36 validate, 37–40 test; other speakers are left out."""
    from pathlib import Path

    def splits(stem: str) -> list[str]:
        return [clip.split for clip in layouts.published_clips(Path(), stem, layouts.BIWI)]

    assert splits("F2_e32") == ["train"]
    assert splits("F2_33") == ["validation"]
    assert splits("M5_40") == ["test"]
    assert splits("F1_10") == []


def test_our_folder_with_every_kind_of_motion(tmp_path) -> None:
    """.npy, one long .npy with spans, .pc2 and a generated .npz give the same offsets."""
    random = np.random.default_rng(0)
    template = random.normal(size=(4, 3)).astype(np.float32)
    moved = template + random.normal(size=(30, 4, 3)).astype(np.float32)
    np.save(tmp_path / "face.npy", template)
    np.save(tmp_path / "a.npy", moved)
    np.save(tmp_path / "all.npy", np.concatenate([moved[:7], moved]))
    header = b"POINTCACHE2\0" + struct.pack("<iiffi", 1, 4, 0.0, 1.0, 30)
    (tmp_path / "a.pc2").write_bytes(header + moved.astype("<f4").tobytes())
    shapes = (moved - template)[:5]
    weights = np.eye(5, dtype=np.float32)[np.arange(30) % 5]
    np.savez(tmp_path / "a.npz", weights=weights, shapes=shapes, template=template)
    soundfile.write(tmp_path / "a.wav", np.zeros(22_050, np.float32), 22_050)
    np.save(tmp_path / "long.npy", np.arange(48_000, dtype=np.int16))
    entries = [
        {"name": name, "audio": "a.wav", "motion": name, "subject": "x"}
        for name in ("a.npy", "a.pc2", "a.npz")
    ]
    entries.append(
        {
            "name": "span",
            "audio": "long.npy",
            "audio_span": [16_000, 32_000],
            "motion": "all.npy",
            "motion_span": [7, 37],
            "subject": "x",
        }
    )
    dataset.write_manifest(
        tmp_path, entries, motion="vertices", fps=30, templates={"x": "face.npy"}
    )
    found = layouts.open_data(tmp_path)
    motions = {clip.name: found.motion(clip) for clip in found.clips}
    expected = (moved - template).reshape(30, -1)
    for name in ("a.npy", "a.pc2", "span"):
        assert np.allclose(motions[name], expected, atol=1e-6), name
    assert np.allclose(motions["a.npz"], expected[np.arange(30) % 5], atol=1e-6)
    span = found.clips[-1]
    assert found.audio(span)[0] == pytest.approx(16_000 / 32_768)
    assert len(found.audio(found.clips[0])) == pytest.approx(16_000, abs=2)


def test_crops_of_audio_belong_to_the_frames(tmp_path) -> None:
    """A crop's audio starts at its first frame and is padded where the recording ends."""
    found = layouts.open_data(recordings.controls(tmp_path / "set"))
    clip = found.clips[0]
    whole = found.audio(clip)
    assert np.array_equal(found.audio(clip, 12, 24), whole[6_400:12_800])
    late = found.audio(clip, clip.frames - 2, clip.frames + 28)
    assert len(late) == 16_000
    assert not late[2_000:].any()
    assert found.grid() == 3


def test_every_problem_is_listed_at_once(tmp_path) -> None:
    """Missing pairs, wrong widths, bad splits, bad styles and lengths appear in one message."""
    folder = recordings.controls(tmp_path / "set")
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    (folder / "audio" / "0.wav").unlink()
    (folder / "1.npy").unlink()
    np.save(folder / "2.npy", np.zeros((50, 7)))
    np.save(folder / "4.npy", np.zeros((200, 3)))
    (folder / "audio" / "5.wav").write_bytes(b"not a sound")
    manifest["clips"][6]["split"] = "training"
    manifest["clips"][7]["style"] = "sad"
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(DataError) as caught:
        layouts.open_data(folder)
    message = str(caught.value)
    for words in (
        "7 problems",
        "0.wav is missing",
        "1.npy is missing",
        "7 numbers a frame, expected 3",
        "the motion 6.67 s",
        "5.wav cannot be read",
        "split 'training'",
        "style 'sad'",
    ):
        assert words in message, words


def test_missing_pairs_of_vocaset(tmp_path) -> None:
    """A sound without motion and a motion without sound are both named."""
    folder = recordings.vocaset(tmp_path / "set", sentences=1)
    first, second = sorted((folder / "wav").glob("*.wav"))[:2]
    first.unlink()
    (folder / "vertices_npy" / f"{second.stem}.npy").unlink()
    with pytest.raises(DataError, match="2 problems") as caught:
        layouts.open_data(folder, "vocaset")
    assert first.name in str(caught.value)
    assert f"{second.stem}.npy" in str(caught.value)


def test_values_that_are_no_numbers_are_named(tmp_path) -> None:
    """The survey reads every frame and names each broken file."""
    folder = recordings.controls(tmp_path / "set")
    for index in (2, 5):
        curves = np.load(folder / f"{index}.npy")
        curves[3, 1] = np.nan
        np.save(folder / f"{index}.npy", curves)
    with pytest.raises(DataError, match="2 problems") as caught:
        dataset.survey(layouts.open_data(folder), "channel")
    assert "2.npy (clip2)" in str(caught.value)


def test_standardisation_is_that_of_the_training_split(tmp_path) -> None:
    """Mean 0 and deviation 1 per channel; a channel that never moves keeps scale 1."""
    found = layouts.open_data(recordings.controls(tmp_path / "set"))
    statistics = dataset.survey(found, "channel")
    rows = np.concatenate([statistics.forward(found.motion(clip)) for clip in found.split("train")])
    assert np.allclose(rows.mean(0), 0, atol=1e-3)
    assert np.allclose(rows.std(0)[:2], 1, atol=1e-3)
    assert statistics.scale[2] == 1.0


def test_motion_can_be_smaller_than_the_noise(tmp_path) -> None:
    """`size` scales the standardised motion; "none" leaves the data as published."""
    found = layouts.open_data(recordings.vocaset(tmp_path / "set"), "vocaset")
    one, tenth = (dataset.survey(found, "global", size=size) for size in (1.0, 0.1))
    motion = np.concatenate([found.motion(clip) for clip in found.split("train")])
    assert np.sqrt(np.mean(one.forward(motion) ** 2)) == pytest.approx(1.0, rel=1e-4)
    assert np.allclose(tenth.forward(motion), 0.1 * one.forward(motion), atol=1e-6)
    assert np.all(dataset.survey(found, "none", size=0.1).scale == 1.0)


def test_motion_is_mapped_not_read(tmp_path) -> None:
    """Opening a long recording touches its header only."""
    folder = recordings.controls(tmp_path / "set", clips=2)
    found = layouts.open_data(folder)
    assert isinstance(dataset.mapped(found.clips[0].motion), np.memmap)


class Evil:
    """A pickle that would run a command."""

    def __reduce__(self):
        return (print, ("run!",))


def test_pickles_run_nothing(tmp_path, capsys) -> None:
    """Only arrays come out of a pickle; anything else is refused by name."""
    path = tmp_path / "templates.pkl"
    path.write_bytes(pickle.dumps({"a": Evil()}, protocol=2))
    with pytest.raises(DataError, match=r"print"):
        read_pickle(path)
    assert "run!" not in capsys.readouterr().out
    path.write_bytes(pickle.dumps({"a": np.arange(3.0)}, protocol=2))
    assert np.array_equal(read_pickle(path)["a"], np.arange(3.0))
