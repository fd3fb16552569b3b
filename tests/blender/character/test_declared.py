# SPDX-License-Identifier: GPL-3.0-or-later
"""VRM and MMD tables as add-ons keep them: as their properties, and raw in a file without them."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path

import bpy
import pytest

from diffspeaker_blender.animation import clips
from diffspeaker_blender.character import declared, detect, fit
from tests.blender.character.test_mapped import build, lips_apart, talk
from tests.shared import shared


class Mesh(bpy.types.PropertyGroup):
    bpy_object: bpy.props.PointerProperty(type=bpy.types.Object)  # type: ignore[valid-type]


PRESETS = ("unknown", "neutral", "a", "i", "u", "e", "o", "blink", "joy", "angry", "sorrow",
           "fun", "lookup", "lookdown", "lookleft", "lookright", "blink_l", "blink_r")  # fmt: skip


class Bind0(bpy.types.PropertyGroup):
    mesh: bpy.props.PointerProperty(type=Mesh)  # type: ignore[valid-type]
    index: bpy.props.StringProperty()  # type: ignore[valid-type]
    weight: bpy.props.FloatProperty(default=1.0)  # type: ignore[valid-type]


class Group0(bpy.types.PropertyGroup):
    name: bpy.props.StringProperty()  # type: ignore[valid-type]
    preset_name: bpy.props.EnumProperty(  # type: ignore[valid-type]
        items=[(name, name, "", k) for k, name in enumerate(PRESETS)]
    )
    binds: bpy.props.CollectionProperty(type=Bind0)  # type: ignore[valid-type]


class Master0(bpy.types.PropertyGroup):
    blend_shape_groups: bpy.props.CollectionProperty(type=Group0)  # type: ignore[valid-type]


class Vrm0(bpy.types.PropertyGroup):
    blend_shape_master: bpy.props.PointerProperty(type=Master0)  # type: ignore[valid-type]


class Bind1(bpy.types.PropertyGroup):
    node: bpy.props.PointerProperty(type=Mesh)  # type: ignore[valid-type]
    index: bpy.props.StringProperty()  # type: ignore[valid-type]
    weight: bpy.props.FloatProperty(default=1.0)  # type: ignore[valid-type]


class Expression1(bpy.types.PropertyGroup):
    morph_target_binds: bpy.props.CollectionProperty(type=Bind1)  # type: ignore[valid-type]


class Preset1(bpy.types.PropertyGroup):
    aa: bpy.props.PointerProperty(type=Expression1)  # type: ignore[valid-type]
    ih: bpy.props.PointerProperty(type=Expression1)  # type: ignore[valid-type]
    ou: bpy.props.PointerProperty(type=Expression1)  # type: ignore[valid-type]
    ee: bpy.props.PointerProperty(type=Expression1)  # type: ignore[valid-type]
    oh: bpy.props.PointerProperty(type=Expression1)  # type: ignore[valid-type]
    blink: bpy.props.PointerProperty(type=Expression1)  # type: ignore[valid-type]
    happy: bpy.props.PointerProperty(type=Expression1)  # type: ignore[valid-type]


class Expressions1(bpy.types.PropertyGroup):
    preset: bpy.props.PointerProperty(type=Preset1)  # type: ignore[valid-type]


class Vrm1(bpy.types.PropertyGroup):
    expressions: bpy.props.PointerProperty(type=Expressions1)  # type: ignore[valid-type]


class Vrm(bpy.types.PropertyGroup):
    spec_version: bpy.props.EnumProperty(items=[("0.0", "0", ""), ("1.0", "1", "")])  # type: ignore[valid-type]
    vrm0: bpy.props.PointerProperty(type=Vrm0)  # type: ignore[valid-type]
    vrm1: bpy.props.PointerProperty(type=Vrm1)  # type: ignore[valid-type]


class Morph(bpy.types.PropertyGroup):
    name: bpy.props.StringProperty()  # type: ignore[valid-type]
    name_e: bpy.props.StringProperty()  # type: ignore[valid-type]
    category: bpy.props.EnumProperty(  # type: ignore[valid-type]
        items=[(n, n, "", k) for k, n in enumerate(("SYSTEM", "EYEBROW", "EYE", "MOUTH", "OTHER"))],
        default="OTHER",
    )


class Root(bpy.types.PropertyGroup):
    vertex_morphs: bpy.props.CollectionProperty(type=Morph)  # type: ignore[valid-type]


CLASSES = (Mesh, Bind0, Group0, Master0, Vrm0, Bind1, Expression1, Preset1, Expressions1, Vrm1,
           Vrm, Morph, Root)  # fmt: skip


def switch_on() -> None:
    for cls in CLASSES:
        bpy.utils.register_class(cls)
    bpy.types.Armature.vrm_addon_extension = bpy.props.PointerProperty(type=Vrm)
    bpy.types.Object.mmd_root = bpy.props.PointerProperty(type=Root)


def switch_off() -> None:
    """Leave the tables raw, as in a file that is opened without the add-on."""
    if hasattr(bpy.types.Armature, "vrm_addon_extension"):
        del bpy.types.Armature.vrm_addon_extension
        del bpy.types.Object.mmd_root
        for cls in reversed(CLASSES):
            bpy.utils.unregister_class(cls)


@pytest.fixture
def tables() -> Iterator[None]:
    """Register properties like those of the add-ons."""
    switch_on()
    yield
    switch_off()


def table_of(path: Path) -> tuple[dict, dict]:
    """Return a .vrm file's glTF and its VRM extension."""
    data = path.read_bytes()
    gltf = json.loads(data[20 : 20 + struct.unpack("<I", data[12:16])[0]])
    extensions = gltf["extensions"]
    return gltf, extensions.get("VRM") or extensions["VRMC_vrm"]


def declare(rig: bpy.types.Object, path: Path, faces: dict[str, bpy.types.Object]) -> None:
    """Fill in a VRM file's expressions as the add-on that imports it does."""
    gltf, held = table_of(path)
    extension = rig.data.vrm_addon_extension
    if "blendShapeMaster" in held:
        for group in held["blendShapeMaster"]["blendShapeGroups"]:
            new = extension.vrm0.blend_shape_master.blend_shape_groups.add()
            new.name, new.preset_name = group["name"], group["presetName"]
            for bind in group["binds"]:
                one = new.binds.add()
                one.mesh.bpy_object = faces[gltf["meshes"][bind["mesh"]]["name"]]
                one.index = key_at(one.mesh.bpy_object, bind["index"])
                one.weight = bind["weight"] / 100
        return
    extension.spec_version = "1.0"
    for name, expression in held["expressions"]["preset"].items():
        new = getattr(extension.vrm1.expressions.preset, name, None)
        for bind in expression.get("morphTargetBinds", ()) if new is not None else ():
            one = new.morph_target_binds.add()
            one.node.bpy_object = faces[gltf["meshes"][gltf["nodes"][bind["node"]]["mesh"]]["name"]]
            one.index = key_at(one.node.bpy_object, bind["index"])
            one.weight = bind["weight"]


def key_at(obj: bpy.types.Object, index: int) -> str:
    return obj.data.shape_keys.key_blocks[index + 1].name


@pytest.mark.parametrize("raw", [False, True], ids=["with the add-on", "without it"])
@pytest.mark.parametrize("file", ["Godette_vrm_v4.vrm", "Godette_vrm1.vrm"])
def test_vrm_characters_speak_by_their_expressions(addon, tables, file, raw) -> None:
    """Also under shapes called target_0 …, and the mesh renamed after it came in."""
    path = shared(f"characters/godette/{file}")
    bpy.ops.import_scene.gltf(filepath=str(path))
    rig = next(obj for obj in bpy.data.objects if obj.type == "ARMATURE")
    body = {obj.data.name: obj for obj in bpy.data.objects if obj.type == "MESH"}
    for block in body["FaceMesh"].data.shape_keys.key_blocks[1:]:
        block.name = f"target_{block.name}" if block.name.isalpha() else block.name
    declare(rig, path, body)
    body["FaceMesh"].name = "Her Face"
    if raw:
        switch_off()
    speaker, proposal = fit.fit(rig)
    assert speaker == body["FaceMesh"]
    mapping = proposal.mapping
    assert mapping.title.startswith("VRM 0" if "v4" in file else "VRM 1")
    assert mapping.few is not None
    assert len(mapping.few.names) == 5
    blinks = {term.controls for row in mapping.rows for term in row.terms}
    assert {("eyeBlinkLeft",), ("eyeBlinkRight",)} <= blinks
    clips.apply_motion(speaker, talk(), clip="one")
    apart = [lips_apart(speaker, frame) for frame in range(1, 26)]
    width, rest = detect.lips_of(speaker)["width"], lips_apart(speaker, -50)
    assert max(apart) > rest + 0.2 * width
    assert lips_apart(speaker, 7) < rest + 0.012 * width


@pytest.mark.parametrize("raw", [False, True], ids=["with the add-on", "without it"])
def test_mmd_categories_are_read(addon, tables, raw) -> None:
    anna = build(jawOpen="Gape", mouthPucker="Round", mouthFunnel="Trumpet")
    root = bpy.data.objects.new("Model", None)
    bpy.context.scene.collection.objects.link(root)
    anna.parent = root
    for name, english, category in (
        ("Gape", "Ah", "MOUTH"),
        ("Round", "U", "MOUTH"),
        ("Trumpet", "Anger", "EYEBROW"),
        ("Rest", "", "OTHER"),
    ):
        morph = root.mmd_root.vertex_morphs.add()
        morph.name, morph.name_e, morph.category = name, english, category
    if raw:
        switch_off()
    found = declared.read([anna])
    assert found.areas == {"Gape": "mouth", "Round": "mouth", "Trumpet": "brows"}
    assert {expression.name for expression in found.expressions} == {"Ah", "U", "Anger"}
    assert "Trumpet" not in {place.name for place in fit.fit(anna)[1].mapping.places()}


def test_a_bound_mmd_model_is_moved_through_its_placeholder(addon) -> None:
    """Binding mutes the shapes; copies of them are driven by the keys of a hidden object."""
    anna = build(jawOpen="あ", mouthPucker="う", mouthFunnel="お", mouthSmileLeft="え",
                 mouthSmileRight="い", mouthClose="ん")  # fmt: skip
    rest = closed_gap(anna)
    root = bpy.data.objects.new("Model", None)
    mesh = bpy.data.meshes.new("placeholder")
    mesh.from_pydata([(0, 0, 0)], [], [])
    holder = bpy.data.objects.new(".placeholder", mesh)
    for obj in (root, holder):
        bpy.context.scene.collection.objects.link(obj)
    holder.parent = anna.parent = root
    holder.shape_key_add(name="--- morph sliders ---")
    bind(anna, holder)
    bpy.context.view_layer.update()
    speaker, proposal = fit.fit(root)
    assert speaker == anna
    assert {place.owner for place in proposal.mapping.places()} >= {".placeholder"}
    assert detect.read_mapping(anna) == proposal.mapping
    for tolerance in (0.0, 0.5):
        applied = clips.apply_motion(speaker, talk(), clip="one", tolerance=tolerance)
        assert applied.millimetres > 3
        assert max(lips_apart(anna, frame) for frame in range(1, 26)) > rest + 0.008
        assert lips_apart(anna, 7) == pytest.approx(rest, abs=5e-4)
    clips.remove_motion(anna)
    assert not any(block.value for block in holder.data.shape_keys.key_blocks[1:])


def closed_gap(obj: bpy.types.Object) -> float:
    """Return how far the lips are apart at rest."""
    fit.fit(obj)
    gap = lips_apart(obj, 1)
    detect.forget(obj)
    return gap


def bind(obj: bpy.types.Object, holder: bpy.types.Object) -> None:
    """Mute a mesh's shapes and let copies of them follow the keys of another object."""
    for block in list(obj.data.shape_keys.key_blocks)[1:]:
        holder.shape_key_add(name=block.name).value = 0.0
        copy = obj.shape_key_add(name=f"mmd_bind{block.name}", from_mix=False)
        points = detect.coordinates(block.points).astype("float32")
        copy.points.foreach_set("co", points.ravel())
        block.mute = True
        driver = copy.driver_add("value").driver
        driver.type = "SUM"
        target = driver.variables.new().targets[0]
        target.id_type, target.id = "KEY", holder.data.shape_keys
        target.data_path = f'key_blocks["{block.name}"].value'
