# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure a character when it is picked in the panel, or when it shall speak for the first time.

That takes from a blink to some seconds, in which Blender stands still. So the panel says first what
is coming, and the work is done by its own operator, as one undo step, on the tick after that.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import bpy

from ..character import detect, fit, head
from ..settings import choices
from . import plan, status, timer

_SEEN = 0.15
"""Seconds in which the sentence gets on the screen."""


@dataclass(frozen=True)
class _Wanted:
    """A character that is to be measured."""

    name: str
    due: float
    then: Callable[[], None] | None


_wanted: _Wanted | None = None


def picked(obj: bpy.types.Object | None) -> None:
    """Have a character fitted that was picked in the panel, if it is one and was not yet."""
    if obj is None or not _watched() or not fit.could_speak(obj):
        return
    known = head.looks_like_head(obj) or plan.is_own(obj, plan.model_of(bpy.context))
    if not known and detect.speaker_of(obj) is None:
        soon(obj)


def _watched() -> bool:
    """Return whether anyone sits before a window: a script fits when it generates."""
    return not bpy.app.background


def soon(obj: bpy.types.Object, then: Callable[[], None] | None = None) -> None:
    """Have a character fitted after the panel said so; `then` follows if it can speak."""
    global _wanted  # noqa: PLW0603
    status.say(
        f"Looking at {obj.name} …",
        "Its face is measured once; a large character takes some seconds.",
    )
    _wanted = _Wanted(obj.name, time.monotonic() + _SEEN, then)
    timer.watch(_look, _give_up)


def _look() -> float | None:
    """Do what is due on the timer's tick."""
    global _wanted  # noqa: PLW0603
    wanted = _wanted
    if wanted is None:
        return None
    if time.monotonic() < wanted.due or status.hands_full():
        return 0.05
    _wanted = None
    with bpy.context.temp_override(window=status.window()):
        if _fit(wanted.name) and wanted.then is not None:
            wanted.then()
    return None


def _fit(name: str) -> bool:
    """Fit to a character as one undo step; return whether it can speak. Why not was said."""
    if name not in bpy.data.objects:  # an undo took it, or another file
        return False
    window = status.window() if _watched() else None
    if window is not None:
        window.cursor_modal_set("WAIT")
    try:
        fitting = bpy.ops.diffspeaker.fit_character  # type: ignore[attr-defined]
        return "FINISHED" in fitting("EXEC_DEFAULT", True, character=name)
    except RuntimeError:
        return False
    finally:
        if window is not None:
            window.cursor_modal_restore()


def _give_up() -> None:
    global _wanted  # noqa: PLW0603
    _wanted = None


def register() -> None:
    """Listen for what is picked."""
    choices.picked.append(picked)


def unregister() -> None:
    """Listen no more."""
    choices.picked.remove(picked)
    _give_up()
