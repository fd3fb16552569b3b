# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep lines beside their strips: moved, trimmed or retimed strips take their lines along.

Blender tells of a change in a scene but not of which. A look compares where the marked strips lie
with where they lay at the last look, and only then asks the lines. It waits until the strips rest,
so dragging stays as fast as it was. Nothing is ever asked or lost when a strip goes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import bpy
import numpy as np

from ..animation import clips, storage
from ..animation.storage import Clip
from ..errors import LipSyncError
from ..paths import ADDON
from ..sound import tracking
from ..sound.strips import all_strips
from ..sound.tracking import Where
from . import lines, live, status, timer

log = logging.getLogger(ADDON)

REST = 0.15  # seconds that strips must rest before their lines follow

_changed = 0.0  # monotonic time of the last change of a scene
_last: list[Any] = []  # where the marked strips lay at the last look
_busy: list[bool] = []  # not empty while lines are moved, which changes the scene again


@dataclass(frozen=True)
class Step:
    """How a line stands to its strip."""

    kind: str
    """"in" step, "moved", "more" is heard than was spoken, "unknown" retiming, "free" of strips."""
    where: Where | None = None
    """Where the line belongs, when it is out of step and that is known."""
    heard: tuple[float, float] = (0.0, 0.0)
    """First frame on which the strip is heard, and the first one after it."""
    scene: Any = None
    strip: Any = None

    @property
    def words(self) -> str:
        """Say what is out of step, "" when nothing is."""
        return {
            "moved": "The strip has moved; the line has not",
            "more": "The strip plays more than was spoken; generate it again",
            "unknown": "The strip was retimed in parts; generate it again",
        }.get(self.kind, "")


def step_of(record: Clip) -> Step:
    """Return how a line stands to its strip."""
    source = record.source
    own = tracking.own_strip(record.uid, source.name, source.scene) if source.kind else None
    if own is None:
        return Step("free")
    scene, strip = own
    now, then = tracking.layout(scene, strip), lines.layout_then(source)
    heard = tracking.heard(scene, strip)
    now = replace(now, first=heard[0], last=heard[1])
    if tracking.same(now, then):
        return Step("more" if _more(record, heard) else "in", None, heard, scene, strip)
    where = tracking.belongs(then, now, record.start_frame, record.speed)
    return Step("moved" if where else "unknown", where, heard, scene, strip)


def _more(record: Clip, heard: tuple[float, float]) -> bool:
    """Return whether a strip is heard before or after what was spoken of it."""
    if record.source.kind == "strips":
        return False
    first, last = record.natural or record.span
    return heard[0] < first - 1.5 or heard[1] > last + 3.5


def follow(target: Any, clip: str) -> str:
    """Bring a line to its strip; return what is still out of step, "" for nothing.

    Raises HeadError, MotionError.
    """
    record = lines.records_of(target)[clip]
    step = step_of(record)
    if step.kind != "moved" or step.where is None:
        return step.words
    first, last = float(np.ceil(step.heard[0] - 1e-3)), float(np.ceil(step.heard[1] - 1e-3)) - 1
    several = record.source.kind == "strips"  # the first strip is only a part of the sound
    clips.place_clip(
        target,
        clip,
        start_frame=step.where.start_frame,
        speed=step.where.speed,
        cut=None if several else (first, last),
        source=lines.noted(step.scene, step.strip, record.source),
        scene=step.scene,
    )
    return step_of(lines.records_of(target)[clip]).words


def follow_all() -> int:
    """Bring every line that follows its strip to it; return how many were out of step."""
    moved = 0
    for target, name, record in _lines():
        if record.follow and step_of(record).kind == "moved":
            try:
                follow(target, name)
                moved += 1
            except LipSyncError as error:
                log.warning("%s does not follow its strip: %s", name, error)
    return moved


def adopt(target: Any) -> int:
    """Tie lines of version 1.0.0 to the strips they were made from; return how many.

    Only where a strip of the line's name lies just where the line begins.
    """
    key, found = storage.holder(target), 0
    index = storage.read(key)
    for name, record in index.clips.items():
        for scene in bpy.data.scenes if not record.source.kind else ():
            strips = all_strips(scene.sequence_editor) if scene.sequence_editor else []
            for strip in strips:
                if strip.name == name and strip.type == "SOUND":
                    heard = tracking.heard(scene, strip)
                    if abs(heard[0] - record.start_frame) < 0.5:
                        record.source = lines.noted(scene, strip, record.source)
                        strip[tracking.LINE], strip[tracking.SPEAKER] = record.uid, target
                        found += 1
    if found:
        storage.write(key, index)
    return found


def _lines() -> Iterator[tuple[Any, str, Clip]]:
    """Yield every line of the file with its head."""
    for target in bpy.data.objects:
        if target.library is None and target.mode == "OBJECT":
            for name, record in lines.records_of(target).items():
                yield target, name, record


# -- looking ----------------------------------------------------------------------------------


def look_soon() -> None:
    """Compare strips and lines once the strips rest; at once where no timer fires."""
    global _changed  # noqa: PLW0603
    if _busy:
        return
    _changed = time.monotonic()
    if bpy.app.background:
        look_now()
    else:
        timer.watch(look, forget)


def look() -> float | None:
    """Look when it is time; return the pause until the next look, None when it is done."""
    left = _changed + REST - time.monotonic()
    if left > 0 or status.hands_full():
        return max(left, REST)
    look_now()
    return None


def look_now() -> None:
    """Let lines follow if a marked strip has changed since the last look."""
    places = _places()
    if places == _last or _busy:
        return
    _last[:] = places
    _busy.append(True)
    try:
        if follow_all():
            live.show_chosen()
    finally:
        _busy.clear()


def _places() -> list[Any]:
    """Return where all marked strips lie, and the metas that may cut them."""
    return [
        (scene.name, scene.render.fps, scene.render.fps_base, *tracking.sketch(strip))
        for scene in bpy.data.scenes
        if scene.sequence_editor is not None
        for strip in all_strips(scene.sequence_editor)
        if tracking.LINE in strip or strip.type == "META"
    ]


def forget() -> None:
    """Forget where strips lay (another file, or the add-on is switched off)."""
    _last.clear()
    _busy.clear()


@bpy.app.handlers.persistent
def _scene_changed(_scene: Any, depsgraph: Any) -> None:
    if depsgraph.id_type_updated("SCENE"):
        look_soon()


@bpy.app.handlers.persistent
def _undone(*_: object) -> None:
    """An undo step may hold a strip's move without its line's."""
    _last.clear()
    look_soon()


@bpy.app.handlers.persistent
def _loaded(*_: object) -> None:
    """Take over lines of version 1.0.0, and take strips as they lie for the last look."""
    forget()
    for target in bpy.data.objects:
        if target.library is None and getattr(target.data, "library", None) is None:
            adopt(target)
    _last[:] = _places()


_HANDLERS = (
    ("depsgraph_update_post", _scene_changed),
    ("undo_post", _undone),
    ("redo_post", _undone),
    ("load_post", _loaded),
)


def register() -> None:
    """Listen for changes of scenes."""
    for name, handler in _HANDLERS:
        getattr(bpy.app.handlers, name).append(handler)


def unregister() -> None:
    """Stop listening."""
    for name, handler in _HANDLERS:
        hooks = getattr(bpy.app.handlers, name)
        if handler in hooks:
            hooks.remove(handler)
    forget()
