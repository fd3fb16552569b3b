# SPDX-License-Identifier: GPL-3.0-or-later
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
    engine = found.speech.get("engine", "the model")
    device = found.speech.get("device_name") or found.description.get("device_name", "CPU")
    seconds = found.speech.get("seconds", {}).get("total", 0.0)
    return (
        f"All is well: {engine} on {device} took {seconds:.1f} s for a second of speech, "
        f"{found.seconds:.1f} s with its start"
    )


def of_findings(found: Findings) -> str:
    """Return the whole report, one fact a line."""
    told = found.description
    packages = ", ".join(f"{name} {number}" for name, number in told.get("packages", {}).items())
    lines = [verdict(found)]
    if told:
        lines += [
            f"Engine: {told.get('engine', '?')}, on {told.get('device_name', '?')}",
            f"Python: {told.get('python', '?')} with {packages}",
            f"Devices: {', '.join(map(str, told.get('devices', ())))}",
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
