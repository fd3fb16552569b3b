# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo head in Blender: whole, at rest, followed by its parts, and in nobody's way."""

from __future__ import annotations

import numpy as np
import pytest

bpy = pytest.importorskip("bpy", reason="needs Blender's Python module")

from diffspeaker_blender.animation import clips  # noqa: E402
from diffspeaker_blender.character import demo_head  # noqa: E402
from diffspeaker_blender.character.head import check_head  # noqa: E402
from diffspeaker_blender.errors import HeadError  # noqa: E402
from diffspeaker_blender.export import export  # noqa: E402
from diffspeaker_blender.motion.motion import Motion  # noqa: E402
from model.rig import demo_head as heads  # noqa: E402


@pytest.fixture
def face(empty):
    return demo_head.add_demo_head(bpy.context)


def evaluated(obj):
    """Return an object's vertices (N, 3) as they are drawn."""
    deep = obj.evaluated_get(bpy.context.evaluated_depsgraph_get())
    mesh = deep.to_mesh()
    points = np.empty(3 * len(mesh.vertices), np.float32)
    mesh.vertices.foreach_get("co", points)
    deep.to_mesh_clear()
    return points.reshape(-1, 3)


def part(face, title):
    return next(child for child in face.children if child.name.endswith(title))


def test_the_face_is_recognised_and_at_rest(face):
    assert len(face.data.vertices) == 5023
    assert check_head(face).usable
    keys = face.data.shape_keys.key_blocks
    assert {"jawOpen", "mouthClose", "eyeBlinkLeft", "tongueTip"} <= {key.name for key in keys}
    assert all(key.value == 0 for key in keys[1:])
    assert face.data.color_attributes["Color"].domain == "POINT"


def test_it_stands_on_the_ground_life_size_and_looks_at_the_front_view(face):
    points = evaluated(face)
    assert abs(points[:, 2].min()) < 1e-4
    assert 0.25 < points[:, 2].max() < 0.33
    nose = points[points[:3931, 1].argmin()]
    assert abs(nose[0]) < 1e-3
    assert face.scale[:] == (1, 1, 1)


def test_both_readers_agree(face):
    """`model.head` and the add-on read the same file the same way."""
    head = heads.load()
    ground = head.vertices[:, 1].min()
    mine = np.stack(
        [head.vertices[:, 0], -head.vertices[:, 2], head.vertices[:, 1] - ground], axis=1
    )
    assert np.allclose(evaluated(face), mine, atol=1e-6)
    assert demo_head.STEP == heads.STEP
    keys = face.data.shape_keys.key_blocks
    assert {key.name for key in keys[1:]} == set(head.shapes) | set(demo_head.TONGUE)
    assert {name for names in demo_head.OBJECTS.values() for name in names} == set(head.parts)
    keys["jawOpen"].value = 1.0
    shape = head.shapes["jawOpen"]
    moved = mine + np.stack([shape[:, 0], -shape[:, 2], shape[:, 1]], axis=1)
    assert np.allclose(evaluated(face), moved, atol=1e-5)


@pytest.mark.parametrize(
    ("key", "title", "millimetres"),
    [
        ("jawOpen", "Mouth", 10),
        ("tongueOut", "Mouth", 10),
        ("eyeBlinkLeft", "Brows and Lashes", 5),
        ("browInnerUp", "Brows and Lashes", 3),
    ],
)
def test_parts_follow_the_faces_sliders(face, key, title, millimetres):
    child = part(face, title)
    before = evaluated(child)
    face.data.shape_keys.key_blocks[key].value = 1.0
    after = evaluated(child)
    assert np.linalg.norm(after - before, axis=1).max() * 1000 > millimetres
    face.data.shape_keys.key_blocks[key].value = 0.0
    assert np.allclose(evaluated(child), before, atol=1e-6)


def test_drivers_are_valid_and_no_scripts(face):
    for child in face.children:
        if child.type == "MESH" and child.data.shape_keys:
            for curve in child.data.shape_keys.animation_data.drivers:
                assert curve.is_valid
                assert curve.driver.is_valid
                assert curve.driver.type == "SUM"


def test_a_motion_drives_the_heads_own_keys_and_its_parts(face):
    """No "jawOpen.001" beside the head's own; teeth and tongue play along; removing restores."""
    names = ("jawOpen", "tongueTip")
    basis, shapes = evaluated(face), []
    for name in names:
        points = np.empty(3 * 5023, np.float32)
        face.data.shape_keys.key_blocks[name].points.foreach_get("co", points)
        shapes.append(points.reshape(-1, 3) - basis)
    weights = np.linspace(0, 1, 12)[:, None].repeat(2, 1).astype(np.float32)
    motion = Motion(weights=weights, shapes=np.array(shapes), names=names, fps=24.0)
    keys = [key.name for key in face.data.shape_keys.key_blocks]
    mouth = part(face, "Mouth")
    at_rest = evaluated(mouth)
    applied = clips.apply_motion(face, motion)
    assert set(applied.keys) == set(names)
    assert [key.name for key in face.data.shape_keys.key_blocks] == keys
    bpy.context.scene.frame_set(applied.frames[1])
    assert np.linalg.norm(evaluated(mouth) - at_rest, axis=1).max() > 0.008
    clips.remove_motion(face)
    assert [key.name for key in face.data.shape_keys.key_blocks] == keys


def test_parts_are_animated_in_an_export(face, tmp_path):
    """Teeth that stand still in the engine would be noticed there, not here."""
    gltf = pytest.importorskip("pygltflib")
    block = face.data.shape_keys.key_blocks["jawOpen"]
    for frame, value in ((1, 0.0), (10, 1.0)):
        block.value = value
        block.keyframe_insert("value", frame=frame)
    path = tmp_path / "head.glb"
    export.export([face], path)
    scene = gltf.GLTF2().load(str(path))
    moved = {scene.nodes[c.target.node].name for a in scene.animations for c in a.channels}
    assert {"Speaking Head", "Speaking Head Mouth"} <= moved
    assert {"Speaking Head Hair", "Speaking Head Ears"} <= {node.name for node in scene.nodes}


def test_the_stage_is_set_only_where_there_is_none(empty):
    demo_head.add_demo_head(bpy.context)
    cameras, lights = len(bpy.data.cameras), len(bpy.data.lights)
    assert (cameras, lights) == (1, 3)
    assert bpy.context.scene.camera
    demo_head.add_demo_head(bpy.context)
    assert (len(bpy.data.cameras), len(bpy.data.lights)) == (1, 3)


def test_no_stage_when_not_asked_for(empty):
    demo_head.add_demo_head(bpy.context, stage=False)
    assert not bpy.data.cameras
    assert not bpy.data.lights
    assert bpy.context.scene.camera is None


def test_nothing_of_the_users_is_touched(empty):
    scene = bpy.context.scene
    mesh = bpy.data.meshes.new("Mine")
    mine = bpy.data.objects.new("Mine", mesh)
    scene.collection.objects.link(mine)
    own = bpy.data.materials.new("Speaking Head Skin")
    own.roughness = 0.123
    world, frame = scene.world, scene.frame_current
    face = demo_head.add_demo_head(bpy.context)
    assert own.roughness == pytest.approx(0.123)
    assert own.users == 0
    assert own.name == "Speaking Head Skin"
    assert (scene.world, scene.frame_current) == (world, frame)
    assert scene.collection.objects[:] == [mine]
    assert bpy.context.view_layer.objects.active == face
    assert bpy.context.selected_objects == [face]


def test_two_heads_move_apart_from_each_other(empty):
    one = demo_head.add_demo_head(bpy.context)
    bpy.context.scene.cursor.location = (0.5, 0, 0)
    two = demo_head.add_demo_head(bpy.context)
    assert two.location.x == pytest.approx(0.5)
    still = evaluated(part_of(one, "Mouth"))
    two.data.shape_keys.key_blocks["jawOpen"].value = 1
    assert np.allclose(evaluated(part_of(one, "Mouth")), still)
    assert not np.allclose(evaluated(part_of(two, "Mouth")), still, atol=1e-3)


def part_of(face, title):
    """Return a part whose name may bear a number."""
    return next(child for child in face.children if title in child.name)


def test_a_missing_file_is_named(empty, monkeypatch, tmp_path):
    monkeypatch.setattr(demo_head, "asset", lambda: tmp_path / "head.npz")
    with pytest.raises(HeadError, match=r"head\.npz cannot be read"):
        demo_head.add_demo_head(bpy.context)
    assert not bpy.data.objects


def test_one_undo_takes_it_all_back(addon):
    """Objects, keys, drivers and materials go together, and a second head comes whole."""
    bpy.ops.ed.undo_push(message="before")
    bpy.ops.diffspeaker.add_demo_head()
    bpy.ops.ed.undo_push(message="added")
    assert len(bpy.data.objects) > 4
    bpy.ops.ed.undo()
    assert not bpy.data.objects
    bpy.ops.diffspeaker.add_demo_head()
    face = bpy.context.scene.diffspeaker.head
    assert len(face.children) == 4


@pytest.mark.parametrize("mode", ["named", "compact", "every frame"])
def test_the_parts_follow_in_every_mode(face, mode):
    """Teeth that follow jawOpen must not stand still behind lips that open."""
    keys = face.data.shape_keys.key_blocks
    rest = np.empty(3 * len(face.data.vertices), np.float32)
    keys["Basis"].points.foreach_get("co", rest)
    shape = np.empty_like(rest)
    keys["jawOpen"].points.foreach_get("co", shape)
    motion = Motion(
        np.sin(np.linspace(0, 6, 30, dtype=np.float32))[:, None] ** 2,
        (shape - rest).reshape(1, -1, 3),
        ("jawOpen",),
        30.0,
    )
    applied = clips.apply_motion(face, motion, mode=mode)
    teeth, moved = part(face, "Mouth"), []
    for frame in range(1, 24):
        bpy.context.scene.frame_set(frame)
        moved.append(evaluated(teeth))
    assert np.ptp(np.stack(moved), axis=0).max() > 0.005
    codes = [finding.code for finding in applied.findings]
    assert codes == ([] if mode == "named" else ["parts-follow"])
    assert applied.keys == ("jawOpen",)


def test_a_head_without_parts_keeps_its_compact_keys(face):
    """The remark is for heads that something follows; a lone face is written as asked."""
    for child in list(face.children):
        bpy.data.objects.remove(child)
    assert clips.followed(face) == {}


def test_it_stands_beside_what_is_there_and_has_eyes() -> None:
    """Not inside the default cube; in Solid view the eyes have colours of their own."""
    bpy.ops.mesh.primitive_cube_add(size=2)
    cube = bpy.context.object
    face = demo_head.add_demo_head(bpy.context)
    assert face.location.x > 1.2 and face.location.y == 0
    again = demo_head.add_demo_head(bpy.context)
    assert abs(again.location.x - face.location.x) > 0.2
    shown = {
        m.name.split()[2].split(".")[0]: tuple(m.diffuse_color)[:3] for m in face.data.materials
    }
    assert len({shown["Skin"], shown["Eye"], shown["Iris"], shown["Pupil"]}) == 4
    bpy.data.objects.remove(cube)
