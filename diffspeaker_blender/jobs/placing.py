# SPDX-License-Identifier: GPL-3.0-or-later
"""Put a finished motion on its head, check that the head moves, and say so in one sentence."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import bpy

from .. import scenes
from ..animation import actions, clips, diagnosis, kept, mapped, point_cache, storage
from ..character import head
from ..errors import AudioError, Finding, HeadError
from ..motion import adjust, keys, motion
from ..motion.keys import Recipe, Shaped
from ..motion.motion import Adjustments, Motion
from ..motion.splice import splice
from ..settings import machine
from ..sound import sources, strips, tracking
from . import lines, live, plan
from .plan import Placement

_START, _END = 0.021, 0.05
"""Seconds that keys may begin or end beside the sound: half a row and one at 25 rows a second."""


@dataclass(frozen=True)
class Placed:
    """Say what came of a motion.

    head, clip: names of the object and of the result on it.
    sentence: "Mouth moved 14.2 mm over 212 frames, sound in sync".
    findings: why nothing would be seen, then remarks; empty when all is well.
    """

    head: str
    clip: str
    sentence: str
    millimetres: float
    frames: tuple[int, int]
    keyframes: int
    findings: tuple[Finding, ...] = ()
    applied: clips.Applied | None = None

    def with_findings(self, findings: tuple[Finding, ...]) -> Placed:
        """Return the same result after another look at it."""
        return replace(self, findings=tuple(findings))


def read(path: Path, placement: Placement | None) -> tuple[Motion, Shaped | None]:
    """Read a motion file and make its keys ready (called in a thread). Raises MotionError."""
    result = motion.load(path)
    return prepare(result, placement) if isinstance(placement, Placement) else (result, None)


def prepare(result: Motion, placement: Placement) -> tuple[Motion, Shaped | None]:
    """Return the motion as the head takes it and its keys: all that can be done without bpy."""
    form, line = placement.form, placement.line
    if placement.mapped:
        own = mapped.as_controls(result)
        if line.before is not None:
            own = splice(line.before, own, *line.rows, filled=True)
        return own, None
    if form.mode == "cache":
        return result, None
    full = keys.with_parts(result, placement.keys)
    if line.before is not None:
        filled = line.before.controls is not None
        full = splice(line.before, full, *line.rows, filled=filled)
    recipe = Recipe(
        keys.mode_for(form.mode, full.names, placement.followed),
        form.tolerance,
        placement.place.start * placement.fps,
        placement.fps,
        placement.unit,
        line.live or Adjustments(intensity=form.intensity),
        edits=line.layer,
    )
    return full, keys.shape(full, recipe)


def place(result: Motion, shaped: Shaped | None, placement: Placement) -> Placed:
    """Write a motion where its placement says. Raises HeadError or MotionError.

    `shaped` is what `prepare` made of it; where the scene has changed since, it is made again. Who
    has gone to Edit Mode meanwhile is taken back there afterwards.
    """
    with scenes.object_mode():
        return _place(result, shaped, placement)


def _place(result: Motion, shaped: Shaped | None, placement: Placement) -> Placed:
    scene: Any = bpy.data.scenes.get(placement.scene) or bpy.context.scene
    target = _target(placement)
    start = first_frame(scene, placement)
    if placement.form.mode == "cache" and not placement.mapped:
        return _place_cache(result, placement, target, scene, start)
    placement = _made_audible(scene, placement, start)
    clip = lines.clip_for(target, scene, placement.clip, start, placement.line)
    before, under = lines.records_of(target), storage.read(storage.holder(target)).kept
    former = before.get(clip)
    adjustments = lines.live_of(former, placement.form.intensity)
    edited = clips.edited(target, clip) if former else ()
    spoken = lines.spoken(target, clip, scene, placement.line, placement.form.intensity, result)
    if placement.line.before is not None and former is not None:
        adjustments, start = storage.adjustments(former), former.start_frame
    applied = clips.apply_motion(
        target,
        result,
        mode="named" if placement.mapped else placement.form.mode,
        start_frame=start,
        nla=placement.form.nla,
        clip=clip,
        scene=scene,
        tolerance=placement.form.tolerance,
        adjustments=adjustments,
        shaped=shaped,
        spoken=spoken,
    )
    lines.mark(scene, placement.line.strips, target, applied.clip)
    live.show_adjustments(target, adjustments, applied.clip)
    if placement.line.audible:
        scene.frame_end = max(scene.frame_end, applied.frames[1])
    findings = () if placement.mapped else diagnosis.verify(target, applied, scene=scene)
    sentence = applied.sentence()
    if len(plan.heads(bpy.context)) > 1:
        sentence += f" on {target.name}"
    if not any(found.blocking for found in (*findings, *applied.findings)):
        sentence += f", {sync(scene, placement, applied.frames, start)}"
    return Placed(
        target.name,
        applied.clip,
        sentence,
        applied.millimetres,
        applied.frames,
        applied.keyframes,
        (
            *findings,
            *applied.findings,
            *_remarks(target, scene, placement, applied.frames),
            *_loss_told(result),
            *_edits_told(target, applied.clip, edited, placement),
            *_kept_told(target, under),
            *_lines_told(before, lines.records_of(target), applied.clip),
        ),
        applied,
    )


def _target(placement: Placement) -> bpy.types.Object:
    """Return the head, if it is still in a scene and can be written. Raises HeadError."""
    target = bpy.data.objects.get(placement.head)
    if target is None or scenes.scene_of(target) is None:
        raise HeadError(
            f"The head “{placement.head}” is no longer in this file.",
            "Undo its removal or its new name, or pick another head, and generate again.",
        )
    return target


def _remarks(
    target: bpy.types.Object, scene: bpy.types.Scene, placement: Placement, frames: tuple[int, int]
) -> Iterator[Finding]:
    """Yield what else the animator should know of a result that is seen."""
    for sentence in placement.remarks:
        yield Finding("passed-over", sentence, blocking=False)
    shown = scenes.scene_of(target, scene)
    if shown is not None and abs(sources.scene_fps(shown) - sources.scene_fps(scene)) > 1e-3:
        yield Finding(
            "other-rate",
            f"“{shown.name}”, which shows {target.name}, runs at {sources.scene_fps(shown):.4g} "
            f"frames a second and “{scene.name}” with the sound at "
            f"{sources.scene_fps(scene):.4g}; give both the same rate.",
            blocking=False,
        )
    elif frames[0] <= scene.frame_end < frames[1]:
        yield Finding(
            "cut-off",
            f"The line goes on to frame {frames[1]}, playback ends at {scene.frame_end}.",
            fix="extend-range",
            fix_label="Extend Playback Range",
            blocking=False,
        )


def _made_audible(scene: bpy.types.Scene, placement: Placement, start: float) -> Placement:
    """Put a file that was spoken from the panel in the sequencer, so that playback is heard.

    A Blender without sound has no strips; its result is as good without.
    """
    source = placement.line.source
    if source.kind != "file" or not placement.line.audible:
        return placement
    path = Path(source.name)
    try:
        strip = strips.sound_at(scene, path, start) or strips.add_sound(scene, path, round(start))
    except AudioError:
        return placement
    noted = lines.noted(scene, strip, replace(source, kind="strip"))
    line = replace(placement.line, source=noted, strips=(strip.name,))
    return replace(placement, line=line)


def _loss_told(result: Motion) -> tuple[Finding, ...]:
    """Remark what reading controls off a vertex model's motion has lost."""
    error = result.report.get("controls_lip_error_mm")
    if not isinstance(error, int | float):
        return ()
    message = (
        "The model moves the vertices of its own head; read as controls, its lips are kept to "
        f"{error:.1f} mm on average"
    )
    related = result.report.get("controls_opening_r")
    if isinstance(related, int | float):
        message += f", their opening to r = {related:.2f}"
    return (Finding("controls-read", f"{message}.", blocking=False),)


def _edits_told(
    target: bpy.types.Object, clip: str, edited: tuple[str, ...], placement: Placement
) -> tuple[Finding, ...]:
    """Remark what became of curves that were edited by hand."""
    exact = tuple(dict.fromkeys(map(actions.plain_name, placement.line.unread)))
    edited = tuple(name for name in edited if name not in exact)
    found: tuple[Finding, ...] = ()
    if exact:
        message = f"Your keys of {_some(exact)} are no values of ours: kept just as they are."
        found = (Finding("edits-exact", message, blocking=False),)
    if not edited:
        return found
    some = _some(edited)
    if placement.line.guided:
        message = f"Your keys of {some} guide the new take; the one before has them as they were."
        return (*found, Finding("edits-guide", message, blocking=False))
    if set(edited) <= set(clips.edited(target, clip)):
        message = f"Your edits of {some} lie over the new take."
        return (Finding("edits-kept", message, blocking=False),)
    message = f"Your edits of {some} stay with the take before; show it, or undo."
    return (Finding("edits-left", message, blocking=False),)


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _kept_told(target: bpy.types.Object, before: dict[str, list[list[float]]]) -> Iterator[Finding]:
    """Remark keys of the user's that lie under the line now."""
    words = kept.frames_in_words(storage.read(storage.holder(target)), before)
    if words:
        message = f"Your keys of {words}, lie under this line now; they come back when it goes."
        yield Finding("keys-under", message, blocking=False)


def _lines_told(
    before: dict[str, storage.Clip], now: dict[str, storage.Clip], clip: str
) -> tuple[Finding, ...]:
    """Remark what became of the line's takes and of other lines."""
    found, former = [], before.get(clip)
    under = [name for name, record in now.items() if record.covered and name in before]
    under = [name for name in under if not before[name].covered]
    if under:
        message = f"“{under[0]}” lies under it now; it comes back when this line goes."
        found.append(Finding("covered", message, blocking=False))
    known = {take.number for take in former.takes} if former is not None else set()
    if clip in now and now[clip].take.number in known:
        message = "This is a take that the line has already; another seed or style gives another."
        found.append(Finding("same-take", message, blocking=False))
    return tuple(found)


def first_frame(scene: bpy.types.Scene, placement: Placement) -> float:
    """Return the frame at which the sound begins, also when its strip was moved meanwhile."""
    place = placement.place
    start = place.start * sources.scene_fps(scene)
    strip = plan.strip_named(scene, place.strip)
    if strip is None or place.layout is None:
        return start
    before = place.start * place.layout.fps
    where = tracking.belongs(place.layout, tracking.layout(scene, strip), before, 1.0)
    return start if where is None else where.start_frame


def sync(
    scene: bpy.types.Scene, placement: Placement, frames: tuple[int, int], start: float
) -> str:
    """Say whether the keys span the sound: to a frame at its start, to two at its end.

    The model's last row ends before the sound does, several frames of a fast scene before.
    """
    shown = scenes.scene_of(_target(placement), scene)
    if shown is not None and scenes.stretched(shown):
        speed = shown.render.frame_map_old / shown.render.frame_map_new
        return f"but Time Stretching plays it {speed:.3g} times as fast, and the sound as it is"
    fps = sources.scene_fps(scene)
    length = placement.place.duration * fps
    early, late = frames[0] - start, frames[1] - (start + length)
    if abs(early) <= max(1.0, _START * fps) and abs(late) <= max(2.0, _END * fps):
        return "sound in sync"
    return f"but the sound runs from frame {start:.0f} to {start + length:.0f}"


def cache_path(placement: Placement, target: bpy.types.Object) -> Path:
    """Return where a point cache goes: beside a saved file, else in the cache folder.

    No two results share a name, whatever is cut off it: a digest tells heads, lines and .blend
    files apart. Files that were never saved have no name, so theirs is drawn, and kept for as long
    as the head plays it.
    """
    words = [placement.head, placement.clip]
    stem = _shortened(plan.file_name("-".join(words)))
    if bpy.data.filepath:
        saved = Path(bpy.data.filepath)
        digest = hashlib.sha256("\0".join([saved.name, *words]).encode("utf-8", "replace"))
        return saved.parent / "diffspeaker_cache" / f"{stem}-{digest.hexdigest()[:8]}.lipsync.pc2"
    folder = machine.cache_folder()
    for modifier in target.modifiers:
        if modifier.type == "MESH_CACHE":
            playing = Path(modifier.filepath)  # type: ignore[attr-defined]
            if playing.parent == folder and playing.name[:-21] == stem:
                return playing
    return folder / f"{stem}-{secrets.token_hex(4)}.lipsync.pc2"


def _shortened(name: str) -> str:
    """Return a name that leaves room for more: file systems end at 255 bytes."""
    while len(name.encode("utf-8", "surrogateescape")) > 120:
        name = name[:-1]
    return name


def _place_cache(
    result: Motion,
    placement: Placement,
    target: bpy.types.Object,
    scene: bpy.types.Scene,
    start: float,
) -> Placed:
    """Write a PC2 file and play it on the head."""
    fps = sources.scene_fps(scene)
    shown = adjust.adjust(result, Adjustments(intensity=placement.form.intensity))
    path = cache_path(placement, target)
    if path.parent == machine.cache_folder():
        machine.made_cache_folder()
    else:
        machine.made(path.parent)
    template, _triangles = head.worn_arrays(target, clips.keys_of(target))
    point_cache.write_cache(shown, template, path, fps=fps, start_frame=start)
    point_cache.apply_cache(target, path)
    moved = motion.travel(shown, head.millimetres(target, scene))
    count = round(len(shown.weights) * fps / shown.fps)
    sentence = f"Point cache {path.name}: mouth moves {moved:.1f} mm over {count} frames"
    first = round(start)
    frames = (first, first + count - 1)
    findings = (*_still(target, result), *_remarks(target, scene, placement, frames))
    return Placed(target.name, placement.clip, sentence, moved, frames, 0, findings)


def _still(target: bpy.types.Object, result: Motion) -> tuple[Finding, ...]:
    """Remark that what follows the head's named keys stays still beside a point cache."""
    parts = clips.followed(target)
    if not any(name in parts for name in result.names):
        return ()
    message = (
        f"{clips.parts_in_words(parts)} this head's named keys, which a point cache does not "
        "move; choose Named Controls to move everything."
    )
    return (Finding("parts-still", message, blocking=False),)
