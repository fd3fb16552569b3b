# SPDX-License-Identifier: GPL-3.0-or-later
"""Walk requests through one or more worker processes, a step at a time and never blocking.

Knows nothing of Blender: `jobs` steps it from a timer or a loop, `command` with several workers.

    WAITING ─► RUNNING ─► READING ─► READY          cancel or failure leads from any of the first
                                                    three to CANCELLED or FAILED
"""

from __future__ import annotations

import enum
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import LipSyncError
from .client import Worker
from .wire import Cancelled, Done, Event, Failed, Progress, Terminal


class State(enum.Enum):
    """Where a task is on its way."""

    WAITING = "waiting"
    RUNNING = "running"
    READING = "reading"
    READY = "ready"
    CANCELLED = "cancelled"
    FAILED = "failed"


READING = 600.0  # seconds that reading a result may take; a dead disk never answers
ENDED = (State.READY, State.CANCELLED, State.FAILED)


@dataclass(eq=False)
class Task:
    """One request on its way; `fields` are those of `generate`, or None to ask for `describe`.

    payload: whatever the caller needs again at the end.
    reading_since: monotonic time at which reading began.
    on_end: called at the end in place of what is done with a motion.
    fraction: 0..1 of the whole; seconds_left: None while unknown.
    result: what `read` made of the written file; report: what the worker says about it.
    error: why the task failed.
    """

    fields: dict[str, Any] | None
    payload: Any = None
    state: State = State.WAITING
    stage: str = ""
    fraction: float = 0.0
    seconds_left: float | None = None
    result: Any = None
    report: dict[str, Any] = field(default_factory=dict)
    error: LipSyncError | None = None
    reading_since: float = 0.0
    on_end: Callable[[Task], None] | None = None

    @property
    def ended(self) -> bool:
        """True once nothing more will happen to the task."""
        return self.state in ENDED

    def fail(self, error: LipSyncError) -> None:
        """End the task with an error."""
        self.state, self.error = State.FAILED, error


@dataclass(eq=False)
class _Lane:
    """One worker and the task it is busy with."""

    worker: Worker
    task: Task | None = None
    request: str = ""


class Schedule:
    """Tasks in order, workers in lanes.

    `make_worker` gives a worker that is not started yet; it is called once a lane, when the lane is
    first needed. `read` turns the file that was written for a payload into the task's result; it
    runs in a thread, so it must not touch bpy.
    """

    def __init__(
        self, make_worker: Callable[[], Worker], read: Callable[[Path, Any], Any], lanes: int = 1
    ) -> None:
        self.make_worker, self.read, self.most_lanes = make_worker, read, lanes
        self.tasks: list[Task] = []
        self.lanes: list[_Lane] = []
        self.idle_since = time.monotonic()

    @property
    def busy(self) -> bool:
        """True while a task has not ended."""
        return bool(self.tasks)

    @property
    def alive(self) -> bool:
        """True while a worker process runs, be it idle."""
        return any(lane.worker.alive for lane in self.lanes)

    def add(self, task: Task) -> Task:
        """Queue a task; nothing starts before the next `step`."""
        self.tasks.append(task)
        return task

    def cancel(self, task: Task) -> None:
        """Give a task up. It ends at once; its lane is free again when the worker has let go."""
        for lane in self.lanes:
            if lane.task is task:
                lane.worker.cancel(lane.request)
        if not task.ended:
            task.state = State.CANCELLED

    def drop(self) -> list[Task]:
        """Give every task up and forget it: none of them will be returned by `step`."""
        dropped, self.tasks = self.tasks, []
        for task in dropped:
            self.cancel(task)
        return dropped

    def step(self) -> list[Task]:
        """Take events, start what can start, and return the tasks that ended."""
        for lane in self.lanes:
            for event in lane.worker.poll():
                self._take(lane, event)
        for task in self.tasks:
            if task.state is State.WAITING:
                self._start(task)
            elif task.state is State.READING and time.monotonic() - task.reading_since > READING:
                task.fail(LipSyncError("The result could not be read in time.", "Try again."))
        ended = [task for task in self.tasks if task.ended]
        self.tasks = [task for task in self.tasks if not task.ended]
        if self.tasks or ended:
            self.idle_since = time.monotonic()
        return ended

    def stop(self) -> None:
        """Drop every task and end every worker process."""
        lanes, self.lanes = self.lanes, []
        self.tasks.clear()
        enders = [threading.Thread(target=lane.worker.stop) for lane in lanes]
        for ender in enders:
            ender.start()
        for ender in enders:
            ender.join()

    def _free_lane(self) -> _Lane | None:
        """Return a lane without a task, opening a new one if that is allowed."""
        for lane in self.lanes:
            if lane.task is None:
                return lane
        if len(self.lanes) >= self.most_lanes:
            return None
        self.lanes.append(_Lane(self.make_worker()))
        return self.lanes[-1]

    def _start(self, task: Task) -> None:
        """Send a waiting task to a free worker, if there is one."""
        try:
            lane = self._free_lane()
            if lane is None:
                return
            if not lane.worker.alive:
                task.stage = "Starting the model"
            worker, fields = lane.worker, task.fields
            lane.request = worker.describe() if fields is None else worker.generate(**fields)
        except LipSyncError as error:
            task.fail(error)
            return
        lane.task, task.state = task, State.RUNNING

    def _take(self, lane: _Lane, event: Event) -> None:
        """Note what an event says about the lane's task."""
        task = lane.task
        if task is None or event.id != lane.request:
            return
        if task.ended:
            if isinstance(event, Terminal):
                lane.task = None
                lane.worker.forget(event.id)
        elif isinstance(event, Progress):
            task.fraction, task.seconds_left = event.fraction, event.seconds_left
            task.stage = event.stage or task.stage
        elif isinstance(event, Done):
            lane.task = None
            task.report, task.fraction = event.report, 1.0
            if task.fields is None:
                task.state = State.READY
            else:
                self._read(task, lane, event)
        elif isinstance(event, Cancelled):
            lane.task, task.state = None, State.CANCELLED
        elif isinstance(event, Failed):
            lane.task = None
            task.fail(LipSyncError(event.message, event.hint))

    def _read(self, task: Task, lane: _Lane, event: Done) -> None:
        """Read the written file in a thread, so that a large one cannot stall the caller."""
        task.state, task.stage = State.READING, "Reading"
        task.reading_since = time.monotonic()

        def work() -> None:
            try:
                if event.output is None:
                    raise LipSyncError("The worker names no result file.")
                task.result = self.read(event.output, task.payload)
            except LipSyncError as error:
                if not task.ended:
                    task.fail(error)
            except Exception as error:  # a thread that ends without a word would hang the queue
                traceback.print_exc()
                reason = f"{type(error).__name__}: {str(error)[:200]}"
                if not task.ended:
                    task.fail(LipSyncError(f"The result is unreadable ({reason}).", "Try again."))
            else:
                if not task.ended:
                    task.state = State.READY
            finally:
                lane.worker.forget(event.id)

        threading.Thread(target=work, daemon=True).start()
