# SPDX-License-Identifier: GPL-3.0-or-later
"""The training losses: squared error of positions and of their differences in time.

Legend: `B` batch, `F` frames, `C` channels.

Two ways to treat padding (SPEC of DiffSpeaker@0f2ae2d `alm/models/losses/voca.py`, in our words):

* "published": predictions and targets are zeroed outside the clip, and both means run over all
  B·F·C numbers, padding included; the step from the last valid frame into the padding counts the
  last frame's error once more in the velocity term.
* "masked": sums run over valid frames (and pairs of valid frames) only and are divided by their
  number, so the loss of a clip does not depend on its neighbours' lengths.

Terms come as sum and count: several processes add both before they divide, so that a batch spread
over machines has the loss of the whole batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor
from torch.nn import functional

from ..errors import ConfigError
from .settings import Loss, nearest


@dataclass(frozen=True)
class Terms:
    """Sums and counts of the loss terms, in the order position, velocity, acceleration."""

    sums: Tensor  # (3,)
    counts: Tensor  # (3,)


def loss_terms(
    predicted: Tensor,
    target: Tensor,
    valid: Tensor,
    settings: Loss,
    weights: Tensor | None = None,
) -> Terms:
    """Return the sums and counts of the loss terms.

    `predicted`, `target`: (B, F, C); `valid`: (B, F) bool; `weights`: (C,) factors of the squared
    error, or None for ones.
    """
    kept = valid.unsqueeze(-1)
    error = torch.where(kept, predicted - target, 0.0)  # (B, F, C), also clears NaN of padding
    sums, counts = [], []
    for weight in (settings.position, settings.velocity, settings.acceleration):
        if weight:
            measured = penalty(error, settings.kind, weights)
            sums.append(measured.sum() if settings.padding == "published" else
                        torch.where(kept, measured, 0.0).sum())  # fmt: skip
            counts.append(count(kept, error, settings.padding))
        else:
            sums.append(error.new_zeros(()))
            counts.append(error.new_ones(()))
        error = error[:, 1:] - error[:, :-1]
        kept = kept[:, 1:] & kept[:, :-1]
    return Terms(torch.stack(sums), torch.stack(counts))


def penalty(error: Tensor, kind: str, weights: Tensor | None) -> Tensor:
    """Return each error's cost: its square, or linear beyond 1 ("huber"), times channel weights."""
    if kind == "huber":
        cost = 2.0 * functional.huber_loss(error, torch.zeros_like(error), reduction="none")
    else:
        cost = error.square()
    return cost if weights is None else cost * weights


def count(kept: Tensor, error: Tensor, padding: str) -> Tensor:
    """Return over how many numbers a term's mean runs (at least 1)."""
    if padding == "published":
        return error.new_tensor(float(max(error.numel(), 1)))
    return (kept.sum() * error.shape[-1]).clamp(min=1).to(error.dtype)


def total(terms: Terms, settings: Loss) -> Tensor:
    """Return the weighted sum of the terms' means."""
    factors = terms.sums.new_tensor([settings.position, settings.velocity, settings.acceleration])
    return (factors * terms.sums / terms.counts).sum()


def channel_weights(names: tuple[str, ...], weights: Mapping[str, float]) -> Tensor | None:
    """Return factors (C,) of the named channels; a name may be a pattern such as `mouth*`.

    Later entries win over earlier ones.

    Raises:
        ConfigError: a name matches no channel, or the motion has no named channels.
    """
    if not weights:
        return None
    factors = torch.ones(len(names))
    for pattern, weight in weights.items():
        found = [index for index, name in enumerate(names) if fnmatchcase(name, pattern)]
        if not found:
            hint = nearest(pattern, list(names)) if names else "Only controls have names."
            raise ConfigError(f"loss.channels names {pattern}, which no channel has.", hint=hint)
        factors[found] = float(weight)
    return factors
