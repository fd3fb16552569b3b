# SPDX-License-Identifier: GPL-3.0-or-later
"""The sampling process, whatever runs the network: noise schedule, both DDIM rules, the walk.

Published models are run with the rule of the one library version their authors pinned, whose DDIM
step puts the predicted *motion* where the predicted *noise* belongs (diffusers issue 1486, mended
in 0.15). Its results are the published numbers, so it is the default for such models; "corrected"
is the textbook rule with no noise left at the end. Both move x to `predicted` · x̂0 + `kept` · x.

Arrays may be numpy's or torch's: only their operators are used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError
from ..progress import Watch

Array = NDArray[np.float32]

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

    signal: Array
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
            after = self.signal[before] if before >= 0 else np.float32(final)
            move = _pinned(step, after) if sampler == "published" else self._exact(step, after)
            moves.append(move)
        return moves

    def _exact(self, step: int, after: np.float32) -> Move:
        """DDIM without added noise (Song et al. 2021, eq. 12) for a network that predicts x0."""
        now = self.signal[step]
        kept = float(np.sqrt(1 - after)) / float(np.sqrt(1 - now))
        return Move(step, float(np.sqrt(after)) - kept * float(np.sqrt(now)), kept)


def _pinned(step: int, after: np.float32) -> Move:
    """DDIM as in diffusers 0.11 to 0.14: both terms carry the prediction, the state is dropped."""
    return Move(step, float(np.sqrt(after)) + float(np.sqrt(1 - after)), 0.0)


@lru_cache(maxsize=1)
def schedule() -> Schedule:
    """Return the published schedule: β from 0.00085 to 0.012, linear in its square root."""
    betas = np.linspace(0.00085**0.5, 0.012**0.5, STEPS).astype(np.float32) ** 2
    return Schedule(np.cumprod(1 - betas, dtype=np.float64).astype(np.float32))


def walk(
    state: Any, moves: list[Move], predict: Callable[[Any, int], tuple[Any, Any]], watch: Watch
) -> tuple[Any, float]:
    """Denoise from pure noise to motion, carrying D numbers a frame instead of its channels.

    `predict` turns the state (…, F, D) of a step into the network's last features (…, F, D) and
    into its prediction as the network sees it (…, F, D). Returns the features of the result and
    the factor of the output's bias in it. Raises `Cancelled` between two steps.
    """
    total, offset = 0.0, 0.0
    for index, move in enumerate(moves):
        features, entry = predict(state, index)
        total = total * move.kept + move.predicted * features
        offset = offset * move.kept + move.predicted
        if index + 1 < len(moves):
            state = move.kept * state + move.predicted * entry
        watch((index + 1) / len(moves))
    return total, offset


def smooth(frames: Any) -> Any:
    """Replace inner frames of (…, F, ·) by the mean of their three; the end frames stay.

    Published for VOCASET on vertices; a linear projection afterwards commutes with it.
    """
    if frames.shape[-2] < 3:
        return frames
    smoothed = frames * 1.0
    smoothed[..., 1:-1, :] = (frames[..., :-2, :] + frames[..., 1:-1, :] + frames[..., 2:, :]) / 3
    return smoothed


def draw(seed: int, *shape: int) -> Array:
    """Return normal noise: the same for a seed on every machine and with every version of numpy.

    `RandomState` is the one generator whose numbers numpy promises never to change.
    """
    words = [seed & 0xFFFFFFFF, seed >> 32] if seed >> 32 else seed
    return np.random.RandomState(words).standard_normal(shape).astype(np.float32)
