# SPDX-License-Identifier: GPL-3.0-or-later
"""Look at a written file again, without Blender: is the animation really in it?

Enough of glTF, binary FBX and Alembic is read to find every mesh and see it move. Own code on
purpose: the exporter's own reader would share its mistakes.
"""

from __future__ import annotations

import base64
import csv
import json
import mmap
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import ExportError

_STILL = 1e-6
_KINDS = {5120: "i1", 5121: "u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}
_FBX_SECOND = 46_186_158_000
_DATA = 1 << 63  # marks a place in an Ogawa file that holds data, not a group


def check_export(path: str | Path) -> dict[str, Any]:
    """Re-read a written file.

    Returns "shapes" (shape keys in the file), "animated" (those that move), "frames", "seconds",
    "lowest" (least weight), "complete" (False where the format cannot be looked into here) and
    "meshes": name → how many of its shape keys move (in Alembic: how many shapes it takes); None
    where the format holds no meshes or they cannot be told apart.
    Raises ExportError when the file is missing, cut or foreign.
    """
    path = Path(path)
    readers = {".glb": _gltf, ".gltf": _gltf, ".fbx": _fbx, ".csv": _csv, ".json": _json}
    try:
        reader = readers.get(path.suffix.lower(), _other)
        found = reader(path)
    except OSError as error:
        raise ExportError(f"{path.name} cannot be read: {error.strerror or error}.") from error
    except (ValueError, KeyError, IndexError, TypeError, struct.error, zlib.error) as error:
        raise ExportError(f"{path.name} is damaged ({error}).", "Export it again.") from error
    return {"complete": True, "lowest": 0.0, "meshes": None, **found}


def _moving(weights: NDArray[Any]) -> int:
    """Return how many columns of (F, K) change."""
    return int((np.ptp(weights, axis=0) > _STILL).sum()) if weights.size else 0


# -- glTF -------------------------------------------------------------------------------------


def _gltf(path: Path) -> dict[str, Any]:
    document, buffers = _gltf_parts(path)
    shapes, animated, times, lowest = 0, 0, [np.zeros(1)], 0.0
    nodes = document.get("nodes", [])
    meshes = {node["name"]: 0 for node in nodes if "mesh" in node}
    for mesh in document.get("meshes", []):
        shapes += max(len(part.get("targets", [])) for part in mesh["primitives"])
    for animation in document.get("animations", []):
        for channel in animation["channels"]:
            if channel["target"]["path"] != "weights":
                continue
            sampler = animation["samplers"][channel["sampler"]]
            when = _accessor(document, buffers, sampler["input"]).ravel()
            weights = _accessor(document, buffers, sampler["output"]).reshape(len(when), -1)
            times.append(when)
            animated += _moving(weights)
            lowest = min(lowest, float(weights.min(initial=0.0)))
            meshes[nodes[channel["target"]["node"]]["name"]] += _moving(weights)
    longest = max(times, key=len)
    seconds = float(longest[-1] - longest[0])
    return {"shapes": shapes, "animated": animated, "frames": len(longest), "seconds": seconds,
            "lowest": lowest, "meshes": meshes}  # fmt: skip


def _gltf_parts(path: Path) -> tuple[dict[str, Any], list[bytes]]:
    """Return a glTF file's JSON and its buffers."""
    data = path.read_bytes()
    if path.suffix.lower() == ".gltf":
        document = json.loads(data)
        buffers = []
        for buffer in document.get("buffers", []):
            uri = buffer["uri"]
            if uri.startswith("data:"):
                buffers.append(base64.b64decode(uri.partition(",")[2]))
            else:
                buffers.append((path.parent / uri).read_bytes())
        return document, buffers
    magic, _version, length = struct.unpack_from("<4sII", data)
    if magic != b"glTF" or length != len(data):
        raise ValueError("not a whole .glb")
    size = struct.unpack_from("<I", data, 12)[0]
    document = json.loads(data[20 : 20 + size])
    return document, [data[20 + size + 8 :]]


def _accessor(document: dict[str, Any], buffers: list[bytes], number: int) -> NDArray[Any]:
    """Return an accessor's values (count, width); sparse ones are not needed for weights."""
    accessor = document["accessors"][number]
    width = _WIDTHS[accessor["type"]]
    if "bufferView" not in accessor:
        return np.zeros((accessor["count"], width), np.float32)
    view = document["bufferViews"][accessor["bufferView"]]
    start = view.get("byteOffset", 0) + accessor.get("byteOffset", 0)
    values = np.frombuffer(
        buffers[view["buffer"]], _KINDS[accessor["componentType"]], accessor["count"] * width, start
    )
    return values.reshape(-1, width)


# -- FBX --------------------------------------------------------------------------------------


class _Node(NamedTuple):
    """One record of a binary FBX file."""

    name: str
    values: list[Any]
    children: list[_Node]


def _fbx(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    if not data.startswith(b"Kaydara FBX Binary"):
        raise ValueError("not a binary FBX")
    wide = struct.unpack_from("<I", data, 23)[0] >= 7500
    nodes = {node.name: node for node in _fbx_nodes(data, 27, len(data), wide)}
    owners = _fbx_owners(nodes)
    meshes = dict.fromkeys(owners.values(), 0)
    shapes = animated = 0
    length, frames, lowest = 0.0, 0, 0.0
    deforming = {
        node.values[0]
        for node in nodes["Objects"].children
        if node.name == "AnimationCurveNode" and node.values[1].startswith(b"DeformPercent")
    }
    driving = {c.values[1] for c in nodes["Connections"].children if c.values[2] in deforming}
    for node in nodes["Objects"].children:
        if node.name == "Geometry" and node.values[-1] == b"Shape":
            shapes += 1
        if node.name == "AnimationCurve" and node.values[0] in driving:
            parts = {child.name: child.values[0] for child in node.children}
            values = np.asarray(parts["KeyValueFloat"])
            moves = bool(np.ptp(values) > 100 * _STILL)
            animated += moves
            if node.values[0] in owners:
                meshes[owners[node.values[0]]] += moves
            lowest = min(lowest, float(values.min()) / 100.0)
            times = np.asarray(parts["KeyTime"]) / _FBX_SECOND
            frames, length = max(frames, len(times)), max(length, float(np.ptp(times)))
    return {"shapes": shapes, "animated": animated, "frames": frames, "seconds": length,
            "lowest": lowest, "meshes": meshes}  # fmt: skip


def _fbx_owners(nodes: dict[str, _Node]) -> dict[int, str]:
    """Return number → mesh for everything that hangs below a mesh, and for the meshes themselves.

    A curve drives a curve node, that a channel, that a blend shape, that a geometry, that a mesh.
    """
    above: dict[int, list[int]] = {}
    for link in nodes["Connections"].children:
        above.setdefault(link.values[1], []).append(link.values[2])
    owners = {
        node.values[0]: node.values[1].partition(b"\0")[0].decode("utf-8")
        for node in nodes["Objects"].children
        if node.name == "Model" and node.values[2] == b"Mesh"
    }
    meshes = frozenset(owners)
    for number in list(above):
        here, steps = [number], 0
        while here and steps < 6 and not meshes.intersection(here):
            here, steps = [up for one in here for up in above.get(one, [])], steps + 1
        found = sorted(meshes.intersection(here))
        if len(found) == 1 and number not in meshes:
            owners[number] = owners[found[0]]
    return owners


def _fbx_nodes(data: bytes, place: int, end: int, wide: bool) -> Iterator[_Node]:
    """Yield the records between two places."""
    head = "<QQQB" if wide else "<IIIB"
    while place + struct.calcsize(head) <= end:
        stop, count, _size, length = struct.unpack_from(head, data, place)
        if stop == 0:
            return
        place += struct.calcsize(head)
        name = data[place : place + length].decode("ascii")
        place += length
        values = []
        for _ in range(count):
            value, place = _fbx_value(data, place)
            values.append(value)
        deep = name in ("Objects", "Connections", "AnimationCurve")
        children = list(_fbx_nodes(data, place, stop, wide)) if deep else []
        yield _Node(name, values, children)
        place = stop


def _fbx_value(data: bytes, place: int) -> tuple[Any, int]:
    """Return one property and the place after it."""
    kind = chr(data[place])
    place += 1
    if kind in "SR":
        size = struct.unpack_from("<I", data, place)[0]
        return data[place + 4 : place + 4 + size], place + 4 + size
    if kind in "fdlib":
        count, packed, size = struct.unpack_from("<III", data, place)
        place += 12
        raw = data[place : place + size]
        order = {"f": "<f4", "d": "<f8", "l": "<i8", "i": "<i4", "b": "u1"}[kind]
        return np.frombuffer(zlib.decompress(raw) if packed else raw, order, count), place + size
    form = {"Y": "<h", "C": "<B", "I": "<i", "F": "<f", "D": "<d", "L": "<q"}[kind]
    return struct.unpack_from(form, data, place)[0], place + struct.calcsize(form)


# -- the rest ---------------------------------------------------------------------------------


def _csv(path: Path) -> dict[str, Any]:
    with path.open(newline="", encoding="utf-8") as file:
        head, *rows = list(csv.reader(file))
    table = np.array(rows, float)
    weights = table[:, 2:]
    return {
        "shapes": len(head) - 2,
        "animated": _moving(weights),
        "frames": len(rows),
        "seconds": float(table[-1, 1] - table[0, 1]),
        "lowest": float(weights.min(initial=0)),
    }


def _json(path: Path) -> dict[str, Any]:
    found = json.loads(path.read_text(encoding="utf-8"))
    tables = [np.array(head["weights"], float) for head in found["heads"]]
    frames = max(len(table) for table in tables)
    return {
        "shapes": sum(table.shape[1] for table in tables),
        "animated": sum(_moving(table) for table in tables),
        "frames": frames,
        "seconds": (frames - 1) / found["fps"],
        "lowest": min(float(table.min(initial=0)) for table in tables),
    }


def _other(path: Path) -> dict[str, Any]:
    """Look at what USD and Alembic files can be told by from outside."""
    with path.open("rb") as file:
        head = file.read(8)
    size = path.stat().st_size
    known = head.startswith((b"Ogawa", b"PXR-USDC", b"#usda"))
    if not known or size < 1000:
        raise ValueError("not a whole USD or Alembic file")
    found = {"shapes": 0, "animated": 0, "frames": 0, "seconds": 0.0, "complete": False}
    more = {"meshes": _alembic(path)} if head.startswith(b"Ogawa") else _usd(path)
    return {**found, **more}


def _alembic(path: Path) -> dict[str, int]:
    """Return the meshes of an Ogawa file and how many different shapes each one takes.

    Groups of 64-bit places, the highest bit set for data. An object is a group of its properties,
    its children and, last, its children's names. Equal samples are stored once, so as many pieces
    of one size as there are frames mean that a mesh moves.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data[5] != 0xFF:
            raise ValueError("not closed")
        top = _Group(data, struct.unpack_from("<Q", data, 8)[0])
        known = _known_metadata(_bytes(data, top.places[5] & ~_DATA))
        return dict(_alembic_meshes(_Group(data, top.places[2]), "", known))


def _bytes(data: mmap.mmap, place: int) -> bytes:
    """Return a piece of an Ogawa file's data."""
    size = struct.unpack_from("<Q", data, place)[0]
    return data[place + 8 : place + 8 + size]


def _known_metadata(table: bytes) -> list[str]:
    """Return the texts that objects refer to by number; the first is empty."""
    texts, place = [""], 0
    while place < len(table):
        size = table[place]
        texts.append(table[place + 1 : place + 1 + size].decode("utf-8", "replace"))
        place += 1 + size
    return texts


class _Group:
    """One group of an Ogawa file: the places of its children."""

    def __init__(self, data: mmap.mmap, place: int) -> None:
        self.data, count = data, struct.unpack_from("<Q", data, place)[0] if place else 0
        self.places = struct.unpack_from(f"<{count}Q", data, place + 8) if count else ()

    def groups(self) -> Iterator[_Group]:
        """Yield the children that are groups."""
        for place in self.places:
            if not place & _DATA:
                yield _Group(self.data, place)

    def samples(self) -> Iterator[tuple[int, int]]:
        """Yield place and size of every piece of data below."""
        for place in self.places:
            if place & _DATA and place != _DATA:
                start = place & ~_DATA
                yield start, struct.unpack_from("<Q", self.data, start)[0]
        for group in self.groups():
            yield from group.samples()


def _alembic_meshes(group: _Group, name: str, known: list[str]) -> Iterator[tuple[str, int]]:
    """Yield meshes below an object by the name of the object that places them."""
    if len(group.places) < 2 or not group.places[-1] & _DATA:
        return
    headers = _headers(_bytes(group.data, group.places[-1] & ~_DATA), known)
    for place, (child, metadata) in zip(group.places[1:-1], headers, strict=False):
        if "_PolyMesh_" in metadata or "_SubD_" in metadata:
            places: dict[int, set[int]] = {}
            for start, size in _Group(group.data, place).samples():
                places.setdefault(size, set()).add(start)
            yield name, max(map(len, places.values()), default=0)
        else:
            yield from _alembic_meshes(_Group(group.data, place), child, known)


def _headers(table: bytes, known: list[str]) -> Iterator[tuple[str, str]]:
    """Yield name and metadata of an object's children; 32 bytes of digests end the table."""
    place = 0
    while place < len(table) - 32:
        size = struct.unpack_from("<I", table, place)[0]
        name = table[place + 4 : place + 4 + size].decode("utf-8", "replace")
        place += 4 + size + 1
        number = table[place - 1]
        if number != 0xFF:
            yield name, known[number]
            continue
        size = struct.unpack_from("<I", table, place)[0]
        yield name, table[place + 4 : place + 4 + size].decode("utf-8", "replace")
        place += 4 + size


def _usd(path: Path) -> dict[str, Any]:
    """Read blend shapes with Pixar's own library where Blender brings it along."""
    try:
        from pxr import Usd, UsdGeom, UsdSkel
    except ImportError:
        return {}
    stage = Usd.Stage.Open(str(path))
    shapes, frames, seconds, lowest = 0, 0, 0.0, 0.0
    meshes: dict[str, int] = {}
    for prim in stage.Traverse():
        shapes += prim.IsA(UsdSkel.BlendShape)
        if prim.IsA(UsdGeom.Mesh):
            table, times = _usd_weights(UsdSkel.BindingAPI(prim))
            meshes[prim.GetParent().GetName()] = _moving(table)
            lowest = min(lowest, float(table.min(initial=0.0)))
            if len(times) > frames:
                frames = len(times)
                seconds = (times[-1] - times[0]) / stage.GetTimeCodesPerSecond()
    return {"shapes": shapes, "animated": sum(meshes.values()), "frames": frames,
            "seconds": seconds, "lowest": lowest, "meshes": meshes,
            "complete": bool(shapes)}  # fmt: skip


def _usd_weights(binding: Any) -> tuple[NDArray[Any], list[float]]:
    """Return a mesh's blend shape weights (F, K) and their times."""
    from pxr import UsdSkel

    skeleton = binding.GetInheritedSkeleton()
    owner = UsdSkel.BindingAPI(skeleton.GetPrim()) if skeleton else binding
    source = owner.GetInheritedAnimationSource()
    if not source or not binding.GetBlendShapesAttr().Get():
        return np.zeros((0, 0)), []
    attribute = UsdSkel.Animation(source).GetBlendShapeWeightsAttr()
    times = attribute.GetTimeSamples()
    return np.array([attribute.Get(time) for time in times], float), times
