"""Put the demo head together: skin, eyes, paint, parts, and the shapes that its rig gives it.

Development only (SciPy). `V` vertices of the face, `T` triangles, `K` shapes.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from . import headhair, headloops, headmesh, headpaint, headparts, mouthparts
from .articulation import CONTROLS, Rig
from .head import JAW_SHAPES, SEEN, Floats, Head, Integers, Part, follow, jaw_motion
from .headmesh import Skin
from .sculpt import Array

STILL = 1e-6
"""Shapes that move nothing further, such as the tongue's, are left out of the face, metres."""
JAW_SKIN_SHIFT = 0.0012
"""Skin that other controls move further than this is no measure of the jaw bone, metres."""


def build() -> Head:
    """Make the whole head; the same numbers give the same head."""
    skin = headmesh.build()
    vertices, triangles = add_eyeballs(skin)
    rig = Rig(vertices, triangles)
    names, stack = rig.named_shapes()
    shapes = {
        name: np.asarray(offsets, np.float32)
        for name, offsets in zip(names, stack, strict=True)
        if np.abs(offsets).max() > STILL
    }
    jaw_vertices = find_jaw_skin(rig, len(skin.vertices))
    paint = headpaint.paint(skin, vertices, triangles)
    parts = make_parts(skin, vertices, _jaw_share(shapes, jaw_vertices, vertices))
    head = Head(
        vertices=vertices,
        triangles=triangles,
        colours=paint.colours,
        materials=paint.materials,
        material=paint.material,
        jaw_vertices=jaw_vertices,
        parts=parts,
        shapes=shapes,
    )
    return replace(head, parts={name: with_shapes(part, head) for name, part in parts.items()})


def add_eyeballs(skin: Skin) -> tuple[Floats, Integers]:
    """Return the face's vertices (5023, 3) and triangles: skin, left eyeball, right eyeball."""
    ball, faces = headloops.eyeball()
    count = len(skin.vertices)
    vertices = np.r_[skin.vertices, ball, ball * [-1, 1, 1]]
    triangles = np.r_[skin.triangles, faces + count, faces[:, ::-1] + count + len(ball)]
    return vertices.astype(np.float32), triangles.astype(np.int32)


def find_jaw_skin(rig: Rig, skin_count: int) -> Integers:
    """Return the skin vertices that turn with the jaw bone and with nothing else."""
    each = rig.evaluate(np.eye(len(CONTROLS)))  # (C,V,3)
    size = np.linalg.norm(each, axis=2)
    jaw = np.isin(CONTROLS, JAW_SHAPES)
    opening = size[CONTROLS.index("jawOpen")]
    quiet = size[~jaw].max(0) < JAW_SKIN_SHIFT
    candidates = np.flatnonzero(quiet & (opening > 0.75 * opening.max()))
    candidates = candidates[candidates < skin_count]
    assert len(candidates) >= 12, f"only {len(candidates)} vertices sit tight on the jaw"
    return candidates.astype(np.int32)


def _jaw_share(shapes: dict[str, Floats], jaw_vertices: Integers, vertices: Floats) -> Array:
    """Return (V,) how far each vertex follows the jaw bone when it opens, 0..1."""
    motion = jaw_motion(vertices, shapes["jawOpen"], jaw_vertices)
    rigid = np.c_[vertices, np.ones(len(vertices))] @ motion
    share = (rigid * shapes["jawOpen"]).sum(1) / np.maximum((rigid**2).sum(1), 1e-12)
    return np.clip(share, 0, 1)


def make_parts(skin: Skin, vertices: Floats, jaw_share: Array) -> dict[str, Part]:
    """Return the head's parts by name."""
    mouth = [skin.vertices[ring] for ring in skin.mouth]
    teeth, gums = mouthparts.teeth_and_gums(mouth)
    loop = _whole_ring(skin.mouth[0], skin.mirror)
    faces = skin.triangles
    cap, locks = headhair.hair()
    return {
        "teeth": teeth,
        "gums": gums,
        "tongue": mouthparts.tongue(mouth),
        "mouth": mouthparts.bag(vertices[loop].astype(np.float64), loop, jaw_share[loop]),
        "brows": headparts.brows(skin.vertices),
        "lashes": headparts.lashes(skin.vertices[skin.eye[3]], skin.vertices, faces),
        "ears": headparts.ears(),
        "hair": mouthparts.join([cap, locks]),
    }


def _whole_ring(half: Integers, mirror: Integers) -> Integers:
    """Return a closed ring of a left half that runs from the upper to the lower middle."""
    return np.r_[half, mirror[half[-2:0:-1]]]


def with_shapes(part: Part, head: Head) -> Part:
    """Return a part with the shapes it needs to follow the face's own, where it is seen to move."""
    shapes = dict(part.shapes)
    for name, offsets in head.shapes.items():
        motion = jaw_motion(head.vertices, offsets, head.jaw_vertices)
        if name.split(".")[0] not in JAW_SHAPES:
            motion = np.zeros_like(motion)
        moved = follow(part, head.vertices, head.vertices + offsets, motion, part.vertices)
        if np.abs(moved).max(initial=0) > SEEN:
            shapes[name] = moved.astype(np.float32)
    return replace(part, shapes=shapes)
