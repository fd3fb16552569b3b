# SPDX-License-Identifier: GPL-3.0-or-later
"""Fit one head's skin onto another's, from twelve points down to lips and lids.

Coarse to fine: a similarity by the points, a smooth warp through them (biharmonic splines), then a
closest-point fit under a bi-Laplacian whose stiffness falls in steps (Allen, Curless & Popović
2003; Amberg, Romdhani & Vetter 2007, with displacements instead of affine maps).  Lips and lids are
not left to the closest point: it would bind an upper lip to a lower one that it touches.  Their
edges are read off the other head as curves, upper and lower told apart by the way along its skin.

Everything is in the source head's canonical frame (unit: distance between the eyes).

`V` vertices of the source, `S` samples of the target, `P` points.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..errors import FaceError
from .any_mesh import AnyMesh, Graph, Mask, Samples
from .face_points import lip_sides
from .head_files import similarity
from .mesh import Floats, Integers, fit_sphere, smoothstep, vertex_normals
from .topology import FaceTopology

FINE, COARSE = 0.03, 0.08
"""Distance between samples of the target, at lips and lids and elsewhere."""

REACH = 2.6
"""Distance from the middle of the face within which the target is looked at."""

STAGES = ((3000.0, 0.45), (600.0, 0.3), (120.0, 0.2), (25.0, 0.14), (5.0, 0.1), (1.5, 0.08))
"""Stiffness and farthest match of each stage."""

ROUNDS = 2
"""Closest-point rounds in each stage."""

FACING = 0.4
"""Least cosine between the normals of points that may match."""

TURN = 0.15
"""What a right angle between normals costs a match, in eye distances (over √2)."""

OTHER = 0.5
"""What the other lip costs a match."""

ALONG = 0.12
"""Weight of a match within the surface; across it is 1."""

FACE_LIKE = 0.35
"""Residual of the points' similarity, as a share of their spread, that no face exceeds."""

LEAST_WAY = 1.7
"""How much longer than the gap between the lips the way along the skin is where they are two."""

CURVE_WEIGHT = 4.0
POINT_WEIGHT = 6.0

NO_BALL = (np.zeros(3), 0.0)
"""Where an eye has no ball, nothing of its lids is inside one."""

OFF_ARCH = 0.06
"""Height above a lid's arch, in lengths of the eye, at which something else was read."""

BINS = 33
"""Places along a lip or lid at which its edge is read."""

Watch = Callable[[float], None]


@dataclass(frozen=True)
class Target:
    """The head to be fitted to, in the source's frame."""

    mesh: AnyMesh
    """Everything of the character, brought into the frame."""
    skin: Mask
    """The part that is its skin (N,)."""
    points: dict[str, Floats]
    """The named points."""
    lips: Integers
    """+1 where a vertex belongs to the upper lip's side, -1 the lower's (N,)."""
    lids: tuple[Integers, Integers]
    """The same for the left and the right eye (N,)."""
    samples: Samples
    """Points all over the face's skin."""
    eyes: tuple[tuple[Floats, float] | None, tuple[Floats, float] | None]
    """Centre and radius of the left and the right eyeball, where there are any."""


def rbf_warp(source: Floats, target: Floats, stiffness: float = 0.02) -> Callable[[Floats], Floats]:
    """Return the smooth map that takes points (P, 3) to (P, 3), a similarity apart already."""
    kernel = np.linalg.norm(source[:, None] - source[None], axis=2)
    ones = np.concatenate([np.ones((len(source), 1)), source], axis=1)
    size = len(source)
    system = np.zeros((size + 4, size + 4))
    system[:size, :size] = kernel - stiffness * np.eye(size)
    system[:size, size:], system[size:, :size] = ones, ones.T
    # The affine part is held back: twelve points near one plane say little about depth.
    system[np.arange(size + 1, size + 4), np.arange(size + 1, size + 4)] = -0.5
    load = np.concatenate([target - source, np.zeros((4, 3))])
    weight = np.linalg.solve(system, load)

    def warp(points: Floats) -> Floats:
        away = np.linalg.norm(points[:, None] - source[None], axis=2)
        straight = np.concatenate([np.ones((len(points), 1)), points], axis=1)
        return np.asarray(points + away @ weight[:size] + straight @ weight[size:])

    return warp


def edge_curve(
    samples: Samples,
    side: Integers,
    ends: tuple[Floats, Floats],
    which: int,
    ball: tuple[Floats, float] | None = None,
) -> tuple[Floats, Floats]:
    """Read the free edge of a lip or lid: places in -1..1 from the second to the first end, points.

    `side` (S,) tells upper from lower; `which` is +1 for the upper one, whose lowest points are its
    edge, or -1.  What lies deep inside the opening does not count: for lids, what is inside the
    eye's `ball` (centre, radius).
    """
    depth, lid = 0.16, ball is not None
    p = samples.positions
    left, right = ends
    middle, half = (left + right) / 2, (left[0] - right[0]) / 2
    place = (p[:, 0] - middle[0]) / half
    line = middle[1] + place * (left[1] - right[1]) / 2
    near = (
        (np.abs(place) < 1.1)
        & (np.abs(p[:, 1] - line) < (0.9 if lid else 0.55) * half)
        & (side == which)
    )
    near &= p[:, 2] > middle[2] + place * (left[2] - right[2]) / 2 - (0.05 if lid else depth)
    if ball is not None:
        near &= np.linalg.norm(p - ball[0], axis=1) > 0.99 * ball[1]
    ids = np.flatnonzero(near)
    places, points = [], []
    for t in np.linspace(-0.94, 0.94, BINS):
        strip = ids[np.abs(place[ids] - t) < 0.06]
        if not len(strip):
            continue
        if not lid:  # a brow stands far before its lid, lips do not before their edges
            strip = strip[p[strip, 2] > p[strip, 2].max() - depth]
        height = which * p[strip, 1]
        edge = strip[height < height.min() + 0.02 * half]
        places.append(t)
        points.append(p[edge].mean(0))
    read = np.array(places), _steady(np.array(points).reshape(-1, 3))
    return _arched(*read, left, right) if lid and len(places) > 8 else read


def _arched(places: Floats, points: Floats, left: Floats, right: Floats) -> tuple[Floats, Floats]:
    """Leave out the places of a lid's edge that lie far off a smooth arch from corner to corner."""
    line = (left[1] + right[1]) / 2 + places * (left[1] - right[1]) / 2
    height = (points[:, 1] - line) / np.linalg.norm(left - right)
    basis = (1 - places**2)[:, None] * places[:, None] ** np.arange(3)
    weight = np.ones(len(places))
    for _ in range(10):
        scaled = np.sqrt(weight)[:, None]
        arch = basis @ np.linalg.lstsq(scaled * basis, scaled[:, 0] * height, rcond=None)[0]
        weight = 1 / (1 + ((height - arch) / 0.02) ** 2)
    kept = np.abs(height - arch) < OFF_ARCH
    return places[kept], points[kept]


def _steady(points: Floats) -> Floats:
    """Return the running median of five (n, 3): a stray sample makes no kink."""
    if len(points) < 5:
        return points
    padded = np.concatenate([points[:1], points[:1], points, points[-1:], points[-1:]])
    return np.asarray(np.median([padded[k : len(points) + k] for k in range(5)], axis=0))


@dataclass(frozen=True)
class Anchors:
    """Source vertices with a known place on the target."""

    vertices: Integers
    goals: Floats
    weights: Floats


def fit(face: FaceTopology, target: Target, watch: Watch = lambda share: None) -> Floats:
    """Return the source's vertices (V, 3) laid onto the target, eyeballs included."""
    start, anchors = _start(face, target)
    skin = face.skin
    graph = Graph(
        np.array(
            [
                (a, b)
                for a, b in face.connectivity.opposite
                if a < b or (b, a) not in face.connectivity.opposite
            ]
        ),
        len(start),
    )
    rest = start.copy()
    moved = np.zeros_like(rest)
    trusted = _trust(face)
    forbidden = _sides_of(face)
    for number, (stiffness, reach) in enumerate(STAGES):
        for _ in range(ROUNDS):
            now = rest + moved
            normals = vertex_normals(now, face.triangles)
            found, weight = _match(now, normals, target, trusted, forbidden, reach)
            moved = _solve(
                graph, rest, moved, target.samples, found, weight, anchors, stiffness, skin
            )
        watch((number + 1) / len(STAGES))
    return np.asarray(rest + moved)


def _start(face: FaceTopology, target: Target) -> tuple[Floats, Anchors]:
    """Warp the source through the points, set the eyeballs, collect what is known exactly."""
    names = [name for name in target.points if name in face.landmarks]
    own = np.array([face.point(name) for name in names])
    goal = np.array([target.points[name] for name in names])
    own, goal, balls = _with_eyes(face, target, own, goal)
    start = rbf_warp(own, goal)(face.positions)
    for eye, (centre, radius) in zip(face.eyes, balls, strict=True):
        arm = face.positions[eye.ball] - eye.centre
        start[eye.ball] = centre + arm * (radius / eye.radius)
    anchors = [
        (face.landmarks[name], target.points[name], POINT_WEIGHT)
        for name in names
        if not name.startswith("ear")
    ]
    anchors += _lip_anchors(face, target)
    for which, (lids, ball) in enumerate(zip(face.lids, balls, strict=True)):
        anchors += _lid_anchors(face, target, which, target.eyes[which] or NO_BALL)
        centre, radius = ball
        for ring in lids.rings[:3]:
            for v in ring:
                arm = (face.positions[v] - lids.eye.centre) * (radius / lids.eye.radius)
                anchors.append((v, centre + arm, 2.0))
    vertices, goals, weights = zip(*anchors, strict=True)
    return start, Anchors(np.array(vertices), np.array(goals), np.array(weights))


def _with_eyes(
    face: FaceTopology, target: Target, own: Floats, goal: Floats
) -> tuple[Floats, Floats, list[tuple[Floats, float]]]:
    """Add the eyeballs' centres to the points; balls that the target lacks are warped ones."""
    balls = balls_of(face, target)
    own = np.concatenate([own, [eye.centre for eye in face.eyes]])
    goal = np.concatenate([goal, [centre for centre, _ in balls]])
    return own, goal, balls


def balls_of(face: FaceTopology, target: Target) -> list[tuple[Floats, float]]:
    """Return centre and radius of both eyeballs, guessed where there are none."""
    return [found or _ball_behind(face, target, k) for k, found in enumerate(target.eyes)]


def _ball_behind(face: FaceTopology, target: Target, which: int) -> tuple[Floats, float]:
    """Guess the eyeball (centre, radius) of an eye that has none: what its lids' edges lie on."""
    lids, left, right = face.lids[which], *lid_ends(target, which)
    width = float(np.linalg.norm(face.positions[lids.inner] - face.positions[lids.outer]))
    radius = lids.eye.radius * max(float(np.linalg.norm(left - right)) / width, 1.0)
    side = target.lids[which][target.samples.main]
    curves = [edge_curve(target.samples, side, (left, right), k, NO_BALL)[1] for k in (1, -1)]
    edge = np.concatenate([[left, right], *curves])
    centre = np.array([*((left + right) / 2)[:2], 0.0])
    inside = np.maximum(radius**2 - ((edge - centre)[:, :2] ** 2).sum(1), 0.0)
    centre[2] = float(np.median(edge[:, 2] - np.sqrt(inside)))
    return centre, radius


def lid_ends(target: Target, which: int) -> tuple[Floats, Floats]:
    """Return the corners of the left (0) or right (1) eye, the one on the left first."""
    name = ("left", "right")[which]
    corners = [target.points[f"eye_{end}_{name}"] for end in ("inner", "outer")]
    left, right = sorted(corners, key=lambda p: -p[0])
    return left, right


def _lip_anchors(face: FaceTopology, target: Target) -> list[tuple[int, Floats, float]]:
    """Bind both edges of the source's lips to the target's."""
    mouth, anchors = face.mouth, []
    ends = (target.points["corner_left"], target.points["corner_right"])
    side = target.lips[target.samples.main]
    left, right = (face.positions[v] for v in mouth.corners[mouth.contact])
    middle, half = (left[0] + right[0]) / 2, (left[0] - right[0]) / 2
    for which in (1, -1):
        places, points = edge_curve(target.samples, side, ends, which)
        if len(places) < BINS // 2:
            continue
        for v in mouth.rings[mouth.contact]:
            if mouth.side[v] == which:
                place = (face.positions[v, 0] - middle) / half
                goal = np.array([np.interp(place, places, points[:, k]) for k in range(3)])
                if abs(place) < 0.95:
                    anchors.append((v, goal, CURVE_WEIGHT))
    return anchors


def _lid_anchors(
    face: FaceTopology, target: Target, which: int, ball: tuple[Floats, float]
) -> list[tuple[int, Floats, float]]:
    """Bind the margins of one eye's lids to the target's."""
    lids, (left, right) = face.lids[which], lid_ends(target, which)
    ends = sorted((lids.inner, lids.outer), key=lambda v: -face.positions[v, 0])
    a, b = (face.positions[v] for v in ends)
    side = target.lids[which][target.samples.main]
    anchors = []
    for sign, margin in ((1, lids.upper), (-1, lids.lower)):
        places, points = edge_curve(target.samples, side, (left, right), sign, ball)
        if len(places) < BINS // 2:
            continue
        for v in margin:
            place = (face.positions[v, 0] - (a[0] + b[0]) / 2) / ((a[0] - b[0]) / 2)
            goal = np.array([np.interp(place, places, points[:, k]) for k in range(3)])
            if abs(place) < 0.95:
                anchors.append((v, goal, CURVE_WEIGHT))
    return anchors


def _trust(face: FaceTopology) -> Floats:
    """How far closest points are believed (V,): the face, not scalp, neck or sockets."""
    p = face.positions
    trust = smoothstep(p[:, 2], -1.3, -0.9) * smoothstep(p[:, 1], -2.3, -1.9)
    trust *= 1 - smoothstep(p[:, 1], 1.0, 1.5)
    trust[~face.is_skin] = 0.0
    for lids in face.lids:
        for ring in lids.rings[: lids.margin]:
            trust[ring] = 0.0
    trust[face.mouth.ring < face.mouth.contact - 1] *= 0.3
    return trust


def _sides_of(face: FaceTopology) -> Integers:
    """+1 for vertices of the upper lip, -1 for the lower, 0 where either may match (V,)."""
    mouth = face.mouth
    sure = (mouth.ring <= mouth.border) & (np.abs(mouth.along) < 0.9)
    return np.asarray(np.where(sure, mouth.side, 0))


def _match(
    now: Floats, normals: Floats, target: Target, trust: Floats, sides: Integers, reach: float
) -> tuple[Integers, Floats]:
    """Return the best sample (V,) of each vertex and the weight of the match (V,).

    Near, facing the same way and on the same lip, all in one distance: of place, normal and side.
    """
    samples = target.samples
    label = target.lips[samples.main][:, None]
    theirs = np.concatenate([samples.positions, TURN * samples.normals, OTHER * label], axis=1)
    ids = np.flatnonzero(trust > 0.01)
    own = np.concatenate([now[ids], TURN * normals[ids], OTHER * sides[ids, None]], axis=1).astype(
        np.float32
    )
    theirs = theirs.astype(np.float32)
    found = np.zeros(len(now), dtype=np.int64)
    weight = np.zeros(len(now))
    length = (theirs**2).sum(1)
    for some in np.array_split(np.arange(len(ids)), max(1, len(ids) // 256)):
        found[ids[some]] = (length - 2 * (own[some] @ theirs.T)).argmin(1)
    gap = np.linalg.norm(now[ids] - samples.positions[found[ids]], axis=1)
    facing = (normals[ids] * samples.normals[found[ids]]).sum(1) > FACING
    agrees = sides[ids] * label[found[ids], 0] >= 0
    weight[ids] = trust[ids] * np.clip(2 - 2 * gap / reach, 0, 1) * (facing & agrees)
    return found, weight


def _solve(
    graph: Graph,
    rest: Floats,
    moved: Floats,
    samples: Samples,
    found: Integers,
    weight: Floats,
    anchors: Anchors,
    stiffness: float,
    skin: Integers,
) -> Floats:
    """Minimise bending + matches + anchors over the displacements (V, 3) by conjugate gradients."""
    normal = samples.normals[found]
    matrix = weight[:, None, None] * (
        ALONG * np.eye(3) + (1 - ALONG) * normal[:, :, None] * normal[:, None, :]
    )
    load = np.einsum("vij,vj->vi", matrix, samples.positions[found] - rest)
    for v, goal, w in zip(anchors.vertices, anchors.goals, anchors.weights, strict=True):
        matrix[v] += w * np.eye(3)
        load[v] += w * (goal - rest[v])
    fixed = np.ones(len(rest), dtype=bool)
    fixed[skin] = False

    def apply(d: Floats) -> Floats:
        bend = graph.spread_back(graph.rest(d))
        out = stiffness * bend + np.einsum("vij,vj->vi", matrix, d) + 1e-6 * d
        out[fixed] = d[fixed]
        return np.asarray(out)

    load[fixed] = 0
    scale = 1 / (stiffness * 1.2 + np.einsum("vii->v", matrix) / 3 + 1e-6)
    return conjugate_gradients(apply, load, moved * ~fixed[:, None], scale[:, None])


def conjugate_gradients(
    apply: Callable[[Floats], Floats],
    load: Floats,
    start: Floats,
    scale: Floats,
    steps: int = 300,
    tolerance: float = 1e-3,
) -> Floats:
    """Solve apply(x) = load for a symmetric positive operator; `scale` preconditions."""
    x = start.copy()
    left = load - apply(x)
    z = scale * left
    direction = z.copy()
    power = float((left * z).sum())
    goal = tolerance**2 * max(float((load * scale * load).sum()), 1e-30)
    for _ in range(steps):
        if power <= goal:
            break
        image = apply(direction)
        step = power / float((direction * image).sum())
        x += step * direction
        left -= step * image
        z = scale * left
        new = float((left * z).sum())
        direction = z + (new / power) * direction
        power = new
    return x


def read_target(
    mesh: AnyMesh, skin: Mask, points: dict[str, Floats], face: FaceTopology
) -> tuple[Target, tuple[float, Floats, Floats]]:
    """Bring a character into the source's frame and tell its lips and lids apart.

    Returns the target and scale, rotation (3, 3) and shift (3,) with which
    frame point = scale · rotation · point + shift.
    """
    _check_slit(mesh, skin, points)
    names = [name for name in points if name in face.landmarks]
    own = np.array([face.point(name) for name in names])
    theirs = np.array([points[name] for name in names])
    face_only = [k for k, name in enumerate(names) if not name.startswith("ear")]
    scale, rotation, residual = similarity(theirs[face_only], own[face_only])
    if residual > FACE_LIKE:
        raise FaceError(
            "The points do not lie as they do on a face.",
            "Check that left is the character's own left, and that no point was left behind.",
        )
    shift = own[face_only].mean(0) - scale * rotation @ theirs[face_only].mean(0)
    moved = AnyMesh.__new__(AnyMesh)
    moved.weld, moved.triangles = mesh.weld, mesh.triangles
    moved.positions = scale * mesh.positions @ rotation.T + shift
    placed = {name: scale * rotation @ np.asarray(p) + shift for name, p in points.items()}
    lips = lip_sides(moved, skin, placed["lip_upper"], placed["lip_lower"])
    middle = np.mean([placed[n] for n in ("nose_tip", "lip_upper")], axis=0)
    near = skin & (np.linalg.norm(moved.positions - middle, axis=1) < REACH)
    samples = _face_samples(moved, near, placed, lips)
    lids, eyes = [], []
    for name in ("left", "right"):
        inner, outer = placed[f"eye_inner_{name}"], placed[f"eye_outer_{name}"]
        across = np.linalg.norm(outer - inner)
        centre = (inner + outer) / 2
        up, down = (centre + np.array([0, s * 0.55 * across, 0.1]) for s in (1, -1))
        lids.append(lip_sides(moved, skin, up, down))
        eyes.append(_ball(moved, skin, centre, float(across)))
    return (
        Target(moved, skin, placed, lips, (lids[0], lids[1]), samples, (eyes[0], eyes[1])),
        (scale, rotation, shift),
    )


def _check_slit(mesh: AnyMesh, skin: Mask, points: dict[str, Floats]) -> None:
    """Raise `FaceError` where the skin goes straight from lip to lip: that mouth cannot open."""
    upper, lower = (mesh.landing(points[name], skin) for name in ("lip_upper", "lip_lower"))
    gap = float(np.linalg.norm(mesh.positions[upper] - mesh.positions[lower]))
    if upper == lower or float(mesh.distance([upper])[lower]) < LEAST_WAY * gap:
        raise FaceError(
            "The lips of this mesh are one surface, so its mouth cannot open.",
            "Cut the mesh along the line between the lips, or give it an inner mouth.",
        )


def _face_samples(mesh: AnyMesh, near: Mask, points: dict[str, Floats], label: Integers) -> Samples:
    """Sample the skin of a face: finely at lips and lids, coarsely elsewhere."""
    triangles = mesh.triangles[near[mesh.triangles].all(1)]
    middle = mesh.positions[triangles].mean(1)
    fine = np.zeros(len(triangles), dtype=bool)
    for one, other in (
        ("corner_left", "corner_right"), ("eye_inner_left", "eye_outer_left"),
        ("eye_inner_right", "eye_outer_right"),
    ):  # fmt: skip
        centre = (points[one] + points[other]) / 2
        reach = 0.8 * np.linalg.norm(points[one] - points[other])
        fine |= np.linalg.norm(middle - centre, axis=1) < reach
    sets = [
        found.thinned(step, label[found.main])
        for some, step in ((fine, FINE), (~fine, COARSE))
        for found in [mesh.sample(triangles[some], step)]
    ]
    return Samples.joined(sets)


def _ball(mesh: AnyMesh, skin: Mask, centre: Floats, across: float) -> tuple[Floats, float] | None:
    """Return centre and radius of the part that is the eyeball between two eye corners."""
    best: tuple[float, tuple[Floats, float] | None] = (0.4, None)
    for part in np.unique(mesh.part[~skin]):
        p = mesh.positions[(mesh.part == part) & ~skin]
        size = np.ptp(p, axis=0)
        near = np.linalg.norm(p.mean(0) - centre) < across
        if len(p) < 12 or not near or size.min() < 0.35 * size.max():
            continue
        middle, radius, deviation = fit_sphere(p)
        fits = deviation < best[0] and 0.35 * across < radius < 1.2 * across
        if fits and np.linalg.norm(middle - centre) < 1.2 * across:
            best = (deviation, (middle, radius))
    return best[1]
