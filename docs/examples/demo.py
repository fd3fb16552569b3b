# SPDX-License-Identifier: GPL-3.0-or-later
"""Speech and a head in, everything a user gets out: what ``python build.py demo`` runs.

    python demo.py --out FOLDER [--audio FILE] [--head FILE]

Runs in any Python with the ``bpy`` module and goes the way an animator goes: head, strip,
Generate, export. Then it looks at what was written and prints one screen.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import bpy
import mathutils
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
SENTENCE = ROOT / "model" / "samples" / "vivian.flac"
SHEET_FRAMES, SHEET_COLUMNS, TILE = 12, 4, 320

sys.path.insert(0, str(ROOT))


class Stopwatch:
    """Times the steps and remembers what to report; what Blender says meanwhile goes to a log."""

    def __init__(self, log: Path) -> None:
        self.lines: list[str] = []
        self.log = log.open("wb")

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time one step, and keep exporters' and renderers' lines out of the report."""
        print(f"demo: {name} …", flush=True)
        began = time.perf_counter()
        kept = [os.dup(number) for number in (1, 2)]
        for number in (1, 2):
            os.dup2(self.log.fileno(), number)
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, former in zip((1, 2), kept, strict=True):
                os.dup2(former, number)
                os.close(former)
        self.lines.append(f"  {name:<38} {time.perf_counter() - began:6.1f} s")


def bring_head(path: Path | None) -> bpy.types.Object:
    """Add the demo head, or bring the user's from a .blend, or from a mesh file."""
    if path is None:
        bpy.ops.diffspeaker.add_demo_head()
        return bpy.context.scene.diffspeaker.head
    if path.suffix != ".blend":
        bpy.ops.diffspeaker.import_flame_head(filepath=str(path))
        return bpy.context.scene.diffspeaker.head
    with bpy.data.libraries.load(str(path)) as (there, here):
        here.objects = list(there.objects)
    meshes = [one for one in here.objects if one is not None and one.type == "MESH"]
    for one in here.objects:
        if one is not None:
            bpy.context.scene.collection.objects.link(one)
    return max(meshes, key=lambda one: len(one.data.vertices) == 5023)


def add_strip(audio: Path) -> None:
    """Put the sound on the timeline and make the scene as long as it."""
    scene = bpy.context.scene
    scene.render.fps = 30
    editor = scene.sequence_editor_create()
    strips = editor.strips if hasattr(editor, "strips") else editor.sequences
    strip = strips.new_sound(audio.stem, str(audio), 1, 1)
    strip.select = True
    scene.frame_start = 1
    right = "right_handle" if hasattr(strip, "right_handle") else "frame_final_end"
    scene.frame_end = int(getattr(strip, right))


def write_motion(head: bpy.types.Object, path: Path) -> None:
    """Write what Blender will play, read back from keys and curves, as a motion file."""
    scene = bpy.context.scene
    keys = head.data.shape_keys
    names = [block.name for block in keys.key_blocks[1:]]
    rest = coordinates(keys.key_blocks[0])
    shapes = np.stack([coordinates(block) - rest for block in keys.key_blocks[1:]])
    weights = np.zeros((scene.frame_end - scene.frame_start + 1, len(names)), np.float32)
    for row in range(len(weights)):
        scene.frame_set(scene.frame_start + row)
        weights[row] = [block.value for block in keys.key_blocks[1:]]
    np.savez(path, weights=weights, shapes=shapes, names=names, fps=30.0, template=rest,
             controls=weights, control_names=names, report="{}")  # fmt: skip


def coordinates(block: bpy.types.ShapeKey) -> np.ndarray:
    """Return a shape key's points (V, 3)."""
    points = np.empty((len(block.points), 3), np.float32)
    block.points.foreach_get("co", points.ravel())
    return points


def frame_face(face: bpy.types.Object) -> None:
    """Put a camera and a light in front of a head that came without a stage."""
    corners = np.array([face.matrix_world @ mathutils.Vector(corner) for corner in face.bound_box])
    centre, size = corners.mean(0), float(np.ptp(corners, axis=0).max())
    data = bpy.data.cameras.new("Sheet")
    camera = bpy.data.objects.new("Sheet", data)
    bpy.context.scene.collection.objects.link(camera)
    bpy.context.scene.camera = camera
    forward = front_of(face)
    camera.location = mathutils.Vector(centre) + forward * size * 2.6
    camera.rotation_euler = forward.to_track_quat("Z", "Y").to_euler()
    data.lens, data.clip_start = 50.0, size / 100
    sun = bpy.data.objects.new("Sheet Sun", bpy.data.lights.new("Sheet Sun", "SUN"))
    sun.data.energy = 3.0
    bpy.context.scene.collection.objects.link(sun)
    high = forward + mathutils.Vector((0.5, 0.0, 0.7))
    sun.rotation_euler = high.to_track_quat("Z", "Y").to_euler()


def front_of(face: bpy.types.Object) -> mathutils.Vector:
    """Return where a head looks: FLAME's +Z, turned as the object is."""
    return (face.matrix_world.to_3x3() @ mathutils.Vector((0, 0, 1))).normalized()


def render_sheet(face: bpy.types.Object, path: Path) -> None:
    """Render frames of the talking head with Cycles, tiled into one picture."""
    scene = bpy.context.scene
    scene.render.engine = "CYCLES"  # the one engine that draws alike on any machine, screen or not
    scene.cycles.samples = 24
    scene.cycles.use_denoising = False
    if scene.world is None:
        scene.world = bpy.data.worlds.new("Sheet")
        scene.world.color = (0.2, 0.23, 0.26)
    if scene.camera is None:
        frame_face(face)
    scene.camera.data.lens *= 1.35  # closer than the stage's own view
    scene.render.resolution_x = scene.render.resolution_y = TILE
    scene.render.image_settings.file_format = "PNG"
    tiles = []
    folder = path.parent / "frames"
    for frame in np.linspace(scene.frame_start + 8, scene.frame_end - 8, SHEET_FRAMES).astype(int):
        scene.frame_set(int(frame))
        scene.render.filepath = str(folder / f"{frame:04d}.png")
        bpy.ops.render.render(write_still=True)
        tiles.append(pixels(Path(scene.render.filepath)))
    rows = [np.concatenate(tiles[i : i + SHEET_COLUMNS], 1)
            for i in range(0, len(tiles), SHEET_COLUMNS)]  # fmt: skip
    picture = np.concatenate(rows[::-1], 0)  # Blender's pictures start at the bottom
    sheet = bpy.data.images.new("sheet", picture.shape[1], picture.shape[0])
    sheet.pixels.foreach_set(np.ascontiguousarray(picture, np.float32).ravel())
    sheet.filepath_raw, sheet.file_format = str(path), "PNG"
    sheet.save()
    bpy.data.images.remove(sheet)
    shutil.rmtree(folder)


def pixels(path: Path) -> np.ndarray:
    """Return a picture as (height, width, 4) float32."""
    image = bpy.data.images.load(str(path))
    values = np.empty(image.size[0] * image.size[1] * 4, np.float32)
    image.pixels.foreach_get(values)
    shape = (image.size[1], image.size[0], 4)
    bpy.data.images.remove(image)
    return values.reshape(shape)


def make_film(motion: Path, audio: Path, film: Path, triangles: Path) -> None:
    """Draw a film with sound, in a process without Blender."""
    model = [sys.executable, "-I", "-X", "utf8", str(ROOT / "model" / "__main__.py")]
    subprocess.run([*model, "preview", str(motion), str(film), "--audio", str(audio),
                    "--face", str(triangles)], check=True)  # fmt: skip


def main() -> int:
    """Run the demo; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--audio", type=Path, default=SENTENCE)
    parser.add_argument("--head", type=Path)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("DIFFSPEAKER_FOLDER", str(given.out / "work"))

    import diffspeaker_blender
    from diffspeaker_blender.character import head as heads
    from diffspeaker_blender.export import export
    from diffspeaker_blender.jobs import queue

    watch = Stopwatch(given.out / "demo.log")
    bpy.ops.wm.read_factory_settings(use_empty=True)
    diffspeaker_blender.register()
    try:
        with watch.step("head"):
            face = bring_head(given.head)
            bpy.context.scene.diffspeaker.head = face
        with watch.step("strip"):
            add_strip(given.audio)
        with watch.step("Generate Lip-Sync, cold worker"):
            bpy.ops.diffspeaker.generate()
        placed = queue.last()
        with watch.step("talking.blend"):
            bpy.ops.wm.save_as_mainfile(filepath=str(given.out / "talking.blend"))
        for kind in ("glb", "fbx"):
            with watch.step(f"talking.{kind}"):
                report = export.export([face], given.out / f"talking.{kind}")
            watch.lines.append(f"    {report.sentence()}")
        with watch.step("contact sheet"):
            render_sheet(face, given.out / "contact-sheet.png")
        with watch.step("film with sound"):
            motion, mesh = given.out / "motion.npz", given.out / "face.npz"
            write_motion(face, motion)
            vertices, triangles = heads.face_arrays(face)
            np.savez(mesh, vertices=vertices, triangles=triangles)
            make_film(motion, given.audio, given.out / "talking.mp4", mesh)
        print("\n" + "=" * 78)
        print(f"DiffSpeaker Lip-Sync in Blender {bpy.app.version_string}, {given.audio.name}")
        print("\n".join(watch.lines))
        print(f"  {placed.sentence}")
        print(f"  all in {given.out}")
        print("=" * 78)
    finally:
        diffspeaker_blender.unregister()
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # bpy as a module may hang in the interpreter's own shutdown
