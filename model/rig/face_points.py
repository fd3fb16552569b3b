# SPDX-License-Identifier: GPL-3.0-or-later
"""Twelve points of a face, found by shape on a head of any making as a first guess.

The face looks along +z, up is +y and its left is +x; unit and place do not matter.  Everything is
looked for in the order in which it is easiest: the head above the neck, its profile, the tip of
the nose, the eyes (balls behind openings), the mouth (where neighbours on the profile are far
apart along the skin), its corners (where the ways to both lips are equally long), chin and ears.

A guess is shown to the user, who moves what is wrong; so nothing here raises for an odd shape, it
falls back on the proportions of an adult's face.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from .any_mesh import MOST_STEPS, AnyMesh, Mask, Samples
from .mesh import Floats, Integers, fit_sphere

NAMES: tuple[str, ...] = (
    "eye_inner_left", "eye_inner_right", "eye_outer_left", "eye_outer_right", "nose_tip",
    "corner_left", "corner_right", "lip_upper", "lip_lower", "chin", "ear_left", "ear_right",
)  # fmt: skip
"""The points: eye corners, nose tip, mouth corners, the foremost points of both lips, the tip of
the chin, and the outermost points of both ears."""

FINE = 220
"""Rows into which a head's height is cut where its outline is read."""

SLIT = 2.5
"""How much longer than the gap the way along the skin must be where lips are two."""


@dataclass(frozen=True)
class Guess:
    """The points found, and which of them are mere proportions."""

    points: dict[str, Floats]
    """Name → (3,)."""
    doubtful: tuple[str, ...]
    """Names of points that no feature of the mesh vouches for."""


def guess_points(mesh: AnyMesh, skin: Mask) -> Guess:
    """Find `NAMES` on the part `skin` (N,) of a mesh that looks along +z."""
    return _Finder(mesh, skin).find()


class _Finder:
    """One head being read."""

    def __init__(self, mesh: AnyMesh, skin: Mask) -> None:
        self.mesh, self.skin = mesh, skin
        p = mesh.positions[skin]
        faces = mesh.triangles[skin[mesh.triangles].all(1)]
        self.low = _neck(mesh.sample(faces, float(np.ptp(p[:, 1])) / 200).positions)
        self.top = float(p[:, 1].max())
        self.height = self.top - self.low
        head = p[p[:, 1] > self.low + 0.3 * self.height]
        self.middle = float(head[:, 0].min() + head[:, 0].max()) / 2
        self.width = float(np.ptp(head[:, 0]))
        inside = skin & (mesh.positions[:, 1] > self.low - 0.1 * self.height)
        faces = mesh.triangles[inside[mesh.triangles].all(1)]
        self.outside = mesh.sample(faces, self.height / FINE)
        size = np.linalg.norm(np.ptp(mesh.positions[faces], axis=1), axis=1)
        coarse = float(np.percentile(size, 90)) / MOST_STEPS
        self.pixel = 1.5 * max(self.height / FINE, coarse)
        self.doubtful: list[str] = []

    def find(self) -> Guess:
        """Find everything, the easiest first."""
        profile = self._profile()
        nose = self._nose(profile)
        upper, lower, chin = self._mouth(profile, nose)
        points = {"nose_tip": nose, "lip_upper": upper, "lip_lower": lower, "chin": chin}
        points |= self._corners(upper, lower)
        points |= self._eyes(nose, chin)
        points |= self._ears(nose, chin)
        self._even_out(points)
        return Guess({name: points[name] for name in NAMES}, tuple(self.doubtful))

    def _even_out(self, points: dict[str, Floats]) -> None:
        """Let both sides settle on one place where they nearly do; the rest on the middle."""
        flip = np.array([-1.0, 1.0, 1.0])
        shift = np.array([2 * self.middle, 0.0, 0.0])
        for name in NAMES:
            other = name.replace("left", "right")
            if "left" in name:
                image = points[other] * flip + shift
                if np.linalg.norm(points[name] - image) < 0.08 * self.width:
                    mean = (points[name] + image) / 2
                    points[name] = self._snap(mean)
                    points[other] = self._snap((mean - shift) * flip)
            elif "right" not in name and abs(points[name][0] - self.middle) < 0.05 * self.width:
                points[name] = self._snap(np.array([self.middle, *points[name][1:]]))

    def _profile(self) -> Floats:
        """Return the foremost points (n, 3) of the midline, from the crown down."""
        p = self.outside.positions
        strip = p[np.abs(p[:, 0] - self.middle) < 0.02 * self.width]
        row = np.floor((self.top - strip[:, 1]) / self.height * FINE).astype(int)
        best: dict[int, int] = {}
        for index in np.argsort(strip[:, 2]):
            best[int(row[index])] = int(index)
        return np.array([strip[best[k]] for k in sorted(best)])

    def _nose(self, profile: Floats) -> Floats:
        """Return the foremost point between forehead and mouth."""
        share = (profile[:, 1] - self.low) / self.height
        middle = profile[(share > 0.2) & (share < 0.72)]
        return np.asarray(middle[middle[:, 2].argmax()])

    def _mouth(self, profile: Floats, nose: Floats) -> tuple[Floats, Floats, Floats]:
        """Return the foremost points of both lips and the chin."""
        scale = self.height
        below = profile[(profile[:, 1] < nose[1] - 0.03 * scale)]
        chin_at = below[(0.75 * below[:, 2] - below[:, 1]).argmax()]
        front = below[below[:, 1] > chin_at[1]]
        slit = self._slit(front)
        if slit is None:
            self.doubtful += ["lip_upper", "lip_lower", "corner_left", "corner_right"]
            height = nose[1] + 0.42 * (chin_at[1] - nose[1])
            slit = np.array([self.middle, height, 0.0])
        above = front[(front[:, 1] > slit[1]) & (front[:, 1] < slit[1] + 0.5 * (nose[1] - slit[1]))]
        under = front[front[:, 1] < slit[1]]
        under = under[under[:, 1] > slit[1] - 0.4 * (slit[1] - chin_at[1])]
        upper = above[above[:, 2].argmax()] if len(above) else slit
        lower = under[under[:, 2].argmax()] if len(under) else slit
        return upper, lower, chin_at

    def _slit(self, front: Floats) -> Floats | None:
        """Return the point between the lips: near each other, but far along the skin."""
        mesh = self.mesh
        if len(front) < 4:
            return None
        main = self.outside.main
        chain = [int(main[_nearest(self.outside.positions, point)]) for point in front]
        chain = list(dict.fromkeys(chain))
        best, found = SLIT, None
        span = float(np.linalg.norm(front[0] - front[-1]))
        for here, there in itertools.pairwise(chain):
            gap = float(np.linalg.norm(mesh.positions[here] - mesh.positions[there]))
            way = float(mesh.distance([here], 2 * span)[there])
            ratio = min(way, 2 * span) / max(gap, 0.05 * span)
            if ratio > best:
                best, found = ratio, (mesh.positions[here] + mesh.positions[there]) / 2
        return found

    def _corners(self, upper: Floats, lower: Floats) -> dict[str, Floats]:
        """Return the mouth's corners: where the skin of both lips meets, nearest the middle."""
        guess = {
            name: upper * 0.5 + lower * 0.5 + np.array([sign * 0.17 * self.width, 0, -0.0])
            for name, sign in (("corner_left", 1.0), ("corner_right", -1.0))
        }
        if "corner_left" in self.doubtful:
            return {name: self._snap(point) for name, point in guess.items()}
        lips = lip_sides(self.mesh, self.skin, upper, lower)
        a, b = self.mesh.edges[(lips[self.mesh.edges[:, 0]] * lips[self.mesh.edges[:, 1]]) < 0].T
        p = (self.mesh.positions[a] + self.mesh.positions[b]) / 2
        seen = self._seen(p) & (np.abs(p[:, 1] - (upper[1] + lower[1]) / 2) < 0.12 * self.height)
        corners = {}
        for name, sign in (("corner_left", 1.0), ("corner_right", -1.0)):
            side = np.flatnonzero(seen & (sign * (p[:, 0] - self.middle) > 0.03 * self.width))
            if not len(side):
                self.doubtful.append(name)
                corners[name] = self._snap(guess[name])
                continue
            corners[name] = p[side[np.abs(p[side, 0] - self.middle).argmin()]]
        return corners

    def _seen(self, points: Floats) -> Mask:
        """Tell which points (n, 3) nothing of the skin hides from the front."""
        pixel = self.height / FINE * 1.5
        buffer = _depth(self.outside.positions, pixel)
        return np.asarray(
            points[:, 2] > buffer.at(points) - 0.012 * self.height,
        )

    def _eyes(self, nose: Floats, chin: Floats) -> dict[str, Floats]:
        """Return the eyes' corners: the ends of what is seen of the balls."""
        points = {}
        balls = self._balls(nose)
        holes = {} if balls else self._holes(nose)
        for side, sign in (("left", 1.0), ("right", -1.0)):
            ends = holes.get(sign)
            if balls:
                ends = self._opening(balls[sign], sign) or self._lid_ends(balls[sign], sign)
            if ends is None:
                self.doubtful += [f"eye_inner_{side}", f"eye_outer_{side}"]
                height = nose[1] + 0.62 * (nose[1] - chin[1]) * 0.9
                ends = (
                    self._snap(np.array([self.middle + sign * 0.10 * self.width, height, nose[2]])),
                    self._snap(np.array([self.middle + sign * 0.29 * self.width, height, nose[2]])),
                )
            points[f"eye_inner_{side}"], points[f"eye_outer_{side}"] = ends
        return points

    def _holes(self, nose: Floats) -> dict[float, tuple[Floats, Floats]]:
        """Return the ends of two like holes above the nose's tip: sockets without eyeballs.

        A hole is what a vertical closing of the front view fills: small ones are tried first.
        """
        pixel = self.pixel
        view = _depth(self.outside.positions, pixel)
        depth = np.maximum(_whole(view.depth), self.outside.positions[:, 2].min())
        place = view.origin + (np.indices(depth.shape).transpose(1, 2, 0) + 0.5) * pixel
        aside = place[..., 0] - self.middle
        level = (place[..., 1] > nose[1] + 0.04 * self.height) & (
            place[..., 1] < nose[1] + 0.45 * self.height
        )
        level &= (np.abs(aside) > 0.04 * self.width) & (np.abs(aside) < 0.36 * self.width)
        for reach in (0.035, 0.06, 0.1):
            closed = _closed(depth, round(reach * self.height / pixel))
            hole = level & (closed - depth > 0.025 * self.height)
            found = {}
            for sign in (1.0, -1.0):
                cells = _largest(hole & (sign * aside > 0))
                wide = np.ptp(cells[:, 0]) * pixel if len(cells) else 0.0
                apart = np.abs(aside[tuple(cells.T)]).min(initial=np.inf) > 0.05 * self.width
                tall = np.ptp(cells[:, 1]) * pixel if len(cells) else 0.0
                slit = tall > max(1.5 * pixel, 0.1 * wide)  # one row is the front's own slope
                if 0.06 * self.width < wide < 0.32 * self.width and apart and slit:
                    order = cells[np.argsort(sign * cells[:, 0])]
                    found[sign] = (
                        self._edge(order, view, closed),
                        self._edge(order[::-1], view, closed),
                    )
            if len(found) == 2 and self._alike(found):
                return found
        return {}

    def _edge(self, cells: Integers, view: _Buffer, closed: Floats) -> Floats:
        """Return the point of the skin at the first column of a hole's cells (n, 2)."""
        column = cells[cells[:, 0] == cells[0, 0]]
        x, y = view.origin + (column.mean(0) + 0.5) * view.pixel
        return self._snap(np.array([x, y, closed[tuple(column[len(column) // 2])]]))

    def _alike(self, found: dict[float, tuple[Floats, Floats]]) -> bool:
        """Whether a left and a right hole are each other's mirror image, more or less."""
        flip, shift = np.array([-1.0, 1.0, 1.0]), np.array([2 * self.middle, 0.0, 0.0])
        pairs = zip(found[1.0], found[-1.0], strict=True)
        return all(np.linalg.norm(a - (b * flip + shift)) < 0.1 * self.width for a, b in pairs)

    def _balls(self, nose: Floats) -> dict[float, Integers]:
        """Return the vertices of the left (1.0) and the right (-1.0) eyeball, if there are two."""
        mesh, found = self.mesh, []
        for part in np.unique(mesh.part[~self.skin]):
            ids = np.flatnonzero((mesh.part == part) & ~self.skin)
            p = mesh.positions[ids]
            centre = p.mean(0)
            size = np.ptp(p, axis=0)
            small = 0.03 * self.height < size.max() < 0.35 * self.height
            high = nose[1] - 0.05 * self.height < centre[1] < self.top
            if not small or not high or len(ids) < 12 or size.min() < 0.25 * size.max():
                continue
            _, radius, deviation = fit_sphere(p)
            if deviation < 0.4 and radius < 0.3 * self.height:
                found.append((size.max(), ids, centre))
        best: tuple[float, dict[float, Integers]] = (0.0, {})
        for i, (size_a, ids_a, centre_a) in enumerate(found):
            for size_b, ids_b, centre_b in found[i + 1 :]:
                image = centre_b * np.array([-1, 1, 1]) + np.array([2 * self.middle, 0, 0])
                apart = abs(centre_a[0] - centre_b[0]) > 0.5 * size_a
                if apart and np.linalg.norm(centre_a - image) < 0.3 * size_a and size_a > best[0]:
                    pair = (ids_a, ids_b) if centre_a[0] > centre_b[0] else (ids_b, ids_a)
                    best = (min(size_a, size_b), {1.0: pair[0], -1.0: pair[1]})
        return best[1]

    def _lid_ends(self, ball: Integers, sign: float) -> tuple[Floats, Floats] | None:
        """Return the inner and outer end of the lids: where the ways to both are equally long."""
        mesh = self.mesh
        centre = mesh.positions[ball].mean(0)
        size = float(np.ptp(mesh.positions[ball, 1]))
        up, down = (centre + np.array([0.0, s * 0.6 * size, 0.5 * size]) for s in (1, -1))
        lids = lip_sides(mesh, self.skin, up, down)
        a, b = mesh.edges[lids[mesh.edges[:, 0]] * lids[mesh.edges[:, 1]] < 0].T
        p = (mesh.positions[a] + mesh.positions[b]) / 2
        cover = np.concatenate([s.positions for s in self._around(ball, size)])
        buffer = _depth(cover, size / 40)
        seen = (p[:, 2] > buffer.at(p) - 0.06 * size) & (np.abs(p[:, 1] - centre[1]) < 0.5 * size)
        aside = sign * (p[:, 0] - centre[0])
        ends = []
        for side in (-1, 1):
            found = np.flatnonzero(seen & (side * aside > 0.3 * size) & (side * aside < 1.2 * size))
            if not len(found):
                return None
            ends.append(p[found[np.abs(aside[found]).argmin()]])
        return ends[0], ends[1]

    def _around(self, ball: Integers, size: float) -> tuple[Samples, Samples]:
        """Sample a ball and the skin before it, densely."""
        mesh = self.mesh
        inside = np.zeros(len(mesh.positions), dtype=bool)
        inside[ball] = True
        faces = mesh.triangles[inside[mesh.triangles].all(1)]
        near = np.abs(mesh.positions - mesh.positions[ball].mean(0)).max(1) < 1.2 * size
        around = mesh.triangles[(near & self.skin)[mesh.triangles].all(1)]
        return mesh.sample(faces, size / 80), mesh.sample(around, size / 80)

    def _opening(self, ball: Integers, sign: float) -> tuple[Floats, Floats] | None:
        """Return the inner and outer end of a ball's part that the skin leaves free."""
        mesh = self.mesh
        size = float(np.ptp(mesh.positions[ball, 0]))
        shown, cover = self._around(ball, size)
        buffer = _depth(cover.positions[cover.normals[:, 2] > -0.2], size / 50)
        free = shown.positions[shown.positions[:, 2] > buffer.at(shown.positions)]
        free = free[free[:, 2] > mesh.positions[ball, 2].mean()]
        if len(free) < 30:
            return None
        order = np.argsort(sign * free[:, 0])
        count = max(len(order) // 200, 3)
        return tuple(self._snap(free[ids].mean(0)) for ids in (order[:count], order[-count:]))  # type: ignore[return-value]

    def _ears(self, nose: Floats, chin: Floats) -> dict[str, Floats]:
        """Return the outermost points beside the face."""
        p = self.outside.positions
        level = (p[:, 1] > nose[1] - 0.1 * self.height) & (p[:, 1] < nose[1] + 0.3 * self.height)
        points = {}
        for name, sign in (("ear_left", 1.0), ("ear_right", -1.0)):
            side = p[level & (sign * (p[:, 0] - self.middle) > 0)]
            points[name] = side[(sign * side[:, 0]).argmax()]
        return points

    def _snap(self, point: Floats) -> Floats:
        """Return the nearest point of the skin."""
        return np.asarray(
            self.outside.positions[_nearest(self.outside.positions, point)], dtype=np.float64
        )


def lip_sides(mesh: AnyMesh, skin: Mask, upper: Floats, lower: Floats) -> Integers:
    """Tell the skin of the upper lip (+1) from that of the lower (-1) by the way along the mesh.

    `upper` and `lower` are points (3,) on the lips.  Vertices out of reach are 0.
    """
    ways = [mesh.distance([mesh.landing(p, skin)]) for p in (upper, lower)]
    side = np.where(ways[0] < ways[1], 1, -1)
    side[~np.isfinite(ways[0]) & ~np.isfinite(ways[1])] = 0
    return np.asarray(side)


def _neck(p: Floats) -> float:
    """Return the height of the neck below the head of points (n, 3), or of the lower end."""
    top, bottom = float(p[:, 1].max()), float(p[:, 1].min())
    rows = 120
    row = np.minimum(((top - p[:, 1]) / (top - bottom) * rows).astype(int), rows - 1)
    low, high = np.full(rows, np.inf), np.full(rows, -np.inf)
    np.minimum.at(low, row, p[:, 0])
    np.maximum.at(high, row, p[:, 0])
    width = np.where(high > low, high - low, 0.0)
    widest = 0.0
    for k in range(2, rows):
        if not width[k]:
            continue
        tall = k / rows * (top - bottom) > 0.7 * widest
        if tall and width[k] < 0.72 * widest:
            narrow = k
            while narrow + 1 < rows and 0 < width[narrow + 1] <= width[narrow]:
                narrow += 1
            return top - (narrow + 0.5) / rows * (top - bottom)
        widest = max(widest, float(width[k]))
    return bottom


@dataclass(frozen=True)
class _Buffer:
    """Depth of the foremost sample in each pixel of a front view."""

    origin: Floats
    pixel: float
    depth: Floats

    def at(self, points: Floats) -> Floats:
        """Return the depth (n,) of what lies in the pixels of points (n, 3)."""
        cell = _cells(points, self.origin, self.pixel, self.depth.shape)
        return np.asarray(self.depth[cell[:, 0], cell[:, 1]])


def _cells(points: Floats, origin: Floats, pixel: float, shape: tuple[int, ...]) -> Integers:
    cell = np.floor((points[:, :2] - origin) / pixel).astype(np.int64)
    return np.clip(cell, 0, np.array(shape) - 1)


def _depth(points: Floats, pixel: float) -> _Buffer:
    """Draw points (n, 3) into a depth buffer."""
    if not len(points):
        return _Buffer(np.zeros(2), pixel, np.full((1, 1), -np.inf))
    origin = points[:, :2].min(0)
    shape = tuple((np.ptp(points[:, :2], axis=0) / pixel).astype(int) + 1)
    depth = np.full(shape, -np.inf)
    cell = _cells(points, origin, pixel, shape)
    np.maximum.at(depth, (cell[:, 0], cell[:, 1]), points[:, 2])
    return _Buffer(origin, pixel, depth)


def _whole(depth: Floats) -> Floats:
    """Fill cells of a front view (X, Y) that no sample has met, but three of their neighbours."""
    for _ in range(3):
        padded = np.pad(depth, 1, constant_values=-np.inf)
        beside = [padded[1:-1, 2:], padded[1:-1, :-2], padded[2:, 1:-1], padded[:-2, 1:-1]]
        lonely = np.isinf(depth) & (np.sum(np.isfinite(beside), axis=0) >= 3)
        depth = np.where(lonely, np.max(beside, axis=0), depth)
    return depth


def _closed(depth: Floats, reach: int) -> Floats:
    """Return a front view (X, Y) whose gaps of up to 2 `reach` cells along Y are filled."""

    def spread(view: Floats) -> Floats:
        padded = np.pad(view, ((0, 0), (reach, reach)), mode="edge")
        count = view.shape[1]
        return np.asarray(np.max([padded[:, k : k + count] for k in range(2 * reach + 1)], axis=0))

    return -spread(-spread(depth))


def _largest(mask: Mask) -> Integers:
    """Return the cells (n, 2) of the largest connected piece of a mask (X, Y)."""
    label = np.where(mask, np.arange(mask.size).reshape(mask.shape) + 1, 0)
    while True:
        grown = np.pad(label, 1)
        beside = [
            grown[1:-1, 1:-1],
            grown[2:, 1:-1],
            grown[:-2, 1:-1],
            grown[1:-1, 2:],
            grown[1:-1, :-2],
        ]
        new = np.where(mask, np.max(beside, axis=0), 0)
        if np.array_equal(new, label):
            break
        label = new
    if not mask.any():
        return np.empty((0, 2), dtype=np.int64)
    return np.argwhere(label == np.bincount(label[mask]).argmax())


def _nearest(points: Floats, point: Floats) -> int:
    """Return the index of the nearest of points (n, 3)."""
    return int(((points - point) ** 2).sum(1).argmin())
