# SPDX-License-Identifier: GPL-3.0-or-later
"""What a vertex model says can be said by controls, and what that loses is known."""

from __future__ import annotations

import numpy as np
import pytest

from model.phones.coarticulation import Phone, speech_curves
from model.rig.controls import CONTROLS, INDEX
from model.rig.inverse import Read, read_controls
from model.rig.rig import Rig
from tests.model.heads import demo_head

PHONES = "SIL P IY T ER B AO T F AY V B L UW SH UW Z F R AH M AY M AH DH ER SIL".split()


@pytest.fixture(scope="module")
def spoken() -> tuple[Rig, np.ndarray, Read, np.ndarray, np.ndarray]:
    """A sentence as vertices of the demo head, in the factored form that a vertex model has."""
    rig = Rig(*demo_head())
    phones = [Phone(name, 0.09 * k, 0.09 * (k + 1)) for k, name in enumerate(PHONES)]
    frames = int(phones[-1].end * 25)
    sound = np.random.default_rng(2).normal(size=int(phones[-1].end * 16000)) * 0.1
    controls = speech_curves(phones, sound, 16000.0, fps=25.0, frames=frames)
    offsets = rig.evaluate(controls).reshape(len(controls), -1)
    u, s, vt = np.linalg.svd(offsets, full_matrices=False)
    keep = int((s > 1e-4 * s[0]).sum())
    weights = (u * s)[:, :keep].astype(np.float32)
    shapes = vt[:keep].reshape(keep, -1, 3).astype(np.float32)
    return rig, controls, read_controls(rig, weights, shapes), weights, shapes


def test_the_lips_say_the_same(
    spoken: tuple[Rig, np.ndarray, Read, np.ndarray, np.ndarray],
) -> None:
    """A sentence survives the way to vertices and back, to a tenth of its motion."""
    _rig, controls, read, _weights, _shapes = spoken
    assert read.mean < 0.5
    assert read.worst < 1.6
    assert read.opening > 0.98
    jaw = np.corrcoef(controls[:, INDEX["jawOpen"]], read.controls[:, INDEX["jawOpen"]])[0, 1]
    assert jaw > 0.97


def test_lips_that_were_shut_are_shut(
    spoken: tuple[Rig, np.ndarray, Read, np.ndarray, np.ndarray],
) -> None:
    """Where the model closes the mouth, so do the controls."""
    rig, controls, read, _weights, _shapes = spoken
    before, after = rig.opening(rig.evaluate(controls)), rig.opening(rig.evaluate(read.controls))
    shut = before < 0.005
    assert shut.any()
    assert after[shut].max() < 0.02


def test_rest_is_rest(spoken: tuple[Rig, np.ndarray, Read, np.ndarray, np.ndarray]) -> None:
    """A motion that does nothing asks nothing of the face."""
    rig, _controls, _read, weights, shapes = spoken
    still = read_controls(rig, np.zeros_like(weights[:5]), shapes)
    assert np.abs(still.controls).max() < 0.02
    assert np.isnan(still.opening)
    assert still.controls.shape == (5, len(CONTROLS))
