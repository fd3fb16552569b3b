# SPDX-License-Identifier: GPL-3.0-or-later
"""A file is old or new: through planted links, two writers, kills, full disks and odd names."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from diffspeaker_blender.files import safe_write
from tests.shared import ROOT

POSIX = pytest.mark.skipif(os.name == "nt", reason="POSIX files")


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "Bericht ü.json"
    safe_write.write(path, "old")
    with pytest.raises(RuntimeError), safe_write.written(path) as part:
        part.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    safe_write.write(path, b"new")
    assert path.read_text() == "new"
    assert names(tmp_path) == [path.name]


@POSIX
def test_a_link_is_replaced_and_never_followed(tmp_path: Path) -> None:
    """Neither a planted link under the real name nor one under a guessed name leads anywhere."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    path = tmp_path / "x.csv"
    path.symlink_to(victim)
    (tmp_path / "x.part.csv").symlink_to(victim)
    (tmp_path / "x.csv.part").symlink_to(victim)
    safe_write.write(path, "data")
    assert victim.read_text() == "precious"
    assert path.read_text() == "data" and not path.is_symlink()


def test_a_planted_name_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Should somebody guess the random name, the file is refused, not shared."""
    monkeypatch.setattr(safe_write.secrets, "token_hex", lambda count: "0" * 12)
    (tmp_path / "x.000000000000.part.csv").write_text("planted")
    with pytest.raises(FileExistsError):
        safe_write.write(tmp_path / "x.csv", "data")


@POSIX
def test_devices_pipes_and_folders_are_left_alone(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder"):
        with pytest.raises(OSError, match=r"device|directory"):
            safe_write.write(tmp_path / name, "data")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


@POSIX
def test_permissions_are_kept_or_usual(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    old = os.umask(0o027)
    try:
        safe_write.write(path, "1")
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        path.chmod(0o604)
        safe_write.write(path, "2")
        assert stat.S_IMODE(path.stat().st_mode) & 0o700 == 0o600
    finally:
        os.umask(old)


def test_long_names_have_room_for_the_temporary_one(tmp_path: Path) -> None:
    """A name of 255 bytes can be written under; a name of 256 is the system's own refusal."""
    path = tmp_path / ("日" * 83 + ".c.npz")
    safe_write.write(path, "x")
    assert path.read_text() == "x"
    with pytest.raises(OSError, match=r"too long|Invalid"):
        safe_write.write(tmp_path / ("a" * 300), "x")


WRITER = """
import sys, time; sys.path.insert(0, sys.argv[1])
from pathlib import Path
from diffspeaker_blender.files import safe_write
letter = sys.argv[3].encode()
for _ in range(30):
    with safe_write.written(Path(sys.argv[2])) as part, part.open("r+b") as file:
        for _ in range(64):
            file.write(letter * 4096)
"""


def test_two_writers_never_mix(tmp_path: Path) -> None:
    """Whatever a reader sees at any moment is one writer's whole file."""
    path = tmp_path / "shared.bin"
    safe_write.write(path, b"a" * 64 * 4096)
    command = [sys.executable, "-c", WRITER, str(ROOT), str(path)]
    writers = [subprocess.Popen([*command, letter]) for letter in "bc"]
    seen = set()
    while any(writer.poll() is None for writer in writers):
        data = path.read_bytes()
        assert len(data) == 64 * 4096 and len(set(data)) == 1
        seen.add(data[:1])
    assert [writer.returncode for writer in writers] == [0, 0]
    assert names(tmp_path) == [path.name]


KILLED = """
import os, sys; sys.path.insert(0, sys.argv[1])
from pathlib import Path
from diffspeaker_blender.files import safe_write
with safe_write.written(Path(sys.argv[2])) as part:
    part.write_text("half")
    os._exit(9)
"""


def test_what_a_killed_writer_left_is_swept(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    subprocess.run([sys.executable, "-c", KILLED, str(ROOT), str(path)], check=False)
    left = [entry for entry in tmp_path.iterdir() if entry != path]
    assert len(left) == 1
    folder = safe_write.new_part_folder(tmp_path / "face.gltf")
    (folder / "face.bin").write_bytes(b"half")
    (tmp_path / "mine.part.csv").write_text("not ours")
    (tmp_path / "a.part").write_text("not ours")
    safe_write.write(path, "new")
    assert left[0].exists()  # it may still have a writer
    past = time.time() - safe_write.STALE - 10
    for entry in list(tmp_path.iterdir()):
        os.utime(entry, (past, past))
    safe_write.write(path, "newer")
    assert names(tmp_path) == ["a.npz", "a.part", "mine.part.csv"]
