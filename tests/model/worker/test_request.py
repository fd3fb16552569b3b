# SPDX-License-Identifier: GPL-3.0-or-later
"""The add-on's request and the worker's are one: the same names, and the same defaults."""

from __future__ import annotations

from dataclasses import fields

from diffspeaker_blender.worker.request import SpeechRequest
from model.generation.request import GenerateRequest


def test_what_is_not_sent_means_the_same_on_both_sides() -> None:
    theirs = {entry.name: entry.default for entry in fields(GenerateRequest)}
    for entry in fields(SpeechRequest):
        assert entry.name in theirs
        if entry.name not in {"audio", "face", "output"}:
            assert entry.default == theirs[entry.name], entry.name


def test_only_what_differs_is_sent_and_it_is_understood() -> None:
    asked = SpeechRequest("a.wav", "f.npz", "m.npz", span=(1.5, 1.0), style={"calm": 1.0}, seed=3)
    assert asked.fields() == {
        "audio": "a.wav",
        "face": "f.npz",
        "output": "m.npz",
        "span": [1.5, 1.0],
        "style": {"calm": 1.0},
        "seed": 3,
    }
    understood = GenerateRequest.from_message({"type": "generate", "id": "1", **asked.fields()})
    assert understood.span == (1.5, 1.0)
    assert understood.style == {"calm": 1.0}
