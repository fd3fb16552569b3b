# SPDX-License-Identifier: GPL-3.0-or-later
"""What is done to controls between the sampler and the rig."""

from types import SimpleNamespace

import numpy as np
import pytest

from model.generation.control_motion import BLINK_DONE, complete_blinks, shade
from model.generation.windows import LIVELY, join, lively_noise
from model.network.engines.engine import Latents
from model.rig.controls import CONTROLS

LEFT, RIGHT = CONTROLS.index("eyeBlinkLeft"), CONTROLS.index("eyeBlinkRight")
JAW, CLOSE = CONTROLS.index("jawOpen"), CONTROLS.index("mouthClose")


def blink(height: float, frames: int = 60, at: int = 30) -> np.ndarray:
    """Return controls (F, C) with one blink of some height and an open jaw."""
    controls = np.zeros((frames, len(CONTROLS)), np.float32)
    pulse = height * np.exp(-0.5 * ((np.arange(frames) - at) / 2.0) ** 2)
    controls[:, LEFT] = controls[:, RIGHT] = pulse
    controls[:, JAW] = 0.3
    return controls


@pytest.mark.parametrize("height", [0.3, 0.6, 0.9])
def test_a_blink_that_begins_is_completed(height):
    """The lids close, at the same frame, and the rest of the face is left alone."""
    before = blink(height)
    after = complete_blinks(before, CONTROLS, 30.0)
    assert after[:, LEFT].argmax() == 30
    assert after[30, LEFT] == pytest.approx(BLINK_DONE, abs=1e-5)
    assert after[10, LEFT] == pytest.approx(before[10, LEFT], abs=1e-3)
    np.testing.assert_array_equal(np.delete(after, [LEFT, RIGHT], 1),
                                  np.delete(before, [LEFT, RIGHT], 1))  # fmt: skip


def test_a_flutter_is_no_blink():
    """What stays below the threshold is not blown up."""
    before = blink(0.15)
    np.testing.assert_array_equal(complete_blinks(before, CONTROLS, 30.0), before)


def test_expression_thins_life_but_never_half_closes_eyes():
    """At half expression brows move half, a blink still shuts; at none the eyes stay open."""
    controls = complete_blinks(blink(0.9), CONTROLS, 30.0)
    brow = CONTROLS.index("browInnerUp")
    controls[:, brow] = 0.4
    half = shade(controls, CONTROLS, 1.0, 0.5)
    assert half[30, LEFT] == pytest.approx(BLINK_DONE, abs=1e-5)
    assert half[:, brow].max() == pytest.approx(0.2)
    assert shade(controls, CONTROLS, 1.0, 0.0)[:, LEFT].max() == 0.0


def test_intensity_never_opens_what_must_close():
    """A closure keeps its strength whatever the intensity."""
    controls = blink(0.9)
    controls[:, CLOSE] = 1.0
    quiet = shade(controls, CONTROLS, 0.5, 1.0)
    assert quiet[:, CLOSE].min() == 1.0
    assert quiet[:, JAW].max() == pytest.approx(0.15)


def test_the_seed_moves_life_and_leaves_speech():
    """Joined takes speak with the first one's mouth and look with the second one's eyes."""
    draw = np.random.default_rng(0)
    weight, bias = draw.normal(size=(len(CONTROLS), 8)), draw.normal(size=len(CONTROLS))
    one, two = (Latents(draw.normal(size=(20, 8)), weight, bias) for _ in range(2))
    joined = join(one, two, CONTROLS)
    motion = joined.features @ joined.weight.T + joined.bias
    first, second = (take.features @ weight.T + bias for take in (one, two))
    np.testing.assert_allclose(motion[:, [JAW, CLOSE]], first[:, [JAW, CLOSE]], atol=1e-6)
    np.testing.assert_allclose(motion[:, [LEFT, RIGHT]], second[:, [LEFT, RIGHT]], atol=1e-6)


def test_noise_is_the_seeds_own_and_wider_where_a_face_lives():
    """Same seed, same noise; eyes start from a wider spread than lips."""
    spec = SimpleNamespace(channels=len(CONTROLS), control_names=CONTROLS)
    noise = lively_noise(spec, 4000, 1)
    assert np.array_equal(noise, lively_noise(spec, 4000, 1))
    assert not np.array_equal(noise, lively_noise(spec, 4000, 2))
    assert float(noise[:, LEFT].std() / noise[:, JAW].std()) == pytest.approx(LIVELY, rel=0.05)
