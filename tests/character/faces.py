# SPDX-License-Identifier: GPL-3.0-or-later
"""A small synthetic face for tests: a sheet with a slit, two lips that part, lids above."""

from __future__ import annotations

import numpy as np

from diffspeaker_blender.character.probe import Part

COLUMNS, ROWS = 41, 30
WIDTH, HEIGHT = 0.16, 0.18


def sheet() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return vertices (V, 3) that look to -Y with Z up, triangles, and which lie below the slit.

    The slit runs across the middle third at z = 0: its vertices are there twice.
    """
    across = np.linspace(-WIDTH / 2, WIDTH / 2, COLUMNS)
    upper = np.linspace(0.0, HEIGHT * 0.65, ROWS)
    lower = np.linspace(0.0, -HEIGHT * 0.35, ROWS // 2)
    rows, points, below, start = [], [], [], 0
    for heights, under in ((upper, False), (lower, True)):
        grid = np.stack(np.meshgrid(across, heights), -1)
        x, z = grid[..., 0].ravel(), grid[..., 1].ravel()
        y = 6.0 * (x**2 + 0.5 * z**2) - 0.001 * under
        points.append(np.stack([x, y, z - 0.0008 * under * (np.abs(x) < 0.025)], 1))
        below.append(np.full(len(x), under))
        count = len(heights)
        for r in range(count - 1):
            for c in range(COLUMNS - 1):
                a = start + r * COLUMNS + c
                quad = [a, a + 1, a + COLUMNS + 1, a + COLUMNS]
                quad = quad[::-1] if under else quad
                rows += [[quad[0], quad[1], quad[2]], [quad[0], quad[2], quad[3]]]
        start += count * COLUMNS
    vertices = np.concatenate(points)
    under = np.concatenate(below)
    # Outside the mouth both halves are one skin.
    skin = np.abs(vertices[:, 0]) >= 0.025
    first = np.arange(COLUMNS)
    second = ROWS * COLUMNS + np.arange(COLUMNS)
    for a, b in zip(first, second, strict=True):
        if skin[a]:
            vertices[b] = vertices[a]
    return vertices, np.array(rows), under


def face(turn: np.ndarray | None = None, scale: float = 1.0, **renamed: str) -> Part:
    """Return a face with shapes under our names, or under those of `renamed`."""
    rest, triangles, under = sheet()
    x, z = rest[:, 0], rest[:, 2]
    mouth = np.clip(1 - (x / 0.03) ** 2, 0, 1)

    def shape(direction: tuple[float, float, float], weight: np.ndarray) -> np.ndarray:
        return weight[:, None] * np.array(direction)

    fall = np.exp(-((z / 0.04) ** 2))
    jaw = shape((0, 0.006, -0.025), under * np.clip(mouth + 0.05, 0, 1) * np.exp(z / 0.12))
    near = np.exp(-((z / 0.02) ** 2 + (x / 0.03) ** 2))
    shapes = {
        "jawOpen": jaw,
        "mouthClose": -0.8 * jaw,
        "mouthPucker": np.stack([-0.4 * x * near, -0.006 * near, 0 * x], 1),
        "mouthFunnel": np.stack([-0.3 * x * near, -0.006 * near,
                                 np.where(under, -0.005, 0.004) * near * mouth], 1),
        "mouthSmileLeft": shape((0.006, 0, 0.004), near * (x > 0.01)),
        "mouthSmileRight": shape((-0.006, 0, 0.004), near * (x < -0.01)),
        "mouthLowerDownLeft": shape((0, 0, -0.004), fall * under * mouth * (x >= 0)),
        "mouthLowerDownRight": shape((0, 0, -0.004), fall * under * mouth * (x <= 0)),
        "mouthRollLower": shape((0, 0.006, 0), fall * under * mouth),
    }  # fmt: skip
    for side, at in (("Left", 0.035), ("Right", -0.035)):
        lid = np.exp(-(((x - at) / 0.012) ** 2 + ((z - 0.08) / 0.008) ** 2))
        shapes[f"eyeBlink{side}"] = shape((0, 0, -0.01), lid)
    turn = np.eye(3) if turn is None else turn
    size = scale * turn.T
    keys = {renamed.get(name, name): offsets @ size for name, offsets in shapes.items()}
    return Part("Face", rest @ size, triangles, keys, turn.T)
