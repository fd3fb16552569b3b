# SPDX-License-Identifier: GPL-3.0-or-later
"""Show progress and one sentence: mirror the queue into the window manager and redraw.

window_manager.diffspeaker  `now(context)`  progress and the last message, never saved
"""

# mypy: disable-error-code="valid-type,no-any-return"

from __future__ import annotations

import time
from collections.abc import Sequence

import bpy
from bpy.props import (
    BoolProperty,
    EnumProperty,
    FloatProperty,
    IntProperty,
    PointerProperty,
    StringProperty,
)

from ..errors import Finding, LipSyncError
from ..worker.schedule import State, Task

LEVELS = (("INFO", "Info", ""), ("WARNING", "Warning", ""), ("ERROR", "Error", ""))

_DRAGGING = ("TRANSFORM_OT", "GRAPH_OT", "ACTION_OT", "NLA_OT", "SEQUENCER_OT", "SCULPT_OT")
_status_bar_at = 0.0
_shown: tuple[str, float, str, int] = ("", 0.0, "", 0)


class DIFFSPEAKER_PG_status(bpy.types.PropertyGroup):
    """Mirror the job queue for panels and scripts; written by `jobs` alone."""

    busy: BoolProperty(name="Busy")
    line: StringProperty(name="Line")
    stage: StringProperty(name="Stage")
    fraction: FloatProperty(name="Fraction", min=0.0, max=1.0)
    seconds_left: FloatProperty(name="Seconds Left", default=-1.0)
    waiting: IntProperty(name="Waiting Jobs")
    message: StringProperty(name="Last Message")
    number: IntProperty(name="Number of the Last Message")
    hint: StringProperty(name="What To Do")
    level: EnumProperty(name="Level", items=LEVELS)
    chore: StringProperty(name="Set-Up Work")
    chore_fraction: FloatProperty(name="Fraction of the Set-Up Work", min=0.0, max=1.0)
    chore_left: FloatProperty(name="Seconds Left of the Set-Up Work", default=-1.0)
    fix: StringProperty(name="Fix", description="What `diffspeaker.fix` shall do")
    fix_label: StringProperty(name="Name of the Fix")
    head: StringProperty(name="Head of the Last Message")


def now(context: bpy.types.Context | None = None) -> DIFFSPEAKER_PG_status:
    """Return the status that panels show."""
    return (context or bpy.context).window_manager.diffspeaker


def say(
    message: str,
    hint: str = "",
    level: str = "INFO",
    finding: Finding | None = None,
    head: str = "",
) -> None:
    """Show one sentence in the panels, with the button of a finding's fix when there is one."""
    state = now()
    state.message, state.hint, state.level = message, hint, level
    state.number += 1
    state.fix = finding.fix if finding else ""
    state.fix_label = finding.fix_label if finding else ""
    state.head = head
    redraw()


def refuse(operator: bpy.types.Operator, error: LipSyncError) -> set[str]:
    """Tell a person, or a script as RuntimeError, why nothing was done."""
    say(error.message, error.hint, "ERROR")
    operator.report({"ERROR"}, str(error))
    return {"CANCELLED"}


def show(tasks: Sequence[Task]) -> None:
    """Mirror the queue: the task under way, and how many wait behind it."""
    global _shown  # noqa: PLW0603
    state = now()
    first = next((task for task in tasks if task.state is not State.WAITING), None)
    first = first or next(iter(tasks), None)
    state.busy = bool(tasks)
    state.waiting = max(0, len(tasks) - 1)
    if first is not None:
        state.stage = first.stage or "Waiting"
        state.line = first.payload.clip
        state.fraction = first.fraction
        state.seconds_left = -1.0 if first.seconds_left is None else first.seconds_left
    shown = (state.stage, round(state.fraction, 2), time_left(state.seconds_left), len(tasks))
    if shown != _shown:
        _shown = shown
        redraw()


def time_left(seconds: float) -> str:
    """Return "12 s left", "3 min left", or "" when nothing is known (negative)."""
    if seconds < 0:
        return ""
    if seconds < 90:
        return f"{max(1, round(seconds))} s left"
    return f"{round(seconds / 60)} min left"


def hands_full() -> bool:
    """Return whether the user is dragging keys or strips: none are exchanged under the hand.

    Blender's tools hold on to keys while they drag them. Tools of other add-ons may run for ever,
    so only Blender's own count.
    """
    return any(
        operator.bl_idname.startswith(_DRAGGING)
        for shown in bpy.context.window_manager.windows
        for operator in shown.modal_operators
    )


def window() -> bpy.types.Window | None:
    """Return a window to work in: a timer has none of its own."""
    return next(iter(bpy.context.window_manager.windows), None)


def redraw() -> None:
    """Redraw our sidebars, and the status bar once a second."""
    if bpy.app.background:
        return
    for shown in bpy.context.window_manager.windows:
        for area in shown.screen.areas:
            if area.type in {"VIEW_3D", "SEQUENCE_EDITOR"}:
                for region in area.regions:
                    if region.type == "UI":
                        region.tag_redraw()
    _redraw_status_bar()


def _redraw_status_bar() -> None:
    """Redraw the status bar, unless another tool speaks there.

    It is in no screen's areas; setting its text to nothing is the one thing that redraws it.
    """
    global _status_bar_at  # noqa: PLW0603
    if time.monotonic() - _status_bar_at < 1.0 and now().busy:
        return
    _status_bar_at = time.monotonic()
    for shown in bpy.context.window_manager.windows:
        others = [op for op in shown.modal_operators if not op.bl_idname.startswith("DIFFSPEAKER")]
        if not others and shown.workspace is not None:
            shown.workspace.status_text_set_internal(None)


def register() -> None:
    """Register the status and hang it on WindowManager."""
    bpy.utils.register_class(DIFFSPEAKER_PG_status)
    bpy.types.WindowManager.diffspeaker = PointerProperty(type=DIFFSPEAKER_PG_status)  # type: ignore[attr-defined]


def unregister() -> None:
    """Take it off again."""
    del bpy.types.WindowManager.diffspeaker  # type: ignore[attr-defined]
    bpy.utils.unregister_class(DIFFSPEAKER_PG_status)
