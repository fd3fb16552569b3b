# SPDX-License-Identifier: GPL-3.0-or-later
"""Write one clip of a head: its shapes as shape keys, its weights as curves; and erase it again.

`shape_keys` has the verbs; this is the handiwork under them. Nothing here touches a shape key, a
curve or an action that is not listed in the head's index as ours.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import bpy
import numpy as np

from ..character import drivers, head
from ..motion import keys as shaping
from ..motion.edits import Edits
from ..motion.groups import group_of, order_of
from ..motion.keys import Recipe, Shaped
from ..motion.motion import Motion
from ..sound.sources import scene_fps
from . import actions, storage
from .storage import Clip, Index

EASE_SECONDS = 0.27
"""Time in which the face comes from rest before a clip, and returns to it afterwards."""
_LONGEST_NAME = 63  # bytes; Blender cuts longer ones
_NOTHING = np.empty((0, 3), np.float32)


@dataclass(frozen=True)
class Written:
    """What came of writing a clip."""

    frames: tuple[int, int]
    keyframes: int
    millimetres: float


# -- writing ----------------------------------------------------------------------------------


def write(
    obj: Any,
    index: Index,
    clip: str,
    motion: Motion,
    scene: Any,
    action_name: str = "",
    *,
    reuse: bool = False,
    spared: tuple[str, ...] = (),
    shaped: Shaped | None = None,
) -> Written:
    """Write keys and curves of one clip from its motion as generated; fill in its record.

    `shaped` is what a thread may have made of the motion; it is used if it still holds.
    """
    key, record = obj.data.shape_keys, index.clips[clip]
    fps = scene_fps(scene)
    layer = storage.get_edits(key, record.take)
    recipe = recipe_of(record, fps, head.millimetres(obj, scene), layer)
    if shaped is None or not shaped.serves(motion, recipe):
        shaped = shaping.shape(motion, recipe)
    placed, frames = shaped.placed, shaped.frames
    names = _put_shapes(obj, index, clip, placed, motion, reuse)
    _widen(key, names, placed)
    former = (record.span[0], record.span[1], record.ease)
    had = set(record.keys) & set(record.written)  # a covered clip has none
    record.span, record.ease = [float(frames[0]), float(frames[-1])], _ease(fps)
    if not record.nla:
        make_room(index, clip)
    bag, action, track = actions.shape_channels(
        key, clip, nla=record.nla, name=action_name or f"{obj.name} Lip-Sync", own=record.action
    )
    record.nla, record.action, record.keys = bool(track), action.name, list(names)
    drivers.put(key, names, placed)
    total = _put_curves(key, bag, index, clip, shaped, former, had, spared)
    if track:
        first, last = record.span
        actions.place_strip(key, clip, action, first - record.ease, last + record.ease)
    else:
        actions.stretch_strip(key, action)
    drop_unused(obj, index)
    key.update_tag()
    return Written((int(frames[0]), int(frames[-1])), total, shaped.millimetres)


def recipe_of(record: Clip, fps: float, unit: float, layer: Edits | None = None) -> Recipe:
    """Return what decides how a clip's motion becomes keys; `unit` is mm of the mesh's unit."""
    limit = None if record.limit is None else (record.limit[0], record.limit[1])
    start, live = record.start_frame, storage.adjustments(record)
    return Recipe(
        record.mode, record.tolerance, start, fps, unit, live, limit, layer or Edits(), record.speed
    )


def _put_shapes(
    obj: Any, index: Index, clip: str, placed: Motion, motion: Motion, reuse: bool
) -> list[str]:
    """Give every shape its key, new or shared; return the keys' names in order.

    A key of ours whose shape is already the right one is left alone: the animator may have
    sculpted on it. The order, the active key and the user's keys stay as they are.
    """
    key, record = obj.data.shape_keys, index.clips[clip]
    active = obj.active_shape_key_index
    basis = np.empty(3 * len(obj.data.vertices), np.float32)
    key.reference_key.points.foreach_get("co", basis)
    same = placed.shapes is motion.shapes
    names: dict[int, str] = {}
    for k in sorted(range(len(placed.names)), key=lambda k: order_of(placed.names[k])):
        wanted = placed.names[k]
        one = record.hashes[k] if same else storage.shape_hash(placed.shapes[k])
        alike = _is_there(key, wanted, basis, placed.shapes[k])
        ours = head.GIVEN in key and wanted in key.key_blocks and wanted not in index.keys
        there = reuse or alike or ours
        name, needs_shape = _key_for(key, index, clip, wanted, one, there, list(names.values()))
        if ours and name == wanted and not alike:  # the head is from another version of the rig
            key.key_blocks[name].points.foreach_set("co", basis + placed.shapes[k].ravel())
        if not name:
            block = obj.shape_key_add(name=_free_name(key, wanted), from_mix=False)
            block.value = 0.0  # Blender 5.2 starts at 1
            name = block.name
        if needs_shape:
            key.key_blocks[name].points.foreach_set("co", basis + placed.shapes[k].ravel())
            index.keys[name] = [wanted, one]
        names[k] = name
    obj.active_shape_key_index = active
    return [names[k] for k in range(len(names))]


def _key_for(
    key: Any, index: Index, clip: str, wanted: str, one: str, reuse: bool, taken: list[str]
) -> tuple[str, bool]:
    """Return the existing key for a shape ("" for a new one) and whether its shape must be set."""
    ours = [
        name
        for name, (label, _one) in index.keys.items()
        if label == wanted and name in key.key_blocks and name not in taken
    ]
    for name in ours:
        if index.keys[name][1] == one:
            return name, False
    for name in ours:
        if not index.users(name, besides=clip):
            return name, True
    if reuse and wanted in key.key_blocks and wanted not in index.keys and wanted not in taken:
        return wanted, False
    return "", True


def _is_there(key: Any, wanted: str, basis: Any, shape: Any) -> bool:
    """Return whether the head came with this very shape under this name, as the demo head does."""
    block = key.key_blocks.get(wanted)
    if block is None or block == key.reference_key:
        return False
    points = np.empty_like(basis)
    block.points.foreach_get("co", points)
    return bool(np.abs(points - basis - shape.ravel()).max() <= 0.02 * np.abs(shape).max() + 1e-7)


def _free_name(key: Any, wanted: str) -> str:
    """Return a name that no key has and Blender will not cut."""
    for number in itertools.count():
        suffix = f".{number:03d}" if number else ""
        room = _LONGEST_NAME - len(suffix)
        name = wanted.encode()[:room].decode(errors="ignore") + suffix
        if name not in key.key_blocks:
            return name
    raise AssertionError("unreachable")


def _widen(key: Any, names: list[str], placed: Motion) -> None:
    """Let each slider reach every weight: Blender clamps animated values to the slider's range."""
    low, high = placed.weights.min(0), placed.weights.max(0)
    for name, least, most in zip(names, low, high, strict=True):
        block = key.key_blocks[name]
        if most > block.slider_max:
            block.slider_max = min(float(np.ceil(most * 10) / 10), 10.0)
        if least < block.slider_min:
            block.slider_min = max(float(np.floor(least * 10) / 10), -10.0)


def _put_curves(
    key: Any,
    bag: Any,
    index: Index,
    clip: str,
    shaped: Shaped,
    former: tuple[float, float, float],
    had: set[str],
    spared: tuple[str, ...],
) -> int:
    """Write one curve a shape key, and clear the clip's frames on our other curves; count keys."""
    record = index.clips[clip]
    first, last = record.span
    written, total = {}, 0
    names = shaped.placed.names
    for k in sorted(range(len(names)), key=lambda k: order_of(names[k])):
        name, fresh = record.keys[k], shaped.curves[k]
        if name in spared:
            written[name] = record.written.get(name, 0)
            continue
        if not np.any(np.abs(fresh[:, 1]) > 1e-6):
            fresh = fresh[:0]
        rests = _rests(index, clip, name, bool(len(fresh)))
        drop = [(first, last), *([_reach(former, rests)] if name in had else [])]
        curve = actions.write_keys(bag, name, fresh, drop, rests, group_of(names[k]))
        if curve is None and not drivers.drives(key, name):
            key.key_blocks[name].value = 0.0
        written[name], total = actions.checksum(fresh[:, :2]), total + len(fresh)
    record.written = written
    if not record.nla:
        for name in sorted({*index.keys, *had} - set(record.keys)):
            rests = _rests(index, clip, name, False)
            drop = [(first, last), *([_reach(former, rests)] if name in had else [])]
            gone = actions.write_keys(bag, name, _NOTHING, drop, rests) is None
            if gone and name in had and name in key.key_blocks:
                key.key_blocks[name].value = 0.0
    return total


def _rests(index: Index, clip: str, name: str, moving: bool) -> list[tuple[float, float, float]]:
    """Return (first, last, ease) of every clip whose keys share this key's curve."""
    record = index.clips[clip]
    sharing = (
        []
        if record.nla
        else [
            other
            for label, other in index.clips.items()
            if label != clip and not other.nla and name in other.keys and other.written.get(name)
            if not other.covered
        ]
    )
    return [(c.span[0], c.span[1], c.ease) for c in sharing + ([record] if moving else [])]


def _reach(
    place: tuple[float, float, float], others: list[tuple[float, float, float]]
) -> tuple[float, float]:
    """Return the frames of a clip with its rest keys, without reaching into its neighbours."""
    first, last, ease = place
    low = max([first - ease, *(end + 1 for _, end, _ in others if end < first)])
    high = min([last + ease, *(begin - 1 for begin, _, _ in others if begin > last)])
    return low, high


def make_room(index: Index, clip: str) -> None:
    """Let a clip take its frames from others there; `clips` writes those again afterwards."""
    first, last = index.clips[clip].span
    for name, other in index.clips.items():
        if name == clip or other.nla or other.covered:
            continue
        if other.span[0] > last or other.span[1] < first:
            continue
        if other.span[0] < first:
            other.span[1] = first - 1
        else:
            other.span[0] = last + 1


def free_part(index: Index, clip: str, besides: str = "") -> list[float] | None:
    """Return the longest run of frames that clips of higher rank leave to one; None for none.

    `besides` counts with the frames that it is about to take.
    """
    record = index.clips[clip]
    first, last = record.natural or record.span
    if record.cut is not None:
        first, last = max(first, record.cut[0]), min(last, record.cut[1])
    parts = [(first, last)] if first <= last else []
    for name, other in index.clips.items():
        if other.rank <= record.rank or other.nla or other.covered or record.nla:
            continue
        low, high = (other.limit or other.natural or other.span) if name == besides else other.span
        parts = [
            part
            for begin, end in parts
            for part in ((begin, min(end, low - 1)), (max(begin, high + 1), end))
            if part[0] <= part[1]
        ]
    best = max(parts, key=lambda part: part[1] - part[0], default=None)
    return None if best is None else list(best)


def _ease(fps: float) -> float:
    return float(max(1, round(EASE_SECONDS * fps)))


# -- taking away ------------------------------------------------------------------------------


def erase(key: Any, index: Index, clip: str) -> None:
    """Remove a clip's keys from its curves, and its NLA strip and action when they are its own.

    A covered clip has no keys: what lies on its place belongs to others.
    """
    record = index.clips[clip]
    bag = bag_of(key, record, clip)
    former = (record.span[0], record.span[1], record.ease)
    for name in record.keys if bag is not None and not record.covered else ():
        rests = _rests(index, clip, name, False)
        gone = actions.write_keys(bag, name, _NOTHING, [_reach(former, rests)], rests) is None
        if gone and name in key.key_blocks:
            key.key_blocks[name].value = 0.0  # else the face would stay as it was last shown
    for action, _holder in actions.our_actions(key):
        actions.drop_action(key, action)


def cover(key: Any, index: Index, clip: str) -> None:
    """Take a clip's keys away for as long as others cover it; it stays in the index."""
    erase(key, index, clip)
    record = index.clips[clip]
    record.covered, record.written = True, {}


def drop_unused(obj: Any, index: Index) -> int:
    """Remove our shape keys that no clip drives any more; return how many.

    One that the user has keyed beside the lines stays, and is the user's from now on.
    """
    key, removed = obj.data.shape_keys, 0
    active = obj.active_shape_key.name if obj.active_shape_key else ""
    for name in [n for n in index.keys if not index.users(n)]:
        block = key.key_blocks.get(name)
        theirs = index.kept.get(name) or _is_keyed(key, name)
        del index.keys[name]
        if block is None or theirs:
            continue
        for action, holder in actions.our_actions(key):
            bag = actions.channels(action, actions.slot_of(action, holder), ensure=False)
            curve = bag.fcurves.find(actions.path_of(name)) if bag is not None else None
            if bag is not None and curve is not None:
                bag.fcurves.remove(curve)
        drivers.release(key, name)
        obj.shape_key_remove(block)
        removed += 1
    if active in key.key_blocks:
        obj.active_shape_key_index = key.key_blocks.find(active)
    return removed


def _is_keyed(key: Any, name: str) -> bool:
    """Return whether a curve in our actions still has keys, which are the user's then."""
    for action, holder in actions.our_actions(key):
        bag = actions.channels(action, actions.slot_of(action, holder), ensure=False)
        curve = bag.fcurves.find(actions.path_of(name)) if bag is not None else None
        if curve is not None and np.abs(actions.read_keys(curve)[:, 1]).max(initial=0.0) > 1e-6:
            return True
    return False


def bag_of(key: Any, record: Clip, clip: str) -> Any | None:
    """Return what holds a clip's curves now, or None when its action is gone."""
    strip = actions.clip_strip(key, clip) if record.nla else None
    playing = actions.our_actions(key)
    playing.sort(key=lambda pair: pair[0].name != record.action)  # its own one first
    for action, holder in playing:
        if action == strip.action if strip is not None else not action[actions.OURS]:
            return actions.channels(action, actions.slot_of(action, holder), ensure=False)
    action = bpy.data.actions.get(record.action)
    if actions.is_ours(action):
        return actions.channels(action, actions.slot_of(action, None), ensure=False)
    return None


def within(keys: Any, record: Clip) -> Any:
    first, last = record.span
    return keys[(keys[:, 0] >= first - 1e-3) & (keys[:, 0] <= last + 1e-3)]
