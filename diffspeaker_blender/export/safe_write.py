# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that are written whole or not at all: the old ones stay until the new ones are good."""

from __future__ import annotations

import contextlib
import errno
import json
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, unquote

from ..errors import ExportError, LipSyncError
from ..files import safe_write

_OURS = re.compile(r"\.lipsync-[0-9a-f]{12}")


@contextlib.contextmanager
def written_whole(path: Path, kind: str) -> Iterator[Path]:
    """Yield the name to write under; a finished file takes the real name, a failed one vanishes.

    A .gltf has companions, so it is written in a folder of its own; its files get names after its
    own there, which no texture of the user's has, and move together. Raises ExportError.
    """
    try:
        if kind == "gltf":
            with _folder_beside(path) as folder:
                part = folder / "part.gltf"
                yield part
                _move_together(_named(part, path), path.parent)
        else:
            with safe_write.written(path) as part:
                yield part
    except LipSyncError:
        raise
    except OSError as error:
        raise ExportError(why_not(path, error), way_out(error)) from error
    except RuntimeError as error:  # what Blender's operators raise
        reason = str(error).strip().removeprefix("Error: ")
        raise ExportError(f"Blender's exporter refused {path.name}: {reason}") from error


def why_not(path: Path, error: OSError) -> str:
    """Return the sentence for a file that could not be written."""
    return f"{path.name} could not be written in {path.parent} ({error.strerror or error})."


def way_out(error: OSError) -> str:
    """Return what to do about it."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "Free some space there, or choose another folder."
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return "Choose a folder you may write to."
    if error.errno == errno.ENAMETOOLONG:
        return "Choose a shorter name."
    return "Choose another name or folder."


@contextlib.contextmanager
def _folder_beside(path: Path) -> Iterator[Path]:
    """Make a folder of ours beside a file for the moment; remove what killed writers left."""
    safe_write.refuse_special(path)
    with contextlib.suppress(OSError):
        for left in path.parent.iterdir():
            stale = time.time() - left.lstat().st_mtime > safe_write.STALE
            if _OURS.fullmatch(left.name) and stale and left.is_dir() and not left.is_symlink():
                shutil.rmtree(left, ignore_errors=True)
    folder = path.with_name(f".lipsync-{secrets.token_hex(6)}")
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _move_together(files: list[Path], home: Path) -> None:
    """Let files take their places; when one cannot, the old ones come back. Raises OSError."""
    moved: list[tuple[Path, Path | None]] = []
    try:
        for file in files:
            place, kept = home / file.name, None
            safe_write.refuse_special(place)
            if place.exists():
                kept = place.replace(file.with_name(f"{len(moved)}.former"))
            moved.append((place, kept))
            file.replace(place)
    except OSError:
        for place, kept in reversed(moved):
            if kept is None:
                place.unlink(missing_ok=True)
            else:
                kept.replace(place)
        raise


def _named(part: Path, path: Path) -> list[Path]:
    """Give a .gltf and its companions their names, and return them, the .gltf last."""
    document = json.loads(part.read_text(encoding="utf-8"))
    named = []
    for linked in document.get("buffers", []) + document.get("images", []):
        link = linked.get("uri", "")
        if not link or link.startswith("data:"):
            continue
        old = part.parent / unquote(link)
        end = old.suffix if old.stem == part.stem else f"-{old.name}"
        named.append(old.rename(part.parent / (_cut(path.stem, end) + end)))
        linked["uri"] = quote(named[-1].name)
    part.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
    return [*named, part.rename(part.with_name(path.name))]


def _cut(stem: str, end: str) -> str:
    """Return as much of a name as a file system takes before `end`."""
    while len((stem + end).encode("utf-8", "surrogateescape")) > 255:
        stem = stem[:-1]
    return stem


def companions(path: Path, kind: str) -> list[Path]:
    """Return the files that Blender's .gltf exporter writes beside it."""
    if kind != "gltf":
        return []
    document = json.loads(path.read_text(encoding="utf-8"))
    links = [
        part.get("uri", "") for part in document.get("buffers", []) + document.get("images", [])
    ]
    return [path.parent / unquote(link) for link in links if link and not link.startswith("data:")]
