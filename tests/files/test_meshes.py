# SPDX-License-Identifier: GPL-3.0-or-later
"""Meshes are read as they stand there, whatever separates the numbers; counts are not believed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from diffspeaker_blender.files import meshes

POINTS = [[0.0, 0, 0], [0, 1, 0], [1, 0, 0], [0, 0, 1]]
CORNERS = [[0, 1, 2], [0, 2, 3]]
OBJ = {
    "blanks": "v 0 0 0\nv 0 1 0\nv 1 0 0\nv 0 0 1\nf 1 2 3\nf 1 3 4\n",
    "tabs": "v\t0\t0\t0\nv\t0\t1\t0\nv\t1\t0\t0\nv\t0\t0\t1\nf\t1\t2\t3\nf\t1\t3\t4\n",
    "Windows": "v 0 0 0\r\nv 0 1 0\r\nv 1 0 0\r\nv 0 0 1\r\nf 1 2 3\r\nf 1 3 4\r\n",
    "old Macs": "v 0 0 0\rv 0 1 0\rv 1 0 0\rv 0 0 1\rf 1 2 3\rf 1 3 4\r",
    "joined lines": "v 0 0 \\\n0\nv 0 1 0\nv 1 0 0\nv 0 0 1\nf 1 2 \\\n3 \\\n4",
    "indices": "v 0 0 0 1\nv 0 1 0\nv 1 0 0\nv 0 0 1\nvt 0 0\nvn 0 0 1\nf 1/1/1 2//1 3 -1\n",
}


@pytest.mark.parametrize("what", OBJ)
def test_obj_is_read_whatever_separates_it(tmp_path: Path, what: str) -> None:
    path = tmp_path / "head.obj"
    path.write_bytes(OBJ[what].encode())
    points, corners = meshes.read_obj(path)
    assert points.tolist() == POINTS
    assert corners.tolist() == CORNERS


@pytest.mark.parametrize("ending", [b"\n", b"\r\n"])
def test_ply_is_read_as_text_and_in_both_byte_orders(tmp_path: Path, ending: bytes) -> None:
    top = [b"element vertex 4", b"property float x", b"property float y", b"property float z",
           b"element face 1", b"property list uchar int vertex_indices", b"end_header"]  # fmt: skip
    text = b"0 0 0\t0 1 0\n1 0 0 0 0 1\n4 0 1 2 3"
    bodies = {b"ascii": text}
    for kind, order in ((b"binary_little_endian", "<"), (b"binary_big_endian", ">")):
        face = b"\x04" + np.arange(4).astype(f"{order}i4").tobytes()
        bodies[kind] = np.array(POINTS).astype(f"{order}f4").tobytes() + face
    for kind, body in bodies.items():
        path = tmp_path / "head.ply"
        path.write_bytes(ending.join([b"ply", b"format " + kind + b" 1.0", *top]) + ending + body)
        points, corners = meshes.read_ply(path)
        assert points.tolist() == POINTS, kind
        assert corners.tolist() == CORNERS, kind


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("v 1 2\n", "lacks a coordinate"),
        ("v 0 0 0\nf 1 2 99999999999999999999\n", "missing vertex"),
        ("v 0 0 0\nf -5 1 1\n", "missing vertex"),
        ("v" + " 1" * 600_000, "line is too long"),
    ],
)
def test_obj_that_makes_no_sense_is_refused_in_words(tmp_path: Path, text, words) -> None:
    path = tmp_path / "head.obj"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=words):
        meshes.read_obj(path)
