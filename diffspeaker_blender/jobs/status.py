"""Show progress and one sentence: mirror the queue into the window manager and redraw."""

from __future__ import annotations

import time
from collections.abc import Sequence

import bpy

from ..errors import Finding
from ..settings import properties
from ..worker.schedule import State, Task

_status_bar_at = 0.0
_shown: tuple[str, float, str, int] = ("", 0.0, "", 0)


def say(
    message: str,
    hint: str = "",
    level: str = "INFO",
    finding: Finding | None = None,
    head: str = "",
) -> None:
    """Show one sentence in the panels, with the button of a finding's fix when there is one."""
    status = properties.status()
    status.message, status.hint, status.level = message, hint, level
    status.fix = finding.fix if finding else ""
    status.fix_label = finding.fix_label if finding else ""
    status.head = head
    redraw()


def show(tasks: Sequence[Task]) -> None:
    """Mirror the queue: the task under way, and how many wait behind it."""
    global _shown  # noqa: PLW0603
    status = properties.status()
    first = next((task for task in tasks if task.state is not State.WAITING), None)
    first = first or next(iter(tasks), None)
    status.busy = bool(tasks)
    status.waiting = max(0, len(tasks) - 1)
    if first is not None:
        status.stage = first.stage or "Waiting"
        status.line = first.payload.clip
        status.fraction = first.fraction
        status.seconds_left = -1.0 if first.seconds_left is None else first.seconds_left
    shown = (status.stage, round(status.fraction, 2), time_left(status.seconds_left), len(tasks))
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
    if time.monotonic() - _status_bar_at < 1.0 and properties.status().busy:
        return
    _status_bar_at = time.monotonic()
    for shown in bpy.context.window_manager.windows:
        others = [op for op in shown.modal_operators if not op.bl_idname.startswith("DIFFSPEAKER")]
        if not others and shown.workspace is not None:
            shown.workspace.status_text_set_internal(None)
