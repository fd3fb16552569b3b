# SPDX-License-Identifier: GPL-3.0-or-later
"""The first minute: a new window, the zip, and as few clicks as there are to a moving mouth."""

from __future__ import annotations

import time

import bpy
from drive import (
    STAGE,
    addon,
    browse,
    close_splash,
    inside,
    install,
    open_tab,
    shot,
    status,
    strips,
    told,
    until,
)


def main():
    """Open the tab, add the head, choose a sound in the file browser; everything else is ours."""
    install()
    told["python"] = str(addon("settings.machine").python())
    yield 1.0
    yield from close_splash()
    clicks = ["open the tab"]
    yield from open_tab()
    yield 0.5
    shot("minute_1_tab")

    clicks.append("Add Demo Head")
    with inside("VIEW_3D", "UI"):
        bpy.ops.diffspeaker.add_demo_head("INVOKE_DEFAULT")
    yield 1.0
    shot("minute_2_head")

    clicks += ["Choose Sound and Generate", "the file"]
    began = time.monotonic()
    yield from browse(bpy.ops.diffspeaker.choose_sound, STAGE / "line.wav", "minute_3_browser")
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
    told["strips"] = [strip.name for strip in strips()]
    bpy.context.scene.frame_set(1 + jaws.index(max(jaws)))
    yield 1.0
    shot("minute_4_speaks")
