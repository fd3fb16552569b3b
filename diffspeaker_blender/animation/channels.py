# SPDX-License-Identifier: GPL-3.0-or-later
"""Write a mapped character's channels: shape keys of many meshes, bones, custom properties.

`curves_of` turns what `Mapping.evaluate` returns, one value a frame for each place, into
`Channel` (datablock, data path, index) → values; `write` puts keys on them. Every datablock gets an
action of our own: its active one while it is free, else an NLA track beside the user's action.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import bpy
import numpy as np
from mathutils import Euler, Quaternion

from ..character import detect
from ..character.mapping import DRAWN, Place
from ..errors import HeadError
from ..motion.groups import GROUPS, OTHER
from . import actions, kept

_NONE = np.empty(0, np.float32)
_NOBODYS: Mapping[str, kept.Rows] = {}
GROUPED = {
    "jaw": GROUPS[0],
    "lips": GROUPS[1],
    "tongue": GROUPS[2],
    "lids": GROUPS[3],
    "eyes": GROUPS[3],
    "brows": GROUPS[4],
    "cheeks": GROUPS[4],
}
_OWNERS = "diffspeaker_owners"
"""On an action of ours: whom each slot was written for, by the slot's handle."""
MAPPED = "(mapped)"
"""Marks the actions of mapped characters: one on each datablock, for all lines together."""


@dataclass(frozen=True)
class Channel:
    """One F-curve's place."""

    owner: Any
    """The datablock (ID): a mesh's shape keys, an object, an armature's data."""
    path: str
    index: int = 0
    group: str = field(default="", compare=False)
    """Whose strength it belongs to, for the Graph Editor's groups."""

    @property
    def name(self) -> str:
        """Return a name for records: it survives undo and another file."""
        return f"{start_of(self.owner)}{self.path}|{self.index}"

    @property
    def jumps(self) -> bool:
        """Return whether it chooses a drawing: nothing lies between two of its values."""
        return self.group == DRAWN


def name_of(owner: Any) -> str:
    """Return a datablock's name, of a material's nodes the material's: they all share one name."""
    if owner.id_type == "NODETREE" and owner.is_embedded_data:
        users = (m.name for m in bpy.data.materials if m.node_tree == owner)
        return str(next(users, owner.name))
    return str(owner.name)


def start_of(owner: Any) -> str:
    """Return what the names of a datablock's channels begin with."""
    return f"{owner.id_type}|{name_of(owner)}|"


Bases = Mapping[str, Mapping[str, Sequence[float]]]


def curves_of(
    found: Iterable[tuple[Place, Any]], bases: Bases, groups: Mapping[Place, str] | None = None
) -> list[tuple[Channel, Any]]:
    """Return the F-curves that play values (F,) of places; places that are gone are left out.

    bases: bone → how it stands without us, `stand`. groups: place → whose strength it belongs to.
    """
    groups = groups or {}
    curves: list[tuple[Channel, Any]] = []
    turned: dict[tuple[str, str, str], dict[int, Any]] = {}
    for place, values in found:
        owner = bpy.data.objects.get(place.owner)
        if owner is None:
            continue
        if place.kind == "key":
            key = owner.data.shape_keys
            if key is not None and place.name in key.key_blocks:
                group = groups.get(place, "")
                curves.append((Channel(key, actions.path_of(place.name), 0, group), values))
        elif place.kind in ("property", "setting", "shown"):
            where = detect.setting(owner, place)
            if where is not None:
                curves.append((Channel(*where, 0, groups.get(place, "")), values))
        elif owner.type == "ARMATURE" and place.name in owner.pose.bones:
            turned.setdefault((place.owner, place.name, place.path), {})[place.index] = values
    for (name, bone, path), axes in turned.items():
        rig = bpy.data.objects[name]
        base = bases.get(bone) or stand(rig.pose.bones[bone])
        curves += _bone_curves(rig, bone, path, axes, base)
    return curves


def _bone_curves(
    rig: Any, name: str, path: str, axes: dict[int, Any], base: Mapping[str, Sequence[float]]
) -> list[tuple[Channel, Any]]:
    """Return the curves of one bone in its own rotation mode, from moves or turns by axis."""
    bone = rig.pose.bones[name]
    start = f'pose.bones["{bpy.utils.escape_identifier(name)}"]'
    count = len(next(iter(axes.values())))
    table = np.zeros((count, 3))
    for axis, values in axes.items():
        table[:, axis] = values
    if path != "rotation":
        moved = table + np.array(base[path])
        return [(Channel(rig, f"{start}.{path}", k), moved[:, k]) for k in range(3)]
    return [
        (Channel(rig, f"{start}.{word}", k), column)
        for word, rows in [turns(table, Quaternion(base["rotation"]), bone.rotation_mode)]
        for k, column in enumerate(rows.T)
    ]


def turns(angles: Any, base: Any, mode: str) -> tuple[str, Any]:
    """Return the property's name and rows (F, 3 or 4) of turns about a bone's own axes.

    angles: (F, 3) radians about X, Y, Z, after the rotation `base`.
    """
    rows = []
    former: Any = None
    for x, y, z in np.asarray(angles, np.float64):
        turned = base @ Euler((x, y, z), "XYZ").to_quaternion()
        if mode == "QUATERNION":
            if former is not None and turned.dot(former) < 0:
                turned.negate()
            former = turned
            rows.append(tuple(turned))
        elif mode == "AXIS_ANGLE":
            axis, angle = turned.to_axis_angle()
            rows.append((angle, *axis))
        else:
            former = turned.to_euler(mode, former) if former else turned.to_euler(mode)
            rows.append(tuple(former))
    word = {"QUATERNION": "quaternion", "AXIS_ANGLE": "axis_angle"}.get(mode, "euler")
    return f"rotation_{word}", np.array(rows)


def stand(bone: Any) -> dict[str, Any]:
    """Return how a pose bone stands now."""
    if bone.rotation_mode == "QUATERNION":
        turned = bone.rotation_quaternion
    elif bone.rotation_mode == "AXIS_ANGLE":
        turned = Quaternion(bone.rotation_axis_angle[1:], bone.rotation_axis_angle[0])
    else:
        turned = bone.rotation_euler.to_quaternion()
    return {"rotation": list(turned), "location": list(bone.location), "scale": list(bone.scale)}


# -- writing ----------------------------------------------------------------------------------


def write(
    curves: list[tuple[Channel, Any]],
    *,
    name: str,
    nla: bool,
    former: Iterable[Any] = (),
    ours: Iterable[str] = (),
    theirs: Mapping[str, kept.Rows] = _NOBODYS,
) -> list[str]:
    """Put keys (n, 3) on channels, as `motion.sparse` has them; return the names of the actions.

    What of ours was there before is replaced, on datablocks that have no curve any more (`former`)
    it is taken away. nla: on an NLA track even where a datablock has no action of its own.
    ours: channels, by name, that we wrote before; whatever else was keyed since in our actions is
    the user's and stays where it is. theirs: keys of the user's, by channel, that stand beside ours
    on the same curves.
    Raises HeadError, before anything is changed, where a datablock cannot be animated.
    """
    owners = list(dict.fromkeys(channel.owner for channel, _ in curves))
    linked = next((owner for owner in owners if owner.library is not None), None)
    if linked is not None:
        raise HeadError(
            f"{linked.name} is linked from another file, so it cannot be animated here.",
            "Make a library override of the character (Object > Library Override > Make).",
        )
    known = {*ours, *(channel.name for channel, _ in curves)}
    for owner in dict.fromkeys((*former, *owners)):
        clear(owner, known)
    found: list[str] = []
    shared: Any = next((a for owner in owners for a, _ in _mine(owner)), None)
    for owner in owners:
        mine = [pair for pair in curves if pair[0].owner == owner]
        shared = _write_owner(owner, mine, shared, (f"{name} Lip-Sync", nla), theirs)
        found.append(str(shared.name))
    return list(dict.fromkeys(found))


def _write_owner(
    owner: Any,
    curves: list[tuple[Channel, Any]],
    shared: Any,
    form: tuple[str, bool],
    theirs: Mapping[str, kept.Rows],
) -> Any:
    """Write one datablock's curves: in a slot of the shared action where actions have slots.

    form: what a new action is called, and whether it goes on an NLA track.
    """
    data, (name, nla) = owner.animation_data or owner.animation_data_create(), form
    there = next(iter(_mine(owner)), None)
    if there is not None:  # the user has keyed something else in it
        own, slot = there[0], actions.slot_of(*there)
    elif shared is not None and hasattr(shared, "slots"):
        own = shared
        slot = own.slots.new(id_type=owner.id_type, name=owner.name)
    else:
        own = actions.new_action(owner, name, MAPPED)
        slot = own.slots[0] if hasattr(own, "slots") else None
    bag: Any = actions.channels(own, slot)
    for channel, keys in curves:
        curve = bag.fcurves.new(channel.path, index=channel.index)
        curve.group = actions.group_in(bag, GROUPED.get(channel.group, OTHER))
        others = theirs.get(channel.name, np.empty((0, kept.WIDTH)))
        beside = others[:, 0].astype(np.float32)
        actions.fill(curve, actions.columns_of(np.asarray(keys, np.float32), beside))
        if len(others):
            kept.put(curve, others)
    if there is not None and there[1] == data:
        pass
    elif data.action is None and not nla:
        data.action = own
        if slot is not None:
            data.action_slot = slot
    else:
        first, last = (float(edge) for edge in own.frame_range)
        stands = {channel.path: float(keys[0, 1]) for channel, keys in curves if len(keys)}
        actions.place_strip(owner, MAPPED, own, first, max(last, first + 1.0), stands)
        strip = actions.clip_strip(owner, MAPPED)
        if slot is not None and strip is not None:
            strip.action_slot = slot
        if strip is not None and any(channel.jumps for channel, _ in curves):
            strip.extrapolation = "HOLD"  # beside a strip Blender takes 0, which is no drawing
    _sign(own, slot, owner)
    owner.update_tag()
    return own


def _sign(action: Any, slot: Any, owner: Any) -> None:
    """Note whom a slot is written for: a copy or a new name is told by that."""
    signed = json.loads(action.get(_OWNERS, "{}"))
    signed[str(slot.handle) if slot is not None else ""] = start_of(owner)
    action[_OWNERS] = json.dumps(signed)


def sign(owners: Iterable[Any]) -> None:
    """Note whom our curves on datablocks are for, as they are called now."""
    for owner in owners:
        for action, holder in _mine(owner):
            _sign(action, actions.slot_of(action, holder), owner)


def renamed(owners: Iterable[Any]) -> dict[str, str]:
    """Return how the names of channels began that began differently when they were written."""
    found = {}
    for owner in owners:
        for action, holder in _mine(owner):
            slot = actions.slot_of(action, holder)
            signed = json.loads(action.get(_OWNERS, "{}"))
            was = signed.get(str(slot.handle) if slot is not None else "", start_of(owner))
            if was != start_of(owner):
                found[was] = start_of(owner)
    return found


def widen(curves: Iterable[tuple[Channel, Any]]) -> dict[str, list[float]]:
    """Let shape keys' sliders reach every key (n, 3): Blender clamps animated values to them.

    Return the least and the most of each that was widened, before and since, by the channel's name.
    """
    found = {}
    for channel, keys in curves:
        name = actions.key_in(channel.path)
        if channel.owner.id_type != "KEY" or not name or not len(keys):
            continue
        block = channel.owner.key_blocks[name]
        least, most = float(keys[:, 1].min()), float(keys[:, 1].max())
        if most > block.slider_max or least < block.slider_min:
            before = [block.slider_min, block.slider_max]
            block.slider_max = max(block.slider_max, min(most, 10.0))
            block.slider_min = min(block.slider_min, max(least, -10.0))
            found[channel.name] = [*before, block.slider_min, block.slider_max]
    return found


def narrow(channel: Channel, bounds: Sequence[float]) -> None:
    """Give a shape key's slider back the range it had before `widen`, unless it has another now."""
    block = channel.owner.key_blocks[actions.key_in(channel.path)]
    if [block.slider_min, block.slider_max] == list(bounds[2:]):
        block.slider_min, block.slider_max = bounds[:2]


def _mine(owner: Any) -> list[tuple[Any, Any]]:
    """Return our (action, holder) of a mapped character on a datablock."""
    return [pair for pair in actions.our_actions(owner) if pair[0][actions.OURS] == MAPPED]


def clear(owner: Any, ours: set[str]) -> None:
    """Take our curves of a mapped character off a datablock, and their action with the last.

    ours: names of our channels; whatever else is in our action, the user keyed. Actions of the
    user's stay.
    """
    data = owner.animation_data
    if data is None:
        return
    left = False
    for bag in list(bags(owner)):
        for curve in list(bag.fcurves):
            if Channel(owner, curve.data_path, curve.array_index).name in ours:
                bag.fcurves.remove(curve)
        left = left or len(bag.fcurves) > 0
    if left:
        return
    mine = [action for action, _ in actions.our_actions(owner) if action[actions.OURS] == MAPPED]
    if data.action is not None and data.action in mine:
        data.action = None
    actions.remove_strip(owner, MAPPED)
    for action in mine:
        if not action.users:
            bpy.data.actions.remove(action)


def bags(owner: Any) -> Iterable[Any]:
    """Yield what holds our curves on a datablock."""
    for action, holder in actions.our_actions(owner):
        bag = actions.channels(action, actions.slot_of(action, holder), ensure=False)
        if action[actions.OURS] == MAPPED and bag is not None:
            yield bag


def written(owner: Any) -> list[str]:
    """Return the channels of a datablock that our curves animate, by `Channel.name`."""
    return [
        Channel(owner, curve.data_path, curve.array_index).name
        for bag in bags(owner)
        for curve in bag.fcurves
    ]


def bones_of(rig: Any) -> set[str]:
    """Return the paths of an armature's pose bones, and of what they hold, that we animate."""
    paths = (curve.data_path for bag in bags(rig) for curve in bag.fcurves)
    return {path.rpartition(".")[0] or path for path in paths if path.startswith("pose.bones")}


def set_value(channel: Channel, value: float) -> None:
    """Set a channel to a value by hand, as a test pose does."""
    target, attribute = channel.path, ""
    if target.endswith('"]') and "key_blocks" not in target:
        head, _, name = target.rpartition('["')
        holder = channel.owner.path_resolve(head) if head else channel.owner
        held = bpy.utils.unescape_identifier(name[:-2])
        kind = type(holder[held])
        holder[held] = kind(value) if kind in (int, bool) else float(value)
        return
    target, _, attribute = channel.path.rpartition(".")
    holder = channel.owner.path_resolve(target) if target else channel.owner
    found = getattr(holder, attribute)
    if hasattr(found, "__len__"):
        found[channel.index] = value
    else:
        setattr(holder, attribute, type(found)(round(value)) if isinstance(found, int) else value)


def value_of(channel: Channel) -> float:
    """Return what a channel is now."""
    found = channel.owner.path_resolve(channel.path)
    return float(found[channel.index]) if hasattr(found, "__len__") else float(found)
