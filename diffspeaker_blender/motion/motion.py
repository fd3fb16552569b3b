# SPDX-License-Identifier: GPL-3.0-or-later
"""Motion: what the worker returns, read, placed on the scene's frames, and adjusted.

Legend: `F` frames, `K` shapes, `V` vertices, `C` controls, `R` regions.

The vertex offsets of a clip are `einsum("fk,kvc->fvc", weights, shapes)`, in the units and axes of
the face that was sent. Row i happens `(start + i) / fps` seconds after the clip's first sample.
A row is *closed* where the lips are shut (p, b, m, or silence); whatever is done to a motion here
leaves its closed rows closed, because an open p is what viewers notice first.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import MotionError
from ..files.arrays import read_npz
from .formulas import derived as derived_weights
from .formulas import words

Floats = NDArray[np.float32]

LARGEST = 8 * 2**30
"""Bytes of a motion file; an hour with the offsets of every frame has as much."""
CLOSED = 0.75
"""Closedness from which a row counts as shut lips."""
_NARROW = 0.05
"""Opening control (1 = jaw fully open) below which lips at rest count as shut."""


@dataclass(frozen=True)
class Adjustments:
    """The live controls over a finished motion; every default means "as generated"."""

    intensity: float = 1.0
    """Strength of everything but blinks and gaze, which never grow."""
    jaw: float = 1.0
    """Strength of the jaw; the lips' seal follows it, so closed lips stay closed."""
    lips: float = 1.0
    """Strength of lips, cheeks and tongue."""
    upper: float = 1.0
    """Strength of eyes, brows and nose."""
    expression: float = 1.0
    """Strength of what is not speech: brows, squints, smiles and frowns."""
    smoothing: float = 0.0
    """0..1; 1 averages over about a tenth of a second."""
    offset: float = 0.0
    """Seconds by which the face comes later (positive) or earlier than the sound."""


@dataclass(frozen=True)
class Motion:
    """One clip's motion, as generated or as a later step of this module left it."""

    weights: Floats
    """(F, K)."""
    shapes: Floats
    """(K, V, 3), in the face's own units and axes."""
    names: tuple[str, ...]
    """(K,) unique; a corrective is named after its control: "jawOpen.half"."""
    fps: float
    start: float = 0.0
    """Rows (at `fps`) between the clip's first sample and the first row."""
    controls: Floats | None = None
    """(F, C) raw control curves of a control model."""
    control_names: tuple[str, ...] = ()
    regions: Floats | None = None
    """(R, V) soft masks in 0..1."""
    region_names: tuple[str, ...] = ()
    opening: Floats | None = None
    """(F,) gap between the inner lips over the distance of the outer eye corners."""
    dense: Floats | None = None
    """(F, V, 3) exact offsets, when they were asked for."""
    formulas: tuple[str, ...] = ()
    """(K,) what a corrective's weight follows from, "" for shapes of their own; or empty."""
    report: dict[str, Any] = field(default_factory=dict)
    """What the worker says about the run."""

    @property
    def frames(self) -> int:
        """Return the number of rows."""
        return len(self.weights)

    @property
    def vertices(self) -> int:
        """Return the number of vertices of the mesh it moves."""
        return int(self.shapes.shape[1])

    def offsets(self, rows: slice | NDArray[Any] | None = None) -> Floats:
        """Return the vertex offsets (F', V, 3) of some or all rows."""
        chosen = slice(None) if rows is None else rows
        if self.dense is not None:
            return self.dense[chosen]
        flat = self.shapes.reshape(len(self.shapes), -1)
        return (self.weights[chosen] @ flat).reshape(-1, self.vertices, 3)


def load(path: str | Path) -> Motion:
    """Read a motion file. Raises MotionError when it is missing, damaged or inconsistent."""
    path = Path(path)
    try:
        arrays = read_npz(path, largest=LARGEST)
    except (OSError, ValueError, MemoryError) as error:
        raise MotionError(
            f"The motion file {path.name} cannot be read ({error}).", "Generate it again."
        ) from error
    missing = [name for name in ("weights", "shapes", "names", "fps") if name not in arrays]
    if missing:
        raise MotionError(
            f"The motion file {path.name} lacks {', '.join(missing)}.",
            "It comes from another version: generate it again.",
        )
    try:
        return _checked(_from_arrays(arrays), path.name)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise MotionError(
            f"The motion file {path.name} is damaged.", "Generate it again."
        ) from error


def _from_arrays(arrays: dict[str, NDArray[Any]]) -> Motion:
    """Build a motion from the arrays of the file."""

    def floats(name: str) -> Floats | None:
        found = arrays.get(name)
        return None if found is None else np.ascontiguousarray(found, np.float32)

    def texts(name: str) -> tuple[str, ...]:
        return tuple(str(word) for word in arrays.get(name, ()))

    report = json.loads(str(arrays["report"])) if "report" in arrays else {}
    return Motion(
        weights=np.ascontiguousarray(arrays["weights"], np.float32),
        shapes=np.ascontiguousarray(arrays["shapes"], np.float32),
        names=texts("names"),
        fps=float(arrays["fps"]),
        controls=floats("controls"),
        control_names=texts("control_names"),
        regions=floats("regions"),
        region_names=texts("region_names"),
        opening=floats("opening"),
        dense=floats("offsets"),
        formulas=texts("formulas"),
        report=report if isinstance(report, dict) else {},
    )


def _checked(motion: Motion, name: str) -> Motion:
    """Return `motion` if its arrays agree with one another. Raises MotionError."""
    frames, shapes = motion.weights.shape if motion.weights.ndim == 2 else (0, -1)
    problem = ""
    if motion.shapes.ndim != 3 or motion.shapes.shape[2] != 3 or len(motion.shapes) != shapes:
        problem = "its weights and shapes do not belong together"
    elif len(motion.names) != shapes or len(set(motion.names)) != shapes:
        problem = "its shape names are not one for each shape"
    elif frames == 0 or not motion.fps > 0:
        problem = "it holds no frames"
    elif not (np.isfinite(motion.weights).all() and np.isfinite(motion.shapes).all()):
        problem = "it holds numbers that are not finite"
    elif any(
        rows is not None and len(rows) != frames
        for rows in (motion.controls, motion.opening, motion.dense)
    ):
        problem = "its curves have different lengths"
    elif len(motion.formulas) not in (0, shapes) or not _formulas_hold(motion):
        problem = "its formulas are none"
    if problem:
        raise MotionError(f"The motion file {name} is damaged: {problem}.", "Generate it again.")
    return motion


def _formulas_hold(motion: Motion) -> bool:
    """Return whether every formula can be read and names shapes that have none themselves."""
    own = {n for n, formula in zip(motion.names, motion.formulas, strict=False) if not formula}
    try:
        return all(own.issuperset(words(one)) for one in motion.formulas if one)
    except ValueError:
        return False


def derived(motion: Motion) -> Motion:
    """Return the motion with every corrective weighing what its formula says."""
    if not any(motion.formulas):
        return motion
    weights = derived_weights(motion.weights, motion.names, motion.formulas)
    return replace(motion, weights=weights)


# -- closed lips ------------------------------------------------------------------------------


def closedness(motion: Motion) -> Floats:
    """Return how shut the lips are at each row (F,): 1 = sealed or at rest, 0 = clearly open.

    Taken from the first that the motion has: the control curves, the measured opening, named
    weights, or the lips' own travel inside the region masks. All zero when nothing tells.
    """
    if motion.controls is not None and "mouthClose" in motion.control_names:
        return _closed_by_controls(motion.controls, motion.control_names)
    if motion.opening is not None:
        return _closed_by_gap(motion.opening)
    if "jawOpen" in motion.names:
        weights = motion.weights.copy()
        if "mouthClose" in motion.names:  # as a shape it grows with the jaw it has to close
            column = motion.names.index("mouthClose")
            jaw = np.maximum(weights[:, motion.names.index("jawOpen")], 1e-3)
            weights[:, column] = np.clip(weights[:, column] / jaw, 0.0, 1.0)
        return _closed_by_controls(weights, motion.names)
    if motion.regions is not None and {"jaw", "lips"} <= set(motion.region_names):
        return _closed_by_gap(_lip_travel(motion))
    return np.zeros(motion.frames, np.float32)


def _closed_by_controls(curves: Floats, names: tuple[str, ...]) -> Floats:
    """Return closedness from jaw, seal and the controls that part the lips."""

    def curve(*wanted: str) -> Floats:
        columns = [names.index(name) for name in wanted if name in names]
        return curves[:, columns].max(1) if columns else np.zeros(len(curves), np.float32)

    seal = np.clip(curve("mouthClose"), 0.0, 1.0)
    parted = curve(
        "mouthLowerDownLeft",
        "mouthLowerDownRight",
        "mouthUpperUpLeft",
        "mouthUpperUpRight",
        "mouthFunnel",
    )
    gap = (np.maximum(curve("jawOpen"), 0.0) + 0.5 * np.maximum(parted, 0.0)) * (1.0 - seal)
    return np.asarray(np.clip(1.5 - gap / _NARROW, 0.0, 1.0), np.float32)


def _closed_by_gap(gap: Floats) -> Floats:
    """Return closedness from a measured gap: shut within 3 % of its usual range from its least."""
    least, most = np.percentile(gap, (1, 95))
    narrow = max(0.06 * float(most - least), 1e-9)
    return np.asarray(np.clip(1.5 - (gap - least) / narrow, 0.0, 1.0), np.float32)


def _lip_travel(motion: Motion) -> Floats:
    """Return how far the lower lip has left the upper one (F,), from the soft region masks."""
    assert motion.regions is not None
    lips = motion.regions[motion.region_names.index("lips")]
    jaw = motion.regions[motion.region_names.index("jaw")]
    lower, upper = lips * jaw, lips * (1.0 - jaw)
    share = lower / max(float(lower.sum()), 1e-9) - upper / max(float(upper.sum()), 1e-9)
    apart = motion.weights @ np.einsum("v,kvc->kc", share, motion.shapes)
    axis = np.linalg.svd(apart, full_matrices=False)[2][0]
    travel = apart @ axis
    return np.asarray(travel if travel.mean() >= 0 else -travel, np.float32)


def closed_runs(closed: Floats) -> list[tuple[int, int]]:
    """Return the first and last row of every stretch of shut lips."""
    edges = np.flatnonzero(np.diff(np.r_[0, closed >= CLOSED, 0]))
    return [(int(first), int(last) - 1) for first, last in edges.reshape(-1, 2)]


# -- the scene's frames -----------------------------------------------------------------------


def retime(
    motion: Motion, fps: float, *, start_frame: float = 0.0
) -> tuple[Motion, NDArray[np.int32]]:
    """Return the motion at the scene's whole frames, and those frames (F',).

    `fps` includes Blender's `fps_base`; `start_frame` is the scene frame, whole or not, of the
    clip's first sample. Between rows the curves follow a monotone cubic, which never overshoots;
    between two rows of shut lips a straight line, which keeps them shut. A closure that falls
    between two scene frames is moved to the nearer one, at most half a frame.
    """
    origin = start_frame + motion.start / motion.fps * fps
    ratio = fps / motion.fps  # scene frames a row
    first, last = scene_frames(motion, fps, start_frame)
    frames = np.arange(first, last + 1, dtype=np.int32)
    rows = np.clip((frames - origin) / ratio, 0, motion.frames - 1)
    closed = closedness(motion)
    shut = (closed[np.floor(rows).astype(int)] >= CLOSED) & (
        closed[np.ceil(rows).astype(int)] >= CLOSED
    )
    curves = ("weights", "controls", "opening", "dense")
    found: dict[str, Any] = {name: getattr(motion, name) for name in curves}
    parts: dict[str, Any] = {
        name: None if had is None else _between(had, rows, shut) for name, had in found.items()
    }
    moved = replace(motion, fps=fps, start=float(first - start_frame), **parts)
    for frame, row in _lost_closures(closed, rows, 0.5 / ratio):
        for name, sampled in parts.items():
            if sampled is not None:
                sampled[frame] = found[name][row]
    return moved, frames


def scene_frames(motion: Motion, fps: float, start_frame: float) -> tuple[int, int]:
    """Return the first and last whole frame of the scene on which a motion happens."""
    origin = start_frame + motion.start / motion.fps * fps
    first = int(np.ceil(origin - 1e-4))
    last = int(np.floor(origin + (motion.frames - 1) * fps / motion.fps + 1e-4))
    return first, max(first, last)


def _lost_closures(closed: Floats, rows: NDArray[np.float64], half: float) -> list[tuple[int, int]]:
    """Return (index of the nearest scene frame, row to show there) of closures it would skip.

    `rows` (F',) are the fractional rows of the scene's frames, `half` half a scene frame in rows.
    """
    lost = []
    for first, last in closed_runs(closed):
        beside = np.flatnonzero((rows >= first - half - 1e-6) & (rows <= last + half + 1e-6))
        inside = (rows[beside] >= first - 1e-6) & (rows[beside] <= last + 1e-6)
        if beside.size and not inside.any():
            row = first + int(closed[first : last + 1].argmax())
            lost.append((int(beside[np.abs(rows[beside] - row).argmin()]), row))
    return lost


def _between(curves: Floats, rows: NDArray[np.float64], shut: NDArray[Any]) -> Floats:
    """Sample curves (F, …) at fractional rows by monotone cubics (Fritsch & Carlson 1980).

    Where `shut` (F',) says so, and at whole rows, by straight lines.
    """
    below = np.floor(rows + 1e-5).astype(int)
    above = np.minimum(below + 1, len(curves) - 1)
    part = np.maximum(rows - below, 0.0).reshape(-1, *[1] * (curves.ndim - 1))
    straight = np.asarray(curves[below] * (1 - part) + curves[above] * part, np.float32)
    if len(curves) < 3 or np.abs(rows - np.round(rows)).max(initial=0.0) < 1e-5:
        return straight
    rise = np.diff(curves, axis=0)
    before, after = rise[:-1], rise[1:]
    total = before + after
    mean = 2.0 * before * after / np.where(total == 0, 1, total)  # harmonic: 0 at an extremum
    slope = np.zeros_like(curves)
    slope[1:-1] = np.where(before * after > 0, mean, 0.0)
    slope[0], slope[-1] = rise[0] * 0.5, rise[-1] * 0.5
    low = np.clip(np.floor(rows).astype(int), 0, len(curves) - 2)
    t = (rows - low).astype(np.float32).reshape(-1, *[1] * (curves.ndim - 1))
    hermite = (
        curves[low] * ((1 + 2 * t) * (1 - t) ** 2)
        + slope[low] * (t * (1 - t) ** 2)
        + curves[low + 1] * (t * t * (3 - 2 * t))
        + slope[low + 1] * (t * t * (t - 1))
    )
    keep = shut.reshape(-1, *[1] * (curves.ndim - 1))
    return np.asarray(np.where(keep, straight, hermite), np.float32)


# -- measures ---------------------------------------------------------------------------------


def travel(motion: Motion, scale: float = 1000.0) -> float:
    """Return how far the mouth (or, without regions, any vertex) gets from rest at most.

    `scale` is millimetres a unit of the mesh; the default reads the mesh as metres.
    """
    face: Any = slice(None)
    if motion.regions is not None and "lips" in motion.region_names:
        face = np.flatnonzero(motion.regions[motion.region_names.index("lips")] > 0.5)
    flat = motion.shapes[:, face].reshape(len(motion.shapes), -1)
    farthest = 0.0
    for rows in np.array_split(motion.weights, max(1, motion.frames // 256)):
        moved = (rows @ flat).reshape(len(rows), -1, 3)
        farthest = max(farthest, float(np.einsum("fvc,fvc->fv", moved, moved).max(initial=0.0)))
    return float(np.sqrt(farthest)) * scale
