"""`blender --command lipsync`: one line, batches, what is skipped, what fails, exit codes."""

from __future__ import annotations

import json

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


def test_frame_rate_can_be_asked_for(addon, line, tmp_path):
    """29.97 becomes 30 over 1.001."""
    out = tmp_path / "line.blend"
    assert run("--audio", line, "--export", out, "--fps", 29.97) == 0
    bpy.ops.wm.open_mainfile(filepath=str(out))
    render = bpy.context.scene.render
    assert render.fps / render.fps_base == pytest.approx(29.97, abs=1e-4)
