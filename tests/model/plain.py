# SPDX-License-Identifier: GPL-3.0-or-later
"""The plain vertex-space sampler: what the fast one must equal.

Written on its own, with nothing of `model.latent` or `model.attention` in it: dense frames × frames
masks and PyTorch's own multi-head attention, every step through the full width of the motion.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from model.network.denoiser import DiffSpeaker, periodic_positions, step_sinusoid
from model.network.sampling import Move


def masks(heads: int, frames: int, period: int) -> tuple[Tensor, Tensor]:
    """Return self-attention's bias (H, F, 2+F) and cross-attention's blocks (F, 2+F)."""
    bias = torch.zeros(heads, frames, frames + 2)
    for query in range(frames):
        for key in range(frames):
            apart = query - key
            periods = apart // period if apart >= 0 else (-apart - 1) // period
            for head in range(heads):
                bias[head, query, key + 2] = -periods * 2.0 ** (-8 * (head + 1) / heads)
    return bias, dense_cross_mask(frames)


def dense_bias(heads: int, frames: int, period: int) -> Tensor:
    """Return the same bias as `masks`, computed at once for long clips."""
    apart = torch.arange(frames)[:, None] - torch.arange(frames)[None, :]
    periods = torch.where(apart >= 0, apart // period, (-apart - 1) // period)
    slopes = torch.tensor([2.0 ** (-8 * (head + 1) / heads) for head in range(heads)])
    return functional.pad(-slopes[:, None, None] * periods, (2, 0))


def dense_cross_mask(frames: int) -> Tensor:
    """Return True where a frame may not look: speech of any other frame."""
    return functional.pad(~torch.eye(frames, dtype=torch.bool), (2, 0), value=False)


class PlainDenoiser:
    """The published computation, matrix by matrix."""

    def __init__(self, model: DiffSpeaker, frames: int, valid: Tensor | None = None) -> None:
        self.net = model.denoiser
        spec = model.spec
        self.heads = spec.heads
        dtype = self.net.vertice_map.weight.dtype
        self.bias = dense_bias(spec.heads, frames, spec.period).to(dtype)
        self.block = dense_cross_mask(frames)
        self.positions = periodic_positions(spec.latent, spec.period, frames).to(dtype)
        self.closed = None
        if valid is not None:
            self.closed = ~functional.pad(valid.bool(), (2, 0), value=True)

    def __call__(self, noisy: Tensor, step: Tensor, hidden: Tensor, style: Tensor) -> Tensor:
        """noisy (B, F, C), step (B,), hidden (B, F, D), style (B, N) → (B, F, C)."""
        net = self.net
        embed = net.time_embedding
        waves = step_sinusoid(step, embed.width).to(noisy)
        time = embed.linear_2(functional.silu(embed.linear_1(waves)))
        rows = style.to(noisy) @ net.obj_vector.weight
        state = net.vertice_map(noisy) + self.positions
        latent = state.shape[-1]
        for index, layer in enumerate(net.transformer_decoder.layers):
            part = slice(index * latent, (index + 1) * latent)
            tokens = torch.stack((rows[:, part], time[:, part]), 1)
            normed = layer.norm1(state)
            bias = self.bias.repeat(len(noisy), 1, 1)
            state = state + self.attend(layer.self_attn, normed, tokens, normed, bias)
            block = torch.zeros_like(self.block, dtype=state.dtype)
            block = block.masked_fill(self.block, -torch.inf)
            state = state + self.attend(
                layer.multihead_attn, layer.norm2(state), tokens, hidden, block
            )
            inner = functional.gelu(layer.linear1(layer.norm3(state)))
            state = state + layer.linear2(inner)
        return net.motion_decoder(state)

    def attend(self, weights, queries: Tensor, tokens: Tensor, more: Tensor, mask: Tensor):
        """Run PyTorch's multi-head attention over [tokens, more]."""
        keys = torch.cat((tokens, more), 1).transpose(0, 1)
        closed = None
        if self.closed is not None:
            closed = torch.zeros(self.closed.shape, dtype=queries.dtype)
            closed = closed.masked_fill(self.closed, -torch.inf)
        out, _ = functional.multi_head_attention_forward(
            queries.transpose(0, 1), keys, keys, queries.shape[-1], self.heads,
            weights.in_proj_weight, weights.in_proj_bias, None, None, False, 0.0,
            weights.out_proj.weight, weights.out_proj.bias, training=False,
            key_padding_mask=closed, need_weights=False, attn_mask=mask,
        )  # fmt: skip
        return out.transpose(0, 1)


@torch.inference_mode()
def sample(
    model: DiffSpeaker,
    hidden: Tensor,
    noise: Tensor,
    style: Tensor,
    moves: list[Move],
    *,
    valid: Tensor | None = None,
    guidance: float = 0.0,
    silent: Tensor | None = None,
) -> Tensor:
    """Denoise motion (B, F, C) step by step in its full width; no smoothing."""
    denoise = PlainDenoiser(model, noise.shape[1], valid)
    state = noise
    for move in moves:
        step = torch.full((len(noise),), move.step)
        clean = denoise(state, step, hidden, style)
        if guidance and silent is not None:
            clean = clean + guidance * (clean - denoise(state, step, silent, style))
        state = move.predicted * clean + move.kept * state
    return state


def smooth(motion: Tensor) -> Tensor:
    """Replace each inner frame by the mean of its three."""
    out = motion.clone()
    for frame in range(1, motion.shape[1] - 1):
        out[:, frame] = motion[:, frame - 1 : frame + 2].mean(1)
    return out
