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
import json
import queue
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ..errors import WorkerError
from .process import bury, explain_exit, quietly, scrubbed_environment
from .wire import (
    PROTOCOL,
    Cancelled,
    Done,
    Event,
    Failed,
    Progress,
    Ready,
    Stopped,
    Terminal,
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
DYING = 2.0  # seconds, after the end of the output, that the process and its log may take to end
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


def package_root() -> Path:
    """Return the folder that holds `model/`: this one when installed, its parent in a clone."""
    here = Path(__file__).resolve().parents[1]
    return here if (here / "model").is_dir() else here.parent


class Worker:
    """One model process and the requests it owes an answer.

    Use it from one thread. `start` is implied by the first request and starts again after a death.
    `patience` is how long (s) a cancel may take before the process is killed for it;
    `ready_within` how long it may take to come up; `log_file` receives the whole log when given.
    """

    def __init__(
        self,
        command: Iterable[str],
        environment: Mapping[str, str] | None = None,
        *,
        patience: float = 5.0,
        ready_within: float = 180.0,
        log_file: Path | None = None,
    ) -> None:
        self.command = [str(part) for part in command]
        self.environment = scrubbed_environment(environment)
        self.patience, self.ready_within, self.log_file = patience, ready_within, log_file
        self.ready: Ready | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: Path | None = None
        self._numbers = itertools.count(1)
        self._owed: dict[str, float] = {}  # request id → monotonic time of its cancel, or 0
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
        options: dict[str, Any] = {"env": self.environment, "cwd": self._home(), **quietly()}
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
            (read_messages, (process.stdout, self._inbox, self._tail)),
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
        self._backlog.clear()
        if process is not None:
            self._outbox.put({"type": "shutdown"})
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
        `forget` remove.
        """
        request = self._new_id()
        fields.setdefault("output", str(self.folder(request) / "motion.npz"))
        return self._send({"type": "generate", "id": request, **fields})

    def describe(self) -> str:
        """Ask for device, models and versions; `Done.report` brings them. Returns the id."""
        return self._send({"type": "describe", "id": self._new_id()})

    def cancel(self, request: str) -> None:
        """Ask to give a request up; its last event follows within `patience` seconds."""
        if request in self._owed and not self._owed[request]:
            self._owed[request] = time.monotonic()
            self._outbox.put({"type": "cancel", "id": request})

    def folder(self, request: str) -> Path:
        """Return (and make) the folder for one request's files."""
        path = self._home() / request
        path.mkdir(parents=True, exist_ok=True)
        return path

    def forget(self, request: str) -> None:
        """Remove one request's files."""
        if self._folder is not None:
            shutil.rmtree(self._folder / request, ignore_errors=True)

    # -- events -------------------------------------------------------------------------------

    def poll(self) -> list[Event]:
        """Return what has happened since the last call; never blocks."""
        events, self._backlog = self._backlog, []
        with contextlib.suppress(queue.Empty):
            while True:
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
        self._inbox: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._outbox: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._tail: collections.deque[str] = collections.deque(maxlen=LOG_LINES)
        self._started = time.monotonic()
        self._silent_since = 0.0
        self._log_reader = None

    def _home(self) -> Path:
        if self._folder is None or not self._folder.is_dir():
            self._folder = Path(tempfile.mkdtemp(prefix="diffspeaker-"))
        return self._folder

    def _new_id(self) -> str:
        return f"job-{next(self._numbers)}"

    def _send(self, request: dict[str, Any]) -> str:
        self.start()
        self._owed[request["id"]] = 0.0
        self._outbox.put(request)
        return str(request["id"])

    def _take(self, message: dict[str, Any] | None) -> list[Event]:
        """Turn one message of the reader into events; None is the end of the output."""
        if self._process is None:
            return []
        if message is None:
            self._silent_since = time.monotonic()
            return []
        if message.get("type") == "ready":
            return self._greet(message)
        event = parse_event(message)
        if event is None or event.id not in self._owed:
            self._tail.append(f"(ignored) {json.dumps(message)[:200]}")
            return []
        if isinstance(event, Terminal):
            del self._owed[event.id]
        return [event]

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
        """Kill a process that does not come up, or does not heed a cancel."""
        if self._process is None:
            return []
        now = time.monotonic()
        if self._silent_since:
            code = self._process.poll()
            reading = self._log_reader is not None and self._log_reader.is_alive()
            unfinished = code is None or reading  # what the log still holds says why
            if unfinished and now - self._silent_since < DYING:
                return []
            return self._lost(*explain_exit(code, self.log))
        if self.ready is None and now - self._started > self.ready_within:
            return self._lost(
                f"The model process was not ready within {self.ready_within:g} seconds.",
                "Try again; a virus scanner can make the first start slow.",
            )
        if any(asked and now - asked > self.patience for asked in self._owed.values()):
            return self._lost("The model process did not heed the cancel and was ended.", "")
        return []

    def _lost(self, message: str, hint: str) -> list[Event]:
        """Bury the process and answer every request it still owes."""
        process, self._process = self._process, None
        assert process is not None
        code = process.poll()
        self._outbox.put(None)
        if code is None:  # a large process takes a while to die: not on the main thread
            process.kill()
            threading.Thread(target=bury, args=(process, 1.0), daemon=True).start()
        self.ready = None
        owed, self._owed = self._owed, {}
        ends: list[Event] = [
            Cancelled(one) if asked else Failed(one, "worker", message, hint)
            for one, asked in owed.items()
        ]
        return [*ends, Stopped("", code, message, hint, self.log)]
