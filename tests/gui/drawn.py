# SPDX-License-Identifier: GPL-3.0-or-later
"""A Grease Pencil character whose mouth is nine frames: the dialog, a line, undo; in the window."""

from __future__ import annotations

import bpy
import drive
from drive import STAGE, browse, inside, install, press, shot, status, told, until


def main():
    """Set the drawn mouth up by its dialog and let it speak."""
    install()
    yield 1.0
    yield from drive.close_splash()
    for thing in list(bpy.data.objects):
        bpy.data.objects.remove(thing)
    mouth = pencil()
    drive.sequence_this_scene()
    yield from drive.open_tab()
    shot("drawn_1_before")
    with inside("VIEW_3D", "UI"):
        bpy.ops.diffspeaker.drawn_mouth("INVOKE_DEFAULT")
    yield 1.0
    shot("drawn_2_dialog")
    press("RET")
    yield 1.0
    told["ready"] = status().message
    told["offset"] = mouth.modifiers[0].offset
    yield 0.7
    shot("drawn_3_ready")
    bpy.ops.diffspeaker.drawn_mouth(drawings="- mbp etc e aa oh ou fv rest", hold=3)
    told["changed"] = said(mouth)
    with inside("VIEW_3D", "UI"):
        bpy.ops.diffspeaker.drawn_mouth("INVOKE_DEFAULT")
    yield 1.0
    shot("drawn_5_recalled")
    press("RET")
    yield 1.0
    told["recalled"] = said(mouth)
    yield from browse(bpy.ops.diffspeaker.choose_sound, STAGE / "line.wav")
    yield from until(lambda: status().message.startswith("Mouth"), 240)
    told["spoken"] = status().message
    seen = set()
    for frame in range(1, 75):
        bpy.context.scene.frame_set(frame)
        seen.add(mouth.modifiers[0].offset)
    told["seen"] = len(seen)
    yield 0.7
    shot("drawn_4_spoken")
    with inside("VIEW_3D"):
        bpy.ops.ed.undo()
    yield 0.5
    mouth = bpy.data.objects["Mouth"]
    told["undone"] = mouth.animation_data is None or mouth.animation_data.action is None


def said(mouth):
    """Return what the mapping says of the drawings."""
    drawn = drive.addon("character.detect").read_mapping(mouth).drawn
    return [drawn.names, drawn.sounds, drawn.hold]


def pencil():
    """Add an object with nine mouths on nine frames."""
    data = bpy.data.grease_pencils_v3 if hasattr(bpy.data, "grease_pencils_v3") else None
    data = (bpy.data.grease_pencils if data is None else data).new("Mouth")
    layer = data.layers.new("Lines")
    for frame in range(1, 10):
        drawing = layer.frames.new(frame).drawing
        drawing.add_strokes([3])
        for place, point in enumerate(drawing.strokes[0].points):
            point.position = (place - 1, 0, -0.1 * frame * (place == 1))
            point.radius = 0.05
    mouth = bpy.data.objects.new("Mouth", data)
    bpy.context.scene.collection.objects.link(mouth)
    bpy.context.view_layer.objects.active = mouth
    mouth.select_set(True)
    return mouth
