# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines keep their takes, their live controls and what an animator changed by hand."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from types import SimpleNamespace
from typing import Any

import bpy
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from diffspeaker_blender.animation import actions, clips, storage, takes
from diffspeaker_blender.motion import edits as layers
from diffspeaker_blender.motion.edits import Edits
from diffspeaker_blender.motion.motion import Adjustments
from tests.blender.animation.test_clips import evaluated, speech
from tests.blender.conftest import link


@pytest.fixture(autouse=True)
def thirty() -> None:
    bpy.context.scene.render.fps = 30


def curve_of(obj: Any, name: str) -> Any:
    key = obj.data.shape_keys
    holder = key.animation_data
    bag = actions.channels(holder.action, actions.slot_of(holder.action, holder))
    return bag.fcurves.find(actions.path_of(name))


def samples(obj: Any, name: str, frames: Any) -> np.ndarray:
    curve = curve_of(obj, name)
    return np.array([0.0 if curve is None else curve.evaluate(f) for f in frames])


def edit(obj: Any, name: str, values: dict[int, float]) -> None:
    """Set keys at frames to values, as a hand in the Graph Editor does."""
    curve = curve_of(obj, name)
    for frame, value in values.items():
        point = curve.keyframe_points.insert(frame, value)
        point.interpolation = "LINEAR"
    curve.update()


FRAMES = range(10, 70)


def test_generating_again_makes_a_take_and_keeps_the_last_one(grid: SimpleNamespace) -> None:
    obj = grid.object
    clips.apply_motion(obj, speech(1), clip="line", start_frame=10)
    first = samples(obj, "jawOpen", FRAMES)
    clips.apply_motion(obj, speech(2), clip="line", start_frame=10)
    second = samples(obj, "jawOpen", FRAMES)
    assert np.abs(first - second).max() > 0.1
    record = clips.stored_clip(obj, "line")
    assert len(record.takes) == 2
    assert record.shown == 1
    clips.show_take(obj, "line", 0)
    assert np.allclose(samples(obj, "jawOpen", FRAMES), first, atol=1e-5)
    clips.apply_motion(obj, speech(2), clip="line", start_frame=10)  # nothing new
    record = clips.stored_clip(obj, "line")
    assert len(record.takes) == 2
    assert record.shown == 1
    takes.rename(obj.data.shape_keys, "line", 0, "calm")
    takes.remove(obj.data.shape_keys, "line", 0)
    record = clips.stored_clip(obj, "line")
    assert [takes.label(record, 0)] == ["Take 1"]
    assert np.allclose(samples(obj, "jawOpen", FRAMES), second, atol=1e-5)


def test_replacing_the_shown_take(grid: SimpleNamespace) -> None:
    obj = grid.object
    for seed in (1, 2):
        clips.apply_motion(obj, speech(seed), clip="line", start_frame=10)
    clips.show_take(obj, "line", 0)
    spoken = clips.Spoken(about="again", replace=True)
    clips.apply_motion(obj, speech(3), clip="line", start_frame=10, spoken=spoken)
    record = clips.stored_clip(obj, "line")
    assert [take.about for take in record.takes] == ["again", ""]
    assert record.shown == 0
    stored = [name for name in obj.data.shape_keys.keys() if "clip." in name]  # noqa: SIM118
    assert len(stored) == 2


@pytest.mark.parametrize("nla", [False, True])
def test_live_values_and_hand_edits_survive_a_new_take(grid: SimpleNamespace, nla: bool) -> None:
    obj = grid.object

    def curve_values() -> np.ndarray:
        found = []
        for frame in FRAMES:
            bpy.context.scene.frame_set(frame)
            found.append(obj.data.shape_keys.key_blocks["jawOpen"].value)
        return np.array(found)

    clips.apply_motion(obj, speech(1), clip="line", start_frame=10, nla=nla)
    clips.adjust_clip(obj, "line", Adjustments(intensity=0.8))
    key = obj.data.shape_keys
    index = storage.read(key)
    from diffspeaker_blender.animation.shape_keys import bag_of

    bag = bag_of(key, index.clips["line"], "line")
    curve = bag.fcurves.find(actions.path_of("jawOpen"))
    before = curve_values()
    for frame in (30, 31, 32):
        curve.keyframe_points.insert(frame, 0.95)
    curve.update()
    change = curve_values() - before
    clips.apply_motion(obj, speech(2), clip="line", start_frame=10, nla=nla)
    edited = curve_values()
    assert clips.stored_clip(obj, "line").adjustments["intensity"] == 0.8
    clips.drop_edits(obj, "line")
    assert np.allclose(edited - curve_values(), change, atol=2e-3)
    assert clips.edited(obj, "line") == ()
    clips.show_take(obj, "line", 0)
    assert np.allclose(curve_values(), before + change, atol=2e-3)  # the old take has its own


def test_edits_are_scaled_moved_and_retimed_with_their_line(grid: SimpleNamespace) -> None:
    obj = grid.object
    clips.apply_motion(obj, speech(1), clip="line", start_frame=10)
    plain = samples(obj, "jawOpen", range(10, 70))
    edit(obj, "jawOpen", {30: 1.5, 45: 0.9})
    edited = samples(obj, "jawOpen", range(10, 70))
    clips.adjust_clip(obj, "line", Adjustments(jaw=0.5))
    assert np.allclose(samples(obj, "jawOpen", range(10, 70)), 0.5 * edited, atol=2e-3)
    clips.adjust_clip(obj, "line", Adjustments())
    assert np.allclose(samples(obj, "jawOpen", range(10, 70)), edited, atol=2e-3)
    source = clips.stored_clip(obj, "line").source
    move = {"cut": None, "source": source}
    clips.place_clip(obj, "line", start_frame=110, speed=1.0, **move)
    assert np.allclose(samples(obj, "jawOpen", range(110, 170)), edited, atol=2e-3)
    assert np.allclose(samples(obj, "jawOpen", range(10, 70)), 0, atol=1e-6)
    clips.place_clip(obj, "line", start_frame=10, speed=0.5, **move)
    assert np.allclose(samples(obj, "jawOpen", range(10, 130, 2)), edited, atol=2e-3)
    clips.place_clip(obj, "line", start_frame=10, speed=1.0, **move)
    clips.drop_edits(obj, "line")
    assert np.allclose(samples(obj, "jawOpen", range(10, 70)), plain, atol=1e-4)


def test_keys_set_by_hand_stay_keys_among_few(grid: SimpleNamespace) -> None:
    """With fitted curves, too: same frames, and the values they had, whatever is generated."""
    obj = grid.object
    clips.apply_motion(obj, speech(1), clip="line", start_frame=10, tolerance=0.5)
    few = len(curve_of(obj, "mouthPucker").keyframe_points)
    edit(obj, "mouthPucker", {27: 0.9, 33: 0.1})
    clips.adjust_clip(obj, "line", Adjustments(smoothing=0.001))  # written anew
    for _ in range(2):
        curve = curve_of(obj, "mouthPucker")
        keys = {round(point.co.x): point.co.y for point in curve.keyframe_points}
        assert keys[27] == pytest.approx(0.9, abs=1e-3)
        assert keys[33] == pytest.approx(0.1, abs=1e-3)
        assert len(keys) < few + 16
        clips.apply_motion(obj, speech(1), clip="line", start_frame=10, tolerance=0.5)


def test_a_shown_line_is_nobodys_edit(grid: SimpleNamespace) -> None:
    """Whatever we write ourselves is never taken for a hand edit."""
    obj = grid.object
    for seed, start in ((1, 10), (2, 80), (3, 150)):
        clips.apply_motion(obj, speech(seed), clip=f"line {seed}", start_frame=start)
    for seed in (1, 2, 3):
        clips.adjust_clip(obj, f"line {seed}", Adjustments(jaw=0.7, smoothing=0.3))
    assert [clips.edited(obj, name) for name in clips.clips(obj)] == [(), (), ()]


def as_version_1_0_0(obj: Any) -> None:
    """Store the lines of a head as version 1.0.0 did."""
    key = obj.data.shape_keys
    found = asdict(storage.read(key))
    for clip in found["clips"].values():
        take = clip.pop("takes")[clip.pop("shown")]
        clip |= {name: take[name] for name in ("number", "names", "hashes")}
        for name in ("uid", "source", "follow", "speed"):
            del clip[name]
    key["diffspeaker"] = json.dumps(found)
    for name in [n for n in key.keys() if "written." in n]:  # noqa: SIM118
        del key[name]


def test_lines_of_version_1_0_0_are_taken_over(grid: SimpleNamespace) -> None:
    """They play on, may be adjusted, and what was edited on them is kept."""
    obj = grid.object
    clips.apply_motion(obj, speech(1), clip="line", start_frame=10)
    as_version_1_0_0(obj)
    shown = evaluated(obj, 33)
    assert clips.clips(obj) == ("line",)
    assert clips.edited(obj, "line") == ()
    edit(obj, "jawOpen", {30: 1.5})
    edited = samples(obj, "jawOpen", FRAMES)
    assert clips.edited(obj, "line") == ("jawOpen",)
    assert np.allclose(evaluated(obj, 33), shown)
    uid = clips.stored_clip(obj, "line").uid
    clips.adjust_clip(obj, "line", Adjustments(jaw=0.5))
    assert np.allclose(samples(obj, "jawOpen", FRAMES), 0.5 * edited, atol=1e-4)
    clips.apply_motion(obj, speech(2), clip="line", start_frame=10)
    record = clips.stored_clip(obj, "line")
    assert (len(record.takes), record.uid) == (2, uid)
    assert clips.edited(obj, "line") == ("jawOpen",)


def test_an_index_of_another_version_loses_nothing(grid: SimpleNamespace) -> None:
    """Fields that this version does not know are passed over."""
    obj = grid.object
    clips.apply_motion(obj, speech(1), clip="line", start_frame=10)
    key = obj.data.shape_keys
    found = json.loads(key["diffspeaker"])
    found["clips"]["line"]["tomorrow"] = found["clips"]["line"]["takes"][0]["later"] = 1
    key["diffspeaker"] = json.dumps(found)
    assert clips.clips(obj) == ("line",)
    clips.adjust_clip(obj, "line", Adjustments(jaw=0.5))


@given(st.data())
def test_keys_are_evaluated_as_blender_does(data: Any) -> None:
    """Linear, constant and Bézier keys with handles of any length."""
    count = data.draw(st.integers(1, 6))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    action = bpy.data.actions.new("Test")
    if hasattr(action, "slots"):
        slot = action.slots.new(id_type="KEY", name="k")
        bag = actions.channels(action, slot)
    else:
        bag = action
    curve = bag.fcurves.new("x")
    curve.keyframe_points.add(count)
    frame = 0.0
    for point in curve.keyframe_points:
        frame += 1 + 6 * rng.random()
        point.co = frame, rng.normal()
        point.interpolation = rng.choice(["CONSTANT", "LINEAR", "BEZIER"])
        point.handle_left_type = point.handle_right_type = "FREE"
        point.handle_left = frame - 5 * rng.random(), rng.normal()
        point.handle_right = frame + 5 * rng.random(), rng.normal()
    curve.update()
    from diffspeaker_blender.animation.edits import read

    keys = read(curve, -1e6, 1e6)
    frames = np.arange(keys[0, 0], keys[-1, 0], 0.5)
    wanted = [curve.evaluate(f) for f in frames]
    assert np.allclose(layers.evaluate(keys, frames), wanted, atol=2e-3)
    bpy.data.actions.remove(action)


@given(st.data())
def test_layers_add_up(data: Any) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))

    def layer(names: str) -> Edits:
        times = rng.choice(40, data.draw(st.integers(3, 9)), replace=False)
        times = np.sort(times) / 30
        values = rng.normal(size=(len(times), len(names))).astype(np.float32)
        values[[0, -1]] = 0
        pins = ((names[0], float(times[0])),)
        return Edits(times, tuple(names), values, pins)

    one, other = layer("ab"), layer("bc")
    both = one.plus(other)
    at = np.union1d(one.times, other.times)
    expected = dict.fromkeys("abc", 0.0)
    for part in (one, other):
        for column, name in enumerate(part.names):
            expected[name] = expected[name] + part.at(at)[:, column]
    for column, name in enumerate(both.names):
        assert np.allclose(both.at(at)[:, column], expected[name], atol=1e-3)
    assert Edits.load(both.dump()) == both
    assert {name for name, _ in both.pins} == {"a", "b"}
    assert not both.outside(-1, 20)
    assert not both.outside(-1, 20).pins
    assert not Edits()


def test_a_covered_line_comes_back(grid: SimpleNamespace) -> None:
    """Whole or in part, with its hand edits: nothing is lost to a line above it."""
    obj, shapes = grid.object, speech(1).shapes
    one, two = speech(1), replace(speech(2), shapes=shapes)
    clips.apply_motion(obj, one, clip="one", start_frame=10)
    edit(obj, "jawOpen", {30: 1.5})
    before = samples(obj, "jawOpen", range(5, 80))
    for start in (10, 40, -20):
        clips.apply_motion(obj, two, clip="two", start_frame=start)
        assert clips.clips(obj) in {("one", "two"), ("two", "one")}
        assert clips.stored_clip(obj, "one").covered == (start == 10)
        lone = samples(obj, "jawOpen", range(start, start + 60))
        assert np.allclose(lone, two.weights[:, two.names.index("jawOpen")], atol=1e-5)
        clips.remove_motion(obj, "two")
        assert np.allclose(samples(obj, "jawOpen", range(5, 80)), before, atol=2e-3)
    assert clips.edited(obj, "one") == ("jawOpen",)


@given(places=st.lists(st.integers(-70, 70), min_size=1, max_size=4), order=st.randoms())
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
def test_lines_dragged_over_one_another_come_out_whole(places: list[int], order: Any) -> None:
    """Whatever way lines are moved through each other, at the end each is as it was."""
    mesh = bpy.data.meshes.new("Face")
    mesh.from_pydata(np.random.default_rng(0).random((600, 3)).tolist(), [], [])
    obj = link(mesh, "Face")
    shapes = speech(1).shapes
    homes = {"a": 0, "b": 200, "c": 400}
    motions = {name: replace(speech(k), shapes=shapes) for k, name in enumerate(homes, 1)}
    for name, start in homes.items():
        clips.apply_motion(obj, motions[name], clip=name, start_frame=start)
    source = clips.stored_clip(obj, "a").source
    for place in places:
        name = order.choice("abc")
        clips.place_clip(obj, name, start_frame=200 + place, speed=1.0, cut=None, source=source)
    for name, start in homes.items():
        clips.place_clip(obj, name, start_frame=start, speed=1.0, cut=None, source=source)
    for name, start in homes.items():
        wanted = motions[name].weights[:, motions[name].names.index("jawOpen")]
        assert np.allclose(samples(obj, "jawOpen", range(start, start + 60)), wanted, atol=1e-5)
        assert clips.edited(obj, name) == ()
    bpy.data.objects.remove(obj)
