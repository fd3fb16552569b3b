# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure a model against recordings: `python -m model evaluate MODEL.safetensors --data FOLDER`.

Vertex models get the field's measures (LVE, FDD, mouth opening, upper-face dynamics) per clip, per
subject and for the set, every style for unseen subjects, ten replications with their interval, and
two baselines; control models get correlations, lip closures and lag. `--lips FOLDER` compares the
mouth's opening with lips measured from video. Results are written as JSON and Markdown.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

import torch

from ..data import layouts
from ..data.dataset import Clip, DataSet
from ..data.regions import read_regions
from ..errors import ConfigError, OutputError
from ..generation.session import BUNDLED, Session
from ..network.denoiser import DiffSpeaker
from ..network.engines.torch_engine import TorchEngine
from . import control_scores, vertex_scores
from . import report as score_table
from .vertex_scores import Plan


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("model", nargs="?", default="bundled", help="a .safetensors model")
    parser.add_argument("--data", type=Path, help="folder of recordings")
    parser.add_argument("--layout", default="folder", choices=("folder", "vocaset", "biwi"))
    parser.add_argument("--split", default="test", choices=("train", "validation", "test"))
    parser.add_argument("--replications", type=int, default=10, help="seeds tried (10)")
    parser.add_argument("--all-styles", action="store_true", help="also for known subjects")
    parser.add_argument("--clips", type=int, default=0, help="only the first so many clips")
    parser.add_argument("--steps", type=int, help="denoising steps (the model's own)")
    parser.add_argument("--sampler", choices=("published", "corrected"))
    parser.add_argument("--guidance", type=float)
    parser.add_argument("--regions", type=Path, help="regions.json with lips and upper face")
    parser.add_argument("--lips", type=Path, help="folder of lips measured from video")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads")
    parser.add_argument("--output", type=Path, default=Path("output/evaluation"))


def run(arguments: argparse.Namespace) -> int:
    """Evaluate as told and write `evaluation.json` and `evaluation.md`."""
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    if arguments.lips:
        return run_lips(arguments)
    if arguments.data is None:
        raise ConfigError(
            "Nothing to measure against.", hint="Give --data FOLDER or --lips FOLDER."
        )
    engine = Session(arguments.device, engine="torch").load(arguments.model)
    assert isinstance(engine, TorchEngine)
    found = layouts.open_data(arguments.data, arguments.layout)
    plan = Plan(
        arguments.steps,
        arguments.sampler,
        arguments.guidance,
        arguments.replications,
        arguments.all_styles,
    )
    clips = found.split(arguments.split)[: arguments.clips or None]
    result = evaluate(
        engine.model,
        found,
        clips,
        plan,
        layout=arguments.layout,
        split=arguments.split,
        regions=arguments.regions,
        progress=lambda share: say(f"{100 * share:.0f} %"),
    )
    report = written(arguments.output, result)
    print(report)
    return 0


def evaluate(
    model: DiffSpeaker,
    found: DataSet,
    clips: list[Clip],
    plan: Plan,
    *,
    layout: str = "folder",
    split: str = "test",
    regions: Path | None = None,
    progress: vertex_scores.Progress | None = None,
) -> dict[str, Any]:
    """Return everything that is measured of a model on some clips, ready for JSON.

    Raises:
        ConfigError: the model and the data do not belong together, or there are no clips.
    """
    refuse_mismatch(model, found, clips, split)
    result = facts(model, found, clips, plan, layout, split)
    if found.kind == "controls":
        result["scores"] = control_scores.score_split(model, found, clips, plan, progress)
        return result
    chosen = read_regions(found.folder, layout, regions)
    chosen = vertex_scores.with_pair(chosen, found, clips)
    result |= {
        "millimetres": chosen.millimetres,
        "estimated": chosen.estimated,
        "opening_pair": chosen.pair,
    }
    scorer = vertex_scores.VertexScorer(model, found, chosen, plan)
    result["scores"] = vertex_scores.score_split(scorer, clips, progress)
    return result


def refuse_mismatch(model: DiffSpeaker, found: DataSet, clips: list[Clip], split: str) -> None:
    """Raise ConfigError where model and data do not belong together."""
    spec = model.spec
    if not clips:
        raise ConfigError(f"{found.folder} has no clips in the split “{split}”.")
    if (spec.motion, spec.channels) != (found.kind, found.channels):
        raise ConfigError(
            f"The model moves {spec.channels} {spec.motion} channels, the data hold "
            f"{found.channels} {found.kind} channels."
        )
    if len(spec.styles) != len(found.styles) or spec.fps != found.fps:
        raise ConfigError(
            f"The model has {len(spec.styles)} styles at {spec.fps:g} fps, the data "
            f"{len(found.styles)} at {found.fps:g} fps."
        )


def facts(
    model: DiffSpeaker, found: DataSet, clips: list[Clip], plan: Plan, layout: str, split: str
) -> dict[str, Any]:
    """Return what was measured, and how."""
    spec = model.spec
    return {
        "name": spec.name,
        "data": found.folder.name,
        "layout": layout,
        "split": split,
        "clips": len(clips),
        "seconds": sum(clip.frames for clip in clips) / found.fps,
        "sampler": plan.sampler or spec.sampler,
        "steps": plan.steps or spec.steps,
        "guidance": spec.guidance if plan.guidance is None else plan.guidance,
        "replications": len(plan.seeds),
        "seeds": list(plan.seeds),
        "device": f"{model.device.type}, {torch.get_num_threads()} threads",
    }


def written(folder: Path, result: dict[str, Any]) -> str:
    """Write JSON and Markdown into a folder and return the Markdown.

    Raises:
        OutputError: the folder cannot be written.
    """
    kind = "controls" in result["scores"]
    report = score_table.control_report(result) if kind else score_table.vertex_report(result)
    store(folder, "evaluation", result, report)
    return report


def store(folder: Path, name: str, result: dict[str, Any], report: str) -> None:
    """Write a result as JSON and its report as Markdown.

    Raises:
        OutputError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(finite(result), ensure_ascii=False, indent=1, allow_nan=False)
        (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")
        (folder / f"{name}.md").write_text(report + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {error.strerror}.") from error


def finite(value: Any) -> Any:
    """Return a result with null where a number is undefined, as JSON knows no nan."""
    if isinstance(value, dict):
        return {name: finite(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def run_lips(arguments: argparse.Namespace) -> int:
    """Compare the mouth's opening with lips measured from video (`lips.py`)."""
    from . import video_lips

    checkpoint = str(BUNDLED) if arguments.model == "bundled" else arguments.model
    result = video_lips.evaluate(arguments.lips, checkpoint, device=arguments.device)
    report = video_lips.format_table(result)
    store(arguments.output, "lips", result, report)
    print(report)
    return 0


def say(text: str) -> None:
    """Show progress on a terminal."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{text}")
        sys.stderr.flush()
