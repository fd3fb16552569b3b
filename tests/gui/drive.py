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


def lay_out():
    """Split the screen: 3D view above, sequencer below, both sidebars on our tab."""
    scene = bpy.context.scene
    bpy.context.workspace.sequencer_scene = scene
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
        side = next(r for r in area(kind).regions if r.type == "UI")
        side.active_panel_category = "Lip-Sync"
    yield 0.5


def add_strip(path, name, start=1, channel=1):
    editor = bpy.context.scene.sequence_editor_create()
    strip = editor.strips.new_sound(name, str(path), channel, start)
    for other in editor.strips:
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
