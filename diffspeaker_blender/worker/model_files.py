# SPDX-License-Identifier: GPL-3.0-or-later
"""List the model files one can choose: the bundled one and those the user imported.

A model file is a `.safetensors` whose header carries a ModelSpec as JSON, so names, styles and
licence are read with the standard library in well under a millisecond, without torch.
"""

from __future__ import annotations

import contextlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG
from typing import Any

from ..paths import absolute
from .client import package_root

BUNDLED = "bundled"
_HEADER_LIMIT = 10_000_000  # bytes; a model of a thousand tensors has a tenth of one percent
_MOST_STYLES = 10_000


@dataclass(frozen=True)
class ModelFile:
    """Describe one model file.

    id: what a request calls it: "bundled", or the file's stem.
    path: where it lies.
    name: what a person reads.
    styles: names of the ways of speaking, in the model's order; never empty.
    motion: "controls" (named face controls) or "vertices" (a mesh of fixed topology).
    fps: frames a second that the model was trained on.
    licence: the label that came with the weights.
    notes: one paragraph from whoever made the file.
    megabytes: size on the disk.
    template: whether the file holds the neutral head that its motion belongs to.
    vertices: how many vertices a vertex model moves; 0 where it moves none, or does not say.
    light: whether the engine that we carry runs it; others need torch.
    """

    id: str
    path: Path
    name: str
    styles: tuple[str, ...]
    motion: str
    fps: float
    licence: str
    notes: str
    megabytes: float
    template: bool = False
    light: bool = False
    vertices: int = 0

    @property
    def checkpoint(self) -> str:
        """Return what the worker is told to load."""
        return BUNDLED if self.id == BUNDLED else str(self.path)


def bundled_path() -> Path:
    """Return where the bundled weights lie, present or not."""
    return package_root() / "model" / "weights" / "bundled.safetensors"


def read_header(path: Path) -> Mapping[str, Any]:
    """Return the header of a `.safetensors` file: tensors by name, and `__metadata__`.

    Raises ValueError when the file is no such file or was cut short.
    """
    with path.open("rb") as stream:
        start = stream.read(8)
        size = struct.unpack("<Q", start)[0] if len(start) == 8 else _HEADER_LIMIT + 1
        if size > min(_HEADER_LIMIT, path.stat().st_size - 8):
            raise ValueError(f"{path.name} is not a model file")
        header = json.loads(stream.read(size).decode("utf-8"))
    if not isinstance(header, dict) or not isinstance(header.get("__metadata__", {}), dict):
        raise ValueError(f"{path.name} carries no description")
    return header


def read(path: Path, identifier: str | None = None) -> ModelFile:
    """Read one model file's description.

    Raises ValueError or OSError when the file cannot be read or carries no spec.
    """
    header = read_header(path)
    metadata = header.get("__metadata__", {})
    spec = json.loads(metadata["spec"]) if "spec" in metadata else None
    if not isinstance(spec, dict):
        raise ValueError(f"{path.name} carries no model description")
    styles = spec.get("styles") or ["neutral"]
    if not isinstance(styles, list) or len(styles) > _MOST_STYLES:
        raise ValueError(f"{path.name} has no list of styles")
    fps = float(spec.get("fps", 30.0))
    if not 1 <= fps <= 1000:
        raise ValueError(f"{path.name} has an impossible frame rate")
    return ModelFile(
        id=identifier or path.stem,
        path=path,
        name=_words(spec.get("name")) or path.stem,
        styles=tuple(_words(style) or f"style {place}" for place, style in enumerate(styles)),
        motion=_words(spec.get("motion", "vertices")),
        fps=fps,
        licence=_words(spec.get("licence")) or "no licence stated",
        notes=_words(spec.get("notes"), 2000),
        megabytes=path.stat().st_size / 1e6,
        template="motion.template" in header,
        light=_light(spec),
        vertices=_vertices(spec),
    )


def _vertices(spec: Mapping[str, Any]) -> int:
    """Return how many vertices a vertex model moves: a third of its channels."""
    channels = spec.get("channels")
    moves = spec.get("motion", "vertices") == "vertices" and isinstance(channels, int)
    return int(channels) // 3 if moves and channels else 0


def _light(spec: Mapping[str, Any]) -> bool:
    """Return whether a description is of the kind that the carried engine runs."""
    encoder = spec.get("encoder")
    kind = encoder.get("kind") if isinstance(encoder, dict) else ""
    return (spec.get("motion"), kind, spec.get("alignment")) == ("controls", "whisper", "time")


def _words(value: Any, most: int = 100) -> str:
    """Return a text of the file as one line that Blender can show; "" for anything else."""
    if not isinstance(value, str):
        return ""
    shown = " ".join(value[: 4 * most].split())[:most]
    return shown.encode("utf-8", "replace").decode().replace("\0", "")


_seen: dict[tuple[Path, int, int], ModelFile] = {}
_bad: dict[Path, str] = {}


def _read_once(path: Path, identifier: str | None = None) -> ModelFile | None:
    """Return the description, read again only when the file changed; None when unreadable."""
    try:
        stat = path.stat()
        if not S_ISREG(stat.st_mode):
            raise ValueError(f"{path.name} is no file")  # a pipe would be waited for without end
        key = (path, stat.st_mtime_ns, stat.st_size)
        if key not in _seen:
            _seen[key] = read(path, identifier)
        _bad.pop(path, None)
        return _seen[key]
    except Exception as error:  # one bad file must never take the others away
        _bad[path] = str(error) or type(error).__name__
        return None


def unreadable(folder: Path | None) -> list[tuple[Path, str]]:
    """Return the files of `folder` (and the bundled one) that are no models, and why."""
    models(folder)
    return [(path, why) for path, why in _bad.items() if path.is_file()]


def models(folder: Path | None) -> list[ModelFile]:
    """List the bundled model, then the files in `folder` by name; unreadable ones are left out."""
    found = [_read_once(bundled_path(), BUNDLED)]
    with contextlib.suppress(OSError):
        paths = [] if folder is None else sorted(folder.glob("*.safetensors"))
        found += [_read_once(path) for path in paths]
    return [model for model in found if model is not None]


def find(identifier: str, folder: Path | None) -> ModelFile | None:
    """Return the model with this id or path, or None."""
    for model in models(folder):
        if identifier in (model.id, str(model.path)):
            return model
    return _read_once(absolute(identifier)) if identifier.endswith(".safetensors") else None


def style_label(style: str, place: int) -> str:
    """Return a style's name as a person reads it: "Over-articulated", "Speaker 1 (170728)"."""
    if style.startswith("FaceTalk_"):
        return f"Speaker {place} ({style.split('_')[1]})"
    if len(style) <= 2:
        return f"Speaker {style.upper()}"
    return style[:1].upper() + style[1:].replace("_", " ")
