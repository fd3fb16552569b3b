"""Motion → shape keys and F-curves, changed and taken away again without touching the user's own.

A head may carry several *clips*, each on its place of the timeline. A clip owns the frames of its
sound and shares shape keys with the others; what we made is listed in the index in `stored`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import bpy

from ..character import head
from ..errors import Finding, HeadError, MotionError
from ..motion.keys import Shaped, mode_for, with_parts
from ..motion.motion import Adjustments, Motion
from . import actions, shape_keys, storage
from .diagnosis import fix, verify
from .storage import Clip

__all__ = [
    "Applied",
    "adjust_clip",
    "apply_motion",
    "clips",
    "edited",
    "fix",
    "followed",
    "load_stored",
    "remove_motion",
    "stored_clip",
    "verify",
]

MODES = ("named", "compact", "every frame")
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
    """Remarks; whether it really moves is for `verify` to say."""

    def sentence(self) -> str:
        """Return "Mouth moved 14.2 mm over 212 frames"."""
        count = self.frames[1] - self.frames[0] + 1
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
) -> Applied:
    """Write a motion on a head; a clip of the same name is replaced, everything else stays.

    mode: "named" (shapes as they come), "compact" (as few as hold 0.05 mm) or "every frame";
        it is "named" where teeth or a tongue follow the named keys, and the result says so.
    start_frame: scene frame, whole or not, of the sound's first sample.
    tolerance: millimetres that thinning the keys may cost; 0 keeps a key for every frame.
    nla: give the clip an action of its own on an NLA track.
    reuse: drive shape keys that the user already has under our names, instead of making others.
    shaped: what `shaping.shape` made of the motion in a thread, to save the time here.
    Raises HeadError and MotionError, both before anything is changed.
    """
    scene, clip = scene or bpy.context.scene, clip or NAMELESS
    _require(obj, motion, mode)
    key = _key_of(obj)
    motion = with_parts(motion, key.key_blocks)
    asked, parts = mode, followed(obj)
    mode = mode_for(asked, motion.names, parts)
    actions.unshare(key)
    index = storage.read(key)
    former = index.clips.get(clip)
    index.numbers += 1
    record = Clip(
        number=index.numbers,
        start_frame=float(start_frame),
        mode=mode,
        tolerance=float(tolerance),
        names=list(motion.names),
        hashes=[storage.shape_hash(shape) for shape in motion.shapes],
        nla=nla,
        adjustments=vars(adjustments or Adjustments()).copy(),
    )
    if former is not None:
        record.action, record.keys, record.span = former.action, former.keys, former.span
        record.ease = former.ease
        if former.nla != nla:
            shape_keys.erase(key, index, clip)
            record.keys = []
    index.made_basis |= not len(index.keys) and len(key.key_blocks) == 1 and former is None
    index.clips[clip] = record
    written = shape_keys.write(
        obj, index, clip, motion, scene, action_name, reuse=reuse, shaped=shaped
    )
    storage.put_motion(key, record, motion)
    storage.write(key, index)
    applied = _applied(obj, clip, record, written)
    return applied if mode == asked else replace(applied, findings=(_named_instead(parts, asked),))


def adjust_clip(
    obj: Any,
    clip: str,
    adjustments: Adjustments,
    *,
    scene: Any = None,
    keep_edited: bool = True,
) -> Applied:
    """Show a clip with other live controls, from its stored motion. Raises HeadError, MotionError.

    Curves that were edited by hand since they were written are left alone with `keep_edited`.
    """
    key = obj.data.shape_keys
    index = storage.read(key)
    found = storage.get_motion(key, index.clips[clip]) if clip in index.clips else None
    if found is None:
        raise MotionError(f"“{clip}” has no stored motion on {obj.name}.", "Generate it again.")
    _require(obj, found, index.clips[clip].mode)
    actions.unshare(key)
    record = index.clips[clip]
    record.adjustments = vars(adjustments).copy()
    spared = edited(obj, clip) if keep_edited else ()
    scene = scene or bpy.context.scene
    written = shape_keys.write(obj, index, clip, found, scene, spared=spared)
    storage.write(key, index)
    return _applied(obj, clip, record, written)


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
    key = obj.data.shape_keys if obj.data else None
    index = storage.read(key)
    if key is None:
        return 0
    actions.unshare(key)
    for name in [clip] if clip in index.clips else list(index.clips) if not clip else []:
        shape_keys.erase(key, index, name)
        del index.clips[name]
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
    """Return the shape keys whose curves were changed by hand since the clip was written."""
    key = _existing_key(obj)
    record = storage.read(key).clips.get(clip)
    if record is None:
        return ()
    bag = shape_keys.bag_of(key, record, clip)
    changed = []
    for name, number in record.written.items():
        curve = bag.fcurves.find(actions.path_of(name)) if bag is not None else None
        if (
            curve is not None
            and actions.checksum(shape_keys.within(actions.read_keys(curve), record)) != number
        ):
            changed.append(name)
    return tuple(changed)


# -- parts that follow -------------------------------------------------------------------------


def followed(obj: Any) -> dict[str, str]:
    """Return which of a head's keys drive something else: name → an object that follows it."""
    key = _existing_key(obj)
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
    return obj.data.shape_keys if obj is not None and obj.type == "MESH" else None
