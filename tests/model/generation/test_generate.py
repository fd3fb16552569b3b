# SPDX-License-Identifier: GPL-3.0-or-later
"""From a sound to a motion: any length, rate and head; cancelled, repeated, out of memory."""

from __future__ import annotations

import copy
import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from model import audio
from model.errors import Cancelled, CheckpointError, DeviceError, FaceError, RequestError
from model.generation import generate as generation
from model.generation import windows
from model.generation.control_motion import shade
from model.generation.generate import GenerateRequest, generate
from model.generation.session import Session
from model.motion import Motion
from model.network import diffusion
from model.network.engines.torch_engine import TorchEngine
from tests.model import tiny


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny models and sounds."""
    folder = tmp_path_factory.mktemp("world")
    tiny.checkpoint(folder / "vertices.safetensors", tiny.spec())
    tiny.checkpoint(folder / "corrected.safetensors", tiny.spec(sampler="corrected"))
    tiny.checkpoint(folder / "headless.safetensors", tiny.spec(), template=False)
    tiny.checkpoint(folder / "controls.safetensors", tiny.spec("controls"))
    tiny.sound(folder / "two.wav", 2.0)
    tiny.sound(folder / "minute.wav", 60.0)
    return folder


@pytest.fixture(scope="module")
def session() -> Session:
    """One warm session for all."""
    return Session("cpu")


def ask(world: Path, **changes: Any) -> GenerateRequest:
    """Return a request for the tiny vertex model and two seconds of sound."""
    values = {"audio": str(world / "two.wav"), "checkpoint": str(world / "vertices.safetensors")}
    return GenerateRequest(**(values | changes))


def test_the_factored_motion_is_the_models_own(world, session):
    """The plain path: encode, sample, project; nothing of windows, shapes or faces."""
    motion = generate(ask(world, gate=False, tolerance=1e-3), session=session)
    loaded = session.load(str(world / "vertices.safetensors"))
    assert isinstance(loaded, TorchEngine)
    sound = torch.from_numpy(audio.load(world / "two.wav").samples)[None]
    frames = loaded.model.frames(sound.shape[1])
    with torch.inference_mode():
        hidden = loaded.model.encode(sound, frames)
        plain = diffusion.sample(loaded.model, hidden[0], loaded.model.style(0)).motion()
    assert motion.frames == frames == 59  # int(99 / 50 · 30), as published
    apart = motion.offsets().reshape(frames, -1) - plain.numpy()
    assert np.abs(apart).max() < 1.5e-6


def test_frames_cover_the_clip_at_any_rate(world, session):
    for fps in (24, 25, 29.97, 30, 60, 120):
        motion = generate(ask(world, fps=fps), session=session)
        assert motion.frames == int(np.ceil(2 * fps))
        assert motion.fps == fps


@pytest.mark.parametrize("seconds", [0.001, 0.01, 0.03, 0.05, 0.1, 0.3])
@pytest.mark.parametrize("model", ["vertices", "controls"])
def test_the_shortest_clips_work(world, session, tmp_path, seconds, model):
    path = tiny.sound(tmp_path / "a.wav", seconds)
    request = ask(world, audio=str(path), checkpoint=str(world / f"{model}.safetensors"), fps=24)
    motion = generate(request, session=session)
    assert motion.frames == max(1, int(np.ceil(seconds * 24)))
    assert np.isfinite(motion.offsets()).all()


@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (44100, 2), (96000, 6)])
def test_recordings_of_any_kind_give_nearly_the_same_motion(
    world, session, tmp_path, rate, channels
):
    path = tiny.sound(tmp_path / "a.wav", 2.0, rate, channels)
    motion = generate(ask(world, audio=str(path)), session=session)
    reference = generate(ask(world), session=session)
    assert motion.frames == reference.frames
    assert np.isfinite(motion.weights).all()


def test_silence_in_any_form_gives_one_and_the_same_rest(world, session, tmp_path):
    import soundfile

    motions = []
    for name, samples in {
        "zeros": np.zeros(16000),
        "hiss": 1e-4 * np.random.default_rng(0).normal(size=16000),
        "dc": np.full(16000, 0.4),
    }.items():
        path = tmp_path / f"{name}.wav"
        soundfile.write(path, samples, 16000, subtype="FLOAT")
        motion = generate(ask(world, gate=True, audio=str(path)), session=session)
        assert motion.report["silent_share"] == 1.0
        motions.append(motion.offsets())
    assert np.allclose(motions[0], motions[1])
    assert np.allclose(motions[0], motions[2])


def test_long_speech_is_sampled_in_windows_without_a_seam(world, session, monkeypatch):
    whole = generate(ask(world, audio=str(world / "minute.wav")), session=session)
    monkeypatch.setattr(windows, "WINDOWS", (300, 300))
    pieces = generate(ask(world, audio=str(world / "minute.wav")), session=session)
    seams = pieces.report["seams"]
    assert seams["windows"] > 5
    assert seams["largest_jump_at_seams"] <= 1.2 * seams["largest_jump_elsewhere"]
    assert whole.report["seams"] == {}
    assert pieces.frames == whole.frames
    apart = np.abs(pieces.offsets() - whole.offsets()).max()
    assert apart < 0.1 * np.abs(whole.offsets()).max()


@pytest.mark.parametrize("frames", [1, 150, 151, 299, 1000, 12345])
@pytest.mark.parametrize(("size", "period"), [(150, 30), (150, 25), (600, 30)])
def test_windows_cover_every_frame_and_fade_into_each_other(frames, size, period):
    spans = windows.plan(frames, size, 60, period)
    assert spans[0][0] == 0
    assert spans[-1][1] == frames
    assert all(start % period == 0 for start, _ in spans)
    assert all(stop - start <= size + period for start, stop in spans)
    for (_, stop), (start, _) in itertools.pairwise(spans):
        assert stop - start >= 60
    ones = [np.ones((stop - start, 2), np.float32) for start, stop in spans]
    assert np.allclose(windows.blend(ones, spans), 1.0)


def test_a_seed_is_a_seed(world, session):
    request = ask(world, checkpoint=str(world / "corrected.safetensors"), seed=5)
    first, again = (generate(request, session=session) for _ in range(2))
    other = generate(replace(request, seed=6), session=session)
    assert np.array_equal(first.offsets(), again.offsets())
    assert not np.allclose(first.offsets(), other.offsets())


def test_a_style_can_be_a_name_a_number_or_a_mix(world, session):
    lively = generate(ask(world, style="lively"), session=session).offsets()
    assert np.array_equal(generate(ask(world, style=1), session=session).offsets(), lively)
    mix = generate(ask(world, style={"lively": 2.0, "calm": 0.0}), session=session).offsets()
    assert np.array_equal(mix, lively)
    assert not np.allclose(generate(ask(world), session=session).offsets(), lively)


def test_guidance_changes_the_motion(world, session):
    plain = generate(ask(world), session=session).offsets()
    assert not np.allclose(generate(ask(world, guidance=1.0), session=session).offsets(), plain)


def test_a_head_in_centimetres_with_z_up_moves_alike(world, session, tmp_path):
    points, triangles = tiny.head()
    z_up = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    path = tmp_path / "Kopf.npz"
    np.savez(path, vertices=100 * points @ z_up.T + [5, 5, 5], triangles=triangles)
    own = generate(ask(world), session=session)
    moved = generate(ask(world, face=str(path)), session=session)
    assert np.allclose(moved.offsets(), 100 * own.offsets() @ z_up.T, atol=1e-5)
    assert moved.report["face_scale"] == pytest.approx(100)
    assert np.allclose(moved.template, 100 * points @ z_up.T + 5, atol=1e-3)


def test_a_model_without_a_head_says_so(world, session, tmp_path):
    request = ask(world, checkpoint=str(world / "headless.safetensors"))
    with pytest.raises(FaceError, match="no head of its own"):
        generate(request, session=session)
    points, triangles = tiny.head()
    np.savez(tmp_path / "a.npz", vertices=points, triangles=triangles)
    motion = generate(replace(request, face=str(tmp_path / "a.npz")), session=session)
    assert motion.frames == 59


def test_a_head_of_another_size_is_refused(world, session):
    with pytest.raises(FaceError, match="has 5,023 vertices; tiny vertices moves heads of 10"):
        generate(ask(world, face="demo"), session=session)


def test_controls_become_named_shapes_on_the_demo_head(world, session, tmp_path):
    out = tmp_path / "a.npz"
    request = ask(world, checkpoint=str(world / "controls.safetensors"), output=str(out))
    motion = generate(request, session=session)
    assert "jawOpen" in motion.names
    assert motion.controls.shape == (60, len(motion.control_names))
    assert set(motion.region_names) == {"jaw", "lips", "upper"}
    assert motion.report["largest_error_mm"] <= 0.05
    assert Motion.load(out).names == motion.names


def test_expression_and_intensity_leave_closures_alone():
    names = ("jawOpen", "mouthClose", "eyeBlinkLeft", "browInnerUp")
    half = np.full((2, 4), 0.5, np.float32)
    assert shade(half, names, 1.5, 1.0)[0].tolist() == [0.75, 0.5, 0.5, 0.75]
    assert shade(half, names, 1.0, 0.0)[0].tolist() == [0.5, 0.5, 0.0, 0.0]
    assert shade(half, names, 9.0, 1.0).max() == 1.0


def test_intensity_scales_vertices(world, session):
    once = generate(ask(world), session=session)
    twice = generate(ask(world, intensity=2.0), session=session)
    assert np.allclose(twice.offsets(), 2 * once.offsets(), atol=1e-6)


@pytest.mark.parametrize("model", ["vertices", "controls"])
def test_a_cancel_is_heard_at_every_point(world, session, tmp_path, model):
    request = ask(
        world,
        checkpoint=str(world / f"{model}.safetensors"),
        output=str(tmp_path / "a.npz"),
        guidance=0.5,
    )
    asked = 0

    def count() -> bool:
        nonlocal asked
        asked += 1
        return False

    generate(request, session=session, cancelled=count)
    (tmp_path / "a.npz").unlink()
    for limit in range(0, asked, 1 if model == "vertices" else 7):
        calls = iter([False] * limit)
        with pytest.raises(Cancelled):
            generate(request, session=session, cancelled=lambda calls=calls: next(calls, True))
    assert list(tmp_path.iterdir()) == []


def test_progress_goes_up_to_one(world, session):
    told: list[float] = []
    generate(ask(world), session=session, progress=lambda stage, part, left: told.append(part))
    assert told == sorted(told)
    assert told[-1] == 1.0


def starve(monkeypatch, fails) -> None:
    """Let sampling run out of memory where `fails(device, size)` says so."""
    real = generation.sample_windows

    def sample(request, engine, samples, size, course):
        if fails(engine.device, size):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(request, engine, samples, size, course)

    monkeypatch.setattr(generation, "sample_windows", sample)


def test_lack_of_memory_leads_to_smaller_windows(world, session, monkeypatch):
    starve(monkeypatch, lambda device, size: size > 600)
    motion = generate(ask(world), session=session)
    assert "smaller windows" in motion.report["warnings"][0]


def test_lack_of_graphics_memory_leads_to_the_cpu(world, session, monkeypatch):
    real = session.load

    def load(checkpoint: str, device: str) -> Any:
        engine = copy.copy(real(checkpoint, "cpu"))
        engine.device = device
        return engine

    monkeypatch.setattr(session, "load", load)
    monkeypatch.setattr(generation, "release", lambda device: None)
    monkeypatch.setattr(generation, "device_name", str)
    starve(monkeypatch, lambda device, size: device == "mps")
    motion = generate(ask(world, device="mps"), session=session)
    assert motion.report["device"] == "cpu"
    assert "went on with the CPU" in motion.report["warnings"][-1]


def test_lack_of_memory_everywhere_is_one_sentence(world, session, monkeypatch):
    starve(monkeypatch, lambda device, size: True)
    with pytest.raises(DeviceError, match="not enough memory"):
        generate(ask(world), session=session)


def test_models_stay_warm_until_their_file_changes(world, tmp_path):
    own = Session("cpu", keep=2)
    path = tiny.checkpoint(tmp_path / "a.safetensors", tiny.spec(), seed=1)
    first = own.load(str(path))
    assert own.load(str(path)) is first
    tiny.checkpoint(path, tiny.spec(name="renewed"), seed=2)
    assert own.load(str(path)).spec.name == "renewed"
    for name in ("vertices", "corrected", "controls"):
        own.load(str(world / f"{name}.safetensors"))
    assert len(own._models) == 2


def test_weights_that_are_no_numbers_are_refused(tmp_path):
    from safetensors.torch import load_file, save_file

    path = tiny.checkpoint(tmp_path / "a.safetensors", tiny.spec())
    tensors, described = load_file(path), {"spec": tiny.spec().to_json()}
    tensors["denoiser.vertice_map.bias"][3] = float("nan")
    save_file(tensors, path, metadata=described)
    with pytest.raises(CheckpointError, match="not numbers"):
        Session("cpu").load(str(path))
    tensors["denoiser.vertice_map.bias"] = torch.zeros(7)
    save_file(tensors, path, metadata=described)
    with pytest.raises(CheckpointError, match="wrong size"):
        Session("cpu").load(str(path))


@pytest.mark.parametrize(
    "fields",
    [
        {"audio": 3},
        {"audio": ""},
        {"audio": "a", "seed": -1},
        {"audio": "a", "seed": True},
        {"audio": "a", "fps": float("inf")},
        {"audio": "a", "fps": 0.1},
        {"audio": "a", "dense": 1},
        {"audio": "a", "span": [1]},
        {"audio": "a", "span": [1, "2"]},
        {"audio": "a", "style": [1]},
        {"audio": "a", "style": {"calm": "much"}},
        {"audio": "a", "intensity": float("nan")},
        {},
    ],
)
def test_fields_of_a_request_are_checked(fields):
    with pytest.raises(RequestError):
        GenerateRequest.from_message({"type": "generate", "id": "a", **fields})
