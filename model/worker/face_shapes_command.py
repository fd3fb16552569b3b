# SPDX-License-Identifier: GPL-3.0-or-later
"""Find the points of a face, or make its named shapes from them.

    python -m model face-shapes IN.npz OUT.npz

IN.npz is a character as Blender has it, +Z up: vertices (V, 3), triangles (T, 3), owner (V,) the
object that each vertex is of, face the number of the face's object, upright (3, 3) the directions
of its own axes as columns; and, to make shapes, names (P,) and points (P, 3).  Without points
OUT.npz gets names, points and doubtful (P,).  With them it gets names (K,), shapes (K, V, 3) and a
JSON report.  Each line of output is a JSON object: {"fraction": …} while it works.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from ..errors import FaceError, OutputError
from ..progress import Watch
from ..rig import demo_head
from ..rig.any_mesh import AnyMesh, Mask
from ..rig.controls import CONTROLS
from ..rig.face_points import Guess, guess_points
from ..rig.facing import facings
from ..rig.transfer import Made, make_shapes

NO_FACE = 8
"""Doubtful points from which neither eyes nor a gap between lips were found."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `face-shapes` takes."""
    parser.add_argument("input", type=Path, help="the character (.npz)")
    parser.add_argument("output", type=Path, help="the .npz file to write")


def run(arguments: argparse.Namespace) -> int:
    """Answer one file with another."""
    character = _read(arguments.input)
    if character.points:
        names = sorted(character.points)
        made = character.shapes()
        _write(
            arguments.output, names=np.array(CONTROLS), shapes=made.shapes,
            report=json.dumps({"counts": made.counts, "measures": made.measures, "points": names}),
        )  # fmt: skip
    else:
        axes, guess = character.guess()
        names = list(guess.points)
        places = np.stack([guess.points[name] for name in names]) @ axes
        doubtful = np.array([name in guess.doubtful for name in names])
        _write(arguments.output, names=np.array(names), points=places, doubtful=doubtful)
    return 0


@dataclass(frozen=True)
class Character:
    """What Blender sent."""

    vertices: NDArray[np.float64]
    triangles: NDArray[np.int64]
    owner: NDArray[np.int64]
    face: int
    points: dict[str, NDArray[np.float64]]

    upright: NDArray[np.float64]
    """The face's own axes, which say where up may be where it lies (3, 3), as columns."""

    def read(self, axes: NDArray[np.float64]) -> tuple[AnyMesh, Mask]:
        """Return the mesh, its axes turned by rows (3, 3), and which of its vertices are skin."""
        mesh = AnyMesh(self.vertices @ axes.T, self.triangles)
        mine = np.zeros(len(mesh.positions), dtype=bool)
        mine[mesh.weld[self.owner == self.face]] = True
        if not mine.any():
            raise FaceError("The picked object has no vertices.", "Pick the mesh of the face.")
        return mesh, mine & (mesh.part == np.bincount(mesh.part[mine]).argmax())

    def guess(self) -> tuple[NDArray[np.float64], Guess]:
        """Find the points, trying the ways it may face until one looks like a face."""
        best: tuple[NDArray[np.float64], Guess] | None = None
        mesh, skin = self.read(np.eye(3))
        for axes in facings(mesh, skin, self.upright):
            try:
                found = guess_points(*self.read(axes))
            except (ValueError, LookupError, ArithmeticError):
                continue
            if best is None or len(found.doubtful) < len(best[1].doubtful):
                best = (axes, found)
            if not found.doubtful:
                break
        if best is None or len(best[1].doubtful) >= NO_FACE:
            raise FaceError(
                "No face was found on this mesh: neither eyes nor a gap between two lips.",
                "Pick the mesh that is the character's head, upright, its lips not joined.",
            )
        return best

    def shapes(self) -> Made:
        """Make the shapes, in Blender's axes."""
        mesh, skin = self.read(np.eye(3))
        return make_shapes(mesh, skin, self.points, demo_head.load(), Watch(_tell))


def _tell(fraction: float) -> None:
    print(json.dumps({"fraction": round(fraction, 3)}), flush=True)


def _read(path: Path) -> Character:
    """Read a character. Raises `FaceError`."""
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            given = {name: file[name] for name in file.files}
        names = [str(name) for name in given.get("names", ())]
        points = np.asarray(given.get("points", np.zeros((0, 3))), np.float64)
        return Character(
            np.asarray(given["vertices"], np.float64), np.asarray(given["triangles"], np.int64),
            np.asarray(given["owner"], np.int64), int(given["face"]),
            dict(zip(names, points, strict=True)),
            np.asarray(given.get("upright", np.eye(3)), np.float64),
        )  # fmt: skip
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise FaceError(f"{path.name} holds no character: {error}.") from error


def _write(path: Path, **arrays: Any) -> None:
    """Write the answer. Raises `OutputError`."""
    try:
        with path.open("wb") as file:
            np.savez(file, **arrays)
    except OSError as error:
        raise OutputError(f"{path.name} cannot be written: {error.strerror or error}.") from error
