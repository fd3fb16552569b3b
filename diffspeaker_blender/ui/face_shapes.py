# SPDX-License-Identifier: GPL-3.0-or-later
"""Make Face Shapes: find the points, make the keys, look at them, keep them or not.

Called by a script or in background `make_face_shapes` does all of it at once and raises; pressed,
each step is a button, and what takes time runs beside Blender.
"""

# mypy: disable-error-code="valid-type,no-any-return,misc"
from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bpy
from bpy.props import BoolProperty, StringProperty

from ..character import face_shapes, fit
from ..errors import HeadError, LipSyncError
from ..jobs import background, status
from ..jobs.status import refuse
from ..settings import machine
from ..worker.client import package_root, worker_command
from ..worker.process import carry


def _target(context: bpy.types.Context, name: str) -> Any:
    """Return the mesh that is meant. Raises HeadError."""
    found = bpy.data.objects.get(name) if name else context.view_layer.objects.active
    if found is not None and found.get(face_shapes.OWNER):
        found = bpy.data.objects.get(found[face_shapes.OWNER])
    if found is None or found.type != "MESH":
        raise HeadError("No mesh is picked.", "Pick the mesh of the character's face.")
    return found


def _work(folder: Path) -> background.Work:
    """Return the work that answers `folder/in.npz` with `out.npz`, in a process of its own."""
    python = machine.python() or Path(sys.executable)
    files = [str(folder / name) for name in ("in.npz", "out.npz")]
    command = worker_command(python, package_root(), "face-shapes", *files)

    def work(told: background.Report, cancelled: Callable[[], bool]) -> str:
        def hear(line: str) -> None:
            if line.startswith("{"):
                told("laying our head onto this one", float(json.loads(line)["fraction"]), None)

        answer = carry(command, cancelled, hear)
        if answer.code:
            raise HeadError(answer.last_words)
        return ""

    return work


class _Step:
    """A verb whose geometry runs beside Blender and whose result an operator of its own applies."""

    head: StringProperty(name="Mesh", description="Name of the face's mesh", options={"SKIP_SAVE"})

    def ask(self, target: Any, points: Any, then: str) -> None:
        """Ask the worker, and call the operator `then` with the folder of the answer."""
        folder = Path(tempfile.mkdtemp(prefix="face-", dir=machine.work_folder()))
        face_shapes.write(target, folder / "in.npz", points)
        name = target.name

        def apply() -> None:
            try:
                verbs = bpy.ops.diffspeaker  # type: ignore[attr-defined]
                with bpy.context.temp_override(window=status.window()):
                    # One undo step of its own.
                    getattr(verbs, then)("EXEC_DEFAULT", True, head=name, folder=str(folder))
            except RuntimeError as error:
                status.say(str(error).removeprefix("Error: ").strip(), "", "ERROR")
            finally:
                shutil.rmtree(folder, ignore_errors=True)

        background.start("Making face shapes", _work(folder), apply)

    def answer(self, target: Any, points: Any) -> Path:
        """Ask the worker and wait; return the folder of the answer."""
        folder = Path(tempfile.mkdtemp(prefix="face-", dir=machine.work_folder()))
        face_shapes.write(target, folder / "in.npz", points)
        _work(folder)(lambda *_told: None, lambda: False)
        return folder


class DIFFSPEAKER_OT_find_face_points(_Step, bpy.types.Operator):
    """Set twelve points on the face by its shape; move those that are not where they should be"""

    bl_idname = "diffspeaker.find_face_points"
    bl_label = "Find Points"
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        try:
            target = _target(context, self.head)
            face_shapes.check(target)
            folder = self.answer(target, None)
            try:
                _say_points(face_shapes.place(target, folder / "out.npz"))
            finally:
                shutil.rmtree(folder, ignore_errors=True)
        except LipSyncError as error:
            return refuse(self, error)
        return {"FINISHED"}

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        try:
            target = _target(context, self.head)
            face_shapes.check(target)
            self.ask(target, None, "place_face_points")
        except LipSyncError as error:
            return refuse(self, error)
        return {"FINISHED"}


def _say_points(doubtful: int) -> None:
    if doubtful:
        status.say(
            f"{doubtful} of the 12 points are only guessed (marked ?).",
            "Move them onto the face, then press Make Face Shapes.",
            "WARNING",
        )
    else:
        status.say("12 points are set.", "Look at each, then press Make Face Shapes.")


class _Applied:
    """An internal verb that applies an answer, as one undo step."""

    bl_options = {"INTERNAL", "UNDO"}
    head: StringProperty(options={"HIDDEN", "SKIP_SAVE"})
    folder: StringProperty(options={"HIDDEN", "SKIP_SAVE"})

    def found(self) -> tuple[Any, Path]:
        """Return the mesh and the answer. Raises HeadError."""
        target = bpy.data.objects.get(self.head)
        if target is None:
            raise HeadError(f"{self.head} is not there any more.")
        return target, Path(self.folder) / "out.npz"


class DIFFSPEAKER_OT_place_face_points(_Applied, bpy.types.Operator):
    """Set the points that were found"""

    bl_idname = "diffspeaker.place_face_points"
    bl_label = "Find Points"

    def execute(self, _context: bpy.types.Context) -> set[str]:
        try:
            _say_points(face_shapes.place(*self.found()))
        except LipSyncError as error:
            return refuse(self, error)
        return {"FINISHED"}


class DIFFSPEAKER_OT_snap_face_points(_Step, bpy.types.Operator):
    """Put the points onto the surface of the face"""

    bl_idname = "diffspeaker.snap_face_points"
    bl_label = "Snap"
    bl_options = {"REGISTER", "UNDO"}

    mirror: BoolProperty(
        name="Mirror", description="Set the points of the right side by those of the left"
    )

    def execute(self, context: bpy.types.Context) -> set[str]:
        try:
            face_shapes.snap(_target(context, self.head), mirror=self.mirror)
        except LipSyncError as error:
            return refuse(self, error)
        return {"FINISHED"}


class DIFFSPEAKER_OT_make_face_shapes(_Step, bpy.types.Operator):
    """Give a character without face shapes those of the demo head, laid onto it by twelve points"""

    bl_idname = "diffspeaker.make_face_shapes"
    bl_label = "Make Face Shapes"
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        try:
            target = _target(context, self.head)
            face_shapes.check(target)
            if not face_shapes.markers(target):
                folder = self.answer(target, None)
                face_shapes.place(target, folder / "out.npz")
                shutil.rmtree(folder, ignore_errors=True)
            folder = self.answer(target, face_shapes.points_of(target))
            try:
                _finish(target, folder / "out.npz")
            finally:
                shutil.rmtree(folder, ignore_errors=True)
        except LipSyncError as error:
            return refuse(self, error)
        return {"FINISHED"}

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        try:
            target = _target(context, self.head)
            face_shapes.check(target)
            self.ask(target, face_shapes.points_of(target), "add_face_shapes")
        except LipSyncError as error:
            return refuse(self, error)
        return {"FINISHED"}


class DIFFSPEAKER_OT_add_face_shapes(_Applied, bpy.types.Operator):
    """Add the shapes that were made"""

    bl_idname = "diffspeaker.add_face_shapes"
    bl_label = "Make Face Shapes"

    def execute(self, _context: bpy.types.Context) -> set[str]:
        try:
            _finish(*self.found())
        except LipSyncError as error:
            return refuse(self, error)
        return {"FINISHED"}


def _finish(target: Any, answer: Path) -> None:
    """Add the keys, map the character, and say what was measured."""
    report = face_shapes.add(target, answer)
    for marker in face_shapes.markers(target).values():
        marker.hide_set(True)
    try:
        fit.fit(target)
    except LipSyncError as error:  # the keys stay to be looked at, and the probe has its say
        status.say("Shapes were made, but " + error.message, error.hint, "WARNING")
        return
    sentence, level = _verdict(report)
    status.say(sentence, "Try the test poses; remove the shapes if they are not good.", level)


def _verdict(report: dict[str, Any]) -> tuple[str, str]:
    """Return what was made in a sentence, and WARNING where something was measured wanting."""
    found, counts = report["measures"], report["counts"]
    said, bad = [f"the mouth opens {found.get('opening', 0.0):.0f} mm"], False
    apart = found.get("sealed", 0.0) - max(found.get("rest", 0.0), 0.0)
    bad |= apart > 1.0 or found.get("opening", 0.0) < 12
    said.append("lips shut" if apart <= 1.0 else f"lips stay {apart:.1f} mm apart")
    lids = max(found.get("shut left", 0.0), found.get("shut right", 0.0))
    said.append("lids shut" if lids <= 1.2 else f"lids stay {lids:.1f} mm apart")
    bad |= lids > 1.2
    said += [f"no {what}" for what in ("eyes", "teeth", "tongue") if not counts.get(what)]
    return "Face shapes were made (experimental): " + ", ".join(said), "WARNING" if bad else "INFO"


class DIFFSPEAKER_OT_remove_face_shapes(_Step, bpy.types.Operator):
    """Take the shapes and points that were made away from the character again"""

    bl_idname = "diffspeaker.remove_face_shapes"
    bl_label = "Remove Face Shapes"
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        try:
            target = _target(context, self.head)
            gone = face_shapes.remove(target)
            face_shapes.remove_markers(target)
        except LipSyncError as error:
            return refuse(self, error)
        status.say(f"{gone} shape keys were removed")
        return {"FINISHED"}


class DIFFSPEAKER_OT_keep_face_shapes(_Step, bpy.types.Operator):
    """Keep the shapes: take the points away and put the face at rest"""

    bl_idname = "diffspeaker.keep_face_shapes"
    bl_label = "Keep"
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        try:
            target = _target(context, self.head)
            face_shapes.pose(target, "")
            face_shapes.remove_markers(target)
        except LipSyncError as error:
            return refuse(self, error)
        return {"FINISHED"}


class DIFFSPEAKER_OT_pose_face(_Step, bpy.types.Operator):
    """Show this pose with the shapes that were made; pressed again, the face is at rest"""

    bl_idname = "diffspeaker.pose_face"
    bl_label = "Test Pose"
    bl_options = {"REGISTER", "UNDO"}

    pose: StringProperty(name="Pose", options={"SKIP_SAVE"})

    def execute(self, context: bpy.types.Context) -> set[str]:
        try:
            face_shapes.pose(_target(context, self.head), self.pose)
        except LipSyncError as error:
            return refuse(self, error)
        return {"FINISHED"}


class DIFFSPEAKER_PT_face_shapes(bpy.types.Panel):
    """The steps, for a mesh that has no face shapes yet"""

    bl_label = "Make Face Shapes"
    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "Lip-Sync"
    bl_parent_id = "DIFFSPEAKER_PT_main"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        layout: Any = self.layout
        try:
            target = _target(context, "")
        except HeadError as error:
            layout.label(text=error.hint, icon="INFO")
            return
        layout.label(text=f"Experimental · {target.name}", icon="EXPERIMENTAL")
        if face_shapes.made(target):
            _draw_made(layout)
            return
        layout.operator_context = "INVOKE_DEFAULT"
        layout.operator("diffspeaker.find_face_points", icon="VIEWZOOM")
        if not face_shapes.markers(target):
            return
        row = layout.row(align=True)
        row.operator("diffspeaker.snap_face_points").mirror = False
        row.operator("diffspeaker.snap_face_points", text="Mirror to Right").mirror = True
        active = context.view_layer.objects.active
        if active is not None and active.get(face_shapes.POINT):
            layout.label(text=face_shapes.LABELS.get(active[face_shapes.POINT], ""), icon="INFO")
        layout.operator("diffspeaker.make_face_shapes", icon="SHAPEKEY_DATA")


def _draw_made(layout: Any) -> None:
    """Offer the test poses and the decision."""
    grid = layout.grid_flow(columns=4, align=True)
    for name in face_shapes.POSES:
        grid.operator("diffspeaker.pose_face", text=name).pose = name
    row = layout.row(align=True)
    row.operator("diffspeaker.keep_face_shapes", icon="CHECKMARK")
    row.operator("diffspeaker.remove_face_shapes", text="Remove", icon="X")


register, unregister = bpy.utils.register_classes_factory(
    (
        DIFFSPEAKER_OT_find_face_points,
        DIFFSPEAKER_OT_place_face_points,
        DIFFSPEAKER_OT_snap_face_points,
        DIFFSPEAKER_OT_make_face_shapes,
        DIFFSPEAKER_OT_add_face_shapes,
        DIFFSPEAKER_OT_remove_face_shapes,
        DIFFSPEAKER_OT_keep_face_shapes,
        DIFFSPEAKER_OT_pose_face,
        DIFFSPEAKER_PT_face_shapes,
    )
)
