# SPDX-License-Identifier: GPL-3.0-or-later
"""Write files that are old or new, never half, mixed or somebody else's.

A file is written under a random name of its own beside the target, which is made exclusively (so
that a link planted there leads nowhere), and takes the real name when it is whole. Two writers
never share a temporary file; the last one to finish wins. What a killed writer leaves is swept by
the next one.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path

_OURS = re.compile(r".+\.[0-9a-f]{12}\.part(\.\w{1,12})?")
STALE = 3600.0  # seconds without a change after which a temporary file has no writer any more
_STEM = 80  # characters of the target's name in the temporary one; file systems end at 255 bytes


@contextlib.contextmanager
def written(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Yield the name to write under; when all goes well, that file takes the place of `path`.

    The file is there already, empty and ours alone. With `durable` it is on the disk before it
    takes its name, so that a power cut leaves the old file or the new one. Raises OSError when the
    target is no plain file, or cannot be written; the temporary file never stays.
    """
    refuse_special(path)
    sweep(path.parent)
    part = new_part(path)
    try:
        yield part
        if durable:
            _sync(part)
        replace(part, path)
        if durable:
            _sync_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def write(path: Path, content: str | bytes, *, durable: bool = True) -> None:
    """Write text (UTF-8) or bytes safely. Raises OSError."""
    data = content.encode("utf-8") if isinstance(content, str) else content
    with written(path, durable=durable) as part, part.open("r+b") as file:
        file.write(data)


def refuse_special(path: Path) -> None:
    """Raise OSError when there is something at `path` that no file of ours may take the place of.

    A link is replaced, never followed; a device, pipe, socket or folder is left alone.
    """
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
        raise OSError(errno.EINVAL, "it is a device, not a file", str(path))


def new_part(path: Path) -> Path:
    """Make and return an empty file of ours beside `path`, with the same suffix. Raises OSError."""
    flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_NOFOLLOW", 0)
    flags |= getattr(os, "O_BINARY", 0)
    part = part_name(path)
    os.close(os.open(part, flags, _mode(path)))
    return part


def new_part_folder(path: Path) -> Path:
    """Make and return an empty folder of ours beside `path`, for results of several files."""
    folder = part_name(path.with_suffix(""))
    folder.mkdir(0o700)
    return folder


def part_name(path: Path) -> Path:
    """Return a random name beside `path` that `sweep` knows for ours."""
    suffix = path.suffix if re.fullmatch(r"\.\w{1,12}", path.suffix) else ""
    stem = path.name.removesuffix(suffix)
    while len(stem.encode("utf-8", "surrogateescape")) > _STEM:
        stem = stem[:-1]
    return path.with_name(f"{stem or '_'}.{secrets.token_hex(6)}.part{suffix}")


def _mode(path: Path) -> int:
    """Return the permissions of the file that will be replaced, else the usual ones."""
    with contextlib.suppress(OSError):
        found = os.lstat(path).st_mode
        if stat.S_ISREG(found):
            return stat.S_IMODE(found) | stat.S_IRUSR | stat.S_IWUSR
    return 0o666


def replace(part: Path, path: Path) -> None:
    """Let a file take another's place; on Windows a scanner may hold it for a moment."""
    for wait in (0.05, 0.1, 0.2, 0.4, 0.0):
        try:
            part.replace(path)
            return
        except PermissionError:
            if os.name != "nt" or not wait:
                raise
            time.sleep(wait)


def _sync(path: Path) -> None:
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Put a folder's new entry on the disk; some systems and network drives cannot, which is all
    right: the file itself is there.
    """
    if os.name == "nt":
        return
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def sweep(folder: Path, older: float = STALE) -> int:
    """Remove temporary files and folders of writers that were killed; return how many."""
    gone = 0
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if not _OURS.fullmatch(entry.name):
                continue
            with contextlib.suppress(OSError):
                about = entry.stat(follow_symlinks=False)
                if time.time() - about.st_mtime <= older:
                    continue
                if stat.S_ISREG(about.st_mode):
                    Path(entry.path).unlink()
                elif stat.S_ISDIR(about.st_mode):
                    shutil.rmtree(entry.path)
                gone += 1
    return gone
