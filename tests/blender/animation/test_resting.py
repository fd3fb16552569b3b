# SPDX-License-Identifier: GPL-3.0-or-later
"""Mouth shapes that no line drives: at rest while one is spoken, and back where they stood."""

from __future__ import annotations

import bpy
import numpy as np
import pytest

from diffspeaker_blender.animation import clips, mapped, resting
from diffspeaker_blender.character import detect, fit
from diffspeaker_blender.motion.motion import Adjustments
from tests.blender.character.test_mapped import add_key, build, lips_apart, talk, with_bones
from tests.character.faces import face

SHUT, LONG_BEFORE = 7, -50


def anna(value: float = 0.4) -> bpy.types.Object:
    """Return a fitted face with a yawn and a smile of the user's, both left standing."""
    obj = build()
    fit.fit(obj)
    part = face()
    add_key(obj, "Yawn", 0.9 * part.keys["jawOpen"])
    add_key(obj, "Grin", part.keys["mouthSmileLeft"] + part.keys["mouthSmileRight"])
    key = obj.data.shape_keys.key_blocks
    key["Yawn"].value, key["Grin"].value = value, 0.5
    add_key(bpy.data.objects["Anna Teeth"], "Yawn", np.full((12, 3), [0, 0, -0.01]))
    bpy.data.objects["Anna Teeth"].data.shape_keys.key_blocks["Yawn"].value = value
    return obj


def values(obj: bpy.types.Object, name: str, frame: int) -> float:
    bpy.context.scene.frame_set(frame)
    return obj.data.shape_keys.key_blocks[name].value


def closed() -> float:
    """Return how far the lips of such a face are apart when nothing stands."""
    obj = build("Eva")
    fit.fit(obj)
    return lips_apart(obj, 1)


def millimetres(obj: bpy.types.Object, gap: float) -> float:
    return gap * mapped.life_unit(obj)


@pytest.mark.parametrize("nla", [False, True], ids=["action", "nla"])
def test_a_shape_that_parts_the_lips_rests_while_a_line_is_spoken(addon, nla) -> None:
    rest = closed()
    obj = anna()
    stood = lips_apart(obj, LONG_BEFORE)
    assert millimetres(obj, stood - rest) > 5
    applied = clips.apply_motion(obj, talk(), clip="one", start_frame=1.0, nla=nla)
    assert abs(millimetres(obj, lips_apart(obj, SHUT) - rest)) < 0.5
    assert values(obj, "Grin", SHUT) == pytest.approx(0.5)
    teeth = bpy.data.objects["Anna Teeth"]
    assert values(teeth, "Yawn", SHUT) == pytest.approx(0.0)
    for frame in (LONG_BEFORE, 80):
        assert values(obj, "Yawn", frame) == pytest.approx(0.4)
        assert values(teeth, "Yawn", frame) == pytest.approx(0.4)
        assert values(obj, "jawOpen", frame) == pytest.approx(0.0)
    assert any("Yawn is kept at rest" in found.message for found in applied.findings)
    clips.apply_motion(obj, talk(), clip="two", start_frame=60.0, nla=nla)
    assert values(obj, "Yawn", 66) == pytest.approx(0.0)
    assert values(obj, "Yawn", SHUT) == pytest.approx(0.0)
    assert values(obj, "Yawn", 200) == pytest.approx(0.4)
    bpy.context.scene.frame_set(SHUT)
    clips.remove_motion(obj)
    for one in (obj, teeth):
        assert one.data.shape_keys.key_blocks["Yawn"].value == pytest.approx(0.4)
        assert values(one, "Yawn", SHUT) == pytest.approx(0.4)
    assert not [action.name for action in bpy.data.actions if action.users]


def test_few_keys_hold_too(addon) -> None:
    rest = closed()
    obj = anna()
    clips.apply_motion(obj, talk(), clip="one", start_frame=1.0, tolerance=0.5)
    assert abs(millimetres(obj, lips_apart(obj, SHUT) - rest)) < 0.5
    key = obj.data.shape_keys
    from tests.blender.character.test_mapped import channel_curve

    curve = channel_curve(key, 'key_blocks["Yawn"].value')
    assert len(curve.keyframe_points) == 4  # type: ignore[attr-defined]


def test_what_rests_is_a_choice(addon) -> None:
    obj = anna()
    clips.apply_motion(obj, talk(), clip="one", start_frame=1.0)
    obj.diffspeaker_strengths.hold = "ALL"
    assert values(obj, "Grin", SHUT) == pytest.approx(0.0)
    assert values(obj, "Grin", LONG_BEFORE) == pytest.approx(0.5)
    bpy.context.scene.frame_set(SHUT)
    obj.diffspeaker_strengths.hold = "NONE"
    assert values(obj, "Grin", SHUT) == pytest.approx(0.5)
    assert values(obj, "Yawn", SHUT) == pytest.approx(0.4)
    fit.fit(obj)
    assert detect.read_mapping(obj).hold == "none"


def test_what_the_user_animates_is_told_and_left(addon) -> None:
    obj = anna(0.0)
    block = obj.data.shape_keys.key_blocks["Yawn"]
    for frame, value in ((1, 0.1), (20, 0.6)):
        block.value = value
        block.keyframe_insert("value", frame=frame)
    action = obj.data.shape_keys.animation_data.action
    applied = clips.apply_motion(obj, talk(), clip="one", start_frame=1.0)
    told = [found for found in applied.findings if found.code == "other-shapes"]
    assert len(told) == 1
    assert "Yawn is animated by you" in told[0].message
    assert not told[0].blocking
    assert values(obj, "Yawn", 20) == pytest.approx(0.6)
    assert values(obj, "Yawn", 1) == pytest.approx(0.1)
    assert obj.data.shape_keys.animation_data.action == action


def test_a_person_is_no_mouth(addon) -> None:
    """A shape that makes the face another one stays, though it moves the lips a little apart."""
    obj = anna(0.0)
    points = detect.coordinates(obj.data.shape_keys.reference_key.points)
    longer = points * np.array([0, 0, 0.3])
    longer[detect.lips_of(obj)["lower"], 2] -= 0.001
    add_key(obj, "Long Face", longer)
    obj.data.shape_keys.key_blocks["Long Face"].value = 1.0
    mapping = detect.read_mapping(obj)
    assert not resting.held(obj, mapping, {}, set())
    clips.apply_motion(obj, talk(), clip="one", start_frame=1.0)
    assert values(obj, "Long Face", SHUT) == pytest.approx(1.0)


def test_forgetting_puts_it_back(addon) -> None:
    obj = anna()
    bpy.context.view_layer.objects.active = obj
    clips.apply_motion(obj, talk(), clip="one", start_frame=1.0)
    bpy.context.scene.frame_set(SHUT)
    bpy.ops.diffspeaker.forget_character()
    assert values(obj, "Yawn", SHUT) == pytest.approx(0.4)


def test_what_stood_on_a_channel_of_ours_comes_back(addon) -> None:
    """A half-open mouth, a turned bone: with the last line they are as they were before it."""
    obj = anna(0.0)
    key = obj.data.shape_keys.key_blocks
    key["jawOpen"].value = 0.05
    clips.apply_motion(obj, talk(), clip="one", start_frame=1.0)
    clips.apply_motion(obj, talk(), clip="two", start_frame=60.0)
    clips.adjust_clip(obj, "one", Adjustments(intensity=0.5))
    assert values(obj, "jawOpen", LONG_BEFORE) == pytest.approx(0.0)
    bpy.context.scene.frame_set(13)
    clips.remove_motion(obj)
    assert key["jawOpen"].value == pytest.approx(0.05)
    bella = with_bones(0.0, "X")
    bone = bella.parent.pose.bones["jaw"]
    bone.rotation_mode = "XYZ"
    fit.fit(bella)
    bone.rotation_euler = (0.1, 0.0, 0.02)
    clips.apply_motion(bella, talk(), clip="one", start_frame=1.0)
    bpy.context.scene.frame_set(13)
    assert tuple(bone.rotation_euler) != pytest.approx((0.1, 0.0, 0.02), abs=1e-3)
    clips.remove_motion(bella)
    assert tuple(bone.rotation_euler) == pytest.approx((0.1, 0.0, 0.02), abs=1e-5)
