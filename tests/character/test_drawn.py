# SPDX-License-Identifier: GPL-3.0-or-later
"""Which drawing of a mouth is shown and for how long; what drawings are called."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from diffspeaker_blender.character import charts, drawn
from diffspeaker_blender.character.drawn import DrawnMouths
from diffspeaker_blender.character.mapping import DRAWN, Mapping, Place, Row, Term
from diffspeaker_blender.character.poses import POSES

RHUBARB = charts.CHARTS["RHUBARB"].drawings
LETTERS = DrawnMouths(*zip(*RHUBARB, strict=True), switch="layers")


def runs(shown: np.ndarray) -> list[tuple[int, int]]:
    """Return (drawing, frames) of each stretch."""
    edges = np.r_[0, np.flatnonzero(np.diff(shown)) + 1, len(shown)]
    return [(int(shown[a]), int(b - a)) for a, b in pairwise(edges)]


def babble(frames: int = 400, seed: int = 0) -> dict[str, np.ndarray]:
    """Return controls that never rest, with a seal of three frames here and there."""
    rng = np.random.default_rng(seed)
    jaw = np.clip(np.cumsum(rng.normal(0, 0.12, frames)) % 1.2 - 0.2, 0, 1)
    seal = np.zeros(frames)
    for at in range(11, frames - 5, 23):
        seal[at : at + 3] = 1.0
    return {"jawOpen": jaw, "mouthPucker": rng.random(frames), "mouthClose": seal}


@pytest.mark.parametrize(
    ("pose", "letters"),
    [("AH", "CD"), ("EE", "B"), ("OO", "F"), ("M", "A"), ("F", "G"), ("BLINK", "X")],
)
def test_test_poses_choose_the_drawing_that_was_made_for_them(pose: str, letters: str) -> None:
    column = {name: np.array([value]) for name, value in POSES[pose].items()}
    shown = int(LETTERS.solve(column, 1).argmax())
    assert LETTERS.names[shown] in letters


@pytest.mark.parametrize("hold", [1, 2, 3, 5])
def test_every_drawing_is_held(hold: int) -> None:
    column = babble()
    shown = DrawnMouths(LETTERS.names, LETTERS.sounds, hold=hold).solve(column, 400).argmax(1)
    lengths = [length for _, length in runs(shown)]
    assert min(lengths[1:]) >= hold
    assert len(set(shown)) > 4


@pytest.mark.parametrize("hold", [1, 2, 3, 5])
@pytest.mark.parametrize("every", [1, 2, 3])
def test_no_closure_is_dropped_for_a_vowel(hold: int, every: int) -> None:
    column = babble()
    mouths = DrawnMouths(LETTERS.names, LETTERS.sounds, hold=hold)
    shown = mouths.solve(column, 400, grid=(every, 0)).argmax(1)
    sealed = np.flatnonzero(np.diff(column["mouthClose"], prepend=0) > 0)
    assert all((shown[at : at + 3] == 0).any() for at in sealed)
    if every == 1:
        assert all((shown[at : at + 3] == 0).all() for at in sealed)


@pytest.mark.parametrize("row", [0, 1])
def test_on_twos_drawings_change_on_every_other_frame(row: int) -> None:
    shown = LETTERS.solve(babble(), 400, grid=(2, row)).argmax(1)
    changes = np.flatnonzero(np.diff(shown)) + 1
    assert len(changes) > 20
    assert set(changes % 2) == {row}


def test_the_lead_brings_drawings_forward() -> None:
    column = babble()
    late = LETTERS.solve(column, 400).argmax(1)
    early = DrawnMouths(LETTERS.names, LETTERS.sounds, lead=2).solve(column, 400).argmax(1)
    assert np.mean(early[20:-20] == late[22:-18]) > 0.97


def test_a_bite_shows_teeth_on_the_lip_and_a_pause_the_resting_mouth() -> None:
    frames = 60
    column = {"jawOpen": np.full(frames, 0.6), "lipTuck": np.zeros(frames)}
    column["lipTuck"][10:14] = 1.0
    column["jawOpen"][30:45] = 0.0
    names = np.array(LETTERS.names)[LETTERS.solve(column, frames).argmax(1)]
    assert set(names[10:14]) == {"G"}
    assert "G" not in set(names[20:])
    assert set(names[31:44]) == {"X"}
    assert "X" not in set(names[4:28])


def test_few_drawings_take_what_they_were_not_made_for() -> None:
    two = DrawnMouths(("shut", "open"), ("PP", "aa"))
    column = babble()
    shown = two.solve(column, 400).argmax(1)
    assert set(shown) == {0, 1}
    assert (shown[column["mouthClose"] == 1] == 0).all()
    vowels = DrawnMouths(tuple("AIUEO"), ("aa", "ih", "ou", "E", "oh"))
    assert vowels.names[vowels.closed] == vowels.names[vowels.rest] == "U"
    assert DrawnMouths(("a", "b"), ("aa", "sil")).closed == 1


def test_one_frame_and_none() -> None:
    assert LETTERS.solve({}, 1).argmax() == LETTERS.rest
    assert LETTERS.solve({}, 0).shape == (0, 9)


def test_the_cheapest_sequence_is_found() -> None:
    """Against all sequences of a small case."""
    rng = np.random.default_rng(3)
    cost = rng.random((7, 3)) * 4
    best = min(
        (np.array(np.unravel_index(k, (3,) * 7)) for k in range(3**7)),
        key=lambda s: (
            cost[np.arange(7), s].sum() + drawn._CHANGE * np.count_nonzero(np.diff(s))
            if min(length for _, length in runs(s)) >= 2
            else np.inf
        ),
    )
    assert drawn.sequence(cost, 2).tolist() == best.tolist()


def test_a_mapping_of_drawings_is_plain_text_and_moves_to_a_copy() -> None:
    rows = (
        Row((Place("setting", "Mouth", 'layers["A"].opacity', "data"),), (Term(1.0, ("A",)),),
            group=DRAWN),
        Row((Place("property", "Rig", "mouth"),), (Term(3.0, ("B",)), Term(1.0, ("X",))),
            low=-9, high=9, group=DRAWN),
    )  # fmt: skip
    mapping = Mapping("Drawn mouths", drawn=LETTERS, drawn_rows=rows, steps=2)
    again = Mapping.from_json(mapping.to_json())
    assert again == mapping
    moved = again.moved_to([("Mouth.001", [rows[0].places[0].key]), ("Rig.001", [])])
    assert [place.owner for place in moved.places()] == ["Mouth.001"]
    values = dict(mapping.evaluate(np.zeros((5, 1)), ["jawOpen"]))
    assert values[rows[0].places[0]].tolist() == [0.0] * 5
    assert values[rows[1].places[0]].tolist() == [1.0] * 5
    sealed = dict(mapping.evaluate(np.ones((5, 1)), ["mouthClose"]))
    assert sealed[rows[0].places[0]].tolist() == [1.0] * 5
    broken = mapping.to_json().replace('"sil"', '"hum"')
    with pytest.raises(ValueError, match="unknown"):
        Mapping.from_json(broken)


def test_a_mapping_written_before_drawings_is_read() -> None:
    text = Mapping("ARKit").to_json().replace(', "drawn": null, "drawn_rows": []', "")
    assert '"drawn"' not in text
    assert Mapping.from_json(text) == Mapping("ARKit")


@pytest.mark.parametrize(
    ("labels", "sounds"),
    [
        (LETTERS.names, LETTERS.sounds),
        (["01_MBP.png", "02_AI.png", "03_E.png"], ["PP", "aa", "E"]),
        (["Mouth.A", "Mouth.I", "Mouth.U", "Mouth.E", "Mouth.O"], ["aa", "ih", "ou", "E", "oh"]),
        (["mouthClosed", "mouthOpen", "mouthOh"], ["PP", "aa", "oh"]),
        (["mouth_rest", "mouth_fv", "mouth_etc", "Arm R", "Arm L"], []),
        (["mouth_rest", "mouth_fv", "mouth_o", "mouth_ai", "Arm R"], ["sil", "FF", "oh", "aa"]),
        (["あ", "い", "う", "え", "お", "ん"], ["aa", "ih", "ou", "E", "oh", "PP"]),
        (["Lines", "Fills", "Sketch"], []),
        (["A", "B"], []),
        (["open", "closed", "half"], []),
        (["Door Open", "Door Shut", "Neutral", "Wide"], []),
        (["Head", "Body", "Arm L", "Arm R", "Eye"], []),
    ],
)
def test_names_tell_which_drawing_is_which(labels: list[str], sounds: list[str]) -> None:
    assert list(charts.read(labels).values()) == list(sounds)


def test_numbers_go_by_the_usual_order() -> None:
    assert charts.in_order(charts.usual(9), 9) == list(LETTERS.sounds)
    assert charts.in_order(charts.usual(2), 2) == ["PP", "aa"]
    assert charts.in_order("VOWELS", 7) == ["aa", "ih", "ou", "E", "oh", "PP", ""]
    assert charts.named("MBP") == charts.named("PP") == "PP"
    with pytest.raises(ValueError, match="names no mouth"):
        charts.named("Quux")
