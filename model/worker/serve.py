# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests in on standard input, events out on standard output, one JSON object a line.

    generate, describe, cancel, shutdown  →  ready, alive, progress, done | cancelled | failed

Requests are answered one after the other; every request ends in exactly one of done, cancelled or
failed. A thread reads, so that a cancel is heard while the main thread computes. The end of the
input, `shutdown` and SIGTERM end the process within `GRACE` seconds whatever it is doing: a crashed
Blender leaves no orphan. Nothing but events reaches standard output: the real one is kept here and
descriptor 1 leads to standard error, the log, before any library is imported.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections import deque
from typing import Any, BinaryIO

from .. import __version__
from ..errors import Cancelled, ModelError, RequestError

PROTOCOL = 1
LONGEST_LINE = 2**20  # bytes of a request
GRACE = 3.0  # seconds a job in progress gets to notice that the process is to end
PROGRESS_EVERY = 0.05  # seconds
HEARTBEAT = 5.0  # seconds between signs of life while a request is open


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `serve` takes."""
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 or mps")
    parser.add_argument("--keep", type=int, default=2, help="models that stay loaded")
    parser.add_argument("--cache", metavar="FOLDER", help="where derived rigs are kept")


def run(arguments: argparse.Namespace) -> int:
    """Serve until the input ends. Does not return: threads may still sit in a read."""
    service = Service(_take_over_output())
    threading.Thread(target=service.read, args=(_input(),), daemon=True).start()
    signal.signal(signal.SIGTERM, lambda number, frame: service.close(128 + number))
    signal.signal(signal.SIGINT, lambda number, frame: service.close(128 + number))
    service.serve(arguments)
    sys.stderr.flush()
    os._exit(service.code)


def _take_over_output() -> BinaryIO:
    """Keep the real standard output for events and lead descriptor 1 to standard error."""
    real = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return real


def _input() -> BinaryIO:
    """Keep the real standard input for requests and give libraries an empty one."""
    real = os.fdopen(os.dup(0), "rb", buffering=0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return real


class Service:
    """The queue of requests, what has been asked to stop, and the way out for events."""

    def __init__(self, output: BinaryIO) -> None:
        self.code = 0
        self._output = output
        self._writing = threading.RLock()
        # A simple queue, because a signal handler puts into it, too.
        self._requests: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._open: set[str] = set()  # ids that are owed a last event
        self._stopping: set[str] = set()  # ids whose cancel has been asked for
        self._ended: deque[str] = deque(maxlen=1000)
        self._current = ""
        self._closing = threading.Event()

    # -- the reading thread ---------------------------------------------------------------------

    def read(self, stream: BinaryIO) -> None:
        """Sort every line of the input until it ends; then close."""
        try:
            for line in _lines(stream):
                self._sort(line)
        except Exception:  # whatever it is: a process that hears nothing any more has to end
            traceback.print_exc()
        self.close(0)

    def beat(self) -> None:
        """Say again and again that the process lives, while it owes an answer."""
        while not self._closing.wait(HEARTBEAT):
            if self._open:
                self._emit({"type": "alive"})

    def _sort(self, line: bytes | None) -> None:
        try:
            message = _parse(line)
        except RequestError as error:
            self._fail("", error)
            return
        kind, name = message.get("type"), message.get("id")
        if kind == "shutdown":
            self.close(0)
        elif not isinstance(name, str) or not 0 < len(name) <= 200:
            self._fail("", RequestError("A request needs an id of 1 to 200 characters."))
        elif kind == "cancel":
            self._cancel(name)
        elif kind not in ("generate", "describe"):
            self._fail(name, RequestError(f"There is no request {str(kind)[:40]!r}."))
        elif name in self._open:
            self._fail(name, RequestError(f"The id {name!r} is taken by a request under way."))
        else:
            self._open.add(name)
            self._requests.put(message)

    def _cancel(self, name: str) -> None:
        with self._writing:
            if name not in self._open:
                if name not in self._ended:
                    self._fail(name, RequestError(f"There is no request {name!r} to cancel."))
                return
            self._stopping.add(name)
            if name != self._current:
                self._end({"type": "cancelled", "id": name})

    def close(self, code: int) -> None:
        """Give up the job in progress and end soon; at the latest after `GRACE` seconds."""
        if self._closing.is_set():
            return
        self.code = code
        self._closing.set()
        self._requests.put(None)
        timer = threading.Timer(GRACE, os._exit, (code,))
        timer.daemon = True
        timer.start()

    # -- the main thread ------------------------------------------------------------------------

    def serve(self, arguments: argparse.Namespace) -> None:
        """Load what answering needs, say so, and answer until closed."""
        from ..generation.session import Session

        session = Session(arguments.device, keep=arguments.keep, cache=arguments.cache)
        ready = {"type": "ready", "protocol": PROTOCOL, "version": __version__, "pid": os.getpid()}
        self._emit(ready)
        threading.Thread(target=self.beat, daemon=True).start()
        while not self._closing.is_set():
            message = self._requests.get()
            if message is not None:
                self._answer(message, session)

    def _answer(self, message: dict[str, Any], session: Any) -> None:
        """Answer one request with exactly one last event."""
        name = message["id"]
        with self._writing:
            if name not in self._open:  # cancelled while it waited
                return
            self._current = name
        try:
            event = self._work(message, session)
        except Cancelled:
            event = {"type": "cancelled"}
        except ModelError as error:
            print(f"{name}: {error}", file=sys.stderr)
            event = _failure(error)
        except MemoryError:
            event = _failure(ModelError("Memory ran out.", "Close other programs, then try again."))
        except (Exception, SystemExit) as error:  # some libraries exit where they should raise
            traceback.print_exc()
            event = _failure(_unexpected(error))
        with self._writing:
            self._current = ""
            self._end({**event, "id": name})

    def _work(self, message: dict[str, Any], session: Any) -> dict[str, Any]:
        name = message["id"]
        if message["type"] == "describe":
            from .describe import describe

            return {"type": "done", "report": describe(session)}
        from ..generation.generate import GenerateRequest, generate

        request = GenerateRequest.from_message(message)
        motion = generate(
            request,
            session=session,
            progress=self._teller(name),
            cancelled=lambda: name in self._stopping or self._closing.is_set(),
        )
        return {"type": "done", "output": request.output or None, "report": motion.report}

    def _teller(self, name: str) -> Any:
        """Return a progress callback that never goes back and speaks at most 20 times a second."""
        last, furthest = 0.0, 0.0

        def tell(stage: str, fraction: float, seconds_left: float | None) -> None:
            nonlocal last, furthest
            now = time.monotonic()
            furthest = max(furthest, fraction)
            if now - last >= PROGRESS_EVERY:
                last = now
                event = {"type": "progress", "id": name, "stage": stage, "fraction": furthest}
                self._emit(event | {"seconds_left": seconds_left})

        return tell

    # -- the way out ----------------------------------------------------------------------------

    def _fail(self, name: str, error: ModelError) -> None:
        self._emit({"id": name, **_failure(error)})

    def _end(self, event: dict[str, Any]) -> None:
        self._open.discard(event["id"])
        self._stopping.discard(event["id"])
        self._ended.append(event["id"])
        self._emit(event)

    def _emit(self, event: dict[str, Any]) -> None:
        try:
            line = json.dumps(_plain(event), allow_nan=False).encode("ascii") + b"\n"
        except (ValueError, TypeError, RecursionError, OverflowError) as error:
            traceback.print_exc()
            told = _failure(_unexpected(error)) | {"id": event.get("id", "")}
            line = json.dumps(told).encode("ascii") + b"\n"
        try:
            with self._writing:
                while line:
                    line = line[self._output.write(line) :]
        except (OSError, ValueError):  # nobody listens any more
            self.close(0)


def _lines(stream: BinaryIO) -> Any:
    """Yield the lines of an unbuffered stream; None for one that is too long, never held whole."""
    held, skipping = b"", False
    while piece := stream.read(65536):
        *whole, held = (held + piece).split(b"\n")
        for line in whole:
            yield None if skipping or len(line) > LONGEST_LINE else line
            skipping = False
        if len(held) > LONGEST_LINE:
            held, skipping = b"", True
    if held and not skipping:
        yield held


def _parse(line: bytes | None) -> dict[str, Any]:
    if line is None:
        raise RequestError(f"A request is longer than {LONGEST_LINE:,} bytes.")
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise RequestError("A request is not valid JSON.") from error
    if not isinstance(message, dict):
        raise RequestError("A request must be a JSON object.")
    return message


def _failure(error: ModelError) -> dict[str, Any]:
    words = {"message": " ".join(error.message.split()), "hint": " ".join(error.hint.split())}
    return {"type": "failed", "kind": error.kind, **words}


def _unexpected(error: BaseException) -> ModelError:
    """Put a programming error into one sentence; its traceback is in the log."""
    what = " ".join(str(error).split())[:200]
    found = ModelError(
        f"The model stumbled over an unexpected error ({type(error).__name__}: {what}).",
        hint="Copy the report and send it to the developers.",
    )
    found.kind = "unexpected"
    return found


def _plain(value: Any) -> Any:
    """Return what JSON can say of a value: no NaN, no numpy scalars, no paths."""
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, bool | str | int | None):
        return value
    if hasattr(value, "item"):
        return _plain(value.item())
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None
    return str(value)
