# SPDX-License-Identifier: GPL-3.0-or-later
"""Readers under fuzz: whatever a file holds, it is read or refused in one sentence.

Each reader works in a process of its own with limited memory, on files made by fixed seeds: real
ones with bytes changed, cut, repeated and swapped, and bombs. No signal, no traceback, no file that
takes ten seconds, no more than two gigabytes.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.shared import ROOT

READERS = ("heads", "head_files", "motions", "models", "catalogue", "sounds", "checkpoints",
           "kept", "rigs", "pickles")  # fmt: skip
NEED_TORCH = {"models", "catalogue", "checkpoints"}  # to make something to damage
FILES = int(os.environ.get("DIFFSPEAKER_FUZZ", "150"))  # for each reader; more at a desk


@pytest.mark.parametrize("reader", READERS)
def test_every_file_ends_in_a_result_or_a_sentence(tmp_path: Path, reader: str) -> None:
    if reader in NEED_TORCH:
        pytest.importorskip("torch", reason="their files are made with torch")
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "files" / "fuzz.py"), reader, str(FILES)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error::RuntimeWarning"},
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, (
        f"exit {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    )
    read, refused = (int(word) for word in done.stdout.split()[-2:])
    assert read + refused >= FILES and refused > 0
