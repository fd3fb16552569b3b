"""Where the extension lies, and the name that Blender knows it by."""

from __future__ import annotations

from pathlib import Path

ADDON = __package__
"""The add-on's id in Blender's preferences: the base package, whatever room asks."""

PACKAGE = Path(__file__).resolve().parent
"""The folder of the add-on's own code."""
