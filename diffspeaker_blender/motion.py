"""Motion: retime, thin, smooth and adjust (skeleton: signatures are final)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Adjustments:
    """The live controls; every default means "as generated"."""

    intensity: float = 1.0
    jaw: float = 1.0
    lips: float = 1.0
    upper: float = 1.0
    expression: float = 1.0
    smoothing: float = 0.0
    """0..1; 1 averages over about a tenth of a second."""
    offset: float = 0.0
    """Seconds later (positive) or earlier (negative) than the sound."""


@dataclass(frozen=True)
class Motion:
    """weights (F, K), shapes (K, V, 3) in the face's own units, names (K,), fps."""

    weights: np.ndarray
    shapes: np.ndarray
    names: tuple[str, ...]
    fps: float
    start: float = 0.0
    """Frames (at `fps`) between the clip's start and the first row."""


def load(path: str | Path) -> Motion:
    """Read OUT.npz. Raises MotionError."""
    raise NotImplementedError


def retime(motion: Motion, fps: float, *, start_frame: float = 0.0) -> tuple[Motion, np.ndarray]:
    """Sample the motion at whole scene frames; return it and the frames (F',) int32."""
    raise NotImplementedError


def thin(motion: Motion, tolerance: float, **options: Any) -> np.ndarray:
    """Return keep (F, K) bool: the keys that hold the motion within `tolerance` (mesh units)."""
    raise NotImplementedError


def smooth(motion: Motion, strength: float) -> Motion:
    """Average over time without ever opening a closed mouth."""
    raise NotImplementedError


def adjust(motion: Motion, adjustments: Adjustments) -> Motion:
    """Apply the live controls."""
    raise NotImplementedError


def nonnegative(motion: Motion) -> Motion:
    """Split every shape that is used below zero in two, so that no weight is negative."""
    raise NotImplementedError


def travel(motion: Motion, scale: float = 1000.0) -> float:
    """Return how far the mouth's most mobile vertex moves from rest at most (mm for metres)."""
    raise NotImplementedError
