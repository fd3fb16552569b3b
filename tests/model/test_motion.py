# SPDX-License-Identifier: GPL-3.0-or-later
"""Motion in factored form: the fewest shapes, the promised error, files that are whole."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.errors import ConfigError, OutputError
from model.generation.low_rank import factor
from model.generation.session import Session
from model.generation.vertex_motion import with_regions
from model.motion import Motion, resample
from model.rig.head_files import Face
from tests.shared import ROOT

BUNDLED_HEAD = ROOT / "model" / "weights" / "head.npz"


def low_rank(frames: int, latent: int, vertices: int, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Return features, weight and bias of a smooth motion of some millimetres."""
    rng = np.random.default_rng(seed)
    basis = rng.normal(size=(6, latent)) * (0.6 ** np.arange(6))[:, None]
    course = np.cumsum(rng.normal(size=(frames, 6)), axis=0) * 0.1
    features = course @ basis + 1e-3 * rng.normal(size=(frames, latent))
    return (
        features,
        1e-3 * rng.normal(size=(3 * vertices, latent)),
        1e-3 * rng.normal(size=3 * vertices),
    )


def largest(offsets: np.ndarray) -> float:
    """Return the largest vertex length of (F, V, 3)."""
    return float(np.sqrt(np.square(offsets).sum(axis=-1).max()))


@settings(max_examples=40, deadline=None)
@given(
    frames=st.integers(1, 60),
    latent=st.sampled_from([4, 32]),
    vertices=st.integers(1, 50),
    tolerance=st.sampled_from([1e-6, 5e-5, 1e-3, 10.0]),
    seed=st.integers(0, 5),
)
def test_the_promised_error_is_kept(frames, latent, vertices, tolerance, seed):
    features, weight, bias = low_rank(frames, latent, vertices, seed)
    weights, shapes, error = factor(features, weight, bias, tolerance)
    exact = (features @ weight.T + bias).reshape(frames, vertices, 3)
    found = largest(np.einsum("fk,kvc->fvc", weights, shapes) - exact)
    assert found <= error + 1e-6 * largest(exact)
    assert error <= tolerance
    assert np.abs(weights).max(initial=0.0) <= 1.0 + 1e-6


def test_shapes_are_few_and_nearly_the_optimum():
    features, weight, bias = low_rank(200, 64, 300)
    weights, _, _ = factor(features, weight, bias, 5e-5)
    exact = (features @ weight.T + bias).reshape(200, -1)
    u, s, vt = np.linalg.svd(exact, full_matrices=False)
    needed = next(
        rank
        for rank in range(len(s))
        if largest(((u[:, rank:] * s[rank:]) @ vt[rank:]).reshape(200, 300, 3)) <= 5e-5
    )
    assert weights.shape[1] <= needed + 4


def test_a_face_that_does_not_move_needs_no_shapes():
    weights, shapes, error = factor(np.zeros((9, 4)), np.ones((6, 4)), np.zeros(6), 1e-5)
    assert weights.shape == (9, 0)
    assert shapes.shape == (0, 2, 3)
    assert error == 0.0


def motion() -> Motion:
    """Return a small motion with everything in it."""
    rng = np.random.default_rng(0)
    return Motion(
        weights=rng.normal(size=(5, 2)).astype(np.float32),
        shapes=rng.normal(size=(2, 4, 3)).astype(np.float32),
        names=("jawOpen", "mäander"),
        fps=29.97,
        template=rng.normal(size=(4, 3)).astype(np.float32),
        report={"model": "tiny", "warnings": ["ä"]},
        controls=rng.random((5, 3)).astype(np.float32),
        control_names=("a", "b", "c"),
        regions=rng.random((2, 4)).astype(np.float32),
        region_names=("jaw", "lips"),
    )


def test_a_motion_survives_its_file(tmp_path):
    path, one = tmp_path / "Bewegung ü.npz", motion()
    one = replace(one, opening=np.linspace(0, 0.1, one.frames, dtype=np.float32))
    one.save(path, dense=True)
    other = Motion.load(path)
    for name in ("weights", "shapes", "template", "controls", "regions", "opening"):
        assert np.array_equal(getattr(one, name), getattr(other, name))
    for name in ("names", "fps", "report", "control_names", "region_names"):
        assert getattr(one, name) == getattr(other, name)
    with np.load(path) as file:
        assert np.allclose(file["offsets"], one.offsets())
    assert list(tmp_path.iterdir()) == [path]


def test_a_vertex_motion_knows_its_regions_and_openings():
    """A head the rig understands brings masks and the lips' gap; another mesh moves as a whole."""
    with np.load(BUNDLED_HEAD) as stored:
        face = Face(stored["vertices"], stored["triangles"].astype(np.int32), "head")
    shapes = np.zeros((1, len(face.vertices), 3), np.float32)
    shapes[0, :, 1] = np.where(face.vertices[:, 1] < face.vertices[:, 1].mean(), -0.02, 0.0)
    plain = Motion(np.linspace(0, 1, 300, dtype=np.float32)[:, None], shapes, ("speech.01",), 30.0,
                   face.vertices)  # fmt: skip
    known = with_regions(plain, face, Session())
    assert known.region_names == ("jaw", "lips", "upper")
    assert known.opening.shape == (300,)
    other = Face(face.vertices[:40], face.triangles[:0], "other")
    assert with_regions(plain, other, Session()) is plain


@pytest.mark.parametrize("content", [b"", b"nonsense", b"PK\x03\x04 cut"])
def test_what_is_no_motion_is_refused(tmp_path, content):
    path = tmp_path / "a.npz"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="no motion file"):
        Motion.load(path)


def test_a_motion_that_cannot_be_written_leaves_the_old_one(tmp_path):
    with pytest.raises(OutputError, match="could not be written"):
        motion().save(tmp_path / "none" / "a.npz")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux")  # noqa: PTH110
def test_a_full_disk_is_said_and_nothing_half_is_left(tmp_path, monkeypatch):
    path = tmp_path / "a.npz"
    path.write_bytes(b"old")

    def full(file, **arrays):
        with open("/dev/full", "wb", buffering=0) as device:  # noqa: PTH123
            device.write(b"x" * 4096)

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OutputError, match="No space left"):
        motion().save(path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@settings(max_examples=40, deadline=None)
@given(frames=st.integers(1, 40), fps=st.sampled_from([24.0, 25.0, 29.97, 30.0, 60.0]))
def test_resampling_never_leaves_the_range_of_the_neighbours(frames, fps):
    rng = np.random.default_rng(frames)
    curve = rng.random((frames, 3)).astype(np.float32)
    count = max(1, round(frames * fps / 30))
    result = resample(curve, 30.0, fps, count)
    assert result.shape == (count, 3)
    where = np.minimum(np.arange(count) * 30 / fps, frames - 1)
    low, high = curve[np.floor(where).astype(int)], curve[np.ceil(where).astype(int)]
    assert (result >= np.minimum(low, high) - 1e-5).all()
    assert (result <= np.maximum(low, high) + 1e-5).all()


def test_resampling_keeps_time():
    time = np.arange(90) / 30
    curve = np.sin(2 * np.pi * 1.5 * time)[:, None].astype(np.float32)
    result = resample(curve, 30.0, 60.0, 177)[:, 0]
    assert np.abs(result - np.sin(2 * np.pi * 1.5 * np.arange(177) / 60)).max() < 0.02


def test_resampling_to_the_same_rate_changes_nothing():
    curve = np.random.default_rng(0).random((20, 4)).astype(np.float32)
    assert np.array_equal(resample(curve, 30.0, 30.0, 20), curve)
    assert np.array_equal(resample(curve, 30.0, 30.0, 22)[:20], curve)
    assert np.array_equal(resample(curve, 30.0, 30.0, 22)[20:], curve[[-1, -1]])
