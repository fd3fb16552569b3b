# SPDX-License-Identifier: GPL-3.0-or-later
"""Sampling: the algebra of the latent space, both rules, seeds, styles, progress and cancel."""

from __future__ import annotations

import pytest
import torch

from model.errors import Cancelled, ConfigError
from model.network import attention, diffusion, latent, sampling
from model.network.denoiser import DiffSpeaker
from model.network.spec import ModelSpec, biwi, vocaset
from tests.model import plain, tiny

METRE = 1e-6  # the largest difference between vertex and latent space that is allowed


def network(spec: ModelSpec, seed: int = 0) -> DiffSpeaker:
    """Build a random network whose output has a few millimetres; its encoder is a tiny one."""
    torch.manual_seed(seed)
    model = DiffSpeaker(spec).eval()
    with torch.no_grad():
        model.denoiser.motion_decoder.weight.normal_(0, 2e-4)
        model.denoiser.motion_decoder.bias.normal_(0, 1e-3)
    return model


def small_ears(spec: ModelSpec) -> ModelSpec:
    """Keep a published description but for its encoder: what follows needs no speech."""
    return spec.with_(encoder=tiny.spec().encoder)


@pytest.mark.parametrize("published", [vocaset, biwi], ids=["vocaset", "biwi"])
def test_latent_space_equals_vertex_space_at_full_size(published) -> None:
    spec = small_ears(published())
    model, frames = network(spec), 9
    random = torch.Generator().manual_seed(1)
    hidden = torch.randn(1, frames, spec.latent, generator=random)
    noise = torch.randn(1, frames, spec.channels, generator=random)
    style = model.style(spec.styles[2])
    for sampler in ("published", "corrected"):
        moves = sampling.schedule().moves(4, sampler)
        expected = plain.sample(model, hidden, noise, style, moves)
        if spec.smoothing:
            expected = plain.smooth(expected)
        latents = diffusion.sample(model, hidden, style, steps=4, sampler=sampler, noise=noise)
        assert latents.features.shape == (1, frames, spec.latent)
        assert float((latents.motion() - expected).abs().max()) <= METRE
        assert float(expected.abs().max()) > 1e-3


def test_chunked_attention_is_the_whole_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    """Across chunk borders, with more frames than the published limit of the same rule."""
    model = network(tiny.spec(vertices=20))
    frames = 333
    hidden, noise = torch.randn(1, frames, 32), torch.randn(1, frames, 60)
    style = model.style({"calm": 0.25, "lively": 0.75})
    moves = sampling.schedule().moves(3, "published")
    expected = plain.smooth(plain.sample(model, hidden, noise, style, moves))
    for chunk in (1, 50, 256, 1000):
        monkeypatch.setattr(latent, "CHUNK", chunk)
        out = diffusion.sample(model, hidden, style, steps=3, noise=noise).motion()
        assert float((out - expected).abs().max()) < METRE


def test_the_bias_follows_its_rule_for_any_head_count() -> None:
    for heads in (1, 2, 4, 8):
        assert attention.self_bias(heads, 40, 7).equal(plain.masks(heads, 40, 7)[0])
    assert attention.head_slopes(6)[:4] == attention.head_slopes(4)


def test_guidance_equals_vertex_space() -> None:
    model = network(tiny.spec(vertices=20))
    hidden, silent, noise = torch.randn(12, 32), torch.randn(12, 32), torch.randn(12, 60)
    moves = sampling.schedule().moves(4, "corrected")
    expected = plain.sample(
        model, hidden[None], noise[None], model.style(0), moves, guidance=1.5, silent=silent[None]
    )
    out = diffusion.sample(
        model, hidden, model.style(0), steps=4, sampler="corrected", noise=noise,
        guidance=1.5, silent_hidden=silent,
    )  # fmt: skip
    assert out.features.shape == (12, 32)
    assert float((out.motion() - plain.smooth(expected)[0]).abs().max()) < METRE
    with pytest.raises(ConfigError, match="silence"):
        diffusion.sample(model, hidden, model.style(0), guidance=1.0)


def test_standardised_controls_take_the_same_path() -> None:
    spec = tiny.spec("controls")
    model = network(spec)
    with torch.no_grad():
        model.motion.mean.uniform_(-1, 1)
        model.motion.scale.uniform_(0.5, 2)
    hidden = torch.randn(1, 10, spec.latent)
    noise = torch.randn(1, 10, spec.channels)
    moves = sampling.schedule().moves(4, "published")
    expected = model.restore(plain.sample(model, hidden, noise, model.style(1), moves))
    out = diffusion.sample(model, hidden, model.style(1), steps=4, noise=noise).motion()
    torch.testing.assert_close(out, expected.detach(), atol=1e-5, rtol=0)
    again = model.restore(model.standardise(expected))
    torch.testing.assert_close(again, expected, atol=1e-5, rtol=0)


def test_latent_noise_is_distributed_as_vertex_noise() -> None:
    """W_in x for x ~ N(0, I) has covariance W_in W_inᵀ; so has the noise drawn in latent space."""
    model = network(tiny.spec(vertices=30))
    net = latent.LatentNetwork.of(model)
    assert net.noise_factor is not None
    draws = net.start(1, 40_000, 0, None)[0]
    weight = model.denoiser.vertice_map.weight.detach()
    expected = weight @ weight.mT
    sampled = draws.mT @ draws / len(draws)
    assert float((sampled - expected).abs().max()) < 0.05 * float(expected.diagonal().max())


def test_noise_survives_a_projection_of_deficient_rank() -> None:
    low = torch.randn(8, 3) @ torch.randn(3, 20)
    root = latent.square_root(low @ low.mT)
    torch.testing.assert_close(root @ root.mT, low @ low.mT, atol=1e-3, rtol=1e-4)


def test_a_seed_gives_the_same_motion_and_another_seed_another() -> None:
    model = network(tiny.spec(vertices=20, smoothing=False, sampler="corrected"))
    hidden = torch.randn(8, 32)
    one, same, other = (
        diffusion.sample(model, hidden, model.style(0), steps=2, seed=seed).motion()
        for seed in (3, 3, 4)
    )
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_a_batch_gives_what_its_clips_give_alone() -> None:
    model = network(tiny.spec(vertices=20, smoothing=False))
    hidden, noise = torch.randn(2, 30, 32), torch.randn(2, 30, 60)
    valid = torch.ones(2, 30)
    valid[1, 21:] = 0
    style = torch.cat((model.style(0), model.style(1)))
    together = diffusion.sample(model, hidden, style, steps=3, noise=noise, valid=valid).motion()
    for row, length in enumerate((30, 21)):
        alone = diffusion.sample(
            model, hidden[row, :length], style[row], steps=3, noise=noise[row, :length]
        ).motion()
        assert float((together[row, :length] - alone).abs().max()) < METRE


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_the_shortest_clips_are_sampled(frames: int) -> None:
    """One frame crashed the published code."""
    model = network(tiny.spec())
    out = diffusion.sample(model, torch.randn(frames, 32), model.style(0)).motion()
    assert out.shape == (frames, 30) and torch.isfinite(out).all()


def test_progress_is_told_every_step_and_cancel_stops_within_one() -> None:
    model = network(tiny.spec())
    heard: list[float] = []
    diffusion.sample(model, torch.randn(9, 32), model.style(0), steps=4, progress=heard.append)
    assert heard == [0.25, 0.5, 0.75, 1.0]
    heard.clear()
    with pytest.raises(Cancelled):
        diffusion.sample(
            model, torch.randn(9, 32), model.style(0), steps=50,
            progress=heard.append, cancelled=lambda: len(heard) == 2,
        )  # fmt: skip
    assert len(heard) == 2


@pytest.mark.parametrize("steps", [0, -3, 501])
def test_an_impossible_number_of_steps_is_refused(steps: int) -> None:
    with pytest.raises(ConfigError, match="1 to 500"):
        sampling.schedule().moves(steps, "published")


def test_the_published_rule_exaggerates_and_the_corrected_one_leaves_no_noise() -> None:
    """The factors that the published rule is known by, and those of the corrected one."""
    published = sampling.schedule().moves(50, "published")
    assert [move.kept for move in published] == [0.0] * 50
    assert published[0].step == 981 and published[-1].step == 1
    assert published[0].predicted == pytest.approx(1.0817, abs=1e-4)
    assert published[-1].predicted == pytest.approx(1.02873, abs=1e-5)
    assert max(move.predicted for move in published) == pytest.approx(1.4141, abs=2e-4)
    corrected = sampling.schedule().moves(50, "corrected")
    assert corrected[-1].kept == 0.0 and corrected[-1].predicted == 1.0
    left = 1.0
    for move in sampling.schedule().moves(
        50, "corrected", final=float(sampling.schedule().signal[0])
    ):
        left *= move.kept
    assert left == pytest.approx(0.02924, abs=1e-5)
    with pytest.raises(ConfigError, match="published or corrected"):
        sampling.schedule().moves(5, "guess")


def test_noise_is_added_as_the_schedule_says() -> None:
    clean, noise = torch.randn(2, 4, 3), torch.randn(2, 4, 3)
    step = torch.tensor([0, 999])
    out = diffusion.add_noise(clean, noise, step)
    signal = torch.from_numpy(sampling.schedule().signal)
    for row, at in enumerate(step):
        expected = signal[at].sqrt() * clean[row] + (1 - signal[at]).sqrt() * noise[row]
        torch.testing.assert_close(out[row], expected)


def test_smoothing_commutes_with_the_projection() -> None:
    features, weight = torch.randn(9, 5), torch.randn(12, 5)
    projected = plain.smooth((features @ weight.T)[None])[0]
    torch.testing.assert_close(sampling.smooth(features) @ weight.T, projected)
