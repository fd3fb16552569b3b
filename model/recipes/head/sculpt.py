# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo head's form: a signed distance built from some thirty blended solids.

A sculptor's order: big masses first (cranium, face, jaw), then features, then what is carved away.
Nothing is measured from anybody; the numbers are ours. Metres, Y up, Z to the front, X to the
subject's left, origin midway between the eyes; the head is symmetric, so only |x| matters.

``N`` points.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.floating[Any]]
Point = tuple[float, float, float]


@dataclass(frozen=True)
class Ellipsoid:
    """A solid ellipsoid."""

    centre: Point
    radii: Point

    def distance(self, points: Array) -> Array:
        """Return an approximate signed distance (exact in direction and near the surface)."""
        local = (points - self.centre) / self.radii
        level = np.linalg.norm(local, axis=-1)
        slope = np.linalg.norm(local / np.array(self.radii), axis=-1)
        return np.asarray(level * (level - 1) / np.maximum(slope, 1e-9))


@dataclass(frozen=True)
class Capsule:
    """A rod with round ends, thicker at one end than at the other."""

    start: Point
    end: Point
    start_radius: float
    end_radius: float

    def distance(self, points: Array) -> Array:
        """Return the signed distance."""
        axis = np.subtract(self.end, self.start)
        local = points - self.start
        along = np.clip(local @ axis / (axis @ axis), 0, 1)
        radius = self.start_radius + (self.end_radius - self.start_radius) * along
        return np.asarray(np.linalg.norm(local - along[..., None] * axis, axis=-1) - radius)


@dataclass(frozen=True)
class Form:
    """One solid, melted into what is there already, or carved out of it."""

    name: str
    solid: Ellipsoid | Capsule
    blend: float
    """Width of the transition, metres."""
    carve: bool = False


def _add(name: str, blend: float, centre: Point, radii: Point) -> Form:
    return Form(name, Ellipsoid(centre, radii), blend)


def _rod(name: str, blend: float, start: Point, end: Point, radii: tuple[float, float]) -> Form:
    return Form(name, Capsule(start, end, *radii), blend)


def _carve(name: str, blend: float, centre: Point, radii: Point) -> Form:
    return Form(name, Ellipsoid(centre, radii), blend, carve=True)


FORMS: tuple[Form, ...] = (
    # masses
    _add("cranium", 0.0, (0, 0.033, -0.012), (0.0725, 0.082, 0.095)),
    _add("face", 0.030, (0, 0.012, 0.027), (0.0560, 0.066, 0.0590)),
    _add("maxilla", 0.028, (0, -0.040, 0.038), (0.0440, 0.044, 0.0450)),
    _rod("jaw", 0.030, (0.0385, -0.052, 0.008), (0.0110, -0.0860, 0.066), (0.0140, 0.0140)),
    _rod("jaw angle", 0.028, (0.0470, -0.016, -0.002), (0.0390, -0.050, 0.006), (0.0125, 0.0125)),
    _add("masseter", 0.024, (0.0375, -0.038, 0.030), (0.0175, 0.030, 0.0300)),
    _add("mouth floor", 0.022, (0, -0.075, 0.044), (0.0340, 0.026, 0.0330)),
    _add("chin", 0.018, (0, -0.0885, 0.0740), (0.0160, 0.0130, 0.0140)),
    _add("cheekbone", 0.022, (0.0430, -0.018, 0.050), (0.0200, 0.014, 0.0200)),
    _add("cheek", 0.022, (0.0300, -0.038, 0.0600), (0.0225, 0.024, 0.0195)),
    _add("muzzle", 0.016, (0, -0.063, 0.0690), (0.0270, 0.021, 0.0235)),
    # eyes
    _rod("brow", 0.018, (0.009, 0.0190, 0.0775), (0.040, 0.0195, 0.0620), (0.0090, 0.0078)),
    _carve("orbit", 0.012, (0.0325, -0.001, 0.0905), (0.0180, 0.0125, 0.0135)),
    _carve("nose side", 0.010, (0.0150, -0.004, 0.0935), (0.0060, 0.012, 0.0100)),
    # nose
    _rod("bridge", 0.011, (0, 0.008, 0.0800), (0, -0.032, 0.1000), (0.0055, 0.0065)),
    _add("tip", 0.009, (0, -0.0360, 0.1030), (0.0090, 0.0082, 0.0092)),
    _add("wing", 0.006, (0.0096, -0.0395, 0.0930), (0.0056, 0.0062, 0.0095)),
    _rod("columella", 0.006, (0, -0.0430, 0.0990), (0, -0.0480, 0.0905), (0.0034, 0.0038)),
    # around the mouth
    Form("philtrum", Capsule((0, -0.0510, 0.0965), (0, -0.0565, 0.0965), 0.0016, 0.0018), 0.006,
         carve=True),
    _carve("chin fold", 0.010, (0, -0.0800, 0.0965), (0.0190, 0.0042, 0.0075)),
    # neck
    _rod("neck", 0.026, (0, -0.050, -0.024), (0, -0.190, -0.034), (0.0455, 0.0480)),
    _rod("shoulder", 0.050, (0.030, -0.206, -0.040), (0.120, -0.236, -0.045), (0.040, 0.034)),
    _add("throat", 0.022, (0, -0.118, 0.010), (0.0140, 0.022, 0.0130)),
)  # fmt: skip


def distance(points: ArrayLike) -> Array:
    """Return the signed distance (N,) of points (N, 3) to the skin, negative inside."""
    mirrored = np.array(points, dtype=np.float64)
    mirrored[..., 0] = np.abs(mirrored[..., 0])
    total = FORMS[0].solid.distance(mirrored)
    for form in FORMS[1:]:
        other = form.solid.distance(mirrored)
        if form.carve:
            total = -_melt(-total, other, form.blend)
        else:
            total = _melt(total, other, form.blend)
    return total


def _melt(one: Array, other: Array, width: float) -> Array:
    """Return the polynomial smooth minimum of two distances."""
    mix = np.clip(0.5 + 0.5 * (other - one) / width, 0, 1)
    return other * (1 - mix) + one * mix - width * mix * (1 - mix)


def gradient(points: Array, step: float = 2e-4) -> Array:
    """Return the unit outward direction (N, 3), by central differences."""
    pieces = [distance(points + e) - distance(points - e) for e in np.eye(3) * step]
    slope = np.stack(pieces, -1)
    return np.asarray(slope / np.maximum(np.linalg.norm(slope, axis=-1, keepdims=True), 1e-9))


def project(points: Array, rounds: int = 8) -> Array:
    """Move points (N, 3) onto the skin along its normals."""
    for _ in range(rounds):
        points = points - 0.9 * distance(points)[..., None] * gradient(points)
    return points


def march(origins: Array, directions: Array, start: float, rounds: int = 90) -> Array:
    """Return where rays (N, 3), followed inwards from ``start`` metres out, meet the skin."""
    length = np.full(origins.shape[:-1], start)
    for _ in range(rounds):
        reached = origins + directions * length[..., None]
        length = np.maximum(length - 0.7 * distance(reached), 0.002)
    return np.asarray(origins + directions * length[..., None])


def front(plane: Array) -> Array:
    """Return the skin point (N, 3) seen from the front at each (x, y) of ``plane`` (N, 2)."""
    origins = np.concatenate([plane, np.zeros((len(plane), 1))], 1)
    return march(origins, np.broadcast_to([0.0, 0.0, 1.0], origins.shape), 0.2)
