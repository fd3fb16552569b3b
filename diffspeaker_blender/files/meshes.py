# SPDX-License-Identifier: GPL-3.0-or-later
"""Read the vertices and triangles of `.ply` and `.obj` files, in the order they stand there.

PLY after Greg Turk, "The PLY Polygon File Format" (1994): a text header that lists elements and
their properties, then the elements in that order, as text or binary in either byte order. A count
that the file cannot hold is refused before anything is made for it.
"""

from __future__ import annotations

import io
import re
import struct
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

LARGEST = 256 * 2**20  # bytes; a head of a million vertices has a fifth of that
MOST = 2_000_000  # vertices, rows with lists, corners of a face
_LONGEST_LINE = 2**20
_MOST_LINES = 4 * MOST
_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1",
    "short": "i2", "int16": "i2", "ushort": "u2", "uint16": "u2",
    "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4",
    "float": "f4", "float32": "f4", "double": "f8", "float64": "f8",
}  # fmt: skip
_CODES = {"i1": "b", "u1": "B", "i2": "h", "u2": "H", "i4": "i", "u4": "I", "f4": "f", "f8": "d"}
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass
class _Element:
    """One element of a PLY header; a property is (name, type, type of its count or "")."""

    name: str
    count: int
    properties: list[tuple[str, str, str]] = field(default_factory=list)

    @property
    def lists(self) -> bool:
        """True when rows differ in length."""
        return any(counter for _, _, counter in self.properties)

    @property
    def smallest(self) -> int:
        """Bytes that a binary row has at least."""
        return sum(int((counter or kind)[1]) for _, kind, counter in self.properties)


@dataclass
class _Mesh:
    """What has been read so far."""

    points: array[float] = field(default_factory=lambda: array("d"))
    corners: array[int] = field(default_factory=lambda: array("q"))

    def polygon(self, indices: Sequence[int]) -> None:
        """Split a polygon into triangles around its first corner."""
        if len(self.corners) > 9 * MOST:
            raise ValueError("it has too many faces")
        for at in range(1, len(indices) - 1):
            self.corners.extend((indices[0], indices[at], indices[at + 1]))

    def arrays(self) -> tuple[Floats, Integers]:
        """Return vertices (V, 3) and triangles (T, 3)."""
        points = np.array(self.points, np.float64).reshape(-1, 3)
        return points, np.array(self.corners, np.int64).reshape(-1, 3)


def _content(path: Path) -> bytes:
    if path.stat().st_size > LARGEST:
        raise ValueError(f"it is larger than {LARGEST // 2**20} MB")
    return path.read_bytes()


# -- OBJ ---------------------------------------------------------------------------------------


def read_obj(path: Path) -> tuple[Floats, Integers]:
    """Return vertices (V, 3) and triangles (T, 3). Raises `ValueError`, or OSError."""
    mesh, count = _Mesh(), 0
    for line in _lines(_content(path)):
        words = line.split()
        if not words:
            continue
        if words[0] == b"v":
            if len(words) < 4:
                raise ValueError("a vertex lacks a coordinate")
            mesh.points.extend((float(words[1]), float(words[2]), float(words[3])))
            count += 1
            if count > MOST:
                raise ValueError("it has too many vertices")
        elif words[0] == b"f":
            mesh.polygon([_index(word, count) for word in words[1:]])
    return mesh.arrays()


def _lines(data: bytes) -> Iterator[bytes]:
    """Yield the lines of a text, joined where a backslash ends one."""
    held, length = list[bytes](), 0
    text = data if b"\n" in data else data.replace(b"\r", b"\n")
    for number, line in enumerate(io.BytesIO(text)):
        if number > _MOST_LINES:
            raise ValueError("it has too many lines")
        length += len(line)
        if length > _LONGEST_LINE:
            raise ValueError("a line is too long")
        bare = line.rstrip(b"\r\n")
        if bare.endswith(b"\\"):
            held.append(bare[:-1])
            continue
        yield b" ".join([*held, bare]) if held else bare
        held, length = [], 0
    yield b" ".join(held)


def _index(word: bytes, count: int) -> int:
    """Return a corner's vertex from 0; a negative number counts from the last vertex back."""
    index = int(word.partition(b"/")[0])
    index = index - 1 if index > 0 else count + index
    if not 0 <= index < 2**31:
        raise ValueError("a face names a missing vertex")
    return index


# -- PLY ---------------------------------------------------------------------------------------


def read_ply(path: Path) -> tuple[Floats, Integers]:
    """Return vertices (V, 3) and triangles (T, 3). Raises `ValueError`, or OSError."""
    data = _content(path)
    try:
        kind, elements, start = _header(data)
        if kind == "ascii":
            return _read_text(data[start:], elements)
        return _read_binary(data, start, elements, "<" if "little" in kind else ">")
    except (KeyError, IndexError, struct.error, OverflowError, TypeError) as error:
        raise ValueError("it is damaged") from error


def _header(data: bytes) -> tuple[str, list[_Element], int]:
    end = data.find(b"end_header", 0, 2**20)
    if not data.startswith(b"ply") or end < 0:
        raise ValueError("it has no PLY header")
    after = data[end + 10 : end + 12]
    start = end + 10 + (2 if after == b"\r\n" else 1)
    kind, elements = "", list[_Element]()
    for line in data[:end].decode("ascii", "replace").splitlines():
        words = line.split()
        if words[:1] == ["format"]:
            kind = words[1]
        elif words[:1] == ["element"]:
            elements.append(_Element(words[1], int(words[2])))
        elif words[:2] == ["property", "list"]:
            elements[-1].properties.append((words[4], _TYPES[words[3]], _TYPES[words[2]]))
        elif words[:1] == ["property"]:
            elements[-1].properties.append((words[2], _TYPES[words[1]], ""))
    if kind not in ("ascii", "binary_little_endian", "binary_big_endian"):
        raise ValueError(f'unknown PLY format "{kind[:40]}"')
    for element in elements:
        if element.count < 0 or (element.count and not element.properties):
            raise ValueError(f'its element "{element.name[:40]}" makes no sense')
        if element.count > MOST and element.name == "vertex":
            raise ValueError("it has too many vertices")
        if element.count > (len(data) - start) // max(
            1, element.smallest if kind != "ascii" else 2
        ):
            raise ValueError("the file ends too early")
    return kind, elements, start


def _columns(element: _Element) -> list[int]:
    names = [name for name, _, _ in element.properties]
    if not {"x", "y", "z"} <= set(names) or element.lists:
        raise ValueError("it has no vertices")
    return [names.index(axis) for axis in "xyz"]


def _corner_list(element: _Element) -> int:
    """Return which property lists a face's corners, or -1."""
    lists = [at for at, (_, _, counter) in enumerate(element.properties) if counter]
    named = [at for at in lists if element.properties[at][0] in ("vertex_indices", "vertex_index")]
    return next(iter([*named, *lists]), -1)


def _read_text(body: bytes, elements: list[_Element]) -> tuple[Floats, Integers]:
    mesh = _Mesh()
    words = (found[0] for found in re.finditer(rb"\S+", body))
    for element in elements:
        columns = _columns(element) if element.name == "vertex" else []
        corners = _corner_list(element) if element.name == "face" else -1
        for _ in range(element.count):
            row = [_text_property(words, counter) for _, _, counter in element.properties]
            if columns:
                mesh.points.extend(row[column][0] for column in columns)
            elif corners >= 0:
                mesh.polygon([_corner(value) for value in row[corners]])
    return _found(mesh)


def _text_property(words: Iterator[bytes], counter: str) -> list[float]:
    values = []
    try:
        count = int(next(words)) if counter else 1
        if not 0 <= count <= MOST:
            raise ValueError("a list has an impossible length")
        for _ in range(count):
            values.append(float(next(words)))
    except StopIteration:
        raise ValueError("the file ends too early") from None
    return values


def _corner(value: float) -> int:
    if not 0 <= value < 2**31:  # false for NaN, too
        raise ValueError("a face names a missing vertex")
    return int(value)


def _found(mesh: _Mesh) -> tuple[Floats, Integers]:
    if not len(mesh.points):
        raise ValueError("it has no vertices")
    return mesh.arrays()


def _read_binary(
    data: bytes, start: int, elements: list[_Element], order: str
) -> tuple[Floats, Integers]:
    mesh = _Mesh()
    for element in elements:
        if element.lists:
            start = _read_lists(data, start, element, order, mesh)
            continue
        if not element.count:
            continue
        row = np.dtype(
            [(f"{at}", order + kind) for at, (_, kind, _) in enumerate(element.properties)]
        )
        if start + row.itemsize * element.count > len(data):
            raise ValueError("the file ends too early")
        if element.name == "vertex":
            rows = np.frombuffer(data, row, element.count, start)
            with np.errstate(invalid="ignore"):  # what is no number is for the caller to refuse
                points = [rows[f"{column}"].astype(np.float64) for column in _columns(element)]
            mesh.points.frombytes(np.stack(points, axis=1).tobytes())
        start += row.itemsize * element.count
    return _found(mesh)


def _read_lists(data: bytes, start: int, element: _Element, order: str, mesh: _Mesh) -> int:
    """Read rows that hold lists; return where they end."""
    if element.count > MOST:
        raise ValueError("it has too many faces")
    wanted = _corner_list(element) if element.name == "face" else -1
    kinds = [
        (order + (_CODES[counter] if counter else "x"), _CODES[kind], int(kind[1]))
        for _, kind, counter in element.properties
    ]
    listed = [bool(counter) for _, _, counter in element.properties]
    for _ in range(element.count):
        for at, (counter, code, size) in enumerate(kinds):
            count = 1
            if listed[at]:
                count = int(struct.unpack_from(counter, data, start)[0])
                start += struct.calcsize(counter)
            if not 0 <= count <= MOST or start + count * size > len(data):
                raise ValueError("the file ends too early")
            if at == wanted:
                values = struct.unpack_from(f"{order}{count}{code}", data, start)
                mesh.polygon([_corner(value) for value in values])
            start += count * size
    return start
