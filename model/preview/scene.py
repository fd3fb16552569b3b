# SPDX-License-Identifier: GPL-3.0-or-later
"""What `preview` draws: a moving head with its look, and cameras that fit any head.

``F`` frames, ``V`` vertices of the face, ``N`` vertices of all that is drawn, ``T`` triangles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..rig import demo_head as heads
from ..rig.demo_head import Head
from ..rig.mesh import vertex_normals
from .film import Picture
from .rasterizer import Camera, Canvas, Floats, Integers, light, rasterize

SKIN = (0.62, 0.40, 0.31)
INSIDE = (0.16, 0.035, 0.035)
PART_COLOURS = {
    "skin": (0.640, 0.395, 0.295),
    "teeth": (0.800, 0.755, 0.660),
    "gums": (0.480, 0.170, 0.160),
    "tongue": (0.430, 0.140, 0.130),
    "mouth": (0.110, 0.022, 0.022),
    "brows": (0.060, 0.030, 0.018),
    "lashes": (0.010, 0.007, 0.006),
    "hair": (0.075, 0.036, 0.020),
}
"""Linear colours of the demo head's materials beside its painted face."""
PART_GLOSS = {"teeth": 0.5, "tongue": 0.35, "hair": 0.10, "gums": 0.3, "skin": 0.10}
SAME = 2e-4
"""Two heads whose vertices differ less than this are the same, metres."""


@dataclass(frozen=True)
class Layer:
    """The look of what is drawn."""

    triangles: Integers
    """(T, 3) corners, counted in the vertices given for each frame."""
    colours: Floats
    """(N, 3) linear colours 0..1."""
    gloss: Floats
    """(N,) strength of the highlight."""


@dataclass(frozen=True)
class View:
    """Where the camera stands, in head sizes, so that one view fits every head."""

    azimuth: float = 0.0
    """Degrees to the subject's left."""
    elevation: float = 0.0
    """Degrees upwards."""
    zoom: float = 1.0
    """1 shows the whole head."""
    height: float = 0.5
    """Where the picture's centre is: 0 the neck's edge, 1 the crown."""

    def camera(self, vertices: Floats) -> Camera:
        """Place a camera for a head (V, 3), Y-up and facing +Z, or Z-up and facing -Y."""
        extent = np.ptp(vertices, axis=0)
        axes = np.eye(3, dtype=np.float32)
        if extent[2] > extent[1]:  # a head with its neck is tallest
            axes = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]], np.float32)
        local = vertices @ axes.T
        low, high = local.min(0), local.max(0)
        tall = float(high[1] - low[1])
        target = (low + high) / 2
        target[1] = low[1] + self.height * tall
        azimuth, elevation = np.radians(self.azimuth), np.radians(self.elevation)
        flat = np.cos(elevation)
        towards = np.array([np.sin(azimuth) * flat, np.sin(elevation), np.cos(azimuth) * flat])
        right = np.cross([0.0, 1.0, 0.0], towards)
        right /= np.linalg.norm(right)
        rotation = np.stack([right, np.cross(towards, right), towards]).astype(np.float32) @ axes
        place = (target @ axes).astype(np.float32)
        return Camera(rotation, place, 0.56 * tall / self.zoom, 3 * tall)


FRONT = View(zoom=1.35, height=0.55)
THREE_QUARTER = View(azimuth=38.0, zoom=1.35, height=0.55)
PROFILE = View(azimuth=90.0)
MOUTH = View(zoom=2.7, height=0.42)
MOUTH_SIDE = View(azimuth=42.0, zoom=2.7, height=0.42)
EYES = View(zoom=2.4, height=0.62)


class Scene:
    """A moving face (F, V, 3) with everything that is drawn with it."""

    def __init__(
        self,
        vertices: Floats,
        triangles: Integers,
        look: Layer | Head | None = None,
        controls: Floats | None = None,
        names: Sequence[str] = (),
    ) -> None:
        self.faces = np.asarray(vertices, np.float32)
        self.head: Head | None = look if isinstance(look, Head) else None
        if look is None:
            self._find_demo(triangles)
        if self.head is not None:
            self.layer = demo_layer(self.head)
        else:
            self.layer = look if isinstance(look, Layer) else plain(self.faces[0], triangles)
        self.tongue = _tongue(controls, names)
        self.moving = self._moving()

    def stage(self, view: View, size: int, smooth: int = 1) -> Stage:
        """Return a place from which this scene's frames are drawn."""
        return Stage(self, view.camera(self.faces[0]), size, smooth)

    def frame(self, number: int) -> Floats:
        """Return all vertices (N, 3) of one frame."""
        face = self.faces[number]
        if self.head is None:
            return np.asarray(face)
        tongue = self.tongue[number] if self.tongue else None
        return np.concatenate([face, *self.head.pose(face, tongue).values()]).astype(np.float32)

    def _find_demo(self, triangles: Integers) -> None:
        """Recognise the demo head, also as Blender has it (Z up, standing on the ground)."""
        demo = heads.load()
        if self.faces.shape[1] != len(demo.vertices) or not np.array_equal(
            np.sort(triangles, 1), np.sort(demo.triangles, 1)
        ):
            return
        for turned in (self.faces, self.faces[..., [0, 2, 1]] * np.array([1, 1, -1], np.float32)):
            shift = np.median(demo.vertices - turned[0], axis=0)
            apart = np.linalg.norm(turned[0] + shift - demo.vertices, axis=1)
            if np.median(apart) < SAME:  # the first frame may be an open mouth
                self.faces, self.head = turned + shift, demo
                return

    def _moving(self) -> NDArray[np.bool_]:
        """Return which vertices (N,) move at all: the others are drawn once for all frames."""
        moving = [np.abs(self.faces - self.faces[0]).max((0, 2)) > 1e-6]
        if self.head is not None:
            for part in self.head.parts.values():
                tied = (part.jaw > 0) | (part.pull > 0)
                moving.append(tied | bool(len(part.root)))
        return np.concatenate(moving)


class Stage:
    """A camera before a scene; what does not move is drawn once."""

    def __init__(self, scene: Scene, camera: Camera, size: int, smooth: int) -> None:
        """Draw pictures of ``size`` pixels a side with ``smooth`` × ``smooth`` samples each."""
        self.scene, self.camera, self.size, self.smooth = scene, camera, size, smooth
        look = scene.layer
        stirred = scene.moving[look.triangles].any(1)
        rest = scene.frame(0)
        normals = vertex_normals(rest, look.triangles)
        self.backdrop = Canvas.blank(size * smooth)
        still = Layer(look.triangles[~stirred], look.colours, look.gloss)
        self._draw(self.backdrop, rest, normals, still)
        self.used, corners = np.unique(look.triangles[stirred], return_inverse=True)
        self.live = Layer(corners.reshape(-1, 3), look.colours[self.used], look.gloss[self.used])
        self.normals = normals[self.used]
        self.fresh = scene.moving[self.used][:, None]

    def draw(self, number: int) -> Picture:
        """Return one frame as (size, size, 3) bytes."""
        vertices = self.scene.frame(number)[self.used]
        canvas = self.backdrop.copy()
        normals = np.where(self.fresh, vertex_normals(vertices, self.live.triangles), self.normals)
        self._draw(canvas, vertices, normals, self.live)
        size, smooth = self.size, self.smooth
        linear = canvas.picture.reshape(size, smooth, size, smooth, 3)
        linear = linear.mean((1, 3)) if smooth > 1 else linear[:, 0, :, 0]
        return (np.sqrt(np.clip(linear, 0, 1)) * 255 + 0.5).astype(np.uint8)

    def _draw(self, canvas: Canvas, vertices: Floats, normals: Floats, layer: Layer) -> None:
        facing = normals @ self.camera.rotation.T
        front = layer.colours * light(facing, layer.gloss)
        back = np.array(INSIDE, np.float32) * light(-facing)
        points = self.camera.project(vertices, canvas.size)
        rasterize(canvas, points, layer.triangles, front, back)


def _tongue(controls: Floats | None, names: Sequence[str]) -> list[dict[str, float]]:
    """Return each frame's tongue controls."""
    if controls is None:
        return []
    columns = [(k, name) for k, name in enumerate(names) if name.startswith("tongue")]
    return [{name: float(row[k]) for k, name in columns} for row in np.asarray(controls)]


# -- looks ----------------------------------------------------------------------------------------


def demo_layer(head: Head) -> Layer:
    """Return the look of the demo head with all its parts."""
    triangles, colours = [head.triangles], [head.colours]
    gloss = [np.full(len(head.vertices), 0.10, np.float32)]
    gloss[0][np.unique(head.triangles[head.material > 0])] = 0.9
    count = len(head.vertices)
    for part in head.parts.values():
        triangles.append(part.triangles + count)
        count += len(part.vertices)
        shade = np.tile(np.array(PART_COLOURS[part.material], np.float32), (len(part.vertices), 1))
        if part.material in ("teeth", "gums", "tongue"):  # no shadows are cast: the depth is dark
            depth = part.vertices[:, 2].max() - part.vertices[:, 2]
            shade *= (0.25 + 0.75 * np.exp(-((depth / 0.014) ** 2)))[:, None]
        colours.append(shade)
        shine = np.float32(PART_GLOSS.get(part.material, 0.0))
        gloss.append(np.full(len(part.vertices), shine))
    return Layer(np.concatenate(triangles), np.concatenate(colours), np.concatenate(gloss))


def plain(vertices: Floats, triangles: Integers) -> Layer:
    """Colour any head: skin, and eyes where it has two small separate balls."""
    colours = np.tile(np.array(SKIN, np.float32), (len(vertices), 1))
    gloss = np.full(len(vertices), 0.10, np.float32)
    for ball in _eyeballs(vertices, triangles):
        centre = (vertices[ball].min(0) + vertices[ball].max(0)) / 2
        cosine = _gaze(vertices[ball] - centre, vertices.mean(0) - centre)
        angle = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
        colours[ball] = np.array((0.80, 0.78, 0.76), np.float32)
        colours[ball[angle < 31]] = np.array((0.07, 0.13, 0.18), np.float32)
        colours[ball[angle < 13]] = np.array((0.004, 0.004, 0.004), np.float32)
        gloss[ball] = 0.9
    return Layer(np.asarray(triangles), colours, gloss)


def _gaze(ball: Floats, inwards: Floats) -> Floats:
    """Return the cosine of each ball vertex against the axis that leads out of the head."""
    axis = np.zeros(3, np.float32)
    largest = int(np.argmax(np.abs(inwards[1:]))) + 1
    axis[largest] = -np.sign(inwards[largest])
    return np.asarray(ball @ axis / np.maximum(np.linalg.norm(ball, axis=1), 1e-20))


def _eyeballs(vertices: Floats, triangles: Integers) -> list[NDArray[np.intp]]:
    """Return the vertex indices of the components that are balls (two, or none)."""
    label = np.arange(len(vertices))
    while True:
        before = label.copy()
        lowest = label[triangles].min(1)
        for k in range(3):
            np.minimum.at(label, triangles[:, k], lowest)
        label = label[label]
        if np.array_equal(before, label):
            break
    balls = []
    for name in np.unique(label):
        part = np.flatnonzero(label == name)
        centre = (vertices[part].min(0) + vertices[part].max(0)) / 2
        radius = np.linalg.norm(vertices[part] - centre, axis=1)
        if 50 < len(part) < len(vertices) / 4 and radius.std() < 0.15 * radius.mean():
            balls.append(part)
    return balls if len(balls) == 2 else []
