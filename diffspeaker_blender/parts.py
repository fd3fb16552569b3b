"""Teeth, tongue, brows and lashes follow the face: by drivers in Blender, by actions in exports.

A part is a child of the face whose shape keys bear names of the face's keys. Drivers make it
follow sliders, actions and NLA strips alike. Exporters, however, write only what has an action of
its own (glTF) or lose driven keys (seen with Blender 4.5's and 5.2's glTF and FBX exporters), so
for the time of an export the parts play the face's own action.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from . import curves


def parts_of(face: Any) -> list[Any]:
    """Return the mesh children of a face: those that follow it and those that only sit on it."""
    return [child for child in face.children if child.type == "MESH"]


def drive(part: Any, face: Any) -> None:
    """Let every shape key of a part take the value of the face's key of that name.

    A sum of one variable is no script: it runs where Python drivers are not allowed.
    """
    if part.data.shape_keys is None:
        return
    for block in part.data.shape_keys.key_blocks[1:]:
        driver = block.driver_add("value").driver
        driver.type = "SUM"
        variable = driver.variables.new()
        variable.type = "SINGLE_PROP"
        target = variable.targets[0]
        target.id_type = "KEY"
        target.id = face.data.shape_keys
        target.data_path = f'key_blocks["{block.name}"].value'


@contextmanager
def playing_along(face: Any) -> Iterator[list[Any]]:
    """Within this block the face's driven parts play its action and strips; yields all parts."""
    source = face.data.shape_keys.animation_data if face.data.shape_keys else None
    followers = [part.data.shape_keys for part in parts_of(face) if _is_driven(part, face)]
    made: list[tuple[Any, Any]] = []
    try:
        for key in followers if source else ():
            holder = key.animation_data
            if source.action is not None:
                curves.assign(holder, source.action)
                if hasattr(source, "action_slot"):
                    holder.action_slot = source.action_slot
            made += [(holder, _copy_track(holder, track)) for track in source.nla_tracks]
        yield parts_of(face)
    finally:
        for holder, track in made:
            holder.nla_tracks.remove(track)
        for key in followers:
            key.animation_data.action = None


def _is_driven(part: Any, face: Any) -> bool:
    """Return whether a part's keys are driven by this face's, and have no action of their own."""
    key = part.data.shape_keys
    if key is None or key.animation_data is None or key.animation_data.action is not None:
        return False
    return any(
        target.id == face.data.shape_keys
        for curve in key.animation_data.drivers
        for variable in curve.driver.variables
        for target in variable.targets
    )


def _copy_track(holder: Any, track: Any) -> Any:
    """Add a track with the same strips."""
    copy = holder.nla_tracks.new()
    copy.name, copy.mute = track.name, track.mute
    for strip in track.strips:
        if strip.action is None:
            continue
        new = copy.strips.new(strip.name, int(strip.frame_start), strip.action)
        curves.assign(new, strip.action)
        if hasattr(strip, "action_slot"):
            new.action_slot = strip.action_slot
        new.action_frame_start, new.action_frame_end = (
            strip.action_frame_start,
            strip.action_frame_end,
        )
        new.frame_start, new.frame_end = strip.frame_start, strip.frame_end
        new.extrapolation, new.blend_type = strip.extrapolation, strip.blend_type
    return copy
