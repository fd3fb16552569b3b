# SPDX-License-Identifier: GPL-3.0-or-later
"""Save and recall the choices of the panel under a name."""

from __future__ import annotations

from pathlib import Path

import bpy
from bl_operators.presets import AddPresetBase
from bl_ui.utils import PresetPanel

from ..settings.choices import Choices

_FOLDER = "diffspeaker"
_SCENE = "settings = (getattr(bpy.context, 'sequencer_scene', None) or bpy.context.scene)"


class DIFFSPEAKER_MT_presets(bpy.types.Menu):
    """List the saved presets."""

    bl_label = "Lip-Sync Presets"
    preset_subdir = _FOLDER
    preset_operator = "script.execute_preset"
    draw = bpy.types.Menu.draw_preset  # type: ignore[assignment]


class DIFFSPEAKER_PT_presets(PresetPanel, bpy.types.Panel):
    """Offer presets from the header of the main panel."""

    bl_label = "Lip-Sync Presets"
    preset_subdir = _FOLDER
    preset_operator = "script.execute_preset"
    preset_add_operator = "diffspeaker.save_preset"


class DIFFSPEAKER_OT_save_preset(AddPresetBase, bpy.types.Operator):  # type: ignore[misc]
    """Save the lip-sync choices as a preset, or remove one"""

    bl_idname = "diffspeaker.save_preset"
    bl_label = "Save Lip-Sync Preset"
    preset_menu = "DIFFSPEAKER_MT_presets"
    preset_subdir = _FOLDER
    preset_defines = (f"{_SCENE}.diffspeaker",)
    preset_values = tuple(f"settings.{name}" for name in Choices.__annotations__)


_CLASSES = (DIFFSPEAKER_MT_presets, DIFFSPEAKER_PT_presets, DIFFSPEAKER_OT_save_preset)


def register() -> None:
    """Register the preset menu, panel and operator, and the presets that ship with the add-on."""
    for cls in _CLASSES:
        bpy.utils.register_class(cls)
    if hasattr(bpy.utils, "register_preset_path"):
        bpy.utils.register_preset_path(str(Path(__file__).parent))


def unregister() -> None:
    """Take them off again."""
    if hasattr(bpy.utils, "unregister_preset_path"):
        bpy.utils.unregister_preset_path(str(Path(__file__).parent))
    for cls in reversed(_CLASSES):
        bpy.utils.unregister_class(cls)
