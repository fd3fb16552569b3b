"""Files that are written whole or not at all: the old ones stay until the new ones are good."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from ..errors import ExportError, LipSyncError
from ..files import safe_write


@contextlib.contextmanager
def written_whole(path: Path, kind: str) -> Iterator[Path]:
    """Yield the name to write under; a finished file takes the real name, a failed one vanishes.

    A .gltf names its companions after itself, so it is written in a folder of its own under its
    real name, and all of its files move together.
    """
    try:
        if kind != "gltf":
            with safe_write.written(path) as part:
                yield part
            return
        safe_write.refuse_special(path)
        safe_write.sweep(path.parent)
        folder = safe_write.new_part_folder(path)
        try:
            part = folder / path.name
            yield part
            _move_together([*companions(part, kind), part], path.parent)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    except LipSyncError:
        raise
    except OSError as error:
        raise ExportError(
            f"{path.name} could not be written ({error.strerror or error})."
        ) from error
    except RuntimeError as error:  # what Blender's operators raise
        reason = str(error).strip().removeprefix("Error: ")
        raise ExportError(f"Blender's exporter refused {path.name}: {reason}") from error


def _move_together(files: list[Path], home: Path) -> None:
    """Let files take their places; when one cannot, the old ones come back. Raises OSError."""
    moved: list[tuple[Path, Path | None]] = []
    try:
        for file in files:
            place, kept = home / file.name, None
            if place.exists():
                kept = place.replace(file.with_name(f"{file.name}.former"))
            moved.append((place, kept))
            file.replace(place)
    except OSError:
        for place, kept in reversed(moved):
            if kept is None:
                place.unlink(missing_ok=True)
            else:
                kept.replace(place)
        raise


def companions(path: Path, kind: str) -> list[Path]:
    """Return the files that Blender's .gltf exporter writes beside it."""
    if kind != "gltf":
        return []
    document = json.loads(path.read_text(encoding="utf-8"))
    links = [
        part.get("uri", "") for part in document.get("buffers", []) + document.get("images", [])
    ]
    return [path.parent / link for link in links if link and not link.startswith("data:")]
