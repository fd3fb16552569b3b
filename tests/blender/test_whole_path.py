# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole path with the real model: a strip in, keys that follow the sound, a .glb out."""

from __future__ import annotations

import numpy as np
import pytest

bpy = pytest.importorskip("bpy")

from tests.blender.conftest import needs_sound  # noqa: E402
from tests.shared import ROOT  # noqa: E402

WORKER = ROOT / ".environments" / "worker"
PYTHONS = [WORKER / "bin" / "python", WORKER / "Scripts" / "python.exe"]
SAMPLE = ROOT / "model" / "samples" / "vivian.flac"
START = 11  # frame of the strip


@pytest.fixture
def real(empty, monkeypatch, tmp_path):
    """Switch the add-on on with the worker's own environment."""
    python = next((path for path in PYTHONS if path.exists()), None)
    if python is None or not (ROOT / "model" / "weights" / "bundled.safetensors").is_file():
        pytest.skip("no worker environment, or no bundled model")
    import diffspeaker_blender

    monkeypatch.setenv("DIFFSPEAKER_PYTHON", str(python))
    monkeypatch.setenv("DIFFSPEAKER_FOLDER", str(tmp_path / "data"))
    diffspeaker_blender.register()
    yield
    diffspeaker_blender.unregister()


@needs_sound
def test_a_strip_becomes_a_speaking_head(real, tmp_path):
    """Four seconds of speech: it moves where there is speech, rests before, and exports."""
    scene = bpy.context.scene
    bpy.ops.diffspeaker.add_demo_head()
    head = scene.diffspeaker.head
    editor = scene.sequence_editor_create()
    strips = editor.strips if hasattr(editor, "strips") else editor.sequences
    strip = strips.new_sound("vivian", str(SAMPLE), 1, START)
    length = 4 * 24
    if hasattr(strip, "right_handle"):
        strip.right_handle = START + length
    else:
        strip.frame_final_duration = length
    strip.select = True
    assert bpy.ops.diffspeaker.generate() == {"FINISHED"}
    message = bpy.context.window_manager.diffspeaker.message
    assert message.startswith("Mouth moved")
    assert message.endswith("sound in sync")

    opening = []
    for frame in range(1, START + length + 20):
        scene.frame_set(frame)
        keys = head.data.shape_keys.key_blocks
        opening.append(keys["jawOpen"].value)
    opening = np.array(opening)
    assert opening[: START - 4].max() < 0.05
    assert opening[START : START + length].max() > 0.15
    assert opening[-8:].max() < 0.05

    target = tmp_path / "vivian.glb"
    bpy.ops.diffspeaker.export(filepath=str(target))
    assert 200_000 < target.stat().st_size < 6_000_000
