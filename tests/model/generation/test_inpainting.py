# SPDX-License-Identifier: GPL-3.0-or-later
"""A range made anew joins what is kept without a seam; keys set by hand are met."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.errors import RequestError
from model.generation.generate import GenerateRequest, generate
from model.generation.inpainting import Keep, read_keep
from model.generation.session import Session
from model.motion import Motion

VOICE = str(Path(__file__).resolve().parents[3] / "model" / "samples" / "vivian.flac")
SPAN = (0.0, 5.0)


@pytest.fixture(scope="module")
def session() -> Session:
    return Session("cpu")


@pytest.fixture(scope="module")
def before(session: Session) -> Motion:
    return generate(GenerateRequest(audio=VOICE, span=SPAN), session=session)


def keep_file(path: Path, motion: Motion, mask: np.ndarray, controls: np.ndarray | None = None):
    np.savez(
        path,
        controls=motion.controls if controls is None else controls,
        names=np.array(motion.control_names),
        mask=mask,
        fps=motion.fps,
    )
    return str(path)


@pytest.mark.parametrize("first, last", [(40, 60), (0, 30), (100, 149), (71, 72), (20, 130)])
@pytest.mark.parametrize("louder", [1.0, 1.5])
def test_a_redone_range_has_no_seam(session, before, tmp_path, first, last, louder):
    """Also where the kept motion is one that this model would never make."""
    kept = np.clip(before.controls * louder, 0, 1)
    mask = np.ones(before.frames, bool)
    mask[first : last + 1] = False
    keep = keep_file(tmp_path / "keep.npz", before, mask, kept)
    request = GenerateRequest(
        audio=VOICE, span=SPAN, keep=keep, seed=7, style="energetic", detail=False
    )
    after = generate(request, session=session)
    assert np.array_equal(after.controls[mask], kept[mask])
    jumps = np.linalg.norm(np.diff(after.offsets(), axis=0), axis=2).max(1)
    seams = [frame for frame in (first - 1, last) if 0 <= frame < len(jumps)]
    assert jumps[seams].max() <= np.delete(jumps, seams).max()
    curves = np.abs(np.diff(after.controls, axis=0)).max(1)
    assert curves[seams].max() <= np.delete(curves, seams).max()


def test_the_range_is_really_made_anew(session, before, tmp_path):
    mask = np.ones(before.frames, bool)
    mask[40:100] = False
    keep = keep_file(tmp_path / "keep.npz", before, mask)
    request = GenerateRequest(audio=VOICE, span=SPAN, keep=keep, seed=7)
    inside = slice(50, 90)
    after = generate(request, session=session).controls[inside]
    free = generate(GenerateRequest(audio=VOICE, span=SPAN, seed=7), session=session)
    assert np.abs(after - before.controls[inside]).max() > 0.1
    far = np.abs(after - free.controls[inside]).mean()
    assert far < 0.2 * np.abs(before.controls[inside] - free.controls[inside]).mean() + 0.005


def test_keys_set_by_hand_are_met(session, before, tmp_path):
    """A few values at a few frames: met within 0.5 mm, approached and left without a jump."""
    guides = {(50, "jawOpen"): 0.75, (50, "mouthPucker"): 0.5, (90, "browInnerUp"): 0.8}
    mask = np.zeros(before.controls.shape, bool)
    wanted = before.controls.copy()
    for (frame, name), value in guides.items():
        column = before.control_names.index(name)
        mask[frame, column], wanted[frame, column] = True, value
    keep = keep_file(tmp_path / "keep.npz", before, mask, wanted)
    request = GenerateRequest(audio=VOICE, span=SPAN, keep=keep, detail=False)
    after = generate(request, session=session)
    for (frame, name), value in guides.items():
        column = after.names.index(name)
        reach = np.linalg.norm(after.shapes[column], axis=1).max()
        assert abs(after.weights[frame, column] - value) * reach < 0.5e-3
    curves = np.abs(np.diff(after.controls, axis=0))
    free = np.abs(np.diff(before.controls, axis=0)).max()
    near = [frame + step for frame in (49, 50, 89, 90) for step in (-1, 0, 1)]
    assert curves[near].max() <= free


@given(st.data())
def test_known_values_stay_and_far_ones_are_left_alone(data):
    frames, channels = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 4))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    mask = rng.random((frames, channels)) < data.draw(st.floats(0, 1))
    known = rng.random((frames, channels)).astype(np.float32)
    values = rng.random((frames, channels)).astype(np.float32)
    out = Keep(known, mask, 30.0).hook()(values)
    assert np.array_equal(out[mask], known[mask])
    assert np.array_equal(Keep(known, mask, 30.0).hook()(out)[mask], known[mask])
    error = np.abs(np.where(mask, known - values, 0)).max(0, initial=0.0)
    assert (np.abs(out - values).max(0) <= error + 1e-6).all()


@pytest.mark.parametrize(
    "change",
    [
        {"mask": np.ones(3, bool)},
        {"controls": np.ones((5, 3, 1))},
        {"fps": -1.0},
        {"controls": np.full((5, 2), np.nan)},
        {"names": np.array(["a"])},
        {"controls": np.array([None] * 5)},
    ],
)
def test_a_damaged_file_is_refused(tmp_path, change):
    arrays = {"controls": np.ones((5, 2)), "names": np.array(["a", "b"]), "mask": np.ones(5, bool)}
    np.savez(tmp_path / "keep.npz", **({"fps": 30.0} | arrays | change))
    with pytest.raises(RequestError):
        read_keep(tmp_path / "keep.npz", ("a", "b"))
    with pytest.raises(RequestError):
        read_keep(tmp_path / "none.npz", ("a", "b"))


def test_a_model_of_vertices_refuses(session, tmp_path):
    from tests.model import tiny

    path = tiny.checkpoint(tmp_path / "v.safetensors", tiny.spec())
    with pytest.raises(RequestError, match="vertices"):
        generate(
            GenerateRequest(audio=VOICE, span=(0, 1), checkpoint=str(path), keep="x.npz"),
            session=session,
        )
