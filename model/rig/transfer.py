# SPDX-License-Identifier: GPL-3.0-or-later
"""Give a head without face shapes the named shapes of the rig.

The demo head's skin is laid onto the other head (`registration`), and *there* the rig is derived
anew: its jaw turns about their joint, its lids about their eyeballs, its lips close their gap.
What the rig does to the fitted skin is then carried to the other head's own vertices by nearest
point, upper and lower lip and lid kept apart; what has no counterpart (the inside of the mouth)
is filled smoothly between.  Teeth and tongue go with the jaw, eyeballs turn, lashes, brows and
beards follow the skin that they sit on.

`N` vertices of the character, `V` of the source, `K` shapes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..progress import UNWATCHED, Watch
from .any_mesh import AnyMesh, Graph, Mask, closest_on_triangles
from .attached import add_parts
from .controls import CONTROLS
from .demo_head import Head
from .derivation import derive_face
from .eyes import Lids
from .face_points import lip_sides
from .head_frame import Eye, Frame
from .lid_closing import close_lids
from .lip_contact import LOWER_SHARE
from .mesh import Floats, Integers, fit_sphere, smoothstep, unit, vertex_normals
from .openings import close_lips, facing_lips, measure
from .registration import Target, balls_of, conjugate_gradients, fit, read_target
from .rig import Rig
from .topology import FaceTopology, level

Shapes = NDArray[np.float32]

SURE, LOST = 0.08, 0.22
"""Distance from the fitted skin within which a vertex is believed to lie on it, and beyond which
it is believed not to, in eye distances."""

FILL = 0.02
"""Stiffness of the fill against the carried motion: as much as takes out its noise."""


def reshaped(face: FaceTopology, positions: Floats) -> FaceTopology:
    """Return the topology of the same mesh in another shape, in a frame of its own."""
    balls = [fit_sphere(positions[eye.ball]) for eye in face.eyes]
    origin = (balls[0][0] + balls[1][0]) / 2
    width = float(np.linalg.norm(balls[0][0] - balls[1][0]))
    rough = Frame(origin, np.eye(3), width)
    seen = rough.canonical(positions)
    frame = level(rough, positions, seen, face.mirror, face.skin, face.mouth)
    points = frame.canonical(positions)
    lids = [
        _lids(points, old, Eye(frame.canonical(centre), radius / width, old.eye.ball, old.eye.apex))
        for old, (centre, radius, _) in zip(face.lids, balls, strict=True)
    ]
    return replace(face, positions=points, frame=frame, lids=(lids[0], lids[1]))


def _lids(points: Floats, lids: Lids, eye: Eye) -> Lids:
    """Return lids about another eyeball."""
    across = points[lids.outer] - points[lids.inner]
    axis = unit(across * np.array([1.0, 1.0, 0.0]) * np.sign(eye.centre[0]))
    return replace(lids, eye=eye, axis=axis)


def fitted_shapes(face: FaceTopology, fitted: Floats) -> Shapes:
    """Return the controls' own shapes (K, V, 3) on a fitted head, in the source's frame."""
    rig = Rig.of(derive_face(reshaped(face, fitted)))
    return np.asarray(rig.named_shapes()[1][: len(CONTROLS)], dtype=np.float32)


@dataclass(frozen=True)
class Counterpart:
    """Where vertices of the character lie on the fitted skin."""

    corners: Integers
    """(N, 3) vertices of the source."""
    shares: Floats
    """(N, 3) their weights."""
    trust: Floats
    """(N,) 0..1."""

    def carry(self, shapes: Shapes) -> Shapes:
        """Bring shapes (K, V, 3) to the character (K, N, 3)."""
        moved = np.zeros((len(shapes), len(self.corners), 3), dtype=np.float32)
        for k in range(3):
            moved += self.shares[:, k, None].astype(np.float32) * shapes[:, self.corners[:, k]]
        return moved


def correspond(face: FaceTopology, fitted: Floats, target: Target) -> Counterpart:
    """Find each vertex of the character's skin on the fitted skin."""
    mesh = target.mesh
    count = len(mesh.positions)
    corners, shares = np.zeros((count, 3), dtype=np.int64), np.zeros((count, 3))
    trust = np.zeros(count)
    tree = _Surface(face, fitted)
    for ids, allowed in _regions(face, fitted, target):
        corners[ids], shares[ids], gap, facing = tree.nearest(
            mesh.positions[ids], mesh.normals[ids], allowed
        )
        trust[ids] = (1 - smoothstep(gap, SURE, LOST)) * smoothstep(facing, 0.0, 0.5)
    return Counterpart(corners, shares, trust)


def _regions(face: FaceTopology, fitted: Floats, target: Target) -> list[tuple[Integers, Mask]]:
    """Split the character's skin into groups, each with the source vertices that it may match."""
    p, points = target.mesh.positions, target.points
    left = target.skin.copy()
    groups: list[tuple[Integers, Mask]] = []
    shell = AnyMesh.__new__(AnyMesh)
    shell.positions, shell.weld = fitted, np.arange(len(fitted))
    shell.triangles = face.triangles[face.is_skin[face.triangles[:, 0]]]
    for which, name in enumerate(("left", "right")):
        ends = points[f"eye_inner_{name}"], points[f"eye_outer_{name}"]
        centre, across = (ends[0] + ends[1]) / 2, np.linalg.norm(ends[0] - ends[1])
        up, down = (centre + np.array([0, s * 0.55 * across, 0.1]) for s in (1, -1))
        own = lip_sides(shell, face.is_skin, up, down)
        inside = np.zeros(len(fitted), dtype=bool)
        lids = face.lids[which]
        inside[[v for ring in lids.rings[: lids.margin + 2] for v in ring]] = True
        inside[[lids.inner, lids.outer]] = False
        near = left & (np.linalg.norm(p - centre, axis=1) < 0.9 * across)
        left &= ~near
        groups += _split(near, target.lids[which], inside, own, face.is_skin)
    mouth = face.mouth
    ends = points["corner_left"], points["corner_right"]
    centre, across = (ends[0] + ends[1]) / 2, np.linalg.norm(ends[0] - ends[1])
    near = left & (np.linalg.norm(p - centre, axis=1) < 1.0 * across)
    left &= ~near
    inside = (mouth.ring <= mouth.border) & (np.abs(mouth.along) < 0.97)
    groups += _split(near, target.lips, inside, mouth.side, face.is_skin)
    groups.append((np.flatnonzero(left), face.is_skin))
    return groups


def _split(
    near: Mask, label: Integers, inside: Mask, own: Integers, skin: Mask
) -> list[tuple[Integers, Mask]]:
    """Return the upper and the lower group of one opening."""
    return [
        (np.flatnonzero(near & (label == sign)), skin & ~(inside & (own == -sign)))
        for sign in (1, -1)
    ] + [(np.flatnonzero(near & (label == 0)), skin)]


class _Surface:
    """The fitted skin, to be asked for nearest points."""

    def __init__(self, face: FaceTopology, positions: Floats) -> None:
        self.positions = positions
        self.triangles = face.triangles[face.is_skin[face.triangles[:, 0]]]
        self.normals = vertex_normals(positions, self.triangles)
        owner = self.triangles.ravel()
        order = np.argsort(owner, kind="stable")
        degree = np.bincount(owner, minlength=len(positions))
        self.fan = np.zeros((len(positions), int(degree.max())), dtype=np.int64)
        place = np.arange(len(order)) - np.repeat(np.cumsum(degree) - degree, degree)
        self.fan[owner[order], place] = order // 3
        for v in np.flatnonzero(degree):
            self.fan[v, degree[v] :] = self.fan[v, 0]

    def nearest(
        self, points: Floats, normals: Floats, allowed: Mask
    ) -> tuple[Integers, Floats, Floats, Floats]:
        """Return corners, shares, distance and cosine of the nearest points among `allowed`."""
        ids = np.flatnonzero(allowed)
        theirs = np.concatenate([self.positions[ids], 0.12 * self.normals[ids]], axis=1)
        own = np.concatenate([points, 0.12 * normals], axis=1).astype(np.float32)
        theirs = theirs.astype(np.float32)
        length = (theirs**2).sum(1)
        parts: list[tuple[Integers, Floats, Floats, Floats]] = []
        for some in np.array_split(np.arange(len(points)), max(1, len(points) // 256)):
            near = ids[(length - 2 * own[some] @ theirs.T).argmin(1)]
            parts.append(self._refine(points[some], normals[some], near, allowed))
        joined = [np.concatenate(column) for column in zip(*parts, strict=True)]
        return joined[0], joined[1], joined[2], joined[3]

    def _refine(
        self, points: Floats, normals: Floats, near: Integers, allowed: Mask
    ) -> tuple[Integers, Floats, Floats, Floats]:
        """Go from the nearest vertex to the nearest point of the triangles around it."""
        corners = self.triangles[self.fan[near]]
        shares = closest_on_triangles(points[:, None], self.positions[corners])
        there = np.einsum("nfk,nfkc->nfc", shares, self.positions[corners])
        gap = np.linalg.norm(there - points[:, None], axis=2)
        gap = gap + 10.0 * ~allowed[corners].all(2)
        best = gap.argmin(1)
        rows = np.arange(len(points))
        corners, shares = corners[rows, best], shares[rows, best]
        facing = np.einsum("nk,nkc,nc->n", shares, self.normals[corners], normals)
        return corners, shares, np.minimum(gap[rows, best], 9.0), facing


def fill(target: Target, carried: Shapes, trust: Floats) -> Shapes:
    """Smooth carried shapes (K, N, 3) over the skin and fill in where they are not trusted."""
    mesh, skin = target.mesh, target.skin
    near = mesh.graph.grow(skin & (trust > 0.02) & (np.abs(carried).max((0, 2)) > 1e-5), 12) & skin
    ids = np.flatnonzero(near)
    place = np.full(len(skin), -1)
    place[ids] = np.arange(len(ids))
    inside = (place[mesh.edges] >= 0).all(1)
    graph = Graph(place[mesh.edges[inside]], len(ids))
    weight = trust[ids].astype(np.float64)
    rim = mesh.graph.grow(~near & skin)[ids]
    weight[rim] = np.maximum(weight[rim], 1.0)
    data = carried[:, ids].transpose(1, 0, 2).reshape(len(ids), -1).astype(np.float64)
    data[rim] = 0.0
    degree = graph.degree[:, None]

    def apply(x: Floats) -> Floats:
        return weight[:, None] * x + FILL * (degree * x - graph.sum(x[graph.column]))

    scale = 1 / (weight[:, None] + FILL * np.maximum(degree, 1))
    solved = conjugate_gradients(apply, weight[:, None] * data, data, scale, steps=400)
    out = np.zeros_like(carried)
    out[:, ids] = solved.reshape(len(ids), len(carried), 3).transpose(1, 0, 2)
    return out


def _press_lips(target: Target, shapes: Shapes) -> None:
    """Let each vertex of one lip stay by the vertex of the other that it faces, when sealed."""
    jaw, close = shapes[CONTROLS.index("jawOpen")], shapes[CONTROLS.index("mouthClose")]
    pairs = facing_lips(target)
    if not len(pairs):
        return
    upper, lower = pairs.T
    apart = (jaw + close)[upper] - (jaw + close)[lower]
    push, count = np.zeros_like(close), np.zeros(len(close))
    np.add.at(push, upper, -(1 - LOWER_SHARE) * apart)
    np.add.at(push, lower, LOWER_SHARE * apart)
    np.add.at(count, pairs.ravel(), 1)
    paired = count > 0
    push[paired] /= count[paired, None]
    close += fill(target, push[None], np.where(paired, 1.0, 0.05))[0]


@dataclass(frozen=True)
class Made:
    """What was made for one character."""

    shapes: Shapes
    """The controls' shapes (K, V, 3) over the vertices as given, in their own axes and units."""
    counts: dict[str, int]
    """Eyes, teeth, tongues and things on the skin that follow."""
    measures: dict[str, float]
    """Millimetres of a life-size head: opening, gaps at rest, sealed and with closed lids."""


def make_shapes(
    mesh: AnyMesh, skin: Mask, points: dict[str, Floats], head: Head, watch: Watch = UNWATCHED
) -> Made:
    """Make the rig's named shapes for a character from its named points.

    Raises `FaceError` where the points do not lie like a face's or the lips are one surface.
    """
    face = with_points(FaceTopology.from_mesh(head.vertices, head.triangles))
    target, (scale, turn, _) = read_target(mesh, skin, points, face)
    watch(0.05)
    fitted = fit(face, target, lambda share: watch(0.05 + 0.6 * share))
    own = fitted_shapes(face, fitted)
    watch(0.8)
    there = correspond(face, fitted, target)
    shapes = fill(target, there.carry(own), there.trust)
    close_lips(target, shapes)
    _press_lips(target, shapes)
    close_lids(target, balls_of(face, target), shapes)
    watch(0.95)
    counts = add_parts(target, face, fitted, own, shapes, head)
    measures = measure(target, shapes)
    back = (turn / scale).astype(np.float32)
    return Made((shapes @ back)[:, mesh.weld], counts, measures)


def with_points(face: FaceTopology) -> FaceTopology:
    """Return the source head with those of the named points that its landmarks lack."""
    mouth, depth = face.mouth, face.positions[:, 2]
    rings = mouth.middles[mouth.contact : mouth.border + 2]
    upper, lower = (max((pair[k] for pair in rings), key=lambda v: depth[v]) for k in range(2))
    named = {"lip_upper": upper, "lip_lower": lower, "chin": face.landmarks["menton"]}
    return replace(face, landmarks=face.landmarks | named)
