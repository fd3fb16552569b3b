# SPDX-License-Identifier: GPL-3.0-or-later
"""The verbs: generate, cancel, export, and bring a head.

`generate` called by a script or in background blocks and raises; pressed, it starts a background
job and listens for Esc.
"""

# mypy: disable-error-code="valid-type,no-any-return"
from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bpy
from bpy.props import BoolProperty, FloatProperty, StringProperty
from bpy_extras.io_utils import ExportHelper, ImportHelper

from ..animation import clips
from ..character import demo_head, head
from ..errors import AudioError, LipSyncError
from ..export import export
from ..jobs import live, picked, plan, queue, status
from ..jobs.status import refuse
from ..paths import absolute
from ..settings import choices, machine
from ..settings.choices import Choices
from ..sound import sources, strips


class DIFFSPEAKER_OT_generate(Choices, bpy.types.Operator):
    """Make the head speak the selected sound; the scene's choices hold unless given here"""

    bl_idname = "diffspeaker.generate"
    bl_label = "Generate Lip-Sync"
    bl_options = {"REGISTER"}

    head: StringProperty(
        name="Head",
        description="Name of the head; empty takes the picked one, or the active object",
        options={"SKIP_SAVE"},
    )
    character: StringProperty(
        name="Character",
        description="Name of the character's mesh, armature or collection; measured when it is new",
        options={"SKIP_SAVE"},
    )
    audio: StringProperty(
        name="Sound File",
        description="File to speak; empty takes what the scene says, such as the selected strips",
        subtype="FILE_PATH",
        options={"SKIP_SAVE", *machine.PATH},
    )
    start_frame: FloatProperty(
        name="Start Frame",
        description="Frame at which the sound file begins",
        default=1.0,
        options={"SKIP_SAVE"},
    )

    _listening = False

    def execute(self, context: bpy.types.Context) -> set[str]:
        try:
            placed = queue.run(self._tasks(context))
        except LipSyncError as error:
            return refuse(self, error)
        for one in placed:
            self.report({"INFO"}, one.sentence)
        return {"FINISHED"}

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        try:
            machine.require_runtime(plan.model_of(context))
            new = plan.unfitted(context, self.character or self.head)
            if new is not None:
                picked.soon(new, self._once_more())
                return {"FINISHED"}
            queue.submit(self._tasks(context))
        except LipSyncError as error:
            return refuse(self, error)
        if DIFFSPEAKER_OT_generate._listening:
            return {"FINISHED"}
        DIFFSPEAKER_OT_generate._listening = True
        context.window_manager.modal_handler_add(self)
        return {"RUNNING_MODAL"}

    def _once_more(self) -> Callable[[], None]:
        """Return what asks for just this again, when the character is known."""
        asked = {
            name: getattr(self, name)
            for name in self.properties.keys()  # noqa: SIM118 Blender's own
            if self.properties.is_property_set(name)
        }

        def ask() -> None:
            with contextlib.suppress(RuntimeError):  # refused, and said so
                bpy.ops.diffspeaker.generate("INVOKE_DEFAULT", **asked)  # type: ignore[attr-defined]

        return ask

    def modal(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        """Let every event through; Esc gives the jobs up, unless it is to stop the playback."""
        if not queue.busy():
            DIFFSPEAKER_OT_generate._listening = False
            return {"FINISHED", "PASS_THROUGH"}
        playing = context.screen is not None and context.screen.is_animation_playing
        if event.type == "ESC" and event.value == "PRESS" and not playing:
            queue.cancel()
            DIFFSPEAKER_OT_generate._listening = False
            return {"CANCELLED"}
        return {"PASS_THROUGH"}

    def cancel(self, _context: bpy.types.Context) -> None:
        """Stop listening: another file is being loaded, or Blender quits."""
        DIFFSPEAKER_OT_generate._listening = False

    def _tasks(self, context: bpy.types.Context) -> list[Any]:
        machine.require_runtime(plan.model_of(context))
        file = bpy.path.abspath(self.audio) if self.audio else ""
        return plan.tasks(
            context, self, head_name=self.character or self.head, file=file, start=self.start_frame
        )


class DIFFSPEAKER_OT_choose_sound(bpy.types.Operator, ImportHelper):  # type: ignore[misc]
    """Put a sound file in the sequencer, select it, and let the head speak it"""

    bl_idname = "diffspeaker.choose_sound"
    bl_label = "Choose Sound and Generate"
    bl_options = {"REGISTER", "UNDO"}

    filter_sound: BoolProperty(default=True, options={"HIDDEN", "SKIP_SAVE"})
    filter_movie: BoolProperty(default=True, options={"HIDDEN", "SKIP_SAVE"})
    filter_folder: BoolProperty(default=True, options={"HIDDEN", "SKIP_SAVE"})

    def execute(self, context: bpy.types.Context) -> set[str]:
        path, scene = Path(bpy.path.abspath(self.filepath)), sources.sequencer_scene(context)  # type: ignore[attr-defined]
        try:
            if not path.is_file():
                raise AudioError(f"There is no sound file {path}.", "Choose another one.")
            first = scene.sequence_editor is None or not strips.all_strips(scene.sequence_editor)
            added = strips.add_sound(scene, path, scene.frame_start)
        except LipSyncError as error:
            return refuse(self, error)
        for other in strips.all_strips(scene.sequence_editor):
            other.select = other == added
        if first:  # the scene's own range says nothing yet: let all of it be heard
            scene.frame_end = max(scene.frame_end, int(strips.place(added)[1]))
        choices.settings(context).source = "STRIPS"
        try:
            return bpy.ops.diffspeaker.generate("INVOKE_DEFAULT")  # type: ignore[attr-defined]
        except RuntimeError:  # refused, and said so; the sound stays where it was put
            return {"FINISHED"}


class DIFFSPEAKER_OT_cancel(bpy.types.Operator):
    """Stop the lip-sync job and those that wait behind it; nothing is changed"""

    bl_idname = "diffspeaker.cancel"
    bl_label = "Cancel Lip-Sync"

    @classmethod
    def poll(cls, _context: bpy.types.Context) -> bool:
        if queue.busy():
            return True
        cls.poll_message_set("No lip-sync job is running")
        return False

    def execute(self, _context: bpy.types.Context) -> set[str]:
        queue.cancel()
        return {"FINISHED"}


class DIFFSPEAKER_OT_export(bpy.types.Operator, ExportHelper):
    """Write the speaking head to a file, with settings that keep its animation"""

    bl_idname = "diffspeaker.export"
    bl_label = "Export Speaking Head"

    filename_ext = ""
    check_extension = None

    head: StringProperty(
        name="Head",
        description="Name of the head; empty takes the picked one, or the active object",
        options={"SKIP_SAVE"},
    )
    nonnegative: BoolProperty(
        name="Never Negative",
        description="Split keys that go below zero in two, for engines that clamp to 0..1",
        options={"SKIP_SAVE"},
    )

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if plan.chosen_head(context):
            return True
        cls.poll_message_set("Pick a head first")
        return False

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        chosen = plan.find_head(context, self.head)
        folder = Path(bpy.data.filepath).parent if bpy.data.filepath else Path.home()
        suffix = choices.settings(context).export_format.lower()
        self.filepath = str(folder / f"{plan.file_name(chosen.name)}.{suffix}")
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        settings = choices.settings(context)
        try:
            chosen = plan.find_head(context, self.head)
            path = absolute(bpy.path.abspath(self.filepath))
            if not path.suffix:
                path = path.with_suffix("." + settings.export_format.lower())
            sound = plan.sound_of(context, chosen) if settings.export_audio else None
            report = export.export(
                [chosen],
                path,
                with_audio=sound,
                nonnegative=self.nonnegative,
                arkit=settings.export_shapes == "ARKIT",
                scene=sources.sequencer_scene(context),
            )
        except LipSyncError as error:
            return refuse(self, error)
        status.say(report.sentence(), " ".join(report.remarks))
        self.report({"INFO"}, report.sentence())
        return {"FINISHED"}


class DIFFSPEAKER_OT_add_demo_head(bpy.types.Operator):
    """Add a head that can speak at once, with eyes, teeth, materials, camera and light"""

    bl_idname = "diffspeaker.add_demo_head"
    bl_label = "Add Demo Head"
    bl_options = {"REGISTER", "UNDO"}

    stage: BoolProperty(
        name="Camera and Light",
        description="Add a camera and a light, too, where the scene has none",
        default=True,
    )

    def execute(self, context: bpy.types.Context) -> set[str]:
        try:
            added = demo_head.add_demo_head(context, stage=self.stage)
        except LipSyncError as error:
            return refuse(self, error)
        choices.settings(context).head = added
        for other in context.selected_objects:
            other.select_set(False)
        added.select_set(True)
        context.view_layer.objects.active = added
        return {"FINISHED"}

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        done = self.execute(context)
        if "FINISHED" in done:
            _show_selected(context)
        return done


def _show_selected(context: bpy.types.Context) -> None:
    """Bring what is selected into view: a head is small, and a new scene has a cube around it."""
    for area in context.screen.areas:
        free = area.type == "VIEW_3D" and area.spaces.active.region_3d.view_perspective != "CAMERA"
        region = next((one for one in area.regions if one.type == "WINDOW"), None)
        if free and region is not None:
            with context.temp_override(area=area, region=region):
                bpy.ops.view3d.view_selected()


class DIFFSPEAKER_OT_import_flame_head(bpy.types.Operator, ImportHelper):  # type: ignore[misc]
    """Add your own FLAME head from the template's file; no code in it is run"""

    bl_idname = "diffspeaker.import_flame_head"
    bl_label = "Import FLAME Head"
    bl_options = {"REGISTER", "UNDO"}

    filter_glob: StringProperty(default="*.ply;*.obj;*.pkl;*.npz", options={"HIDDEN"})

    def execute(self, context: bpy.types.Context) -> set[str]:
        try:
            added = head.import_flame(absolute(bpy.path.abspath(self.filepath)))  # type: ignore[attr-defined]
        except LipSyncError as error:
            return refuse(self, error)
        choices.settings(context).head = added
        return {"FINISHED"}


class DIFFSPEAKER_OT_remove_result(bpy.types.Operator):
    """Take the chosen line off the head again; other keys and actions stay"""

    bl_idname = "diffspeaker.remove_result"
    bl_label = "Remove Line"
    bl_options = {"REGISTER", "UNDO"}

    head: StringProperty(name="Head", options={"SKIP_SAVE"})
    clip: StringProperty(name="Line", description="Empty takes all lines", options={"SKIP_SAVE"})

    def execute(self, context: bpy.types.Context) -> set[str]:
        try:
            chosen = plan.find_head(context, self.head)
            count = clips.remove_motion(chosen, self.clip)
            live.choose_some_clip(chosen)
        except LipSyncError as error:
            return refuse(self, error)
        status.say(f"{self.clip or 'Every line'} was removed, {count} shape keys with it")
        return {"FINISHED"}


_CLASSES = (
    DIFFSPEAKER_OT_generate,
    DIFFSPEAKER_OT_choose_sound,
    DIFFSPEAKER_OT_cancel,
    DIFFSPEAKER_OT_export,
    DIFFSPEAKER_OT_add_demo_head,
    DIFFSPEAKER_OT_import_flame_head,
    DIFFSPEAKER_OT_remove_result,
)

register, unregister = bpy.utils.register_classes_factory(_CLASSES)
