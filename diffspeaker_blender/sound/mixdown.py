# SPDX-License-Identifier: GPL-3.0-or-later
"""Let Blender's own mixer say what strips sound like, with everything else silent meanwhile."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from ..errors import AudioError
from . import clip
from .clip import AudioClip
from .strips import all_strips, metas_of, scene_fps

_PATIENCE = 20.0  # seconds for Blender 5.2.0–5.2.2, which mix in the background


def mixed(scene: Any, strips: list[Any], first: float, last: float, name: str) -> AudioClip:
    """Return what Blender's own mixer makes of these strips alone. Raises AudioError."""
    fps = scene_fps(scene)
    rate = max((int(s.sound.samplerate) for s in strips if s.sound), default=0) or 48_000
    wanted = round((last - first) / fps * rate)
    with tempfile.TemporaryDirectory() as folder, alone(scene, strips, int(first), int(last)):
        path = Path(folder) / "mix.wav"
        with bpy.context.temp_override(scene=scene):
            try:
                bpy.ops.sound.mixdown(
                    filepath=str(path), check_existing=False, accuracy=64, container="WAV",
                    codec="PCM", format="F32", channels="STEREO", mixrate=rate,
                )  # fmt: skip
            except RuntimeError as error:
                raise AudioError(f"Blender could not mix “{name}” down ({error}).") from error
        deadline = time.monotonic() + _PATIENCE
        while not path.exists() or path.stat().st_size < wanted * 8:
            if time.monotonic() > deadline:
                raise AudioError(f"Blender did not finish mixing “{name}” down.", "Try again.")
            time.sleep(0.01)
        samples, rate = clip.read_float_wav(path)
    if all(s.sound.channels == "MONO" for s in strips if s.sound):
        samples = samples * np.float32(np.sqrt(2.0))  # a mono source is turned down in a stereo mix
    mono = clip.mono(samples[:wanted])
    return AudioClip(mono, rate, first / fps, len(mono) / rate, name)


@contextlib.contextmanager
def alone(scene: Any, strips: list[Any], first: int, last: int) -> Iterator[None]:
    """Mute everything but these strips, and play only their frames, for the moment."""
    restore: list[tuple[Any, str, Any]] = []

    def put(owner: Any, name: str, value: Any) -> None:
        restore.append((owner, name, getattr(owner, name)))
        setattr(owner, name, value)

    needed = {_id(s) for s in strips}
    for strip in strips:
        needed |= {_id(meta) for meta in metas_of(scene.sequence_editor, strip) or ()}
    try:
        for strip in all_strips(scene.sequence_editor):
            if not strip.mute and _id(strip) not in needed:
                put(strip, "mute", True)
        for speaker in bpy.data.speakers:
            put(speaker, "muted", True)
        put(scene, "use_audio", True)
        put(scene, "use_preview_range", False)
        if scene.frame_end < first:  # Blender pushes one end with the other
            put(scene, "frame_end", last - 1)
            put(scene, "frame_start", first)
        else:
            put(scene, "frame_start", first)
            put(scene, "frame_end", last - 1)
        yield
    finally:
        for owner, name, value in reversed(restore):
            setattr(owner, name, value)


def _id(strip: Any) -> int:
    """Return what identifies a strip within this moment."""
    return int(strip.as_pointer())
