# SPDX-License-Identifier: GPL-3.0-or-later
"""What is looked at after an epoch besides the loss: sampled motion, and a picture of it.

Sampling runs the whole denoising, so a few validation clips are enough: for vertices the lip error
(LVE) stands beside that of a template that never moves, for controls the jaw's correlation. The
preview is a contact sheet of the first of them, drawn without Blender.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.dataset import Clip
from ..data.regions import read_regions
from ..errors import DataError
from ..evaluation import control_scores, vertex_scores
from ..evaluation.vertex_scores import Plan, VertexScorer
from .settings import Settings

if TYPE_CHECKING:
    from .trainer import Trainer

ONE = Plan(replications=1)


class EpochChecks:
    """Measure a run's sampled motion; called with the averaged weights in place."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.scorer: VertexScorer | None = None
        self.still = self.mean = 0.0  # LVE of the template, and of the mean training motion

    def __call__(self, trainer: Trainer) -> dict[str, Any]:
        """Return extra numbers for the log."""
        if not trainer.accelerator.is_main_process:
            return {}
        run = self.settings.run
        clips = trainer.source.data.split("validation")
        clips = clips[:: max(1, len(clips) // max(1, run.sample_clips))][: run.sample_clips]
        row: dict[str, Any] = {}
        training = trainer.model.training
        trainer.model.eval()
        if clips:
            row = self.measure(trainer, clips)
        if clips and run.preview_epochs and trainer.place.epoch % run.preview_epochs == 0:
            self.preview(trainer, clips[0])
        trainer.model.train(training)
        return row

    def measure(self, trainer: Trainer, clips: list[Clip]) -> dict[str, Any]:
        """Return LVE (vertices) or the jaw's correlation (controls) over some clips."""
        data, model = trainer.source.data, trainer.model
        if data.kind == "controls":
            scores = control_scores.score_split(model, data, clips, ONE)
            moving = [
                value["correlation"]
                for value in scores["controls"].values()
                if value["correlation"] == value["correlation"]
            ]
            return {"sampled_correlation": float(np.mean(moving)) if moving else 0.0}
        try:
            scorer = self.scorer or self.make_scorer(trainer, clips)
        except DataError as error:
            trainer.journal.line(f"Sampled clips are not measured: {error}")
            self.settings = replace(self.settings, run=replace(self.settings.run, sample_clips=0))
            return {}
        lve = float(np.mean([scorer.score(clip)["lve"] for clip in clips]))
        return {"sampled_lve": lve, "of_still": lve / self.still, "of_mean": lve / self.mean}

    def make_scorer(self, trainer: Trainer, clips: list[Clip]) -> VertexScorer:
        """Return the scorer, and remember how a template that never moves scores."""
        data = trainer.source.data
        regions = read_regions(data.folder, self.settings.data.layout)
        regions = vertex_scores.with_pair(regions, data, clips)
        self.scorer = VertexScorer(trainer.model, data, regions, ONE)
        baselines = self.scorer.baselines(clips)
        self.still = max(baselines["template never moves"]["lve"], 1e-30)
        self.mean = max(baselines["mean motion"]["lve"], 1e-30)
        return self.scorer

    def preview(self, trainer: Trainer, clip: Clip) -> None:
        """Draw a contact sheet of a sampled clip into the run's folder, where a face is known."""
        data = trainer.source.data
        if data.kind == "controls":
            vertices, triangles = on_demo_head(trainer, clip)
        else:
            found = triangles_of(data.folder)
            if found is None:
                return
            vertices, triangles = dense(trainer, clip), found
        from ..preview.preview import contact_sheet

        frames = list(np.linspace(0, len(vertices) - 1, 12).astype(int))
        path = trainer.folder / f"preview-{trainer.place.epoch:05d}.png"
        contact_sheet(vertices, triangles, frames, path)
        trainer.journal.line(f"preview: {path}")


def on_demo_head(trainer: Trainer, clip: Clip) -> tuple[np.ndarray, np.ndarray]:
    """Return a control clip's vertices (F, V, 3) on the demo head, and its triangles."""
    from ..rig.controls import CONTROLS
    from ..rig.demo_head import load
    from ..rig.rig import Rig

    data = trainer.source.data
    curves = control_scores.predict(trainer.model, data, clip, ONE, 0)
    ordered = np.zeros((len(curves), len(CONTROLS)), dtype=np.float32)
    for column, name in enumerate(data.control_names):
        if name in CONTROLS:
            ordered[:, CONTROLS.index(name)] = curves[:, column]
    head = load()
    return head.vertices + Rig(head.vertices, head.triangles).evaluate(ordered), head.triangles


def dense(trainer: Trainer, clip: Clip) -> np.ndarray:
    """Return a vertex clip's sampled vertices (F, V, 3)."""
    import torch

    from ..network.diffusion import sample

    data, model = trainer.source.data, trainer.model
    audio = torch.from_numpy(data.audio(clip))[None].to(model.device)
    mix = clip.style or (1.0,) + (0.0,) * (len(data.styles) - 1)
    with torch.inference_mode():
        hidden = model.encode(audio, clip.frames)
        motion = sample(model, hidden, torch.tensor([mix], device=model.device)).motion()
    template = data.template(clip)
    assert template is not None
    return (motion[0].float().cpu().numpy() + template).reshape(clip.frames, -1, 3)


def triangles_of(folder: Path) -> np.ndarray | None:
    """Return the triangles (T, 3) of `triangles.npy` in a data folder, or None."""
    path = folder / "triangles.npy"
    return np.load(path, allow_pickle=False) if path.is_file() else None
