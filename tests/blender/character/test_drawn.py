# SPDX-License-Identifier: GPL-3.0-or-later
"""Characters whose mouth is a set of drawings speak: layers, numbers, images, objects."""

from __future__ import annotations

import re
from itertools import groupby

import bpy
import numpy as np
import pytest

from diffspeaker_blender.animation import channels, clips
from diffspeaker_blender.character import detect, fit
from diffspeaker_blender.errors import HeadError
from diffspeaker_blender.motion.motion import Adjustments, retime
from tests.blender import test_whole_path
from tests.blender.character.test_mapped import talk
from tests.blender.test_whole_path import SAMPLE

real = test_whole_path.real
LETTERS = ("A", "B", "C", "D", "E", "F", "G", "H", "X")


NEW = bpy.app.version >= (4, 3)  # Grease Pencil was made anew


def pencil(name: str = "Mouth", layers=LETTERS, frames=(1,)) -> bpy.types.Object:
    """Add a Grease Pencil object with a stroke on every frame of every layer."""
    v3 = hasattr(bpy.data, "grease_pencils_v3")
    data = (bpy.data.grease_pencils_v3 if v3 else bpy.data.grease_pencils).new(name)
    for layer in layers:
        made = data.layers.new(layer)
        for frame in frames:
            draw(made.frames.new(frame), frame)
    return linked(bpy.data.objects.new(name, data))


def draw(frame: object, height: float) -> None:
    """Draw a line from the origin to a height."""
    if NEW:
        frame.drawing.add_strokes([2])
        frame.drawing.strokes[0].points[1].position = (0, 0, height)
        return
    stroke = frame.strokes.new()
    stroke.points.add(2)
    stroke.points[1].co = (0, 0, height)


def height_at(layer: object) -> float:
    """Return the height of the line that a layer shows now."""
    if NEW:
        return layer.current_frame().drawing.strokes[0].points[1].position[2]
    return layer.active_frame.strokes[0].points[1].co[2]


def name_of(layer: object) -> str:
    return layer.name if NEW else layer.info


def linked(obj: bpy.types.Object) -> bpy.types.Object:
    bpy.context.scene.collection.objects.link(obj)
    bpy.context.view_layer.objects.active = obj
    obj.select_set(True)
    bpy.context.view_layer.update()
    return obj


def shown_layers(obj: bpy.types.Object, frame: int) -> list[str]:
    """Return the layers that Blender shows at a frame."""
    bpy.context.scene.frame_set(frame)
    data = obj.evaluated_get(bpy.context.evaluated_depsgraph_get()).data
    return [name_of(layer) for layer in data.layers if not layer.hide and layer.opacity > 0.5]


def test_layers_called_by_letters_are_found_and_one_is_shown(addon) -> None:
    mouth = pencil()
    face, proposal = fit.fit(mouth)
    assert face == mouth
    assert proposal.sentence() == "Ready to speak: 9 drawn mouths (Grease Pencil layers)"
    applied = clips.apply_motion(mouth, talk(), clip="one", start_frame=1.0)
    assert applied.sentence().startswith(f"Mouth drawing changed {applied.drawings} times over")
    assert applied.drawings >= 4
    assert not applied.findings
    seen = [shown_layers(mouth, frame) for frame in range(-20, 60)]
    assert all(len(one) == 1 for one in seen)
    assert seen[0] == seen[-1] == ["X"]
    assert shown_layers(mouth, 7) == ["A"]  # sealed
    assert {"A", "D", "X"} <= {one[0] for one in seen}


def test_a_time_offset_shows_the_frame_of_the_mouth(addon) -> None:
    mouth = pencil(layers=("Lines",), frames=range(1, 10))
    with pytest.raises(HeadError, match="press Drawn Mouth"):
        fit.fit(mouth)
    bpy.ops.diffspeaker.drawn_mouth()
    modifier = (mouth.modifiers if NEW else mouth.grease_pencil_modifiers)[0]
    assert (modifier.type, modifier.mode) == ("GREASE_PENCIL_TIME" if NEW else "GP_TIME", "FIX")
    applied = clips.apply_motion(mouth, talk(), clip="one", start_frame=1.0)
    assert applied.drawings >= 4
    assert not applied.findings

    def seen(frame: int) -> int:
        bpy.context.scene.frame_set(frame)
        data = mouth.evaluated_get(bpy.context.evaluated_depsgraph_get()).data
        return round(height_at(data.layers[0]))

    assert seen(-20) == 9  # X
    assert seen(7) == 1  # A, sealed
    assert {1, 4, 9} <= {seen(frame) for frame in range(1, 31)}


def plane(name: str = "Face") -> bpy.types.Object:
    mesh = bpy.data.meshes.new(name)
    mesh.from_pydata([(-1, 0, -1), (1, 0, -1), (1, 0, 1), (-1, 0, 1)], [], [(0, 1, 2, 3)])
    mesh.uv_layers.new()
    return linked(bpy.data.objects.new(name, mesh))


def pictures(folder, count: int = 9, first: int = 1) -> bpy.types.Image:
    """Write an image sequence whose n-th picture is n tenths red, and load it."""
    for n in range(first, first + count):
        image = bpy.data.images.new("one", 4, 4)
        image.pixels[:] = [n / 10, 0, 0, 1] * 16
        image.filepath_raw, image.file_format = str(folder / f"mouth_{n:03}.png"), "PNG"
        image.save()
        bpy.data.images.remove(image)
    image = bpy.data.images.load(str(folder / f"mouth_{first:03}.png"))
    image.source = "SEQUENCE"
    return image


def textured(obj: bpy.types.Object, image: bpy.types.Image) -> bpy.types.Node:
    material = bpy.data.materials.new(f"{obj.name} Mouth")
    if material.node_tree is None:
        material.use_nodes = True
    node = material.node_tree.nodes.new("ShaderNodeTexImage")
    node.image = image
    obj.data.materials.append(material)
    return node


def test_an_image_sequence_stands_still_but_for_its_offset(addon, tmp_path) -> None:
    face = plane()
    node = textured(face, pictures(tmp_path))
    bpy.ops.diffspeaker.drawn_mouth()
    assert node.image_user.frame_duration == 1
    assert node.image_user.frame_start < -9999  # before it, another image is shown
    assert node.image_user.frame_offset == 8  # X
    applied = clips.apply_motion(face, talk(), clip="one", start_frame=1.0)
    assert not applied.findings

    def seen(frame: int) -> int:
        bpy.context.scene.frame_set(frame)
        return node.image_user.frame_offset

    assert (seen(-20), seen(7), seen(100)) == (8, 0, 8)
    tree = face.data.materials[0].node_tree
    assert tree.animation_data.action is not None
    bpy.ops.diffspeaker.forget_character()
    assert tree.animation_data.action is None


def test_lids_of_a_modelled_head_go_on_above_a_drawn_mouth(addon, tmp_path) -> None:
    head = plane("Head")
    head.shape_key_add(name="Basis")
    for name, vertex in (("Blink_L", 2), ("Blink_R", 3)):
        head.shape_key_add(name=name).points[vertex].co.z -= 0.3
    mouth = plane("Mouth Plane")
    mouth.parent = head
    node = textured(mouth, pictures(tmp_path))
    bpy.context.view_layer.objects.active = head
    bpy.ops.diffspeaker.drawn_mouth()
    speaker = detect.speaker_of(head)
    assert speaker == mouth
    assert not clips.apply_motion(speaker, talk(), clip="one", start_frame=1.0).findings
    shut = 0.0
    for frame in range(1, 30):
        bpy.context.scene.frame_set(frame)
        lids = [block.value for block in head.data.shape_keys.key_blocks[1:]]
        assert lids[0] == lids[1]
        shut = max(shut, lids[0])
    assert shut > 0.5
    bpy.context.scene.frame_set(7)
    assert node.image_user.frame_offset == 0
    with pytest.raises(RuntimeError, match="Render it"):
        bpy.ops.diffspeaker.export(filepath=str(tmp_path / "mouth.glb"))


def test_shape_keys_called_like_mouths_are_asked_about_not_guessed(addon) -> None:
    face = plane()
    face.shape_key_add(name="Basis")
    for name in ("A", "I", "U", "E", "O"):
        face.shape_key_add(name=name)
    face["gear"] = 3
    with pytest.raises(HeadError) as told:
        fit.fit(face)
    assert "Drawn Mouth" not in str(told.value)
    for place, name in enumerate(("A", "I", "U", "E")):
        face.data.shape_keys.key_blocks[name].points[place].co.z += 0.2
    with pytest.raises(HeadError, match="Shape keys of Face, stepped"):
        fit.fit(face)
    bpy.ops.diffspeaker.drawn_mouth()
    assert not clips.apply_motion(face, talk(), clip="one", start_frame=1.0).findings
    keys = face.data.shape_keys.key_blocks
    for frame in range(1, 31):
        bpy.context.scene.frame_set(frame)
        assert sorted(keys[name].value for name in "AIUE") == [0, 0, 0, 1]


def test_an_image_empty_speaks(addon, tmp_path) -> None:
    empty = bpy.data.objects.new("Mouth", None)
    empty.empty_display_type, empty.data = "IMAGE", pictures(tmp_path, 6)
    linked(empty)
    bpy.ops.diffspeaker.drawn_mouth()
    clips.apply_motion(empty, talk(), clip="one", start_frame=1.0)
    bpy.context.scene.frame_set(7)
    assert empty.image_user.frame_offset == 0
    bpy.context.scene.frame_set(15)
    assert empty.image_user.frame_offset != 0


def test_a_number_of_an_armature_chooses(addon) -> None:
    rig = linked(bpy.data.objects.new("Rig", bpy.data.armatures.new("Rig")))
    rig["mouth"] = 0
    rig.id_properties_ui("mouth").update(min=0, max=5)
    bpy.ops.diffspeaker.drawn_mouth(drawings="rest MBP AI E O U", hold=3)
    applied = clips.apply_motion(rig, talk(), clip="one", start_frame=1.0)
    assert not applied.findings
    seen = []
    for frame in range(1, 31):
        bpy.context.scene.frame_set(frame)
        seen.append(rig["mouth"])
        assert isinstance(rig["mouth"], int)
    assert seen[6] == 1
    assert 2 in seen
    edges = np.flatnonzero(np.diff(seen)) + 1
    assert np.diff(edges).min() >= 3
    with pytest.raises(RuntimeError, match="names no mouth"):
        bpy.ops.diffspeaker.drawn_mouth(drawings="rest Quux")


def test_objects_are_shown_one_at_a_time(addon) -> None:
    head = plane("Head")
    mouths = {}
    for word in ("rest", "ai", "e", "o", "u", "fv", "mbp"):
        mouths[word] = plane(f"mouth_{word}")
        mouths[word].parent = head
    bpy.context.view_layer.objects.active = head
    face, _ = fit.fit(head)
    assert face == head
    applied = clips.apply_motion(head, talk(), clip="one", start_frame=1.0)
    assert not applied.findings
    for frame, word in ((-20, "rest"), (7, "mbp"), (100, "rest")):
        bpy.context.scene.frame_set(frame)
        seen = [name for name, obj in mouths.items() if not obj.hide_render]
        assert seen == [word]
        assert [name for name, obj in mouths.items() if not obj.hide_viewport] == [word]
    assert not head.hide_render


def test_an_input_of_geometry_nodes_chooses(addon) -> None:
    face = plane()
    group = bpy.data.node_groups.new("Mouths", "GeometryNodeTree")
    for way in ("INPUT", "OUTPUT"):
        group.interface.new_socket("Geometry", in_out=way, socket_type="NodeSocketGeometry")
    socket = group.interface.new_socket("Mouth", in_out="INPUT", socket_type="NodeSocketInt")
    socket.min_value, socket.max_value = 1, 9
    ends = [group.nodes.new(f"NodeGroup{word}") for word in ("Input", "Output")]
    group.links.new(ends[0].outputs[0], ends[1].inputs[0])
    face.modifiers.new("Nodes", "NODES").node_group = group
    bpy.ops.diffspeaker.drawn_mouth()
    assert not clips.apply_motion(face, talk(), clip="one").findings
    place = detect.read_mapping(face).drawn_rows[0].places[0]
    bpy.context.scene.frame_set(7)
    assert face.path_resolve(place.name) == 1
    bpy.context.scene.frame_set(-20)
    assert face.path_resolve(place.name) == 9


def sequence(obj: bpy.types.Object, frames=range(1, 31)) -> str:
    return "".join(shown_layers(obj, frame)[0] for frame in frames)


def test_test_poses_show_and_go_back(addon) -> None:
    mouth = pencil()
    bpy.ops.diffspeaker.fit_character()
    for pose, letters in (("AH", "CD"), ("EE", "B"), ("OO", "F"), ("M", "A"), ("F", "G")):
        bpy.ops.diffspeaker.test_pose(pose=pose)
        (shown,) = shown_layers(mouth, 1)
        assert shown in letters
    bpy.ops.diffspeaker.test_pose(pose="F")
    assert shown_layers(mouth, 1) == ["X"]


def test_the_users_action_stays_and_the_line_lies_beside_it(addon) -> None:
    mouth = pencil()
    mouth.data.layers["A"].opacity = 0.5
    mouth.data.layers["A"].keyframe_insert("opacity", frame=500)
    mouth.location.x = 1.0
    mouth.keyframe_insert("location", frame=3)
    users = mouth.data.animation_data.action, mouth.animation_data.action
    bpy.ops.diffspeaker.fit_character()
    applied = clips.apply_motion(mouth, talk(), clip="one", tolerance=0.5)
    assert (mouth.data.animation_data.action, mouth.animation_data.action) == users
    assert mouth.data.animation_data.nla_tracks
    (track,) = mouth.data.animation_data.nla_tracks
    assert track.strips[0].extrapolation == "HOLD"
    assert shown_layers(mouth, 6) == []  # the user's keys on A win, and the panel says so
    assert any("wins" in finding.message for finding in applied.findings)
    bpy.data.actions.remove(users[0])
    assert set(sequence(mouth)) >= {"A", "D"}
    assert sequence(mouth, range(-30, -10)) == sequence(mouth, range(60, 80)) == "X" * 20


def test_hand_edits_live_controls_and_twos(addon) -> None:
    mouth = pencil()
    bpy.ops.diffspeaker.fit_character()
    clips.apply_motion(mouth, talk(), clip="one", start_frame=1.0)
    first = sequence(mouth)
    clips.adjust_clip(mouth, "one", Adjustments(intensity=0.3))
    assert sequence(mouth) != first
    clips.adjust_clip(mouth, "one", Adjustments())
    assert sequence(mouth) == first
    mouth.diffspeaker_strengths.steps = 2
    on_twos = sequence(mouth)
    assert all(on_twos[k] == on_twos[k + 1] for k in range(0, 28, 2))
    mouth.diffspeaker_strengths.steps = 1
    mouth.diffspeaker_strengths.drawn_hold = 5
    assert min(runs(sequence(mouth))[1:-1]) >= 5
    mouth.diffspeaker_strengths.drawn_hold = 2
    assert sequence(mouth) == first
    for name, value in (("G", 1.0), (first[19], 0.0)):
        for frame, on in ((20, value), (22, 1.0 - value)):
            layer = mouth.data.layers[name]
            layer.opacity = on
            layer.keyframe_insert("opacity", frame=frame)
            curve = next(c for c in every_curve(mouth.data) if f'"{name}"' in c.data_path)
            point = next(p for p in curve.keyframe_points if p.co[0] == frame)
            point.interpolation = "CONSTANT"
    assert sequence(mouth)[19:21] == "GG"
    clips.adjust_clip(mouth, "one", Adjustments(intensity=1.02))
    assert sequence(mouth)[19:21] == "GG"


def every_curve(owner: bpy.types.ID) -> list:
    return [curve for bag in channels.bags(owner) for curve in bag.fcurves]


def runs(shown: str) -> list[int]:
    return [len(list(group)) for _, group in groupby(shown)]


def test_a_copy_speaks_with_its_own_drawings(addon) -> None:
    mouth = pencil()
    bpy.ops.diffspeaker.fit_character()
    clips.apply_motion(mouth, talk(), clip="one", start_frame=1.0)
    twin = mouth.copy()
    twin.data = mouth.data.copy()
    bpy.context.scene.collection.objects.link(twin)
    clips.apply_motion(twin, talk(), clip="two", start_frame=40.0)
    mapping = detect.read_mapping(twin)
    assert {place.owner for place in mapping.places()} == {twin.name}
    assert set(sequence(twin, range(40, 70))) >= {"A", "D"}
    assert set(sequence(mouth, range(45, 75))) == {"X"}
    assert clips.clips(mouth) == ("one",)


def test_the_bundled_model_shuts_the_drawn_mouth_at_each_closure(real) -> None:
    """The real sample through the real worker: each sealing of two frames shows the A."""
    bpy.context.scene.render.fps = 24
    mouth = pencil()
    bpy.ops.diffspeaker.generate(audio=str(SAMPLE), character="Mouth")
    message = bpy.context.window_manager.diffspeaker.message
    assert re.match(r"Mouth drawing changed \d\d times over 2\d\d frames, sound in sync", message)
    motion, _ = clips.load_stored(mouth, clips.clips(mouth)[0])
    placed, frames = retime(motion, 24, start_frame=1.0)
    seal = placed.controls[:, placed.control_names.index("mouthClose")] > 0.6
    edges = np.flatnonzero(np.diff(np.r_[False, seal, False].astype(int))).reshape(-1, 2)
    shown = sequence(mouth, [int(frame) for frame in frames])
    closures = [(first, end) for first, end in edges if end - first >= 2]
    assert len(closures) > 8
    for first, end in closures:
        assert set(shown[first:end]) == {"A"}
    assert min(runs(shown)[1:-1]) >= 2
    assert len(set(shown)) > 6
