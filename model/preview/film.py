# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures → files: PNG, sheets of pictures, films with sound."""

from __future__ import annotations

import shutil
import struct
import subprocess
import tempfile
import zlib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import OutputError

Picture = NDArray[np.uint8]


def grid(cells: list[Picture], columns: int) -> Picture:
    """Lay equal pictures out in rows; missing ones are black."""
    columns = min(columns, len(cells))
    cells = cells + [np.zeros_like(cells[0])] * (-len(cells) % columns)
    rows = [np.concatenate(cells[k : k + columns], 1) for k in range(0, len(cells), columns)]
    return np.concatenate(rows, 0)


def titled(image: Picture, text: str) -> Picture:
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


def write(images: Iterator[Picture], fps: float, audio: Path | str | None, path: Path) -> Path:
    """Write a film, or, without ffmpeg, a folder of numbered pictures; return which.

    Raises OutputError with ffmpeg's last words when it fails.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    program = ffmpeg()
    if program is not None:
        _encode(program, images, fps, audio, path)
        return path
    folder = path.with_suffix("")
    for number, image in enumerate(images):
        write_png(folder / f"{number:05d}.png", image)
    print(f"no ffmpeg found (pip install imageio-ffmpeg): wrote pictures to {folder}")
    return folder


def _encode(
    program: str, images: Iterator[Picture], fps: float, audio: Path | str | None, path: Path
) -> None:
    """Feed pictures to ffmpeg; its messages go to a file so that no pipe can fill up."""
    first = next(images)
    command = [program, "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24"]
    command += ["-s", f"{first.shape[1]}x{first.shape[0]}", "-r", f"{fps:g}", "-i", "-"]
    if audio is not None:
        command += ["-i", str(audio), "-c:a", "aac", "-b:a", "128k", "-shortest"]
    command += ["-c:v", "libx264", "-crf", "20", "-pix_fmt", "yuv420p", str(path)]
    with tempfile.TemporaryFile() as words:
        with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=words) as process:
            assert process.stdin
            try:
                for image in chain([first], images):
                    process.stdin.write(np.ascontiguousarray(image).tobytes())
                process.stdin.close()
            except (BrokenPipeError, OSError):
                pass  # with -shortest it may stop before the pictures do
        words.seek(0)
        said = words.read().decode("utf-8", "replace").strip()
    if process.returncode:
        raise OutputError(f"ffmpeg could not write {path.name}: {said[-300:]}")
