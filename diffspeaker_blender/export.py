"""Animated head → glTF, FBX, USD, Alembic, CSV, JSON (skeleton: signatures are final)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .audio import AudioClip

FORMATS = ("glb", "gltf", "fbx", "usd", "abc", "csv", "json")


@dataclass(frozen=True)
class ExportReport:
    """What was written and what a second look at the file found."""

    path: Path
    files: tuple[Path, ...]
    """Everything written, sound included."""
    size: int
    """Bytes of all files."""
    shapes: int
    """Animated shape keys in the file (0 for mesh caches)."""
    frames: int
    seconds: float
    """Time it took."""
    remarks: tuple[str, ...] = ()

    def sentence(self) -> str:
        """Return "Wrote head.glb (1.2 MB): 48 shape keys over 300 frames"."""
        raise NotImplementedError


def export(
    objects: list[Any],
    path: str | Path,
    *,
    what: str = "",
    with_audio: AudioClip | Path | None = None,
    nonnegative: bool = False,
    scene: Any = None,
) -> ExportReport:
    """Write the animated heads; format from `what` or the suffix. Raises ExportError."""
    raise NotImplementedError


def check_export(path: str | Path) -> dict[str, Any]:
    """Re-read a written file: {"shapes", "animated", "frames", "seconds", …}. Raises ExportError."""
    raise NotImplementedError
