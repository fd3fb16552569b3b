# SPDX-License-Identifier: GPL-3.0-or-later
"""Our own recorded numbers: what the network gave when it agreed with the published code.

The weights are made by a rule, so the file holds outputs only. To record them anew after a change
that is meant to change them: `python -m tests.model.test_golden`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from model.network import diffusion, sampling
from model.network.denoiser import DiffSpeaker
from model.network.encoders import whisper
from model.network.spec import WHISPER_TINY, EncoderSpec
from tests.model import plain, tiny

GOLDEN = Path(__file__).parent / "golden" / "network.npz"
SAMPLED = 1e-7  # the noise schedule is float32, as published: processors differ in its last bit
WHISPER = {**WHISPER_TINY, "width": 16, "heads": 2, "layers": 2, "bins": 16, "positions": 200}


def hashed(shape: tuple[int, ...], seed: int) -> Tensor:
    """Return numbers in -1..1 by an integer hash of their place: the same on every machine."""
    place = np.arange(int(np.prod(shape)), dtype=np.uint64) + np.uint64(seed * 1_000_003)
    mixed = place * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> np.uint64(31)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(29)
    values = (mixed >> np.uint64(11)).astype(np.float64) / 2**53 * 2 - 1
    return torch.from_numpy(values.reshape(shape))


def network(layers: int, encoder: EncoderSpec, motion: str = "vertices") -> DiffSpeaker:
    """Build a float64 network with hashed weights."""
    model = DiffSpeaker(tiny.spec(motion, layers=layers, encoder=encoder)).double().eval()
    for seed, (name, tensor) in enumerate(sorted(model.state_dict().items())):
        fan = tensor.shape[-1] if tensor.dim() > 1 else 16
        value = hashed(tuple(tensor.shape), seed) / fan**0.5
        if ("norm" in name and name.endswith("weight")) or name == "motion.scale":
            value = 1 + 0.1 * value
        tensor.copy_(value)
    return model


@torch.no_grad()
def numbers() -> dict[str, np.ndarray]:
    """Compute everything that is recorded, in float64."""
    out: dict[str, Tensor] = {}
    hubert = EncoderSpec("hubert", tiny.HUBERT)
    audio = 0.3 * hashed((1, 12_345), 99)
    for layers in (1, 2):
        model = network(layers, hubert)
        hidden = model.encode(audio, model.frames(audio.shape[1]))
        noise = hashed((1, hidden.shape[1], 30), 7)
        style = model.style({"calm": 0.25, "lively": 0.75})
        step = torch.tensor([501])
        out[f"hidden_{layers}"] = hidden[:, ::5]
        out[f"denoised_{layers}"] = model.denoise(noise, step, hidden, style)[:, ::5]
        for sampler in ("published", "corrected"):
            latents = diffusion.sample(model, hidden, style, steps=5, sampler=sampler, noise=noise)
            out[f"{sampler}_{layers}"] = latents.motion()[:, ::5]
    heard = network(1, EncoderSpec("whisper", WHISPER), "controls")
    out["whisper"] = heard.features(audio.float().double())[:, ::6]
    out["mel"] = whisper.log_mel(audio[0].float(), 16, levelled=False)[:, ::12]
    return {name: value.numpy() for name, value in out.items()}


@pytest.fixture(scope="module")
def computed() -> dict[str, np.ndarray]:
    """Compute once."""
    return numbers()


@pytest.mark.parametrize("name", sorted(np.load(GOLDEN).files) if GOLDEN.is_file() else [])
def test_the_network_gives_its_recorded_numbers(computed, name: str) -> None:
    recorded = np.load(GOLDEN)[name]
    tolerance = 1e-5 if name in {"mel", "whisper"} else 1e-9
    if name.startswith(("corrected", "published")):
        tolerance = SAMPLED
    np.testing.assert_allclose(computed[name], recorded, atol=tolerance, rtol=0)


def test_the_plain_sampler_agrees_with_the_recorded_one() -> None:
    hubert = EncoderSpec("hubert", tiny.HUBERT)
    model = network(2, hubert)
    audio = 0.3 * hashed((1, 12_345), 99)
    with torch.no_grad():
        hidden = model.encode(audio, model.frames(audio.shape[1]))
    style = model.style({"calm": 0.25, "lively": 0.75})
    moves = sampling.schedule().moves(5, "published")
    noise = hashed((1, hidden.shape[1], 30), 7)
    motion = plain.smooth(plain.sample(model, hidden, noise, style, moves))
    motion = model.restore(motion).detach().numpy()
    np.testing.assert_allclose(motion[:, ::5], np.load(GOLDEN)["published_2"], atol=SAMPLED, rtol=0)


if __name__ == "__main__":
    np.savez_compressed(GOLDEN, **{name: v.astype(np.float64) for name, v in numbers().items()})
