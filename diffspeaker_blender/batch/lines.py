"""Many lines: read a folder or a CSV manifest, skip what is up to date, keep a JSON report.

A manifest has a header; only `audio` is required, paths are relative to the manifest:

    audio,head,style,model,seed,output
    lines/0001.wav,heads/anna.blend,neutral,,7,out/0001.glb
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import LipSyncError

COLUMNS = ("audio", "head", "style", "model", "seed", "output")
DEMO_HEAD = "demo"
SOUNDS = frozenset(
    (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".m4a", ".aac", ".aif", ".aiff", ".wma")
) | frozenset((".mp4", ".mkv", ".mov", ".webm", ".avi"))


@dataclass(frozen=True)
class Line:
    """One line to speak and the file to write. `head` is a .blend or "demo"; "" means default."""

    audio: Path
    output: Path
    head: str = DEMO_HEAD
    style: str = ""
    model: str = ""
    seed: int = 0


def from_folder(folder: Path, out: Path, suffix: str, default: Line) -> list[Line]:
    """Return one line a sound file of a folder, by name. Raises LipSyncError when there is none."""
    sounds = sorted(path for path in folder.iterdir() if path.suffix.lower() in SOUNDS)
    if not sounds:
        raise LipSyncError(f"There is no sound file in {folder}.", "Name another folder.")
    return [
        replace(default, audio=path, output=out / path.with_suffix(suffix).name) for path in sounds
    ]


def from_manifest(manifest: Path, out: Path, suffix: str, default: Line) -> list[Line]:
    """Return the lines of a CSV manifest. Raises LipSyncError naming the row at fault."""
    try:
        text = manifest.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise LipSyncError(f"{manifest.name} is not UTF-8.", "Save it as CSV UTF-8.") from error
    first = text.partition("\n")[0]
    delimiter = ";" if first.count(";") > first.count(",") else ","
    rows = csv.DictReader(text.splitlines(), delimiter=delimiter)
    unknown = sorted(set(rows.fieldnames or ()) - set(COLUMNS))
    if unknown or "audio" not in (rows.fieldnames or ()):
        raise LipSyncError(
            f"{manifest.name} needs a column “audio” and knows {', '.join(COLUMNS)}.",
            f"Remove {', '.join(unknown)}." if unknown else "Add it to the first line.",
        )
    return [_line(row, rows.line_num, manifest, out, suffix, default) for row in rows]


def _line(
    row: Mapping[str, str | None],
    number: int,
    manifest: Path,
    out: Path,
    suffix: str,
    default: Line,
) -> Line:
    """Turn one row into a line; empty fields take what was given for all."""
    cells = {name: (row.get(name) or "").strip() for name in COLUMNS}
    if not cells["audio"]:
        raise LipSyncError(f"{manifest.name}, line {number}, names no sound file.")
    folder = manifest.parent
    audio = folder / cells["audio"]
    output = folder / cells["output"] if cells["output"] else out / (audio.stem + suffix)
    head = cells["head"] or default.head
    if cells["head"] and head != DEMO_HEAD:
        head = str(folder / head)
    try:
        seed = int(cells["seed"]) if cells["seed"] else default.seed
    except ValueError as error:
        message = f"{manifest.name}, line {number}: the seed “{cells['seed']}” is no whole number."
        raise LipSyncError(message) from error
    return Line(
        audio,
        output,
        head,
        cells["style"] or default.style,
        cells["model"] or default.model,
        seed,
    )


def shard(lines: list[Line], text: str) -> list[Line]:
    """Return the share "i/n" of the lines, i from 1. Raises LipSyncError when it is no share."""
    part, _, whole = text.partition("/")
    if not (part.isdigit() and whole.isdigit() and 1 <= int(part) <= int(whole)):
        raise LipSyncError(f"“{text}” is no share.", "Write 2/5 for the second of five.")
    return lines[int(part) - 1 :: int(whole)]


def fingerprint(line: Line, options: Mapping[str, Any]) -> str:
    """Return a digest of everything the written file depends on. Raises OSError."""
    digest = hashlib.sha256()
    digest.update(json.dumps([line.style, line.model, line.seed, dict(options)]).encode())
    for name in (str(line.audio), line.head, line.model):
        path = Path(name)
        if name and path.is_file():
            with path.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
        else:
            digest.update(name.encode())
    return digest.hexdigest()


class Report:
    """What became of every line, as JSON on the disk after each, so that a stop loses nothing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: dict[str, dict[str, Any]] = {}
        self.known: dict[str, dict[str, Any]] = {}
        for old in sorted(path.parent.glob(f"{path.stem.split('.')[0]}*.json")):
            self.known.update(_entries(old))

    def up_to_date(self, line: Line, digest: str) -> bool:
        """Return whether an earlier run wrote this very file from the very same things."""
        known = self.known.get(str(line.output), {})
        same = known.get("fingerprint") == digest and known.get("status") in ("done", "skipped")
        return same and line.output.is_file()

    def note(self, line: Line, status: str, message: str, **more: Any) -> None:
        """Note what became of a line: "done", "skipped" or "failed", and write the report."""
        told = {**asdict(line), "status": status, "message": message, **more}
        self.entries[str(line.output)] = told
        self.write()

    def count(self, status: str) -> int:
        """Return how many lines ended so."""
        return sum(entry["status"] == status for entry in self.entries.values())

    def write(self) -> None:
        """Write the report in one go, so that a reader never sees half of it."""
        counts = {name: self.count(name) for name in ("done", "skipped", "failed")}
        text = json.dumps(
            {**counts, "lines": list(self.entries.values())},
            indent=1,
            ensure_ascii=False,
            default=str,
        )
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_suffix(".part")
        part.write_text(text + "\n", encoding="utf-8")
        part.replace(self.path)


def _entries(path: Path) -> dict[str, dict[str, Any]]:
    """Return the lines of an earlier report by output; nothing when it is unreadable."""
    try:
        lines = json.loads(path.read_text(encoding="utf-8"))["lines"]
        return {str(entry["output"]): entry for entry in lines}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
