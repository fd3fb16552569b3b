# SPDX-License-Identifier: GPL-3.0-or-later
"""Speech, a checkpoint and a face become a motion: load, hear, listen, sample, fit to the face.

    n samples   F frames   D latent   C channels   V vertices   K shapes

Each stage reports its progress and can be cancelled. When a device's memory runs out the clip is
sampled in smaller windows, then on the CPU, and the report says so.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .. import __version__, audio
from ..errors import DeviceError, FaceError, RequestError
from ..motion import Motion
from ..network.frames import frame_count
from ..network.tensors import read_spec
from ..progress import Course, Progress
from ..resampling import RATE
from ..rig import head_files
from .request import GenerateRequest
from .rest import Span
from .session import Session, device_name, model_file, out_of_memory, release
from .windows import Sampled, sample_windows, sizes

if TYPE_CHECKING:
    from ..network.engines.engine import Engine
    from ..rig.head_files import Face

__all__ = ["GenerateRequest", "generate"]

MOST_FRAMES = 1_000_000  # four hours at 60 frames a second, and some to spare
SHORTEST = 0.5  # seconds a model is given at least; shorter speech is followed by silence


def generate(
    request: GenerateRequest,
    *,
    session: Session,
    progress: Progress = lambda stage, fraction, left: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Motion:
    """Return the motion of a request, written to its `output` when that names a file.

    Raises `ModelError` with one sentence, or `Cancelled`.
    """
    course = Course(progress, cancelled)
    heard = _hear(request, course)
    engine, sampled = _animate(request, session, heard.samples, course)
    sampled = replace(sampled, pauses=heard.pauses)
    heard = heard._replace(samples=np.zeros(0, np.float32))  # 230 MB an hour
    frames, fps = _timing(request, engine, heard.duration)
    with course.stage("Fitting the head") as tell:
        moved = sampled.to(frames, fps, request.lead)
        motion = _fit(request, session, engine, moved, fps, tell)
        tell(0.9)
    report = _report(request, engine, sampled, motion, course)
    report |= {"duration": heard.duration, "silent_share": round(heard.silent, 3)}
    motion = motion.with_report(report)
    if request.output:
        motion.save(Path(request.output), dense=request.dense)
    course.progress("Done", 1.0, 0.0)
    return motion


class Heard(NamedTuple):
    """A sound as the encoder takes it."""

    samples: np.ndarray
    """(n,) float32 at 16 kHz."""
    duration: float
    """Seconds that the result covers."""
    silent: float
    """Share of the time that was silenced."""
    pauses: tuple[Span, ...]
    """Stretches without speech, in seconds; none where pauses are to be heard as they are."""


def _hear(request: GenerateRequest, course: Course) -> Heard:
    """Read the sound and silence its pauses where the model wants that."""
    with course.stage("Reading the sound"):
        speech = audio.load(request.audio, request.span, course.cancelled)
        course.warnings += speech.warnings
        samples, silent, duration = speech.samples, 0.0, speech.duration
        del speech  # held once, gated
        pauses: tuple[Span, ...] = ()
        if wants_gate(request):
            pauses = tuple(audio.pauses(samples))
            samples, silent = audio.gate(samples)
            if silent == 1.0:  # a model that learned guidance takes digital silence for "anything"
                samples = audio.hush(len(samples))
        missing = int(SHORTEST * RATE) - len(samples)
        samples = np.pad(samples, (0, missing)) if missing > 0 else samples
        return Heard(samples, duration, silent, pauses)


def wants_gate(request: GenerateRequest) -> bool:
    """Return whether pauses are silenced before the model listens."""
    if request.gate is not None:
        return request.gate
    return read_spec(model_file(request.checkpoint)).motion == "controls"


def _animate(
    request: GenerateRequest, session: Session, samples: np.ndarray, course: Course
) -> tuple[Engine, Sampled]:
    """Load the model and sample the motion; on lack of memory try smaller windows, then the CPU."""
    with course.stage("Loading the model"):
        engine = session.load(request.checkpoint, request.device)
    tries = [(engine.device, size) for size in sizes(engine.spec)]
    tries += [("cpu", tries[-2][1])] if engine.device != "cpu" else []
    for attempt, (device, size) in enumerate(tries):
        try:
            if device != engine.device:
                with course.stage("Loading the model"):
                    engine = session.load(request.checkpoint, device)
            return engine, sample_windows(request, engine, samples, size, course)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            release(device)
            if attempt + 1 == len(tries):
                break
            then = "the CPU" if tries[attempt + 1][0] != device else "smaller windows"
            course.warnings.append(f"{device_name(device)} ran out of memory; went on with {then}.")
    raise DeviceError(
        "There is not enough memory for this clip.", hint="Close other programs or cut the clip."
    )


def _timing(request: GenerateRequest, engine: Engine, duration: float) -> tuple[int, float]:
    """Return how many frames the result has and at which rate: those that start in the clip."""
    spec = engine.spec
    fps = request.fps or spec.fps
    if request.fps is None and spec.alignment == "published":
        samples = max(1, round(duration * RATE))
        return frame_count(spec, samples), fps
    frames = max(1, int(np.ceil(duration * fps - 1e-6)))
    if frames > MOST_FRAMES:
        raise RequestError(
            f"fps is {fps:g}: {duration:.0f} s would have {frames:,} frames; "
            f"the most is {MOST_FRAMES:,}.",
            hint="Ask for fewer frames a second, or cut the sound.",
        )
    return frames, fps


def _fit(
    request: GenerateRequest,
    session: Session,
    engine: Engine,
    sampled: Sampled,
    fps: float,
    tell: Callable[[float], None],
) -> Motion:
    """Bring sampled motion to the face: offsets of its vertices, or controls of its rig."""
    template = engine.template
    if engine.spec.motion == "vertices":
        from .vertex_motion import fit_vertices

        face = head_files.read(request.face) if request.face else None
        if face is None and template is None:
            raise FaceError(
                f"The model {engine.spec.name} brings no head of its own.",
                hint="Give the head it should move, or convert it again with a template.",
            )
        return fit_vertices(request, session, engine, sampled, fps, face, tell)
    from .control_motion import fit_controls

    return fit_controls(request, session, engine, sampled, fps, _face(request), tell)


def _face(request: GenerateRequest) -> Face:
    return head_files.read(request.face or "demo")


def _report(
    request: GenerateRequest, engine: Engine, sampled: Sampled, motion: Motion, course: Course
) -> dict[str, Any]:
    spec = engine.spec
    return motion.report | {
        "model": spec.name,
        "motion": spec.motion,
        "licence": spec.licence,
        "version": __version__,
        "engine": engine.name,
        "device": engine.device,
        "device_name": device_name(engine.device),
        "precision": engine.precision,
        "frames": motion.frames,
        "fps": motion.fps,
        "shapes": len(motion.names),
        "steps": request.steps or spec.steps,
        "sampler": request.sampler or spec.sampler,
        "seed": request.seed,
        "style": request.style if request.style is not None else spec.styles[0],
        "seams": sampled.seams,
        "warnings": course.warnings,
        "seconds": course.seconds | {"total": round(time.monotonic() - course.began, 3)},
    }
