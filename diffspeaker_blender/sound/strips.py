# SPDX-License-Identifier: GPL-3.0-or-later
"""Find one's way among sequencer strips: their names for things differ from Blender to Blender.

4.2, 4.3    `sequences`, `frame_*`, no retiming in Python
4.4, 4.5    `strips` too, retiming keys
5.0         `strips` only; the scene of the sequencer may be another than the window's
5.2         `left_handle`, `content_start`, …; `frame_*` warn
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bpy

from ..errors import AudioError
from ..paths import absolute


def scene_fps(scene: Any) -> float:
    """Return frames per second including `fps_base`."""
    return float(scene.render.fps) / float(scene.render.fps_base)


def place(strip: Any) -> tuple[float, float]:
    """Return the first frame a strip is heard on and the first one after it."""
    if hasattr(strip, "left_handle"):
        return float(strip.left_handle), float(strip.right_handle)
    return float(strip.frame_final_start), float(strip.frame_final_end)


def is_animated(scene: Any, strip: Any, what: str) -> bool:
    """Return whether a property of the strip has keys or a driver."""
    data = scene.animation_data
    if data is None:
        return False
    path = f"{strip.path_from_id()}.{what}"
    if any(driver.data_path == path for driver in data.drivers):
        return True
    return any(curve.data_path == path for curve in scene_curves(data.action))


def scene_curves(action: Any) -> Iterator[Any]:
    """Yield every F-curve of an action, of all its slots (4.5's `fcurves` has the first's)."""
    if action is None:
        return
    if not hasattr(action, "layers"):  # before 4.4
        yield from action.fcurves
        return
    for layer in action.layers:
        for part in layer.strips:
            for bag in part.channelbags:
                yield from bag.fcurves


def add_sound(scene: Any, path: Path, frame: int) -> Any:
    """Put a sound in the sequencer, on the first channel that is free and heard; return its strip.

    Raises AudioError in a Blender that was built without sound.
    """
    editor = scene.sequence_editor_create()
    strips = editor.strips if hasattr(editor, "strips") else editor.sequences
    taken = {strip.channel for strip in strips}
    free = [
        number
        for number, channel in enumerate(editor.channels)
        if number and number not in taken and not channel.mute
    ]
    try:
        return strips.new_sound(path.stem[:60], str(path), free[0] if free else 1, frame)
    except (RuntimeError, ValueError) as error:
        raise AudioError(f"The sound cannot be put in the sequencer: {error}.") from error


def sound_at(scene: Any, path: Path, frame: float) -> Any | None:
    """Return the strip that plays a file's first sample at a frame, or None."""
    editor = scene.sequence_editor
    for strip in all_strips(editor) if editor is not None else []:
        begins = getattr(strip, "content_start", None)
        begins = strip.frame_start if begins is None else begins
        if strip.type == "SOUND" and abs(begins - frame) < 0.5 and file_of(strip) == path:
            return strip
    return None


def all_strips(editor: Any) -> list[Any]:
    """Return every strip, also those inside metas."""
    return list(editor.strips_all if hasattr(editor, "strips_all") else editor.sequences_all)


def top_strips(owner: Any) -> Any:
    """Return the strips directly in an editor or a meta (an empty collection is falsy: no `or`)."""
    return owner.strips if hasattr(owner, "strips") else owner.sequences


def metas_of(owner: Any, strip: Any) -> list[Any] | None:
    """Return the metas around a strip, outermost first; None when it is not there."""
    for other in top_strips(owner):
        if other == strip:
            return []
        if other.type == "META":
            inner = metas_of(other, strip)
            if inner is not None:
                return [other, *inner]
    return None


def path_of(source: Any) -> Path:
    """Return where a sound datablock's file is, or was when it is packed."""
    return absolute(bpy.path.abspath(source.filepath, library=source.library))


def file_of(strip: Any) -> Path | None:
    """Return the file of a sound or movie strip."""
    if strip.type == "SOUND":
        return path_of(strip.sound) if strip.sound else None
    return absolute(bpy.path.abspath(strip.filepath)) if strip.type == "MOVIE" else None
