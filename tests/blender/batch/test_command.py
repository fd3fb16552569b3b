# SPDX-License-Identifier: GPL-3.0-or-later
"""`blender --command lipsync`: one line, batches, what is skipped, what fails, exit codes."""

from __future__ import annotations

import errno
import json
import os

import pytest

bpy = pytest.importorskip("bpy")


@pytest.fixture
def lines(tmp_path, line):
    """Return a folder of three sounds with names that need care."""
    folder = tmp_path / "lines ü"
    folder.mkdir()
    for name in ("01 hello", "02 wörld", "03"):
        (folder / f"{name}.wav").write_bytes(line.read_bytes())
    return folder


def run(*words):
    from diffspeaker_blender.batch import command

    return command.main([str(word) for word in words])


def report(folder, name="lipsync-report.json"):
    return json.loads((folder / name).read_text(encoding="utf-8"))


def test_one_line_to_one_file(addon, line, tmp_path):
    """The README's first example."""
    out = tmp_path / "out" / "line.csv"
    assert run("--audio", line, "--head", "demo", "--export", out) == 0
    assert out.is_file()
    assert report(out.parent)["lines"][0]["message"].startswith("Mouth moved")


def test_a_blend_file_can_be_written_and_has_sound_and_keys(addon, line, tmp_path):
    """.blend keeps the strip beside the keys."""
    out = tmp_path / "line.blend"
    assert run("--audio", line, "--export", out) == 0
    bpy.ops.wm.open_mainfile(filepath=str(out))
    editor = bpy.context.scene.sequence_editor
    strips = editor.strips if hasattr(editor, "strips") else editor.sequences
    heard = ["line one"] if bpy.app.build_options.audaspace else []
    assert [strip.name for strip in strips] == heard
    assert bpy.data.objects["Speaking Head"].data.shape_keys.animation_data.action is not None


def test_a_batch_skips_what_is_up_to_date(addon, lines, tmp_path):
    """The second run does nothing; a changed sound is done again; force does all."""
    out = tmp_path / "out"
    words = ("--batch", lines, "--out", out, "--format", "csv")
    assert run(*words) == 0
    assert report(out)["done"] == 3
    assert run(*words) == 0
    assert (report(out)["done"], report(out)["skipped"]) == (0, 3)
    sound = lines / "03.wav"
    sound.write_bytes(sound.read_bytes()[:-2000])
    assert run(*words) == 0
    assert (report(out)["done"], report(out)["skipped"]) == (1, 2)
    assert run(*words, "--force") == 0
    assert report(out)["done"] == 3


def test_a_line_that_fails_stops_no_other(addon, lines, tmp_path):
    """Exit code 1, the reason in the report, the rest written."""
    manifest = lines / "lines.csv"
    manifest.write_text(
        "audio,output,head\n01 hello.wav,a.csv,\nmissing.wav,b.csv,\n03.wav,c.csv,gone.blend\n",
        encoding="utf-8",
    )
    assert run("--batch", manifest) == 1
    told = {entry["output"].rpartition("/")[2]: entry for entry in report(lines)["lines"]}
    assert told["a.csv"]["status"] == "done"
    assert told["b.csv"]["status"] == "failed"
    assert "missing.wav" in told["b.csv"]["message"]
    assert "gone.blend" in told["c.csv"]["message"]
    assert (lines / "a.csv").is_file()


def test_two_workers_and_shards(addon, lines, tmp_path):
    """Shards share out the lines; each has its own report."""
    out = tmp_path / "out"
    for part in ("1/2", "2/2"):
        assert run("--batch", lines, "--out", out, "--format", "csv", "--shard", part,
                   "--jobs", 2) == 0  # fmt: skip
    assert len(list(out.glob("*.csv"))) == 3
    assert report(out, "lipsync-report.1of2.json")["done"] == 2
    assert report(out, "lipsync-report.2of2.json")["done"] == 1


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--audio", "a.wav", "--batch", "b"),
        ("--batch", "no/such/folder"),
        ("--audio", "a.wav", "--keys", "round"),
    ],
)
def test_wrong_usage_exits_with_two(addon, words, capsys):
    """And says what is right."""
    assert run(*words) == 2
    assert capsys.readouterr().err


def test_without_a_runtime_nothing_starts(addon, line, monkeypatch, capsys):
    """Exit code 3 and how to get one."""
    monkeypatch.delenv("DIFFSPEAKER_PYTHON")
    monkeypatch.setattr("diffspeaker_blender.worker.runtime.carries_engine", lambda: False)
    assert run("--audio", line) == 3
    assert "nstall" in capsys.readouterr().err


def test_without_room_for_its_files_nothing_starts(addon, line, monkeypatch, capsys):
    """A full disk below the temporary files is a sentence and exit code 3."""
    from diffspeaker_blender.batch import command

    def full(*_: object, **__: object) -> str:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/somewhere/full")

    monkeypatch.setattr(command.tempfile, "mkdtemp", full)
    assert run("--audio", line) == 3
    assert "/somewhere/full" in capsys.readouterr().err


def test_a_report_that_cannot_be_written_is_told(addon, line, tmp_path, capsys):
    """The line is written all the same; the exit code says that something is missing."""
    (tmp_path / "file").touch()
    out = tmp_path / "a.csv"
    assert run("--audio", line, "--export", out, "--report", tmp_path / "file" / "r.json") == 1
    assert "report could not be written" in capsys.readouterr().err
    assert out.is_file()


def test_frame_rate_can_be_asked_for(addon, line, tmp_path):
    """29.97 becomes 30 over 1.001."""
    out = tmp_path / "line.blend"
    assert run("--audio", line, "--export", out, "--fps", 29.97) == 0
    bpy.ops.wm.open_mainfile(filepath=str(out))
    render = bpy.context.scene.render
    assert render.fps / render.fps_base == pytest.approx(29.97, abs=1e-4)


@pytest.mark.parametrize(
    "words",
    [
        ("--format", "gltf2"), ("--format", ""), ("--format", "../../x"), ("--fps", "nan"),
        ("--fps", "inf"), ("--fps", "-5"), ("--fps", "0.001"), ("--fps", "1e9"),
        ("--intensity", "nan"), ("--thin", "nan"), ("--thin", "-1"), ("--jobs", "-3"),
        ("--jobs", "0"), ("--jobs", "x"), ("--shard", "0/0"), ("--shard", "2/1"),
        ("--shard", "²/3"), ("--seed", "-1"), ("--seed", "9" * 30), ("--seed", "9" * 5000),
    ],
)  # fmt: skip
def test_slips_are_told_before_any_work(addon, lines, tmp_path, words, capsys):
    """Exit code 2 and a sentence; nothing is asked of the model, nothing is written."""
    assert run("--batch", lines, "--out", tmp_path / "out", "--format", "csv", *words) == 2
    assert capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "rows",
    [
        "audio\nintro/001.wav\noutro/001.wav\n",
        "audio,output\n01 hello.wav,o.exe\n",
        "audio,output\n01 hello.wav,o\n",
        "audio,output\n01 hello.wav,03.wav\n",
        "audio,head,output\n01 hello.wav,me.blend,me.blend\n",
        "audio,output\n01 hello.wav,lipsync-report.json\n",
    ],
)
def test_outputs_that_cannot_be_are_told_before_any_work(addon, lines, rows, capsys):
    """Two lines of one file, no format, and what a line is made from."""
    (lines / "m.csv").write_text(rows, encoding="utf-8")
    assert run("--batch", lines / "m.csv", "--format", "csv") == 2
    assert capsys.readouterr().err
    assert sorted(path.suffix for path in lines.iterdir()) == [".csv", ".wav", ".wav", ".wav"]


def test_a_folder_with_one_name_in_two_forms(addon, lines, capsys):
    """“03.wav” and “03.flac” would be one file."""
    (lines / "03.flac").write_bytes(b"fLaC")
    assert run("--batch", lines, "--out", lines / "out", "--format", "csv") == 2
    assert "03.csv" in capsys.readouterr().err


def test_nothing_wrong_with_a_line_stops_another(addon, lines, monkeypatch, capsys):
    """Cut and foreign files, folders, names no file can have, and what nobody foresaw."""
    whole = (lines / "03.wav").read_bytes()
    (lines / "cut.wav").write_bytes(whole[:24])
    (lines / "text.wav").write_text("no sound")
    (lines / "empty.wav").write_bytes(b"")
    (lines / "folder.wav").mkdir()
    (lines / "target.csv").mkdir()
    names = ["01 hello.wav", "cut.wav", "text.wav", "empty.wav", "folder.wav", "a\0b.wav",
             "x" * 300 + ".wav", "\u202egnp.wav", "missing.wav", "02 wörld.wav"]  # fmt: skip
    rows = [f"{name},{number}.csv" for number, name in enumerate(names)]
    rows += ["03.wav,target.csv", "03.wav,03.wav/below.csv", "03.wav,last.csv"]
    (lines / "m.csv").write_text("audio,output\n" + "\n".join(rows) + "\n", encoding="utf-8")
    from diffspeaker_blender.batch import command

    real = command.placing.place

    def surprise(result, shaped, placement):
        if placement.clip == "02 wörld":
            raise ZeroDivisionError("nobody foresaw this")
        return real(result, shaped, placement)

    monkeypatch.setattr(command.placing, "place", surprise)
    assert run("--batch", lines / "m.csv", "--report", lines / "r.json") == 1
    told = {entry["row"]: entry for entry in report(lines, "r.json")["lines"]}
    done = [row for row, entry in told.items() if entry["status"] == "done"]
    assert [told[row]["audio"].rpartition("/")[2] for row in done] == ["01 hello.wav", "03.wav"]
    assert len(told) == 13
    assert all(entry["message"] for entry in told.values())
    assert "Traceback" not in capsys.readouterr().out


@pytest.mark.skipif(os.name == "nt", reason="names are text there")
def test_names_that_are_no_text(addon, lines, tmp_path):
    """A Linux name may hold any bytes: spoken or told, never the end of the batch."""
    odd = os.fsdecode(os.fsencode(lines) + b"/odd \xff.wav")
    try:
        with open(odd, "wb") as file:  # noqa: PTH123
            file.write((lines / "03.wav").read_bytes())
    except OSError:
        pytest.skip("this file system takes text alone")
    assert run("--batch", lines, "--out", tmp_path / "out", "--format", "csv") in (0, 1)
    assert report(tmp_path / "out")["done"] >= 3


def test_a_line_gets_a_channel_of_its_own(addon, line, tmp_path):
    """Music in the head's file is neither covered nor joined; a muted channel is passed by."""
    if not bpy.app.build_options.audaspace:
        pytest.skip("this Blender makes no sound strips")
    bpy.ops.diffspeaker.add_demo_head()
    editor = bpy.context.scene.sequence_editor_create()
    strips = editor.strips if hasattr(editor, "strips") else editor.sequences
    strips.new_sound("music", str(line), 1, 1)
    editor.channels[2].mute = True
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "head.blend"))
    out = tmp_path / "o.blend"
    assert run("--audio", line, "--head", tmp_path / "head.blend", "--export", out) == 0
    bpy.ops.wm.open_mainfile(filepath=str(out))
    editor = bpy.context.scene.sequence_editor
    strips = editor.strips if hasattr(editor, "strips") else editor.sequences
    assert sorted(strip.channel for strip in strips) == [1, 3]
