# SPDX-License-Identifier: GPL-3.0-or-later
"""Derive the demo head's rig beforehand, as it is stored and as Blender stands it up.

``python build.py model rigs`` writes ``weights/rigs``, so that the first line on the demo head does
not wait for what is the same for everybody. Run it again when a derivation comes out differently.
"""

from __future__ import annotations

import argparse
import shutil

import numpy as np
from numpy.typing import NDArray

from ...rig import derivation, head_files

Vertices = NDArray[np.floating]


def add_arguments(_parser: argparse.ArgumentParser) -> None:
    """Take no arguments."""


def run(_arguments: argparse.Namespace) -> int:
    """Write a file per way the head is given."""
    face = head_files.read("demo")
    shutil.rmtree(derivation.SHIPPED, ignore_errors=True)
    for vertices in poses(face.vertices):
        path = derivation.cache_file(derivation.SHIPPED, vertices, face.triangles)
        derivation.save(path, derivation.derive(vertices, face.triangles), compressed=True)
        print(f"{path.name}: {path.stat().st_size / 1e6:.2f} MB")
    return 0


def poses(vertices: Vertices) -> list[Vertices]:
    """Return the head as the model reads it, and as the add-on stands it on Blender's ground."""
    x, y, z = vertices.astype(np.float64).T
    return [vertices, np.stack([x, -z, y - float(vertices[:, 1].min())], 1)]
