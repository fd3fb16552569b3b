# SPDX-License-Identifier: GPL-3.0-or-later
"""The preferences: engine, PyTorch, models, cache, and the check of it all."""

# mypy: disable-error-code="valid-type"

from __future__ import annotations

from typing import Any

import bpy
from bpy.props import EnumProperty, FloatProperty, StringProperty

from ..jobs import status
from ..jobs.status import time_left
from ..paths import ADDON
from ..settings import machine
from ..worker import model_files, runtime

RUNTIMES = (
    ("INSTALL", "Install", "Make a Python of our own with PyTorch"),
    ("WHEELS", "From Folder", "The same, without network, from a folder of wheels"),
    ("PYTHON", "Use This Python", "Use a Python that has PyTorch already"),
)
DEVICES = (
    ("auto", "Automatic", "A graphics card where PyTorch finds one, else the processor"),
    ("cpu", "CPU", "The processor: always works, many times faster than speech"),
    ("cuda", "CUDA", "NVIDIA graphics card; needs PyTorch"),
    ("mps", "Metal", "Apple graphics; needs PyTorch"),
)
_STATES = {True: "CHECKMARK", False: "ERROR"}


class DIFFSPEAKER_AP_preferences(bpy.types.AddonPreferences):
    """Show and store the machine's settings."""

    bl_idname = ADDON

    source: EnumProperty(
        name="PyTorch",
        description="Where the Python with PyTorch comes from",
        items=RUNTIMES,
    )
    python: StringProperty(
        name="Python",
        description="Python interpreter that has PyTorch, numpy and safetensors",
        subtype="FILE_PATH",
        options=machine.PATH,
    )
    wheels: StringProperty(
        name="Wheels",
        description="Folder with the wheels of PyTorch and what it needs",
        subtype="DIR_PATH",
        options=machine.PATH,
    )
    device: EnumProperty(
        name="Device",
        description="What the model runs on",
        items=DEVICES,
    )
    keep_warm: FloatProperty(
        name="Keep Warm",
        description="Minutes that the model stays loaded after its last job; 0 ends it at once",
        default=machine.Defaults.keep_warm,
        min=0.0,
        soft_max=60.0,
        precision=0,
    )
    cache: StringProperty(
        name="Folder",
        description="Point caches of unsaved files and the worker's log; empty takes our own",
        subtype="DIR_PATH",
        options=machine.PATH,
    )
    report: StringProperty(name="Last Report", options={"SKIP_SAVE"})

    def draw(self, context: bpy.types.Context) -> None:
        draw(self, context)


def draw(entry: Any, context: bpy.types.Context) -> None:
    """Draw every section of the add-on's preferences."""
    layout = entry.layout
    layout.use_property_split = True
    layout.use_property_decorate = False
    _draw_engine(layout.column(), entry)
    _draw_torch(layout.column(), entry, context)
    _draw_models(layout.column())
    _draw_cache(layout.column(), entry)
    _draw_check(layout.column(), entry)


def _draw_engine(layout: Any, entry: Any) -> None:
    """Say what speaks without any set-up."""
    layout.label(text="Engine", icon="CONSOLE")
    carried = runtime.carries_engine()
    words = "The bundled model runs on the processor, with what came with the extension"
    _indented(layout, words if carried else "None came for this system", _STATES[carried])
    layout.prop(entry, "device")
    layout.prop(entry, "keep_warm", text="Keep Warm (min)")
    layout.separator()


def _draw_torch(layout: Any, entry: Any, context: bpy.types.Context) -> None:
    """Offer PyTorch, which only some things need."""
    layout.label(text="PyTorch, for Imported Models and Graphics Cards", icon="NODETREE")
    layout.row().prop(entry, "source", expand=True)
    if entry.source == "PYTHON":
        layout.prop(entry, "python")
    if entry.source == "WHEELS":
        layout.prop(entry, "wheels")
    now = status.now(context)
    if now.chore:
        draw_chore(layout, now)
    else:
        found, trouble = machine.torch_python(), machine.python_trouble()
        _indented(layout, str(found or trouble or "Not installed"), _STATES[not trouble])
        if entry.source != "PYTHON":
            words = f"Install {runtime.words()}"
            row = _indented_row(layout)
            row.operator(
                "diffspeaker.install_runtime",
                text="Install Again" if found else words,
                icon="IMPORT",
            )
            if found:
                row.operator("diffspeaker.remove_runtime", icon="TRASH")
    layout.separator()


def draw_chore(layout: Any, status: Any) -> None:
    """Show a long piece of set-up work and the way to stop it."""
    row = layout.row(align=True)
    text = " · ".join(part for part in (status.chore, time_left(status.chore_left)) if part)
    row.progress(text=text, factor=status.chore_fraction)
    row.operator("diffspeaker.stop_chore", text="", icon="X")


def _draw_models(layout: Any) -> None:
    layout.label(text="Model Files", icon="FILE_CACHE")
    for model in model_files.models(machine.models_folder()):
        row = layout.row()
        row.label(text=model.name, icon="DOT")
        row.label(text=model.licence)
        row.label(text=f"{model.megabytes:.0f} MB")
        removable = row.row()
        removable.enabled = model.id != model_files.BUNDLED
        removable.operator("diffspeaker.remove_model", text="", icon="TRASH").model = model.id
    for path, why in model_files.unreadable(machine.models_folder()):
        row = layout.row()
        row.label(text=path.name, icon="ERROR")
        row.label(text=f"Cannot be used: {why}")
    if model_files.find(model_files.BUNDLED, None) is None:
        _indented(layout, "The bundled model is missing from this installation", "ERROR")
    _indented_row(layout).operator("diffspeaker.import_checkpoint", icon="IMPORT")
    layout.separator()


def _draw_cache(layout: Any, entry: Any) -> None:
    layout.label(text="Cache", icon="DISK_DRIVE")
    layout.prop(entry, "cache")
    size = sum(size for _path, size in machine.cache_files()) / 1e6
    row = _indented_row(layout)
    row.label(text=f"{size:.1f} MB in use")
    row.operator("diffspeaker.clear_cache", icon="TRASH")
    layout.separator()


def _draw_check(layout: Any, entry: Any) -> None:
    layout.label(text="Set-Up", icon="CHECKBOX_HLT")
    row = _indented_row(layout)
    row.operator("diffspeaker.check_setup", icon="VIEWZOOM")
    row.operator("diffspeaker.copy_report", icon="COPYDOWN")
    column = layout.column(align=True)
    for line in entry.report.splitlines():
        _indented(column, line, "NONE")


def _indented_row(layout: Any) -> Any:
    """Return a row under the fields, not under their names."""
    split = layout.split(factor=0.4)
    split.label()
    return split.row()


def _indented(layout: Any, text: str, icon: str) -> None:
    _indented_row(layout).label(text=text, icon=icon)


def register() -> None:
    """Register the preferences."""
    bpy.utils.register_class(DIFFSPEAKER_AP_preferences)


def unregister() -> None:
    """Take them off again."""
    bpy.utils.unregister_class(DIFFSPEAKER_AP_preferences)
