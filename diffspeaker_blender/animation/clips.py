# SPDX-License-Identifier: GPL-3.0-or-later
"""Motion → shape keys and F-curves, changed and taken away again without touching the user's own.

A head may carry several lines (*clips*), each on its place of the timeline, each with its takes. A
line owns the frames of its sound and shares shape keys with the others; what we made is listed in
the index in `storage`. What was edited by hand is found before anything is written, and lies over
what is written then.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import bpy

from ..character import detect, head
from ..errors import Finding, HeadError, MotionError
from ..motion.edits import Edits
from ..motion.keys import Shaped, mode_for, with_parts
from ..motion.motion import Adjustments, Motion, scene_frames
from ..sound.sources import scene_fps
from . import actions, edits, kept, mapped, shape_keys, storage, takes
from .storage import Clip, Index, Source
from .takes import Spoken

__all__ = [
    "Applied",
    "Spoken",
    "adjust_clip",
    "apply_motion",
    "clips",
    "drop_edits",
    "edited",
    "followed",
    "layer_of",
    "load_stored",
    "place_clip",
    "remove_motion",
    "show_take",
    "stored_clip",
]

MODES = ("named", "exact", "compact", "every frame")
NAMELESS = "Lip-Sync"
"""Clip name where none is given."""


@dataclass(frozen=True)
class Applied:
    """What was written, as names so that it survives undo and another file."""

    object_name: str
    clip: str
    action_name: str
    keys: tuple[str, ...]
    """Shape keys that the clip drives."""
    frames: tuple[int, int]
    """First and last scene frame with keys, rest keys not counted."""
    keyframes: int
    millimetres: float
    """How far the mouth moves at most."""
    findings: tuple[Finding, ...] = ()
    """Remarks; whether it really moves is for `diagnosis.verify` to say."""

    drawings: int | None = None
    """How often the drawing of a drawn mouth changes."""

    def sentence(self) -> str:
        """Return "Mouth moved 14.2 mm over 212 frames", or how often its drawing changed."""
        count = self.frames[1] - self.frames[0] + 1
        if self.drawings is not None:
            return f"Mouth drawing changed {self.drawings} times over {count} frames"
        return f"Mouth moved {self.millimetres:.1f} mm over {count} frames"


# -- the three verbs --------------------------------------------------------------------------


def apply_motion(
    obj: Any,
    motion: Motion,
    *,
    mode: str = "named",
    action_name: str = "",
    start_frame: float = 1.0,
    nla: bool = False,
    clip: str = "",
    scene: Any = None,
    tolerance: float = 0.0,
    adjustments: Adjustments | None = None,
    reuse: bool = False,
    shaped: Shaped | None = None,
    spoken: Spoken | None = None,
) -> Applied:
    """Write a motion on a head as the take that a line shows; everything else stays.

    A line of the name `clip` gets another take; its live controls and hand edits stay.

    mode: "named" (controls, and correctives that they drive), "exact" (the same with a key on
        every frame, and details), "compact" (as few as hold 0.05 mm) or "every frame"; it is
        "named" where teeth or a tongue follow the named keys, and the result says so.
    start_frame: scene frame, whole or not, of the sound's first sample.
    tolerance: millimetres that the lips may stray for few keys; 0 keeps a key for every frame.
    nla: give the clip an action of its own on an NLA track.
    adjustments: live controls; None for those that the line has, or as generated.
    reuse: drive shape keys that the user already has under our names, instead of making others.
    shaped: what `shaping.shape` made of the motion in a thread, to save the time here.
    spoken: how the take came about.
    Raises HeadError and MotionError, both before anything is changed.
    """
    scene, clip, spoken = scene or bpy.context.scene, clip or NAMELESS, spoken or Spoken()
    if detect.is_mapped(obj):
        live = vars(adjustments).copy() if adjustments is not None else {}
        record = Clip(float(start_frame), "named", float(tolerance), nla=nla, adjustments=live)
        return _of_mapped(obj, mapped.apply(obj, motion, record, clip, scene, spoken))
    _require(obj, motion, mode)
    key = _key_of(obj)
    motion = with_parts(motion, key.key_blocks)
    asked, parts = mode, followed(obj)
    mode = mode_for(asked, motion.names, parts)
    actions.unshare(key)
    index = storage.read(key)
    former = index.clips.get(clip)
    index.made_basis |= not len(index.keys) and len(key.key_blocks) == 1 and former is None
    record = former or Clip(float(start_frame), mode, float(tolerance), nla=nla)
    if former is not None:
        _keep_edits(obj, index, clip, scene)
        _note_kept(key, index, motion.names)
        if former.nla != nla:
            shape_keys.erase(key, index, clip)
            record.keys, record.nla = [], nla
    record.start_frame, record.mode = float(start_frame), mode
    record.tolerance, record.speed, record.cut = float(tolerance), 1.0, None
    record.source = spoken.source or record.source
    if adjustments is not None or former is None:
        record.adjustments = vars(adjustments or Adjustments()).copy()
    index.clips[clip] = record
    takes.add(key, index, record, motion, spoken)
    options = {"reuse": reuse, "shaped": shaped}
    written = _show(obj, index, clip, motion, scene, action_name, above=True, **options)
    applied = _applied(obj, clip, record, written)
    return applied if mode == asked else replace(applied, findings=(_named_instead(parts, asked),))


def adjust_clip(obj: Any, clip: str, adjustments: Adjustments, *, scene: Any = None) -> None:
    """Show a line with other live controls, from its stored motion. Raises HeadError, MotionError.

    What was edited by hand stays, and is scaled with the rest; keys without a meaning of their own
    (compact ones) that were edited are left alone.
    """
    if detect.is_mapped(obj):
        _again(obj, clip, scene, adjustments=vars(adjustments).copy())
        return
    key = obj.data.shape_keys
    index = storage.read(key)
    if clip in index.clips and edits.scale(key, index, clip, adjustments):
        storage.write(key, index)
    else:
        _again(obj, clip, scene, adjustments=vars(adjustments).copy())


def show_take(obj: Any, clip: str, place: int, *, scene: Any = None) -> Applied:
    """Show another take of a line, with its own hand edits. Raises HeadError, MotionError."""
    return _again(obj, clip, scene, shown=place)


def place_clip(
    obj: Any,
    clip: str,
    *,
    start_frame: float,
    speed: float,
    cut: tuple[float, float] | None,
    source: Source,
    scene: Any = None,
) -> Applied:
    """Move a line to where its sound is now, played at another speed, shown on `cut` alone.

    Raises HeadError, MotionError.
    """
    heard = None if cut is None else list(cut)
    return _again(
        obj, clip, scene, above=True, start_frame=start_frame, speed=speed, cut=heard, source=source
    )


def drop_edits(obj: Any, clip: str, *, scene: Any = None) -> Applied:
    """Show a line as it was generated, without hand edits. Raises HeadError, MotionError."""
    return _again(obj, clip, scene, bare=True)


def _again(
    obj: Any, clip: str, scene: Any, *, bare: bool = False, above: bool = False, **changes: Any
) -> Applied:
    """Write a line again with some of its record changed; hand edits stay unless `bare`."""
    if detect.is_mapped(obj):
        scene = scene or bpy.context.scene
        return _of_mapped(obj, mapped.again(obj, clip, scene, bare=bare, above=above, **changes))
    key, scene = obj.data.shape_keys, scene or bpy.context.scene
    index = storage.read(key)
    record = index.clips.get(clip)
    place = changes.get("shown", record.shown if record else 0)
    found = storage.get_motion(key, record, place) if record else None
    if record is None or found is None:
        raise MotionError(f"“{clip}” has no stored motion on {obj.name}.", "Generate it again.")
    _require(obj, found, record.mode)
    actions.unshare(key)
    spared: tuple[str, ...] = ()
    if bare:
        storage.put_edits(key, record.take, Edits())
    else:
        _keep_edits(obj, index, clip, scene)
        if record.mode not in ("named", "exact") and "shown" not in changes:
            spared = edits.changed(key, index, clip)
    for name, value in changes.items():
        setattr(record, name, value)
    written = _show(obj, index, clip, found, scene, above=above, spared=spared)
    return _applied(obj, clip, record, written)


def _keep_edits(obj: Any, index: Index, clip: str, scene: Any) -> None:
    """Store what was changed by hand on a line with the take that it shows."""
    key, record = obj.data.shape_keys, index.clips[clip]
    layer = edits.lift(key, index, clip, scene_fps(scene), head.millimetres(obj, scene))
    storage.put_edits(key, record.take, layer)


def _show(
    obj: Any,
    index: Index,
    clip: str,
    motion: Motion,
    scene: Any,
    name: str = "",
    *,
    above: bool = False,
    **options: Any,
) -> shape_keys.Written:
    """Write a line's keys and curves, note them as ours, and store the index.

    With `above` it is put above all others. Others on its frames give way and come back with their
    hand edits when it goes: nothing of theirs is lost.
    """
    key, record = obj.data.shape_keys, index.clips[clip]
    if above:
        record.rank = 1 + max(other.rank for other in index.clips.values())
    for other in index.clips:
        if other != clip and not index.clips[other].covered:
            _keep_edits(obj, index, other, scene)
    _note_kept(key, index, motion.names)
    spans = {other: (list(c.span), c.covered) for other, c in index.clips.items() if other != clip}
    written = _write(obj, index, clip, motion, scene, name, **options)
    _settle(obj, index, scene, spans)
    _put_back(key, index)
    storage.write(key, index)
    return written


def _note_kept(key: Any, index: Index, names: tuple[str, ...] = ()) -> None:
    """Note the user's keys on curves that the writing of lines may touch."""
    touched = {*index.keys, *names, *(name for c in index.clips.values() for name in c.keys)}
    shared = [clip for clip in index.clips.values() if not clip.nla]
    curves = _shared_curves(key)
    found = {name: curve for name, curve in curves.items() if name in touched}
    kept.note(index, found, kept.places(shared))


def _put_back(key: Any, index: Index) -> None:
    """Put the user's keys back where no line lies on them any more."""
    shared = [clip for clip in index.clips.values() if not clip.nla]
    for name, rows in kept.free(index, kept.places(shared)).items():
        curve = _shared_curves(key).get(name)
        if curve is None and name in key.key_blocks:
            bag, _, _ = actions.shape_channels(key, "", nla=False, name=f"{key.name} Lip-Sync")
            curve = bag.fcurves.new(actions.path_of(name))
        if curve is not None:
            kept.put(curve, rows)


def _shared_curves(key: Any) -> dict[str, Any]:
    """Return the curves, by shape key, of our action that all lines of a head share."""
    found: dict[str, Any] = {}
    for action, holder in actions.our_actions(key):
        bag = actions.channels(action, actions.slot_of(action, holder), ensure=False)
        for curve in bag.fcurves if bag is not None and not action[actions.OURS] else ():
            found.setdefault(actions.key_in(curve.data_path), curve)
    return found


def _write(
    obj: Any, index: Index, clip: str, motion: Motion, scene: Any, name: str = "", **options: Any
) -> shape_keys.Written:
    """Write one line on the frames that are left to it, or none where none is."""
    key, record = obj.data.shape_keys, index.clips[clip]
    late = storage.adjustments(record).offset * motion.fps
    fps = scene_fps(scene) / record.speed
    late_motion = replace(motion, start=motion.start + late)
    record.natural = [float(f) for f in scene_frames(late_motion, fps, record.start_frame)]
    part = shape_keys.free_part(index, clip)
    if part is None:
        shape_keys.cover(key, index, clip)
        first, last = record.natural
        return shape_keys.Written((int(first), int(last)), 0, 0.0)
    record.covered, record.limit = False, None if part == record.natural else part
    for other, hidden in index.clips.items():
        below = other != clip and not hidden.covered and hidden.rank < record.rank
        if below and not record.nla and shape_keys.free_part(index, other, clip) is None:
            shape_keys.cover(key, index, other)
    written = shape_keys.write(obj, index, clip, motion, scene, name, **options)
    edits.remember(key, index, clip)
    return written


def _settle(obj: Any, index: Index, scene: Any, were: dict[str, Any]) -> None:
    """Write those lines again, the uppermost first, to which other frames are left than before."""
    key = obj.data.shape_keys
    for clip in sorted(were, key=lambda name: -index.clips[name].rank):
        record, (span, covered) = index.clips[clip], were[clip]
        part = shape_keys.free_part(index, clip)
        if (part is None and covered) or (part == span and not covered):
            continue
        motion = storage.get_motion(key, record)
        if motion is not None:
            _write(obj, index, clip, motion, scene)


def _of_mapped(obj: Any, found: mapped.Result) -> Applied:
    written = shape_keys.Written(found.frames, found.keyframes, found.millimetres)
    applied = _applied(obj, found.clip, found.record, written)
    return replace(applied, findings=found.findings, drawings=found.drawings)


def _applied(obj: Any, clip: str, record: Clip, written: shape_keys.Written) -> Applied:
    return Applied(
        obj.name,
        clip,
        record.action,
        tuple(record.keys),
        written.frames,
        written.keyframes,
        written.millimetres,
    )


def remove_motion(obj: Any, clip: str = "") -> int:
    """Take one clip away, or all with ""; return how many shape keys went with it.

    Shape keys that another clip needs stay, as does everything that is the user's.
    """
    if detect.is_mapped(obj):
        return mapped.remove(obj, clip, bpy.context.scene)
    key = obj.data.shape_keys if obj.data else None
    index = storage.read(key)
    if key is None:
        return 0
    actions.unshare(key)
    _note_kept(key, index)
    for name in [clip] if clip in index.clips else list(index.clips) if not clip else []:
        shape_keys.erase(key, index, name)
        del index.clips[name]
    places = {name: (list(found.span), found.covered) for name, found in index.clips.items()}
    _settle(obj, index, bpy.context.scene, places)
    _put_back(key, index)
    removed = shape_keys.drop_unused(obj, index)
    storage.write(key, index)
    if index.made_basis and not index.keys and len(key.key_blocks) == 1:
        obj.shape_key_clear()
    return removed


# -- what is stored ---------------------------------------------------------------------------


def clips(obj: Any) -> tuple[str, ...]:
    """Return the names of the clips on this head, in the order of the timeline."""
    found = storage.read(_existing_key(obj)).clips
    return tuple(sorted(found, key=lambda name: found[name].span[0]))


def keys_of(obj: Any) -> frozenset[str]:
    """Return the shape keys that clips of ours drive, or that we made."""
    index = storage.read(_existing_key(obj))
    return frozenset((*index.keys, *(name for clip in index.clips.values() for name in clip.keys)))


def stored_clip(obj: Any, clip: str) -> Clip | None:
    """Return what is known about a clip: its place, mode, keys and action."""
    return storage.read(_existing_key(obj)).clips.get(clip)


def load_stored(obj: Any, clip: str) -> tuple[Motion, Adjustments] | None:
    """Return the motion as generated and the live controls it is shown with."""
    key = _existing_key(obj)
    record = storage.read(key).clips.get(clip)
    motion = storage.get_motion(key, record) if record else None
    return (motion, storage.adjustments(record)) if motion and record else None


def edited(obj: Any, clip: str) -> tuple[str, ...]:
    """Return the shape keys of a line whose curves are not as generated, but changed by hand."""
    if detect.is_mapped(obj):
        return mapped.edited(obj, clip)
    key = _existing_key(obj)
    index = storage.read(key)
    return edits.edited(key, index, clip) if clip in index.clips else ()


def layer_of(obj: Any, clip: str) -> Edits:
    """Return the hand edits that are stored over the take a line shows."""
    key = _existing_key(obj)
    record = storage.read(key).clips.get(clip)
    return storage.get_edits(key, record.take) if record else Edits()


# -- parts that follow -------------------------------------------------------------------------


def followed(obj: Any) -> dict[str, str]:
    """Return which of a head's keys drive something else: name → an object that follows it."""
    key = None if detect.is_mapped(obj) else _existing_key(obj)
    found: dict[str, str] = {}
    for other in () if key is None else bpy.data.objects:
        keys = other.data.shape_keys if other.type == "MESH" else None
        for owner in (other, keys):
            if owner is None or owner == key or owner.animation_data is None:
                continue
            for curve in owner.animation_data.drivers:
                for target in (t for v in curve.driver.variables for t in v.targets):
                    name = actions.key_in(target.data_path)
                    if name and target.id in (key, obj, obj.data):
                        found.setdefault(name, other.name)
    return found


def _named_instead(parts: dict[str, str], asked: str) -> Finding:
    """Remark that named keys were written, because parts of the head follow them."""
    message = (
        f"{parts_in_words(parts)} this head's named keys, so Named Controls were written; "
        f"{asked} keys would leave them still."
    )
    return Finding("parts-follow", message, blocking=False)


def parts_in_words(parts: dict[str, str]) -> str:
    """Return "Teeth, Tongue and 2 more follow"."""
    names = sorted(set(parts.values()))
    if len(names) == 1:
        return f"{names[0]} follows"
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{', '.join(names[:3])}{more} follow"


# -- conditions -------------------------------------------------------------------------------


def _require(obj: Any, motion: Motion, mode: str) -> None:
    """Refuse what could not be written. Raises HeadError and MotionError."""
    if mode not in MODES:
        raise ValueError(f"mode is {mode!r}, not one of {MODES}")
    report = head.check_mesh(obj)
    if not report.usable:
        raise HeadError(report.reason)
    if len(obj.data.vertices) != motion.vertices:
        raise MotionError(
            f"The motion is for {motion.vertices:,} vertices, {obj.name} has "
            f"{len(obj.data.vertices):,}.",
            "Generate it again for this head.",
        )


def _key_of(obj: Any) -> Any:
    """Return the mesh's shape-key datablock, with a Basis made if there was none."""
    if obj.data.shape_keys is None:
        obj.shape_key_add(name="Basis", from_mix=False)
    return obj.data.shape_keys


def _existing_key(obj: Any) -> Any | None:
    return storage.holder(obj)
