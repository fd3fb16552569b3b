# SPDX-License-Identifier: GPL-3.0-or-later
"""Let a head speak one sound file, and write it as glTF.

    blender --background head.blend --python-exit-code 1 --python one_line.py -- \
        line.wav out.glb [HEAD]

`generate` blocks until the keys are there and raises RuntimeError with a sentence when it cannot.
Blender exits with 0 after an error in a script: `--python-exit-code 1` tells a farm the truth.
"""

import sys

import bpy

sound, target, *head = sys.argv[sys.argv.index("--") + 1 :]
bpy.ops.diffspeaker.generate(audio=sound, head=head[0] if head else "", start_frame=1)
print(bpy.context.window_manager.diffspeaker.message)
bpy.ops.diffspeaker.export(filepath=target, head=head[0] if head else "")
