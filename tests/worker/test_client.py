# SPDX-License-Identifier: GPL-3.0-or-later
"""The client side of the wire, against workers that misbehave in every way we could think of."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator

import pytest

from diffspeaker_blender.worker import client
from diffspeaker_blender.worker.client import (
    Cancelled,
    Done,
    Event,
    Failed,
    Ready,
    Stopped,
    Worker,
    WorkerError,
    worker_command,
)
from diffspeaker_blender.worker.process import explain_exit, scrubbed_environment
from diffspeaker_blender.worker.wire import Progress, parse_event
from tests.clocks import allow
from tests.shared import ROOT

FAKE = ROOT / "tests" / "fakes" / "worker.py"


@pytest.fixture
def start() -> Iterator:
    """Start a fake worker with a behaviour; every one is buried at the end."""
    workers: list[Worker] = []

    def begin(behaviour: str, **options: object) -> Worker:
        command = [sys.executable, "-I", "-u", str(FAKE), behaviour]
        worker = Worker(command, **options)
        workers.append(worker)
        worker.start()
        return worker

    yield begin
    for worker in workers:
        worker.stop(timeout=0.3)
        assert not worker.alive


def collect(worker: Worker, until: type[Event], seconds: float = 60.0) -> list[Event]:
    """Poll until an event of a kind has come."""
    events: list[Event] = []
    deadline = time.monotonic() + seconds
    while not any(isinstance(event, until) for event in events):
        assert time.monotonic() < deadline, (events, worker.log)
        events += worker.poll()
        time.sleep(0.005)
    return events


def test_a_request_is_answered_once(start):
    worker = start("polite")
    request = worker.generate(audio="a.wav", seed=3)
    ended = worker.wait(request, timeout=60)
    assert isinstance(ended, Done)
    assert ended.report["seen"]["seed"] == 3
    assert ended.output is not None
    assert ended.output.parent.is_dir()
    assert worker.ready is not None
    assert not worker.busy
    assert worker.poll() == []


def test_a_failure_brings_kind_message_and_hint(start):
    worker = start("polite")
    ended = worker.wait(worker.generate(audio="bad"), timeout=60)
    assert ended == Failed("job-1", "audio", "It is bad.", "Fix it.")


def test_waiting_for_one_request_keeps_the_events_of_others(start):
    worker = start("polite")
    first, second = worker.generate(audio="a"), worker.generate(audio="b")
    assert isinstance(worker.wait(second, timeout=60), Done)
    assert [event.id for event in worker.poll() if isinstance(event, Done)] == [first]


def test_progress_and_readiness_reach_on_event(start):
    worker, seen = start("polite"), []
    slow = worker.generate(audio="slow")
    collect_progress = lambda event: (seen.append(event), worker.cancel(slow))  # noqa: E731
    assert worker.wait(slow, timeout=60, on_event=collect_progress) == Cancelled(slow)
    assert [type(event) for event in seen] == [Ready, Progress, Cancelled]
    assert seen[1].seconds_left == 1.5


def test_waiting_gives_up_in_time(start):
    worker = start("polite")
    slow = worker.generate(audio="slow")
    with pytest.raises(WorkerError, match=r"no answer within 0\.2 seconds"):
        worker.wait(slow, timeout=0.2)
    with pytest.raises(WorkerError, match="owes no answer"):
        worker.wait("job-99")


def test_a_worker_that_dies_at_start_is_explained(start):
    worker = start("dies_at_start")
    request = worker.generate(audio="a")
    events = collect(worker, Stopped)
    failed = next(event for event in events if isinstance(event, Failed))
    assert failed.id == request
    assert "lacks torch" in failed.hint
    assert "No module named 'torch'" in events[-1].log


def test_a_worker_that_dies_mid_job_fails_what_it_owes_and_comes_back(start):
    worker = start("dies_mid_job")
    requests = [worker.generate(audio="a"), worker.generate(audio="b")]
    events = collect(worker, Stopped)
    assert [event.id for event in events if isinstance(event, Failed)] == requests
    assert "exit code 7" in events[-1].message
    assert "about to fall over" in events[-1].log
    worker.generate(audio="c")
    assert isinstance(collect(worker, Stopped)[0], Ready)


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_a_killed_worker_is_told_from_a_crashed_one(start):
    worker = start("killed_mid_job")
    worker.generate(audio="a")
    assert "memory ran out" in collect(worker, Stopped)[-1].message


def test_babble_breaks_nothing_and_answers_count_once(start):
    worker = start("babbles")
    request = worker.generate(audio="a")
    assert isinstance(worker.wait(request, timeout=60), Done)
    time.sleep(0.1)
    assert worker.poll() == []
    assert "Downloading model" in worker.log
    assert "nobody asked" in worker.log


def test_a_flood_of_log_neither_blocks_nor_is_kept(start, tmp_path):
    worker = start("floods", log_file=tmp_path / "Protokoll ä.log")
    assert isinstance(worker.wait(worker.generate(audio="a"), timeout=60), Done)
    worker.stop()
    assert len(worker.log) < 100_000
    assert (tmp_path / "Protokoll ä.log").stat().st_size > 2_000_000


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_a_deaf_worker_is_killed_for_a_cancel(start):
    worker = start("ignores_cancel", patience=0.3)
    collect(worker, Ready)
    request, other = worker.generate(audio="a"), worker.generate(audio="b")
    began = time.monotonic()
    worker.cancel(request)
    events = collect(worker, Stopped)
    assert Cancelled(request) in events
    assert any(isinstance(event, Failed) and event.id == other for event in events)
    assert time.monotonic() - began < allow(2.0)
    assert not worker.alive


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_stop_is_bounded_for_a_worker_that_heeds_nothing(start):
    worker = start("ignores_cancel")
    collect(worker, Ready)
    worker.generate(audio="a")
    began = time.monotonic()
    worker.stop(timeout=0.2)
    assert time.monotonic() - began < allow(2.5)


def test_stop_of_a_polite_worker_is_quick_and_removes_its_files(start):
    worker = start("polite")
    ended = worker.wait(worker.generate(audio="a"), timeout=60)
    began = time.monotonic()
    worker.stop()
    assert time.monotonic() - began < allow(1.0)
    assert not ended.output.parent.exists()
    worker.stop()


def test_what_a_killed_blender_left_is_swept(tmp_path):
    """Folders of ours whose owner is gone; nothing else that lies there."""
    import subprocess

    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    owners = {"dead": client._owner(child.pid), "living": client._owner(os.getpid()),
              "elsewhere": f"other-machine {child.pid}", "odd": "x"}  # fmt: skip
    for name, owner in owners.items():
        folder = tmp_path / f"diffspeaker-{name}"
        folder.mkdir()
        (folder / client.OWNER).write_text(owner)
    (tmp_path / "diffspeaker-mine").mkdir()
    (tmp_path / "project").mkdir()
    assert client.sweep_homes(tmp_path) == 0  # all of them are fresh
    assert client.sweep_homes(tmp_path, older=-1.0) == 1
    assert not (tmp_path / "diffspeaker-dead").exists()
    assert len(list(tmp_path.iterdir())) == 5


def test_no_folder_for_temporary_files_is_one_sentence(start, monkeypatch, tmp_path):
    worker = Worker([sys.executable, "-c", ""])
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    with pytest.raises(WorkerError, match="no folder for temporary files"):
        worker.generate(audio="a")
    worker.stop()


@pytest.mark.parametrize("behaviour", ["wrong_version", "old_version"])
def test_a_worker_from_another_version_is_refused(start, behaviour):
    worker = start(behaviour)
    request = worker.generate(audio="a")
    ended = worker.wait(request, timeout=60)
    assert isinstance(ended, Failed)
    assert "another version" in ended.message
    assert not worker.alive


def test_a_worker_that_never_gets_ready_is_given_up(start):
    worker = start("never_ready", ready_within=0.3)
    ended = worker.wait(worker.generate(audio="a"), timeout=60)
    assert "not ready within 0.3 seconds" in ended.message


def test_a_huge_line_is_dropped_piece_by_piece(start):
    worker = start("huge_line")
    assert isinstance(worker.wait(worker.generate(audio="a"), timeout=60), Done)
    assert "a line of more than" in worker.log


def test_a_worker_that_ends_mid_line_is_lost_not_misread(start):
    worker = start("half_line")
    assert isinstance(worker.wait(worker.generate(audio="a"), timeout=60), Failed)


def test_a_worker_that_closes_its_output_is_buried(start):
    worker = start("closes_output")
    assert "hangs" in collect(worker, Stopped)[-1].message


def test_a_worker_that_never_reads_blocks_nobody(start):
    worker = start("deaf", patience=0.2)
    collect(worker, Ready)
    began = time.monotonic()
    requests = [worker.generate(audio="x" * 10_000) for _ in range(50)]
    assert time.monotonic() - began < allow(1.0)
    worker.cancel(requests[0])
    assert len([e for e in collect(worker, Stopped) if isinstance(e, Failed)]) == 49


def test_a_python_that_is_not_there_is_one_sentence(tmp_path):
    worker = Worker([str(tmp_path / "no python"), "serve"])
    with pytest.raises(WorkerError, match="could not be started"):
        worker.generate(audio="a")
    assert not worker.busy
    worker.stop()


def test_paths_with_spaces_and_other_scripts_survive(start, tmp_path):
    worker = start("polite")
    path = str(tmp_path / "Ünï cødé 日本語 '\" file.wav")
    ended = worker.wait(worker.generate(audio=path, output=path), timeout=60)
    assert ended.report["seen"]["audio"] == path
    assert str(ended.output) == path


def test_the_bootstrap_runs_the_package_of_one_folder(tmp_path):
    """An add-on file that is called like a library must not be importable in the worker."""
    import subprocess

    root = tmp_path / "Erweiterung ü 1"
    (root / "model").mkdir(parents=True)
    (root / "json5x.py").write_text("shadow = True", encoding="utf-8")
    (root / "model" / "__init__.py").write_text("", encoding="utf-8")
    (root / "model" / "__main__.py").write_text(
        "import importlib.util, sys\n"
        "from . import voice\n"
        "print(sys.argv[1:], voice.NAME, importlib.util.find_spec('json5x'))\n",
        encoding="utf-8",
    )
    (root / "model" / "voice.py").write_text("NAME = 'ö'", encoding="utf-8")
    command = worker_command(sys.executable, root, "say", "a b")
    said = subprocess.run(command, capture_output=True, check=True, encoding="utf-8")
    assert said.stdout.strip() == "['say', 'a b'] ö None"


def test_the_environment_forgets_other_pythons(monkeypatch):
    foreign = {
        "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "CONDA_PREFIX", "LD_PRELOAD", "LD_LIBRARY_PATH",
        "DYLD_LIBRARY_PATH", "OCIO", "PIP_TARGET",
    }  # fmt: skip
    secret = {"AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "DATABASE_URL", "DIFFSPEAKER_TOKEN",
              "HTTPS_PROXY", "CUDA_PASSWORD"}  # fmt: skip
    for name in foreign | secret:
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    environment = scrubbed_environment({"EXTRA": "1"})
    assert not (foreign | secret) & set(environment)
    assert environment["CUDA_VISIBLE_DEVICES"] == "1"
    assert "HTTPS_PROXY" in scrubbed_environment(network=True)
    assert environment["EXTRA"] == "1"
    assert environment["PATH"] == os.environ["PATH"]


@pytest.mark.parametrize(
    ("code", "log", "message", "hint"),
    [
        (-9, "", "memory ran out", "Close other programs"),
        (-11, "", "segmentation fault", "Check My Setup"),
        (0xC0000135, "", "system library is missing", "Visual C++"),
        (-1073741515, "", "system library is missing", "Visual C++"),
        (1, "OSError: [Errno 28] No space left on device", "No space left", "disk space"),
        (2, "model: error: unrecognized arguments: x", "exit code 2", "another version"),
        (None, "", "hangs", "Check My Setup"),
    ],
)
def test_exit_codes_are_put_into_words(code, log, message, hint):
    said = explain_exit(code, log)
    assert message in said[0]
    assert hint in said[1]


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_a_stopped_worker_is_waited_for_only_so_long(start):
    worker = start("stops", silence=0.6)
    request = worker.generate(audio="a")
    ended = worker.wait(request, timeout=60)
    assert isinstance(ended, Failed)
    assert "no sign of life for 0.6 seconds" in ended.message
    assert not worker.alive


def test_a_heartbeat_is_a_sign_of_life(start):
    worker = start("beats", silence=0.6)
    assert isinstance(worker.wait(worker.generate(audio="a"), timeout=60), Done)
    assert worker.alive


def test_a_heartbeat_alone_does_not_hold_a_job_for_ever(start):
    worker = start("beats_for_ever", stall=0.9)
    ended = worker.wait(worker.generate(audio="a"), timeout=60)
    assert "got no further" in ended.message


def test_a_flood_of_events_starves_nobody_and_is_not_kept(start):
    """Each look takes a few milliseconds, memory stays, and a cancel gets through."""
    worker = start("floods_progress", patience=30.0)
    request = worker.generate(audio="a")
    collect(worker, Progress)
    longest, until = 0.0, time.monotonic() + 1.0
    while time.monotonic() < until:
        began = time.perf_counter()
        worker.poll()
        longest = max(longest, time.perf_counter() - began)
        time.sleep(0.005)
    assert longest < allow(0.1)
    assert worker._inbox.qsize() <= 1000
    worker.cancel(request)
    assert Cancelled(request) in collect(worker, Cancelled)


@pytest.mark.skipif(os.name == "nt", reason="handles are not inherited there")
def test_a_dead_process_is_noticed_within_a_second(start):
    """Also when a child of its own keeps the output open."""
    worker = start("leaves_a_child")
    collect(worker, Ready)
    request = worker.generate(audio="a")
    while worker.alive:
        time.sleep(0.01)
    began = time.monotonic()
    assert isinstance(worker.wait(request, timeout=60), Failed)
    assert time.monotonic() - began < allow(1.0)


def test_nonsense_at_the_end_fails_the_request(start):
    """Every request ends, and nothing but the file that was asked for counts as its result."""
    worker = start("wrong_ends")
    for _ in range(12):
        ended = worker.wait(worker.generate(audio="a"), timeout=60)
        assert isinstance(ended, Failed), ended
        assert 0 < len(ended.message) <= 2000
    assert worker.alive


def test_an_exception_nobody_named_ends_the_request(start, monkeypatch):
    """The thread that reads dies of something new: the job fails with it, at once."""
    from diffspeaker_blender.worker import wire

    worker = start("polite")
    collect(worker, Ready)

    def broken(*_arguments):
        raise OverflowError("int too large")

    monkeypatch.setattr(wire, "_sort", broken)
    ended = worker.wait(worker.generate(audio="a"), timeout=60)
    assert isinstance(ended, Failed)
    assert "int too large" in worker.log


def test_a_request_that_json_cannot_say_is_refused_at_once(start):
    worker = start("polite")
    for value in (float("nan"), object(), {1, 2}):
        with pytest.raises(WorkerError, match="cannot be sent"):
            worker.generate(audio="a", fps=value)
    assert not worker.busy


def test_paths_are_absolute_at_the_door(start, tmp_path, monkeypatch):
    """The worker runs in another folder: what is named relative to ours is the same file there."""
    monkeypatch.chdir(tmp_path)
    worker = start("polite")
    fields = {"audio": "a.wav", "checkpoint": "m.safetensors", "face": "h.ply", "output": "o.npz"}
    ended = worker.wait(worker.generate(**fields), timeout=60)
    assert isinstance(ended, Done)
    for name, value in fields.items():
        assert ended.report["seen"][name] == str(tmp_path / value)
    named = {"audio": "a.wav", "checkpoint": "bundled", "face": "demo"}
    ended = worker.wait(worker.generate(**named), timeout=60)
    assert (
        ended.report["seen"]["checkpoint"] == "bundled" and ended.report["seen"]["face"] == "demo"
    )


@pytest.mark.parametrize(
    "message",
    [
        {"type": "done", "id": "a", "report": 5},
        {"type": "done", "id": "a", "output": 7},
        {"type": "failed", "id": "a", "message": 7},
    ],
)
def test_last_events_with_wrong_fields_are_failures(message):
    assert isinstance(parse_event(message), Failed)


@pytest.mark.parametrize(
    "message",
    [
        {"type": "progress", "id": "a", "fraction": "x"},
        {"type": "progress", "id": "a", "fraction": float("nan")},
        {"type": "progress", "id": "a", "fraction": 10**400},
        {"type": "done", "id": 3},
        {"type": "new thing", "id": "a"},
        {},
    ],
)
def test_events_with_wrong_fields_are_no_events(message):
    assert parse_event(message) is None
