# SPDX-License-Identifier: GPL-3.0-or-later
"""Motion: reading, retiming, smoothing, live controls and thinning, without Blender."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffspeaker_blender.errors import MotionError
from diffspeaker_blender.motion import adjust
from diffspeaker_blender.motion import motion as motions_of
from diffspeaker_blender.motion.motion import CLOSED, Adjustments, Motion, closedness, retime
from tests.strategies import motions, scene_rates, talking


def save(motion: Motion, path: Path, **extra: object) -> Path:
    """Write a motion as the worker does."""
    np.savez(
        path,
        weights=motion.weights,
        shapes=motion.shapes,
        names=np.array(motion.names),
        fps=motion.fps,
        template=np.zeros((motion.vertices, 3), np.float32),
        report=json.dumps({"model": "test"}),
        controls=motion.controls,
        control_names=np.array(motion.control_names),
        **extra,
    )
    return path


def test_load_returns_what_was_written(tmp_path: Path) -> None:
    """A motion file comes back with names, curves and report."""
    wrote = talking(1)
    read = motions_of.load(save(wrote, tmp_path / "bewegung ü.npz"))
    assert read.names == wrote.names
    assert read.fps == 30
    assert read.report == {"model": "test"}
    np.testing.assert_array_equal(read.weights, wrote.weights)
    np.testing.assert_allclose(
        read.offsets(), np.einsum("fk,kvc->fvc", wrote.weights, wrote.shapes), atol=1e-7
    )


@pytest.mark.parametrize(
    "damage",
    [
        {"weights": np.zeros((5, 2), np.float32)},
        {"weights": np.zeros((0, 6), np.float32)},
        {"names": np.array(["same"] * 6)},
        {"fps": 0.0},
        {"controls": np.zeros((3, 6), np.float32)},
        {"weights": np.full((90, 6), np.nan, np.float32)},
    ],
)
def test_load_refuses_damage(tmp_path: Path, damage: dict[str, object]) -> None:
    """A file whose arrays disagree is refused with a sentence, not with a numpy error later."""
    whole = talking(1)
    arrays = {
        "weights": whole.weights,
        "shapes": whole.shapes,
        "names": np.array(whole.names),
        "fps": whole.fps,
        "controls": whole.controls,
        "control_names": np.array(whole.control_names),
    }
    np.savez(tmp_path / "broken.npz", **{**arrays, **damage})
    with pytest.raises(MotionError, match=r"broken.npz is damaged"):
        motions_of.load(tmp_path / "broken.npz")


def test_load_refuses_other_files(tmp_path: Path) -> None:
    """Missing, foreign, cut and pickled files end as MotionError."""
    foreign = tmp_path / "foreign.npz"
    foreign.write_bytes(b"RIFF....")
    cut = save(talking(1), tmp_path / "cut.npz")
    cut.write_bytes(cut.read_bytes()[:2000])
    np.savez(tmp_path / "pickled.npz", weights=np.array([{}], object))
    np.savez(tmp_path / "poor.npz", weights=np.zeros((2, 1)))
    for name in ("missing.npz", "foreign.npz", "cut.npz", "pickled.npz", "poor.npz"):
        with pytest.raises(MotionError, match=name):
            motions_of.load(tmp_path / name)


@given(motion=motions(closures=()), fps=scene_rates, start=st.floats(-50, 500))
@settings(max_examples=60, deadline=None)
def test_retime_stays_within_half_a_frame(motion: Motion, fps: float, start: float) -> None:
    """Every scene frame shows what the motion does at that time, or within half a frame of it."""
    moved, frames = retime(motion, fps, start_frame=start)
    seconds = (frames - start) / fps
    assert seconds[0] < 1 / fps + 1e-3
    assert seconds[-1] > (motion.frames - 1) / motion.fps - 1 / fps - 1e-3 or len(frames) == 1
    for row, second in zip(moved.weights, seconds, strict=True):
        first = int(max(np.floor((second - 0.51 / fps) * motion.fps), 0))
        last = int(np.ceil((second + 0.51 / fps) * motion.fps))
        around = motion.weights[first : last + 1]
        assert (row >= around.min(0) - 1e-5).all()
        assert (row <= around.max(0) + 1e-5).all()


@given(motion=motions(), fps=scene_rates, start=st.floats(0, 10))
@settings(max_examples=60, deadline=None)
def test_retime_loses_no_closure(motion: Motion, fps: float, start: float) -> None:
    """A closure one row long is shut in some scene frame at most half a frame away."""
    moved, frames = retime(motion, fps, start_frame=start)
    for first, last in motions_of.closed_runs(closedness(motion)):
        when = np.array([first, last]) / motion.fps * fps + start
        beside = (frames >= when[0] - 0.5) & (frames <= when[1] + 0.5)
        if beside.any():
            assert closedness(moved)[beside].max() >= CLOSED - 1e-3


@given(motion=motions(fps=30.0), start=st.integers(-5, 200))
@settings(max_examples=30, deadline=None)
def test_retime_to_same_rate_changes_nothing(motion: Motion, start: int) -> None:
    """At the motion's own rate and a whole start frame the rows come back exactly."""
    moved, frames = retime(motion, 30.0, start_frame=start)
    np.testing.assert_array_equal(moved.weights, motion.weights)
    np.testing.assert_array_equal(frames, start + np.arange(motion.frames))


@given(motion=motions(frames=90), strength=st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_smoothing_never_opens_closed_lips(motion: Motion, strength: float) -> None:
    """Rows of shut lips keep their exact pose; the rest never gets rougher."""
    shut = closedness(motion) >= CLOSED
    smoothed = adjust.smooth(motion, strength)
    np.testing.assert_array_equal(smoothed.weights[shut], motion.weights[shut])
    np.testing.assert_allclose(smoothed.offsets()[shut, 0], motion.offsets()[shut, 0], atol=1e-6)


def test_smoothing_smooths() -> None:
    """An open, jittering curve loses most of its jitter at full strength."""
    motion = talking(3)
    noise = np.random.default_rng(0).normal(0, 0.05, motion.weights.shape).astype(np.float32)
    assert motion.controls is not None
    controls = motion.controls.copy()
    controls[:, 0] = 0.8
    rough = replace(motion, weights=motion.weights + noise, controls=controls)

    def jitter(weights: np.ndarray) -> float:
        return float(np.abs(np.diff(weights, n=2, axis=0)).mean())

    assert jitter(adjust.smooth(rough, 1.0).weights) < 0.35 * jitter(rough.weights)


@given(motion=motions(), jaw=st.floats(0, 2), lips=st.floats(0, 2), whole=st.floats(0, 2))
@settings(max_examples=60, deadline=None)
def test_gains_keep_closed_lips_closed(
    motion: Motion, jaw: float, lips: float, whole: float
) -> None:
    """Whatever jaw, lips and intensity are set to, the lips (vertex 0) still meet in closures."""
    assert motion.controls is not None
    sealed = motion.controls[:, 1] == 1
    changed = adjust.adjust(motion, Adjustments(jaw=jaw, lips=lips, intensity=whole))
    opening = changed.offsets()[sealed, 0] @ motion.shapes[0, 0]  # along the jaw's way down
    assert opening.max(initial=0.0) <= 1e-8


def test_each_gain_moves_its_own_group() -> None:
    """Jaw, lips, upper, expression and intensity each touch what their tooltip says."""
    motion = talking(5)

    def factors(**gains: float) -> dict[str, float]:
        changed = adjust.adjust(motion, Adjustments(**gains))
        row = np.abs(motion.weights).argmax(0)
        pairs = zip(motion.names, row, strict=True)
        return {
            name: round(float(changed.weights[r, k] / motion.weights[r, k]), 3)
            for k, (name, r) in enumerate(pairs)
            if motion.weights[r, k]
        }

    assert factors(jaw=0.5)["jawOpen"] == 0.5
    assert factors(jaw=0.5)["mouthPucker"] == 1
    assert factors(lips=1.5) == {
        "jawOpen": 1,
        "mouthPucker": 1.5,
        "mouthSmileLeft": 1.5,
        "browInnerUp": 1,
        "eyeBlinkLeft": 1,
    }
    assert factors(expression=0)["mouthSmileLeft"] == 0
    assert factors(expression=0)["browInnerUp"] == 0
    assert factors(upper=0.5)["eyeBlinkLeft"] == 0.5
    assert factors(intensity=2)["eyeBlinkLeft"] == 1  # a blink cannot close more than fully
    assert factors(intensity=2)["jawOpen"] == 2


def test_unnamed_shapes_follow_the_regions() -> None:
    """A component that moves jaw and brow at once grows only where the control says."""
    regions = np.zeros((3, 24), np.float32)
    regions[0, :8], regions[1, 8:16], regions[2, 16:] = 1, 1, 1
    motion = replace(
        talking(6),
        names=tuple(f"speech.{k:02d}" for k in range(6)),
        controls=None,
        regions=regions,
        region_names=("jaw", "lips", "upper"),
    )
    changed = adjust.adjust(motion, Adjustments(jaw=2, upper=0.5)).offsets() / motion.offsets()
    np.testing.assert_allclose(changed[:, 1:8], 2, rtol=1e-3)
    np.testing.assert_allclose(changed[:, 8:16], 1, rtol=1e-3)
    np.testing.assert_allclose(changed[:, 16:], 0.5, rtol=1e-3)


def test_offset_moves_the_motion_in_time() -> None:
    """A tenth of a second later is three frames later at 30 fps."""
    later = adjust.adjust(talking(2), Adjustments(offset=0.1))
    assert retime(later, 30.0, start_frame=1)[1][0] == 4


def test_travel_is_the_farthest_vertex() -> None:
    """The reported millimetres are the largest distance from rest."""
    motion = talking(8)
    expected = np.linalg.norm(motion.offsets(), axis=2).max() * 1000
    assert motions_of.travel(motion) == pytest.approx(expected, rel=1e-5)


def test_lip_travel_finds_closures_of_a_vertex_model() -> None:
    """Without curves, the lips' own distance inside the region masks tells when they are shut."""
    frames, vertices = 60, 6
    gap = 0.5 - 0.5 * np.cos(np.arange(frames) / 5)
    shapes = np.zeros((1, vertices, 3), np.float32)
    shapes[0, 3:, 1] = -0.01  # the lower lip goes down
    regions = np.array([[0, 0, 0, 1, 1, 1], [1] * 6], np.float32)
    motion = Motion(
        gap[:, None].astype(np.float32),
        shapes,
        ("speech.01",),
        30.0,
        regions=regions,
        region_names=("jaw", "lips"),
    )
    closed = closedness(motion) >= CLOSED
    assert closed[[0, 31]].all()
    assert not closed[gap > 0.2].any()
