"""Hold what the user chose (on the Scene), what a head wears (on the Object), what goes on.

Three property groups, each read through one function:

    scene.diffspeaker           `settings(context)`  choices for the next job, saved with the file
    object.diffspeaker          `adjust(object)`     live controls over a finished result
    window_manager.diffspeaker  `status(context)`    progress and the last message, never saved
"""

# mypy: disable-error-code="valid-type,no-any-return"
from __future__ import annotations

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

from ..animation import clips, storage
from ..motion.motion import Adjustments
from .scene import Choices, keep, number

SOURCES = (
    ("STRIPS", "Strips", "Use the selected sound strips of the sequencer"),
    ("FILE", "File", "Use a sound file from the disk, placed at the start frame below"),
    ("SPEAKER", "Speaker", "Use the sound of a Speaker object in the scene"),
)
LEVELS = (("INFO", "Info", ""), ("WARNING", "Warning", ""), ("ERROR", "Error", ""))


LIVE = ("intensity", "jaw", "lips", "upper", "expression", "smoothing", "offset")

_quiet: list[str] = []  # heads whose live controls are being filled in, not moved


def _clip_items(self: Any, _context: object) -> list[Any]:
    names = clips.clips(self.id_data)
    items = [
        (name, name, "A line on this head", "NONE", number(name) * bool(place))
        for place, name in enumerate(names)
    ]
    return keep("clips", items or [("NONE", "No Line Yet", "Generate one first", "NONE", 0)])


def _is_mesh(_settings: object, candidate: bpy.types.Object) -> bool:
    return candidate.type == "MESH"


def _is_speaker(_settings: object, candidate: bpy.types.Object) -> bool:
    return candidate.type == "SPEAKER"


class DIFFSPEAKER_PG_settings(Choices, bpy.types.PropertyGroup):
    """Keep the choices for the next job with the scene."""

    source: EnumProperty(name="Sound", description="Where the speech comes from", items=SOURCES)
    audio_file: StringProperty(
        name="Sound File",
        description="Any sound or movie file that Blender reads",
        subtype="FILE_PATH",
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
        description="Head mesh that shall speak; when empty, the active object",
        type=bpy.types.Object,
        poll=_is_mesh,
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
    export_audio: BoolProperty(
        name="Sound Beside It",
        description="Write the sound of the line as a .wav with the same name",
    )


def _live(self: Any, _context: object) -> None:
    from ..jobs import live

    if self.id_data.name not in _quiet:
        live.adjust_soon(self.id_data.name)


def _fill_in(self: Any, _context: object) -> None:
    record = clips.stored_clip(self.id_data, self.clip)
    if record is not None:
        show_adjustments(self.id_data, storage.adjustments(record))


class DIFFSPEAKER_PG_adjust(bpy.types.PropertyGroup):
    """Hold a head's live controls; a change re-writes its curves from the stored motion."""

    clip: EnumProperty(
        name="Line",
        description="Result that the live controls act on",
        items=_clip_items,
        update=_fill_in,
    )
    intensity: FloatProperty(
        name="Intensity",
        description="Strength of the whole result",
        default=1.0,
        min=0.0,
        soft_max=2.0,
        max=3.0,
        update=_live,
    )
    jaw: FloatProperty(
        name="Jaw",
        description="Strength of the jaw; lips that the model closed stay closed",
        default=1.0,
        min=0.0,
        soft_max=2.0,
        max=3.0,
        update=_live,
    )
    lips: FloatProperty(
        name="Lips",
        description="Strength of rounding, spreading and rolling of the lips",
        default=1.0,
        min=0.0,
        soft_max=2.0,
        max=3.0,
        update=_live,
    )
    upper: FloatProperty(
        name="Upper Face",
        description="Strength of brows, lids, eyes and nose",
        default=1.0,
        min=0.0,
        soft_max=2.0,
        max=3.0,
        update=_live,
    )
    expression: FloatProperty(
        name="Life",
        description="Strength of blinks, brows and glances beside the speech",
        default=1.0,
        min=0.0,
        soft_max=2.0,
        max=3.0,
        update=_live,
    )
    smoothing: FloatProperty(
        name="Smoothing",
        description="Calm the motion; a closed mouth is never opened by it",
        min=0.0,
        max=1.0,
        subtype="FACTOR",
        update=_live,
    )
    offset: FloatProperty(
        name="Time Offset",
        description="Shift the motion against the sound; positive is later, in seconds",
        soft_min=-0.5,
        soft_max=0.5,
        min=-10.0,
        max=10.0,
        subtype="TIME_ABSOLUTE",
        update=_live,
    )


class DIFFSPEAKER_PG_status(bpy.types.PropertyGroup):
    """Mirror the job queue for panels and scripts; written by `jobs` alone."""

    busy: BoolProperty(name="Busy")
    line: StringProperty(name="Line")
    stage: StringProperty(name="Stage")
    fraction: FloatProperty(name="Fraction", min=0.0, max=1.0)
    seconds_left: FloatProperty(name="Seconds Left", default=-1.0)
    waiting: IntProperty(name="Waiting Jobs")
    message: StringProperty(name="Last Message")
    hint: StringProperty(name="What To Do")
    level: EnumProperty(name="Level", items=LEVELS)
    chore: StringProperty(name="Set-Up Work")
    chore_fraction: FloatProperty(name="Fraction of the Set-Up Work", min=0.0, max=1.0)
    chore_left: FloatProperty(name="Seconds Left of the Set-Up Work", default=-1.0)
    fix: StringProperty(name="Fix", description="What `diffspeaker.fix` shall do")
    fix_label: StringProperty(name="Name of the Fix")
    head: StringProperty(name="Head of the Last Message")


_CLASSES = (DIFFSPEAKER_PG_settings, DIFFSPEAKER_PG_adjust, DIFFSPEAKER_PG_status)


def settings(context: bpy.types.Context) -> DIFFSPEAKER_PG_settings:
    """Return the choices of the scene whose sequencer is shown (5.x) or of the scene itself."""
    return (getattr(context, "sequencer_scene", None) or context.scene).diffspeaker


def adjust(head: bpy.types.Object) -> DIFFSPEAKER_PG_adjust:
    """Return the live controls of a head."""
    return head.diffspeaker


def show_adjustments(head: bpy.types.Object, shown: Adjustments, clip: str = "") -> None:
    """Fill in the live controls without moving the curves; choose `clip` first if named."""
    _quiet.append(head.name)
    try:
        if clip:
            head.diffspeaker.clip = clip
        for name in LIVE:
            setattr(head.diffspeaker, name, getattr(shown, name))
    finally:
        _quiet.remove(head.name)


def choose_some_clip(head: bpy.types.Object) -> None:
    """Let the live controls show the first clip that is left, when the chosen one was removed."""
    left = clips.clips(head)
    if left:
        head.diffspeaker.clip = left[0]
    else:
        head.diffspeaker.property_unset("clip")


def status(context: bpy.types.Context | None = None) -> DIFFSPEAKER_PG_status:
    """Return the status that panels show."""
    return (context or bpy.context).window_manager.diffspeaker


def register() -> None:
    """Register the groups and hang them on Scene, Object and WindowManager."""
    for cls in _CLASSES:
        bpy.utils.register_class(cls)
    bpy.types.Scene.diffspeaker = PointerProperty(type=DIFFSPEAKER_PG_settings)
    bpy.types.Object.diffspeaker = PointerProperty(type=DIFFSPEAKER_PG_adjust)
    bpy.types.WindowManager.diffspeaker = PointerProperty(type=DIFFSPEAKER_PG_status)


def unregister() -> None:
    """Take the groups off again."""
    for owner in (bpy.types.WindowManager, bpy.types.Object, bpy.types.Scene):
        del owner.diffspeaker
    for cls in reversed(_CLASSES):
        bpy.utils.unregister_class(cls)
