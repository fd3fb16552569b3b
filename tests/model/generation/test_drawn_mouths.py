# SPDX-License-Identifier: GPL-3.0-or-later
"""Real speech on drawn mouths, against the phones that were aligned with it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from diffspeaker_blender.character.charts import CHARTS
from diffspeaker_blender.character.drawn import DrawnMouths
from model.generation.generate import generate
from model.generation.request import GenerateRequest
from model.generation.session import Session
from tests.shared import shared

FPS = 24
MOUTHS = DrawnMouths(*zip(*CHARTS["RHUBARB"].drawings, strict=True))
SPEAKERS = ("1183-124566-0000.flac", "1455-134435-0000.flac", "2391-145015-0000.flac")


@pytest.mark.parametrize("file", SPEAKERS)
def test_closures_are_shown_and_nothing_flickers(file: str) -> None:
    lines = shared("data/speech/librispeech/phones.jsonl").read_text(encoding="utf-8").splitlines()
    spoken = next(row for row in map(json.loads, lines) if row["file"] == file)
    sound = shared(f"data/speech/librispeech/{file}")
    motion = generate(GenerateRequest(audio=str(sound)), session=Session("cpu"))
    frames = int(motion.frames / motion.fps * FPS)
    at = np.arange(frames) / FPS * motion.fps
    rows = np.arange(motion.frames)
    column = {
        name: np.interp(at, rows, motion.controls[:, k])
        for k, name in enumerate(motion.control_names)
    }
    shown = MOUTHS.solve(column, frames, FPS).argmax(1)
    phones = [phone for word in spoken["words"] for phone in word[3]]
    for letter, group, least in (("A", {"P", "B", "M"}, 0.95), ("G", {"F", "V"}, 0.8)):
        spans = [(round(s * FPS), round(e * FPS)) for name, s, e in phones if name in group]
        seen = [
            MOUTHS.names.index(letter) in shown[first : max(end, first + 1)]
            for first, end in spans
            if first < frames
        ]
        assert np.mean(seen) > least
    holds = np.diff(np.r_[0, np.flatnonzero(np.diff(shown)) + 1, frames])
    assert holds[1:-1].min() >= 2
    assert 3 < holds.mean() < 8
    assert len(set(shown)) >= 7
