# SPDX-License-Identifier: GPL-3.0-or-later
"""Find the optional reference folder beside a checkout; tests that need it skip by name."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"


def shared(relative: str) -> Path:
    """Return a path inside the reference folder, or skip the test and name what is missing."""
    path = SHARED / relative
    if not path.exists():
        pytest.skip(f"reference data not present: shared/{relative}")
    return path
