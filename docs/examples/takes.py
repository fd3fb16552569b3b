# SPDX-License-Identifier: GPL-3.0-or-later
"""Write four takes of one line as four files, calmer to livelier.

    blender --background head.blend --python-exit-code 1 --python takes.py -- line.wav out.blend

The model is asked once; intensity and jaw are live controls that need no model.
"""

import sys
from pathlib import Path

import bpy

sound, target = (str(Path(word).resolve()) for word in sys.argv[sys.argv.index("--") + 1 :])
bpy.ops.diffspeaker.generate(audio=sound, seed=7)
scene = bpy.context.scene
head = scene.diffspeaker.head or bpy.context.object
for intensity in (0.6, 0.8, 1.0, 1.2):
    head.diffspeaker.intensity = intensity
    head.diffspeaker.jaw = 0.5 + intensity / 2
    name = f"{target.removesuffix('.blend')}-{intensity:.1f}.blend"
    bpy.ops.wm.save_as_mainfile(filepath=name, copy=True)
    print(name)
