# SPDX-License-Identifier: GPL-3.0-or-later
"""The lips of a head whose mouth is made of edge rings: which ring, which lip, how far to the side.

Ring 0 is the free edge inside the mouth; ring k lies k edges further out.  On FLAME topology ring
3 is where the lips touch and ring 8 the vermilion border.  Upper and lower are told apart by
connectivity, since the inner rims overlap in height on a closed mouth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import FaceError
from .mesh import Connectivity, Floats, Integers

RINGS = 11
OUTSIDE = 99
"""Value of `ring` for vertices beyond the mouth's rings."""

BORDER = 5
"""Rings from the lips' contact to the vermilion border."""

Pair = tuple[int, int]


@dataclass(frozen=True)
class Mouth:
    """Ring coordinates of the mouth; arrays are over all V vertices of the mesh."""

    loop: list[int]
    """The free edge inside the mouth, in cyclic order."""
    rings: list[list[int]]
    """Vertices of rings 0 … `RINGS`."""
    middles: list[Pair]
    """(upper, lower) vertex on the midline of each ring."""
    corners: list[Pair]
    """(left, right) corner vertex of each ring."""
    ring: Integers
    """Ring number, `OUTSIDE` elsewhere (V,)."""
    side: Integers
    """+1 upper lip, −1 lower lip, 0 corner or elsewhere (V,)."""
    along: Floats
    """Arc length from the midline to the corner: −1 right corner … 0 … +1 left corner (V,)."""
    contact: int
    """Ring at which the lips touch."""

    @property
    def border(self) -> int:
        """Ring of the vermilion border."""
        return self.contact + BORDER

    def contact_pairs(self) -> tuple[Integers, Integers]:
        """Return facing upper and lower vertices of the contact ring, from right to left."""
        ring = self.rings[self.contact]
        upper, lower = (
            sorted((v for v in ring if self.side[v] == side), key=lambda v: self.along[v])
            for side in (1, -1)
        )
        if len(upper) != len(lower):
            lower = [min(lower, key=lambda v: abs(self.along[v] - self.along[u])) for u in upper]
        return np.array(upper), np.array(lower)


def read_mouth(
    positions: Floats, connectivity: Connectivity, loop: list[int], mirror: Integers
) -> Mouth:
    """Read the rings around `loop`, given positions (V, 3) in a roughly canonical frame."""
    rings = connectivity.rings(loop, RINGS)
    if len(rings) <= RINGS or min(len(ring) for ring in rings[:RINGS]) < 12:
        raise FaceError(
            "The lips of this head are not built as edge rings around the mouth opening.",
            "Use a FLAME-topology head, or one built like the demo head.",
        )
    ring = np.full(connectivity.count, OUTSIDE, dtype=np.int64)
    for number, vertices in enumerate(rings):
        ring[vertices] = number
    middles = _middles(positions, connectivity, rings, mirror)
    corners, side = _sides(positions, connectivity, rings, middles)
    along = _along(positions, rings, middles, corners, side)
    aperture = [positions[u, 1] - positions[v, 1] for u, v in middles[: BORDER + 4]]
    contact = int(np.argmin(aperture[: RINGS - BORDER]))
    return Mouth(loop, rings, middles, corners, ring, side, along, contact)


def _middles(
    positions: Floats, connectivity: Connectivity, rings: list[list[int]], mirror: Integers
) -> list[Pair]:
    """Find each ring's upper and lower midline vertex, the lips told apart by their edges."""
    middles: list[Pair] = []
    for ring in rings:
        central = [v for v in ring if mirror[v] == v]
        if len(central) < 2:
            central = sorted(ring, key=lambda v: abs(positions[v, 0]))[:2]
        central.sort(key=lambda v: positions[v, 1])
        upper, lower = central[-1], central[0]
        if middles:
            above, below = (connectivity.neighbours[v] for v in middles[-1])
            crossed = lower in above and upper not in above
            if crossed or (upper in below and lower not in below):
                upper, lower = lower, upper
        middles.append((upper, lower))
    return middles


def _sides(
    positions: Floats, connectivity: Connectivity, rings: list[list[int]], middles: list[Pair]
) -> tuple[list[Pair], Integers]:
    """Find each ring's corners, and label its vertices upper (+1), lower (−1) or corner (0)."""
    side = np.zeros(connectivity.count, dtype=np.int64)
    corners = [_split_loop(positions, rings[0], middles[0], side)]
    for ring, (upper, lower) in zip(rings[1:], middles[1:], strict=True):
        inside = set(ring)
        unbalanced = _hop_difference(connectivity, inside, upper, lower)
        left, right = (
            _next_corner(positions, connectivity.neighbours[corner] & inside, unbalanced, sign)
            for corner, sign in zip(corners[-1], (1, -1), strict=True)
        )
        corners.append((left, right))
        between = inside - {left, right}
        below = connectivity.within([lower], between)
        side[list(below)] = -1
        side[list(connectivity.within([upper], between - below))] = 1
        side[[left, right]] = 0
    return corners, side


def _split_loop(positions: Floats, loop: list[int], middle: Pair, side: Integers) -> Pair:
    """Label ring 0 by walking it both ways; the corners are half-way between the two middles."""
    start, stop, corners = loop.index(middle[0]), loop.index(middle[1]), []
    for step in (1, -1):
        count = (stop - start) * step % len(loop)
        walk = [loop[(start + step * k) % len(loop)] for k in range(count + 1)]
        half = len(walk) // 2
        side[walk[:half]], side[walk[half + 1 :]] = 1, -1
        corners.append(walk[half])
    side[corners] = 0
    left, right = sorted(corners, key=lambda v: -positions[v, 0])
    return left, right


def _next_corner(positions: Floats, near: set[int], unbalanced: dict[int, int], sign: int) -> int:
    """Continue a corner outwards: the neighbour best half-way round, then the most lateral."""
    candidates = near or set(unbalanced)
    return min(candidates, key=lambda v: (unbalanced[v], -sign * positions[v, 0]))


def _hop_difference(
    connectivity: Connectivity, ring: set[int], upper: int, lower: int
) -> dict[int, int]:
    """How far each ring vertex is from lying half-way between the two middles, in edges."""
    counts = []
    for middle in (upper, lower):
        hops, front = {middle: 0}, [middle]
        while front:
            vertex = front.pop(0)
            for other in sorted(connectivity.neighbours[vertex] & ring):
                if other not in hops:
                    hops[other] = hops[vertex] + 1
                    front.append(other)
        counts.append(hops)
    far = len(ring)
    return {v: abs(counts[0].get(v, far) - counts[1].get(v, far)) for v in ring}


def _along(
    positions: Floats, rings: list[list[int]], middles: list[Pair], corners: list[Pair],
    side: Integers,
) -> Floats:  # fmt: skip
    """Arc-length coordinate of ring vertices: −1 right corner, 0 midline, +1 left corner."""
    along = np.zeros(len(positions))
    for ring, middle, (left, right) in zip(rings, middles, corners, strict=True):
        for which, sign in enumerate((1, -1)):
            lip = sorted((v for v in ring if side[v] == sign), key=lambda v: positions[v, 0])
            chain = [right, *lip, left]
            steps = np.linalg.norm(np.diff(positions[chain], axis=0), axis=1)
            length = np.concatenate([[0.0], np.cumsum(steps)])
            centre = middle[which]
            half = length[chain.index(centre)] if centre in chain else length[-1] / 2
            past = length > half
            along[chain] = np.where(past, (length - half) / (length[-1] - half), length / half - 1)
        along[left], along[right] = 1.0, -1.0
    return along
