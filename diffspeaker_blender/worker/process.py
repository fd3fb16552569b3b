# SPDX-License-Identifier: GPL-3.0-or-later
"""Child processes as this extension wants them: isolated, quiet, bounded in time, explained."""

from __future__ import annotations

import contextlib
import os
import queue
import re
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import SetupError

# What a child process gets of the environment. Everything else stays here: passwords and tokens
# are nobody's business, and what Blender, Steam or a shell set for their own libraries
# (LD_LIBRARY_PATH, PYTHONPATH, CONDA…) breaks another Python.
_KEPT = {
    "PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TMP", "TEMP",
    "SYSTEMROOT", "SYSTEMDRIVE", "WINDIR", "COMSPEC", "PATHEXT", "APPDATA", "LOCALAPPDATA",
    "PROGRAMDATA", "PROGRAMFILES", "PROGRAMFILES(X86)", "PROGRAMW6432", "COMMONPROGRAMFILES",
    "COMMONPROGRAMFILES(X86)", "COMMONPROGRAMW6432", "USERPROFILE", "USERNAME", "HOMEDRIVE",
    "HOMEPATH", "NUMBER_OF_PROCESSORS", "OS",
}  # fmt: skip
_KEPT_FAMILIES = (
    "LC_", "XDG_", "PROCESSOR_", "CUDA_", "NVIDIA_", "HIP_", "ROCR_", "HSA_", "OMP_", "MKL_",
    "KMP_", "GOMP_", "OPENBLAS_", "VECLIB_", "PYTORCH_", "DIFFSPEAKER_",
)  # fmt: skip
# What a download needs besides: the way to the network, and whom to trust there.
_NETWORK = {
    "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
}  # fmt: skip
_SECRET = ("TOKEN", "SECRET", "PASSWORD", "PASSWD", "API_KEY", "CREDENTIAL")

LINGER = 60.0  # seconds that a command may live on after it closed its output
LONGEST_LINE = 2**16  # bytes of its output taken as one line

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
    (r"(?:No module named '?|needs the Python package \"?)"
     r"(torch|safetensors)\b",
     "This Python lacks {0}: install PyTorch in the preferences."),
    (r"(?:No module named '?|needs the Python package \"?)(numpy)\b",
     "Blender's Python lacks {0}: install it (python3-numpy on Linux), or PyTorch in the "
     "preferences, which brings its own."),
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


def scrubbed_environment(
    extra: Mapping[str, str] | None = None, *, network: bool = False
) -> dict[str, str]:
    """Return what a child process needs of this one's environment, and no more.

    With `network` also the proxies and certificates that a download needs.
    """
    kept = {name: value for name, value in os.environ.items() if _wanted(name.upper(), network)}
    if not network:
        kept.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    return kept | dict(extra or {})


def _wanted(name: str, network: bool) -> bool:
    known = name in _KEPT or name.startswith(_KEPT_FAMILIES) or (network and name in _NETWORK)
    return known and not any(word in name for word in _SECRET)


def alive(pid: int) -> bool:
    """Return whether a process of this machine runs; True when that cannot be told."""
    if os.name == "nt":
        import ctypes

        kernel = ctypes.windll.kernel32  # type: ignore[attr-defined]
        handle = kernel.OpenProcess(0x1000, False, pid)  # PROCESS_QUERY_LIMITED_INFORMATION
        if handle:
            kernel.CloseHandle(handle)
        return bool(handle)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


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


@dataclass(frozen=True)
class Answer:
    """How a command ended, and the last lines it said."""

    code: int
    words: tuple[str, ...]

    @property
    def last_words(self) -> str:
        """The last line, preferring one that names an error."""
        said = [line.strip() for line in self.words if line.strip()]
        errors = [line for line in said if line.upper().startswith(("ERROR", "FATAL"))]
        return (errors or said or [f"exit code {self.code}"])[-1][:300]


def carry(
    command: Sequence[str],
    cancelled: Callable[[], bool] = lambda: False,
    hear: Callable[[str], None] = lambda line: None,
    environment: Mapping[str, str] | None = None,
) -> Answer:
    """Run a command to its end, hearing each line; kill it when cancelled (checked five times a
    second). `environment` is the whole of what it gets; by default what a child needs. Raises
    `SetupError` when it cannot start or was cancelled.
    """
    given = scrubbed_environment() if environment is None else dict(environment)
    options = {"stdin": subprocess.DEVNULL, "stderr": subprocess.STDOUT, **quietly()}
    try:
        process: subprocess.Popen[bytes] = subprocess.Popen(
            command, stdout=subprocess.PIPE, env=given, **options
        )
    except OSError as error:
        raise SetupError(f"{command[0]} cannot be started ({error.strerror or error}).") from error
    lines: queue.Queue[str | None] = queue.Queue()
    threading.Thread(target=_read, args=(process, lines), daemon=True).start()
    words: deque[str] = deque(maxlen=200)
    while True:
        if cancelled():
            process.kill()
            bury(process, 1.0)
            raise SetupError("Stopped.", "What is already there is kept for the next time.")
        with contextlib.suppress(queue.Empty):
            line = lines.get(timeout=0.2)
            if line is None:
                return Answer(_end(process, cancelled), tuple(words))
            words.append(line)
            hear(line)


def _end(process: subprocess.Popen[bytes], cancelled: Callable[[], bool]) -> int:
    """Return the exit code of a process that has closed its output; it may not live on long."""
    until = time.monotonic() + LINGER
    while process.poll() is None:
        if cancelled() or time.monotonic() > until:
            process.kill()
            bury(process, 1.0)
            break
        time.sleep(0.05)
    code = process.poll()
    return -9 if code is None else code


def _read(process: subprocess.Popen[bytes], lines: queue.Queue[str | None]) -> None:
    assert process.stdout is not None
    try:
        with process.stdout as stream:
            while line := stream.readline(LONGEST_LINE):
                lines.put(line.decode("utf-8", "replace").rstrip())
    finally:
        lines.put(None)


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
