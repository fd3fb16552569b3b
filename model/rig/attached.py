# SPDX-License-Identifier: GPL-3.0-or-later
"""What a character has besides skin: eyes turn, teeth and tongue go with the jaw, lashes follow.

Told apart by place and form: other people's objects have any name and any cut, down to single
teeth.  `n` vertices of a part, `V` of the source, `K` shapes, `N` vertices of the character.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from .controls import CONTROLS
from .demo_head import JAW_SHAPES, Head, jaw_motion
from .mesh import Floats, Integers, smoothstep
from .registration import Target
from .topology import FaceTopology

Shapes = NDArray[np.float32]

BESIDE = 0.35
"""Distance from the skin within which something is taken to sit on it."""

LARGE = 1.2
"""Size, in eye distances, from which something on the skin is hair or cloth, not a lash or brow."""


def add_parts(
    target: Target, face: FaceTopology, fitted: Floats, own: Shapes, shapes: Shapes, head: Head
) -> dict[str, int]:
    """Let eyes, teeth, tongue and what sits on the skin follow; return how many of each.

    `own` are the shapes of the fitted skin (K, V, 3); `shapes` (K, N, 3) is completed in place.
    """
    count = {"eyes": 0, "teeth": 0, "tongue": 0, "on skin": 0}
    mesh = target.mesh
    jaw = _jaw_motions(face, fitted, own, head)
    parts = [(mesh.part == part) & ~target.skin for part in np.unique(mesh.part[~target.skin])]
    inner = [p for p in (mesh.positions[mask] for mask in parts) if _in_mouth(p, target)]
    bite = _bite(target, inner) if inner else (0.0, 0.0)
    for ids in map(np.flatnonzero, parts):
        p = mesh.positions[ids]
        eye = next((k for k in range(2) if _is_eye(p, target, k)), None)
        if eye is not None:
            _turn(eye, ids, face, fitted, own, shapes, p)
            count["eyes"] += 1
        elif _in_mouth(p, target):
            share = _lower_share(p, bite)
            tongue = share.min() > 0.9 and _is_tongue(p)
            for index, motion in jaw.items():
                shapes[index, ids] = share[:, None] * motion(p)
            if tongue:
                _stick_out(ids, p, head, face, shapes)
            count["tongue" if tongue else "teeth"] += 1
        elif _follow_skin(ids, p, target, shapes):
            count["on skin"] += 1
    return count


Motion = Callable[[Floats], NDArray[np.floating]]


def _jaw_motions(face: FaceTopology, fitted: Floats, own: Shapes, head: Head) -> dict[int, Motion]:
    """Return the jaw bone's rigid motion in each of the jaw's shapes, by the shape's number."""
    motions: dict[int, Motion] = {}
    for name in JAW_SHAPES:
        index = CONTROLS.index(name)
        motions[index] = jaw_motion(fitted, fitted + own[index], head.jaw_vertices).offsets
    return motions


def _is_eye(p: Floats, target: Target, which: int) -> bool:
    """Whether a part is an eyeball or a shell of one."""
    ball = target.eyes[which]
    if ball is None:
        return False
    away = np.linalg.norm(p - ball[0], axis=1)
    size = np.ptp(p, axis=0)
    return bool(away.max() < 1.4 * ball[1] and size.min() > 0.3 * size.max())


def _turn(
    which: int, ids: Integers, face: FaceTopology, fitted: Floats, own: Shapes, shapes: Shapes,
    p: Floats,
) -> None:  # fmt: skip
    """Turn an eyeball as the fitted one turns."""
    ball = face.eyes[which].ball
    for index, shape in enumerate(own):
        if np.abs(shape[ball]).max() > 1e-5:
            shapes[index, ids] = jaw_motion(fitted, fitted + shape, ball).offsets(p)


def _in_mouth(p: Floats, target: Target) -> bool:
    """Whether a part lies behind the lips, between nose and chin, and is no wider than a mouth."""
    points = target.points
    wide = points["corner_left"][0] - points["corner_right"][0]
    low, high = p.min(0), p.max(0)
    level = low[1] > points["chin"][1] - 0.1 and high[1] < points["nose_tip"][1] + 0.15
    front = max(points["lip_upper"][2], points["lip_lower"][2])
    behind = high[2] < front + 0.05 and p[:, 2].mean() < front - 0.2
    return bool(level and behind and np.ptp(p[:, 0]) < 2.2 * wide)


def _bite(target: Target, parts: list[Floats]) -> tuple[float, float]:
    """Return slope and height of the plane y = slope · z + height between upper and lower teeth.

    Teeth may be pieces of their own, and molars stand higher than incisors: of the planes near
    the lips' line, the one that leaves the widest gap between pieces above and below.
    """
    points = target.points
    line = float(np.mean([points[f"corner_{side}"][1] for side in ("left", "right")]))
    front = float(np.mean([points[f"lip_{side}"][2] for side in ("upper", "lower")]))
    centres = np.array([p.mean(0) for p in parts])
    best = (0.0, 0.0, line)
    for slope in np.linspace(-0.6, 0.6, 25):
        height = np.sort(centres[:, 1] - slope * (centres[:, 2] - front))
        middles, gaps = (height[1:] + height[:-1]) / 2, np.diff(height)
        for middle, gap in zip(middles, gaps, strict=True):
            score = gap - 0.02 * abs(slope)
            if abs(middle - line) < 0.25 and score > best[0]:
                best = (score, slope, middle)
    return best[1], best[2] - best[1] * front


def _lower_share(p: Floats, bite: tuple[float, float]) -> Floats:
    """Return how far each vertex of a part of the mouth goes with the jaw (n,)."""
    above = p[:, 1] - bite[0] * p[:, 2] - bite[1]
    if above.min() < -0.12 and above.max() > 0.12 and np.ptp(p[:, 1]) > 0.3:  # both in one piece
        return np.asarray(1 - smoothstep(above, -0.05, 0.05))
    return np.full(len(p), float(above.mean() < 0))


def _is_tongue(p: Floats) -> bool:
    """Whether a part fills its midline from front to back, as no row of teeth does."""
    size = np.ptp(p, axis=0)
    middle = p[np.abs(p[:, 0] - p[:, 0].mean()) < 0.15 * size[0]]
    return bool(len(middle) > 2 and np.ptp(middle[:, 2]) > 0.75 * size[2] and size[2] > 0.3)


def _stick_out(ids: Integers, p: Floats, head: Head, face: FaceTopology, shapes: Shapes) -> None:
    """Carry the demo tongue's shapes, box to box."""
    tongue = head.parts["tongue"]
    theirs = face.frame.canonical(tongue.vertices.astype(np.float64))
    grow = np.ptp(p, axis=0) / np.ptp(theirs, axis=0)
    placed = (theirs - theirs.min(0)) * grow + p.min(0)
    near = np.array([int(((placed - point) ** 2).sum(1).argmin()) for point in p])
    for name, offsets in tongue.shapes.items():
        if name in ("tongueOut", "tongueTip", "tongueBack"):
            moved = offsets @ face.frame.axes / face.frame.unit
            shapes[CONTROLS.index(name), ids] += (moved[near] * grow).astype(np.float32)


def _follow_skin(ids: Integers, p: Floats, target: Target, shapes: Shapes) -> bool:
    """Move a part with the skin it sits on: a small part whole, a large one where it is near."""
    skin = np.unique(target.samples.corners)
    theirs = target.mesh.positions[skin]
    near, gap = np.zeros((len(p), 3), dtype=np.int64), np.zeros((len(p), 3))
    for some in np.array_split(np.arange(len(p)), max(1, len(p) // 512)):
        square = (theirs**2).sum(1) - 2 * p[some] @ theirs.T + (p[some] ** 2).sum(1)[:, None]
        order = np.argpartition(square, 3, axis=1)[:, :3]
        near[some] = skin[order]
        gap[some] = np.sqrt(np.maximum(np.take_along_axis(square, order, 1), 0))
    if gap.min() > BESIDE:
        return False
    share = 1 / (gap + 0.01) ** 2
    share /= share.sum(1, keepdims=True)
    if np.ptp(p, axis=0).max() > LARGE:
        share *= 1 - smoothstep(gap.min(1), 0.05, 0.25)[:, None]
    for k in range(3):
        shapes[:, ids] += share[:, k, None].astype(np.float32) * shapes[:, near[:, k]]
    return True
