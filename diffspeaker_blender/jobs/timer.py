# SPDX-License-Identifier: GPL-3.0-or-later
"""The only timer: it polls whoever asked for it, and knows nobody.

Blender calls `tick` in its main loop while a watcher has something to do. In scripts and in
background, where no timer fires, whoever waits calls `tick` in a loop of its own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import bpy

from ..paths import ADDON

log = logging.getLogger(ADDON)

Look = Callable[[], float | None]
"""Do what is due; return the seconds until the next look, None when nothing is left to watch."""

_watchers: dict[Look, Callable[[], None]] = {}


def watch(look: Look, give_up: Callable[[], None]) -> None:
    """Call `look` soon and then as often as it asks; `give_up` ends its work after a surprise."""
    _watchers[look] = give_up
    if bpy.app.background:
        return
    if bpy.app.timers.is_registered(tick):  # it may be asleep beside something idle
        bpy.app.timers.unregister(tick)
    bpy.app.timers.register(tick, first_interval=0.0, persistent=True)


def tick() -> float | None:
    """Let everyone look; return the shortest pause asked for, None when nobody watches."""
    pauses = [pause for look in list(_watchers) if (pause := _guarded(look)) is not None]
    return min(pauses, default=None)


def _guarded(look: Look) -> float | None:
    try:
        pause = look()
    except Exception:
        log.exception("lip-sync timer")
        _watchers.pop(look)()
        return None
    if pause is None:
        _watchers.pop(look, None)
    return pause


def stop() -> None:
    """Forget everyone; no timer is left."""
    if bpy.app.timers.is_registered(tick):
        bpy.app.timers.unregister(tick)
    _watchers.clear()
