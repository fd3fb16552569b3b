# SPDX-License-Identifier: GPL-3.0-or-later
import bpy

scene = getattr(bpy.context, "sequencer_scene", None) or bpy.context.scene
settings = scene.diffspeaker
settings.output = "NAMED"
settings.thin = True
settings.thin_tolerance = 0.3
