# SPDX-License-Identifier: GPL-3.0-or-later
"""Both packages carry the same readers and writers of files."""

from tests.shared import ROOT


def test_the_two_copies_are_equal() -> None:
    """Neither package may import the other, so what both need stands twice, letter for letter."""
    one, other = ROOT / "model" / "files", ROOT / "diffspeaker_blender" / "files"
    names = {path.name for folder in (one, other) for path in folder.glob("*.py")}
    assert {"pickles.py"} <= names
    for name in sorted(names):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
