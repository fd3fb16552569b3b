# SPDX-License-Identifier: GPL-3.0-or-later
"""What one sees: the Lip-Sync tab in the sidebars of the 3D Viewport and the Sequencer.

Every panel is written once and shown in both editors. Nothing hides when it cannot work: it greys
out and says why.
"""

# mypy: disable-error-code="valid-type,no-any-return"
from __future__ import annotations

import textwrap
from typing import Any

import blf
import bpy

from ..animation import clips
from ..character import detect, fit, head
from ..errors import Finding
from ..jobs import live, plan, status
from ..jobs.status import time_left
from ..settings import choices, machine
from ..sound import sources
from ..worker.model_files import ModelFile
from . import character as character_ui
from .lines import draw_line
from .preferences import draw_chore
from .presets import DIFFSPEAKER_PT_presets

NO_SOUND = "Select a sound strip in the sequencer, or choose a file"
_ICONS = {"INFO": "CHECKMARK", "WARNING": "ERROR", "ERROR": "CANCEL"}
_error: tuple[int, tuple[object, ...]] = (0, ())
_refusals: dict[tuple[object, ...], tuple[str, Finding | None]] = {}


class _Sidebar:
    """Stand in the Lip-Sync tab."""

    layout: Any
    bl_region_type = "UI"
    bl_category = "Lip-Sync"

    def prepared(self) -> bpy.types.UILayout:
        """Return the layout, labels split off and without animation dots."""
        self.layout.use_property_split = True
        self.layout.use_property_decorate = False
        return self.layout


class _Child(_Sidebar):
    bl_options = {"DEFAULT_CLOSED"}


class _Main(_Sidebar):
    bl_label = "Lip-Sync"

    def draw_header_preset(self, _context: bpy.types.Context) -> None:
        DIFFSPEAKER_PT_presets.draw_panel_header(self.layout)

    def draw(self, context: bpy.types.Context) -> None:
        layout, settings = self.prepared(), choices.settings(context)
        lacking = machine.lacking(plan.model_of(context))
        if lacking or status.now(context).chore:
            _draw_lacking(layout, context, lacking)
        column = layout.column()
        column.prop(settings, "model")
        column.prop(settings, "style")
        column = layout.column()
        column.prop(settings, "head")
        chosen = chosen_head(context)
        if chosen is None:
            _draw_no_head(layout)
        _draw_sound(layout, context, settings)
        pressable = _draw_button(layout, context, chosen)
        now = status.now(context)
        # What came of a line is old news once another thing is chosen.
        if (pressable or not now.head or now.level != "INFO") and not lacking:
            _draw_message(layout, context)


class _Performance(_Child):
    bl_label = "Performance"

    def draw(self, context: bpy.types.Context) -> None:
        layout, settings = self.prepared(), choices.settings(context)
        layout.prop(settings, "intensity")
        layout.prop(settings, "expression")
        layout.prop(settings, "rest")
        layout.prop(settings, "lead")
        layout.prop(settings, "seed")
        layout.prop(settings, "gate")
        column = layout.column(align=True)
        column.prop(settings, "style_blend", text="Blend Style")
        row = column.row()
        row.active = settings.style_blend > 0
        row.prop(settings, "second_style", text="With")


class _Keys(_Child):
    bl_label = "Keys"

    def draw(self, context: bpy.types.Context) -> None:
        layout, settings = self.prepared(), choices.settings(context)
        layout.prop(settings, "output")
        column = layout.column()
        column.active = settings.output in {"EXACT", "COMPACT"}
        column.prop(settings, "tolerance", text="Accuracy (mm)")
        column = layout.column(heading="Few Keys")
        column.active = settings.output == "NAMED"
        row = column.row(align=True)
        row.prop(settings, "thin", text="")
        sub = row.row()
        sub.active = settings.thin
        sub.prop(settings, "thin_tolerance", text="mm")
        row = layout.row()
        row.active = settings.output != "CACHE"
        row.prop(settings, "nla")


class _Sampling(_Child):
    bl_label = "Sampling"

    def draw(self, context: bpy.types.Context) -> None:
        layout, settings = self.prepared(), choices.settings(context)
        layout.prop(settings, "sampler")
        layout.prop(settings, "steps")
        layout.prop(settings, "guidance")


class _Lines(_Child):
    bl_label = "Lines and Takes"
    bl_options = set()

    def draw(self, context: bpy.types.Context) -> None:
        layout, chosen = self.prepared(), chosen_head(context)
        if chosen is None or not clips.clips(chosen):
            layout.label(text="Generate a line first", icon="INFO")
            return
        draw_line(layout, context, chosen)


class _Character(_Child):
    bl_label = "Character"
    bl_options = set()

    def draw(self, context: bpy.types.Context) -> None:
        character_ui.draw(self.prepared(), context, wrapped)


class _Mapping(_Child):
    bl_label = "Mapping"

    def draw(self, context: bpy.types.Context) -> None:
        character_ui.draw_mapping(self.prepared(), context)


class _Live(_Child):
    bl_label = "Live Controls"

    def draw(self, context: bpy.types.Context) -> None:
        layout, chosen = self.prepared(), chosen_head(context)
        names = clips.clips(chosen) if chosen is not None else ()
        if chosen is None or not names:
            layout.label(text="Generate a line first", icon="INFO")
            return
        controls = live.adjust(chosen)
        column = layout.column(align=True)
        for name in ("intensity", "jaw", "lips", "upper", "expression"):
            column.prop(controls, name, slider=True)
        layout.prop(controls, "smoothing")
        layout.prop(controls, "offset")
        if len(names) > 1:
            layout.operator("diffspeaker.adjust_all").head = chosen.name


class _Export(_Child):
    bl_label = "Export"

    def draw(self, context: bpy.types.Context) -> None:
        layout, settings = self.prepared(), choices.settings(context)
        layout.prop(settings, "export_format")
        layout.prop(settings, "export_shapes")
        layout.prop(settings, "export_audio")
        layout.operator("diffspeaker.export", icon="EXPORT")


# --- parts of the main panel ---------------------------------------------------------------------


def chosen_head(context: bpy.types.Context) -> bpy.types.Object | None:
    """Return the head the panel speaks of: the picked one, else the active object, else the one."""
    return plan.chosen_head(context)


def why_not(
    context: bpy.types.Context, chosen: bpy.types.Object | None
) -> tuple[str, Finding | None]:
    """Return why nothing can be generated now ("" when all is ready) and what a button can mend."""
    if machine.lacking(plan.model_of(context)):
        return "Something is missing, see above", None
    if chosen is None and plan.unfitted(context) is None:
        return "Pick a head, or add the demo head", None
    settings = choices.settings(context)
    if settings.source == "STRIPS" and not sources.selected_strips(context):
        return NO_SOUND, None
    if settings.source == "FILE" and not settings.audio_file:
        return "Choose a sound file", None
    if settings.source == "SPEAKER" and settings.speaker is None:
        return "Pick a Speaker object", None
    return ("", None) if chosen is None else _refusal(chosen, plan.model_of(context))


def _refusal(chosen: bpy.types.Object, model: ModelFile | None) -> tuple[str, Finding | None]:
    """Return why this head is refused; looked at again only when something about it changed."""
    mesh = chosen.data
    if detect.is_mapped(chosen):
        if plan.need_of(model) != "any" and not plan.may_read(model):
            return "This model needs a FLAME head in the file, or choose the bundled one", None
        return "", None
    if not head.looks_like_head(chosen) and not plan.is_own(
        chosen, model
    ):  # it is measured when the button is pressed
        if chosen.type != "MESH" or mesh.shape_keys is not None:
            return "", None
        if detect.armature_of(chosen) is not None:
            return "", None
        return f"{chosen.name} cannot speak: {fit.NEEDS}. Make Face Shapes may give it some", None
    counts = (len(mesh.vertices), len(mesh.edges), len(mesh.polygons), mesh.users)
    state = (chosen.mode, chosen.library, mesh.library, mesh.override_library)
    key = (chosen.name_full, mesh.name_full, *counts, *map(str, state), model and model.id)
    if key not in _refusals:
        _refusals.clear()
        report = plan.report_on(chosen, model)
        _refusals[key] = ("", None) if report.usable else (report.reason, report.fix)
    return _refusals[key]


def wrapped(layout: bpy.types.UILayout, context: bpy.types.Context, text: str, icon: str) -> None:
    """Write a sentence over as many lines as the sidebar's width asks for."""
    scale = context.preferences.system.ui_scale
    points = context.preferences.ui_styles[0].widget.points
    blf.size(0, points * scale)
    room = context.region.width - 85 * scale  # tabs, margins and the icon
    letters = max(16, int(len(text) * room / max(1.0, blf.dimensions(0, text)[0])))
    column = layout.column(align=True)
    for number, line in enumerate(textwrap.wrap(text, letters)):
        column.label(text=line, icon="BLANK1" if number else icon)  # type: ignore[arg-type]


def _draw_lacking(layout: bpy.types.UILayout, context: bpy.types.Context, lacking: str) -> None:
    """Say what the chosen model or device needs that is not here, and offer it."""
    box = layout.box()
    state = status.now(context)
    if state.chore:
        draw_chore(box, state)
        return
    wrapped(box, context, lacking, "INFO")
    if state.message and state.level == "ERROR":
        _draw_message(box, context)
    box.operator("diffspeaker.install_runtime", icon="IMPORT")
    box.operator("diffspeaker.open_preferences", icon="PREFERENCES")


def _draw_no_head(layout: bpy.types.UILayout) -> None:
    column = layout.column(align=True)
    column.operator("diffspeaker.fit_character", icon="VIEWZOOM")
    column.operator("diffspeaker.add_demo_head", icon="USER")
    column.operator("diffspeaker.import_flame_head", icon="IMPORT")


def _draw_sound(
    layout: bpy.types.UILayout,
    context: bpy.types.Context,
    settings: choices.DIFFSPEAKER_PG_settings,
) -> None:
    """Show where the sound comes from and what is chosen there."""
    row = layout.row()
    row.use_property_split = False
    row.prop(settings, "source", expand=True)
    column = layout.column()
    if settings.source == "FILE":
        column.prop(settings, "audio_file", text="File")
        column.prop(settings, "audio_start")
        return
    if settings.source == "SPEAKER":
        column.prop(settings, "speaker")
        return
    strips = sources.selected_strips(context)
    several = len(plan.heads(context)) > 1
    speakers = plan.speaker_names(context, strips[:3]) if several else []
    for place, strip in enumerate(strips[:3]):
        split = column.split(factor=0.4)
        split.label()
        by = f": {speakers[place]}" if place < len(speakers) else ""
        split.label(text=strip.name + by, icon="SOUND")
    if len(strips) > 3:
        split = column.split(factor=0.4)
        split.label()
        split.label(text=f"and {len(strips) - 3} more", icon="BLANK1")
    if len(strips) > 1:
        column.prop(settings, "strips")


def _draw_button(
    layout: bpy.types.UILayout, context: bpy.types.Context, chosen: bpy.types.Object | None
) -> bool:
    """Show the button, or in its place the progress; return whether it can be pressed."""
    now = status.now(context)
    if now.busy:
        draw_progress(layout, now)
        return False
    reason, mend = why_not(context, chosen)
    row = layout.row()
    row.scale_y = 1.4
    row.enabled = not reason
    row.operator_context = "INVOKE_DEFAULT"
    if reason == NO_SOUND:
        row.enabled = True
        row.operator("diffspeaker.choose_sound", icon="FILE_SOUND")
    else:
        row.operator("diffspeaker.generate", icon="PLAY")
    if reason and not machine.lacking(plan.model_of(context)):
        wrapped(layout, context, reason, "INFO")
    if mend is not None and chosen is not None:
        _draw_fix(layout, mend.fix, mend.fix_label, chosen.name)
    return not reason


def draw_progress(layout: bpy.types.UILayout, now: status.DIFFSPEAKER_PG_status) -> None:
    """Show the bar, the time that is left and the way to stop."""
    row = layout.row(align=True)
    text = " · ".join(part for part in (now.stage, time_left(now.seconds_left)) if part)
    row.progress(text=text, factor=now.fraction)
    row.operator("diffspeaker.cancel", text="", icon="X")
    if now.waiting:
        layout.label(text=f"{now.line}, {now.waiting} more waiting", icon="BLANK1")


def _draw_message(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    """Show the last sentence, and the button that mends what it speaks of."""
    now = status.now(context)
    if now.busy or not now.message or not _still_true(context):
        return
    wrapped(layout, context, now.message, _ICONS[now.level])
    if now.hint:
        wrapped(layout, context, now.hint, "BLANK1")
    if now.fix:
        _draw_fix(layout, now.fix, now.fix_label, now.head)


def _still_true(context: bpy.types.Context) -> bool:
    """Return False for an error once something it may have come from was changed."""
    global _error  # noqa: PLW0603
    now, settings = status.now(context), choices.settings(context)
    if now.level != "ERROR":
        return True
    chosen = chosen_head(context)
    situation = (
        settings.model, settings.source, settings.audio_file, settings.speaker,
        *(strip.name for strip in sources.selected_strips(context)),
        chosen and (chosen.name_full, chosen.mode), machine.get().device, machine.python(),
    )  # fmt: skip
    if _error[0] != now.number:
        _error = (now.number, situation)
    return _error[1] == situation


def _draw_fix(layout: bpy.types.UILayout, fix: str, label: str, head_name: str) -> None:
    """Offer the way out."""
    button = layout.operator("diffspeaker.fix", text=label or "Fix", icon="TOOL_SETTINGS")
    button.name, button.head = fix, head_name


# --- both editors --------------------------------------------------------------------------------

_EDITORS = (("", "VIEW_3D"), ("sequencer_", "SEQUENCE_EDITOR"))
_PANELS = (
    ("character", _Character),
    ("mapping", _Mapping),
    ("performance", _Performance),
    ("lines", _Lines),
    ("live", _Live),
    ("keys", _Keys),
    ("export", _Export),
    ("sampling", _Sampling),
)


def _in_both_editors() -> list[type[bpy.types.Panel]]:
    """Return one class a panel and editor: DIFFSPEAKER_PT_main, DIFFSPEAKER_PT_sequencer_main, …"""
    made = []
    for prefix, space in _EDITORS:
        main = f"DIFFSPEAKER_PT_{prefix}main"
        made.append(type(main, (_Main, bpy.types.Panel), {"bl_space_type": space}))
        for name, content in _PANELS:
            body = {"bl_space_type": space, "bl_parent_id": main}
            made.append(type(f"DIFFSPEAKER_PT_{prefix}{name}", (content, bpy.types.Panel), body))
    return made


_CLASSES = _in_both_editors()


def register() -> None:
    """Register the panels of both editors."""
    for cls in _CLASSES:
        bpy.utils.register_class(cls)


def unregister() -> None:
    """Take them off again."""
    _refusals.clear()
    for cls in reversed(_CLASSES):
        bpy.utils.unregister_class(cls)
