# SPDX-License-Identifier: GPL-3.0-or-later
"""The queue of tasks: order, lanes, cancelling, failing, and nothing left behind."""

from __future__ import annotations

import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest

from diffspeaker_blender.motion import motion
from diffspeaker_blender.worker.client import Worker
from diffspeaker_blender.worker.schedule import Schedule, State, Task
from tests.fakes.sound import write_test_sound
from tests.shared import ROOT

FAKE = ROOT / "tests" / "fakes" / "speaker.py"


def make_worker(seconds: float = 0.0) -> Worker:
    return Worker([sys.executable, str(FAKE), str(seconds)])


def read(path: Path, _payload: object) -> motion.Motion:
    return motion.load(path)


@pytest.fixture
def fields(tmp_path):
    """Fields of a request that the fake can answer."""
    np.savez(tmp_path / "face.npz", vertices=np.random.default_rng(0).normal(size=(50, 3)))
    sound = write_test_sound(tmp_path / "one.wav")
    return {"audio": str(sound), "face": str(tmp_path / "face.npz")}


@pytest.fixture
def opened():
    """Make schedules and stop them at the end."""
    made = []

    def make(seconds: float = 0.0, lanes: int = 1) -> Schedule:
        made.append(Schedule(lambda: make_worker(seconds), read, lanes))
        return made[-1]

    yield make
    for schedule in made:
        schedule.stop()


def finish(schedule: Schedule, patience: float = 20.0) -> list[Task]:
    """Step until nothing is left; return what ended, in order."""
    ended, end = [], time.monotonic() + patience
    while schedule.busy:
        assert time.monotonic() < end, "the schedule does not end"
        ended += schedule.step()
        time.sleep(0.005)
    return ended


def test_tasks_end_in_order_with_their_motion(opened, fields):
    """Each task ends READY, first come first served, with the motion read."""
    schedule = opened()
    tasks = [schedule.add(Task(dict(fields), number)) for number in range(3)]
    assert finish(schedule) == tasks
    assert [task.state for task in tasks] == [State.READY] * 3
    assert tasks[0].result.names == ("jawOpen", "mouthPucker")
    assert tasks[0].report == {"frames": 30}
    assert tasks[0].fraction == 1.0


def test_cancel_ends_at_once_and_the_worker_goes_on(opened, fields):
    """A cancelled task ends with the next step, and the same worker takes the next one."""
    schedule = opened()
    slow = schedule.add(Task({**fields, "steps": 600}))
    while slow.fraction == 0:
        schedule.step()
        time.sleep(0.01)
    assert slow.seconds_left > 50
    pid = schedule.lanes[0].worker._process.pid
    schedule.cancel(slow)
    started = time.monotonic()
    assert schedule.step() == [slow]
    assert time.monotonic() - started < 0.05
    assert slow.state is State.CANCELLED
    assert finish_one(schedule, fields).state is State.READY
    assert schedule.lanes[0].worker._process.pid == pid


def test_cancel_of_a_waiting_task_starts_nothing(opened, fields):
    """What had not started yet never reaches a worker."""
    schedule = opened()
    task = schedule.add(Task(fields))
    schedule.cancel(task)
    assert finish(schedule) == [task]
    assert not schedule.lanes


def test_a_failure_keeps_its_words_and_stops_nothing_else(opened, fields):
    """The worker's message and hint arrive; the next task runs."""
    schedule = opened()
    bad = schedule.add(Task({**fields, "audio": "missing.wav", "span": [0, 1]}))
    good = schedule.add(Task(dict(fields)))
    finish(schedule)
    assert (bad.error.message, bad.error.hint) == ("The sound is missing.", "Choose another.")
    assert good.state is State.READY


def test_a_worker_that_dies_is_replaced(opened, fields):
    """A death fails the task in plain words; the next one gets a new process."""
    schedule = opened()
    deadly = schedule.add(Task({**fields, "seed": 666}))
    finish(schedule)
    assert deadly.state is State.FAILED
    assert deadly.error.message
    assert finish_one(schedule, fields).state is State.READY


def test_two_lanes_work_at_once(opened, fields):
    """Two workers take two tasks in the time of one."""
    schedule = opened(lanes=2)
    for _ in range(2):
        schedule.add(Task(dict(fields)))
    finish(schedule)
    started = time.monotonic()
    for _ in range(2):
        schedule.add(Task({**fields, "steps": 10}))
    finish(schedule)
    assert time.monotonic() - started < 1.9


def test_describe_has_a_report_and_no_motion(opened):
    """A task without fields asks what there is."""
    schedule = opened()
    task = schedule.add(Task(None))
    finish(schedule)
    assert task.state is State.READY
    assert task.report["device"] == "cpu"
    assert task.result is None


def test_a_worker_that_cannot_start_fails_the_task(fields):
    """No such Python is a failure of the task, not an exception of the queue."""
    schedule = Schedule(lambda: Worker(["/no/such/python"]), read)
    task = schedule.add(Task(fields))
    assert finish(schedule) == [task]
    assert task.state is State.FAILED


@pytest.mark.parametrize("error", [OverflowError("x"), zlib.error("bad"), RecursionError()])
def test_whatever_reading_raises_fails_the_task(opened, fields, error, capsys):
    """An exception that nobody named must not leave the panel busy for ever."""

    def broken(_path, _payload):
        raise error

    schedule = opened()
    schedule.read = broken
    task = schedule.add(Task(dict(fields)))
    finish(schedule)
    assert task.state is State.FAILED
    assert type(error).__name__ in task.error.message
    assert type(error).__name__ in capsys.readouterr().err
    schedule.read = read
    assert finish_one(schedule, fields).state is State.READY


def test_reading_that_never_ends_is_given_up(opened, fields, monkeypatch):
    """A dead network disk answers never; the queue goes on."""
    monkeypatch.setattr("diffspeaker_blender.worker.schedule.READING", 0.2)
    schedule = opened()
    schedule.read = lambda _path, _payload: time.sleep(5)
    task = schedule.add(Task(dict(fields)))
    finish(schedule)
    assert "not be read in time" in task.error.message
    schedule.read = read
    assert finish_one(schedule, fields).state is State.READY


def test_stop_leaves_no_process(opened, fields):
    """Stop in mid-job ends the process."""
    schedule = opened()
    task = schedule.add(Task({**fields, "steps": 600}))
    while task.fraction == 0:
        schedule.step()
        time.sleep(0.01)
    process = schedule.lanes[0].worker._process
    schedule.stop()
    assert process.poll() is not None
    assert not schedule.busy
    assert not schedule.alive


def finish_one(schedule: Schedule, fields: dict) -> Task:
    """Run one more task to its end."""
    task = schedule.add(Task(dict(fields)))
    finish(schedule)
    return task
