# SPDX-License-Identifier: GPL-3.0-or-later
"""What became of every line: appended to a journal at once, written as one JSON report at the end.

A line costs the same however many there are, and a batch that is killed forgets nothing: the next
run reads the journal that it left. What earlier runs knew of other files stays in the report.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..files import safe_write
from .lines import Line

STATES = ("done", "skipped", "failed")


class Report:
    """The report of one run, and what the reports beside it say of earlier ones."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: dict[str, dict[str, Any]] = {}
        self.counts = dict.fromkeys(STATES, 0)
        self.known = _latest(_read(path.parent, path.stem.split(".")[0]))
        self.trouble = ""
        """Why the report could not be written; empty while all is well."""
        self._journal = path.with_name(f"{path.stem}.{secrets.token_hex(6)}.jsonl")

    def up_to_date(self, line: Line, digest: str) -> bool:
        """Return whether an earlier run wrote this very file from the very same things."""
        known = self.known.get(str(line.output), {})
        same = known.get("fingerprint") == digest and known.get("status") in ("done", "skipped")
        return same and line.output.is_file()

    def note(self, line: Line, status: str, message: str, **more: Any) -> None:
        """Note what became of a line: "done", "skipped" or "failed"; on the disk at once."""
        told = {**asdict(line), "status": status, "message": message, **more, "time": time.time()}
        before = self.entries.get(str(line.output))
        if before is not None:
            self.counts[before["status"]] -= 1
        self.entries[str(line.output)] = told
        self.counts[status] += 1
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._journal.open("ab") as file:
                file.write(_json(told) + b"\n")
        except OSError as error:
            self.trouble = f"{self._journal} ({error.strerror or error})"

    def count(self, status: str) -> int:
        """Return how many lines of this run ended so."""
        return self.counts[status]

    def write(self) -> None:
        """Write the whole report in one go and remove the journals that are in it.

        This run's lines come first, then what is known of other files from earlier runs.
        """
        stem = self.path.stem
        before = _latest(_read(self.path.parent, stem, exactly=True))
        earlier = [entry for output, entry in before.items() if output not in self.entries]
        content = {**self.counts, "lines": [*self.entries.values(), *earlier]}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            safe_write.write(self.path, _json(content, indent=1) + b"\n")
        except OSError as error:
            self.trouble = f"{self.path} ({error.strerror or error})"
            return
        self.trouble = ""
        for journal in _journals(self.path.parent, stem, exactly=True):
            with contextlib.suppress(OSError):
                abandoned = time.time() - journal.stat().st_mtime > safe_write.STALE
                if journal == self._journal or abandoned:  # another's may be at work
                    journal.unlink()


def _json(content: Any, indent: int | None = None) -> bytes:
    """Return JSON that people can read; names that are no text keep their bytes as escapes."""
    text = json.dumps(content, indent=indent, ensure_ascii=False, default=str)
    return text.encode("utf-8", "backslashreplace")


def _read(folder: Path, stem: str, *, exactly: bool = False) -> Iterable[dict[str, Any]]:
    """Yield the entries of the reports and journals in a folder, unreadable ones left out."""
    own = f"{stem}.json"
    reports = [folder / own] if exactly else sorted(folder.glob(f"{_literal(stem)}*.json"))
    for path in reports:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            yield from json.loads(path.read_text(encoding="utf-8"))["lines"]
    for path in _journals(folder, stem, exactly=exactly):
        with contextlib.suppress(OSError):
            for line in path.read_bytes().splitlines():
                with contextlib.suppress(ValueError):  # the last one may be cut
                    yield json.loads(line)


def _journals(folder: Path, stem: str, *, exactly: bool) -> list[Path]:
    """Return the journals of a report, or of all its shards."""
    found = sorted(folder.glob(f"{_literal(stem)}.*jsonl"))
    return [path for path in found if not exactly or path.name[:-19] == stem]


def _literal(stem: str) -> str:
    """Return a pattern that matches a name itself."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in stem)


def _latest(entries: Iterable[Any]) -> dict[str, dict[str, Any]]:
    """Return output → what was noted of it last."""
    found: dict[str, dict[str, Any]] = {}
    for entry in entries:
        if not isinstance(entry, dict) or "output" not in entry:
            continue
        before = found.get(str(entry["output"]), {})
        if _time(entry) >= _time(before):
            found[str(entry["output"])] = entry
    return found


def _time(entry: dict[str, Any]) -> float:
    time_noted = entry.get("time", 0.0)
    return float(time_noted) if isinstance(time_noted, int | float) else 0.0
