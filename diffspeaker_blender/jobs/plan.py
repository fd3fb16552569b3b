# SPDX-License-Identifier: GPL-3.0-or-later
"""Turn what is chosen and selected into tasks: one sound, one head, one place on the timeline.

Everything a task needs of Blender is read here, at the click. Later only names are kept, because
pointers do not survive an undo or another file.
"""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bpy

from ..animation import clips, compare
from ..character import detect, fit, head
from ..errors import AudioError, HeadError, LipSyncError
from ..settings import choices, machine
from ..settings.choices import Choices
from ..sound import sources as audio
from ..sound import strips as strips_at
from ..sound import tracking
from ..sound.sources import AudioClip
from ..worker import model_files
from ..worker.request import SpeechRequest
from ..worker.schedule import Task
from . import lines, live
from .lines import ANY_LINE, Wanted

MODES = {
    "NAMED": "named",
    "EXACT": "exact",
    "COMPACT": "compact",
    "FRAMES": "every frame",
    "CACHE": "cache",
}
"""What is chosen → how keys are made, in the words of `animation`."""


@dataclass(frozen=True)
class Form:
    """In what form a result is written.

    mode: "named", "compact", "every frame" or "cache".
    nla: in an action of its own on an NLA track.
    tolerance: millimetres that the lips may stray for few keys; 0 keys every frame.
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
    strip, layout: name of the first strip and where its content lay, to follow it when it is moved
    while the model works; "" and None when the sound is no strip.
    """

    clip: str
    start: float
    duration: float
    strip: str = ""
    layout: tracking.Layout | None = None


@dataclass(frozen=True)
class Placement:
    """Say where a result goes and in what form, by names and by what a thread must know.

    scene, head: names.
    fps: frames a second of the scene; unit: millimetres of the mesh's unit; keys: names of the
    head's shape keys; followed: those that move something else, such as its teeth. As they were at
    the click, so that a thread can make the keys ready.
    folder: the task's own files, removed when it ends; None when there are none.
    line: what the result is to the head's lines.
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
    line: Wanted = ANY_LINE
    remarks: tuple[str, ...] = ()
    """What else to tell with the result, such as strips that were passed over."""
    mapped: bool = False
    """Whether a mapping plays the controls on the character's own channels."""

    @classmethod
    def of(
        cls,
        target: bpy.types.Object,
        scene: bpy.types.Scene,
        place: Place,
        form: Form,
        folder: Path | None = None,
        line: Wanted = ANY_LINE,
    ) -> Placement:
        """Return the placement on a head as it is now, in a scene as it is now."""
        mapped = detect.is_mapped(target)
        keys = target.data.shape_keys if target.type == "MESH" else None
        return cls(
            scene.name,
            target.name,
            place,
            form,
            fps=audio.scene_fps(scene),
            unit=1000.0 if mapped else head.millimetres(target, scene),
            keys=tuple(keys.key_blocks.keys()) if keys is not None else (),
            followed=frozenset(clips.followed(target)),
            folder=folder,
            line=line,
            mapped=mapped,
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
    """Return the head by name, else the active or selected one, the picked one, the only one.

    Raises HeadError.
    """
    if name:
        return fitted(fit.named(context, name))
    found = chosen_head(context)
    if found is not None:
        return found
    new = _new_rig(context)
    if new is None:
        raise HeadError(
            "There is no head in this scene.", "Pick your head mesh, or add the demo head."
        )
    return fitted(new)


def fitted(found: bpy.types.Object) -> bpy.types.Object:
    """Return the mesh that speaks for an object: a head as it is, a character's face, fitted now.

    Raises HeadError where there is neither.
    """
    own = is_own(found, model_of(bpy.context))
    if (head.looks_like_head(found) or own) and not detect.is_mapped(found):
        return found
    face: bpy.types.Object = fit.ensure(found)
    return face


def unfitted(context: bpy.types.Context, name: str = "") -> bpy.types.Object | None:
    """Return the character that would speak but has to be measured first, else None."""
    found = fit.find(context, name) if name else chosen_head(context)
    found = found if found is not None or name else _new_rig(context)
    if found is None:
        return None
    face = detect.speaker_of(found)
    if face is not None:
        return face if fit.needs_fitting(face) else None
    known = head.looks_like_head(found) or is_own(found, model_of(context))
    return None if known else found


def _new_rig(context: bpy.types.Context) -> bpy.types.Object | None:
    """Return the active rig, as an import leaves it, of a character that nobody has fitted."""
    active = getattr(context, "object", None) or context.view_layer.objects.active
    rig = active if active is not None and active.type == "ARMATURE" else None
    return rig if rig is not None and detect.members(rig) else None


def chosen_head(context: bpy.types.Context) -> bpy.types.Object | None:
    """Return the head that speaks: the active one, the selected one, the picked one, the only one.

    So the panel, the menus and scripts mean the same head, and it is the one that the user sees.
    Where there is none, an active mesh with shapes or a rig, which is measured before it speaks.
    """
    active = getattr(context, "object", None) or context.view_layer.objects.active
    seen: list[bpy.types.Object | None] = [active, *context.view_layer.objects.selected]
    for obj in seen:
        if head.looks_like_head(obj) or is_own(obj, model_of(context)):
            return compare.original(obj)  # type: ignore[no-any-return]
        face: bpy.types.Object | None = detect.speaker_of(obj)
        if face is not None:
            return compare.original(face)  # type: ignore[no-any-return]
    picked: bpy.types.Object | None = choices.settings(context).head
    if picked is not None and picked.name in context.view_layer.objects:
        face = detect.speaker_of(picked) or (None if picked.type == "ARMATURE" else picked)
        if face is not None:
            return face
    every = heads(context)
    only = [obj for obj in every if head.looks_like_head(obj)]
    if len(only) == 1 or len(every) == 1:
        return (only if len(only) == 1 else every)[0]
    rig = active is None or active.type == "ARMATURE"
    new = not rig and not every and fit.could_speak(active)
    return active if new else None


def speakers(
    context: bpy.types.Context, scene: bpy.types.Scene, strips: list[Any], name: str = ""
) -> list[bpy.types.Object]:
    """Return who speaks each strip: the named head, else the active or selected one.

    A strip whose speaker was chosen goes to that one; strips that were spoken by several heads go
    to these, and so does a strip while no head is active. Raises HeadError.
    """
    known = [None if name else lines.speaker_of(scene, strip) for strip in strips]
    active = getattr(context, "object", None) or context.view_layer.objects.active
    speaks = head.looks_like_head(active) or detect.speaker_of(active) is not None
    seen = speaks and active.select_get()
    if seen and len({obj.name for obj in known if obj is not None}) < 2:
        chosen = [bool(strip.get(tracking.CHOSEN)) for strip in strips]
        known = [obj if by_hand else None for obj, by_hand in zip(known, chosen, strict=True)]
    return [obj or find_head(context, name) for obj in known]


def speaking(context: bpy.types.Context) -> list[str]:
    """Return the names of who would speak now, for panel and menus; none when nobody can."""
    strips = audio.selected_strips(context)
    if choices.settings(context).source == "STRIPS" and strips:
        return list(dict.fromkeys(speaker_names(context, strips)))
    found = chosen_head(context)
    return [found.name] if found is not None else []


def speaker_names(context: bpy.types.Context, strips: list[Any]) -> list[str]:
    """Return who would speak each strip, by name; none when nobody can."""
    scene: Any = audio.sequencer_scene(context) or context.scene
    try:
        return [obj.name for obj in speakers(context, scene, strips)]
    except HeadError:
        return []


def heads(context: bpy.types.Context) -> list[bpy.types.Object]:
    """Return every head in view that may speak."""
    every = [
        obj
        for obj in context.view_layer.objects
        if head.looks_like_head(obj) or detect.is_mapped(obj)
    ]
    return [obj for obj in every if compare.original(obj) == obj]


Source = tuple[AudioClip, str, tracking.Layout | None]
"""A sound, its strip's name and where that lies; "" and None for a sound without a strip."""


def clip_sources(
    context: bpy.types.Context, strips_as: str = "SEPARATE", file: str = "", start: float = 1.0
) -> tuple[list[Source], tuple[str, ...]]:
    """Return the chosen sounds, and sentences about selected strips that were passed over.

    A `file` given by name (a script's) wins over what the scene says; `start` is its frame.
    Raises AudioError when nothing is left to speak.
    """
    settings = choices.settings(context)
    scene: Any = audio.sequencer_scene(context) or context.scene
    fps = audio.scene_fps(scene)
    if file or settings.source == "FILE":
        path = bpy.path.abspath(file or settings.audio_file)
        if not path:
            raise AudioError("No sound file is chosen.", "Choose a file, or select a strip.")
        begin = start if file else settings.audio_start
        strip = None if file else strips_at.sound_at(scene, Path(path), begin)
        if strip is not None:  # put there when it was spoken first
            return [_source(scene, strip, audio.strip_clip(scene, strip))], ()
        return [(audio.file_clip(path, begin / fps), "", None)], ()
    if settings.source == "SPEAKER":
        if settings.speaker is None:
            raise AudioError("No Speaker object is chosen.", "Pick one in the Lip-Sync panel.")
        return [(audio.speaker_clip(settings.speaker, scene), "", None)], ()
    strips = audio.selected_strips(context)
    if not strips:
        raise AudioError(
            "No sound strip is selected.",
            "Select a sound strip in the sequencer, or choose a file.",
        )
    if strips_as == "JOINED" and len(strips) > 1:
        clip = audio.strips_clip(scene, strips)
        silent = audio.audible(scene, [strip for strip in strips if strip.type == "SOUND"])[1]
        first = _source(scene, strips[0], clip)
        return [first], tuple(error.message for error in silent)
    return _each(scene, strips)


def _each(scene: Any, strips: list[Any]) -> tuple[list[Source], tuple[str, ...]]:
    """Return a sound for every strip that gives one, and why others do not. Raises AudioError."""
    found, errors = [], []
    for strip in strips:
        try:
            found.append(_source(scene, strip, audio.strip_clip(scene, strip)))
        except AudioError as error:
            errors.append(error)
    if not found:
        raise errors[0]
    return found, tuple(error.message for error in errors)


def _source(scene: Any, strip: Any, clip: AudioClip) -> Source:
    return clip, strip.name, tracking.layout(scene, strip)


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
    sources, remarks = clip_sources(context, chosen.strips, file, start)
    scene: Any = audio.sequencer_scene(context) or context.scene
    strips = [strip_named(scene, name) for _, name, _ in sources]
    if all(strip is not None for strip in strips):
        targets = speakers(context, scene, strips, head_name)
    else:
        targets = [find_head(context, head_name)] * len(sources)
    targets = [_ready(target, model) for target in targets]
    try:
        asked = [
            _task(context, chosen, model, target, source, bool(file))
            for target, source in zip(targets, sources, strict=True)
        ]
        asked[-1].payload = replace(asked[-1].payload, remarks=remarks)  # told last, so it stays
        return asked
    except OSError as error:
        raise LipSyncError(
            f"The job's files cannot be written: {error.strerror or error}.",
            "Free some disk space, or choose another temporary folder in the preferences.",
        ) from error


def _ready(target: bpy.types.Object, model: model_files.ModelFile | None) -> bpy.types.Object:
    """Return who speaks: a head that the model can move, else a character, fitted now if need be.

    Raises HeadError.
    """
    if detect.is_mapped(target) or not (head.looks_like_head(target) or is_own(target, model)):
        target = fit.ensure(target)
    check(target, model)
    return target


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


def is_own(obj: bpy.types.Object | None, model: model_files.ModelFile | None) -> bool:
    """Tell whether an object has just the vertices that a vertex model moves."""
    if obj is None or obj.type != "MESH" or model is None or not model.vertices:
        return False
    return len(obj.data.vertices) == model.vertices  # type: ignore[union-attr]


def head_of_model(model: model_files.ModelFile | None) -> bpy.types.Object:
    """Return a head on which a vertex model's motion can be read, for a character of another mesh.

    The model moves FLAME's vertices by number but does not know how they are joined: a FLAME head
    in the file does, shown or hidden. Raises HeadError where there is none.
    """
    if model is not None and model.vertices not in (0, head.VERTICES):
        raise HeadError(
            f"{model.name} moves a head of {model.vertices:,} vertices, which cannot be read as "
            "face controls.",
            "Pick the head it was trained on, or choose the bundled model.",
        )
    for obj in bpy.data.objects:
        if head.looks_like_head(obj) and head.check_head(obj, "flame").kind == "flame":
            return obj
    raise HeadError(
        "This model moves the vertices of a FLAME head, and this file has none to read them on.",
        "Import a FLAME head (it may stay hidden), or choose the bundled model.",
    )


def may_read(model: model_files.ModelFile | None) -> bool:
    """Tell, cheaply enough for every redraw, whether `head_of_model` is likely to find a head."""
    known = model is not None and model.vertices in (0, head.VERTICES)
    return known and any(head.looks_like_head(obj) for obj in bpy.data.objects)


def report_on(target: bpy.types.Object, model: model_files.ModelFile | None) -> head.HeadReport:
    """Say whether a model can move a head by its vertices or its rig."""
    vertices = (model.vertices if model else 0) or head.VERTICES
    return head.check_head(target, need_of(model), vertices)


def check(target: bpy.types.Object, model: model_files.ModelFile | None) -> None:
    """Refuse a head the model cannot move, naming why. Raises HeadError."""
    if detect.is_mapped(target):
        if need_of(model) != "any":
            head_of_model(model)
        return
    report = report_on(target, model)
    if not report.usable:
        raise HeadError(report.reason)


def _task(
    context: bpy.types.Context,
    chosen: SimpleNamespace,
    model: model_files.ModelFile | None,
    target: bpy.types.Object,
    source: Source,
    from_file: bool,
    given: Wanted | None = None,
) -> Task:
    clip, strip, layout = source
    folder = Path(tempfile.mkdtemp(prefix="task-", dir=machine.work_folder()))
    scene: Any = audio.sequencer_scene(context) or context.scene
    wanted = given or _wanted(context, chosen, model, target, source, from_file)
    rows = wanted.rows if wanted.before is not None else None
    keep = _keep(target, scene, clip, wanted, rows)
    if keep is not None:
        lines.write_keep(folder / "keep.npz", target, keep, scene, rows)
    mapped = detect.is_mapped(target)
    foreign = mapped and need_of(model) != "any"
    shown = head_of_model(model) if foreign else None if mapped else target
    request = SpeechRequest(
        **clip.request(folder),
        face="demo"
        if shown is None
        else str(head.write_face(shown, folder / "face.npz", clips.keys_of(shown))),
        controls=foreign,
        output=str(folder / "motion.npz"),
        checkpoint=model.checkpoint if model else chosen.model,
        style=_style(chosen) if model else None,
        steps=chosen.steps or None,
        sampler=None if chosen.sampler == "DEFAULT" else chosen.sampler,
        guidance=chosen.guidance or None,
        expression=chosen.expression,
        rest=chosen.rest,
        lead=chosen.lead / audio.scene_fps(scene),
        gate=None if chosen.gate else False,  # None: as fits the model
        seed=chosen.seed,
        tolerance=chosen.tolerance,
        detail=chosen.output != "NAMED" and not mapped,
        device=machine.get().device,
        keep=None if keep is None else str(folder / "keep.npz"),
    )
    place = Place(clip.name, clip.start, clip.duration, strip, layout)
    placement = Placement.of(target, scene, place, form_of(chosen), folder, wanted)
    return Task(request.fields(), placement)


def _wanted(
    context: bpy.types.Context,
    chosen: SimpleNamespace,
    model: model_files.ModelFile | None,
    target: bpy.types.Object,
    source: Source,
    from_file: bool,
) -> Wanted:
    """Return what a result is to the lines of its head."""
    clip, strip, _ = source
    scene: Any = audio.sequencer_scene(context) or context.scene
    names: tuple[str, ...] = (strip,) if strip else ()
    if strip and chosen.strips == "JOINED":
        names = (strip, *(s.name for s in audio.selected_strips(context) if s.name != strip))
    audible = not from_file and choices.settings(context).source == "FILE"
    from_file = from_file or audible
    kind = "strips" if len(names) > 1 else "strip" if strip else ""
    kind = kind or ("file" if from_file else "speaker")
    place = lines.source_of(scene, clip, names, kind)
    about = lines.about(chosen, _style(chosen) if model else None)
    given = Wanted(source=place, strips=names, about=about, audible=audible)
    return lines.wanted(target, scene, clip, chosen, given)


def _keep(
    target: bpy.types.Object,
    scene: bpy.types.Scene,
    clip: AudioClip,
    wanted: Wanted,
    rows: tuple[int, int] | None,
) -> str | None:
    """Return the line whose shown take the model must keep something of, None for none."""
    if rows is None and not wanted.guided:
        return None
    name = lines.clip_for(target, scene, clip.name, clip.start * audio.scene_fps(scene), wanted)
    stored = clips.load_stored(target, name)
    if stored is None or stored[0].controls is None:
        return None
    return name if rows is not None or clips.edited(target, name) else None


def redo(
    context: bpy.types.Context,
    operator: Any,
    target: bpy.types.Object,
    clip: str,
    frames: tuple[int, int],
) -> Task:
    """Return the task that makes some frames of a line anew. Raises LipSyncError."""
    chosen = chosen_for(context, operator)
    model = model_files.find(chosen.model, machine.models_folder())
    check(target, model)
    scene: Any = audio.sequencer_scene(context) or context.scene
    wanted = lines.redone(target, scene, clip, frames, chosen, _style(chosen) if model else None)
    record = lines.records_of(target)[clip]
    sound = lines.sound_again(scene, record, clip)
    own = tracking.own_strip(record.uid, record.source.name, record.source.scene)
    strip = "" if own is None else own[1].name
    layout = None if own is None else tracking.layout(*own)
    if sound is None and own is not None:
        sound = audio.strip_clip(own[0], own[1])
    if sound is None:
        raise AudioError(
            f"The sound of “{clip}” cannot be found.", "Generate the whole line again."
        )
    modes = {mode: output for output, mode in MODES.items()}
    chosen.output, chosen.nla, chosen.intensity = (
        modes[record.mode],
        record.nla,
        record.take.intensity,
    )
    chosen.thin, chosen.thin_tolerance = record.tolerance > 0, record.tolerance
    sound = replace(sound, start=record.start_frame / audio.scene_fps(scene))
    return _task(context, chosen, model, target, (sound, strip, layout), False, wanted)


def form_of(chosen: SimpleNamespace) -> Form:
    """Return the form that the choices ask for."""
    thinned = chosen.thin_tolerance if chosen.thin else 0.0
    return Form(MODES[chosen.output], chosen.nla, thinned, chosen.intensity)


def sound_of(context: bpy.types.Context, target: bpy.types.Object) -> AudioClip | None:
    """Return the sound of the line that a head's live controls show, by its strip's name."""
    scene: Any = audio.sequencer_scene(context) or context.scene
    strip = strip_named(scene, live.adjust(target).clip)  # type: ignore[arg-type]
    if strip is not None:
        return audio.strip_clip(scene, strip)
    try:
        return clip_sources(context)[0][0][0]
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
