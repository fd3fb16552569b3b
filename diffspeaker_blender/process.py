"""Child processes as this extension wants them: isolated, quiet, bounded in time, explained."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Mapping
from typing import Any

_UNWANTED = ("PYTHON", "VIRTUAL_ENV", "CONDA", "OCIO", "LD_PRELOAD", "DYLD_INSERT", "__PYVENV")

_WINDOWS_CODES = {
    0xC0000005: "crashed (access violation)",
    0xC0000135: "could not start: a system library is missing",
    0xC000013A: "was interrupted",
    0xC0000017: "ran out of memory",
    0xC00000FD: "crashed (stack overflow)",
    0xC0000142: "could not start: a system library failed to load",
}
_SIGNALS = {
    "SIGKILL": "was killed by the system, most often because memory ran out",
    "SIGTERM": "was ended from outside",
    "SIGINT": "was interrupted",
    "SIGSEGV": "crashed (segmentation fault)",
    "SIGABRT": "crashed (abort)",
    "SIGILL": "crashed: this processor lacks an instruction the runtime was built for",
    "SIGBUS": "crashed (bus error), often a full disk",
}
_HINTS = (
    (r"No module named '?(torch|transformers|numpy|soundfile|soxr|safetensors)",
     "This Python lacks {0}: install the model runtime in the preferences."),
    (r"No module named '?model|model.__init__\.py",
     "The extension's files are incomplete: install the extension again."),
    (r"DLL load failed|VCRUNTIME|0xc0000135",
     "Install the Microsoft Visual C++ Redistributable, then try again."),
    (r"No space left|ENOSPC|Errno 28", "Free some disk space, then try again."),
    (r"out of memory|MemoryError|bad_alloc",
     "Close other programs or choose a shorter strip, then try again."),
    (r"unrecognized arguments|invalid choice|No module named model\.",
     "The worker is from another version: install the extension again and restart Blender."),
)  # fmt: skip


def scrubbed_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return this process's environment without what Blender or a shell set for another Python."""
    kept = {k: v for k, v in os.environ.items() if not k.upper().startswith(_UNWANTED)}
    kept.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    return kept | dict(extra or {})


def quietly() -> dict[str, Any]:
    """Return Popen arguments for a quiet child: no console on Windows, no Ctrl-C on POSIX."""
    if os.name == "nt":
        return {"creationflags": getattr(subprocess, "CREATE_NO_WINDOW", 0)}
    return {"start_new_session": True}


def bury(process: subprocess.Popen[Any], patience: float) -> int | None:
    """Wait `patience` seconds for a process to end, then terminate it, then kill it.

    Returns its exit code, or None when even the kill had no effect within a second.
    """
    for seconds, act in ((patience, process.terminate), (1.0, process.kill), (1.0, None)):
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(timeout=seconds)
        if act is not None:
            with contextlib.suppress(OSError):
                act()
    return process.poll()


def explain_exit(code: int | None, log: str = "") -> tuple[str, str]:
    """Put an exit code and the last words of a log into (what happened, what to do)."""
    return _what_happened(code, log), _what_to_do(code, log)


def _what_happened(code: int | None, log: str) -> str:
    if code is None:
        return "The model process closed its output and hangs"
    if code < 0:
        with contextlib.suppress(ValueError):
            name = signal.Signals(-code).name
            return f"The model process {_SIGNALS.get(name, f'was ended by {name}')}"
    known = _WINDOWS_CODES.get(code & 0xFFFFFFFF)
    if known:
        return f"The model process {known}"
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    last = f": {lines[-1][:200]}" if lines and code else ""
    return f"The model process ended unexpectedly (exit code {code}){last}"


def _what_to_do(code: int | None, log: str) -> str:
    text = f"{log}\n0x{(code or 0) & 0xFFFFFFFF:x}"
    for pattern, hint in _HINTS:
        found = re.search(pattern, text, re.IGNORECASE)
        if found:
            return hint.format(*found.groups())
    if code == -getattr(signal, "SIGKILL", 9):
        return "Close other programs or choose a shorter strip, then try again."
    return "Try again; if it stays, use Check My Setup in the preferences and copy its report."
