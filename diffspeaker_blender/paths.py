# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the extension lies, and the name that Blender knows it by."""

from __future__ import annotations

import os
from pathlib import Path

ADDON = __package__
"""The add-on's id in Blender's preferences: the base package, whatever room asks."""

PACKAGE = Path(__file__).resolve().parent
"""The folder of the add-on's own code."""


def absolute(path: str | Path) -> Path:
    """Return a path that means the same file in every process, whatever folder each runs in.

    The worker runs in a folder of its own, so every path that a person gives is made absolute where
    it comes in. Links stay as they are named.
    """
    return Path(os.path.abspath(Path(path).expanduser()))  # noqa: PTH100  (keeps links)
