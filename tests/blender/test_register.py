# SPDX-License-Identifier: GPL-3.0-or-later
"""Switching the add-on on and off: everything appears, and nothing is left."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading

import pytest

from tests.shared import ROOT

bpy = pytest.importorskip("bpy")


def traces() -> dict[str, object]:
    """Return everything an add-on can leave behind in Blender."""
    handlers = bpy.app.handlers
    menus = (
        getattr(bpy.types, name) for name in dir(bpy.types) if "_MT_" in name or "_HT_" in name
    )
    return {
        "classes": sorted(name for name in dir(bpy.types) if "diffspeaker" in name.lower()),
        "operators": [name for name in dir(bpy.ops) if name == "diffspeaker"]
        and dir(bpy.ops.diffspeaker),
        "properties": sorted(
            f"{owner.__name__}.{name}"
            for owner in (bpy.types.Scene, bpy.types.Object, bpy.types.WindowManager)
            for name in owner.bl_rna.properties.keys()  # noqa: SIM118  (no mapping)
            if "diffspeaker" in name
        ),
        "handlers": {
            name: len(getattr(handlers, name))
            for name in dir(handlers)
            if isinstance(getattr(handlers, name), list)
        },
        "menu entries": sum(  # the first function of an extended menu is Blender's own
            max(0, len(getattr(menu.draw, "_draw_funcs", ())) - 1)
            for menu in menus
            if hasattr(menu, "draw")
        ),
        "preset paths": len(bpy.utils.preset_paths("diffspeaker")),
        "threads": sorted(t.name for t in threading.enumerate() if t.is_alive()),
    }  # fmt: skip


def test_the_package_imports_without_blender():
    """Nothing of bpy is touched before register()."""
    code = "import sys; sys.modules['bpy'] = None; import diffspeaker_blender as d; d.register"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)


def test_importing_is_quick_and_light():
    """Switching on takes well under a second and brings in neither torch nor scipy."""
    code = (
        "import time, sys, bpy, numpy; began = time.process_time()\n"
        "import diffspeaker_blender as d; d.register(); took = time.process_time() - began\n"
        "assert not {'torch', 'transformers', 'scipy', 'soundfile'} & set(sys.modules), 'heavy'\n"
        "d.unregister(); assert took < 1.0, took"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=120)


def test_ten_times_on_and_off_leaves_nothing(empty, line):
    """No class, property, handler, menu entry, preset path, timer, thread or process stays."""
    import diffspeaker_blender

    before = traces()
    for _ in range(10):
        diffspeaker_blender.register()
        assert traces() != before
        diffspeaker_blender.unregister()
    gc.collect()
    assert traces() == before


def test_off_in_mid_job_ends_the_process(addon, demo, line):
    """Switching off while the model works stops it and leaves no timer."""
    from diffspeaker_blender.jobs import plan, queue, timer

    bpy.context.scene.diffspeaker.steps = 300
    queue.submit(plan.tasks(bpy.context, file=str(line)))
    queue.look()
    process = queue._schedule.lanes[0].worker._process
    assert process.poll() is None
    addon.unregister()
    assert process.poll() is not None
    assert not bpy.app.timers.is_registered(timer.tick)
    addon.register()


def test_every_operator_has_a_tooltip_and_a_title(addon):
    """Tooltips on everything; labels in Title Case; no full stop at the end."""
    for name in dir(bpy.ops.diffspeaker):
        kind = getattr(bpy.ops.diffspeaker, name).get_rna_type()
        assert len(kind.description) > 10, name
        assert not kind.description.endswith("."), name
        assert kind.name[0].isupper(), name


def test_every_setting_has_a_tooltip(addon):
    """No choice, live control or preference is without an explanation."""
    from diffspeaker_blender.ui.preferences import DIFFSPEAKER_AP_preferences

    groups = [
        bpy.context.scene.diffspeaker.bl_rna,
        bpy.types.Object.bl_rna.properties["diffspeaker"].fixed_type.bl_rna
        if hasattr(bpy.types.Object.bl_rna.properties["diffspeaker"], "fixed_type")
        else DIFFSPEAKER_AP_preferences.bl_rna,
    ]
    for group in groups:
        for setting in group.properties:
            if setting.identifier in ("rna_type", "name"):
                continue
            assert setting.description, setting.identifier
            assert not setting.description.endswith("."), setting.identifier
