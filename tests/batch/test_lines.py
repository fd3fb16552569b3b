# SPDX-License-Identifier: GPL-3.0-or-later
"""Batches: manifests, shares, what is up to date, and the report."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from diffspeaker_blender.batch import lines as batch
from diffspeaker_blender.batch.lines import Line
from diffspeaker_blender.batch.report import Report
from diffspeaker_blender.errors import LipSyncError

DEFAULT = Line(Path(), Path())


def test_a_folder_gives_a_line_for_each_sound_by_name(tmp_path):
    """Other files are left alone."""
    for name in ("b.wav", "ä ö.FLAC", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    lines = batch.from_folder(tmp_path, tmp_path / "out", ".glb", DEFAULT)
    assert [line.output.name for line in lines] == ["b.glb", "ä ö.glb"]


def test_hidden_files_and_folders_are_no_lines(tmp_path):
    """A Mac leaves “._a.wav” beside “a.wav” on foreign disks; a folder may be called “b.wav”."""
    for name in ("a.wav", "._a.wav", ".hidden.wav"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "b.wav").mkdir()
    lines = batch.from_folder(tmp_path, tmp_path, ".glb", DEFAULT)
    assert [line.audio.name for line in lines] == ["a.wav"]


def test_an_empty_folder_is_refused_in_words(tmp_path):
    """No sound file is an error, not an empty success."""
    with pytest.raises(LipSyncError, match="no sound file"):
        batch.from_folder(tmp_path, tmp_path, ".glb", DEFAULT)


@pytest.mark.parametrize("delimiter", [",", ";"])
def test_a_manifest_fills_empty_fields_from_the_defaults(tmp_path, delimiter):
    """Paths are relative to the manifest; a byte order mark and semicolons do no harm."""
    rows = [["audio", "head", "seed", "output"], ["a.wav", "anna.blend", "7", "x/a.fbx"], ["b.wav"]]
    manifest = tmp_path / "lines.csv"
    text = "\n".join(delimiter.join(row) for row in rows)
    manifest.write_text(text, encoding="utf-8-sig")
    first, second = batch.from_manifest(manifest, tmp_path / "out", ".glb", DEFAULT)
    assert (first.head, first.seed) == (str(tmp_path / "anna.blend"), 7)
    assert first.output == tmp_path / "x" / "a.fbx"
    assert (second.head, second.seed) == ("demo", 0)
    assert second.output == tmp_path / "out" / "b.glb"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sound\na.wav", "column “audio”"),
        ("audio,mood\na.wav,sad", "Remove mood"),
        ("audio,seed\na.wav,many", "line 2: the seed “many”"),
        ("audio,seed\n,3", "line 2, names no sound"),
    ],
)
def test_a_wrong_manifest_is_refused_by_its_place(tmp_path, text, words):
    """The message names the column or the row."""
    manifest = tmp_path / "lines.csv"
    manifest.write_text(text, encoding="utf-8")
    with pytest.raises(LipSyncError, match=words):
        batch.from_manifest(manifest, tmp_path, ".glb", DEFAULT)


def test_a_manifest_in_another_encoding_is_refused(tmp_path):
    """A file in Latin-1 is told apart from a broken one."""
    manifest = tmp_path / "lines.csv"
    manifest.write_bytes("audio\nschön.wav".encode("latin-1"))
    with pytest.raises(LipSyncError, match="not UTF-8"):
        batch.from_manifest(manifest, tmp_path, ".glb", DEFAULT)


def test_shards_divide_the_lines():
    """Every line is in exactly one share."""
    lines = [replace(DEFAULT, seed=number) for number in range(11)]
    shares = [batch.shard(lines, f"{part}/3") for part in (1, 2, 3)]
    assert sorted(line.seed for share in shares for line in share) == list(range(11))
    for wrong in ("0/3", "4/3", "a/3", "2", "1/0"):
        with pytest.raises(LipSyncError, match="no share"):
            batch.shard(lines, wrong)


def test_only_what_changed_is_out_of_date(tmp_path):
    """Sound, head, style and options count; a missing output is written again."""
    sound = tmp_path / "a.wav"
    sound.write_bytes(b"one")
    line = Line(sound, tmp_path / "out" / "a.glb", style="neutral")
    path = tmp_path / "out" / "lipsync-report.json"
    digest = batch.fingerprint(line, {"thin": 0.0})
    line.output.parent.mkdir()
    line.output.write_bytes(b"glb")
    Report(path).note(line, "done", "ok", fingerprint=digest)

    assert Report(path).up_to_date(line, digest)
    assert not Report(path).up_to_date(line, batch.fingerprint(line, {"thin": 0.1}))
    assert batch.fingerprint(replace(line, style="sad"), {"thin": 0.0}) != digest
    sound.write_bytes(b"two")
    assert batch.fingerprint(line, {"thin": 0.0}) != digest
    line.output.unlink()
    assert not Report(path).up_to_date(line, digest)


@pytest.mark.parametrize(
    "text",
    [
        "audio,head,seed\r\na.wav,,\r\n,,\r\n,,\r\n",
        "audio,head\na.wav,\n   ,  \n\n\n",
        "audio;head;seed\n;;\na.wav;;\n",
        "audio\thead\na.wav\t\n\t\n",
        " Audio , HEAD \na.wav,\n",
        '"audio","head"\n"a.wav",""\n,\n',
    ],
)
def test_rows_without_a_word_are_skipped(tmp_path, text):
    """A spreadsheet leaves rows of commas behind, writes tabs, and capitals in the first line."""
    (tmp_path / "lines.csv").write_bytes(text.encode())
    found = batch.from_manifest(tmp_path / "lines.csv", tmp_path, ".glb", DEFAULT)
    assert [(line.audio, line.row > 1) for line in found] == [(tmp_path / "a.wav", True)]


def test_names_with_odd_letters_stay_whole(tmp_path):
    """A comma, a line break, and what only some call a line break."""
    names = ["a, b.wav", "c\nd.wav", "e\u2028f.wav", "g\x0bh.wav", 'say "i".wav']
    with (tmp_path / "lines.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["audio"], *([name] for name in names)])
    found = batch.from_manifest(tmp_path / "lines.csv", tmp_path, ".glb", DEFAULT)
    assert [line.audio.name for line in found] == names


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("a.wav,-1", "line 2: the seed must lie"),
        ("a.wav," + "9" * 40, "line 2: the seed must lie"),
        ("a.wav," + "9" * 5000, "line 2: the seed “999"),
        ("a.wav,7,b.wav", "line 2, has more cells"),
        ("a" * 200_000 + ",1", "is no CSV"),
    ],
)
def test_a_row_that_cannot_be_meant_is_named(tmp_path, row, words):
    """Before any work, with the line's number."""
    (tmp_path / "lines.csv").write_text(f"audio,seed\n{row}\n", encoding="utf-8")
    with pytest.raises(LipSyncError, match=words):
        batch.from_manifest(tmp_path / "lines.csv", tmp_path, ".glb", DEFAULT)


def test_lines_of_one_output_are_refused(tmp_path):
    """Two “001.wav” of two folders would be written to one file: say so before any work."""
    (tmp_path / "lines.csv").write_text("audio\nintro/001.wav\noutro/001.wav\n", "utf-8")
    found = batch.from_manifest(tmp_path / "lines.csv", tmp_path, ".csv", DEFAULT)
    with pytest.raises(LipSyncError, match=r"001\.csv of line 3 .* the file of line 2"):
        batch.refuse_clashes(found, {})


@pytest.mark.parametrize(
    ("output", "words"),
    [("head.blend", "the head head.blend"), ("a.wav", "the sound a.wav"), ("r.json", "report"),
     ("sub/../head.blend", "the head head.blend")],
)  # fmt: skip
def test_a_line_never_overwrites_what_it_is_made_from(tmp_path, output, words):
    """Neither a head, nor a sound, nor the report."""
    line = Line(tmp_path / "a.wav", tmp_path / output, str(tmp_path / "head.blend"))
    with pytest.raises(LipSyncError, match=words):
        batch.refuse_clashes([line], {"the report": tmp_path / "r.json"})
