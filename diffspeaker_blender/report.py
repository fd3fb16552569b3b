"""What a set-up check found, in words that a person can act on or paste into a bug report."""

from __future__ import annotations

import platform
import wave
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from .errors import LipSyncError

_RATE = 16_000  # Hz


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
    return f"All is well: one second of speech in {found.seconds:.1f} s, start included, on {device}"


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


def write_test_sound(path: Path) -> Path:
    """Write one second of a voice-like sound (mono, 16 kHz): "a–i" with a pause for breath.

    A pulse train of 120 Hz through three resonances each, after the source-filter model of speech
    (Fant 1960); formants of the two vowels from Peterson and Barney (1952).
    """
    time = np.arange(_RATE) / _RATE
    pulses = np.zeros(_RATE)
    pulses[:: _RATE // 120] = 1.0
    half = _RATE // 2
    first, second = (_vowel(pulses[:half], f) for f in ((730, 1090, 2440), (270, 2290, 3010)))
    voice = np.concatenate([first / abs(first).max(), second / abs(second).max()])
    voice *= np.clip(np.minimum(time, 1 - time) * 20, 0, 1) * (np.abs(time - 0.5) > 0.04)
    with wave.open(str(path), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(_RATE)
        sound.writeframes((voice * 20_000).astype("<i2").tobytes())
    return path


def _vowel(pulses: np.ndarray, formants: tuple[int, ...]) -> np.ndarray:
    """Return pulses (n,) heard through resonances of 80 Hz width at the formants (Hz)."""
    spectrum = np.fft.rfft(pulses)
    frequency = np.fft.rfftfreq(len(pulses), 1 / _RATE)
    for centre in formants:
        spectrum = spectrum / (1 + ((frequency - centre) / 80) ** 2 + 0.02j)
    return np.fft.irfft(spectrum, len(pulses)).real
