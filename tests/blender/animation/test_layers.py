# SPDX-License-Identifier: GPL-3.0-or-later
"""Lip-sync beside an animator's own layers: NLA strips, pushed-down actions, keys of their own."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import bpy
import numpy as np
import pytest

from diffspeaker_blender.animation import actions, clips, diagnosis
from tests.blender.animation.test_clips import speech, worst


@pytest.fixture(autouse=True)
def thirty() -> None:
    bpy.context.scene.render.fps = 30
    bpy.context.scene.frame_end = 400


def opened(obj: Any, first: int, last: int) -> float:
    """Return how far the jaw's key goes at most between two frames."""
    most = 0.0
    for frame in range(first, last):
        bpy.context.scene.frame_set(frame)
        most = max(most, obj.data.shape_keys.key_blocks["jawOpen"].value)
    return most


def push_down(obj: Any) -> Any:
    """Push the active action down, as the button in the NLA does."""
    data = obj.data.shape_keys.animation_data
    action, track = data.action, data.nla_tracks.new()
    strip = track.strips.new(action.name, int(action.frame_range[0]), action)
    if getattr(strip, "action_slot", 0) is None:
        strip.action_slot = action.slots[0]
    data.action = None
    return strip


def users_action(obj: Any, name: str, value: float) -> Any:
    """Give the head an active action of the user's on one channel."""
    key = obj.data.shape_keys
    action = bpy.data.actions.new("Mine")
    data = key.animation_data_create()
    data.action = action
    key.key_blocks[name].value = value
    key.key_blocks[name].keyframe_insert("value", frame=1)
    return data.action


def test_a_pushed_down_line_stays_alive(grid: SimpleNamespace) -> None:
    """The next line gets a strip of its own; both move, are adjusted, replaced and removed."""
    one, two, obj = speech(1), speech(2), grid.object
    clips.apply_motion(obj, one, clip="one", start_frame=1)
    strip = push_down(obj)
    before = opened(obj, 1, 60)
    applied = clips.apply_motion(obj, two, clip="two", start_frame=150)
    assert opened(obj, 1, 60) == pytest.approx(before) and before > 0.1
    assert worst(obj, grid.vertices, two, 150) <= 2e-6
    assert diagnosis.verify(obj, applied) == ()
    assert obj.data.shape_keys.animation_data.action is None
    again = clips.apply_motion(obj, two, clip="one", start_frame=1)  # where it plays
    assert again.action_name == strip.action.name
    assert worst(obj, grid.vertices, two, 1) <= 2e-6
    assert diagnosis.verify(obj, again) == ()
    clips.remove_motion(obj)
    assert obj.data.shape_keys is None


def test_a_strip_beside_an_active_line_really_plays(grid: SimpleNamespace) -> None:
    """A line on the NLA after one in the active action: both are seen."""
    one, two, obj = speech(1), speech(2), grid.object
    clips.apply_motion(obj, one, clip="one", start_frame=1)
    applied = clips.apply_motion(obj, two, clip="two", start_frame=150, nla=True)
    assert worst(obj, grid.vertices, one, 1) <= 2e-6
    assert worst(obj, grid.vertices, two, 150) <= 2e-6
    assert diagnosis.verify(obj, applied) == ()
    three = clips.apply_motion(obj, two, clip="three", start_frame=250)
    assert worst(obj, grid.vertices, one, 1) <= 2e-6
    assert worst(obj, grid.vertices, two, 250) <= 2e-6
    assert diagnosis.verify(obj, three) == ()


@pytest.mark.parametrize("pushed", [False, True])
def test_keys_of_the_users_on_the_same_channel_are_named(
    grid: SimpleNamespace, pushed: bool
) -> None:
    """An action of the user's above wins and is named; below it loses, is named and is kept."""
    obj = grid.object
    clips.apply_motion(obj, speech(1), clip="first", start_frame=1)
    clips.remove_motion(obj)
    obj.shape_key_add(name="Basis", from_mix=False)
    block = obj.shape_key_add(name="jawOpen", from_mix=False)
    block.points.foreach_set("co", (grid.vertices + speech(1).shapes[0]).ravel())
    mine = users_action(obj, "jawOpen", 0.3)
    if pushed:
        push_down(obj).frame_end = 300
    applied = clips.apply_motion(obj, speech(1), clip="line", start_frame=1, reuse=True)
    said = [found for found in diagnosis.verify(obj, applied) if found.code == "rivals"]
    assert len(said) == 1 and "jawOpen" in said[0].message and "Mine" in said[0].message
    assert said[0].blocking is (not pushed)
    bag = actions.channels(mine, actions.slot_of(mine, None), ensure=False)
    keys = actions.read_keys(bag.fcurves.find(actions.path_of("jawOpen")))
    np.testing.assert_allclose(keys, [[1, 0.3]], atol=1e-6)


def test_three_lines_leave_the_keys_of_one(grid: SimpleNamespace) -> None:
    """Shape keys are shared, and every line is removed without a trace."""
    obj, motion = grid.object, speech(1)
    clips.apply_motion(obj, motion, clip="a", start_frame=1)
    count = len(obj.data.shape_keys.key_blocks)
    for place, name in enumerate("bc", 1):
        clips.apply_motion(obj, motion, clip=name, start_frame=1 + 100 * place)
    assert len(obj.data.shape_keys.key_blocks) == count
    clips.remove_motion(obj)
    assert obj.data.shape_keys is None and not bpy.data.actions


def test_a_head_lives_between_its_lines(grid: SimpleNamespace) -> None:
    """Idle fills the gaps alone, again replaces itself, and goes without a trace."""
    from diffspeaker_blender.animation import idling

    obj, scene = grid.object, bpy.context.scene
    motion = speech(1)
    lids = motion.shapes[-1:]
    motion = replace(
        motion,
        names=(*motion.names, "eyeBlinkRight"),
        weights=np.c_[motion.weights, motion.weights[:, -1]],
        shapes=np.concatenate([motion.shapes, lids]),
    )
    clips.apply_motion(obj, motion, clip="line", start_frame=150)
    spoken = [opened(obj, frame, frame + 1) for frame in (160, 180)]
    for _again in range(2):
        assert idling.fill(obj, scene) == 2
    assert len(clips.clips(obj)) == 3
    assert [opened(obj, frame, frame + 1) for frame in (160, 180)] == spoken
    blinks = []
    for frame in range(1, 140):
        scene.frame_set(frame)
        blinks.append(obj.data.shape_keys.key_blocks["eyeBlinkRight"].value)
    assert max(blinks) > 0.7 and opened(obj, 1, 140) == 0
    assert idling.remove(obj) == 2 and clips.clips(obj) == ("line",)
