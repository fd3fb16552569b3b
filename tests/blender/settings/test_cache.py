# SPDX-License-Identifier: GPL-3.0-or-later
"""Clear removes what we made, and nothing else, wherever the cache folder points."""

from __future__ import annotations

from pathlib import Path

import bpy
import pytest

from diffspeaker_blender.settings import machine
from diffspeaker_blender.worker import model_files


@pytest.fixture
def project(addon, tmp_path):
    """Return a project folder with a saved file and weeks of somebody's work."""
    folder = tmp_path / "project"
    (folder / "renders").mkdir(parents=True)
    (folder / "rigs").mkdir()
    for name in ("renders/shot01.exr", "notes.txt", "smoke.pc2", "worker.log", "rigs/rig-hero.npz"):
        (folder / name).write_text("weeks of work", encoding="utf-8")
    bpy.ops.wm.save_as_mainfile(filepath=str(folder / "scene.blend"))
    return folder


@pytest.fixture
def choose(addon, monkeypatch):
    """Return a function that sets the cache folder in the preferences."""
    return lambda given: monkeypatch.setattr(machine, "get", lambda: machine.Defaults(cache=given))


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("given", ["{}", "//", "//.", "{}/../project"])
def test_clear_leaves_a_project_alone(project, choose, given):
    """The cache folder set to the project's: our own files go, from a folder of our own."""
    before = files(project)
    choose(given.format(project))
    made = machine.made_cache_folder()
    assert made.parent.resolve() == project.resolve()
    ours = [made / "worker.log", made / "Head-line-12345678.lipsync.pc2", made / "rigs/rig-0.npz"]
    foreign = [made / "shot.exr", made / "rigs/notes.txt", made / "simulation.pc2"]
    (made / "rigs").mkdir()
    for path in (*ours, *foreign):
        path.write_bytes(b"12345")
    assert bpy.ops.diffspeaker.clear_cache() == {"FINISHED"}
    assert not any(path.exists() for path in ours)
    assert all(path.exists() for path in foreign)
    assert set(before) <= set(files(project))


def test_a_folder_without_our_mark_is_never_cleared(project, monkeypatch):
    """DIFFSPEAKER_FOLDER may point into a project that has a folder “cache” of its own."""
    monkeypatch.setenv("DIFFSPEAKER_FOLDER", str(project))
    (project / "cache").mkdir()
    (project / "cache" / "hero.lipsync.pc2").write_bytes(b"x")
    assert not list(machine.cache_files())
    machine.made_cache_folder()
    assert len(list(machine.cache_files())) == 1, "marked from here on"


def test_links_are_not_followed(project, addon):
    """A link in the cache folder loses neither itself nor what it leads to."""
    made = machine.made_cache_folder()
    (made / "a.lipsync.pc2").symlink_to(project / "smoke.pc2")
    (made / "rigs").symlink_to(project / "rigs", target_is_directory=True)
    machine.clear_cache()
    assert (project / "smoke.pc2").exists()
    assert (project / "rigs/rig-hero.npz").exists()
    assert (made / "a.lipsync.pc2").is_symlink()


def test_a_cache_that_the_open_file_plays_stays(demo, line):
    """A head that was never saved goes on moving; the count says what really went."""
    bpy.ops.diffspeaker.generate(audio=str(line), output="CACHE")
    playing = next(m for m in demo.modifiers if m.type == "MESH_CACHE").filepath
    (machine.cache_folder() / "old.lipsync.pc2").write_bytes(b"x" * 1_000_000)
    assert playing.startswith(str(machine.cache_folder()))
    assert machine.clear_cache() == (1, pytest.approx(1.0))
    assert Path(playing).is_file()


def test_two_files_never_share_a_point_cache(demo, line, tmp_path):
    """Another file's head of the same name, another line, another .blend: another cache."""

    def playing():
        bpy.ops.diffspeaker.generate(audio=str(line), output="CACHE")
        head = bpy.context.scene.diffspeaker.head
        return next(m for m in head.modifiers if m.type == "MESH_CACHE").filepath

    first = playing()
    assert playing() == first, "the same head again: the same file"
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "a.blend"))
    saved = playing()
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "b.blend"))
    copied = playing()
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.ops.diffspeaker.add_demo_head()
    assert len({first, saved, copied, playing()}) == 4


def test_only_a_model_of_ours_can_be_removed(addon, tmp_path):
    """A model file of the user's that is named by its path stays."""
    mine = tmp_path / "mine.safetensors"
    mine.write_bytes(model_files.bundled_path().read_bytes())
    with pytest.raises(RuntimeError, match="no model"):
        bpy.ops.diffspeaker.remove_model(model=str(mine))
    assert mine.is_file()
