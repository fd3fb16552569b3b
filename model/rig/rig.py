# SPDX-License-Identifier: GPL-3.0-or-later
"""A head mesh → named face shapes (ARKit names) that a motion can drive.

Legend: `F` frames, `C` controls, `K` shapes, `V` vertices, `T` triangles.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..products import product
from ..progress import UNWATCHED, Watch
from .controls import CONTROLS, INDEX
from .derivation import Derivation, EyeMotion, cached_derivation
from .fitting import solve_weights
from .head_frame import LIFE_EYE_DISTANCE
from .jaw import GLIDE, OPEN_ANGLE
from .mesh import rotate
from .shapes import FORMULAS, ShapeSet, build_shapes

FloatArray = NDArray[np.floating]

BLOCK = 48
"""Frames evaluated at once: enough for matrix products, few enough for the processor's cache."""

GAZE_OUT, GAZE_UP, GAZE_DOWN = np.radians(28.0), np.radians(20.0), np.radians(25.0)
"""Rotation of an eyeball at full gaze."""

CENTRAL = 0.3
"""Lip pairs nearer the midline than this, as a share of the half lip, measure the opening."""

REGIONS = ("jaw", "lips", "upper")
"""Names of the soft masks."""


@dataclass(frozen=True)
class Solution:
    """Shapes and weights whose sums replay a clip."""

    names: tuple[str, ...]
    """Controls, correctives, details (K,)."""
    shapes: FloatArray
    """Offsets at weight 1 (K, V, 3), in the mesh's units and axes."""
    weights: FloatArray
    """(F, K): controls' own 0 to 1, the others −1 to 1 (but for a few gaze correctives)."""
    formulas: tuple[str, ...]
    """What each weight follows from, "" for controls and details (K,)."""
    errors: FloatArray
    """Largest vertex error of each frame (F,), in metres of a life-size head."""
    moves: FloatArray
    """How far the vertex goes that goes farthest in each frame (F,), in the same metres."""


class Rig:
    """Move one head by controls; derived from its geometry alone.

    vertices (V, 3) in any unit and axes, triangles (T, 3).  `cache` is a folder for derived rigs
    (none: derive every time).  Raises `FaceError` with one sentence where the mesh is no such
    head.
    """

    def __init__(
        self, vertices: ArrayLike, triangles: ArrayLike, *, cache: Path | None = None
    ) -> None:
        self._take(cached_derivation(np.asarray(vertices), np.asarray(triangles), cache))

    @classmethod
    def of(cls, head: Derivation) -> Rig:
        """Return the rig of a head that has been derived."""
        rig = cls.__new__(cls)
        rig._take(head)
        return rig

    def _take(self, head: Derivation) -> None:
        self._head = head
        self._columns = [INDEX[name] for name in self._head.linear_names]

    @property
    def metres(self) -> float:
        """Metres of a life-size head that one unit of the mesh is."""
        return LIFE_EYE_DISTANCE / self._head.unit

    def evaluate(self, controls: ArrayLike) -> FloatArray:
        """Return the exact offsets (F, V, 3), in the mesh's own units and axes, of controls (F, C).

        float32; vertices that no control moves get exactly 0.
        """
        head = self._head
        weights = _checked_controls(controls)
        offsets = np.zeros((len(weights), head.vertex_count, 3), dtype=np.float32)
        for frames, moved in self.motion(weights):
            offsets[frames, head.active] = self.to_mesh(moved)
        offsets[:, head.bound] = offsets[:, head.anchor]
        return offsets

    def motion(self, weights: FloatArray) -> Iterator[tuple[slice, FloatArray]]:
        """Yield blocks of frames and the canonical offsets (f, A, 3) of the active vertices."""
        for frames in _blocks(len(weights)):
            yield frames, self._moved(weights[frames])

    def _moved(self, weights: FloatArray) -> FloatArray:
        """Canonical offsets (f, A, 3) of the active vertices for few frames of weights (f, C)."""
        return self._place(np.clip(weights, 0.0, 1.0)) - self._at_rest

    def to_mesh(self, offsets: FloatArray) -> FloatArray:
        """Turn canonical offsets (..., 3) into the mesh's units and axes."""
        turn = (self._head.axes.T * self._head.unit).astype(np.float32)
        return np.asarray(offsets @ turn)

    def named_shapes(self) -> tuple[tuple[str, ...], FloatArray]:
        """Return the names (K,) and shapes (K, V, 3): the controls' own, then correctives."""
        return self._shapes.names, self._whole(self._shapes.shapes)

    def fit(
        self,
        controls: ArrayLike,
        *,
        tolerance: float = 0.05e-3,
        detail: bool = True,
        watch: Watch = UNWATCHED,
    ) -> Solution:
        """Find the shapes and weights that replay controls (F, C).

        Primaries and correctives weigh what controls and formulas say. With `detail`, unnamed
        shapes are added until no vertex errs by more than `tolerance`, in metres of a life-size
        head. `watch` is told the share done and may raise `Cancelled`.
        """
        weights = np.clip(_checked_controls(controls), 0.0, 1.0)
        limit = tolerance / LIFE_EYE_DISTANCE if detail else np.inf
        shapes, _ = self._shapes, self._at_rest  # made here, not by several threads at once
        found = solve_weights(
            lambda frames: self._moved(weights[frames]), _blocks(len(weights)), weights, shapes,
            limit, watch,
        )  # fmt: skip
        metres, moves = found.errors * LIFE_EYE_DISTANCE, found.moves * LIFE_EYE_DISTANCE
        formulas = tuple(FORMULAS.get(name, "") for name in found.names)
        return Solution(
            found.names, self._whole(found.shapes), found.weights, formulas, metres, moves
        )

    def opening(self, offsets: ArrayLike) -> FloatArray:
        """Return the inner-lip opening (F,) of offsets (F, V, 3) over the outer-eye distance.

        The opening is the mean height between facing lip vertices near the midline, never negative,
        as measured on video.  Needs the offsets of this rig's own mesh.
        """
        head = self._head
        central = np.flatnonzero(np.abs(head.contact.along) < CENTRAL)
        upper = head.active[head.contact.upper[central]]
        lower = head.active[head.contact.lower[central]]
        motion = np.asarray(offsets, dtype=np.float64)
        gap = motion[:, upper] - motion[:, lower]
        height = gap @ head.axes[:, 1] / head.unit + head.contact.rest[central, 1]
        return np.asarray(np.maximum(height.mean(1), 0.0) / head.eye_corner_distance)

    def regions(self) -> tuple[tuple[str, ...], FloatArray]:
        """Return the soft masks ("jaw", "lips", "upper") and their values (R, V) in 0..1."""
        return REGIONS, self._head.regions

    @cached_property
    def _shapes(self) -> ShapeSet:
        """The named shapes, made when first asked for."""
        eyes = [np.concatenate([eye.ball, eye.lids]) for eye in self._head.eyes]
        rest = np.setdiff1d(np.arange(len(self._head.active)), np.concatenate(eyes))
        return build_shapes(self._exact, CONTROLS, [*eyes, rest])

    def _exact(self, weights: FloatArray) -> FloatArray:
        """Canonical offsets (F, A, 3) of the active vertices for few frames."""
        return np.concatenate([moved for _, moved in self.motion(weights)])

    def _whole(self, shapes: FloatArray) -> FloatArray:
        """Spread canonical shapes (K, 3 A) over the mesh, in its units and axes (K, V, 3)."""
        whole = np.zeros((len(shapes), self._head.vertex_count, 3), dtype=np.float32)
        whole[:, self._head.active] = self.to_mesh(shapes.reshape(len(shapes), -1, 3))
        whole[:, self._head.bound] = whole[:, self._head.anchor]
        return whole

    @cached_property
    def _at_rest(self) -> FloatArray:
        """The rest positions as the same arithmetic rounds them: no control is no motion."""
        return self._place(np.zeros((1, len(CONTROLS)), dtype=np.float32))

    def _place(self, weights: FloatArray) -> FloatArray:
        """Canonical positions (f, A, 3) of the active vertices; the order of the steps matters."""
        head = self._head
        linear = head.linear.reshape(len(head.linear), -1)
        strengths = weights[:, self._columns].copy()
        # A sealed mouth keeps its corners while the jaw drops.
        opening = head.linear_names.index("jawOpen")
        strengths[:, opening] *= 1 - 0.6 * weights[:, INDEX["mouthClose"]]
        points = self._drop_jaw(weights[:, INDEX["jawOpen"]])
        points += product(strengths, linear).reshape(points.shape)
        self._meet_lips(points, weights)
        for side, eye in zip(("Left", "Right"), head.eyes, strict=True):
            _turn_eye(points, head.positions, weights, side, eye)
        return points

    def _drop_jaw(self, opening: FloatArray) -> FloatArray:
        """Rest positions (f, A, 3) turned and slid forwards by the jaw's opening (f,)."""
        head = self._head
        carried = opening[:, None] * head.jaw
        turned = rotate(head.positions, head.hinge, _X, carried * np.float32(OPEN_ANGLE))
        turned[..., 2] += GLIDE * carried * (1 - opening[:, None] / 2)
        return turned

    def _meet_lips(self, points: FloatArray, weights: FloatArray) -> None:
        """Seal, part and tuck the lips, in place."""
        contact = self._head.contact
        strengths = {name: weights[:, INDEX[name], None] for name in _LIP_STRENGTHS}
        change = contact.solve(points[:, contact.upper], points[:, contact.lower], strengths)
        points[:, contact.follow] += contact.spread @ change


def _blocks(frames: int) -> list[slice]:
    """Return slices that cover so many frames."""
    return [slice(start, min(start + BLOCK, frames)) for start in range(0, frames, BLOCK)]


_X, _Y = np.array([1.0, 0.0, 0.0]), np.array([0.0, 1.0, 0.0])
_LIP_STRENGTHS = (
    "mouthClose", "mouthPucker", "mouthFunnel", "mouthRollLower", "mouthRollUpper", "lipTuck",
)  # fmt: skip


def _turn_eye(
    points: FloatArray, rest: FloatArray, weights: FloatArray, side: str, eye: EyeMotion
) -> None:
    """Turn one eyeball to its gaze, and its lids with blink, squint, widening and gaze.

    Changes `points` (f, A, 3) in place by what the turns do to the positions at rest (A, 3).
    """

    def strength(name: str) -> FloatArray:
        return np.asarray(weights[:, INDEX[name + side], None])

    blink, up, down = strength("eyeBlink"), strength("eyeLookUp"), strength("eyeLookDown")
    squint, wide = strength("eyeSquint"), strength("eyeWide")
    awake = 1 - blink
    # At full blink the two sum to 1.03: 3 % beyond touching hides slivers at the corners.
    upper = 0.885 * blink + awake * (0.10 * squint - 0.24 * wide - 0.16 * up + 0.38 * down)
    lower = 0.145 * blink + awake * (0.30 * squint - 0.10 * down)
    angle = upper * eye.angles[:, 0] + lower * eye.angles[:, 1]
    turned = rotate(rest[eye.lids], eye.centre, eye.axis, angle)
    points[:, eye.lids] += turned - rest[eye.lids]
    outwards = 1.0 if side == "Left" else -1.0
    yaw = outwards * np.float32(GAZE_OUT) * (strength("eyeLookOut") - strength("eyeLookIn"))
    pitch = np.float32(GAZE_DOWN) * down - np.float32(GAZE_UP) * up
    ball = rotate(rest[eye.ball], eye.centre, _X, pitch)
    points[:, eye.ball] = rotate(ball, eye.centre, _Y, yaw)


def _checked_controls(controls: ArrayLike) -> FloatArray:
    """Return controls as float32 (F, C); raises `ValueError` on any other shape."""
    weights = np.asarray(controls, dtype=np.float32)
    if weights.ndim != 2 or weights.shape[1] != len(CONTROLS):
        raise ValueError(f"controls must have shape (frames, {len(CONTROLS)}), not {weights.shape}")
    return weights
