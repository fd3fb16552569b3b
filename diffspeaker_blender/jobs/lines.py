# SPDX-License-Identifier: GPL-3.0-or-later
"""Which line of a head a sound belongs to, who speaks a strip, and what a new take is made of.

A line is a sound at a place spoken by a character. A strip bears its line's identity; a file or a
Speaker is known by its place. Two sounds of one name at two places are two lines.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bpy
import numpy as np

from ..animation import edits, guides, mapped, storage, takes
from ..animation.storage import Clip, Source
from ..animation.takes import Spoken
from ..character import detect, head
from ..errors import MotionError
from ..motion.edits import NO_EDITS, Edits
from ..motion.motion import Adjustments, Motion
from ..sound import tracking
from ..sound.sources import AudioClip, file_clip, scene_fps
from ..sound.strips import all_strips
from ..sound.tracking import Layout

EVER = (-np.inf, np.inf)
_TAG = "diffspeaker_colour"
"""The colour that we gave a strip."""


@dataclass(frozen=True)
class Wanted:
    """What a result is to the lines of its head."""

    uid: str = ""
    """The line it is for; "" finds the one of the same sound and place, or makes one."""
    exact: bool = False
    """Whether the clip's name says which line it is, as for scripts."""
    source: Source = field(default_factory=Source)
    strips: tuple[str, ...] = ()
    """Names of the strips that were listened to."""
    audible: bool = False
    """Whether a file that is no strip yet becomes one, so that playback is heard."""
    about: str = ""
    """How the take is made, in words."""
    replace: bool = False
    """Put it in the place of the shown take."""
    forget: tuple[float, float] | None = None
    """Seconds of the sound from which hand edits are left out of the new take."""
    guided: bool = False
    """Whether keys set by hand guide it."""
    unread: tuple[str, ...] = ()
    """Channels of a mapped character whose keys cannot guide it: these are kept exactly."""
    live: Adjustments | None = None
    """Live controls that it will be shown with, as far as the click can know; None: as asked."""
    layer: Edits = NO_EDITS
    """Hand edits that will lie over it, as far as the click can know."""
    before: Motion | None = None
    """The take that the rows are put into."""
    rows: tuple[int, int] = (0, 0)
    """First and last row that are made anew in it."""


ANY_LINE = Wanted()


# -- identity ---------------------------------------------------------------------------------


def records_of(target: Any) -> dict[str, Clip]:
    """Return the lines of a head by name."""
    return storage.read(storage.holder(target)).clips


def name_of(target: Any, uid: str) -> str:
    """Return the name of a line on a head, "" for none."""
    return next((name for name, record in records_of(target).items() if record.uid == uid), "")


def clip_for(target: Any, scene: Any, clip: str, start_frame: float, wanted: Wanted) -> str:
    """Return the name of the line that a result belongs to, an unused one for a new line."""
    lines = records_of(target)
    if wanted.uid and name_of(target, wanted.uid):
        return name_of(target, wanted.uid)
    if wanted.exact:
        return clip
    strip = _strip(scene, wanted.strips)
    if strip is not None:
        name = name_of(target, strip.get(tracking.LINE, ""))
        if name:
            source = lines[name].source
            own = tracking.own_strip(lines[name].uid, source.name, source.scene)
            if own is not None and own[1] == strip:
                return name
    for name, record in lines.items():
        if _same_place(name, record, clip, start_frame, wanted):
            return name
    return takes.unique(clip, lines)


def _same_place(name: str, record: Clip, clip: str, start_frame: float, wanted: Wanted) -> bool:
    """Return whether a line that bears no strip's mark is of this sound at this place."""
    near = abs(record.start_frame - start_frame) < 0.5
    known, asked = record.source, wanted.source
    if not known.kind:  # of version 1.0.0, which went by names alone
        namesakes = [s for s in bpy.data.scenes if _strip(s, (clip,)) is not None]
        of_strip = asked.kind.startswith("strip")
        return name == clip and (near or (of_strip and len(namesakes) == 1))
    if known.kind != asked.kind:
        return False
    if known.kind.startswith("strip"):
        same = (known.name, known.scene) == (asked.name, asked.scene)
        return same and not tracking.marked(record.uid)
    return known.name == asked.name and near


def _strip(scene: Any, names: tuple[str, ...]) -> Any | None:
    """Return the first strip of some names that is in a scene's sequencer."""
    found = _strips(scene, names[:1])
    return found[0] if found else None


def _strips(scene: Any, names: tuple[str, ...]) -> list[Any]:
    if scene is None or scene.sequence_editor is None or not names:
        return []
    every = {strip.name: strip for strip in all_strips(scene.sequence_editor)}
    return [every[name] for name in names if name in every]


# -- the speaker ------------------------------------------------------------------------------


def speaker_of(scene: Any, strip: Any) -> Any | None:
    """Return the object that speaks a strip: chosen for it, or named like its channel."""
    found = strip.get(tracking.SPEAKER)
    if found is not None and getattr(found, "name", "") in bpy.data.objects:
        return found
    channels = scene.sequence_editor.channels
    name = channels[strip.channel].name if strip.channel < len(channels) else ""
    return bpy.data.objects.get(name)


def mark(scene: Any, names: tuple[str, ...], target: Any, clip: str) -> None:
    """Let strips remember their line and who speaks them."""
    uid = records_of(target)[clip].uid
    for strip in _strips(scene, names):
        strip[tracking.LINE] = uid
        strip[tracking.SPEAKER] = target
    _colour(scene)


def _colour(scene: Any) -> None:
    """Tell the strips of several speakers apart by colour; colours that a user gave stay."""
    strips = all_strips(scene.sequence_editor) if scene.sequence_editor is not None else []
    spoken = {s.name: s.get(tracking.SPEAKER) for s in strips}
    names = sorted({speaker.name for speaker in spoken.values() if speaker is not None})
    for strip in strips if len(names) > 1 else ():
        free = strip.color_tag in ("NONE", strip.get(_TAG, ""))
        if spoken[strip.name] is not None and free:
            strip.color_tag = strip[_TAG] = (
                f"COLOR_{1 + names.index(spoken[strip.name].name) % 9:02d}"
            )


# -- where the sound is -----------------------------------------------------------------------


def source_of(scene: Any, clip: AudioClip, strips: tuple[str, ...], kind: str) -> Source:
    """Return where a sound is, for finding it again."""
    file = str(clip.source) if clip.source is not None and clip.packed is None else ""
    span = list(clip.span) if clip.span else None
    strip = _strip(scene, strips)
    if strip is None:
        name = str(clip.source) if kind == "file" else clip.name
        return Source(kind, name, scene.name, fps=scene_fps(scene), file=file, span=span)
    return noted(scene, strip, Source(kind, file=file, span=span))


def noted(scene: Any, strip: Any, source: Source) -> Source:
    """Return a source with the place its strip has now."""
    now = tracking.layout(scene, strip)
    return replace(
        source,
        kind=source.kind or "strip",
        name=strip.name,
        scene=scene.name,
        zero=now.zero,
        length=now.length,
        handles=list(tracking.heard(scene, strip)),
        fps=now.fps,
        keys=now.keys,
        tail=now.tail,
    )


def layout_then(source: Source) -> Layout:
    """Return where a line's strip was when the line was put in its place."""
    first, last = source.handles
    return Layout(source.zero, source.length, first, last, source.fps, source.keys, source.tail)


def sound_again(scene: Any, record: Clip, clip: str) -> AudioClip | None:
    """Return exactly what a line was made from, None when its strip has to be asked."""
    source = record.source
    if not source.file or not Path(source.file).is_file():
        return None
    start = record.start_frame / scene_fps(scene)
    if source.span is None:
        return replace(file_clip(source.file, start), name=clip)
    first, length = source.span
    return AudioClip(None, 0, start, length, clip, Path(source.file), (first, length))


# -- takes ------------------------------------------------------------------------------------


def wanted(
    target: Any, scene: Any, clip: AudioClip, chosen: SimpleNamespace, given: Wanted
) -> Wanted:
    """Return what a take will be shown with, as known at the click."""
    start = clip.start * scene_fps(scene)
    name = clip_for(target, scene, clip.name, start, given)
    record = records_of(target).get(name)
    if record is None:
        return given
    guided = chosen.edits == "GUIDE" and can_guide(target, record)
    forget = EVER if guided or chosen.edits == "DROP" else None
    layer = layer_over(target, name, scene, forget)
    live = live_of(record, chosen.intensity)
    again, unread = chosen.take == "REPLACE", tuple[str, ...]()
    if guided and detect.is_mapped(target):
        unread = guides.read(target, name, scene_fps(scene)).unread
    found = replace(given, forget=forget, live=live, layer=layer, replace=again)
    return replace(found, guided=guided, unread=unread)


def can_guide(target: Any, record: Clip) -> bool:
    """Return whether keys on a line's curves can be read as our controls, which guide the model."""
    motion = storage.get_motion(storage.holder(target), record)
    return motion is not None and motion.controls is not None


def redone(
    target: Any,
    scene: Any,
    clip: str,
    frames: tuple[int, int],
    chosen: SimpleNamespace,
    style: Any,
) -> Wanted:
    """Return what a take is of which only some frames are made anew. Raises MotionError."""
    record = records_of(target).get(clip)
    before = storage.get_motion(storage.holder(target), record) if record else None
    if record is None or before is None:
        raise MotionError(f"There is no line “{clip}” on {target.name}.", "Generate it first.")
    fps = scene_fps(scene)
    first, last = edits.seconds(record, np.array(frames, np.float64), fps)
    row, end = _rows(before, first, last, fps / record.speed)
    if row > end or frames[0] > frames[1]:
        raise MotionError(
            f"“{clip}” does not speak on frames {frames[0]} to {frames[1]}.",
            "Choose frames of the line.",
        )
    chosen.seed += len(record.takes)  # the same seed would do the same again
    half = 0.5 / fps * record.speed
    forget = (first - half, last + half)
    return Wanted(
        uid=record.uid,
        source=record.source,
        about=f"{about(chosen, style)}, frames {frames[0]}–{frames[1]}".lstrip(", "),
        replace=chosen.take == "REPLACE",
        forget=forget,
        live=storage.adjustments(record),
        layer=layer_over(target, clip, scene, forget),
        before=before,
        rows=(row, end),
    )


def _rows(motion: Motion, first: float, last: float, fps: float) -> tuple[int, int]:
    """Return the rows between two seconds that no frame outside of them shows.

    Where frames fall between rows, curves bend by their neighbours: a row more is left at each end.
    """
    low, high = first * motion.fps - motion.start, last * motion.fps - motion.start
    even = abs(low - round(low)) < 1e-3 and abs(motion.fps - fps) < 1e-3
    row = int(np.ceil(low - 1e-3)) + (0 if even or low <= 0 else 1)
    end = int(np.floor(high + 1e-3)) - (0 if even or high >= motion.frames - 1 else 1)
    return max(row, 0), min(end, motion.frames - 1)


def live_of(record: Clip | None, intensity: float) -> Adjustments:
    """Return the live controls of a new take: the line's own, unless another strength is asked."""
    if record is None:
        return Adjustments(intensity=intensity)
    kept = storage.adjustments(record)
    same = abs(record.take.intensity - intensity) < 1e-6
    return kept if same else replace(kept, intensity=intensity)


def layer_over(target: Any, clip: str, scene: Any, forget: tuple[float, float] | None) -> Edits:
    """Return the hand edits of a line that a new take keeps."""
    if detect.is_mapped(target):
        layer = mapped.layer_of(target, clip, scene_fps(scene))
    else:
        key = target.data.shape_keys
        index = storage.read(key)
        layer = edits.lift(key, index, clip, scene_fps(scene), head.millimetres(target, scene))
    layer = layer.outside(*forget) if forget else layer
    return layer.of(name for name in layer.names if takes.meant(name))


def spoken(
    target: Any, clip: str, scene: Any, wanted: Wanted, intensity: float, result: Motion
) -> Spoken:
    """Return what the take's record says of it, with the hand edits that lie over it now."""
    layer = layer_over(target, clip, scene, wanted.forget) if clip in records_of(target) else None
    if wanted.unread and layer is not None and detect.is_mapped(target):
        layer = guides.exactly(target, clip, result, wanted.unread, scene_fps(scene))
    return Spoken(wanted.about, intensity, wanted.source, wanted.replace, layer)


def about(chosen: SimpleNamespace, style: Any) -> str:
    """Return how a take is made, in words: "energetic, seed 3"."""
    words = list(style) if isinstance(style, dict) else [style] if style else []
    return ", ".join([" and ".join(words), *([f"seed {chosen.seed}"] if chosen.seed else [])])


def write_keep(path: Path, target: Any, clip: str, scene: Any, rows: Any | None) -> None:
    """Write what a take keeps of the shown one: all but `rows`, or with None the keys set by hand.

    Values are those that are seen at strength 1, hand edits included.
    """
    key = storage.holder(target)
    index = storage.read(key)
    record = index.clips[clip]
    motion = storage.get_motion(key, record)
    assert motion is not None
    assert motion.controls is not None
    names, fps = motion.control_names, scene_fps(scene)
    known: Any = motion.controls
    mask = np.zeros(known.shape, bool)
    if rows is not None:
        mask[:] = True
        mask[rows[0] : rows[1] + 1] = False
    if not detect.is_mapped(target):
        layer = edits.lift(key, index, clip, fps, head.millimetres(target, scene))
        times = np.arange(motion.frames) / motion.fps + motion.start / motion.fps
        known = layer.over(motion.controls, names, times, Adjustments())
        hand = {} if rows is not None else edits.set_by_hand(key, index, clip, fps)
        for name, seconds in hand.items():
            if name in names:
                near = np.abs(times[:, None] - seconds[None, :]).min(1) < 0.999 / motion.fps
                mask[near, names.index(name)] = True
    elif rows is None:
        found = guides.read(target, clip, fps)
        known, mask = found.known, found.mask
    np.savez(path, controls=np.clip(known, 0, 1), names=np.array(names), mask=mask, fps=motion.fps)
