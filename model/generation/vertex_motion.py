# SPDX-License-Identifier: GPL-3.0-or-later
"""Fit a vertex model's motion to a head: same vertices, any axes and units, fewest shapes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ..errors import FaceError
from ..motion import Motion, largest_move
from ..progress import Watch
from ..rig.controls import CONTROLS
from ..rig.head_files import metres, place
from ..rig.inverse import read_controls
from .low_rank import factor

if TYPE_CHECKING:
    from ..network.engines.engine import Engine
    from ..rig.head_files import Face
    from .request import GenerateRequest
    from .session import Session
    from .windows import Sampled

OPENING_BLOCK = 256  # frames whose offsets are held at a time


def fit_vertices(
    request: GenerateRequest,
    session: Session,
    engine: Engine,
    sampled: Sampled,
    fps: float,
    face: Face | None,
    tell: Callable[[float], None],
) -> Motion:
    """Return the motion in the face's own units and axes, or on the model's template.

    `tell` hears the share done and may raise `Cancelled`. Raises `FaceError` when the face has
    other vertices than the model.
    """
    spec, own = engine.spec, engine.template
    template = None if own is None else own.astype(np.float64)
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
    motion = Motion(
        weights=weights,
        shapes=np.ascontiguousarray(shapes, np.float32),
        names=tuple(f"speech.{index + 1:02d}" for index in range(len(shapes))),
        fps=fps,
        template=head.astype(np.float32),
        report=report,
    )
    if face is None:
        return motion
    if request.controls:
        return with_controls(motion, face, session, tell)
    return with_regions(motion, face, session)


def with_controls(
    motion: Motion, face: Face, session: Session, tell: Callable[[float], None]
) -> Motion:
    """Add the controls that say what the motion does, and report what they lose of it.

    Raises `FaceError` where the face is none that the rig can read.
    """
    found = read_controls(
        session.rig(face), motion.weights, motion.shapes, Watch(tell).part(0.9, 1.0)
    )
    loss = {
        "controls_lip_error_mm": found.mean,
        "controls_lip_error_p95_mm": found.worst,
        "controls_opening_r": None if np.isnan(found.opening) else found.opening,
    }
    return replace(
        motion,
        controls=found.controls,
        control_names=CONTROLS,
        report=motion.report | loss,
    )


def with_regions(motion: Motion, face: Face, session: Session) -> Motion:
    """Add the face's regions and the lips' opening, where its mesh tells them.

    With them jaw, lips and brows can be adjusted apart afterwards, and closures be protected.
    """
    try:
        rig = session.rig(face)
    except FaceError:  # a mesh of another kind, BIWI's for one: it still moves as a whole
        return motion
    blocks = range(0, motion.frames, OPENING_BLOCK)
    opening = [rig.opening(motion.offsets(start, start + OPENING_BLOCK)) for start in blocks]
    names, regions = rig.regions()
    return replace(
        motion,
        regions=np.ascontiguousarray(regions, np.float32),
        region_names=tuple(names),
        opening=np.concatenate(opening).astype(np.float32),
    )
