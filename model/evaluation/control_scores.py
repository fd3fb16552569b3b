# SPDX-License-Identifier: GPL-3.0-or-later
"""Score a control model against the curves it was taught, on speakers it never heard.

Legend: `F` frames, `C` controls.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from ..data.dataset import Clip, DataSet
from ..network.denoiser import DiffSpeaker
from ..network.diffusion import sample
from . import metrics
from .metrics import Closures, Floats, correlation
from .vertex_scores import Plan

SEAL, JAW = "mouthClose", "jawOpen"
VERBAL = ("jaw", "mouth", "lip", "tongue")


@torch.inference_mode()
def predict(model: DiffSpeaker, data: DataSet, clip: Clip, plan: Plan, seed: int) -> Floats:
    """Return the model's controls (F, C) for a clip."""
    audio = torch.from_numpy(data.audio(clip))[None].to(model.device)
    hidden = model.encode(audio, clip.frames)
    mix = clip.style or (1.0,) + (0.0,) * (len(data.styles) - 1)
    guidance = model.spec.guidance if plan.guidance is None else plan.guidance
    silent = model.encode(torch.zeros_like(audio), clip.frames) if guidance else None
    latents = sample(
        model,
        hidden,
        torch.tensor([mix], device=model.device),
        steps=plan.steps,
        sampler=plan.sampler,
        guidance=guidance,
        silent_hidden=silent,
        seed=seed,
    )
    return latents.motion()[0].float().cpu().numpy()


def score_split(
    model: DiffSpeaker,
    data: DataSet,
    clips: list[Clip],
    plan: Plan,
    progress: Callable[[float], None] | None = None,
) -> dict[str, Any]:
    """Return per-control correlations, closures, lag, diversity over seeds and speed."""
    names = data.control_names
    truths, predictions, others, rows = [], [], [], []
    spent = 0.0
    for number, clip in enumerate(clips):
        truth = data.motion(clip)
        started = time.perf_counter()
        predicted = predict(model, data, clip, plan, plan.seeds[0])
        spent += time.perf_counter() - started
        more = [predict(model, data, clip, plan, seed) for seed in plan.seeds[1:2]]
        others.append(spread(names, [predicted, *more]))
        truths.append(truth)
        predictions.append(predicted)
        rows.append(clip_row(clip, names, truth, predicted))
        if progress:
            progress((number + 1) / len(clips))
    seconds = sum(clip.frames for clip in clips) / data.fps
    truth, predicted = np.concatenate(truths), np.concatenate(predictions)
    verbal, living = np.mean(others, axis=0)
    return {
        "controls": {
            name: control_row(truth[:, index], predicted[:, index])
            for index, name in enumerate(names)
        },
        "closures": closure_row(names, truths, predictions),
        "lag_frames": pooled_lag(names, truths, predictions),
        "diversity": {"speech": float(verbal), "life": float(living)},
        "seconds_per_second": {"all": spent / max(seconds, 1e-9)},
        "clips": rows,
    }


def control_row(truth: Floats, predicted: Floats) -> dict[str, float]:
    """Return one control's correlation, error and amount of motion, over all frames."""
    return {
        "correlation": correlation(truth, predicted),
        "error": float(np.sqrt(np.mean((truth - predicted) ** 2))),
        "deviation_true": float(truth.std()),
        "deviation": float(predicted.std()),
    }


def clip_row(
    clip: Clip, names: tuple[str, ...], truth: Floats, predicted: Floats
) -> dict[str, Any]:
    """Return one clip's mean error and its jaw's correlation."""
    row: dict[str, Any] = {
        "name": clip.name,
        "subject": clip.subject,
        "frames": clip.frames,
        "error": float(np.sqrt(np.mean((truth - predicted) ** 2))),
    }
    if JAW in names:
        jaw = names.index(JAW)
        row["jaw_correlation"] = correlation(truth[:, jaw], predicted[:, jaw])
    return row


def closure_row(
    names: tuple[str, ...], truths: list[Floats], predictions: list[Floats]
) -> dict[str, float] | None:
    """Return recall and precision of lip closures over all clips."""
    if SEAL not in names:
        return None
    column = names.index(SEAL)
    total = Closures(0, 0, 0, 0)
    for truth, predicted in zip(truths, predictions, strict=True):
        total = total + metrics.closures(truth[:, column], predicted[:, column])
    return {"recall": total.recall, "precision": total.precision, "true": total.true}


def pooled_lag(
    names: tuple[str, ...], truths: list[Floats], predictions: list[Floats]
) -> dict[str, float]:
    """Return the mean lag of jaw and seal over clips, in frames (negative: the model leads)."""
    lags = {}
    for name in (JAW, SEAL):
        if name in names:
            column = names.index(name)
            each = [
                metrics.lag(truth[:, column], predicted[:, column])
                for truth, predicted in zip(truths, predictions, strict=True)
            ]
            lags[name] = float(np.mean(each))
    return lags


def spread(names: tuple[str, ...], samples: list[Floats]) -> tuple[float, float]:
    """Return how far two seeds differ in speech controls and in the others (root mean square)."""
    if len(samples) < 2:
        return 0.0, 0.0
    squares = np.square(samples[0] - samples[1]).mean(axis=0)
    verbal = np.asarray([name.startswith(VERBAL) for name in names])
    halves = (squares[verbal], squares[~verbal])
    first, second = (float(np.sqrt(half.mean())) if len(half) else 0.0 for half in halves)
    return first, second
