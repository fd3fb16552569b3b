# SPDX-License-Identifier: GPL-3.0-or-later
"""The page of promises names tests that are there."""

from __future__ import annotations

import re

from tests.shared import ROOT


def test_every_promise_is_held() -> None:
    """A promise whose test was renamed or removed is none."""
    page = (ROOT / "docs" / "promises.md").read_text(encoding="utf-8")
    rows = [row for row in page.splitlines() if row.startswith("| ") and "held by" not in row]
    assert rows
    for row in rows:
        named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", row)
        assert named, f"no test holds: {row}"
        for file, test in named:
            path = ROOT / file
            assert path.is_file(), file
            assert not test or f"def {test}(" in path.read_text(encoding="utf-8"), test
