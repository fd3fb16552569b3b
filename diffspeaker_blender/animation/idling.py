# SPDX-License-Identifier: GPL-3.0-or-later
"""Let a head live where it does not speak: idle lines in the gaps between its lines."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ..character import detect, head
from ..errors import HeadError
from ..motion import idle
from ..motion.formulas import derived, words
from ..motion.motion import Motion
from ..sound.sources import scene_fps
from . import clips, storage

NAME = "Idle"
SHORTEST = 1.5
"""Seconds of a gap below which the face just rests."""


def remove(obj: Any) -> int:
    """Take the idle lines of a head away; return how many there were."""
    names = [name for name in clips.clips(obj) if is_idle(name)]
    for name in names:
        clips.remove_motion(obj, name)
    return len(names)


def is_idle(name: str) -> bool:
    """Return whether a line's name is one that we give idle lines."""
    return name == NAME or name.startswith(f"{NAME} ")


def fill(obj: Any, scene: Any, *, seed: int = 0, tolerance: float = 0.5) -> int:
    """Put blinks, glances and small brows where no line speaks in the scene's range; count gaps.

    Idle lines that are there already are replaced. Raises HeadError for a face that can move none.
    """
    names, shapes, formulas = _of_mapping(obj) if detect.is_mapped(obj) else _eye_shapes(obj)
    remove(obj)
    fps = scene_fps(scene)
    found = gaps(obj, scene, SHORTEST * fps)
    for place, (first, last) in enumerate(found):
        weights = np.zeros((last - first + 1, len(names)), np.float32)
        curves = idle.idle(len(weights), fps, seed + place)
        for column, name in enumerate(idle.CONTROLS):
            if name in names:
                weights[:, names.index(name)] = curves[:, column]
        motion = Motion(derived(weights, names, formulas), shapes, names, fps, formulas=formulas)
        if detect.is_mapped(obj):
            motion = replace(motion, controls=weights, control_names=names)
        clips.apply_motion(
            obj,
            motion,
            clip=f"{NAME} {place + 1}" if place else NAME,
            start_frame=first,
            scene=scene,
            tolerance=tolerance,
        )
    return len(found)


def gaps(obj: Any, scene: Any, shortest: float) -> list[tuple[int, int]]:
    """Return the first and last frame of each stretch of the scene in which no line speaks."""
    spans = sorted(
        (record.span[0] - record.ease, record.span[1] + record.ease)
        for name, record in storage.read(storage.holder(obj)).clips.items()
        if not record.covered and not is_idle(name)
    )
    found, begin = [], float(scene.frame_start)
    for low, high in [*spans, (scene.frame_end + 1.0, 0.0)]:
        end = min(low - 1, scene.frame_end)
        if end - begin >= shortest:
            found.append((int(np.ceil(begin)), int(np.floor(end))))
        begin = max(begin, high + 1)
    return found


def _of_mapping(obj: Any) -> tuple[tuple[str, ...], Any, tuple[str, ...]]:
    """Return the controls of an idle face, without shapes: its mapping plays what it has of them.

    Raises HeadError where that is none.
    """
    mapping = detect.read_mapping(obj)
    if mapping is None or not mapping.controls() & set(idle.CONTROLS):
        raise HeadError(
            f"{obj.name} cannot idle: nothing of it blinks, looks around or lifts its brows.",
            "Its mouth rests between lines all the same.",
        )
    return idle.CONTROLS, np.zeros((len(idle.CONTROLS), 0, 3), np.float32), ()


def _eye_shapes(obj: Any) -> tuple[tuple[str, ...], Any, tuple[str, ...]]:
    """Return names, shapes and formulas of eyes and brows: those of a line, else the head's own."""
    lines = clips.clips(obj)
    stored = next((found for name in lines if (found := clips.load_stored(obj, name))), None)
    if stored is not None and {"eyeBlinkLeft", "eyeBlinkRight"} <= set(stored[0].names):
        motion = stored[0]
        formulas = motion.formulas or ("",) * len(motion.names)
        known = set(idle.CONTROLS)
        chosen = [
            k
            for k, (name, formula) in enumerate(zip(motion.names, formulas, strict=True))
            if (known.issuperset(words(formula)) if formula else name in known)
        ]
        return (
            tuple(motion.names[k] for k in chosen),
            motion.shapes[chosen],
            tuple(formulas[k] for k in chosen),
        )
    key = storage.holder(obj)
    names = tuple(n for n in idle.CONTROLS if key is not None and n in key.key_blocks)
    if not {"eyeBlinkLeft", "eyeBlinkRight"} <= set(names):
        raise HeadError(
            f"{obj.name} has no named eyes yet.", "Generate a line with Named Controls first."
        )
    basis = head.face_arrays(obj)[0]
    points = np.empty(basis.size, np.float32)
    shapes = []
    for name in names:
        key.key_blocks[name].points.foreach_get("co", points)
        shapes.append(points.reshape(-1, 3) - basis)
    return names, np.stack(shapes), ()
