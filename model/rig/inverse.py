# SPDX-License-Identifier: GPL-3.0-or-later
"""Moving vertices → the controls that say the same, as nearly as a rig can.

A vertex model moves the 5,023 vertices of its own head.  Any other face is driven by controls, so
the rig of that head is asked backwards: bounded least squares on its named shapes first, then what
the sum of shapes misses (a turning jaw, a seal) is put right against the rig itself.

    F frames   K shapes of the motion   C controls   V vertices   N = 3 V
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..progress import UNWATCHED, Watch
from .controls import CONTROLS, INDEX
from .rig import Rig

Array = NDArray[np.float32]

UNHEARD = ("eyeLook", "tongue")
"""Beginnings of the names of controls that no skin shows well enough to be read off it."""

LIPS = 3.0
"""How much more the lips count than the rest of the face."""

PULL = 0.02
"""How strongly controls that hardly matter are drawn to rest."""

ROUNDS = 3
"""Corrections against the rig itself."""

BLOCK = 128
"""Frames that are evaluated at a time."""


@dataclass(frozen=True)
class Read:
    """Controls read off a motion, and what they lose of it."""

    controls: Array
    """(F, C), 0 to 1."""
    mean: float
    """Mean distance between what the lips did and what they do by the controls, mm life-size."""
    worst: float
    """The same for the frame and vertex that 19 of 20 stay below."""
    opening: float
    """Correlation of the lips' opening with the original; NaN where the mouth never moves."""


def read_controls(rig: Rig, weights: Array, shapes: Array, watch: Watch = UNWATCHED) -> Read:
    """Read controls off the motion weights (F, K) · shapes (K, V, 3) of the rig's own mesh."""
    weights = np.asarray(weights, np.float32)
    region_names, regions = rig.regions()
    lips = np.asarray(regions[region_names.index("lips")], np.float32)
    names, own = rig.named_shapes()
    used = [k for k, name in enumerate(CONTROLS) if not name.startswith(UNHEARD)]
    assert tuple(names[: len(CONTROLS)]) == CONTROLS
    importance = np.repeat(np.sqrt(1 + (LIPS - 1) * lips), 3)
    basis = own[used].reshape(len(used), -1) * importance  # (U, N)
    moved = shapes.reshape(len(shapes), -1) * importance  # (K, N)
    gram, cross = (basis @ basis.T).astype(np.float64), (moved @ basis.T).astype(np.float64)
    ridge = PULL * np.diag(gram) + 1e-9 * np.trace(gram)
    gram[np.diag_indices_from(gram)] += ridge
    jaw, seal = used.index(INDEX["jawOpen"]), used.index(INDEX["mouthClose"])
    state = _descend(weights @ cross, gram, np.zeros((len(weights), len(used))))
    for number in range(ROUNDS):
        controls = _as_controls(state, used, jaw, seal)
        load = np.empty_like(state)
        for start in range(0, len(weights), BLOCK):
            some = slice(start, start + BLOCK)
            now = rig.evaluate(controls[some]).reshape(-1, moved.shape[1]) * importance
            load[some] = weights[some] @ cross - now @ basis.T
        # The shapes say which way; where the rig already is replaces what their sum would be.
        state = _descend(load + state @ (gram - np.diag(ridge)), gram, state)
        watch((number + 1) / (ROUNDS + 1))
    controls = _as_controls(state, used, jaw, seal)
    return Read(controls, *_loss(rig, controls, weights, shapes, lips > 0.5))


def _descend(load: NDArray[np.float64], gram: NDArray[np.float64], start: NDArray[np.float64],
             sweeps: int = 60) -> NDArray[np.float64]:  # fmt: skip
    """Minimise over 0..1 by coordinates, all frames (F, U) at once."""
    state = start.copy()
    for _ in range(sweeps):
        largest = 0.0
        for k in range(len(gram)):
            new = np.clip(state[:, k] + (load[:, k] - state @ gram[k]) / gram[k, k], 0, 1)
            largest = max(largest, float(np.abs(new - state[:, k]).max(initial=0.0)))
            state[:, k] = new
        if largest < 1e-4:
            break
    return state


def _as_controls(state: NDArray[np.float64], used: list[int], jaw: int, seal: int) -> Array:
    """Spread weights of shapes (F, U) over all controls: as a shape, mouthClose is seal × jaw."""
    controls = np.zeros((len(state), len(CONTROLS)), np.float32)
    controls[:, used] = state
    shut = state[:, seal] / np.maximum(state[:, jaw], 0.04)
    controls[:, INDEX["mouthClose"]] = np.clip(shut, 0, 1)
    return controls


def _loss(
    rig: Rig, controls: Array, weights: Array, shapes: Array, lips: NDArray[np.bool_]
) -> tuple[float, float, float]:  # fmt: skip
    """Return mean and 95th percentile of the lips' error, and the opening's correlation."""
    errors, openings = [], []
    for start in range(0, len(weights), BLOCK):
        some = slice(start, start + BLOCK)
        told = np.einsum("fk,kvc->fvc", weights[some], shapes)
        done = rig.evaluate(controls[some])
        errors.append(np.linalg.norm(told[:, lips] - done[:, lips], axis=2))
        openings.append(np.stack([rig.opening(told), rig.opening(done)], axis=1))
    error, opening = np.concatenate(errors) * 1e3 * rig.metres, np.concatenate(openings)
    still = opening.std(0).min() < 1e-6
    related = float("nan") if still else float(np.corrcoef(opening.T)[0, 1])
    return float(error.mean()), float(np.percentile(error, 95)), related
