"""The motion inside the .blend: what is needed to adjust a result later without the model.

It lives on the shape-key datablock, so it follows the mesh through copying, appending and undo:
one JSON text about keys and clips, one block of bytes for each clip's curves, and one for each
different shape (clips of one head share most of them).
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from ..motion.motion import Adjustments, Motion

INDEX = "diffspeaker"
GIVEN = "diffspeaker.given"
"""Marks a head whose named keys came with it and move its teeth and lashes along."""
_CURVES = "diffspeaker.clip."
_SHAPE = "diffspeaker.shape."
_ARRAYS = ("weights", "controls", "regions", "opening")


@dataclass
class Clip:
    """One result on a head."""

    number: int
    """Names its block of bytes; never used twice on a head."""
    start_frame: float
    """Scene frame of the sound's first sample."""
    mode: str
    """"named", "compact" or "every frame"."""
    tolerance: float
    """Millimetres that thinning may cost; 0 = every frame has its key."""
    names: list[str]
    """Shapes of the stored motion, in order."""
    hashes: list[str]
    """Their stored blocks, in the same order."""
    action: str = ""
    nla: bool = False
    keys: list[str] = field(default_factory=list)
    """Shape keys it drives."""
    span: list[float] = field(default_factory=lambda: [0.0, 0.0])
    """First and last frame of its keys, without the rest keys around them."""
    limit: list[float] | None = None
    """Frames it may use, once a later clip has taken over a part of its place."""
    ease: float = 0.0
    """Frames over which the face comes from rest and returns to it."""
    adjustments: dict[str, float] = field(default_factory=dict)
    written: dict[str, int] = field(default_factory=dict)
    """Shape key → checksum of the keys as written, to notice hand edits."""


@dataclass
class Index:
    """Everything of ours on one shape-key datablock."""

    clips: dict[str, Clip] = field(default_factory=dict)
    keys: dict[str, list[str]] = field(default_factory=dict)
    """Shape key that we made → [shape's name, its hash]."""
    made_basis: bool = False
    numbers: int = 0

    def users(self, name: str, besides: str | None = None) -> list[str]:
        """Return the clips that drive a shape key."""
        return [c for c, clip in self.clips.items() if c != besides and name in clip.keys]


def read(key: Any | None) -> Index:
    """Return what is stored on a shape-key datablock; an empty index when nothing (readable) is."""
    if key is None or INDEX not in key:
        return Index()
    try:
        found = json.loads(key[INDEX])
        clips = {name: Clip(**clip) for name, clip in found["clips"].items()}
        return Index(clips, found["keys"], found["made_basis"], found["numbers"])
    except (ValueError, TypeError, KeyError):  # written by a version with another layout
        return Index()


def write(key: Any, index: Index) -> None:
    """Store the index and drop blocks of bytes that no clip refers to any more."""
    needed = {_CURVES + str(clip.number) for clip in index.clips.values()}
    needed |= {_SHAPE + one for clip in index.clips.values() for one in clip.hashes}
    for name in [n for n in key.keys() if n.startswith((_CURVES, _SHAPE)) and n not in needed]:  # noqa: SIM118 ID properties
        del key[name]
    if index.clips or index.keys:
        key[INDEX] = json.dumps(asdict(index))
    elif INDEX in key:
        del key[INDEX]


def put_motion(key: Any, clip: Clip, motion: Motion) -> None:
    """Store a motion's curves and those of its shapes that are not stored yet."""
    arrays = {n: getattr(motion, n) for n in _ARRAYS if getattr(motion, n) is not None}
    about = {
        "fps": motion.fps,
        "start": motion.start,
        "control_names": motion.control_names,
        "region_names": motion.region_names,
        "report": motion.report,
    }
    stream = io.BytesIO()
    np.savez(stream, about=np.array(json.dumps(about)), **arrays)
    key[_CURVES + str(clip.number)] = stream.getvalue()
    for one, shape in zip(clip.hashes, motion.shapes, strict=True):
        if _SHAPE + one not in key:
            key[_SHAPE + one] = np.ascontiguousarray(shape, np.float32).tobytes()


def get_motion(key: Any, clip: Clip) -> Motion | None:
    """Return a clip's motion as generated, or None when its bytes are gone."""
    try:
        curves = bytes(key[_CURVES + str(clip.number)])
        shapes = [np.frombuffer(bytes(key[_SHAPE + one]), np.float32) for one in clip.hashes]
    except KeyError:
        return None
    with np.load(io.BytesIO(curves), allow_pickle=False) as found:
        arrays = {name: found[name] for name in found.files if name != "about"}
        about = json.loads(str(found["about"]))
    about["control_names"] = tuple(about["control_names"])
    about["region_names"] = tuple(about["region_names"])
    return Motion(
        shapes=np.stack(shapes).reshape(len(shapes), -1, 3),
        names=tuple(clip.names),
        **arrays,
        **about,
    )


def adjustments(clip: Clip) -> Adjustments:
    """Return the live controls a clip is shown with."""
    known = Adjustments.__dataclass_fields__
    return Adjustments(**{name: v for name, v in clip.adjustments.items() if name in known})


def shape_hash(shape: Any) -> str:
    """Return a short digest of one shape (V, 3)."""
    return hashlib.sha1(
        np.ascontiguousarray(shape, np.float32).tobytes(), usedforsecurity=False
    ).hexdigest()[:16]
