# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare a model's lips with measured ones, beside a ridge regression fitted on other people.

``python build.py model compare FOLDER --people PEOPLE --ears tiny.npz@2+3`` prints the table of
``evaluate --lips`` with one row more. Whoever is in FOLDER is left out of PEOPLE: the ridge never
saw who it is scored on. Development only.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from ...data import measured
from ...evaluation import evaluate, video_lips
from ...evaluation.video_lips import Array, Lips, Predict
from ...generation.session import BUNDLED
from ...resampling import resample
from . import lip_reader
from .corpus import opened_ears

RATE = 100.0  # Hz of the ridge's curves


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe ``compare``."""
    parser.add_argument("folder", type=Path, help="people whose lips were measured")
    parser.add_argument("--model", default=str(BUNDLED), help="a model file; the bundled one")
    parser.add_argument("--people", type=Path, required=True, help="people to fit the ridge on")
    parser.add_argument(
        "--ears", nargs="+", required=True, metavar="ENCODER@STATES",
        help="Whisper encoders and hidden states that the ridge hears",
    )  # fmt: skip
    parser.add_argument("--device", default="auto")
    parser.add_argument("--output", type=Path, default=Path("evaluation"))


def run(arguments: argparse.Namespace) -> int:
    """Print and write the table."""
    heard = {clip.speaker for clip in measured.read(arguments.folder)}
    people = [clip for clip in measured.read(arguments.people) if clip.speaker not in heard]
    reader = lip_reader.fit(opened_ears(arguments.ears), people)
    result = video_lips.evaluate(
        arguments.folder, arguments.model, device=arguments.device,
        others={"ridge": ridge(reader)},
    )  # fmt: skip
    table = video_lips.format_table(result)
    evaluate.store(arguments.output, "lips", result, table)
    print(table)
    return 0


def ridge(reader: lip_reader.LipReader) -> Predict:
    """Return a predictor that reads lips by regression alone."""

    def predict(samples: Array, rate: int) -> Lips:
        mono = resample(samples.astype(np.float32), rate)
        times = np.arange(int(len(samples) / rate * RATE) + 1, dtype=np.float32) / RATE
        opening, width = reader.read(mono, times.astype(np.float32)).T.astype(np.float64)
        return Lips(np.maximum(opening, 0.0), width, RATE)

    return predict
