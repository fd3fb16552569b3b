# SPDX-License-Identifier: GPL-3.0-or-later
"""Hand edits on the channels of a mapped character: found before, laid over after each writing.

As `edits` does for shape keys of a head, with names of channels instead of shapes. Channels are the
same in every take, so all edits are carried over; they are scaled by the line's intensity.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..motion import edits
from ..motion.edits import KEY, Edits
from . import actions, channels, storage
from .edits import read, seconds
from .storage import Clip, Index

_FAINT = 0.05
_NO_KEYS = np.zeros((0, KEY), np.float32)


def changed(obj: Any, record: Clip, found: dict[str, Any]) -> dict[str, NDArray[np.float32]]:
    """Return the keys (n, 7), as written, of channels that were changed by hand since.

    found: F-curves by their channel's name.
    """
    written = None if record.covered else storage.get_written(storage.holder(obj), record)
    if written is None:
        return {}
    there = {actions.start_in(name) for name in found}  # of what is gone, nothing was edited
    now = {
        name: read(found.get(name), *record.span)
        for name in written
        if actions.start_in(name) in there
    }
    return {name: written[name] for name in now if not edits.same_keys(now[name], written[name])}


def keep(obj: Any, index: Index, owners: Iterable[Any], fps: float) -> None:
    """Store what was changed by hand on every line with the take that it shows."""
    found = curves_of(owners)
    for record in index.clips.values():
        storage.put_edits(storage.holder(obj), record.take, layer_of(obj, record, found, fps))


def layer_of(obj: Any, record: Clip, found: dict[str, Any], fps: float) -> Edits:
    """Return all hand edits over the shown take of a line: stored ones and new ones."""
    layer = storage.get_edits(storage.holder(obj), record.take)
    was = changed(obj, record, found)
    if not was:
        return layer
    first, last = np.ceil(record.span[0] - 1e-3), np.floor(record.span[1] + 1e-3)
    frames = np.arange(first, last + 1)
    values = np.zeros((len(frames), len(was)), np.float32)
    pins: list[tuple[str, float]] = []
    strength = strength_of(record)
    for column, (name, keys) in enumerate(was.items()):
        curve = found.get(name)
        now = [curve.evaluate(frame) for frame in frames] if curve is not None else 0.0
        jumps = len(keys) > 0 and bool(np.all(keys[:, 6] == edits.CONSTANT))
        change = now - edits.evaluate(keys, frames)
        values[:, column] = change if jumps else change / strength
        pins += [(name, second) for second in _set(record, keys, read(curve, *record.span), fps)]
    times = seconds(record, frames, fps)
    return layer.plus(Edits(times, tuple(was), values, tuple(pins)))


def over(record: Clip, layer: Edits, frames: Any, fps: float, curves: list[Any]) -> list[Any]:
    """Return channels and their values (F,) with a line's hand edits on top."""
    if not layer:
        return curves
    times = seconds(record, np.asarray(frames, np.float64), fps)
    shown = layer.at(times) * strength_of(record)
    places = {name: column for column, name in enumerate(layer.names)}
    changed = []
    for channel, values in curves:
        column = places.get(channel.name)
        total = values
        if column is not None:  # another drawing is neither more nor less
            total = values + (layer.held(times) if channel.jumps else shown)[:, column]
        changed.append((channel, total))
    return changed


def remember(obj: Any, index: Index, owners: Iterable[Any]) -> None:
    """Note the keys of every line as they are now, as the ones that we wrote."""
    found = curves_of(owners)
    for record in index.clips.values():
        if not record.covered:
            keys = {name: read(found.get(name), *record.span) for name in record.keys}
            storage.put_written(storage.holder(obj), record, keys)


def strength_of(record: Clip) -> float:
    """Return what a line's hand edits are multiplied by."""
    return max(storage.adjustments(record).intensity, _FAINT)


def curves_of(owners: Iterable[Any]) -> dict[str, Any]:
    """Return the F-curves in our actions on datablocks, by their channel's name."""
    return {
        channels.Channel(owner, curve.data_path, curve.array_index).name: curve
        for owner in owners
        for bag in channels.bags(owner)
        for curve in bag.fcurves
    }


def _set(record: Clip, was: Any, now: Any, fps: float) -> list[float]:
    """Return the seconds of keys that were not written by us."""
    known = {(round(float(f), 2), round(float(v), 3)) for f, v in was[:, :2]}
    frames = [f for f, v in now[:, :2] if (round(float(f), 2), round(float(v), 3)) not in known]
    return [float(s) for s in seconds(record, np.array(frames, np.float64), fps)]
