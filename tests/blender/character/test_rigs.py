# SPDX-License-Identifier: GPL-3.0-or-later
"""Faces of bones as other makers build them speak like the same head driven by its own shapes."""

from __future__ import annotations

from functools import cache
from typing import Any

import bpy
import numpy as np
import pytest

from diffspeaker_blender.animation import mapped
from diffspeaker_blender.character import fit
from tests.character import rigs, scoring
from tests.character.rigs import EYE

FEW = {"Unity humanoid", "Mixamo with a jaw", "Nameless bones"}
"""Rigs that have too few bones to round or spread all of the lips."""
TONGUES = {"Auto-Rig Pro", "MHX", "MetaHuman", "CloudRig", "Daz Genesis", "Rocketbox"}
LIDS = {"Auto-Rig Pro", "MHX", "MetaHuman", "CloudRig", "Daz Genesis", "Rocketbox"}
BROWS = {"Auto-Rig Pro", "CloudRig"}


@cache
def head() -> tuple[rigs.Skin, Any, tuple[str, ...], Any]:
    return rigs.load()


def fitted(name: str) -> tuple[Any, Any]:
    """Return the speaking mesh of a rig of `rigs.RIGS`, and what was found."""
    skin = head()[0]
    return fit.fit(rigs.build(skin, rigs.RIGS[name]()))


@pytest.mark.parametrize("name", list(rigs.RIGS))
def test_speaks_like_the_shapes(addon, name: str) -> None:
    skin, controls, names, truth = head()
    speaker, proposal = fitted(name)
    assert {place.kind for place in proposal.mapping.places()} == {"bone"}
    assert not {p.name for p in proposal.mapping.places() if p.name.startswith(("DEF", "jawbone"))}
    moved = rigs.speak(speaker, controls, names)
    sealed = controls[:, names.index("mouthClose")] > 0.98
    got = scoring.score(skin.face, truth, moved["Head"], sealed)
    assert got.correlation >= 0.97
    assert got.error <= (3.0 if name in FEW else 2.0)
    assert got.gap <= 0.5
    assert got.strays <= 0.5
    for inside in ("TeethLower", "Tongue"):
        assert np.abs(moved[inside]).max() > 0.005
    assert np.abs(moved["TeethUpper"]).max() < 1e-4


def test_eyes_turn_as_far_as_ours(addon) -> None:
    for name in rigs.RIGS:
        if name == "Nameless bones":
            continue
        bpy.ops.wm.read_factory_settings(use_empty=True)
        speaker, _ = fitted(name)
        eyes = bpy.data.objects["Eyes"]
        rest = mapped.evaluated(eyes)
        left = rest[:, 0] > 0
        for controls, wanted in (
            ({"eyeLookOutLeft": 1.0, "eyeLookInRight": 1.0}, (0.0, 0.0, 28.0)),
            ({"eyeLookUpLeft": 1.0, "eyeLookUpRight": 1.0}, (-20.0, 0.0, 0.0)),
            ({"eyeLookDownLeft": 1.0, "eyeLookDownRight": 1.0}, (25.0, 0.0, 0.0)),
        ):
            rigs.pose(speaker, **controls)
            shown = mapped.evaluated(eyes)
            for side in (left, ~left):
                assert np.abs(rigs.turned(rest[side], shown[side]) - wanted).max() < 2.0, name
        rigs.pose(speaker)
        assert np.abs(mapped.evaluated(eyes) - rest).max() < 1e-5


@pytest.mark.parametrize("name", sorted(LIDS))
def test_lids_meet_before_the_eye(addon, name: str) -> None:
    skin = head()[0]
    speaker, _ = fitted(name)
    body, eyes = bpy.data.objects["Head"], bpy.data.objects["Eyes"]
    rest = mapped.evaluated(body)
    ball = mapped.evaluated(eyes)
    ball = ball[ball[:, 0] > 0]
    blink = skin.body.keys["eyeBlinkLeft"]
    edge = np.linalg.norm(blink, axis=1) > 0.7 * np.linalg.norm(blink, axis=1).max()
    rigs.pose(speaker, eyeBlinkLeft=1.0)
    shut = mapped.evaluated(body)
    wanted = blink[edge][:, 2].mean()
    assert (shut - rest)[edge][:, 2].mean() == pytest.approx(wanted, rel=0.35)
    # Nothing of the lid's edge goes into the eye.
    far, should = (
        np.percentile(np.linalg.norm(points[edge] - ball.mean(0), axis=1), 10)
        for points in (shut, rest)
    )
    assert far > should - 0.001
    right = rest[:, 0] < -0.005
    assert np.abs(shut - rest)[right].max() < 1e-4


@pytest.mark.parametrize("name", sorted(TONGUES))
def test_the_tongue_goes_up_and_out(addon, name: str) -> None:
    speaker, proposal = fitted(name)
    tongue = bpy.data.objects["Tongue"]
    rest = mapped.evaluated(tongue)
    tip = rest[:, 1] < np.percentile(rest[:, 1], 7)
    lips = head()[0].body.rest[head()[0].face.mouth.upper][:, 1].min()
    rigs.pose(speaker, jawOpen=0.4)
    open_ = mapped.evaluated(tongue)
    rigs.pose(speaker, jawOpen=0.4, tongueTip=1.0)
    raised = mapped.evaluated(tongue)
    assert (raised - open_)[tip][:, 2].mean() > 0.002
    assert raised[:, 1].min() > lips + 0.008  # it stays behind the lips
    rigs.pose(speaker, jawOpen=0.4, tongueOut=1.0)
    out = mapped.evaluated(tongue)
    assert (open_ - out)[tip][:, 1].mean() > 0.01
    assert np.abs((out - open_)[:, 0]).max() < 0.004
    assert not any(remark.subject == "Tongue" for remark in proposal.remarks)


@pytest.mark.parametrize("name", sorted(BROWS))
def test_brows_rise_and_fall(addon, name: str) -> None:
    speaker, _ = fitted(name)
    body = bpy.data.objects["Head"]
    rest = mapped.evaluated(body)
    above = np.linalg.norm(rest - (EYE[0], -0.135, 0.7), axis=1) < 0.012
    rigs.pose(speaker, browInnerUp=1.0, browOuterUpLeft=1.0, browOuterUpRight=1.0)
    assert (mapped.evaluated(body) - rest)[above][:, 2].mean() > 0.001
    rigs.pose(speaker, browDownLeft=1.0, browDownRight=1.0)
    assert (mapped.evaluated(body) - rest)[above][:, 2].mean() < -0.001
