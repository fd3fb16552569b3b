# SPDX-License-Identifier: GPL-3.0-or-later
"""Characters that come from another file, as a shot links its cast."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bpy


def linked(path: Path, objects: list[Any], name: str = "Cast") -> tuple[Any, Any]:
    """Write objects into a library, and return its collection, linked, and an instance of it.

    Leaves nothing else in the file.
    """
    group = bpy.data.collections.get(name) or bpy.data.collections.new(name)
    for obj in objects:
        if obj.name not in group.objects:
            group.objects.link(obj)
    bpy.data.libraries.write(str(path), {group})
    bpy.ops.wm.read_factory_settings(use_empty=True)
    with bpy.data.libraries.load(str(path), link=True) as (_, wanted):
        wanted.collections = [name]
    cast = bpy.data.collections[name]
    shown = bpy.data.objects.new("Shown", None)
    shown.instance_type, shown.instance_collection = "COLLECTION", cast
    bpy.context.scene.collection.objects.link(shown)
    return cast, shown


def overridden(path: Path, objects: list[Any], name: str = "Cast") -> None:
    """Link objects from a library and override them, as Library Override > Make does."""
    cast, shown = linked(path, objects, name)
    cast.override_hierarchy_create(
        bpy.context.scene, bpy.context.view_layer, reference=shown, do_fully_editable=True
    )
