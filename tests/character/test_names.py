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
        ("L_eyeBlink", "eyeblink<"),
        ("rt_eye_blink", "eyeblink>"),
        ("LeftEyeBlink", "eyeblink<"),
        ("eye_R_blink", "eyeblink>"),
        ("eyeLookLeftUp", "eyelookleftup"),
        ("EYE_BLINK_LEFT", "eyeblink<"),
        ("12_jawOpen", "jawopen"),
        ("AU12_L", "au12<"),
        ("au_04_BrowLowerer_Right", "au4>"),
        ("AU26", "au26"),
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


ARKIT = ("jawOpen", "mouthClose", "eyeBlinkLeft", "mouthSmileRight", "mouthFunnel", "jawLeft")


@pytest.mark.parametrize(
    ("start", "end"),
    [("Anna_", ""), ("Anna_Head_BS_", ""), ("Sara - ", ""), ("", "_headShape"),
     ("", "_ncl1_1"), ("Char01:face_", "_BS")],
)  # fmt: skip
def test_what_all_names_share_is_no_name(start: str, end: str) -> None:
    odd = {f"{start}{name}{end}" for name in ARKIT} | {"Basis", "Fat", "Anna_Fat"}
    best = names.guesses(odd)[0]
    assert set(best.controls) == set(ARKIT)
    assert best.controls["jawOpen"] == (f"{start}jawOpen{end}",)


def test_each_mesh_may_have_a_prefix_of_its_own() -> None:
    both = [f"{mesh}_{name}" for mesh in ("Anna_skin", "Anna_teeth") for name in ARKIT]
    best = names.guesses(both)[0]
    assert set(best.controls["jawOpen"]) == {"Anna_skin_jawOpen", "Anna_teeth_jawOpen"}


def test_a_word_that_many_names_begin_with_stays() -> None:
    """ "mouth_" begins most names of a mouth, and is the half of them."""
    plain = ["mouth_open", "mouth_smile", "mouth_funnel", "mouth_pucker", "jaw_open"]
    assert {"mouthFunnel", "mouthPucker", "jawOpen"} <= set(names.guesses(plain)[0].controls)


def test_a_few_letters_are_no_convention() -> None:
    """A and E alone say nothing: only a whole set of single letters does."""
    assert not any(guess.visemes for guess in names.guesses(["A", "E"]))
    letters = names.guesses(["A", "B", "C", "D", "E", "F", "G", "H", "X"])
    assert letters[0].convention.id == "rhubarb"


def test_a_head_that_rolls_is_no_rolled_lip() -> None:
    assert names.guesses(["HeadRoll", "HeadYaw", "LeftEyePitch"]) == []
