# SPDX-License-Identifier: GPL-3.0-or-later
"""The runtime: built from wheels without a network, checked, resumed, refused in plain words."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from diffspeaker_blender.errors import SetupError
from diffspeaker_blender.worker import pip_words, runtime


def wheel(folder: Path, name: str, code: str = "", needs: str = "") -> Path:
    """Write a wheel with one module."""
    path = folder / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    needed = f"Requires-Dist: {needs}\n" if needs else ""
    files = {
        f"{name}.py": f"__version__ = '1.0'\n{code}",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{needed}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    for file, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=")
        record += f"{file},sha256={digest.decode()},{len(text.encode())}\n"
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in (files | {f"{info}/RECORD": f"{record}{info}/RECORD,,\n"}).items():
            archive.writestr(file, text)
    return path


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder of wheels and a requirements file, in folders with unfriendly names."""
    folder = tmp_path_factory.mktemp("Räder & wheels 輪")
    wheel(folder, "sprache", needs="stimme==1.0")
    wheel(folder, "stimme")
    pins = folder / "wanted list.txt"
    pins.write_text("# exact\nsprache==1.0  # and what it needs\n", encoding="utf-8")
    return folder, pins


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, shop: tuple[Path, Path]) -> Path:
    """A runtime that was really built, by the real pip."""
    folder = tmp_path_factory.mktemp("user") / "Läufzeit mit Leerzeichen" / "runtime"
    stages: list[str] = []
    runtime.install(
        folder,
        wheels=shop[0],
        online=False,
        requirements=shop[1],
        progress=lambda stage, fraction, left: stages.append(f"{fraction:.2f} {stage}"),
    )
    assert stages == sorted(stages)
    assert any("Adding sprache" in stage for stage in stages), stages
    assert stages[-1] == "1.00 Done"
    return folder


def test_a_built_runtime_imports_what_was_asked_for(built, shop):
    python = runtime.installed_python(built)
    said = subprocess.run(
        [python, "-I", "-c", "import sprache, stimme; print(sprache.__file__)"],
        capture_output=True,
        check=True,
        env=os.environ | {"PYTHONIOENCODING": "utf-8"},
    )
    assert str(built).encode() in said.stdout
    assert not runtime.outdated(built, shop[1])
    assert not (built / runtime.DOWNLOADS).exists()


def test_other_pins_make_a_runtime_outdated(built, tmp_path):
    other = tmp_path / "r.txt"
    other.write_text("sprache==2.0\n", encoding="utf-8")
    assert runtime.outdated(built, other)
    assert runtime.outdated(tmp_path)


def test_half_a_runtime_is_none_and_installing_again_finishes_it(built, shop):
    (built / runtime.STAMP).unlink()
    assert runtime.installed_python(built) is None
    kept = built / "kept"
    kept.touch()
    runtime.install(built, wheels=shop[0], online=False, requirements=shop[1])
    assert runtime.installed_python(built) is not None
    assert kept.exists()  # the environment was not begun anew


def test_a_runtime_whose_blender_is_gone_is_none(built, tmp_path):
    copy = tmp_path / "runtime"
    shutil.copytree(built, copy, symlinks=True)
    assert runtime.installed_python(copy) is not None
    config = copy / "pyvenv.cfg"
    config.write_text(f"home = {tmp_path / 'no such Blender'}\n", encoding="utf-8")
    assert runtime.installed_python(copy) is None


def test_a_runtime_without_torch_is_not_taken_for_one(tmp_path, shop, monkeypatch):
    monkeypatch.setattr(runtime, "requirements_file", lambda: shop[1])
    with pytest.raises(SetupError, match="cannot import torch"):
        runtime.install(tmp_path / "r", wheels=shop[0])
    assert runtime.installed_python(tmp_path / "r") is None


def test_nothing_is_downloaded_when_online_access_is_off(tmp_path):
    with pytest.raises(SetupError, match="online access is off"):
        runtime.install(tmp_path / "r", online=False)
    assert not (tmp_path / "r").exists()


def test_a_package_that_is_not_in_the_folder_is_named(tmp_path, shop):
    pins = tmp_path / "r.txt"
    pins.write_text("absent==3.0\n", encoding="utf-8")
    with pytest.raises(SetupError, match=r"absent==3\.0"):
        runtime.install(tmp_path / "r", wheels=shop[0], requirements=pins)


def test_a_cancel_stops_at_once_and_leaves_no_runtime(tmp_path, shop):
    calls = iter([False, True])
    with pytest.raises(SetupError, match="Stopped"):
        runtime.install(
            tmp_path / "r",
            wheels=shop[0],
            requirements=shop[1],
            cancelled=lambda: next(calls, True),
        )
    assert runtime.installed_python(tmp_path / "r") is None


def test_a_full_disk_is_said_before_anything_is_made(tmp_path, shop, monkeypatch):
    usage = type("usage", (), {"free": 10})
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage)
    with pytest.raises(SetupError, match="GB left"):
        runtime.install(tmp_path / "new" / "r", wheels=shop[0], requirements=shop[1])
    assert not (tmp_path / "new").exists()


def test_wheels_are_checked_against_their_hashes(tmp_path):
    with pytest.raises(SetupError, match="holds no wheels"):
        runtime.check_wheels(tmp_path)
    path = wheel(tmp_path, "sprache")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    sums = tmp_path / "SHA256SUMS"
    sums.write_text(f"{digest}  {path.name}\n", encoding="utf-8")
    runtime.check_wheels(tmp_path)
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(SetupError, match="damaged or was changed"):
        runtime.check_wheels(tmp_path)
    path.unlink()
    wheel(tmp_path, "stimme")
    with pytest.raises(SetupError, match="missing"):
        runtime.check_wheels(tmp_path)


@pytest.mark.parametrize("how", ["PIP_USER", "PIP_TARGET", "file"])
def test_what_the_users_pip_is_told_does_not_reach_the_runtime(tmp_path, shop, monkeypatch, how):
    """It installs into its own folder, whatever pip's variables and files say."""
    elsewhere = tmp_path / "elsewhere"
    if how == "file":
        settings = tmp_path / "pip.conf"
        settings.write_text(f"[install]\ntarget = {elsewhere}\nno-deps = true\n", encoding="utf-8")
        monkeypatch.setenv("PIP_CONFIG_FILE", str(settings))
    else:
        flag = how in ("PIP_USER", "PIP_DRY_RUN", "PIP_NO_DEPS", "PIP_REQUIRE_VIRTUALENV")
        monkeypatch.setenv(how, "1" if flag else str(elsewhere))
    folder = tmp_path / "runtime"
    runtime.install(folder, wheels=shop[0], online=False, requirements=shop[1])
    assert len([*folder.rglob("sprache.py"), *folder.rglob("stimme.py")]) == 2
    assert not elsewhere.exists()


def test_the_way_to_the_index_is_kept(tmp_path, monkeypatch):
    """Index, proxy and certificates of the user's pip still hold; nothing else does."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    settings = tmp_path / "pip.conf"
    text = "[global]\nindex-url = https://one.test/simple\nproxy = http://p.test\nuser = yes\n"
    settings.write_text(f"{text}[install]\ncert = /etc/own.pem\n", encoding="utf-8")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(settings))
    monkeypatch.setenv("PIP_INDEX_URL", "https://two.test/simple")
    monkeypatch.setenv("PIP_TARGET", "/elsewhere")
    monkeypatch.setenv("HTTPS_PROXY", "http://q.test")
    found = runtime.pip_settings([sys.executable, "-I", "-m", "pip"])
    pips = {name: value for name, value in found.items() if name.startswith("PIP_")}
    assert pips == {
        "PIP_INDEX_URL": "https://two.test/simple",
        "PIP_PROXY": "http://p.test",
        "PIP_CERT": "/etc/own.pem",
        "PIP_CONFIG_FILE": os.devnull,
    }
    assert found["HTTPS_PROXY"] == "http://q.test"


def test_removing_takes_a_runtime_and_nothing_else(tmp_path, built):
    copy = tmp_path / "runtime"
    shutil.copytree(built, copy, symlinks=True)
    runtime.remove(copy)
    assert not copy.exists()
    runtime.remove(copy)
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(SetupError, match="no runtime"):
        runtime.remove(tmp_path)


def fake_python(folder: Path, answer: str) -> Path:
    """Write a program that answers like a Python would."""
    path = folder / "mein python"
    path.write_text(f"#!/bin/sh\ncat <<'END'\n{answer}\nEND\n", encoding="utf-8")
    path.chmod(0o755)
    return path


@pytest.mark.skipif(os.name == "nt", reason="a shell script")
def test_a_python_is_described_in_words(tmp_path):
    good = {
        "python": [3, 11, 7],
        "packages": {"torch": "2.13.0"},
        "missing": {},
        "device": "Apple GPU",
    }
    found = runtime.check(fake_python(tmp_path, "banner\n" + json.dumps(good)))
    assert found.usable
    assert str(found) == "Python 3.11.7 with torch 2.13.0; computes on Apple GPU."
    old = runtime.check(fake_python(tmp_path, json.dumps(good | {"python": [3, 9, 1]})))
    assert "too old" in str(old)
    lacking = good | {"missing": {"numpy": "ModuleNotFoundError: No module named 'numpy'"}}
    assert "cannot import numpy" in str(runtime.check(fake_python(tmp_path, json.dumps(lacking))))
    assert "no Python that works" in str(runtime.check(fake_python(tmp_path, "hello")))


def test_what_is_no_python_is_said(tmp_path):
    assert "cannot be started" in str(runtime.check(tmp_path / "nothing"))


def test_this_python_can_say_what_it_lacks():
    found = runtime.check(sys.executable)
    assert found.python == ".".join(map(str, sys.version_info[:3]))
    assert set(found.packages) | set(found.missing) == set(runtime.MODULES)


@pytest.mark.parametrize(
    ("line", "stage"),
    [
        ("Collecting torch==2.13.0 (from -r /a b/r.txt (line 2))", "Looking for torch"),
        (
            "  Downloading torch-2.13.0-cp311-cp311-linux_x86_64.whl (821.0 MB)",
            "Downloading torch (821.0 MB)",
        ),
        ("Processing c:\\r ü\\soxr-1.1.0-cp312-abi3-win_amd64.whl", "Adding soxr"),
        ("Using cached numpy-2.4.6-cp311-cp311-x.whl (16.1 MB)", "Adding numpy (16.1 MB)"),
    ],
)
def test_words_of_pip_become_stages(line, stage):
    assert pip_words.stage(line) == stage


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("OSError: [Errno 28] No space left on device", "disk is full"),
        ("ERROR: No matching distribution found for torch==9", "torch==9"),
        ("HTTPSConnectionPool: Connection refused", "network could not be reached"),
        ("ERROR: something new", "something new"),
    ],
)
def test_complaints_of_pip_become_sentences(said, words):
    assert words in " ".join(pip_words.explain(said, [said]))


def test_large_files_live_outside_the_extension(monkeypatch, tmp_path):
    monkeypatch.setenv(runtime.FOLDER_VARIABLE, str(tmp_path))
    assert runtime.data_folder() == tmp_path
    monkeypatch.delenv(runtime.FOLDER_VARIABLE)
    assert runtime.data_folder().name.lower() == "diffspeaker"


def test_the_pins_are_exact_and_name_what_is_checked():
    pins = runtime.read_pins(runtime.requirements_file())
    assert all("==" in pin for pin in pins)
    assert {pin.split("==")[0] for pin in pins} == set(runtime.MODULES)


def test_the_size_of_pytorch_is_this_machines(monkeypatch):
    """On Linux the usual index has but the large build; a laptop of Apple's needs a tenth."""
    sizes = {}
    for system, machine in (("linux", "x86_64"), ("darwin", "arm64")):
        runtime.disk_kind.cache_clear()
        monkeypatch.setattr(sys, "platform", system)
        monkeypatch.setattr(runtime.platform, "machine", lambda machine=machine: machine)
        sizes[system] = runtime.words()
    runtime.disk_kind.cache_clear()
    assert sizes == {"linux": "PyTorch (about 7 GB)", "darwin": "PyTorch (about 0.7 GB)"}
