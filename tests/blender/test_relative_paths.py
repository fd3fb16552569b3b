# SPDX-License-Identifier: GPL-3.0-or-later
"""A path given by name means the same file in Blender, in the command line and in the worker."""

from __future__ import annotations

from pathlib import Path

import bpy
import pytest

from diffspeaker_blender.paths import absolute
from diffspeaker_blender.settings import machine
from diffspeaker_blender.worker import model_files, runtime


@pytest.fixture
def here(addon, line, tmp_path, monkeypatch):
    """Run in a folder with a sound of a plain name, as somebody at a command line does."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lines").mkdir()
    line.rename(tmp_path / "lines" / "a.wav")
    (tmp_path / "line.wav").write_bytes((tmp_path / "lines" / "a.wav").read_bytes())
    return tmp_path


def message():
    return bpy.context.window_manager.diffspeaker.message


@pytest.mark.parametrize("name", ["line.wav", "./line.wav", "lines/../line.wav", "//line.wav"])
def test_a_sound_by_name(here, name):
    """The README's own command."""
    bpy.ops.diffspeaker.add_demo_head()
    bpy.ops.wm.save_as_mainfile(filepath=str(here / "head.blend"))
    bpy.ops.diffspeaker.generate(audio=name)
    assert message().startswith("Mouth moved")


def test_a_sound_by_name_in_the_panel_and_in_a_strip(here):
    """The scene's own fields and Blender's own data may be relative, too."""
    bpy.ops.diffspeaker.add_demo_head()
    chosen = bpy.context.scene.diffspeaker
    chosen.source, chosen.audio_file = "FILE", "line.wav"
    bpy.ops.diffspeaker.generate()
    assert message().startswith("Mouth moved")
    if not bpy.app.build_options.audaspace:
        return
    editor = bpy.context.scene.sequence_editor_create()
    strips = editor.strips if hasattr(editor, "strips") else editor.sequences
    strips.new_sound("a", "lines/a.wav", 1, 1).select = True
    chosen.source = "STRIPS"
    bpy.ops.diffspeaker.generate()
    assert message().startswith("Mouth moved")


def test_exports_and_motion_files_by_name(here):
    """What is written lies where the name says, and is read back from there."""
    bpy.ops.diffspeaker.add_demo_head()
    bpy.ops.diffspeaker.generate(audio="line.wav")
    bpy.ops.diffspeaker.export(filepath="out/talk.csv")
    assert (here / "out" / "talk.csv").is_file()


@pytest.mark.parametrize(
    "words",
    [
        ("--audio", "line.wav", "--export", "one.csv"),
        ("--audio", "line.wav", "--export", "sub/one.csv", "--head", "head.blend"),
        ("--batch", "lines", "--out", "out", "--format", "csv"),
        ("--batch", "lines.csv", "--out", "out", "--format", "csv", "--report", "r/r.json"),
    ],
)
def test_the_command_line_by_names(here, words):
    """Sounds, heads, manifests, folders and reports."""
    from diffspeaker_blender.batch import command

    bpy.ops.diffspeaker.add_demo_head()
    bpy.ops.wm.save_as_mainfile(filepath=str(here / "head.blend"))
    (here / "lines.csv").write_text("audio,head\nlines/a.wav,head.blend\n", encoding="utf-8")
    assert command.main(list(words)) == 0
    assert len([path for path in here.rglob("*.csv") if path.name != "lines.csv"]) == 1


def test_models_and_folders_by_name(here, monkeypatch):
    """A model file, and what the environment names, are the same for a worker elsewhere."""
    Path("m.safetensors").write_bytes(model_files.bundled_path().read_bytes())
    found = model_files.find("m.safetensors", None)
    assert found is not None and Path(found.checkpoint).is_absolute()
    monkeypatch.setenv("DIFFSPEAKER_FOLDER", "data")
    assert runtime.data_folder() == here / "data"
    Path("python").write_bytes(b"")
    monkeypatch.setenv("DIFFSPEAKER_PYTHON", "python")
    assert machine.python() == here / "python"


def test_a_link_stays_what_it_is_called(tmp_path):
    """An environment's Python is a link, and is another Python without its name."""
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert absolute(tmp_path / "x" / ".." / "link") == tmp_path / "link"
    assert absolute("a").is_absolute()
