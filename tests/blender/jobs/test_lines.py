# SPDX-License-Identifier: GPL-3.0-or-later
"""A line is a sound at a place spoken by a character; it follows its strip and loses nothing."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

bpy = pytest.importorskip("bpy")

from tests.blender.conftest import needs_sound, values  # noqa: E402


def sequencer():
    editor = bpy.context.scene.sequence_editor_create()
    return editor.strips if hasattr(editor, "strips") else editor.sequences


def add_strip(path, frame, channel=1, name=None):
    """Add a selected sound strip."""
    for other in sequencer():
        other.select = False
    strip = sequencer().new_sound(name or path.name, str(path), channel, frame)
    strip.select = True
    return strip


def move(strip, frames):
    if hasattr(strip, "content_start"):
        strip.content_start += frames
    else:
        strip.frame_start += frames


def generate(**given):
    assert bpy.ops.diffspeaker.generate(**given) == {"FINISHED"}


def lines_of(head):
    from diffspeaker_blender.jobs import lines

    return lines.records_of(head)


def settle():
    """Let Blender tell of changes, as its main loop does."""
    bpy.context.view_layer.update()


def jaw(head, frames):
    """Return how far a head's jaw is open at some frames."""
    found = []
    for frame in frames:
        bpy.context.scene.frame_set(int(frame))
        keys = head.data.shape_keys
        found.append(max(abs(k.value) for k in keys.key_blocks if k.name.startswith("jawOpen")))
    return np.array(found)


@pytest.fixture
def second(addon, demo):
    """Return a second head beside the first."""
    bpy.ops.diffspeaker.add_demo_head()
    return next(
        obj for obj in bpy.data.objects
        if obj.type == "MESH" and len(obj.data.vertices) == 5023 and obj != demo
    )  # fmt: skip


def activate(*heads):
    for obj in bpy.context.view_layer.objects:
        obj.select_set(obj in heads)
    bpy.context.view_layer.objects.active = heads[0] if heads else None


# -- identity ---------------------------------------------------------------------------------


def test_two_sounds_of_one_name_are_two_lines(addon, demo, line, tmp_path):
    for number, folder in enumerate(("a", "b")):
        (tmp_path / folder).mkdir()
        path = tmp_path / folder / "001.wav"
        shutil.copy(line, path)
        generate(audio=str(path), start_frame=1 + 100 * number)
    assert set(lines_of(demo)) == {"001", "001 (2)"}
    assert jaw(demo, range(1, 25)).max() > 0.8
    assert jaw(demo, range(101, 125)).max() > 0.8
    generate(audio=str(tmp_path / "a" / "001.wav"), start_frame=1, seed=3)
    assert [len(record.takes) for record in lines_of(demo).values()] == [2, 1]


@needs_sound
def test_a_strips_line_is_known_by_its_mark(addon, demo, line):
    """Renamed, moved or copied: the strip's own line gets the take, a copy becomes another."""
    strip = add_strip(line, 10)
    generate()
    (first,) = lines_of(demo)
    strip.name = "Anna says hello"
    move(strip, 7)
    generate(seed=2)
    assert [len(record.takes) for record in lines_of(demo).values()] == [2]
    twin = add_strip(line, 100, name="twin")
    for key, value in strip.items():
        twin[key] = value
    generate(seed=3)
    assert set(lines_of(demo)) == {first, "twin"}
    assert jaw(demo, range(17, 41)).max() > 0.8
    assert jaw(demo, range(100, 124)).max() > 0.8


# -- takes and edits --------------------------------------------------------------------------


def test_a_range_is_made_anew_and_nothing_else(addon, demo, line):
    from diffspeaker_blender.jobs import plan, queue

    generate(audio=str(line), start_frame=10)
    before = values(demo, range(1, 50))
    (clip,) = lines_of(demo)
    queue.run([plan.redo(bpy.context, None, demo, clip, (18, 26))])
    after = values(demo, range(1, 50))
    inside = np.isin(np.arange(1, 50), range(18, 27))
    assert np.allclose(after[~inside], before[~inside], atol=1e-5)
    assert np.abs(after - before)[inside].max() > 0.05
    record = lines_of(demo)[clip]
    assert len(record.takes) == 2
    assert "frames 18–26" in record.take.about


def test_frames_without_the_line_cannot_be_redone(addon, demo, line):
    from diffspeaker_blender.errors import MotionError
    from diffspeaker_blender.jobs import plan

    generate(audio=str(line), start_frame=10)
    (clip,) = lines_of(demo)
    with pytest.raises(MotionError, match="does not speak"):
        plan.redo(bpy.context, None, demo, clip, (300, 310))
    with pytest.raises(MotionError, match="no line"):
        plan.redo(bpy.context, None, demo, "other", (10, 20))


def test_live_values_stay_unless_another_strength_is_asked_for(addon, demo, line):
    generate(audio=str(line), start_frame=10)
    demo.diffspeaker.intensity = 0.5
    demo.diffspeaker.jaw = 0.8
    generate(audio=str(line), start_frame=10, seed=1)
    assert demo.diffspeaker.intensity == pytest.approx(0.5)
    assert demo.diffspeaker.jaw == pytest.approx(0.8)
    generate(audio=str(line), start_frame=10, seed=2, intensity=1.4)
    assert demo.diffspeaker.intensity == pytest.approx(1.4)
    assert demo.diffspeaker.jaw == pytest.approx(0.8)


# -- following --------------------------------------------------------------------------------


@needs_sound
def test_a_line_follows_its_strip(addon, demo, line):
    """Moved, trimmed and brought back; where it was the face rests."""
    strip = add_strip(line, 10)
    generate()
    there = jaw(demo, range(5, 45))
    settle()
    move(strip, 50)
    settle()
    assert np.allclose(jaw(demo, range(55, 95)), there, atol=1e-5)
    assert jaw(demo, range(5, 45)).max() == 0
    if hasattr(strip, "left_handle"):
        strip.left_handle += 8
    else:
        strip.frame_final_start += 8
    settle()
    assert jaw(demo, range(55, 63)).max() < there.max() / 2
    assert np.allclose(jaw(demo, range(70, 95)), there[15:], atol=1e-5)
    if hasattr(strip, "left_handle"):
        strip.left_handle -= 8
    else:
        strip.frame_final_start -= 8
    move(strip, -50)
    settle()
    assert np.allclose(jaw(demo, range(5, 45)), there, atol=1e-5)
    assert len(lines_of(demo)) == 1


@needs_sound
def test_a_retimed_strip_retimes_its_line(addon, demo, line):
    strip = add_strip(line, 10)
    if not hasattr(strip, "retiming_keys"):
        pytest.skip("this Blender keeps retiming to itself")
    generate()
    there = jaw(demo, range(10, 34))
    settle()
    window = bpy.context.window_manager.windows[0]
    area = window.screen.areas[0]
    area.type = "SEQUENCE_EDITOR"
    if hasattr(window.workspace, "sequencer_scene"):
        window.workspace.sequencer_scene = bpy.context.scene
    bpy.context.scene.sequence_editor.active_strip = strip
    region = next(region for region in area.regions if region.type == "WINDOW")
    with bpy.context.temp_override(window=window, area=area, region=region):
        bpy.ops.sequencer.retiming_segment_speed_set(speed=50)
    settle()
    (record,) = lines_of(demo).values()
    assert record.speed == pytest.approx(0.5, rel=0.02)
    assert np.allclose(jaw(demo, range(10, 56, 2)), there[:23], atol=0.06)


@needs_sound
def test_following_can_be_left_to_a_click(addon, demo, line):
    from diffspeaker_blender.animation import storage
    from diffspeaker_blender.jobs import follow

    strip = add_strip(line, 10)
    generate()
    (clip,) = lines_of(demo)
    key = demo.data.shape_keys
    index = storage.read(key)
    index.clips[clip].follow = False
    storage.write(key, index)
    there = jaw(demo, range(10, 34))
    settle()
    move(strip, 50)
    settle()
    assert np.allclose(jaw(demo, range(10, 34)), there)
    assert "moved" in follow.step_of(lines_of(demo)[clip]).words
    follow.follow(demo, clip)
    assert np.allclose(jaw(demo, range(60, 84)), there, atol=1e-5)
    assert follow.step_of(lines_of(demo)[clip]).kind == "in"


@needs_sound
def test_a_deleted_strip_asks_nothing_and_loses_nothing(addon, demo, line):
    from diffspeaker_blender.jobs import follow

    strip = add_strip(line, 10)
    generate()
    there = jaw(demo, range(10, 34))
    sequencer().remove(strip)
    settle()
    assert np.allclose(jaw(demo, range(10, 34)), there)
    (record,) = lines_of(demo).values()
    assert follow.step_of(record).words == ""


@needs_sound
def test_a_line_dragged_over_another_harms_nothing(addon, demo, line):
    one = add_strip(line, 10)
    generate()
    add_strip(line, 100, channel=2, name="other.wav")
    generate(seed=2)
    before = jaw(demo, range(1, 140))
    settle()
    move(one, 90)
    settle()
    move(one, -90)
    settle()
    assert np.allclose(jaw(demo, range(1, 140)), before, atol=1e-5)
    assert len(lines_of(demo)) == 2


# -- the right character ----------------------------------------------------------------------


def test_the_active_head_speaks(addon, demo, second, line):
    """Whatever the panel once picked."""
    for speaker, other in ((demo, second), (second, demo)):
        activate(speaker)
        had = len(lines_of(other))
        generate(audio=str(line))
        assert len(lines_of(speaker)) == 1
        assert len(lines_of(other)) == had
        assert f" on {speaker.name}, " in bpy.context.window_manager.diffspeaker.message


@needs_sound
def test_a_strip_remembers_who_speaks_it(addon, demo, second, line):
    """With no head active it goes to its speaker; strips of several speakers each to their own."""
    one = add_strip(line, 10)
    activate(demo)
    generate()
    two = add_strip(line, 60, channel=2, name="two.wav")
    activate(second)
    generate()
    activate()
    one.select, two.select = True, False
    generate(seed=4)
    assert [len(r.takes) for r in lines_of(demo).values()] == [2]
    one.select = two.select = True
    activate(second)
    generate(seed=5)
    assert [len(r.takes) for r in lines_of(demo).values()] == [3]
    assert [len(r.takes) for r in lines_of(second).values()] == [2]


@needs_sound
def test_a_channel_named_after_a_head_is_spoken_by_it(addon, demo, second, line):
    add_strip(line, 10, channel=3)
    bpy.context.scene.sequence_editor.channels[3].name = second.name
    activate()
    generate()
    assert len(lines_of(second)) == 1
    assert not lines_of(demo)


@needs_sound
def test_strips_of_two_speakers_have_two_colours(addon, demo, second, line):
    one = add_strip(line, 10)
    activate(demo)
    generate()
    assert one.color_tag == "NONE"  # one speaker needs no colour
    two = add_strip(line, 60, channel=2, name="two.wav")
    three = add_strip(line, 110, channel=3, name="three.wav")
    one.select, two.select, three.select = False, True, False
    activate(second)
    generate()
    assert "NONE" not in {one.color_tag, two.color_tag}
    assert one.color_tag != two.color_tag
    assert three.color_tag == "NONE"
    two.color_tag = "COLOR_09"  # the user's own stays
    generate(seed=2)
    assert two.color_tag == "COLOR_09"


@needs_sound
def test_a_joined_line_moves_with_its_first_strip_and_stays_whole(addon, demo, line):
    one, two = add_strip(line, 10), add_strip(line, 40, channel=2, name="two.wav")
    one.select = two.select = True
    generate(strips="JOINED")
    there = jaw(demo, range(5, 75))
    assert there[40:].max() > 0.5
    settle()
    for strip in (one, two):
        move(strip, 30)
    settle()
    assert np.allclose(jaw(demo, range(35, 105)), there, atol=1e-4)


def test_what_became_of_other_lines_is_said(addon, demo, line):
    from diffspeaker_blender.jobs import queue

    def told():
        return [finding.code for finding in queue.last().findings]

    generate(audio=str(line), start_frame=10)
    assert told() == []
    generate(audio=str(line), start_frame=10)
    assert told() == ["same-take"]
    other = line.with_name("other.wav")
    other.write_bytes(line.read_bytes())
    generate(audio=str(other), start_frame=10)
    assert told() == ["covered"]


def test_nothing_is_written_under_a_dragging_hand(addon, demo, line, monkeypatch):
    """A result that comes while keys are dragged waits until they are let go."""
    import time

    from diffspeaker_blender.jobs import plan, queue, status

    dragging = [True]
    monkeypatch.setattr(status, "hands_full", lambda: dragging[0])
    queue.submit(plan.tasks(bpy.context, file=str(line), start=10.0))
    end = time.monotonic() + 20
    while not queue._held:
        assert time.monotonic() < end
        queue.look()
        time.sleep(0.01)
    assert queue.busy()
    assert not lines_of(demo)
    dragging[0] = False
    queue.look()
    assert len(lines_of(demo)) == 1
    assert not queue.busy()
