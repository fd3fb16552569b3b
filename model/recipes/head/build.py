# SPDX-License-Identifier: GPL-3.0-or-later
"""Put the demo head together: skin, eyes, paint, parts, and the shapes that its rig gives it.

Development only (SciPy). `V` vertices of the face, `T` triangles, `K` shapes.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from ...rig.controls import CONTROLS
from ...rig.demo_head import (
    ASSET,
    JAW_SHAPES,
    REST,
    SEEN,
    Floats,
    Head,
    Integers,
    Part,
    follow,
    jaw_motion,
    load,
    save,
)
from ...rig.rig import Rig
from . import hair, loops, mouth_inside, parts
from . import paint as headpaint
from . import skin as headmesh
from .sculpt import Array
from .skin import Skin

STILL = 1e-6
"""Shapes that move nothing further, such as the tongue's, are left out of the face, metres."""
JAW_SKIN_SHIFT = 0.0012
"""Skin that other controls move further than this is no measure of the jaw bone, metres."""
JAW_SKIN_SHARE = 0.94
"""How much of the jaw's turn skin must follow to be one."""


def build() -> Head:
    """Make the whole head, still without shapes; the same numbers give the same head."""
    skin = headmesh.build()
    vertices, triangles = add_eyeballs(skin)
    paint = headpaint.paint(skin, vertices, triangles)
    jaw = dict(zip(*Rig(vertices, triangles).regions(), strict=True))["jaw"]
    return Head(
        vertices=vertices,
        triangles=triangles,
        colours=paint.colours,
        materials=paint.materials,
        material=paint.material,
        jaw_vertices=np.zeros(0, np.int32),
        parts=make_parts(skin, vertices, jaw),
    )


def renew_shapes(head: Head) -> Head:
    """Return the head with the shapes that today's rig gives its face and its parts."""
    rig = Rig(head.vertices, head.triangles)
    shapes = {
        name: np.asarray(offsets, np.float32)
        for name, offsets in zip(*rig.named_shapes(), strict=True)
        if np.abs(offsets).max() > STILL
    }
    jaw = dict(zip(*rig.regions(), strict=True))["jaw"]
    head = replace(head, shapes=shapes, jaw_vertices=find_jaw_skin(rig, jaw))
    return replace(head, parts={name: with_shapes(p, head) for name, p in head.parts.items()})


def add_eyeballs(skin: Skin) -> tuple[Floats, Integers]:
    """Return the face's vertices (5023, 3) and triangles: skin, left eyeball, right eyeball."""
    ball, faces = loops.eyeball()
    count = len(skin.vertices)
    vertices = np.r_[skin.vertices, ball, ball * [-1, 1, 1]]
    triangles = np.r_[skin.triangles, faces + count, faces[:, ::-1] + count + len(ball)]
    return vertices.astype(np.float32), triangles.astype(np.int32)


def find_jaw_skin(rig: Rig, share: Array) -> Integers:
    """Return the skin vertices that turn with the jaw bone, all the way, and with nothing else."""
    moved = np.linalg.norm(rig.evaluate(np.eye(len(CONTROLS))), axis=2)  # (C,V)
    others = moved[~np.isin(CONTROLS, JAW_SHAPES)].max(0)
    tight = np.flatnonzero((others < JAW_SKIN_SHIFT) & (share > JAW_SKIN_SHARE))
    assert len(tight) >= 12, f"only {len(tight)} vertices sit tight on the jaw"
    return tight.astype(np.int32)


def make_parts(skin: Skin, vertices: Floats, jaw_share: Array) -> dict[str, Part]:
    """Return the head's parts by name."""
    mouth = [skin.vertices[ring] for ring in skin.mouth]
    teeth, gums = mouth_inside.teeth_and_gums(mouth)
    loop = _whole_ring(skin.mouth[0], skin.mirror)
    faces = skin.triangles
    cap, locks = hair.hair()
    return {
        "teeth": teeth,
        "gums": gums,
        "tongue": mouth_inside.tongue(mouth),
        "mouth": mouth_inside.bag(vertices[loop].astype(np.float64), loop, jaw_share[loop]),
        "brows": parts.brows(skin.vertices),
        "lashes": parts.lashes(skin.vertices[skin.eye[3]], skin.vertices, faces),
        "ears": parts.ears(),
        "hair": mouth_inside.join([cap, locks]),
    }


def _whole_ring(half: Integers, mirror: Integers) -> Integers:
    """Return a closed ring of a left half that runs from the upper to the lower middle."""
    return np.asarray(np.r_[half, mirror[half[-2:0:-1]]])


def with_shapes(part: Part, head: Head) -> Part:
    """Return a part with the shapes it needs to follow the face's own, where it is seen to move.

    An in-between ("jawOpen.half") is what is missing from half of the shape it corrects; other
    correctives move no bone.
    """
    shapes = {name: own for name, own in part.shapes.items() if name.startswith("tongue")}
    for name, offsets in head.shapes.items():
        control, _, kind = name.partition(".")
        between = kind == "half"
        start = 0.5 * head.shapes[control] if between else np.zeros_like(offsets)
        face = head.vertices + start + offsets
        bone = control in JAW_SHAPES and kind in ("", "half")
        jaw = jaw_motion(head.vertices, face, head.jaw_vertices) if bone else REST
        moved = follow(part, head.vertices, face, jaw, part.vertices)
        if between:
            moved = moved - 0.5 * shapes.get(control, np.zeros_like(moved))
        if np.abs(moved).max(initial=0) > SEEN:
            shapes[name] = moved.astype(np.float32)
    return replace(part, shapes=shapes)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe ``python build.py model head``."""
    parser.add_argument("output", type=Path, help="the .npz file to write")
    parser.add_argument(
        "--shapes-only",
        action="store_true",
        help="keep the shipped head and renew its shapes after a change of the rig (quick)",
    )
    parser.add_argument("--picture", type=Path, help="also draw the head into this PNG file")


def run(arguments: argparse.Namespace) -> int:
    """Make the demo head anew and write it."""
    from ...preview import preview

    if not arguments.shapes_only:
        save(arguments.output, build())
    made = load(ASSET if arguments.shapes_only else arguments.output)
    head = renew_shapes(made)  # of what is stored, so that both ways give the same
    save(arguments.output, head)
    size = arguments.output.stat().st_size
    print(f"{arguments.output}: {len(head.vertices)} vertices, {len(head.shapes)} shapes, {size} B")
    if arguments.picture:
        preview.portrait(head, arguments.picture)
    return 0
