# SPDX-License-Identifier: GPL-3.0-or-later
"""A head's lines and their takes: what one sees of them, and the verbs.

Everything here acts on the line that the live controls show: the one of the selected strip or under
the playhead, or the one that was chosen by hand since either has moved.
"""

# mypy: disable-error-code="valid-type,no-any-return,misc,assignment,return-value,arg-type,override"
from __future__ import annotations

from typing import Any

import bpy
from bpy.props import BoolProperty, IntProperty, StringProperty

from ..animation import clips, compare, idling, storage, takes
from ..animation.storage import Clip
from ..errors import LipSyncError
from ..jobs import follow, lines, live, plan, queue, status
from ..jobs.status import refuse
from ..settings import choices, machine
from ..settings.choices import Choices
from ..sound import sources, tracking


class _OfLine:
    """Act on one line of one head, named or chosen."""

    bl_options = {"REGISTER", "UNDO"}

    head: StringProperty(name="Head", description="Name of the head", options={"SKIP_SAVE"})
    clip: StringProperty(name="Line", description="Name of the line", options={"SKIP_SAVE"})

    def line(self, context: bpy.types.Context) -> tuple[Any, str, Clip]:
        """Return the head, the line's name and its record. Raises LipSyncError."""
        target = plan.find_head(context, self.head)
        clip = self.clip or live.adjust(target).clip
        record = lines.records_of(target).get(clip)
        if record is None:
            raise LipSyncError(f"There is no line “{clip}” on {target.name}.", "Generate it first.")
        return target, clip, record

    def execute(self, context: bpy.types.Context) -> set[str]:
        try:
            said = self.act(context, *self.line(context))
        except LipSyncError as error:
            return refuse(self, error)
        if said:
            status.say(said)
        live.show_chosen()
        return {"FINISHED"}

    def act(self, context: bpy.types.Context, target: Any, clip: str, record: Clip) -> str:
        """Do it; return a sentence about it."""
        raise NotImplementedError


class _OfTake(_OfLine):
    """Act on one take of a line."""

    take: IntProperty(name="Take", description="Place of the take, from 0", min=0)

    def line(self, context: bpy.types.Context) -> tuple[Any, str, Clip]:
        target, clip, record = super().line(context)
        if self.take >= len(record.takes):
            raise LipSyncError(f"“{clip}” has {len(record.takes)} takes.", "Choose one of them.")
        return target, clip, record


class DIFFSPEAKER_OT_show_take(_OfTake, bpy.types.Operator):
    """Show this take of the line, with the edits that were made on it"""

    bl_idname = "diffspeaker.show_take"
    bl_label = "Show Take"

    def act(self, _context: bpy.types.Context, target: Any, clip: str, record: Clip) -> str:
        clips.show_take(target, clip, self.take)
        return f"{takes.label(record, self.take)} of “{clip}” is shown"


class DIFFSPEAKER_OT_rename_take(_OfTake, bpy.types.Operator):
    """Name this take"""

    bl_idname = "diffspeaker.rename_take"
    bl_label = "Rename Take"

    name: StringProperty(name="Name", description="Empty gives it its number back")

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        try:
            _target, _clip, record = self.line(context)
        except LipSyncError as error:
            return refuse(self, error)
        self.name = takes.label(record, self.take)
        return context.window_manager.invoke_props_dialog(self)

    def draw(self, _context: bpy.types.Context) -> None:
        self.layout.prop(self, "name")

    def act(self, _context: bpy.types.Context, target: Any, clip: str, _record: Clip) -> str:
        takes.rename(storage.holder(target), clip, self.take, self.name)
        return ""


class DIFFSPEAKER_OT_remove_take(_OfTake, bpy.types.Operator):
    """Forget this take; the one that is shown stays"""

    bl_idname = "diffspeaker.remove_take"
    bl_label = "Remove Take"

    def act(self, _context: bpy.types.Context, target: Any, clip: str, record: Clip) -> str:
        if self.take == record.shown:
            raise LipSyncError("This take is the one that is shown.", "Show another one first.")
        name = takes.label(record, self.take)
        takes.remove(storage.holder(target), clip, self.take)
        return f"{name} of “{clip}” was removed"


class DIFFSPEAKER_OT_compare_takes(_OfTake, bpy.types.Operator):
    """Show this take on a copy of the head, beside it; press again to take the copy away"""

    bl_idname = "diffspeaker.compare_takes"
    bl_label = "Compare Side by Side"

    stop: BoolProperty(name="End", description="Take the copy away", options={"SKIP_SAVE"})

    def act(self, context: bpy.types.Context, target: Any, clip: str, _record: Clip) -> str:
        if self.stop:
            compare.end(target)
            return "The copy was taken away"
        if context.mode != "OBJECT":
            raise LipSyncError("Takes are compared in Object Mode.", "Leave Edit Mode.")
        return f"“{compare.compare(context, target, clip, self.take).name}” stands beside it"


class DIFFSPEAKER_OT_rename_line(_OfLine, bpy.types.Operator):
    """Name this line"""

    bl_idname = "diffspeaker.rename_line"
    bl_label = "Rename Line"

    name: StringProperty(name="Name")

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        try:
            self.name = self.line(context)[1]
        except LipSyncError as error:
            return refuse(self, error)
        return context.window_manager.invoke_props_dialog(self)

    def draw(self, _context: bpy.types.Context) -> None:
        self.layout.prop(self, "name")

    def act(self, _context: bpy.types.Context, target: Any, clip: str, _record: Clip) -> str:
        live.adjust(target).clip = takes.rename_line(storage.holder(target), clip, self.name)
        return ""


class DIFFSPEAKER_OT_follow_strip(_OfLine, bpy.types.Operator):
    """Move the line to where its strip is now"""

    bl_idname = "diffspeaker.follow_strip"
    bl_label = "Move to Strip"

    def act(self, _context: bpy.types.Context, target: Any, clip: str, _record: Clip) -> str:
        return follow.follow(target, clip) or f"“{clip}” is in step with its strip"


class DIFFSPEAKER_OT_toggle_follow(_OfLine, bpy.types.Operator):
    """Let the line move, shorten and stretch with its strip by itself, or leave it to a click"""

    bl_idname = "diffspeaker.toggle_follow"
    bl_label = "Follow Strip"

    def act(self, _context: bpy.types.Context, target: Any, clip: str, record: Clip) -> str:
        index = storage.read(storage.holder(target))
        index.clips[clip].follow = not record.follow
        storage.write(storage.holder(target), index)
        return "" if record.follow else follow.follow(target, clip)


class DIFFSPEAKER_OT_drop_edits(_OfLine, bpy.types.Operator):
    """Show the take as it was generated, without what was changed by hand"""

    bl_idname = "diffspeaker.drop_edits"
    bl_label = "Remove Hand Edits"

    def act(self, _context: bpy.types.Context, target: Any, clip: str, _record: Clip) -> str:
        clips.drop_edits(target, clip)
        return f"“{clip}” is as generated; undo brings the edits back"


class DIFFSPEAKER_OT_redo_range(Choices, _OfLine, bpy.types.Operator):
    """Make some frames of the line anew; the model fills them in between those that stay"""

    bl_idname = "diffspeaker.redo_range"
    bl_label = "Redo Range"
    bl_options = {"REGISTER"}

    first: IntProperty(name="First Frame", default=1)
    last: IntProperty(name="Last Frame", default=20)

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        try:
            _target, _clip, record = self.line(context)
        except LipSyncError as error:
            return refuse(self, error)
        scene: Any = sources.sequencer_scene(context) or context.scene
        begin, end = (int(frame) for frame in record.span)
        if scene.use_preview_range:
            begin, end = max(begin, scene.frame_preview_start), min(end, scene.frame_preview_end)
        elif begin <= scene.frame_current <= end:
            begin, end = max(begin, scene.frame_current - 10), min(end, scene.frame_current + 10)
        self.first, self.last = begin, end
        return context.window_manager.invoke_props_dialog(self, confirm_text="Redo")

    def draw(self, context: bpy.types.Context) -> None:
        layout, settings = self.layout, choices.settings(context)
        layout.use_property_split = True
        column = layout.column(align=True)
        column.prop(self, "first")
        column.prop(self, "last")
        layout.prop(settings, "style")
        layout.prop(settings, "expression")

    def execute(self, context: bpy.types.Context) -> set[str]:
        try:
            machine.require_runtime()
            target, clip, _record = self.line(context)
            task = plan.redo(context, self, target, clip, (self.first, self.last))
            if not bpy.app.background:
                queue.submit([task])
                return {"FINISHED"}
            for placed in queue.run([task]):
                self.report({"INFO"}, placed.sentence)
        except LipSyncError as error:
            return refuse(self, error)
        return {"FINISHED"}


class DIFFSPEAKER_OT_add_idle(bpy.types.Operator):
    """Let the head blink, glance and move its brows wherever no line speaks in the scene"""

    bl_idname = "diffspeaker.add_idle"
    bl_label = "Add Idle"
    bl_options = {"REGISTER", "UNDO"}

    head: StringProperty(name="Head", description="Name of the head", options={"SKIP_SAVE"})
    seed: IntProperty(name="Seed", description="Another number gives other moments", min=0)
    remove: BoolProperty(
        name="Remove", description="Take the idle face away again", options={"SKIP_SAVE"}
    )

    def execute(self, context: bpy.types.Context) -> set[str]:
        try:
            target = plan.find_head(context, self.head)
            if self.remove:
                idling.remove(target)
                status.say("The head rests between its lines")
                return {"FINISHED"}
            scene: Any = sources.sequencer_scene(context) or context.scene
            count = idling.fill(target, scene, seed=self.seed)
        except LipSyncError as error:
            return refuse(self, error)
        gaps = "1 gap" if count == 1 else f"{count} gaps"
        status.say(f"{target.name} lives in {gaps} between its lines")
        return {"FINISHED"}


class DIFFSPEAKER_OT_spoken_by(bpy.types.Operator):
    """Let the selected strips be spoken by this character, and remember it"""

    bl_idname = "diffspeaker.spoken_by"
    bl_label = "Spoken By"
    bl_options = {"REGISTER", "UNDO"}

    head: StringProperty(name="Head", description="Empty forgets the speaker")

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if sources.selected_strips(context):
            return True
        cls.poll_message_set("Select sound strips first")
        return False

    def execute(self, context: bpy.types.Context) -> set[str]:
        target = bpy.data.objects.get(self.head)
        for strip in sources.selected_strips(context):
            if target is not None:
                strip[tracking.SPEAKER] = target
            elif tracking.SPEAKER in strip:
                del strip[tracking.SPEAKER]
            strip[tracking.CHOSEN] = target is not None
        return {"FINISHED"}


# -- what one sees ----------------------------------------------------------------------------


def draw_line(layout: Any, context: bpy.types.Context, target: Any) -> None:
    """Draw the chosen line of a head: its place, its takes, its hand edits."""
    _attend(context, target)
    controls = live.adjust(target)
    record = lines.records_of(target).get(controls.clip)
    row = layout.row(align=True)
    row.prop(controls, "clip")
    _button(row, "rename_line", target, controls.clip, text="", icon="GREASEPENCIL")
    _button(row, "remove_result", target, controls.clip, text="", icon="TRASH")
    if record is None:
        return
    _draw_place(layout, target, controls.clip, record)
    _draw_takes(layout, target, controls.clip, record)
    playing = context.screen is not None and context.screen.is_animation_playing
    if not playing and (edited := clips.edited(target, controls.clip)):
        row = layout.row(align=True)
        count = f"{len(edited)} curves edited" if len(edited) > 1 else f"{edited[0]} is edited"
        row.label(text=count, icon="FCURVE")
        _button(row, "drop_edits", target, controls.clip, text="", icon="X")
    settings = choices.settings(context)
    layout.prop(settings, "take")
    layout.prop(settings, "edits")


def _draw_place(layout: Any, target: Any, clip: str, record: Clip) -> None:
    """Draw where the line is and how it stands to its strip."""
    row = layout.row(align=True)
    if not record.source.kind.startswith("strip"):
        row.label(text=f"Frames {record.span[0]:.0f} to {record.span[1]:.0f}", icon="TIME")
        return
    step = follow.step_of(record)
    name = step.strip.name if step.strip is not None else f"{record.source.name} is gone"
    row.label(text=name, icon="SOUND")
    icon = "LINKED" if record.follow else "UNLINKED"
    _button(row, "toggle_follow", target, clip, text="", icon=icon, depress=record.follow)
    if record.covered:
        layout.label(text="Other lines lie over it", icon="INFO")
    if step.words:
        layout.label(text=step.words, icon="ERROR")
        if step.kind == "moved":
            _button(layout, "follow_strip", target, clip, icon="TRACKING_FORWARDS_SINGLE")


def _draw_takes(layout: Any, target: Any, clip: str, record: Clip) -> None:
    """Draw a row for each take: shown or not, name, how it was made, and what can be done."""
    column = layout.box().column(align=True)
    standing = compare.compared(target)
    for place, take in enumerate(record.takes):
        shown = place == record.shown
        row = column.row(align=True)
        icon = "RADIOBUT_ON" if shown else "RADIOBUT_OFF"
        label = takes.label(record, place)
        label += f"  ·  {take.about}" if take.about else ""
        wide = row.row(align=True)
        wide.alignment = "LEFT"
        _take(wide, "show_take", target, clip, place, text=label, icon=icon, emboss=False)
        tools = row.row(align=True)
        tools.alignment = "RIGHT"
        _take(tools, "rename_take", target, clip, place, text="", icon="GREASEPENCIL", emboss=False)
        if not shown:
            _take(tools, "compare_takes", target, clip, place, text="", icon="MOD_MIRROR",
                  emboss=False)  # fmt: skip
            _take(tools, "remove_take", target, clip, place, text="", icon="X", emboss=False)
    row = column.row(align=True)
    _button(row, "redo_range", target, clip, text="Redo Range…", icon="FILE_REFRESH")
    row.operator("diffspeaker.add_idle", icon="HIDE_OFF").head = target.name
    if standing:
        _take(row, "compare_takes", target, clip, record.shown, text="End Comparing").stop = True


def _button(layout: Any, verb: str, target: Any, clip: str, **looks: Any) -> Any:
    button = layout.operator(f"diffspeaker.{verb}", **looks)
    button.head, button.clip = target.name, clip
    return button


def _take(layout: Any, verb: str, target: Any, clip: str, place: int, **looks: Any) -> Any:
    button = _button(layout, verb, target, clip, **looks)
    button.take = place
    return button


def _attend(context: bpy.types.Context, target: Any) -> None:
    """Let the controls show the line of the selected strip or under the playhead."""
    scene: Any = sources.sequencer_scene(context) or context.scene
    strips = sources.selected_strips(context)
    uid = str(strips[0].get(tracking.LINE, "")) if len(strips) == 1 else ""
    wanted = live.attend(target, scene.frame_current, uid)
    if wanted:
        live.choose_soon(target, wanted)


class DIFFSPEAKER_MT_spoken_by(bpy.types.Menu):
    """Heads that may speak the selected strips"""

    bl_idname = "DIFFSPEAKER_MT_spoken_by"
    bl_label = "Spoken By"

    def draw(self, context: bpy.types.Context) -> None:
        for target in plan.heads(context):
            button = self.layout.operator("diffspeaker.spoken_by", text=target.name, icon="USER")
            button.head = target.name
        self.layout.separator()
        self.layout.operator("diffspeaker.spoken_by", text="Whoever Is Active").head = ""


_CLASSES = (
    DIFFSPEAKER_OT_show_take,
    DIFFSPEAKER_OT_rename_take,
    DIFFSPEAKER_OT_remove_take,
    DIFFSPEAKER_OT_compare_takes,
    DIFFSPEAKER_OT_rename_line,
    DIFFSPEAKER_OT_follow_strip,
    DIFFSPEAKER_OT_toggle_follow,
    DIFFSPEAKER_OT_drop_edits,
    DIFFSPEAKER_OT_redo_range,
    DIFFSPEAKER_OT_add_idle,
    DIFFSPEAKER_OT_spoken_by,
    DIFFSPEAKER_MT_spoken_by,
)

register, unregister = bpy.utils.register_classes_factory(_CLASSES)
