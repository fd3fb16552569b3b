# SPDX-License-Identifier: GPL-3.0-or-later
"""The add-on in a real Blender window: install, press, cancel, finish, undo, other file, quit.

Needs the real Blender of the reference folder and about a minute; skipped by name without it.
The worker is the zip's own: ONNX Runtime on the window's Python.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import wave
from pathlib import Path

import pytest

from tests.shared import ROOT, shared

HERE = Path(__file__).resolve().parent
STAGE = "/tmp/stage"  # inside the window's own root
CHARACTERS = {
    "vrm0.glb": "godette/Godette_vrm_v4.vrm",
    "vrm1.glb": "godette/Godette_vrm1.vrm",
    "rigify.blend": "mpfb-rigify/mpfb-rigify.blend",
}
PLAIN = "mpfb-bones/mpfb-default-rig.glb"
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the real Blender is for Linux")


@pytest.fixture(scope="module", params=["5.2", "4.3"])
def tool(request):
    """Return what runs a real Blender, its root and its version; skip where it is not installed."""
    found, version = shared("tools/real-blender"), request.param
    answer = subprocess.run([found, "root", version], capture_output=True, text=True, check=False)
    if answer.returncode:
        pytest.skip(f"no real Blender here: run ../shared/tools/real-blender install {version}")
    return found, Path(answer.stdout.strip()), version


@pytest.fixture(scope="module")
def machine(tool):
    """Show the root this machine's processors, which PyTorch asks for; return whether it can."""
    shown = []
    for name in ("proc", "sys"):
        place = tool[1] / name
        if not any(place.iterdir()):
            done = subprocess.run(["mount", "--bind", f"/{name}", place], check=False)
            shown += [place] * (done.returncode == 0)
    yield (tool[1] / "proc" / "cpuinfo").exists()
    for place in shown:
        subprocess.run(["umount", place], check=False)


@pytest.fixture(scope="module")
def stage(tool):
    """Fill a folder inside the root: the zip, a sound, the scripts, the worker's Python."""
    root = tool[1]
    folder = root / STAGE.lstrip("/")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(root / "root/.config/blender", ignore_errors=True)
    folder.mkdir(parents=True)
    build = _build()
    build.write_zip(folder / "diffspeaker.zip")
    for script in HERE.glob("[!_]*.py"):
        shutil.copy(script, folder)
    _write_sound(folder / "line.wav")
    for name, file in (*CHARACTERS.items(), ("plain.glb", PLAIN)):
        with contextlib.suppress(pytest.skip.Exception):
            shutil.copy(shared(f"characters/{file}"), folder / name)
    return folder


def _build():
    """Import build.py, which packs the zip."""
    spec = importlib.util.spec_from_file_location("build_script", ROOT / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _write_sound(path):
    """Write three seconds of voice: a line of real speech where there is one, else by rule."""
    from tests.fakes.sound import write_test_sound

    try:
        shutil.copy(shared("data/lips_grid/bbaf2n.wav"), path)
    except pytest.skip.Exception:
        write_test_sound(path)
        with wave.open(str(path)) as sound:
            settings, frames = sound.getparams(), sound.readframes(sound.getnframes())
        with wave.open(str(path), "wb") as sound:
            sound.setparams(settings)
            sound.writeframes(frames * 3)


def play(tool, stage, machine, name, tmp_path):
    """Play one script in the window; return what it told and its log."""
    program, _, version = tool
    script = tmp_path / "script.py"
    script.write_text(
        f"import sys\nsys.path.insert(0, {STAGE!r})\n"
        f"import drive, {name}\ndrive.run({name}.main)\n",
        encoding="utf-8",
    )
    environment = {**os.environ, "DIFFSPEAKER_STAGE": STAGE}
    environment.pop("DIFFSPEAKER_PYTHON", None)  # what came in the zip shall do
    picture = tmp_path / "end.png"
    subprocess.run(
        [program, "gui", version, script, picture], env=environment, timeout=600, check=False
    )
    log = picture.with_name("end.png.log").read_text(encoding="utf-8", errors="replace")
    told = json.loads((stage / "told.json").read_text(encoding="utf-8"))
    assert "error" not in told, told["error"]
    assert "Traceback" not in log, log
    assert told["finished"]
    return told


def test_the_whole_story(tool, stage, machine, tmp_path):
    """From the zip to a saved file, as a person would, and nothing is left after quitting."""
    told = play(tool, stage, machine, "story", tmp_path)
    assert told["installed"]
    assert told["esc_seconds"] < 1.0
    assert "cancelled" in told["after_cancel"]
    assert told["message"].startswith("Mouth moved")
    assert told["message"].endswith("sound in sync")
    assert told["jaw"] > 0.1
    assert told["jaw_after_undo"] == 0
    assert told["jaw_after_redo"] == pytest.approx(told["jaw"], abs=1e-3)
    assert told["message_after_undo_in_mid_job"].startswith("Mouth moved")
    assert told["jaw_after_undo_in_mid_job"] > 0.1
    assert told["intensity_half"] < 0.8
    assert not told["busy_after_load"]
    assert told["objects_after_load"] == 0
    assert told["jaw_reopened"] == pytest.approx(told["jaw"], abs=1e-3)
    assert not told["timer_left"]
    assert told["stalls"]["worst_work_ms"] < 100  # writing a line with its correctives' drivers
    assert told["click_work_ms"] < (50 if tool[2] == "5.2" else 250)  # of a Blender without aud
    assert not _workers_left()


def test_everything_that_is_drawn(tool, stage, machine, tmp_path):
    """Every sub-panel and the preferences draw without an error, and the check speaks."""
    told = play(tool, stage, machine, "looks", tmp_path)
    assert told["check"].startswith("All is well")
    assert "Device" in told["check"]


def _workers_left():
    """Return processes that still carry our stage in their command line."""
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = process.read_bytes()
        except OSError:
            continue
        if b"user_default/diffspeaker/model" in words:
            found.append(words)
    return found


def test_lines_and_takes(tool, stage, machine, tmp_path):
    """Edit three keys, drag, generate again, redo frames, switch takes, move; undo all of it."""
    told = play(tool, stage, machine, "takes", tmp_path)
    assert told["drag_end"] == pytest.approx(0.7, abs=0.01)
    assert told["drag_behind"] < 0.25
    assert "edits" in told["after_again"][1]
    for name, wrong, far in told["undo"]:
        assert not wrong, (name, wrong)
        assert far < 5e-3, name


def test_the_first_minute(tool, stage, machine, tmp_path):
    """Four clicks from the installed zip to a moving mouth, with what came in the zip alone."""
    told = play(tool, stage, machine, "minute", tmp_path)
    assert len(told["clicks"]) <= 4
    assert told["python"].startswith("/usr/bin/python3")
    assert told["message"].startswith("Mouth moved")
    assert told["jaw"] > 0.1
    assert told["strips"] == ["line"]


def test_characters_that_people_have(tool, stage, machine, tmp_path):
    """A VRM avatar and a Rigify rig, from import to a spoken line: few clicks, nothing by hand."""
    for name, file in CHARACTERS.items():
        shared(f"characters/{file}")
        assert (stage / name).exists()
    told = play(tool, stage, machine, "characters", tmp_path)
    for name in CHARACTERS:
        found = told["characters"][name.partition(".")[0]]
        assert found["message"].startswith("Mouth moved"), found
        assert found["open"] > 0.2, found
        assert found["undone"] < 0.01, found
        assert len(found["clicks"]) <= 7, found
        assert found["pose"] > 0.1, found
        assert found["pose_gone"] < 1e-3, found


def test_a_character_that_is_picked(tool, stage, machine, tmp_path):
    """It is measured when it is picked, said before, undone at once; or when it first speaks."""
    shared("characters/godette/Godette_vrm1.vrm")
    told = play(tool, stage, machine, "picking", tmp_path)
    assert told["looking"].startswith("Looking at ")
    assert not told["mapped_at_once"]
    assert told["ready"].startswith("Ready to speak: 5 mouth shapes")
    assert told["posed"] > 0.2
    assert told["undone"]
    assert told["shown"] == ""
    assert not told["mapped_after_undo"]
    assert told["left_on_it"] == []
    assert told["looking_first"].startswith("Looking at ")
    assert told["spoken"].startswith("Mouth moved")


def test_a_plain_head_is_given_shapes(tool, stage, machine, tmp_path):
    """Two buttons, half a minute beside Blender, a sound; stopped and undone, it is plain again."""
    shared(f"characters/{PLAIN}")
    told = play(tool, stage, machine, "shapes", tmp_path)
    assert "stopped" in told["stopped"]
    assert told["stopping"] < 5
    assert told["keys_after_stop"] == 0
    assert told["made"].startswith("Face shapes were made (experimental): the mouth opens")
    assert told["keys"] > 40
    assert told["jaw"] > 0.3
    assert told["spoken"].startswith("Mouth moved")
    assert told["keys_undone"] == 0
    assert told["meshes_undone"] == ["Eyes", "Head", "Lashes", "TeethLower", "TeethUpper", "Tongue"]


def test_a_drawn_mouth(tool, stage, machine, tmp_path):
    """The dialog finds the nine drawings; accepted, they speak; undo takes the line away."""
    told = play(tool, stage, machine, "drawn", tmp_path)
    assert told["ready"].startswith("Ready to speak: 9 drawn mouths (a Time Offset)")
    assert told["offset"] == 9
    assert told["changed"][1:] == [["PP", "SS", "E", "aa", "oh", "ou", "FF", "sil"], 3]
    assert told["recalled"] == told["changed"]
    assert told["spoken"].startswith("Mouth drawing changed")
    assert told["seen"] > 3
    assert told["undone"]
