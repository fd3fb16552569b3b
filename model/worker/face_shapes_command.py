# SPDX-License-Identifier: GPL-3.0-or-later
"""Find the points of a face, or make its named shapes from them.

    python -m model face-shapes IN.npz OUT.npz

IN.npz is a character as Blender has it, +Z up: vertices (V, 3), triangles (T, 3), owner (V,) the
object that each vertex is of, face the number of the face's object; and, to make shapes, names
(P,) and points (P, 3).  Without points OUT.npz gets names, points, doubtful (P,) and turn, the
quarter turns about Z from facing -Y.  With them it gets names (K,), shapes (K, V, 3) and a JSON
report.  Each line of output is a JSON object: {"fraction": …} while it works.
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
from ..rig.transfer import Made, make_shapes

UPRIGHT = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
"""Rows are Blender's axes that are left, up and front of what faces -Y."""

QUARTER = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])
"""A quarter turn about up."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `face-shapes` takes."""
    parser.add_argument("input", type=Path, help="the character (.npz)")
    parser.add_argument("output", type=Path, help="the .npz file to write")


def run(arguments: argparse.Namespace) -> int:
    """Answer one file with another."""
    character = _read(arguments.input)
    if character.points:
        names, turn = sorted(character.points), _facing(character)
        made = character.shapes(turn)
        _write(
            arguments.output, names=np.array(CONTROLS), shapes=made.shapes,
            report=json.dumps({"counts": made.counts, "measures": made.measures, "points": names}),
        )  # fmt: skip
    else:
        turn, guess = character.guess()
        names = list(guess.points)
        places = np.stack([guess.points[name] for name in names]) @ axes(turn)
        doubtful = np.array([name in guess.doubtful for name in names])
        _write(arguments.output, names=np.array(names), points=places, doubtful=doubtful, turn=turn)
    return 0


def axes(turn: int) -> NDArray[np.float64]:
    """Return the rows left, up and front, in Blender's axes, of what faces `turn` quarters on."""
    return np.asarray(np.linalg.matrix_power(QUARTER, turn) @ UPRIGHT)


@dataclass(frozen=True)
class Character:
    """What Blender sent."""

    vertices: NDArray[np.float64]
    triangles: NDArray[np.int64]
    owner: NDArray[np.int64]
    face: int
    points: dict[str, NDArray[np.float64]]

    def read(self, turn: int) -> tuple[AnyMesh, Mask]:
        """Return the mesh, turned to look along +z, and which of its vertices are the skin."""
        mesh = AnyMesh(self.vertices @ axes(turn).T, self.triangles)
        mine = np.zeros(len(mesh.positions), dtype=bool)
        mine[mesh.weld[self.owner == self.face]] = True
        if not mine.any():
            raise FaceError("The picked object has no vertices.", "Pick the mesh of the face.")
        return mesh, mine & (mesh.part == np.bincount(mesh.part[mine]).argmax())

    def guess(self) -> tuple[int, Guess]:
        """Find the points, trying the four sides until one looks like a face."""
        best: tuple[int, Guess] | None = None
        for turn in (0, 2, 1, 3):
            try:
                found = guess_points(*self.read(turn))
            except (ValueError, LookupError, ArithmeticError):
                continue
            if best is None or len(found.doubtful) < len(best[1].doubtful):
                best = (turn, found)
            if not found.doubtful:
                break
        if best is None:
            raise FaceError(
                "No face was found on this mesh.",
                "Pick the mesh that is the character's head, upright, its mouth shut.",
            )
        return best

    def shapes(self, turn: int) -> Made:
        """Make the shapes, in Blender's axes."""
        turned = axes(turn)
        points = {name: turned @ point for name, point in self.points.items()}
        made = make_shapes(*self.read(turn), points, demo_head.load(), Watch(_tell))
        shapes = made.shapes @ turned.astype(np.float32)
        return Made(shapes, made.counts, made.measures)


def _facing(character: Character) -> int:
    """Return the quarter turns from facing -Y, by where the points of left and right lie."""
    left, right = (
        np.mean([p for n, p in character.points.items() if n.endswith(side)], axis=0)
        for side in ("left", "right")
    )
    across = left - right
    return int(np.argmax([across @ axes(turn)[0] for turn in range(4)]))


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
