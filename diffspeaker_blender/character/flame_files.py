"""Read head meshes from the files FLAME users have (.ply .obj .pkl .npz), vertex order untouched.

Pure numpy. Pickles are read by `files.pickles`: no code of the file ever runs.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from ..errors import HeadError
from ..files import pickles

SUFFIXES = (".ply", ".obj", ".pkl", ".npz")
_PLY_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2",
    "ushort": "u2", "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4",
    "float": "f4", "float32": "f4", "double": "f8", "float64": "f8",
}  # fmt: skip


@dataclass(frozen=True)
class HeadFile:
    """The heads of one file: vertices (V, 3) by name, and their triangles (T, 3) if it has them."""

    heads: dict[str, NDArray[np.float32]]
    triangles: NDArray[np.int32] | None


def read(path: str | Path) -> HeadFile:
    """Read every head of a file. Raises HeadError."""
    path = Path(path)
    reader = {".ply": _read_ply, ".obj": _read_obj, ".pkl": _read_pickle, ".npz": _read_npz}
    if path.suffix.lower() not in reader:
        raise HeadError(
            f"{path.name} is no kind of head file this extension reads.",
            "Choose a .ply, .obj, .pkl or .npz file.",
        )
    try:
        found = reader[path.suffix.lower()](path)
    except OSError as error:
        raise HeadError(f"{path.name} cannot be read: {error.strerror or error}.") from error
    except HeadError:
        raise
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, EOFError, MemoryError,
            UnicodeDecodeError, pickles.UnpicklingError, zipfile.BadZipFile) as error:  # fmt: skip
        raise HeadError(f"{path.name} is damaged or no head file ({error}).") from error
    for name, vertices in found.heads.items():
        if vertices.ndim != 2 or vertices.shape[1] != 3 or not np.isfinite(vertices).all():
            raise HeadError(f"{path.name} is damaged: {name} holds no list of points.")
    if not found.heads:
        raise HeadError(f"{path.name} holds no head.", "FLAME's file has an entry “v_template”.")
    return found


def _refuse(path: Path, why: str) -> NoReturn:
    raise HeadError(f"{path.name} cannot be used: {why}.")


def _fan(polygon: list[int]) -> list[list[int]]:
    """Return the triangles of one polygon."""
    return [[polygon[0], polygon[k], polygon[k + 1]] for k in range(1, len(polygon) - 1)]


# -- PLY and OBJ ------------------------------------------------------------------------------


def _read_ply(path: Path) -> HeadFile:
    """Read vertices and faces of a PLY file, text or binary."""
    data = path.read_bytes()
    head, mark, body = data.partition(b"end_header")
    if not data.startswith(b"ply") or not mark:
        _refuse(path, "it does not begin like a PLY file")
    body = body[body.index(b"\n") + 1 :]
    lines = [line.split() for line in head.decode("ascii", "replace").splitlines()]
    style = next(line[1] for line in lines if line[:1] == ["format"])
    elements: list[tuple[str, int, list[list[str]]]] = []
    for line in lines:
        if line[:1] == ["element"]:
            elements.append((line[1], int(line[2]), []))
        elif line[:1] == ["property"]:
            elements[-1][2].append(line[1:])
    tables = _ply_text(body, elements) if style == "ascii" else _ply_binary(body, elements, style)
    rows, names = tables["vertex"], [p[-1] for p in {e[0]: e[2] for e in elements}["vertex"]]
    columns = [names.index(axis) for axis in "xyz"]
    points = np.array([[row[c] for c in columns] for row in rows], np.float32)
    faces = [t for row in tables.get("face", []) for t in _fan([int(i) for i in row[0]])]
    return HeadFile({path.stem: points}, np.array(faces, np.int32) if faces else None)


def _ply_text(body: bytes, elements: list[Any]) -> dict[str, list[Any]]:
    """Return the rows of each element; a list property is one nested list."""
    words = iter(body.split())
    tables: dict[str, list[Any]] = {}
    for name, count, properties in elements:
        rows = []
        for _ in range(count):
            row: list[Any] = []
            for declared in properties:
                if declared[0] == "list":
                    row.append([float(next(words)) for _ in range(int(next(words)))])
                else:
                    row.append(float(next(words)))
            rows.append([item for item in row if isinstance(item, list)] or row)
        tables[name] = rows
    return tables


def _ply_binary(body: bytes, elements: list[Any], style: str) -> dict[str, list[Any]]:
    """Return the rows of each element of a binary file, in either byte order."""
    order = ">" if style == "binary_big_endian" else "<"
    place, tables = 0, {}
    for name, count, properties in elements:
        if all(declared[0] != "list" for declared in properties):
            kind = np.dtype([(p[1], order + _PLY_TYPES[p[0]]) for p in properties])
            tables[name] = np.frombuffer(body, kind, count, place).tolist()
            place += kind.itemsize * count
            continue
        rows = []
        for _ in range(count):
            lists = []
            for declared in properties:
                length = 1
                if declared[0] == "list":
                    sized = np.dtype(order + _PLY_TYPES[declared[1]])
                    length = int(np.frombuffer(body, sized, 1, place)[0])
                    place += sized.itemsize
                kind = np.dtype(order + _PLY_TYPES[declared[-2]])
                values = np.frombuffer(body, kind, length, place)
                place += kind.itemsize * length
                if declared[0] == "list":
                    lists.append(values.tolist())
            rows.append(lists)
        tables[name] = rows
    return tables


def _read_obj(path: Path) -> HeadFile:
    """Read vertices and faces of an OBJ file in the order they stand there."""
    points, faces = [], []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "v":
            points.append([float(number) for number in rest.split()[:3]])
        elif word == "f":
            corners = [int(corner.split("/")[0]) for corner in rest.split()]
            faces += _fan([c - 1 if c > 0 else len(points) + c for c in corners])
    heads = {path.stem: np.array(points, np.float32)} if points else {}
    return HeadFile(heads, np.array(faces, np.int32) if faces else None)


# -- FLAME's own ------------------------------------------------------------------------------


def _read_npz(path: Path) -> HeadFile:
    """Read FLAME's .npz, or the project's own (vertices, triangles)."""
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as found:
        entries = {}
        for name in found.files:
            try:
                entries[name] = found[name]
            except ValueError:  # an object array: only pickle could read it, and nothing needs it
                continue
    return _from_entries(path, entries)


def _read_pickle(path: Path) -> HeadFile:
    """Read FLAME's .pkl or a templates.pkl without running anything it holds."""
    entries = pickles.read(path)
    if not isinstance(entries, dict):
        _refuse(path, "it holds no table of arrays")
    return _from_entries(path, {_text(name): _array(value) for name, value in entries.items()})


def _from_entries(path: Path, entries: dict[str, Any]) -> HeadFile:
    """Pick the head out of named arrays: FLAME's template, or one template for each subject."""
    triangles = next((entries[n] for n in ("f", "faces", "triangles") if n in entries), None)
    faces = None if triangles is None else np.asarray(triangles).astype(np.int32).reshape(-1, 3)
    for name in ("v_template", "vertices"):
        if name in entries:
            return HeadFile({path.stem: np.asarray(entries[name], np.float32)}, faces)
    heads = {
        name: np.asarray(value, np.float32)
        for name, value in entries.items()
        if isinstance(value, np.ndarray) and value.ndim == 2 and value.shape[1] == 3
        and np.issubdtype(value.dtype, np.floating)
    }  # fmt: skip
    return HeadFile(heads, faces)


def _text(name: Any) -> str:
    return name.decode("latin1") if isinstance(name, bytes) else str(name)


def _array(value: Any) -> Any:
    """Return the array in a plain or chumpy value; anything else as it is."""
    for _ in range(4):  # a chumpy expression may wrap another
        state = value.state if isinstance(value, pickles.Opaque) else None
        if not isinstance(state, dict):
            return value
        value = state.get("x", state.get("a"))
    return value
