# SPDX-License-Identifier: GPL-3.0-or-later
"""The first minute: a new window, the zip, and as few clicks as there are to a moving mouth."""

from __future__ import annotations

import time

import bpy
from drive import STAGE, addon, area, inside, install, press, shot, status, told, until


def main():
    """Open the tab, add the head, choose a sound in the file browser; everything else is ours."""
    install()
    told["python"] = str(addon("settings.machine").python())
    yield 1.0
    press("ESC")  # the splash, which any click closes
    yield 0.5
    clicks = ["open the tab"]
    area("VIEW_3D").spaces.active.show_region_ui = True
    yield 0.5
    side = next(r for r in area("VIEW_3D").regions if r.type == "UI")
    side.active_panel_category = "Lip-Sync"
    yield 1.0
    shot("minute_1_tab")

    clicks.append("Add Demo Head")
    with inside("VIEW_3D", "UI"):
        bpy.ops.diffspeaker.add_demo_head("INVOKE_DEFAULT")
    yield 1.0
    shot("minute_2_head")

    clicks.append("Choose Sound and Generate")
    began = time.monotonic()
    with inside("VIEW_3D", "UI"):
        bpy.ops.diffspeaker.choose_sound("INVOKE_DEFAULT")
    yield 1.5
    browser = next(
        w for w in bpy.context.window_manager.windows if w.screen.areas[0].type == "FILE_BROWSER"
    )
    place = browser.screen.areas[0]
    place.spaces.active.params.directory = str(STAGE).encode()
    place.spaces.active.params.filename = "line.wav"
    shot("minute_3_browser")
    yield 0.5
    clicks.append("the file")
    began = time.monotonic()
    region = next(r for r in place.regions if r.type == "WINDOW")
    with bpy.context.temp_override(window=browser, area=place, region=region):
        bpy.ops.file.execute("EXEC_DEFAULT")
    yield 0.2
    yield from until(lambda: not status().busy and status().message, 240)
    told["seconds"] = time.monotonic() - began
    told["clicks"] = clicks
    told["message"] = status().message
    head = bpy.context.scene.diffspeaker.head
    jaws = []
    for frame in range(1, 60):
        bpy.context.scene.frame_set(frame)
        jaws.append(head.data.shape_keys.key_blocks["jawOpen"].value)
    told["jaw"] = max(jaws)
    told["strips"] = [strip.name for strip in bpy.context.scene.sequence_editor.strips_all]
    bpy.context.scene.frame_set(1 + jaws.index(max(jaws)))
    yield 1.0
    shot("minute_4_speaks")
