# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys that the user set in our own action outlive every line that is put on them."""

from __future__ import annotations

from typing import Any

import bpy
import numpy as np
import pytest

from diffspeaker_blender.animation import actions, channels, clips, storage
from diffspeaker_blender.character import fit
from diffspeaker_blender.motion.motion import Adjustments, Motion
from tests.blender.animation.test_lines import curve_of, speech
from tests.blender.character.test_mapped import build, lips_apart, talk


@pytest.fixture(autouse=True)
def thirty() -> None:
    bpy.context.scene.render.fps = 30


def set_keys(curve: Any, keys: dict[float, float]) -> None:
    """Set keys as a hand does, with handles that only a hand gives."""
    for frame, value in keys.items():
        point = curve.keyframe_points.insert(frame, value)
        point.interpolation = "BEZIER"
        point.handle_left_type = point.handle_right_type = "FREE"
        point.handle_right = (frame + 1.5, value + 0.1)
    curve.update()


def has(curve: Any, keys: dict[float, float]) -> bool:
    """Return whether a curve has all these keys with their handles."""
    there = {} if curve is None else {round(p.co.x, 2): p for p in curve.keyframe_points}
    return all(
        frame in there
        and there[frame].co.y == pytest.approx(value, abs=1e-5)
        and there[frame].interpolation == "BEZIER"
        and tuple(there[frame].handle_right) == pytest.approx((frame + 1.5, value + 0.1), abs=1e-4)
        for frame, value in keys.items()
    )


THEIRS = {100.0: 0.3, 110.0: 0.8, 121.0: 0.15}
NEAR = {63.0: 0.4}
"""Between the end of the first line and its key at rest."""


class Face:
    """One way of speaking, behind the same verbs."""

    def __init__(self, obj: Any, motion: Any, curve: Any) -> None:
        self.obj, self.motion, self._curve = obj, motion, curve

    def curve(self) -> Any:
        return self._curve(self.obj)

    def say(self, clip: str, start: float, seed: int = 1) -> None:
        clips.apply_motion(self.obj, self.motion(seed), clip=clip, start_frame=start)


def _mapped_curve(obj: Any) -> Any:
    found = (c for bag in channels.bags(obj.data.shape_keys) for c in bag.fcurves)
    return next((c for c in found if actions.key_in(c.data_path) == "jawOpen"), None)


def _mapped_talk(seed: int) -> Motion:
    from dataclasses import replace

    said = talk(60)
    softer = (said.weights * (1 - 0.1 * (seed - 1))).astype(np.float32)
    return replace(said, weights=softer, controls=softer)


def _made_curve(obj: Any) -> Any:
    key = obj.data.shape_keys
    return None if key is None or key.animation_data.action is None else curve_of(obj, "jawOpen")


@pytest.fixture(params=["flame", "mapped"])
def face(request: Any, addon: Any) -> Face:
    if request.param == "flame":
        grid = request.getfixturevalue("grid").object
        return Face(grid, speech, _made_curve)
    anna = build()
    fit.fit(anna)
    return Face(anna, _mapped_talk, _mapped_curve)


def test_keys_beside_a_line_outlive_everything_that_is_done_to_it(face: Face) -> None:
    face.say("one", 1)
    set_keys(face.curve(), {**THEIRS, **NEAR})
    for act in (
        lambda: face.say("one", 1, seed=2),
        lambda: clips.adjust_clip(face.obj, "one", Adjustments(jaw=0.5, smoothing=0.2)),
        lambda: clips.show_take(face.obj, "one", 0),
        lambda: face.say("two", 200),
        lambda: clips.remove_motion(face.obj, "two"),
        lambda: clips.remove_motion(face.obj),
    ):
        act()
        assert has(face.curve(), {**THEIRS, **NEAR})
    if "jawOpen" in face.obj.data.shape_keys.key_blocks:
        bpy.context.scene.frame_set(110)
        block = face.obj.data.shape_keys.key_blocks["jawOpen"]
        assert block.value == pytest.approx(0.8, abs=1e-5)
    face.say("one", 1)
    assert has(face.curve(), THEIRS)


def test_keys_under_a_new_line_come_back_when_it_goes(face: Face) -> None:
    face.say("one", 1)
    set_keys(face.curve(), THEIRS)
    face.say("two", 95)
    assert not has(face.curve(), {110.0: 0.8})
    kept = storage.read(storage.holder(face.obj)).kept
    assert [round(row[0]) for rows in kept.values() for row in rows] == [100, 110, 121]
    face.say("two", 95, seed=2)
    clips.adjust_clip(face.obj, "two", Adjustments(jaw=0.7))
    source = clips.stored_clip(face.obj, "two").source
    place = {"speed": 1.0, "cut": None, "source": source}
    clips.place_clip(face.obj, "two", start_frame=112.0, **place)  # off two of them
    assert has(face.curve(), {100.0: 0.3, 110.0: 0.8})
    clips.place_clip(face.obj, "two", start_frame=95.0, **place)
    assert not has(face.curve(), {110.0: 0.8})
    clips.remove_motion(face.obj, "two")
    assert has(face.curve(), THEIRS)
    assert storage.read(storage.holder(face.obj)).kept == {}


def test_a_line_alone_leaves_nothing_behind(face: Face) -> None:
    face.say("one", 1)
    face.say("two", 40)
    face.say("two", 90)
    clips.remove_motion(face.obj)
    assert not [action for action in bpy.data.actions if action.users]
    assert storage.read(storage.holder(face.obj)).kept == {}


def test_a_copy_that_shares_our_action_takes_nothing_from_the_first(addon: Any) -> None:
    """Blender lets copies share actions: a line on one is no line on the other."""
    anna = build()
    fit.fit(anna)
    clips.apply_motion(anna, talk(), clip="one")
    bella = anna.copy()
    bella.data = anna.data.copy()
    bella.name = "Bella"
    bpy.context.scene.collection.objects.link(bella)
    bella.location.x = 1.0
    bpy.context.view_layer.update()
    shared = bella.data.shape_keys.animation_data
    assert shared.action == anna.data.shape_keys.animation_data.action
    before = [lips_apart(anna, frame) for frame in range(1, 26)]
    clips.remove_motion(bella)
    assert [lips_apart(anna, frame) for frame in range(1, 26)] == pytest.approx(before)
    clips.apply_motion(bella, talk(), clip="two", start_frame=60)
    assert [lips_apart(anna, frame) for frame in range(1, 26)] == pytest.approx(before)
    assert max(lips_apart(bella, frame) for frame in range(60, 85)) > 0.01


def test_new_hand_edits_outlive_a_changed_mapping(addon: Any) -> None:
    anna = build()
    bpy.ops.diffspeaker.fit_character()
    clips.apply_motion(anna, talk(), clip="one")
    curve = _mapped_curve(anna)
    before = curve.evaluate(20)
    curve.keyframe_points.insert(20, before + 0.3)
    curve.update()
    anna.diffspeaker_strengths.brows = 0.5
    assert _mapped_curve(anna).evaluate(20) == pytest.approx(before + 0.3, abs=2e-3)
    bpy.ops.diffspeaker.fit_character()
    assert _mapped_curve(anna).evaluate(20) == pytest.approx(before + 0.3, abs=2e-3)
    assert clips.edited(anna, "one") == ("jawOpen",)


def test_a_slider_that_was_widened_is_narrowed_again(addon: Any) -> None:
    anna = build()
    key = anna.data.shape_keys.key_blocks["jawOpen"]
    key.slider_max = 0.5
    fit.fit(anna)
    clips.apply_motion(anna, talk(), clip="one")
    clips.apply_motion(anna, talk(), clip="two", start_frame=60)
    assert key.slider_max > 0.9
    clips.remove_motion(anna, "one")
    assert key.slider_max > 0.9
    clips.remove_motion(anna)
    assert key.slider_max == 0.5
    clips.apply_motion(anna, talk(), clip="one")
    key.slider_max = 3.0  # the user's
    clips.remove_motion(anna)
    assert key.slider_max == 3.0


@pytest.mark.parametrize("kind", ["flame", "mapped"])
def test_keys_under_a_line_are_told(addon: Any, line: Any, kind: str) -> None:
    from diffspeaker_blender.jobs import queue

    if kind == "flame":
        bpy.ops.diffspeaker.add_demo_head()
        who = bpy.context.scene.diffspeaker.head
    else:
        who = build()
        fit.fit(who)
    bpy.ops.diffspeaker.generate(audio=str(line), head=who.name)
    name = next(key for key in queue.last().applied.keys if "jawOpen" in key)
    curve = curve_of(who, actions.plain_name(name))
    set_keys(curve, {200.0: 0.3, 210.0: 0.6})
    bpy.ops.diffspeaker.generate(audio=str(line), head=who.name, start_frame=195.0, seed=1)
    told = [found.message for found in queue.last().findings]
    wanted = f"{actions.plain_name(name)}, frames 200 to 210, lie under this line now"
    assert any(wanted in one for one in told), told


def test_keys_on_a_shape_that_rests_meanwhile_stay(addon: Any) -> None:
    from tests.blender.animation import test_resting

    obj = test_resting.anna()
    clips.apply_motion(obj, talk(), clip="one", start_frame=1)

    def yawn() -> Any:
        found = (c for bag in channels.bags(obj.data.shape_keys) for c in bag.fcurves)
        return next((c for c in found if actions.key_in(c.data_path) == "Yawn"), None)

    set_keys(yawn(), THEIRS)
    clips.apply_motion(obj, talk(), clip="two", start_frame=200)
    assert has(yawn(), THEIRS)
    clips.apply_motion(obj, talk(30), clip="three", start_frame=95)
    assert not has(yawn(), {110.0: 0.8})
    clips.remove_motion(obj, "three")
    assert has(yawn(), THEIRS)
    clips.remove_motion(obj)
    assert has(yawn(), THEIRS)


def test_what_a_former_mapping_drove_is_let_go(addon: Any, tmp_path: Any) -> None:
    """Another mapping without the teeth: they stop, and their action goes with the last line."""
    from dataclasses import replace

    from diffspeaker_blender.character import detect

    anna = build()
    bpy.ops.diffspeaker.fit_character()
    clips.apply_motion(anna, talk(), clip="one")
    teeth = bpy.data.objects["Anna Teeth"].data.shape_keys
    assert channels.written(teeth)
    mapping = detect.read_mapping(anna)
    rows = (
        replace(row, places=tuple(p for p in row.places if p.owner == "Anna"))
        for row in mapping.rows
    )
    alone = replace(mapping, rows=tuple(row for row in rows if row.places))
    from diffspeaker_blender.animation import mapped

    mapped.note(anna, bpy.context.scene)
    detect.store(anna, alone)
    mapped.replay(anna, bpy.context.scene)
    assert not channels.written(teeth)
    assert channels.written(anna.data.shape_keys)
    clips.remove_motion(anna)
    assert not [action for action in bpy.data.actions if action.users]


@pytest.mark.parametrize("kind", ["keys", "bones"])
def test_hand_edits_know_a_character_under_another_name(addon: Any, kind: str) -> None:
    """A renamed rig, and a copy: the edit stays on both, and is no deletion of everything."""
    from diffspeaker_blender.animation import mapped
    from diffspeaker_blender.character import detect
    from tests.blender.character.test_mapped import with_bones

    anna = build() if kind == "keys" else with_bones(0.0, "X")
    fit.fit(anna)
    clips.apply_motion(anna, talk(), clip="one")

    def jaw(obj: Any) -> Any:
        owners = mapped.owners_of(detect.read_mapping(obj))
        curves = [c for o in owners for bag in channels.bags(o) for c in bag.fcurves]
        words = ("jawOpen",) if kind == "keys" else ("rotation",)
        return next(c for c in curves if any(w in c.data_path for w in words) and c.array_index < 2)

    was = jaw(anna).evaluate(20)
    jaw(anna).keyframe_points.insert(20, was + 0.2)
    jaw(anna).update()
    anna.name = "Another"
    (anna.data.shape_keys if kind == "keys" else anna.parent).name = "Renamed"
    clips.adjust_clip(anna, "one", Adjustments(upper=0.9))
    assert jaw(anna).evaluate(20) == pytest.approx(was + 0.2, abs=2e-3)
    assert len(clips.edited(anna, "one")) == 1
    for obj in bpy.context.view_layer.objects:
        obj.select_set(obj in (anna, anna.parent))
    bpy.ops.object.duplicate(linked=False)
    twin = next(o for o in bpy.context.selected_objects if o.type == "MESH")
    assert twin != anna
    twin.location.x += 1.0
    bpy.context.view_layer.update()
    clips.adjust_clip(twin, "one", Adjustments(upper=0.8))
    assert jaw(twin).evaluate(20) == pytest.approx(was + 0.2, abs=2e-3)
    assert len(clips.edited(twin, "one")) == 1
    clips.drop_edits(twin, "one")
    assert jaw(twin).evaluate(20) == pytest.approx(was, abs=2e-3)
    assert jaw(anna).evaluate(20) == pytest.approx(was + 0.2, abs=2e-3)


def test_names_of_channels_in_words() -> None:
    for name, start, words in (
        ('KEY|a|b|key_blocks["jaw|Open"].value|0', "KEY|a|b|", "jaw|Open"),
        ('OBJECT|Rig|pose.bones["jaw"].rotation_euler|2', "OBJECT|Rig|", "jaw rotation"),
        ('OBJECT|Rig|pose.bones["jaw"]["mouth_lock"]|0', "OBJECT|Rig|", "mouth_lock"),
        ('OBJECT|Rig|["vOW"]|0', "OBJECT|Rig|", "vOW"),
        ("SCENE|S|frame_offset|0", "SCENE|S|", "frame_offset"),
    ):
        assert actions.start_in(name) == start
        assert actions.plain_name(name) == words
