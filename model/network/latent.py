# SPDX-License-Identifier: GPL-3.0-or-later
"""The denoiser as the sampler uses it: the same function of the same weights, with less to do.

The first and last layer of the network are linear and so is the sampler's rule. Instead of motion x
(C numbers a frame, up to 70,110) the loop therefore carries u = W_in x (D numbers); the network's
output y comes back into it as M y + c with M = W_in W_out and c = W_in b_out.

What no denoising step changes is done once per clip: the keys and values of speech, style and step
tokens. For cross-attention, the query projection is folded into those keys and the output
projection into those values, which leaves two short products a frame. Self-attention goes through
the queries in chunks; its bias depends on i - j only, so every chunk reads it as a view of one
strip, and no frames × frames matrix exists.

Legend: B batch, F frames, D latent, H heads, K = D / H, N condition tokens (2), T steps.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional

from .attention import CONDITIONS, bias_table
from .denoiser import Denoiser, DenoiserLayer, DiffSpeaker
from .sampling import draw

PREPARED = ("latent.product", "latent.noise_factor")
"""Tensors a model file may carry, computed from the others, to save two large products."""

CHUNK = 256  # queries at a time in self-attention
_KEPT = "_latent_network"  # where a model keeps its `LatentNetwork`


@dataclass(frozen=True)
class LatentNetwork:
    """What sampling needs of one model's weights, whatever the clip."""

    denoiser: Denoiser
    """The network itself; its weights are read, never copied."""
    product: Tensor
    """M (D, D): the output projection followed by the input projection."""
    offset: Tensor
    """c (D,): the output's bias, seen through the input projection."""
    noise_factor: Tensor | None
    """(D, D) L with L Lᵀ = W_in W_inᵀ, so that L z is distributed as W_in x; None when there are so
    few channels that drawing x itself is cheaper."""

    @classmethod
    def of(cls, model: DiffSpeaker) -> "LatentNetwork":
        """Return the model's network, prepared again only when its weights have changed."""
        kept = model.__dict__.get(_KEPT)
        if kept is not None and kept[0] == _weights_key(model):
            network: LatentNetwork = kept[1]
            return network
        enter = model.denoiser.vertice_map.weight.detach()  # (D, C)
        factor = None
        if enter.shape[1] > enter.shape[0]:
            factor = square_root(enter @ enter.mT)
        return cls.remember(model, enter @ model.denoiser.motion_decoder.weight.detach(), factor)

    @classmethod
    def remember(
        cls, model: DiffSpeaker, product: Tensor, noise_factor: Tensor | None
    ) -> "LatentNetwork":
        """Take a model's products as already computed (its file may carry them)."""
        denoiser = model.denoiser
        enter, leave = denoiser.vertice_map.weight.detach(), denoiser.motion_decoder
        if noise_factor is not None:
            noise_factor = noise_factor.to(enter)
        offset = enter @ leave.bias.detach()
        network = cls(denoiser, product.to(enter), offset, noise_factor)
        model.__dict__[_KEPT] = (_weights_key(model), network)
        return network

    def prepared(self) -> dict[str, Tensor]:
        """Return what a file may carry to save computing it; empty when that saves nothing."""
        if self.noise_factor is None:
            return {}
        return dict(zip(PREPARED, (self.product, self.noise_factor), strict=True))

    def start(self, batch: int, frames: int, seed: int, noise: Tensor | None) -> Tensor:
        """Return the noise that sampling starts from, seen by the network: (B, F, D).

        noise (…, F, C) is taken as given; otherwise it is drawn on the CPU, so that a seed means
        the same on every device.
        """
        enter = self.denoiser.vertice_map.weight
        factor = enter if noise is not None or self.noise_factor is None else self.noise_factor
        if noise is None:
            noise = torch.from_numpy(draw(seed, batch, frames, factor.shape[1]))
        return noise.to(factor).view(batch, frames, -1) @ factor.mT

    def again(self, features: Tensor) -> Tensor:
        """Return W_in (W_out y + b_out) for features y (B, F, D)."""
        return functional.linear(features, self.product, self.offset)

    def prepare(
        self, hidden: Tensor, style: Tensor, steps: list[int], valid: Tensor | None
    ) -> "LatentClip":
        """Compute everything about a clip that no step changes.

        hidden (B, F, D), style (B, N), valid (B, F) or None.
        """
        return LatentClip(self.denoiser, hidden, style, steps, valid)


class LatentClip:
    """One clip (or batch) ready to be denoised: call it with the state and the step's index."""

    def __init__(
        self,
        denoiser: Denoiser,
        hidden: Tensor,
        style: Tensor,
        steps: list[int],
        valid: Tensor | None,
    ) -> None:
        batch, frames, _ = hidden.shape
        spec = denoiser.spec
        mask = None if valid is None or bool(valid.all()) else valid.bool()
        bias = BiasStrip(spec.heads, frames, spec.period, mask, hidden)
        times = torch.tensor(steps, device=hidden.device).repeat_interleave(batch)
        tokens = denoiser.tokens(times, style.repeat(len(steps), 1))  # layers × (T·B, N, D)
        self.layers = [
            LatentLayer(
                cast(DenoiserLayer, layer),
                pair.view(len(steps), batch, CONDITIONS, -1),
                hidden,
                bias,
                mask,
            )
            for layer, pair in zip(denoiser.transformer_decoder.layers, tokens, strict=True)
        ]
        self.entry = denoiser.positions(frames).to(hidden) + denoiser.vertice_map.bias

    def __call__(self, state: Tensor, index: int) -> Tensor:
        """Return the features (B, F, D) before the output projection for state u (B, F, D)."""
        values = state + self.entry
        for layer in self.layers:
            values = layer(values, index)
        return values


class LatentLayer:
    """One denoiser layer with its keys and values for one clip."""

    def __init__(
        self,
        layer: DenoiserLayer,
        tokens: Tensor,
        hidden: Tensor,
        bias: "BiasStrip",
        valid: Tensor | None,
    ) -> None:
        """tokens (T, B, N, D), hidden (B, F, D)."""
        self.layer = layer
        self.bias = bias
        self.valid = valid
        own = layer.self_attn
        keys, values = own.project(tokens, slice(1, 3))  # (T, B, N, H, K)
        self.token_keys, self.token_values = keys.transpose(2, 3), values.transpose(2, 3)
        self.fold_cross_attention(tokens, hidden)

    def fold_cross_attention(self, tokens: Tensor, hidden: Tensor) -> None:
        """Fold query and output projections into the keys and values of speech and tokens."""
        cross = self.layer.multihead_attn
        latent, heads = hidden.shape[-1], cross.heads
        width = latent // heads
        query = cross.in_proj_weight[:latent].view(heads, width, latent) / math.sqrt(width)
        query_bias = cross.in_proj_bias[:latent].view(heads, width) / math.sqrt(width)
        out = cross.out_proj.weight.view(latent, heads, width)

        def fold(source: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            keys, values = cross.project(source, slice(1, 3))  # (…, H, K)
            return (
                torch.einsum("...hk,hkd->...hd", keys, query),
                torch.einsum("...hk,hk->...h", keys, query_bias),
                torch.einsum("...hk,dhk->...hd", values, out),
            )

        self.speech_keys, self.speech_bias, self.speech_values = fold(hidden)  # (B, F, H, D)
        if self.valid is not None:
            self.speech_bias = self.speech_bias.masked_fill(~self.valid[..., None], -torch.inf)
        keys, key_bias, values = fold(tokens)  # (T, B, N, H, D)
        self.cross_keys = keys.flatten(2, 3).mT.contiguous()  # (T, B, D, N·H)
        self.cross_bias = key_bias.flatten(2)[:, :, None]  # (T, B, 1, N·H)
        self.cross_values = values.flatten(2, 3)  # (T, B, N·H, D)

    def __call__(self, values: Tensor, index: int) -> Tensor:
        """values (B, F, D) → (B, F, D)."""
        layer = self.layer
        values = values + self.attend_self(layer.norm1(values), index)
        values += self.attend_speech(layer.norm2(values), index)
        inner = functional.gelu(layer.linear1(layer.norm3(values)))
        values += layer.linear2(inner)
        return values

    def attend_self(self, frames: Tensor, index: int) -> Tensor:
        """Let frames (B, F, D) attend to tokens and all frames, in chunks of queries."""
        own = self.layer.self_attn
        query, key, value = own.project(frames, slice(0, 3)).transpose(2, 3)  # (B, H, F, K)
        keys = torch.cat((self.token_keys[index], key), 2)  # (B, H, N+F, K)
        values = torch.cat((self.token_values[index], value), 2)
        out = torch.empty_like(query.transpose(1, 2)).transpose(1, 2)
        for start in range(0, frames.shape[1], CHUNK):
            end = min(start + CHUNK, frames.shape[1])
            with self.bias.rows(start, end) as bias:
                out[:, :, start:end] = functional.scaled_dot_product_attention(
                    query[:, :, start:end], keys, values, attn_mask=bias
                )
        return own.out_proj(out.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]

    def attend_speech(self, frames: Tensor, index: int) -> Tensor:
        """Let each frame (B, F, D) attend to the tokens and its own speech: three keys a head."""
        cross = self.layer.multihead_attn
        heads = cross.heads
        speech = (self.speech_keys @ frames[..., None])[..., 0] + self.speech_bias  # (B, F, H)
        tokens = frames @ self.cross_keys[index] + self.cross_bias[index]  # (B, F, N·H)
        logits = torch.cat((tokens, speech), -1).view(*speech.shape[:2], CONDITIONS + 1, heads)
        weights = logits.softmax(-2).flatten(2)  # (B, F, (N+1)·H)
        out = weights[..., : CONDITIONS * heads] @ self.cross_values[index]
        out += (weights[..., None, CONDITIONS * heads :] @ self.speech_values)[..., 0, :]
        return out + cross.out_proj.bias


class BiasStrip:
    """The self-attention bias of a whole clip, held as one chunk's worth of shifted rows."""

    def __init__(
        self, heads: int, frames: int, period: int, valid: Tensor | None, like: Tensor
    ) -> None:
        """valid (B, F) bool closes padded keys; device and dtype are those of `like`."""
        rows = min(CHUNK, frames)
        table = bias_table(heads, frames, period)
        # Row r, column m: query r of a chunk and key r - (m - F - N + 1); clamped where never read.
        reach = frames + CONDITIONS - 1
        shift = torch.arange(rows)[:, None] - torch.arange(reach + frames)[None, :] + reach
        index = shift.clamp(1 - frames, frames - 1) + frames - 1
        self.strip = table[:, index].to(like)  # (H, rows, 2F+N-1)
        self.frames = frames
        self.closed: Tensor | None = None
        if valid is not None:
            opened = functional.pad(valid, (CONDITIONS, 0), value=True)
            self.closed = torch.zeros(opened.shape, dtype=like.dtype, device=like.device)
            self.closed = self.closed.masked_fill(~opened, -torch.inf)[:, None, None]

    @contextmanager
    def rows(self, start: int, end: int) -> Iterator[Tensor]:
        """Lend the bias (B or 1, H, end - start, N+F) of some queries, until the next call.

        It is a view of the strip; the condition tokens, which have no distance, borrow two of the
        strip's columns as zeros and give them back.
        """
        first = self.frames - 1 - start
        view = self.strip[:, : end - start, first : first + CONDITIONS + self.frames]
        tokens = view[..., :CONDITIONS]
        kept = tokens.clone()
        tokens.zero_()
        if self.closed is not None:
            yield view + self.closed
        elif view.device.type == "cpu":
            yield view[None]
        else:  # fused kernels of GPUs want their mask aligned in memory
            yield view[None].contiguous()
        tokens.copy_(kept)


def _weights_key(model: DiffSpeaker) -> tuple[Any, ...]:
    """Return what changes when the outer projections' weights do, in place or by replacement."""
    ends = (model.denoiser.vertice_map, model.denoiser.motion_decoder)
    weights = [weight for end in ends for weight in (end.weight, end.bias)]
    return tuple(
        (weight.data_ptr(), weight.dtype, 0 if weight.is_inference() else weight._version)
        for weight in weights
    )


def square_root(gram: Tensor) -> Tensor:
    """Return L (D, D) with L Lᵀ = gram; by eigenvalues when it is not of full rank."""
    wide = gram.cpu().double()  # Apple GPUs have no double precision
    factor, failed = torch.linalg.cholesky_ex(wide)
    if int(failed):
        values, vectors = torch.linalg.eigh(wide)
        factor = vectors * values.clamp(min=0).sqrt()
    return factor.to(gram)  # type: ignore[no-any-return]
