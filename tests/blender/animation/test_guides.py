# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys on a mapped character's channels guide the next take, or are kept just as they are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import bpy
import numpy as np
import pytest

from diffspeaker_blender.animation import actions, channels, clips, guides, mapped, storage
from diffspeaker_blender.animation.takes import Spoken
from diffspeaker_blender.character import detect, fit
from diffspeaker_blender.character.mapping import Term
from diffspeaker_blender.motion.edits import Edits
from diffspeaker_blender.motion.motion import Motion
from tests.blender.character.test_mapped import NAMES, build, talk, with_bones
from tests.shared import shared

FPS = 30.0


@pytest.fixture(autouse=True)
def thirty(addon: Any) -> None:
    bpy.context.scene.render.fps = 30


def curves(obj: Any) -> dict[str, Any]:
    found = {}
    for owner in mapped.owners_of(detect.read_mapping(obj)):
        for curve in (c for bag in channels.bags(owner) for c in bag.fcurves):
            channel = channels.Channel(owner, curve.data_path, curve.array_index)
            found[f"{actions.plain_name(channel.name)}{channel.index}"] = curve
    return found


def set_key(curve: Any, frame: int, value: float) -> None:
    curve.keyframe_points.insert(frame, value)
    curve.update()


def played(obj: Any, controls: np.ndarray, name: str) -> np.ndarray:
    """Return what a channel does for controls (F, C)."""
    mapping = detect.read_mapping(obj)
    found = channels.curves_of(mapping.evaluate(controls, NAMES, FPS), mapping.bases)
    return next(v for c, v in found if f"{actions.plain_name(c.name)}{c.index}" == name)


def other_take(known: guides.Guides) -> Motion:
    """Return what the model would make: other controls, except those that the keys fix."""
    said = talk()
    weights = np.where(known.mask, known.known, 0.6 * said.weights).astype(np.float32)
    return replace(said, weights=weights, controls=weights)


def test_a_key_of_a_row_of_one_control_is_that_control() -> None:
    anna = build()
    fit.fit(anna)
    clips.apply_motion(anna, talk(), clip="one", start_frame=1)
    before = curves(anna)["mouthPucker0"].evaluate(12) if "mouthPucker0" in curves(anna) else 0.0
    assert before == pytest.approx(0.0, abs=1e-6)
    set_key(curves(anna)["jawOpen0"], 12, 0.85)
    found = guides.read(anna, "one", FPS)
    assert found.unread == ()
    row, column = 11, NAMES.index("jawOpen")
    assert found.mask[row, column]
    assert found.mask.any(1).sum() <= 3
    assert not found.mask[:, NAMES.index("eyeBlinkLeft")].any()
    assert played(anna, found.known, "jawOpen0")[row] == pytest.approx(0.85, abs=0.02)


def test_a_corrective_is_read_through_its_product() -> None:
    """mouthClose on the mesh is our seal × the jaw: the key fixes both so that the product fits."""
    anna = build()
    fit.fit(anna)
    clips.apply_motion(anna, talk(), clip="one", start_frame=1)
    was = curves(anna)["mouthClose0"].evaluate(5)
    set_key(curves(anna)["mouthClose0"], 5, was + 0.1)
    found = guides.read(anna, "one", FPS)
    assert found.unread == ()
    assert played(anna, found.known, "mouthClose0")[4] == pytest.approx(was + 0.1, abs=0.01)
    assert found.mask[4, NAMES.index("mouthClose")]


@pytest.mark.parametrize("mode", ["QUATERNION", "XYZ"])
def test_a_turned_bone_is_read(mode: str) -> None:
    bella = with_bones(0.4, "-Y")
    bella.parent.pose.bones["jaw"].rotation_mode = mode
    fit.fit(bella)
    clips.apply_motion(bella, talk(), clip="one", start_frame=1)
    wanted = talk().controls.copy()
    wanted[11, NAMES.index("jawOpen")] = 0.9
    parts = [name for name in curves(bella) if name.startswith("jaw rotation")]
    for name in parts:
        set_key(curves(bella)[name], 12, float(played(bella, wanted, name)[11]))
    found = guides.read(bella, "one", FPS)
    assert found.unread == ()
    for name in parts:
        goal = played(bella, wanted, name)[11]
        assert played(bella, found.known, name)[11] == pytest.approx(goal, abs=5e-3)


def test_what_no_control_gives_is_kept_to_the_key() -> None:
    """Beyond what a row reaches, and on a row that follows nothing: exact, and the rest guides."""
    anna = build()
    fit.fit(anna)
    mapping = detect.read_mapping(anna)
    place = next(k for k, r in enumerate(mapping.rows) if r.places[0].name == "mouthSmileLeft")
    detect.store(anna, mapping.with_row(place, replace(mapping.rows[place], high=0.3)))
    said = talk()
    said.controls[:, NAMES.index("mouthSmileLeft")] = 0.2
    said = replace(said, weights=said.controls)
    clips.apply_motion(anna, said, clip="one", start_frame=1)
    set_key(curves(anna)["mouthSmileLeft0"], 15, 0.9)
    set_key(curves(anna)["jawOpen0"], 12, 0.85)
    found = guides.read(anna, "one", FPS)
    assert [actions.plain_name(name) for name in found.unread] == ["mouthSmileLeft"]
    assert not found.mask[:, NAMES.index("mouthSmileLeft")].any()
    new = other_take(found)
    layer = guides.exactly(anna, "one", new, found.unread, FPS)
    clips.apply_motion(anna, new, clip="one", start_frame=1, spoken=Spoken(layer=layer))
    now = curves(anna)
    assert len(clips.stored_clip(anna, "one").takes) == 2
    assert now["mouthSmileLeft0"].evaluate(15) == pytest.approx(0.9, abs=1e-3)
    assert now["jawOpen0"].evaluate(12) == pytest.approx(0.85, abs=0.02)
    assert now["mouthSmileLeft0"].evaluate(25) == pytest.approx(0.0, abs=1e-3)  # as made anew


def test_a_fitted_mouth_is_kept_to_the_key() -> None:
    bpy.ops.import_scene.gltf(filepath=str(shared("characters/godette/Godette_vrm1.vrm")))
    rig = next(obj for obj in bpy.data.objects if obj.type == "ARMATURE")
    face, _ = fit.fit(rig)
    clips.apply_motion(face, talk(), clip="one", start_frame=1)
    name = next(n for n in ("ah0", "oh0") if n in curves(face))
    set_key(curves(face)[name], 18, 0.77)
    found = guides.read(face, "one", FPS)
    assert f"{actions.plain_name(found.unread[0])}0" == name
    new = other_take(found)
    layer = guides.exactly(face, "one", new, found.unread, FPS)
    clips.apply_motion(face, new, clip="one", start_frame=1, spoken=Spoken(layer=layer))
    assert curves(face)[name].evaluate(18) == pytest.approx(0.77, abs=2e-3)


def test_keep_my_keys_from_the_button(line: Any, monkeypatch: Any) -> None:
    """The request carries what was read, and the result says what became of the keys."""
    from diffspeaker_blender.jobs import plan, queue

    anna = build()
    bpy.ops.diffspeaker.generate(audio=str(line), character="Anna")
    set_key(curves(anna)["jawOpen0"], 12, 0.85)
    sent, real = [], plan.SpeechRequest

    def kept(*given: Any, **fields: Any) -> Any:
        sent.append(dict(np.load(fields["keep"])))
        return real(*given, **fields)

    monkeypatch.setattr(plan, "SpeechRequest", kept)
    bpy.ops.diffspeaker.generate(audio=str(line), character="Anna", edits="GUIDE", seed=1)
    names = list(sent[0]["names"])
    column = sent[0]["mask"][:, names.index("jawOpen")]
    assert 1 <= column.sum() <= 3
    assert sent[0]["controls"][column, names.index("jawOpen")] == pytest.approx(0.85, abs=0.1)
    told = [found.message for found in queue.last().findings]
    assert any(one.startswith("Your keys of jawOpen guide the new take") for one in told), told
    assert isinstance(storage.get_edits(anna, clips.stored_clip(anna, "line one").take), Edits)
    assert clips.edited(anna, "line one") == ()


def test_redo_range_on_any_character(line: Any) -> None:
    """Only these frames are made anew; outside of them hand edits stay."""
    anna = build()
    bpy.ops.diffspeaker.generate(audio=str(line), character="Anna")
    set_key(curves(anna)["jawOpen0"], 25, 0.9)
    before = [curves(anna)["jawOpen0"].evaluate(f) for f in range(1, 29)]
    bpy.ops.diffspeaker.redo_range(head="Anna", clip="line one", first=8, last=15)
    after = [curves(anna)["jawOpen0"].evaluate(f) for f in range(1, 29)]
    away = np.abs(np.subtract(after, before))
    assert away[:6].max() < 1e-4
    assert away[16:].max() < 0.02  # few keys: within their tolerance
    assert away[7:15].max() > 0.05
    assert clips.edited(anna, "line one") == ("jawOpen",)


def test_terms_that_name_no_control_of_the_model_fail_softly() -> None:
    anna = build()
    fit.fit(anna)
    mapping = detect.read_mapping(anna)
    row = replace(mapping.rows[0], terms=(Term(1.0, ("noSuchControl",)),))
    detect.store(anna, mapping.with_row(0, row))
    clips.apply_motion(anna, talk(), clip="one")
    assert guides.read(anna, "one", FPS).unread == ()
