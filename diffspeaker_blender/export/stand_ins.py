# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for export: copies of a head and its parts whose shape keys play plain, dense curves.

What animates the original (actions, NLA strips, drivers, another object's keys) is reduced to one
curve a shape key, so every exporter finds the same thing. The copies bear the originals' names
while they exist; afterwards the file is as it was.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import bpy
import numpy as np
from numpy.typing import NDArray

from ..animation import actions, storage
from ..character import detect, drivers
from ..sound.strips import scene_curves

_STILL = 1e-6


@dataclass(frozen=True)
class Baked:
    """The values of one mesh's shape keys over the exported frames."""

    object_name: str
    names: tuple[str, ...]
    """(K,) every shape key but the Basis."""
    values: NDArray[np.float32]
    """(F, K)."""

    @property
    def moving(self) -> NDArray[np.bool_]:
        """Return which shape keys change (K,)."""
        return np.asarray(np.ptp(self.values, axis=0) > _STILL)


def family(objects: list[Any]) -> tuple[list[Any], list[str]]:
    """Return the heads, the meshes that hang on them, and the armatures that move them.

    And the names of parts that were left out: those hidden both in the viewport and in renders. A
    head itself is never left out, nor is a part that is only locked, or hidden while one works.
    """
    found: dict[str, Any] = {}
    left_out: list[str] = []
    for obj in _whole(objects):
        for member in [obj, *obj.children_recursive]:
            if member.type == "MESH":
                if member is not obj and _is_helper(member):
                    left_out.append(member.name)
                    continue
                found[member.name] = member
                for modifier in member.modifiers:
                    if modifier.type == "ARMATURE" and modifier.object is not None:
                        found[modifier.object.name] = modifier.object
        parent = obj.parent
        while parent is not None:
            if parent.type in ("ARMATURE", "EMPTY"):
                found[parent.name] = parent
            parent = parent.parent
    return list(found.values()), left_out


def _whole(objects: list[Any]) -> list[Any]:
    """Return the objects, and of mapped characters all meshes beside the face."""
    found: list[Any] = []
    for obj in objects:
        mapping = detect.read_mapping(obj)
        spoken = {place.owner for place in mapping.places()} if mapping is not None else set()
        meshes = detect.members(obj) if mapping is not None else []
        inside = [o for o in meshes if o.name in spoken or detect.armature_of(o) is not None]
        found += [obj, *inside]
    return list(dict.fromkeys(found))


def _is_helper(part: Any) -> bool:
    """Return whether neither viewport nor render ever shows a part."""
    if not part.hide_render or _hiding_curves(part):
        return False
    try:
        return bool(part.hide_viewport or part.hide_get())
    except RuntimeError:  # it is in no collection of this view layer
        return bool(part.hide_viewport)


def frame_range(objects: list[Any], scene: Any) -> tuple[int, int]:
    """Return the frames to export: those of the heads' clips with their way back to rest.

    Without a clip, what the shape keys' curves span; without curves, the scene's range.
    """
    clips = [c for o in objects for c in storage.read(storage.holder(o)).clips.values()]
    if clips:
        first = min(clip.span[0] for clip in clips)
        return int(first), int(np.ceil(max(clip.span[1] + clip.ease for clip in clips)))
    spans = [
        keys[[0, -1], 0]
        for obj in objects
        for curve in _curves(_key(obj)).values()
        if len(keys := actions.read_keys(curve))
    ]
    if spans:
        return int(np.floor(min(s[0] for s in spans))), int(np.ceil(max(s[1] for s in spans)))
    return scene.frame_start, scene.frame_end


def bake(objects: list[Any], scene: Any, first: int, last: int) -> list[Baked]:
    """Return the shape keys' values at each whole frame, as the scene would show them.

    Plain actions, and parts driven by a plain key, are evaluated directly; anything else is played.
    """
    frames = np.arange(first, last + 1)
    keys = {o: key for o in objects if (key := _key(o)) is not None}
    known: dict[Any, dict[str, NDArray[np.float32]]] = {}
    for _again in range(2):  # a part may come before the head that drives it
        for key in keys.values():
            if key not in known and (plain := _plain_values(key, frames, known)) is not None:
                known[key] = plain
    rest = [key for key in keys.values() if key not in known]
    known.update(_played(rest, scene, frames) if rest else {})
    baked = []
    for obj, key in keys.items():
        names = tuple(block.name for block in key.key_blocks[1:])
        columns = [known[key][name] for name in names]
        values = np.stack(columns, 1) if columns else np.empty((len(frames), 0))
        baked.append(Baked(obj.name, names, np.asarray(values, np.float32)))
    return baked


def _key(obj: Any) -> Any | None:
    return obj.data.shape_keys if obj.type == "MESH" else None


def _curves(key: Any | None) -> dict[str, Any]:
    """Return data path → F-curve of the key's active action."""
    data = key.animation_data if key is not None else None
    if data is None or data.action is None:
        return {}
    bag = actions.channels(data.action, actions.slot_of(data.action, data), ensure=False)
    return {curve.data_path: curve for curve in bag.fcurves} if bag is not None else {}


def _plain_values(
    key: Any, frames: NDArray[Any], known: dict[Any, dict[str, NDArray[np.float32]]]
) -> dict[str, NDArray[np.float32]] | None:
    """Return name → values (F,) where no playing is needed, else None."""
    data = key.animation_data
    if data is not None and (len(data.nla_tracks) or data.action_influence < 1):
        return None
    driven = {driver.data_path: driver for driver in data.drivers} if data else {}
    playing = _curves(key)
    values: dict[str, NDArray[np.float32]] = {}
    # Formulas come last: they read the values of the others.
    blocks = sorted(key.key_blocks[1:], key=lambda block: actions.path_of(block.name) in driven)
    for block in blocks:
        path = actions.path_of(block.name)
        if path in driven:
            followed = _followed(driven[path], known)
            if followed is None:
                followed = drivers.shown(key, driven[path].driver, values, len(frames))
            if followed is None:
                return None
            shown = followed
        elif path in playing and not playing[path].mute:
            shown = _evaluated(playing[path], frames)
        else:
            shown = np.full(len(frames), block.value)
        shown = np.clip(shown, block.slider_min, block.slider_max)
        values[block.name] = np.asarray(0 * shown if block.mute else shown, np.float32)
    return {block.name: values[block.name] for block in key.key_blocks[1:]}


def _evaluated(curve: Any, frames: NDArray[Any]) -> NDArray[Any]:
    """Return a curve's values; ours have a straight line from key to key, quick to draw."""
    keys = actions.read_keys(curve)
    kinds = np.empty(len(keys), np.int32)
    curve.keyframe_points.foreach_get("interpolation", kinds)
    held = curve.extrapolation == "CONSTANT" and not len(curve.modifiers)
    if held and np.all(kinds[:-1] == actions.LINEAR):
        return np.asarray(np.interp(frames, keys[:, 0], keys[:, 1]))
    return np.array([curve.evaluate(int(frame)) for frame in frames])


def _followed(
    driver: Any, known: dict[Any, dict[str, NDArray[np.float32]]]
) -> NDArray[np.float32] | None:
    """Return the values of a driver that just repeats another shape key, else None."""
    script = driver.driver
    if script.type not in ("SUM", "AVERAGE") or len(script.variables) != 1:
        return None
    if not all(_is_identity(modifier) for modifier in driver.modifiers):
        return None
    variable = script.variables[0]
    target = variable.targets[0]
    source = known.get(target.id) if variable.type == "SINGLE_PROP" else None
    for name, values in (source or {}).items():
        if target.data_path == actions.path_of(name):
            return values
    return None


def _is_identity(modifier: Any) -> bool:
    """Return whether a driver's modifier changes nothing: Blender 4.x gives each one like that."""
    return bool(
        modifier.type == "GENERATOR"
        and modifier.mode == "POLYNOMIAL"
        and not modifier.use_additive
        and list(modifier.coefficients) == [0.0, 1.0]
    )


def _played(
    keys: list[Any], scene: Any, frames: NDArray[Any]
) -> dict[Any, dict[str, NDArray[np.float32]]]:
    """Step through the frames and read what Blender's evaluation puts into the keys."""
    rows = {key: np.empty((len(frames), len(key.key_blocks)), np.float32) for key in keys}
    now, part = scene.frame_current, scene.frame_subframe
    for row, frame in enumerate(frames):
        scene.frame_set(int(frame))
        for key, values in rows.items():
            key.key_blocks.foreach_get("value", values[row])
    scene.frame_set(now, subframe=part)
    return {
        key: {block.name: values[:, k] for k, block in enumerate(key.key_blocks)}
        for key, values in rows.items()
    }


def split_negative(baked: Baked) -> tuple[Baked, list[str]]:
    """Return the same with "NAME.minus" for every key that goes below zero, and those names."""
    negative = np.flatnonzero(baked.values.min(0, initial=0.0) < -_STILL)
    names = [baked.names[k] for k in negative]
    values = np.concatenate(
        [np.maximum(baked.values, 0), np.maximum(-baked.values[:, negative], 0)], 1
    )
    return Baked(baked.object_name, (*baked.names, *(f"{n}.minus" for n in names)), values), names


@contextlib.contextmanager
def stand_ins(
    objects: list[Any],
    baked: list[Baked],
    first: int,
    mirrored: dict[str, list[str]],
    *,
    posed: bool = True,
) -> Iterator[list[Any]]:
    """Put copies of the objects, playing the baked values from frame `first`, in their place.

    mirrored: object name → keys that get a mirror image "NAME.minus". posed: let Blender mix the
    shapes on every frame; False for exporters that only read shapes and values, and then wait for
    nothing. The copies are selected, the first is active; all of it is undone on leaving.
    """
    by_name = {one.object_name: one for one in baked}
    twins: dict[Any, Any] = {}
    names: list[tuple[Any, str]] = []
    made: list[Any] = []
    try:
        for obj in objects:
            if obj.type != "MESH":
                twins[obj] = obj
                continue
            twin = obj.copy()
            twins[obj] = twin
            if obj.name in by_name:
                twin.data = obj.data.copy()
                made.append(twin.data)
                _rebake(twin, by_name[obj.name], first, mirrored.get(obj.name, []), made)
                twin.show_only_shape_key = not posed  # its active key is the Basis
                names.append((obj.data, obj.data.name))
            names.append((obj, obj.name))
            bpy.context.scene.collection.objects.link(twin)
        for obj, twin in twins.items():
            if twin is not obj and obj.parent in twins:
                twin.parent = twins[obj.parent]
                twin.matrix_parent_inverse = obj.matrix_parent_inverse
        for owner, name in names:
            owner.name = f"{name[:50]}.original"
        for obj, twin in twins.items():
            if twin is not obj:
                twin.name = next(name for owner, name in names if owner == obj)
                if twin.data != obj.data:
                    twin.data.name = next(name for owner, name in names if owner == obj.data)
        originals = [obj for obj in twins if obj.type == "MESH"]
        shown = list(twins.values())
        with (
            _shown(shown, [obj for obj in twins if obj.type != "MESH"]),
            _selected(shown),
            _hidden(originals),
        ):
            yield shown
    finally:
        for obj, twin in twins.items():
            if twin is not obj:
                bpy.data.objects.remove(twin)
        for data in made:
            (bpy.data.actions if isinstance(data, bpy.types.Action) else bpy.data.meshes).remove(
                data
            )
        for owner, name in names:
            owner.name = name
        bpy.context.view_layer.update()  # its list of objects still holds the removed ones


def _rebake(twin: Any, baked: Baked, first: int, mirrored: list[str], made: list[Any]) -> None:
    """Let a copy's shape keys play baked values and nothing else."""
    key = twin.data.shape_keys
    key.animation_data_clear()
    basis = np.empty(3 * len(twin.data.vertices), np.float32)
    key.reference_key.points.foreach_get("co", basis)
    for name in mirrored:
        points = np.empty_like(basis)
        key.key_blocks[name].points.foreach_get("co", points)
        minus = twin.shape_key_add(name=f"{name}.minus", from_mix=False)
        minus.value = 0.0
        minus.points.foreach_set("co", 2 * basis - points)
    for block in list(key.key_blocks[1:]):
        if block.name not in baked.names:  # left out of the file
            twin.shape_key_remove(block)
    twin.active_shape_key_index = 0
    for block in key.key_blocks:
        block.mute = False
    if not baked.moving.any():
        return
    action = actions.new_action(key, "Lip-Sync")
    made.insert(0, action)
    actions.assign(key.animation_data_create(), action)
    bag = actions.channels(action, actions.slot_of(action, key.animation_data))
    frames = first + np.arange(len(baked.values))
    for k, name in enumerate(baked.names):
        block = key.key_blocks[name]
        column = baked.values[:, k]
        block.slider_max = max(block.slider_max, float(column.max()))
        block.slider_min = min(block.slider_min, float(column.min()))
        block.value = float(column[0])
        if baked.moving[k]:
            straight = np.full(len(column), np.nan)
            keys = np.stack([frames, column, straight], 1).astype(np.float32)
            actions.write_keys(bag, name, keys, [], [])


_HIDING = ("hide_select", "hide_viewport", "hide_render")


@contextlib.contextmanager
def _shown(objects: list[Any], keep: list[Any]) -> Iterator[None]:
    """Let nothing hide or lock these objects for the moment: exporters leave out what is.

    Whatever collections they are kept in, and whatever animates their visibility. Only what is in
    `keep` (armatures and empties, which have no copy) is put back.
    """
    layer, home = bpy.context.view_layer, bpy.context.scene.collection
    here = {obj.name for obj in home.objects}
    linked = [obj for obj in objects if obj.name not in here]
    for obj in linked:
        home.objects.link(obj)
    layer.update()
    before = [(obj, obj.hide_get(), [getattr(obj, name) for name in _HIDING]) for obj in keep]
    hiding = [curve for obj in objects for curve in _hiding_curves(obj)]
    for curve in hiding:
        curve.mute = True
    for obj in objects:
        for name in _HIDING:
            setattr(obj, name, False)
        obj.hide_set(False)
    try:
        yield
    finally:
        for curve in hiding:
            curve.mute = False
        for obj, eye, values in before:
            for name, value in zip(_HIDING, values, strict=True):
                setattr(obj, name, value)
            obj.hide_set(eye)
        for obj in linked:
            home.objects.unlink(obj)


def _hiding_curves(obj: Any) -> list[Any]:
    """Return the curves and drivers that animate whether an object is seen."""
    data = obj.animation_data
    if data is None:
        return []
    strips = [strip.action for track in data.nla_tracks for strip in track.strips]
    curves = [curve for action in (data.action, *strips) for curve in scene_curves(action)]
    return [c for c in (*data.drivers, *curves) if c.data_path in _HIDING and not c.mute]


@contextlib.contextmanager
def _hidden(objects: list[Any]) -> Iterator[None]:
    """Keep the originals from being evaluated on every frame for nothing."""
    shown = [obj for obj in objects if not obj.hide_viewport]
    for obj in shown:
        obj.hide_viewport = True
    try:
        yield
    finally:
        for obj in shown:
            obj.hide_viewport = False
        bpy.context.view_layer.update()


@contextlib.contextmanager
def _selected(objects: list[Any]) -> Iterator[None]:
    """Select exactly these objects, the first one active, for the moment."""
    layer = bpy.context.view_layer
    active, chosen = layer.objects.active, [o for o in layer.objects if o.select_get()]
    for obj in chosen:
        obj.select_set(False)
    for obj in objects:
        with contextlib.suppress(RuntimeError):  # an armature outside this view layer
            obj.select_set(True)
    layer.objects.active = objects[0]
    try:
        yield
    finally:
        for obj in layer.objects:
            obj.select_set(obj in chosen)
        layer.objects.active = active
