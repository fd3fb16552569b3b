# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold what belongs to the machine, not to a file: runtime, device, model files, cache.

Everything else asks through the functions here, which also answer when the add-on is used without
an entry in the preferences (a script that registers it by hand).
"""

from __future__ import annotations

import contextlib
import fnmatch
import os
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bpy

from ..errors import SetupError
from ..files import safe_write
from ..paths import ADDON, absolute
from ..worker import runtime
from ..worker.client import Worker, package_root, worker_command
from ..worker.model_files import ModelFile

PYTHON_VARIABLE = "DIFFSPEAKER_PYTHON"
CARDS = ("cuda", "mps")
"""Devices that only PyTorch can use."""

PATH: set[str] = (
    {"PATH_SUPPORTS_BLEND_RELATIVE"}
    if "is_path_supports_blend_relative" in bpy.types.Property.bl_rna.properties
    else set()
)
"""Options of a property that holds a path, so that it may begin with "//" (Blender 4.5 asks)."""

_MARK = ".diffspeaker-cache"
_OURS = ("*.lipsync.pc2", "*.lipsync.*.part.pc2", "worker.log")
_OUR_RIGS = ("rig-*.npz", "rig-*.part*")


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
    """Return where point caches of unsaved files, derived rigs and the log lie.

    It is always a folder of our own: in a chosen one we make another, so that nothing of the
    user's ever lies beside what Clear removes. A choice such as "//" holds in saved files only.
    """
    chosen = get().cache
    if not chosen or (chosen.startswith("//") and not bpy.data.filepath):
        return own_folder() / "cache"
    return absolute(bpy.path.abspath(chosen)) / "diffspeaker_unsaved"


def made_cache_folder() -> Path:
    """Return the cache folder, made and marked as ours. Raises SetupError."""
    folder = made(cache_folder())
    if not (folder / _MARK).is_file():
        with contextlib.suppress(OSError):  # without its mark the folder is used, but never cleared
            safe_write.write(folder / _MARK, "Made by DiffSpeaker; Clear removes its own files.\n")
    return folder


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


def cache_files() -> Iterator[tuple[Path, int]]:
    """Yield what Clear may remove, with its bytes: our own files in folders that we made.

    A folder without our mark yields nothing, links are not followed, and point caches that the open
    file plays are left alone.
    """
    folder = cache_folder()
    if not (folder / _MARK).is_file():
        return
    playing = {
        os.path.normcase(absolute(bpy.path.abspath(modifier.filepath)))  # type: ignore[attr-defined]
        for obj in bpy.data.objects
        for modifier in obj.modifiers
        if modifier.type == "MESH_CACHE"
    }
    for place, patterns in ((folder, _OURS), (folder / "rigs", _OUR_RIGS)):
        if place.is_symlink() and place != folder:
            continue
        with contextlib.suppress(OSError), os.scandir(place) as entries:
            for entry in entries:
                about = entry.stat(follow_symlinks=False)
                ours = any(fnmatch.fnmatch(entry.name, pattern) for pattern in patterns)
                if stat.S_ISREG(about.st_mode) and ours:
                    path = Path(entry.path)
                    if os.path.normcase(path) not in playing:
                        yield path, about.st_size


def clear_cache() -> tuple[int, float]:
    """Remove what is ours in the cache folder; return how many files and megabytes that was."""
    count, size = 0, 0
    for path, length in list(cache_files()):
        with contextlib.suppress(OSError):  # another Blender may hold it
            path.unlink()
            count, size = count + 1, size + length
    return count, size / 1e6


# --- runtime -------------------------------------------------------------------------------------


def python() -> Path | None:
    """Return the Python that shall run the model: one with PyTorch, else Blender's own.

    Blender's own will do where the extension carries its engine. None when neither is there.
    """
    return torch_python() or (Path(sys.executable) if runtime.carries_engine() else None)


def torch_python() -> Path | None:
    """Return a Python that was chosen or installed because it has PyTorch, None without one."""
    given = os.environ.get(PYTHON_VARIABLE, "")
    chosen = get()
    if not given and chosen.source == "PYTHON":
        given = bpy.path.abspath(chosen.python)
    if given or chosen.source == "PYTHON":
        path = absolute(given)
        return path if given and path.is_file() else None
    return runtime.installed_python(runtime_folder())


def own_folder() -> Path:
    """Return the folder for what shall go when the extension goes, but outlive its updates."""
    if not os.environ.get(runtime.FOLDER_VARIABLE):
        with contextlib.suppress(ValueError):  # not installed as an extension
            return Path(bpy.utils.extension_path_user(ADDON))
    return runtime.data_folder()


def runtime_folder() -> Path:
    """Return where our own runtime is (or would be) installed."""
    return own_folder() / "runtime"


def lacking(model: ModelFile | None) -> str:
    """Return in one sentence what keeps a model from running here, "" when nothing does."""
    if torch_python() is not None:
        return ""
    if trouble := python_trouble():
        return trouble
    if not runtime.carries_engine():
        return f"This installation has no engine for this system: it needs {runtime.words()}"
    if get().device in CARDS:
        return f"The graphics card needs {runtime.words()}; the processor speaks without"
    if model is not None and not model.light:
        return f"The model {model.name} needs {runtime.words()}"
    return ""


def python_trouble() -> str:
    """Return what is wrong with a Python that was named but is not there."""
    given = os.environ.get(PYTHON_VARIABLE, "")
    if given:
        return f"{PYTHON_VARIABLE} names {given}, which is not there"
    chosen = get()
    if chosen.source == "PYTHON" and chosen.python and torch_python() is None:
        return f"There is no Python at {chosen.python}"
    return ""


def require_runtime(model: ModelFile | None = None) -> Path:
    """Return the Python that runs a model, or raise SetupError saying how to get one."""
    found, trouble = python(), lacking(model)
    if found is None or trouble:
        hint = "Install PyTorch in the Lip-Sync panel or in the preferences."
        raise SetupError(f"{trouble or 'Nothing here can run the model'}.", hint)
    return found


def require_torch() -> Path:
    """Return a Python that has PyTorch, or raise SetupError saying how to get one."""
    found = torch_python()
    if found is None:
        raise SetupError(
            f"This needs {runtime.words()}.", "Install PyTorch in the preferences, then try again."
        )
    return found


def new_worker() -> Worker:
    """Return a worker for the chosen Python; it starts with its first request."""
    rigs = str(cache_folder() / "rigs")
    command = worker_command(require_runtime(), package_root(), "serve", "--cache", rigs)
    return Worker(command, log_file=made_cache_folder() / "worker.log")


def set_report(text: str) -> None:
    """Remember the last set-up report, for the preferences and for Copy Report."""
    chosen: Any = get()
    if not isinstance(chosen, Defaults):
        chosen.report = text
