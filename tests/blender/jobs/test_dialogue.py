# SPDX-License-Identifier: GPL-3.0-or-later
"""One scene, a face of shape keys, one of bones and a FLAME head: each says its own lines alone."""

from __future__ import annotations

from typing import Any

import bpy
import numpy as np
import pytest

from diffspeaker_blender.animation import clips
from tests.blender.character.test_mapped import build, lips_apart, with_bones
from tests.blender.conftest import needs_sound


@pytest.fixture
def cast(addon: Any) -> dict[str, Any]:
    """Return the three, side by side: Anna and Bella not yet fitted, the demo head."""
    anna, bella = build("Anna"), with_bones(0.0, "X")
    bella.parent.location.x = 1.0
    bpy.ops.diffspeaker.add_demo_head()
    flame = bpy.context.scene.diffspeaker.head
    flame.location.x = 2.0
    group = bpy.data.collections.new("Bella and her rig")
    bpy.context.scene.collection.children.link(group)
    group.objects.link(bella)
    bpy.context.view_layer.update()
    return {"Anna": anna, "Bella": bella, "Flame": flame}


def opened(obj: Any, frames: range) -> float:
    """Return how far a face's lips part within some frames, against its rest."""
    if len(obj.data.vertices) == 5023:
        key = obj.data.shape_keys
        name = next(k for k in clips.stored_clip(obj, clips.clips(obj)[0]).keys if "jawOpen" in k)
        found = []
        for frame in frames:
            bpy.context.scene.frame_set(frame)
            found.append(key.key_blocks[name].value)
        return float(np.max(found))
    rest = lips_apart(obj, -100)
    return max(lips_apart(obj, frame) for frame in frames) - rest


def test_each_speaks_where_it_shall_and_no_one_else_does(cast: dict[str, Any], line: Any) -> None:
    """Named by mesh, by armature, by collection; two lines of one; others rest meanwhile."""
    said = (
        ("Anna", "Anna", 1),
        ("Rig", "Bella", 51),
        (cast["Flame"].name, "Flame", 101),
        ("Bella and her rig", "Bella", 151),
        ("Anna", "Anna", 201),
    )
    for name, _, start in said:
        bpy.ops.diffspeaker.generate(audio=str(line), character=name, start_frame=float(start))
    assert [len(clips.clips(obj)) for obj in cast.values()] == [2, 2, 1]
    for _, who, start in said:
        for other, obj in cast.items():
            moved = opened(obj, range(start + 1, start + 22))
            assert (moved > 0.004) == (other == who), (who, other, start, moved)
    actions = [obj.data.shape_keys.animation_data.action for obj in (cast["Anna"], cast["Flame"])]
    actions.append(cast["Bella"].parent.animation_data.action)
    assert len({action.name for action in actions}) == 3
    clips.remove_motion(cast["Bella"])
    assert opened(cast["Anna"], range(202, 222)) > 0.004
    assert cast["Bella"].parent.animation_data.action is None


@needs_sound
def test_channels_of_the_sequencer_name_who_speaks(cast: dict[str, Any], line: Any) -> None:
    """A channel called like a mesh or an armature goes to that character, fitted as it comes."""
    scene = bpy.context.scene
    if hasattr(bpy.context.workspace, "sequencer_scene"):
        bpy.context.workspace.sequencer_scene = scene
    editor = scene.sequence_editor_create()
    strips = editor.strips if hasattr(editor, "strips") else editor.sequences
    places = (("Anna", 1), ("Rig", 40), (cast["Flame"].name, 80))
    for number, (name, start) in enumerate(places, 1):
        strip = strips.new_sound(name, str(line), number, start)
        editor.channels[number].name = name
        strip.select = True
    for obj in bpy.context.view_layer.objects:
        obj.select_set(False)
    bpy.ops.diffspeaker.generate()
    assert [len(clips.clips(obj)) for obj in cast.values()] == [1, 1, 1]
    for (_, start), who in zip(places, cast.values(), strict=True):
        assert opened(who, range(start + 1, start + 22)) > 0.004
