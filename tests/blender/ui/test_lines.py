# SPDX-License-Identifier: GPL-3.0-or-later
"""The verbs on lines and takes, as buttons and scripts call them."""

from __future__ import annotations

import numpy as np
import pytest

bpy = pytest.importorskip("bpy")

from tests.blender.jobs.test_lines import generate, jaw, lines_of  # noqa: E402


@pytest.fixture
def spoken(addon, demo, line):
    """Return a head whose one line has two takes."""
    generate(audio=str(line), start_frame=10)
    generate(audio=str(line), start_frame=10, seed=1)
    (clip,) = lines_of(demo)
    return demo, clip


def test_takes_are_switched_named_and_removed(spoken):
    head, clip = spoken
    ops = bpy.ops.diffspeaker
    second = jaw(head, range(10, 34))
    assert ops.show_take(head=head.name, clip=clip, take=0) == {"FINISHED"}
    assert np.abs(jaw(head, range(10, 34)) - second).max() > 0.1
    ops.rename_take(head=head.name, clip=clip, take=1, name="eager")
    assert [take.label for take in lines_of(head)[clip].takes] == ["", "eager"]
    with pytest.raises(RuntimeError, match="is shown"):
        ops.remove_take(head=head.name, clip=clip, take=0)
    with pytest.raises(RuntimeError, match="2 takes"):
        ops.show_take(head=head.name, clip=clip, take=5)
    ops.show_take(head=head.name, clip=clip, take=1)
    ops.remove_take(head=head.name, clip=clip, take=0)
    assert np.allclose(jaw(head, range(10, 34)), second, atol=1e-5)


def test_a_line_is_renamed_and_stays_itself(spoken):
    head, clip = spoken
    bpy.ops.diffspeaker.rename_line(head=head.name, clip=clip, name="hello")
    assert set(lines_of(head)) == {"hello"}
    assert head.diffspeaker.clip == "hello"
    head.diffspeaker.jaw = 0.5
    assert lines_of(head)["hello"].adjustments["jaw"] == 0.5


def test_takes_stand_side_by_side_and_nothing_is_left(spoken):
    from diffspeaker_blender.animation import compare

    head, clip = spoken

    def counts():
        data = bpy.data
        return [len(d) for d in (data.objects, data.meshes, data.shape_keys, data.actions)]

    before, shown = counts(), jaw(head, range(10, 34))
    bpy.ops.diffspeaker.compare_takes(head=head.name, clip=clip, take=0)
    twin = next(o for o in bpy.data.objects if compare.MARK in o and lines_of_safe(o))
    assert np.abs(jaw(twin, range(10, 34)) - shown).max() > 0.1
    assert np.allclose(jaw(head, range(10, 34)), shown, atol=1e-6)
    assert twin.matrix_world.translation.x > head.matrix_world.translation.x + head.dimensions.x
    bpy.ops.diffspeaker.compare_takes(head=head.name, clip=clip, take=0, stop=True)
    assert counts() == before


def lines_of_safe(obj):
    return obj.type == "MESH" and obj.data.shape_keys is not None and lines_of(obj)


def test_redo_range_makes_a_take(spoken):
    head, clip = spoken
    assert bpy.ops.diffspeaker.redo_range(head=head.name, clip=clip, first=15, last=25) == {
        "FINISHED"
    }
    assert len(lines_of(head)[clip].takes) == 3
    with pytest.raises(RuntimeError, match="does not speak"):
        bpy.ops.diffspeaker.redo_range(head=head.name, clip=clip, first=200, last=210)


def test_edits_can_be_dropped(spoken):
    from diffspeaker_blender.animation import actions, clips

    head, clip = spoken
    plain = jaw(head, range(10, 34))
    holder = head.data.shape_keys.animation_data
    bag = actions.channels(holder.action, actions.slot_of(holder.action, holder))
    curve = next(c for c in bag.fcurves if "jawOpen" in c.data_path and len(c.keyframe_points))
    curve.keyframe_points.insert(20, 0.33)
    curve.update()
    assert clips.edited(head, clip)
    bpy.ops.diffspeaker.drop_edits(head=head.name, clip=clip)
    assert np.allclose(jaw(head, range(10, 34)), plain, atol=1e-5)


def test_unknown_lines_are_told(spoken):
    head, _clip = spoken
    with pytest.raises(RuntimeError, match="no line"):
        bpy.ops.diffspeaker.show_take(head=head.name, clip="other", take=0)


def test_the_controls_attend_to_playhead_and_strip(spoken, line):
    from diffspeaker_blender.jobs import live

    head, clip = spoken
    generate(audio=str(line), start_frame=100)
    other = next(name for name in lines_of(head) if name != clip)
    assert live.adjust(head).clip == other
    assert live.attend(head, 20, "") == clip
    live.adjust(head).clip = other  # chosen by hand: it stays until the playhead moves
    assert live.attend(head, 20, "") == ""
    assert live.attend(head, 21, "") == clip
    assert live.attend(head, 22, lines_of(head)[other].uid) == ""
