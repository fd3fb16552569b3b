# SPDX-License-Identifier: GPL-3.0-or-later
"""Long pieces of set-up work in a thread: install the runtime, import a checkpoint.

One at a time. A chore's function gets `report(stage, fraction, seconds_left)` and `cancelled()`;
it must not touch bpy. The timer calls `look`, which mirrors progress and ends the chore.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field

import bpy

from ..errors import LipSyncError
from . import status as display
from . import timer

Report = Callable[[str, float, float | None], None]
Work = Callable[[Report, Callable[[], bool]], str]


@dataclass(eq=False)
class _Chore:
    """One piece of work: what it is called, how far it is, and what came of it."""

    name: str
    then: Callable[[], None] | None = None
    stage: str = ""
    fraction: float = 0.0
    seconds_left: float | None = None
    stop: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None
    sentence: str = ""
    error: LipSyncError | None = None

    def report(self, stage: str, fraction: float, seconds_left: float | None = None) -> None:
        """Note how far the work is (called from the thread)."""
        self.stage, self.fraction, self.seconds_left = stage, fraction, seconds_left


TICK = 0.05  # seconds between two looks

_chore: _Chore | None = None


def start(name: str, work: Work, then: Callable[[], None] | None = None) -> None:
    """Start a chore in the background; in background mode run it here and raise its error.

    `then` is called on the main thread when the work is done, and says itself what came of it.
    Raises LipSyncError when another chore is under way.
    """
    global _chore  # noqa: PLW0603
    if _chore is not None:
        raise LipSyncError(f"{_chore.name} is still under way.", "Wait for it, or stop it.")
    chore = _Chore(name, then)
    if bpy.app.background:
        sentence = work(chore.report, chore.stop.is_set)
        if then is None:
            display.say(sentence)
        else:
            then()
        return
    chore.thread = threading.Thread(target=_carry, args=(chore, work), daemon=True)
    chore.thread.start()
    _chore = chore
    timer.watch(look, stop)


def _carry(chore: _Chore, work: Work) -> None:
    try:
        chore.sentence = work(chore.report, chore.stop.is_set)
    except LipSyncError as error:
        chore.error = error
    except Exception as error:  # a thread that ends without a word would pass for a stop
        traceback.print_exc()
        chore.error = LipSyncError(f"{chore.name} failed: {type(error).__name__}: {error}.")


def busy() -> bool:
    """Return whether a chore is under way."""
    return _chore is not None


def stop() -> None:
    """Ask the chore to give up."""
    if _chore is not None:
        _chore.stop.set()


def look() -> float | None:
    """Mirror the chore's progress; end it when its thread has. Return the pause, if any."""
    global _chore
    chore = _chore
    if chore is None:
        return None
    status = display.now()
    if chore.thread is not None and chore.thread.is_alive():
        status.chore = f"{chore.name}: {chore.stage}" if chore.stage else chore.name
        status.chore_fraction = chore.fraction
        status.chore_left = -1.0 if chore.seconds_left is None else chore.seconds_left
        display.redraw()
        return TICK
    _chore, status.chore = None, ""
    if chore.error is not None and not chore.stop.is_set():
        display.say(chore.error.message, chore.error.hint, "ERROR")
    elif chore.then is not None and not chore.stop.is_set():
        chore.then()
    else:
        display.say(chore.sentence or f"{chore.name} was stopped")
    return None


def end(timeout: float = 3.0) -> None:
    """Stop the chore and wait for its thread (the add-on is switched off)."""
    global _chore
    chore, _chore = _chore, None
    if chore is not None and chore.thread is not None:
        chore.stop.set()
        chore.thread.join(timeout)


def register() -> None:
    """Nothing to do before the first chore."""


unregister = end
