# SPDX-License-Identifier: GPL-3.0-or-later
"""Export: what comes back is what Blender showed, and the scene is as it was."""

from __future__ import annotations

import csv
import importlib.util
import json
import wave
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import bpy
import numpy as np
import pytest

from diffspeaker_blender.animation import clips
from diffspeaker_blender.errors import ExportError
from diffspeaker_blender.export import export
from diffspeaker_blender.motion.motion import Motion
from diffspeaker_blender.sound import clip as sound
from tests.blender.animation.test_clips import evaluated
from tests.strategies import talking

CLOSE = 0.1e-3
"""Metres a re-imported vertex may be off."""


def speak(grid: SimpleNamespace, seed: int = 1, **options: object) -> Motion:
    """Let the sheet speak three seconds from frame 11 on, at 30 fps."""
    bpy.context.scene.render.fps = 30
    motion = talking(seed, 90, vertices=600, closures=(20, 41))
    clips.apply_motion(grid.object, motion, clip="line", start_frame=11, **options)
    return motion


def state() -> dict[str, object]:
    """Return everything an export must leave alone."""
    scene, layer = bpy.context.scene, bpy.context.view_layer
    return {
        "objects": sorted(o.name for o in bpy.data.objects),
        "meshes": sorted(m.name for m in bpy.data.meshes),
        "keys": sorted(k.name for k in bpy.data.shape_keys),
        "actions": sorted(a.name for a in bpy.data.actions),
        "range": (scene.frame_start, scene.frame_end, scene.use_preview_range, scene.frame_current),
        "selected": sorted(o.name for o in layer.objects if o.select_get()),
        "active": layer.objects.active.name if layer.objects.active else None,
        "fcurves": sum(len(s.fcurves) for a in bpy.data.actions for s in bags(a)),
    }


def bags(action: bpy.types.Action) -> list[object]:
    """Return what holds an action's curves."""
    if not hasattr(action, "layers"):
        return [action]
    return [b for layer in action.layers for strip in layer.strips for b in strip.channelbags]


def gltf_vertices(path: Path, seconds: float) -> np.ndarray:
    """Return the vertices (V, 3) a glTF viewer shows at a time, in Blender's axes."""
    pygltflib = pytest.importorskip("pygltflib")
    document = pygltflib.GLTF2().load(str(path))
    blob = document.binary_blob()

    def read(number: int) -> np.ndarray:
        accessor = document.accessors[number]
        width = {"SCALAR": 1, "VEC3": 3}[accessor.type]
        values = np.zeros((accessor.count, width), np.float32)
        kinds = {5121: np.uint8, 5123: np.uint16, 5125: np.uint32, 5126: np.float32}

        def raw(view: int, offset: int, kind: int, count: int) -> np.ndarray:
            start = (document.bufferViews[view].byteOffset or 0) + (offset or 0)
            return np.frombuffer(blob, kinds[kind], count, start)

        if accessor.bufferView is not None:
            values[:] = raw(accessor.bufferView, accessor.byteOffset, accessor.componentType,
                            accessor.count * width).reshape(-1, width)  # fmt: skip
        if accessor.sparse is not None:
            which, what = accessor.sparse.indices, accessor.sparse.values
            rows = raw(which.bufferView, which.byteOffset, which.componentType,
                       accessor.sparse.count)  # fmt: skip
            values[rows] = raw(what.bufferView, what.byteOffset, 5126,
                               accessor.sparse.count * width).reshape(-1, width)  # fmt: skip
        return values

    part = document.meshes[0].primitives[0]
    sampler = document.animations[0].samplers[document.animations[0].channels[0].sampler]
    times = read(sampler.input).ravel()
    weights = read(sampler.output).reshape(len(times), -1)
    shown = [np.interp(seconds, times, column) for column in weights.T]
    points = read(part.attributes.POSITION)
    for weight, target in zip(shown, part.targets, strict=True):
        delta = target["POSITION"] if isinstance(target, dict) else target.POSITION
        points = points + weight * read(delta)
    return points[:, [0, 2, 1]] * [1, -1, 1]


def farthest(shown: np.ndarray, wanted: np.ndarray) -> float:
    """Return how far the worst of two clouds' points is from its partner in the other.

    Exporters reorder and split vertices, so partners are found by distance.
    """
    apart = np.linalg.norm(shown[:, None] - wanted[None], axis=2)
    return float(max(apart.min(0).max(), apart.min(1).max()))


def reimport(path: Path) -> bpy.types.Object:
    """Import a file into a fresh scene of the same rate and return its mesh."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.context.scene.render.fps = 30
    suffix = path.suffix
    if suffix == ".glb":
        bpy.ops.import_scene.gltf(filepath=str(path))
    elif suffix == ".fbx":
        bpy.ops.import_scene.fbx(filepath=str(path), anim_offset=0.0)
    elif suffix == ".usd":
        bpy.ops.wm.usd_import(filepath=str(path))
    else:
        bpy.ops.wm.alembic_import(filepath=str(path))
    obj = next(o for o in bpy.data.objects if o.type == "MESH")
    for block in obj.data.shape_keys.key_blocks if obj.data.shape_keys else ():
        block.slider_min, block.slider_max = -10, 10
    return obj


def world(obj: bpy.types.Object, frame: float) -> np.ndarray:
    """Return evaluated vertices in world space."""
    points = evaluated(obj, frame)
    matrix = np.array(obj.matrix_world)
    return points @ matrix[:3, :3].T + matrix[:3, 3]


FRAMES = np.linspace(11, 102, 20).astype(int)


@pytest.mark.parametrize("suffix", [".glb", ".fbx", ".usd", ".abc"])
@pytest.mark.parametrize("mode", ["named", "compact"])
def test_round_trip(grid: SimpleNamespace, tmp_path: Path, suffix: str, mode: str) -> None:
    """Vertices at 20 frames come back within 0.1 mm; the scene is untouched; the check agrees."""
    speak(grid, mode=mode)
    grid.object.location, grid.object.rotation_euler = (1, 2, 3), (0.4, 0.1, 0.2)
    bpy.context.scene.frame_set(7)
    before = state()
    wanted = [world(grid.object, frame) for frame in FRAMES]
    bpy.context.scene.frame_set(7)
    path = tmp_path / f"häd {mode}{suffix}"
    report = export.export([grid.object], path)
    assert state() == before
    assert report.files == (path,)
    assert report.size == path.stat().st_size > 1000
    assert not list(tmp_path.glob("*.part*"))
    if suffix in (".glb", ".fbx"):
        assert report.shapes == len(grid.object.data.shape_keys.key_blocks) - 1
        assert report.frames >= 90
        assert report.sentence().startswith(f"Wrote häd {mode}{suffix} (")
    shift = {".glb": -11}.get(suffix, 0)
    obj = reimport(path)
    for frame, points in zip(FRAMES, wanted, strict=True):
        assert farthest(world(obj, frame + shift), points) < CLOSE
    if suffix == ".glb":
        turned = np.array(obj.matrix_world)
        for frame, points in zip(FRAMES, wanted, strict=True):
            shown = gltf_vertices(path, (frame - 11) / 30)
            assert farthest(shown @ turned[:3, :3].T + turned[:3, 3], points) < CLOSE


def test_negative_weights_can_be_avoided(grid: SimpleNamespace, tmp_path: Path) -> None:
    """With `nonnegative` the file has no weight below zero and shows the same."""
    bpy.context.scene.render.fps = 30
    motion = talking(1, 90, vertices=600)
    motion = replace(motion, weights=motion.weights - 0.3, controls=None)
    clips.apply_motion(grid.object, motion, clip="line", start_frame=11)
    before = state()
    signed = export.export([grid.object], tmp_path / "signed.glb")
    assert "Never Negative" in signed.remarks[0]
    report = export.export([grid.object], tmp_path / "split.glb", nonnegative=True)
    assert report.remarks == ()
    assert state() == before
    assert export.check_export(tmp_path / "split.glb")["lowest"] >= 0
    for frame in FRAMES[::4]:
        shown = gltf_vertices(tmp_path / "split.glb", (frame - 11) / 30)
        assert farthest(shown, evaluated(grid.object, frame)) < CLOSE


@pytest.mark.parametrize("suffix", [".glb", ".fbx", ".usd"])
@pytest.mark.parametrize("arkit", [False, True])
def test_drivers_are_baked_and_arkit_alone_is_a_choice(
    grid: SimpleNamespace, tmp_path: Path, suffix: str, arkit: bool
) -> None:
    """Formats without drivers show what they drove; ARKit's shapes alone come near, and say so."""
    if suffix == ".usd" and not bpy.app.build_options.usd:
        pytest.skip("built without USD")
    bpy.context.scene.render.fps = 30
    motion = talking(1, 60, vertices=600)
    bump = motion.shapes[:1] * np.float32(0.3)
    motion = replace(
        motion,
        weights=np.c_[motion.weights, np.zeros(60, np.float32)],
        shapes=np.concatenate([motion.shapes, bump]),
        names=(*motion.names, "jawOpen.half"),
        formulas=(*("" for _ in motion.names), "4*jawOpen*(1-jawOpen)"),
        controls=None,
    )
    clips.apply_motion(grid.object, motion, clip="line", start_frame=11)
    before = state()
    path = tmp_path / f"head{suffix}"
    report = export.export([grid.object], path, arkit=arkit, nonnegative=True)
    assert state() == before
    wanted = [evaluated(grid.object, frame) for frame in FRAMES if frame < 70]
    turned = np.array(grid.object.matrix_world)
    obj = reimport(path)
    names = set(obj.data.shape_keys.key_blocks.keys())
    assert ("jawOpen.half" in names or "jawOpen_half" in names) is not arkit and "jawOpen" in names
    shift = -11 if suffix == ".glb" else 0
    limit = 1e-5
    if arkit:
        assert "ARKit" in report.remarks[0]
        limit = float(report.remarks[0].split(", ")[1].split(" mm")[0]) * 1e-3 + 2e-4
        assert limit < 4e-3, "a third of the jaw's shape can be said with the jaw"
    for frame, points in zip((f for f in FRAMES if f < 70), wanted, strict=True):
        assert farthest(world(obj, frame + shift), points @ turned[:3, :3].T) < limit


def driven_part(grid: SimpleNamespace) -> bpy.types.Object:
    """Hang teeth on the head whose key follows its jaw, as the demo head's do."""
    mesh = bpy.data.meshes.new("Teeth")
    mesh.from_pydata([(0, 0, 0), (0.01, 0, 0), (0, 0, 0.01)], [], [(0, 1, 2)])
    teeth = bpy.data.objects.new("Teeth", mesh)
    bpy.context.collection.objects.link(teeth)
    teeth.parent = grid.object
    teeth.shape_key_add(name="Basis")
    block = teeth.shape_key_add(name="jawOpen")
    block.points[0].co.z -= 0.02
    driver = block.driver_add("value").driver
    driver.type = "SUM"
    variable = driver.variables.new()
    variable.targets[0].id_type = "KEY"
    variable.targets[0].id = grid.object.data.shape_keys
    variable.targets[0].data_path = 'key_blocks["jawOpen"].value'
    return teeth


@pytest.mark.parametrize("suffix", [".glb", ".fbx"])
def test_parts_follow(grid: SimpleNamespace, tmp_path: Path, suffix: str) -> None:
    """Teeth driven by the face's keys move in the file as well, though nobody selected them."""
    motion = speak(grid)
    teeth = driven_part(grid)
    before = state()
    report = export.export([grid.object], tmp_path / f"a{suffix}")
    assert state() == before
    assert teeth.parent == grid.object
    assert report.shapes == 7
    reimport(tmp_path / f"a{suffix}")
    back = next(o for o in bpy.data.objects if "Teeth" in o.name)
    assert back.parent is not None
    block = back.data.shape_keys.key_blocks["jawOpen"]
    bpy.context.scene.frame_set(41 - (11 if suffix == ".glb" else 0))
    assert block.value == pytest.approx(float(motion.weights[30, 0]), abs=1e-3)


def test_nla_and_moving_heads(grid: SimpleNamespace, tmp_path: Path) -> None:
    """A head that walks while an NLA strip speaks is exported as seen."""
    speak(grid, nla=True)
    obj = grid.object
    for frame, x in ((1, 0.0), (120, 2.0)):
        obj.location.x = x
        obj.keyframe_insert("location", frame=frame)
    before = state()
    export.export([obj], tmp_path / "a.glb")
    assert state() == before
    wanted = [world(obj, frame) for frame in FRAMES]
    back = reimport(tmp_path / "a.glb")
    for frame, points in zip(FRAMES, wanted, strict=True):
        assert farthest(world(back, frame - 11), points) < CLOSE


def test_curves_as_tables(grid: SimpleNamespace, tmp_path: Path) -> None:
    """CSV and JSON hold every key's weight on every frame."""
    motion = speak(grid)
    export.export([grid.object], tmp_path / "a.csv")
    export.export([grid.object], tmp_path / "a.json")
    with (tmp_path / "a.csv").open(encoding="utf-8") as file:
        rows = list(csv.reader(file))
    names = rows[0][2:]
    assert rows[0][:2] == ["frame", "seconds"] and sorted(names) == sorted(motion.names)
    assert (rows[1][0], rows[31][1]) == ("11", "1.000000")
    table = np.array(rows[1:91], float)[:, [2 + names.index(name) for name in motion.names]]
    np.testing.assert_allclose(table, motion.weights, atol=1e-5)
    found = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert (found["fps"], found["first_frame"]) == (30, 11)
    head = found["heads"][0]
    order = [head["names"].index(name) for name in motion.names]
    weights = np.array(head["weights"][:90])[:, order]
    np.testing.assert_allclose(weights, motion.weights, atol=1e-5)


def test_sound_beside_the_file(grid: SimpleNamespace, tmp_path: Path) -> None:
    """The sound lies beside the file and begins with the animation's first frame."""
    speak(grid)
    samples = np.random.default_rng(0).normal(0, 0.1, 16_000 * 3).astype(np.float32)
    clip = sound.AudioClip(samples, 16_000, 11 / 30 - 0.5, 3.0, "line")
    report = export.export([grid.object], tmp_path / "a.glb", with_audio=clip)
    assert report.files == (tmp_path / "a.glb", tmp_path / "a.wav")
    back, _rate = sound.read_float_wav(tmp_path / "a.wav")
    np.testing.assert_array_equal(back[:, 0], samples[8_000:])
    with wave.open(str(tmp_path / "line.wav"), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(b"\0\0" * 100)
    report = export.export([grid.object], tmp_path / "b.fbx", with_audio=tmp_path / "line.wav")
    assert (tmp_path / "b.wav").read_bytes() == (tmp_path / "line.wav").read_bytes()


def test_gltf_with_companions(grid: SimpleNamespace, tmp_path: Path) -> None:
    """A .gltf's .bin counts among the files written."""
    speak(grid)
    report = export.export([grid.object], tmp_path / "a.gltf")
    assert {file.name for file in report.files} == {"a.gltf", "a.bin"}
    assert export.check_export(tmp_path / "a.gltf")["animated"] == 6


@pytest.mark.parametrize("where", ["check", "first move", "last move"])
def test_a_failed_gltf_leaves_the_old_files_whole(
    grid: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Neither half of an older export changes, and nothing is left beside it."""
    speak(grid)
    for name in ("a.gltf", "a.bin"):
        (tmp_path / name).write_text(f"old {name}")
    if where == "check":

        def fail(_path: Path) -> dict[str, object]:
            raise ExportError("no")

        monkeypatch.setattr(export, "check_export", fail)
    else:
        name, real = "a.bin" if where == "first move" else "a.gltf", Path.replace

        def refuse(self: Path, target: Path) -> Path:
            if self.name == name and Path(target) == tmp_path / name:
                raise PermissionError(13, "Permission denied")
            return real(self, target)

        monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(ExportError):
        export.export([grid.object], tmp_path / "a.gltf")
    assert {f.name: f.read_text() for f in tmp_path.iterdir()} == {
        "a.gltf": "old a.gltf",
        "a.bin": "old a.bin",
    }


def test_edit_mode_is_left_and_entered_again(grid: SimpleNamespace, tmp_path: Path) -> None:
    """Exporting from Edit Mode works and returns there."""
    speak(grid)
    bpy.ops.object.mode_set(mode="EDIT")
    export.export([grid.object], tmp_path / "a.glb")
    assert grid.object.mode == "EDIT"
    bpy.ops.object.mode_set(mode="OBJECT")


def test_refusals(grid: SimpleNamespace, tmp_path: Path) -> None:
    """No motion, no mesh, no format, no folder: a sentence, and an old file stays whole."""
    old = tmp_path / "a.glb"
    old.write_bytes(b"precious")
    with pytest.raises(ExportError, match="moves between"):
        export.export([grid.object], old)
    speak(grid)
    with pytest.raises(ExportError, match=r"\.glb"):
        export.export([grid.object], tmp_path / "a.xyz")
    with pytest.raises(ExportError, match="no mesh"):
        export.export([bpy.data.objects.new("Empty", None)], old)
    (tmp_path / "file").touch()
    with pytest.raises(ExportError, match="written"):
        export.export([grid.object], tmp_path / "file" / "a.glb")
    assert old.read_bytes() == b"precious"


@pytest.mark.parametrize("name", ["a.glb", "a.gltf", "a.fbx", "a.csv", "a.json", "a.usd", "a.abc"])
@pytest.mark.parametrize("content", [b"", b"glTF\2\0\0\0\0", b"{}", b"Kaydara FBX Binary  \0"])
def test_check_of_broken_files(tmp_path: Path, name: str, content: bytes) -> None:
    """A file that is cut or something else is called damaged."""
    (tmp_path / name).write_bytes(content)
    if (name, content) == ("a.gltf", b"{}"):
        assert export.check_export(tmp_path / name)["animated"] == 0
        return
    with pytest.raises(ExportError, match=name):
        export.check_export(tmp_path / name)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Blender's own exporter
def test_check_notices_lost_animation(grid: SimpleNamespace, tmp_path: Path) -> None:
    """Blender's default FBX settings lose shape keys; the check sees it."""
    speak(grid)
    path = tmp_path / "default.fbx"
    bpy.ops.export_scene.fbx(filepath=str(path))
    assert export.check_export(path)["shapes"] == 6
    assert export.check_export(path)["animated"] == 0


def rigged(grid: SimpleNamespace) -> bpy.types.Object:
    """Give the head teeth, and an armature that carries it, as characters have."""
    speak(grid)
    driven_part(grid)
    rig = bpy.data.objects.new("Rig", bpy.data.armatures.new("Rig"))
    bpy.context.scene.collection.objects.link(rig)
    grid.object.parent = rig
    bpy.context.view_layer.objects.active = grid.object
    return rig


def keyed_visibility(obj: bpy.types.Object) -> None:
    """Show the object only from frame 200 on, as a shot does."""
    for frame, hidden in ((1, True), (200, False)):
        obj.hide_viewport = obj.hide_render = hidden
        obj.keyframe_insert("hide_viewport", frame=frame)
        obj.keyframe_insert("hide_render", frame=frame)
    bpy.context.scene.frame_set(50)


def driven_visibility(obj: bpy.types.Object) -> None:
    """Hide the object by a driver, as rigs with a switch do."""
    obj.driver_add("hide_viewport").driver.expression = "True"
    bpy.context.view_layer.update()


def put_away(obj: bpy.types.Object) -> bpy.types.LayerCollection:
    """Move the object to a collection of its own and return how the view layer sees that."""
    away = bpy.data.collections.new("Away")
    bpy.context.scene.collection.children.link(away)
    away.objects.link(obj)
    bpy.context.scene.collection.objects.unlink(obj)
    return bpy.context.view_layer.layer_collection.children["Away"]


HIDING = {
    "locked": lambda obj: setattr(obj, "hide_select", True),
    "monitor": lambda obj: setattr(obj, "hide_viewport", True),
    "eye": lambda obj: obj.hide_set(True),
    "renders": lambda obj: setattr(obj, "hide_render", True),
    "keyed": keyed_visibility,
    "driven": driven_visibility,
    "collection excluded": lambda obj: setattr(put_away(obj), "exclude", True),
    "collection eye": lambda obj: setattr(put_away(obj), "hide_viewport", True),
    "collection monitor": lambda obj: setattr(put_away(obj).collection, "hide_viewport", True),
    "collection locked": lambda obj: setattr(put_away(obj).collection, "hide_select", True),
    "collection not rendered": lambda obj: setattr(put_away(obj).collection, "hide_render", True),
}


@pytest.mark.parametrize("how", HIDING)
@pytest.mark.parametrize("whom", ["Face", "Teeth", "Rig"])
def test_nothing_hides_a_head_from_its_file(
    grid: SimpleNamespace, tmp_path: Path, how: str, whom: str
) -> None:
    """Head, teeth and armature are in the file and move, however the user has put them away."""
    rigged(grid)
    HIDING[how](bpy.data.objects[whom])
    before = state()
    for suffix in (".glb", ".fbx"):
        path = tmp_path / f"a{suffix}"
        export.export([grid.object], path)
        found = export.check_export(path)["meshes"]
        assert (found["Face"], found["Teeth"]) == (6, 1)
    assert state() == before
    text = (tmp_path / "a.glb").read_bytes()
    assert b'"Rig"' in text


@pytest.mark.parametrize("suffix", [".usd", ".abc"])
@pytest.mark.parametrize("how", ["locked", "monitor", "renders", "keyed", "collection excluded"])
def test_nothing_hides_a_head_from_film_formats(
    grid: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, how: str
) -> None:
    """The same, looked at with Pixar's library and with our own reader of Alembic."""
    local = Path(bpy.utils.resource_path("LOCAL"))
    for folder in local.glob("python/lib/python*/site-packages"):
        monkeypatch.syspath_prepend(folder)
    rigged(grid)
    HIDING[how](grid.object)
    export.export([grid.object], tmp_path / f"a{suffix}")
    found = export.check_export(tmp_path / f"a{suffix}")["meshes"]
    if found is None and importlib.util.find_spec("pxr") is None:
        pytest.skip("this Blender comes without Pixar's library in Python")
    assert found["Face"] == 6 if suffix == ".usd" else found["Face"] > 60
    assert found["Teeth"] >= 1


def test_parts_hidden_everywhere_stay_out_and_are_named(
    grid: SimpleNamespace, tmp_path: Path
) -> None:
    """A helper that neither viewport nor render shows is no part of the character."""
    rigged(grid)
    teeth = bpy.data.objects["Teeth"]
    teeth.hide_viewport = teeth.hide_render = True
    report = export.export([grid.object], tmp_path / "a.glb")
    assert "Teeth" not in export.check_export(tmp_path / "a.glb")["meshes"]
    assert any("Teeth is hidden" in remark for remark in report.remarks)


@pytest.mark.parametrize("suffix", [".glb", ".gltf", ".fbx", ".abc"])
def test_a_file_without_the_head_is_never_called_good(
    grid: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    """Whatever makes an exporter leave it out: an error that names it, and the old file stays."""
    from diffspeaker_blender.export import stand_ins

    rigged(grid)
    old = tmp_path / f"a{suffix}"
    old.write_bytes(b"precious")
    monkeypatch.setattr(stand_ins, "_HIDING", ())
    grid.object.hide_select = True
    with pytest.raises(ExportError, match="leaves Face out"):
        export.export([grid.object], old)
    assert {path.name for path in tmp_path.iterdir()} == {old.name}
    assert old.read_bytes() == b"precious"


def test_a_head_that_would_stand_still_is_refused(
    grid: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Teeth that move do not stand for a head that does not."""
    from diffspeaker_blender.animation import actions

    rigged(grid)
    real = actions.write_keys

    def lose(bag: object, name: str, *rest: object) -> object:
        return None if name == "mouthPucker" else real(bag, name, *rest)

    names = [block.name for block in grid.object.data.shape_keys.key_blocks]
    assert "mouthPucker" in names
    monkeypatch.setattr(actions, "write_keys", lose)
    with pytest.raises(ExportError, match="Face would not move"):
        export.export([grid.object], tmp_path / "a.glb")


@pytest.mark.parametrize("suffix", [".glb", ".gltf", ".fbx", ".csv"])
def test_names_as_long_as_a_file_system_takes(
    grid: SimpleNamespace, tmp_path: Path, suffix: str
) -> None:
    """A sound may be called after its whole text, in a script of three bytes a letter."""
    speak(grid)
    name = "あ" * 82 + suffix
    assert export.export([grid.object], tmp_path / name).path.name == name
    assert (tmp_path / name).is_file()


@pytest.mark.parametrize("suffix", [".glb", ".gltf", ".csv"])
def test_a_planted_link_is_replaced_not_followed(
    grid: SimpleNamespace, tmp_path: Path, suffix: str
) -> None:
    """Somebody's file behind a link of our name stays as it was."""
    speak(grid)
    (tmp_path / "precious").write_text("mine")
    (tmp_path / f"a{suffix}").symlink_to(tmp_path / "precious")
    export.export([grid.object], tmp_path / f"a{suffix}")
    assert (tmp_path / "precious").read_text() == "mine"
    assert not (tmp_path / f"a{suffix}").is_symlink()


def test_a_recording_beside_its_export_is_never_overwritten(
    grid: SimpleNamespace, tmp_path: Path
) -> None:
    """“talk.glb” goes where “talk.wav” lies: the recording stays, ours gets another name."""
    if not sound.has_aud():
        pytest.skip("this Blender comes without its own sound library in Python")
    speak(grid)
    samples = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
    recording = sound.write_clip(
        sound.AudioClip(samples, 16_000, 11 / 30, 1.0, "talk"), tmp_path / "talk.wav"
    )
    before = recording.read_bytes()
    clip = sound.file_clip(recording, 11 / 30)
    for _again in range(2):
        report = export.export([grid.object], tmp_path / "talk.glb", with_audio=clip)
        assert report.files[1:] == (tmp_path / "talk-sound.wav",)
    assert recording.read_bytes() == before
    back, rate = sound.read_float_wav(tmp_path / "talk-sound.wav")
    np.testing.assert_array_equal(back[:, 0], samples)
    other = tmp_path / "sub"
    other.mkdir()
    for _again in range(2):  # our own file is written again under its name
        report = export.export([grid.object], other / "talk.glb", with_audio=clip)
        assert report.files[1:] == (other / "talk.wav",)
    (other / "line.wav").write_bytes(b"RIFF of somebody's")
    report = export.export([grid.object], other / "line.glb", with_audio=recording)
    assert (other / "line.wav").read_bytes() == b"RIFF of somebody's"
    assert report.files[1:] == (other / "line-sound.wav",)
    assert rate == 16_000


def test_a_texture_of_the_users_is_never_overwritten(grid: SimpleNamespace, tmp_path: Path) -> None:
    """A .gltf brings its textures along, under names of its own."""
    speak(grid)
    (tmp_path / "skin.png").write_bytes(b"weeks of painting")
    image = bpy.data.images.new("skin", 4, 4)
    image.pack()
    material = bpy.data.materials.new("Skin")
    if material.node_tree is None:  # Blender 5 gives every material one
        material.use_nodes = True
    node = material.node_tree.nodes.new("ShaderNodeTexImage")
    node.image = image
    shader = next(n for n in material.node_tree.nodes if n.type == "BSDF_PRINCIPLED")
    material.node_tree.links.new(node.outputs[0], shader.inputs["Base Color"])
    grid.object.data.materials.append(material)
    grid.object.data.uv_layers.new()
    report = export.export([grid.object], tmp_path / "a.gltf")
    assert (tmp_path / "skin.png").read_bytes() == b"weeks of painting"
    assert {file.name for file in report.files} == {"a.gltf", "a.bin", "a-skin.png"}
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.ops.import_scene.gltf(filepath=str(tmp_path / "a.gltf"))
    assert [i.size[0] for i in bpy.data.images if i.size[0]] == [4]
