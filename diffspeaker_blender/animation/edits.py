# SPDX-License-Identifier: GPL-3.0-or-later
"""Find what was changed by hand on a line's curves since they were written.

`remember` notes the keys right after writing. `lift` compares them with the curves as they are and
returns the difference as a layer, which the next writing puts over whatever it writes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..motion import edits, keys
from ..motion.adjust import gain
from ..motion.edits import KEY, Edits, strength_of
from ..motion.motion import Adjustments
from . import actions, storage
from .shape_keys import bag_of, recipe_of
from .storage import Clip, Index

_FAINT = 0.05
"""Gain below which a change is not divided by it: it was made on a face that hardly moves."""


def remember(key: Any, index: Index, clip: str) -> None:
    """Note a line's keys as they are now, as the ones that we wrote."""
    record = index.clips[clip]
    storage.put_written(key, record, _keys_now(key, record, clip))


def changed(key: Any, index: Index, clip: str) -> tuple[str, ...]:
    """Return the shape keys whose curves were changed by hand since the line was written."""
    record = index.clips[clip]
    if record.covered:
        return ()
    now = _keys_now(key, record, clip)
    written = storage.get_written(key, record)
    if written is None:  # version 1.0.0 noted a checksum of frames and values
        return tuple(
            name
            for name, number in record.written.items()
            if name in now and actions.checksum(now[name][:, :2]) != number
        )
    return tuple(
        name for name, was in written.items() if name in now and not edits.same_keys(now[name], was)
    )


def edited(key: Any, index: Index, clip: str) -> tuple[str, ...]:
    """Return the shape keys of a line that bear hand edits, stored ones or new ones."""
    record = index.clips[clip]
    stored, new = storage.get_edits(key, record.take).moved(), changed(key, index, clip)
    return tuple(n for n in record.keys if n in new or index.keys.get(n, [n])[0] in stored)


def lift(key: Any, index: Index, clip: str, fps: float, unit: float) -> Edits:
    """Return the whole layer of hand edits over the shown take: stored ones and new ones.

    fps, unit: frames a second of the scene, millimetres of the mesh's unit.
    """
    record = index.clips[clip]
    layer = storage.get_edits(key, record.take)
    names = changed(key, index, clip) if record.mode in ("named", "exact") else ()
    bag = bag_of(key, record, clip) if names else None
    if bag is None:
        return layer
    frames = np.arange(np.ceil(record.span[0] - 1e-3), np.floor(record.span[1] + 1e-3) + 1)
    written = storage.get_written(key, record) or _as_1_0_0_wrote(key, record, fps, unit)
    labels = [index.keys.get(name, [name])[0] for name in names]
    live = storage.adjustments(record)
    values = np.zeros((len(frames), len(names)), np.float32)
    hand = set_by_hand(key, index, clip, fps)
    pins = tuple((name, float(second)) for name in labels for second in hand.get(name, ()))
    for column, name in enumerate(names):
        curve = bag.fcurves.find(actions.path_of(name))
        now = [curve.evaluate(frame) for frame in frames] if curve is not None else 0.0
        was = edits.evaluate(written.get(name, np.zeros((0, KEY), np.float32)), frames)
        strength = strength_of(labels[column], live)
        values[:, column] = (now - was) / (strength if strength >= _FAINT else 1.0)
    return layer.plus(Edits(seconds(record, frames, fps), tuple(labels), values, pins))


def scale(key: Any, index: Index, clip: str, live: Adjustments) -> bool:
    """Let a line's keys show other strengths as they stand; return False where that cannot be.

    Hand edits are scaled with the rest, handles and all. It takes a hundredth of writing the line
    again, which is needed when time or smoothness change, and to come back from nothing.
    """
    record = index.clips[clip]
    factors = _factors(index, record, live)
    bag = bag_of(key, record, clip) if factors is not None else None
    written = storage.get_written(key, record) if bag is not None else None
    if factors is None or bag is None or written is None:
        return False
    for name, factor in factors.items():
        if factor != 1.0:
            curve = bag.fcurves.find(actions.path_of(name))
            if curve is not None:
                _scale(curve, record.span, factor)
                _widen(key.key_blocks.get(name), curve)
            if name in written:
                written[name][:, [1, 3, 5]] *= factor
    storage.put_written(key, record, written)
    record.adjustments = vars(live).copy()
    key.update_tag()
    return True


def _factors(index: Index, record: Clip, live: Adjustments) -> dict[str, float] | None:
    """Return what each shape key's values are multiplied by for other strengths, None for no."""
    was = storage.adjustments(record)
    if record.mode != "named" or record.covered:
        return None
    if (was.smoothing, was.offset) != (live.smoothing, live.offset):
        return None
    factors = {}
    for name in record.keys:
        label = index.keys.get(name, [name])[0]
        one, other = gain(label, was), gain(label, live)
        if one is None or other is None:  # shapes of the whole face change as shapes
            if replace(was, intensity=live.intensity) != live:
                return None
            one, other = was.intensity, live.intensity
        if min(one, other) < _FAINT and one != other:
            return None
        factors[name] = 1.0 if one == other else other / one
    return factors


def _scale(curve: Any, span: list[float], factor: float) -> None:
    """Multiply the values and handles of a curve's keys on a line's frames."""
    points = curve.keyframe_points
    pairs = {}
    for column in ("co", "handle_left", "handle_right"):
        pairs[column] = np.empty(2 * len(points), np.float32)
        points.foreach_get(column, pairs[column])
    frames = pairs["co"][::2]
    ours = (frames >= span[0] - 1e-3) & (frames <= span[1] + 1e-3)
    for column, pair in pairs.items():
        pair[1::2][ours] *= factor
        points.foreach_set(column, pair)
    curve.update()


def _widen(block: Any | None, curve: Any) -> None:
    """Let a slider reach every key: Blender clamps animated values to its range."""
    if block is None or not len(curve.keyframe_points):
        return
    values = np.empty(2 * len(curve.keyframe_points), np.float32)
    curve.keyframe_points.foreach_get("co", values)
    most, least = float(values[1::2].max()), float(values[1::2].min())
    if most > block.slider_max:
        block.slider_max = min(float(np.ceil(most * 10) / 10), 10.0)
    if least < block.slider_min:
        block.slider_min = max(float(np.floor(least * 10) / 10), -10.0)


def set_by_hand(key: Any, index: Index, clip: str, fps: float) -> dict[str, NDArray[np.float64]]:
    """Return when in the sound an animator set keys: shape → seconds."""
    record = index.clips[clip]
    found: dict[str, list[NDArray[np.float64]]] = {}
    for name, second in storage.get_edits(key, record.take).pins:
        found.setdefault(name, []).append(np.array([second]))
    written, now = storage.get_written(key, record), _keys_now(key, record, clip)
    for name in changed(key, index, clip) if written is not None else ():
        was = written.get(name, np.zeros((0, KEY), np.float32))
        known = {(round(float(f), 2), round(float(v), 3)) for f, v in was[:, :2]}
        frames = [
            f for f, v in now[name][:, :2] if (round(float(f), 2), round(float(v), 3)) not in known
        ]
        label = index.keys.get(name, [name])[0]
        found.setdefault(label, []).append(seconds(record, np.array(frames, np.float64), fps))
    together = {name: np.concatenate(parts) for name, parts in found.items()}
    return {name: times for name, times in together.items() if len(times)}


def seconds(record: Clip, frames: NDArray[np.float64], fps: float) -> NDArray[np.float64]:
    """Return when in the sound, as spoken, scene frames are."""
    late = storage.adjustments(record).offset
    return np.asarray((frames - record.start_frame) / fps * record.speed - late, np.float64)


def frames_at(record: Clip, times: NDArray[np.float64], fps: float) -> NDArray[np.float64]:
    """Return the scene frames of seconds of the sound: `seconds`, the other way."""
    late = storage.adjustments(record).offset
    return np.asarray((times + late) * fps / record.speed + record.start_frame, np.float64)


def _keys_now(key: Any, record: Clip, clip: str) -> dict[str, NDArray[np.float32]]:
    """Return the keys (n, 7) of every shape key of a line, on the line's own frames."""
    bag = bag_of(key, record, clip)
    found: dict[str, NDArray[np.float32]] = {}
    for name in record.keys:
        curve = bag.fcurves.find(actions.path_of(name)) if bag is not None else None
        found[name] = read(curve, record.span[0], record.span[1])
    return found


def read(curve: Any | None, first: float, last: float) -> NDArray[np.float32]:
    """Return the keys (n, 7) of a curve between two frames; none for no curve."""
    if curve is None or not len(curve.keyframe_points):
        return np.zeros((0, KEY), np.float32)
    points = curve.keyframe_points
    rows = np.empty((len(points), KEY), np.float32)
    for column, place in (("co", 0), ("handle_left", 2), ("handle_right", 4)):
        pair = np.empty(2 * len(points), np.float32)
        points.foreach_get(column, pair)
        rows[:, place : place + 2] = pair.reshape(-1, 2)
    kind = np.empty(len(points), np.int32)
    points.foreach_get("interpolation", kind)
    rows[:, 6] = kind
    return rows[(rows[:, 0] >= first - 1e-3) & (rows[:, 0] <= last + 1e-3)]


def _as_1_0_0_wrote(
    key: Any, record: Clip, fps: float, unit: float
) -> dict[str, NDArray[np.float32]]:
    """Return the keys that version 1.0.0 wrote for a line, made again from its motion."""
    motion = storage.get_motion(key, record)
    if motion is None:
        return {}
    shaped = keys.shape(motion, replace(recipe_of(record, fps, unit), tolerance=0.0))
    found = {}
    for name, column in zip(record.keys, shaped.curves, strict=False):
        written = np.zeros((len(column), KEY), np.float32)
        written[:, :2], written[:, 6] = column[:, :2], edits.LINEAR
        found[name] = written
    return found
