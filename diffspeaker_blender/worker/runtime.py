# SPDX-License-Identifier: GPL-3.0-or-later
"""Find the engine we carry; find, build, check and remove the Python that has torch.

The bundled model needs no more than what the extension carries (`model/native`) and Blender's own
Python. torch is for the authors' checkpoints, graphics cards and training.

The runtime is a virtual environment made with Blender's own Python and filled by pip from
`model/requirements.txt`, whose versions are exact. Nothing here imports bpy; `install` may run in a
thread, reports every step, heeds a cancel within a second, and goes on where it left off: what pip
has downloaded is kept until the installation is whole. A stamp is written last, so half a runtime
is never taken for one.

About hashes: pip checks every download against the hash its index states. A lock file of our own
cannot be complete, since torch brings other packages on every system; for a folder of wheels, the
hashes of a `SHA256SUMS` file in it are checked when there is one.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from ..errors import SetupError
from ..paths import absolute
from . import pip_words
from .client import package_root
from .process import carry, quietly, scrubbed_environment

Progress = Callable[[str, float, float | None], None]
STAMP = "runtime.json"
DOWNLOADS = "downloads"
FOLDER_VARIABLE = "DIFFSPEAKER_FOLDER"
OLDEST = (3, 11)
DISK = {"linux": 7.0, "linux-arm": 1.5, "windows": 1.2, "macos": 0.7}
"""Gigabytes that torch and its packages take once installed; on Linux the usual index has but one
build, with CUDA's libraries."""
MODULES = ("torch", "numpy", "safetensors")
_ASK = (
    "import importlib,json,sys\n"
    "r={'python':list(sys.version_info[:3]),'packages':{},'missing':{},'device':'cpu'}\n"
    f"for n in {MODULES!r}:\n"
    " try: r['packages'][n]=str(getattr(importlib.import_module(n),'__version__','?'))\n"
    " except Exception as e: r['missing'][n]=f'{type(e).__name__}: {e}'.splitlines()[0][:200]\n"
    "t=sys.modules.get('torch')\n"
    "if 'torch' in r['packages']:\n"
    " if t.cuda.is_available(): r['device']=t.cuda.get_device_name(0)\n"
    " elif t.backends.mps.is_available(): r['device']='Apple GPU'\n"
    "print('\\n'+json.dumps(r))\n"
)


@dataclass(frozen=True)
class Check:
    """What a Python has of what the model needs."""

    python: str = ""
    """Its version."""
    packages: dict[str, str] = field(default_factory=dict)
    """Versions of the packages that can be imported."""
    missing: dict[str, str] = field(default_factory=dict)
    """Packages that cannot, and why."""
    device: str = ""
    """What torch would compute on."""
    trouble: str = ""
    """Why this Python cannot run the model; "" when it can."""

    @property
    def usable(self) -> bool:
        """True when the model can run here."""
        return not self.trouble

    def __str__(self) -> str:
        """Return the finding as one sentence."""
        if self.trouble:
            return self.trouble
        versions = ", ".join(f"{name} {number}" for name, number in self.packages.items())
        return f"Python {self.python} with {versions}; computes on {self.device}."


def data_folder() -> Path:
    """Return a folder for large files that upgrading or removing the extension leaves alone.

    The environment variable `DIFFSPEAKER_FOLDER` overrides the system's place for such files.
    """
    given = os.environ.get(FOLDER_VARIABLE)
    if given:
        return absolute(given)
    home = _home()
    if os.name == "nt":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / "DiffSpeaker"
    if sys.platform == "darwin":
        return home / "Library" / "Application Support" / "DiffSpeaker"
    return Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share") / "diffspeaker"


def _home() -> Path:
    """Return the user's folder; where there is none (some render farms), one of our own."""
    try:
        return Path.home()
    except RuntimeError:
        own = Path(tempfile.gettempdir()) / f"diffspeaker-home-{getattr(os, 'getuid', lambda: 0)()}"
        return own


def python_in(folder: Path) -> Path:
    """Return where the Python of a virtual environment lies."""
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def installed_python(folder: Path) -> Path | None:
    """Return the Python of a whole runtime, else None. Cheap: reads two small files.

    A runtime whose base Python is gone (the Blender that made it was removed) is none.
    """
    python = python_in(folder)
    if not (folder / STAMP).is_file() or not python.exists():
        return None
    try:
        lines = (folder / "pyvenv.cfg").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    home = next((line.split("=", 1)[1].strip() for line in lines if line.startswith("home")), "")
    return python if home and Path(home).is_dir() else None


def outdated(folder: Path, requirements: Path | None = None) -> bool:
    """Return whether a runtime was made for other versions than these."""
    try:
        stamp = json.loads((folder / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return True
    return bool(stamp.get("pins") != read_pins(requirements or requirements_file()))


def requirements_file() -> Path:
    """Return the list of exact versions that the model needs."""
    return package_root() / "model" / "requirements.txt"


def carries_engine() -> bool:
    """Return whether this installation holds the engine that runs without torch."""
    return any((package_root() / "model" / "native").glob("*onnxruntime*"))


def words() -> str:
    """Return what installing torch means on this machine: "PyTorch (about 1.2 GB)"."""
    return f"PyTorch (about {DISK[disk_kind()]:g} GB)"


@cache
def disk_kind() -> str:
    """Return which build of torch the usual index has for this machine."""
    if sys.platform == "darwin":
        return "macos"
    if os.name == "nt":
        return "windows"
    return "linux-arm" if platform.machine().lower() in ("aarch64", "arm64") else "linux"


def read_pins(path: Path) -> list[str]:
    """Return the requirement lines of a file."""
    lines = (line.partition("#")[0].strip() for line in path.read_text("utf-8").splitlines())
    return [line for line in lines if line]


def check(python: str | Path, timeout: float = 180.0) -> Check:
    """Import what the model needs in a Python and say what it has; never raises."""
    command = [str(python), "-I", "-X", "utf8", "-c", _ASK]
    try:
        answer = subprocess.run(
            command,
            capture_output=True,
            timeout=timeout,
            check=False,
            stdin=subprocess.DEVNULL,
            env=scrubbed_environment(),
            **quietly(),
        )
        said = json.loads(answer.stdout.decode("utf-8", "replace").strip().splitlines()[-1])
    except subprocess.TimeoutExpired:
        return Check(trouble=f"{python} did not answer within {timeout:g} seconds.")
    except OSError as error:
        return Check(trouble=f"{python} cannot be started ({error.strerror or error}).")
    except (ValueError, IndexError):
        return Check(trouble=f"{python} is no Python that works.")
    version = ".".join(map(str, said["python"]))
    trouble = ""
    if tuple(said["python"][:2]) < OLDEST:
        trouble = f"Python {version} is too old; the model needs {OLDEST[0]}.{OLDEST[1]} or newer."
    elif said["missing"]:
        reasons = "; ".join(f"{name} ({why})" for name, why in said["missing"].items())
        trouble = f"Python {version} cannot import {reasons}."
    return Check(version, said["packages"], said["missing"], said["device"], trouble)


def install(
    folder: Path,
    *,
    wheels: Path | None = None,
    online: bool = True,
    index: str = "",
    python: str | Path = sys.executable,
    requirements: Path | None = None,
    progress: Progress = lambda stage, fraction, left: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Check:
    """Make the runtime in `folder`, or finish one begun there; return what it has.

    With `wheels` everything comes from that folder and the network is not touched; without, pip
    asks its index (and `index`, an extra one, for builds that the usual one lacks), which needs
    `online`. Raises `SetupError` with a
    sentence; after a cancel, too.
    """
    pins_file = requirements or requirements_file()
    pins = read_pins(pins_file)
    if wheels is not None:
        check_wheels(wheels)
    elif not online:
        raise SetupError(
            "The runtime cannot be downloaded: online access is off.",
            "Allow it in Blender's preferences (System, Network), or use a folder of wheels.",
        )
    _check_space(folder, wheels)
    source = ["--no-index", "--find-links", str(wheels)] if wheels else []
    source += ["--extra-index-url", index] if index and not wheels else []
    (folder / STAMP).unlink(missing_ok=True)
    progress("Making the environment", 0.0, None)
    _make_environment(folder, python, cancelled)
    _fill(folder, pins_file, source, progress, cancelled)
    progress("Checking", 0.95, None)
    found = check(python_in(folder)) if requirements is None else Check(python=sys.version)
    if not found.usable:
        raise SetupError(f"The runtime does not work: {found}", "Remove it and install it again.")
    stamp = {"pins": pins, "packages": found.packages, "device": found.device}
    (folder / STAMP).write_text(json.dumps(stamp, indent=1), encoding="utf-8")
    shutil.rmtree(folder / DOWNLOADS, ignore_errors=True)
    progress("Done", 1.0, 0.0)
    return found


def _check_space(folder: Path, wheels: Path | None) -> None:
    """Raise `SetupError` when the disk is too full for torch, or for the wheels given."""
    needed = 1.3 * DISK[disk_kind()]  # what is downloaded and what is installed lie side by side
    if wheels is not None:
        needed = 4 * sum(wheel.stat().st_size for wheel in wheels.glob("*.whl")) / 1e9
    place = next(parent for parent in (folder, *folder.parents) if parent.is_dir())
    free = shutil.disk_usage(place).free / 1e9
    if free < needed:
        raise SetupError(
            f"PyTorch needs about {needed:.1f} GB, and {place} has {free:.1f} GB left.",
            "Free some space, or set its folder to another disk.",
        )


def _make_environment(folder: Path, python: str | Path, cancelled: Callable[[], bool]) -> None:
    """Make the virtual environment unless it is there and its Python runs."""
    if installed := python_in(folder).exists():
        answer = carry([str(python_in(folder)), "-I", "-m", "pip", "--version"], cancelled)
        installed = answer.code == 0
    if installed:
        return
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "pyvenv.cfg").exists():
        begun = all(path.name == DOWNLOADS for path in folder.iterdir())
        if not begun:
            raise SetupError(
                f"{folder} holds other files, which installing there would delete.",
                f"Set {FOLDER_VARIABLE} to a folder of its own.",
            )
    answer = carry([str(python), "-I", "-m", "venv", "--clear", str(folder)], cancelled)
    if answer.code:
        raise SetupError(
            f"No environment could be made in {folder}: {answer.last_words}",
            "This Python may lack venv or pip (some Linux packages of Blender): "
            "choose another Python in the preferences.",
        )


def _fill(
    folder: Path,
    requirements: Path,
    source: list[str],
    progress: Progress,
    cancelled: Callable[[], bool],
) -> None:
    """Let pip install the requirements, and put its words into progress."""
    pip = [str(python_in(folder)), "-I", "-X", "utf8", "-m", "pip"]
    options = ["--disable-pip-version-check", "--no-input", "--no-color", "--progress-bar", "off"]
    options += ["--cache-dir", str(folder / DOWNLOADS), "--only-binary", ":all:"]
    command = [*pip, "install", *options, *source, "-r", str(requirements)]
    share = 0.05

    def hear(line: str) -> None:
        nonlocal share
        words = line.split()
        if words[:1] in (["Collecting"], ["Downloading"], ["Processing"], ["Using"]):
            share += (0.8 - share) * 0.06  # how many there will be is not known
            progress(pip_words.stage(line), share, None)
        elif words[:2] == ["Installing", "collected"]:
            progress("Installing", 0.82, None)

    settings = pip_settings(pip, cancelled)
    answer = carry(command, cancelled, hear, settings)
    if answer.code:
        raise SetupError(*pip_words.explain(answer.last_words, answer.words))


# What of the user's pip settings holds for the runtime, too: where packages come from, and how.
_PIP_KEPT = (
    "index-url", "extra-index-url", "find-links", "no-index", "proxy", "cert", "client-cert",
    "trusted-host", "timeout", "retries", "default-timeout", "keyring-provider",
)  # fmt: skip


def pip_settings(pip: list[str], cancelled: Callable[[], bool] = lambda: False) -> dict[str, str]:
    """Return the environment in which pip installs into the runtime's own folder.

    The user's pip may be told to install for the user, into a target, under a prefix, without
    dependencies or not at all; of its files and variables only those about the way to the index
    are kept. (Symptoms without it: "Can not perform a '--user' install", or everything elsewhere.)
    """
    base = scrubbed_environment(network=True)
    asked = base | {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    asked |= dict.fromkeys(("PIP_USER", "PIP_GLOBAL", "PIP_SITE"), "0")  # or it lists only those
    answer = carry([*pip, "config", "list"], cancelled, environment=asked)
    found: dict[str, tuple[int, str]] = {}
    for line in answer.words if answer.code == 0 else ():
        place, _, quoted = line.partition("=")
        section, _, key = place.partition(".")
        rank = {"global": 0, "install": 1, ":env:": 2}.get(section, -1)
        with contextlib.suppress(ValueError, SyntaxError):
            if rank >= found.get(key, (0, ""))[0] and key in _PIP_KEPT:
                found[key] = rank, str(ast.literal_eval(quoted))
    kept = {f"PIP_{key.upper().replace('-', '_')}": value for key, (_, value) in found.items()}
    return base | kept | {"PIP_CONFIG_FILE": os.devnull}


def check_wheels(folder: Path) -> None:
    """Raise `SetupError` unless a folder holds wheels, matching its `SHA256SUMS` if it has one."""
    if not folder.is_dir() or not any(folder.glob("*.whl")):
        raise SetupError(f"{folder} holds no wheels.", "Choose the folder with the .whl files.")
    sums = folder / "SHA256SUMS"
    if not sums.is_file():
        return
    for line in sums.read_text(encoding="utf-8").splitlines():
        expected, _, name = line.strip().partition(" ")
        wheel = folder / name.strip().lstrip("*")
        if not expected or wheel.suffix != ".whl":
            continue
        if not wheel.is_file():
            raise SetupError(f"{wheel.name} is missing from {folder}.", "Copy the folder again.")
        with wheel.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != expected.lower():
                raise SetupError(f"{wheel.name} is damaged or was changed.", "Copy it again.")


def remove(folder: Path) -> None:
    """Delete the runtime in `folder`. Raises `SetupError` when a file is in use."""
    if not folder.exists():
        return
    if not (folder / "pyvenv.cfg").is_file() and any(folder.iterdir()):
        raise SetupError(f"{folder} is no runtime; it was not removed.")
    (folder / STAMP).unlink(missing_ok=True)
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise SetupError(
            f"{error.filename or folder} could not be removed ({error.strerror}).",
            "Close other Blenders that use it, then try again.",
        ) from error
