# SPDX-License-Identifier: GPL-3.0-or-later
"""What the denoiser is given besides speech and noise: positions, attention bias, tokens.

The numpy form of `denoiser.periodic_positions`, `attention.self_bias` and `Denoiser.tokens`.

Legend: F frames, D latent, H heads, L layers, N styles, T steps, W audio width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ..errors import CheckpointError
from .spec import ModelSpec

Array = NDArray[np.float32]


@lru_cache(maxsize=2)
def positions(latent: int, period: int, frames: int) -> Array:
    """Return positions (F, D) that repeat every period: even dims sine, odd dims cosine."""
    steps = np.arange(0, latent, 2, dtype=np.float32)
    rates = np.exp(steps * np.float32(-math.log(10000.0) / latent))
    angles = np.arange(period, dtype=np.float32)[:, None] * rates[None, :]
    table = np.stack((np.sin(angles), np.cos(angles)), -1).reshape(period, latent)
    return table[np.arange(frames) % period].astype(np.float32)


@lru_cache(maxsize=2)
def bias(heads: int, frames: int, period: int) -> Array:
    """Return the self-attention bias (1, H, F, 2 + F), zero for the condition tokens.

    -slope · ⌊(i-j)/p⌋ looking back and -slope · ⌊(j-i-1)/p⌋ looking ahead.
    """
    distance = np.arange(frames)[:, None] - np.arange(frames)[None, :]
    periods = np.where(distance >= 0, distance // period, (-distance - 1) // period)
    slopes = np.array(head_slopes(heads), np.float32)
    table = -slopes[:, None, None] * periods.astype(np.float32)
    return np.pad(table, ((0, 0), (0, 0), (2, 0)))[None]


def head_slopes(heads: int) -> list[float]:
    """Return each head's bias slope: 2^(-8h/H) for h = 1..H (Press et al. 2022, ALiBi).

    For a number of heads that is no power of two, take the next lower power's slopes and fill up
    with every other slope of the next higher one, as that paper's reference rule does.
    """
    power = 2 ** math.floor(math.log2(heads))
    slopes = [2.0 ** (-8.0 * (head + 1) / power) for head in range(power)]
    if power < heads:
        slopes += head_slopes(2 * power)[0::2][: heads - power]
    return slopes


class Tokens:
    """The two condition tokens of every layer: speaking style, then diffusion step."""

    def __init__(self, spec: ModelSpec, weights: Mapping[str, Array]) -> None:
        """Raises `CheckpointError` naming a weight that is missing or of another size."""
        self._width, wide = spec.audio_width, spec.latent * spec.layers
        name = "denoiser.time_embedding.linear_"
        shapes: dict[str, tuple[int, ...]] = {
            "denoiser.obj_vector.weight": (len(spec.styles), wide)
        }
        shapes |= {f"{name}1.weight": (wide, spec.audio_width), f"{name}2.weight": (wide, wide)}
        shapes |= {f"{name}{number}.bias": (wide,) for number in (1, 2)}
        for key, shape in shapes.items():
            if key not in weights or weights[key].shape != shape:
                raise CheckpointError(f"The model does not fit its description: {key} is wrong.")
        self._styles = weights["denoiser.obj_vector.weight"]  # (N, DL)
        self._layers = [
            (weights[f"{name}{number}.weight"], weights[f"{name}{number}.bias"])
            for number in (1, 2)
        ]

    def __call__(self, style: Array, steps: list[int]) -> Array:
        """Return (T, 2, DL) for mix weights (N,) and diffusion steps (T,)."""
        (first, first_bias), (second, second_bias) = self._layers
        inner = step_sinusoid(steps, self._width) @ first.T + first_bias
        times = (inner / (1 + np.exp(-inner))) @ second.T + second_bias  # (T, DL)
        rows = np.broadcast_to(style @ self._styles, times.shape)
        return np.stack((rows, times), axis=1).astype(np.float32)


def step_sinusoid(steps: list[int], width: int) -> Array:
    """Return the sinusoid of diffusion steps (T, W): cosines first, then sines."""
    half = width // 2
    exponent = np.float32(-math.log(10000)) * np.arange(half, dtype=np.float32)
    angles = np.array(steps, np.float32)[:, None] * np.exp(exponent / np.float32(half))[None, :]
    return np.concatenate((np.cos(angles), np.sin(angles)), axis=1).astype(np.float32)
