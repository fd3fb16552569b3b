# SPDX-License-Identifier: GPL-3.0-or-later
"""Characters that people have, from their import to a spoken line; run inside the window."""

from __future__ import annotations

import time

import bpy
import drive
from drive import STAGE, addon, area, browse, inside, install, shot, sidebar, status, told, until

IMPORT = ["File", "Import", "glTF 2.0", "the character's file"]
OPEN = ["File", "Open", "the character's file"]


def main():
    told["characters"] = {}
    install()
    yield 1.0
    yield from drive.close_splash()
    for name, file, clicks in (
        ("vrm0", "vrm0.glb", IMPORT),
        ("vrm1", "vrm1.glb", IMPORT),
        ("rigify", "rigify.blend", OPEN),
    ):
        yield from speak(name, STAGE / file, clicks)


def speak(name, path, clicks):
    """Bring a character, press the buttons, look at what it does, and undo it."""
    found = told["characters"][name] = {}
    yield from empty()
    began = time.monotonic()
    if path.suffix == ".blend":
        bpy.ops.wm.open_mainfile(filepath=str(path), load_ui=False)
        yield 1.0
    else:
        yield from browse(bpy.ops.import_scene.gltf, path)
    drive.sequence_this_scene()
    found["active"] = getattr(bpy.context.view_layer.objects.active, "name", "")
    yield from drive.open_tab()
    yield 0.5
    shot(f"{name}_1_before")
    yield from browse(bpy.ops.diffspeaker.choose_sound, STAGE / "line.wav")
    yield from until(lambda: status().message.startswith("Mouth"), 240)
    found["seconds"] = round(time.monotonic() - began, 1)
    found["clicks"] = [
        *clicks,
        "open the tab",
        "Choose Sound and Generate",
        "the sound's file",
    ]
    found["message"] = f"{status().message} {status().hint}".strip()
    face = bpy.context.scene.diffspeaker.head or speaker()
    found["face"] = face.name
    look_at(face)
    widths = [apart(face, frame) for frame in range(1, 60)]
    found["open"] = round(max(widths), 3)
    bpy.context.scene.frame_set(1 + widths.index(max(widths)))
    yield 1.0
    shot(f"{name}_2_speaks")
    yield from look_at_panels(name)
    yield from undo(found, face.name)
    yield from press_poses(name, found, found["face"])


def empty():
    """Begin with nothing in the scene, as one who imports a character does."""
    bpy.ops.wm.read_homefile(app_template="", use_empty=True, load_ui=False)
    yield 1.0


def speaker():
    detect = addon("character.detect")
    return next(obj for obj in bpy.context.scene.objects if detect.is_mapped(obj))


def look_at(face):
    """Turn to a fitted face, as seen from where its lips are."""
    import numpy as np
    from mathutils import Vector

    detect, mapped = addon("character.detect"), addon("animation.mapped")
    lips, points = detect.lips_of(face), mapped.evaluated(face)
    mouth = points[np.array([*lips["upper"], *lips["lower"]])].mean(0)
    sideways = mouth - points[:, :].mean(0)
    turn = "FRONT" if sideways[1] < 0 else "BACK"
    with inside("VIEW_3D"):
        bpy.ops.view3d.view_axis(type=turn)
    space = area("VIEW_3D").spaces.active
    space.region_3d.view_location = Vector(mouth) + Vector((0, 0, 0.6 * lips["width"]))
    space.region_3d.view_distance = 9 * lips["width"]
    space.shading.type = "SOLID"
    space.overlay.show_overlays = False


def apart(face, frame):
    """Return how far the lips part more than at rest, in mouth widths, as Blender shows them."""
    bpy.context.scene.frame_set(frame)
    return gap(face)


def gap(face):
    import numpy as np

    detect, mapped = addon("character.detect"), addon("animation.mapped")
    lips, points = detect.lips_of(face), mapped.evaluated(face)
    middle = np.abs(np.array(lips["along"])) < 0.3
    apart = points[np.array(lips["upper"])[middle]] - points[np.array(lips["lower"])[middle]]
    return float(np.linalg.norm(apart, axis=1).mean() / lips["width"])


def look_at_panels(name):
    """Open Character and Mapping alone and look at them, from top to bottom."""
    with only("character", "mapping"):
        yield 0.7
        yield from scrolled(f"{name}_3_mapping", 3)
    with only("face_shapes"):
        yield 0.7
        yield from scrolled(f"{name}_4_face_shapes", 1)


class only:
    """Show the main panel with few of its parts, opened, for as long as it lasts."""

    def __init__(self, *names):
        self.names = names

    def __enter__(self):
        panels = [*addon("ui.panels")._CLASSES, bpy.types.DIFFSPEAKER_PT_face_shapes]
        self.parts = [c for c in panels if getattr(c, "bl_parent_id", "").endswith("PT_main")]
        for cls in self.parts:
            bpy.utils.unregister_class(cls)
        self.shown = []
        for cls in self.parts:
            if cls.__name__.rpartition("_PT_")[2] in self.names:
                self.shown.append(opened(cls))
                bpy.utils.register_class(self.shown[-1])

    def __exit__(self, *_):
        for cls in self.shown:
            bpy.utils.unregister_class(cls)
        for cls in self.parts:
            bpy.utils.register_class(cls)


def opened(cls):
    """Return a panel like another that was never closed: Blender remembers that by name."""
    own = {name: value for name, value in vars(cls).items() if not name.startswith("__")}
    own = {name: value for name, value in own.items() if name not in ("bl_rna", "is_registered")}
    return type(f"{cls.__name__}_open", cls.__bases__, {**own, "bl_options": set()})


def scrolled(name, times):
    region = sidebar("VIEW_3D")
    region.tag_redraw()
    yield 0.4
    for number in range(times):
        shot(f"{name}_{number + 1}")
        if number < times - 1:
            with inside("VIEW_3D", "UI"):
                bpy.ops.view2d.scroll_down(deltay=650)
            yield 0.5
    with inside("VIEW_3D", "UI"):
        bpy.ops.view2d.scroll_up(deltay=650 * times)


def undo(found, name):
    """One undo step takes the line back, on every mesh and bone."""
    with inside("VIEW_3D"):
        bpy.ops.ed.undo()
    yield 0.5
    face = bpy.data.objects[name]
    still = apart(face, -100)
    found["undone"] = max(apart(face, frame) - still for frame in range(1, 60, 4))


def press_poses(name, found, face_name):
    """Press Ah, and Ah again."""
    face = bpy.data.objects[face_name]
    rest = gap(face)
    with inside("VIEW_3D", "UI"):
        bpy.ops.diffspeaker.test_pose("INVOKE_DEFAULT", True, pose="AH")
    yield 0.7
    shot(f"{name}_5_ah")
    found["pose"] = gap(face) - rest
    with inside("VIEW_3D", "UI"):
        bpy.ops.diffspeaker.test_pose("INVOKE_DEFAULT", True, pose="AH")
    yield 0.3
    found["pose_gone"] = abs(gap(face) - rest)
