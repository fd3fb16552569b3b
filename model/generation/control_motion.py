# SPDX-License-Identifier: GPL-3.0-or-later
"""Fit a control model's motion to a head: named shapes that an animator knows, from its rig."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..motion import Motion
from ..progress import Watch
from ..rig.controls import BLINK, CONTROLS, gains
from .inpainting import read_keep
from .rest import parted, rest_lips, shut

if TYPE_CHECKING:
    from ..network.engines.engine import Engine
    from ..rig.head_files import Face
    from .request import GenerateRequest
    from .session import Session
    from .windows import Sampled

BLINK_BEGUN, BLINK_DONE = 0.25, 0.95  # lid closure that is a blink; how far it then goes
BLINKS_APART = 0.35  # seconds


def fit_controls(
    request: GenerateRequest,
    session: Session,
    engine: Engine,
    sampled: Sampled,
    fps: float,
    face: Face,
    tell: Callable[[float], None],
) -> Motion:
    """Return the motion of a face in its own units and axes.

    `tell` hears the share done and may raise `Cancelled`. Raises `FaceError`.
    """
    names = engine.spec.control_names
    own = complete_blinks(sampled.motion(), names, fps)
    times = np.arange(len(own)) / fps
    level = shut(times, sampled.pauses, request.rest)
    own = rest_lips(own, names, level, parted(times, sampled.pauses, request.rest))
    own = shade(own, names, request.intensity, request.expression)
    if request.keep is not None:
        own = read_keep(request.keep, names).to(len(own), fps).hook()(own)
    controls = np.zeros((len(own), len(CONTROLS)), np.float32)
    known = [index for index, name in enumerate(names) if name in CONTROLS]
    controls[:, [CONTROLS.index(names[index]) for index in known]] = own[:, known]
    rig = session.rig(face)
    tell(0.3)
    fitted = rig.fit(
        controls,
        tolerance=request.tolerance * 1e-3,
        detail=request.detail,
        watch=Watch(tell).part(0.3, 0.9),
    )
    region_names, regions = rig.regions()
    return Motion(
        weights=np.ascontiguousarray(fitted.weights, np.float32),
        shapes=np.ascontiguousarray(fitted.shapes, np.float32),
        names=tuple(fitted.names),
        fps=fps,
        template=face.vertices.astype(np.float32),
        report={
            "largest_error_mm": 1e3 * float(fitted.errors.max(initial=0.0)),
            "largest_move_mm": 1e3 * float(fitted.moves.max(initial=0.0)),
        },
        controls=controls,
        control_names=CONTROLS,
        regions=np.ascontiguousarray(regions, np.float32),
        region_names=tuple(region_names),
        formulas=fitted.formulas,
    )


def complete_blinks(
    controls: NDArray[np.float32], names: tuple[str, ...], fps: float
) -> NDArray[np.float32]:
    """Let every blink that begins in (F, C) controls go all the way, in its own rhythm.

    A model that predicts clean motion averages over when a blink may come, so its blinks are on
    time but shallow; eyelids either blink or stay open.
    """
    lids = [index for index, name in enumerate(names) if name.startswith(BLINK)]
    if not lids or len(controls) < 3:
        return controls
    lid = controls[:, lids].max(axis=1)
    gain = np.ones_like(lid)
    reach = max(1, round(BLINKS_APART * fps))
    for peak in np.flatnonzero(lid > BLINK_BEGUN):
        near = slice(max(0, peak - reach), peak + reach + 1)
        if lid[peak] < lid[near].max():
            continue
        share = np.clip(lid[near] / lid[peak], 0.0, 1.0)
        gain[near] = np.maximum(gain[near], 1 + share * (BLINK_DONE / lid[peak] - 1))
    completed = controls.copy()
    completed[:, lids] *= gain[:, None]
    return completed


def shade(
    controls: np.ndarray, names: tuple[str, ...], intensity: float, expression: float
) -> np.ndarray:
    """Scale controls (F, C) by intensity and expression, each staying within 0 and 1."""
    gain = gains(names, intensity, expression)
    return np.clip(controls * gain, 0.0, 1.0).astype(np.float32)
