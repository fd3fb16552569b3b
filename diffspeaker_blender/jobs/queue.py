# SPDX-License-Identifier: GPL-3.0-or-later
"""Carry lines from the button to the keys, in the background.

The queue lives in this module and knows names, never pointers. The timer polls the worker, mirrors
progress into the window manager for panels, and hands a finished motion to `diffspeaker.apply`, so
that one undo step takes it back. In scripts and in background, where no timer fires, `run` does the
same in a loop.
"""

# mypy: disable-error-code="valid-type,no-any-return"
from __future__ import annotations

import itertools
import shutil
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import bpy
from bpy.props import FloatProperty, IntProperty, StringProperty

from ..errors import LipSyncError
from ..motion import motion
from ..paths import absolute
from ..settings import machine
from ..sound import sources
from ..worker.schedule import Schedule, State, Task
from . import placing, plan, status, timer
from .lines import Wanted
from .placing import Placed
from .status import refuse

TICK = 0.05  # seconds between polls while something is under way
IDLE_TICK = 2.0  # seconds between polls of a warm worker that has nothing to do

_schedule: Schedule | None = None
_python: Path | None = None  # what the schedule's worker runs on
_ready: dict[int, Task] = {}
_held: list[Task] = []  # ready, but the user is dragging something
_numbers = itertools.count(1)
_last: Placed | None = None


# --- asking --------------------------------------------------------------------------------------


def busy() -> bool:
    """Return whether a task waits, runs or is being written."""
    return bool(_ready) or bool(_held) or (_schedule is not None and _schedule.busy)


def submit(tasks: Iterable[Task]) -> None:
    """Queue tasks and return at once; the timer does the rest."""
    schedule = _open()
    for task in tasks:
        schedule.add(task)
    watch()
    show()


def run(tasks: Iterable[Task], on_step: Callable[[Task], None] | None = None) -> list[Placed]:
    """Carry tasks through while the caller waits; return what was placed.

    Raises the first failure once all tasks have ended, so that one bad line loses no other.
    """
    schedule = _open()
    mine = [schedule.add(task) for task in tasks]
    placed: list[Placed] = []
    try:
        while any(not task.ended for task in mine) or any(task in schedule.tasks for task in mine):
            for task in schedule.step():
                if task not in mine or task.on_end is not None:
                    _finish(task)
                elif task.state is State.READY:
                    placed += _try_place(task)
            if on_step:
                for task in mine:
                    on_step(task)
            time.sleep(0.01)
    finally:
        for task in mine:
            schedule.cancel(task)
            _tidy(task)
        show()
    for task in mine:
        if task.error is not None:
            raise task.error
    return placed


def cancel() -> int:
    """Give up every task; return how many there were."""
    if _schedule is None:
        return 0
    waiting = list(_schedule.tasks)
    for task in waiting:
        _schedule.cancel(task)
    _drop_held()
    show()
    return len(waiting)


def _drop_held() -> None:
    for task in _held:
        _tidy(task)
    _held.clear()


def take(number: int) -> Task | None:
    """Return a task that is ready to be written, once."""
    return _ready.pop(number, None)


def last() -> Placed | None:
    """Return what was placed last, for fixes and checks."""
    return _last


def forget_worker() -> None:
    """End the worker and drop the queue, so that changed preferences take effect."""
    global _schedule  # noqa: PLW0603
    if _schedule is not None:
        for task in _schedule.tasks:
            _tidy(task)
        _drop_held()
        _schedule.stop()
        _schedule = None


def show() -> None:
    """Mirror the queue in the panels."""
    status.show(_schedule.tasks if _schedule is not None else [])


def show_placed(placed: Placed) -> None:
    """Show a result: its sentence, or the first reason why nothing is seen and the way out."""
    global _last  # noqa: PLW0603
    _last = placed
    trouble = next((finding for finding in placed.findings if finding.blocking), None)
    if trouble is not None:
        status.say(trouble.message, placed.sentence, "WARNING", trouble, placed.head)
        return
    remark = next(iter(placed.findings), None)
    status.say(placed.sentence, remark.message if remark else "", "INFO", remark, placed.head)


# --- what the timer does -------------------------------------------------------------------------


def _open() -> Schedule:
    """Return the schedule, with a new worker where the preferences name another Python by now."""
    global _schedule, _python
    python = machine.python()
    if _schedule is not None and not _schedule.busy and python != _python:
        forget_worker()
    if _schedule is None:
        _schedule, _python = Schedule(machine.new_worker, placing.read), python
    return _schedule


def watch() -> None:
    """Let the timer look after the queue."""
    timer.watch(look, _give_up)


def look() -> float | None:
    """Do what is due; return the pause until the next look, None when nothing is left to watch."""
    if _schedule is None:
        return None
    was_busy = _schedule.busy
    ended = [*_held, *_schedule.step()]
    _held.clear()
    for task in ended:
        if task.state is State.READY and task.on_end is None and status.hands_full():
            _held.append(task)
        else:
            _finish(task)
    if was_busy:
        show()
    if _schedule.busy or _held:
        return TICK
    if not _schedule.alive:
        return None
    if time.monotonic() - _schedule.idle_since > machine.get().keep_warm * 60:
        forget_worker()
        return None
    return IDLE_TICK


def _give_up() -> None:
    status.say("Something unexpected went wrong; the queue was stopped.", "See the log.", "ERROR")
    forget_worker()


def _finish(task: Task) -> None:
    """Write what is ready through its operator; say why when there is nothing to write."""
    if task.on_end is not None:
        task.on_end(task)
    elif task.state is State.READY:
        number = next(_numbers)
        _ready[number] = task
        try:
            with bpy.context.temp_override(window=status.window()):
                apply = bpy.ops.diffspeaker.apply  # type: ignore[attr-defined]
                apply("EXEC_DEFAULT", True, task=number)  # one undo step
        except RuntimeError as error:
            status.say(str(error).removeprefix("Error: ").strip(), "", "ERROR")
        finally:
            _ready.pop(number, None)
    elif task.state is State.CANCELLED:
        status.say(f"“{task.payload.clip}” was cancelled; nothing was changed")
    elif task.error is not None:
        status.say(task.error.message, task.error.hint, "ERROR")
    _tidy(task)


def _try_place(task: Task) -> list[Placed]:
    """Place a task's motion; keep a failure in the task for the caller to raise."""
    try:
        result, shaped = task.result
        placed = placing.place(result, shaped, task.payload)
    except LipSyncError as error:
        task.fail(error)
        return []
    show_placed(placed)
    return [placed]


def _tidy(task: Task) -> None:
    if task.payload.folder is not None:
        shutil.rmtree(task.payload.folder, ignore_errors=True)


# --- writing what is ready ------------------------------------------------------------------------


class DIFFSPEAKER_OT_apply(bpy.types.Operator):
    """Write a finished motion on its head"""

    bl_idname = "diffspeaker.apply"
    bl_label = "Lip-Sync"
    bl_options = {"UNDO", "INTERNAL"}

    task: IntProperty(options={"HIDDEN", "SKIP_SAVE"})
    filepath: StringProperty(
        name="Motion File",
        description="Motion that the model wrote earlier (.npz)",
        subtype="FILE_PATH",
        options={"SKIP_SAVE", *machine.PATH},
    )
    head: StringProperty(name="Head", description="Name of the head", options={"SKIP_SAVE"})
    clip: StringProperty(name="Line", description="Name of the result", options={"SKIP_SAVE"})
    start_frame: FloatProperty(name="Start Frame", default=1.0, options={"SKIP_SAVE"})

    def execute(self, context: bpy.types.Context) -> set[str]:
        try:
            task = take(self.task)
            if task is not None:
                result, shaped = task.result
                placed = placing.place(result, shaped, task.payload)
            else:
                placed = self._place_file(context)
        except LipSyncError as error:
            return refuse(self, error)
        show_placed(placed)
        self.report({"INFO"}, placed.sentence)
        return {"FINISHED"}

    def _place_file(self, context: bpy.types.Context) -> placing.Placed:
        path = absolute(bpy.path.abspath(self.filepath))
        result = motion.load(path)
        scene = sources.sequencer_scene(context) or context.scene
        start = self.start_frame / sources.scene_fps(scene)
        where = plan.Placement.of(
            plan.find_head(context, self.head),
            scene,  # type: ignore[arg-type]
            plan.Place(self.clip or path.stem, start, len(result.weights) / result.fps),
            plan.form_of(plan.chosen_for(context)),
            line=Wanted(exact=True),
        )
        full, shaped = placing.prepare(result, where)
        return placing.place(full, shaped, where)


# --- other files ---------------------------------------------------------------------------------


@bpy.app.handlers.persistent
def _before_load(*_: object) -> None:
    """Give up tasks that belong to the file that is left; the worker stays warm."""
    global _last  # noqa: PLW0603
    _last = None
    for task in _ready.values():
        _tidy(task)
    _ready.clear()
    _drop_held()
    if _schedule is not None:
        for task in _schedule.drop():
            _tidy(task)


@bpy.app.handlers.persistent
def _after_load(*_: object) -> None:
    """Start with a clean message in the new file."""
    status.say("")
    show()
    watch()


@bpy.app.handlers.persistent
def _after_undo(*_: object) -> None:
    """Say no more what a result shows: it may be there no longer."""
    if status.now().head:
        status.say("")


def register() -> None:
    """Make `apply` known and listen for other files; timer and worker start with the first task."""
    bpy.utils.register_class(DIFFSPEAKER_OT_apply)
    bpy.app.handlers.load_pre.append(_before_load)
    bpy.app.handlers.load_post.append(_after_load)
    for steps in (bpy.app.handlers.undo_post, bpy.app.handlers.redo_post):
        steps.append(_after_undo)


def unregister() -> None:
    """Stop the timer, the worker and every task; remove the handlers."""
    bpy.app.handlers.load_pre.remove(_before_load)
    bpy.app.handlers.load_post.remove(_after_load)
    for steps in (bpy.app.handlers.undo_post, bpy.app.handlers.redo_post):
        steps.remove(_after_undo)
    timer.stop()
    _ready.clear()
    forget_worker()
    bpy.utils.unregister_class(DIFFSPEAKER_OT_apply)
