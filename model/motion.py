# SPDX-License-Identifier: GPL-3.0-or-later
"""Motion in factored form: weights a frame times named shapes.

    F frames   K shapes   V vertices   C control curves   R regions

The offsets of a clip from its neutral face are `einsum("fk,kvc->fvc", weights, shapes)`, in the
units and axes of the face they belong to. Frame i is `i / fps` seconds after the clip's start.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import ConfigError, OutputError
from .files import safe_write
from .files.arrays import read_npz

Array = NDArray[np.float32]
LARGEST = 8 * 2**30  # bytes of a motion file: an hour of dense offsets is larger than any head


@dataclass(frozen=True)
class Motion:
    """One clip's face motion.

    weights (F, K)      how much of each shape, |weight| ≤ 1 for shapes found by factoring
    shapes (K, V, 3)    offsets at weight 1, in the face's own units and axes
    names (K,)          shape names; "jawOpen.half" corrects "jawOpen"
    fps                 frames a second
    template (V, 3)     the neutral face the offsets belong to
    report              what was done: model, device, seconds, errors, warnings
    controls (F, C)     the raw control curves, when the model has any, with `control_names`
    regions (R, V)      soft masks 0..1 with `region_names` ("jaw", "lips", "upper")
    opening (F,)        gap between the inner lips over the distance of the outer eye corners
    formulas (K,)       what a weight follows from, in the names of other shapes; "" where it
                        stands for itself. Empty where no shape follows others
    """

    weights: Array
    shapes: Array
    names: tuple[str, ...]
    fps: float
    template: Array
    report: dict[str, Any] = field(default_factory=dict)
    controls: Array | None = None
    control_names: tuple[str, ...] = ()
    regions: Array | None = None
    region_names: tuple[str, ...] = ()
    opening: Array | None = None
    formulas: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        frames, shapes = self.weights.shape
        vertices = len(self.template)
        assert self.shapes.shape == (shapes, vertices, 3), (self.shapes.shape, shapes, vertices)
        assert len(self.names) == shapes, (len(self.names), shapes)
        assert len(self.formulas) in (0, shapes), (len(self.formulas), shapes)
        assert self.controls is None or self.controls.shape == (frames, len(self.control_names))
        assert self.regions is None or self.regions.shape == (len(self.region_names), vertices)
        assert self.opening is None or self.opening.shape == (frames,)

    @property
    def frames(self) -> int:
        """Number of frames."""
        return len(self.weights)

    def offsets(self, start: int = 0, stop: int | None = None) -> Array:
        """Return the offsets of frames `start:stop`, (F, V, 3)."""
        weights = self.weights[start:stop]
        flat = weights @ self.shapes.reshape(len(self.shapes), -1)  # (F, 3V)
        return np.ascontiguousarray(flat.reshape(len(weights), -1, 3), np.float32)

    def with_report(self, report: dict[str, Any]) -> Motion:
        """Return the same motion with another report."""
        return replace(self, report=report)

    def save(self, path: Path, *, dense: bool = False) -> None:
        """Write an `.npz`, whole or not at all; `dense` adds the offsets of every frame.

        Raises `OutputError` when the folder is missing, read-only or full.
        """
        arrays: dict[str, Any] = {
            "weights": self.weights.astype(np.float32),
            "shapes": self.shapes.astype(np.float32),
            "names": np.array(self.names, dtype=str),
            "fps": np.float64(self.fps),
            "template": self.template.astype(np.float32),
            "report": np.array(json.dumps(self.report)),
        }
        if self.controls is not None:
            arrays["controls"] = self.controls.astype(np.float32)
            arrays["control_names"] = np.array(self.control_names, dtype=str)
        if self.regions is not None:
            arrays["regions"] = self.regions.astype(np.float32)
            arrays["region_names"] = np.array(self.region_names, dtype=str)
        if self.opening is not None:
            arrays["opening"] = self.opening.astype(np.float32)
        if any(self.formulas):
            arrays["formulas"] = np.array(self.formulas, dtype=str)
        if dense:
            arrays["offsets"] = self.offsets()
        _write_whole(Path(path), arrays)

    @classmethod
    def load(cls, path: Path) -> Motion:
        """Read what `save` wrote. Raises `ConfigError` for anything else."""
        try:
            found = read_npz(Path(path), (*cls.__dataclass_fields__,), LARGEST)
            return cls(
                weights=found["weights"],
                shapes=found["shapes"],
                names=tuple(str(name) for name in found["names"]),
                fps=float(found["fps"]),
                template=found["template"],
                report=json.loads(str(found["report"])),
                controls=found.get("controls"),
                control_names=tuple(str(name) for name in found.get("control_names", ())),
                regions=found.get("regions"),
                region_names=tuple(str(name) for name in found.get("region_names", ())),
                opening=found.get("opening"),
                formulas=tuple(str(formula) for formula in found.get("formulas", ())),
            )
        except (OSError, ValueError, KeyError, AssertionError, TypeError) as error:
            raise ConfigError(f"{Path(path).name} is no motion file: {error}") from error


def _write_whole(path: Path, arrays: dict[str, Any]) -> None:
    """Write beside the target, then rename: a reader never sees half a file."""
    try:
        with safe_write.written(path) as part, part.open("r+b") as file:
            np.savez(file, **arrays)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(
            f"The motion could not be written to {path} ({reason}).",
            hint="Free some space or choose a folder you may write to.",
        ) from error


def largest_move(weights: Array, shapes: Array) -> float:
    """Return how far any vertex strays from the template in any frame."""
    largest, flat = 0.0, shapes.reshape(len(shapes), shapes.shape[1] * 3)
    for start in range(0, len(weights), 128):
        moved = (weights[start : start + 128] @ flat).reshape(-1, 3)
        largest = max(largest, float(np.square(moved).sum(axis=1).max()))
    return float(np.sqrt(largest))


def resample(curves: Array, fps: float, target: float, frames: int, start: float = 0.0) -> Array:
    """Return curves (F, N) at `fps` from `start` seconds as (frames, N) at `target`, no overshoot.

    A monotone cubic through the samples (Fritsch & Carlson 1980, harmonic-mean slopes of Fritsch &
    Butland 1984): a value between two frames stays between their values, so lips that are shut stay
    shut. Before the first frame and beyond the last their values hold.
    """
    curves = np.asarray(curves, np.float32)
    if len(curves) == 1 or (fps == target and frames == len(curves) and not start):
        return np.ascontiguousarray(np.resize(curves, (frames, curves.shape[1])), np.float32)
    where = np.clip(np.arange(frames) * (fps / target) + start * fps, 0, len(curves) - 1)
    left = np.minimum(where.astype(int), len(curves) - 2)
    t = (where - left).astype(np.float32)[:, None]
    slope = _monotone_slopes(curves)
    y0, y1, m0, m1 = curves[left], curves[left + 1], slope[left], slope[left + 1]
    s = t * t * (3 - 2 * t)
    between: Array = (1 - s) * y0 + s * y1 + t * (1 - t) * ((1 - t) * m0 - t * m1)
    return between


def _monotone_slopes(curves: Array) -> Array:
    step = np.diff(curves, axis=0)  # (F-1, N)
    product = step[1:] * step[:-1]
    total = step[1:] + step[:-1]
    inner = np.where(product > 0, 2 * product / np.where(total == 0, 1, total), 0)
    return np.concatenate([step[:1], inner, step[-1:]]).astype(np.float32)
