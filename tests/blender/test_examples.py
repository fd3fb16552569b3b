# SPDX-License-Identifier: GPL-3.0-or-later
"""The scripts of the README run as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

bpy = pytest.importorskip("bpy")

from tests.blender.conftest import needs_sound  # noqa: E402
from tests.shared import ROOT  # noqa: E402

EXAMPLES = ROOT / "docs" / "examples"
PRELUDE = """
import os, runpy, sys  # noqa: E402
sys.path.insert(0, {root!r})
import bpy  # noqa: E402
import diffspeaker_blender  # noqa: E402
from diffspeaker_blender.settings import machine  # noqa: E402
from diffspeaker_blender.worker.client import Worker  # noqa: E402
machine.new_worker = lambda: Worker([sys.executable, {fake!r}])
diffspeaker_blender.register()
if {scene!r}:
    bpy.ops.wm.open_mainfile(filepath={scene!r})
sys.argv = ["blender", "--background", "--", *{words!r}]
runpy.run_path({script!r}, run_name="__main__")
diffspeaker_blender.unregister()
sys.stdout.flush()
os._exit(0)  # Blender 4.2 may crash on its way out, after work is done
"""


def play(name, scene, *words, folder):
    """Run an example in a Blender of its own with a stand-in model; return what it said."""
    code = PRELUDE.format(
        root=str(ROOT),
        fake=str(ROOT / "tests" / "fakes" / "speaker.py"),
        scene=str(scene),
        words=[str(word) for word in words],
        script=str(EXAMPLES / name),
    )
    extra = {"DIFFSPEAKER_PYTHON": sys.executable, "DIFFSPEAKER_FOLDER": str(folder / "data")}
    answer = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **extra},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr[-2000:]
    return answer.stdout


@pytest.fixture
def head_file(demo, tmp_path):
    """Return a saved file with the demo head."""
    path = tmp_path / "head.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(path))
    return path


def test_one_line(head_file, line, tmp_path):
    """A sound and a head file in, a .glb out."""
    target = tmp_path / "out.glb"
    said = play("one_line.py", head_file, line, target, folder=tmp_path)
    assert "Mouth moved" in said
    assert target.stat().st_size > 100_000


def test_takes(head_file, line, tmp_path):
    """Four files, livelier from one to the next."""
    play("takes.py", head_file, line, tmp_path / "take.blend", folder=tmp_path)
    assert len(list(tmp_path.glob("take-*.blend"))) == 4


@needs_sound
def test_dialogue(addon, line, tmp_path):
    """Two heads, two channels, and music that nobody speaks."""
    scene = bpy.context.scene
    for name in ("Anna", "Ben"):
        bpy.ops.diffspeaker.add_demo_head()
        scene.diffspeaker.head.name = name
    scene.diffspeaker.head = None
    editor = scene.sequence_editor_create()
    strips = editor.strips if hasattr(editor, "strips") else editor.sequences
    for channel, start in ((1, 1), (2, 40), (3, 1)):
        strips.new_sound(f"line {channel}", str(line), channel, start)
    path = tmp_path / "dialogue.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(path))
    said = play("dialogue.py", path, tmp_path / "out.blend", folder=tmp_path)
    assert re.search(r"line 1: Mouth moved .* on Anna", said)
    assert re.search(r"line 2: Mouth moved .* on Ben", said)
    assert "line 3" not in said


DOCUMENTS = [
    *ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *EXAMPLES.glob("*.py"),
]  # fmt: skip


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_documented_script_call_tells_a_failure(path):
    """Blender exits with 0 after an error in a script, unless told otherwise before `--python`."""
    for row in path.read_text(encoding="utf-8").splitlines():
        if "blender" in row and " --python " in row:
            assert "--python-exit-code 1 --python " in row


@pytest.mark.parametrize("example", ["one_line.py", "takes.py", "dialogue.py"])
def test_an_example_without_its_arguments_overwrites_nothing(example, head_file, tmp_path):
    """The last word of a command line may be the script itself."""
    before = (EXAMPLES / example).read_bytes()
    with pytest.raises(AssertionError, match=r"ValueError|IndexError"):
        play(example, head_file, folder=tmp_path)
    assert (EXAMPLES / example).read_bytes() == before
