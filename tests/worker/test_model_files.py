"""The list of models: read from headers alone, whatever lies in the folder."""

from __future__ import annotations

import json
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
