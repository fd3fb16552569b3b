# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be said of an installation is said, whatever else is broken."""

from __future__ import annotations

from pathlib import Path

from model.generation import session
from model.worker.describe import describe
from tests.model import tiny


def test_a_broken_bundled_model_takes_no_other_away(tmp_path: Path, monkeypatch) -> None:
    """The others are still listed; the broken one says why it cannot be used."""
    broken = tmp_path / "bundled.safetensors"
    good = tiny.checkpoint(tmp_path / "good.safetensors", tiny.spec())
    for content in (b"", b"junk" * 100, good.read_bytes()[:-9]):
        broken.write_bytes(content)
        monkeypatch.setattr(session, "BUNDLED", broken)
        report = describe(session.Session(), [str(good)])
        assert report["trouble"]
        assert report["models"][0]["error"]
        assert report["models"][1]["name"] == tiny.spec().name
