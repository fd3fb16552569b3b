# SPDX-License-Identifier: GPL-3.0-or-later
"""Both samplers, end to end, reproduce recorded numbers; latent space equals vertex space."""

from __future__ import annotations

import pytest
import torch

from model.network import diffusion, sampling
from tests.model import parity, plain

SINGLE, DOUBLE = 1e-5, 3e-7
FIRST = float(sampling.schedule().signal[0])
# recorded name → steps, signal left at the end, guidance
RUNS = {
    "50": (50, FIRST, 0.0),
    "10": (10, FIRST, 0.0),
    "1": (1, FIRST, 0.0),
    "50_alpha1": (50, 1.0, 0.0),
    "50_cfg0.5": (50, FIRST, 0.5),
}
CASES = [
    (setting, rule, run) for setting in parity.SETTINGS for rule in ("", "fixed_") for run in RUNS
]


def test_the_noise_schedule_is_the_recorded_one() -> None:
    arrays = parity.Arrays("A_sampling.npz")
    signal = torch.from_numpy(sampling.schedule().signal)
    torch.testing.assert_close(signal, arrays["alphas_cumprod"], atol=1.2e-7, rtol=0)  # one digit
    assert sampling.schedule().timesteps(50) == arrays["ddim_timesteps"].tolist()


@pytest.mark.parametrize(("setting", "rule", "run"), CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_recorded_sampling_is_reproduced(
    setting: str, rule: str, run: str, dtype: torch.dtype
) -> None:
    """The plain sampler gives every recording; the latent one all that it offers.

    In float64 the recordings still hold a float32 schedule, which may differ in its last digit
    between library versions and processors: hence 3e-7.
    """
    model = parity.model(setting, dtype)
    arrays = parity.Arrays(f"{setting}_sampling.npz", dtype)
    suffix, tolerance = ("64", DOUBLE) if dtype == torch.float64 else ("", SINGLE)
    expected = arrays[f"{rule}ddim_out{suffix}_{run}"]
    steps, final, guidance = RUNS[run]
    sampler = "corrected" if rule else "published"
    moves = sampling.schedule().moves(steps, sampler, final=final)
    hidden, noise = arrays["ddim_hidden"], arrays["ddim_xT"]
    style = arrays.one_hot("ddim_id", len(model.spec.styles))
    silent = arrays["ddim_silent"]
    out = plain.sample(model, hidden, noise, style, moves, guidance=guidance, silent=silent)
    torch.testing.assert_close(out, expected, atol=tolerance, rtol=0)
    if (final == 1.0) == (sampler == "corrected"):
        latents = diffusion.sample(
            model, hidden, style, steps=steps, sampler=sampler, guidance=guidance,
            silent_hidden=silent, noise=noise, smoothing=False,
        )  # fmt: skip
        torch.testing.assert_close(latents.motion(), expected, atol=tolerance, rtol=0)


@pytest.mark.parametrize("setting", parity.SETTINGS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_padded_batch_gives_the_recorded_motion(setting: str, dtype: torch.dtype) -> None:
    model = parity.model(setting, dtype)
    arrays = parity.Arrays(f"{setting}_sampling.npz", dtype)
    suffix, tolerance = ("64", DOUBLE) if dtype == torch.float64 else ("", SINGLE)
    hidden, noise, valid = (arrays[f"ddim2_{key}"] for key in ("hidden", "xT", "valid"))
    style = arrays.one_hot("ddim2_id", len(model.spec.styles))
    for rule, sampler in (("", "published"), ("fixed_", "corrected")):
        moves = sampling.schedule().moves(50, sampler, final=FIRST)
        out = plain.sample(model, hidden, noise, style, moves, valid=valid)
        expected = arrays[f"{rule}ddim2_out{suffix}_50"]
        torch.testing.assert_close(out, expected, atol=tolerance, rtol=0)
    latents = diffusion.sample(
        model, hidden, style, steps=50, noise=noise, valid=valid, smoothing=False
    )
    expected = arrays[f"ddim2_out{suffix}_50"]
    torch.testing.assert_close(latents.motion(), expected, atol=tolerance, rtol=0)


@pytest.mark.parametrize("setting", parity.SETTINGS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_audio_to_vertices_gives_the_recorded_ones(setting: str, dtype: torch.dtype) -> None:
    model = parity.model(setting, dtype)
    arrays = parity.Arrays(f"{setting}_predict.npz", dtype)
    suffix, tolerance = ("64", DOUBLE) if dtype == torch.float64 else ("", SINGLE)
    noise, template = arrays["pred_xT"], arrays["pred_template"]
    style = arrays.one_hot("pred_id", len(model.spec.styles))
    assert model.frames(arrays["pred_audio"].shape[1]) == noise.shape[1]
    with torch.no_grad():
        hidden = model.condition(model.audio_encoder(arrays["pred_audio"], None), noise.shape[1])
    out = diffusion.sample(model, hidden, style, noise=noise).motion() + template
    torch.testing.assert_close(out, arrays[f"pred_out{suffix}"], atol=tolerance, rtol=0)

    moves = sampling.schedule().moves(50, "corrected", final=FIRST)
    fixed = plain.sample(model, hidden, noise, style, moves)
    fixed = (plain.smooth(fixed) if model.spec.smoothing else fixed) + template
    torch.testing.assert_close(fixed, arrays[f"fixed_pred_out{suffix}"], atol=tolerance, rtol=0)
