# SPDX-License-Identifier: GPL-3.0-or-later
"""Start, ask, cancel and bury the model process.

The worker is `python -m model serve` in its own Python. Requests go down its standard input, events
come up its standard output, one JSON object a line; its standard error is the log. Two daemon
threads read the two streams and a third writes, so nothing here can block Blender: the main thread
calls `poll()` and gets typed events. Every request ends in exactly one of `Done`, `Cancelled` or
`Failed`, also when the process dies, hangs, babbles or comes from another version.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import os
import platform
import queue
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from .. import paths
from ..errors import WorkerError
from .process import alive, bury, explain_exit, quietly, scrubbed_environment
from .wire import (
    INBOX,
    PROTOCOL,
    Cancelled,
    Done,
    Event,
    Failed,
    Progress,
    Ready,
    Stopped,
    Terminal,
    encode,
    nonsense,
    parse_event,
    read_log,
    read_messages,
    write_messages,
)

__all__ = [
    "Cancelled",
    "Done",
    "Event",
    "Failed",
    "Progress",
    "Ready",
    "Stopped",
    "Terminal",
    "Worker",
    "WorkerError",
    "package_root",
    "worker_command",
]

LOG_LINES = 200
CLOSING = 2.0  # seconds that a process may live on after it closed its output
DYING = 0.5  # seconds, after a process has ended, in which its last words are waited for
HOME_PREFIX = "diffspeaker-"
OWNER = "owner.txt"  # in a worker's folder: the machine and process that made it
AT_ONCE = 200  # messages taken in one poll: a flood must not starve the window
_BOOTSTRAP = (
    "import importlib.util as u,runpy,sys;r=sys.argv.pop(1);"
    "s=u.spec_from_file_location('model',r+'/__init__.py',submodule_search_locations=[r]);"
    "m=u.module_from_spec(s);sys.modules['model']=m;s.loader.exec_module(m);"
    "runpy.run_module('model',run_name='__main__',alter_sys=True)"
)


def worker_command(python: str | Path, root: str | Path, *arguments: str) -> list[str]:
    """Return the command line that serves `root/model` with `python`, isolated from user settings.

    The package is loaded from exactly `root/model`: nothing of `root` or of the current folder
    lands on the worker's module path, so an add-on's file names can shadow no library.
    """
    package = str(Path(root) / "model")
    flags = ["-I", "-u", "-X", "utf8"]
    return [str(python), *flags, "-c", _BOOTSTRAP, package, *(arguments or ("serve",))]


def absolute(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return a request's fields with every path absolute: the worker runs in another folder."""
    own_names = {"checkpoint": ("", "bundled"), "face": ("", "demo")}
    made = dict(fields)
    for name in ("audio", "output", "checkpoint", "face", "keep"):
        value = made.get(name)
        if isinstance(value, str) and value and value not in own_names.get(name, ()):
            made[name] = str(paths.absolute(value))
    return made


def package_root() -> Path:
    """Return the folder that holds `model/`: this one when installed, its parent in a clone."""
    here = Path(__file__).resolve().parents[1]
    return here if (here / "model").is_dir() else here.parent


def _owner(pid: int) -> str:
    return f"{platform.node()} {pid}"


def sweep_homes(parent: Path, older: float = 3600.0) -> int:
    """Remove folders of workers whose Blender was killed; return how many.

    Only ours (by name and a note of the owner inside), only of this machine and this user, only
    when their owner runs no more.
    """
    gone = 0
    with contextlib.suppress(OSError):
        for folder in parent.glob(f"{HOME_PREFIX}*"):
            with contextlib.suppress(OSError, ValueError):
                machine, _, pid = (folder / OWNER).read_text(encoding="utf-8").rpartition(" ")
                about = folder.lstat()
                mine = not hasattr(os, "getuid") or about.st_uid == os.getuid()
                idle = time.time() - about.st_mtime > older
                if machine == platform.node() and mine and idle and not alive(int(pid)):
                    shutil.rmtree(folder)
                    gone += 1
    return gone


class Worker:
    """One model process and the requests it owes an answer.

    Use it from one thread. `start` is implied by the first request and starts again after a death.
    `patience` is how long (s) a cancel may take before the process is killed for it;
    `ready_within` how long it may take to come up; `silence` how long it may say nothing while it
    owes an answer (it has a heartbeat), `stall` how long it may live on without getting further.
    `log_file` receives the whole log when given.
    """

    def __init__(
        self,
        command: Iterable[str],
        environment: Mapping[str, str] | None = None,
        *,
        patience: float = 5.0,
        ready_within: float = 180.0,
        silence: float = 60.0,
        stall: float = 1200.0,
        log_file: Path | None = None,
    ) -> None:
        self.command = [str(part) for part in command]
        self.environment = scrubbed_environment(environment)
        self.patience, self.ready_within, self.log_file = patience, ready_within, log_file
        self.silence, self.stall = silence, stall
        self.ready: Ready | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: Path | None = None
        self._numbers = itertools.count(1)
        self._owed: dict[str, float] = {}  # request id → monotonic time of its cancel, or 0
        self._outputs: dict[str, str] = {}  # request id → the file it may write
        self._backlog: list[Event] = []
        self._log_reader: threading.Thread | None = None
        self._reset()

    # -- life ---------------------------------------------------------------------------------

    @property
    def alive(self) -> bool:
        """True while the process runs (it may not be ready yet)."""
        return self._process is not None and self._process.poll() is None

    @property
    def busy(self) -> bool:
        """True while a request has not ended."""
        return bool(self._owed)

    @property
    def log(self) -> str:
        """The last lines the process wrote to its log."""
        return "\n".join(self._tail)

    def start(self) -> None:
        """Start the process if none runs; return at once. Raises `WorkerError` if it cannot."""
        if self._process is not None:
            return
        self._reset()
        home = self._home()
        environment = {"HOME": str(home), **self.environment}  # for a user who has none
        options: dict[str, Any] = {"env": environment, "cwd": home, **quietly()}
        options |= dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        try:
            process: subprocess.Popen[bytes] = subprocess.Popen(self.command, **options)
        except OSError as error:
            reason = error.strerror or str(error)
            raise WorkerError(
                f"The model's Python could not be started ({self.command[0]}: {reason}).",
                "Choose or install another runtime in the preferences.",
            ) from error
        self._process, self._started = process, time.monotonic()
        jobs: tuple[tuple[Callable[..., None], tuple[Any, ...]], ...] = (
            (read_messages, (process.stdout, self._inbox, self._tail, self._closed)),
            (read_log, (process.stderr, self._tail, self.log_file)),
            (write_messages, (process.stdin, self._outbox)),
        )
        threads = [threading.Thread(target=job, args=args, daemon=True) for job, args in jobs]
        for thread in threads:
            thread.start()
        self._log_reader = threads[1]

    def stop(self, timeout: float = 2.0) -> None:
        """End the process within about `timeout` + 2 seconds and remove its files; never raises.

        Asks first, then terminates, then kills. Requests still owed are dropped without an event.
        """
        process, self._process = self._process, None
        self._owed.clear()
        self._outputs.clear()
        self._backlog.clear()
        self._closed.set()
        if process is not None:
            self._outbox.put(encode({"type": "shutdown"}))
            self._outbox.put(None)
            bury(process, timeout)
            self._outbox.put(None)
        self.ready = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    # -- requests -----------------------------------------------------------------------------

    def generate(self, **fields: Any) -> str:
        """Ask for a motion; `fields` are those of `GenerateRequest`. Returns the request's id.

        Without an `output` the motion is written into this worker's own folder, which `stop` and
        `forget` remove. Paths may be relative to this process's folder: the worker has another.
        """
        request = self._new_id()
        fields.setdefault("output", str(self.folder(request) / "motion.npz"))
        return self._send({"type": "generate", "id": request, **absolute(fields)})

    def describe(self) -> str:
        """Ask for device, models and versions; `Done.report` brings them. Returns the id."""
        return self._send({"type": "describe", "id": self._new_id()})

    def cancel(self, request: str) -> None:
        """Ask to give a request up; its last event follows within `patience` seconds."""
        if request in self._owed and not self._owed[request]:
            self._owed[request] = time.monotonic()
            self._outbox.put(encode({"type": "cancel", "id": request}))

    def folder(self, request: str) -> Path:
        """Return (and make) the folder for one request's files."""
        path = self._home() / request
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WorkerError(
                f"The folder {path} cannot be made ({error.strerror or error}).",
                "Free some space, or set TMPDIR to a folder you may write to.",
            ) from error
        return path

    def forget(self, request: str) -> None:
        """Remove one request's files."""
        if self._folder is not None:
            shutil.rmtree(self._folder / request, ignore_errors=True)

    # -- events -------------------------------------------------------------------------------

    def poll(self) -> list[Event]:
        """Return what has happened since the last call; never blocks, not even in a flood."""
        events, self._backlog = self._backlog, []
        self._count_time()
        with contextlib.suppress(queue.Empty):
            for _ in range(AT_ONCE):
                events += self._take(self._inbox.get_nowait())
        return events + self._overdue()

    def wait(
        self,
        request: str,
        timeout: float | None = None,
        on_event: Callable[[Event], None] | None = None,
    ) -> Event:
        """Block until a request ends and return its last event (for scripts and background).

        Events of other requests are kept for `poll`. Raises `WorkerError` after `timeout` seconds,
        or when nothing is known of the request.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        others: list[Event] = []
        try:
            while True:
                known, ended = request in self._owed, None
                for event in self.poll():
                    if event.id not in ("", request) or ended:
                        others.append(event)
                        continue
                    if on_event:
                        on_event(event)
                    ended = event if event.id and isinstance(event, Terminal) else None
                if ended:
                    return ended
                if not known:
                    raise WorkerError(f"The worker owes no answer to request {request!r}.")
                if deadline is not None and time.monotonic() > deadline:
                    raise WorkerError(f"The worker gave no answer within {timeout:g} seconds.")
                time.sleep(0.01)
        finally:
            self._backlog = others + self._backlog

    # -- inside -------------------------------------------------------------------------------

    def _reset(self) -> None:
        self.ready = None
        self._inbox: queue.Queue[dict[str, Any] | None] = queue.Queue(INBOX)
        self._outbox: queue.Queue[bytes | None] = queue.Queue()
        self._closed = threading.Event()  # nobody takes from the inbox any more
        self._tail: collections.deque[str] = collections.deque(maxlen=LOG_LINES)
        self._started = time.monotonic()
        self._output_ended = self._process_ended = 0.0  # monotonic times, 0 while they have not
        self._polled = time.monotonic()
        self._silent = self._stalled = 0.0  # seconds seen, while an answer is owed
        self._furthest = ("", 0.0)
        self._log_reader = None

    def _home(self) -> Path:
        """Return this worker's own folder, made when it is missing. Raises `WorkerError`."""
        if self._folder is None or not self._folder.is_dir():
            try:
                sweep_homes(Path(tempfile.gettempdir()))
                self._folder = Path(tempfile.mkdtemp(prefix=HOME_PREFIX))
                (self._folder / OWNER).write_text(_owner(os.getpid()), encoding="utf-8")
            except OSError as error:
                raise WorkerError(
                    f"There is no folder for temporary files ({error.strerror or error}).",
                    "Free some space, or set TMPDIR to a folder you may write to.",
                ) from error
        return self._folder

    def _new_id(self) -> str:
        return f"job-{next(self._numbers)}"

    def _send(self, request: dict[str, Any]) -> str:
        try:
            line = encode(request)
        except ValueError as error:
            raise WorkerError(f"The request cannot be sent: {error}.") from error
        self.start()
        name = str(request["id"])
        self._owed[name] = 0.0
        self._outputs[name] = str(request.get("output") or "")
        self._outbox.put(line)
        return name

    def _take(self, message: dict[str, Any] | None) -> list[Event]:
        """Turn one message of the reader into events; None is the end of the output."""
        if self._process is None:
            return []
        if message is None:
            self._output_ended = time.monotonic()
            return []
        if message.get("type") == "ready":
            return self._greet(message)
        event = parse_event(message)
        if message.get("type") == "alive" or (event is not None and event.id in self._owed):
            self._silent = 0.0
        if event is None or event.id not in self._owed:
            if message.get("type") != "alive":
                self._tail.append(f"(ignored) {str(message)[:200]}")
            return []
        if isinstance(event, Progress) and (event.stage, event.fraction) != self._furthest:
            self._furthest, self._stalled = (event.stage, event.fraction), 0.0
        return [self._end(event) if isinstance(event, Terminal) else event]

    def _end(self, event: Event) -> Event:
        """Close a request; a result somewhere else than it was asked for is none."""
        del self._owed[event.id]
        asked, self._stalled = self._outputs.pop(event.id, ""), 0.0
        if isinstance(event, Done) and str(event.output or "") != asked:
            return nonsense(event.id)
        return event

    def _count_time(self) -> None:
        """Count the seconds in which an answer was owed; a machine's sleep counts as one."""
        now = time.monotonic()
        passed, self._polled = min(1.0, now - self._polled), now
        if self._owed and self.ready is not None:
            self._silent += passed
            self._stalled += passed
        else:
            self._silent = self._stalled = 0.0

    def _greet(self, message: dict[str, Any]) -> list[Event]:
        if message.get("protocol") != PROTOCOL:
            said = message.get("version", "unknown")
            return self._lost(
                f"The model process is from another version ({said}).",
                "Install the extension again and restart Blender.",
            )
        seconds = time.monotonic() - self._started
        self.ready = Ready(version=str(message.get("version", "")), seconds=seconds)
        return [self.ready]

    def _overdue(self) -> list[Event]:
        """Notice a process that has ended; kill one that does not come up, answer or heed."""
        if self._process is None:
            return []
        now, code = time.monotonic(), self._process.poll()
        if code is not None:
            self._process_ended = self._process_ended or now
            reading = self._log_reader is not None and self._log_reader.is_alive()
            said_all = self._output_ended and not reading  # what the log still holds says why
            if self._inbox.empty() and (said_all or now - self._process_ended >= DYING):
                return self._lost(*explain_exit(code, self.log))
            return []
        if self._output_ended and now - self._output_ended >= CLOSING:
            return self._lost(*explain_exit(None, self.log))
        if self.ready is None and now - self._started > self.ready_within:
            return self._lost(
                f"The model process was not ready within {self.ready_within:g} seconds.",
                "Try again; a virus scanner can make the first start slow.",
            )
        if any(asked and now - asked > self.patience for asked in self._owed.values()):
            return self._lost("The model process did not heed the cancel and was ended.", "")
        if self._silent > self.silence:
            return self._lost(
                f"The model process gave no sign of life for {self.silence:g} seconds.",
                "Try again; a machine that is short of memory can stand still for a while.",
            )
        if self._stalled > self.stall:
            return self._lost(
                f"The model process got no further for {self.stall / 60:.0f} minutes.",
                "Try a shorter strip, or another device in the preferences.",
            )
        return []

    def _lost(self, message: str, hint: str) -> list[Event]:
        """Bury the process and answer every request it still owes."""
        process, self._process = self._process, None
        assert process is not None
        code = process.poll()
        self._outbox.put(None)
        self._closed.set()
        if code is None:  # a large process takes a while to die: not on the main thread
            process.kill()
            threading.Thread(target=bury, args=(process, 1.0), daemon=True).start()
        self.ready = None
        owed, self._owed = self._owed, {}
        self._outputs.clear()
        ends: list[Event] = [
            Cancelled(one) if asked else Failed(one, "worker", message, hint)
            for one, asked in owed.items()
        ]
        return [*ends, Stopped("", code, message, hint, self.log)]
