# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold what the user chose for the next job: stored with the scene, accepted by the operator.

scene.diffspeaker      `settings(context)`
"""

# mypy: disable-error-code="valid-type,no-any-return"
from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import bpy
from bpy.props import (
    BoolProperty,
    EnumProperty,
    FloatProperty,
    IntProperty,
    PointerProperty,
    StringProperty,
)

from ..worker import model_files
from . import machine

SOURCES = (
    ("STRIPS", "Strips", "Use the selected sound strips of the sequencer"),
    ("FILE", "File", "Use a sound file from the disk, placed at the start frame below"),
    ("SPEAKER", "Speaker", "Use the sound of a Speaker object in the scene"),
)
SEPARATE_OR_JOINED = (
    ("SEPARATE", "One Job Each", "Treat every selected strip as a line of its own"),
    ("JOINED", "One Line", "Treat the selected strips as pieces of one cut-up line"),
)
TAKES = (
    ("NEW", "New Take", "Keep the last take beside the new one"),
    ("REPLACE", "Replace Take", "Put the new take in the place of the one that is shown"),
)
EDITS = (
    ("LAYER", "Keep as Layer", "Lay what was changed by hand over the new take"),
    ("GUIDE", "Keep My Keys", "Let keys set by hand guide the new take, which passes through them"),
    ("DROP", "Leave with Old Take", "Show the new take as generated; the last keeps its edits"),
)
OUTPUTS = (
    (
        "NAMED",
        "Named Controls",
        "Write shape keys that an animator knows and can edit, such as jawOpen and mouthPucker; "
        "correctives follow them by drivers. Models that speak in vertices fall back to compact "
        "keys",
        0,
    ),
    (
        "EXACT",
        "Exact",
        "Write the named controls on every frame, and detail shapes for what they miss",
        4,
    ),
    ("COMPACT", "Compact", "Write as few shape keys as hold the stated error", 1),
    ("FRAMES", "Every Frame", "Write one exact shape key for each frame, for pipelines", 2),
    ("CACHE", "Point Cache", "Write a PC2 point cache and a Mesh Cache modifier, for film", 3),
)
DETAILS = (
    ("DEFAULT", "As Trained", "Use the sampler and steps that suit the model best"),
    ("published", "As Published", "Repeat the published implementation step by step"),
    ("corrected", "Corrected", "Use the corrected sampler, which ends on the clean prediction"),
)
picked: list[Callable[[Any], None]] = []
"""Who wants to know of the character that was picked in the panel."""
_items: dict[str, list[tuple[str, str, str, str, int]]] = {}  # Blender keeps no strings of its own


def number(name: str) -> int:
    """Return a number that stays the same for a name, so that saved files survive new choices.

    What is chosen when nothing was ever chosen has number 0 instead.
    """
    return zlib.crc32(name.encode("utf-8")) & 0x7FFFFFFF


def keep(key: str, items: list[tuple[str, str, str, str, int]]) -> list[Any]:
    """Hold on to the items of a changing list for as long as Blender may show them."""
    _items[key] = items
    return items


def _model_items(_self: object, _context: object) -> list[Any]:
    items = [(model_files.BUNDLED, "Bundled", "The model that comes with the add-on", "NONE", 0)]
    for model in model_files.models(machine.models_folder()):
        bundled = model.id == model_files.BUNDLED
        text = f"{model.notes} ({model.licence})".strip()
        items.append((model.id, model.name, text, "NONE", 0 if bundled else number(model.id)))
    return keep("models", items[1:] if len(items) > 1 and items[1][4] == 0 else items)


def _style_items(self: Any, _context: object) -> list[Any]:
    model = model_files.find(self.model, machine.models_folder())
    styles = model.styles if model is not None else ("neutral",)
    return keep(
        f"styles {self.model}",
        [
            (
                style,
                model_files.style_label(style, place + 1),
                "",
                "NONE",
                number(style) * bool(place),
            )
            for place, style in enumerate(styles)
        ],
    )


class Choices:
    """Mix into a property group or an operator: one declaration, two places."""

    model: EnumProperty(
        name="Model",
        description="Model that turns speech into motion; add more under Preferences",
        items=_model_items,
    )
    style: EnumProperty(
        name="Style",
        description="Way of speaking, as the model learned it",
        items=_style_items,
    )
    second_style: EnumProperty(
        name="Blend With",
        description="Second way of speaking to mix in",
        items=_style_items,
    )
    style_blend: FloatProperty(
        name="Blend",
        description="Share of the second style in the mix",
        min=0.0,
        max=1.0,
        subtype="FACTOR",
    )
    strips: EnumProperty(
        name="Several Strips",
        description="What to make of several selected strips",
        items=SEPARATE_OR_JOINED,
    )
    intensity: FloatProperty(
        name="Intensity",
        description="Strength of the whole motion; 1 is as the model speaks",
        default=1.0,
        min=0.0,
        soft_max=2.0,
        max=3.0,
    )
    expression: FloatProperty(
        name="Life",
        description="Strength of blinks, brows and glances beside the speech",
        default=1.0,
        min=0.0,
        max=1.0,
        subtype="FACTOR",
    )
    rest: FloatProperty(
        name="Rest",
        description=(
            "How soon a pause shuts the lips: at 0 they stay parted but in a long silence, at 1 "
            "every pause shuts them. People are in the middle: apart between words and in half of "
            "the pauses over half a second, together in those over a second"
        ),
        default=0.5,
        min=0.0,
        max=1.0,
        subtype="FACTOR",
    )
    lead: FloatProperty(
        name="Lead",
        description=(
            "Frames by which the face moves before the sound. 0 is when people's faces move; "
            "animators often like one frame early, so that a shape is seen before it is heard"
        ),
        default=0.0,
        min=-10.0,
        max=10.0,
        soft_min=-3.0,
        soft_max=3.0,
        step=50,
        precision=1,
    )
    gate: BoolProperty(
        name="Quiet Pauses",
        description="Take the noise between words for silence, so that the mouth rests there",
        default=True,
    )
    seed: IntProperty(
        name="Seed",
        description="Another number gives another take; the same number the same take",
        min=0,
    )
    take: EnumProperty(
        name="Again",
        description="What becomes of the last take when a line is generated again",
        items=TAKES,
    )
    edits: EnumProperty(
        name="Hand Edits",
        description="What becomes of curves edited by hand when a line is generated again",
        items=EDITS,
    )
    output: EnumProperty(name="Output", description="Form of the result", items=OUTPUTS)
    tolerance: FloatProperty(
        name="Accuracy",
        description="Largest error of exact and compact keys, on a life-size head",
        default=0.05,
        min=0.001,
        soft_max=1.0,
        max=5.0,
        precision=3,
    )
    thin: BoolProperty(
        name="Few Keys",
        description="Set keys as an animator would, on extremes and holds, with curves between; "
        "closures of p, b and m stay exact. Off keys every frame",
        default=True,
    )
    thin_tolerance: FloatProperty(
        name="Within",
        description="How far the lips may stray for it, on a life-size head, at 95 of 100 frames",
        default=0.5,
        min=0.01,
        max=5.0,
        precision=2,
    )
    nla: BoolProperty(
        name="NLA Strip",
        description="Put the result on an NLA track of its own and leave the action free",
    )
    sampler: EnumProperty(name="Sampler", description="How noise becomes motion", items=DETAILS)
    steps: IntProperty(
        name="Steps",
        description="Denoising steps; 0 takes the number that suits the model",
        min=0,
        soft_max=50,
        max=500,
    )
    guidance: FloatProperty(
        name="Guidance",
        description="How much more than usual the motion follows the sound; 0 is off",
        min=0.0,
        soft_max=3.0,
        max=10.0,
    )


def _is_character(_settings: object, candidate: bpy.types.Object) -> bool:
    return candidate.type in {"MESH", "ARMATURE", "GREASEPENCIL", "GPENCIL", "EMPTY"}


def _tell(self: Any, _context: object) -> None:
    for listener in picked:
        listener(self.head)


def _is_speaker(_settings: object, candidate: bpy.types.Object) -> bool:
    return candidate.type == "SPEAKER"


class DIFFSPEAKER_PG_settings(Choices, bpy.types.PropertyGroup):
    """Keep the choices for the next job with the scene."""

    source: EnumProperty(name="Sound", description="Where the speech comes from", items=SOURCES)
    audio_file: StringProperty(
        name="Sound File",
        description="Any sound or movie file that Blender reads",
        subtype="FILE_PATH",
        options=machine.PATH,
    )
    audio_start: FloatProperty(
        name="Start Frame",
        description="Frame at which the sound file begins",
        default=1.0,
        precision=1,
    )
    speaker: PointerProperty(
        name="Speaker",
        description="Speaker object whose sound is spoken",
        type=bpy.types.Object,
        poll=_is_speaker,
    )
    head: PointerProperty(
        name="Head",
        description="Head or character that shall speak, by its mesh or armature; when empty, the "
        "active object. A new character is measured when it is picked",
        type=bpy.types.Object,
        poll=_is_character,
        update=_tell,
    )
    export_format: EnumProperty(
        name="Format",
        description="File to write the speaking head to",
        items=(
            ("GLB", "glTF Binary (.glb)", "For engines and the web"),
            ("GLTF", "glTF (.gltf)", "glTF with separate files"),
            ("FBX", "FBX (.fbx)", "For Unreal, Unity, Maya and MotionBuilder"),
            ("USD", "USD (.usdc)", "Universal Scene Description"),
            ("ABC", "Alembic (.abc)", "Baked vertices for film"),
            ("CSV", "Curves (.csv)", "One row a frame, one column a control"),
            ("JSON", "Curves (.json)", "The same as CSV, with fps and names"),
        ),
    )
    export_shapes: EnumProperty(
        name="Shapes",
        description="Which shape keys the file has; drivers are baked, as these formats have none",
        items=(
            ("ALL", "All That Moves", "Every shape key, correctives too: what is seen in Blender"),
            ("ARKIT", "ARKit Only", "The 52 shapes that engines know, as near as they come"),
        ),
    )
    export_audio: BoolProperty(
        name="Sound Beside It",
        description="Write the sound of the line as a .wav with the same name",
    )


def settings(context: bpy.types.Context) -> DIFFSPEAKER_PG_settings:
    """Return the choices of the scene whose sequencer is shown (5.x) or of the scene itself."""
    return (getattr(context, "sequencer_scene", None) or context.scene).diffspeaker


def register() -> None:
    """Register the choices and hang them on Scene."""
    bpy.utils.register_class(DIFFSPEAKER_PG_settings)
    bpy.types.Scene.diffspeaker = PointerProperty(type=DIFFSPEAKER_PG_settings)  # type: ignore[attr-defined]


def unregister() -> None:
    """Take them off again."""
    del bpy.types.Scene.diffspeaker  # type: ignore[attr-defined]
    bpy.utils.unregister_class(DIFFSPEAKER_PG_settings)
