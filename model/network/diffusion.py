# SPDX-License-Identifier: GPL-3.0-or-later
"""Sampling with torch: whole batches, padded clips, guidance, and the noise that training adds.

The schedule, the rules and the walk from noise to motion are in `sampling.py`.

Legend: B batch, F frames, C channels, D latent.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import ConfigError
from ..progress import Watch
from .denoiser import DiffSpeaker
from .latent import LatentNetwork
from .sampling import schedule, smooth, walk


def add_noise(clean: Tensor, noise: Tensor, step: Tensor) -> Tensor:
    """Return √ᾱ·clean + √(1-ᾱ)·noise for (B, …) and steps (B,) (Ho et al. 2020, eq. 4)."""
    signal = torch.from_numpy(schedule().signal).to(clean.device)[step].to(clean.dtype)
    signal = signal.view(-1, *[1] * (clean.dim() - 1))
    return signal.sqrt() * clean + (1 - signal).sqrt() * noise


@dataclass(frozen=True)
class Latents:
    """Sampled motion in the factored form that the network's last, linear layer gives for free.

    motion[f] = weight @ features[f] + bias, an offset from the template (vertices) or control
    values; so a clip's motion has rank ≤ D whatever the number of vertices.
    """

    features: Tensor
    """(F, D), or (B, F, D) when a batch was sampled."""
    weight: Tensor
    """(C, D)."""
    bias: Tensor
    """(C,)."""

    def motion(self) -> Tensor:
        """Return the dense motion (…, F, C)."""
        return self.features @ self.weight.mT + self.bias


@torch.no_grad()
def sample(
    model: DiffSpeaker,
    hidden: Tensor,
    style: Tensor,
    *,
    steps: int | None = None,
    sampler: str | None = None,
    guidance: float | None = None,
    silent_hidden: Tensor | None = None,
    smoothing: bool | None = None,
    seed: int = 0,
    noise: Tensor | None = None,
    valid: Tensor | None = None,
    put_back: Callable[[NDArray[np.float32]], NDArray[np.float32]] | None = None,
    progress: Callable[[float], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Latents:
    """Denoise from pure noise to motion, carrying D numbers a frame instead of C.

    hidden (F, D) or (B, F, D) from `DiffSpeaker.encode`; style (N,), (1, N) or (B, N) mix weights;
    valid (B, F) for padded batches. What is None is taken from the model's description.
    guidance s moves the prediction to c + s · (c - u), u being the prediction for `silent_hidden`
    (the encoding of silence, shaped like hidden). `noise` (…, F, C) replaces the seed's; a seed
    gives the same motion on every device. Exact for any length; memory grows with F only.
    `put_back` replaces what is known in each normalised prediction (F, C) of one clip; the last
    prediction is returned as the network made it, for the caller to put the same values in.

    Raises `Cancelled` between two steps, `ConfigError` for impossible settings.
    """
    spec = model.spec
    strength = spec.guidance if guidance is None else guidance
    if strength and silent_hidden is None:
        raise ConfigError("Guidance needs the encoding of silence.", "Set guidance to 0.")
    watch = Watch(progress, cancelled)
    network = LatentNetwork.of(model)
    moves = schedule().moves(steps or spec.steps, sampler or spec.sampler)
    batch = hidden if hidden.dim() == 3 else hidden[None]
    size = batch.shape[0]
    style = style.reshape(-1, style.shape[-1]).expand(size, -1)
    state = network.start(size, batch.shape[1], seed, noise)
    if strength and silent_hidden is not None:
        batch = torch.cat((batch, silent_hidden.expand_as(batch)))
        style = torch.cat((style, style))
        valid = None if valid is None else torch.cat((valid, valid))
    clip = network.prepare(batch, style, [move.step for move in moves], valid)

    def predict(state: Tensor, index: int) -> tuple[Tensor, Tensor]:
        features = clip(torch.cat((state, state)) if strength else state, index)
        if strength:
            features = (1 + strength) * features[:size] - strength * features[size:]
        if put_back is not None:
            return features, _amended(network, features, put_back)
        return features, network.again(features)

    total, offset = walk(state, moves, predict, watch)
    if spec.smoothing if smoothing is None else smoothing:
        total = smooth(total)
    scale, mean = model.motion.scale, model.motion.mean
    leave = model.denoiser.motion_decoder
    plain = bool((scale == 1).all())  # spares a copy of what may be 70,110 × 1,024 numbers
    weight = leave.weight.detach() if plain else leave.weight * scale[:, None]
    bias = offset * leave.bias * scale + mean
    return Latents(total if hidden.dim() == 3 else total[0], weight, bias)


def _amended(
    network: LatentNetwork,
    features: Tensor,
    put_back: Callable[[NDArray[np.float32]], NDArray[np.float32]],
) -> Tensor:
    """Return the prediction (1, F, D) as the network sees it again, known values put back."""
    denoiser = network.denoiser
    motion = denoiser.motion_decoder(features)[0].float().cpu().numpy()
    return torch.from_numpy(put_back(motion)).to(features)[None] @ denoiser.vertice_map.weight.mT
