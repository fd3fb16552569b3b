# SPDX-License-Identifier: GPL-3.0-or-later
"""Heads are read from any file, and found wherever they lie."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from model.errors import FaceError
from model.rig import head_files
from tests.model import tiny

POINTS, TRIANGLES = tiny.head(40)


def write_ply(path: Path, kind: str) -> Path:
    """Write POINTS and TRIANGLES with an extra property before and after, as exporters do."""
    header = (
        f"ply\nformat {kind} 1.0\ncomment made by hand\nelement vertex {len(POINTS)}\n"
        "property float x\nproperty float y\nproperty float z\nproperty uchar red\n"
        f"element face {len(TRIANGLES)}\nproperty list uchar int vertex_indices\n"
        "property float quality\nend_header\n"
    )
    if kind == "ascii":
        rows = [f"{x:.9g} {y:.9g} {z:.9g} 7" for x, y, z in POINTS]
        rows += [f"3 {a} {b} {c} 0.5" for a, b, c in TRIANGLES]
        body = ("\n".join(rows) + "\n").encode()
    else:
        order = "<" if "little" in kind else ">"
        body = b"".join(struct.pack(order + "3fB", *point, 7) for point in POINTS)
        body += b"".join(struct.pack(order + "B3if", 3, *corner, 0.5) for corner in TRIANGLES)
    path.write_bytes(header.encode() + body)
    return path


def write_obj(path: Path) -> Path:
    """Write POINTS and TRIANGLES with texture indices and one negative face."""
    lines = ["# head", "o face", *(f"v {x:.9g} {y:.9g} {z:.9g} 1 1 1" for x, y, z in POINTS)]
    lines += ["vt 0 0", "vn 0 0 1"]
    lines += [f"f {a + 1}/1/1 {b + 1}//1 {c + 1}" for a, b, c in TRIANGLES[:-1]]
    last = TRIANGLES[-1] - len(POINTS)
    path.write_text("\n".join([*lines, f"f {last[0]} {last[1]} {last[2]}"]), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "kind", ["ascii", "binary_little_endian", "binary_big_endian", "obj", "npz"]
)
def test_every_file_gives_the_same_head(tmp_path, kind):
    path = tmp_path / f"Kopf ä.{kind if kind in ('obj', 'npz') else 'ply'}"
    if kind == "npz":
        np.savez(path, vertices=POINTS, triangles=TRIANGLES)
    elif kind == "obj":
        write_obj(path)
    else:
        write_ply(path, kind)
    face = head_files.read(path)
    assert np.allclose(face.vertices, POINTS, atol=1e-6)
    assert np.array_equal(face.triangles, TRIANGLES)


def test_polygons_become_triangles(tmp_path):
    path = tmp_path / "a.obj"
    path.write_text("v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nv 0 0 1\nf 1 2 3 4\n", encoding="utf-8")
    assert head_files.read(path).triangles.tolist() == [[0, 1, 2], [0, 2, 3]]


def test_the_demo_head_is_there():
    assert head_files.read("demo").vertices.shape == (5023, 3)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.ply", b"", "not a readable head"),
        (
            "a.ply",
            b"ply\nformat ascii 1.0\nelement vertex 9\nproperty float x\nend_header\n",
            "too early",
        ),
        ("a.ply", b"ply\nformat magic 1.0\nend_header\n", "unknown PLY format"),
        ("a.obj", b"hello", "no vertices"),
        ("a.obj", b"v 1 2\nv 1 2 3\nv 3 4 5\nv 1 1 1", "lacks a coordinate"),
        ("a.obj", b"v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 nan\n", "not numbers"),
        ("a.obj", b"v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nf 1 2 9\n", "missing vertices"),
        ("a.obj", b"v 1 1 1\n" * 5, "one point"),
        ("a.npz", b"PK not really", "not a readable head"),
        ("a.fbx", b"", "no .ply, .obj or .npz"),
    ],
)
def test_files_that_are_no_heads_are_refused_in_a_sentence(tmp_path, name, content, words):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(FaceError, match=words) as caught:
        head_files.read(path)
    assert "\n" not in caught.value.message


def test_a_cut_off_binary_file_is_refused(tmp_path):
    path = write_ply(tmp_path / "a.ply", "binary_little_endian")
    whole = path.read_bytes()
    for length in range(20, len(whole), 61):
        path.write_bytes(whole[:length])
        with pytest.raises(FaceError):
            head_files.read(path)


def turned(degrees: float) -> np.ndarray:
    """Return a rotation about a skew axis."""
    axis = np.array([1.0, 2.0, 0.5]) / np.linalg.norm([1.0, 2.0, 0.5])
    cross = np.cross(np.eye(3), axis)
    angle = np.radians(degrees)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


Z_UP = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])


@pytest.mark.parametrize("rotation", [np.eye(3), Z_UP, turned(37), turned(170)])
@pytest.mark.parametrize("scale", [1.0, 100.0, 0.0254])
def test_offsets_follow_a_head_wherever_it_lies(rotation, scale):
    moved = scale * POINTS @ rotation.T + [3.0, -2.0, 9.0]
    place = head_files.place(head_files.Face(moved, TRIANGLES, "head"), POINTS, "the model", 40)
    offsets = np.random.default_rng(1).normal(size=(2, 40, 3)) * 1e-3
    assert np.allclose(place.carry(offsets), scale * offsets @ rotation.T, atol=1e-6 * scale)
    assert place.residual < 1e-6


def test_another_persons_head_is_not_taken_for_a_turned_one():
    other = 100 * (POINTS * [1.05, 0.97, 1.02] @ turned(1.5).T) @ Z_UP.T
    place = head_files.place(head_files.Face(other, TRIANGLES, "head"), POINTS, "the model", 40)
    assert np.allclose(place.rotation, Z_UP)
    assert abs(place.scale - 100) < 5


def test_a_mirrored_head_is_moved_mirrored():
    mirrored = POINTS * [-1, 1, 1]
    place = head_files.place(head_files.Face(mirrored, TRIANGLES, "head"), POINTS, "the model", 40)
    assert np.allclose(place.carry(POINTS), mirrored, atol=1e-5)


def test_another_order_and_another_number_are_told_apart():
    order = np.random.default_rng(2).permutation(40)
    with pytest.raises(FaceError, match="another order"):
        head_files.place(head_files.Face(POINTS[order], TRIANGLES, "head"), POINTS, "the model", 40)
    with pytest.raises(FaceError, match="has 39 vertices; the model moves heads of 40"):
        head_files.place(
            head_files.Face(POINTS[:39], TRIANGLES[:30], "head"), POINTS, "the model", 40
        )


def test_units_are_guessed_from_the_width_of_a_head():
    head = head_files.read("demo").vertices
    assert head_files.metres(head) == 1.0
    assert head_files.metres(100 * head) == pytest.approx(100, rel=0.1)
