# SPDX-License-Identifier: GPL-3.0-or-later
"""Names: conventions are told apart, spellings made one, short and odd names not believed."""

from __future__ import annotations

import json

import pytest

from diffspeaker_blender.character import names
from tests.shared import shared


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("A25_Jaw_Open", "jawopen"),
        ("JawOpen", "jawopen"),
        ("!ex-jawOpen", "jawopen"),
        ("jaw_open.001", "jawopen"),
        ("CTRL_expressions_jawOpen", "jawopen"),
        ("eyeBlink_L", "eyeblink<"),
        ("EyeBlinkRight", "eyeblink>"),
        ("mouth.smile.L", "mouthsmile<"),
        ("jawLeft", "jawleft"),
        ("Genesis8Male__facs_bs_MouthFunnel_div2", "mouthfunnel"),
        ("まばたき", "まばたき"),
    ],
)
def test_a_name_without_its_spelling(name: str, plain: str) -> None:
    assert names.normalise(name) == plain


def test_every_known_name_finds_its_convention() -> None:
    """Each convention's likeliest names give all of its entries."""
    known = json.loads(shared("characters/names.json").read_text(encoding="utf-8"))
    for convention in known["conventions"].values():
        tables = [convention.get("controls", {}), convention.get("visemes", {})]
        present = [hits[0] for table in tables for hits in table.values()]
        if not present:
            continue
        best = names.guesses(present)[0]
        assert len(best.controls) >= len(tables[0])
        assert len(best.visemes) >= len(tables[1])


def test_a_few_letters_are_no_convention() -> None:
    """A and E alone say nothing: only a whole set of single letters does."""
    assert not any(guess.visemes for guess in names.guesses(["A", "E"]))
    letters = names.guesses(["A", "B", "C", "D", "E", "F", "G", "H", "X"])
    assert letters[0].convention.id == "rhubarb"


def test_a_head_that_rolls_is_no_rolled_lip() -> None:
    assert names.guesses(["HeadRoll", "HeadYaw", "LeftEyePitch"]) == []
