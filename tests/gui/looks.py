# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures of everything that is drawn: sub-panels, preferences, menus; run inside the window."""

from __future__ import annotations

import bpy
import drive
from drive import STAGE, addon, inside, shot, status, told, until
from story import frame_face


def main():
    drive.install()
    yield 0.5
    yield from one_tall_sidebar()
    drive.add_strip(STAGE / "line.wav", "line.wav")
    with inside("VIEW_3D", "UI"):
        bpy.ops.diffspeaker.add_demo_head("EXEC_DEFAULT", True)
    frame_face()
    bpy.ops.diffspeaker.generate()
    yield 1.0
    shot("a_sub_panels")
    yield from setup_check()
    yield from fixes()
    yield from preferences()


def one_tall_sidebar():
    """Give the 3D view's sidebar the whole height and open every sub-panel."""
    yield from drive.close_splash()
    for thing in list(bpy.data.objects):
        bpy.data.objects.remove(thing)
    drive.sequence_this_scene()
    panels = addon("ui.panels")
    for cls in reversed(panels._CLASSES):
        bpy.utils.unregister_class(cls)
    for cls in panels._CLASSES:
        cls.bl_options = set()
        bpy.utils.register_class(cls)
    yield from drive.open_tab()


def setup_check():
    with inside("VIEW_3D", "UI"):
        bpy.ops.diffspeaker.check_setup("INVOKE_DEFAULT")
    yield 0.3
    yield from until(lambda: not addon("jobs.queue").busy(), 120)
    told["check"] = addon("settings.machine").get().report
    told["check_message"] = status().message


def preferences():
    machine = addon("settings.machine")
    machine.made(machine.models_folder())
    (machine.models_folder() / "cut off.safetensors").write_bytes(b"no model at all")
    bpy.ops.preferences.addon_show(module=drive.PACKAGE)
    yield 1.0
    window = bpy.context.window_manager.windows[-1]
    area = window.screen.areas[0]
    yield 0.5
    shot("b_preferences")
    region = next(r for r in area.regions if r.type == "WINDOW")
    with bpy.context.temp_override(window=window, area=area, region=region):
        for _ in range(30):
            bpy.ops.view2d.scroll_down()
    yield 0.6
    shot("c_preferences_below")


def fixes():
    """Show what the panel says of a head in Edit Mode, and of one that is none."""
    with inside("VIEW_3D"):
        bpy.ops.object.mode_set(mode="EDIT")
    yield 0.6
    shot("d_edit_mode")
    with inside("VIEW_3D"):
        bpy.ops.object.mode_set(mode="OBJECT")
        bpy.ops.mesh.primitive_cube_add()
    bpy.context.scene.diffspeaker.head = bpy.context.object
    yield 0.6
    shot("e_no_head")
