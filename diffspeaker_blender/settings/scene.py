"""Declare the choices that the scene stores and that `diffspeaker.generate` also accepts."""

# mypy: disable-error-code="valid-type,no-any-return"
from __future__ import annotations

import zlib
from typing import Any

from bpy.props import BoolProperty, EnumProperty, FloatProperty, IntProperty

from ..worker import model_files

SEPARATE_OR_JOINED = (
    ("SEPARATE", "One Job Each", "Treat every selected strip as a line of its own"),
    ("JOINED", "One Line", "Treat the selected strips as pieces of one cut-up line"),
)
OUTPUTS = (
    (
        "NAMED",
        "Named Controls",
        "Write shape keys that an animator knows and can edit, such as jawOpen and mouthPucker. "
        "Models that speak in vertices fall back to compact keys",
    ),
    ("COMPACT", "Compact", "Write as few shape keys as hold the stated error"),
    ("FRAMES", "Every Frame", "Write one exact shape key for each frame, for pipelines"),
    ("CACHE", "Point Cache", "Write a PC2 point cache and a Mesh Cache modifier, for film"),
)
DETAILS = (
    ("DEFAULT", "As Trained", "Use the sampler and steps that suit the model best"),
    ("published", "As Published", "Repeat the published implementation step by step"),
    ("corrected", "Corrected", "Use the corrected sampler, which ends on the clean prediction"),
)
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
    from . import machine

    items = [(model_files.BUNDLED, "Bundled", "The model that comes with the add-on", "NONE", 0)]
    for model in model_files.models(machine.models_folder()):
        bundled = model.id == model_files.BUNDLED
        text = f"{model.notes} ({model.licence})".strip()
        items.append((model.id, model.name, text, "NONE", 0 if bundled else number(model.id)))
    return keep("models", items[1:] if len(items) > 1 and items[1][4] == 0 else items)


def _style_items(self: Any, _context: object) -> list[Any]:
    from . import machine

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
    output: EnumProperty(name="Output", description="Form of the result", items=OUTPUTS)
    tolerance: FloatProperty(
        name="Accuracy",
        description="Largest error of compact keys and corrective shapes, on a life-size head",
        default=0.05,
        min=0.001,
        soft_max=1.0,
        max=5.0,
        precision=3,
    )
    detail: BoolProperty(
        name="Correctives",
        description="Add corrective shapes, so that closed lips meet exactly at any jaw opening",
        default=True,
    )
    thin: BoolProperty(
        name="Thin Keys",
        description="Leave out keys that the curve does not need; closures of p, b and m stay",
        default=False,
    )
    thin_tolerance: FloatProperty(
        name="Within",
        description="Largest movement that thinning may cause anywhere on a life-size head",
        default=0.1,
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
