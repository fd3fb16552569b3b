# SPDX-License-Identifier: GPL-3.0-or-later
"""The denoiser, its masks and embeddings reproduce the published code's recorded numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from model.network import attention, denoiser
from model.network import frames as timing
from model.network.encoders import speech_encoder
from tests.model import parity, plain

# The float64 records hold float32 tables (sinusoids, noise schedule), whose
# last bit differs among processors: 1e-12 where they were recorded, up to 2e-7 elsewhere.
SINGLE, DOUBLE = 1e-5, 3e-7


@pytest.mark.parametrize("setting", parity.SETTINGS)
@pytest.mark.parametrize("case", range(6))
def test_one_call_gives_the_recorded_motion(setting: str, case: int) -> None:
    for dtype, suffix, tolerance in (
        (torch.float32, "", SINGLE),
        (torch.float64, "64", DOUBLE),
    ):
        model = parity.model(setting, dtype)
        arrays = parity.Arrays(f"{setting}_denoiser.npz", dtype)
        name = f"step{case}_"
        with torch.no_grad():
            out = model.denoise(
                arrays[name + "x"],
                arrays[name + "t"],
                arrays[name + "hidden"],
                arrays.one_hot(name + "id", len(model.spec.styles)),
                arrays[name + "valid"],
            )
        torch.testing.assert_close(out, arrays[name + "out" + suffix], atol=tolerance, rtol=0)


@pytest.mark.parametrize("setting", parity.SETTINGS)
def test_the_plain_oracle_gives_the_recorded_motion_too(setting: str) -> None:
    model = parity.model(setting, torch.float64)
    arrays = parity.Arrays(f"{setting}_denoiser.npz", torch.float64)
    for case in range(6):
        name = f"step{case}_"
        oracle = plain.PlainDenoiser(model, arrays[name + "x"].shape[1], arrays[name + "valid"])
        style = arrays.one_hot(name + "id", len(model.spec.styles))
        with torch.no_grad():
            out = oracle(arrays[name + "x"], arrays[name + "t"], arrays[name + "hidden"], style)
        torch.testing.assert_close(out, arrays[name + "out64"], atol=DOUBLE, rtol=0)


@pytest.mark.parametrize("setting", parity.SETTINGS)
def test_the_self_attention_bias_is_the_recorded_one(setting: str) -> None:
    spec, arrays = parity.spec(setting), parity.Arrays(f"{setting}_masks.npz")
    bias = attention.self_bias(spec.heads, 95, spec.period)
    assert torch.equal(bias, arrays["mask_self"])
    assert torch.equal(plain.masks(spec.heads, 95, spec.period)[0], arrays["mask_self"])


@pytest.mark.parametrize("setting", parity.SETTINGS)
def test_cross_attention_looks_where_the_recorded_mask_is_open(setting: str) -> None:
    """Changing one frame's speech changes that frame alone; both tokens reach every frame."""
    arrays = parity.Arrays(f"{setting}_masks.npz")
    blocked = arrays["mask_cross"]
    frames = blocked.shape[0]
    layer = parity.model(setting).denoiser.transformer_decoder.layers[0].multihead_attn
    values, hidden, tokens = (
        torch.randn(1, frames, 64),
        torch.randn(1, frames, 64),
        torch.randn(1, 2, 64),
    )
    with torch.no_grad():
        before = layer(values, tokens, hidden, None)
        for key in range(frames + 2):
            memory = torch.cat((tokens, hidden), 1)
            memory[:, key] += 1
            after = layer(values, memory[:, :2], memory[:, 2:], None)
            reached = (after != before).any(-1)[0]
            assert torch.equal(reached, ~blocked[:, key])


@pytest.mark.parametrize("setting", parity.SETTINGS)
def test_padding_closes_the_recorded_keys(setting: str) -> None:
    arrays = parity.Arrays(f"{setting}_masks.npz")
    valid = arrays["mask_pad_valid"].bool()
    bias = parity.model(setting).denoiser.bias(valid.shape[1], valid)
    closed = torch.isinf(bias[:, 0, 0])
    assert torch.equal(closed, arrays["mask_self_keypad"])
    assert torch.equal(closed, arrays["mask_cross_keypad"])
    layer = parity.model(setting).denoiser.transformer_decoder.layers[0].multihead_attn
    values, tokens = torch.randn(2, 40, 64), torch.randn(2, 2, 64)
    one, other = torch.randn(2, 40, 64), torch.randn(2, 40, 64)
    with torch.no_grad():
        same = (layer(values, tokens, one, valid) == layer(values, tokens, other, valid)).all(-1)
    assert torch.equal(same, ~valid)


@pytest.mark.parametrize("setting", parity.SETTINGS)
def test_positions_and_step_embedding_are_the_recorded_ones(setting: str) -> None:
    model, arrays = parity.model(setting), parity.Arrays(f"{setting}_masks.npz")
    positions = model.denoiser.positions(95)
    torch.testing.assert_close(positions, arrays["ppe"], atol=1e-6, rtol=0)
    waves = denoiser.step_sinusoid(arrays["time_t"], 32)
    torch.testing.assert_close(waves, arrays["time_sinusoid"], atol=1e-4, rtol=0)
    with torch.no_grad():
        embedding = model.denoiser.time_embedding(arrays["time_t"])
    torch.testing.assert_close(embedding, arrays["time_embedding"], atol=SINGLE, rtol=0)
    if "time_sinusoid768" in arrays:
        waves = denoiser.step_sinusoid(arrays["time_t"], 768)
        torch.testing.assert_close(waves, arrays["time_sinusoid768"], atol=1e-4, rtol=0)


@pytest.mark.parametrize("setting", parity.SETTINGS)
@pytest.mark.parametrize("case", range(11))
def test_interpolation_gives_the_recorded_features(setting: str, case: int) -> None:
    arrays = parity.Arrays(f"{setting}_interp.npz")
    source, target = arrays[f"interp{case}_in"], arrays[f"interp{case}_out"]
    if case < 7:  # the number of frames follows from the number of features
        fps = parity.spec(setting).fps
        assert max(1, timing.published_frames(source.shape[1], fps)) == target.shape[1]
    out = speech_encoder.stretch(source, target.shape[1])
    torch.testing.assert_close(out, target, atol=SINGLE, rtol=0)


def test_frame_counts_follow_the_recorded_floating_point_rule() -> None:
    arrays = parity.Arrays("frames.npz")
    features = arrays["L"].tolist()
    for key, fps in (("T30", 30.0), ("T25", 25.0)):
        counts = [timing.published_frames(count, fps) for count in features]
        np.testing.assert_array_equal(counts, arrays[key].numpy())
    config = parity.spec("A").encoder.config
    counts = [timing.feature_count(samples, config) for samples in arrays["N"].tolist()]
    np.testing.assert_array_equal(counts, arrays["N_L"].numpy())


def test_a_style_mix_lies_between_its_styles() -> None:
    model = parity.model("A")
    names = model.spec.styles
    mix = model.style({names[1]: 3.0, names[4]: 1.0})
    expected = functional.one_hot(torch.tensor([1]), 8) * 0.75
    expected = expected + functional.one_hot(torch.tensor([4]), 8) * 0.25
    torch.testing.assert_close(mix, expected.float())
