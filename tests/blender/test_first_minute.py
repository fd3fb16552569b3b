# SPDX-License-Identifier: GPL-3.0-or-later
"""The zip in a Blender with nothing else: it speaks, and leaves nothing behind."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.shared import ROOT

SCRIPT = """
import importlib, json, os, sys
import bpy
here, zip_file, voice = sys.argv[1:4]
told = {}
bpy.ops.extensions.package_install_files(
    repo="user_default", filepath=zip_file, enable_on_install=True, overwrite=True)
machine = importlib.import_module("bl_ext.user_default.diffspeaker.settings.machine")
told["python"] = str(machine.python())
told["torch"] = str(machine.torch_python())
told["lacking"] = machine.lacking(None)
bpy.ops.wm.save_as_mainfile(filepath=os.path.join(here, "scene.blend"))
os.chdir(here)
bpy.ops.diffspeaker.add_demo_head()
bpy.ops.diffspeaker.generate(audio=voice)
told["rigs"] = [path.name for path in machine.cache_folder().glob("rigs/*")]
told["message"] = bpy.context.window_manager.diffspeaker.message
bpy.ops.diffspeaker.check_setup()
told["report"] = machine.get().report
told["imported"] = [name for name in ("torch", "onnxruntime", "soxr") if name in sys.modules]
repo = next(i for i, r in enumerate(bpy.context.preferences.extensions.repos)
            if r.module == "user_default")
bpy.ops.extensions.package_uninstall(repo_index=repo, pkg_id="diffspeaker")
open(os.path.join(here, "told.json"), "w").write(json.dumps(told))
os._exit(0)
"""


def build_script():
    """Import build.py, which packs the zip."""
    spec = importlib.util.spec_from_file_location("build_script", ROOT / "build.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["build_script"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """The zip for this machine; skipped where its pinned wheels cannot be had."""
    build = build_script()
    target = tmp_path_factory.mktemp("dist") / "diffspeaker.zip"
    try:
        build.write_zip(target)
    except build.BuildError as error:
        pytest.skip(f"the engine's wheels are not here: {error}")
    return target


def test_an_installed_zip_speaks_with_blenders_own_python_and_leaves_nothing(packed, tmp_path):
    """No torch, no network, no runtime: three operators from the zip to the moving mouth.

    A `numpy.py` beside the project and in the current folder is never executed.
    """
    project, trap = tmp_path / "project", tmp_path / "executed"
    project.mkdir()
    for name in ("numpy", "json", "ctypes"):
        (project / f"{name}.py").write_text(f"open({str(trap)!r}, 'w').write({name!r})\n")
    script = tmp_path / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    home = tmp_path / "home"
    dropped = ("DIFFSPEAKER_", "PYTHON", "VIRTUAL_ENV")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(dropped)}
    environment |= {"BLENDER_USER_RESOURCES": str(tmp_path / "user"), "HOME": str(home)}
    voice = ROOT / "model" / "samples" / "vivian.flac"
    command = [sys.executable, str(script), str(project), str(packed), str(voice)]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=900, check=False
    )
    assert (project / "told.json").is_file(), done.stdout[-2000:] + done.stderr[-2000:]
    told = json.loads((project / "told.json").read_text(encoding="utf-8"))
    assert Path(told["python"]).samefile(sys.executable)
    assert told["torch"] == "None"
    assert told["lacking"] == ""
    assert told["message"].startswith("Mouth moved")
    assert "ONNX Runtime" in told["report"]
    assert told["imported"] == []
    assert told["rigs"] == []  # the demo head's came in the zip
    assert not trap.exists()
    assert list((tmp_path / "user").rglob("*diffspeaker*")) == []
    assert list(home.rglob("*iff*peaker*")) == []


def test_the_same_files_give_the_same_bytes(packed, tmp_path):
    again = tmp_path / "again.zip"
    build_script().write_zip(again)
    assert again.read_bytes() == packed.read_bytes()


def test_the_zip_holds_what_runs_and_what_must_be_said(packed):
    """The engine and its licences; nothing of training; no larger than is promised."""
    import zipfile

    with zipfile.ZipFile(packed) as archive:
        names = archive.namelist()
    natives = [name for name in names if name.startswith("model/native/")]
    assert any("onnxruntime" in name for name in natives)
    assert any("sndfile" in name for name in natives)
    assert {"model/native/licences/onnxruntime.txt", "model/native/licences/libsndfile.txt"} <= {
        *natives
    }
    unwanted = ("model/training", "model/recipes", "model/evaluation", "model/phones", ".whl")
    assert not [name for name in names if any(part in name for part in unwanted)]
    assert packed.stat().st_size < 80e6


def test_a_zip_has_its_own_platforms_engine_alone():
    """What a demo laid out in the checkout for this machine is in no zip."""
    build = build_script()
    build.lay_out_engine()
    assert list(build.NATIVE.iterdir())
    assert not [name for name, _path in build.packaged_files() if "native/" in name]


def test_every_platform_has_exact_pins():
    for platform, pins in build_script().engine_pins().items():
        for wheel in ("onnxruntime", "soundfile"):
            assert len(pins[wheel]["sha256"]) == 64, platform
            assert pins[wheel]["version"]
