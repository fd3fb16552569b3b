# SPDX-License-Identifier: GPL-3.0-or-later
"""One training step's arithmetic: noise, prediction, loss, averaged weights, learning rate.

Legend: `B` clips, `F` frames, `C` channels, `S` speech features, `W` their width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..network.denoiser import DiffSpeaker
from ..network.diffusion import add_noise
from ..network.sampling import STEPS
from .batches import Batch
from .feature_cache import combined
from .losses import Terms, loss_terms
from .settings import Loss, Optimiser

FROZEN = "audio_encoder.feature_extractor."  # the convolutional front end, as published
MIX = "audio_encoder.mix"


class Objective(nn.Module):
    """Predict clean motion from noised motion and measure the error; what DDP wraps."""

    def __init__(
        self,
        model: DiffSpeaker,
        loss: Loss,
        weights: Tensor | None = None,
        steps: list[int] | None = None,
        train_encoder: bool = False,
    ) -> None:
        """`weights`: (C,) loss factors. `steps`: the diffusion steps to train on, None for all."""
        super().__init__()
        self.model = model
        self.weights: Tensor | None
        self.loss = loss
        self.register_buffer("weights", weights, persistent=False)
        self.steps = steps
        self.train_encoder = train_encoder

    def forward(
        self, batch: Batch, step: Tensor | None = None, noise: Tensor | None = None
    ) -> Terms:
        """Return the batch's loss terms; `step` (B,) and `noise` (B, F, C) only in tests."""
        if step is None or noise is None:
            step, noise = self.draw(batch)
        noisy = add_noise(batch.motion, noise, step)
        predicted = self.model.denoise(
            noisy, step, self.hidden(batch), batch.style, batch.valid
        )  # (B, F, C)
        return loss_terms(predicted.float(), batch.motion, batch.valid, self.loss, self.weights)

    def draw(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return each clip's diffusion step (B,) and noise (B, F, C) from its own seed."""
        choices = self.steps or range(STEPS)
        steps, noise = [], torch.empty_like(batch.motion)
        generator = torch.Generator(batch.motion.device)
        for row, seed in enumerate(batch.seeds.tolist()):
            generator.manual_seed(seed)
            steps.append(choices[seed % len(choices)])
            noise[row].normal_(generator=generator)
        return torch.tensor(steps, device=batch.motion.device), noise

    def hidden(self, batch: Batch) -> Tensor:
        """Return the denoiser's speech input (B, F, D); dropped audio becomes digital silence."""
        frames = batch.motion.shape[1]
        if batch.features is None:
            assert batch.audio is not None
            audio = batch.audio * batch.heard[:, None]
            return self.model.encode(audio, frames, batch.lengths)
        features = combined(self.model, batch.features)
        if not bool(batch.heard.all()):
            silence = self.silence(features.shape[1])
            features = torch.where(batch.heard[:, None, None], features, silence)
        return self.model.condition(features, frames)

    @torch.no_grad()
    def silence(self, count: int) -> Tensor:
        """Return the features (1, S, W) of an all-zero waveform."""
        device = self.model.device
        audio = torch.zeros(1, (count + 1) * 320 + 400, device=device)
        return self.model.features(audio)[:, :count]

    def train(self, mode: bool = True) -> Objective:
        """Switch dropout; a frozen encoder stays in evaluation mode."""
        super().train(mode)
        if not self.train_encoder:
            self.model.audio_encoder.eval()
        return self


def freeze(model: DiffSpeaker, train_encoder: bool) -> dict[str, nn.Parameter]:
    """Freeze what is not trained and return the trained parameters by name.

    The convolutional front end of HuBERT and wav2vec 2.0 always stays frozen, as published; the mix
    of Whisper's hidden states is always learned.
    """
    trained = {}
    for name, parameter in model.named_parameters():
        encoder = name.startswith("audio_encoder.") and name != MIX
        parameter.requires_grad_((train_encoder or not encoder) and not name.startswith(FROZEN))
        if parameter.requires_grad:
            trained[name] = parameter
    return trained


def optimiser(trained: dict[str, nn.Parameter], settings: Optimiser) -> torch.optim.AdamW:
    """Return AdamW with the encoder's learning rate in a group of its own."""
    names = {name for name in trained if name.startswith("audio_encoder.") and name != MIX}
    encoder = [value for name, value in trained.items() if name in names]
    rest = [value for name, value in trained.items() if name not in names]
    groups = [
        {"params": rest, "base": settings.learning_rate},
        {"params": encoder, "base": settings.encoder_learning_rate},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=settings.learning_rate,
        betas=(settings.beta1, settings.beta2),
        eps=settings.epsilon,
        weight_decay=settings.weight_decay,
    )


def rate_factor(step: int, steps: int, settings: Optimiser) -> float:
    """Return the share of the learning rate at a step: linear warm-up, then flat or cosine."""
    if step < settings.warmup_steps:
        return (step + 1) / settings.warmup_steps
    if settings.schedule == "constant":
        return 1.0
    done = (step - settings.warmup_steps) / max(1, steps - settings.warmup_steps)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    return settings.final_rate + (1 - settings.final_rate) * cosine


def set_rate(optimiser: torch.optim.Optimizer, factor: float) -> None:
    """Scale every group's own learning rate."""
    for group in optimiser.param_groups:
        group["lr"] = group["base"] * factor


class Average:
    """Exponential moving average of the trained weights (EMA); off with decay 0."""

    def __init__(self, trained: dict[str, nn.Parameter], decay: float) -> None:
        self.decay = decay
        self.trained = trained
        self.values: dict[str, Tensor] = {}
        if decay:
            self.values = {name: value.detach().clone() for name, value in trained.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after a step; young averages forget faster."""
        if not self.decay:
            return
        share = 1 - min(self.decay, (1 + step) / (10 + step))
        for name, value in self.values.items():
            value.lerp_(self.trained[name].detach(), share)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the trained weights with their average (and, called again, back)."""
        for name, value in self.values.items():
            kept = self.trained[name].detach().clone()
            self.trained[name].copy_(value)
            value.copy_(kept)
