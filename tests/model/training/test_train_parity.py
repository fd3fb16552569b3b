# SPDX-License-Identifier: GPL-3.0-or-later
"""Our training step gives the published program's loss, gradients and weights after one step."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from model.conversion import official
from model.network.denoiser import DiffSpeaker
from model.network.spec import EncoderSpec, ModelSpec
from model.training.batches import Batch
from model.training.losses import total
from model.training.objective import Objective, freeze, optimiser
from model.training.settings import Loss, Optimiser
from tests.shared import shared

PUBLISHED = Loss(padding="published")


def network(case: str) -> DiffSpeaker:
    """Build the fixture's network with its weights, dropout off."""
    config = json.loads(shared("reference/parity/encoder_tiny.json").read_text(encoding="utf-8"))
    spec = ModelSpec(
        name=case,
        motion="vertices",
        channels=30,
        latent=64,
        feedforward=128,
        layers=1 if case == "A" else 2,
        encoder=EncoderSpec("hubert", config),
        styles=tuple(map(str, range(8 if case == "A" else 6))),
        fps=30.0 if case == "A" else 25.0,
        period=30 if case == "A" else 25,
    )
    model = DiffSpeaker(spec)
    tensors = official.prepare(load_file(shared(f"reference/parity/{case}_weights.safetensors")))
    model.load_state_dict(tensors, strict=False)
    model.audio_encoder.prepare = lambda audio, lengths: audio  # the fixture's is normalised
    return model


def fixture_batch(z: dict[str, np.ndarray], styles: int) -> Batch:
    """Return the fixture's clips as one of our batches: offsets from the template."""
    valid = torch.from_numpy(z["train_valid"]).bool()
    offsets = torch.from_numpy(z["train_vertice"] - z["train_template"][:, None])
    return Batch(
        motion=offsets * valid[..., None],
        valid=valid,
        style=torch.eye(styles)[torch.from_numpy(z["train_id"]).long().reshape(-1)],
        seeds=torch.zeros(2, dtype=torch.long),
        heard=torch.ones(2, dtype=torch.bool),
        features=None,
        audio=torch.from_numpy(z["train_audio"]),
        lengths=torch.from_numpy(z["train_audio_len"]).long(),
    )


@pytest.fixture(params=["A", "B"])
def case(request):
    """One training evaluation of the published program: network, batch, numbers."""
    with np.load(shared(f"reference/parity/{request.param}_train.npz")) as file:
        z = dict(file)
    model = network(request.param).eval()
    trained = freeze(model, train_encoder=True)
    batch = fixture_batch(z, len(model.spec.styles))
    objective = Objective(model, PUBLISHED, train_encoder=True).eval()
    return z, model, trained, batch, objective


def loss_of(z, batch, objective) -> torch.Tensor:
    """Evaluate the objective on the fixture's noise."""
    terms = objective(batch, torch.from_numpy(z["train_t"]), torch.from_numpy(z["train_noise"]))
    means = terms.sums / terms.counts
    assert float(means[0].detach()) == pytest.approx(float(z["train_loss_rec"]), rel=2e-5)
    assert float(means[1].detach()) == pytest.approx(float(z["train_loss_vel"]), rel=2e-5)
    return total(terms, PUBLISHED)


def test_the_published_loss_gradients_and_step(case) -> None:
    """Losses to 2e-5, gradients to 1e-4 of their size, weights after AdamW to 1e-6."""
    z, _, trained, batch, objective = case
    loss = loss_of(z, batch, objective)
    assert float(loss.detach()) == pytest.approx(float(z["train_loss"]), rel=2e-5)
    loss.backward()
    for name, value in z.items():
        if name.startswith("train_grad."):
            found = trained[name.removeprefix("train_grad.")].grad.numpy()
            assert np.abs(found - value).max() <= 1e-4 * np.abs(value).max(), name
    optimiser(trained, Optimiser(encoder_learning_rate=1e-4)).step()
    for name, value in z.items():
        if name.startswith("train_after_step."):
            found = trained[name.removeprefix("train_after_step.")].detach().numpy()
            assert np.abs(found - value).max() < 1e-6, name


def test_every_gradient_norm(case) -> None:
    """All 70 trained tensors get the published gradient's norm; the front end gets none.

    The positional convolution's weight-norm pair is folded into one weight here and is left out.
    """
    z, _, trained, batch, objective = case
    loss_of(z, batch, objective).backward()
    names = [str(name) for name in z["train_gradnorm_names"] if "weight_" not in str(name)]
    norms = dict(zip(map(str, z["train_gradnorm_names"]), z["train_gradnorms"], strict=True))
    largest = max(norms.values())
    for name in names:
        assert float(trained[name].grad.norm()) == pytest.approx(
            float(norms[name]), rel=2e-4, abs=1e-6 * float(largest)
        ), name
    frozen = [str(name) for name in z["train_nograd_names"] if "feature_extractor" in str(name)]
    assert frozen
    assert not set(frozen) & set(trained)


def test_masked_loss_ignores_padding() -> None:
    """A padded clip has the loss it has alone; the published way it has not."""
    from model.training.losses import loss_terms

    torch.manual_seed(0)
    clean, guess = torch.randn(1, 12, 6), torch.randn(1, 12, 6)
    valid = torch.ones(1, 12, dtype=torch.bool)
    alone = total(loss_terms(guess, clean, valid, Loss()), Loss())
    pad = (0, 0, 0, 5)
    wide, wide_guess = torch.nn.functional.pad(clean, pad), torch.nn.functional.pad(guess, pad)
    short = torch.nn.functional.pad(valid, (0, 5))
    padded = total(loss_terms(wide_guess + 9 * ~short[..., None], wide, short, Loss()), Loss())
    assert float(padded) == pytest.approx(float(alone), rel=1e-6)
    published = total(loss_terms(wide_guess, wide, short, PUBLISHED), PUBLISHED)
    assert float(published) < float(alone)
