"""Hold what belongs to the machine, not to a file: runtime, device, model files, cache.

Everything else asks through the functions here, which also answer when the add-on is used without
an entry in the preferences (a script that registers it by hand).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bpy

from ..errors import SetupError
from ..paths import ADDON
from ..worker import runtime
from ..worker.client import Worker, package_root, worker_command

PYTHON_VARIABLE = "DIFFSPEAKER_PYTHON"


@dataclass(frozen=True)
class Defaults:
    """What holds without an entry in the preferences; the fields mirror the entry's."""

    source: str = "INSTALL"
    python: str = ""
    wheels: str = ""
    device: str = "auto"
    keep_warm: float = 10.0
    cache: str = ""
    report: str = ""


def get() -> Any:
    """Return the add-on's preferences, or their defaults where it has no entry."""
    entry = bpy.context.preferences.addons.get(ADDON)
    found = entry.preferences if entry is not None else None
    return found if found is not None else Defaults()


# --- folders -------------------------------------------------------------------------------------


def models_folder() -> Path:
    """Return where imported model files lie."""
    return runtime.data_folder() / "models"


def cache_folder() -> Path:
    """Return where point caches of unsaved files and the log lie."""
    chosen = get().cache
    return Path(bpy.path.abspath(chosen)) if chosen else runtime.data_folder() / "cache"


def made(folder: Path) -> Path:
    """Return a folder of ours after making it where it is missing. Raises SetupError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SetupError(
            f"The folder {folder} cannot be made: {error.strerror or error}.",
            "Choose another one in the preferences.",
        ) from error
    return folder


def work_folder() -> Path:
    """Return where running jobs keep their files: Blender removes it when it quits."""
    return made(Path(bpy.app.tempdir) / "diffspeaker")


def cache_files() -> Iterator[Path]:
    """Yield the files in the cache folder."""
    return (path for path in cache_folder().rglob("*") if path.is_file())


def clear_cache() -> float:
    """Empty the cache folder; return the megabytes that became free."""
    size = sum(path.stat().st_size for path in cache_files()) / 1e6
    for path in cache_folder().glob("*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return size


# --- runtime -------------------------------------------------------------------------------------


def python() -> Path | None:
    """Return the Python that shall run the model, None when there is none yet."""
    given = os.environ.get(PYTHON_VARIABLE, "")
    chosen = get()
    if not given and chosen.source == "PYTHON":
        given = bpy.path.abspath(chosen.python) if chosen.python else ""
        return Path(given) if given and Path(given).is_file() else None
    if given:
        return Path(given) if Path(given).is_file() else None
    return runtime.installed_python(runtime_folder())


def runtime_folder() -> Path:
    """Return where our own runtime is (or would be) installed."""
    return runtime.data_folder() / "runtime"


def runtime_ready() -> bool:
    """Return whether a Python to run the model is there; cheap enough for a panel."""
    return python() is not None


def runtime_trouble() -> str:
    """Return what is missing, in one sentence."""
    given = os.environ.get(PYTHON_VARIABLE, "")
    if given:
        return f"{PYTHON_VARIABLE} names {given}, which is not there"
    chosen = get()
    if chosen.source == "PYTHON":
        return f"There is no Python at {chosen.python}" if chosen.python else "Choose a Python"
    return "The model needs its runtime once: about 1 GB for a CPU, more for a graphics card"


def require_runtime() -> Path:
    """Return the Python, or raise SetupError saying how to get one."""
    found = python()
    if found is None:
        raise SetupError(
            "The model runtime is not installed.",
            "Install it in the Lip-Sync panel or in the preferences.",
        )
    return found


def new_worker() -> Worker:
    """Return a worker for the chosen Python; it starts with its first request."""
    rigs = str(cache_folder() / "rigs")
    command = worker_command(require_runtime(), package_root(), "serve", "--cache", rigs)
    return Worker(command, log_file=made(cache_folder()) / "worker.log")


def set_report(text: str) -> None:
    """Remember the last set-up report, for the preferences and for Copy Report."""
    chosen: Any = get()
    if not isinstance(chosen, Defaults):
        chosen.report = text
