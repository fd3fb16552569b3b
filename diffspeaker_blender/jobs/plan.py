"""Turn what is chosen and selected into tasks: one sound, one head, one place on the timeline.

Everything a task needs of Blender is read here, at the click. Later only names are kept, because
pointers do not survive an undo or another file.
"""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bpy

from ..animation import clips
from ..character import head
from ..errors import AudioError, HeadError, LipSyncError
from ..settings import choices, machine
from ..settings.choices import Choices
from ..sound import sources as audio
from ..sound.sources import AudioClip
from ..worker import model_files
from ..worker.request import SpeechRequest
from ..worker.schedule import Task
from . import live

MODES = {"NAMED": "named", "COMPACT": "compact", "FRAMES": "every frame", "CACHE": "cache"}
"""What is chosen → how keys are made, in the words of `animation`."""


@dataclass(frozen=True)
class Form:
    """In what form a result is written.

    mode: "named", "compact", "every frame" or "cache".
    nla: in an action of its own on an NLA track.
    tolerance: millimetres that thinning may cost; 0 keeps every key.
    intensity: strength of the whole result.
    """

    mode: str
    nla: bool = False
    tolerance: float = 0.0
    intensity: float = 1.0


@dataclass(frozen=True)
class Place:
    """Where a result goes on the timeline.

    clip: name of the result on the head.
    start, duration: seconds on the scene's timeline.
    strip, handle: name of the first strip and the frame it began at, to follow it when it is moved
    while the model works; "" when the sound is no strip.
    """

    clip: str
    start: float
    duration: float
    strip: str = ""
    handle: float = 0.0


@dataclass(frozen=True)
class Placement:
    """Say where a result goes and in what form, by names and by what a thread must know.

    scene, head: names.
    fps: frames a second of the scene; unit: millimetres of the mesh's unit; keys: names of the
    head's shape keys; followed: those that move something else, such as its teeth. As they were at
    the click, so that a thread can make the keys ready.
    folder: the task's own files, removed when it ends; None when there are none.
    """

    scene: str
    head: str
    place: Place
    form: Form
    fps: float
    unit: float
    keys: tuple[str, ...]
    followed: frozenset[str]
    folder: Path | None = None

    @classmethod
    def of(
        cls,
        target: bpy.types.Object,
        scene: bpy.types.Scene,
        place: Place,
        form: Form,
        folder: Path | None = None,
    ) -> Placement:
        """Return the placement on a head as it is now, in a scene as it is now."""
        keys = target.data.shape_keys
        return cls(
            scene.name,
            target.name,
            place,
            form,
            fps=audio.scene_fps(scene),
            unit=head.millimetres(target, scene),
            keys=tuple(keys.key_blocks.keys()) if keys is not None else (),
            followed=frozenset(clips.followed(target)),
            folder=folder,
        )

    @property
    def clip(self) -> str:
        """Name of the result on the head."""
        return self.place.clip


def chosen_for(context: bpy.types.Context, operator: Any = None) -> SimpleNamespace:
    """Return the scene's choices, overridden by what was set on the operator."""
    stored = choices.settings(context)
    chosen = {}
    for name in Choices.__annotations__:
        given = operator is not None and operator.properties.is_property_set(name)
        chosen[name] = getattr(operator if given else stored, name)
    return SimpleNamespace(**chosen)


def find_head(context: bpy.types.Context, name: str = "") -> bpy.types.Object:
    """Return the head by name, else the picked one, else the active object, else the only one.

    Raises HeadError.
    """
    if name:
        found = bpy.data.objects.get(name)
        if found is None:
            raise HeadError(f"There is no object called “{name}”.", "Check the head's name.")
        return found
    found = choices.settings(context).head or head.find_head(context)
    if found is None:
        raise HeadError(
            "There is no head in this scene.", "Pick your head mesh, or add the demo head."
        )
    return found  # type: ignore[no-any-return]


def clip_sources(
    context: bpy.types.Context, strips_as: str = "SEPARATE", file: str = "", start: float = 1.0
) -> list[tuple[AudioClip, str, float]]:
    """Return the chosen sounds, each with its strip's name and left frame ("" and 0 without strip).

    A `file` given by name (a script's) wins over what the scene says; `start` is its frame.
    Raises AudioError.
    """
    settings = choices.settings(context)
    scene = audio.sequencer_scene(context) or context.scene
    fps = audio.scene_fps(scene)
    if file or settings.source == "FILE":
        path = file or bpy.path.abspath(settings.audio_file)
        if not path:
            raise AudioError("No sound file is chosen.", "Choose a file, or select a strip.")
        return [(audio.file_clip(path, (start if file else settings.audio_start) / fps), "", 0.0)]
    if settings.source == "SPEAKER":
        if settings.speaker is None:
            raise AudioError("No Speaker object is chosen.", "Pick one in the Lip-Sync panel.")
        return [(audio.speaker_clip(settings.speaker, scene), "", 0.0)]
    strips = audio.selected_strips(context)
    if not strips:
        raise AudioError(
            "No sound strip is selected.",
            "Select a sound strip in the sequencer, or choose a file.",
        )
    if strips_as == "JOINED" and len(strips) > 1:
        return [(audio.strips_clip(scene, strips), strips[0].name, left_frame(strips[0]))]
    return [(audio.strip_clip(scene, strip), strip.name, left_frame(strip)) for strip in strips]


def left_frame(strip: Any) -> float:
    """Return the first frame on which a strip is heard (renamed in Blender 5.2)."""
    return float(strip.left_handle if hasattr(strip, "left_handle") else strip.frame_final_start)


def tasks(
    context: bpy.types.Context,
    operator: Any = None,
    *,
    head_name: str = "",
    file: str = "",
    start: float = 1.0,
) -> list[Task]:
    """Return the tasks of one click. Raises LipSyncError; nothing is started."""
    chosen = chosen_for(context, operator)
    if not chosen.model:
        raise LipSyncError("The chosen model file is not there any more.", "Choose another model.")
    model = model_files.find(chosen.model, machine.models_folder())
    target = find_head(context, head_name)
    check(target, model)
    sources = clip_sources(context, chosen.strips, file, start)
    try:
        return [_task(context, chosen, model, target, *source) for source in sources]
    except OSError as error:
        raise LipSyncError(
            f"The job's files cannot be written: {error.strerror or error}.",
            "Free some disk space, or choose another temporary folder in the preferences.",
        ) from error


def model_of(context: bpy.types.Context) -> model_files.ModelFile | None:
    """Return the model the scene has chosen, None when its file is missing."""
    return model_files.find(choices.settings(context).model, machine.models_folder())


def need_of(model: model_files.ModelFile | None) -> str:
    """Return the kind of head a model needs: "any", "flame", or the model's "own".

    A vertex model moves vertices by number. One that brings its own head can be checked against it
    by the worker; without, FLAME's is the only mesh it can be meant for.
    """
    if model is None or model.motion != "vertices":
        return "any"
    return "own" if model.template else "flame"


def check(target: bpy.types.Object, model: model_files.ModelFile | None) -> None:
    """Refuse a head the model cannot move, naming why. Raises HeadError."""
    report = head.check_head(target, need_of(model))
    if not report.usable:
        raise HeadError(report.reason)


def _task(
    context: bpy.types.Context,
    chosen: SimpleNamespace,
    model: model_files.ModelFile | None,
    target: bpy.types.Object,
    clip: AudioClip,
    strip: str,
    handle: float,
) -> Task:
    folder = Path(tempfile.mkdtemp(prefix="task-", dir=machine.work_folder()))
    scene = audio.sequencer_scene(context) or context.scene
    request = SpeechRequest(
        **clip.request(folder),
        face=str(head.write_face(target, folder / "face.npz")),
        output=str(folder / "motion.npz"),
        checkpoint=model.checkpoint if model else chosen.model,
        style=_style(chosen) if model else None,
        steps=chosen.steps or None,
        sampler=None if chosen.sampler == "DEFAULT" else chosen.sampler,
        guidance=chosen.guidance or None,
        expression=chosen.expression,
        gate=None if chosen.gate else False,  # None: as fits the model
        seed=chosen.seed,
        tolerance=chosen.tolerance,
        detail=chosen.detail,
        device=machine.get().device,
    )
    place = Place(clip.name, clip.start, clip.duration, strip, handle)
    placement = Placement.of(target, scene, place, form_of(chosen), folder)  # type: ignore[arg-type]
    return Task(request.fields(), placement)


def form_of(chosen: SimpleNamespace) -> Form:
    """Return the form that the choices ask for."""
    thinned = chosen.thin_tolerance if chosen.thin else 0.0
    return Form(MODES[chosen.output], chosen.nla, thinned, chosen.intensity)


def sound_of(context: bpy.types.Context, target: bpy.types.Object) -> AudioClip | None:
    """Return the sound of the line that a head's live controls show, by its strip's name."""
    scene = audio.sequencer_scene(context) or context.scene
    strip = strip_named(scene, live.adjust(target).clip)  # type: ignore[arg-type]
    if strip is not None:
        return audio.strip_clip(scene, strip)
    try:
        return clip_sources(context)[0][0]
    except AudioError:
        return None


def strip_named(scene: bpy.types.Scene, name: str) -> Any | None:
    """Return a sequencer strip by name, inside metas too (renamed in Blender 4.4)."""
    editor = scene.sequence_editor
    if editor is None or not name:
        return None
    every = editor.strips_all if hasattr(editor, "strips_all") else editor.sequences_all  # type: ignore[attr-defined]
    return every.get(name)


def _style(chosen: SimpleNamespace) -> str | dict[str, float] | None:
    """Return one style, or a mix of two by their shares; None for a model without names."""
    if not chosen.style:
        return None
    if chosen.style_blend <= 0 or chosen.second_style in ("", chosen.style):
        return str(chosen.style)
    return {chosen.style: 1.0 - chosen.style_blend, chosen.second_style: chosen.style_blend}


def file_name(text: str) -> str:
    """Return a name that every file system takes, letters of any language kept."""
    return re.sub(r"[^\w\-]+", "_", text).strip("_") or "line"
