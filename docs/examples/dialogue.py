# SPDX-License-Identifier: GPL-3.0-or-later
"""Two heads talk: every strip of channel 1 is spoken by “Anna”, every strip of channel 2 by “Ben”.

    blender --background scene.blend --python-exit-code 1 --python dialogue.py -- out.blend

One strip is one job; the other channels (music, effects) are never heard.
"""

import sys
from pathlib import Path

import bpy

SPEAKERS = {1: "Anna", 2: "Ben"}
target = str(Path(sys.argv[sys.argv.index("--") + 1]).resolve())

scene = bpy.context.scene
editor = scene.sequence_editor
strips = list(editor.strips if hasattr(editor, "strips") else editor.sequences)  # 4.2 and 4.3
for strip in strips:
    head = SPEAKERS.get(strip.channel)
    if strip.type != "SOUND" or head is None:
        continue
    for other in strips:
        other.select = other == strip
    bpy.ops.diffspeaker.generate(head=head)
    print(f"{head}, {strip.name}: {bpy.context.window_manager.diffspeaker.message}")
bpy.ops.wm.save_as_mainfile(filepath=target)
