"""What travels between Blender and the model process: events, and the threads that move them.

One JSON object a line, UTF-8. Requests go down the worker's standard input, events come up its
standard output; whatever else appears there is kept for the log and otherwise ignored.
"""

from __future__ import annotations

import collections
import contextlib
import json
import math
import queue
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

PROTOCOL = 1
LONGEST_LOG = 4 * 2**20  # bytes
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
    """Turn a message into its event; None when it is no event or its fields have wrong types."""
    request, kind = message.get("id"), message.get("type")
    if not isinstance(request, str):
        return None
    with contextlib.suppress(TypeError, ValueError):
        if kind == "progress":
            left = message.get("seconds_left")
            seconds = None if left is None else max(0.0, _finite(left))
            fraction = min(1.0, max(0.0, _finite(message.get("fraction", 0.0))))
            return Progress(request, str(message.get("stage", "")), fraction, seconds)
        if kind == "done":
            output = message.get("output")
            return Done(request, Path(output) if output else None, dict(message.get("report", {})))
        if kind == "cancelled":
            return Cancelled(request)
        if kind == "failed":
            said = (str(message.get(key, "")) for key in ("kind", "message", "hint"))
            return Failed(request, *said)
    return None


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError("not a finite number")
    return number


def read_messages(
    stream: BinaryIO,
    inbox: queue.Queue[dict[str, Any] | None],
    tail: collections.deque[str],
) -> None:
    """Feed every JSON object of the worker's output to the inbox, then None at its end.

    A line longer than `LONGEST_LINE` is dropped piece by piece, never held whole.
    """
    inside_long = False
    with contextlib.suppress(OSError, ValueError), stream:
        while line := stream.readline(LONGEST_LINE):
            starts_long = len(line) == LONGEST_LINE and not line.endswith(b"\n")
            if starts_long and not inside_long:
                tail.append(f"(ignored) a line of more than {LONGEST_LINE} bytes")
            if not (starts_long or inside_long):
                _sort(line, inbox, tail)
            inside_long = starts_long
    inbox.put(None)


def _sort(line: bytes, inbox: queue.Queue[Any], tail: collections.deque[str]) -> None:
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        message = None
    if isinstance(message, dict):
        inbox.put(message)
    else:
        tail.append(f"(output) {line[:200].decode('utf-8', 'replace').rstrip()}")


def read_log(stream: BinaryIO, tail: collections.deque[str], log_file: Path | None) -> None:
    """Keep the last lines of the worker's log, and more of it in `log_file` when given.

    The file goes on from one worker to the next until it has `LONGEST_LOG` bytes, then starts anew.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(stream)
        file: BinaryIO | None = None
        if log_file is not None:
            with contextlib.suppress(OSError):
                grown = log_file.is_file() and log_file.stat().st_size > LONGEST_LOG
                file = stack.enter_context(log_file.open("wb" if grown else "ab", buffering=0))
        with contextlib.suppress(OSError, ValueError):
            while line := stream.readline(16384):
                tail.append(line.decode("utf-8", "replace").rstrip())
                if file is not None:
                    with contextlib.suppress(OSError):
                        file.write(line)


def write_messages(stream: BinaryIO, outbox: queue.Queue[dict[str, Any] | None]) -> None:
    """Send every message of the outbox; close the worker's input at None or when it is gone."""
    with contextlib.suppress(OSError, ValueError):
        while (message := outbox.get()) is not None:
            stream.write(json.dumps(message).encode("ascii") + b"\n")
            stream.flush()
    with contextlib.suppress(OSError, ValueError):
        stream.close()
