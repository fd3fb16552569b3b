# SPDX-License-Identifier: GPL-3.0-or-later
"""Waveform → speech features: what all encoders share, and how features meet motion frames.

Every encoder gives 50 feature frames a second. `hubert.py` holds HuBERT and wav2vec 2.0 (one
network at base size), `whisper.py` OpenAI's Whisper encoder. An encoder has three things:
`prepare(audio, lengths)` (normalisation), `forward(audio, lengths, watch)` and `first_time`, the
second that its feature 0 is centred on.

Legend: B batch, n samples at 16 kHz, S speech frames, F motion frames, W features.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..frames import FEATURE_RATE, windows


class SpeechEncoder(nn.Module):
    """What every speech encoder has."""

    first_time: float = 0.0
    """The second that feature 0 is centred on."""

    def prepare(self, audio: Tensor, lengths: Tensor | None) -> Tensor:
        """Normalise raw 16 kHz audio (B, n) as this encoder was trained; lengths (B,) or None."""
        raise NotImplementedError


def computing_in(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """Return a context in which encoders compute in "bfloat16", or as they are ("float32")."""
    if precision == "bfloat16":
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()


def has_bfloat16(device: torch.device) -> bool:
    """Tell whether a device computes bfloat16 by itself, so that it is faster and not slower."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    probe = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return device.type == "cpu" and probe is not None and bool(probe())


def normalise(audio: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Bring each clip (B, n) to zero mean and unit variance over its valid part; padding to zero.

    (x - mean) / √(var + 1e-7), population variance (the wav2vec 2.0 feature extractor's rule).
    """
    out = torch.zeros_like(audio)
    for row, length in enumerate(clip_lengths(audio, lengths)):
        clip = audio[row, :length]
        if length:
            centred = clip - clip.mean()
            out[row, :length] = centred / torch.sqrt(clip.var(correction=0) + 1e-7)
    return out


def clip_lengths(audio: Tensor, lengths: Tensor | None) -> list[int]:
    """Return the valid samples of each row of (B, n) as plain numbers."""
    if lengths is None:
        return [audio.shape[1]] * audio.shape[0]
    return [int(length) for length in lengths]


def stretch(features: Tensor, frames: int) -> Tensor:
    """Stretch (B, S, W) over motion frames → (B, F, W): first to first, last to last, linear.

    Source position i·(S-1)/(F-1) in float32, as published (align_corners).
    """
    out = functional.interpolate(features.mT, frames, mode="linear", align_corners=True)
    return out.mT


def at_times(features: Tensor, frames: int, fps: float, first_time: float = 0.0) -> Tensor:
    """Read (B, S, W) at i / fps seconds for motion frames i → (B, F, W), linear, ends held.

    `first_time` is the second that feature 0 is centred on. Nothing is stretched, so what is heard
    at a time moves the face at that time, in a padded batch as well as alone.
    """
    times = torch.arange(frames, dtype=torch.float64) / fps
    position = ((times - first_time) * FEATURE_RATE).clamp(0, features.shape[1] - 1)
    low = position.floor().long().clamp(max=max(0, features.shape[1] - 2))
    high = (low + 1).clamp(max=features.shape[1] - 1)
    share = (position - low).to(features)[:, None]
    return torch.lerp(
        features[:, low.to(features.device)], features[:, high.to(features.device)], share
    )


def in_windows(
    inputs: Tensor, encode: Callable[[Tensor], Tensor], size: int, overlap: int
) -> Tensor:
    """Encode (B, S, ·) in overlapping windows and cross-fade them linearly → (B, S, ·).

    `encode` keeps the number of frames. At most one window is in memory besides the result.
    """
    total = inputs.shape[1]
    if total <= size:
        return encode(inputs)
    result: Tensor | None = None
    covered = 0
    for start, end in windows(total, size, overlap):
        piece = encode(inputs[:, start:end])
        if result is None:
            result = piece.new_empty(piece.shape[0], total, *piece.shape[2:])
        shared = covered - start
        if shared > 0:
            rise = (torch.arange(shared, device=piece.device) + 1.0) / (shared + 1.0)
            rise = rise.to(piece).view(1, -1, *[1] * (piece.dim() - 2))
            piece[:, :shared] = torch.lerp(result[:, start:covered], piece[:, :shared], rise)
        result[:, start:end] = piece
        covered = end
    assert result is not None
    return result
