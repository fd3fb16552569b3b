# SPDX-License-Identifier: GPL-3.0-or-later
"""A batch over files whose characters have a mapping: of one, of several, linked, never fitted."""

from __future__ import annotations

import bpy
import pytest

from diffspeaker_blender.animation import clips
from diffspeaker_blender.character import detect, fit
from tests.blender.batch.test_command import report, run
from tests.blender.character.test_mapped import build, lips_apart, with_bones
from tests.blender.linking import overridden


@pytest.fixture
def cast(addon, tmp_path):
    """Save a scene with a face of shape keys, one of bones, and a FLAME head, side by side."""
    build("Anna")
    bella = with_bones(0.0, "X")
    bella.parent.location.x = 1.0
    bpy.context.view_layer.update()
    bpy.ops.diffspeaker.add_demo_head()
    bpy.context.scene.diffspeaker.head.location.x = 2.0
    group = bpy.data.collections.new("Cast of Bella")
    bpy.context.scene.collection.children.link(group)
    group.objects.link(bella)
    bpy.context.view_layer.update()
    path = tmp_path / "cast.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(path))
    return path


def fit_all(path):
    bpy.ops.wm.open_mainfile(filepath=str(path))
    fit.fit(bpy.data.objects["Anna"])
    fit.fit(bpy.data.objects["Bella"])
    bpy.ops.wm.save_as_mainfile(filepath=str(path))


def speaking() -> list[str]:
    """Return the meshes that have a line, and really move."""
    found = []
    for obj in bpy.data.objects:
        if obj.type == "MESH" and clips.clips(obj):
            found.append(obj.name)
            if detect.is_mapped(obj):
                apart = [lips_apart(obj, frame) for frame in range(1, 25)]
                assert max(apart) > lips_apart(obj, -50) + 0.005
    return found


def animated() -> set[str]:
    """Return everything that plays an action."""
    every = [*bpy.data.objects, *bpy.data.shape_keys, *bpy.data.armatures]
    return {one.name for one in every if one.animation_data and one.animation_data.action}


def test_a_mapping_in_the_file_is_used(addon, line, tmp_path, cast, monkeypatch):
    fit_all(cast)
    monkeypatch.setattr(fit, "fit", lambda *_: pytest.fail("it was fitted already"))
    out = tmp_path / "anna.blend"
    words = ("--audio", line, "--head", cast, "--character", "Anna", "--export", out)
    assert run(*words) == 0, report(tmp_path)
    assert report(tmp_path)["lines"][0]["message"].startswith("Mouth moved")
    bpy.ops.wm.open_mainfile(filepath=str(out))
    assert speaking() == ["Anna"]


@pytest.mark.parametrize("fitted", [True, False])
def test_each_row_of_a_table_speaks_on_its_own_face(addon, line, tmp_path, cast, fitted):
    """Names of a mesh, an armature, a collection; a FLAME head beside them; the others still."""
    if fitted:
        fit_all(cast)
    table = tmp_path / "lines.csv"
    rows = [
        ("Anna", "anna.blend", {"Anna"}),
        ("Rig", "rig.blend", {"Bella"}),
        ("Cast of Bella", "cast_of.blend", {"Bella"}),
        ("Speaking Head", "flame.blend", {"Speaking Head"}),
        ("Nobody", "nobody.blend", set()),
    ]
    text = "".join(f"{line.name},{cast.name},{who},{out}\n" for who, out, _ in rows)
    table.write_text(f"audio,head,character,output\n{text}", encoding="utf-8")
    assert run("--batch", table) == 1
    told = {e["output"].rpartition("/")[2]: e for e in report(tmp_path)["lines"]}
    assert "Nobody" in told["nobody.blend"]["message"]
    moved = {
        "Anna": {"Key", "Key.001"},
        "Bella": {"Rig"},
        "Speaking Head": None,
    }
    for _, out, wanted in rows[:-1]:
        assert told[out]["status"] == "done", told[out]
        bpy.ops.wm.open_mainfile(filepath=str(tmp_path / out))
        assert set(speaking()) == wanted
        (who,) = wanted
        if moved[who] is not None:
            assert animated() == moved[who]
    assert run("--batch", table) == 1
    assert report(tmp_path)["skipped"] == 4


def test_one_character_measured_once_and_exported(addon, line, tmp_path, monkeypatch):
    """Its own file, no name given, never fitted: glTF and tables of all its meshes."""
    build("Anna")
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "anna.blend"))
    count, real = [], fit.fit
    monkeypatch.setattr(fit, "fit", lambda *given: count.append(1) or real(*given))
    folder = tmp_path / "sounds"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / f"{name}.wav").write_bytes(line.read_bytes())
    words = ("--batch", folder, "--head", tmp_path / "anna.blend", "--format", "glb")
    assert run(*words) == 0, report(folder)
    assert len(count) == 1
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.ops.import_scene.gltf(filepath=str(folder / "b.glb"))
    keys = {k.name: k for o in bpy.data.objects if o.type == "MESH" for k in [o.data.shape_keys]}
    assert len(keys) == 2
    assert all("jawOpen" in key.key_blocks for key in keys.values())
    assert all(key.animation_data.action is not None for key in keys.values())


def test_a_linked_character_with_an_override(addon, line, tmp_path, cast):
    """The shot links the cast; what is known of Anna is kept in the shot's own file."""
    bpy.ops.wm.open_mainfile(filepath=str(cast))
    anna = [bpy.data.objects[name] for name in ("Anna", "Anna Teeth")]
    overridden(tmp_path / "library.blend", anna, "Anna's")
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "shot.blend"))
    out = tmp_path / "spoken.blend"
    words = ("--audio", line, "--head", tmp_path / "shot.blend", "--export", out)
    assert run(*words, "--character", "Anna") == 0, report(tmp_path)
    bpy.ops.wm.open_mainfile(filepath=str(out))
    (name,) = speaking()
    assert bpy.data.objects[name].override_library is not None
