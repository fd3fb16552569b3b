# SPDX-License-Identifier: GPL-3.0-or-later
"""What generation asks of whatever runs the network: listen, then denoise. Arrays are numpy's.

Legend: n samples at 16 kHz, F frames, C channels, D latent, N styles, T steps.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...errors import StyleError
from ...progress import Watch
from ..sampling import schedule, smooth, walk
from ..spec import ModelSpec

Array = NDArray[np.float32]
Predict = Callable[[Array, int], tuple[Array, Array]]
PutBack = Callable[[Array], Array]


@dataclass(frozen=True)
class Ends:
    """The linear layers at both ends of the network, and what a channel's numbers mean."""

    enter: Array
    """(D, C) input projection."""
    leave: Array
    """(C, D) output projection."""
    bias: Array
    """(C,) bias of the output."""
    mean: Array
    """(C,) motion = output · scale + mean."""
    scale: Array
    """(C,)."""


@dataclass(frozen=True)
class Latents:
    """Sampled motion in the factored form that the last, linear layer gives for free.

    motion[f] = weight @ features[f] + bias, an offset from the template (vertices) or control
    values; so a clip's motion has rank ≤ D whatever the number of vertices.
    """

    features: Array
    """(F, D)."""
    weight: Array
    """(C, D)."""
    bias: Array
    """(C,)."""


@dataclass(frozen=True)
class Sampling:
    """How to sample; what is None is the model's own."""

    style: Array
    """(N,) mix weights."""
    steps: int | None = None
    """Denoising steps."""
    sampler: str | None = None
    """"published" or "corrected"."""
    guidance: float = 0.0
    """s moves the prediction c to c + s · (c - u), u being that for silence."""


class Engine(ABC):
    """One loaded model on one device."""

    name: str = ""
    """What a person calls this engine."""
    device: str = "cpu"
    """"cpu", "cuda:0", "mps"."""
    precision: str = "float32"
    """The number format that the speech encoder computes in."""

    def __init__(self, spec: ModelSpec, ends: Ends, template: Array | None) -> None:
        self.spec, self.ends, self.template = spec, ends, template

    @property
    @abstractmethod
    def about(self) -> str:
        """Name, version and threads, for a report."""

    @abstractmethod
    def listen(self, samples: Array, frames: int, watch: Watch) -> Array:
        """Return what samples (n,) say at each frame, in a form of the engine's own: (F, ·)."""

    @abstractmethod
    def start(self, frames: int, seed: int, noise: Array | None) -> Array:
        """Return the noise that sampling starts from as the network sees it: (F, D).

        noise (F, C) replaces the seed's.
        """

    @abstractmethod
    def clip(self, heard: Array, style: Array, steps: list[int]) -> Predict:
        """Prepare some frames (F, ·) of what was heard for the diffusion steps (T,).

        The answer turns a state (F, D) and the step's index into the last features (F, D) and
        the prediction as the network sees it (F, D).
        """

    def sample(
        self,
        heard: Array,
        silent: Array | None,
        how: Sampling,
        *,
        seed: int = 0,
        noise: Array | None = None,
        put_back: PutBack | None = None,
        watch: Watch,
    ) -> Latents:
        """Denoise some frames (F, ·) of what was heard; `silent` is the same for silence.

        `put_back` replaces what is known in each normalised prediction (F, C); the last prediction
        is returned as the network made it, for the caller to put the same values in.

        Raises `Cancelled` between two steps, `ConfigError` for impossible settings.
        """
        moves = schedule().moves(how.steps or self.spec.steps, how.sampler or self.spec.sampler)
        steps = [move.step for move in moves]
        predict = self.clip(heard, how.style, steps)
        if how.guidance and silent is not None:
            predict = _guided(predict, self.clip(silent, how.style, steps), how.guidance)
        if put_back is not None:
            predict = self._amended(predict, put_back)
        total, offset = walk(self.start(len(heard), seed, noise), moves, predict, watch)
        if self.spec.smoothing:
            total = smooth(total)
        ends = self.ends
        plain = bool((ends.scale == 1).all())  # spares a copy of what may be 70,110 × 1,024 numbers
        weight = ends.leave if plain else ends.leave * ends.scale[:, None]
        bias = offset * ends.bias * ends.scale + ends.mean
        return Latents(total, weight, bias.astype(np.float32))

    def style(self, style: int | str | dict[str, float]) -> Array:
        """Return mix weights (N,) for a style's name, number or named weights (sum made 1).

        Raises `StyleError`.
        """
        weights = np.zeros(len(self.spec.styles), np.float32)
        for name, weight in (style if isinstance(style, dict) else {style: 1.0}).items():
            weights[self.spec.style_index(name)] += float(weight)
        total = float(weights.sum())
        if not math.isfinite(total) or abs(total) < 1e-6:
            raise StyleError("The style weights sum to nothing.", "Give at least one above zero.")
        return weights / np.float32(total)

    def _amended(self, predict: Predict, put_back: PutBack) -> Predict:
        """Let a prediction enter the network again with its known values put back."""

        def amended(state: Array, index: int) -> tuple[Array, Array]:
            features, _ = predict(state, index)
            motion = features @ self.ends.leave.T + self.ends.bias
            return features, put_back(motion) @ self.ends.enter.T

        return amended


def _guided(predict: Predict, unheard: Predict, strength: float) -> Predict:
    def guided(state: Array, index: int) -> tuple[Array, Array]:
        pairs = zip(predict(state, index), unheard(state, index), strict=True)
        features, entry = ((1 + strength) * heard - strength * silent for heard, silent in pairs)
        return features, entry

    return guided
