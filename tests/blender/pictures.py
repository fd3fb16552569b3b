# SPDX-License-Identifier: GPL-3.0-or-later
"""Make docs/images/characters.jpg again: `python -m tests.blender.pictures OUT.jpg` with bpy.

Four characters of the reference folder say the bundled sample with the bundled model; each row
shows one at rest and on the frames where the model says "ah", m, f and "oo". Needs a worker's
Python (DIFFSPEAKER_PYTHON) or the zip's engine; look at the picture before it is kept.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import bpy
import numpy as np
from mathutils import Vector

import diffspeaker_blender
from diffspeaker_blender.animation import mapped, storage
from diffspeaker_blender.character import detect
from tests.blender.export.test_characters import bring

ROOT = Path(__file__).resolve().parents[2]
FILES = (
    "mpfb-head/mpfb-arkit-oculus.glb",
    "facecap/FaceCapHeadGeneric.glb",
    "mpfb-rigify/mpfb-rigify.blend",
    "mpfb-bones/mpfb-default-rig.blend",
)
SIZE = 240
SKIN = (0.75, 0.56, 0.47, 1.0)


def main(out: Path) -> None:
    """Render every character and put the pictures side by side."""
    rows = []
    for file in FILES:
        bpy.ops.wm.read_factory_settings(use_empty=True)
        diffspeaker_blender.register()
        face = bring(file)
        sample = ROOT / "model" / "samples" / "vivian.flac"
        bpy.ops.diffspeaker.generate(audio=str(sample), character=face.name)
        look(face)
        rows.append(np.concatenate([shown(frame) for frame in moments(face)], 1))
        diffspeaker_blender.unregister()
    save(np.concatenate(rows, 0), out)


def moments(face: Any) -> list[int]:
    """Return the frames of rest, "ah", m, f and "oo" of a face's line."""
    (record,) = storage.read(storage.holder(face)).clips.values()
    motion = storage.get_motion(storage.holder(face), record)
    assert motion is not None
    values, frames = mapped.controls_at(motion, record, bpy.context.scene.render.fps)
    column = {name: values[:, k] for k, name in enumerate(motion.names)}
    free = 1 - column["mouthClose"]
    wide = column["jawOpen"] * free * (1 - column["mouthPucker"])
    best = (
        -np.abs(wide - 0.7 * wide.max()),  # no shout
        column["mouthClose"] * (0.3 + column["jawOpen"]),
        column["lipTuck"] * free,
        (column["mouthPucker"] + column["mouthFunnel"]) * free,
    )
    return [-100, *(int(frames[int(np.argmax(score))]) for score in best)]


def look(face: Any) -> None:
    """Put a camera before the face, and light it as a clay model in its colours."""
    scene, lips = bpy.context.scene, detect.lips_of(face)
    scene.frame_set(-100)
    points = mapped.evaluated(face)
    mouth = points[np.array([*lips["upper"], *lips["lower"]])].mean(0)
    way = -1.0 if mouth[1] < points[:, 1].mean() else 1.0
    data = bpy.data.cameras.new("Camera")
    data.type, data.ortho_scale = "ORTHO", 4.6 * lips["width"]
    camera = scene.camera = bpy.data.objects.new("Camera", data)
    scene.collection.objects.link(camera)
    camera.location = Vector(mouth) + Vector((0, way * 20 * lips["width"], 0.75 * lips["width"]))
    aim = Vector((0, -way, 0))
    camera.rotation_euler = aim.to_track_quat("-Z", "Y").to_euler()
    data.clip_end = 100 * lips["width"]
    for obj in scene.objects:
        obj.hide_render |= obj.type == "ARMATURE" or "Ico" in obj.name
        obj.color = SKIN
    scene.world = bpy.data.worlds.new("World")
    scene.world.color = (0.85, 0.85, 0.85)
    render, shading = scene.render, scene.display.shading
    render.engine, render.resolution_x, render.resolution_y = "BLENDER_WORKBENCH", SIZE, SIZE
    shading.light, shading.show_cavity = "STUDIO", True
    shading.color_type = "MATERIAL" if len(detect.members(face)) > 1 else "OBJECT"
    scene.display.render_aa = "16"
    render.image_settings.file_format = "PNG"


def shown(frame: int) -> np.ndarray:
    """Return the rendered frame (H, W, 4), the top row first."""
    scene = bpy.context.scene
    scene.frame_set(frame)
    with tempfile.TemporaryDirectory() as folder:
        scene.render.filepath = str(Path(folder) / "frame.png")
        bpy.ops.render.render(write_still=True)
        image = bpy.data.images.load(scene.render.filepath)
        pixels = np.empty(len(image.pixels), np.float32)
        image.pixels.foreach_get(pixels)
        bpy.data.images.remove(image)
    return pixels.reshape(SIZE, SIZE, 4)[::-1]


def save(pixels: np.ndarray, out: Path) -> None:
    """Write a picture (H, W, 4) as JPEG or PNG, by its suffix."""
    height, width = pixels.shape[:2]
    image = bpy.data.images.new("characters", width, height)
    image.pixels.foreach_set(np.ascontiguousarray(pixels[::-1], np.float32).ravel())
    image.filepath_raw = str(out.resolve())
    image.file_format = "PNG" if out.suffix == ".png" else "JPEG"
    image.save()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
