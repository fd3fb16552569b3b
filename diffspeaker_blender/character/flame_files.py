# SPDX-License-Identifier: GPL-3.0-or-later
"""Read head meshes from the files FLAME users have (.ply .obj .pkl .npz), vertex order untouched.

Pure numpy. Pickles are read by `files.pickles`: no code of the file ever runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from ..errors import HeadError
from ..files import arrays, meshes, pickles

SUFFIXES = (".ply", ".obj", ".pkl", ".npz")
FARTHEST = 1e9  # units from the origin; no head in any unit comes near


@dataclass(frozen=True)
class HeadFile:
    """The heads of one file: vertices (V, 3) by name, and their triangles (T, 3) if it has them."""

    heads: dict[str, NDArray[np.float32]]
    triangles: NDArray[np.int32] | None


def read(path: str | Path) -> HeadFile:
    """Read every head of a file. Raises HeadError."""
    path = Path(path)
    reader = {".ply": _read_mesh, ".obj": _read_mesh, ".pkl": _read_pickle, ".npz": _read_npz}
    if path.suffix.lower() not in reader:
        raise HeadError(
            f"{path.name} is no kind of head file this extension reads.",
            "Choose a .ply, .obj, .pkl or .npz file.",
        )
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # numbers too large are refused below
            found = reader[path.suffix.lower()](path)
    except OSError as error:
        raise HeadError(f"{path.name} cannot be read: {error.strerror or error}.") from error
    except HeadError:
        raise
    except (ValueError, TypeError, OverflowError, MemoryError, pickles.UnpicklingError) as error:
        raise HeadError(f"{path.name} is damaged or no head file ({error}).") from error
    for name, vertices in found.heads.items():
        points = vertices.ndim == 2 and vertices.shape[1] == 3 and len(vertices) > 0
        if not points or not (np.abs(vertices) < FARTHEST).all():  # false for NaN, too
            raise HeadError(f"{path.name} is damaged: {name[:60]} holds no list of points.")
    if not found.heads:
        raise HeadError(f"{path.name} holds no head.", "FLAME's file has an entry “v_template”.")
    return found


def _refuse(path: Path, why: str) -> NoReturn:
    raise HeadError(f"{path.name} cannot be used: {why}.")


# -- PLY and OBJ ------------------------------------------------------------------------------


def _read_mesh(path: Path) -> HeadFile:
    """Read vertices and faces of a PLY or OBJ file, in the order they stand there."""
    reader = meshes.read_ply if path.suffix.lower() == ".ply" else meshes.read_obj
    points, triangles = reader(path)
    heads = {path.stem: points.astype(np.float32)} if len(points) else {}
    return HeadFile(heads, triangles.astype(np.int32) if len(triangles) else None)


# -- FLAME's own ------------------------------------------------------------------------------


def _read_npz(path: Path) -> HeadFile:
    """Read FLAME's .npz, or the project's own (vertices, triangles)."""
    return _from_entries(path, arrays.read_npz(path))


def _read_pickle(path: Path) -> HeadFile:
    """Read FLAME's .pkl or a templates.pkl without running anything it holds."""
    entries = pickles.read(path)
    if not isinstance(entries, dict):
        _refuse(path, "it holds no table of arrays")
    return _from_entries(path, {_text(name): _array(value) for name, value in entries.items()})


def _from_entries(path: Path, entries: dict[str, Any]) -> HeadFile:
    """Pick the head out of named arrays: FLAME's template, or one template for each subject."""
    triangles = next((entries[n] for n in ("f", "faces", "triangles") if n in entries), None)
    faces = None if triangles is None else _faces(triangles)
    for name in ("v_template", "vertices"):
        if name in entries:
            if not isinstance(entries[name], np.ndarray):
                _refuse(path, f"its {name} is no array")
            return HeadFile({path.stem: np.asarray(entries[name], np.float32)}, faces)
    heads = {
        name: np.asarray(value, np.float32)
        for name, value in entries.items()
        if isinstance(value, np.ndarray) and value.ndim == 2 and value.shape[1] == 3
        and np.issubdtype(value.dtype, np.floating)
    }  # fmt: skip
    return HeadFile(heads, faces)


def _faces(found: Any) -> NDArray[np.int32]:
    """Return triangles (T, 3); raise ValueError when they are no indices."""
    if not isinstance(found, np.ndarray) or not (np.abs(found.astype(np.float64)) < 2**31).all():
        raise ValueError("its triangles are no indices")
    return found.astype(np.int32).reshape(-1, 3)


def _text(name: Any) -> str:
    text = name.decode("latin1") if isinstance(name, bytes) else str(name)
    return text.encode("utf-8", "replace").decode()


def _array(value: Any) -> Any:
    """Return the array in a plain or chumpy value; anything else as it is."""
    for _ in range(4):  # a chumpy expression may wrap another
        state = value.state if isinstance(value, pickles.Opaque) else None
        if not isinstance(state, dict):
            return value
        value = state.get("x", state.get("a"))
    return value
