# SPDX-License-Identifier: GPL-3.0-or-later
"""Score a vertex model on recordings: every clip, every style where the subject is unseen, seeds.

Legend: `F` frames, `V` vertices, `K` vertices of the regions, `N` styles, `D` latent.

The network's last layer is linear, so only the vertices that a measure looks at are ever computed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..data.dataset import Clip, DataSet
from ..data.regions import Regions
from ..network.denoiser import DiffSpeaker
from ..network.diffusion import sample
from . import metrics
from .metrics import Floats, Interval

SEEDS = (1234, *range(0, 90, 10))  # the published ten replications


@dataclass(frozen=True)
class Plan:
    """How a model is sampled and how often."""

    steps: int | None = None  # None: the checkpoint's own, as below
    sampler: str | None = None
    guidance: float | None = None
    replications: int = 10
    all_styles: bool = False  # try every style even where the subject's own is known

    @property
    def seeds(self) -> tuple[int, ...]:
        """Return the seeds of the replications: the published ones, then onwards."""
        more = range(90, 90 + 10 * max(0, self.replications - len(SEEDS)), 10)
        return (*SEEDS, *more)[: max(1, self.replications)]


@dataclass(frozen=True)
class Scores:
    """One clip's measures, in the data set's units (mean over styles)."""

    lve: float  # squared units
    lip_distance: float  # units
    fdd: float  # squared units, signed
    dynamics: float  # D(prediction) / D(truth)
    opening: float  # units


NAMES = tuple(Scores.__dataclass_fields__)


@dataclass(frozen=True)
class Reference:
    """A clip's truth over the regions' vertices."""

    truth: Floats  # (F, K, 3) absolute
    template: Floats  # (K, 3)
    regions: Regions  # counted within the K vertices


def compare(reference: Reference, predicted: Floats) -> Scores:
    """Measure one predicted motion (F, K, 3)."""
    truth, template, regions = reference.truth, reference.template, reference.regions
    frames = min(len(truth), len(predicted))
    truth, predicted = truth[:frames], predicted[:frames]
    squares = metrics.lip_errors(truth, predicted, regions.lips)
    moved = metrics.upper_dynamics(truth, template, regions.upper)
    ours = metrics.upper_dynamics(predicted, template, regions.upper)
    assert regions.pair is not None
    return Scores(
        lve=float(squares.mean()),
        lip_distance=float(np.sqrt(squares).mean()),
        fdd=moved - ours,
        dynamics=ours / moved if moved > 0 else float("nan"),
        opening=metrics.opening_difference(truth, predicted, regions.pair),
    )


def mean_scores(scores: list[Scores]) -> Scores:
    """Return the mean of every measure."""
    return Scores(*(float(np.mean([getattr(one, name) for one in scores])) for name in NAMES))


class VertexScorer:
    """Score one model on one split."""

    def __init__(self, model: DiffSpeaker, data: DataSet, regions: Regions, plan: Plan) -> None:
        self.model, self.data, self.plan = model, data, plan
        self.kept, self.regions = regions.within()
        rows = (self.kept[:, None] * 3 + np.arange(3)).reshape(-1)
        self.rows = torch.from_numpy(rows).to(model.device)

    def reference(self, clip: Clip) -> Reference:
        """Return the clip's truth."""
        template = self.data.template(clip)
        assert template is not None
        shaped = template.reshape(-1, 3)[self.kept]
        offsets = self.data.motion(clip).reshape(clip.frames, -1, 3)[:, self.kept]
        return Reference(offsets + shaped, shaped, self.regions)

    def styles(self, clip: Clip) -> Tensor:
        """Return the style mixes (N, styles) a clip is scored with."""
        if clip.style and not self.plan.all_styles:
            return torch.tensor([clip.style], device=self.model.device)
        return torch.eye(len(self.data.styles), device=self.model.device)

    def predict(self, hidden: Tensor, styles: Tensor, seed: int) -> Tensor:
        """Return offsets (N, F, K, 3) for each style."""
        plan = self.plan
        silent = self.silence(hidden) if self.guidance else None
        latents = sample(
            self.model,
            hidden.expand(len(styles), -1, -1),
            styles,
            steps=plan.steps,
            sampler=plan.sampler,
            guidance=plan.guidance,
            silent_hidden=silent,
            seed=seed,
        )
        dense = latents.features @ latents.weight[self.rows].mT + latents.bias[self.rows]
        return dense.reshape(*dense.shape[:-1], -1, 3)

    @property
    def guidance(self) -> float:
        """Return the guidance strength in force."""
        wanted = self.plan.guidance
        return self.model.spec.guidance if wanted is None else wanted

    def silence(self, hidden: Tensor) -> Tensor:
        """Return the encoding of silence, shaped like `hidden` (1, F, D)."""
        frames = hidden.shape[1]
        samples = round(frames / self.data.fps * 16_000) + 400
        return self.model.encode(torch.zeros(1, samples, device=hidden.device), frames)

    @torch.inference_mode()
    def score(self, clip: Clip) -> dict[str, Any]:
        """Return a clip's measures: per replication, per style, and its diversity."""
        reference = self.reference(clip)
        audio = torch.from_numpy(self.data.audio(clip))[None].to(self.model.device)
        hidden = self.model.encode(audio, clip.frames)
        styles = self.styles(clip)
        replications, firsts = [], []
        for seed in self.plan.seeds:
            predicted = self.predict(hidden, styles, seed).float().cpu().numpy()
            predicted = predicted + reference.template
            firsts.append(predicted[0])
            replications.append([compare(reference, one) for one in predicted])
        by_style = [mean_scores(list(column)) for column in zip(*replications, strict=True)]
        return {
            "name": clip.name,
            "subject": clip.subject,
            "frames": clip.frames,
            **asdict(mean_scores(by_style)),
            "diversity_lips": metrics.diversity([one[:, self.regions.lips] for one in firsts]),
            "diversity_upper": metrics.diversity([one[:, self.regions.upper] for one in firsts]),
            "styles": [asdict(one) for one in by_style],
            "replications": [asdict(mean_scores(one)) for one in replications],
        }

    def baselines(self, clips: list[Clip]) -> dict[str, dict[str, float]]:
        """Score two motions that know nothing: the template, and the mean training offset."""
        train = self.data.split("train")
        total, count = np.zeros((len(self.kept), 3)), 0
        for clip in train:
            offsets = self.data.motion(clip).reshape(clip.frames, -1, 3)[:, self.kept]
            total, count = total + offsets.sum(axis=0, dtype=np.float64), count + len(offsets)
        mean = total / max(count, 1)
        still: list[Scores] = []
        average: list[Scores] = []
        for clip in clips:
            reference = self.reference(clip)
            pose = np.broadcast_to(reference.template, reference.truth.shape)
            still.append(compare(reference, pose))
            average.append(compare(reference, pose + mean))
        return {
            "template never moves": asdict(mean_scores(still)),
            "mean motion": asdict(mean_scores(average)),
        }

    @torch.inference_mode()
    def seconds_per_second(self, clips: list[Clip]) -> dict[str, float]:
        """Return the time taken per second of audio, encoder and sampler apart; dense motion."""
        spent = {"encode": 0.0, "sample": 0.0}
        chosen = clips[:1] + clips[: min(5, len(clips))]  # the first one warms up
        for number, clip in enumerate(chosen):
            audio = torch.from_numpy(self.data.audio(clip))[None].to(self.model.device)
            started = time.perf_counter()
            hidden = self.model.encode(audio, clip.frames)
            encoded = time.perf_counter()
            self.predict(hidden, self.styles(clip)[:1], 0).cpu()
            ended = time.perf_counter()
            if number:
                spent["encode"] += encoded - started
                spent["sample"] += ended - encoded
        seconds = sum(clip.frames for clip in chosen[1:]) / self.data.fps
        return {name: value / max(seconds, 1e-9) for name, value in spent.items()}


def with_pair(regions: Regions, scorer_data: DataSet, clips: list[Clip]) -> Regions:
    """Return the regions with the opening's two vertices, found in the recordings if not given."""
    if regions.pair is not None:
        return regions
    from dataclasses import replace

    parts = []
    for clip in clips[:5]:
        template = scorer_data.template(clip)
        assert template is not None
        motion = scorer_data.motion(clip, 0, 300) + template
        parts.append(motion.reshape(len(motion), -1, 3))
    return replace(regions, pair=metrics.opening_pair(np.concatenate(parts), regions.lips))


def summarise(clips: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the set's results: plain mean over clips with interval, pooled over frames, subjects.

    As published the set's value is the plain mean over clips; its interval is over replications.
    """
    count = len(clips[0]["replications"])
    runs = {
        name: [float(np.mean([clip["replications"][run][name] for clip in clips]))
               for run in range(count)]
        for name in NAMES
    }  # fmt: skip
    frames = np.asarray([clip["frames"] for clip in clips], dtype=np.float64)
    pooled = {name: float(frames @ [clip[name] for clip in clips] / frames.sum()) for name in NAMES}
    subjects = sorted({clip["subject"] for clip in clips})
    absolute = float(np.mean([abs(clip["fdd"]) for clip in clips]))
    return {
        "mean": {name: Interval.of(values).plain() for name, values in runs.items()},
        "fdd_absolute": absolute,
        "pooled": pooled,
        "subjects": {subject: subject_means(clips, subject) for subject in subjects},
        "diversity_lips": float(np.mean([clip["diversity_lips"] for clip in clips])),
        "diversity_upper": float(np.mean([clip["diversity_upper"] for clip in clips])),
    }


def subject_means(clips: list[dict[str, Any]], subject: str) -> dict[str, float]:
    """Return one subject's plain means."""
    own = [clip for clip in clips if clip["subject"] == subject]
    return {name: float(np.mean([clip[name] for clip in own])) for name in NAMES}


Progress = Callable[[float], None]


def score_split(
    scorer: VertexScorer, clips: list[Clip], progress: Progress | None = None
) -> dict[str, Any]:
    """Score every clip of a split and return clips, summary, baselines and speed."""
    rows = []
    for number, clip in enumerate(clips):
        rows.append(scorer.score(clip))
        if progress:
            progress((number + 1) / len(clips))
    return {
        **summarise(rows),
        "baselines": scorer.baselines(clips),
        "seconds_per_second": scorer.seconds_per_second(clips),
        "clips": rows,
    }
