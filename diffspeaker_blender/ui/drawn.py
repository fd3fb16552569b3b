# SPDX-License-Identifier: GPL-3.0-or-later
"""Drawn mouths: say what chooses the drawing and which drawing is which mouth."""

# mypy: disable-error-code="valid-type,no-any-return,attr-defined,misc"
from __future__ import annotations

from typing import Any

import bpy
from bpy.props import CollectionProperty, EnumProperty, IntProperty, StringProperty

from ..animation import mapped
from ..character import charts, detect, fit, switches
from ..character.drawn import NOTHING, SOUNDS
from ..errors import HeadError, LipSyncError
from ..jobs import status
from ..jobs.status import refuse
from ..settings import choices
from . import character

_NONE = "NONE"
_SOUND_ITEMS = [(_NONE, "(No Mouth)", "This drawing is never chosen")] + [
    (name, label, f"Show this drawing for: {label}") for name, label in SOUNDS.items()
]
_CHART_ITEMS = [
    ("AUTO", "By Name or Number", "As the drawings are called, else as so many usually lie"),
    *((name, chart.title, "Drawings lie in this order") for name, chart in charts.CHARTS.items()),
]
_kept: list[Any] = []
"""Items of the list that Blender shows: it does not keep them itself."""


def _subject(operator: Any, context: bpy.types.Context) -> Any:
    """Return the object whose drawings are meant."""
    if operator.character:
        return fit.find(context, operator.character)
    active = getattr(context, "object", None) or context.view_layer.objects.active
    return active if detect.may_speak(active) else choices.settings(context).head


def _switch_items(self: Any, context: bpy.types.Context | None) -> list[Any]:
    found = switches.find(_subject(self, context)) if context is not None else []
    _kept[:] = [(one.title, one.title, f"Choose the drawing by {one.kind}") for one in found]
    return _kept or [("", "Nothing Found", "Nothing here chooses among drawings")]


def _chosen(operator: Any, context: bpy.types.Context) -> switches.Switch | None:
    """Return the switch that was picked, else the likeliest.

    operator: the operator, or its properties, which are all that an update is given.
    """
    found = switches.find(_subject(operator, context))
    given = getattr(operator, "properties", operator)
    if not given.is_property_set("switch"):
        return found[0] if found else None
    return next((one for one in found if one.title == given.switch), None)


def _fill(self: Any, context: bpy.types.Context) -> None:
    """List the drawings of the switch with the mouths that the chart proposes."""
    switch = _chosen(self, context)
    self.rows.clear()
    if switch is None:
        return
    chart = "" if self.chart == "AUTO" else self.chart
    for state, sound in zip(switch.states, switch.proposed(chart), strict=True):
        row = self.rows.add()
        row.name, row.sound = state.label, sound or _NONE


class DIFFSPEAKER_PG_drawing(bpy.types.PropertyGroup):
    """Say which mouth a drawing shows."""

    sound: EnumProperty(name="Mouth", description="What it is shown for", items=_SOUND_ITEMS)


class DIFFSPEAKER_OT_drawn_mouth(bpy.types.Operator):
    """Let a drawn character speak: layers, objects, an image sequence or a number choose a mouth"""

    bl_idname = "diffspeaker.drawn_mouth"
    bl_label = "Drawn Mouth"
    bl_options = {"REGISTER", "UNDO"}

    character: StringProperty(
        name="Character",
        description="Name of its object or collection; empty takes the active object",
        options={"SKIP_SAVE"},
    )
    switch: EnumProperty(
        name="Chosen By",
        description="What chooses among the drawings",
        items=_switch_items,
        update=_fill,
        options={"SKIP_SAVE"},
    )
    chart: EnumProperty(
        name="Chart",
        description="Which drawing is which mouth",
        items=_CHART_ITEMS,
        update=_fill,
        options={"SKIP_SAVE"},
    )
    drawings: StringProperty(
        name="Drawings",
        description=(
            "For scripts: the mouth of each drawing in order, such as rest mbp ai e o, or by name, "
            "such as mouth_1=rest mouth_2=aa; wins over the chart"
        ),
        options={"SKIP_SAVE"},
    )
    hold: IntProperty(
        name="Shortest (Frames)",
        description="Frames that each drawing is shown at least",
        default=2,
        min=1,
        soft_max=6,
        max=24,
        options={"SKIP_SAVE"},
    )
    lead: IntProperty(
        name="Early (Frames)",
        description="Frames that the drawings come before the sound",
        default=0,
        min=0,
        soft_max=3,
        max=12,
        options={"SKIP_SAVE"},
    )
    rows: CollectionProperty(type=DIFFSPEAKER_PG_drawing, options={"SKIP_SAVE", "HIDDEN"})

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        if not switches.find(_subject(self, context)):
            return self.execute(context)  # says what is missing
        _fill(self, context)
        self._recall(context)
        return set(context.window_manager.invoke_props_dialog(self, width=420))

    def _recall(self, context: bpy.types.Context) -> None:
        """Show what was said before of the character's drawings."""
        obj = _subject(self, context)
        known = detect.read_mapping(detect.speaker_of(obj))
        if known is None or known.drawn is None:
            return
        said = dict(zip(known.drawn.names, known.drawn.sounds, strict=True))
        for switch in switches.find(obj):
            labels = {state.label for state in switch.states}
            if switch.kind == known.drawn.switch and labels >= set(said):
                self.switch = switch.title  # lists its drawings
                for row in self.rows:
                    row.sound = said.get(row.name, _NONE)
                break
        self.hold, self.lead = known.drawn.hold, known.drawn.lead

    def draw(self, _context: bpy.types.Context) -> None:
        """Draw the dialog."""
        layout = self.layout
        layout.use_property_split, layout.use_property_decorate = True, False
        layout.prop(self, "switch")
        layout.prop(self, "chart")
        column = layout.column(align=True)
        column.use_property_split = False
        for row in self.rows:
            split = column.split(factor=0.4, align=True)
            split.label(text=row.name)
            split.prop(row, "sound", text="")
        layout.prop(self, "hold")
        layout.prop(self, "lead")

    def execute(self, context: bpy.types.Context) -> set[str]:
        try:
            face = self._set_up(context)
        except LipSyncError as error:
            return refuse(self, error)
        said = fit.sentence_of(face)
        status.say(said)
        self.report({"INFO"}, said)
        return {"FINISHED"}

    def _set_up(self, context: bpy.types.Context) -> Any:
        obj = _subject(self, context)
        if obj is None:
            raise HeadError("No character is picked.", "Click on the drawing that is its mouth.")
        switch = _chosen(self, context)
        if switch is None:
            raise HeadError(
                f"Nothing of {obj.name} chooses among drawings.",
                "It needs layers, a Time Offset, an image sequence, a number as custom property, "
                "or objects called like mouths (A, B, C … or rest, ai, o, mbp …).",
            )
        former = detect.speaker_of(obj)
        known = detect.read_mapping(former)
        timing = {"hold": self.hold, "lead": self.lead}
        mapping = switches.mapping_of(switch, self._sounds(switch), known, **timing)
        if former is not None:
            character.back(former)
            mapped.note(former, context.scene)
        face = switches.keep(switch, mapping, obj)
        mapped.show_rest(face)
        mapped.replay(face, context.scene)
        choices.settings(context).head = face
        character.show_strengths(face)
        return face

    def _sounds(self, switch: switches.Switch) -> list[str]:
        """Return the mouth of each drawing. Raises HeadError."""
        if self.drawings.strip():
            return _read(self.drawings.split(), [state.label for state in switch.states])
        if len(self.rows) == len(switch.states):
            return [NOTHING if row.sound == _NONE else row.sound for row in self.rows]
        return switch.proposed("" if self.chart == "AUTO" else self.chart)


def _read(words: list[str], labels: list[str]) -> list[str]:
    """Return the sound of each label from words in order, or "label=sound". Raises HeadError."""
    given = [word.partition("=") for word in words]
    pairs = [
        (name if equals else labels[k] if k < len(labels) else "", sound if equals else name)
        for k, (name, equals, sound) in enumerate(given)
    ]
    try:
        found = {label: "" if sound == "-" else charts.named(sound) for label, sound in pairs}
    except ValueError as error:
        raise HeadError(f"{error}.", f"Mouths are called {', '.join(SOUNDS)}.") from error
    unknown = [label for label in found if label not in labels]
    if unknown:
        raise HeadError(f"No drawing is called “{unknown[0]}”.", f"There are: {', '.join(labels)}.")
    return [found.get(label, NOTHING) for label in labels]


_CLASSES = (DIFFSPEAKER_PG_drawing, DIFFSPEAKER_OT_drawn_mouth)


def register() -> None:
    """Register the dialog."""
    for cls in _CLASSES:
        bpy.utils.register_class(cls)


def unregister() -> None:
    """Take it off again."""
    for cls in reversed(_CLASSES):
        bpy.utils.unregister_class(cls)
