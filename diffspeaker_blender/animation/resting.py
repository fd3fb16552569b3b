# SPDX-License-Identifier: GPL-3.0-or-later
"""Shapes of the mouth that no line drives, kept at rest while one is spoken.

A mouth shape that was left at 0.4 keeps lips apart that should meet at p, b and m. So what stands
away from rest, moves the mouth and is nobody's animation gets keys of ours: to rest with the line's
own ease, and back to where it stood. What the user animates is told and left alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import bpy
import numpy as np

from ..character import detect
from ..character.mapping import ALL, NONE, Mapping
from ..errors import Finding
from . import actions
from .channels import Channel

LIFE_MOUTH = 42.0
"""Millimetres between the ends of the line where a life-size mouth's lips part."""
_PARTS = 0.5
"""Millimetres on a life-size face from which a shape that stands there keeps the lips apart."""
_AROUND = 1.5
"""Mouth widths around the lips where most of a mouth shape's motion lies; else it is a person's."""
_STANDS = 1e-3
_LOOKS = 24
"""Frames of a line on which a curve of the user's is looked at."""


@dataclass(frozen=True)
class _Lips:
    """What is known of a face's lips, in its mesh's own space."""

    upper: Any
    lower: Any
    middle: Any
    """Which pairs lie in the middle (P,)."""
    up: Any
    centre: Any
    width: float

    @classmethod
    def of(cls, obj: Any) -> _Lips | None:
        """Return the lips of a fitted face, None where they were not stored."""
        found = detect.lips_of(obj)
        key = obj.data.shape_keys if obj.type == "MESH" else None
        if found is None or key is None or "up" not in found:
            return None
        upper, lower = np.array(found["upper"], int), np.array(found["lower"], int)
        rest = detect.coordinates(key.reference_key.points)
        if max(upper.max(), lower.max()) >= len(rest):
            return None
        scale = float(obj.matrix_world.median_scale)
        return cls(
            upper,
            lower,
            np.abs(np.array(found["along"])) < 0.35,
            np.array(found["up"]),
            (rest[upper].mean(0) + rest[lower].mean(0)) / 2,
            float(found["width"]) / max(scale, 1e-12),
        )

    def parted(self, offsets: Any) -> float:
        """Return by how many millimetres of a life-size face offsets (V, 3) part the lips."""
        apart = (offsets[self.upper] - offsets[self.lower])[self.middle] @ self.up
        return float(apart.mean()) * LIFE_MOUTH / self.width

    def moved(self, offsets: Any) -> float:
        """Return by how many millimetres offsets (V, 3) move the lips."""
        rows = offsets[np.r_[self.upper, self.lower]]
        return float(np.linalg.norm(rows, axis=1).max()) * LIFE_MOUTH / self.width


def held(obj: Any, mapping: Mapping, known: dict[str, float], ours: set[str]) -> dict[Any, float]:
    """Return the channels that rest while a character speaks, with where each one stands else.

    known: channels that rested before, by name, with the same; ours: channels that lines animate.
    """
    lips = _Lips.of(obj)
    if lips is None or mapping.hold == NONE:
        return {}
    found: dict[Any, float] = {}
    for block, channel in _unmapped(obj, mapping):
        value = known.get(channel.name, block.value)
        if _curves(channel, ours) or block.mute or abs(value) < _STANDS:
            continue
        if _disturbs(obj, lips, block, value, mapping.hold):
            found[channel] = value
    names = {actions.key_in(channel.path) for channel in found}
    for other in _others(obj, mapping):
        for block, channel in _unmapped(other, mapping):
            value = known.get(channel.name, block.value)
            free = not _curves(channel, ours)
            if block.name in names and free and abs(value) >= _STANDS:
                found[channel] = value
    return found


def rivals(obj: Any, mapping: Mapping, span: list[float], ours: set[str]) -> list[Finding]:
    """Say which shapes the user animates so that lips stay apart in a line; they are left alone."""
    lips = _Lips.of(obj)
    if lips is None:
        return []
    frames = np.linspace(span[0], span[1], _LOOKS)
    parting: dict[str, str] = {}
    for block, channel in _unmapped(obj, mapping):
        for name, curve in _curves(channel, ours):
            most = max((curve.evaluate(frame) for frame in frames), key=abs)
            if abs(most) >= _STANDS and lips.parted(_offsets(obj, block)) * most > _PARTS:
                parting[block.name] = name
    if not parting:
        return []
    some, one = ", ".join(sorted(parting)[:3]), len(parting) == 1
    action = next(iter(parting.values()))
    message = (
        f"{some} {'is' if one else 'are'} animated by you (“{action}”) and "
        f"{'stays' if one else 'stay'}: the lips may not meet at p, b and m."
    )
    return [Finding("other-shapes", message, blocking=False)]


def told(found: Iterable[str]) -> list[Finding]:
    """Say what is kept at rest while a line is spoken, by the channels' names."""
    names = sorted({actions.plain_name(name) for name in found})
    if not names:
        return []
    some = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    message = f"{some} {'is' if len(names) == 1 else 'are'} kept at rest while the line is spoken."
    return [Finding("kept-at-rest", message, blocking=False)]


def release(obj: Any, mapping: Mapping, former: dict[str, float], now: Iterable[Any]) -> None:
    """Put shapes that rested back to where they stood."""
    still = {channel.name for channel in now}
    for owner in (obj, *_others(obj, mapping)):
        key = owner.data.shape_keys if owner.type == "MESH" else None
        for block in () if key is None else key.key_blocks:
            name = Channel(key, actions.path_of(block.name)).name
            if name in former and name not in still:
                block.value = former[name]


def _others(obj: Any, mapping: Mapping) -> list[Any]:
    """Return the other meshes that a mapping moves."""
    names = dict.fromkeys(place.owner for place in mapping.places() if place.kind == "key")
    found = (bpy.data.objects.get(name) for name in names)
    return [one for one in found if one is not None and one != obj and one.type == "MESH"]


def _unmapped(obj: Any, mapping: Mapping) -> Iterator[tuple[Any, Channel]]:
    """Yield the shapes of a mesh that no line and no driver sets."""
    key = obj.data.shape_keys if obj.type == "MESH" else None
    if key is None:
        return
    mapped = {p.name for p in mapping.places() if p.kind == "key" and p.owner == obj.name}
    set_by_others = mapped | detect.driven_keys(key)
    for block in key.key_blocks:
        free = block != key.reference_key and block.name not in set_by_others
        if free and not block.name.startswith(detect.MODELLING):
            yield block, Channel(key, actions.path_of(block.name), 0, "lips")


def _disturbs(obj: Any, lips: _Lips, block: Any, value: float, hold: str) -> bool:
    """Return whether a shape, as it stands, is a mouth's that should rest."""
    offsets = _offsets(obj, block) * value
    if hold == ALL:
        wanted = lips.moved(offsets) > _PARTS
    else:
        wanted = lips.parted(offsets) > _PARTS
    if not wanted:
        return False
    weight = (offsets**2).sum(1)
    points = detect.coordinates(obj.data.shape_keys.reference_key.points)
    near = np.linalg.norm(points - lips.centre, axis=1) < _AROUND * lips.width
    return bool(weight[near].sum() > 0.5 * weight.sum())


def _offsets(obj: Any, block: Any) -> Any:
    """Return what a shape moves (V, 3), in the mesh's own space."""
    offsets = detect.coordinates(block.points) - detect.coordinates(block.relative_key.points)
    if block.vertex_group:
        offsets = offsets * detect.mask(obj, block.vertex_group)[:, None]
    return offsets


def _curves(channel: Channel, ours: set[str]) -> list[tuple[str, Any]]:
    """Return the (action, F-curve)s of the user's that animate a channel."""
    data = channel.owner.animation_data
    if data is None:
        return []
    pairs = [(data.action, data)] if data.action is not None else []
    for track in data.nla_tracks:
        pairs += [(s.action, s) for s in track.strips if not (s.mute or track.mute) and s.action]
    found = []
    for action, holder in pairs:
        if actions.is_rest(action) or (actions.is_ours(action) and channel.name in ours):
            continue
        bag = actions.channels(action, actions.slot_of(action, holder), ensure=False)
        curve = bag.fcurves.find(channel.path) if bag is not None else None
        if curve is not None and not curve.mute:
            found.append((action.name, curve))
    return found
