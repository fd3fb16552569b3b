# SPDX-License-Identifier: GPL-3.0-or-later
"""Point caches for film: a PC2 file, and the modifier that plays it.

It holds every vertex of every frame, exact and far faster to play than thousands of shape keys:
60 KB a frame for a FLAME head. The format as Blender reads it: "POINTCACHE2\\0", version 1, points,
first frame, sample rate, samples; then the positions, all little-endian.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ExportError
from ..files import safe_write
from ..motion import motion as motions
from ..motion.motion import Motion

MODIFIER = "Lip-Sync Cache"
_CHUNK = 128  # frames written at a time


def write_cache(
    motion: Motion,
    template: NDArray[Any],
    path: str | Path,
    *,
    fps: float,
    start_frame: float = 0.0,
) -> Path:
    """Write a .pc2, one sample for each whole scene frame of the motion.

    template: (V, 3) rest vertices in the mesh's own space. A frame at rest comes before and after,
    so the face is at rest outside the clip. Raises ExportError.
    """
    path = Path(path)
    if path.suffix.lower() != ".pc2":
        raise ExportError(f"{path.name} is no point cache.", "Call it .pc2.")
    placed, frames = motions.retime(motion, fps, start_frame=start_frame)
    rest = np.asarray(template, np.float32)
    if rest.shape != (placed.vertices, 3):
        raise ExportError(
            f"The motion is for {placed.vertices:,} vertices, the mesh has {len(rest):,}."
        )
    samples, first = len(frames) + 2, int(frames[0]) - 1
    head = struct.pack("<12siiffi", b"POINTCACHE2\0", 1, len(rest), float(first), 1.0, samples)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with safe_write.written(path) as part, part.open("r+b") as file:
            file.write(head)
            file.write(rest.astype("<f4").tobytes())
            for low in range(0, len(frames), _CHUNK):
                shown = rest + placed.offsets(slice(low, low + _CHUNK))
                file.write(shown.astype("<f4").tobytes())
            file.write(rest.astype("<f4").tobytes())
    except OSError as error:
        raise ExportError(
            f"The point cache {path.name} could not be written ({error.strerror or error}).",
            f"It needs {samples * rest.nbytes / 1e6:,.0f} MB in {path.parent}.",
        ) from error
    return path


def apply_cache(obj: Any, path: str | Path) -> Any:
    """Play a cache file on `obj` through a Mesh Cache modifier of ours; return the modifier.

    The file says itself at which frame it begins. The modifier comes first, so that subdivision and
    armatures act on the speaking face.
    """
    path = Path(path)
    remove_cache(obj)
    modifier = obj.modifiers.new(MODIFIER, "MESH_CACHE")
    modifier.cache_format = "PC2"
    modifier.filepath = str(path)
    modifier.interpolation = "LINEAR"
    modifier.play_mode, modifier.time_mode = "SCENE", "FRAME"
    modifier.frame_start = first_frame(path)
    modifier.frame_scale = 1.0
    obj.modifiers.move(len(obj.modifiers) - 1, 0)
    return modifier


def first_frame(path: Path) -> float:
    """Return the scene frame of a cache's first sample, as its head says."""
    with Path(path).open("rb") as file:
        return float(struct.unpack_from("<f", file.read(32), 20)[0])


def remove_cache(obj: Any) -> bool:
    """Take our Mesh Cache modifier away; return whether there was one."""
    found = obj.modifiers.get(MODIFIER)
    if found is None or found.type != "MESH_CACHE":
        return False
    obj.modifiers.remove(found)
    return True
