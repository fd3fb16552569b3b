# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines on a mapped character: what the model said, as controls, played on its own channels.

The line's motion is kept as our controls (55 curves without vertices), and every writing plays all
lines anew through the mapping. So live controls, takes, moved strips and a changed mapping all come
to the same thing: change the record, then `refresh`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import bpy
import numpy as np

from ..character import detect
from ..character.mapping import SEAL, TUCK, Mapping, Place
from ..errors import Finding, HeadError, MotionError
from ..motion import adjust
from ..motion import motion as motions
from ..motion.edits import Edits
from ..motion.motion import Adjustments, Motion, scene_frames
from ..motion.sparse import Fitter, Wishes
from ..sound.sources import scene_fps
from . import actions, channels, edits, kept, mapped_edits, resting, shape_keys, storage, takes
from .channels import Channel
from .resting import LIFE_MOUTH
from .storage import Clip, Index
from .takes import Spoken

EASE_SECONDS = 0.2
"""Time in which the face comes from rest before a line, and returns to it afterwards."""
_STILL = 1e-5
_STANDS = 1e-4
_CHAINED = 2.0
"""How much closer than its own reach a bone is kept: lips hang on the jaw's and on their own."""
_TURN = 80.0
"""Millimetres that a jaw moves the lips by in a radian, or a property by at 1, about."""


@dataclass(frozen=True)
class Result:
    """What came of writing a line."""

    clip: str
    record: Clip
    frames: tuple[int, int]
    keyframes: int
    millimetres: float
    findings: tuple[Finding, ...] = ()
    drawings: int | None = None
    """How often the drawing of a drawn mouth changes."""


def as_controls(motion: Motion) -> Motion:
    """Return a motion as our controls alone, without vertices. Raises MotionError without any."""
    if motion.controls is None and {"jawOpen"} <= set(motion.names):
        return as_controls(
            replace(motion, controls=_as_seal(motion), control_names=motion.names, formulas=())
        )
    if motion.controls is None:
        raise MotionError(
            "This model moves the vertices of its own head, so it cannot speak on this character.",
            "Choose the bundled model.",
        )
    if motion.vertices == 0:
        return motion
    empty = np.zeros((len(motion.control_names), 0, 3), np.float32)
    return replace(
        motion,
        weights=motion.controls.copy(),
        shapes=empty,
        names=motion.control_names,
        regions=None,
        region_names=(),
        dense=None,
        opening=None,
        formulas=(),
    )


def _as_seal(motion: Motion) -> Any:
    """Return named weights as controls: as a shape, mouthClose grows with the jaw that it shuts."""
    weights = motion.weights.copy()
    if SEAL in motion.names:
        jaw = np.maximum(weights[:, motion.names.index("jawOpen")], 1e-3)
        column = motion.names.index(SEAL)
        weights[:, column] = np.clip(weights[:, column] / jaw, 0.0, 1.0)
    return weights


# -- the verbs --------------------------------------------------------------------------------


def apply(
    obj: Any,
    motion: Motion,
    record: Clip,
    clip: str,
    scene: Any,
    spoken: Spoken,
) -> Result:
    """Put a motion on a character as the take that a line shows, above all other lines.

    record: the line's place and form. Raises HeadError and MotionError, before anything is changed.
    """
    mapping = require(obj)
    motion = as_controls(motion)
    index = storage.read(_own(obj))
    _note(obj, index, mapping, scene)
    former = index.clips.get(clip)
    if former is not None:
        record = replace(
            former,
            start_frame=record.start_frame,
            mode=record.mode,
            tolerance=record.tolerance,
            nla=record.nla,
            speed=1.0,
            cut=None,
            adjustments=record.adjustments or former.adjustments,
        )
    record.source = spoken.source or record.source
    record.adjustments = record.adjustments or vars(Adjustments()).copy()
    record.rank = 1 + max((other.rank for other in index.clips.values()), default=0)
    index.clips[clip] = record
    takes.add(_own(obj), index, record, motion, spoken)
    return _written(obj, index, clip, scene)


def again(
    obj: Any, clip: str, scene: Any, *, bare: bool = False, above: bool = False, **changes: Any
) -> Result:
    """Write a line again with some of its record changed; hand edits stay unless `bare`.

    Raises HeadError, MotionError.
    """
    mapping = require(obj)
    index = storage.read(_own(obj))
    record = index.clips.get(clip)
    place = changes.get("shown", record.shown if record else 0)
    if record is None or storage.get_motion(_own(obj), record, place) is None:
        raise MotionError(f"“{clip}” has no stored motion on {obj.name}.", "Generate it again.")
    _note(obj, index, mapping, scene)
    if bare:
        storage.put_edits(_own(obj), record.take, Edits())
    for name, value in changes.items():
        setattr(record, name, value)
    if above:
        record.rank = 1 + max(other.rank for other in index.clips.values())
    return _written(obj, index, clip, scene)


def remove(obj: Any, clip: str, scene: Any) -> int:
    """Take one line away, or all with ""; return how many lines went."""
    index = storage.read(_own(obj))
    _note(obj, index, require(obj), scene)
    gone = [name for name in index.clips if not clip or name == clip]
    for name in gone:
        del index.clips[name]
    refresh(obj, index, scene)
    storage.write(_own(obj), index)
    return len(gone)


def edited(obj: Any, clip: str) -> tuple[str, ...]:
    """Return the channels of a line that bear hand edits, as people name them."""
    record = storage.read(_own(obj)).clips.get(clip)
    if record is None:
        return ()
    owners = owners_of(require(obj))
    names = set(storage.get_edits(_own(obj), record.take).moved())
    if not channels.renamed(owners):  # else they are told apart at the next writing
        names |= set(mapped_edits.changed(obj, record, mapped_edits.curves_of(owners)))
    return tuple(dict.fromkeys(actions.plain_name(name) for name in sorted(names)))


def layer_of(obj: Any, clip: str, fps: float) -> Edits:
    """Return all hand edits over the shown take of a line."""
    index = storage.read(_own(obj))
    owners = _known_again(obj, index, require(obj))
    return mapped_edits.layer_of(obj, index.clips[clip], mapped_edits.curves_of(owners), fps)


def _known_again(obj: Any, index: Index, mapping: Mapping) -> list[Any]:
    """Return what lines animate, of a copy or under another name, too, and note what that is."""
    owners = _animated(obj, mapping, index)
    actions.unshare(*owners)
    starts = channels.renamed(owners)
    if starts:
        storage.rename(_own(obj), index, starts)
        storage.write(_own(obj), index)
        channels.sign(owners)
    return owners


def _written(obj: Any, index: Index, clip: str, scene: Any) -> Result:
    keyframes = refresh(obj, index, scene)
    storage.write(_own(obj), index)
    record = index.clips[clip]
    first, last = record.span
    moved, findings = (0.0, ()) if record.covered else check(obj, record, scene)
    frames = (int(first), int(last))
    findings = (*findings, *resting.told(index.held))
    drawn = detect.read_mapping(obj)
    drawings = None if drawn is None or drawn.drawn is None else len(changes(obj, record)) - 1
    return Result(clip, record, frames, keyframes, moved, findings, drawings)


def require(obj: Any) -> Mapping:
    """Return an object's mapping. Raises HeadError where it cannot be used here."""
    mapping = detect.read_mapping(obj)
    if mapping is None or not mapping.places():
        raise HeadError(
            f"The mapping of {obj.name} does not fit it any more.",
            "Press Fit to This Character again.",
        )
    for name in dict.fromkeys(place.owner for place in mapping.places()):
        owner = bpy.data.objects.get(name)
        if owner is not None and owner.mode == "EDIT":
            raise HeadError(f"{name} is in Edit Mode.", "Go back to Object Mode.")
    return mapping


def note(obj: Any, scene: Any) -> None:
    """Store what was done by hand on a face's curves; asked for before its mapping changes."""
    mapping, index = detect.read_mapping(obj), storage.read(_own(obj))
    if mapping is not None and (index.clips or index.kept):
        _note(obj, index, mapping, scene)
        storage.write(_own(obj), index)


def replay(obj: Any, scene: Any) -> None:
    """Play the lines of a face through its mapping as it is now, after `note`."""
    index = storage.read(_own(obj))
    if index.clips or index.kept:
        refresh(obj, index, scene)
        storage.write(_own(obj), index)


def _note(obj: Any, index: Index, mapping: Mapping, scene: Any) -> None:
    """Note in the index every key that the user set or changed on curves of ours."""
    owners = _known_again(obj, index, mapping)
    mapped_edits.keep(obj, index, owners, scene_fps(scene))
    rests = dict(_by_name(mapping, mapping.evaluate(np.zeros((1, 0)), ()))) | index.held
    curves = {n: c for n, c in mapped_edits.curves_of(owners).items() if n in rests}
    kept.note(index, curves, kept.places(index.clips.values()), rests)


def _own(obj: Any) -> Any:
    """Return the datablock that keeps the lines of a mapped face."""
    return storage.holder(obj)


def make_own(mapping: Mapping) -> None:
    """Give overridden objects an override of their mesh, too: linked shape keys play nothing."""
    for name in dict.fromkeys(place.owner for place in mapping.places() if place.kind == "key"):
        owner = bpy.data.objects.get(name)
        if owner is None or owner.data.library is None or owner.library is not None:
            continue
        own = owner.data.override_create(remap_local_usages=True)
        if own is not None and owner.data != own:
            owner.data = own


# -- playing ----------------------------------------------------------------------------------


def refresh(obj: Any, index: Index, scene: Any) -> int:
    """Play every line of a character through its mapping; return how many keys that took."""
    mapping = require(obj)
    make_own(mapping)
    fps = scene_fps(scene)
    _settle(obj, index, fps)
    names: tuple[str, ...] = ()
    parts: list[tuple[Clip, Any, Any, list[tuple[Place, Any]]]] = []
    for record in index.clips.values():
        motion = storage.get_motion(_own(obj), record)
        if record.covered or motion is None:
            continue
        names = motion.names
        shown, frames = controls_at(motion, record, fps)
        shut = shown[:, names.index(SEAL)] if SEAL in names else np.zeros(len(shown))
        first = float(frames[0]) if len(frames) else 1.0
        parts.append((record, frames, shut, mapping.evaluate(shown, names, fps, first)))
    rest = dict(_by_name(mapping, mapping.evaluate(np.zeros((1, len(names))), names)))
    ours = {*index.keys, *(name for record in index.clips.values() for name in record.keys)}
    held = resting.held(obj, mapping, index.held, ours) if parts else {}
    rest |= {channel.name: value for channel, value in held.items()}
    keyed: dict[Channel, list[Any]] = {}
    for record, frames, shut, found in parts:
        curves = channels.curves_of(found, mapping.bases, mapping.groups())
        curves += [(channel, np.zeros(len(frames))) for channel in held]
        layer = storage.get_edits(_own(obj), record.take)
        curves = mapped_edits.over(record, layer, frames, fps, curves)
        times = edits.seconds(record, np.asarray(frames, np.float64), fps)
        pinned = layer.pinned(tuple(channel.name for channel, _ in curves), times)
        spoken = dict(_line_keys(obj, record, frames, (shut, pinned), curves))
        still = np.array([[frame, 0.0, 0.0] for frame in (frames[0], frames[-1])])
        for channel, keys in {**dict.fromkeys(held, still), **spoken}.items():
            around = _jumped if channel.jumps else _eased
            keyed.setdefault(channel, []).append(around(record, keys, rest[channel.name]))
    curves = _worth([(channel, _joined(keys)) for channel, keys in keyed.items()], rest)
    shown = [c for c in index.clips.values() if not c.covered and c.natural is not None]
    theirs = kept.free(index, [(c.span[0], c.span[1], c.ease) for c in shown])
    owners = _animated(obj, mapping, index)
    curves += _kept_alone(mapping, owners, theirs, {channel.name for channel, _ in curves})
    nla = any(record.nla for record in index.clips.values())
    were = {name for owner in owners for name in channels.written(owner)}
    _note_stood(obj, index, [c for c, _ in curves if c.name not in were], rest)
    written = channels.write(
        curves, name=obj.name, nla=nla, former=owners, ours=ours, theirs=theirs
    )
    for wide, bounds in channels.widen(curves).items():
        index.sliders[wide] = [*index.sliders.get(wide, bounds)[:2], *bounds[2:]]
    index.keys = {channel.name: [] for channel, _ in curves}
    for record in index.clips.values():
        record.action = written[0] if written else ""
        record.keys = [channel.name for channel, _ in curves]
    mapped_edits.remember(obj, index, owners)
    resting.release(obj, mapping, index.held, held)
    index.held = {channel.name: value for channel, value in held.items()}
    _to_rest(mapping, index, rest, were - {channel.name for channel, _ in curves})
    return sum(len(keys) for _, keys in curves)


def _settle(obj: Any, index: Index, fps: float) -> None:
    """Say on which frames each line is seen, the uppermost first."""
    for record in index.clips.values():
        motion = storage.get_motion(_own(obj), record)
        if motion is None:
            continue
        late = storage.adjustments(record).offset * motion.fps
        moved = replace(motion, start=motion.start + late)
        record.natural = [
            float(f) for f in scene_frames(moved, fps / record.speed, record.start_frame)
        ]
        record.span, record.covered = list(record.natural), False
        record.ease = float(max(1, round(EASE_SECONDS * fps)))
    for clip in sorted(index.clips, key=lambda name: -index.clips[name].rank):
        record = index.clips[clip]
        part = shape_keys.free_part(index, clip)
        record.covered = part is None
        record.limit = None if part in (None, record.natural) else part
        record.span = part or record.span


def controls_at(motion: Motion, record: Clip, fps: float) -> tuple[Any, Any]:
    """Return controls (F, C) with a line's live controls, and their scene frames (F,)."""
    shown = adjusted(motion, storage.adjustments(record))
    placed, frames = motions.retime(shown, fps / record.speed, start_frame=record.start_frame)
    inside = (frames >= record.span[0]) & (frames <= record.span[1])
    return placed.weights[inside], frames[inside]


def adjusted(motion: Motion, live: Adjustments) -> Motion:
    """Return controls with live controls applied; a sealed mouth stays sealed at any strength."""
    calm = adjust.smooth(motion, live.smoothing)
    shown = adjust.adjust(calm, replace(live, smoothing=0.0))
    weights = shown.weights.copy()
    for name in (SEAL, TUCK):
        if name in motion.names:
            column = motion.names.index(name)
            weights[:, column] = np.clip(calm.weights[:, column], 0.0, 1.0)
    return replace(shown, weights=weights)


def _by_name(mapping: Mapping, found: list[tuple[Place, Any]]) -> list[tuple[str, float]]:
    return [
        (channel.name, float(values[0]))
        for channel, values in channels.curves_of(found, mapping.bases)
    ]


def _line_keys(
    obj: Any, record: Clip, frames: Any, held: tuple[Any, Any], curves: list[Any]
) -> list[tuple[Channel, Any]]:
    """Return keys (n, 3) of each channel of a line: few within its tolerance, or one a frame.

    held: how shut the lips are (F,), and where a channel bears a key set by hand (F, C).
    """
    shut, pinned = held
    jumps = [k for k, (channel, _) in enumerate(curves) if channel.jumps]
    if jumps:  # keys stand where another drawing begins, whatever the tolerance
        smooth = [k for k in range(len(curves)) if k not in jumps]
        rest = (shut, pinned[:, smooth]), [curves[k] for k in smooth]
        held_keys = [(curves[k][0], _steps(frames, curves[k][1])) for k in jumps]
        return held_keys + (_line_keys(obj, record, frames, *rest) if smooth else [])
    table = np.stack([values for _, values in curves], 1).astype(np.float64)
    if record.tolerance <= 0 or len(frames) < 3:
        straight = np.full(len(frames), np.nan)
        return [
            (c, np.stack([frames, table[:, k], straight], 1)) for k, (c, _) in enumerate(curves)
        ]
    unit = life_unit(obj)
    allowed = np.array([record.tolerance / _reach(channel, unit) for channel, _ in curves])
    moving = np.flatnonzero(np.ptp(table, axis=0) > 0.2 * allowed)
    wishes = Wishes.none(len(frames), len(moving))
    for first, last in motions.closed_runs(np.asarray(shut, np.float32)):
        wishes.pinned[[first, last]] = True
    wishes.pinned[pinned[:, moving]] = True
    together: dict[tuple[Any, str], list[int]] = {}
    for place, k in enumerate(moving):
        channel = curves[k][0]
        shared = (channel.owner, channel.path if "rotation" in channel.path else channel.name)
        together.setdefault(shared, []).append(place)
    if not len(moving):
        return []
    rate = scene_fps(bpy.context.scene)
    fitter = Fitter(table[:, moving], allowed[moving], list(together.values()), rate, wishes)
    found = fitter.fit(1.0)
    start = np.array([frames[0], 0.0, 0.0])
    return [(curves[k][0], keys + start) for k, keys in zip(moving, found, strict=True)]


def life_unit(obj: Any) -> float:
    """Return how many millimetres of a life-size face one unit of the world is."""
    lips = detect.lips_of(obj)
    return LIFE_MOUTH / max(float(lips["width"]), 1e-12) if lips else 1000.0


def _reach(channel: Channel, unit: float) -> float:
    """Return how many millimetres a channel moves the face by at 1, about."""
    name = actions.key_in(channel.path)
    if name:
        block = channel.owner.key_blocks[name]
        under = detect.coordinates(block.relative_key.points)
        offsets = detect.coordinates(block.points) - under
        scale = _scale_of(channel.owner)
        reach = float(np.linalg.norm(offsets, axis=1).max(initial=0.0)) * scale * unit
        if not reach:  # it moves others by drivers
            return _TURN
        return max(reach, 0.5) * (0.4 if channel.group in ("lids", "brows", "eyes") else 1.0)
    if "location" in channel.path:
        return _CHAINED * unit * float(channel.owner.matrix_world.median_scale)
    if "rotation" in channel.path:  # a quaternion has the half of each angle
        return _CHAINED * _TURN * (2.0 if "quaternion" in channel.path else 1.0)
    return _TURN


def _scale_of(key: Any) -> float:
    """Return how large a mesh's own unit is in the world."""
    user = next(
        (o for o in bpy.data.objects if o.type == "MESH" and o.data.shape_keys == key), None
    )
    return float(user.matrix_world.median_scale) if user is not None else 1.0


def _eased(record: Clip, keys: Any, rest: float) -> Any:
    """Return a line's keys (n, 3) with those at rest before and after it."""
    first, last = keys[0, 0], keys[-1, 0]
    ends = np.array([[first - record.ease, rest, 0.0], [last + record.ease, rest, 0.0]])
    return np.concatenate([ends[:1], keys, ends[1:]])


def _steps(frames: Any, values: Any) -> Any:
    """Return keys (n, 3) that hold: one where each new value begins, and at both ends."""
    starts = np.r_[True, np.abs(np.diff(values)) > _STILL]
    starts[-1] = True
    return np.stack([frames, values, np.full(len(frames), np.inf)], 1)[starts]


def _jumped(record: Clip, keys: Any, rest: float) -> Any:
    """Return a line's keys (n, 3) that hold, with those at rest before it and right after it."""
    ends = np.array([
        [keys[0, 0] - record.ease, rest, np.inf],
        [keys[-1, 0] + 1, rest, np.inf],
    ])  # fmt: skip
    return np.concatenate([ends[:1], keys, ends[1:]])


def _joined(parts: list[Any]) -> Any:
    """Return the keys of several lines on one channel, without rest keys inside a neighbour."""
    spans = [(keys[1, 0], keys[-2, 0]) for keys in parts]
    kept = []
    for keys in parts:
        covered = np.zeros(len(keys), bool)
        for row in (0, -1):
            covered[row] = any(low <= keys[row, 0] <= high for low, high in spans)
        kept.append(keys[~covered])
    merged = np.concatenate(kept)
    merged = merged[np.argsort(merged[:, 0], kind="stable")]
    return _without_flat(merged[np.r_[True, np.diff(merged[:, 0]) > 1e-3]])


def _without_flat(keys: Any) -> Any:
    """Return keys without those inside a stretch of equal values."""
    if len(keys) < 3:
        return keys
    level = np.abs(np.diff(keys[:, 1])) < _STILL
    if np.isinf(keys[:, 2]).all():
        return keys[np.r_[True, ~level]]
    level &= ~(np.abs(np.nan_to_num(keys[1:, 2])) > 1e-4) & ~(
        np.abs(np.nan_to_num(keys[:-1, 2])) > 1e-4
    )
    keep = np.r_[True, ~(level[:-1] & level[1:]), True]
    return keys[keep]


def _worth(curves: list[tuple[Channel, Any]], rest: dict[str, float]) -> list[tuple[Channel, Any]]:
    """Return the channels that ever leave their rest; of a rotation, all parts or none."""
    moving = {
        (channel.owner, channel.path)
        for channel, keys in curves
        if channel.jumps or np.abs(keys[:, 1] - rest[channel.name]).max() > _STILL
    }
    return [pair for pair in curves if (pair[0].owner, pair[0].path) in moving]


def _kept_alone(
    mapping: Mapping, owners: list[Any], theirs: dict[str, kept.Rows], written: set[str]
) -> list[tuple[Channel, Any]]:
    """Return channels without a key of ours, on which the user has set some."""
    every = {channel.name: channel for channel in _channels(mapping)}
    for owner in owners:
        for curve in (curve for bag in channels.bags(owner) for curve in bag.fcurves):
            channel = Channel(owner, curve.data_path, curve.array_index)
            every.setdefault(channel.name, channel)
    alone = [every[name] for name in theirs if name in every and name not in written]
    return [(channel, np.empty((0, 3))) for channel in alone]


def _animated(obj: Any, mapping: Mapping, index: Index) -> list[Any]:
    """Return every datablock that lines of a face animate or did: by this mapping or another one.

    Also shapes that rest meanwhile.
    """
    own = _keys(obj)
    found = list(dict.fromkeys([*owners_of(mapping), *([] if own is None else [own])]))
    starts = tuple(map(channels.start_of, found))
    left = {name for name in index.keys if not name.startswith(starts)}
    if left:
        parts, rig = detect.members(obj), detect.armature_of(obj)
        parts += [rig] if rig is not None else []
        every = [*parts, *(key for part in parts for key in [part.data, _keys(part)] if key)]
        found += [one for one in every if one not in found and left & {*channels.written(one)}]
    return found


def _keys(obj: Any) -> Any | None:
    return obj.data.shape_keys if obj.type == "MESH" else None


def owners_of(mapping: Mapping) -> list[Any]:
    """Return every datablock that the mapping may animate."""
    found: list[Any] = []
    for name in dict.fromkeys(place.owner for place in mapping.places()):
        obj = bpy.data.objects.get(name)
        if obj is not None:
            keys = obj.data.shape_keys if obj.type == "MESH" else None
            data = keys if keys is not None else obj.data
            found += [obj, *([data] if hasattr(data, "animation_data") else [])]
    drawn = [(place, 0.0) for row in mapping.drawn_rows for place in row.places]
    found += [channel.owner for channel, _ in channels.curves_of(drawn, mapping.bases)]
    return list(dict.fromkeys(found))


def _note_stood(obj: Any, index: Index, new: list[Channel], rest: dict[str, float]) -> None:
    """Remember where channels stand that lines are about to animate for the first time.

    A test pose that is shown is none of the user's: it keeps what was there itself.
    """
    if f"{storage.INDEX}.posed" in (detect.notes(obj) or {}):
        return
    for channel in new:
        value = channels.value_of(channel)
        if channel.name in rest and abs(value - rest[channel.name]) > _STANDS:
            index.stood[channel.name] = value


def _to_rest(mapping: Mapping, index: Index, rest: dict[str, float], left: set[str]) -> None:
    """Put channels that we animate no more where they stood: else the last pose would stay."""
    for channel in _channels(mapping):
        if channel.name in left and channel.name in rest:
            stood = index.stood.pop(channel.name, rest[channel.name])
            channels.set_value(channel, stood)
        if channel.name in index.sliders and channel.name not in index.keys:
            channels.narrow(channel, index.sliders.pop(channel.name))


def _channels(mapping: Mapping) -> list[Channel]:
    """Return every channel of a mapping."""
    still = [(place, np.zeros(1)) for place in mapping.places()]
    return [channel for channel, _ in channels.curves_of(still, mapping.bases)]


# -- looking ----------------------------------------------------------------------------------


def check(obj: Any, record: Clip, scene: Any) -> tuple[float, tuple[Finding, ...]]:
    """Return how far the lips really part from rest, in mm on a life-size face, and what is amiss.

    Played through Blender's evaluation at the frames of the widest jaw. The current frame is kept.
    """
    motion = storage.get_motion(_own(obj), record)
    lips = detect.lips_of(obj)
    findings = list(_hidden(obj))
    if record.span[1] < scene.frame_start or record.span[0] > scene.frame_end:
        findings.append(
            Finding(
                "out-of-range",
                f"The sound lies at frames {record.span[0]:.0f} to {record.span[1]:.0f}, outside "
                "the scene's playback range.",
                fix="extend-range",
                fix_label="Extend Playback Range",
            )
        )
    mapping = detect.read_mapping(obj)
    if mapping is not None and mapping.drawn is not None:
        own = {place.owner for row in mapping.drawn_rows for place in row.places}
        seen = [one for one in findings if one.code != "hidden" or obj.name not in own]
        return 0.0, (*_other_drawing(obj, record, scene), *seen)
    if motion is None or lips is None:
        return 0.0, tuple(findings)
    findings += resting.rivals(obj, require(obj), record.span, set(record.keys))
    shown, frames = controls_at(motion, record, scene_fps(scene))
    jaw = shown[:, motion.names.index("jawOpen")] if "jawOpen" in motion.names else shown.max(1)
    shut = shown[:, motion.names.index(SEAL)] if SEAL in motion.names else np.zeros(len(shown))
    widest = np.argsort(-(jaw * (1 - np.clip(shut, 0, 1))))[:2]
    moved = moved_lips(obj, lips, scene, [int(frames[row]) for row in widest])
    if moved < 0.3 and float(jaw.max(initial=0.0)) > 0.05:
        findings.insert(
            0,
            Finding(
                "still",
                f"The keys are written, but the mouth of {obj.name} moves only {moved:.1f} mm. "
                + _why_still(obj),
            ),
        )
    return moved, tuple(findings)


def changes(obj: Any, record: Clip) -> list[float]:
    """Return the frames of a line on which another drawing appears, its first frame with them."""
    first, last = record.span
    found = {float(np.ceil(first - 1e-3))}
    for curve in choosing(obj).values():
        rows = [point.co for point in curve.keyframe_points]
        found |= {
            float(now[0])
            for before, now in pairwise(rows)
            if abs(now[1] - before[1]) > _STILL and first < now[0] <= last
        }
    return sorted(found)


def choosing(obj: Any) -> dict[str, Any]:
    """Return the curves that choose the drawing of a face, by their channel's name."""
    curves = mapped_edits.curves_of(owners_of(require(obj)))
    return {c.name: curves[c.name] for c in _chosen(obj) if c.name in curves}


def _chosen(obj: Any) -> list[Channel]:
    """Return the channels that choose the drawing of a face."""
    mapping = require(obj)
    drawn = [(place, 0.0) for row in mapping.drawn_rows for place in row.places]
    return [channel for channel, _ in channels.curves_of(drawn, mapping.bases, mapping.groups())]


def show_rest(obj: Any) -> None:
    """Show the drawing of a face that says nothing; nothing is done to one that is not drawn."""
    mapping = require(obj)
    names = {channel.name for channel in _chosen(obj)}
    still = mapping.evaluate(np.zeros((1, 1)), ("jawOpen",))
    for channel, values in channels.curves_of(still, mapping.bases):
        if channel.name in names:
            channels.set_value(channel, float(values[0]))
            channel.owner.update_tag()


def _other_drawing(obj: Any, record: Clip, scene: Any) -> list[Finding]:
    """Return why another drawing is shown than was keyed, looked at on some frames of a line."""
    curves, frames = choosing(obj), changes(obj, record)
    frame, subframe = scene.frame_current, scene.frame_subframe
    try:
        for when in frames[:: max(1, len(frames) // 6)]:
            scene.frame_set(int(when))
            for channel in _chosen(obj):
                keyed = curves[channel.name].evaluate(when) if channel.name in curves else None
                if keyed is not None and abs(channels.value_of(channel) - keyed) > 0.3:
                    said = f"The keys are written, but at frame {when:.0f} another drawing is shown"
                    return [Finding("still", f"{said} by {obj.name}. {_why_still(obj)}")]
    finally:
        scene.frame_set(frame, subframe=subframe)
    return []


def moved_lips(obj: Any, lips: dict[str, Any], scene: Any, frames: list[int]) -> float:
    """Return the largest motion of lip vertices at some frames, mm on a life-size face."""
    frame, subframe = scene.frame_current, scene.frame_subframe
    rest = detect.read_part(obj).rest
    rows = np.array([*lips["upper"], *lips["lower"]], int)
    unit = life_unit(obj)
    farthest = 0.0
    try:
        shapes = []
        for when in frames:
            scene.frame_set(when)
            shapes.append(evaluated(obj)[rows])
        # The head itself may be animated: what counts is how the lips move against one another.
        half = len(lips["upper"])
        apart = [rest[rows[:half]] - rest[rows[half:]]]
        for points in shapes:
            parted = points[:half] - points[half:]
            change = np.abs(np.linalg.norm(parted, axis=1) - np.linalg.norm(apart[0], axis=1))
            farthest = max(farthest, float(change.max(initial=0.0)))
    finally:
        scene.frame_set(frame, subframe=subframe)
    return farthest * unit


def evaluated(obj: Any) -> Any:
    """Return a mesh's vertices (V, 3) in world space as Blender shows them."""
    graph = bpy.context.evaluated_depsgraph_get()
    shown = obj.evaluated_get(graph)
    mesh = shown.to_mesh()
    try:
        points = detect.coordinates(mesh.vertices)
    finally:
        shown.to_mesh_clear()
    world = np.array(shown.matrix_world)
    return points @ world[:3, :3].T + world[:3, 3]


def _hidden(obj: Any) -> list[Finding]:
    found = []
    if not obj.visible_get():
        found.append(
            Finding("hidden", f"{obj.name} is hidden in the viewport.", "show-object", "Show Head")
        )
    if obj.type == "MESH" and obj.show_only_shape_key:
        found.append(
            Finding(
                "pinned",
                f"{obj.name} shows only its active shape key (the pin in the Shape Keys panel).",
                "unpin",
                "Show All Shape Keys",
            )
        )
    rig = detect.armature_of(obj)
    mapping = detect.read_mapping(obj)
    bones = mapping is not None and any(place.kind == "bone" for place in mapping.places())
    if bones and rig is not None and rig.data.pose_position == "REST":
        found.append(
            Finding(
                "rest-position",
                f"{rig.name} shows its rest position, in which no bone moves.",
                "show-pose",
                "Show Pose",
            )
        )
    return found


def _why_still(obj: Any) -> str:
    """Return the likely reason: the user's action holds our channels, or layers are muted."""
    for owner in owners_of(detect.read_mapping(obj) or Mapping("")):
        data = owner.animation_data
        if data is None or data.action is None or actions.is_ours(data.action):
            continue
        bag = actions.channels(data.action, actions.slot_of(data.action, data), ensure=False)
        ours = {curve.data_path for own in channels.bags(owner) for curve in own.fcurves}
        theirs = {curve.data_path for curve in bag.fcurves} if bag is not None else set()
        if ours & theirs:
            return (
                f"The action “{data.action.name}” has keys on {len(ours & theirs)} of the same "
                "channels and wins: remove these, or push it down below the Lip-Sync track."
            )
    return "Look for muted shape keys, drivers, or animation layers that hold it."
