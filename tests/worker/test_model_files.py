# SPDX-License-Identifier: GPL-3.0-or-later
"""The list of models: read from headers alone, whatever lies in the folder."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

import pytest

from diffspeaker_blender.worker import model_files


def write_model(path: Path, **spec) -> Path:
    """Write a model file that has a header and nothing else."""
    spec = {"name": "Test", "styles": ["calm", "wild"], "licence": "research only"} | spec
    header = json.dumps({"__metadata__": {"spec": json.dumps(spec)}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    return path


def test_a_model_describes_itself(tmp_path):
    """Name, styles, licence and kind come from the header."""
    model = model_files.read(write_model(tmp_path / "a.safetensors", motion="controls", fps=25))
    assert (model.id, model.name, model.styles) == ("a", "Test", ("calm", "wild"))
    assert (model.motion, model.fps, model.licence) == ("controls", 25.0, "research only")


@pytest.mark.parametrize(
    "content",
    [b"", b"\x01", b"\xff" * 40, struct.pack("<Q", 2) + b"{}", struct.pack("<Q", 9) + b"{}"],
)
def test_other_files_are_left_out(tmp_path, content):
    """Empty, cut short, huge or nameless files neither show nor raise."""
    (tmp_path / "bad.safetensors").write_bytes(content)
    write_model(tmp_path / "good.safetensors")
    names = [model.id for model in model_files.models(tmp_path)]
    assert [name for name in names if name != model_files.BUNDLED] == ["good"]


ODD = {
    "styles": [5, {}, "x" * 10**5, ["a"] * 20_000, [None, {"a": 1}], True],
    "fps": [float("nan"), 10**400, -1, "fast", [1], None, 0],
    "name": [{"a": 1}, ["x"], 7, "a\nb\0c", "\ud800", "x" * 10**6],
    "motion": [None, 3, []],
    "licence": [{}, 1],
    "notes": [[], 10**9],
}


@pytest.mark.parametrize(("field", "value"), [(f, v) for f, vs in ODD.items() for v in vs])
def test_one_odd_file_takes_no_other_away(tmp_path, field, value):
    """Whatever a stranger's file says of itself, the list comes, and can be shown."""
    write_model(tmp_path / "odd.safetensors", **{field: value})
    write_model(tmp_path / "good.safetensors")
    found = model_files.models(tmp_path)
    assert "good" in [model.id for model in found]
    for model in found:
        shown = [model.name, *model.styles, model.motion, model.licence, model.notes]
        assert all("\n" not in text and "\0" not in text and len(text) <= 2000 for text in shown)
        assert "".join(shown).encode() and 1 <= model.fps <= 1000
    assert len(found) + len(model_files.unreadable(tmp_path)) >= 2


def test_deep_headers_pipes_and_folders_are_left_out(tmp_path):
    """None of them stops the list or is waited for."""
    deep = b"[" * 900_000
    (tmp_path / "deep.safetensors").write_bytes(struct.pack("<Q", len(deep)) + deep)
    (tmp_path / "folder.safetensors").mkdir()
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.safetensors")
    write_model(tmp_path / "good.safetensors")
    assert "good" in [model.id for model in model_files.models(tmp_path)]
    whys = {path.name: why for path, why in model_files.unreadable(tmp_path)}
    assert "deep.safetensors" in whys


def test_a_changed_file_is_read_again(tmp_path):
    """The list follows the disk."""
    path = write_model(tmp_path / "a.safetensors", name="One")
    assert model_files.find("a", tmp_path).name == "One"
    write_model(path, name="Another")
    assert model_files.find("a", tmp_path).name == "Another"
    assert model_files.find(str(path), None).name == "Another"
    assert model_files.find("b", tmp_path) is None


def test_styles_have_names_for_people():
    """Dataset labels become something one can read."""
    assert model_files.style_label("FaceTalk_170728_03272_TA", 1) == "Speaker 1 (170728)"
    assert model_files.style_label("over-articulated", 2) == "Over-articulated"
    assert model_files.style_label("F2", 1) == "Speaker F2"
