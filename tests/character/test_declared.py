# SPDX-License-Identifier: GPL-3.0-or-later
"""What a character declares of its face: believed before names, but only as far as it is measured.

The tables here are raw, as a file keeps them without the add-on that made them.
"""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from diffspeaker_blender.character import declared, probe
from diffspeaker_blender.character.declared import Declared
from diffspeaker_blender.character.mapping import Mapping
from diffspeaker_blender.character.proposal import Proposal, propose
from tests.character.faces import face

NUMBERS = {"unknown": 0, "a": 2, "i": 3, "u": 4, "e": 5, "o": 6, "joy": 8, "blink": 7}


class Thing:
    """An object of a file: its type, its data, and its own ID properties."""

    parent = None

    def __init__(self, kind: str, data: Any = None, held: Any = None) -> None:
        self.type, self.data, self.held = kind, data, held or {}

    def get(self, name: str) -> Any:
        return self.held.get(name)


def anna() -> probe.Part:
    """Return a face whose shapes have names that nobody knows."""
    part = face()
    kept = {"Gape": "jawOpen", "Round": "mouthPucker", "Trumpet": "mouthFunnel",
            "Grin L": "mouthSmileLeft", "Grin R": "mouthSmileRight",
            "Lid L": "eyeBlinkLeft", "Lid R": "eyeBlinkRight"}  # fmt: skip
    return replace(part, keys={name: part.keys[ours] for name, ours in kept.items()})


EXPRESSIONS = {
    "a": {"Gape": 1.0},
    "i": {"Grin L": 0.6, "Grin R": 0.6, "Gape": 0.2},
    "u": {"Round": 1.0},
    "e": {"Grin L": 0.5, "Grin R": 0.5, "Gape": 0.3},
    "o": {"Gape": 0.5, "Round": 0.5},
    "blink": {"Lid L": 1.0, "Lid R": 1.0},
    "joy": {"Grin L": 1.0, "Grin R": 1.0},
}


def vrm0(expressions: dict[str, dict[str, float]], mesh: str = "Face") -> Declared:
    """Return what is read of a VRM 0.x armature that has these expressions, raw."""
    held = {"mesh": {"bpy_object": SimpleNamespace(name=mesh)}}
    groups = [
        {
            "name": name.upper(),
            "preset_name": NUMBERS.get(name, 0),
            "binds": [{**held, "index": key, "weight": w} for key, w in binds.items()],
        }
        for name, binds in expressions.items()
    ]
    tables = {"vrm0": {"blend_shape_master": {"blend_shape_groups": groups}}}
    data: dict[str, Any] = {"vrm_addon_extension": tables}
    return declared.read([Thing("ARMATURE", data)])


def mmd(**categories: Any) -> Declared:
    """Return what is read of an MMD model whose morphs are filed so, as (category, English)."""
    morphs = [
        {"name": name, "category": number, "name_e": english}
        for name, (number, english) in categories.items()
    ]

    return declared.read([Thing("EMPTY", held={"mmd_root": {"vertex_morphs": morphs}})])


def shown(found: Proposal, part: probe.Part, controls: dict[str, float]) -> np.ndarray:
    """Return the offsets (V, 3) that controls give through a mapping."""
    values = np.array([list(controls.values())])
    offsets = np.zeros_like(part.rest)
    for place, curve in found.mapping.evaluate(values, list(controls)):
        offsets += curve[0] * part.keys[place.name]
    return offsets


def test_expressions_of_several_shapes_are_one_mouth_each() -> None:
    part = anna()
    found = propose([part], vrm0(EXPRESSIONS))
    assert found is not None
    assert found.face is not None
    few = found.mapping.few
    assert few is not None
    assert set(few.names) == {"Gape", "“I”", "Round", "“E”", "“O”"}
    assert found.mapping.title == "VRM 0 expressions"
    places = {place.name for place in found.mapping.places()}
    assert places == {"Gape", "Round", "Grin L", "Grin R", "Lid L", "Lid R"}
    measured = dict(zip(few.names, few.measured, strict=True))
    by_hand = 0.5 * part.keys["Gape"] + 0.5 * part.keys["Round"]
    assert measured["“O”"][0] == pytest.approx(found.face.mouth.opening(by_hand), abs=1e-3)
    wide = found.face.mouth.opening(shown(found, part, {"jawOpen": 0.5}))
    assert wide > 0.1
    shut = shown(found, part, {"jawOpen": 0.5, "mouthClose": 1.0})
    assert abs(found.face.mouth.opening(shut)) < 1e-6
    lids = shown(found, part, {"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0})
    assert np.allclose(lids, part.keys["Lid L"] + part.keys["Lid R"])


def test_what_is_fitted_is_what_the_shapes_give() -> None:
    """The strengths of expressions come out as sums on the shapes that they share."""
    part = anna()
    found = propose([part], vrm0(EXPRESSIONS))
    assert found is not None
    few = found.mapping.few
    assert few is not None
    controls = {"jawOpen": 0.4, "mouthPucker": 0.5, "mouthSmileLeft": 0.3, "mouthSmileRight": 0.3}
    column = {name: np.full(1, value) for name, value in controls.items()}
    weights = dict(zip(few.names, few.solve(column, 1)[0], strict=True))
    parts = {"Gape": {"Gape": 1.0}, "Round": {"Round": 1.0}}
    parts |= {f"“{name.upper()}”": EXPRESSIONS[name] for name in "ieo"}
    wanted = np.zeros_like(part.rest)
    for name, weight in weights.items():
        for key, share in parts[name].items():
            wanted += weight * share * part.keys[key]
    assert np.abs(shown(found, part, controls) - wanted).max() < 1e-5


def test_mouths_that_close_and_bite_come_from_names_where_none_is_declared() -> None:
    """An avatar with visemes of a game that was declared a VRM by its vowels alone."""
    part = anna()
    keys = {
        "vrc.v_aa": part.keys["Gape"],
        "vrc.v_oh": 0.6 * part.keys["Trumpet"] + 0.5 * part.keys["Gape"],
        "vrc.v_ou": part.keys["Round"],
        "vrc.v_pp": 0.2 * part.keys["Round"],
        "vrc.v_ff": face().keys["mouthRollLower"],
    }
    part = replace(part, keys=dict(part.keys) | keys)
    found = propose([part], vrm0(EXPRESSIONS))
    assert found is not None
    few = found.mapping.few
    assert few is not None
    roles = dict(zip(few.names, few.roles, strict=True))
    assert roles["vrc.v_pp"] == "closes"
    assert roles["vrc.v_ff"] == "bites"
    assert "Gape" in roles
    assert "vrc.v_aa" not in roles


def test_a_declared_mouth_that_opens_nothing_is_refused_and_said() -> None:
    part = anna()
    part.keys["Forehead"] = np.where(part.rest[:, 2:] > 0.09, 0.01, 0.0) * np.ones(3)  # type: ignore[index]
    found = propose([part], vrm0(EXPRESSIONS | {"a": {"Forehead": 1.0}}))
    assert found is not None
    said = {remark.subject: remark.reason for remark in found.remarks}
    assert "left out" in said["Forehead"]
    assert "Forehead" not in {place.name for place in found.mapping.places()}
    assert found.face is not None
    assert found.face.mouth.opening(shown(found, part, {"jawOpen": 0.5})) > 0.05


def test_what_names_a_mesh_or_shape_that_is_gone_is_passed_over() -> None:
    part = anna()
    found = propose([part], vrm0(EXPRESSIONS | {"u": {"Nothing": 1.0}}, mesh="Renamed"))
    assert found is not None
    assert found.mapping.few is not None
    assert "“U”" not in found.mapping.few.names
    assert {"Gape", "“O”"} <= set(found.mapping.few.names)


def test_custom_expressions_go_by_the_names_they_have() -> None:
    """Perfect Sync: expressions called like ARKit's controls over shapes called anything."""
    part = face()
    part = replace(part, keys={f"F_{k:02}": v for k, v in enumerate(part.keys.values())})
    names = dict(zip(face().keys, part.keys, strict=True))
    found = propose([part], vrm0({ours: {key: 1.0} for ours, key in names.items()}))
    assert found is not None
    assert found.mapping.few is None
    driven = {row.places[0].name: row.terms for row in found.mapping.rows}
    assert driven[names["mouthPucker"]][0].controls == ("mouthPucker",)
    assert found.mapping.lips == "key"


def test_categories_keep_motion_from_being_mistaken() -> None:
    """Unknown names: what is filed under eyes or brows is no mouth, whatever it does."""
    part = anna()
    part.keys["Squash"] = part.keys["Trumpet"] + part.keys["Lid L"] + part.keys["Lid R"]  # type: ignore[index]
    plain = propose([part])
    assert plain is not None
    filed = dict.fromkeys(part.keys, (3, "")) | {"Squash": (2, ""), "Trumpet": (1, "")}
    found = propose([part], mmd(**filed))
    assert found is not None
    assert "Trumpet" in {place.name for place in plain.mapping.places()}
    assert not {"Trumpet", "Squash"} & {place.name for place in found.mapping.places()}


def test_english_names_are_read() -> None:
    part = anna()
    names = {"Gape": "Ah", "Grin L": "I", "Round": "U", "Trumpet": "O", "Grin R": "E"}
    found = propose([part], mmd(**{key: (3, english) for key, english in names.items()}))
    assert found is not None
    assert found.mapping.title.startswith("MMD morphs")
    assert found.mapping.few is not None
    assert "Gape" in found.mapping.few.names


BROKEN = [
    None,
    3,
    "text",
    [1, 2],
    {"vrm0": 5, "vertex_morphs": 1},
    {"vrm0": {}, "vertex_morphs": [4]},
    {"vrm0": {"blend_shape_master": {"blend_shape_groups": [{}]}}, "vertex_morphs": [{}]},
    {"vrm1": {"expressions": {"preset": "x", "custom": 7}}, "group_morphs": [{"data": 3}]},
]


@pytest.mark.parametrize("broken", BROKEN)
def test_broken_tables_are_passed_over(broken: Any) -> None:
    rig = Thing("ARMATURE", {"vrm_addon_extension": broken}, {"mmd_root": broken})
    assert declared.read([rig]) == Declared()


def test_a_mapping_with_expressions_is_the_same_from_text() -> None:
    found = propose([anna()], vrm0(EXPRESSIONS))
    assert found is not None
    again = Mapping.from_json(found.mapping.to_json())
    assert again == found.mapping
    owners = [("Bella", [place.key for place in again.places()])]
    moved = again.moved_to(owners)
    assert moved.few == again.few
    assert {place.owner for place in moved.places()} == {"Bella"}
    fewer = again.moved_to([("Bella", [("key", "Gape", "", 0)])])
    assert fewer.few is not None
    assert set(fewer.few.names) == {"Gape", "“I”", "“E”", "“O”"}
