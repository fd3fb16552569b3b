# SPDX-License-Identifier: GPL-3.0-or-later
"""Look at face motion without Blender: contact sheets and films with sound, numpy only.

Pictures are written with the standard library; titles need Pillow and films need an ffmpeg
(imageio-ffmpeg's, or one on the PATH): without them the sheet has no titles, and a film becomes a
folder of pictures, which `video` says.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..errors import OutputError
from ..rig.demo_head import Head
from . import film
from .film import write_png
from .rasterizer import Floats, Integers
from .scene import EYES, FRONT, MOUTH, MOUTH_SIDE, PROFILE, THREE_QUARTER, Layer, Scene, View

__all__ = [
    "EYES",
    "FRONT",
    "MOUTH",
    "MOUTH_SIDE",
    "PROFILE",
    "THREE_QUARTER",
    "Layer",
    "View",
    "contact_sheet",
    "portrait",
    "video",
]


def contact_sheet(
    vertices: Floats,
    triangles: Integers,
    frames: Sequence[int] | None,
    path: Path | str,
    parts: Layer | Head | None = None,
    *,
    titles: Sequence[str] | None = None,
    views: Sequence[View] = (FRONT, THREE_QUARTER),
    columns: int = 4,
    size: int = 256,
    controls: Floats | None = None,
    names: Sequence[str] = (),
) -> Path:
    """Write a sheet of chosen frames of ``vertices`` (F, V, 3), every view side by side.

    ``frames`` None takes all. ``parts`` gives colours, or the demo head with all that belongs to
    it (found by itself when the vertices are the demo head's); ``controls`` (F, C) with their
    ``names`` then move its tongue. ``titles`` are drawn where Pillow is there.
    """
    chosen = list(range(len(vertices))) if frames is None else list(frames)
    scene = Scene(vertices, triangles, parts, controls, names)
    stages = [scene.stage(view, size, smooth=2) for view in views]
    cells = []
    for place, frame in enumerate(chosen):
        shots = np.concatenate([stage.draw(frame) for stage in stages], 1)
        cells.append(film.titled(shots, titles[place] if titles else f"{frame}"))
    return write_png(path, film.grid(cells, columns))


def video(
    vertices: Floats,
    triangles: Integers,
    fps: float,
    audio: Path | str | None,
    path: Path | str,
    parts: Layer | Head | None = None,
    *,
    views: Sequence[View] = (FRONT,),
    size: int = 384,
    smooth: int = 1,
    controls: Floats | None = None,
    names: Sequence[str] = (),
) -> Path:
    """Write a film of ``vertices`` (F, V, 3) with the sound of ``audio``; return what was written.

    Without ffmpeg the return value is a folder of numbered pictures beside ``path``.
    """
    scene = Scene(vertices, triangles, parts, controls, names)
    stages = [scene.stage(view, size, smooth) for view in views]
    images = (
        np.concatenate([stage.draw(frame) for stage in stages], 1) for frame in range(len(vertices))
    )
    return film.write(images, fps, audio, Path(path))


def portrait(head: Head, path: Path | str, size: int = 512) -> Path:
    """Write a picture of the demo head from the front, three-quarters and the side."""
    views = (View(), View(azimuth=38.0), PROFILE)
    return contact_sheet(
        head.vertices[None], head.triangles, None, path, head, titles=[""], views=views, size=size
    )


# -- the command ----------------------------------------------------------------------------------


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe ``python build.py model preview``."""
    parser.add_argument("motion", type=Path, help="a motion file (.npz) from `generate`")
    parser.add_argument("output", type=Path, help=".mp4 for a film, .png for a contact sheet")
    parser.add_argument("--audio", type=Path, help="the sound to put under the film")
    parser.add_argument("--face", type=Path, help=".npz with the head's triangles; default: demo")
    parser.add_argument("--size", type=int, default=384, help="pixels a side of one view")
    parser.add_argument("--frames", type=int, default=16, help="pictures on a contact sheet")


def run(arguments: argparse.Namespace) -> int:
    """Draw a motion file."""
    with np.load(arguments.motion, allow_pickle=False) as file:
        motion = dict(file)
    offsets = np.einsum("fk,kvc->fvc", motion["weights"], motion["shapes"])
    vertices = (motion["template"] + offsets).astype(np.float32)
    extra = {}
    if "controls" in motion:
        extra = {"controls": motion["controls"], "names": [str(n) for n in motion["control_names"]]}
    triangles = _triangles(arguments.face, vertices.shape[1])
    if arguments.output.suffix.lower() == ".png":
        frames = np.linspace(0, len(vertices) - 1, arguments.frames).round().astype(int).tolist()
        written = contact_sheet(
            vertices, triangles, frames, arguments.output, size=arguments.size, **extra
        )
    else:
        written = video(
            vertices,
            triangles,
            float(motion["fps"]),
            arguments.audio,
            arguments.output,
            views=(FRONT, THREE_QUARTER),
            size=arguments.size,
            **extra,
        )
    print(written)
    return 0


def _triangles(face: Path | None, count: int) -> Integers:
    """Return the triangles of the head that a motion was made for."""
    from ..rig import demo_head as head

    if face is not None:
        with np.load(face, allow_pickle=False) as file:
            return np.asarray(file["triangles"], np.int64)
    demo = head.load()
    if len(demo.vertices) != count:
        raise OutputError(
            f"The motion is for a head of {count} vertices, which is not the demo head.",
            "Name the head's file with --face.",
        )
    return demo.triangles
