# SPDX-License-Identifier: GPL-3.0-or-later
"""The network: noisy motion, speech, diffusion step and style in; clean motion out.

The published architecture (theEricMa/DiffSpeaker @ 0f2ae2d), under its own key names so that its
weights load as they are. This module is the plain form used in training and as a reference; fast
sampling is `diffusion.sample`, which reads the same weights.

Legend: B batch, F motion frames, C channels (3 × vertices, or controls), D latent, W audio width,
S speech frames (50 a second), N styles, n samples at 16 kHz.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import StyleError
from ..progress import Watch
from .attention import BiasedCrossAttention, BiasedSelfAttention, self_bias
from .encoders import speech_encoder as speech
from .encoders.build import build_encoder
from .frames import frame_count
from .spec import CONTEXT, ModelSpec


class StepEmbedding(nn.Module):
    """Turn diffusion steps into tokens: sinusoid of the audio's width, then a small network."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.width = width
        self.linear_1 = nn.Linear(width, out)
        self.linear_2 = nn.Linear(out, out)

    def forward(self, step: Tensor) -> Tensor:
        """step (B,) → (B, out)."""
        waves = step_sinusoid(step, self.width).to(self.linear_1.weight.dtype)
        return self.linear_2(functional.silu(self.linear_1(waves)))  # type: ignore[no-any-return]


class StyleTable(nn.Module):
    """One learned row per style; a mix of styles is a mix of rows.

    Not an `nn.Embedding`: drawing its start values on the meta device, where a file's expected
    sizes are computed, makes torch 2.13 import its compiler, which costs a second of start-up.
    """

    def __init__(self, styles: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(styles, width))
        if not self.weight.is_meta:
            nn.init.normal_(self.weight)


class ContextLayer(nn.Module):
    """Let a frame of speech hear its neighbours: convolution, then a small network, residual."""

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.around = nn.Conv1d(latent, latent, CONTEXT, padding=CONTEXT // 2, groups=latent)
        self.norm = nn.LayerNorm(latent)
        self.linear1 = nn.Linear(latent, 2 * latent)
        self.linear2 = nn.Linear(2 * latent, latent)

    def forward(self, speech: Tensor) -> Tensor:
        """speech (B, F, D) → (B, F, D)."""
        around = self.norm(self.around(speech.mT).mT)
        return speech + self.linear2(functional.gelu(self.linear1(around)))  # type: ignore[no-any-return]


class DenoiserLayer(nn.Module):
    """Pre-norm layer: self-attention over motion, cross-attention to speech, feed-forward."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.self_attn = BiasedSelfAttention(spec.latent, spec.heads, spec.dropout)
        self.multihead_attn = BiasedCrossAttention(spec.latent, spec.heads, spec.dropout)
        self.linear1 = nn.Linear(spec.latent, spec.feedforward)
        self.linear2 = nn.Linear(spec.feedforward, spec.latent)
        self.norm1 = nn.LayerNorm(spec.latent)
        self.norm2 = nn.LayerNorm(spec.latent)
        self.norm3 = nn.LayerNorm(spec.latent)
        self.dropout = nn.Dropout(spec.dropout)

    def forward(
        self, state: Tensor, tokens: Tensor, speech: Tensor, bias: Tensor, valid: Tensor | None
    ) -> Tensor:
        """state and speech (B, F, D), tokens (B, 2, D), bias (·, H, F, 2+F) → (B, F, D)."""
        drop = self.dropout
        state = state + drop(self.self_attn(self.norm1(state), tokens, bias))
        state = state + drop(self.multihead_attn(self.norm2(state), tokens, speech, valid))
        inner = drop(functional.gelu(self.linear1(self.norm3(state))))
        return state + drop(self.linear2(inner))  # type: ignore[no-any-return]


class Decoder(nn.Module):
    """The layers, named as published."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DenoiserLayer(spec) for _ in range(spec.layers))


class Denoiser(nn.Module):
    """Predict clean motion from noisy motion, speech, step and style."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        wide = spec.latent * spec.layers
        self.vertice_map = nn.Linear(spec.channels, spec.latent)
        self.motion_decoder = nn.Linear(spec.latent, spec.channels)
        self.audio_feature_map = nn.Linear(spec.audio_width, spec.latent)
        self.context = nn.ModuleList(ContextLayer(spec.latent) for _ in range(spec.context))
        self.obj_vector = StyleTable(len(spec.styles), wide)
        self.time_embedding = StepEmbedding(spec.audio_width, wide)
        self.transformer_decoder = Decoder(spec)
        self.dropout = nn.Dropout(spec.dropout)
        nn.init.zeros_(self.motion_decoder.weight)
        nn.init.zeros_(self.motion_decoder.bias)

    def forward(
        self,
        noisy: Tensor,
        step: Tensor,
        hidden: Tensor,
        style: Tensor,
        valid: Tensor | None = None,
    ) -> Tensor:
        """noisy (B, F, C), step (B,), hidden (B, F, D), style (B, N), valid (B, F) → (B, F, C)."""
        frames = noisy.shape[1]
        state = self.vertice_map(noisy)
        state = self.dropout(state + self.positions(frames).to(state))
        tokens = self.tokens(step, style)
        mask = None if valid is None else valid.bool()
        bias = self.bias(frames, mask).to(state)
        for layer, pair in zip(self.transformer_decoder.layers, tokens, strict=True):
            state = layer(state, pair, hidden, bias, mask)
        return self.motion_decoder(state)  # type: ignore[no-any-return]

    def listen(self, aligned: Tensor) -> Tensor:
        """Turn speech features of motion frames (B, F, W) into the speech input (B, F, D)."""
        speech: Tensor = self.audio_feature_map(aligned)
        for layer in self.context:
            speech = layer(speech)
        return speech

    def tokens(self, step: Tensor, style: Tensor) -> list[Tensor]:
        """Return each layer's condition tokens (B, 2, D): style first, then step."""
        rows = style.to(self.obj_vector.weight.dtype) @ self.obj_vector.weight  # (B, D·layers)
        pair = torch.stack((rows, self.time_embedding(step)), 1)  # (B, 2, D·layers)
        return list(torch.split(pair, self.spec.latent, -1))

    def positions(self, frames: int) -> Tensor:
        """Return the periodic positions (F, D)."""
        return periodic_positions(self.spec.latent, self.spec.period, frames)

    def bias(self, frames: int, valid: Tensor | None) -> Tensor:
        """Return the self-attention bias (B or 1, H, F, 2+F), -inf at padded keys."""
        bias = self_bias(self.spec.heads, frames, self.spec.period)[None]
        if valid is None:
            return bias
        closed = ~functional.pad(valid, (2, 0), value=True)  # (B, 2+F)
        return bias.to(valid.device).masked_fill(closed[:, None, None, :], -torch.inf)


class Standardisation(nn.Module):
    """Mean and scale of each motion channel: the network sees (motion - mean) / scale."""

    mean: Tensor
    scale: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("scale", torch.ones(channels))


class DiffSpeaker(nn.Module):
    """Speech encoder and denoiser of one model, built from its description alone."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        self.audio_encoder = build_encoder(spec.encoder)
        self.denoiser = Denoiser(spec)
        self.motion = Standardisation(spec.channels)

    @property
    def device(self) -> torch.device:
        """Where the network lives."""
        return self.denoiser.vertice_map.weight.device

    def frames(self, samples: int) -> int:
        """Return how many motion frames a clip of that many 16 kHz samples gets."""
        return frame_count(self.spec, samples)

    def encode(
        self,
        audio: Tensor,
        frames: int,
        lengths: Tensor | None = None,
        *,
        progress: Callable[[float], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Tensor:
        """Turn raw 16 kHz audio (B, n) into the denoiser's speech input (B, F, D).

        `lengths` (B,) are valid samples of a zero-padded batch. Long clips are encoded in
        overlapping windows of bounded memory. Raises `Cancelled` between two windows or layers.
        """
        return self.condition(
            self.features(audio, lengths, progress=progress, cancelled=cancelled), frames
        )

    def features(
        self,
        audio: Tensor,
        lengths: Tensor | None = None,
        *,
        precision: str | None = None,
        progress: Callable[[float], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Tensor:
        """Normalise and encode raw 16 kHz audio (B, n) → speech features (B, S, W), 50 a second.

        `precision` overrules the description's; see `speech.computing_in`.
        """
        audio = self.audio_encoder.prepare(audio, lengths)
        if precision is None:
            usable = not self.training and speech.has_bfloat16(audio.device)
            precision = self.spec.precision if usable else "float32"
        with speech.computing_in(precision, audio.device):
            features: Tensor = self.audio_encoder(audio, lengths, Watch(progress, cancelled))
        return features.to(self.denoiser.audio_feature_map.weight.dtype)

    def condition(self, features: Tensor, frames: int) -> Tensor:
        """Bring speech features (B, S, W) to motion frames and project them → (B, F, D)."""
        if self.spec.alignment == "published":
            aligned = speech.stretch(features, frames)
        else:
            aligned = speech.at_times(
                features, frames, self.spec.fps, self.audio_encoder.first_time
            )
        return self.denoiser.listen(aligned)

    def denoise(
        self,
        noisy: Tensor,
        step: Tensor,
        hidden: Tensor,
        style: Tensor,
        valid: Tensor | None = None,
    ) -> Tensor:
        """Predict clean motion (B, F, C) from noisy motion, both standardised.

        step (B,) in 0..999, hidden (B, F, D) from `encode`, style (B, N) mix weights, valid (B, F)
        1 where a padded batch holds real frames.
        """
        return self.denoiser(noisy, step, hidden, style, valid)  # type: ignore[no-any-return]

    def standardise(self, motion: Tensor) -> Tensor:
        """Bring motion (…, C) to the network's scale."""
        return (motion - self.motion.mean) / self.motion.scale

    def restore(self, motion: Tensor) -> Tensor:
        """Bring the network's output (…, C) back to motion."""
        return motion * self.motion.scale + self.motion.mean

    def style(self, style: int | str | dict[str, float]) -> Tensor:
        """Return mix weights (1, N) for a style's name, number or named weights (sum made 1).

        Raises `StyleError`.
        """
        weights = torch.zeros(1, len(self.spec.styles), device=self.device)
        mix = style if isinstance(style, dict) else {style: 1.0}
        for name, weight in mix.items():
            weights[0, self.spec.style_index(name)] += float(weight)
        total = float(weights.sum())
        if not math.isfinite(total) or abs(total) < 1e-6:
            raise StyleError("The style weights sum to nothing.", "Give at least one above zero.")
        return weights / total


def step_sinusoid(step: Tensor, width: int) -> Tensor:
    """Return the sinusoid of diffusion steps (B, width) float32: cosines first, then sines.

    Angles t · 10000^(-k / (width/2)), in float32 as published.
    """
    half = width // 2
    exponent = -math.log(10000) * torch.arange(half, dtype=torch.float32, device=step.device)
    angles = step[:, None].float() * torch.exp(exponent / half)[None, :]
    return torch.cat((angles.cos(), angles.sin()), -1)


def periodic_positions(latent: int, period: int, frames: int) -> Tensor:
    """Return positions (F, D) float32 that repeat every period: even dims sine, odd dims cosine."""
    rates = torch.exp(torch.arange(0, latent, 2).float() * (-math.log(10000.0) / latent))
    angles = torch.arange(period)[:, None] * rates[None, :]
    table = torch.stack((angles.sin(), angles.cos()), -1).flatten(1)  # (p, D)
    return table[torch.arange(frames) % period]
