# SPDX-License-Identifier: GPL-3.0-or-later
"""The lines inside the .blend: what is needed to change a result later without the model.

It lives on the shape-key datablock, so it follows the mesh through copying, appending and undo:
one JSON text about keys and lines; for each take a block of bytes with its motion and one with the
hand edits over it; for each line one with its keys as we wrote them; one for each different shape
(takes of one head share most of them). What version 1.0.0 stored is read as lines of one take.
"""

from __future__ import annotations

import hashlib
import io
import json
import uuid
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import numpy as np

from ..character import detect
from ..files.arrays import read_npz
from ..motion.edits import KEY, Edits
from ..motion.motion import Adjustments, Motion

INDEX = "diffspeaker"
_CURVES = "diffspeaker.clip."
_SHAPE = "diffspeaker.shape."
_EDITS = "diffspeaker.edits."
_WRITTEN = "diffspeaker.written."
_ARRAYS = ("weights", "controls", "regions", "opening")


@dataclass
class Take:
    """One way in which a line was spoken."""

    number: int
    """Names its blocks of bytes; never used twice on a head."""
    names: list[str]
    """Shapes of the stored motion, in order."""
    hashes: list[str]
    """Their stored blocks, in the same order."""
    label: str = ""
    """Name that the user gave it."""
    about: str = ""
    """How it was made: "energetic, seed 3"."""
    intensity: float = 1.0
    """Strength that was asked for with it."""


@dataclass
class Source:
    """Where a line's sound was when the line was last put in its place."""

    kind: str = ""
    """"strip", "file", "speaker", or "" when nobody said (version 1.0.0)."""
    name: str = ""
    """Name of the first strip or of the speaker, path of the file."""
    scene: str = ""
    """Scene whose sequencer holds the strip."""
    zero: float = 0.0
    """Frame at which the strip's content begins, heard or not."""
    length: float = 0.0
    """Frames that all of its content would last."""
    handles: list[float] = field(default_factory=lambda: [0.0, 0.0])
    """First frame on which the strip is heard, and the first one after it."""
    fps: float = 24.0
    """Frames a second of the scene."""
    keys: int = 0
    """Retiming keys of the strip."""
    tail: float = 0.0
    """Frames of the strip after its last retiming key."""
    file: str = ""
    """The file that was listened to, "" for a mixdown."""
    span: list[float] | None = None
    """First second of the file that was listened to, and how many; None for all."""


@dataclass
class Clip:
    """One line on a head: a sound at a place, spoken, with its takes."""

    start_frame: float
    """Scene frame of the sound's first sample."""
    mode: str
    """"named", "exact", "compact" or "every frame"."""
    tolerance: float
    """Millimetres that the lips may stray for few keys; 0 = every frame has its key."""
    takes: list[Take] = field(default_factory=list)
    shown: int = 0
    """Place of the take that the curves show."""
    uid: str = field(default_factory=lambda: uuid.uuid4().hex)
    """The line's identity; its name in the index is for people."""
    source: Source = field(default_factory=Source)
    follow: bool = True
    """Move along with the strip by itself."""
    speed: float = 1.0
    """How much faster than spoken it is played."""
    action: str = ""
    nla: bool = False
    keys: list[str] = field(default_factory=list)
    """Shape keys it drives."""
    span: list[float] = field(default_factory=lambda: [0.0, 0.0])
    """First and last frame of its keys, without the rest keys around them."""
    natural: list[float] | None = None
    """First and last frame that it would have without neighbours; None before it was written."""
    cut: list[float] | None = None
    """Frames on which its strip is heard, when that was trimmed afterwards."""
    limit: list[float] | None = None
    """Frames it may use, once its strip or a later clip has left it only a part of its place."""
    covered: bool = False
    """Whether later clips have left it no frame at all; it comes back when they go."""
    rank: int = 0
    """Where clips overlap, the one of the highest rank is seen."""
    ease: float = 0.0
    """Frames over which the face comes from rest and returns to it."""
    adjustments: dict[str, float] = field(default_factory=dict)
    written: dict[str, int] = field(default_factory=dict)
    """Shape key → checksum of the keys as written; 0 for a curve without keys."""

    @property
    def take(self) -> Take:
        """Return the take that the curves show."""
        return self.takes[self.shown]

    @property
    def number(self) -> int:
        """Return what names the shown take's blocks."""
        return self.take.number

    @property
    def names(self) -> list[str]:
        """Return the shapes of the shown take."""
        return self.take.names

    @property
    def hashes(self) -> list[str]:
        """Return the blocks of the shown take's shapes."""
        return self.take.hashes


@dataclass
class Index:
    """Everything of ours on one shape-key datablock."""

    clips: dict[str, Clip] = field(default_factory=dict)
    keys: dict[str, list[str]] = field(default_factory=dict)
    """Shape key that we made → [shape's name, its hash]."""
    made_basis: bool = False
    numbers: int = 0
    kept: dict[str, list[list[float]]] = field(default_factory=dict)
    """Curve → keys of the user's that lie under lines: `kept`."""
    sliders: dict[str, list[float]] = field(default_factory=dict)
    """Channel of a mapped character → least and most of its slider before lines widened it, and
    since."""

    held: dict[str, float] = field(default_factory=dict)
    """Channel of a mapped character that rests in its lines → where it stands without them."""

    stood: dict[str, float] = field(default_factory=dict)
    """Channel of a mapped character that lines animate → where it stood before, if not at rest."""

    def users(self, name: str, besides: str | None = None) -> list[str]:
        """Return the clips that drive a shape key."""
        return [c for c, clip in self.clips.items() if c != besides and name in clip.keys]


def holder(obj: Any) -> Any | None:
    """Return what keeps the lines of an object: a mapped character itself, else its shape keys."""
    if detect.is_mapped(obj):
        return detect.notes(obj)
    return obj.data.shape_keys if obj is not None and obj.type == "MESH" else None


def _index_name(key: Any | None) -> str:
    """Return the property that holds the index: on objects the short name is the live controls'."""
    return INDEX if key is None or key.id_type == "KEY" else f"{INDEX}.lines"


def read(key: Any | None) -> Index:
    """Return what is stored on a shape-key datablock; an empty index when nothing (readable) is."""
    name = _index_name(key)
    if key is None or name not in key:
        return Index()
    try:
        found = json.loads(key[name])
        clips = {name: _clip(clip) for name, clip in found["clips"].items()}
        return Index(**_known(Index, found) | {"clips": clips})
    except (ValueError, TypeError, KeyError):  # written by a version with another layout
        return Index()


def _clip(found: dict[str, Any]) -> Clip:
    """Build a line from what was stored; a line of version 1.0.0 becomes its own only take."""
    takes = [Take(**_known(Take, take)) for take in found.get("takes", ())]
    if not takes:
        takes = [Take(found["number"], found["names"], found["hashes"])]
    source = Source(**_known(Source, found.get("source", {})))
    clip = Clip(**_known(Clip, found) | {"takes": takes, "source": source})
    if not found.get("uid"):  # version 1.0.0: the same identity each time it is read
        clip.uid, clip.rank = f"1.0.0-{takes[0].number}", takes[0].number
    clip.shown = min(max(clip.shown, 0), len(takes) - 1)
    return clip


def _known(kind: Any, found: dict[str, Any]) -> dict[str, Any]:
    """Return what this version knows of a stored object."""
    names = {entry.name for entry in fields(kind)}
    return {name: value for name, value in found.items() if name in names}


def write(key: Any, index: Index) -> None:
    """Store the index and drop blocks of bytes that no take refers to any more."""
    takes = [take for clip in index.clips.values() for take in clip.takes]
    needed = {prefix + str(take.number) for take in takes for prefix in (_CURVES, _EDITS)}
    needed |= {_SHAPE + one for take in takes for one in take.hashes}
    needed |= {_WRITTEN + clip.uid for clip in index.clips.values()}
    ours = (_CURVES, _SHAPE, _EDITS, _WRITTEN)
    for name in [n for n in key.keys() if n.startswith(ours) and n not in needed]:  # noqa: SIM118 ID properties
        del key[name]
    name = _index_name(key)
    if index.clips or index.keys or index.kept:
        key[name] = json.dumps(asdict(index))
    elif name in key:
        del key[name]


def rename(key: Any, index: Index, starts: dict[str, str]) -> None:
    """Let the stored names of a mapped character's channels begin otherwise: old → new."""

    def new(name: str) -> str:
        old = next((start for start in starts if name.startswith(start)), "")
        return starts[old] + name[len(old) :] if old else name

    index.keys = {new(name): value for name, value in index.keys.items()}
    index.kept = {new(name): value for name, value in index.kept.items()}
    index.sliders = {new(name): value for name, value in index.sliders.items()}
    index.held = {new(name): value for name, value in index.held.items()}
    for clip in index.clips.values():
        clip.keys = [new(name) for name in clip.keys]
        written = get_written(key, clip)
        if written is not None:
            put_written(key, clip, {new(name): rows for name, rows in written.items()})
        for take in clip.takes:
            edits = get_edits(key, take)
            names, pins = map(new, edits.names), ((new(name), at) for name, at in edits.pins)
            put_edits(key, take, replace(edits, names=tuple(names), pins=tuple(pins)))


def put_motion(key: Any, clip: Clip, motion: Motion) -> None:
    """Store a motion's curves and those of its shapes that are not stored yet."""
    arrays = {n: getattr(motion, n) for n in _ARRAYS if getattr(motion, n) is not None}
    about = {
        "fps": motion.fps,
        "start": motion.start,
        "control_names": motion.control_names,
        "region_names": motion.region_names,
        "formulas": motion.formulas,
        "report": motion.report,
    }
    stream = io.BytesIO()
    np.savez(stream, about=np.array(json.dumps(about)), **arrays)
    key[_CURVES + str(clip.number)] = stream.getvalue()
    for one, shape in zip(clip.hashes, motion.shapes, strict=True):
        if _SHAPE + one not in key:
            key[_SHAPE + one] = np.ascontiguousarray(shape, np.float32).tobytes()


def get_motion(key: Any, clip: Clip, place: int | None = None) -> Motion | None:
    """Return a take's motion as generated, or None when its bytes are gone.

    place: which take; None for the shown one.
    """
    take = clip.takes[clip.shown if place is None else place]
    try:
        curves = bytes(key[_CURVES + str(take.number)])
        shapes = [np.frombuffer(bytes(key[_SHAPE + one]), np.float32) for one in take.hashes]
    except KeyError:
        return None
    arrays: dict[str, Any] = dict(read_npz(curves))
    about = json.loads(str(arrays.pop("about")))
    about["control_names"] = tuple(about["control_names"])
    about["region_names"] = tuple(about["region_names"])
    about["formulas"] = tuple(about.get("formulas", ()))  # version 1.0.0 had none
    return Motion(
        shapes=np.stack(shapes).reshape(len(shapes), -1, 3),
        names=tuple(take.names),
        **arrays,
        **about,
    )


def put_edits(key: Any, take: Take, edits: Edits) -> None:
    """Store the hand edits over a take."""
    _put_bytes(key, _EDITS + str(take.number), edits.dump())


def get_edits(key: Any, take: Take) -> Edits:
    """Return the hand edits over a take."""
    return Edits.load(bytes(key.get(_EDITS + str(take.number), b"")))


def put_written(key: Any, clip: Clip, keys: dict[str, Any]) -> None:
    """Store a line's keys as they were written: shape key → (n, 7)."""
    stream = io.BytesIO()
    names = list(keys)
    counts = [len(keys[name]) for name in names]
    rows = np.concatenate([np.zeros((0, KEY)), *(keys[name] for name in names)])
    np.savez_compressed(
        stream, names=np.array(names, str), counts=np.array(counts, int), rows=rows.astype("f4")
    )
    _put_bytes(key, _WRITTEN + clip.uid, stream.getvalue())


def get_written(key: Any, clip: Clip) -> dict[str, Any] | None:
    """Return a line's keys as they were written, None when nobody noted them (version 1.0.0)."""
    data = bytes(key.get(_WRITTEN + clip.uid, b""))
    if not data:
        return None
    found = read_npz(data)
    ends = np.cumsum(found["counts"])
    parts = np.split(found["rows"], ends[:-1]) if len(ends) else []
    return {str(name): part for name, part in zip(found["names"], parts, strict=True)}


def _put_bytes(key: Any, name: str, data: bytes) -> None:
    """Store bytes, or nothing for no bytes.

    Blender 4.5 cuts bytes at their first zero when they are assigned over others.
    """
    if name in key:
        del key[name]
    if data:
        key[name] = data


def adjustments(clip: Clip) -> Adjustments:
    """Return the live controls a clip is shown with."""
    known = Adjustments.__dataclass_fields__
    return Adjustments(**{name: v for name, v in clip.adjustments.items() if name in known})


def shape_hash(shape: Any) -> str:
    """Return a short digest of one shape (V, 3)."""
    return hashlib.sha1(
        np.ascontiguousarray(shape, np.float32).tobytes(), usedforsecurity=False
    ).hexdigest()[:16]
