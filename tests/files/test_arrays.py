# SPDX-License-Identifier: GPL-3.0-or-later
"""Arrays are read when header, entry and limit agree; what they only claim is never allocated."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from diffspeaker_blender.files.arrays import read_npz


def entry(shape: str, descr: str = "'<f8'", body: bytes = b"") -> bytes:
    """Return an .npy whose header says what it likes."""
    head = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    head += b" " * (-(len(head) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + body


def packed(path: Path, entries: dict[str, bytes], how: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", how) as archive:
        for name, data in entries.items():
            archive.writestr(f"{name}.npy", data)
    return path


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_numpy_wrote_comes_back(tmp_path: Path, save) -> None:
    arrays = {
        "a": np.arange(12.0).reshape(3, 4),
        "b": np.asfortranarray(np.arange(6, dtype="i2").reshape(2, 3)),
        "words": np.array(["eins", "zwei"]),
        "text": np.array("ü"),
        "number": np.float64(3),
        "empty": np.zeros((0, 3), np.float32),
        "flags": np.array([True, False]),
        "big": np.arange(3, dtype=">f4"),
    }
    save(tmp_path / "a.npz", thing=np.array([{}], object), **arrays)
    found = read_npz(tmp_path / "a.npz")
    assert set(found) == set(arrays)  # objects are left out
    for name, right in arrays.items():
        np.testing.assert_array_equal(found[name], right)
    assert found["a"].flags.writeable
    assert list(read_npz(tmp_path / "a.npz", ("flags", "none"))) == ["flags"]
    assert set(read_npz((tmp_path / "a.npz").read_bytes())) == set(arrays)


BOMBS = {
    "10^12 numbers": {"a": entry("(1000000000000,)")},
    "10^9 rows of nothing": {"a": entry("(1000000000, 0)")},
    "more than it says": {"a": entry("(1,)", body=b"a" * 9)},
}


@pytest.mark.parametrize("what", BOMBS)
def test_claims_are_refused(tmp_path: Path, what: str) -> None:
    path = packed(tmp_path / "a.npz", BOMBS[what])
    with pytest.raises(ValueError, match="it "):
        read_npz(path)


def test_headers_are_matched_not_evaluated(tmp_path: Path) -> None:
    """What is no plain array's header is left out, whatever it would do."""
    odd = {
        "deep": entry("(" * 3000),
        "power": entry("(9**99999999,)"),
        "minus": entry("(-1,)"),
        "record": entry("(1,)", "[('a', '<f8')]"),
        "object": entry("(1,)", "'|O'"),
        "nothing": b"",
        "digits": entry("(" + "1" * 3000 + "x,)"),
        "long": entry("(1,)" + " " * 60000),
        "fine": entry("(1,)", body=bytes(8)),
        "no such kind": entry("(1,)", "'<f3'"),
        "text": b"hello",
    }
    assert list(read_npz(packed(tmp_path / "a.npz", odd))) == ["fine"]


def test_a_zip_bomb_does_not_inflate(tmp_path: Path) -> None:
    """A hundred megabytes of zeros in a tenth of one are refused by their declared size."""
    path = tmp_path / "a.npz"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("a.npy", "w", force_zip64=True) as stream,
    ):
        stream.write(entry("(12582912,)"))
        for _ in range(3):
            stream.write(bytes(2**25))
    with pytest.raises(ValueError, match="declares more than"):
        read_npz(path, largest=2**26)


def test_damage_is_noticed_by_its_checksum(tmp_path: Path) -> None:
    """A flipped bit inside an array is no other array."""
    stream = io.BytesIO()
    np.savez(stream, a=np.zeros(1000))
    data = bytearray(stream.getvalue())
    data[600] ^= 1
    (tmp_path / "a.npz").write_bytes(data)
    with pytest.raises(ValueError, match="no whole file of arrays"):
        read_npz(tmp_path / "a.npz")
    for cut in (0, 10, len(data) // 2, len(data) - 1):
        (tmp_path / "a.npz").write_bytes(data[:cut])
        with pytest.raises(ValueError, match="no whole file"):
            read_npz(tmp_path / "a.npz")
