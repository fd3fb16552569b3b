# SPDX-License-Identifier: GPL-3.0-or-later
"""The panel's verbs for a character: fit, test, strengths, rows by hand, presets, undo."""

from __future__ import annotations

import bmesh
import bpy
import numpy as np
import pytest

from diffspeaker_blender.animation import clips
from diffspeaker_blender.character import detect, fit
from diffspeaker_blender.character.mapping import Term, parse_terms
from diffspeaker_blender.jobs import plan
from tests.blender.character.test_mapped import add_key, build, lips_apart, talk, with_bones
from tests.blender.conftest import pump
from tests.blender.linking import linked
from tests.character.faces import face


def value(obj: bpy.types.Object, key: str) -> float:
    return obj.data.shape_keys.key_blocks[key].value


def test_fit_says_what_was_found(addon) -> None:
    anna = build()
    assert bpy.ops.diffspeaker.fit_character() == {"FINISHED"}
    assert bpy.context.scene.diffspeaker.head == anna
    said = bpy.context.window_manager.diffspeaker.message
    assert said.startswith("Ready to speak: ")
    assert "lips seal, no tongue" in said


def in_collection(name: str, *objects: bpy.types.Object) -> bpy.types.Collection:
    group = bpy.data.collections.new(name)
    bpy.context.scene.collection.children.link(group)
    for obj in objects:
        group.objects.link(obj)
    return group


def test_a_character_is_named_by_any_of_its_objects(addon) -> None:
    bella = with_bones(0.0, "X")
    bpy.ops.diffspeaker.fit_character(character="Rig")
    assert detect.is_mapped(bella)
    assert detect.speaker_of(bella.parent) == bella
    in_collection("Cast", bella)
    bpy.ops.diffspeaker.fit_character(character="Cast")
    bella.data.name = "Her Mesh"
    assert fit.find(bpy.context, "Her Mesh") == bella


def test_a_wrong_name_is_answered_with_the_nearest(addon, line) -> None:
    build()
    with pytest.raises(RuntimeError, match=r"no object called “Ana”\. Did you mean “Anna”"):
        bpy.ops.diffspeaker.generate(audio=str(line), character="Ana")
    with pytest.raises(RuntimeError, match="This file has Anna"):
        bpy.ops.diffspeaker.fit_character(character="Zoltán")


def test_a_script_names_an_empty_a_collection_or_an_instance(addon, line) -> None:
    anna = build()
    root = bpy.data.objects.new("Model", None)
    bpy.context.scene.collection.objects.link(root)
    anna.parent = root
    group = in_collection("Her Things", anna, bpy.data.objects["Anna Teeth"])
    shown = bpy.data.objects.new("Shown", None)
    shown.instance_type, shown.instance_collection = "COLLECTION", group
    bpy.context.scene.collection.objects.link(shown)
    for name in ("Model", "Her Things", "Shown", "Anna Teeth"):
        bpy.ops.diffspeaker.forget_character() if detect.is_mapped(anna) else None
        bpy.ops.diffspeaker.generate(audio=str(line), character=name)
        assert detect.is_mapped(anna)
        assert len(clips.clips(anna)) == 1
    for obj in (anna, bpy.data.objects["Anna Teeth"]):
        bpy.context.scene.collection.objects.unlink(obj)
    bpy.context.scene.collection.children.unlink(group)
    with pytest.raises(RuntimeError, match="whose objects are in no scene"):
        bpy.ops.diffspeaker.generate(audio=str(line), character="Shown")


def test_a_collection_of_two_characters_is_ambiguous(addon, line) -> None:
    anna, bella = build(), build("Bella")
    for obj in (bella, bpy.data.objects["Bella Teeth"]):
        obj.location.x = 3.0
    bpy.context.view_layer.update()
    fit.fit(anna)
    fit.fit(bella)
    in_collection("Cast", anna, bella)
    with pytest.raises(RuntimeError, match=r"several characters: Anna, Bella\. Name one"):
        bpy.ops.diffspeaker.generate(audio=str(line), character="Cast")


def test_a_linked_character_without_an_override_is_refused(addon, line, tmp_path) -> None:
    """It is told before any work; with an override its name means that."""
    anna = [build(), bpy.data.objects["Anna Teeth"]]
    cast, shown = linked(tmp_path / "library.blend", anna)
    for name in ("Anna", "Cast", "Shown"):
        with pytest.raises(RuntimeError, match=r"linked from library.blend.*Library Override"):
            bpy.ops.diffspeaker.generate(audio=str(line), character=name)
    cast.override_hierarchy_create(
        bpy.context.scene, bpy.context.view_layer, reference=shown, do_fully_editable=True
    )
    for name in ("Anna", "Cast"):
        assert fit.find(bpy.context, name).override_library is not None
    bpy.ops.diffspeaker.generate(audio=str(line), character="Anna")
    assert clips.clips(plan.find_head(bpy.context, "Anna")) == ("line one",)


def test_a_test_pose_goes_back(addon) -> None:
    anna = build()
    anna.data.shape_keys.key_blocks["jawOpen"].value = 0.05
    bpy.ops.diffspeaker.fit_character()
    bpy.ops.diffspeaker.test_pose(pose="AH")
    assert value(anna, "jawOpen") == pytest.approx(0.45)
    bpy.ops.diffspeaker.test_pose(pose="M")
    assert value(anna, "mouthClose") > 0.2
    bpy.ops.diffspeaker.test_pose(pose="M")
    assert value(anna, "jawOpen") == pytest.approx(0.05)
    assert value(anna, "mouthClose") == 0.0
    rest = lips_apart(anna, 1)
    bpy.ops.diffspeaker.test_pose(pose="F")
    bpy.ops.diffspeaker.test_pose(pose="BLINK")
    assert value(anna, "eyeBlinkLeft") == pytest.approx(1.0)
    bpy.ops.diffspeaker.test_pose(pose="BLINK")
    assert lips_apart(anna, 1) == pytest.approx(rest)


def test_a_test_pose_shows_what_a_line_would(addon) -> None:
    """A shape left standing that keeps the lips apart rests in a pose, too, and comes back."""
    anna = build()
    bpy.ops.diffspeaker.fit_character()
    shut = lips_apart(anna, 1)
    add_key(anna, "Yawn", face().keys["jawOpen"])
    anna.data.shape_keys.key_blocks["Yawn"].value = 0.3
    bpy.ops.diffspeaker.test_pose(pose="M")
    assert lips_apart(anna, 1) == pytest.approx(shut, abs=1e-4)
    bpy.ops.diffspeaker.test_pose(pose="AH")
    bpy.ops.diffspeaker.test_pose(pose="AH")
    assert value(anna, "Yawn") == pytest.approx(0.3)


def test_a_bone_goes_back_to_where_it_stood(addon) -> None:
    bella = with_bones(0.0, "X")
    bone = bella.parent.pose.bones["jaw"]
    bone.rotation_mode = "XYZ"
    bone.rotation_euler = (0.0, 0.0, 0.03)
    bpy.ops.diffspeaker.fit_character(character="Rig")
    bpy.ops.diffspeaker.test_pose(pose="AH")
    assert max(abs(angle) for angle in bone.rotation_euler) > 0.1
    bpy.ops.diffspeaker.test_pose(pose="AH")
    assert tuple(bone.rotation_euler) == pytest.approx((0.0, 0.0, 0.03), abs=1e-5)


def test_strength_of_a_group_rewrites_the_lines(addon) -> None:
    anna = build()
    bpy.ops.diffspeaker.fit_character()
    clips.apply_motion(anna, talk(), clip="one")
    widest = max(lips_apart(anna, frame) for frame in range(1, 26))
    anna.diffspeaker_strengths.jaw = 0.5
    assert max(lips_apart(anna, frame) for frame in range(1, 26)) < 0.65 * widest
    assert detect.read_mapping(anna).strengths == {"jaw": 0.5}


def test_a_row_by_hand(addon) -> None:
    anna = build()
    bpy.ops.diffspeaker.fit_character()
    mapping = detect.read_mapping(anna)
    row = next(k for k, r in enumerate(mapping.rows) if r.places[0].name == "mouthPucker")
    bpy.ops.diffspeaker.edit_row(row=row, driven_by="0.5 mouthPucker + jawOpen * (1 - lipTuck)")
    terms = detect.read_mapping(anna).rows[row].terms
    assert terms == (Term(0.5, ("mouthPucker",)), Term(1.0, ("jawOpen",), ("lipTuck",)))
    with pytest.raises(RuntimeError, match="names no control"):
        bpy.ops.diffspeaker.edit_row(row=row, driven_by="0.5")


def test_what_is_written_is_read_again() -> None:
    for text in ("jawOpen", "0.25 jawOpen × (1 − mouthClose) × (1 − lipTuck)", "-0.5 mouthLeft",
                 "1.2e-05 jawOpen × mouthClose"):  # fmt: skip
        [term] = parse_terms(text)
        assert parse_terms(term.text()) == (term,)


def test_presets_join_by_name(addon, tmp_path) -> None:
    anna = build()
    bpy.ops.diffspeaker.fit_character()
    bpy.ops.diffspeaker.edit_row(row=0, driven_by="0.77 jawOpen")
    changed = detect.read_mapping(anna).rows[0]
    path = tmp_path / "anna.json"
    bpy.ops.diffspeaker.save_mapping(filepath=str(path))
    carla = build("Carla")
    for obj in (anna, bpy.data.objects["Anna Teeth"]):
        bpy.data.objects.remove(obj)
    bpy.ops.diffspeaker.fit_character(character="Carla")
    assert detect.read_mapping(carla).rows[0].terms != changed.terms
    bpy.ops.diffspeaker.load_mapping(filepath=str(path))
    loaded = detect.read_mapping(carla)
    assert loaded.rows[0].terms == changed.terms
    assert {place.owner for place in loaded.places()} == {"Carla", "Carla Teeth"}
    path.write_text("[1, 2]", encoding="utf-8")
    with pytest.raises(RuntimeError, match="no mapping"):
        bpy.ops.diffspeaker.load_mapping(filepath=str(path))


def test_a_similar_character_takes_a_mapping_made_by_hand(addon) -> None:
    anna = build()
    bpy.ops.diffspeaker.fit_character()
    bpy.ops.diffspeaker.edit_row(row=0, driven_by="0.77 jawOpen")
    dora = build("Dora")
    for obj in (dora, bpy.data.objects["Dora Teeth"]):
        obj.location.x = 3.0
    bpy.context.view_layer.update()
    anna.diffspeaker_strengths.jaw = 0.5
    assert fit.ensure(dora) == dora
    assert detect.read_mapping(dora).rows[0].terms == detect.read_mapping(anna).rows[0].terms
    assert detect.read_mapping(dora).strengths == {}
    assert fit.edited(dora)


def test_a_saved_mapping_is_taken_by_the_next_character(addon) -> None:
    """In another file, by the names of its channels; a character of other names is measured."""
    from diffspeaker_blender.character import presets

    build()
    bpy.ops.diffspeaker.fit_character()
    bpy.ops.diffspeaker.edit_row(row=0, driven_by="0.77 jawOpen")
    presets.folder().mkdir(parents=True)
    bpy.ops.diffspeaker.save_mapping(filepath=str(presets.folder() / "My Cast.json"))
    (presets.folder() / "broken.json").write_text("{", encoding="utf-8")
    bpy.ops.wm.read_factory_settings(use_empty=True)
    emma = build("Emma")
    fit.fit(emma)
    mapping = detect.read_mapping(emma)
    assert mapping.rows[0].terms == (Term(0.77, ("jawOpen",)),)
    assert {place.owner for place in mapping.places()} == {"Emma", "Emma Teeth"}
    assert "taken from “My Cast”" in fit.remarks_of(emma)[-1].reason
    other = build("Fay", jawOpen="Jaw_Open")
    other.location.x = 3.0
    bpy.data.objects["Fay Teeth"].location.x = 3.0
    bpy.context.view_layer.update()
    fit.fit(other)
    assert all("taken from" not in remark.reason for remark in fit.remarks_of(other))


def test_a_mapping_that_nobody_edited_is_measured_anew(addon) -> None:
    """Another character's own measures are worth more than a neighbour's."""
    anna = build()
    bpy.ops.diffspeaker.fit_character()
    dora = build("Dora")
    for obj in (dora, bpy.data.objects["Dora Teeth"]):
        obj.location.x = 3.0
    block = dora.data.shape_keys.key_blocks["mouthClose"]
    block.points.foreach_set("co", half_way(dora, block).ravel())
    bpy.context.view_layer.update()
    fit.fit(dora)
    gains = [
        next(
            row.terms[0].gain
            for row in detect.read_mapping(obj).rows
            if row.places[0].name == "mouthClose"
        )
        for obj in (anna, dora)
    ]
    assert gains[1] == pytest.approx(2 * gains[0], rel=0.02)
    assert not fit.edited(dora)


def half_way(obj: bpy.types.Object, block: bpy.types.ShapeKey) -> np.ndarray:
    """Return the points of a shape that does half as much."""
    rest = detect.coordinates(obj.data.shape_keys.reference_key.points)
    return ((rest + detect.coordinates(block.points)) / 2).astype(np.float32)


@pytest.fixture
def watched(monkeypatch):
    """Let things go as they do in a window."""
    from diffspeaker_blender.jobs import picked

    monkeypatch.setattr(picked, "_watched", lambda: True)
    monkeypatch.setattr(picked.status, "window", lambda: None)
    monkeypatch.setattr(picked, "_SEEN", 0.0)


def message() -> str:
    return str(bpy.context.window_manager.diffspeaker.message)


def test_a_character_is_fitted_when_it_is_picked(addon, watched) -> None:
    anna = build()
    cube = bpy.data.objects.new("Cube", bpy.data.meshes.new("Cube"))
    settings = bpy.context.scene.diffspeaker
    settings.head = cube
    assert not message().startswith("Looking")
    settings.head = anna
    assert message() == "Looking at Anna …"
    assert not detect.is_mapped(anna)
    pump(lambda: detect.is_mapped(anna))
    assert message().startswith("Ready to speak")
    settings.head = None
    settings.head = anna
    assert message().startswith("Ready to speak")


def test_a_character_is_picked_by_its_armature(addon, watched) -> None:
    bella = with_bones(0.0, "X")
    settings = bpy.context.scene.diffspeaker
    settings.head = bella.parent
    pump(lambda: detect.is_mapped(bella))
    assert settings.head == bella


def test_what_was_picked_and_cannot_speak_is_said(addon, watched) -> None:
    anna = build()
    for block in anna.data.shape_keys.key_blocks[1:]:
        anna.shape_key_remove(block)
    bpy.context.scene.diffspeaker.head = anna
    pump(lambda: not message().startswith("Looking"))
    assert "it has no face that moves" in message()
    assert not [name for name in anna.keys() if name.startswith("diffspeaker.")]  # noqa: SIM118


def test_a_changed_character_is_noticed_and_fitted_again(addon, line) -> None:
    """By itself only where channels are gone and nobody worked on the mapping."""
    anna = build()
    bpy.ops.diffspeaker.fit_character()
    assert fit.changed(anna) == ""
    anna.diffspeaker_strengths.lips = 0.8
    assert not fit.edited(anna)
    anna.shape_key_add(name="Sneer", from_mix=False)
    assert fit.changed(anna) == "Sneer is new"
    assert not fit.needs_fitting(anna)
    keys = anna.data.shape_keys.key_blocks
    keys["mouthPucker"].name = "mouth_pucker"
    assert fit.changed(anna) == "mouthPucker is gone, 2 shapes are new"
    assert fit.lost(anna) == ["mouthPucker"]
    bpy.ops.diffspeaker.generate(audio=str(line), character="Anna")
    assert fit.changed(anna) == ""
    assert "mouth_pucker" in {place.name for place in detect.read_mapping(anna).places()}
    assert detect.read_mapping(anna).strengths == {"lips": pytest.approx(0.8)}
    bpy.ops.diffspeaker.edit_row(row=0, driven_by="0.77 jawOpen")
    assert fit.edited(anna)
    keys["mouth_pucker"].name = "Kiss"
    bpy.ops.diffspeaker.generate(audio=str(line), character="Anna")
    assert "Kiss" not in {place.name for place in detect.read_mapping(anna).places()}
    assert fit.changed(anna) == "mouth_pucker is gone, Kiss is new"


@pytest.mark.parametrize("by_hand", [False, True], ids=["as measured", "edited"])
def test_a_mesh_with_other_vertices_is_looked_at_again(addon, line, by_hand) -> None:
    """The stored lips would be other vertices now; what was done by hand stays."""
    anna = build()
    bpy.ops.diffspeaker.fit_character()
    if by_hand:
        bpy.ops.diffspeaker.edit_row(row=0, driven_by="0.77 jawOpen")
    terms = detect.read_mapping(anna).rows[0].terms
    lips = detect.lips_of(anna)
    shell = bmesh.new()
    shell.from_mesh(anna.data)
    shell.verts.ensure_lookup_table()
    bmesh.ops.delete(shell, geom=shell.verts[400:800], context="VERTS")  # the forehead
    shell.to_mesh(anna.data)
    shell.free()
    assert "other vertices" in fit.changed(anna)
    bpy.ops.diffspeaker.generate(audio=str(line), character="Anna")
    assert fit.changed(anna) == ""
    assert detect.read_mapping(anna).rows[0].terms == terms
    now = detect.lips_of(anna)
    assert now is not None
    assert max(now["lower"]) == max(lips["lower"]) - 400
    assert "Mouth moved" in message()


def test_a_new_character_is_known_before_it_is_measured(addon) -> None:
    """So that the panel can say first that it looks at the face."""
    anna = build()
    assert plan.unfitted(bpy.context, "Anna") == anna
    assert plan.unfitted(bpy.context, "Nobody") is None
    fit.fit(anna)
    assert plan.unfitted(bpy.context, "Anna Teeth") is None
    anna.data.shape_keys.key_blocks["jawOpen"].name = "Gape"
    assert plan.unfitted(bpy.context, "Anna") == anna


def test_forgetting_leaves_nothing(addon) -> None:
    anna = build()
    before = set(anna.keys())
    bpy.ops.diffspeaker.fit_character()
    clips.apply_motion(anna, talk(), clip="one")
    bpy.ops.diffspeaker.forget_character()
    assert not [name for name in anna.keys() if name.startswith("diffspeaker.")]  # noqa: SIM118
    assert before <= set(anna.keys())
    assert not [action for action in bpy.data.actions if action.users]


def test_a_script_generates_on_a_character_by_name(addon, line) -> None:
    anna = build()
    bpy.ops.diffspeaker.generate(audio=str(line), character="Anna")
    assert detect.is_mapped(anna)
    assert clips.clips(anna)
