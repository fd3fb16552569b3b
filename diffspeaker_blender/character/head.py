# SPDX-License-Identifier: GPL-3.0-or-later
"""The head: recognised, checked, made editable, imported.

What matters of a head is its list of vertices and how they are joined. Where it stands, how large
it is, which way is up, what modifiers, armatures or parents it has: none of that matters here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from math import pi
from pathlib import Path
from typing import Any

import bpy
import numpy as np
from numpy.typing import NDArray

from ..errors import Finding, HeadError
from ..sound.strips import scene_curves
from . import flame_files

GIVEN = "diffspeaker.given"
"""Marks a head whose named keys came with it and move its teeth and lashes along."""
VERTICES = 5023
"""Of FLAME and of the project's own head."""
FLAME_EDGES = 14995
FLAME_DIGEST = "963f669aa6db0571a9e2d3940676291d5a542f366727c716be0820556140b169"
"""SHA-256 of FLAME's sorted unique edges (E, 2) as little-endian int32."""

_FLAME_VALENCES = {
    3: 6, 4: 256, 5: 727, 6: 3217, 7: 673, 8: 132, 9: 4, 10: 2, 30: 2, 32: 4,
}  # fmt: skip
"""How many of FLAME's vertices have how many edges; tells FLAME under another numbering."""
_LIFE_SIZE = 0.42
"""Diagonal in metres of a head with neck, give or take."""
_MANY = 50_000
"""Vertices up to which doubles are looked for: a FLAME head split everywhere has 30,000."""
_UNITS = (1000.0, 10.0, 1.0, 25.4, 304.8)
"""Millimetres of the units people model in: metre, centimetre, millimetre, inch, foot."""


@dataclass(frozen=True)
class HeadReport:
    """What `check_head` found."""

    usable: bool
    kind: str
    """"flame", "head" (another mesh the rig can read), or "" when not recognised."""
    findings: tuple[Finding, ...] = ()
    """Blocking ones first; the rest are remarks."""

    @property
    def reason(self) -> str:
        """Return why the head is refused, in a sentence or two; empty when usable."""
        return next((f.message for f in self.findings if f.blocking), "")

    @property
    def fix(self) -> Finding | None:
        """Return the first finding that a button can mend."""
        return next((f for f in self.findings if f.fix), None)


# -- recognising ------------------------------------------------------------------------------


def find_head(context: Any) -> Any | None:
    """Return the active object if it is a head, else the only head of the scene, else None."""
    active = getattr(context, "object", None) or context.view_layer.objects.active
    if active is not None and looks_like_head(active):
        return active
    heads = [obj for obj in context.view_layer.objects if looks_like_head(obj)]
    return heads[0] if len(heads) == 1 else None


def looks_like_head(obj: Any) -> bool:
    """Return whether an object has a head's number of vertices; cheap enough for every redraw."""
    return obj is not None and obj.type == "MESH" and len(obj.data.vertices) == VERTICES


def check_head(obj: Any, need: str = "any", vertices: int = VERTICES) -> HeadReport:
    """Say whether `obj` can be animated, and if not what differs.

    vertices: how many a vertex model moves; a mesh that is not FLAME's is told by them alone, and
    the worker compares it with the model's own where the model brings it.

    need: "flame" for models that move FLAME's vertices by number, "own" for those that bring the
    head they belong to (the worker compares), else "any".
    """
    report = check_mesh(obj)
    if obj is None or obj.type != "MESH":
        return report
    findings, kind = list(report.findings), ""
    count = len(obj.data.vertices)
    if need != "any" and vertices != VERTICES:
        if count != vertices:
            findings.insert(0, Finding(
                "vertex-count",
                f"{obj.name} has {count:,} vertices, this model moves a head of {vertices:,}. "
                "Pick the head it was trained on, or choose the bundled model.",
            ))  # fmt: skip
    elif count != VERTICES:
        doubles = _doubles(obj.data) if count <= _MANY else 0
        words = "Use the head as it was imported, before anything was added, cut or merged."
        if doubles:
            words = (
                f"{doubles:,} of them lie on others: glTF and game formats split a mesh at its "
                "seams. Bring the head with Import FLAME Head, or join them with Merge by Distance."
            )
        findings.insert(0, Finding(
            "vertex-count",
            f"{obj.name} has {count:,} vertices, a FLAME head has {VERTICES:,}. {words}",
        ))  # fmt: skip
    elif edge_digest(obj.data) == FLAME_DIGEST:
        kind = "flame"
    else:
        kind = "head" if boundary_loops(obj.data) == 2 else ""
        known = need == "own" or (need == "any" and kind)
        if not known or _flame_reordered(obj.data):
            findings.insert(0, _difference(obj, need))
            kind = ""
    usable = not any(finding.blocking for finding in findings)
    return HeadReport(usable, kind, tuple(sorted(findings, key=lambda f: not f.blocking)))


def _difference(obj: Any, need: str) -> Finding:
    """Return the finding for a mesh with the right number of vertices joined the wrong way."""
    if _flame_reordered(obj.data):
        return Finding(
            "vertex-order",
            f"{obj.name} is a FLAME head whose vertices are in another order, so each would get "
            "another's motion. Import it again with Import FLAME Head, which keeps the order.",
        )
    if need == "flame" and boundary_loops(obj.data) == 2:
        return Finding(
            "not-flame",
            f"{obj.name} is not joined like a FLAME head, and this model moves FLAME's vertices "
            "by number. Choose the bundled model, or a FLAME head.",
        )
    edges = len(obj.data.edges)
    return Finding(
        "connectivity",
        f"{obj.name} has the right number of vertices, but its faces are joined differently "
        f"({edges:,} edges, FLAME has {FLAME_EDGES:,}). Use the head as it was imported.",
    )


def _doubles(mesh: Any) -> int:
    """Return how many vertices lie exactly where another one does."""
    points = np.empty(3 * len(mesh.vertices), np.float32)
    mesh.vertices.foreach_get("co", points)
    return len(mesh.vertices) - len(np.unique(points.reshape(-1, 3), axis=0))


def edge_digest(mesh: Any) -> str:
    """Return the SHA-256 of a mesh's sorted unique edges, as FLAME_DIGEST is made."""
    edges = np.sort(_edges(mesh), axis=1)
    edges = edges[np.lexsort((edges[:, 1], edges[:, 0]))]
    return hashlib.sha256(np.ascontiguousarray(edges, "<i4").tobytes()).hexdigest()


def boundary_loops(mesh: Any) -> int:
    """Return how many separate rims the mesh has: two for a head, its mouth and its neck."""
    corners = np.empty(len(mesh.loops), np.int32)
    mesh.loops.foreach_get("edge_index", corners)
    uses = np.bincount(corners, minlength=len(mesh.edges))
    rim = _edges(mesh)[uses == 1]
    parent = {int(vertex): int(vertex) for vertex in rim.ravel()}

    def root(vertex: int) -> int:
        while parent[vertex] != vertex:
            parent[vertex] = vertex = parent[parent[vertex]]
        return vertex

    for a, b in rim.tolist():
        parent[root(a)] = root(b)
    return len({root(vertex) for vertex in parent})


def _edges(mesh: Any) -> NDArray[np.int32]:
    edges = np.empty(2 * len(mesh.edges), np.int32)
    mesh.edges.foreach_get("vertices", edges)
    return edges.reshape(-1, 2)


def _flame_reordered(mesh: Any) -> bool:
    """Return whether a mesh is FLAME's under another numbering, by the edges at each vertex."""
    if len(mesh.edges) != FLAME_EDGES:
        return False
    valences = np.unique(np.bincount(_edges(mesh).ravel()), return_counts=True)
    return dict(zip(*(column.tolist() for column in valences), strict=True)) == _FLAME_VALENCES


# -- conditions -------------------------------------------------------------------------------


def check_mesh(obj: Any) -> HeadReport:
    """Say whether shape keys can be written on an object, whatever its shape."""
    if obj is None:
        return _refused("no-head", "There is no head. Pick your head mesh, or add the demo head.")
    if obj.type != "MESH":
        return _refused("no-mesh", f"{obj.name} is no mesh. Pick the head mesh itself.")
    findings = [*_ownership(obj), *_state(obj)]
    blocked = any(finding.blocking for finding in findings)
    return HeadReport(not blocked, "", tuple(sorted(findings, key=lambda f: not f.blocking)))


def _refused(code: str, message: str) -> HeadReport:
    return HeadReport(False, "", (Finding(code, message),))


def _ownership(obj: Any) -> list[Finding]:
    """Return what linking and sharing mean for writing on this mesh."""
    mesh, found = obj.data, []
    source = mesh.library or obj.library
    if source is not None or mesh.override_library is not None:
        name = Path(bpy.path.abspath(source.filepath)).name if source else "another file"
        found.append(Finding(
            "linked",
            f"{obj.name} is linked from {name}, so shape keys cannot be saved on it here. "
            "Make it editable in this file, or animate it in its own file.",
            fix="make-editable",
            fix_label="Make Editable",
        ))  # fmt: skip
    elif mesh.users - mesh.use_fake_user > 1:
        found.append(Finding(
            "multi-user",
            f"{mesh.users} objects share this mesh: all of them will speak.",
            fix="single-user",
            fix_label="Make Single User",
            blocking=False,
        ))  # fmt: skip
    return found


def _state(obj: Any) -> list[Finding]:
    """Return what the object's mode and existing shape keys mean for writing."""
    found, key = [], obj.data.shape_keys
    if obj.mode != "OBJECT" or obj.data.is_editmode:
        found.append(Finding(
            "mode",
            f"{obj.name} is in {obj.mode.replace('_', ' ').title()} Mode, where new shape keys "
            "would be lost. Go back to Object Mode.",
            fix="object-mode",
            fix_label="Leave to Object Mode",
        ))  # fmt: skip
    if key is not None and not key.use_relative:
        found.append(Finding(
            "absolute-keys",
            f"The shape keys of {obj.name} are absolute (one after the other in time), so they "
            "cannot be mixed. Turn Relative on in its Shape Keys panel.",
            fix="relative-keys",
            fix_label="Use Relative Keys",
        ))  # fmt: skip
    return found


def fix(obj: Any, name: str) -> None:
    """Apply the fix that a Finding names. Raises HeadError when it does not help."""
    if name == "object-mode":
        with bpy.context.temp_override(active_object=obj, object=obj):
            bpy.ops.object.mode_set(mode="OBJECT")
    elif name == "relative-keys":
        obj.data.shape_keys.use_relative = True
    elif name == "single-user":
        obj.data = obj.data.copy()
    elif name == "make-editable":
        _make_editable(obj)
    else:
        raise HeadError(f"There is no fix called {name!r}.")


def _make_editable(obj: Any) -> None:
    """Make a linked or overridden head local; its materials and armature may stay linked."""
    if obj.library is not None:
        obj.make_local()
    mesh = obj.data
    if mesh.library is not None or mesh.override_library is not None:
        try:
            obj.data = mesh.copy()
        except (AttributeError, RuntimeError):  # an override may not point to local data
            obj.make_local(clear_liboverride=True)
            obj.data = mesh.copy()
    if obj.data.library is not None or obj.data.override_library is not None:
        raise HeadError(
            f"{obj.name} could not be made editable here.",
            "Use Object > Relations > Make Local > Selected Objects and Data.",
        )


# -- arrays -----------------------------------------------------------------------------------


def face_arrays(obj: Any) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Return the Basis' vertices (V, 3) in the mesh's own space, and triangles (T, 3)."""
    mesh = obj.data
    source = mesh.shape_keys.reference_key.points if mesh.shape_keys else mesh.vertices
    vertices = np.empty(3 * len(mesh.vertices), np.float32)
    source.foreach_get("co", vertices)
    mesh.calc_loop_triangles()
    triangles = np.empty(3 * len(mesh.loop_triangles), np.int32)
    mesh.loop_triangles.foreach_get("vertices", triangles)
    return vertices.reshape(-1, 3), triangles.reshape(-1, 3)


def worn_arrays(
    obj: Any, moving: Collection[str] = ()
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Return the same with the shape keys that stand still at a value.

    FLAME and SMPL-X add-ons keep a head's identity in such keys, and its lips meet on the face
    that is seen, not on the average one below it. moving: keys that a result drives.
    """
    vertices, triangles = face_arrays(obj)
    key = obj.data.shape_keys
    if key is None or not key.use_relative or GIVEN in key:
        return vertices, triangles
    playing = _animated_paths(key)
    for block in key.key_blocks[1:]:
        path = f'key_blocks["{bpy.utils.escape_identifier(block.name)}"].value'
        still = path not in playing and block.name not in moving
        if block.value and not block.mute and still:
            vertices += block.value * _offsets(obj, block)
    return vertices, triangles


def _offsets(obj: Any, block: Any) -> NDArray[np.float32]:
    """Return what one shape key adds to each vertex (V, 3), with its vertex group."""
    shapes = np.empty((2, 3 * len(block.points)), np.float32)
    block.points.foreach_get("co", shapes[0])
    block.relative_key.points.foreach_get("co", shapes[1])
    offsets: NDArray[np.float32] = (shapes[0] - shapes[1]).reshape(-1, 3)
    group = obj.vertex_groups.get(block.vertex_group) if block.vertex_group else None
    if group is not None:
        held = [[g.weight for g in v.groups if g.group == group.index] for v in obj.data.vertices]
        offsets *= np.array([sum(weights) for weights in held], np.float32)[:, None]
    return offsets


def _animated_paths(key: Any) -> set[str]:
    """Return the data paths that actions, NLA strips and drivers of the shape keys move."""
    data = key.animation_data
    if data is None:
        return set()
    strips = [strip.action for track in data.nla_tracks for strip in track.strips]
    curves = [curve for action in (data.action, *strips) for curve in scene_curves(action)]
    return {curve.data_path for curve in (*data.drivers, *curves)}


def write_face(obj: Any, path: str | Path, moving: Collection[str] = ()) -> Path:
    """Write `worn_arrays` as the .npz that the worker reads."""
    vertices, triangles = worn_arrays(obj, moving)
    np.savez(Path(path), vertices=vertices, triangles=triangles)
    return Path(path)


def millimetres(obj: Any, scene: Any = None) -> float:
    """Return how many millimetres of a life-size head one unit of the mesh is.

    A head is a head: its size tells the unit it was modelled in. Sizes that fit no unit people
    model in are measured against the usual head instead.
    """
    vertices, _triangles = face_arrays(obj)
    diagonal = float(np.linalg.norm(np.ptp(vertices, axis=0))) if len(vertices) else 0.0
    if diagonal <= 0:
        return 1000.0
    guess = 1000.0 * _LIFE_SIZE / diagonal
    unit = min(_UNITS, key=lambda size: abs(np.log(size / guess)))
    return unit if abs(np.log(unit / guess)) < np.log(1.45) else guess


# -- importing --------------------------------------------------------------------------------


def import_flame(path: str | Path, *, name: str = "", collection: Any = None) -> Any:
    """Add the head in a .ply, .obj, .pkl or .npz file to the scene, upright; return the object.

    A templates.pkl holds heads without faces: they come from a head file beside it, or from a
    FLAME head in this scene. `name` picks one of several heads. Raises HeadError.
    """
    path = Path(path)
    found = flame_files.read(path)
    if name and name not in found.heads:
        raise HeadError(f"{path.name} holds no {name}.", f"It holds {', '.join(found.heads)}.")
    chosen = name or next(iter(found.heads))
    vertices = found.heads[chosen]
    triangles = found.triangles
    if triangles is None:
        triangles = _borrowed_triangles(path, len(vertices))
    if triangles.size and (triangles.min() < 0 or triangles.max() >= len(vertices)):
        raise HeadError(f"{path.name} is damaged: a face asks for a vertex it does not have.")
    mesh = bpy.data.meshes.new(chosen)
    mesh.from_pydata(vertices.tolist(), [], triangles.tolist())
    mesh.polygons.foreach_set("use_smooth", np.ones(len(mesh.polygons), bool))
    obj = bpy.data.objects.new(chosen, mesh)
    if int(np.ptp(vertices, axis=0).argmax()) == 1:  # FLAME's y points up, Blender's z does
        obj.rotation_euler = (pi / 2, 0.0, 0.0)
    (collection or bpy.context.collection).objects.link(obj)
    return obj


def _borrowed_triangles(path: Path, count: int) -> NDArray[np.int32]:
    """Return the faces for a file of bare vertices. Raises HeadError."""
    for other in sorted(path.parent.iterdir()):
        if other != path and other.suffix.lower() in flame_files.SUFFIXES:
            try:
                found = flame_files.read(other)
            except HeadError:
                continue
            sizes = {len(vertices) for vertices in found.heads.values()}
            if found.triangles is not None and count in sizes:
                return found.triangles
    for obj in bpy.data.objects:
        if (
            obj.type == "MESH"
            and len(obj.data.vertices) == count
            and (edge_digest(obj.data) == FLAME_DIGEST)
        ):
            return face_arrays(obj)[1]
    raise HeadError(
        f"{path.name} holds vertices without faces.",
        "Put FLAME_sample.ply (or any FLAME head file) beside it, or import that first.",
    )
