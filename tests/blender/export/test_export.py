"""Export: what comes back is what Blender showed, and the scene is as it was."""

from __future__ import annotations

import csv
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
    assert "Non-Negative" in signed.remarks[0]
    report = export.export([grid.object], tmp_path / "split.glb", nonnegative=True)
    assert report.remarks == ()
    assert state() == before
    assert export.check_export(tmp_path / "split.glb")["lowest"] >= 0
    for frame in FRAMES[::4]:
        shown = gltf_vertices(tmp_path / "split.glb", (frame - 11) / 30)
        assert farthest(shown, evaluated(grid.object, frame)) < CLOSE


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
