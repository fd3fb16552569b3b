# SPDX-License-Identifier: GPL-3.0-or-later
"""A character without face shapes is given some, and loses them again without a trace."""

from __future__ import annotations

import json

import numpy as np
import pytest

bpy = pytest.importorskip("bpy", reason="needs Blender's Python module")

from mathutils import Vector  # noqa: E402

from diffspeaker_blender.character import detect, face_shapes, fit  # noqa: E402
from diffspeaker_blender.errors import HeadError  # noqa: E402
from tests.model.heads import demo_head, warped  # noqa: E402


def plain(name="Body", turn=0.0, size=1.0):
    """A head without shapes, skin and eyes in two objects, turned and scaled by its parent."""
    vertices, triangles = warped(demo_head(), "wide")
    upright = vertices[:, [0, 2, 1]] * [1, -1, 1]
    home = bpy.data.objects.new("Home", None)
    home.rotation_euler.z, home.scale = turn, (size, size, size)
    bpy.context.collection.objects.link(home)
    skin = triangles[:, 0] < 3931
    objects = []
    for title, chosen in ((name, skin), ("Eyes", ~skin)):
        used = np.unique(triangles[chosen])
        place = np.full(len(vertices), -1)
        place[used] = np.arange(len(used))
        mesh = bpy.data.meshes.new(title)
        mesh.from_pydata(upright[used].tolist(), [], place[triangles[chosen]].tolist())
        obj = bpy.data.objects.new(title, mesh)
        obj.parent = home
        bpy.context.collection.objects.link(obj)
        objects.append(obj)
    bpy.context.view_layer.update()
    return objects


def answer(tmp_path, objects):
    """An answer of the worker as it might be: a jaw that moves the chin, eyes that turn."""
    counts = [len(one.data.vertices) for one in objects]
    shapes = np.zeros((3, sum(counts), 3), np.float32)
    shapes[0, :100, 2] = -0.02
    shapes[1, counts[0] :, 0] = 0.003
    report = json.dumps({"counts": {}, "measures": {}})
    names = np.array(["jawOpen", "eyeLookOutLeft", "tongueOut"])
    np.savez(tmp_path / "out.npz", names=names, shapes=shapes, report=report)
    return tmp_path / "out.npz"


def test_keys_come_where_something_moves_and_go_again(empty, tmp_path):
    """Each object gets the keys that move it, in its own axes; removing leaves no keys at all."""
    body, eyes = plain(turn=1.2, size=100.0)
    face_shapes.add(body, answer(tmp_path, [body, eyes]))
    assert face_shapes.made(body) == ["jawOpen"]
    assert face_shapes.made(eyes) == ["eyeLookOutLeft"]
    keys = body.data.shape_keys.key_blocks
    moved = keys["jawOpen"].points[5].co - keys["Basis"].points[5].co
    world = body.matrix_world.to_3x3() @ moved
    assert np.allclose(world, (0, 0, -0.02), atol=1e-5)
    assert face_shapes.remove(body) == 2
    assert body.data.shape_keys is None
    assert eyes.data.shape_keys is None


def test_keys_of_the_users_stay(empty, tmp_path):
    """A key that was there keeps its form, and outlives the removal."""
    body, eyes = plain()
    body.shape_key_add(name="Basis")
    own = body.shape_key_add(name="jawOpen")
    own.points[0].co.z += 1.0
    before = own.points[0].co.copy()
    face_shapes.add(body, answer(tmp_path, [body, eyes]))
    assert face_shapes.made(body) == []
    face_shapes.remove(body)
    assert body.data.shape_keys.key_blocks["jawOpen"].points[0].co == before


def test_a_pose_is_shown_and_put_back(empty, tmp_path):
    """The same button twice is rest."""
    body, eyes = plain()
    face_shapes.add(body, answer(tmp_path, [body, eyes]))
    key = body.data.shape_keys.key_blocks["jawOpen"]
    assert face_shapes.pose(body, "Ah")
    assert key.value == pytest.approx(0.6)
    assert not face_shapes.pose(body, "Ah")
    assert key.value == 0.0


def test_points_snap_to_the_surface_and_mirror(empty, tmp_path):
    """A point dragged off the face returns to it; the right follows the left."""
    body, _eyes = plain(size=10.0)
    names = np.array(list(face_shapes.LABELS))
    places = np.array([
        [2 * (("left" in n) - ("right" in n)), -9.0, 0.5 * k] for k, n in enumerate(names)
    ]) / 10  # fmt: skip
    np.savez(tmp_path / "out.npz", names=names, points=places, doubtful=np.zeros(12, bool))
    assert face_shapes.place(body, tmp_path / "out.npz") == 0
    marks = face_shapes.markers(body)
    marks["eye_outer_left"].location.x += 0.05
    face_shapes.snap(body, mirror=True)
    found = face_shapes.points_of(body)
    left, right = found["eye_outer_left"], found["eye_outer_right"]
    assert left.x == pytest.approx(-right.x, abs=2e-3)
    hit, there, *_ = body.closest_point_on_mesh(body.matrix_world.inverted() @ left)
    assert hit
    assert (body.matrix_world @ there - left).length < 1e-3
    bpy.data.objects.remove(marks["chin"])
    with pytest.raises(HeadError, match="tip of the chin"):
        face_shapes.points_of(body)


def test_a_plain_head_becomes_ready_to_speak(addon):
    """From no keys at all to a fitted character, in one call; and back."""
    body, eyes = plain(turn=np.pi / 2, size=100.0)
    before = {obj.name for obj in bpy.data.objects}
    assert bpy.ops.diffspeaker.make_face_shapes(head=body.name) == {"FINISHED"}
    assert set(face_shapes.markers(body)) == set(face_shapes.LABELS)
    assert "experimental" in bpy.context.window_manager.diffspeaker.message
    assert "Ready to speak" in fit.sentence_of(body)
    assert {"eyeLookOutLeft", "eyeLookUpRight"} <= set(face_shapes.made(eyes))
    with pytest.raises(RuntimeError, match="already"):
        bpy.ops.diffspeaker.make_face_shapes(head=body.name)
    bpy.ops.diffspeaker.remove_face_shapes(head=body.name)
    assert {obj.name for obj in bpy.data.objects} == before
    assert body.data.shape_keys is None
    assert not detect.is_mapped(body)


def test_a_modelled_person_is_read_as_it_is_shown(empty, tmp_path):
    """Keys that shape a person are part of the face that is read, and stay as they are."""
    body, _eyes = plain()
    body.shape_key_add(name="Basis")
    own = body.shape_key_add(name="$md-older")
    for point in own.points:
        point.co.z += 0.02
    own.value = 0.5
    face_shapes.write(body, tmp_path / "in.npz")
    with np.load(tmp_path / "in.npz") as file:
        seen = file["vertices"][: len(body.data.vertices)]
    rest = np.array([v.co for v in body.data.vertices])
    assert np.allclose(seen - rest, (0, 0, 0.01), atol=1e-5)


def test_what_cannot_be_read_is_said(empty):
    """Half a face, a posed head, absolute keys: each with what to do."""
    body, _eyes = plain()
    body.modifiers.new("Half", "MIRROR")
    with pytest.raises(HeadError, match="half a face"):
        face_shapes.check(body)
    body.modifiers.clear()
    rig = bpy.data.objects.new("Rig", bpy.data.armatures.new("Rig"))
    bpy.context.collection.objects.link(rig)
    bpy.context.view_layer.objects.active = rig
    bpy.ops.object.mode_set(mode="EDIT")
    bone = rig.data.edit_bones.new("head")
    bone.tail = (0, 0, 0.2)
    bpy.ops.object.mode_set(mode="OBJECT")
    body.vertex_groups.new(name="head").add(range(len(body.data.vertices)), 1.0, "REPLACE")
    body.modifiers.new("Rig", "ARMATURE").object = rig
    face_shapes.check(body)
    rig.pose.bones["head"].rotation_mode = "XYZ"
    rig.pose.bones["head"].rotation_euler.x = 0.3
    bpy.context.view_layer.update()
    with pytest.raises(HeadError, match="bone head"):
        face_shapes.check(body)
    rig.data.pose_position = "REST"
    face_shapes.check(body)
    body.shape_key_add(name="Basis")
    body.data.shape_keys.use_relative = False
    with pytest.raises(HeadError, match="absolute"):
        face_shapes.check(body)


def test_a_script_gives_points(addon):
    """Points that are given are used, names that are none are refused with those that are."""
    body, _eyes = plain()
    with pytest.raises(RuntimeError, match=r"no point beak.*chin"):
        bpy.ops.diffspeaker.make_face_shapes(head=body.name, points='{"beak": [0, 0, 0]}')
    chin = face_shapes.points_of(body)["chin"] + Vector((0, 0, 0.002))
    text = json.dumps({"chin": list(chin)})
    assert bpy.ops.diffspeaker.make_face_shapes(head=body.name, points=text) == {"FINISHED"}
    assert (face_shapes.points_of(body)["chin"] - chin).length < 1e-5
    assert len(face_shapes.made(body)) > 40


def test_a_mesh_that_is_no_face_is_refused_in_a_sentence(addon):
    """A cube has no lips."""
    bpy.ops.mesh.primitive_cube_add()
    with pytest.raises(RuntimeError, match=r"face|lips|points"):
        bpy.ops.diffspeaker.make_face_shapes(head=bpy.context.object.name)
    assert bpy.context.object.data.shape_keys is None
