"""Look at face motion without Blender: contact sheets and films with sound, numpy only.

Pictures are written with the standard library; titles need Pillow and films need an ffmpeg
(imageio-ffmpeg's, or one on the PATH): without them the sheet has no titles, and a film becomes a
folder of pictures, which `video` says.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .errors import OutputError
from .head import Head
from .rasterizer import Camera, Floats, Integers, light, rasterize, vertex_normals

SKIN = (0.62, 0.40, 0.31)
INSIDE = (0.16, 0.035, 0.035)
Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Layer:
    """What is drawn beside the face, or the look of the face itself."""

    triangles: Integers
    """(T, 3) corners, counted in the vertices given for each frame."""
    colours: Floats
    """(V, 3) linear colours 0..1."""
    gloss: Floats | None = None
    """(V,) strength of the highlight; None is dull."""


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


FRONT = View()
THREE_QUARTER = View(azimuth=38.0)
PROFILE = View(azimuth=90.0)
MOUTH = View(azimuth=0.0, zoom=2.7, height=0.36)
MOUTH_SIDE = View(azimuth=42.0, zoom=2.7, height=0.36)
EYES = View(zoom=2.4, height=0.59)


def frame_head(vertices: Floats, view: View, up: str = "y") -> Camera:
    """Place a camera for a head whose first frame is ``vertices`` (V, 3), Y-up or Z-up."""
    axes = np.eye(3, dtype=np.float32)
    if up == "z":  # Blender: the face looks along -Y
        axes = np.float32([[1, 0, 0], [0, 0, 1], [0, -1, 0]])
    local = vertices @ axes.T
    low, high = local.min(0), local.max(0)
    height = float(high[1] - low[1])
    target = (low + high) / 2
    target[1] = low[1] + view.height * height
    azimuth, elevation = np.radians(view.azimuth), np.radians(view.elevation)
    towards = np.array(
        [
            np.sin(azimuth) * np.cos(elevation),
            np.sin(elevation),
            np.cos(azimuth) * np.cos(elevation),
        ]
    )
    right = np.cross([0.0, 1.0, 0.0], towards)
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(towards, right), towards]).astype(np.float32) @ axes
    return Camera(
        rotation, (target @ axes).astype(np.float32), 0.56 * height / view.zoom, 3 * height
    )


def plain(vertices: Floats, triangles: Integers) -> Layer:
    """Colour any head: skin, and eyes where it has two small separate balls."""
    colours = np.tile(np.float32(SKIN), (len(vertices), 1))
    gloss = np.full(len(vertices), 0.10, np.float32)
    for ball in _eyeballs(vertices, triangles):
        centre = (vertices[ball].min(0) + vertices[ball].max(0)) / 2
        forward = vertices.mean(0) - centre
        forward = _gaze(vertices[ball] - centre, forward)
        angle = np.degrees(np.arccos(np.clip(forward, -1, 1)))
        colours[ball] = np.float32((0.80, 0.78, 0.76))
        colours[ball[angle < 31]] = np.float32((0.07, 0.13, 0.18))
        colours[ball[angle < 13]] = np.float32((0.004, 0.004, 0.004))
        gloss[ball] = 0.9
    return Layer(triangles, colours, gloss)


def _gaze(ball: Floats, inwards: Floats) -> Floats:
    """Return the cosine of each ball vertex against the axis that leads out of the head."""
    axis = np.zeros(3, np.float32)
    largest = int(np.argmax(np.abs(inwards[1:]))) + 1
    axis[largest] = -np.sign(inwards[largest])
    return ball @ axis / np.maximum(np.linalg.norm(ball, axis=1), 1e-20)


def _eyeballs(vertices: Floats, triangles: Integers) -> list[Integers]:
    """Return the vertex indices of the components that are balls (two, or none)."""
    label = np.arange(len(vertices))
    while True:
        lowest = label[triangles].min(1)
        before = label.copy()
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


def demo_layer(head: Head) -> Layer:
    """Return the look of the demo head with all its parts; draw `demo_vertices` with it."""
    triangles, colours = [head.triangles], [head.colours]
    gloss = [np.full(len(head.vertices), 0.10, np.float32)]
    gloss[0][np.unique(head.triangles[head.material > 0])] = 0.9
    count = len(head.vertices)
    for part in head.parts.values():
        triangles.append(part.triangles + count)
        count += len(part.vertices)
        shade = np.tile(np.float32(PART_COLOURS[part.material]), (len(part.vertices), 1))
        if part.material in ("teeth", "gums", "tongue"):  # no shadows are cast: the depth is dark
            depth = part.vertices[:, 2].max() - part.vertices[:, 2]
            shade *= (0.25 + 0.75 * np.exp(-((depth / 0.014) ** 2)))[:, None]
        colours.append(shade)
        shine = np.float32(PART_GLOSS.get(part.material, 0.0))
        gloss.append(np.full(len(part.vertices), shine))
    return Layer(np.concatenate(triangles), np.concatenate(colours), np.concatenate(gloss))


def demo_vertices(
    head: Head, faces: Floats, controls: Floats | None = None, names: Sequence[str] = ()
) -> Floats:
    """Add the demo head's parts to a moving face: (F, V, 3) → (F, V + parts, 3).

    ``controls`` (F, C) with their ``names`` move the tongue, which the face does not show.
    """
    frames = []
    for number, face in enumerate(faces):
        tongue = {}
        if controls is not None:
            row = controls[number]
            tongue = {
                n: float(v) for n, v in zip(names, row, strict=True) if n.startswith("tongue")
            }
        frames.append(np.concatenate([face, *head.pose(face, tongue).values()]))
    return np.asarray(frames, np.float32)


def picture(
    vertices: Floats, layer: Layer, camera: Camera, *, size: int = 384, smooth: int = 1
) -> Picture:
    """Draw one frame (V, 3) as (size, size, 3) bytes, ``smooth`` × ``smooth`` samples a pixel."""
    vertices = np.asarray(vertices, np.float32)
    normals = vertex_normals(vertices, layer.triangles) @ camera.rotation.T
    front = layer.colours * light(normals, layer.gloss)
    back = np.float32(INSIDE) * light(-normals)
    points = camera.project(vertices, size * smooth)
    linear = rasterize(points, layer.triangles, front, back, size * smooth)
    if smooth > 1:
        linear = linear.reshape(size, smooth, size, smooth, 3).mean((1, 3))
    return (np.clip(linear, 0, 1) ** np.float32(1 / 2.2) * 255 + 0.5).astype(np.uint8)


def contact_sheet(
    vertices: Floats,
    triangles: Integers,
    frames: Sequence[int] | None,
    path: Path | str,
    parts: Layer | None = None,
    *,
    titles: Sequence[str] | None = None,
    views: Sequence[View] = (FRONT, THREE_QUARTER),
    columns: int = 4,
    size: int = 256,
    up: str = "y",
) -> Path:
    """Write a sheet of chosen frames of ``vertices`` (F, V, 3), every view side by side.

    ``frames`` None takes all. ``parts`` gives colours (and further triangles) instead of `plain`;
    ``titles`` are drawn when Pillow is there.
    """
    vertices = np.asarray(vertices, np.float32)
    chosen = list(range(len(vertices))) if frames is None else list(frames)
    layer = parts or plain(vertices[0], triangles)
    cameras = [frame_head(vertices[0], view, up) for view in views]
    cells = []
    for place, frame in enumerate(chosen):
        shots = [picture(vertices[frame], layer, c, size=size, smooth=2) for c in cameras]
        text = titles[place] if titles else f"{frame}"
        cells.append(_titled(np.concatenate(shots, 1), text))
    return write_png(path, _grid(cells, columns))


def portrait(head: Head, path: Path | str, size: int = 512) -> Path:
    """Write a picture of the demo head from the front, three-quarters and the side."""
    vertices, layer = demo_vertices(head, head.vertices[None])[0], demo_layer(head)
    cameras = [frame_head(head.vertices, view) for view in (FRONT, THREE_QUARTER, PROFILE)]
    shots = [picture(vertices, layer, camera, size=size, smooth=2) for camera in cameras]
    return write_png(path, np.concatenate(shots, 1))


def _grid(cells: list[Picture], columns: int) -> Picture:
    """Lay equal pictures out in rows; missing ones are black."""
    columns = min(columns, len(cells))
    cells = cells + [np.zeros_like(cells[0])] * (-len(cells) % columns)
    rows = [np.concatenate(cells[k : k + columns], 1) for k in range(0, len(cells), columns)]
    return np.concatenate(rows, 0)


def _titled(image: Picture, text: str) -> Picture:
    """Write a title into the picture's upper left corner, if Pillow is there."""
    try:
        from PIL import Image, ImageDraw
    except ImportError:
        return image
    canvas = Image.fromarray(image)
    ImageDraw.Draw(canvas).text((5, 3), text, fill=(255, 255, 255))
    return np.asarray(canvas)


def write_png(path: Path | str, image: Picture) -> Path:
    """Write (H, W, 3) bytes as a PNG file with the standard library alone."""
    height, width, _ = image.shape
    raw = np.concatenate([np.zeros((height, 1), np.uint8), image.reshape(height, -1)], 1)

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw.tobytes(), 6))
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b""))
    return path


def ffmpeg() -> str | None:
    """Return the path of an ffmpeg program, or None."""
    try:
        import imageio_ffmpeg

        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except (ImportError, RuntimeError):
        return shutil.which("ffmpeg")


def video(
    vertices: Floats,
    triangles: Integers,
    fps: float,
    audio: Path | str | None,
    path: Path | str,
    parts: Layer | None = None,
    *,
    views: Sequence[View] = (FRONT,),
    size: int = 384,
    smooth: int = 1,
    up: str = "y",
) -> Path:
    """Write a film of ``vertices`` (F, V, 3) with the sound of ``audio``; return what was written.

    Without ffmpeg the return value is a folder of numbered pictures beside ``path``.
    """
    vertices = np.asarray(vertices, np.float32)
    layer = parts or plain(vertices[0], triangles)
    cameras = [frame_head(vertices[0], view, up) for view in views]
    images = (
        np.concatenate([picture(v, layer, c, size=size, smooth=smooth) for c in cameras], 1)
        for v in vertices
    )
    program, path = ffmpeg(), Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if program is None:
        folder = path.with_suffix("")
        for number, image in enumerate(images):
            write_png(folder / f"{number:05d}.png", image)
        print(f"no ffmpeg found (pip install imageio-ffmpeg): wrote pictures to {folder}")
        return folder
    _encode(program, images, (size * len(views), size), fps, audio, path)
    return path


def _encode(
    program: str,
    images: Iterable[Picture],
    shape: tuple[int, int],
    fps: float,
    audio: Path | str | None,
    path: Path,
) -> None:
    """Feed pictures to ffmpeg. Raises OutputError with ffmpeg's last words."""
    command = [program, "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24"]
    command += ["-s", f"{shape[0]}x{shape[1]}", "-r", f"{fps:g}", "-i", "-"]
    if audio is not None:
        command += ["-i", str(audio), "-c:a", "aac", "-b:a", "128k", "-shortest"]
    command += ["-c:v", "libx264", "-crf", "20", "-pix_fmt", "yuv420p", str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin and process.stderr
        try:
            for image in images:
                process.stdin.write(np.ascontiguousarray(image).tobytes())
            process.stdin.close()
        except BrokenPipeError:
            pass
        words = process.stderr.read().decode("utf-8", "replace").strip()
    if process.returncode:
        raise OutputError(f"ffmpeg could not write {path.name}: {words[-300:]}")
