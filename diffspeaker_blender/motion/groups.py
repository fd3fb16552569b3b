# SPDX-License-Identifier: GPL-3.0-or-later
"""In which order and groups an animator meets a face's controls: jaw, lips, tongue, eyes, brows."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Group:
    """A group of curves in the Graph Editor and the Dope Sheet."""

    name: str
    theme: str
    """Blender's colour set, "" for none."""
    stems: tuple[str, ...]
    """How names of its controls begin, in the order in which they are listed."""


GROUPS = (
    Group("Jaw", "THEME01", ("jawOpen", "jawForward", "jaw")),
    Group(
        "Lips",
        "THEME02",
        (
            "mouthClose",
            "lipTuck",
            "mouthPress",
            "mouthPucker",
            "mouthFunnel",
            "mouthStretch",
            "mouthSmile",
            "mouthFrown",
            "mouthLowerDown",
            "mouthUpperUp",
            "mouthRoll",
            "mouthShrug",
            "mouth",
            "lip",
            "cheekPuff",
        ),
    ),
    Group("Tongue", "THEME09", ("tongue",)),
    Group(
        "Eyes",
        "THEME04",
        ("eyeBlink", "eyeLookUp", "eyeLookDown", "eyeLookIn", "eyeLookOut", "eyeWide", "eyeSquint"),
    ),
    Group("Brows", "THEME03", ("browInnerUp", "browOuterUp", "browDown", "brow", "cheek", "nose")),
)
OTHER = Group("Lip-Sync", "", ("",))
"""Shapes without a meaning of their own."""


def group_of(name: str) -> Group:
    """Return the group that a control belongs to."""
    for group in GROUPS:
        if name.startswith(group.stems):
            return group
    return OTHER


def order_of(name: str) -> tuple[int, int, str]:
    """Return what sorts controls as an animator expects them; correctives come last."""
    group = group_of(name)
    place = GROUPS.index(group) if group in GROUPS else len(GROUPS)
    stem = next(k for k, stem in enumerate(group.stems) if name.startswith(stem))
    return (place + 100 * ("." in name), stem, name)
