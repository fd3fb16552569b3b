# SPDX-License-Identifier: GPL-3.0-or-later
"""Many lines: read a folder or a CSV manifest, and refuse before work what cannot come out well.

A manifest has a header; only `audio` is required, paths are relative to the manifest:

    audio,head,character,style,model,seed,output
    lines/0001.wav,heads/cast.blend,Anna,neutral,,7,out/0001.glb
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import LipSyncError
from ..paths import absolute

COLUMNS = ("audio", "head", "character", "style", "model", "seed", "output")
DEMO_HEAD = "demo"
SOUNDS = frozenset(
    (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".m4a", ".aac", ".aif", ".aiff", ".wma")
) | frozenset((".mp4", ".mkv", ".mov", ".webm", ".avi", ".caf", ".au", ".ogv"))
LARGEST_SEED = 2**63 - 1


@dataclass(frozen=True)
class Line:
    """One line to speak and the file to write. `head` is a .blend or "demo"; "" means default."""

    audio: Path
    output: Path
    head: str = DEMO_HEAD
    style: str = ""
    model: str = ""
    seed: int = 0
    character: str = ""
    """Who speaks in the head's file: name of a mesh, an armature or a collection; "" finds it."""
    row: int = 0
    """Line of the manifest that it stands in, from 1; 0 when it comes from no manifest."""

    @property
    def named(self) -> str:
        """Return what a message calls it."""
        return f"line {self.row} ({self.audio.name})" if self.row else self.audio.name


def from_folder(folder: Path, out: Path, suffix: str, default: Line) -> list[Line]:
    """Return one line a sound file of a folder, by name; hidden files are left alone.

    Raises LipSyncError when there is none.
    """
    try:
        sounds = sorted(
            path
            for path in folder.iterdir()
            if path.suffix.lower() in SOUNDS and not path.name.startswith(".") and path.is_file()
        )
    except OSError as error:
        raise LipSyncError(f"{folder} cannot be read: {error.strerror or error}.") from error
    if not sounds:
        raise LipSyncError(f"There is no sound file in {folder}.", "Name another folder.")
    return [
        replace(default, audio=path, output=out / path.with_suffix(suffix).name) for path in sounds
    ]


def from_manifest(manifest: Path, out: Path, suffix: str, default: Line) -> list[Line]:
    """Return the lines of a CSV manifest; rows without a word are skipped.

    Raises LipSyncError naming the row at fault.
    """
    text = _text_of(manifest)
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=_delimiter(text))
    try:
        rows.fieldnames = [(name or "").strip().lower() for name in rows.fieldnames or ()]
        unknown = sorted(set(rows.fieldnames) - {*COLUMNS, ""})
        if unknown or "audio" not in rows.fieldnames:
            raise LipSyncError(
                f"{manifest.name} needs a column “audio” and knows {', '.join(COLUMNS)}.",
                f"Remove {', '.join(unknown)}." if unknown else "Add it to the first line.",
            )
        found = []
        for row in rows:
            cells = _cells(row, manifest, rows.line_num)
            if any(cells.values()):
                found.append(
                    _line(cells, manifest, out, suffix, replace(default, row=rows.line_num))
                )
    except csv.Error as error:
        raise LipSyncError(
            f"{manifest.name}, line {rows.line_num}, is no CSV ({error}).", "Mend that line."
        ) from error
    if not found:
        raise LipSyncError(f"{manifest.name} names no sound file.", "Add a line under its first.")
    return found


def _text_of(manifest: Path) -> str:
    try:
        return manifest.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise LipSyncError(f"{manifest.name} is not UTF-8.", "Save it as CSV UTF-8.") from error
    except OSError as error:
        raise LipSyncError(f"{manifest.name} cannot be read: {error.strerror or error}.") from error


def _delimiter(text: str) -> str:
    """Return what separates the cells: spreadsheets write semicolons and tabs as well."""
    first = text.lstrip().partition("\n")[0]
    return max(",;\t", key=first.count)


def _cells(row: Mapping[str | None, Any], manifest: Path, number: int) -> dict[str, str]:
    """Return a row's cells without blanks around them. Raises LipSyncError."""
    surplus = [cell for cell in row.get(None) or () if cell.strip()]
    if surplus:
        raise LipSyncError(
            f"{manifest.name}, line {number}, has more cells than the first line has columns.",
            f"Put quotes around a name with a comma (“{surplus[0]}” is left over).",
        )
    return {name: (row.get(name) or "").strip() for name in COLUMNS}


def _line(cells: dict[str, str], manifest: Path, out: Path, suffix: str, default: Line) -> Line:
    """Turn one row's cells into a line; empty ones take what was given for all."""
    where = f"{manifest.name}, line {default.row}"
    if not cells["audio"]:
        raise LipSyncError(f"{where}, names no sound file.")
    folder = manifest.parent
    audio = absolute(folder / cells["audio"])
    output = absolute(folder / cells["output"]) if cells["output"] else out / (audio.stem + suffix)
    head = cells["head"] or default.head
    if cells["head"] and head != DEMO_HEAD:
        head = str(absolute(folder / head))
    try:
        seed = int(cells["seed"]) if cells["seed"] else default.seed
    except ValueError as error:
        message = f"{where}: the seed “{cells['seed'][:40]}” is no whole number."
        raise LipSyncError(message) from error
    if not 0 <= seed <= LARGEST_SEED:
        raise LipSyncError(f"{where}: the seed must lie between 0 and {LARGEST_SEED}.")
    return replace(
        default,
        audio=audio,
        output=output,
        head=head,
        character=cells["character"] or default.character,
        style=cells["style"] or default.style,
        model=_model(cells["model"], folder) or default.model,
        seed=seed,
    )


def _model(text: str, folder: Path) -> str:
    """Return a model's name as it is, and a model file's path made absolute."""
    return str(absolute(folder / text)) if text.lower().endswith(".safetensors") else text


def refuse_clashes(lines: Sequence[Line], others: Mapping[str, Path]) -> None:
    """Refuse lines of which one would overwrite another's file, or something they are made from.

    others: what else must survive, by what a message calls it. Raises LipSyncError.
    """
    taken = {_spelling(path): what for what, path in others.items()}
    for line in lines:
        taken.setdefault(_spelling(line.audio), f"the sound {line.audio.name}")
        if line.head and line.head != DEMO_HEAD:
            taken.setdefault(_spelling(Path(line.head)), f"the head {Path(line.head).name}")
    for line in lines:
        place = _spelling(line.output)
        if place in taken:
            raise LipSyncError(
                f"{line.output.name} of {line.named} would overwrite {taken[place]}.",
                "Give each line a file of its own: another name, or a column “output”.",
            )
        taken[place] = f"the file of {line.named}"


def _spelling(path: Path) -> str:
    """Return a path as the file system compares it."""
    text = os.path.normcase(absolute(path))
    if sys.platform == "darwin":  # neither case nor the way accents are spelled counts
        text = unicodedata.normalize("NFC", text).casefold()
    return text


def shard(lines: list[Line], text: str) -> list[Line]:
    """Return the share "i/n" of the lines, i from 1. Raises LipSyncError when it is no share."""
    part, _, whole = text.partition("/")
    if not (part.isdecimal() and whole.isdecimal() and 1 <= int(part) <= int(whole)):
        raise LipSyncError(f"“{text}” is no share.", "Write 2/5 for the second of five.")
    return lines[int(part) - 1 :: int(whole)]


def fingerprint(line: Line, options: Mapping[str, Any]) -> str:
    """Return a digest of everything the written file depends on. Raises OSError."""
    digest = hashlib.sha256()
    said = [line.style, line.model, line.seed, line.character, dict(options)]
    digest.update(json.dumps(said).encode())
    for name in (str(line.audio), line.head, line.model):
        path = Path(name)
        if not name or "\0" in name or not path.is_file():
            digest.update(name.encode("utf-8", "backslashreplace"))
        else:
            digest.update(_read(path) if path == line.audio else content_of(path))
    return digest.hexdigest()


_contents: dict[tuple[Path, int, int], bytes] = {}


def content_of(path: Path) -> bytes:
    """Return a digest of a file that many lines share, computed once. Raises OSError."""
    about = path.stat()
    key = (path, about.st_mtime_ns, about.st_size)
    if key not in _contents:
        _contents[key] = _read(path)
    return _contents[key]


def _read(path: Path) -> bytes:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()
