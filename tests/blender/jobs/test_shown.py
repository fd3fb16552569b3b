# SPDX-License-Identifier: GPL-3.0-or-later
"""What is claimed of a result is what is shown: in the head's scene, at its time, on its mesh."""

from __future__ import annotations

import bpy
import numpy as np
import pytest

from diffspeaker_blender.animation import clips
from diffspeaker_blender.character import head as heads
from diffspeaker_blender.jobs import placing, plan, queue
from tests.blender.conftest import needs_sound


def strips(scene=None):
    editor = (scene or bpy.context.scene).sequence_editor_create()
    return editor.strips if hasattr(editor, "strips") else editor.sequences


def said():
    """Return the last message and what stands under it."""
    state = bpy.context.window_manager.diffspeaker
    return state.message, state.hint


def codes():
    return {finding.code for finding in queue.last().findings}


@needs_sound
@pytest.mark.parametrize("how", ["mute", "channel", "volume"])
@pytest.mark.parametrize("together", ["SEPARATE", "JOINED"])
def test_silent_strips_are_passed_over_and_named(demo, line, how, together):
    """Select All takes a muted alternative along; what is heard is spoken all the same."""
    strips().new_sound("take 1", str(line), 1, 1).select = True
    other = strips().new_sound("take 2", str(line), 2, 1)
    other.select = True
    if how == "mute":
        other.mute = True
    elif how == "channel":
        bpy.context.scene.sequence_editor.channels[2].mute = True
    else:
        other.volume = 0.0
    bpy.ops.diffspeaker.generate(strips=together)
    message, hint = said()
    assert message.startswith("Mouth moved")
    assert "take 2" in hint


@needs_sound
def test_one_strip_without_its_file_stops_no_other(demo, line, tmp_path):
    """The nine good ones are spoken, the tenth is named."""
    strips().new_sound("good", str(line), 1, 1).select = True
    strips().new_sound("gone", str(tmp_path / "gone.wav"), 2, 1).select = True
    bpy.ops.diffspeaker.generate()
    assert said()[0].startswith("Mouth moved")
    assert "gone.wav" in said()[1]


@needs_sound
def test_only_silence_is_refused(demo, line):
    """With nothing audible left there is one sentence saying why."""
    for number in (1, 2):
        strip = strips().new_sound(f"take {number}", str(line), number, 1)
        strip.select = strip.mute = True
    for together in ("SEPARATE", "JOINED"):
        with pytest.raises(RuntimeError, match="muted"):
            bpy.ops.diffspeaker.generate(strips=together)


def meta_of(chosen):
    """Make a meta strip of these, as the user does."""
    scene = bpy.context.scene
    area = bpy.context.window.screen.areas[0]
    area.ui_type = "SEQUENCE_EDITOR"
    if hasattr(bpy.context.workspace, "sequencer_scene"):
        bpy.context.workspace.sequencer_scene = scene
    for strip in strips():
        strip.select = strip in chosen
    region = next(r for r in area.regions if r.type == "WINDOW")
    with bpy.context.temp_override(window=bpy.context.window, area=area, region=region):
        bpy.ops.sequencer.meta_make()
    return scene.sequence_editor.active_strip


@needs_sound
def test_metas_in_metas_and_muted_takes_inside(demo, line):
    """The sound two metas deep is heard, the muted take beside it is not."""
    one = strips().new_sound("one", str(line), 1, 11)
    muted = strips().new_sound("two", str(line), 2, 11)
    muted.mute = True
    inner = meta_of([one, muted])
    outer = meta_of([inner])
    assert outer.type == "META"
    bpy.ops.diffspeaker.generate()
    assert said()[0].startswith("Mouth moved")
    assert queue.last().frames[0] == pytest.approx(11, abs=1)


def move(strip, frames):
    if hasattr(strip, "content_start"):
        strip.content_start += frames
    else:
        strip.frame_start += frames


def trim(strip, frames):
    if hasattr(strip, "left_handle"):
        strip.left_handle += frames
    else:
        strip.frame_final_start += frames


def slip(strip, frames):
    """Move the content below the handles."""
    first, last = plan.tracking.place(strip)
    move(strip, frames)
    if hasattr(strip, "left_handle"):
        strip.left_handle, strip.right_handle = int(first), int(last)
    else:
        strip.frame_final_start, strip.frame_final_end = int(first), int(last)


@needs_sound
@pytest.mark.parametrize(
    ("change", "later"),
    [(move, 12), (trim, 0), (slip, 12), (lambda s, n: setattr(s, "mute", True), 0),
     (lambda s, n: strips().remove(s), 0)],
    ids=["moved", "trimmed", "slipped", "muted", "removed"],
)  # fmt: skip
def test_a_strip_that_is_changed_while_the_model_works(demo, line, change, later):
    """The face follows the sound itself, not the strip's handle."""
    strip = strips().new_sound("line", str(line), 1, 101)
    strip.select = True
    waiting = plan.tasks(bpy.context)
    change(strip, 12)
    placed = queue.run(waiting)[0]
    assert placed.frames[0] == pytest.approx(101 + later, abs=1)
    assert placed.sentence.endswith("in sync")


@pytest.mark.parametrize(
    "rate", [(12, 1.0), (24, 1.0), (30, 1.001), (60, 1.001), (120, 1.0), (240, 1.0)]
)
def test_any_frame_rate_is_in_sync(demo, line, rate):
    """The model's last row ends before the sound does, whatever that is in frames."""
    bpy.context.scene.render.fps, bpy.context.scene.render.fps_base = rate
    bpy.ops.diffspeaker.generate(audio=str(line), start_frame=1)
    assert said()[0].endswith("sound in sync")


def test_a_result_beside_its_sound_is_not_in_sync(demo, line):
    """The sentence is no habit: keys that end early or begin late are told."""
    scene = bpy.context.scene
    placement = plan.tasks(bpy.context, file=str(line))[0].payload
    fps = plan.audio.scene_fps(scene)
    start = placement.place.start * fps
    end = start + fps
    assert placing.sync(scene, placement, (round(start), round(end)), start) == "sound in sync"
    for frames in ((start + 3, end), (start, end - 5), (start, end + 5)):
        assert "runs from" in placing.sync(scene, placement, frames, start)


def test_time_stretching_is_told_and_raises_no_false_alarm(demo, line):
    """Blender then plays the animation at another speed than the sound."""
    bpy.context.scene.render.frame_map_new = 200
    bpy.ops.diffspeaker.generate(audio=str(line), start_frame=1)
    assert "Time Stretching plays it 0.5 times" in said()[0]
    assert not any(finding.blocking for finding in queue.last().findings)


@needs_sound
@pytest.mark.skipif(
    "sequencer_scene" not in bpy.types.WorkSpace.bl_rna.properties,
    reason="one scene for all before 5.0",
)
@pytest.mark.parametrize("rate", [24, 25])
def test_a_sequencer_in_another_scene(demo, line, rate):
    """Storyboard layout: the head moves in its own scene, and different rates are told."""
    shot = bpy.context.scene
    edit = bpy.data.scenes.new("Edit")
    edit.render.fps, shot.render.fps = 24, rate
    strips(edit).new_sound("line", str(line), 1, 1).select = True
    bpy.context.workspace.sequencer_scene = edit
    bpy.ops.diffspeaker.generate()
    assert said()[0].endswith("sound in sync")
    assert ("other-rate" in codes()) == (rate != 24)


def test_a_deleted_head_does_not_speak(demo, line):
    """Blender knows the name of a deleted object for a while."""
    waiting = plan.tasks(bpy.context, file=str(line))
    bpy.data.objects.remove(bpy.data.objects["Speaking Head"], do_unlink=True)
    with pytest.raises(Exception, match="no longer in this file"):
        queue.run(waiting)


def test_an_unlinked_head_does_not_speak(demo, line):
    """Deleting in the outliner or by X only unlinks it."""
    waiting = plan.tasks(bpy.context, file=str(line))
    kept = bpy.data.objects["Speaking Head"]
    kept.use_fake_user = True
    for collection in list(kept.users_collection):
        collection.objects.unlink(kept)
    with pytest.raises(Exception, match="no longer in this file"):
        queue.run(waiting)


def test_edit_mode_loses_no_result(demo, line):
    """Keys written in Edit Mode would be lost on leaving it: they are there afterwards, or told."""
    waiting = plan.tasks(bpy.context, file=str(line))
    bpy.context.view_layer.objects.active = demo
    bpy.ops.object.mode_set(mode="EDIT")
    placed = queue.run(waiting)[0]
    if demo.mode == "EDIT":
        bpy.ops.object.mode_set(mode="OBJECT")
    assert placed.sentence.startswith("Mouth moved")
    keys = demo.data.shape_keys
    first, last = placed.frames
    values = []
    for frame in range(first, last):
        bpy.context.scene.frame_set(frame)
        values.append([keys.key_blocks[name].value for name in placed.applied.keys])
    assert np.ptp(values, axis=0).max() > 0.1


def test_a_line_beyond_the_scenes_end_is_told(demo, line):
    """All of it outside is a warning with a button; a part is a remark with the same button."""
    scene = bpy.context.scene
    scene.frame_end = 10
    bpy.ops.diffspeaker.generate(audio=str(line), start_frame=1)
    assert said()[0].endswith("sound in sync")
    assert "cut-off" in codes()
    assert bpy.context.window_manager.diffspeaker.fix == "extend-range"
    bpy.ops.diffspeaker.fix(name="extend-range", head=demo.name)
    assert scene.frame_end >= queue.last().frames[1]
    bpy.ops.diffspeaker.generate(audio=str(line), start_frame=500)
    assert "out-of-range" in codes()


def test_a_modifier_that_replaces_the_mesh_is_named(demo, line):
    """The shape keys move and nobody sees it."""
    tree = bpy.data.node_groups.new("Flat", "GeometryNodeTree")
    tree.interface.new_socket("Geometry", in_out="OUTPUT", socket_type="NodeSocketGeometry")
    cube, end = tree.nodes.new("GeometryNodeMeshCube"), tree.nodes.new("NodeGroupOutput")
    tree.links.new(cube.outputs[0], end.inputs[0])
    modifier = demo.modifiers.new("Stand-In", "NODES")
    modifier.node_group = tree
    bpy.ops.diffspeaker.generate(audio=str(line), start_frame=1)
    assert "flattened" in codes()
    assert "Stand-In" in said()[0]
    modifier.show_viewport = False
    bpy.ops.diffspeaker.generate(audio=str(line), start_frame=1)
    assert said()[0].endswith("sound in sync")


def test_a_face_is_what_is_seen(flame_like):
    """Keys that stand still are worn; animated, muted and driven ones are not."""
    mesh = flame_like.data
    flame_like.shape_key_add(name="Basis")
    basis, _ = heads.face_arrays(flame_like)
    for number, name in enumerate(("identity", "muted", "animated", "driven", "ours", "half")):
        block = flame_like.shape_key_add(name=name, from_mix=False)
        block.points.foreach_set("co", (basis + np.float32(number + 1)).ravel())
        block.value = 1.0
    blocks = mesh.shape_keys.key_blocks
    blocks["muted"].mute = True
    blocks["animated"].keyframe_insert("value", frame=1)
    blocks["driven"].driver_add("value").driver.expression = "1.0"
    group = flame_like.vertex_groups.new(name="half")
    group.add([0], 0.5, "REPLACE")
    blocks["half"].vertex_group = "half"
    worn, _ = heads.worn_arrays(flame_like, {"ours"})
    np.testing.assert_allclose(worn[1:] - basis[1:], 1.0, atol=1e-6)
    np.testing.assert_allclose(worn[0] - basis[0], 1.0 + 0.5 * 6, atol=1e-6)


@pytest.fixture
def flame_like(addon):
    """Return a small mesh in the scene."""
    mesh = bpy.data.meshes.new("Face")
    mesh.from_pydata([(0, 0, 0), (1, 0, 0), (0, 1, 0)], [], [(0, 1, 2)])
    obj = bpy.data.objects.new("Face", mesh)
    bpy.context.scene.collection.objects.link(obj)
    return obj


def test_a_head_split_at_its_seams_is_told_what_it_is(addon):
    """A FLAME head that came through glTF is “as it was imported”: say what happened to it."""
    mesh = bpy.data.meshes.new("h")
    corners = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 0), (0, 1, 0), (-1, 0, 0)]
    mesh.from_pydata(corners, [], [(0, 1, 2), (3, 4, 5)])
    told = heads.check_head(bpy.data.objects.new("h", mesh)).reason
    assert "2 of them lie on others" in told
    assert "as it was imported" not in told


def test_sounds_named_after_their_whole_text(demo, line, tmp_path):
    """File names end at 255 bytes, names in Blender at 63; neither hides a result."""
    long = line.rename(tmp_path / ("あ" * 80 + ".wav"))
    for output in ("NAMED", "CACHE"):
        bpy.ops.diffspeaker.generate(audio=str(long), output=output, start_frame=1)
        assert "mouth move" in said()[0].lower()


@needs_sound
def test_sounds_that_blender_decodes_are_lines_of_their_own(demo, line, tmp_path):
    """Two MP3s are two lines, and each is found again to redo a part of it."""
    soundfile = pytest.importorskip("soundfile")
    samples, rate = soundfile.read(line)
    for number in (1, 2):
        soundfile.write(tmp_path / f"{number}.mp3", samples, rate)
        path = str(tmp_path / f"{number}.mp3")
        bpy.ops.diffspeaker.generate(audio=path, start_frame=100 * number)
    assert clips.clips(demo) == ("1", "2")
    assert {clips.stored_clip(demo, name).source.file for name in ("1", "2")} == {
        str(tmp_path / "1.mp3"), str(tmp_path / "2.mp3"),
    }  # fmt: skip
