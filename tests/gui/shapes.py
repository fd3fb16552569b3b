# SPDX-License-Identifier: GPL-3.0-or-later
"""A plain head, with nothing that moves it, is given shapes and speaks; inside the window."""

from __future__ import annotations

import time

import bpy
import drive
from characters import only
from drive import STAGE, browse, inside, install, press, shot, status, told, until


def main():
    """Find the points, stop the making once, make, look, speak, and undo step by step."""
    install()
    yield 1.0
    yield from drive.close_splash()
    bpy.ops.wm.read_homefile(app_template="", use_empty=True, load_ui=False)
    yield 1.0
    yield from browse(bpy.ops.import_scene.gltf, STAGE / "plain.glb")
    make_plain()
    drive.sequence_this_scene()
    yield from drive.open_tab()
    bpy.ops.ed.undo_push(message="plain")
    with only("face_shapes"):
        yield from make()
        yield from look()
    yield from speak()
    yield from take_back()


def make_plain():
    """Leave the head as a modeller would: meshes without a rig or a key."""
    for obj in list(bpy.data.objects):
        if obj.type == "MESH" and "Ico" not in obj.name:
            placed = obj.matrix_world.copy()
            obj.parent = None
            obj.matrix_world = placed
            obj.modifiers.clear()
        else:
            bpy.data.objects.remove(obj)
    bpy.context.view_layer.objects.active = bpy.data.objects["Head"]
    for obj in bpy.data.objects:
        obj.select_set(obj.type == "MESH")
    with inside("VIEW_3D"):
        bpy.ops.view3d.view_axis(type="FRONT")
        bpy.ops.view3d.view_selected()


def make():
    """Press Find Points, then Make Face Shapes: stopped the first time."""
    click(bpy.ops.diffspeaker.find_face_points)
    yield from until(lambda: status().message.startswith("12 points"), 120)
    yield 0.7
    shot("shapes_1_points")
    activate()
    click(bpy.ops.diffspeaker.make_face_shapes)
    yield from until(lambda: status().chore, 10)
    began = time.monotonic()
    click(bpy.ops.diffspeaker.stop_chore)
    yield from until(lambda: not status().chore, 20)
    told["stopped"], told["stopping"] = status().message, round(time.monotonic() - began, 2)
    told["keys_after_stop"] = keys()
    began = time.monotonic()
    click(bpy.ops.diffspeaker.make_face_shapes)
    yield from until(lambda: "were made" in status().message, 240)
    told["made"], told["seconds"] = status().message, round(time.monotonic() - began, 1)
    told["keys"] = keys()


def look():
    """Press a pose and take it off."""
    activate()
    bpy.ops.diffspeaker.pose_face("EXEC_DEFAULT", True, pose="Ah")
    yield 0.7
    told["jaw"] = bpy.data.objects["Head"].data.shape_keys.key_blocks["jawOpen"].value
    shot("shapes_2_made")
    bpy.ops.diffspeaker.keep_face_shapes("EXEC_DEFAULT", True)
    yield 0.5


def speak():
    """Choose a sound: that generates."""
    activate()
    yield from browse(bpy.ops.diffspeaker.choose_sound, STAGE / "line.wav")
    yield from until(lambda: status().message.startswith("Mouth"), 240)
    told["spoken"] = status().message
    yield 0.7
    shot("shapes_3_spoken")
    press("ESC")


def take_back():
    """Undo until the head is plain again."""
    told["steps"] = 0
    while keys() and told["steps"] < 12:
        with inside("VIEW_3D"):
            bpy.ops.ed.undo()
        told["steps"] += 1
        yield 0.4
    told["keys_undone"] = keys()
    told["meshes_undone"] = sorted(o.name for o in bpy.data.objects if o.type == "MESH")


def activate():
    head = bpy.data.objects["Head"]
    bpy.context.view_layer.objects.active = head
    head.select_set(True)


def click(operator):
    with inside("VIEW_3D", "UI"):
        operator("INVOKE_DEFAULT", True)


def keys():
    found = bpy.data.objects["Head"].data.shape_keys
    return len(found.key_blocks) if found else 0
