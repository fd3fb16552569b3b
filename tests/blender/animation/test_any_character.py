# SPDX-License-Identifier: GPL-3.0-or-later
"""What lines of a head can do, lines of any character can: idle, stand side by side."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import bpy
import numpy as np
import pytest

from diffspeaker_blender.animation import clips, compare, idling, mapped
from diffspeaker_blender.character import detect, fit
from diffspeaker_blender.errors import HeadError
from diffspeaker_blender.motion.motion import Motion
from tests.blender.character.test_mapped import build, lips_apart, talk, with_bones
from tests.shared import shared


def quieter() -> Motion:
    said = talk()
    return replace(said, weights=said.weights * 0.5, controls=said.weights * 0.5)


def two_takes(obj: Any) -> None:
    fit.fit(obj)
    clips.apply_motion(obj, talk(), clip="one")
    clips.apply_motion(obj, quieter(), clip="one")


def keyed(obj: Any, name: str, frames: Any) -> np.ndarray:
    found = []
    for frame in frames:
        bpy.context.scene.frame_set(frame)
        found.append(obj.data.shape_keys.key_blocks[name].value)
    return np.array(found)


def counts() -> list[int]:
    data = bpy.data
    kinds = (data.objects, data.meshes, data.shape_keys, data.actions, data.armatures)
    return [len(kind) for kind in kinds]


def test_a_mapped_face_idles_between_its_lines(addon: Any) -> None:
    anna, scene = build(), bpy.context.scene
    fit.fit(anna)
    scene.frame_start, scene.frame_end = 1, 400
    clips.apply_motion(anna, talk(), clip="one", start_frame=200)
    spoken = keyed(anna, "jawOpen", range(200, 229))
    assert idling.fill(anna, scene) == 2
    assert clips.clips(anna) == ("Idle", "one", "Idle 2")
    lids = keyed(anna, "eyeBlinkLeft", range(1, 190))
    assert np.sum((lids[1:] > 0.5) & (lids[:-1] <= 0.5)) >= 1
    assert np.abs(keyed(anna, "jawOpen", range(1, 190))).max() < 1e-6
    assert keyed(anna, "jawOpen", range(200, 229)) == pytest.approx(spoken)
    assert idling.fill(anna, scene, seed=4) == 2  # others in their place
    assert clips.clips(anna) == ("Idle", "one", "Idle 2")
    assert idling.remove(anna) == 2
    assert clips.clips(anna) == ("one",)
    assert np.abs(keyed(anna, "eyeBlinkLeft", range(1, 190))).max() < 1e-6


def test_a_face_without_lids_says_so(addon: Any) -> None:
    bella = with_bones(0.0, "X")
    fit.fit(bella)
    with pytest.raises(HeadError, match="nothing of it blinks"):
        idling.fill(bella, bpy.context.scene)


@pytest.mark.parametrize("kind", ["keys", "bones"])
def test_takes_of_any_character_stand_side_by_side(addon: Any, kind: str) -> None:
    anna = build() if kind == "keys" else with_bones(0.0, "X")
    two_takes(anna)
    before = counts()
    shown = [lips_apart(anna, frame) for frame in range(1, 26)]
    twin = compare.compare(bpy.context, anna, "one", 0)
    assert max(lips_apart(twin, frame) for frame in range(1, 26)) > 1.3 * max(shown)
    assert [lips_apart(anna, frame) for frame in range(1, 26)] == pytest.approx(shown)
    assert twin.matrix_world.translation.x > anna.matrix_world.translation.x + anna.dimensions.x
    if kind == "keys":
        teeth = next(o for o in detect.members(twin) if o != twin)
        assert teeth != bpy.data.objects["Anna Teeth"]
        widest = keyed(twin, "jawOpen", range(1, 26))
        assert keyed(teeth, "jawOpen", range(1, 26)) == pytest.approx(widest)
    else:
        assert twin.parent != anna.parent
        assert detect.armature_of(twin) == twin.parent
    compare.compare(bpy.context, anna, "one", 1)  # the other one in its place
    compare.end(anna)
    assert counts() == before
    assert [lips_apart(anna, frame) for frame in range(1, 26)] == pytest.approx(shown)


def test_a_rigify_character_beside_itself(addon: Any) -> None:
    path = shared("characters/mpfb-rigify/mpfb-rigify.blend")
    bpy.ops.wm.open_mainfile(filepath=str(path), load_ui=False)
    head = bpy.data.objects["Head"]
    two_takes(head)
    before = counts()
    shown = [lips_apart(head, frame) for frame in range(1, 26, 3)]
    twin = compare.compare(bpy.context, head, "one", 0)
    assert max(lips_apart(twin, frame) for frame in range(1, 26, 3)) > 1.2 * max(shown)
    assert [lips_apart(head, frame) for frame in range(1, 26, 3)] == pytest.approx(shown)
    across = mapped.evaluated(twin)[:, 0].min() - mapped.evaluated(head)[:, 0].max()
    assert across > 0
    compare.end(head)
    assert counts() == before


def test_an_avatar_of_few_mouths_idles(addon: Any) -> None:
    bpy.ops.import_scene.gltf(filepath=str(shared("characters/godette/Godette_vrm1.vrm")))
    rig = next(obj for obj in bpy.data.objects if obj.type == "ARMATURE")
    face, _ = fit.fit(rig)
    bpy.context.scene.frame_end = 300
    assert idling.fill(face, bpy.context.scene) == 1
    lids = keyed(face, "blink_left", range(1, 300))
    assert np.sum((lids[1:] > 0.5) & (lids[:-1] <= 0.5)) >= 1
    apart = [lips_apart(face, frame) for frame in range(1, 300, 7)]
    assert max(apart) - min(apart) < 1e-5


def test_the_buttons_of_a_line_work_on_any_character(addon: Any) -> None:
    anna = build()
    two_takes(anna)
    bpy.context.scene.frame_end = 300
    before = counts()
    assert bpy.ops.diffspeaker.add_idle(head="Anna", seed=2) == {"FINISHED"}
    assert "Idle" in clips.clips(anna)
    assert "lives in 1 gap" in bpy.context.window_manager.diffspeaker.message
    assert bpy.ops.diffspeaker.add_idle(head="Anna", remove=True) == {"FINISHED"}
    assert clips.clips(anna) == ("one",)
    assert bpy.ops.diffspeaker.compare_takes(head="Anna", clip="one", take=0) == {"FINISHED"}
    assert compare.compared(anna)
    bpy.ops.diffspeaker.compare_takes(head="Anna", clip="one", take=0, stop=True)
    assert counts() == before
