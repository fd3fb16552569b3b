"""Read the vertices and faces of a PLY file: ASCII, little or big endian.

Format after Greg Turk, "The PLY Polygon File Format" (1994): a text header that lists elements and
their properties, then the elements in that order.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1",
    "short": "i2", "int16": "i2", "ushort": "u2", "uint16": "u2",
    "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4",
    "float": "f4", "float32": "f4", "double": "f8", "float64": "f8",
}  # fmt: skip
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass
class _Element:
    """One element of the header; a property is (name, type, type of its count or "")."""

    name: str
    count: int
    properties: list[tuple[str, str, str]] = field(default_factory=list)

    @property
    def lists(self) -> bool:
        return any(counter for _, _, counter in self.properties)


def read(path: Path) -> tuple[Floats, Integers]:
    """Return vertices (V, 3) and triangles (T, 3), polygons split. Raises `ValueError`."""
    data = path.read_bytes()
    kind, elements, start = _header(data)
    if kind == "ascii":
        tables = _read_ascii(data[start:], elements)
    else:
        order = {"binary_little_endian": "<", "binary_big_endian": ">"}[kind]
        tables = _read_binary(data, start, elements, order)
    columns, polygons = tables.get("vertex", {}), tables.get("face", {})
    if not {"x", "y", "z"} <= set(columns):
        raise ValueError("no vertices")
    corners = polygons.get("vertex_indices", polygons.get("vertex_index", []))
    vertices = np.stack([np.asarray(columns[axis], np.float64) for axis in "xyz"], axis=1)
    return vertices, _triangles(corners)


def _header(data: bytes) -> tuple[str, list[_Element], int]:
    end = data.find(b"end_header")
    if not data.startswith(b"ply") or end < 0:
        raise ValueError("no PLY header")
    start = data.index(b"\n", end) + 1
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
        raise ValueError(f'unknown PLY format "{kind}"')
    return kind, elements, start


def _read_ascii(body: bytes, elements: list[_Element]) -> dict[str, dict[str, list]]:  # type: ignore[type-arg]
    lines = iter(body.decode("ascii", "replace").splitlines())
    tables = {}
    for element in elements:
        table: dict[str, list] = {name: [] for name, _, _ in element.properties}  # type: ignore[type-arg]
        for _ in range(element.count):
            words = next(lines, "").split()
            if not words:
                raise ValueError("the file ends too early")
            for name, _, counter in element.properties:
                size = int(words.pop(0)) if counter else 1
                values = [float(word) for word in words[:size]]
                del words[:size]
                table[name].append(values if counter else values[0])
        tables[element.name] = table
    return tables


def _read_binary(
    data: bytes, start: int, elements: list[_Element], order: str
) -> dict[str, dict[str, list]]:  # type: ignore[type-arg]
    tables = {}
    for element in elements:
        if element.lists:
            table, start = _read_lists(data, start, element, order)
        else:
            row = np.dtype([(name, order + kind) for name, kind, _ in element.properties])
            if start + row.itemsize * element.count > len(data):
                raise ValueError("the file ends too early")
            rows = np.frombuffer(data, row, element.count, start)
            table = {name: rows[name] for name, _, _ in element.properties}  # type: ignore[misc]
            start += row.itemsize * element.count
        tables[element.name] = table
    return tables


def _read_lists(
    data: bytes, start: int, element: _Element, order: str
) -> tuple[dict[str, list], int]:  # type: ignore[type-arg]
    table: dict[str, list] = {name: [] for name, _, _ in element.properties}  # type: ignore[type-arg]
    kinds = [
        (name, np.dtype(order + kind), np.dtype(order + counter) if counter else None)
        for name, kind, counter in element.properties
    ]
    for _ in range(element.count):
        for name, kind, counter in kinds:
            size = 1
            if counter is not None:
                size = int(np.frombuffer(data, counter, 1, start)[0])
                start += counter.itemsize
            values = np.frombuffer(data, kind, size, start)
            start += kind.itemsize * size
            table[name].append(values if counter is not None else values[0])
    return table, start


def _triangles(polygons: list) -> Integers:  # type: ignore[type-arg]
    """Split polygons around their first corners → (T, 3)."""
    corners = [
        (polygon[0], polygon[i], polygon[i + 1])
        for polygon in polygons
        for i in range(1, len(polygon) - 1)
    ]
    return np.asarray(corners, np.int64).reshape(-1, 3)
