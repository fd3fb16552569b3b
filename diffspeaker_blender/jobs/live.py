# SPDX-License-Identifier: GPL-3.0-or-later
"""Live controls: rewrite a head's curves from its stored motion soon after a slider moved.

    object.diffspeaker      `adjust(object)`     live controls over a finished result

A slider sends many changes a second; the curves follow as fast as this machine can write them.
"""

# mypy: disable-error-code="valid-type,no-any-return"
from __future__ import annotations

import time
from typing import Any

import bpy
from bpy.props import EnumProperty, FloatProperty, PointerProperty

from ..animation import clips, storage
from ..motion.motion import Adjustments
from ..settings.choices import keep, number
from . import timer

LIVE = ("intensity", "jaw", "lips", "upper", "expression", "smoothing", "offset")

_quiet: list[str] = []  # heads whose live controls are being filled in, not moved
PAUSE = 0.02  # seconds between two writings at least

_moved: set[str] = set()  # heads whose controls have not reached their curves
_free_at = 0.0  # monotonic time from which curves are written again
_seen: dict[str, tuple[int, str]] = {}  # head → frame and strip for which its line was chosen


def _clip_items(self: Any, _context: object) -> list[Any]:
    names = clips.clips(self.id_data)
    items = [
        (name, name, "A line on this head", "NONE", number(name) * bool(place))
        for place, name in enumerate(names)
    ]
    return keep("clips", items or [("NONE", "No Line Yet", "Generate one first", "NONE", 0)])


def _live(self: Any, _context: object) -> None:
    if self.id_data.name not in _quiet:
        adjust_soon(self.id_data.name)


def _fill_in(self: Any, _context: object) -> None:
    record = clips.stored_clip(self.id_data, self.clip)
    if record is not None:
        show_adjustments(self.id_data, storage.adjustments(record))


class DIFFSPEAKER_PG_adjust(bpy.types.PropertyGroup):
    """Hold a head's live controls; a change re-writes its curves from the stored motion."""

    clip: EnumProperty(
        name="Line",
        description="Result that the live controls act on",
        items=_clip_items,
        update=_fill_in,
    )
    intensity: FloatProperty(
        name="Intensity",
        description="Strength of the whole result",
        default=1.0,
        min=0.0,
        soft_max=2.0,
        max=3.0,
        update=_live,
    )
    jaw: FloatProperty(
        name="Jaw",
        description="Strength of the jaw; lips that the model closed stay closed",
        default=1.0,
        min=0.0,
        soft_max=2.0,
        max=3.0,
        update=_live,
    )
    lips: FloatProperty(
        name="Lips",
        description="Strength of rounding, spreading and rolling of the lips",
        default=1.0,
        min=0.0,
        soft_max=2.0,
        max=3.0,
        update=_live,
    )
    upper: FloatProperty(
        name="Upper Face",
        description="Strength of brows, lids, eyes and nose",
        default=1.0,
        min=0.0,
        soft_max=2.0,
        max=3.0,
        update=_live,
    )
    expression: FloatProperty(
        name="Life",
        description="Strength of blinks, brows and glances beside the speech",
        default=1.0,
        min=0.0,
        soft_max=2.0,
        max=3.0,
        update=_live,
    )
    smoothing: FloatProperty(
        name="Smoothing",
        description="Calm the motion; a closed mouth is never opened by it",
        min=0.0,
        max=1.0,
        subtype="FACTOR",
        update=_live,
    )
    offset: FloatProperty(
        name="Time Offset",
        description="Shift the motion against the sound; positive is later, in seconds",
        soft_min=-0.5,
        soft_max=0.5,
        min=-10.0,
        max=10.0,
        subtype="TIME_ABSOLUTE",
        update=_live,
    )


def adjust(head: bpy.types.Object) -> DIFFSPEAKER_PG_adjust:
    """Return the live controls of a head."""
    return head.diffspeaker  # type: ignore[attr-defined]


def show_adjustments(head: bpy.types.Object, shown: Adjustments, clip: str = "") -> None:
    """Fill in the live controls without moving the curves; choose `clip` first if named."""
    _quiet.append(head.name)
    try:
        if clip:
            head.diffspeaker.clip = clip  # type: ignore[attr-defined]
        for name in LIVE:
            setattr(head.diffspeaker, name, getattr(shown, name))  # type: ignore[attr-defined]
    finally:
        _quiet.remove(head.name)


def choose_some_clip(head: bpy.types.Object) -> None:
    """Let the live controls show the first clip that is left, when the chosen one was removed."""
    left = clips.clips(head)
    if left:
        head.diffspeaker.clip = left[0]  # type: ignore[attr-defined]
    else:
        head.diffspeaker.property_unset("clip")  # type: ignore[attr-defined]


def show_chosen() -> None:
    """Let the live controls of every head show what its chosen line is shown with."""
    for target in bpy.data.objects:
        if record := clips.stored_clip(target, adjust(target).clip):
            show_adjustments(target, storage.adjustments(record))


def attend(target: bpy.types.Object, frame: int, uid: str) -> str:
    """Return the line that controls should act on: the selected strip's, else the playhead's.

    uid: identity that the selected strip bears, "" for none. What was chosen by hand stays until
    the playhead or the selection moves; "" when nothing has to change.
    """
    if _seen.get(target.name) == (frame, uid):
        return ""
    _seen[target.name] = (frame, uid)
    found = storage.read(storage.holder(target)).clips
    mine = next((name for name, record in found.items() if uid and record.uid == uid), "")
    spans = {name: c.span for name, c in found.items() if not c.covered}
    here = [name for name, (first, last) in spans.items() if first <= frame <= last]
    wanted = mine or next(iter(here), "")
    return wanted if wanted != adjust(target).clip else ""


def choose_soon(target: bpy.types.Object, clip: str) -> None:
    """Let the live controls show another line, outside of the drawing that asks for it."""
    name = target.name

    def choose() -> None:
        head = bpy.data.objects.get(name)
        if head is not None and clips.stored_clip(head, clip) is not None:
            adjust(head).clip = clip

    timer.watch(choose, lambda: None)


def adjust_soon(head_name: str) -> None:
    """Rewrite a head's curves with the next look; at once where no timer fires."""
    if bpy.app.background:
        adjust_now(head_name)
        return
    if not _moved:
        timer.watch(look, forget)
    _moved.add(head_name)


def adjust_now(head_name: str) -> None:
    """Rewrite the chosen clip of a head with its live controls, unless they already agree."""
    target = bpy.data.objects.get(head_name)
    if target is None:
        return
    wanted, clip = wanted_of(target), adjust(target).clip
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
    group = adjust(target)
    return Adjustments(**{name: getattr(group, name) for name in LIVE})


def look() -> float | None:
    """Rewrite what has moved; return the pause until the next look, None when all rests.

    At most half of the time goes into writing, so that the window stays free to be drawn.
    """
    global _free_at  # noqa: PLW0603
    if not waiting():
        return None
    left = _free_at - time.monotonic()
    if left > 0:
        return left
    began = time.monotonic()
    while _moved:
        adjust_now(_moved.pop())
    spent = time.monotonic() - began
    _free_at = began + 2 * spent + PAUSE
    return spent + PAUSE


def waiting() -> bool:
    """Return whether a change has not reached the curves yet."""
    return bool(_moved)


def forget() -> None:
    """Drop changes that wait (another file, or the add-on is switched off)."""
    _moved.clear()
    _seen.clear()


@bpy.app.handlers.persistent
def _before_load(*_: object) -> None:
    forget()


@bpy.app.handlers.persistent
def _after_undo(*_: object) -> None:
    """Make curves and live controls agree again: an undo step may hold one without the other."""
    for target in bpy.data.objects:
        if clips.clips(target):
            adjust_soon(target.name)


_HANDLERS = (("load_pre", _before_load), ("undo_post", _after_undo), ("redo_post", _after_undo))


def register() -> None:
    """Register the controls, hang them on Object, and listen for undo and other files."""
    bpy.utils.register_class(DIFFSPEAKER_PG_adjust)
    bpy.types.Object.diffspeaker = PointerProperty(type=DIFFSPEAKER_PG_adjust)  # type: ignore[attr-defined]
    for name, handler in _HANDLERS:
        getattr(bpy.app.handlers, name).append(handler)


def unregister() -> None:
    """Take all of it off again."""
    for name, handler in _HANDLERS:
        getattr(bpy.app.handlers, name).remove(handler)
    forget()
    del bpy.types.Object.diffspeaker  # type: ignore[attr-defined]
    bpy.utils.unregister_class(DIFFSPEAKER_PG_adjust)
