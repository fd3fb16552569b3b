# SPDX-License-Identifier: GPL-3.0-or-later
"""Faces of bones as other makers build them speak like the same head driven by its own shapes."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import bpy
import numpy as np
import pytest

from diffspeaker_blender.animation import clips, mapped
from diffspeaker_blender.character import fit
from diffspeaker_blender.errors import HeadError
from diffspeaker_blender.motion.motion import Motion
from tests.blender.linking import overridden
from tests.character import rigs
from tests.character.rigs import EYE

FEW = {"Unity humanoid", "Mixamo with a jaw", "Nameless bones"}
"""Rigs that have too few bones to round or spread all of the lips."""
JAW_ALONE = {"Unity humanoid", "Mixamo with a jaw", "Nameless bones"}
"""Rigs without bones of tongue and lids, or without telling names."""
WHOLE = sorted(set(rigs.RIGS) - JAW_ALONE)
BROWS = ("Auto-Rig Pro", "CloudRig", "Unity face")


@cache
def head() -> tuple[rigs.Skin, Any, tuple[str, ...], Any]:
    return rigs.load()


def fitted(name: str) -> tuple[Any, Any]:
    """Return the speaking mesh of a rig of `rigs.RIGS`, and what was found."""
    skin = head()[0]
    return fit.fit(rigs.build(skin, rigs.RIGS[name]()))


@pytest.mark.parametrize("name", list(rigs.RIGS))
def test_speaks_like_the_shapes(addon, name: str) -> None:
    speaker, proposal = fitted(name)
    assert {place.kind for place in proposal.mapping.places()} == {"bone"}
    bones = {place.name for place in proposal.mapping.places()}
    assert not bones & {one.name for one in rigs.RIGS[name]().bones if one.copies or one.tracks}
    moved, got = rigs.scored(speaker, head())
    assert got.correlation >= 0.97
    assert got.error <= (3.0 if name in FEW else 2.0)
    assert got.gap <= 0.5
    assert got.strays <= 0.5
    for inside in ("TeethLower", "Tongue"):
        assert np.abs(moved[inside]).max() > 0.005
    assert np.abs(moved["TeethUpper"]).max() < 1e-4


@pytest.mark.parametrize("name", ["Auto-Rig Pro", "MetaHuman"])
def test_few_keys_keep_the_lips_shut(addon, name: str) -> None:
    """Euler angles and metres, quaternions and centimetres: what adds up at the lips is kept."""
    _, controls, _, _ = head()
    speaker, _ = fitted(name)
    _, got = rigs.scored(speaker, head(), tolerance=0.5)
    assert got.gap <= 0.5
    assert got.correlation >= 0.97
    action = bpy.data.objects["Rig"].animation_data.action
    keys = [len(curve.keyframe_points) for curve in curves_in(action)]
    assert np.mean(keys) < 0.9 * len(controls)


def curves_in(action: Any) -> list[Any]:
    """Return every curve of an action."""
    if not hasattr(action, "slots"):
        return list(action.fcurves)
    bags = [bag for layer in action.layers for strip in layer.strips for bag in strip.channelbags]
    return [curve for bag in bags for curve in bag.fcurves]


def test_eyes_turn_as_far_as_ours(addon) -> None:
    for name in rigs.RIGS:
        if name == "Nameless bones":
            continue
        bpy.ops.wm.read_factory_settings(use_empty=True)
        speaker, _ = fitted(name)
        eyes = bpy.data.objects["Eyes"]
        rest = mapped.evaluated(eyes)
        left = rest[:, 0] > 0
        for controls, wanted in (
            ({"eyeLookOutLeft": 1.0, "eyeLookInRight": 1.0}, (0.0, 0.0, 28.0)),
            ({"eyeLookUpLeft": 1.0, "eyeLookUpRight": 1.0}, (-20.0, 0.0, 0.0)),
            ({"eyeLookDownLeft": 1.0, "eyeLookDownRight": 1.0}, (25.0, 0.0, 0.0)),
        ):
            rigs.pose(speaker, **controls)
            shown = mapped.evaluated(eyes)
            for side in (left, ~left):
                assert np.abs(rigs.turned(rest[side], shown[side]) - wanted).max() < 2.0, name
        rigs.pose(speaker)
        assert np.abs(mapped.evaluated(eyes) - rest).max() < 1e-5


@pytest.mark.parametrize("name", WHOLE)
def test_lids_meet_before_the_eye(addon, name: str) -> None:
    skin = head()[0]
    speaker, _ = fitted(name)
    body, eyes = bpy.data.objects["Head"], bpy.data.objects["Eyes"]
    rest = mapped.evaluated(body)
    ball = mapped.evaluated(eyes)
    ball = ball[ball[:, 0] > 0]
    blink = skin.body.keys["eyeBlinkLeft"]
    edge = np.linalg.norm(blink, axis=1) > 0.7 * np.linalg.norm(blink, axis=1).max()
    rigs.pose(speaker, eyeBlinkLeft=1.0)
    shut = mapped.evaluated(body)
    wanted = blink[edge][:, 2].mean()
    assert (shut - rest)[edge][:, 2].mean() == pytest.approx(wanted, rel=0.45)
    # Nothing of the lid's edge goes into the eye.
    far, should = (
        np.percentile(np.linalg.norm(points[edge] - ball.mean(0), axis=1), 10)
        for points in (shut, rest)
    )
    assert far > should - 0.001
    right = rest[:, 0] < -0.005
    assert np.abs(shut - rest)[right].max() < 1e-4


@pytest.mark.parametrize("name", WHOLE)
def test_the_tongue_goes_up_and_out(addon, name: str) -> None:
    speaker, proposal = fitted(name)
    tongue = bpy.data.objects["Tongue"]
    rest = mapped.evaluated(tongue)
    tip = rest[:, 1] < np.percentile(rest[:, 1], 7)
    lips = head()[0].body.rest[head()[0].face.mouth.upper][:, 1].min()
    rigs.pose(speaker, jawOpen=0.4)
    open_ = mapped.evaluated(tongue)
    rigs.pose(speaker, jawOpen=0.4, tongueTip=1.0)
    raised = mapped.evaluated(tongue)
    assert (raised - open_)[tip][:, 2].mean() > 0.002
    assert raised[:, 1].min() > lips + 0.008  # it stays behind the lips
    rigs.pose(speaker, jawOpen=0.4, tongueOut=1.0)
    out = mapped.evaluated(tongue)
    assert (open_ - out)[tip][:, 1].mean() > 0.01
    assert np.abs((out - open_)[:, 0]).max() < 0.004
    assert not any(remark.subject == "Tongue" for remark in proposal.remarks)


@pytest.mark.parametrize("name", BROWS)
def test_brows_rise_and_fall(addon, name: str) -> None:
    speaker, _ = fitted(name)
    body = bpy.data.objects["Head"]
    rest = mapped.evaluated(body)
    above = np.linalg.norm(rest - (EYE[0], -0.135, 0.7), axis=1) < 0.012
    rigs.pose(speaker, browInnerUp=1.0, browOuterUpLeft=1.0, browOuterUpRight=1.0)
    assert (mapped.evaluated(body) - rest)[above][:, 2].mean() > 0.001
    rigs.pose(speaker, browDownLeft=1.0, browDownRight=1.0)
    assert (mapped.evaluated(body) - rest)[above][:, 2].mean() < -0.001


@pytest.mark.parametrize(
    ("shapes", "share", "skinned"),
    [
        (rigs.CONTROLS, 1.0, False),  # the shape opens the skin, the bone carries the teeth
        (rigs.CONTROLS, 0.2, True),  # shape and bone open together
        (rigs.CONTROLS, 1.0, True),  # either would open it all
        (rigs.VISEMES, 1.0, False),
        (rigs.VISEMES, 0.15, True),  # a jaw's bone, and mouths that hardly open
    ],
)
def test_shapes_and_a_jaw_open_together_and_once(addon, shapes, share, skinned) -> None:
    skin, _, _, truth = head()
    rig = rigs.character_creator(skin, shapes, share=share, skinned=skinned)
    speaker, proposal = fit.fit(rig)
    jaws = [p for p in proposal.mapping.places() if p.name == "CC_Base_JawRoot"]
    assert jaws
    assert any(remark.subject == "CC_Base_JawRoot" for remark in proposal.remarks)
    assert not any("not follow the jaw" in remark.reason for remark in proposal.remarks)
    moved, got = rigs.scored(speaker, head())
    assert got.correlation >= 0.97
    assert got.error <= 2.0
    assert got.gap <= 0.5
    mouth = skin.face.mouth
    openings = [np.ptp(m[:, mouth.lower[4:7], 2].mean(1)) for m in (moved["Head"], truth)]
    assert openings[0] < 1.25 * openings[1]  # never double
    teeth = skin.part("TeethLower").rest
    front = teeth[:, 1] < np.percentile(teeth[:, 1], 20)
    sinks = -moved["TeethLower"][:, front, 2].mean(1)
    assert sinks.max() == pytest.approx(0.8 * openings[1], rel=0.35)
    assert np.abs(moved["TeethUpper"]).max() < 1e-4


def one_jaw() -> Any:
    """Add a head that has a jaw's bone alone."""
    return rigs.build(head()[0], rigs.RIGS["Unity humanoid"]())


def widest(speaker: Any) -> float:
    """Return how far the lower lip sinks while a line is spoken."""
    _, controls, names, _ = head()
    moved = rigs.speak(speaker, controls[:40], names)["Head"]
    return float(-moved[:, head()[0].face.mouth.lower[4:7], 2].mean(1).min())


def test_a_limit_of_the_rig_is_kept_and_said(addon) -> None:
    rig = one_jaw()
    limit = rig.pose.bones["Jaw"].constraints.new("LIMIT_ROTATION")
    limit.owner_space = "LOCAL"
    for axis in "xyz":
        setattr(limit, f"use_limit_{axis}", True)
        setattr(limit, f"min_{axis}", -0.1)
        setattr(limit, f"max_{axis}", 0.1)
    speaker, proposal = fit.fit(rig)
    assert any(r.subject == "Jaw" and "limits it" in r.reason for r in proposal.remarks)
    (row,) = [row for row in proposal.mapping.rows if row.places[0].name == "Jaw"]
    assert sum(abs(term.gain) for term in row.terms) < 0.13
    assert widest(speaker) > 0.001


def test_a_locked_jaw_is_not_turned(addon) -> None:
    rig = one_jaw()
    rig.pose.bones["Jaw"].lock_rotation = (True, True, True)
    rig.pose.bones["Jaw"].lock_location = (True, True, True)
    with pytest.raises(HeadError, match=r"jaw bone “Jaw” of Rig is locked"):
        fit.fit(rig)


def test_a_driven_jaw_is_left_to_its_driver(addon) -> None:
    rig = one_jaw()
    rig.pose.bones["Jaw"].rotation_mode = "XYZ"
    rig.pose.bones["Jaw"].driver_add("rotation_euler", 0)
    bpy.context.view_layer.update()
    with pytest.raises(HeadError):
        fit.fit(rig)


def test_hidden_bones_speak(addon) -> None:
    rig = one_jaw()
    hidden = rig.data.collections.new("Hidden")
    for bone in rig.data.bones:
        hidden.assign(bone)
    hidden.is_visible = False
    speaker, _ = fit.fit(rig)
    assert widest(speaker) > 0.005


def test_the_rest_position_is_said_and_kept(addon) -> None:
    rig = one_jaw()
    rig.data.pose_position = "REST"
    speaker, proposal = fit.fit(rig)
    assert rig.data.pose_position == "REST"
    assert any("rest position" in remark.reason for remark in proposal.remarks)
    _, controls, names, _ = head()
    values = np.asarray(controls[:40], np.float32)
    empty = np.zeros((len(names), 0, 3), np.float32)
    motion = Motion(values, empty, names, 30.0, controls=values, control_names=names)
    applied = clips.apply_motion(speaker, motion, clip="line")
    assert any("rest position" in finding.message for finding in applied.findings)


def test_edit_mode_is_said(addon) -> None:
    rig = one_jaw()
    bpy.context.view_layer.objects.active = rig
    bpy.ops.object.mode_set(mode="EDIT")
    with pytest.raises(HeadError, match="Edit Mode"):
        fit.fit(rig)
    bpy.ops.object.mode_set(mode="OBJECT")
    fit.fit(rig)


def test_keys_of_the_users_on_other_bones_and_poses_stay(addon) -> None:
    """A posed, animated body: fitted where it stands, its keys and its pose are as before."""
    rig = one_jaw()
    bones = rig.pose.bones
    bones["Head"].rotation_mode = "XYZ"
    for frame, angle in ((1, 0.0), (30, 0.6)):
        bones["Head"].rotation_euler.z = angle
        bones["Head"].keyframe_insert("rotation_euler", frame=frame)
    bpy.context.scene.frame_set(20)
    stood = {bone.name: bone.matrix_basis.copy() for bone in bones}
    action = rig.animation_data.action
    speaker, proposal = fit.fit(rig)
    assert {bone.name: bone.matrix_basis.copy() for bone in bones} == stood
    assert {"Jaw"} <= {place.name for place in proposal.mapping.places()}
    assert "Head" not in {place.name for place in proposal.mapping.places()}
    _, controls, names, _ = head()
    rigs.speak(speaker, controls[:40], names)
    assert rig.animation_data.action == action
    bpy.context.scene.frame_set(30)
    assert bones["Head"].rotation_euler.z == pytest.approx(0.6)


@pytest.mark.parametrize("share", [0.0, 0.25])
def test_shapes_that_leave_the_opening_to_a_bone(addon, share: float) -> None:
    """As Character Creator's: the jaw's shape is empty or small, its bone opens the mouth.

    Teeth and tongue hang on the bone; the lips still meet, and their shapes do what they say.
    """
    skin = head()[0]
    rig = rigs.build(skin, rigs.RIGS["Mixamo with a jaw"]())
    body = bpy.data.objects["Head"]
    body.shape_key_add(name="Basis", from_mix=False)
    for name, offsets in skin.body.keys.items():
        part = share if name == "jawOpen" else 1.0
        points = skin.body.rest + part * offsets
        block = body.shape_key_add(name=name, from_mix=False)
        block.value = 0.0
        block.points.foreach_set("co", points.astype(np.float32).ravel())
    speaker, proposal = fit.fit(rig)
    assert {"key", "bone"} == {place.kind for place in proposal.mapping.places()}
    assert "mouthSmileLeft" in {row.places[0].name for row in proposal.mapping.rows}
    moved, got = rigs.scored(speaker, head())
    assert got.correlation >= 0.97
    assert got.error <= 2.0
    assert got.gap <= 0.6
    for inside in ("TeethLower", "Tongue"):
        assert np.abs(moved[inside]).max() > 0.005


def test_keys_of_the_users_on_the_jaw_itself_stay_and_are_said(addon) -> None:
    rig = one_jaw()
    jaw = rig.pose.bones["Jaw"]
    for frame, angle in ((1, 0.0), (200, 0.0)):
        jaw.rotation_quaternion = (1.0, angle, 0.0, 0.0)
        jaw.keyframe_insert("rotation_quaternion", frame=frame)
    action = rig.animation_data.action
    speaker, _ = fit.fit(rig)
    _, controls, names, _ = head()
    values = np.asarray(controls[:40], np.float32)
    empty = np.zeros((len(names), 0, 3), np.float32)
    motion = Motion(values, empty, names, 30.0, controls=values, control_names=names)
    applied = clips.apply_motion(speaker, motion, clip="line")
    assert rig.animation_data.action == action
    assert any(action.name in finding.message for finding in applied.findings)


@pytest.mark.parametrize("posed", ["POSE", "REST"])
def test_a_linked_rig_speaks_through_its_override(addon, tmp_path, posed: str) -> None:
    rig = one_jaw()
    rig.data.pose_position = posed
    overridden(tmp_path / "library.blend", [rig, *rig.children])
    own = next(o for o in bpy.context.scene.objects if o.type == "ARMATURE")
    assert own.override_library is not None
    speaker, proposal = fit.fit(own)
    assert {"Jaw", "LeftEye", "RightEye"} <= {place.name for place in proposal.mapping.places()}
    if posed == "POSE":
        assert widest(speaker) > 0.005


def test_drawn_eyes_stay_within_their_lids(addon) -> None:
    """Irises that are flat and hang on bones far behind them go aside by a third of their width."""
    skin = head()[0]
    rig = rigs.RIGS["Unity humanoid"]()
    far = [
        replace(bone, head=(bone.head[0], -0.02, bone.head[2])) if bone.role == "eye" else bone
        for bone in rig.bones
    ]
    armature = rigs.build(skin, replace(rig, bones=tuple(far)))
    eyes = bpy.data.objects["Eyes"]
    for vertex in eyes.data.vertices:  # flat before the face
        vertex.co.y = -0.127 + 0.02 * (vertex.co.y + 0.11)
    bpy.context.view_layer.update()
    speaker, _ = fit.fit(armature)
    rest = mapped.evaluated(eyes)
    rigs.pose(speaker, eyeLookOutLeft=1.0, eyeLookInRight=1.0)
    went = mapped.evaluated(eyes) - rest
    width = np.ptp(rest[rest[:, 0] > 0][:, 0])
    assert 0.2 * width < went[:, 0].max() < 0.4 * width
