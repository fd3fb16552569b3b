# SPDX-License-Identifier: GPL-3.0-or-later
"""One head under every naming convention: found without a hand, it speaks like the whole head."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import numpy as np
import pytest

from diffspeaker_blender.character.proposal import propose
from tests.character import rigs, scoring
from tests.shared import SHARED, shared

_NAMES = SHARED / "characters" / "names.json"
CONVENTIONS = (
    json.loads(_NAMES.read_text(encoding="utf-8"))["conventions"] if _NAMES.exists() else {}
)
FACES = [name for name, one in CONVENTIONS.items() if one.get("controls") or one.get("visemes")]


@cache
def head() -> tuple[list[Any], Any, Any, Any, Any]:
    """Return the parts, the truth's face, controls, their names and the truth's motion."""
    skin, controls, names, truth = rigs.load(240)
    return list(skin.parts), skin.face, controls, names, truth


@pytest.mark.parametrize("convention", FACES or ["no shared names"])
def test_speaks_like_the_whole_head(convention: str) -> None:
    if not FACES:
        shared("characters/names.json")
    parts, face, controls, names, truth = head()
    mine = scoring.renamed(parts, CONVENTIONS[convention])
    found = propose(mine)
    assert found is not None
    moved = scoring.play(mine, face.part.name, found.mapping, controls, names)
    sealed = controls[:, names.index("mouthClose")] > 0.98
    got = scoring.score(face, truth, moved, sealed)
    assert got.correlation >= 0.97
    assert got.error <= 2.0
    assert got.gap <= 0.5
    assert got.strays <= 1.0
    teeth = [part.name for part in mine if part.name == "TeethLower" and part.keys]
    spoken = {place.owner for place in found.mapping.places()}
    assert set(teeth) <= spoken


def test_eyes_that_a_viseme_would_move_stay(convention: str = "vrm0") -> None:
    """Two letters of another system, and a viseme that moves the eyes: said, and left alone."""
    parts, _, controls, names, _ = head()
    mine = scoring.renamed(parts, CONVENTIONS.get(convention) or {"visemes": {"aa": ["A"]}})
    body = next(part for part in mine if part.name == "Head")
    eyes = next(part for part in parts if part.name == "Head").keys["eyeBlinkLeft"]
    wrong = dict(body.keys) | {"viseme_sil": eyes, "viseme_SS": 2 * eyes}
    mine = [type(body)(body.name, body.rest, body.triangles, wrong, body.axes), *mine[1:]]
    found = propose(mine)
    assert found is not None
    assert not {"viseme_SS", "viseme_sil"} & {place.name for place in found.mapping.places()}
    assert np.isfinite(found.mapping.evaluate(controls, names)[0][1]).all()
