"""Files that are written whole or not at all: the old ones stay until the new ones are good."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ..errors import ExportError, LipSyncError


@contextlib.contextmanager
def written_whole(path: Path, kind: str) -> Iterator[Path]:
    """Yield the name to write under; a finished file takes the real name, a failed one vanishes.

    A .gltf names its companions after itself, so it is written in a folder of its own under its
    real name, and all of its files move together.
    """
    folder: Path | None = None
    part = path.with_name(f"{path.stem}.part{path.suffix}")
    try:
        if kind == "gltf":
            folder = Path(tempfile.mkdtemp(prefix=f".{path.stem}-", dir=path.parent))
            part = folder / path.name
        yield part
        if folder is None:
            part.replace(path)
        else:
            _move_together([*companions(part, kind), part], path.parent)
    except LipSyncError:
        raise
    except OSError as error:
        raise ExportError(
            f"{path.name} could not be written ({error.strerror or error})."
        ) from error
    except RuntimeError as error:  # what Blender's operators raise
        reason = str(error).strip().removeprefix("Error: ")
        raise ExportError(f"Blender's exporter refused {path.name}: {reason}") from error
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)


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
