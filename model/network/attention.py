# SPDX-License-Identifier: GPL-3.0-or-later
"""Biased conditional attention: where a motion frame may look, and how far away counts as far.

Both kinds let every frame attend to two condition tokens (speaking style, diffusion step) in front
of its own keys. Self-attention looks at all frames through a bias that falls by one slope per head
for each whole period of distance; cross-attention looks at the speech of the same frame only, which
makes it a softmax over three keys instead of a frames × frames matrix.

Legend: B batch, F frames, D latent, H heads, K = D / H, N condition tokens (2).
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from .tables import head_slopes

CONDITIONS = 2


def bias_table(heads: int, frames: int, period: int) -> Tensor:
    """Return the bias by distance (H, 2F-1): entry i - j + F - 1 is for query i and key j.

    -slope · ⌊(i-j)/p⌋ looking back and -slope · ⌊(j-i-1)/p⌋ looking ahead: asymmetric by one
    frame, as published (DiffSpeaker@0f2ae2d, biased mask of the denoiser's decoder).
    """
    distance = torch.arange(1 - frames, frames)
    periods = torch.where(
        distance >= 0,
        torch.div(distance, period, rounding_mode="floor"),
        torch.div(-distance - 1, period, rounding_mode="floor"),
    )
    return -torch.tensor(head_slopes(heads))[:, None] * periods


def self_bias(heads: int, frames: int, period: int) -> Tensor:
    """Return the whole self-attention bias (H, F, N+F), zero for the condition tokens.

    Only for training lengths; the sampler never builds it (see `latent.py`).
    """
    table = bias_table(heads, frames, period)
    index = torch.arange(frames)
    bias = table[:, index[:, None] - index[None, :] + frames - 1]  # (H, F, F)
    return functional.pad(bias, (CONDITIONS, 0))


class Attention(nn.Module):
    """The four projections of multi-head attention, under PyTorch's own names."""

    def __init__(self, latent: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * latent, latent))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * latent))
        self.out_proj = nn.Linear(latent, latent)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def project(self, values: Tensor, which: slice) -> Tensor:
        """Apply some of the three input projections (0 query, 1 key, 2 value) and split heads.

        values (B, F, D) → (which, B, F, H, K).
        """
        latent = values.shape[-1]
        rows = slice(which.start * latent, which.stop * latent)
        out = functional.linear(values, self.in_proj_weight[rows], self.in_proj_bias[rows])
        split = (which.stop - which.start, self.heads, latent // self.heads)
        return out.view(*values.shape[:-1], *split).movedim(-3, 0)

    @property
    def dropping(self) -> float:
        """Dropout probability now."""
        return self.dropout if self.training else 0.0


class BiasedSelfAttention(Attention):
    """Let each frame look at the condition tokens and, through the bias, at every frame."""

    def forward(self, frames: Tensor, tokens: Tensor, bias: Tensor) -> Tensor:
        """frames (B, F, D) normed, tokens (B, N, D) as they are, bias (B or 1, H, F, N+F)."""
        queries = self.project(frames, slice(0, 1))[0]
        keys, values = self.project(torch.cat((tokens, frames), 1), slice(1, 3))
        out = functional.scaled_dot_product_attention(
            queries.transpose(1, 2),
            keys.transpose(1, 2),
            values.transpose(1, 2),
            attn_mask=bias,
            dropout_p=self.dropping,
        )  # (B, H, F, K)
        out = out.transpose(1, 2).flatten(2)  # (B, F, D)
        return self.out_proj(out)  # type: ignore[no-any-return]


class BiasedCrossAttention(Attention):
    """Let each frame look at the condition tokens and at the speech of its own time only."""

    def forward(
        self, frames: Tensor, tokens: Tensor, speech: Tensor, valid: Tensor | None
    ) -> Tensor:
        """frames (B, F, D) normed, tokens (B, N, D), speech (B, F, D), valid (B, F) bool or None.

        A padded frame is left with the condition tokens alone, as published.
        """
        queries = self.project(frames, slice(0, 1))[0]  # (B, F, H, K)
        token_keys, token_values = self.project(tokens, slice(1, 3))  # (B, N, H, K)
        keys, values = self.project(speech, slice(1, 3))  # (B, F, H, K)
        own = (queries * keys).sum(-1, keepdim=True)  # (B, F, H, 1)
        if valid is not None:
            own = own.masked_fill(~valid[:, :, None, None], -torch.inf)
        logits = torch.cat((torch.einsum("bfhk,bnhk->bfhn", queries, token_keys), own), -1)
        weights = (logits / math.sqrt(queries.shape[-1])).softmax(-1)  # (B, F, H, N+1)
        weights = functional.dropout(weights, self.dropping)
        out = torch.einsum("bfhn,bnhk->bfhk", weights[..., :CONDITIONS], token_values)
        out = out + weights[..., CONDITIONS:] * values
        return self.out_proj(out.flatten(2))  # type: ignore[no-any-return]
