"""What a set-up check found, in words that a person can act on or paste into a bug report."""

from __future__ import annotations

import platform
from dataclasses import dataclass, field
from typing import Any

import bpy
import numpy as np

from ..errors import LipSyncError


@dataclass
class Findings:
    """What the worker answered: its description, the report of the spoken second, times (s)."""

    began: float
    description: dict[str, Any] = field(default_factory=dict)
    speech: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    error: LipSyncError | None = None


def verdict(found: Findings) -> str:
    """Return the outcome in one sentence."""
    if found.error is not None:
        return f"The check failed: {found.error}"
    device = found.description.get("device_name") or found.description.get("device", "CPU")
    return f"All is well: a second of speech in {found.seconds:.1f} s, start included, on {device}"


def of_findings(found: Findings) -> str:
    """Return the whole report, one fact a line."""
    told = found.description
    packages = ", ".join(f"{name} {number}" for name, number in told.get("packages", {}).items())
    lines = [verdict(found)]
    if told:
        lines += [
            f"Runtime: Python {told.get('python', '?')}, {packages}",
            f"Device: {told.get('device', '?')} ({told.get('device_name', '?')}); "
            f"there is {', '.join(map(str, told.get('devices', ())))}",
        ]
    lines += [
        f"Model: {model.get('name', model.get('file', '?'))}, {model.get('licence', '')}"
        for model in told.get("models", ())
    ]
    return "\n".join(lines)


def of_trouble(error: LipSyncError) -> str:
    """Return the report of a check that could not start."""
    return f"The check could not start: {error}"


def of_blender() -> str:
    """Return what is to be known about this side of the wire."""
    build = bpy.app.build_hash.decode("ascii", "replace")
    return (
        f"Blender {bpy.app.version_string} ({build}), {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}, numpy {np.__version__}"
    )
