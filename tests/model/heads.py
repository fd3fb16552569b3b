# SPDX-License-Identifier: GPL-3.0-or-later
"""Heads that rig tests run on: the demo head that ships, and a FLAME sample where present."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tests.shared import ROOT, shared

Mesh = tuple[NDArray[np.float64], NDArray[np.int64]]

ASSET = ROOT / "model" / "weights" / "head.npz"


def demo_head() -> Mesh:
    """The head that ships: skin and eyeballs."""
    with np.load(ASSET) as file:
        return file["vertices"].astype(np.float64), file["triangles"].astype(np.int64)


def flame_head() -> Mesh:
    """FLAME's sample head (Y up, Z front, metres), or a skip."""
    data = shared("data/flame/FLAME_sample.ply").read_bytes()
    header, _, body = data.partition(b"end_header\n")
    counts = [int(line.split()[-1]) for line in header.decode().splitlines() if "element" in line]
    vertices = np.frombuffer(body, "<f4", counts[0] * 3).reshape(-1, 3)
    faces = np.frombuffer(body, np.dtype([("n", "u1"), ("i", "<i4", 3)]), counts[1], counts[0] * 12)
    return vertices.astype(np.float64), faces["i"].astype(np.int64)


def warped(mesh: Mesh, kind: str) -> Mesh:
    """Change the identity of a Y-up head in metres smoothly: "long", "wide" or "young"."""
    vertices, triangles = mesh
    y = vertices[:, 1]
    changed = vertices.copy()
    if kind == "long":
        low = 1 - _ease(y, -0.10, 0.03)
        changed[:, 0] *= 0.95 - 0.13 * low
        changed[:, 1] = np.where(y < 0.02, 0.02 + (y - 0.02) * 1.16, y)
    elif kind == "wide":
        jaw = np.exp(-(((y + 0.055) / 0.05) ** 2))
        changed[:, 0] *= 1 + 0.20 * jaw
        changed[:, 1] = np.where(y < 0.02, 0.02 + (y - 0.02) * 0.92, y)
    else:
        changed *= (1 + 0.10 * _ease(y, -0.01, 0.08))[:, None]
        changed[:, 1] += 0.012 * (1 - _ease(y, -0.09, 0.0))
        random = np.random.default_rng(3)
        for _ in range(6):
            wave = random.normal(size=3) / 0.035
            phase = vertices @ wave + random.uniform(0, 6)
            changed += random.normal(size=3) * 0.0012 * np.sin(phase)[:, None]
    return changed, triangles


def _ease(value: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    share = np.clip((value - low) / (high - low), 0, 1)
    return share * share * (3 - 2 * share)


def turn(pitch: float, yaw: float, roll: float) -> NDArray[np.float64]:
    """Rotation matrix of three angles in radians."""
    turned = np.eye(3)
    for axis, angle in enumerate((pitch, yaw, roll)):
        i, j = (axis + 1) % 3, (axis + 2) % 3
        step = np.eye(3)
        step[i, i] = step[j, j] = np.cos(angle)
        step[i, j], step[j, i] = -np.sin(angle), np.sin(angle)
        turned = turned @ step
    return turned
