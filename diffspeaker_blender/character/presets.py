# SPDX-License-Identifier: GPL-3.0-or-later
"""Mappings that were saved: the next character of just these channels takes them by itself.

They lie as JSON files in a folder of the user's, known by their names; a file that is no mapping is
passed over.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..worker import runtime
from . import detect
from .mapping import Mapping


def folder() -> Path:
    """Return where saved mappings are looked for."""
    return runtime.data_folder() / "mappings"


def saved() -> dict[str, Mapping]:
    """Return the saved mappings by their files' names, the latest first."""
    found = {}
    try:
        paths = sorted(folder().glob("*.json"), key=lambda path: -path.stat().st_mtime)
    except OSError:
        return {}
    for path in paths:
        try:
            found[path.stem] = Mapping.from_json(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
    return found


def matching(face: Any, mine: Mapping) -> tuple[str, Mapping] | None:
    """Return the name and the rows of a saved mapping for just a face's channels, on that face.

    mine: what was measured on it.
    """
    wanted = keys_of(mine)
    for name, mapping in saved().items():
        if wanted and keys_of(mapping) == wanted:
            return name, mapping.moved_to(detect.owners(face, mapping))
    return None


def keys_of(mapping: Mapping) -> set[tuple[str, str, str, int]]:
    """Return the channels of a mapping, on whatever objects."""
    return {place.key for place in mapping.places()}
