# SPDX-License-Identifier: GPL-3.0-or-later
"""ONNX Runtime and torch are one model: same controls, same lips; and each says what it lacks."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from model import native
from model.errors import CheckpointError, DeviceError, EngineError
from model.generation import session as sessions
from model.generation.generate import GenerateRequest, generate
from model.generation.session import BUNDLED, Session
from model.network import attention, checkpoint, denoiser, tables, tensors
from model.network.encoders import mel, whisper
from model.network.engines import onnx_runtime
from model.network.engines.engine import Sampling
from model.network.engines.onnx_engine import OnnxEngine
from model.network.engines.torch_engine import TorchEngine
from model.network.spec import EncoderSpec, ModelSpec
from model.progress import UNWATCHED
from tests.model import tiny

ROOT = Path(__file__).resolve().parents[3]
VOICE = str(ROOT / "model" / "samples" / "vivian.flac")
SMALL = {"width": 32, "heads": 2, "layers": 2, "bins": 16, "positions": 60}
APART = 2e-5  # metres that a vertex may differ between the engines

needs_library = pytest.mark.skipif(
    native.library("onnxruntime") is None, reason="ONNX Runtime is not installed"
)


def described(**encoder: object) -> ModelSpec:
    """Describe a small control model that hears through Whisper's kind of encoder."""
    return tiny.spec("controls", encoder=EncoderSpec("whisper", SMALL | encoder))


def both(path: Path) -> tuple[OnnxEngine, TorchEngine]:
    """Return a model in both engines."""
    return OnnxEngine.load(path), TorchEngine.load(path, "cpu")


@needs_library
@pytest.mark.parametrize(
    "spec",
    [
        described(mix=True, energy=True, level=True),
        described(),
        described(energy=True, heads=4, layers=3),
        replace(described(mix=True), layers=2, heads=2, period=7, smoothing=True),
        replace(described(states=(1, 2), energy=True), context=2),
    ],
    ids=["mixed", "last state", "other sizes", "two layers", "middle states in context"],
)
@pytest.mark.parametrize("seconds", [0.4, 5.3])  # 5.3 s take several windows of the small encoder
def test_both_engines_hear_and_move_alike(spec, seconds, tmp_path):
    """Every kind of description, with weights at random; guidance and styles included."""
    engines = both(tiny.checkpoint(tmp_path / "a.safetensors", spec))
    random = np.random.default_rng(0)
    sound = (0.1 * random.standard_normal(int(seconds * 16000))).astype(np.float32)
    frames = int(seconds * 30)
    noise = random.standard_normal((frames, spec.channels)).astype(np.float32)
    motions = []
    for engine in engines:
        heard, silent = (engine.listen(x, frames, UNWATCHED) for x in (sound, 0 * sound))
        how = Sampling(engine.style({"calm": 1, "lively": 2}), steps=5, guidance=0.7)
        latents = engine.sample(heard, silent, how, noise=noise, watch=UNWATCHED)
        motions.append(latents.features @ latents.weight.T + latents.bias)
    np.testing.assert_allclose(motions[0], motions[1], atol=2e-5)


@needs_library
def test_the_shipped_model_moves_the_demo_head_alike_in_both_engines():
    """No vertex of the demo head differs by more than 0.02 mm, over a whole sentence."""
    request = GenerateRequest(audio=VOICE, seed=3)
    light, heavy = (
        generate(request, session=Session("cpu", engine=engine)) for engine in ("onnx", "torch")
    )
    assert (light.report["engine"], heavy.report["engine"]) == ("ONNX Runtime", "PyTorch")
    apart = np.linalg.norm(light.offsets() - heavy.offsets(), axis=2).max()
    assert apart < APART
    assert np.linalg.norm(heavy.offsets(), axis=2).max() > 5e-3


@needs_library
def test_speech_longer_than_an_encoder_window_is_heard_alike():
    """Two windows of the shipped encoder, 31 s: what is heard at each frame has the same effect."""
    light, heavy = both(BUNDLED)
    random = np.random.default_rng(1)
    sound = (0.1 * random.standard_normal(31 * 16000)).astype(np.float32)
    motions = []
    for engine in (light, heavy):
        heard = engine.listen(sound, 930, UNWATCHED)[400:930]
        how = Sampling(engine.style(0), steps=2)
        latents = engine.sample(heard, None, how, seed=0, watch=UNWATCHED)
        motions.append(latents.features @ latents.weight.T + latents.bias)
    np.testing.assert_allclose(motions[0], motions[1], atol=5e-4)


@needs_library
def test_generating_needs_no_torch():
    """A process that speaks with the bundled model imports neither torch nor safetensors."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "unwanted = 'torch safetensors onnxruntime soundfile'\n"
        "sys.modules.update(dict.fromkeys(unwanted.split()))\n"
        "from model.generation.generate import GenerateRequest, generate\n"
        "from model.generation.session import Session\n"
        "motion = generate(GenerateRequest(audio=sys.argv[2], span=(0, 1)), session=Session())\n"
        "print(motion.frames, motion.report['engine'])\n"
    )
    command = [sys.executable, "-I", "-c", code, str(ROOT), VOICE]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said == "30 ONNX Runtime\n"


def test_where_nothing_can_run_a_model_one_sentence_says_what_to_do(monkeypatch):
    """No library, no torch: the user learns what to install."""
    monkeypatch.setattr(native, "library", lambda name: None)
    monkeypatch.setattr(native, "has", lambda package: False)
    onnx_runtime.library.cache_clear()
    with pytest.raises(EngineError, match=r"engine that speaks is missing.*PyTorch"):
        Session().load("bundled")
    with pytest.raises(EngineError, match=r"tiny vertices needs PyTorch.*runtime"):
        Session().choose(tiny.spec())
    with pytest.raises(DeviceError, match=r"cuda needs PyTorch"):
        Session().load("bundled", "cuda")
    onnx_runtime.library.cache_clear()


def test_a_model_of_vertices_is_given_to_torch():
    spec = tiny.spec()
    assert Session().choose(spec) == ("torch", "cpu")


def test_a_graphics_card_is_used_by_itself_where_torch_finds_one(monkeypatch):
    """And a wish for the processor is respected."""
    monkeypatch.setattr(sessions, "_torch_has_a_card", lambda: True)
    monkeypatch.setattr(sessions, "devices", lambda: ["cuda:0", "cpu"])
    spec = tensors.read_spec(BUNDLED)
    assert Session().choose(spec) == ("torch", "cuda:0")
    if native.library("onnxruntime"):
        assert Session().choose(spec, "cpu") == ("onnx", "cpu")


def test_a_library_that_cannot_be_loaded_is_one_sentence(tmp_path):
    """What a virus scanner or a missing system library leaves."""
    broken = tmp_path / "libonnxruntime.so"
    broken.write_bytes(b"no library")
    with pytest.raises(EngineError, match="cannot be loaded here"):
        onnx_runtime.Library(broken, 1)


@needs_library
def test_the_threads_that_wait_sleep():
    """One pool for all sessions, idle between runs: no processor time passes while nothing runs."""
    import resource
    import time

    engine = OnnxEngine.load(BUNDLED)
    engine.listen(np.zeros(16000, np.float32), 30, UNWATCHED)
    before = resource.getrusage(resource.RUSAGE_SELF)
    time.sleep(0.5)
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.1


@needs_library
def test_weights_that_do_not_fit_their_description_are_refused(tmp_path):
    spec = described(mix=True)
    path = tiny.checkpoint(tmp_path / "a.safetensors", spec)
    weights = tensors.read_tensors(path)
    lacking = {name: array for name, array in weights.items() if "layers.1.qkv" not in name}
    with pytest.raises(CheckpointError, match=r"missing: .*layers\.1\.qkv"):
        OnnxEngine(spec, lacking)
    wrong = weights | {"audio_encoder.layers.1.qkv.weight": np.zeros((5, 32), np.float32)}
    with pytest.raises(CheckpointError, match="wrong size"):
        OnnxEngine(spec, wrong)


def test_model_files_are_read_as_their_own_library_reads_them(tmp_path):
    """Half, full and brain floats, whole numbers; and every cut and lie is a sentence."""
    from safetensors.torch import load_file, save_file

    mixed = {
        "half": torch.randn(3, 4).half(),
        "brain": torch.randn(5).bfloat16(),
        "full": torch.randn(2, 2, 2),
        "whole": torch.arange(6),
        "one": torch.tensor(2.5),
    }
    path = tmp_path / "a.safetensors"
    save_file(mixed, path, metadata={"spec": described().to_json()})
    read = tensors.read_tensors(path)
    for name, tensor in load_file(path).items():
        np.testing.assert_array_equal(read[name], tensor.float().numpy())
    assert tensors.read_spec(path) == described()
    content = path.read_bytes()
    size = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + size])
    for damage in (
        {"half": header["half"] | {"data_offsets": [0, 10]}},
        {"half": header["half"] | {"data_offsets": [-24, 0]}},
        {"half": header["half"] | {"dtype": "F9"}},
        {"half": header["half"] | {"shape": ["x"]}},
    ):
        changed = json.dumps(header | damage).encode()
        path.write_bytes(struct.pack("<Q", len(changed)) + changed + content[8 + size :])
        with pytest.raises(CheckpointError):
            tensors.read_tensors(path)
    for cut in (0, 4, 20, size, len(content) - 1):
        path.write_bytes(content[:cut])
        with pytest.raises(CheckpointError, match="not a complete"):
            tensors.read_spec(path)


def test_the_tables_are_those_that_training_uses():
    """Positions, bias, steps, mels: numpy's form and torch's are one function each."""
    np.testing.assert_allclose(
        tables.positions(32, 7, 40), denoiser.periodic_positions(32, 7, 40).numpy(), atol=1e-6
    )
    np.testing.assert_array_equal(tables.bias(6, 40, 7)[0], attention.self_bias(6, 40, 7).numpy())
    steps = [1, 500, 999]
    np.testing.assert_allclose(
        tables.step_sinusoid(steps, 386),
        denoiser.step_sinusoid(torch.tensor(steps), 386),
        atol=1e-4,
    )
    sound = np.random.default_rng(0).standard_normal(12345).astype(np.float32)
    for levelled in (True, False):
        theirs = whisper.log_mel(torch.from_numpy(sound), 80, levelled).numpy()
        np.testing.assert_allclose(mel.log_mel(sound, 80, levelled), theirs, atol=2e-5)
    np.testing.assert_allclose(mel.sinusoids(50, 32), whisper.sinusoids(50, 32), atol=1e-6)


@needs_library
def test_an_engine_of_a_built_network_is_the_same_network(tmp_path):
    """`TorchEngine` around a network in memory equals the one that was read from its file."""
    path = tiny.checkpoint(tmp_path / "a.safetensors", described())
    one = TorchEngine(checkpoint.build(checkpoint.load(path)))
    other = TorchEngine.load(path, "cpu")
    sound = np.random.default_rng(0).standard_normal(8000).astype(np.float32)
    np.testing.assert_array_equal(
        one.listen(sound, 15, UNWATCHED), other.listen(sound, 15, UNWATCHED)
    )


def test_where_the_engine_cannot_be_loaded_torch_takes_over(monkeypatch):
    """A library that fails is no reason to be silent where PyTorch is installed."""
    monkeypatch.setattr(native, "library", lambda name: None)
    onnx_runtime.library.cache_clear()
    assert Session().choose(tensors.read_spec(BUNDLED)) == ("torch", "cpu")
    onnx_runtime.library.cache_clear()
