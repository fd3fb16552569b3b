"""Live controls: rewrite a head's curves from its stored motion soon after a slider moved.

A slider sends many changes a second; the curves follow once it rests for a moment.
"""

from __future__ import annotations

import time

import bpy

from ..animation import clips, storage
from ..motion.motion import Adjustments
from ..settings import properties

SETTLE = 0.08  # seconds without a change before curves are rewritten

_moved: dict[str, float] = {}  # head name → monotonic time of its last change


def adjust_soon(head_name: str) -> None:
    """Rewrite a head's curves once its live control rests; at once where no timer fires."""
    from . import queue

    if bpy.app.background:
        adjust_now(head_name)
        return
    if not _moved:
        queue.watch()
    _moved[head_name] = time.monotonic()


def adjust_now(head_name: str) -> None:
    """Rewrite the chosen clip of a head with its live controls, unless they already agree."""
    target = bpy.data.objects.get(head_name)
    if target is None:
        return
    wanted, clip = wanted_of(target), properties.adjust(target).clip
    record = clips.stored_clip(target, clip) if clip else None
    if record is not None and storage.adjustments(record) != wanted:
        clips.adjust_clip(target, clip, wanted)


def adjust_all(target: bpy.types.Object) -> int:
    """Give every clip of a head the live controls of the chosen one; return how many there are."""
    names = clips.clips(target)
    for clip in names:
        clips.adjust_clip(target, clip, wanted_of(target))
    return len(names)


def wanted_of(target: bpy.types.Object) -> Adjustments:
    """Return a head's live controls as values."""
    group = properties.adjust(target)
    return Adjustments(**{name: getattr(group, name) for name in properties.LIVE})


def look() -> bool:
    """Rewrite what has come to rest; return whether something still moves (called by the timer)."""
    for name, moved in list(_moved.items()):
        if time.monotonic() - moved >= SETTLE:
            del _moved[name]
            adjust_now(name)
    return waiting()


def waiting() -> bool:
    """Return whether a change has not reached the curves yet."""
    return bool(_moved)


def forget() -> None:
    """Drop changes that wait (another file, or the add-on is switched off)."""
    _moved.clear()
