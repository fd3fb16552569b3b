"""The diffusion process: noise schedule, both DDIM rules, and sampling in latent space.

Published models are run with the rule of the one library version their authors pinned, whose DDIM
step puts the predicted *motion* where the predicted *noise* belongs (diffusers issue 1486, mended
in 0.15). Its results are the published numbers, so it is the default for such models; "corrected"
is the textbook rule with no noise left at the end. Both move x to `predicted` · x̂0 + `kept` · x.

Legend: B batch, F frames, C channels, D latent.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import ConfigError
from ..progress import Watch
from .denoiser import DiffSpeaker
from .latent import LatentNetwork

STEPS = 1000
MOST = 500  # sampling steps; beyond, the published spacing runs past the schedule's end


@dataclass(frozen=True)
class Move:
    """One sampling step: call the network at `step`, then x becomes predicted·x̂0 + kept·x."""

    step: int
    """Diffusion step, 0 to 999, that the network is told."""
    predicted: float
    """Factor of the network's prediction."""
    kept: float
    """Factor of the present state."""


@dataclass(frozen=True)
class Schedule:
    """How much signal is left at each of the 1,000 diffusion steps."""

    signal: Tensor
    """ᾱ (1000,) float32: the share of signal power that is left."""

    def timesteps(self, steps: int) -> list[int]:
        """Return the diffusion steps visited, descending: k · (1000 // n) + 1.

        Raises `ConfigError` for a number of steps outside 1 to 500.
        """
        if not 1 <= steps <= MOST:
            raise ConfigError(f"{steps} denoising steps are asked for.", f"Use 1 to {MOST}.")
        return [index * (STEPS // steps) + 1 for index in reversed(range(steps))]

    def moves(self, steps: int, sampler: str, *, final: float | None = None) -> list[Move]:
        """Return the sampling steps of a rule: "published" or "corrected".

        `final` is the signal left after the last step; by default ᾱ0 as published, and 1 (no noise)
        for the corrected rule, where ᾱ0 would leave noise of 29 mm.
        """
        if sampler not in {"published", "corrected"}:
            raise ConfigError(f'There is no sampler "{sampler}".', "Use published or corrected.")
        if final is None:
            final = 1.0 if sampler == "corrected" else float(self.signal[0])
        moves = []
        for step in self.timesteps(steps):
            before = step - STEPS // steps
            after = self.signal[before] if before >= 0 else torch.tensor(final)
            move = _pinned(step, after) if sampler == "published" else self._exact(step, after)
            moves.append(move)
        return moves

    def _exact(self, step: int, after: Tensor) -> Move:
        """DDIM without added noise (Song et al. 2021, eq. 12) for a network that predicts x0."""
        now = self.signal[step]
        kept = float((1 - after).sqrt()) / float((1 - now).sqrt())
        return Move(step, float(after.sqrt()) - kept * float(now.sqrt()), kept)


def _pinned(step: int, after: Tensor) -> Move:
    """DDIM as in diffusers 0.11 to 0.14: both terms carry the prediction, the state is dropped."""
    return Move(step, float(after.sqrt()) + float((1 - after).sqrt()), 0.0)


@lru_cache(maxsize=1)
def schedule() -> Schedule:
    """Return the published schedule: β from 0.00085 to 0.012, linear in its square root."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, STEPS, dtype=torch.float32) ** 2
    return Schedule(torch.cumprod(1.0 - betas, 0))


def add_noise(clean: Tensor, noise: Tensor, step: Tensor) -> Tensor:
    """Return √ᾱ·clean + √(1-ᾱ)·noise for (B, …) and steps (B,) (Ho et al. 2020, eq. 4)."""
    signal = schedule().signal.to(clean.device)[step].to(clean.dtype)
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

    total, offset = torch.zeros_like(state), 0.0
    for index, move in enumerate(moves):
        features = clip(torch.cat((state, state)) if strength else state, index)
        if strength:
            features = (1 + strength) * features[:size] - strength * features[size:]
        total = total * move.kept + move.predicted * features
        offset = offset * move.kept + move.predicted
        if index + 1 < len(moves):
            entry = network.again(features)
            if put_back is not None:
                entry = _amended(network, features, put_back)
            state = move.kept * state + move.predicted * entry
        watch((index + 1) / len(moves))

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


def smooth(frames: Tensor) -> Tensor:
    """Replace inner frames of (…, F, ·) by the mean of their three; the end frames stay.

    Published for VOCASET on vertices; a linear projection afterwards commutes with it.
    """
    if frames.shape[-2] < 3:
        return frames
    middle = (frames[..., :-2, :] + frames[..., 1:-1, :] + frames[..., 2:, :]) / 3
    return torch.cat((frames[..., :1, :], middle, frames[..., -1:, :]), -2)
