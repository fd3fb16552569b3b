# SPDX-License-Identifier: GPL-3.0-or-later
import bpy

scene = getattr(bpy.context, "sequencer_scene", None) or bpy.context.scene
settings = scene.diffspeaker
settings.output = "COMPACT"
settings.tolerance = 0.05
