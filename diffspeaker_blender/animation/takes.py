# SPDX-License-Identifier: GPL-3.0-or-later
"""A line's takes: added, replaced, named, removed, and found again when nothing has changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..motion.adjust import gain
from ..motion.edits import Edits
from ..motion.motion import Adjustments, Motion
from . import actions, storage
from .storage import Clip, Index, Source, Take


@dataclass(frozen=True)
class Spoken:
    """How a take came about."""

    about: str = ""
    """In words: "energetic, seed 3"."""
    intensity: float = 1.0
    """Strength that was asked for."""
    source: Source | None = None
    """Where the sound is; None leaves what is known."""
    replace: bool = False
    """Put it in the place of the shown take instead of beside it."""
    layer: Edits | None = None
    """Hand edits that lie over it; None for those of the shown take."""


def add(key: Any, index: Index, record: Clip, motion: Motion, spoken: Spoken) -> None:
    """Store a motion as the take that a line shows; one that the line has already is shown again.

    Hand edits lie over it where they belong to shapes with a meaning of their own.
    """
    hashes = [storage.shape_hash(shape) for shape in motion.shapes]
    known = _known(key, record, motion, hashes)
    if known is not None:
        _carry(key, record, record.takes[known], spoken)
        record.shown = known
        return
    index.numbers += 1
    take = Take(index.numbers, list(motion.names), hashes)
    take.about, take.intensity = spoken.about, spoken.intensity
    _carry(key, record, take, spoken)
    if spoken.replace and record.takes:
        take.label = record.take.label
        record.takes[record.shown] = take
    else:
        record.takes.append(take)
        record.shown = len(record.takes) - 1
    storage.put_motion(key, record, motion)


def _known(key: Any, record: Clip, motion: Motion, hashes: list[str]) -> int | None:
    """Return the place of a take that is this very motion."""
    for place, take in enumerate(record.takes):
        if take.hashes == hashes and take.names == list(motion.names):
            found = storage.get_motion(key, record, place)
            if found is not None and np.array_equal(found.weights, motion.weights):
                return place
    return None


def _carry(key: Any, record: Clip, take: Take, spoken: Spoken) -> None:
    """Lay hand edits over another take than the shown one; none that it has get lost."""
    layer = spoken.layer
    if layer is None and record.takes:
        layer = storage.get_edits(key, record.take)
    if layer and take not in record.takes[record.shown : record.shown + 1]:
        old = storage.get_edits(key, take)
        storage.put_edits(key, take, old or layer.of(name for name in layer.names if meant(name)))


def meant(name: str) -> bool:
    """Return whether a shape has a meaning of its own, the same in every take."""
    return "|" in name or gain(name, Adjustments()) is not None  # or a mapped character's channel


def label(record: Clip, place: int) -> str:
    """Return the name of a take for people: its own, or its number."""
    return record.takes[place].label or f"Take {place + 1}"


def rename(key: Any, clip: str, place: int, name: str) -> None:
    """Name a take; "" gives it its number back."""
    index = storage.read(key)
    index.clips[clip].takes[place].label = name.strip()
    storage.write(key, index)


def remove(key: Any, clip: str, place: int) -> None:
    """Forget a take that is not shown."""
    index = storage.read(key)
    record = index.clips[clip]
    assert place != record.shown, "the shown take stays"
    del record.takes[place]
    record.shown -= place < record.shown
    storage.write(key, index)


def rename_line(key: Any, clip: str, name: str) -> str:
    """Give a line another name, made unique on its head; return it."""
    index = storage.read(key)
    others = [other for other in index.clips if other != clip]
    name = unique(name.strip() or clip, others)
    index.clips = {name if n == clip else n: found for n, found in index.clips.items()}
    for action, _holder in actions.our_actions(key):
        if action[actions.OURS] == clip:
            action[actions.OURS] = name
    storage.write(key, index)
    return name


def unique(name: str, taken: Any) -> str:
    """Return a name that no other line has: "001.wav", then "001.wav (2)"."""
    number, wanted = 2, name
    while name in taken:
        name, number = f"{wanted} ({number})", number + 1
    return name
