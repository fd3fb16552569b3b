# SPDX-License-Identifier: GPL-3.0-or-later
"""DiffSpeaker Lip-Sync: from a sound strip to a speaking head, in one click or in batch.

The plan of the house. Data walks one corridor, and an arrow never points back:

    sound strip ─► audio ─► worker process ─► motion ─► shape_keys ─► export
                              runtime, worker           head

`jobs` carries one line along it, from the button to the keys, and owns the only timer. `operators`
are the verbs, `panels` and `menus` what one sees, `properties` and `preferences` what is chosen,
`catalogue` the models there are, `presets` what is remembered, `command` the same work in batch.

Nothing here imports torch, and without `register()` nothing imports bpy.
"""

from __future__ import annotations

import importlib
import sys

_ROOMS = (
    "ui.preferences",
    "settings.choices",
    "jobs.status",
    "jobs.live",
    "jobs.follow",
    "jobs.background",
    "jobs.queue",
    "jobs.picked",
    "ui.operators",
    "ui.setup_operators",
    "ui.fixes",
    "ui.lines",
    "ui.character",
    "ui.drawn",
    "ui.presets",
    "ui.panels",
    "ui.face_shapes",
    "ui.menus",
    "batch.command",
)

if "_opened" in globals():  # Blender runs this file again after an upgrade: forget the old rooms
    for _name in [name for name in sys.modules if name.startswith(f"{__name__}.")]:
        del sys.modules[_name]

_opened: list[str] = []


def register() -> None:
    """Open the rooms in order; when one fails, close those already open and let the error out."""
    try:
        for room in _ROOMS:
            importlib.import_module(f".{room}", __package__).register()
            _opened.append(room)
    except Exception:
        unregister()
        raise


def unregister() -> None:
    """Close the rooms in reverse order: no class, property, timer, handler or process is left."""
    while _opened:
        importlib.import_module(f".{_opened.pop()}", __package__).unregister()
