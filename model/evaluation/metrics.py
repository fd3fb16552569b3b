# SPDX-License-Identifier: GPL-3.0-or-later
"""The measures of the field, in the units of the data, and what they are not.

Legend: `F` frames, `V` vertices, `L` lip vertices, `U` upper-face vertices, `C` controls.

Definitions are those of DiffSpeaker@0f2ae2d `alm/models/losses/utils.py`, in our words:

* LVE: per frame the largest *squared* distance among the lip vertices, averaged over frames. It is
  published as "mm" but is in squared units of the data set (m² for VOCASET). Beside it stands the
  same without the square, which has a length's unit.
* FDD: D(truth) - D(prediction), signed; D is the mean over upper-face vertices of the standard
  deviation over time of the squared distance from the template. Over- and under-motion cancel in a
  set's mean, so its absolute value stands beside it.
* Mouth opening difference: mean absolute difference of the distance between two lip vertices, one
  above and one below. Published tables do not say which; ours are named in the report.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
Indices = npt.NDArray[np.integer]


def lip_errors(truth: Floats, predicted: Floats, lips: Indices) -> Floats:
    """Return each frame's largest squared distance among the lip vertices, (F,).

    `truth`, `predicted`: (F, V, 3), cut to the shorter.
    """
    frames = min(len(truth), len(predicted))
    error = truth[:frames, lips] - predicted[:frames, lips]  # (F, L, 3)
    return np.asarray(np.square(error).sum(-1).max(-1))


def upper_dynamics(motion: Floats, template: Floats, upper: Indices) -> float:
    """Return D: how much the upper face moves about its mean, in squared units.

    `motion`: (F, V, 3) absolute; `template`: (V, 3).
    """
    squares = np.square(motion[:, upper] - template[upper]).sum(-1)  # (F, U)
    return float(squares.std(axis=0).mean())


def opening(motion: Floats, pair: tuple[int, int]) -> Floats:
    """Return the distance (F,) between two vertices of (F, V, 3)."""
    return np.asarray(np.linalg.norm(motion[:, pair[0]] - motion[:, pair[1]], axis=-1))


def opening_difference(truth: Floats, predicted: Floats, pair: tuple[int, int]) -> float:
    """Return the mean absolute difference of mouth openings."""
    frames = min(len(truth), len(predicted))
    return float(np.abs(opening(truth[:frames], pair) - opening(predicted[:frames], pair)).mean())


def opening_pair(motion: Floats, lips: Indices, most: int = 160) -> tuple[int, int]:
    """Return the two lip vertices whose distance varies most in recorded motion (F, V, 3)."""
    chosen = np.unique(lips)
    chosen = chosen[:: max(1, len(chosen) // most)]
    points = motion[:, chosen].astype(np.float64)  # (F, L, 3)
    spread = np.empty((len(chosen), len(chosen)))
    for row in range(len(chosen)):
        distances = np.linalg.norm(points - points[:, row : row + 1], axis=-1)
        spread[row] = distances.std(axis=0)
    first, second = np.unravel_index(int(spread.argmax()), spread.shape)
    return int(chosen[first]), int(chosen[second])


def diversity(samples: list[Floats]) -> float:
    """Return the mean distance (in units) between samples of other seeds, over all vertices.

    `samples`: at least two (F, V, 3) of the same clip; one gives 0.
    """
    if len(samples) < 2:
        return 0.0
    distances = [
        float(np.linalg.norm(first - second, axis=-1).mean()) for first, second in pairwise(samples)
    ]
    return float(np.mean(distances))


@dataclass(frozen=True)
class Interval:
    """A mean over replications with its 95 % confidence interval (normal approximation)."""

    mean: float
    half: float
    count: int

    @classmethod
    def of(cls, values: list[float]) -> Interval:
        """Return mean and 1.96 · σ / √n, with the population σ as published."""
        half = 1.96 * float(np.std(values)) / np.sqrt(len(values)) if len(values) > 1 else 0.0
        return cls(float(np.mean(values)), float(half), len(values))

    def plain(self) -> dict[str, float]:
        """Return the interval for JSON."""
        return {"mean": self.mean, "interval": self.half, "replications": self.count}


# ---------------------------------------------------------------- controls


def correlation(first: Floats, second: Floats) -> float:
    """Return Pearson's r of two (F,), nan where one of them does not move."""
    first, second = first - first.mean(), second - second.mean()
    size = float(np.sqrt((first @ first) * (second @ second)))
    return float(first @ second) / size if size > 1e-12 else float("nan")


def lag(truth: Floats, predicted: Floats, most: int = 6) -> int:
    """Return by how many frames the prediction follows the truth (negative: it leads)."""
    scores = []
    for shift in range(-most, most + 1):
        late = predicted[max(0, shift) : len(predicted) + min(0, shift)]
        early = truth[max(0, -shift) : len(truth) + min(0, -shift)]
        scores.append(correlation(early, late))
    return int(np.nanargmax(scores)) - most if np.isfinite(scores).any() else 0


@dataclass(frozen=True)
class Closures:
    """How many of the true lip closures were made, and how many made ones are true."""

    true: int
    found: int
    made: int
    right: int

    def __add__(self, other: Closures) -> Closures:
        """Return the counts of both."""
        return Closures(
            self.true + other.true,
            self.found + other.found,
            self.made + other.made,
            self.right + other.right,
        )

    @property
    def recall(self) -> float:
        """Return the share of true closures that were made."""
        return self.found / self.true if self.true else float("nan")

    @property
    def precision(self) -> float:
        """Return the share of made closures that are true."""
        return self.right / self.made if self.made else float("nan")


def closures(
    truth: Floats, predicted: Floats, *, shut: float = 0.8, enough: float = 0.6, slack: int = 1
) -> Closures:
    """Compare lip closures of two seal curves (F,), 1 = shut.

    A closure is a run of frames above `shut`; it counts as made where the other curve comes above
    `enough` within the run and `slack` frames around it.
    """
    true, made = runs(truth > shut), runs(predicted > shut)
    return Closures(
        len(true),
        sum(reaches(predicted, run, enough, slack) for run in true),
        len(made),
        sum(reaches(truth, run, enough, slack) for run in made),
    )


def runs(flags: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return the (first, end) of every run of true frames."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    return [(int(first), int(end)) for first, end in zip(edges[::2], edges[1::2], strict=True)]


def reaches(curve: Floats, run: tuple[int, int], enough: float, slack: int) -> bool:
    """Return whether a curve comes above `enough` in a run widened by `slack` frames."""
    first, end = max(0, run[0] - slack), run[1] + slack
    return bool((curve[first:end] > enough).any())
