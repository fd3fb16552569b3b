# SPDX-License-Identifier: GPL-3.0-or-later
"""From names and motion to a mapping: what is believed, what is refused, how the lips shut."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from diffspeaker_blender.character import probe
from diffspeaker_blender.character.mapping import Mapping, Place, Row, Term
from diffspeaker_blender.character.mouth import find_mouth
from diffspeaker_blender.character.probe import Part
from diffspeaker_blender.character.proposal import Proposal, propose
from tests.character.faces import face

TURNS = {
    "upright": np.eye(3),
    "facing sideways": np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]]),
    "turned by thirty degrees": np.array(
        [[np.cos(0.5), np.sin(0.5), 0], [-np.sin(0.5), np.cos(0.5), 0], [0, 0, 1]]
    ),
    "lying": np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]),
    "lying on its face": np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]),
    "leaning far back": np.array(
        [[1.0, 0, 0], [0, np.cos(1.0), -np.sin(1.0)], [0, np.sin(1.0), np.cos(1.0)]]
    ),
    "head down": np.diag([-1.0, 1, -1]),
}


def opening(found: Proposal, part: Part, controls: dict[str, float]) -> float:
    """Return how far the lips part (mouth widths) when controls are played through a mapping."""
    values = np.array([list(controls.values())])
    offsets = np.zeros_like(part.rest)
    for place, curve in found.mapping.evaluate(values, list(controls)):
        offsets += curve[0] * part.keys[place.name]
    assert found.face is not None
    return found.face.mouth.opening(offsets)


@pytest.mark.parametrize("scale", [0.01, 1.0, 120.0])
@pytest.mark.parametrize("turn", TURNS.values(), ids=list(TURNS))
def test_lips_are_found_at_any_size_and_turn(turn: np.ndarray, scale: float) -> None:
    part = face(turn, scale)
    mouth = find_mouth(part.rest, part.keys["jawOpen"], part.triangles, hints=part.axes)
    assert mouth is not None
    assert 0.035 < mouth.width / scale < 0.06
    forward, up = np.array([0.0, -1, 0]) @ turn.T, np.array([0.0, 0, 1]) @ turn.T
    assert mouth.frame.axes[2] @ forward > 0.95
    assert mouth.frame.axes[1] @ up > 0.95
    assert mouth.opening(part.keys["jawOpen"]) > 0.3


def test_a_face_turned_within_its_mesh_is_seen_from_its_front() -> None:
    """Applied rotations leave the object's axes level with the world, not with the face."""
    turn = TURNS["turned by thirty degrees"]
    part = face(turn)
    mouth = find_mouth(part.rest, part.keys["jawOpen"], part.triangles)
    assert mouth is not None
    assert mouth.frame.axes[2] @ (turn @ np.array([0.0, -1, 0])) > 0.99


def test_lips_shut_at_any_jaw_by_the_measured_ratio() -> None:
    """mouthClose here undoes 0.8 of the jaw, so it is driven 1.25 times; then the lips meet."""
    part = face()
    found = propose([part])
    assert found is not None
    assert found.mapping.lips == "key"
    for jaw in (0.1, 0.5, 1.0):
        shut = {"jawOpen": jaw, "mouthClose": 1.0, "mouthFunnel": 0.5, "mouthLowerDownLeft": 1.0}
        assert abs(opening(found, part, shut)) < 0.01
        assert opening(found, part, {"jawOpen": jaw}) > 0.3 * jaw


def test_without_a_corrective_the_jaw_lets_go() -> None:
    part = face()
    part = replace(part, keys={k: v for k, v in part.keys.items() if k != "mouthClose"})
    found = propose([part])
    assert found is not None
    assert found.mapping.lips == "gate"
    assert abs(opening(found, part, {"jawOpen": 1.0, "mouthClose": 1.0})) < 1e-6


def test_an_empty_jaw_is_refused_and_another_opener_found() -> None:
    """jawOpen that moves nothing, under its own name: the mouth is opened by what does open it."""
    part = face(jawOpen="Mouth_Yell")
    still = np.zeros_like(part.rest)
    still[part.rest[:, 2] > 0.09, 1] = 0.01  # it moves the forehead
    part = replace(part, keys=dict(part.keys) | {"jawOpen": still}, empty=("tongueOut",))
    found = propose([part])
    assert found is not None
    said = {remark.subject: remark.reason for remark in found.remarks}
    assert "left out" in said["jawOpen"]
    assert "tongueOut" in said
    assert all(place.name != "jawOpen" for place in found.mapping.places())
    assert opening(found, part, {"jawOpen": 0.5}) > 0.1


def test_unknown_names_speak_by_what_they_do() -> None:
    part = face()
    part = replace(part, keys={f"target_{k}": v for k, v in enumerate(part.keys.values())})
    found = propose([part])
    assert found is not None
    assert found.mapping.few is not None
    assert opening(found, part, {"jawOpen": 0.5}) > 0.1
    assert abs(opening(found, part, {"jawOpen": 0.5, "mouthClose": 1.0})) < 1e-6
    assert {"eyeBlinkLeft", "eyeBlinkRight"} <= found.mapping.controls()


def test_unknown_names_pull_no_mouth_askew() -> None:
    """Sides move together; a mouth that goes left and one that goes right do not cancel out."""
    part = face()
    keys = {f"target_{k}": v for k, v in enumerate(part.keys.values())}
    x, z = part.rest[:, 0], part.rest[:, 2]
    near = np.exp(-((z / 0.02) ** 2 + (x / 0.03) ** 2))[:, None]
    for k, aside in enumerate((0.012, -0.012)):
        keys[f"aside {k}"] = near * np.array([aside, 0.0, 0.0])
    found = propose([replace(part, keys=keys)])
    assert found is not None
    assert not any("aside" in place.name for place in found.mapping.places())
    smiles = [f"target_{list(part.keys).index('mouthSmile' + side)}" for side in ("Left", "Right")]
    names = ["mouthSmileLeft", "mouthSmileRight", "mouthStretchLeft", "mouthStretchRight"]
    curves = {
        place.name: curve for place, curve in found.mapping.evaluate(np.full((4, 4), 0.6), names)
    }
    assert curves[smiles[0]].max() > 0.1
    np.testing.assert_array_equal(curves[smiles[0]], curves[smiles[1]])


def test_a_shape_that_shuts_the_mouth_opens_none() -> None:
    """`mouthClose` alone drives the lips through each other; its lips are not upside down."""
    part = face()
    assert find_mouth(part.rest, part.keys["mouthClose"], part.triangles) is None
    keys = {"a": 1.5 * part.keys["mouthClose"], "b": part.keys["jawOpen"]}
    found = propose([replace(part, keys=keys)])
    assert found is not None
    assert found.face is not None
    assert found.face.opener == "b"
    assert opening(found, replace(part, keys=keys), {"jawOpen": 0.5}) > 0.1


def test_an_eye_that_opens_wider_than_the_mouth_is_no_mouth() -> None:
    """Drawn eyes tear farther than a small mouth does; they lie beside the middle."""
    part = face()
    x, z = part.rest[:, 0], part.rest[:, 2]
    count = len(part.rest)
    lid = (z > 0.078) & (np.abs(x - 0.045) < 0.029)
    low = np.flatnonzero((np.abs(z - z[lid].min()) < 1e-9) & (np.abs(x - 0.045) < 0.029))
    rest = np.concatenate([part.rest, part.rest[low]])
    torn = part.triangles.copy()
    mean = part.rest[torn].mean(1)
    beneath = (mean[:, 2] < z[lid].min()) & (mean[:, 2] > 0)
    swap = {int(v): count + k for k, v in enumerate(low)}
    torn[beneath] = [[swap.get(int(v), int(v)) for v in row] for row in torn[beneath]]
    keys = {k: np.concatenate([v, v[low]]) for k, v in part.keys.items()}
    rise = np.zeros_like(rest)
    rise[:count][lid, 2] = 0.02 * (1 - ((x[lid] - 0.045) / 0.03) ** 2)
    wide = {"a": rise, "b": 0.6 * keys["jawOpen"]}
    found = probe.measure([Part("Face", rest, torn, wide)])
    assert found is not None
    assert found.opener == "b"


def test_a_piece_that_slides_over_the_face_is_no_lip() -> None:
    """A blush or hidden hair that moves through the skin tears like lips; it is not joined."""
    part = face()
    patch = np.array([[x, -0.002, z] for x in (-0.01, 0, 0.01) for z in (0.05, 0.055, 0.06)])
    rest = np.concatenate([part.rest, patch])
    hide = np.zeros_like(rest)
    hide[-9:, 2] = -0.1
    keys = {k: np.concatenate([v, np.zeros_like(patch)]) for k, v in part.keys.items()}
    count = len(part.rest)
    tris = np.concatenate([part.triangles, count + np.array([[0, 1, 3], [1, 4, 3], [4, 5, 7]])])
    part = replace(part, rest=rest, triangles=tris, keys=keys | {"HideBlush": hide})
    assert find_mouth(rest, hide, tris) is None
    found = propose([part])
    assert found is not None
    assert found.face is not None
    assert found.face.opener == "jawOpen"


def test_a_scream_with_the_eyes_shut_is_no_jaw() -> None:
    """It speaks only where nothing else opens the mouth."""
    part = face()
    lids = part.keys["eyeBlinkLeft"] + part.keys["eyeBlinkRight"]
    vowels = {"a": part.keys["jawOpen"], "o": part.keys["mouthFunnel"]}
    scream = {"mouthOpen": 2 * part.keys["jawOpen"] + 4 * lids}
    with_others = replace(part, keys=scream | vowels)
    found = propose([with_others])
    assert found is not None
    assert "mouthOpen" not in {place.name for place in found.mapping.places()}
    assert "whole expression" in {r.subject: r.reason for r in found.remarks}["mouthOpen"]
    alone = propose([replace(part, keys=scream)])
    assert alone is not None
    assert {place.name for place in alone.mapping.places()} == {"mouthOpen"}


def test_a_jaw_that_pulls_the_cheeks_is_no_scream() -> None:
    """A child's mouth is small: what lies a mouth's width above it is cheek."""
    part = face()
    lids = part.keys["eyeBlinkLeft"] + part.keys["eyeBlinkRight"]
    jaw = {"jawOpen": 2.4 * part.keys["jawOpen"] + 0.8 * lids}
    found = propose([replace(part, keys={**part.keys, **jaw})])
    assert found is not None
    assert found.face is not None
    assert found.face.readings["jawOpen"].at_eyes > 0.125
    assert found.mapping.few is None
    assert "jawOpen" in {place.name for place in found.mapping.places()}


def test_lids_that_shut_while_the_mouth_opens_are_no_lips() -> None:
    part = face()
    lids = part.keys["eyeBlinkLeft"] + part.keys["eyeBlinkRight"]
    alone = find_mouth(part.rest, 2 * part.keys["jawOpen"], part.triangles)
    both = find_mouth(part.rest, 2 * part.keys["jawOpen"] + 3 * lids, part.triangles)
    assert alone is not None
    assert both is not None
    assert both.width == pytest.approx(alone.width)


def test_hair_with_the_name_of_a_jaw_stays() -> None:
    part = face()
    top = part.rest[:, 2] > 0.08
    hair = part.rest[top] + np.array([0.0, -0.01, 0.0])
    fall = {"jawOpen": np.tile([0.0, 0.0, -0.03], (len(hair), 1))}
    found = propose([part, Part("Hair", hair, np.zeros((0, 3), int), fall)])
    assert found is not None
    assert {place.owner for place in found.mapping.places()} == {"Face"}
    assert any(r.subject == "jawOpen on Hair" for r in found.remarks)


def test_lids_are_told_from_brows_by_where_they_act() -> None:
    part = face()
    x, z = part.rest[:, 0], part.rest[:, 2]
    keys = dict(enumerate(part.keys.values()))
    for at in (0.035, -0.035):
        brow = np.exp(-(((x - at) / 0.015) ** 2 + ((z - 0.1) / 0.01) ** 2))
        keys[len(keys)] = brow[:, None] * np.array([0.0, 0.0, -0.011])
    names = list(part.keys)
    found = propose([replace(part, keys={f"shape {k}": v for k, v in keys.items()})])
    assert found is not None
    lids = {row.places[0].name for row in found.mapping.rows}
    assert lids == {f"shape {names.index('eyeBlink' + side)}" for side in ("Left", "Right")}


def test_a_mesh_without_a_mouth_is_no_face() -> None:
    part = face()
    keys = {name: part.keys[name] for name in ("eyeBlinkLeft", "eyeBlinkRight")}
    assert propose([replace(part, keys=keys)]) is None


def test_readings_tell_left_from_right_and_up_from_mouth() -> None:
    read = probe.measure([face()], ["jawOpen"])
    assert read is not None
    assert read.readings["mouthSmileLeft"].side > 0.9
    assert read.readings["mouthSmileRight"].side < -0.9
    assert read.readings["eyeBlinkLeft"].upper_face > 0.9
    assert read.readings["jawOpen"].upper_face < 0.1


def test_a_mapping_survives_as_text() -> None:
    found = propose([face()])
    assert found is not None
    again = Mapping.from_json(found.mapping.to_json())
    assert again == found.mapping
    with pytest.raises(ValueError, match="mapping"):
        Mapping.from_json('{"version": 1}')


def test_strength_of_a_group_and_limits() -> None:
    place = Place("key", "Face", "jawOpen")
    row = Row((place,), (Term(2.0, ("jawOpen",)),), group="jaw")
    half = Mapping("", (row,), strengths={"jaw": 0.25})
    [(_, curve)] = half.evaluate(np.array([[0.5], [1.0]]), ["jawOpen"])
    assert curve == pytest.approx([0.25, 0.5])
    [(_, full)] = Mapping("", (row,)).evaluate(np.array([[1.0]]), ["jawOpen"])
    assert full == pytest.approx([1.0])


def test_drawn_poses_hold_on_twos() -> None:
    row = Row((Place("key", "Face", "A"),), (Term(1.0, ("jawOpen",)),))
    held = Mapping("", (row,), steps=2).evaluate(np.linspace(0, 1, 6)[:, None], ["jawOpen"])[0][1]
    assert held == pytest.approx([0.0, 0.0, 0.4, 0.4, 0.8, 0.8])


def test_a_mapping_moves_to_a_character_of_the_same_names() -> None:
    found = propose([face()])
    assert found is not None
    there = [("Anna", [("key", name, "", 0) for name in face().keys])]
    moved = found.mapping.moved_to(there)
    assert {place.owner for place in moved.places()} == {"Anna"}
    assert len(moved.rows) == len(found.mapping.rows)
    assert found.mapping.moved_to([("Box", [])]).places() == ()
