# SPDX-License-Identifier: GPL-3.0-or-later
"""What travels between Blender and the model process: events, and the threads that move them.

One JSON object a line, UTF-8. Requests go down the worker's standard input, events come up its
standard output; whatever else appears there is kept for the log and otherwise ignored.
"""

from __future__ import annotations

import collections
import contextlib
import json
import math
import os
import queue
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

PROTOCOL = 1
LONGEST_LOG = 4 * 2**20  # bytes
INBOX = 1000  # messages that wait to be taken; a worker that says more has to wait
LONGEST_LINE = 4 * 2**20  # bytes; an event is a few hundred, a long report some thousand


@dataclass(frozen=True)
class Event:
    """Anything the worker tells; `id` is the request it belongs to, or "" for the worker itself."""

    id: str = ""


@dataclass(frozen=True)
class Ready(Event):
    """The worker takes requests. `seconds` from process start."""

    version: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Progress(Event):
    """A request moved on: `fraction` 0..1 of the whole, `seconds_left` or None when unknown."""

    stage: str = ""
    fraction: float = 0.0
    seconds_left: float | None = None


@dataclass(frozen=True)
class Done(Event):
    """A request ended well. `output` is the file it wrote (None for `describe`)."""

    output: Path | None = None
    report: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Cancelled(Event):
    """A request ended because `cancel` asked for it."""


@dataclass(frozen=True)
class Failed(Event):
    """A request ended badly: `message` says what happened, `hint` what to do."""

    kind: str = ""
    message: str = ""
    hint: str = ""


@dataclass(frozen=True)
class Stopped(Event):
    """The process is gone, or was buried; `code` is its exit code and `log` its last words."""

    code: int | None = None
    message: str = ""
    hint: str = ""
    log: str = ""


Terminal = (Done, Cancelled, Failed)


def parse_event(message: dict[str, Any]) -> Event | None:
    """Turn a message into its event; None when it is none.

    A last event whose fields make no sense still ends its request: as `Failed`.
    """
    request, kind = message.get("id"), message.get("type")
    if not isinstance(request, str):
        return None
    with contextlib.suppress(TypeError, ValueError, OverflowError):
        if kind == "progress":
            left = message.get("seconds_left")
            seconds = None if left is None else max(0.0, _finite(left))
            fraction = min(1.0, max(0.0, _finite(message.get("fraction", 0.0))))
            return Progress(request, _words(message.get("stage"), 100), fraction, seconds)
        if kind == "done":
            return Done(request, _path(message.get("output")), _report(message.get("report")))
        if kind == "cancelled":
            return Cancelled(request)
        if kind == "failed":
            said = _words(message.get("message"), 2000) or "The model process gave no reason."
            hint = _words(message.get("hint"), 2000)
            return Failed(request, _words(message.get("kind"), 40), said, hint)
    return nonsense(request) if kind == "done" else None


def nonsense(request: str) -> Failed:
    """Return the end of a request that was answered with something else than an answer."""
    return Failed(
        request,
        "worker",
        "The model process answered with something that is no result.",
        "Try again; if it stays, install the extension again.",
    )


def _finite(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError("not a number")
    number = float(value)
    if not math.isfinite(number):
        raise ValueError("not a finite number")
    return number


def _words(value: Any, most: int) -> str:
    """Return a text as one line of at most `most` characters that can be shown."""
    if not isinstance(value, str):
        return ""
    shown = " ".join(value[: 4 * most].split()).encode("utf-8", "replace").decode()
    return shown[:most]


def _path(value: Any) -> Path | None:
    if value is None:
        return None
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("not a path")
    return Path(value)


def _report(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict | None):
        raise TypeError("not a report")
    return value or {}


def read_messages(
    stream: BinaryIO,
    inbox: queue.Queue[dict[str, Any] | None],
    tail: collections.deque[str],
    closed: threading.Event,
) -> None:
    """Feed every JSON object of the worker's output to the inbox, then None at its end.

    Whatever goes wrong here, the None comes. A line longer than `LONGEST_LINE` is dropped piece by
    piece, never held whole; a full inbox makes the worker wait, until `closed` is set.
    """
    inside_long = False
    try:
        with stream:
            while line := stream.readline(LONGEST_LINE):
                starts_long = len(line) == LONGEST_LINE and not line.endswith(b"\n")
                if starts_long and not inside_long:
                    tail.append(f"(ignored) a line of more than {LONGEST_LINE} bytes")
                if not (starts_long or inside_long):
                    _sort(line, inbox, tail, closed)
                inside_long = starts_long
    except Exception as error:  # this thread must never end without a word
        tail.append(f"(reading stopped) {type(error).__name__}: {str(error)[:200]}")
    finally:
        _offer(None, inbox, closed)


def _offer(
    message: dict[str, Any] | None, inbox: queue.Queue[Any], closed: threading.Event
) -> None:
    """Put a message into the inbox as soon as there is room."""
    while not closed.is_set():
        with contextlib.suppress(queue.Full):
            inbox.put(message, timeout=0.1)
            return


def _sort(
    line: bytes, inbox: queue.Queue[Any], tail: collections.deque[str], closed: threading.Event
) -> None:
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        message = None
    if isinstance(message, dict):
        _offer(message, inbox, closed)
    else:
        tail.append(f"(output) {line[:200].decode('utf-8', 'replace').rstrip()}")


def read_log(stream: BinaryIO, tail: collections.deque[str], log_file: Path | None) -> None:
    """Keep the last lines of the worker's log, and more of it in `log_file` when given.

    The file goes on from one worker to the next until it has `LONGEST_LOG` bytes, then starts anew.
    """
    with contextlib.ExitStack() as stack, contextlib.suppress(OSError, ValueError):
        stack.enter_context(stream)
        file = _open_log(log_file)
        if file is not None:
            stack.enter_context(file)
        while line := stream.readline(16384):
            tail.append(line.decode("utf-8", "replace").rstrip())
            if file is not None:
                with contextlib.suppress(OSError):
                    file.write(line)


def _open_log(path: Path | None) -> BinaryIO | None:
    """Open the log to go on with it; None where that cannot be, or where a link leads elsewhere."""
    if path is None:
        return None
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
    flags |= getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    with contextlib.suppress(OSError):
        grown = path.is_file() and path.stat().st_size > LONGEST_LOG
        handle = os.open(path, flags | (os.O_TRUNC if grown else 0), 0o644)
        return os.fdopen(handle, "ab", buffering=0)
    return None


def encode(request: dict[str, Any]) -> bytes:
    """Return a request as one line. Raises `ValueError` when it cannot be said in JSON."""
    try:
        return json.dumps(request, allow_nan=False).encode("ascii") + b"\n"
    except (TypeError, RecursionError) as error:
        raise ValueError(str(error)) from error


def write_messages(stream: BinaryIO, outbox: queue.Queue[bytes | None]) -> None:
    """Send every line of the outbox; close the worker's input at None or when it is gone."""
    with contextlib.suppress(OSError, ValueError):
        while (line := outbox.get()) is not None:
            stream.write(line)
            stream.flush()
    with contextlib.suppress(OSError, ValueError):
        stream.close()
