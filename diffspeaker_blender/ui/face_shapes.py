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
    """A verb on the picked face; what stops it is said in words."""

    bl_options = {"REGISTER", "UNDO"}
    head: StringProperty(name="Mesh", description="Name of the face's mesh", options={"SKIP_SAVE"})

    def do(self, target: Any) -> None:
        """Do it. Raises LipSyncError."""
        raise NotImplementedError

    def attempt(self, context: bpy.types.Context, verb: Callable[[Any], None]) -> set[str]:
        """Do something with the face that is meant, or refuse."""
        try:
            verb(_target(context, self.head))
        except LipSyncError as error:
            return refuse(self, error)  # type: ignore[arg-type]
        return {"FINISHED"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        return self.attempt(context, self.do)


class _Beside(_Step):
    """A verb whose geometry runs beside Blender and whose result an operator of its own applies."""

    def begin(self, target: Any) -> None:
        """Start it beside Blender. Raises LipSyncError."""
        raise NotImplementedError

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        return self.attempt(context, self.begin)

    def ask(self, target: Any, points: Any, then: str) -> None:
        """Ask the worker, and call the operator `then` with the folder of the answer."""
        folder = _asked(target, points)
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

    def answer(self, target: Any, points: Any, use: Callable[[Any, Path], Any]) -> None:
        """Ask the worker, wait, and use the answer."""
        folder = _asked(target, points)
        try:
            _work(folder)(lambda *_told: None, lambda: False)
            use(target, folder / "out.npz")
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _asked(target: Any, points: Any) -> Path:
    """Write what the worker is asked into a new folder and return that."""
    face_shapes.check(target)
    folder = Path(tempfile.mkdtemp(prefix="face-", dir=machine.work_folder()))
    face_shapes.write(target, folder / "in.npz", points)
    return folder


class DIFFSPEAKER_OT_find_face_points(_Beside, bpy.types.Operator):
    """Set twelve points on the face by its shape; move those that are not where they should be"""

    bl_idname = "diffspeaker.find_face_points"
    bl_label = "Find Points"

    def do(self, target: Any) -> None:
        self.answer(target, None, _place)

    def begin(self, target: Any) -> None:
        self.ask(target, None, "place_face_points")


def _place(target: Any, answer: Path) -> None:
    """Set the points that were found, and say how sure they are."""
    doubtful = face_shapes.place(target, answer)
    if doubtful:
        status.say(
            f"{doubtful} of the 12 points are only guessed (marked ?).",
            "Move them onto the face, then press Make Face Shapes.",
            "WARNING",
        )
    else:
        status.say("12 points are set.", "Look at each, then press Make Face Shapes.")


class _Applied(_Step):
    """An internal verb that applies an answer, as one undo step."""

    bl_options = {"INTERNAL", "UNDO"}
    folder: StringProperty(options={"HIDDEN", "SKIP_SAVE"})

    @property
    def found(self) -> Path:
        """The worker's answer."""
        return Path(self.folder) / "out.npz"


class DIFFSPEAKER_OT_place_face_points(_Applied, bpy.types.Operator):
    """Set the points that were found"""

    bl_idname = "diffspeaker.place_face_points"
    bl_label = "Find Points"

    def do(self, target: Any) -> None:
        _place(target, self.found)


class DIFFSPEAKER_OT_snap_face_points(_Step, bpy.types.Operator):
    """Put the points onto the surface of the face"""

    bl_idname = "diffspeaker.snap_face_points"
    bl_label = "Snap"

    mirror: BoolProperty(
        name="Mirror", description="Set the points of the right side by those of the left"
    )

    def do(self, target: Any) -> None:
        face_shapes.snap(target, mirror=self.mirror)


class DIFFSPEAKER_OT_make_face_shapes(_Beside, bpy.types.Operator):
    """Give a character without face shapes those of the demo head, laid onto it by twelve points"""

    bl_idname = "diffspeaker.make_face_shapes"
    bl_label = "Make Face Shapes"

    points: StringProperty(
        name="Points",
        description="Places of points in world space, as JSON; the others are found",
        options={"SKIP_SAVE"},
    )

    def do(self, target: Any) -> None:
        if not face_shapes.markers(target):
            self.answer(target, None, face_shapes.place)
        face_shapes.move_points(target, _given(self.points))
        self.answer(target, face_shapes.points_of(target), _finish)

    def begin(self, target: Any) -> None:
        self.ask(target, face_shapes.points_of(target), "add_face_shapes")


def _given(text: str) -> dict[str, Any]:
    """Return the points that a script gives. Raises HeadError."""
    try:
        found = json.loads(text or "{}")
    except ValueError as error:
        raise HeadError(f"The points are no JSON: {error}.") from error
    if not isinstance(found, dict):
        raise HeadError("The points are names with places.", 'For example {"chin": [0, -0.1, 1.4]}')
    return found


class DIFFSPEAKER_OT_add_face_shapes(_Applied, bpy.types.Operator):
    """Add the shapes that were made"""

    bl_idname = "diffspeaker.add_face_shapes"
    bl_label = "Make Face Shapes"

    def do(self, target: Any) -> None:
        _finish(target, self.found)


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

    def do(self, target: Any) -> None:
        gone = face_shapes.remove(target)
        face_shapes.remove_markers(target)
        status.say(f"{gone} shape keys were removed")


class DIFFSPEAKER_OT_keep_face_shapes(_Step, bpy.types.Operator):
    """Keep the shapes: take the points away and put the face at rest"""

    bl_idname = "diffspeaker.keep_face_shapes"
    bl_label = "Keep"

    def do(self, target: Any) -> None:
        face_shapes.pose(target, "")
        face_shapes.remove_markers(target)


class DIFFSPEAKER_OT_pose_face(_Step, bpy.types.Operator):
    """Show this pose with the shapes that were made; pressed again, the face is at rest"""

    bl_idname = "diffspeaker.pose_face"
    bl_label = "Test Pose"

    pose: StringProperty(name="Pose", options={"SKIP_SAVE"})

    def do(self, target: Any) -> None:
        if self.pose not in ("", *face_shapes.POSES):
            known = ", ".join(face_shapes.POSES)
            raise HeadError(f"There is no pose “{self.pose}”.", f"There are {known}.")
        face_shapes.pose(target, self.pose)


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
