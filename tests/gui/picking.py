# SPDX-License-Identifier: GPL-3.0-or-later
"""A character that is picked in the panel, and one that speaks unmeasured; inside the window."""

from __future__ import annotations

import bpy
import drive
from drive import STAGE, addon, browse, inside, install, shot, status, told, until


def main():
    """Pick the armature, look, undo; then generate on it as it came."""
    install()
    yield 1.0
    yield from drive.close_splash()
    bpy.ops.wm.read_homefile(app_template="", use_empty=True, load_ui=False)
    yield 1.0
    yield from browse(bpy.ops.import_scene.gltf, STAGE / "vrm1.glb")
    drive.sequence_this_scene()
    yield from drive.open_tab()
    rig = next(obj for obj in bpy.data.objects if obj.type == "ARMATURE")
    bpy.context.view_layer.objects.active = None
    with inside("VIEW_3D", "UI"):
        bpy.ops.wm.context_set_id(
            "EXEC_DEFAULT", True, data_path="scene.diffspeaker.head", value=rig.name
        )
    told["looking"] = status().message
    told["mapped_at_once"] = bool(speaker())
    yield from until(lambda: status().message.startswith("Ready"), 60)
    told["ready"] = status().message
    yield from pose_and_undo()
    told["head"] = bpy.context.scene.diffspeaker.head.name
    yield 0.7
    shot("picking_1_ready")
    with inside("VIEW_3D"):
        bpy.ops.ed.undo()
    yield 0.5
    told["mapped_after_undo"] = bool(speaker())
    face = next(obj for obj in bpy.data.objects if obj.type == "MESH" and obj.data.shape_keys)
    told["left_on_it"] = [name for name in face.keys() if name.startswith("diffspeaker.")]  # noqa: SIM118
    bpy.context.view_layer.objects.active = face
    yield from browse(bpy.ops.diffspeaker.choose_sound, STAGE / "line.wav")
    told["looking_first"] = status().message
    yield from until(lambda: status().message.startswith("Mouth"), 240)
    told["spoken"] = status().message
    yield 0.7
    shot("picking_2_spoken")


def pose_and_undo():
    """Press Ah, and take it back by undo in place of another press."""
    before = values()
    with inside("VIEW_3D", "UI"):
        bpy.ops.diffspeaker.test_pose("INVOKE_DEFAULT", True, pose="AH")
    yield 0.3
    told["posed"] = max(values().values())
    with inside("VIEW_3D"):
        bpy.ops.ed.undo()
    yield 0.3
    told["undone"] = values() == before
    told["shown"] = addon("ui.character").posed(speaker())


def values():
    return {block.name: block.value for block in speaker().data.shape_keys.key_blocks}


def speaker():
    detect = addon("character.detect")
    return next((obj for obj in bpy.context.scene.objects if detect.is_mapped(obj)), None)
