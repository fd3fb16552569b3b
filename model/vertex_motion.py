"""Fit a vertex model's motion to a head: same vertices, any axes and units, fewest shapes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from .faces import metres, place
from .factor import factor
from .motion import Motion, largest_move
from .watch import Watch

if TYPE_CHECKING:
    from .faces import Face
    from .request import GenerateRequest
    from .session import Loaded
    from .windows import Sampled


def fit_vertices(
    request: GenerateRequest,
    loaded: Loaded,
    sampled: Sampled,
    fps: float,
    face: Face | None,
    tell: Callable[[float], None],
) -> Motion:
    """Return the motion in the face's own units and axes, or on the model's template.

    `tell` hears the share done and may raise `Cancelled`. Raises `FaceError` when the face has
    other vertices than the model.
    """
    spec, own = loaded.checkpoint.spec, loaded.checkpoint.template
    template = None if own is None else own.numpy().astype(np.float64)
    head = template if face is None else face.vertices
    assert head is not None
    placement = None if face is None else place(face, template, spec.name, spec.vertices)
    unit = metres(head if template is None else template)  # model units in a metre
    allowed = request.tolerance * 1e-3 * unit
    weights, shapes, error = factor(
        sampled.features, sampled.weight, sampled.bias, allowed, Watch(tell).part(0.1, 0.9)
    )
    shapes = shapes * np.float32(request.intensity)
    report = {
        "largest_error_mm": 1e3 * error * request.intensity / unit,
        "largest_move_mm": 1e3 * largest_move(weights, shapes) / unit,
    }
    if placement is not None:
        shapes = placement.carry(shapes)
        report |= {"face_scale": placement.scale, "face_residual": placement.residual}
    return Motion(
        weights=weights,
        shapes=np.ascontiguousarray(shapes, np.float32),
        names=tuple(f"speech.{index + 1:02d}" for index in range(len(shapes))),
        fps=fps,
        template=head.astype(np.float32),
        report=report,
    )
