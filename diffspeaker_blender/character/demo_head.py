# SPDX-License-Identifier: GPL-3.0-or-later
"""Add the demo head: a face that speaks at once, its parts, materials, camera and lights.

The head is data (`model/weights/head.npz`, made by ``python -m model head``); its format is
described there, in `model/head.py`. The face carries the rig's named shape keys. Teeth, tongue,
brows and lashes are objects of their own; their shape keys bear the same names and are driven by
the face's, so whatever moves the face moves them: a slider, an action, a strip.

``V`` vertices of the face, ``N`` of a part.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import radians
from pathlib import Path
from typing import Any

import bpy
import numpy as np
from mathutils import Matrix, Vector
from numpy.typing import NDArray

from ..errors import HeadError
from ..files.arrays import read_npz
from ..motion.groups import order_of
from ..worker.client import package_root
from . import drivers
from .head import GIVEN

Floats = NDArray[np.float32]
Arrays = dict[str, NDArray[Any]]

NAME = "Speaking Head"
STEP = 4e-6
"""Metres per stored unit of a part's or a shape's coordinates."""
TONGUE = ("tongueOut", "tongueTip", "tongueBack")
"""Controls that no vertex of the face shows, but a part does."""
OBJECTS = {
    "Mouth": ("teeth", "gums", "tongue", "mouth"),
    "Brows and Lashes": ("brows", "lashes"),
    "Ears": ("ears",),
    "Hair": ("hair",),
}
"""Objects beside the face, and the stored parts that each is made of."""
LOOKS = {
    # name: linear colour (None: painted on the vertices), roughness, subsurface weight
    "skin": (None, 0.47, 0.14),
    "eye": (None, 0.10, 0.05),
    "iris": (None, 0.04, 0.0),
    "pupil": (None, 0.04, 0.0),
    "teeth": ((0.80, 0.745, 0.640), 0.20, 0.10),
    "gums": ((0.450, 0.150, 0.140), 0.30, 0.10),
    "tongue": ((0.420, 0.130, 0.120), 0.38, 0.10),
    "mouth": ((0.090, 0.018, 0.018), 0.60, 0.0),
    "brows": ((0.045, 0.022, 0.013), 0.65, 0.0),
    "lashes": ((0.008, 0.006, 0.005), 0.60, 0.0),
    "hair": ((0.060, 0.029, 0.015), 0.58, 0.0),
}
SHOWN = {
    "skin": (0.640, 0.395, 0.295),
    "eye": (0.800, 0.770, 0.740),
    "iris": (0.110, 0.190, 0.260),
    "pupil": (0.010, 0.010, 0.010),
}
"""What painted materials look like in Solid view, which shows no paint."""
ROOM = 0.3
"""Metres between the head's middle and whatever it would stand in."""


def asset() -> Path:
    """Return where the head's data lie, installed or in a clone."""
    return package_root() / "model" / "weights" / "head.npz"


def add_demo_head(context: Any, *, stage: bool = True) -> Any:
    """Add the head at the 3D cursor, or beside what is there; return its face, selected and active.

    ``stage`` adds a camera where the scene has none, and three lights where it has none. Nothing
    that is there already is changed. Raises HeadError where the head's file is missing or broken.
    """
    arrays = _read(asset())
    scene = context.scene
    home = bpy.data.collections.new(NAME)
    scene.collection.children.link(home)
    face = _face(arrays, home)
    for title, names in OBJECTS.items():
        part = _part(title, [_Piece.read(arrays, name) for name in names], home)
        part.parent = face
        _drive(part, face)
    face.location = _free_place(context, Vector(scene.cursor.location), home)
    if stage:
        _stage(scene, face, home)
    _select(context, face)
    return face


# -- the data -------------------------------------------------------------------------------------


def _read(path: Path) -> Arrays:
    """Return the stored arrays. Raises HeadError where they cannot be read."""
    try:
        return read_npz(path)
    except (OSError, ValueError) as error:
        raise HeadError(
            f"The demo head's file {path.name} cannot be read: {error}.",
            "Install the extension again.",
        ) from error


def _upright(points: NDArray[Any], ground: float = 0.0) -> Floats:
    """Turn (N, 3) from Y up, Z front to Blender's Z up, -Y front, and set it on the ground."""
    turned = np.stack([points[:, 0], -points[:, 2], points[:, 1] - ground], 1)
    return np.ascontiguousarray(turned, np.float32)


def _ground(arrays: Arrays) -> float:
    """Return the height of the bust's lower edge, metres."""
    return float(arrays["vertices"][:, 1].min())


def _shapes(arrays: Arrays, prefix: str, count: int) -> dict[str, Floats]:
    """Return name → offsets (count, 3), Z up, of the shapes stored under a prefix."""
    shapes = {}
    for key, moving in arrays.items():
        if key.startswith(prefix) and key.endswith("/at"):
            name = key[len(prefix) : -len("/at")]
            offsets = np.zeros((count, 3), np.float32)
            offsets[moving] = _upright(arrays[f"{prefix}{name}/by"] * np.float32(STEP))
            shapes[name] = offsets
    return shapes


@dataclass(frozen=True)
class _Piece:
    """One stored part."""

    vertices: Floats
    triangles: NDArray[np.int32]
    material: str
    shapes: dict[str, Floats]

    @classmethod
    def read(cls, arrays: Arrays, name: str) -> _Piece:
        key = f"part/{name}"
        stored = arrays[f"{key}/vertices"] * np.float32(STEP)
        return cls(
            _upright(stored, _ground(arrays)),
            arrays[f"{key}/triangles"].astype(np.int32),
            str(arrays[f"{key}/material"]),
            _shapes(arrays, f"{key}/shape/", len(stored)),
        )


# -- objects --------------------------------------------------------------------------------------


def _face(arrays: Arrays, home: Any) -> Any:
    """Return the face: 5,023 vertices, painted, with every named shape key at rest."""
    vertices = _upright(arrays["vertices"], _ground(arrays))
    mesh = _mesh(NAME, vertices, arrays["triangles"].astype(np.int32))
    paint = mesh.color_attributes.new("Color", "FLOAT_COLOR", "POINT")
    colours = np.ones((len(vertices), 4), np.float32)
    colours[:, :3] = arrays["colours"].astype(np.float32) / 255
    paint.data.foreach_set("color", colours.ravel())
    for name in arrays["materials"]:
        mesh.materials.append(_material(str(name)))
    mesh.polygons.foreach_set("material_index", arrays["material"].astype(np.int32))
    face = bpy.data.objects.new(NAME, mesh)
    home.objects.link(face)
    shapes = _shapes(arrays, "shape/", len(vertices))
    still = np.zeros_like(vertices)
    shapes |= {name: still for name in TONGUE if name not in shapes}
    _add_keys(face, vertices, {name: shapes[name] for name in sorted(shapes, key=order_of)})
    mesh.shape_keys[GIVEN] = True
    keys = {name: name for name in shapes}
    for name, formula in arrays["formulas"].tolist():
        drivers.drive(mesh.shape_keys, name, formula, keys)
    return face


def _part(title: str, pieces: list[_Piece], home: Any) -> Any:
    """Return one object made of several pieces, each with its material."""
    starts = np.cumsum([0, *(len(piece.vertices) for piece in pieces)])
    vertices = np.concatenate([piece.vertices for piece in pieces])
    triangles = [piece.triangles + start for piece, start in zip(pieces, starts, strict=False)]
    mesh = _mesh(f"{NAME} {title}", vertices, np.concatenate(triangles))
    for piece in pieces:
        mesh.materials.append(_material(piece.material, flat=True))
    index = np.repeat(np.arange(len(pieces)), [len(piece.triangles) for piece in pieces])
    mesh.polygons.foreach_set("material_index", index.astype(np.int32))
    part = bpy.data.objects.new(mesh.name, mesh)
    home.objects.link(part)
    names = dict.fromkeys(name for piece in pieces for name in piece.shapes)
    shapes = {}
    for name in names:
        offsets = np.zeros_like(vertices)
        for piece, start in zip(pieces, starts, strict=False):
            if name in piece.shapes:
                offsets[start : start + len(piece.vertices)] = piece.shapes[name]
        shapes[name] = offsets
    if shapes:
        _add_keys(part, vertices, shapes, widest=True)
    return part


def _mesh(name: str, vertices: Floats, triangles: NDArray[np.int32]) -> Any:
    """Return a smooth mesh of triangles."""
    mesh = bpy.data.meshes.new(name)
    mesh.vertices.add(len(vertices))
    mesh.loops.add(triangles.size)
    mesh.polygons.add(len(triangles))
    mesh.vertices.foreach_set("co", vertices.ravel())
    mesh.loops.foreach_set("vertex_index", triangles.ravel())
    mesh.polygons.foreach_set("loop_start", np.arange(0, triangles.size, 3, dtype=np.int32))
    mesh.polygons.foreach_set("use_smooth", np.ones(len(triangles), bool))
    mesh.update(calc_edges=True)
    return mesh


def _add_keys(obj: Any, rest: Floats, shapes: dict[str, Floats], widest: bool = False) -> None:
    """Give an object a Basis and a shape key, at rest, for each of ``shapes``."""
    obj.shape_key_add(name="Basis", from_mix=False)
    for name, offsets in shapes.items():
        block = obj.shape_key_add(name=name, from_mix=False)
        block.points.foreach_set("co", (rest + offsets).ravel())
        if widest or "." in name:  # correctives go either way; a driven key must not cut them
            block.slider_min, block.slider_max = (-10.0, 10.0) if widest else (-1.0, 1.0)
        block.value = 0.0  # Blender 5.2 starts at 1
    obj.active_shape_key_index = 0


def _drive(part: Any, face: Any) -> None:
    """Let every shape key of a part take the value of the face's key of that name.

    A sum of one variable is no script: it runs where Python drivers are not allowed.
    """
    if part.data.shape_keys is None:
        return
    for block in part.data.shape_keys.key_blocks[1:]:
        driver = block.driver_add("value").driver
        driver.type = "SUM"
        variable = driver.variables.new()
        variable.type = "SINGLE_PROP"
        target = variable.targets[0]
        target.id_type = "KEY"
        target.id = face.data.shape_keys
        target.data_path = f'key_blocks["{block.name}"].value'


def _material(name: str, flat: bool = False) -> Any:
    """Return a new material: painted by the colour attribute, or of one colour where ``flat``."""
    colour, roughness, subsurface = LOOKS[name]
    material = bpy.data.materials.new(f"{NAME} {name.capitalize()}")
    if material.node_tree is None:  # Blender 5 makes one by itself
        material.use_nodes = True
    tree = material.node_tree
    shader = next(node for node in tree.nodes if node.type == "BSDF_PRINCIPLED")
    shader.inputs["Roughness"].default_value = roughness
    if subsurface:
        shader.inputs["Subsurface Weight"].default_value = subsurface
        shader.inputs["Subsurface Radius"].default_value = (1.0, 0.35, 0.2)
        shader.inputs["Subsurface Scale"].default_value = 0.004
    shown = colour or SHOWN[name]
    if colour is None and not flat:
        paint = tree.nodes.new("ShaderNodeVertexColor")
        paint.layer_name = "Color"
        paint.location = (-250, 200)
        tree.links.new(paint.outputs["Color"], shader.inputs["Base Color"])
    else:
        shader.inputs["Base Color"].default_value = (*shown, 1.0)
    material.diffuse_color = (*shown, 1.0)  # type: ignore[assignment]
    material.roughness = roughness
    return material


# -- the stage ------------------------------------------------------------------------------------

LIGHTS = (
    # name, place beside the face's middle (left, front, up; metres), watts, size
    ("Key", (-0.55, 0.85, 0.45), 9.0, 0.45),
    ("Fill", (0.75, 0.65, 0.05), 3.0, 0.60),
    ("Rim", (0.35, -0.75, 0.50), 9.0, 0.40),
)


def _free_place(context: Any, place: Vector, home: Any) -> Vector:
    """Return a place for the head, moved to the side until it stands in no mesh (default cube)."""
    context.view_layer.update()
    meshes = [obj for obj in context.view_layer.objects if obj.type == "MESH" and obj.visible_get()]
    boxes = [
        np.array([obj.matrix_world @ Vector(corner) for corner in obj.bound_box])
        for obj in meshes
        if obj.name not in home.objects
    ]
    half = np.array([ROOM / 2, ROOM / 2, 0.0])
    for box in sorted(boxes, key=lambda box: float(box[:, 0].max())):
        low, high = box.min(0) - half, box.max(0) + half
        point = np.array(place)
        inside = np.all(point[:2] > low[:2]) and np.all(point[:2] < high[:2])
        if inside and low[2] < point[2] + 2 * ROOM and high[2] > point[2]:
            place = Vector((float(box[:, 0].max()) + ROOM, place.y, place.z))
    return place


def _stage(scene: Any, face: Any, home: Any) -> None:
    """Add a portrait camera and three lights, each where the scene has none."""
    middle = Vector(face.location) + Vector((0.0, -0.03, 0.165))
    if not any(obj.type == "LIGHT" for obj in scene.objects):
        for name, place, watts, size in LIGHTS:
            lamp = bpy.data.lights.new(f"{NAME} {name}", "AREA")
            lamp.energy, lamp.size = watts, size  # type: ignore[attr-defined]
            _aim(_linked(lamp.name, lamp, home), _from_face(middle, place), middle)
    if scene.camera is None:
        lens = bpy.data.cameras.new(f"{NAME} Camera")
        lens.lens, lens.clip_start = 85.0, 0.01
        camera = _linked(lens.name, lens, home)
        turn = Matrix.Rotation(radians(-14), 3, "Z")
        _aim(camera, middle + turn @ Vector((0.0, -1.05, 0.02)), middle)
        scene.camera = camera


def _from_face(middle: Vector, place: Iterable[float]) -> Vector:
    left, front, up = place
    return middle + Vector((left, -front, up))


def _linked(name: str, data: Any, home: Any) -> Any:
    obj = bpy.data.objects.new(name, data)
    home.objects.link(obj)
    return obj


def _aim(obj: Any, place: Vector, target: Vector) -> None:
    """Put an object at a place, looking at a target."""
    obj.location = place
    obj.rotation_euler = (target - place).to_track_quat("-Z", "Y").to_euler()


def _select(context: Any, face: Any) -> None:
    """Make the face the one selected object, where the user is in object mode."""
    if context.mode != "OBJECT":
        return
    for obj in context.selected_objects:
        obj.select_set(False)
    face.select_set(True)
    context.view_layer.objects.active = face
