# SPDX-License-Identifier: GPL-3.0-or-later
"""A Rigify character that the test itself generates: the new face and the classic one."""

from __future__ import annotations

from functools import cache
from typing import Any

import bpy
import numpy as np
import pytest
from mathutils import Matrix

from diffspeaker_blender.animation import mapped
from diffspeaker_blender.character import fit
from tests.character import rigs

NEW, CLASSIC = "new", "classic"


@cache
def head() -> tuple[rigs.Skin, Any, tuple[str, ...], Any]:
    return rigs.load()


def switch_on() -> None:
    """Enable Rigify, or skip where this Blender has none."""
    import addon_utils

    found = any(module.__name__ == "rigify" for module in addon_utils.modules(refresh=False))
    if not found:
        pytest.skip("this Blender comes without Rigify")
    bpy.ops.preferences.addon_enable(module="rigify")


def metarig(face: str) -> Any:
    """Add Blender's human metarig with one kind of face and everything below the neck away."""
    bpy.ops.object.armature_human_metarig_add()
    made = bpy.context.object
    if face == NEW:
        upgraded = bpy.ops.pose.rigify_upgrade_face()
        assert upgraded == {"FINISHED"}
    return made


def place(made: Any, skin: rigs.Skin) -> None:
    """Scale the metarig's head onto the head: eyes onto eyes, corners of the mouth onto corners."""
    bones = made.data.bones
    eyes = [np.array(bones[f"eye.{side}"].head_local) for side in "LR"]
    lips = next(np.array(bones[n].tail_local) for n in ("lip.T.L.001",) if n in bones)
    eye, mouth = skin.part("Eyes").rest, skin.face.mouth
    left = (eye[eye[:, 0] > 0].min(0) + eye[eye[:, 0] > 0].max(0)) / 2
    corner = skin.body.rest[mouth.upper[-1]]
    scale = np.array([
        left[0] / eyes[0][0], 0.0, (left[2] - corner[2]) / (eyes[0][2] - lips[2]),
    ])  # fmt: skip
    scale[1] = scale[2]
    start = left - scale * eyes[0]
    start[0] = 0.0
    made.matrix_world = Matrix.Translation(start) @ Matrix.Diagonal((*scale, 1.0))
    bpy.context.view_layer.update()
    bpy.ops.object.select_all(action="DESELECT")
    made.select_set(True)
    bpy.context.view_layer.objects.active = made
    bpy.ops.object.transform_apply(location=True, rotation=True, scale=True)


def generated(face: str, skin: rigs.Skin) -> Any:
    """Return a rig that Rigify made, with the head bound to its deforming bones."""
    switch_on()
    made = metarig(face)
    place(made, skin)
    bpy.ops.pose.rigify_generate()
    rig = bpy.context.object
    assert rig != made and "jaw_master" in rig.pose.bones
    bpy.data.objects.remove(made)
    return rig


def bind(rig: Any, skin: rigs.Skin) -> None:
    """Bind the head as a rigger would: each vertex to the deforming bones that are near it.

    Bones of the lower lip and chin take what goes with the jaw, lids what goes up or down to shut.
    """
    body = skin.body.rest
    jaw = skin.share("jawOpen")
    down = sum(skin.body.keys[f"eyeBlink{side}"][:, 2] for side in ("Left", "Right"))
    raw = {}
    for bone in rig.data.bones:
        if not bone.use_deform or bone.name.startswith(("DEF-tongue", "DEF-teeth", "DEF-eye")):
            continue
        lid = ".T." if "lid.T" in bone.name else ".B." if "lid.B" in bone.name else ""
        reach = 0.007 if lid else 0.012
        near = np.exp(-((apart(body, bone) / reach) ** 2))
        if bone.name == "DEF-spine.006":
            near = np.full(len(body), 0.05)
        if lid:
            near *= (down < 2e-4) if lid == ".T." else (down > -2e-4)
        low = any(part in bone.name for part in ("lip.B", "chin", "jaw"))
        raw[bone.name] = near * (jaw if low else 1 - jaw)
    whole = sum(raw.values())
    table = {"Head": {name: values / whole for name, values in raw.items()}}
    lashes = skin.part("Lashes").rest
    nearest = ((lashes[:, None] - body[None]) ** 2).sum(2).argmin(1)
    table["Lashes"] = {name: values[nearest] for name, values in table["Head"].items()}
    for name in ("TeethUpper", "TeethLower", "Eyes"):
        table[name] = inside(rig, skin.part(name).rest, name)
    tongue = skin.part("Tongue").rest
    chain = [b for b in rig.data.bones if b.name.startswith("DEF-tongue")]
    close = {b.name: np.exp(-((apart(tongue, b) / 0.012) ** 2)) + 1e-9 for b in chain}
    table["Tongue"] = {name: values / sum(close.values()) for name, values in close.items()}
    rigs.dress(skin, rig, table)


def apart(points: Any, bone: Any) -> Any:
    """Return how far points (V, 3) are from a bone."""
    head, tail = np.array(bone.head_local), np.array(bone.tail_local)
    way = tail - head
    along = np.clip((points - head) @ way / max(way @ way, 1e-12), 0, 1)
    return np.linalg.norm(points - head - along[:, None] * way, axis=1)


def inside(rig: Any, points: Any, name: str) -> dict[str, Any]:
    """Return the weights of teeth and eyes; the classic face has no bones of its own for them."""
    bones = rig.data.bones
    if name == "Eyes":
        found = {}
        for side, there in (("L", points[:, 0] > 0), ("R", points[:, 0] < 0)):
            own = next(n for n in (f"DEF-eye.{side}", f"MCH-eye.{side}") if n in bones)
            bones[own].use_deform = True
            found[own] = there.astype(float)
        return found
    own = "DEF-teeth." + ("T" if name == "TeethUpper" else "B")
    if own not in bones:
        own = "ORG-teeth." + own[-1]
        bones[own].use_deform = True
    return {own: np.ones(len(points))}


@pytest.mark.parametrize("face", [CLASSIC, NEW])
def test_a_generated_rig_speaks(addon, face: str) -> None:
    skin = head()[0]
    rig = generated(face, skin)
    bind(rig, skin)
    speaker, proposal = fit.fit(rig)
    mapping = proposal.mapping
    moved_bones = {place.name for place in mapping.places() if place.kind == "bone"}
    assert "jaw_master" in moved_bones
    assert not [n for n in moved_bones if n.startswith(("DEF-", "MCH-", "ORG-"))]
    assert mapping.lips == "lock"
    moved, got = rigs.scored(speaker, head())
    assert got.correlation >= 0.97
    assert got.error <= 2.0
    assert got.gap <= 0.5
    assert got.strays <= 0.5
    assert np.abs(moved["TeethLower"]).max() > 0.005
    assert np.abs(moved["TeethUpper"]).max() < 1e-3
    has = mapping.controls()
    assert {"tongueTip", "tongueOut", "eyeBlinkLeft", "eyeBlinkRight"} <= has
    assert {"eyeLookUpLeft", "eyeLookOutRight", "browInnerUp", "browDownLeft"} <= has
    look(speaker, skin)


def look(speaker: Any, skin: rigs.Skin) -> None:
    """Check that both eyes turn aside and both lids shut."""
    bpy.context.scene.frame_set(-100)
    rigs.pose(speaker)
    body, eyes = bpy.data.objects["Head"], bpy.data.objects["Eyes"]
    rest, ball = mapped.evaluated(body), mapped.evaluated(eyes)
    left = ball[:, 0] > 0
    rigs.pose(speaker, eyeLookOutLeft=1.0, eyeLookInRight=1.0)
    for side in (left, ~left):
        turned = rigs.turned(ball[side], mapped.evaluated(eyes)[side])
        assert np.abs(turned - (0.0, 0.0, 28.0)).max() < 4.0
    rigs.pose(speaker, eyeBlinkLeft=1.0, eyeBlinkRight=1.0)
    blink = skin.body.keys["eyeBlinkLeft"]
    edge = np.linalg.norm(blink, axis=1) > 0.7 * np.linalg.norm(blink, axis=1).max()
    sunk = (mapped.evaluated(body) - rest)[edge][:, 2].mean()
    assert sunk < 0.45 * blink[edge][:, 2].mean()
