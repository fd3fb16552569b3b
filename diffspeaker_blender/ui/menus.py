# SPDX-License-Identifier: GPL-3.0-or-later
"""Entries in Blender's own menus, and the progress bar in the status bar."""

from __future__ import annotations

from typing import Any

import bpy

from ..character import detect, fit
from ..jobs import plan, queue, status
from .panels import draw_progress


def _draw_strip(self: Any, context: bpy.types.Context) -> None:
    """Offer the job where a strip is right-clicked, and say who speaks it where there are more."""
    self.layout.separator()
    self.layout.operator_context = "INVOKE_DEFAULT"
    text = "Generate Lip-Sync"
    if len(plan.heads(context)) > 1 and (names := plan.speaking(context)):
        text += f" ({', '.join(names)})"
    self.layout.operator("diffspeaker.generate", text=text, icon="USER")
    if len(plan.heads(context)) > 1:
        self.layout.menu("DIFFSPEAKER_MT_spoken_by", icon="USER")


def _draw_object(self: Any, context: bpy.types.Context) -> None:
    """Offer the job where a head is right-clicked."""
    if fit.could_speak(context.object) or detect.speaker_of(context.object) is not None:
        self.layout.separator()
        self.layout.operator_context = "INVOKE_DEFAULT"
        self.layout.operator("diffspeaker.generate", icon="USER")


def _draw_add(self: Any, _context: bpy.types.Context) -> None:
    self.layout.operator("diffspeaker.add_demo_head", text="Speaking Head", icon="USER")


def _draw_import(self: Any, _context: bpy.types.Context) -> None:
    self.layout.operator("diffspeaker.import_flame_head", text="FLAME Head (.ply/.obj/.pkl/.npz)")


def _draw_export(self: Any, _context: bpy.types.Context) -> None:
    self.layout.operator("diffspeaker.export", text="Speaking Head (.glb/.fbx/.usdc/.abc)")


def _draw_status_bar(self: Any, context: bpy.types.Context) -> None:
    """Show the job under way, wherever the sidebar is closed."""
    if queue.busy():
        row = self.layout.row(align=True)
        row.ui_units_x = 14
        draw_progress(row, status.now(context))


_ENTRIES = (
    ("SEQUENCER_MT_context_menu", _draw_strip),
    ("SEQUENCER_MT_strip", _draw_strip),
    ("VIEW3D_MT_object_context_menu", _draw_object),
    ("VIEW3D_MT_mesh_add", _draw_add),
    ("TOPBAR_MT_file_import", _draw_import),
    ("TOPBAR_MT_file_export", _draw_export),
    ("STATUSBAR_HT_header", _draw_status_bar),
)


def register() -> None:
    """Hang the entries in."""
    for menu, draw in _ENTRIES:
        getattr(bpy.types, menu).append(draw)


def unregister() -> None:
    """Take them out again."""
    for menu, draw in reversed(_ENTRIES):
        getattr(bpy.types, menu).remove(draw)
