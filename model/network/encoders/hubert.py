# SPDX-License-Identifier: GPL-3.0-or-later
"""HuBERT and wav2vec 2.0 at base size: one network, two sets of weights.

An own implementation under the published key names, because importing transformers costs more than
three seconds of start-up. It is exact for clips up to `EXACT_FRAMES`, in bounded memory: the
convolutions run in pieces (the one thing in them that looks at the whole clip, the group norm after
the first, has closed-form statistics), only the transformer sees the clip as one.

Legend: B batch, n samples at 16 kHz, S speech frames, W width, H heads, G convolution channels.
"""

import math
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...errors import ConfigError
from ...progress import UNWATCHED, Watch
from ..frames import feature_count, windows
from .speech_encoder import SpeechEncoder, clip_lengths, in_windows, normalise

EXACT_FRAMES = 6_000  # 120 s: everything that the published code can animate
WINDOW, OVERLAP = 1_500, 200  # longer clips: 30 s windows that share 4 s
PIECE = 50  # speech frames per convolution piece; keeps the widest activation in cache
FRONT = 0.4  # share of the work done by the convolutions, for progress


class ConvLayer(nn.Module):
    """One convolution without bias; the first also carries the group norm's weights."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, norm: bool) -> None:
        super().__init__()
        self.conv = nn.Conv1d(inputs, outputs, kernel, stride, bias=False)
        if norm:
            self.layer_norm = nn.GroupNorm(outputs, outputs)


class FeatureExtractor(nn.Module):
    """Seven convolutions from samples to 50 frames a second; frozen, also in training."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        widths = [1, *config["conv_dim"]]
        self.kernels: list[int] = list(config["conv_kernel"])
        self.strides: list[int] = list(config["conv_stride"])
        self.conv_layers = nn.ModuleList(
            ConvLayer(widths[i], widths[i + 1], kernel, stride, norm=i == 0)
            for i, (kernel, stride) in enumerate(zip(self.kernels, self.strides, strict=True))
        )
        self.hop = math.prod(self.strides)
        self.reach = 1  # samples that one frame sees
        for kernel, stride in zip(reversed(self.kernels), reversed(self.strides), strict=True):
            self.reach = (self.reach - 1) * stride + kernel

    @torch.no_grad()
    def forward(self, audio: Tensor, watch: Watch) -> Tensor:
        """audio (B, n) → (B, S, G), in pieces."""
        count = (audio.shape[1] - self.reach) // self.hop + 1
        filters = [self.first_filter(clip) for clip in audio]
        pieces = []
        for start in range(0, count, PIECE):
            end = min(count, start + PIECE)
            part = audio[:, start * self.hop : (end - 1) * self.hop + self.reach]
            pieces.append(
                torch.stack([self.convolve(*pair) for pair in zip(part, filters, strict=True)])
            )
            watch(FRONT * end / count)
        return torch.cat(pieces, -1).mT

    def first_filter(self, clip: Tensor) -> tuple[Tensor, Tensor]:
        """Fold the group norm into the first convolution: weight (G, 1, k) and bias (G).

        Each group is one channel, so its mean and variance over the clip are w·m and wᵀRw, with m
        and R the mean and covariance of the clip's strided windows: no pass over the output. In
        double precision, hence on the CPU (Apple GPUs have none).
        """
        layer = cast(ConvLayer, self.conv_layers[0])
        seen = clip.cpu().double().unfold(0, self.kernels[0], self.strides[0])  # (S', k)
        mean = seen.mean(0)
        covariance = seen.mT @ seen / len(seen) - torch.outer(mean, mean)
        weight = layer.conv.weight.cpu().double()[:, 0]  # (G, k)
        variance = ((weight @ covariance) * weight).sum(1).clamp(min=0)
        scale = layer.layer_norm.weight.cpu().double() / torch.sqrt(variance + layer.layer_norm.eps)
        bias = layer.layer_norm.bias.cpu().double() - scale * (weight @ mean)
        kind = layer.conv.weight
        return (scale[:, None] * weight).to(kind)[:, None], bias.to(kind)

    def convolve(self, part: Tensor, first: tuple[Tensor, Tensor]) -> Tensor:
        """Run the convolutions over samples (m,) → (G, frames)."""
        weight, bias = first
        out = functional.conv1d(part[None, None].to(weight), weight, bias, self.strides[0])
        out = functional.gelu(out)
        for layer in cast(list[ConvLayer], list(self.conv_layers)[1:]):
            out = functional.gelu(layer.conv(out))
        return out[0]


class FeatureProjection(nn.Module):
    """Layer norm and projection to the transformer's width."""

    def __init__(self, inputs: int, width: int, eps: float) -> None:
        super().__init__()
        self.layer_norm = nn.LayerNorm(inputs, eps)
        self.projection = nn.Linear(inputs, width)


class PositionalConvolution(nn.Module):
    """Relative positions by one wide grouped convolution (weight norm already folded in)."""

    def __init__(self, width: int, kernel: int, groups: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=groups)
        self.surplus = 1 - kernel % 2  # an even kernel makes one frame too many

    def forward(self, values: Tensor) -> Tensor:
        """values (B, S, W) → (B, S, W)."""
        out = self.conv(values.mT)
        return functional.gelu(out[..., : out.shape[-1] - self.surplus]).mT


class SelfAttention(nn.Module):
    """Ordinary self-attention."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (
            nn.Linear(width, width) for _ in range(4)
        )

    def forward(self, values: Tensor, mask: Tensor | None) -> Tensor:
        """values (B, S, W), mask (B, 1, 1, S) True where keys are real → (B, S, W)."""
        query, key, value = (
            projection(values).view(*values.shape[:2], self.heads, -1).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        drop = self.dropout if self.training else 0.0
        out = functional.scaled_dot_product_attention(query, key, value, mask, drop)
        return self.out_proj(out.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class FeedForward(nn.Module):
    """Two projections around a GELU."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.intermediate_dense = nn.Linear(width, inner)
        self.output_dense = nn.Linear(inner, width)


class EncoderLayer(nn.Module):
    """Post-norm transformer layer."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        width, eps = config["hidden_size"], config["layer_norm_eps"]
        self.attention = SelfAttention(
            width, config["num_attention_heads"], config.get("attention_dropout", 0.1)
        )
        self.layer_norm = nn.LayerNorm(width, eps)
        self.feed_forward = FeedForward(width, config["intermediate_size"])
        self.final_layer_norm = nn.LayerNorm(width, eps)
        self.hidden_dropout = nn.Dropout(config.get("hidden_dropout", 0.1))
        self.inner_dropout = nn.Dropout(config.get("activation_dropout", 0.1))

    def forward(self, values: Tensor, mask: Tensor | None) -> Tensor:
        """values (B, S, W) → (B, S, W)."""
        drop = self.hidden_dropout
        values = self.layer_norm(values + drop(self.attention(values, mask)))
        inner = self.inner_dropout(functional.gelu(self.feed_forward.intermediate_dense(values)))
        out = values + drop(self.feed_forward.output_dense(inner))
        return self.final_layer_norm(out)  # type: ignore[no-any-return]


class Transformer(nn.Module):
    """Positions, norm and layers."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        width = config["hidden_size"]
        self.pos_conv_embed = PositionalConvolution(
            width, config["num_conv_pos_embeddings"], config["num_conv_pos_embedding_groups"]
        )
        self.layer_norm = nn.LayerNorm(width, config["layer_norm_eps"])
        self.layers = nn.ModuleList(
            EncoderLayer(config) for _ in range(config["num_hidden_layers"])
        )
        self.dropout = nn.Dropout(config.get("hidden_dropout", 0.1))
        self.layerdrop = float(config.get("layerdrop", 0.1))

    def forward(self, values: Tensor, mask: Tensor | None, watch: Watch) -> Tensor:
        """values (B, S, W), mask (B, S) True where frames are real → (B, S, W)."""
        if mask is not None:
            values = values * mask[..., None]
        keys = None if mask is None else mask[:, None, None, :]
        values = self.dropout(self.layer_norm(values + self.pos_conv_embed(values)))
        for index, layer in enumerate(self.layers):
            if not (self.training and float(torch.rand(())) < self.layerdrop):
                values = layer(values, keys)
            watch((index + 1) / len(self.layers))
        return values


class HubertEncoder(SpeechEncoder):
    """16 kHz audio → the last hidden state, 50 frames a second."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        if config.get("feat_extract_norm", "group") != "group" or config.get(
            "do_stable_layer_norm", False
        ):
            raise ConfigError("Only base-size HuBERT and wav2vec 2.0 encoders can be used.")
        self.config = config
        width = config["hidden_size"]
        self.masked_spec_embed = nn.Parameter(torch.empty(width).uniform_())
        self.feature_extractor = FeatureExtractor(config)
        self.feature_projection = FeatureProjection(
            config["conv_dim"][-1], width, config["layer_norm_eps"]
        )
        self.encoder = Transformer(config)
        self.dropout = nn.Dropout(config.get("feat_proj_dropout", 0.1))
        extractor = self.feature_extractor
        self.first_time = (extractor.reach - 1) / 2 / 16_000

    def prepare(self, audio: Tensor, lengths: Tensor | None) -> Tensor:
        """Normalise each clip of (B, n); a clip too short for one frame gets silence after it."""
        audio = normalise(audio, lengths)
        return functional.pad(audio, (0, max(0, self.feature_extractor.reach - audio.shape[1])))

    def forward(self, audio: Tensor, lengths: Tensor | None, watch: Watch = UNWATCHED) -> Tensor:
        """audio (B, n) normalised, lengths (B,) valid samples or None → (B, S, W)."""
        convolved = self.feature_extractor(audio, watch)
        projection = self.feature_projection
        values = self.dropout(projection.projection(projection.layer_norm(convolved)))
        if self.training:
            values = self.mask_spans(values)
        mask = self.frame_mask(audio, lengths, values.shape[1])
        if values.shape[1] <= EXACT_FRAMES or mask is not None:
            return self.encoder(values, mask, watch.part(FRONT, 1.0))  # type: ignore[no-any-return]
        return self.windowed(values, watch)

    def windowed(self, values: Tensor, watch: Watch) -> Tensor:
        """Run the transformer over a long clip (B, S, W) in windows that share four seconds."""
        count = len(list(windows(values.shape[1], WINDOW, OVERLAP)))
        share, done = (1 - FRONT) / count, 0

        def window(piece: Tensor) -> Tensor:
            nonlocal done
            part = watch.part(FRONT + done * share, FRONT + (done + 1) * share)
            done += 1
            return self.encoder(piece, None, part)  # type: ignore[no-any-return]

        return in_windows(values, window, WINDOW, OVERLAP)

    def frame_mask(self, audio: Tensor, lengths: Tensor | None, frames: int) -> Tensor | None:
        """Return (B, S) True at frames whose samples are real; None when all are."""
        counts = [feature_count(n, self.config) for n in clip_lengths(audio, lengths)]
        if min(counts) >= frames:
            return None
        limit = torch.tensor(counts, device=audio.device)
        return torch.arange(frames, device=audio.device)[None, :] < limit[:, None]

    def mask_spans(self, values: Tensor) -> Tensor:
        """Replace random spans by the learned mask vector (SpecAugment over time; training only).

        Spans of `mask_time_length` frames start so often that about `mask_time_prob` are covered.
        """
        length = int(self.config.get("mask_time_length", 10))
        share = float(self.config.get("mask_time_prob", 0.05))
        batch, frames, _ = values.shape
        if not self.config.get("apply_spec_augment", True) or share <= 0 or frames <= length:
            return values
        count = max(2, int(share * frames / length + float(torch.rand(()))))
        starts = torch.randint(0, frames - length + 1, (batch, count, 1), device=values.device)
        index = (starts + torch.arange(length, device=values.device)).flatten(1)
        hide = torch.zeros(batch, frames, dtype=torch.bool, device=values.device)
        hide = hide.scatter(1, index, value=True)
        return torch.where(hide[..., None], self.masked_spec_embed.to(values), values)
