# SPDX-License-Identifier: GPL-3.0-or-later
"""Characters of others in glTF and FBX: names, meshes, armature and two lines, read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bpy
import numpy as np
import pytest

from diffspeaker_blender.animation import clips, mapped
from diffspeaker_blender.character import detect, fit
from diffspeaker_blender.export import export
from tests.blender.character.test_mapped import build, lips_apart, talk, with_bones
from tests.shared import shared

FRAMES = (1, 4, 7, 10, 20, 40, 60, 63, 66, 69, 79)
"""Open, half, sealed, of two lines, and the rest between them."""


def bring(file: str) -> Any:
    """Return the fitted face of a character of the reference folder."""
    path = str(shared(f"characters/{file}"))
    if path.endswith(".blend"):
        bpy.ops.wm.open_mainfile(filepath=path, load_ui=False)
    elif path.endswith(".fbx"):
        if "fbx_import" not in dir(bpy.ops.wm):
            pytest.skip("this Blender reads no FBX written as text")
        bpy.ops.wm.fbx_import(filepath=path)
    else:
        bpy.ops.import_scene.gltf(filepath=path)
    rigs = [o for o in bpy.data.objects if o.type == "ARMATURE" and o.name != "metarig"]
    bodies = [o for o in bpy.data.objects if o.type == "MESH" and "Ico" not in o.name]
    someone = rigs[0] if rigs else max(bodies, key=lambda obj: len(obj.data.vertices))
    return fit.fit(someone)[0]


def speak_twice(face: Any) -> list[float]:
    """Give a face two lines; return how far its lips are apart on `FRAMES`."""
    scene = bpy.context.scene
    scene.render.fps, scene.frame_start, scene.frame_end = 30, 1, 120
    clips.apply_motion(face, talk(), clip="one", start_frame=1)
    clips.apply_motion(face, talk(), clip="two", start_frame=60)
    return [lips_apart(face, frame) for frame in FRAMES]


def lips_at_rest(face: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the middle of the upper and of the lower lip (n, 3) as shown before any line."""
    bpy.context.scene.frame_set(-500)
    lips, points = detect.lips_of(face), mapped.evaluated(face)
    middle = np.abs(np.array(lips["along"])) < 0.3
    return points[np.array(lips["upper"])[middle]], points[np.array(lips["lower"])[middle]]


def keys_of(objects: Any) -> dict[str, list[str]]:
    """Return the shape keys of each mesh, by the names of object and mesh alike."""
    found = {}
    for obj in objects:
        if obj.type == "MESH":
            key = obj.data.shape_keys
            names = [] if key is None else [block.name for block in key.key_blocks[1:]]
            found[obj.name] = found[obj.data.name] = names
    return found


def read_back(path: Path) -> None:
    """Import a file in an empty scene, sliders opened that the importer sets to 0..1."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.context.scene.render.fps = 30
    if path.suffix == ".fbx":
        bpy.ops.import_scene.fbx(filepath=str(path), anim_offset=0.0)
    else:
        bpy.ops.import_scene.gltf(filepath=str(path))
    for key in bpy.data.shape_keys:
        for block in key.key_blocks:
            block.slider_min, block.slider_max = -10, 10


def apart_again(name: str, rest: tuple[np.ndarray, np.ndarray], late: int) -> list[float]:
    """Return how far the same places of the lips are apart in the imported scene."""
    bpy.context.scene.frame_set(-500)
    face = next(o for o in bpy.data.objects if o.type == "MESH" and name in (o.name, o.data.name))
    points, used, found = mapped.evaluated(face), [], []
    graph = bpy.context.evaluated_depsgraph_get()
    assert graph is not None
    for place in rest:
        used.append(np.linalg.norm(points[None] - place[:, None], axis=2).argmin(1))
    for frame in FRAMES:
        bpy.context.scene.frame_set(frame + late)
        shown = mapped.evaluated(face)
        found.append(float(np.linalg.norm(shown[used[0]] - shown[used[1]], axis=1).mean()))
    return found


@pytest.mark.parametrize("suffix", [".glb", ".fbx"])
@pytest.mark.parametrize(
    ("file", "moves", "within"),
    [
        ("mpfb-head/mpfb-arkit-oculus.glb", "8 moving shape keys over", 1e-3),
        ("facecap/FaceCapLiveModeAvatar.fbx", "4 moving shape keys over", 1e-3),
        ("mpfb-bones/mpfb-default-rig.blend", "moving bones over 9", 0.05),
    ],
)
def test_lips_move_in_the_file_as_they_do_here(
    addon: Any, tmp_path: Path, file: str, moves: str, within: float, suffix: str
) -> None:
    """glTF keeps four bones a vertex, which is what `within` of the opening allows for."""
    face = bring(file)
    shown, name = speak_twice(face), face.name
    rest, mesh = lips_at_rest(face), face.data.name
    before = keys_of(detect.members(face))
    actions = sorted((action.name, action.users) for action in bpy.data.actions)
    report = export.export([face], tmp_path / f"them{suffix}")
    assert moves in report.sentence()
    assert sorted((action.name, action.users) for action in bpy.data.actions) == actions
    assert [lips_apart(face, frame) for frame in FRAMES] == pytest.approx(shown)
    read_back(tmp_path / f"them{suffix}")
    there = keys_of(bpy.data.objects)
    for part, keys in before.items():
        if part in there:
            assert there[part] == keys, part
    late = -1 if suffix == ".glb" else 0  # frame 1 is second 0 of a glTF file
    found = apart_again(name if name in there else mesh, rest, late)
    assert found == pytest.approx(shown, abs=within * max(shown))
    assert np.corrcoef(found, shown)[0, 1] > 0.999


def test_every_mesh_of_a_gltf_file_has_its_names_and_its_weights(
    addon: Any, tmp_path: Path
) -> None:
    """As an engine reads it: target names on each mesh, weights for each that moves."""
    pygltflib = pytest.importorskip("pygltflib")
    face = bring("mpfb-head/mpfb-arkit-oculus.glb")
    speak_twice(face)
    before = keys_of(detect.members(face))
    export.export([face], tmp_path / "them.glb")
    document = pygltflib.GLTF2().load(str(tmp_path / "them.glb"))
    named = {mesh.name: mesh.extras.get("targetNames", []) for mesh in document.meshes}
    assert {name: keys for name, keys in before.items() if name in named} == named
    assert len(named) == 6
    weighted = {
        document.nodes[channel.target.node].name
        for animation in document.animations
        for channel in animation.channels
        if channel.target.path == "weights"
    }
    assert {"Head", "TeethLower", "Tongue"} <= weighted


@pytest.mark.parametrize("what", ["generate", "remove", "forget"])
def test_one_undo_puts_everything_back(addon: Any, line: Any, what: str) -> None:
    """Sliders, values, actions, notes: what a line, its removal or Forget changed."""
    anna = build()
    anna.data.shape_keys.key_blocks["jawOpen"].slider_max = 0.5
    fit.fit(anna)
    if what != "generate":
        bpy.ops.diffspeaker.generate(audio=str(line), character="Anna")

    def state() -> list[Any]:
        obj = bpy.data.objects["Anna"]
        bpy.context.scene.frame_set(8)
        blocks = obj.data.shape_keys.key_blocks
        sliders = [(b.name, b.slider_min, b.slider_max, round(b.value, 5)) for b in blocks]
        notes = {k: v for k, v in obj.items() if isinstance(v, str)}
        return [sliders, sorted(a.name for a in bpy.data.actions if a.users), sorted(notes.items())]

    bpy.ops.ed.undo_push(message="before")
    before = state()
    if what == "generate":
        bpy.ops.diffspeaker.generate(audio=str(line), character="Anna")
    elif what == "remove":
        clips.remove_motion(anna)
    else:
        bpy.ops.diffspeaker.forget_character()
    assert state() != before
    bpy.ops.ed.undo_push(message="after")
    bpy.ops.ed.undo()
    assert state() == before
    assert not bpy.context.window_manager.diffspeaker.message.startswith("Mouth moved")


def test_a_turned_bone_is_counted(addon: Any, tmp_path: Path) -> None:
    bella = with_bones(0.0, "X")
    fit.fit(bella)
    clips.apply_motion(bella, talk(), clip="one")
    report = export.export([bella], tmp_path / "bella.glb")
    assert "1 moving bone over" in report.sentence()
