# SPDX-License-Identifier: GPL-3.0-or-later
"""Animated head → glTF, FBX, USD, Alembic, CSV, JSON, with settings that keep shape keys moving.

Blender's own defaults lose them (FBX), double the file (morph normals in glTF) or take ten times
as long (sampling). Every file is looked at again before the report says that it is good.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from .. import scenes
from ..animation import channels
from ..character import detect
from ..errors import ExportError
from ..sound.clip import AudioClip, write_beside
from ..sound.strips import scene_fps
from . import stand_ins, tables
from .arkit import only as from_arkit
from .check import check_export
from .safe_write import companions, written_whole
from .stand_ins import Baked

__all__ = ["FORMATS", "ExportReport", "check_export", "export"]

FORMATS = ("glb", "gltf", "fbx", "usd", "abc", "csv", "json")
_ALSO = {"usdc": "usd", "usda": "usd"}
_TELL = "If nothing helps, tell the developers; another format may do."


@dataclass(frozen=True)
class ExportReport:
    """What was written and what a second look at the file found."""

    path: Path
    files: tuple[Path, ...]
    """Everything written, sound included."""
    size: int
    """Bytes of all files."""
    shapes: int
    """Shape keys that move (0 in mesh caches, which move vertices)."""
    frames: int
    seconds: float
    """Time it took."""
    remarks: tuple[str, ...] = ()
    bones: int = 0
    """Bones that our curves turn and move."""

    def sentence(self) -> str:
        """Return "Wrote head.glb (1.2 MB): 48 moving shape keys over 300 frames"."""
        counts = ((self.shapes, "moving shape key"), (self.bones, "moving bone"))
        parts = [f"{count} {word}{'s' * (count > 1)}" for count, word in counts if count]
        what = " and ".join(parts) or "every vertex"
        return (
            f"Wrote {self.path.name} ({self.size / 1e6:.1f} MB): {what} over {self.frames} frames"
        )


def _switched(obj: Any) -> bool:
    """Return whether a mouth is drawn and chosen by something that only Blender knows."""
    mapping = detect.read_mapping(obj)
    rows = mapping.drawn_rows if mapping is not None else ()
    return any(place.kind != "key" for row in rows for place in row.places)


def export(
    objects: list[Any],
    path: str | Path,
    *,
    what: str = "",
    with_audio: AudioClip | Path | None = None,
    nonnegative: bool = False,
    arkit: bool = False,
    scene: Any = None,
) -> ExportReport:
    """Write animated heads with what hangs on them; the scene is left exactly as it was.

    what: one of FORMATS; "" takes it from the path's suffix.
    with_audio: a sound to put beside the file, cut so that both begin together.
    nonnegative: split shape keys that go below zero in two, for engines that clamp weights.
    arkit: write ARKit's 52 shapes alone; the report says how far that is from what Blender shows.
    Raises ExportError, and then no file of that name has been touched.
    """
    began, path = time.perf_counter(), Path(path)
    kind = kind_of(path, what)
    scene = bpy.context.scene if scene is None else scene
    switched = next((obj for obj in objects if _switched(obj)), None)
    if switched is not None:
        raise ExportError(
            f"The mouth of {switched.name} is a switch between drawings, which no exported file "
            "holds.",
            "Render it from Blender.",
        )
    members, left_out = stand_ins.family(objects)
    if not any(member.type == "MESH" for member in members):
        raise ExportError("There is no mesh to export.", "Pick a head.")
    _require_folder(path)
    first, last = stand_ins.frame_range(members, scene)
    baked = stand_ins.bake(members, scene, first, last)
    moving = sum(int(one.moving.sum()) for one in baked)
    turned = {name for rig in members if rig.type == "ARMATURE" for name in channels.bones_of(rig)}
    if not moving and not turned:
        raise ExportError(
            f"No shape key of {objects[0].name} moves between frames {first} and {last}.",
            "Generate a line first; if there is one, generating it again says what holds it.",
        )
    said: list[str] = []
    if arkit:
        baked, usual, most = from_arkit(baked, members)
        said.append(
            f"ARKit's shapes alone are {usual:.1f} mm from what is seen here at 95 of 100 frames, "
            f"{most:.1f} mm at most."
        )
    mirrored: dict[str, list[str]] = {}
    if nonnegative:
        pairs = [stand_ins.split_negative(one) for one in baked]
        baked = [one for one, _names in pairs]
        mirrored = {one.object_name: names for one, names in pairs}
    with scenes.object_mode(), written_whole(path, kind) as part:
        if kind in ("csv", "json"):
            (tables.write_csv if kind == "csv" else tables.write_json)(
                part, baked, first, scene_fps(scene)
            )
        else:
            _write_scene(part, kind, members, baked, mirrored, scene, (first, last))
        found = check_export(part)
        _require_whole(path, kind, found, members, baked)
    files = [path, *companions(path, kind)]
    remarks = [*said, *_remarks(kind, found, members)]
    if left_out:
        remarks.append(f"{', '.join(left_out)} is hidden here and in renders, so it was left out.")
    if with_audio is not None:
        sound, remark = write_beside(path, with_audio, first / scene_fps(scene))
        files, remarks = [*files, *sound], [*remarks, *remark]
    return ExportReport(
        path,
        tuple(files),
        sum(file.stat().st_size for file in files),
        found["animated"],
        (found["frames"] if found["animated"] or not turned else 0) or last - first + 1,
        time.perf_counter() - began,
        tuple(remarks),
        len(turned) if kind in ("glb", "gltf", "fbx", "usd") else 0,
    )


def kind_of(path: Path, what: str = "") -> str:
    """Return which format is wanted, `what` or the path's suffix. Raises ExportError."""
    kind = (what or path.suffix.lstrip(".")).lower()
    kind = _ALSO.get(kind, kind)
    if kind not in FORMATS:
        raise ExportError(
            f"{path.name} names no format this extension writes.",
            f"End it in one of {', '.join('.' + one for one in FORMATS)}.",
        )
    options = bpy.app.build_options
    if (kind == "usd" and not options.usd) or (kind == "abc" and not options.alembic):  # type: ignore[attr-defined]
        raise ExportError(f"This Blender was built without {kind.upper()}.", "Choose glTF or FBX.")
    return kind


def _require_whole(
    path: Path, kind: str, found: dict[str, Any], members: list[Any], baked: list[Baked]
) -> None:
    """Refuse a file that lacks a mesh or its motion, before it takes its name. Raises ExportError.

    A mesh without a face is in no file.
    """
    if kind in ("csv", "json"):
        return
    if found["meshes"] is None:
        if found["complete"] and not found["animated"]:
            raise ExportError(f"{path.name} would have no animation.", _TELL)
        return
    there = {_plain(name): count for name, count in found["meshes"].items()} | found["meshes"]
    expected = [one.name for one in members if one.type == "MESH" and len(one.data.polygons)]
    missing = [name for name in expected if not {name, _plain(name)} & there.keys()]
    if missing:
        raise ExportError(
            f"Blender's exporter leaves {', '.join(missing)} out of {path.name}; nothing was "
            "written.",
            f"Look whether something hides it (an animated or driven visibility). {_TELL}",
        )
    for one in baked:
        wanted = int(one.moving.sum())
        if kind == "abc" and wanted:  # counts different shapes, not shape keys
            wanted = min(4, len(np.unique(one.values, axis=0)))
        name = one.object_name
        if name in expected and there.get(name, there.get(_plain(name), 0)) < wanted:
            raise ExportError(
                f"{name} would not move as it should in {path.name}; nothing was written.",
                _TELL,
            )


def _plain(name: str) -> str:
    """Return a name as formats compare it that know no blanks, dots or accents."""
    return re.sub(r"[^0-9A-Za-z]", "_", name)


def _require_folder(path: Path) -> None:
    """Find out that nothing can be written there before doing the work. Raises ExportError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ExportError(
            f"Nothing can be written to {path.parent} ({reason}).", "Choose another folder."
        ) from error


# -- through Blender's exporters --------------------------------------------------------------


def _write_scene(
    path: Path, kind: str, members: list[Any], baked: list[Baked],
    mirrored: dict[str, list[str]], scene: Any, frames: tuple[int, int],
) -> None:  # fmt: skip
    """Export stand-ins of the heads over the frames (first, last)."""
    simple = not any(_moves_itself(member) for member in members)
    start = 0 if kind in ("glb", "gltf") and simple else frames[0]
    end = start + frames[1] - frames[0]
    with (
        stand_ins.stand_ins(members, baked, start, mirrored, posed=kind in ("abc", "usd")),
        _scene_range(scene, start, end),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # the exporters' own, about Python's and numpy's future
        if kind in ("glb", "gltf"):
            _gltf(path, kind, simple)
        elif kind == "fbx":
            _fbx(path)
        elif kind == "usd":
            _usd(path)
        else:
            _alembic(path, start, end)


def _moves_itself(obj: Any) -> bool:
    """Return whether an object moves other than by its shape keys."""
    data = obj.animation_data
    moved = data is not None and (data.action or len(data.nla_tracks) or len(data.drivers))
    return bool(moved or len(obj.constraints) or obj.type == "ARMATURE")


@contextlib.contextmanager
def _scene_range(scene: Any, first: int, last: int) -> Iterator[None]:
    """Set the scene's frames for the moment: FBX, USD and Alembic only bake those."""
    kept = (scene.frame_start, scene.frame_end, scene.use_preview_range, scene.frame_current,
            scene.frame_subframe)  # fmt: skip
    scene.use_preview_range = False
    scene.frame_start, scene.frame_end = first, last
    scene.frame_start = first  # Blender pushes one end with the other: say it twice
    try:
        yield
    finally:
        scene.frame_start, scene.frame_end = kept[0], kept[1]
        scene.frame_start, scene.use_preview_range = kept[0], kept[2]
        scene.frame_set(kept[3], subframe=kept[4])


def _gltf(path: Path, kind: str, simple: bool) -> None:
    """Write glTF. Curves are taken as they are, unless something besides shape keys moves.

    Sampling (Blender's default) would evaluate the whole scene on every frame: 5–8 s a minute
    against 0.5–0.9 s. Morph normals would double the file.
    """
    motion: dict[str, Any] = {"export_animation_mode": "ACTIVE_ACTIONS"}
    if simple:
        motion["export_force_sampling"] = False
    else:
        motion = {"export_animation_mode": "SCENE", "export_anim_scene_split_object": False}
    bpy.ops.export_scene.gltf(
        filepath=str(path),
        export_format="GLB" if kind == "glb" else "GLTF_SEPARATE",
        use_selection=True,
        export_apply=False,  # would drop the shape keys
        export_morph=True,
        export_morph_normal=False,
        export_morph_animation=True,
        export_animations=True,
        export_optimize_animation_size=False,
        export_anim_slide_to_zero=True,  # begins with the sound beside it
        **_known(bpy.ops.export_scene.gltf, motion),
    )


def _fbx(path: Path) -> None:
    """Write FBX. Without both `bake_anim` switches off, no shape key moves in the file."""
    bpy.ops.export_scene.fbx(
        filepath=str(path),
        use_selection=True,
        object_types={"MESH", "ARMATURE", "EMPTY"},
        use_mesh_modifiers=False,  # would drop the shape keys
        bake_anim=True,
        bake_anim_use_nla_strips=False,
        bake_anim_use_all_actions=False,
        bake_anim_simplify_factor=0.0,
        add_leaf_bones=False,
    )


def _usd(path: Path) -> None:
    options = {
        "selected_objects_only": True,
        "export_animation": True,
        "export_shapekeys": True,
        "export_armatures": True,
    }
    bpy.ops.wm.usd_export(filepath=str(path), **_known(bpy.ops.wm.usd_export, options))


def _alembic(path: Path, first: int, last: int) -> None:
    options = {
        "start": first,
        "end": last,
        "selected": True,
        "as_background_job": False,
        "normals": False,  # half of the file, and any program finds them again
        "evaluation_mode": "RENDER",
    }
    bpy.ops.wm.alembic_export(filepath=str(path), **_known(bpy.ops.wm.alembic_export, options))


def _known(operator: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Return the options that this Blender's exporter has."""
    names = operator.get_rna_type().properties.keys()
    return {name: value for name, value in options.items() if name in names}


# -- beside the file --------------------------------------------------------------------------


def _remarks(kind: str, found: dict[str, Any], members: list[Any]) -> Iterator[str]:
    """Yield what the animator should know about the file."""
    if found["lowest"] < -5e-3 and kind in ("glb", "gltf", "fbx", "usd"):
        yield (
            f"Weights go down to {found['lowest']:.2f}; programs that clamp them to 0–1 need "
            "Never Negative, an option of the export."
        )
    shaping = {m.name for o in members for m in o.modifiers if m.type in ("SUBSURF", "MULTIRES")}
    if shaping and kind in ("glb", "gltf", "fbx"):
        yield f"{', '.join(sorted(shaping))} is not in the file: it cannot hold both."
    if not found["complete"]:
        yield "This format was not looked into again."
