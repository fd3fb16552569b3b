# SPDX-License-Identifier: GPL-3.0-or-later
"""Say which device, models and versions this installation has."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..errors import ModelError

if TYPE_CHECKING:
    from ..generation.session import Session

PACKAGES = ("numpy", "torch", "safetensors")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `describe` takes."""
    parser.add_argument("models", nargs="*", help="model files to describe beside the bundled one")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 or mps")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Print the description."""
    from ..generation.session import Session

    report = describe(Session(arguments.device), arguments.models)
    if arguments.json:
        print(json.dumps(report, indent=1))
        return 0
    print(f"DiffSpeaker {report['version']}, Python {report['python']} on {report['system']}")
    print(f"Engine: {report['engine']} on {report['device_name']}; has {report['devices']}")
    print(", ".join(f"{name} {number}" for name, number in report["packages"].items()))
    for model in report["models"]:
        facts = model.get("error") or f"{model['name']}: {model['motion']}, {model['licence']}"
        print(f"  {model['file']}: {facts}")
    return 0


def describe(session: Session, models: list[str] | None = None) -> dict[str, Any]:
    """Return device, versions and models as plain values."""
    from ..generation.session import BUNDLED, device_name, devices

    try:
        engine = session.load("bundled")
        about, device, trouble = engine.about, engine.device, ""
    except ModelError as error:  # the others can still be used
        about, device, trouble = "none", "cpu", str(error)
    return {
        "version": __version__,
        "python": platform.python_version(),
        "executable": sys.executable,
        "system": f"{platform.system()} {platform.machine()}",
        "engine": about,
        "trouble": trouble,
        "device": device,
        "device_name": device_name(device),
        "devices": devices(),
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
        "models": [describe_model(path) for path in (BUNDLED, *map(Path, models or []))],
    }


def describe_model(path: Path) -> dict[str, Any]:
    """Return what a model file says of itself, or the sentence that says why it cannot."""
    from ..network.tensors import read_spec

    facts: dict[str, Any] = {"file": path.name, "path": str(path)}
    try:
        spec = read_spec(path)
    except ModelError as error:
        return facts | {"error": str(error)}
    except Exception as error:  # one bad file must never take the others away
        return facts | {"error": f"{path.name} cannot be read ({type(error).__name__})."}
    return facts | {
        "name": spec.name,
        "motion": spec.motion,
        "vertices": spec.vertices,
        "styles": list(spec.styles),
        "fps": spec.fps,
        "steps": spec.steps,
        "licence": spec.licence,
        "notes": spec.notes,
        "bytes": path.stat().st_size,
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
