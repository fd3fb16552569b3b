"""Point caches for film: PC2 and MDD files, and the modifier that plays them (skeleton)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .motion import Motion


def write_cache(
    motion: Motion, template: Any, path: str | Path, *, fps: float, start_frame: float = 0.0
) -> Path:
    """Write a .pc2 or .mdd (by suffix), one sample a scene frame. Raises ExportError."""
    raise NotImplementedError


def apply_cache(obj: Any, path: str | Path, start_frame: float) -> Any:
    """Play a cache file on `obj` through a Mesh Cache modifier of our own; return the modifier."""
    raise NotImplementedError


def remove_cache(obj: Any) -> bool:
    """Take our Mesh Cache modifier away; return whether there was one."""
    raise NotImplementedError
