# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a face with keys does not move: every cause we know, found, named and mended.

"It ran, keys exist, but nothing moves" is what users of lip-sync tools complain of most.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import bpy
import numpy as np

from .. import scenes
from ..character import detect, drivers, head
from ..errors import Finding
from . import actions as curves
from . import mapped, storage

if TYPE_CHECKING:
    from .clips import Applied

_CLOSE = 2e-3  # a weight counts as shown when it is this close
_LOOKED_AT = 3  # frames


def verify(obj: Any, applied: Applied, *, scene: Any = None) -> tuple[Finding, ...]:
    """Say why the clip would not be seen, causes with a fix first; empty when the head moves.

    Plays the strongest frames through Blender's own evaluation, then looks for the cause of every
    difference. The current frame is restored.
    """
    scene = scene or bpy.context.scene
    shown = scenes.scene_of(obj, scene) or scene  # the sequencer's scene may be another
    if detect.is_mapped(obj):
        known = storage.read(storage.holder(obj)).clips.get(applied.clip)
        gone = Finding("gone", f"{obj.name} no longer carries “{applied.clip}”.")
        return mapped.check(obj, known, shown)[1] if known else (gone,)
    key = obj.data.shape_keys
    record = storage.read(key).clips.get(applied.clip)
    if key is None or record is None:
        return (Finding("gone", f"{obj.name} no longer carries “{applied.clip}”."),)
    found = [*_object_reasons(obj, key, scenes.layer_of(shown, obj)), *_key_reasons(key, record)]
    found += [*_action_reasons(obj, key, record, applied.clip)]
    bag = _bag(key, record, applied.clip)
    found += _rivals(obj, key, record)
    if bag is not None:
        found += _curve_reasons(key, record, bag)
        if not any(finding.blocking for finding in found):
            found += _still_reasons(obj, record, bag, shown)
    if record.span[1] < scene.frame_start or record.span[0] > scene.frame_end:
        found.append(Finding(
            "out-of-range",
            f"The sound lies at frames {record.span[0]:.0f} to {record.span[1]:.0f}, outside the "
            "scene's playback range.",
            fix="extend-range",
            fix_label="Extend Playback Range",
        ))  # fmt: skip
    return tuple(found)


def fix(obj: Any, name: str, *, scene: Any = None) -> None:
    """Apply the fix a Finding names, for every clip on the head."""
    key = obj.data.shape_keys
    index = storage.read(storage.holder(obj))
    blocks = () if key is None else key.key_blocks
    names = {n for clip in index.clips.values() for n in clip.keys if n in blocks}
    actions = {
        "unmute-keys": _unmute_keys,
        "unpin": lambda *_: setattr(obj, "show_only_shape_key", False),
        "widen-sliders": _widen_sliders,
        "assign-action": _assign_action,
        "free-nla": _free_nla,
        "unmute-curves": _unmute_curves,
        "remove-drivers": _remove_drivers,
    }
    if name in actions:
        actions[name](key, index, names)
    elif name == "extend-range":
        scene = scene or bpy.context.scene
        spans = [clip.span for clip in index.clips.values()]
        scene.frame_start = min(scene.frame_start, *(int(span[0]) for span in spans))
        scene.frame_end = max(scene.frame_end, *(int(np.ceil(span[1])) for span in spans))
    elif name == "disable-cache":
        for modifier in _caches(obj):
            modifier.show_viewport = modifier.show_render = False
    elif name == "show-object":
        obj.hide_viewport = False
        obj.hide_set(False)
    elif name == "show-pose":
        rig = detect.armature_of(obj)
        if rig is not None:
            rig.data.pose_position = "POSE"
    else:
        head.fix(obj, name)
    if key is not None:
        key.update_tag()


# -- looking ----------------------------------------------------------------------------------


def _object_reasons(obj: Any, key: Any, layer: Any) -> list[Finding]:
    """Return what on the object keeps shape keys from being seen."""
    found = []
    if obj.show_only_shape_key:
        found.append(Finding("pinned", f"{obj.name} shows only its active shape key (the pin in "
                             "the Shape Keys panel).", "unpin", "Show All Shape Keys"))  # fmt: skip
    if not key.use_relative:
        found.append(Finding("absolute-keys", f"The shape keys of {obj.name} are absolute, so "
                             "their values are not used."))  # fmt: skip
    if _caches(obj):
        found.append(Finding("cache", f"A point cache on {obj.name} replaces what the shape keys "
                             "do.", "disable-cache", "Turn Cache Off"))  # fmt: skip
    if not (obj.visible_get(view_layer=layer) if layer is not None else obj.visible_get()):
        found.append(Finding("hidden", f"{obj.name} is hidden in the viewport.", "show-object",
                             "Show Head"))  # fmt: skip
    return found


def _caches(obj: Any) -> list[Any]:
    return [m for m in obj.modifiers if m.type in ("MESH_CACHE", "MESH_SEQUENCE_CACHE")
            and m.show_viewport]  # fmt: skip


def _key_reasons(key: Any, record: storage.Clip) -> list[Finding]:
    """Return what on the shape keys themselves keeps them still."""
    blocks = [key.key_blocks[name] for name in record.keys if name in key.key_blocks]
    found = []
    if len(blocks) < len(record.keys):
        gone = len(record.keys) - len(blocks)
        found.append(Finding("keys-gone", f"{gone} of {len(record.keys)} shape keys of this clip "
                             "were removed or renamed. Generate it again."))  # fmt: skip
    muted = [block.name for block in blocks if block.mute]
    if muted:
        found.append(Finding("keys-muted", f"{_some(muted)} muted in the Shape Keys panel.",
                             "unmute-keys", "Unmute Shape Keys"))  # fmt: skip
    masked = [block.name for block in blocks if block.vertex_group]
    if masked:
        found.append(Finding("keys-masked", f"{_some(masked)} limited to a vertex group.",
                             blocking=False))  # fmt: skip
    data = key.animation_data
    paths = {curves.path_of(block.name): block.name for block in blocks}
    driven = [
        paths[d.data_path]
        for d in (data.drivers if data else ())
        if d.data_path in paths and not drivers.is_ours(key, d.driver)
    ]
    if driven:
        found.append(Finding("driven", f"{_some(driven)} set by a driver, which wins over keys.",
                             "remove-drivers", "Remove These Drivers"))  # fmt: skip
    return found


def _action_reasons(obj: Any, key: Any, record: storage.Clip, clip: str) -> list[Finding]:
    """Return what keeps the clip's action from playing."""
    data, name = key.animation_data, obj.name
    if record.nla:
        return _nla_reasons(data, key, clip) if data else [Finding("no-strip", "Its NLA is gone.")]
    if (pushed := _pushed_down(key, record)) is not None:
        return _strip_reasons(data, pushed)
    if data is None or data.action is None:
        return [Finding("no-action", f"{name} plays no action.",
                        "assign-action", "Play Lip-Sync")]  # fmt: skip
    if not curves.is_ours(data.action):
        return [Finding("wrong-action", f"{name} plays “{data.action.name}” in place of the "
                        "lip-sync.", "assign-action", "Play Lip-Sync")]  # fmt: skip
    slot = getattr(data, "action_slot", None)
    if hasattr(data.action, "slots") and slot != curves.filled_slot(data.action):
        return [Finding("wrong-slot", f"{name} reads another slot of “{data.action.name}”.",
                        "assign-action", "Use Lip-Sync Slot")]  # fmt: skip
    alone = any(track.is_solo for track in data.nla_tracks)
    if alone or (data.use_nla and data.nla_tracks and data.action_influence < 1):
        return [Finding("nla", f"The animation layers (NLA) of {name} hold its action back.",
                        "free-nla", "Let It Play")]  # fmt: skip
    return []


def _nla_reasons(data: Any, key: Any, clip: str) -> list[Finding]:
    strip = curves.clip_strip(key, clip)
    if strip is None:
        return [Finding("no-strip", "The clip's NLA strip was removed.")]
    return _strip_reasons(data, strip)


def _pushed_down(key: Any, record: storage.Clip) -> Any | None:
    """Return the NLA strip from which a line's shared action plays, None where it is active."""
    for action, holder in curves.our_actions(key):
        if action.name == record.action and hasattr(holder, "action_frame_end"):
            return holder
    return None


def _strip_reasons(data: Any, strip: Any) -> list[Finding]:
    """Return what keeps an NLA strip from playing."""
    track = next(t for t in data.nla_tracks if any(s == strip for s in t.strips))
    alone = any(other.is_solo for other in data.nla_tracks) and not track.is_solo
    if not data.use_nla or track.mute or strip.mute or alone or _faint(strip):
        return [Finding("nla", f"The NLA track “{track.name}” is muted or another one is solo.",
                        "free-nla", "Let It Play")]  # fmt: skip
    return []


def _rivals(obj: Any, key: Any, record: storage.Clip) -> list[Finding]:
    """Return whose keys on the same channels play as well, and which of them are seen."""
    data = key.animation_data
    if data is None:
        return []
    mine = {curves.path_of(name) for name in record.keys if record.written.get(name)}
    found, ours_seen = [], False
    strips = [(track, strip) for track in data.nla_tracks for strip in track.strips]
    for track, strip in strips:
        if strip.action is None or curves.is_rest(strip.action) or track.mute or strip.mute:
            continue
        if curves.is_ours(strip.action):
            ours_seen = ours_seen or strip.action.name == record.action
            continue
        meets = strip.frame_start <= record.span[1] and strip.frame_end >= record.span[0]
        both = _shared(strip.action, strip, mine) if meets else []
        if both:
            found.append(_rivalry(obj, strip.action, both, ours_seen))
    if data.action is not None and not curves.is_ours(data.action):
        both = _shared(data.action, data, mine)
        if both:
            found.append(_rivalry(obj, data.action, both, True))
    return found


def _shared(action: Any, holder: Any, paths: set[str]) -> list[str]:
    """Return the shape keys among `paths` that an action of the user's has curves for too."""
    bag = curves.channels(action, curves.slot_of(action, holder), ensure=False)
    held = {curve.data_path for curve in bag.fcurves if not curve.mute} if bag is not None else ()
    return sorted(curves.key_in(path) for path in paths.intersection(held))


def _rivalry(obj: Any, action: Any, both: list[str], theirs: bool) -> Finding:
    """Say who is seen where an action of the user's and the lip-sync have the same channels."""
    if theirs:
        message = (
            f"Your action “{action.name}” has keys on {_list(both)} too and lies above the "
            f"lip-sync of {obj.name}, so yours are seen there. Mute those curves, or move its "
            "strip below."
        )
    else:
        message = (
            f"Your action “{action.name}” has keys on {_list(both)} too; the lip-sync of "
            f"{obj.name} lies above it and is seen. Nothing of yours was changed."
        )
    return Finding("rivals", message, blocking=theirs)


def _list(names: list[str]) -> str:
    more = len(names) - 2
    return ", ".join(names) if more <= 0 else f"{names[0]}, {names[1]} and {more} more"


def _curve_reasons(key: Any, record: storage.Clip, bag: Any) -> list[Finding]:
    """Return what on the curves keeps them from acting: mute, or a slider that clamps them."""
    muted, clamped, there = [], [], 0
    for name in record.keys:
        curve = bag.fcurves.find(curves.path_of(name))
        block = key.key_blocks.get(name)
        if curve is None or block is None:
            continue
        there += 1
        if curve.mute or (curve.group is not None and curve.group.mute):
            muted.append(name)
        values = curves.read_keys(curve)[:, 1]
        if values.size and (values.max() > block.slider_max + 1e-4
                            or values.min() < block.slider_min - 1e-4):  # fmt: skip
            clamped.append(name)
    found = []
    if not there:
        found.append(Finding("no-curves", "The clip's curves were removed. Generate it again."))
    if muted:
        found.append(Finding("curves-muted", f"The curves of {_some(muted)} muted.",
                             "unmute-curves", "Unmute Curves"))  # fmt: skip
    if clamped:
        found.append(Finding("slider-clamps", f"The slider range of {_some(clamped)} too small "
                             "for its keys, so Blender clamps them.",
                             "widen-sliders", "Widen Sliders"))  # fmt: skip
    return found


def _still_reasons(obj: Any, record: storage.Clip, bag: Any, scene: Any) -> list[Finding]:
    """Return why a head stands still that has nothing against it: play it and look."""
    key = obj.data.shape_keys
    if not _moves(key, record, bag, scene):
        return [Finding(
            "still",
            f"The keys of {obj.name} are there, but something else sets its shape keys. Look "
            "for drivers, other animation layers or add-ons that write them on each frame.",
        )]  # fmt: skip
    names = [modifier.name for modifier in obj.modifiers if modifier.show_viewport]
    if names and not _mesh_moves(obj, record, bag, scene):
        return [Finding(
            "flattened",
            f"The shape keys of {obj.name} move, but its mesh does not: one of its modifiers "
            f"({', '.join(names)}) puts another shape in its place.",
        )]  # fmt: skip
    return []


def _mesh_moves(obj: Any, record: storage.Clip, bag: Any, scene: Any) -> bool:
    """Return whether the mesh with its modifiers differs where the strongest key differs most."""
    layer = scenes.layer_of(scene, obj)
    peaks = _peaks(record, bag)
    if layer is None or not peaks:
        return True
    keys = curves.read_keys(peaks[0][3])
    rest = float(keys[int(np.abs(keys[:, 1]).argmin()), 0])
    with _time_kept(scene):
        shapes = [_evaluated(obj, layer, scene, when) for when in (rest, peaks[0][1])]
    return len(shapes[0]) != len(shapes[1]) or bool(np.abs(shapes[0] - shapes[1]).max() > 0)


def _evaluated(obj: Any, layer: Any, scene: Any, when: float) -> Any:
    """Return the vertices of the mesh as its modifiers leave it, at a frame of its animation."""
    _show(scene, when)
    mesh = obj.evaluated_get(layer.depsgraph).data
    points = np.empty(3 * len(mesh.vertices), np.float32)
    mesh.vertices.foreach_get("co", points)
    return points


def _show(scene: Any, when: float) -> None:
    """Go to the scene frame that shows a frame of the animation."""
    at = when / scenes.shown_frame(scene, 1.0)
    scene.frame_set(int(np.floor(at)), subframe=float(at - np.floor(at)))


@contextlib.contextmanager
def _time_kept(scene: Any) -> Iterator[None]:
    frame, subframe = scene.frame_current, scene.frame_subframe
    try:
        yield
    finally:
        scene.frame_set(frame, subframe=subframe)


def _peaks(record: storage.Clip, bag: Any) -> list[tuple[float, int, str, Any]]:
    """Return strength, frame, name and curve of each key where it is strongest, strongest first."""
    peaks = []
    for name in record.keys:
        curve = bag.fcurves.find(curves.path_of(name))
        if curve is not None and len(curve.keyframe_points):
            keys = curves.read_keys(curve)
            row = int(np.abs(keys[:, 1]).argmax())
            peaks.append((abs(float(keys[row, 1])), round(float(keys[row, 0])), name, curve))
    return sorted(peaks, key=lambda peak: -peak[0])


def _moves(key: Any, record: storage.Clip, bag: Any, scene: Any) -> bool:
    """Play the frames with the strongest keys and compare what Blender makes of them."""
    with _time_kept(scene):
        for _size, when, name, curve in _peaks(record, bag)[:_LOOKED_AT]:
            _show(scene, when)
            shown = key.key_blocks[name].value
            if abs(shown - curve.evaluate(when)) > _CLOSE:
                return False
    return True


def _bag(key: Any, record: storage.Clip, clip: str) -> Any | None:
    from .shape_keys import bag_of

    return bag_of(key, record, clip)


def _faint(strip: Any) -> bool:
    """Return whether someone has turned the strip's influence down (else Blender computes it)."""
    return bool(strip.use_animated_influence and strip.influence < 1)


def _some(names: list[str]) -> str:
    """Return "jawOpen is" or "jawOpen and 11 more shape keys are"."""
    more = len(names) - 1
    return f"{names[0]} is" if not more else f"{names[0]} and {more} more shape keys are"


# -- mending ----------------------------------------------------------------------------------


def _unmute_keys(key: Any, _index: Any, names: set[str]) -> None:
    for name in names:
        key.key_blocks[name].mute = False


def _widen_sliders(key: Any, index: Any, names: set[str]) -> None:
    for clip, record in index.clips.items():
        bag = _bag(key, record, clip)
        for name in names & set(record.keys):
            curve = bag.fcurves.find(curves.path_of(name)) if bag is not None else None
            if curve is None or not len(curve.keyframe_points):
                continue
            block, values = key.key_blocks[name], curves.read_keys(curve)[:, 1]
            block.slider_max = max(block.slider_max, min(float(values.max()), 10.0))
            block.slider_min = min(block.slider_min, max(float(values.min()), -10.0))


def _assign_action(key: Any, index: Any, _names: set[str]) -> None:
    """Let the key play our action again; the action it played is kept, with a fake user."""
    record = next((clip for clip in index.clips.values() if not clip.nla), None)
    action = bpy.data.actions.get(record.action) if record else None
    if not curves.is_ours(action):
        return
    data = key.animation_data or key.animation_data_create()
    if data.action is not None and data.action != action:
        data.action.use_fake_user = True
    data.action = action
    if hasattr(action, "slots"):
        data.action_slot = curves.filled_slot(action) or data.action_slot
    curves.assign(data, action)


def _free_nla(key: Any, index: Any, _names: set[str]) -> None:
    data = key.animation_data
    data.use_nla, data.action_influence = True, 1.0
    for track in data.nla_tracks:
        track.is_solo = False
    for clip in index.clips:
        strip = curves.clip_strip(key, clip)
        if strip is not None:
            strip.mute = strip.use_animated_influence = False
            for track in data.nla_tracks:
                if any(other == strip for other in track.strips):
                    track.mute = False


def _unmute_curves(key: Any, index: Any, names: set[str]) -> None:
    for clip, record in index.clips.items():
        bag = _bag(key, record, clip)
        for name in names & set(record.keys):
            curve = bag.fcurves.find(curves.path_of(name)) if bag is not None else None
            if curve is not None:
                curve.mute = False
                if curve.group is not None:
                    curve.group.mute = False


def _remove_drivers(key: Any, _index: Any, names: set[str]) -> None:
    paths = {curves.path_of(name) for name in names}
    for driver in [
        d
        for d in key.animation_data.drivers
        if d.data_path in paths and not drivers.is_ours(key, d.driver)
    ]:
        key.animation_data.drivers.remove(driver)
