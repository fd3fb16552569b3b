# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that lie beside a download are never executed, whatever they are called."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import build
from tests.model import tiny

PLANTED = ("json", "soundfile", "numpy", "argparse", "runpy", "torch", "safetensors", "soxr",
           "sitecustomize", "usercustomize", "build")  # fmt: skip


@pytest.fixture
def downloads(tmp_path: Path) -> Path:
    """A folder with a download in it, and beside it Python files with the names of libraries."""
    mark = tmp_path / "RAN"
    for name in PLANTED:
        (tmp_path / f"{name}.py").write_text(f"open({str(mark)!r}, 'a').write('{name} ')\n")
    (tmp_path / "model").mkdir()
    for name in ("__init__", "__main__"):
        (tmp_path / "model" / f"{name}.py").write_text(
            f"open({str(mark)!r}, 'a').write('model ')\n"
        )
    torch.save({"state_dict": {"a": torch.zeros(1)}}, tmp_path / "evil.ckpt")
    tiny.sound(tmp_path / "line.wav", 0.6)
    tiny.checkpoint(tmp_path / "tiny.safetensors", tiny.spec())
    return tmp_path


COMMANDS = {
    "describe": (["describe"], 0),
    "convert": (["convert", "evil.ckpt", "out.safetensors"], 3),
    "generate": (["generate", "line.wav", "out.npz", "--checkpoint", "tiny.safetensors"], 0),
    "wrong": (["dance"], 2),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_command_line_runs_nothing_that_lies_beside_a_download(downloads, name) -> None:
    """Not even when the environment asks for it; and relative paths mean the user's folder."""
    words, code = COMMANDS[name]
    done = subprocess.run(
        build.model_command(Path(sys.executable), *words),
        cwd=downloads,
        env={**os.environ, "PYTHONPATH": str(downloads), "PYTHONSTARTUP": "json.py"},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert not (downloads / "RAN").exists(), (downloads / "RAN").read_text()
    assert (downloads / "out.npz").exists() == (name == "generate")


def test_the_trap_works(downloads: Path) -> None:
    """The same folder does run its files under a plain `python -m model`."""
    subprocess.run([sys.executable, "-m", "model"], cwd=downloads, check=False, capture_output=True)
    assert "model" in (downloads / "RAN").read_text()


def test_the_build_script_runs_nothing_of_the_current_folder(downloads: Path) -> None:
    """`python …/build.py` imports from the standard library and its own folder alone."""
    script = Path(build.__file__)
    done = subprocess.run(
        [sys.executable, str(script), "--help"], cwd=downloads, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not (downloads / "RAN").exists()
