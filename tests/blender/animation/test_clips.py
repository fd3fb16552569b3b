# SPDX-License-Identifier: GPL-3.0-or-later
"""Shape keys and curves: exact, replaceable, removable, and the user's own work untouched."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import bpy
import numpy as np
import pytest

from diffspeaker_blender.animation import actions, clips, diagnosis
from diffspeaker_blender.character.head import GIVEN
from diffspeaker_blender.errors import HeadError, MotionError
from diffspeaker_blender.motion import adjust
from diffspeaker_blender.motion.motion import Adjustments, Motion, retime
from tests.strategies import talking


def speech(seed: int = 1, frames: int = 60, **options: object) -> Motion:
    """Return a motion for the 600 vertices of the `grid` fixture."""
    return talking(seed, frames, vertices=600, closures=(20, 41), **options)  # type: ignore[arg-type]


def evaluated(obj: bpy.types.Object, frame: float) -> np.ndarray:
    """Return the vertices Blender shows at a frame."""
    bpy.context.scene.frame_set(int(frame), subframe=frame - int(frame))
    mesh = obj.evaluated_get(bpy.context.evaluated_depsgraph_get()).to_mesh()
    points = np.empty(3 * len(mesh.vertices), np.float32)
    mesh.vertices.foreach_get("co", points)
    return points.reshape(-1, 3)


def worst(obj: bpy.types.Object, basis: np.ndarray, motion: Motion, start: float = 1.0) -> float:
    """Return the largest distance between shown and wanted vertices over all frames."""
    return max(distances(obj, basis, motion, start))


def distances(
    obj: bpy.types.Object, basis: np.ndarray, motion: Motion, start: float = 1.0
) -> list[float]:
    """Return the largest distance between shown and wanted vertices at each frame."""
    scene = bpy.context.scene
    fps = scene.render.fps / scene.render.fps_base
    wanted, frames = retime(motion, fps, start_frame=start)
    offsets = wanted.offsets()
    return [
        float(np.linalg.norm(evaluated(obj, frame) - basis - offsets[row], axis=1).max())
        for row, frame in enumerate(frames)
    ]


@pytest.fixture(autouse=True)
def thirty() -> None:
    """Set the scene to 30 frames a second."""
    bpy.context.scene.render.fps = 30


@pytest.mark.parametrize("mode", ["named", "compact", "every frame"])
def test_every_mode_shows_the_motion(grid: SimpleNamespace, mode: str) -> None:
    """What Blender evaluates is the motion, to the stated error, negative weights included."""
    motion = speech()
    motion = replace(motion, weights=motion.weights - 0.2, controls=None)
    applied = clips.apply_motion(grid.object, motion, mode=mode, start_frame=10)
    allowed = 0.05e-3 if mode == "compact" else 2e-6
    assert worst(grid.object, grid.vertices, motion, 10) <= allowed
    assert applied.frames == (10, 69)
    assert applied.sentence().startswith("Mouth moved ")
    assert diagnosis.verify(grid.object, applied) == ()
    np.testing.assert_allclose(evaluated(grid.object, 1), grid.vertices, atol=1e-7)
    np.testing.assert_allclose(evaluated(grid.object, 100), grid.vertices, atol=1e-7)


@pytest.mark.parametrize(("fps", "base"), [(24, 1.0), (30, 1.001), (60, 1.0), (25, 1.0)])
def test_other_rates(grid: SimpleNamespace, fps: int, base: float) -> None:
    """A 30 fps model lands right in scenes of other rates, from a fractional start."""
    bpy.context.scene.render.fps, bpy.context.scene.render.fps_base = fps, base
    motion = speech(2)
    applied = clips.apply_motion(grid.object, motion, start_frame=33.4)
    assert worst(grid.object, grid.vertices, motion, 33.4) <= 2e-6
    seconds = (applied.frames[1] - 33.4) / fps * base
    assert seconds == pytest.approx(59 / 30, abs=1.0 / fps)


def test_one_action_one_slot_of_its_own(grid: SimpleNamespace) -> None:
    """The result is one action, marked as ours, whose slot the key reads."""
    clips.apply_motion(grid.object, speech(), action_name="Line 1")
    data = grid.object.data.shape_keys.animation_data
    assert data.action.name == "Line 1"
    assert actions.is_ours(data.action)
    assert len(bpy.data.actions) == 1
    if hasattr(data, "action_slot"):
        assert data.action_slot.target_id_type == "KEY"
        assert len(data.action.slots) == 1


def snapshot(obj: bpy.types.Object) -> dict[str, object]:
    """Return what is the user's on a head."""
    key = obj.data.shape_keys
    blocks = {}
    for block in key.key_blocks:
        if block.name.startswith("My"):
            points = np.empty(3 * len(block.points), np.float32)
            block.points.foreach_get("co", points)
            blocks[block.name] = (points.tobytes(), block.value, block.mute, block.slider_max)
    return {
        "keys": blocks,
        "order": [b.name for b in key.key_blocks if b.name.startswith(("My", "Basis"))],
        "active": obj.active_shape_key.name,
        "drivers": [d.data_path for d in key.animation_data.drivers],
        "selected": obj.select_get(),
        "actions": {a.name for a in bpy.data.actions if not actions.is_ours(a)},
    }


def users_head(grid: SimpleNamespace) -> bpy.types.Object:
    """Give the head a user's keys, a driver, an object action and an active key."""
    obj = grid.object
    obj.shape_key_add(name="Basis")
    for number, name in enumerate(("My Smirk", "My Scar", "My Wink")):
        block = obj.shape_key_add(name=name)
        block.points[number].co.x += 0.01
        block.value = 0.25
    obj.data.shape_keys.driver_add('key_blocks["My Scar"].value').driver.expression = "0.5"
    obj.keyframe_insert("location", frame=1)
    obj.active_shape_key_index = 2
    return obj


def test_the_users_work_survives(grid: SimpleNamespace) -> None:
    """Apply, apply again, adjust and remove: keys, drivers, order, selection and actions stay."""
    obj = users_head(grid)
    before = snapshot(obj)
    clips.apply_motion(obj, speech(), clip="line")
    assert snapshot(obj) == before
    names = [block.name for block in obj.data.shape_keys.key_blocks]
    clips.apply_motion(obj, speech(), clip="line")
    assert [block.name for block in obj.data.shape_keys.key_blocks] == names
    clips.adjust_clip(obj, "line", Adjustments(jaw=0.5))
    assert snapshot(obj) == before
    assert clips.remove_motion(obj) == len(names) - 4
    assert snapshot(obj) == before
    assert not [name for name in obj.data.shape_keys.keys() if "diffspeaker" in name]  # noqa: SIM118
    assert not [action for action in bpy.data.actions if actions.is_ours(action)]


def test_removing_leaves_nothing_on_a_bare_head(grid: SimpleNamespace) -> None:
    """A head that had no shape keys has none afterwards, Basis included."""
    clips.apply_motion(grid.object, speech())
    clips.remove_motion(grid.object)
    assert grid.object.data.shape_keys is None
    assert len(bpy.data.actions) == 0


def test_users_action_on_the_keys_plays_on(grid: SimpleNamespace) -> None:
    """An action the user has on the shape keys is neither changed nor stopped by ours."""
    obj = users_head(grid)
    block = obj.data.shape_keys.key_blocks["My Smirk"]
    for frame, value in ((1, 0.0), (30, 1.0)):
        block.value = value
        block.keyframe_insert("value", frame=frame)
    theirs = obj.data.shape_keys.animation_data.action
    applied = clips.apply_motion(obj, speech(), clip="line", start_frame=10)
    assert obj.data.shape_keys.animation_data.action == theirs
    assert diagnosis.verify(obj, applied) == ()
    bpy.context.scene.frame_set(30)
    assert block.value == pytest.approx(1.0)
    jaw = obj.data.shape_keys.key_blocks["jawOpen"]
    assert jaw.value == pytest.approx(float(speech().weights[20, 0]), abs=1e-4)
    clips.remove_motion(obj)
    assert not len(obj.data.shape_keys.animation_data.nla_tracks)
    assert theirs.name in bpy.data.actions


def test_nla_strip(grid: SimpleNamespace) -> None:
    """With `nla` each clip has its action on a strip, and both play."""
    first, second = speech(1), speech(2)
    one = clips.apply_motion(grid.object, first, clip="a", nla=True, start_frame=1)
    two = clips.apply_motion(grid.object, second, clip="b", nla=True, start_frame=101)
    data = grid.object.data.shape_keys.animation_data
    assert data.action is None
    tracks = [track for track in data.nla_tracks if track.name != actions.REST]
    assert [strip.name for track in tracks for strip in track.strips] == ["a", "b"]
    assert worst(grid.object, grid.vertices, first, 1) <= 2e-6
    assert worst(grid.object, grid.vertices, second, 101) <= 2e-6
    assert diagnosis.verify(grid.object, one) == diagnosis.verify(grid.object, two) == ()
    np.testing.assert_allclose(evaluated(grid.object, 90), grid.vertices, atol=1e-6)
    clips.remove_motion(grid.object, "a")
    assert len([action for action in bpy.data.actions if actions.is_ours(action)]) == 1
    assert worst(grid.object, grid.vertices, second, 101) <= 2e-6
    clips.remove_motion(grid.object, "b")
    assert not len(bpy.data.actions) and not len(data.nla_tracks)


def test_a_name_the_user_took(grid: SimpleNamespace) -> None:
    """A jawOpen of the user's stays the user's: ours gets another name, or theirs is driven."""
    obj = grid.object
    obj.shape_key_add(name="Basis")
    theirs = obj.shape_key_add(name="jawOpen")
    theirs.points[0].co.x += 0.5
    theirs.value = 0.0
    applied = clips.apply_motion(obj, speech(), clip="line")
    assert applied.keys[0] == "jawOpen.001"
    assert worst(obj, grid.vertices, speech()) <= 2e-6
    clips.remove_motion(obj)
    assert [block.name for block in obj.data.shape_keys.key_blocks] == ["Basis", "jawOpen"]
    applied = clips.apply_motion(obj, speech(), clip="line", reuse=True)
    assert applied.keys[0] == "jawOpen"
    clips.remove_motion(obj)
    assert obj.data.shape_keys.key_blocks["jawOpen"].points[0].co.x == pytest.approx(0.5 - 0.1)


def test_a_head_that_comes_with_its_keys(grid: SimpleNamespace) -> None:
    """Keys with the right shape already are driven as they are, so what follows them follows."""
    obj, motion = grid.object, speech()
    controls = np.concatenate([motion.controls, motion.controls[:, :1]], 1)
    motion = replace(motion, controls=controls, control_names=(*motion.names, "tongueOut"))
    obj.shape_key_add(name="Basis")
    for name, shape in zip((*motion.names, "tongueOut"), [*motion.shapes, 0 * motion.shapes[0]],
                           strict=True):  # fmt: skip
        block = obj.shape_key_add(name=name)
        block.points.foreach_set("co", (grid.vertices + shape).ravel())
        block.value = 0.0
    applied = clips.apply_motion(obj, motion, clip="line")
    assert applied.keys == (*motion.names, "tongueOut")
    assert len(obj.data.shape_keys.key_blocks) == 8
    assert worst(obj, grid.vertices, speech()) <= 2e-6
    bpy.context.scene.frame_set(10)
    assert obj.data.shape_keys.key_blocks["tongueOut"].value > 0.1
    clips.remove_motion(obj)
    assert len(obj.data.shape_keys.key_blocks) == 8
    np.testing.assert_allclose(evaluated(obj, 10), grid.vertices, atol=1e-7)


def test_a_given_head_of_another_version(grid: SimpleNamespace) -> None:
    """Keys of a head of ours are brought up to date, not doubled, so its teeth go on following."""
    obj, motion = grid.object, speech()
    obj.shape_key_add(name="Basis")
    for name, shape in zip(motion.names, motion.shapes, strict=True):
        block = obj.shape_key_add(name=name)
        block.points.foreach_set("co", (grid.vertices + 0.8 * shape).ravel())
        block.value = 0.0
    obj.data.shape_keys[GIVEN] = True
    applied = clips.apply_motion(obj, motion, clip="line")
    assert applied.keys == motion.names
    assert worst(obj, grid.vertices, speech()) <= 2e-6
    clips.remove_motion(obj)
    assert len(obj.data.shape_keys.key_blocks) == 7


def test_clips_share_a_head(grid: SimpleNamespace) -> None:
    """Lines at different places share keys, each can be replaced or removed alone."""
    one, two = speech(1), speech(2)
    two = replace(two, shapes=one.shapes)
    obj = grid.object
    clips.apply_motion(obj, one, clip="one", start_frame=1)
    clips.apply_motion(obj, two, clip="two", start_frame=61)  # touching
    assert len(obj.data.shape_keys.key_blocks) == 7
    assert clips.clips(obj) == ("one", "two")
    assert worst(obj, grid.vertices, one, 1) <= 2e-6
    assert worst(obj, grid.vertices, two, 61) <= 2e-6
    clips.apply_motion(obj, two, clip="one", start_frame=1)
    assert worst(obj, grid.vertices, two, 1) <= 2e-6
    assert worst(obj, grid.vertices, two, 61) <= 2e-6
    clips.remove_motion(obj, "two")
    assert worst(obj, grid.vertices, two, 1) <= 2e-6
    np.testing.assert_allclose(evaluated(obj, 70), grid.vertices, atol=1e-6)
    np.testing.assert_allclose(evaluated(obj, 69), grid.vertices, atol=1e-6)


def test_clips_with_other_shapes_do_not_disturb(grid: SimpleNamespace) -> None:
    """Two takes whose shapes have the same names but differ each keep their own."""
    one, two = speech(1), speech(2)
    clips.apply_motion(grid.object, one, clip="one", start_frame=1)
    clips.apply_motion(grid.object, two, clip="two", start_frame=100)
    assert worst(grid.object, grid.vertices, one, 1) <= 2e-6
    assert worst(grid.object, grid.vertices, two, 100) <= 2e-6


def test_a_later_clip_takes_over_its_frames(grid: SimpleNamespace) -> None:
    """Where clips overlap the newer one plays, and the older keeps the rest, also when adjusted."""
    one, two = speech(1), speech(2)
    two = replace(two, shapes=one.shapes)
    obj = grid.object
    clips.apply_motion(obj, one, clip="one", start_frame=1)
    clips.apply_motion(obj, two, clip="two", start_frame=31)
    clips.adjust_clip(obj, "one", Adjustments())
    assert worst(obj, grid.vertices, two, 31) <= 2e-6
    wanted = one.offsets()[9]
    np.testing.assert_allclose(evaluated(obj, 10) - grid.vertices, wanted, atol=2e-6)


def test_live_controls_need_no_model(grid: SimpleNamespace) -> None:
    """Gains and offset are applied from the stored motion; neutral settings bring it back."""
    obj, motion = grid.object, speech()
    clips.apply_motion(obj, motion, clip="line", start_frame=5)
    changed = Adjustments(intensity=1.5, jaw=0.5, offset=0.2, smoothing=0.5)
    clips.adjust_clip(obj, "line", changed)
    assert worst(obj, grid.vertices, adjust.adjust(motion, changed), 5) <= 2e-6
    stored = clips.load_stored(obj, "line")
    assert stored is not None
    assert stored[1] == changed
    np.testing.assert_array_equal(stored[0].weights, motion.weights)
    clips.adjust_clip(obj, "line", Adjustments())
    assert worst(obj, grid.vertices, motion, 5) <= 2e-6
    np.testing.assert_allclose(evaluated(obj, 75), grid.vertices, atol=1e-6)


def test_live_controls_of_regions(grid: SimpleNamespace) -> None:
    """Components without names follow the region masks, and come back when reset."""
    regions = np.zeros((2, 600), np.float32)
    regions[0, :300] = 1
    motion = replace(
        speech(),
        names=tuple(f"speech.{k:02d}" for k in range(6)),
        controls=None,
        regions=regions,
        region_names=("jaw", "upper"),
    )
    clips.apply_motion(grid.object, motion, mode="compact", clip="line")
    half = Adjustments(jaw=0.5)
    clips.adjust_clip(grid.object, "line", half)
    assert worst(grid.object, grid.vertices, adjust.adjust(motion, half)) <= 2e-6
    clips.adjust_clip(grid.object, "line", Adjustments())
    assert worst(grid.object, grid.vertices, motion) <= 2e-6


def test_hand_edits_survive_live_controls(grid: SimpleNamespace) -> None:
    """A curve the animator edited is noticed, kept, and scaled by the control like the others."""
    obj = grid.object
    applied = clips.apply_motion(obj, speech(), clip="line")
    assert clips.edited(obj, "line") == ()
    key = obj.data.shape_keys
    bag = actions.channels(
        key.animation_data.action, actions.slot_of(key.animation_data.action, key.animation_data)
    )
    point = bag.fcurves.find('key_blocks["mouthPucker"].value').keyframe_points[12]
    frame, point.co.y = point.co.x, 0.9
    assert clips.edited(obj, "line") == ("mouthPucker",)
    clips.adjust_clip(obj, "line", Adjustments(intensity=0.0))
    clips.adjust_clip(obj, "line", Adjustments(intensity=0.5))
    pucker = bag.fcurves.find('key_blocks["mouthPucker"].value')
    assert pucker.evaluate(frame) == pytest.approx(0.45, abs=1e-4)
    assert clips.edited(obj, "line") == ("mouthPucker",)
    clips.adjust_clip(obj, "line", Adjustments())
    pucker = bag.fcurves.find('key_blocks["mouthPucker"].value')
    assert pucker.evaluate(frame) == pytest.approx(0.9, abs=1e-4)
    assert applied.keys[2] == "mouthPucker"


def test_sculpted_keys_survive_a_new_take(grid: SimpleNamespace) -> None:
    """A shape the animator improved is not overwritten by the next take on the same head."""
    clips.apply_motion(grid.object, speech(), clip="line")
    point = grid.object.data.shape_keys.key_blocks["jawOpen"].points[7]
    point.co.z = 0.5
    take = replace(speech(), weights=speech().weights * 0.5)
    clips.apply_motion(grid.object, take, clip="line")
    assert grid.object.data.shape_keys.key_blocks["jawOpen"].points[7].co.z == 0.5


def test_few_keys(grid: SimpleNamespace) -> None:
    """Few keys are fewer and hold the stated millimetres at 95 of 100 frames."""
    motion = speech(frames=200, hurry=0.3)
    lips = [not name.startswith(("eye", "brow")) for name in motion.names]
    motion = replace(motion, weights=motion.weights * np.array(lips, np.float32))
    full = clips.apply_motion(grid.object, motion, clip="line")
    few = clips.apply_motion(grid.object, motion, clip="line", tolerance=0.5)
    assert few.keyframes < 0.7 * full.keyframes
    assert np.percentile(distances(grid.object, grid.vertices, motion), 95) <= 0.51e-3


def test_motion_survives_the_file(grid: SimpleNamespace, tmp_path: Path) -> None:
    """After saving and opening, the clip can still be adjusted and removed."""
    clips.apply_motion(grid.object, speech(), clip="Zeile 1 – über")
    path = tmp_path / "wörk file.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(path))
    bpy.ops.wm.open_mainfile(filepath=str(path))
    obj = bpy.data.objects["Face"]
    assert clips.clips(obj) == ("Zeile 1 – über",)
    half = Adjustments(intensity=0.5)
    clips.adjust_clip(obj, "Zeile 1 – über", half)
    assert worst(obj, grid.vertices, adjust.adjust(speech(), half)) <= 2e-6
    clips.remove_motion(obj)
    assert obj.data.shape_keys is None


def test_a_copied_head_keeps_its_own_motion(grid: SimpleNamespace) -> None:
    """Removing the speech of a full copy leaves the original speaking."""
    clips.apply_motion(grid.object, speech(), clip="line")
    copy = grid.object.copy()
    copy.data = grid.object.data.copy()
    bpy.context.collection.objects.link(copy)
    clips.remove_motion(copy)
    assert worst(grid.object, grid.vertices, speech()) <= 2e-6


def spoil(obj: bpy.types.Object, how: str) -> None:
    """Do to a finished head what users do."""
    key = obj.data.shape_keys
    data = key.animation_data
    if how == "keys-muted":
        key.key_blocks["jawOpen"].mute = True
    elif how == "pinned":
        obj.show_only_shape_key = True
    elif how == "slider-clamps":
        key.key_blocks["jawOpen"].slider_max = 0.1
    elif how == "wrong-action":
        data.action = bpy.data.actions.new("Other")
    elif how == "no-action":
        data.action = None
    elif how == "wrong-slot":
        if not hasattr(data.action, "slots"):
            pytest.skip("no action slots in this Blender")
        data.action_slot = data.action.slots.new(id_type="KEY", name="Empty")
    elif how == "nla":
        track = data.nla_tracks.new()
        track.strips.new("Solo", 1, bpy.data.actions.new("Other"))
        track.is_solo = True
    elif how == "curves-muted":
        actions.channels(data.action, actions.slot_of(data.action, data)).fcurves[0].mute = True
    elif how == "driven":
        key.driver_add('key_blocks["jawOpen"].value').driver.expression = "0.0"
    elif how == "cache":
        obj.modifiers.new("Cache", "MESH_CACHE")
    elif how == "hidden":
        obj.hide_set(True)
    elif how == "out-of-range":
        bpy.context.scene.frame_start, bpy.context.scene.frame_end = 500, 600


@pytest.mark.parametrize("how", [
    "keys-muted", "pinned", "slider-clamps", "wrong-action", "no-action", "wrong-slot", "nla",
    "curves-muted", "driven", "cache", "hidden", "out-of-range",
])  # fmt: skip
def test_why_nothing_moves(grid: SimpleNamespace, how: str) -> None:
    """Each way to silence a face is found, named and mended by its own button."""
    obj = grid.object
    applied = clips.apply_motion(obj, speech(), clip="line")
    spoil(obj, how)
    findings = diagnosis.verify(obj, applied)
    assert [finding.code for finding in findings] == [how] or (
        how == "wrong-action" and findings[0].code in ("wrong-action", "no-action")
    )
    assert findings[0].fix_label
    diagnosis.fix(obj, findings[0].fix)
    assert diagnosis.verify(obj, applied) == ()


def test_refusals_change_nothing(grid: SimpleNamespace) -> None:
    """Edit Mode, a wrong mesh and absolute keys are refused before anything is written."""
    obj = grid.object
    bpy.ops.object.mode_set(mode="EDIT")
    with pytest.raises(HeadError, match="Edit Mode"):
        clips.apply_motion(obj, speech())
    bpy.ops.object.mode_set(mode="OBJECT")
    with pytest.raises(MotionError, match="600"):
        clips.apply_motion(obj, talking(1, vertices=599))
    with pytest.raises(MotionError, match="no stored motion"):
        obj.shape_key_add(name="Basis")
        clips.adjust_clip(obj, "line", Adjustments())
    obj.data.shape_keys.use_relative = False
    with pytest.raises(HeadError, match="absolute"):
        clips.apply_motion(obj, speech())
    assert len(bpy.data.actions) == 0


def test_a_minute_is_written_in_a_moment() -> None:
    """Keys of 60 s on 5,023 vertices: at most 0.3 s on a quiet machine (three times that here)."""
    mesh = bpy.data.meshes.new("Head")
    mesh.from_pydata(np.random.default_rng(0).normal(0, 0.1, (5023, 3)).tolist(), [], [])
    obj = bpy.data.objects.new("Head", mesh)
    bpy.context.collection.objects.link(obj)
    motion = talking(1, 1800, vertices=5023)
    random = np.random.default_rng(1)
    wide = replace(
        motion,
        weights=np.tile(motion.weights, (1, 10)),
        shapes=random.normal(0, 0.004, (60, 5023, 3)).astype(np.float32),
        names=tuple(f"speech.{k:02d}" for k in range(60)),
        controls=None,
    )
    began = time.process_time()
    clips.apply_motion(obj, wide, mode="named", clip="line")
    took = time.process_time() - began
    print(f"keys of 60 s, 60 shapes: {took * 1000:.0f} ms")
    assert took < 0.9
