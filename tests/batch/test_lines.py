"""Batches: manifests, shares, what is up to date, and the report."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from diffspeaker_blender.batch import lines as batch
from diffspeaker_blender.batch.lines import Line, Report
from diffspeaker_blender.errors import LipSyncError

DEFAULT = Line(Path(), Path())


def test_a_folder_gives_a_line_for_each_sound_by_name(tmp_path):
    """Other files are left alone."""
    for name in ("b.wav", "ä ö.FLAC", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    lines = batch.from_folder(tmp_path, tmp_path / "out", ".glb", DEFAULT)
    assert [line.output.name for line in lines] == ["b.glb", "ä ö.glb"]


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


def test_failures_are_never_up_to_date(tmp_path):
    """A line that failed is tried again though its old output lies there."""
    line = Line(tmp_path / "a.wav", tmp_path / "a.glb")
    line.output.write_bytes(b"old")
    path = tmp_path / "lipsync-report.json"
    Report(path).note(line, "failed", "no", fingerprint="same")
    assert not Report(path).up_to_date(line, "same")


def test_the_report_counts_and_reads_back(tmp_path):
    """The file is whole JSON after every note; reports of other shares are known, too."""
    first = Report(tmp_path / "lipsync-report.1of2.json")
    line = Line(tmp_path / "ü.wav", tmp_path / "ü.glb")
    line.output.write_bytes(b"")
    first.note(line, "done", "Mouth moved", fingerprint="x")
    told = json.loads(first.path.read_text(encoding="utf-8"))
    assert (told["done"], told["failed"]) == (1, 0)
    assert told["lines"][0]["message"] == "Mouth moved"
    assert Report(tmp_path / "lipsync-report.2of2.json").up_to_date(line, "x")


def test_a_damaged_report_is_no_obstacle(tmp_path):
    """What cannot be read counts as unknown."""
    (tmp_path / "lipsync-report.json").write_text("{", encoding="utf-8")
    assert Report(tmp_path / "lipsync-report.json").known == {}
