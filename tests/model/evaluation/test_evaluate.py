# SPDX-License-Identifier: GPL-3.0-or-later
"""Evaluation: the published protocol on a small set, honest units, and no silent mismatch."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from model.__main__ import main
from model.data import layouts
from model.errors import ConfigError
from model.evaluation import evaluate, metrics
from model.evaluation import report as score_table
from model.evaluation.vertex_scores import Plan
from model.network.denoiser import DiffSpeaker
from model.network.diffusion import sample
from tests.model import recordings, tiny


@pytest.fixture
def voca(tmp_path):
    """A tiny set in VOCASET's layout with a random vertex model for it."""
    folder = recordings.vocaset(tmp_path / "set")
    spec = tiny.spec(vertices=recordings.VERTICES, styles=layouts.VOCASET.train)
    path = tiny.checkpoint(tmp_path / "model.safetensors", spec)
    return layouts.open_data(folder, "vocaset"), path


def model_of(path) -> DiffSpeaker:
    """Load a checkpoint's network."""
    from model.network import checkpoint

    return checkpoint.build(checkpoint.load(path))


def test_unseen_subjects_are_scored_with_every_style(voca) -> None:
    """A clip's LVE is the mean over 8 styles and over seeds, and equals one computed densely."""
    found, path = voca
    model, clips = model_of(path), found.split("test")
    result = evaluate.evaluate(model, found, clips, Plan(replications=2), layout="vocaset")
    row = result["scores"]["clips"][0]
    assert len(row["styles"]) == 8
    assert len(row["replications"]) == 2
    clip, values = clips[0], []
    truth = (found.motion(clip) + found.template(clip)).reshape(clip.frames, -1, 3)
    with torch.inference_mode():
        hidden = model.encode(torch.from_numpy(found.audio(clip))[None], clip.frames)
        for seed in (1234, 0):
            motion = sample(model, hidden.expand(8, -1, -1), torch.eye(8), seed=seed).motion()
            for one in motion.numpy() + found.template(clip):
                ours = one.reshape(clip.frames, -1, 3)
                values.append(metrics.lip_errors(truth, ours, np.arange(4)).mean())
    assert row["lve"] == pytest.approx(np.mean(values), rel=1e-4)
    whole = np.mean([one["lve"] for one in result["scores"]["clips"]])
    assert result["scores"]["mean"]["lve"]["mean"] == pytest.approx(whole)
    assert result["scores"]["mean"]["lve"]["replications"] == 2


def test_known_subjects_keep_their_style(voca) -> None:
    """A training subject is scored with its own style, or with all on request."""
    found, path = voca
    clips = found.split("train")[:1]
    for every, count in ((False, 1), (True, 8)):
        plan = Plan(replications=1, all_styles=every)
        result = evaluate.evaluate(model_of(path), found, clips, plan, layout="vocaset")
        assert len(result["scores"]["clips"][0]["styles"]) == count


def test_baselines_and_a_perfect_model(voca) -> None:
    """The template has no dynamics; the truth itself scores zero."""
    from model.data.regions import read_regions
    from model.evaluation.vertex_scores import VertexScorer, compare, with_pair

    found, path = voca
    clips = found.split("test")
    regions = with_pair(read_regions(found.folder, "vocaset"), found, clips)
    scorer = VertexScorer(model_of(path), found, regions, Plan())
    still = scorer.baselines(clips)["template never moves"]
    assert still["dynamics"] == 0
    assert 0 < still["lve"] == pytest.approx(still["lip_distance"] ** 2, rel=2)
    reference = scorer.reference(clips[0])
    perfect = compare(reference, reference.truth)
    assert (perfect.lve, perfect.fdd, perfect.opening) == (0, 0, 0)


def test_the_command_writes_json_and_markdown(voca, tmp_path, capsys) -> None:
    """The table has our row, the baselines, subjects, and the published rows with their source."""
    found, path = voca
    words = ["evaluate", str(path), "--data", str(found.folder), "--layout", "vocaset"]
    out = tmp_path / "out"
    assert main([*words, "--replications", "2", "--device", "cpu", "--output", str(out)]) == 0
    result = json.loads((out / "evaluation.json").read_text(encoding="utf-8"))
    report = (out / "evaluation.md").read_text(encoding="utf-8")
    assert result["millimetres"] == 1000
    assert report.strip() == capsys.readouterr().out.strip()
    for words in ("DiffSpeaker | 3.1478", "template never moves", "squared metres", "±"):
        assert words in report, words
    assert set(result["scores"]["subjects"]) == set(layouts.VOCASET.test)


def test_control_models_are_measured_too(tmp_path) -> None:
    """Correlation, closures, lag and diversity of a control model against its curves."""
    from model.network.spec import EncoderSpec, ModelSpec

    found = layouts.open_data(recordings.controls(tmp_path / "set"))
    spec = ModelSpec(
        name="c",
        motion="controls",
        channels=3,
        latent=32,
        feedforward=32,
        encoder=EncoderSpec("hubert", tiny.HUBERT),
        styles=found.styles,
        fps=30.0,
        period=30,
        alignment="time",
        sampler="corrected",
        steps=3,
        control_names=found.control_names,
    )
    torch.manual_seed(0)
    model = DiffSpeaker(spec).eval()
    torch.nn.init.normal_(model.denoiser.motion_decoder.weight)
    clips = found.split("validation")
    result = evaluate.evaluate(model, found, clips, Plan(replications=2), split="validation")
    scores = result["scores"]
    assert set(scores["controls"]) == set(recordings.CONTROLS)
    assert scores["closures"]["true"] > 0
    assert scores["diversity"]["speech"] > 0
    assert "| jawOpen |" in score_table.control_report(result)


def test_a_model_of_other_data_is_refused(voca, tmp_path) -> None:
    """Channels and styles must fit, and a split must have clips."""
    found, path = voca
    model = model_of(path)
    with pytest.raises(ConfigError, match="no clips"):
        evaluate.evaluate(model, found, [], Plan(), split="test")
    other = layouts.open_data(recordings.controls(tmp_path / "controls"))
    with pytest.raises(ConfigError, match="36 vertices channels, the data hold 3 controls"):
        evaluate.evaluate(model, other, other.split("train"), Plan())
    with pytest.raises(ConfigError, match="Nothing to measure"):
        evaluate.run(arguments_for("bundled"))


def arguments_for(model: str):
    """Return parsed arguments without data."""
    import argparse

    parser = argparse.ArgumentParser()
    evaluate.add_arguments(parser)
    return parser.parse_args([model])


def test_regions_of_one_s_own(tmp_path) -> None:
    """regions.json serves any topology; without companions the message says what to write."""
    from model.data.regions import read_regions
    from model.errors import DataError

    with pytest.raises(DataError, match=r"regions\.json"):
        read_regions(tmp_path, "folder")
    text = json.dumps({"lips": [1, 2], "upper": [5], "opening": [1, 2], "millimetres": 10})
    (tmp_path / "regions.json").write_text(text, encoding="utf-8")
    regions = read_regions(tmp_path, "folder")
    kept, inside = regions.within()
    assert kept.tolist() == [1, 2, 5]
    assert (inside.lips.tolist(), inside.upper.tolist(), inside.pair) == ([0, 1], [2], (0, 1))
