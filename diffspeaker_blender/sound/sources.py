# SPDX-License-Identifier: GPL-3.0-or-later
"""Exactly what is heard of a sound strip, a cut-up line, a file or a speaker, as one AudioClip.

For a strip that plays its file straight, the clip is the file and a span of it:

    second in the file = (frame - content start + content trim) / fps - sound offset

Retimed strips and animated volume have no such formula (Blender keeps their maps to itself), so
those are mixed down with everything else muted for the moment. Other strips are never heard.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import bpy

from ..errors import AudioError, SilentError
from . import clip as sound
from .clip import AudioClip, file_clip, write_clip
from .mixdown import mixed
from .strips import (
    all_strips,
    file_of,
    is_animated,
    metas_of,
    path_of,
    place,
    scene_fps,
    top_strips,
)

__all__ = [
    "AudioClip",
    "file_clip",
    "scene_fps",
    "selected_strips",
    "sequencer_scene",
    "speaker_clip",
    "strip_clip",
    "strips_clip",
    "write_clip",
]


def sequencer_scene(context: Any) -> Any:
    """Return the scene whose sequencer the user sees (Blender 5 lets it differ)."""
    return getattr(context, "sequencer_scene", None) or context.scene


def selected_strips(context: Any) -> list[Any]:
    """Return the selected strips that have sound, in timeline order, in every Blender version."""
    editor = sequencer_scene(context).sequence_editor
    if editor is None:
        return []
    chosen = [s for s in all_strips(editor) if s.select and s.type in ("SOUND", "MOVIE", "META")]
    sounds = {file_of(s) for s in chosen if s.type == "SOUND"}
    chosen = [s for s in chosen if not (s.type == "MOVIE" and file_of(s) in sounds)]
    return sorted(chosen, key=lambda s: (place(s)[0], s.channel))


# -- the clips --------------------------------------------------------------------------------


def strip_clip(scene: Any, strip: Any) -> AudioClip:
    """Return exactly what is heard of one strip. Raises AudioError."""
    if strip.type == "META":
        inside = sounds_inside(strip)
        if not inside:
            raise AudioError(f"The meta strip “{strip.name}” holds no sound strip.")
        return replace(strips_clip(scene, inside), name=strip.name)
    if strip.type == "MOVIE":
        strip = _sound_of_movie(scene, strip)
    if strip.type != "SOUND":
        raise AudioError(f"“{strip.name}” is no sound strip.", "Select a sound strip.")
    heard = _heard(scene, strip)
    if _needs_mixing(scene, strip):
        return mixed(scene, [strip], heard.first, heard.last, strip.name)
    fps = scene_fps(scene)
    source = strip.sound
    return AudioClip(
        None,
        0,
        heard.first / fps,
        (heard.last - heard.first) / fps,
        strip.name,
        path_of(source),
        (_file_second(strip, heard.first, fps), (heard.last - heard.first) / fps),
        bytes(source.packed_file.data) if source.packed_file else None,
    )


def strips_clip(scene: Any, strips: list[Any]) -> AudioClip:
    """Return one clip for a cut-up line: all these strips together, gaps as silence.

    Raises AudioError.
    """
    if not strips:
        raise AudioError("No sound strip is selected.", "Select the strips of one line.")
    if len(strips) == 1:
        return strip_clip(scene, strips[0])
    line = [_sound_of_movie(scene, s) if s.type == "MOVIE" else s for s in strips]
    line = [inner for s in line for inner in (sounds_inside(s) if s.type == "META" else [s])]
    line = sorted((s for s in line if s.type == "SOUND"), key=lambda s: place(s)[0])
    if not line:
        raise AudioError("None of the selected strips has sound.", "Select sound strips.")
    line, silent = audible(scene, line)
    if not line:
        raise silent[0]
    if len(line) == 1:
        return strip_clip(scene, line[0])
    ranges = [_heard(scene, s) for s in line]
    first, last = min(r.first for r in ranges), max(r.last for r in ranges)
    if bpy.app.build_options.audaspace:  # type: ignore[attr-defined]
        return mixed(scene, line, first, last, line[0].name)
    return _joined(scene, line, ranges, first, last)


def sounds_inside(meta: Any) -> list[Any]:
    """Return the sound strips in a meta, and in metas inside of it."""
    found = []
    for strip in top_strips(meta):
        found += sounds_inside(strip) if strip.type == "META" else [strip]
    return [strip for strip in found if strip.type == "SOUND"]


def audible(scene: Any, strips: list[Any]) -> tuple[list[Any], list[SilentError]]:
    """Return the strips that are heard, and why the others are not.

    Raises AudioError for a strip that should be heard and cannot.
    """
    heard, silent = [], []
    for strip in strips:
        try:
            _heard(scene, strip)
            heard.append(strip)
        except SilentError as error:
            silent.append(error)
    return heard, silent


def speaker_clip(obj: Any, scene: Any = None) -> AudioClip:
    """Return a Speaker object's sound, from where its NLA strip starts it. Raises AudioError."""
    scene = scene or bpy.context.scene
    if obj is None or obj.type != "SPEAKER":
        raise AudioError("That object is no speaker.", "Pick a Speaker object.")
    speaker = obj.data
    if speaker.sound is None:
        raise AudioError(f"The speaker “{obj.name}” has no sound.", "Open one in its properties.")
    if speaker.muted or speaker.volume <= 0:
        raise AudioError(f"The speaker “{obj.name}” is muted.", "Unmute it, or turn it up.")
    tracks = obj.animation_data.nla_tracks if obj.animation_data else ()
    starts = [s.frame_start for t in tracks for s in t.strips if s.type == "SOUND" and not s.mute]
    start = min(starts, default=float(scene.frame_start)) / scene_fps(scene)
    clip = _whole_sound(speaker.sound, obj.name, start)
    if abs(speaker.pitch - 1.0) < 1e-6:
        return clip
    with tempfile.TemporaryDirectory() as folder:  # a pitch plays the same samples faster
        clip = clip.decoded(Path(folder))
    rate = max(1000, round(clip.rate * speaker.pitch))
    return replace(clip, rate=rate, duration=clip.duration * clip.rate / rate)


def _whole_sound(source: Any, name: str, start: float) -> AudioClip:
    """Return all of a sound datablock. Raises AudioError."""
    path = path_of(source)
    if source.packed_file is None:
        return replace(file_clip(path, start), name=name)
    data = bytes(source.packed_file.data)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        copy.write_bytes(data)
        duration = file_clip(copy).duration
    return AudioClip(None, 0, start, duration, name, path, None, data)


# -- what is heard ----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Range:
    """Frames on which a strip is heard: `first` to just before `last`."""

    first: float
    last: float


def _heard(scene: Any, strip: Any) -> _Range:
    """Return the frames a strip is really heard on: inside its metas, not muted, with a file.

    Raises AudioError.
    """
    metas = metas_of(scene.sequence_editor, strip)
    if metas is None:
        raise AudioError(f"The strip “{strip.name}” is not in the sequencer of “{scene.name}”.")
    owners = [scene.sequence_editor, *metas]
    for owner, part in zip(owners, [*metas, strip], strict=True):
        channel = owner.channels[part.channel] if part.channel < len(owner.channels) else None
        if part.mute or (channel is not None and channel.mute):
            what = "its channel" if not part.mute else "it"
            raise SilentError(
                f"“{part.name}” is muted, so nothing is heard of it.", f"Unmute {what} first."
            )
    if strip.volume <= 0 and not is_animated(scene, strip, "volume"):
        raise SilentError(f"The volume of “{strip.name}” is zero.", "Turn it up.")
    _check_sound(strip)
    first = max(place(part)[0] for part in [*metas, strip])
    last = min(place(part)[1] for part in [*metas, strip])
    if last <= first:
        raise SilentError(
            f"“{strip.name}” is shorter than one frame.", "Drag its right handle to lengthen it."
        )
    return _Range(first, last)


def _check_sound(strip: Any) -> None:
    """Refuse a strip whose file is missing or no sound; `new_sound` itself never complains."""
    source = strip.sound
    if source is None:
        raise AudioError(f"“{strip.name}” has no sound file.", "Select another strip.")
    if source.packed_file is None:
        sound.check_file(path_of(source))
    if bpy.app.build_options.audaspace and source.samplerate == 0:  # type: ignore[attr-defined]
        raise AudioError(
            f"“{strip.name}”: {path_of(source).name} is no sound Blender can decode.",
            "Choose another file or convert it to WAV.",
        )


def _file_second(strip: Any, frame: float, fps: float) -> float:
    """Return the second inside the strip's file that is heard at a frame."""
    if hasattr(strip, "content_trim_start"):
        begin, trim = strip.content_start, strip.content_trim_start
    else:
        begin, trim = strip.frame_start, strip.animation_offset_start
    return float((frame - begin + trim) / fps - getattr(strip, "sound_offset", 0.0))


def _needs_mixing(scene: Any, strip: Any) -> bool:
    """Return whether only Blender's mixer knows what this strip sounds like."""
    if not bpy.app.build_options.audaspace:  # type: ignore[attr-defined]
        return False
    if not hasattr(strip, "retiming_keys"):  # 4.2 and 4.3 hide whether it is retimed
        return True
    faster = getattr(strip, "pitch", 1.0) != 1.0 or getattr(strip, "speed_factor", 1.0) != 1.0
    stream = getattr(strip, "stream_index", 0) or getattr(strip.sound, "stream", 0)
    return bool(
        len(strip.retiming_keys)
        or faster
        or stream
        or is_animated(scene, strip, "volume")
        or is_animated(scene, strip, "pitch")
        or len(strip.modifiers)
    )


def _sound_of_movie(scene: Any, movie: Any) -> Any:
    """Return the sound strip that Blender adds beside a movie strip. Raises AudioError."""
    for strip in all_strips(scene.sequence_editor):
        if strip.type == "SOUND" and file_of(strip) == file_of(movie):
            (first, last), (begin, end) = place(strip), place(movie)
            if first < end and begin < last:
                return strip
    raise AudioError(
        f"The movie strip “{movie.name}” has no sound strip.",
        "Add the movie's sound with Add > Sound and select that.",
    )


def _joined(
    scene: Any, strips: list[Any], ranges: list[_Range], first: float, last: float
) -> AudioClip:
    """Join strips without Blender's mixer: only pieces of one file, cut and left in place."""
    fps = scene_fps(scene)
    clips = [strip_clip(scene, strip) for strip in strips]
    shifts = [c.span[0] - c.start for c in clips if c.span]
    if len({c.source for c in clips}) > 1 or max(shifts) - min(shifts) > 0.5 / fps:
        raise AudioError(
            "This Blender has no audio mixer, so only a line cut from one file can be joined.",
            "Generate the strips one by one.",
        )
    assert clips[0].span is not None
    begin = clips[0].span[0] - clips[0].start + first / fps
    length = (last - first) / fps
    return replace(clips[0], start=first / fps, duration=length, span=(begin, length))
