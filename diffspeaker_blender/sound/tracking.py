# SPDX-License-Identifier: GPL-3.0-or-later
"""Know a line's strips again: what they are marked with, where they lie, where the line belongs.

A strip bears the identity of the line that was made from it and its speaker as custom properties,
so both survive names, copies of the file and undo. Copies of a strip bear the same mark: the one
of the noted name is the line's, and pieces of it that were cut and left in place.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple, dataclass
from typing import Any

import bpy
import numpy as np

from .strips import all_strips, metas_of, place, scene_fps

LINE = "diffspeaker_line"
SPEAKER = "diffspeaker_speaker"
CHOSEN = "diffspeaker_chosen"
"""Whether the speaker was chosen for the strip, not just the last one."""
_NEAR = 0.05
"""Frames within which two places are the same."""


@dataclass(frozen=True)
class Layout:
    """Where the content of a strip lies, in frames of its scene."""

    zero: float
    """Where its content begins, heard or not."""
    length: float
    """Frames that all of its content lasts."""
    first: float
    """First frame on which it is heard."""
    last: float
    """First frame on which it is not heard any more."""
    fps: float
    keys: int = 0
    """Retiming keys; two for a whole strip that plays faster or slower."""
    tail: float = 0.0
    """Frames after the last retiming key, which keep their speed (one in 4.5, none in 5.2)."""


@dataclass(frozen=True)
class Where:
    """Where a line belongs now."""

    start_frame: float
    """Scene frame of the first sample that was listened to."""
    speed: float
    """How much faster than spoken it is played."""


def layout(scene: Any, strip: Any) -> Layout:
    """Return where a strip lies; metas around it cut what is heard."""
    if hasattr(strip, "content_duration"):
        zero = strip.content_start - getattr(strip, "content_trim_start", 0)
        length = strip.content_duration
    else:
        zero = strip.frame_start - getattr(strip, "animation_offset_start", 0)
        length = strip.frame_duration
    around = [strip, *(metas_of(scene.sequence_editor, strip) or [])]
    first, last = max(place(s)[0] for s in around), min(place(s)[1] for s in around)
    keys = [key.timeline_frame for key in getattr(strip, "retiming_keys", ())]
    tail = float(np.clip(round(zero + length - keys[-1]), 0, 1)) if len(keys) > 1 else 0.0
    return Layout(float(zero), float(length), first, last, scene_fps(scene), len(keys), tail)


def sketch(strip: Any) -> tuple[Any, ...]:
    """Return what changes when a strip is moved, trimmed or retimed; cheap for hundreds of them."""
    modern = hasattr(strip, "content_duration")
    begin = strip.content_start if modern else strip.frame_start
    length = strip.content_duration if modern else strip.frame_duration
    keys = len(getattr(strip, "retiming_keys", ()))
    return strip.name, strip.get(LINE, ""), begin, length, keys, *place(strip)


def marked(uid: str, scenes: Iterable[Any] | None = None) -> list[tuple[Any, Any]]:
    """Return (scene, strip) of every strip that bears a line's mark."""
    found = []
    for scene in bpy.data.scenes if scenes is None else scenes:
        if scene.sequence_editor is not None:
            found += [
                (scene, strip)
                for strip in all_strips(scene.sequence_editor)
                if strip.get(LINE) == uid
            ]
    return found


def own_strip(uid: str, name: str, scene: str) -> tuple[Any, Any] | None:
    """Return the (scene, strip) that a line belongs to: the noted one, else one with its mark."""
    owner = bpy.data.scenes.get(scene)
    if owner is not None and owner.sequence_editor is not None:
        editor = owner.sequence_editor
        every = editor.strips_all if hasattr(editor, "strips_all") else editor.sequences_all
        strip = every.get(name)
        if strip is not None and strip.get(LINE) == uid:
            return owner, strip
    found = marked(uid)
    return found[0] if found else None


def pieces(scene: Any, strip: Any) -> list[Any]:
    """Return a strip and the parts that were cut off it and left in place."""
    whole = layout(scene, strip)
    parts = [other for _, other in marked(strip.get(LINE, ""), [scene]) if other != strip]
    there = [p for p in parts if abs(layout(scene, p).zero - whole.zero) < _NEAR]
    return [strip, *(p for p in there if abs(layout(scene, p).length - whole.length) < _NEAR)]


def heard(scene: Any, strip: Any) -> tuple[float, float]:
    """Return the first frame a line's strip or its pieces are heard on, and the first one after."""
    parts = [layout(scene, part) for part in pieces(scene, strip)]
    return min(part.first for part in parts), max(part.last for part in parts)


def belongs(then: Layout, now: Layout, start_frame: float, speed: float) -> Where | None:
    """Return where a line belongs whose strip lay `then` and lies `now`; None when nobody knows.

    start_frame, speed: of the line, as it was placed then. A strip with segments of several speeds
    keeps its map to itself, but for a trimmed one whose heard part was retimed once.
    """
    if then.length <= 0 or then.last <= then.first:
        return None
    rate = now.fps / then.fps
    tail = max(now.tail, then.tail)
    stretch = (now.length - tail) / max(then.length - tail, 1.0)
    if now.keys == then.keys and abs(stretch / rate - 1) < 1e-3:  # moved or trimmed
        return Where(now.zero + (start_frame - then.zero) * rate, speed)
    if now.keys <= 2 and then.keys <= 2:
        return Where(now.zero + (start_frame - then.zero) * stretch, speed * rate / stretch)
    untrimmed = abs((now.first - now.zero) / rate - (then.first - then.zero)) < 1.5
    if then.keys or now.keys > 4 or not untrimmed:
        return None
    stretch = (now.last - now.first) / (then.last - then.first)
    return Where(now.first + (start_frame - then.first) * stretch, speed * rate / stretch)


def same(one: Layout, other: Layout) -> bool:
    """Return whether a strip has stayed as it was."""
    return all(abs(a - b) < _NEAR for a, b in zip(astuple(one), astuple(other), strict=True))
