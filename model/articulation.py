"""A head mesh → named face shapes (ARKit names) that a motion can drive.

Legend: `F` frames, `C` controls, `K` shapes, `V` vertices, `T` triangles.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.floating]

CONTROLS: tuple[str, ...] = tuple(
    """eyeBlinkLeft eyeBlinkRight eyeSquintLeft eyeSquintRight eyeWideLeft eyeWideRight
    eyeLookInLeft eyeLookOutLeft eyeLookUpLeft eyeLookDownLeft
    eyeLookInRight eyeLookOutRight eyeLookUpRight eyeLookDownRight
    browInnerUp browDownLeft browDownRight browOuterUpLeft browOuterUpRight
    cheekPuff cheekSquintLeft cheekSquintRight noseSneerLeft noseSneerRight
    jawOpen jawForward jawLeft jawRight mouthClose mouthFunnel mouthPucker
    mouthLeft mouthRight mouthSmileLeft mouthSmileRight mouthFrownLeft mouthFrownRight
    mouthDimpleLeft mouthDimpleRight mouthStretchLeft mouthStretchRight
    mouthRollLower mouthRollUpper mouthShrugLower mouthShrugUpper mouthPressLeft mouthPressRight
    mouthLowerDownLeft mouthLowerDownRight mouthUpperUpLeft mouthUpperUpRight
    lipTuck tongueOut tongueTip tongueBack""".split()
)
"""Every control, in the order of the columns of a control array; each runs from 0 to 1.

The names are ARKit's where ARKit has one.  As a control, `mouthClose` is a lip seal: 1 means that the
lips are shut whatever the jaw does.  (As a *shape* it is ARKit's: see `shapes.py`.)  `lipTuck` puts the
lower lip under the upper teeth (f, v); `tongueTip` and `tongueBack` raise the tongue.
"""

INDEX: dict[str, int] = {name: column for column, name in enumerate(CONTROLS)}
"""Column of each control."""


class Rig:
    """Move one head by controls; derived from its geometry alone.

    vertices (V, 3) in any unit and axes, triangles (T, 3).  `cache` is a folder for derived rigs (none:
    derive every time).  Raises `FaceError` with one sentence where the mesh is no such head.
    """

    def __init__(
        self, vertices: ArrayLike, triangles: ArrayLike, *, cache: Path | None = None
    ) -> None:
        raise NotImplementedError("being written")

    def evaluate(self, controls: ArrayLike) -> FloatArray:
        """Return the exact offsets (F, V, 3), in the mesh's own units and axes, of controls (F, C)."""
        raise NotImplementedError("being written")

    def named_shapes(self) -> tuple[tuple[str, ...], FloatArray]:
        """Return the names (K,) and shapes (K, V, 3): the controls' own, then correctives."""
        raise NotImplementedError("being written")

    def solve(
        self, controls: ArrayLike, *, tolerance: float = 0.05e-3, detail: bool = True
    ) -> tuple[tuple[str, ...], FloatArray, FloatArray]:
        """Return names (K,), shapes (K, V, 3) and weights (F, K) that replay controls (F, C).

        `tolerance` is the largest vertex error allowed, in metres of a life-size head; with
        `detail` false only named shapes are used and the error may be larger.
        """
        raise NotImplementedError("being written")

    def opening(self, offsets: ArrayLike) -> FloatArray:
        """Return the inner-lip opening (F,) of offsets (F, V, 3) over the outer-eye distance."""
        raise NotImplementedError("being written")

    def regions(self) -> tuple[tuple[str, ...], FloatArray]:
        """Return the soft masks ("jaw", "lips", "upper") and their values (R, V) in 0..1."""
        raise NotImplementedError("being written")
