# SPDX-License-Identifier: GPL-3.0-or-later
"""How well a mapped head speaks, against the same head with all of its shapes.

Legend: `F` frames, `V` vertices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from diffspeaker_blender.character.mapping import Mapping
from diffspeaker_blender.character.poses import POSES
from diffspeaker_blender.character.probe import Face, Part

VISEME_KEYS = {
    "PP": "viseme_PP", "FF": "viseme_FF", "TH": "viseme_TH", "DD": "viseme_DD", "kk": "viseme_kk",
    "CH": "viseme_CH", "SS": "viseme_SS", "nn": "viseme_nn", "RR": "viseme_RR", "aa": "viseme_aa",
    "E": "viseme_E", "ih": "viseme_I", "oh": "viseme_O", "ou": "viseme_U",
}  # fmt: skip
_WORDS = ("AH", "M", "EE", "F", "OO", "REST", "EE", "M", "OO", "AH", "AH", "AH", "M", "REST")


@dataclass(frozen=True)
class Score:
    """What was measured of one mapped head; lengths in millimetres of the head as it is."""

    correlation: float
    """Of the lips' opening with the truth's."""
    error: float
    """Mean distance of lip vertices from the truth's."""
    gap: float
    """Largest gap above rest while the lips are sealed."""
    strays: float
    """Farthest that anything above the brows or below the chin goes beyond the truth."""


def speech(frames: int = 240) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return controls (F, C) that go from one test pose to the next as fast as in speech."""
    names = tuple(sorted({name for pose in POSES.values() for name in pose}))
    random = np.random.default_rng(3)
    keys = np.zeros((frames // 7 + 2, len(names)))
    for k in range(1, len(keys) - 1):
        pose = POSES.get(_WORDS[int(random.integers(len(_WORDS)))], {})
        keys[k] = [pose.get(name, 0.0) * (0.6 + 0.4 * random.random()) for name in names]
    keys = np.clip(keys, 0.0, 1.0)
    seal = names.index("mouthClose")
    keys[:, seal] = keys[:, seal] > 0
    place = np.arange(frames) / 7
    before, share = place.astype(int), (place % 1)[:, None]
    share = np.clip(1.6 * share - 0.3, 0, 1)
    share = share * share * (3 - 2 * share)
    return keys[before] * (1 - share) + keys[before + 1] * share, names


def renamed(parts: Sequence[Part], convention: dict[str, Any]) -> list[Part]:
    """Return a head's parts with its shapes under the first names of a convention."""
    sources: dict[str, list[str]] = {}
    for control, names in convention.get("controls", {}).items():
        sides = [control.replace("*", side) for side in ("Left", "Right")]
        sources.setdefault(names[0], sides if "*" in control else [control])
    for viseme, names in convention.get("visemes", {}).items():
        if viseme in VISEME_KEYS:
            sources.setdefault(names[0], [VISEME_KEYS[viseme]])
    found = []
    for part in parts:
        keys = {}
        for name, olds in sources.items():
            there = [part.keys[old] for old in olds if old in part.keys]
            if there:
                keys[name] = np.sum(there, axis=0)
        found.append(replace(part, keys=keys))
    return found


def play(parts: Sequence[Part], name: str, mapping: Mapping, controls: Any, names: Any) -> Any:
    """Return how one part moves (F, V, 3) when controls are played through a mapping."""
    part = next(part for part in parts if part.name == name)
    offsets = np.zeros((len(controls), *part.rest.shape))
    for place, curve in mapping.evaluate(controls, names, 30.0):
        if place.owner == name and np.abs(curve).max() > 0:
            offsets += curve[:, None, None] * part.keys[place.name]
    return offsets


def score(face: Face, truth: Any, offsets: Any, sealed: Any, unit: float = 1e3) -> Score:
    """Compare motion (F, V, 3) of the mesh with the lips with the truth's; unit: mm of one unit."""
    mouth = face.mouth
    lips = np.r_[mouth.upper, mouth.lower]

    def openings(moved: Any) -> Any:
        marks = np.array([mouth.landmarks(frame) for frame in moved])
        return (marks[:, 0, 1] - marks[:, 1, 1]) * mouth.width * unit

    ours, theirs = openings(offsets), openings(truth)
    error = np.linalg.norm((offsets - truth)[:, lips], axis=2).mean()
    heights = mouth.frame.local(face.part.rest - face.part.rest[lips].mean(0))[:, 1] / mouth.width
    away = (heights > 3.5) | (heights < -2.5)
    stray = np.linalg.norm((offsets - truth)[:, away], axis=2).max(initial=0.0)
    return Score(
        float(np.corrcoef(ours, theirs)[0, 1]), float(error) * unit,
        float(ours[sealed].max(initial=0.0)), float(stray) * unit,
    )  # fmt: skip
