# SPDX-License-Identifier: GPL-3.0-or-later
"""Which scene shows an object: the sequencer's may be another one (Blender 5, storyboards)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import bpy


def scene_of(obj: Any, preferred: Any = None) -> Any | None:
    """Return a scene that holds the object: the preferred one, the window's, any; else None.

    None means that the object was deleted, although Blender still knows its name.
    """
    holding = list(obj.users_scene)
    for scene in (preferred, bpy.context.scene):
        if scene in holding:
            return scene
    return holding[0] if holding else None


def layer_of(scene: Any, obj: Any) -> Any | None:
    """Return the view layer of a scene in which to look at an object; None when none has it."""
    window = bpy.context.view_layer
    layers = [window] if window is not None and bpy.context.scene == scene else []
    return next((one for one in (*layers, *scene.view_layers) if obj.name in one.objects), None)


def shown_frame(scene: Any, frame: float) -> float:
    """Return the frame of the animation that Blender shows at a frame: Time Stretching moves it."""
    return float(frame * scene.render.frame_map_old / scene.render.frame_map_new)


def stretched(scene: Any) -> bool:
    """Return whether Time Stretching plays the animation at another speed than the sound."""
    return bool(scene.render.frame_map_old != scene.render.frame_map_new)


@contextlib.contextmanager
def object_mode() -> Iterator[None]:
    """Leave Edit or Sculpt Mode for the moment, and return to it: what is written there is lost."""
    active = bpy.context.view_layer.objects.active
    mode = active.mode if active is not None else "OBJECT"
    if mode != "OBJECT":
        bpy.ops.object.mode_set(mode="OBJECT")
    try:
        yield
    finally:
        if mode != "OBJECT":
            bpy.ops.object.mode_set(mode=mode)
