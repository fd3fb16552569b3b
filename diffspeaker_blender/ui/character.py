# SPDX-License-Identifier: GPL-3.0-or-later
"""Fit to a character, look at what was found, try it, change it by hand, keep it as a preset."""

# mypy: disable-error-code="has-type,valid-type,no-any-return,attr-defined,misc"
from __future__ import annotations

import contextlib
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import bpy
from bpy.props import (
    EnumProperty,
    FloatProperty,
    IntProperty,
    PointerProperty,
    StringProperty,
)
from bpy_extras.io_utils import ExportHelper, ImportHelper

from ..animation import channels, mapped, resting, storage
from ..character import detect, fit, head, presets
from ..character.drawn import SOUNDS
from ..character.mapping import GROUPS, PARTING, Mapping, Row, parse_terms
from ..character.poses import LABELS, POSES
from ..errors import HeadError, LipSyncError
from ..jobs import plan, status
from ..jobs.status import refuse
from ..settings import choices
from ..worker.client import package_root

POSED = "diffspeaker.posed"
"""On a face that shows a test pose: its name, and what stood there before."""
SAMPLE = "vivian.flac"

_POSE_ITEMS = [(name, LABELS[name], f"Show the face for {LABELS[name]}") for name in POSES]
_HOLDS = [
    ("PARTING", "That Part the Lips", "Those that would keep the lips apart at p, b and m"),
    ("ALL", "All of the Mouth", "Smiles and frowns, too"),
    ("NONE", "None", "Leave everything as it stands"),
]
_filling: list[str] = []


def face_of(context: bpy.types.Context) -> bpy.types.Object | None:
    """Return the fitted face that the panel is about: of the active object, else who speaks."""
    active = getattr(context, "object", None) or context.view_layer.objects.active
    chosen = plan.chosen_head(context)
    return detect.speaker_of(active) or (chosen if detect.is_mapped(chosen) else None)


def _someone(context: bpy.types.Context) -> Any:
    """Return the object that a character would be looked for from."""
    active = getattr(context, "object", None) or context.view_layer.objects.active
    return active if detect.may_speak(active) else None


class DIFFSPEAKER_OT_fit_character(bpy.types.Operator):
    """Find and measure the face of this character, whatever it is made of, so that it can speak"""

    bl_idname = "diffspeaker.fit_character"
    bl_label = "Fit to This Character"
    bl_options = {"REGISTER", "UNDO"}

    character: StringProperty(
        name="Character",
        description="Name of its mesh, armature or collection; empty takes the active object",
        options={"SKIP_SAVE"},
    )

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if _someone(context) is not None or choices.settings(context).head is not None:
            return True
        cls.poll_message_set("Click on the character first: its face or its armature")
        return False

    def execute(self, context: bpy.types.Context) -> set[str]:
        try:
            if self.character:
                someone = fit.named(context, self.character)
            else:
                someone = _someone(context) or choices.settings(context).head
            former = detect.speaker_of(someone) if someone is not None else None
            back(former)
            if former is not None:
                mapped.note(former, context.scene)
            face, proposal = fit.fit(someone)
            mapped.show_rest(face)
            mapped.replay(face, context.scene)
        except LipSyncError as error:
            return refuse(self, error)
        choices.settings(context).head = face
        show_strengths(face)
        said = fit.sentence_of(face)
        doubtful = [f"{one.subject}: {one.reason}" for one in proposal.remarks if not one.missing]
        status.say(said, "; ".join(doubtful[:2]))
        self.report({"INFO"}, said)
        return {"FINISHED"}


class DIFFSPEAKER_OT_test_pose(bpy.types.Operator):
    """Show what the face does for a sound; pressed again, it goes back"""

    bl_idname = "diffspeaker.test_pose"
    bl_label = "Test Pose"
    bl_options = {"REGISTER", "UNDO"}

    pose: EnumProperty(
        name="Pose",
        items=_POSE_ITEMS,
        options={"SKIP_SAVE"},
    )

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if face_of(context) is not None:
            return True
        cls.poll_message_set("Fit to a character first")
        return False

    def execute(self, context: bpy.types.Context) -> set[str]:
        face = face_of(context)
        assert face is not None
        shown = posed(face)
        back(face)
        if shown != self.pose:
            pose(face, self.pose)
        return {"FINISHED"}


class DIFFSPEAKER_OT_say_test_line(bpy.types.Operator):
    """Let the character say a sentence from the current frame on"""

    bl_idname = "diffspeaker.say_test_line"
    bl_label = "Say a Test Line"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if face_of(context) is not None:
            return True
        cls.poll_message_set("Fit to a character first")
        return False

    def execute(self, context: bpy.types.Context) -> set[str]:
        return self._say(context, "EXEC_DEFAULT")

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        return self._say(context, "INVOKE_DEFAULT")

    def _say(self, context: bpy.types.Context, way: Any) -> set[str]:
        face = face_of(context)
        assert face is not None
        back(face)
        try:
            bpy.ops.diffspeaker.generate(
                way,
                audio=str(package_root() / "model" / "samples" / SAMPLE),
                character=face.name,
                start_frame=float(context.scene.frame_current),
            )
        except RuntimeError as error:
            self.report({"ERROR"}, str(error).removeprefix("Error: ").strip())
            return {"CANCELLED"}
        return {"FINISHED"}


class DIFFSPEAKER_OT_forget_character(bpy.types.Operator):
    """Take the mapping and all lines off this character again; nothing else of it changes"""

    bl_idname = "diffspeaker.forget_character"
    bl_label = "Forget Mapping"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return face_of(context) is not None

    def execute(self, context: bpy.types.Context) -> set[str]:
        face = face_of(context)
        assert face is not None
        back(face)
        if detect.read_mapping(face) is not None:
            mapped.remove(face, "", context.scene)
        known = detect.notes(face)
        for name in [n for n in known.keys() if n.startswith("diffspeaker.")]:  # noqa: SIM118
            del known[name]
        if known != face:
            bpy.data.texts.remove(known)
        return {"FINISHED"}


class DIFFSPEAKER_OT_edit_row(bpy.types.Operator):
    """Change by hand what drives a channel"""

    bl_idname = "diffspeaker.edit_row"
    bl_label = "Edit What Drives It"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def description(cls, context: bpy.types.Context, properties: Any) -> str:
        """Return the whole row, which a narrow sidebar cuts."""
        face = face_of(context)
        mapping = detect.read_mapping(face) if face is not None else None
        if mapping is None or properties.row >= len(mapping.rows):
            return cls.__doc__ or ""
        return f"{mapping.rows[properties.row].text()}. Click to change it"

    row: IntProperty(options={"HIDDEN", "SKIP_SAVE"})
    driven_by: StringProperty(
        name="Driven By",
        description="Controls with factors, such as: 0.8 jawOpen * (1 - mouthClose) + lipTuck",
        options={"SKIP_SAVE"},
    )
    low: FloatProperty(name="Least", options={"SKIP_SAVE"})
    high: FloatProperty(name="Most", default=1.0, options={"SKIP_SAVE"})

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        face = face_of(context)
        mapping = detect.read_mapping(face) if face is not None else None
        if mapping is None or self.row >= len(mapping.rows):
            return {"CANCELLED"}
        row = mapping.rows[self.row]
        self.driven_by = " + ".join(term.text() for term in row.terms)
        self.low, self.high = row.low, row.high
        return set(context.window_manager.invoke_props_dialog(self, width=500))

    def execute(self, context: bpy.types.Context) -> set[str]:
        face = face_of(context)
        mapping = detect.read_mapping(face) if face is not None else None
        if face is None or mapping is None or self.row >= len(mapping.rows):
            return {"CANCELLED"}
        try:
            terms = parse_terms(self.driven_by) if self.driven_by.strip() else ()
        except ValueError as error:
            return refuse(self, HeadError(f"{error}.", "Write it like 0.8 jawOpen + lipTuck."))
        row = replace(mapping.rows[self.row], terms=terms, low=self.low, high=self.high)
        mapped.note(face, context.scene)
        detect.store(face, mapping.with_row(self.row, row))
        mapped.replay(face, context.scene)
        return {"FINISHED"}


class DIFFSPEAKER_OT_save_mapping(bpy.types.Operator, ExportHelper):
    """Write this mapping to a file; in the folder offered, the next such character finds it"""

    bl_idname = "diffspeaker.save_mapping"
    bl_label = "Save Mapping"

    filename_ext = ".json"
    filter_glob: StringProperty(default="*.json", options={"HIDDEN"})

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return face_of(context) is not None

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        face = face_of(context)
        if not self.filepath and face is not None:
            with contextlib.suppress(OSError):  # then it begins where the file lies
                presets.folder().mkdir(parents=True, exist_ok=True)
                self.filepath = str(presets.folder() / f"{plan.file_name(face.name)}.json")
        return set(super().invoke(context, event))

    def execute(self, context: bpy.types.Context) -> set[str]:
        face = face_of(context)
        mapping = detect.read_mapping(face) if face is not None else None
        if mapping is None:
            return {"CANCELLED"}
        try:
            path = Path(bpy.path.abspath(self.filepath))
            path.write_text(json.dumps(json.loads(mapping.to_json()), indent=1), encoding="utf-8")
        except OSError as error:
            return refuse(self, LipSyncError(f"The file cannot be written: {error.strerror}."))
        return {"FINISHED"}


class DIFFSPEAKER_OT_load_mapping(bpy.types.Operator, ImportHelper):
    """Give this character a mapping from a file; it is joined to its channels by their names"""

    bl_idname = "diffspeaker.load_mapping"
    bl_label = "Load Mapping"
    bl_options = {"REGISTER", "UNDO"}

    filter_glob: StringProperty(default="*.json", options={"HIDDEN"})

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if face_of(context) is not None:
            return True
        cls.poll_message_set("Fit to a character first")
        return False

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        if not self.filepath and presets.folder().is_dir():
            self.filepath = f"{presets.folder()}{os.sep}"
        return set(super().invoke(context, event))

    def execute(self, context: bpy.types.Context) -> set[str]:
        face = face_of(context)
        assert face is not None
        try:
            text = Path(bpy.path.abspath(self.filepath)).read_text(encoding="utf-8")
            read = Mapping.from_json(text)
            loaded = read.moved_to(detect.owners(face, read))
            if not loaded.places():
                raise HeadError("No channel of this mapping is on this character.")
            mapped.note(face, context.scene)
            detect.store(face, loaded)
            show_strengths(face)
            mapped.replay(face, context.scene)
        except (OSError, ValueError) as error:
            return refuse(self, LipSyncError(f"This file is no mapping ({error})."))
        except LipSyncError as error:
            return refuse(self, error)
        status.say(fit.sentence_of(face))
        return {"FINISHED"}


# -- test poses -------------------------------------------------------------------------------


def posed(face: Any) -> str:
    """Return the test pose that a face shows, "" for none."""
    try:
        known = detect.notes(face)
        return str(json.loads(known[POSED])["pose"]) if known and POSED in known else ""
    except (ValueError, KeyError):
        return ""


def pose(face: Any, name: str) -> None:
    """Show a test pose, remembering what was there."""
    mapping = mapped.require(face)
    mapped.make_own(mapping)
    wanted = POSES[name]
    values = [list(wanted.values())]
    found = channels.curves_of(mapping.evaluate(values, list(wanted)), mapping.bases)
    ours = set(storage.read(storage.holder(face)).keys)
    found += [(channel, [0.0]) for channel in resting.held(face, mapping, {}, ours)]
    before = {channel.name: channels.value_of(channel) for channel, _ in found}
    for channel, curve in found:
        channels.set_value(channel, float(curve[0]))
    detect.notes(face, make=True)[POSED] = json.dumps({"pose": name, "before": before})
    _tag(mapping)


def back(face: Any) -> None:
    """Take a test pose off again."""
    known = detect.notes(face)
    if known is None or POSED not in known:
        return
    try:
        before = json.loads(known[POSED])["before"]
    except (ValueError, KeyError):
        before = {}
    del known[POSED]
    mapping = detect.read_mapping(face)
    if mapping is None:
        return
    still = [(place, [0.0]) for place in mapping.places()]
    for channel, _ in channels.curves_of(still, mapping.bases):
        if channel.name in before:
            channels.set_value(channel, before[channel.name])
    resting.release(face, mapping, before, ())
    _tag(mapping)


def _tag(mapping: Mapping) -> None:
    """Let Blender look again at everything that a mapping moves."""
    for name in {place.owner for place in mapping.places()}:
        owner = bpy.data.objects.get(name)
        if owner is not None:
            owner.update_tag()
            if owner.type == "MESH":
                owner.data.update_tag()  # type: ignore[union-attr]


# -- strengths --------------------------------------------------------------------------------


def _strengthen(self: Any, context: bpy.types.Context) -> None:
    face = self.id_data
    if face.name in _filling:
        return
    mapping = detect.read_mapping(face)
    if mapping is None:
        return
    chosen = {name: getattr(self, name) for name in GROUPS}
    chosen = {name: value for name, value in chosen.items() if abs(value - 1.0) > 1e-4}
    drawn = mapping.drawn
    if drawn is not None:
        drawn = replace(drawn, hold=self.drawn_hold, lead=self.drawn_lead)
    mapped.note(face, context.scene)
    hold = self.hold.lower()
    chosen_now = replace(mapping, strengths=chosen, steps=self.steps, hold=hold, drawn=drawn)
    detect.store(face, chosen_now)
    mapped.replay(face, context.scene)
    shown = posed(face)
    if shown:
        back(face)
        pose(face, shown)


def _strength(name: str) -> Any:
    return FloatProperty(
        name=name,
        description=f"Strength of the {name.lower()} on this character; 1 is as measured",
        default=1.0,
        min=0.0,
        soft_max=2.0,
        max=4.0,
        update=_strengthen,
        override={"LIBRARY_OVERRIDABLE"},
    )


class DIFFSPEAKER_PG_strengths(bpy.types.PropertyGroup):
    """Hold how strongly each part of a mapped face moves."""

    jaw: _strength("Jaw")
    lips: _strength("Lips")
    tongue: _strength("Tongue")
    lids: _strength("Lids")
    brows: _strength("Brows")
    eyes: _strength("Eyes")
    cheeks: _strength("Cheeks")
    steps: IntProperty(
        name="Hold Frames",
        description="Hold each pose for so many frames: 2 is on twos, as in drawn animation",
        default=1,
        min=1,
        soft_max=4,
        max=24,
        update=_strengthen,
        override={"LIBRARY_OVERRIDABLE"},
    )
    hold: EnumProperty(
        name="Rest Others",
        description="Shapes of the mouth that no line drives and that stand away from rest: which "
        "of them go to rest while a line is spoken, and back afterwards",
        items=_HOLDS,
        default=PARTING.upper(),
        update=_strengthen,
        override={"LIBRARY_OVERRIDABLE"},
    )
    drawn_hold: IntProperty(
        name="Shortest",
        description="Frames that each drawing of the mouth is shown at least",
        default=2,
        min=1,
        soft_max=6,
        max=24,
        update=_strengthen,
        override={"LIBRARY_OVERRIDABLE"},
    )
    drawn_lead: IntProperty(
        name="Early",
        description="Frames that the drawings come before the sound",
        min=0,
        soft_max=3,
        max=12,
        update=_strengthen,
        override={"LIBRARY_OVERRIDABLE"},
    )


def show_strengths(face: bpy.types.Object) -> None:
    """Fill in the strengths that a mapping has, without writing anything."""
    mapping = detect.read_mapping(face)
    if mapping is None:
        return
    _filling.append(face.name)
    try:
        shown = face.diffspeaker_strengths
        for name in GROUPS:
            setattr(shown, name, mapping.strengths.get(name, 1.0))
        shown.steps = max(mapping.steps, 1)
        shown.hold = mapping.hold.upper()
        if mapping.drawn is not None:
            shown.drawn_hold, shown.drawn_lead = mapping.drawn.hold, mapping.drawn.lead
    finally:
        _filling.remove(face.name)


# -- drawing ----------------------------------------------------------------------------------


def draw(layout: Any, context: bpy.types.Context, wrapped: Any) -> None:
    """Draw what is known of the character, and the ways to try and change it."""
    face = face_of(context)
    if face is None:
        if plan.chosen_head(context) is None:  # the button stands above, where a head is picked
            layout.label(text="Fit to a character first", icon="INFO")
        else:
            _draw_fit(layout)
        layout.operator("diffspeaker.drawn_mouth", text="Drawn Mouth…", icon="GREASEPENCIL")
        return
    someone = _someone(context)
    if fit.could_speak(someone) and detect.speaker_of(someone) is None:
        known = head.looks_like_head(someone) or plan.is_own(someone, plan.model_of(context))
        if not known:
            _draw_fit(layout, someone.name)
    changed = fit.changed(face)
    if changed:
        wrapped(layout, context, f"Changed since it was fitted: {changed}", "ERROR")
    wrapped(layout, context, f"{face.name}: {fit.sentence_of(face)}", "CHECKMARK")
    for remark in fit.remarks_of(face):
        icon = "INFO" if remark.missing else "ERROR"
        wrapped(layout, context, f"{remark.subject}: {remark.reason}", icon)
    row = layout.row(align=True)
    shown = posed(face)
    for name, label in LABELS.items():
        row.operator("diffspeaker.test_pose", text=label, depress=shown == name).pose = name
    row = layout.row()
    row.operator_context = "INVOKE_DEFAULT"
    row.operator("diffspeaker.say_test_line", icon="PLAY_SOUND")
    row = layout.row(align=True)
    again = row.operator("diffspeaker.fit_character", text="Fit Again", icon="FILE_REFRESH")
    again.character = face.name
    row.operator("diffspeaker.forget_character", text="Forget", icon="X")


def _draw_fit(layout: Any, name: str = "") -> None:
    """Draw the button that measures a character: the active object, or the one that is named."""
    row = layout.row()
    row.scale_y = 1.4
    words = f"Fit to {name}" if name else "Fit to This Character"
    row.operator("diffspeaker.fit_character", text=words, icon="VIEWZOOM").character = name


def draw_mapping(layout: Any, context: bpy.types.Context) -> None:
    """Draw strengths and the rows of the mapping."""
    face = face_of(context)
    mapping = detect.read_mapping(face) if face is not None else None
    if face is None or mapping is None:
        layout.label(text="Fit to a character first", icon="INFO")
        return
    if mapping.drawn is not None:
        _draw_drawings(layout, face, mapping)
    for group in GROUPS:
        _draw_group(layout, face, mapping, group)
    layout.prop(face.diffspeaker_strengths, "steps")
    layout.prop(face.diffspeaker_strengths, "hold")
    row = layout.row(align=True)
    row.operator("diffspeaker.load_mapping", icon="IMPORT", text="Load")
    row.operator("diffspeaker.save_mapping", icon="EXPORT", text="Save")


def _draw_drawings(layout: Any, face: bpy.types.Object, mapping: Mapping) -> None:
    """Draw which drawing is which mouth, and how they are timed."""
    assert mapping.drawn is not None
    column = layout.column(align=True)
    for name, sound in zip(mapping.drawn.names, mapping.drawn.sounds, strict=True):
        split = column.split(factor=0.5)
        split.label(text=name)
        split.label(text=SOUNDS[sound])
    layout.operator("diffspeaker.drawn_mouth", text="Change…", icon="GREASEPENCIL")
    column = layout.column(align=True)
    column.prop(face.diffspeaker_strengths, "drawn_hold")
    column.prop(face.diffspeaker_strengths, "drawn_lead")


def _draw_group(layout: Any, face: bpy.types.Object, mapping: Mapping, group: str) -> None:
    """Draw a group's strength and, opened, what drives each of its channels."""
    rows = [(k, row) for k, row in enumerate(mapping.rows) if row.group == group]
    fitted = [row for row in mapping.few_rows if row.group == group]
    if not rows and not fitted:
        return
    header, body = layout.panel(f"DIFFSPEAKER_rows_{group}", default_closed=True)
    header.prop(face.diffspeaker_strengths, group)
    if body is None:
        return
    column = body.column(align=True)
    column.use_property_split = False
    for number, row in rows:
        line = column.row(align=True)
        split = line.split(factor=0.5)
        split.label(text=_channel_in_words(row))
        named = (name for term in row.terms for name in (*term.controls, *term.unless))
        split.label(text=", ".join(dict.fromkeys(named)) or "held still")
        line.operator("diffspeaker.edit_row", text="", icon="GREASEPENCIL").row = number
    for row in fitted:
        split = column.split(factor=0.5)
        split.label(text=row.places[0].name)
        alone = [term.text() for term in row.terms] == [row.places[0].name]
        split.label(text="as measured" if alone else row.text().partition("← ")[2])


def _channel_in_words(row: Row) -> str:
    """Return what a narrow sidebar has room for: "jaw: X turn", "mouthSmile_L"."""
    place = row.places[0]
    if place.kind != "bone":
        return place.name
    word = {"rotation": "turn", "location": "move"}.get(place.path, place.path)
    return f"{place.name}: {'XYZ'[place.index]} {word}"


_CLASSES = (
    DIFFSPEAKER_PG_strengths,
    DIFFSPEAKER_OT_fit_character,
    DIFFSPEAKER_OT_test_pose,
    DIFFSPEAKER_OT_say_test_line,
    DIFFSPEAKER_OT_forget_character,
    DIFFSPEAKER_OT_edit_row,
    DIFFSPEAKER_OT_save_mapping,
    DIFFSPEAKER_OT_load_mapping,
)


def register() -> None:
    """Register the operators and hang the strengths on Object."""
    for cls in _CLASSES:
        bpy.utils.register_class(cls)
    bpy.types.Object.diffspeaker_strengths = PointerProperty(
        type=DIFFSPEAKER_PG_strengths, override={"LIBRARY_OVERRIDABLE"}
    )


def unregister() -> None:
    """Take them off again."""
    del bpy.types.Object.diffspeaker_strengths
    for cls in reversed(_CLASSES):
        bpy.utils.unregister_class(cls)
