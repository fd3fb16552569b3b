# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of a batch: on the disk at once, the same price for every line, nothing forgotten."""

from __future__ import annotations

import json
import time
from pathlib import Path

from diffspeaker_blender.batch.lines import Line
from diffspeaker_blender.batch.report import Report


def line(folder: Path, name: str = "ü") -> Line:
    """Return a line whose output is there."""
    made = Line(folder / f"{name}.wav", folder / f"{name}.glb")
    made.output.write_bytes(b"glb")
    return made


def told(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def test_failures_are_never_up_to_date(tmp_path):
    """A line that failed is tried again though its old output lies there."""
    path = tmp_path / "lipsync-report.json"
    Report(path).note(line(tmp_path), "failed", "no", fingerprint="same")
    assert not Report(path).up_to_date(line(tmp_path), "same")


def test_the_report_counts_and_reads_back(tmp_path):
    """It is whole JSON; reports of other shares are known, too; no journal is left."""
    first = Report(tmp_path / "lipsync-report.1of2.json")
    first.note(line(tmp_path), "done", "Mouth moved", fingerprint="x")
    first.write()
    assert (told(first.path)["done"], told(first.path)["failed"]) == (1, 0)
    assert told(first.path)["lines"][0]["message"] == "Mouth moved"
    assert Report(tmp_path / "lipsync-report.2of2.json").up_to_date(line(tmp_path), "x")
    assert not list(tmp_path.glob("*.jsonl"))


def test_a_killed_run_forgets_nothing(tmp_path):
    """What was noted before a kill is known to the next run, and then stands in the report."""
    path = tmp_path / "lipsync-report.json"
    earlier = Report(path)
    for number in range(6):
        earlier.note(line(tmp_path, str(number)), "done", "ok", fingerprint=str(number))
    earlier.write()
    Report(path).note(line(tmp_path, "0"), "skipped", "up to date", fingerprint="0")  # killed here
    again = Report(path)
    assert all(again.up_to_date(line(tmp_path, str(n)), str(n)) for n in range(6))
    again.note(line(tmp_path, "new"), "done", "ok", fingerprint="new")
    again.write()
    assert told(path)["done"] == 1, "the counts are this run's"
    assert len(told(path)["lines"]) == 7, "what earlier runs knew stays"


def test_a_journal_cut_in_the_middle_of_a_line_is_read_up_to_there(tmp_path):
    """A kill may fall into a write."""
    path = tmp_path / "lipsync-report.json"
    report = Report(path)
    report.note(line(tmp_path, "a"), "done", "ok", fingerprint="a")
    report.note(line(tmp_path, "b"), "done", "ok", fingerprint="b")
    journal = next(tmp_path.glob("*.jsonl"))
    journal.write_bytes(journal.read_bytes()[:-20])
    again = Report(path)
    assert again.up_to_date(line(tmp_path, "a"), "a")
    assert not again.up_to_date(line(tmp_path, "b"), "b")


def test_two_runs_into_one_folder_keep_each_others_lines(tmp_path):
    """Single lines that go to one folder do not erase one another, at the same time neither."""
    path = tmp_path / "lipsync-report.json"
    one, two = Report(path), Report(path)
    one.note(line(tmp_path, "a"), "done", "ok", fingerprint="a")
    two.note(line(tmp_path, "b"), "done", "ok", fingerprint="b")
    one.write()
    two.note(line(tmp_path, "c"), "failed", "no")
    two.write()
    assert {Path(entry["output"]).stem for entry in told(path)["lines"]} == {"a", "b", "c"}
    assert not list(tmp_path.glob("*.jsonl"))


def test_a_line_costs_the_same_however_many_there_are(tmp_path):
    """The thousands of a long batch take linear time: the second half no longer than the first."""
    report, spent = Report(tmp_path / "r.json"), []
    for _half in range(2):
        began = time.process_time()
        for number in range(2000):
            made = Line(tmp_path / "a.wav", tmp_path / f"{_half}-{number}.glb")
            report.note(made, "failed", "There is no sound file.")
        spent.append(time.process_time() - began)
    assert spent[1] < 3 * spent[0] + 0.2
    report.write()
    assert told(report.path)["failed"] == 4000


def test_names_that_are_no_text_are_kept(tmp_path):
    """A Linux file name may hold any bytes; the report is valid JSON all the same."""
    path = tmp_path / "lipsync-report.json"
    odd = Line(Path("a\udcff.wav"), tmp_path / "a\udcff.glb")
    report = Report(path)
    report.note(odd, "failed", "no")
    report.write()
    assert told(path)["lines"][0]["audio"] == "a\udcff.wav"


def test_a_report_that_cannot_be_written_is_no_traceback(tmp_path):
    """The trouble is told at the end; the lines go on."""
    (tmp_path / "file").write_bytes(b"")
    report = Report(tmp_path / "file" / "r.json")
    report.note(line(tmp_path), "done", "ok")
    report.write()
    assert "file" in report.trouble
    assert report.count("done") == 1


def test_a_damaged_report_is_no_obstacle(tmp_path):
    """What cannot be read counts as unknown."""
    for text in (
        "{",
        "[]",
        '{"lines": 3}',
        '{"lines": [1, {"a": 2}, {"output": "x", "time": "y"}]}',
    ):
        (tmp_path / "lipsync-report.json").write_text(text, encoding="utf-8")
        assert set(Report(tmp_path / "lipsync-report.json").known) <= {"x"}
