# SPDX-License-Identifier: GPL-3.0-or-later
"""Find what is compiled: libraries that the extension carries, or that a Python has installed.

The extension holds the shared libraries themselves, in ``model/native``, so one file serves every
version of Python; a checkout takes the same files out of the installed wheels.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
from pathlib import Path

FOLDER = Path(__file__).parent / "native"
"""Where the extension carries its libraries."""
_PACKAGES = {"onnxruntime": "onnxruntime/capi", "sndfile": "_soundfile_data"}
_ENDINGS = {"win32": ".dll", "darwin": ".dylib"}


def library(name: str) -> Path | None:
    """Return the file of "onnxruntime" or "sndfile" for this machine, None where there is none."""
    ending = _ENDINGS.get(sys.platform, ".so")
    folders = [FOLDER, *(Path(entry) / _PACKAGES[name] for entry in sys.path if entry)]
    for folder in folders:
        for path in sorted(folder.glob(f"*{name}*")):
            if (
                ending in path.suffixes
                and "providers" not in path.name
                and "pybind" not in path.name
            ):
                return path
    return None


def has(package: str) -> bool:
    """Tell whether a package can be imported, without importing it."""
    return importlib.util.find_spec(package) is not None


def may_have_card() -> bool:
    """Tell whether a graphics card that computes may be here; cheap, and never wrongly False."""
    if sys.platform == "darwin":
        return platform.machine() == "arm64"
    if sys.platform == "win32":
        system = Path(os.environ.get("SYSTEMROOT", r"C:\Windows")) / "System32"
        return any((system / name).exists() for name in ("nvcuda.dll", "amdhip64.dll"))
    return any(Path(name).exists() for name in ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd"))
