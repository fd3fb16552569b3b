# SPDX-License-Identifier: GPL-3.0-or-later
"""Drive a real Blender window from inside, as a person would; tell what happened as JSON.

Started by `tests/gui/test_window.py` in the window's own Blender. A script is a generator that
yields how many seconds to wait; everything it learns goes to `told`, every `shot` is a picture of
the screen.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import traceback
from pathlib import Path

import bpy

STAGE = Path(os.environ["DIFFSPEAKER_STAGE"])
told: dict = {"shots": []}
PACKAGE = "bl_ext.user_default.diffspeaker"


def shot(name):
    """Take a picture of the whole screen."""
    path = STAGE / f"{name}.png"
    subprocess.run(["import", "-window", "root", str(path)], check=False)
    told["shots"].append(name)


def addon(name):
    """Return one of the installed add-on's modules."""
    return sys.modules[f"{PACKAGE}.{name}"]


def status():
    return bpy.context.window_manager.diffspeaker


def window():
    return bpy.context.window_manager.windows[0]


def area(kind):
    return next(a for a in window().screen.areas if a.type == kind)


def inside(kind, region="WINDOW"):
    """Return an override that stands in an editor."""
    where = area(kind)
    found = next(r for r in where.regions if r.type == region)
    return bpy.context.temp_override(window=window(), area=where, region=found)


def press(key):
    """Press and release a key over the middle of the window."""
    x, y = window().width // 2, window().height // 2
    for value in ("PRESS", "RELEASE"):
        window().event_simulate(type=key, value=value, x=x, y=y)


def until(condition, patience):
    """Yield until a condition holds; tell when it never does, at once after an error."""
    end = time.monotonic() + patience
    while not condition():
        if time.monotonic() > end or status().level == "ERROR":
            raise AssertionError(f"waited {patience} s in vain; status: {status().message}")
        yield 0.05


def install():
    bpy.context.preferences.view.show_splash = False
    bpy.context.preferences.view.ui_scale = 1.0
    bpy.ops.extensions.package_install_files(
        repo="user_default",
        filepath=str(STAGE / "diffspeaker.zip"),
        enable_on_install=True,
        overwrite=True,
    )
    told["installed"] = PACKAGE in bpy.context.preferences.addons


def close_splash():
    """Press Esc: the splash or the quick setup of a first start would hide what is drawn."""
    press("ESC")
    yield 0.5


def sequence_this_scene():
    """Let the sequencer show the scene; Blender 5 keeps that apart from the window's scene."""
    workspace = bpy.context.workspace
    if hasattr(workspace, "sequencer_scene"):
        workspace.sequencer_scene = bpy.context.scene


def lay_out():
    """Split the screen: 3D view above, sequencer below, both sidebars on our tab."""
    yield from close_splash()
    sequence_this_scene()
    for thing in list(bpy.data.objects):
        bpy.data.objects.remove(thing)
    with inside("VIEW_3D"):
        bpy.ops.screen.area_split(direction="HORIZONTAL", factor=0.45)
    yield 0.3
    views = [a for a in window().screen.areas if a.type == "VIEW_3D"]
    min(views, key=lambda a: a.y).ui_type = "SEQUENCE_EDITOR"
    yield 0.5
    for kind in ("VIEW_3D", "SEQUENCE_EDITOR"):
        area(kind).spaces.active.show_region_ui = True
    yield 0.5
    for kind in ("VIEW_3D", "SEQUENCE_EDITOR"):
        sidebar(kind).active_panel_category = "Lip-Sync"
    yield 0.5


def sidebar(kind):
    """Return an editor's sidebar region."""
    return next(r for r in area(kind).regions if r.type == "UI")


def open_tab():
    """Open our tab in the 3D view's sidebar."""
    area("VIEW_3D").spaces.active.show_region_ui = True
    yield 0.5
    sidebar("VIEW_3D").active_panel_category = "Lip-Sync"
    yield 0.5


def browse(operator, path, picture=""):
    """Press a button that asks for a file, and choose one in the file browser."""
    with inside("VIEW_3D", "UI"):
        operator("INVOKE_DEFAULT")
    yield 1.5
    browser = next(
        w for w in bpy.context.window_manager.windows if w.screen.areas[0].type == "FILE_BROWSER"
    )
    place = browser.screen.areas[0]
    place.spaces.active.params.directory = str(path.parent).encode()
    place.spaces.active.params.filename = path.name
    if picture:
        shot(picture)
    yield 0.5
    region = next(r for r in place.regions if r.type == "WINDOW")
    with bpy.context.temp_override(window=browser, area=place, region=region):
        bpy.ops.file.execute("EXEC_DEFAULT")
    yield 0.2


def strips():
    """Return the scene's strips, which were called sequences before Blender 4.4."""
    editor = bpy.context.scene.sequence_editor_create()
    return editor.strips if hasattr(editor, "strips") else editor.sequences


def add_strip(path, name, start=1, channel=1):
    editor = bpy.context.scene.sequence_editor_create()
    strip = strips().new_sound(name, str(path), channel, start)
    for other in strips():
        other.select = other == strip
    editor.active_strip = strip
    return strip


class Stalls:
    """Measure how long our own timer holds the main thread: by the clock, and in its own work.

    On a busy machine the clock also counts other programs' turns.
    """

    def __enter__(self):
        timer = addon("jobs.timer")
        self.original, self.times, self.work = timer._guarded, [], []

        def timed(look):
            began, work = time.perf_counter(), time.thread_time()
            try:
                return self.original(look)
            finally:
                self.times.append(time.perf_counter() - began)
                self.work.append(time.thread_time() - work)

        timer._guarded = timed
        return self

    def __exit__(self, *_):
        addon("jobs.timer")._guarded = self.original

    def told(self):
        return {
            "worst_ms": round(max(self.times) * 1e3, 1),
            "worst_work_ms": round(max(self.work) * 1e3, 1),
            "second_ms": round(sorted(self.times)[-2] * 1e3, 1),
            "ticks": len(self.times),
        }


def run(script):
    """Run a script of steps by a timer, then tell and wait to be dismissed."""
    steps = script()

    def step():
        try:
            return next(steps)
        except StopIteration:
            told["finished"] = True
        except Exception:
            told["error"] = traceback.format_exc()
            shot("error")
        (STAGE / "told.json").write_text(json.dumps(told, indent=1, default=str))
        Path("/tmp/READY").touch()
        bpy.app.timers.register(leave, first_interval=0.5)
        return None

    def leave():
        if not Path("/tmp/DONE").exists():
            return 0.2
        bpy.ops.wm.quit_blender()
        return None

    bpy.app.timers.register(step, first_interval=1.0, persistent=True)
