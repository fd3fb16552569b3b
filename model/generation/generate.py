"""Speech, a checkpoint and a face become a motion: load, hear, listen, sample, fit to the face.

    n samples   F frames   D latent   C channels   V vertices   K shapes

Each stage reports its progress and can be cancelled. When a device's memory runs out the clip is
sampled in smaller windows, then on the CPU, and the report says so.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .. import __version__, audio
from ..errors import DeviceError, FaceError, RequestError
from ..motion import Motion
from ..network.checkpoint import read_spec
from ..progress import Course, Progress
from ..rig import head_files
from .request import GenerateRequest
from .session import Loaded, Session, device_name, model_file, out_of_memory
from .windows import WINDOWS, Sampled, sample_windows

if TYPE_CHECKING:
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
    speech, samples, silent = _hear(request, course)
    device = session.choose(request.device)
    loaded, sampled = _animate(request, session, device, samples, course)
    frames, fps = _timing(request, loaded, speech.duration)
    with course.stage("Fitting the head") as tell:
        motion = _fit(request, session, loaded, sampled.to(frames, fps), fps, tell)
        tell(0.9)
    report = _report(request, loaded, sampled, motion, course)
    report |= {"duration": speech.duration, "silent_share": round(silent, 3)}
    motion = motion.with_report(report)
    if request.output:
        motion.save(Path(request.output), dense=request.dense)
    course.progress("Done", 1.0, 0.0)
    return motion


def _hear(request: GenerateRequest, course: Course) -> tuple[audio.Speech, np.ndarray, float]:
    """Return the speech, its samples (n,) ready for the encoder, and its share of silence."""
    with course.stage("Reading the sound"):
        speech = audio.load(request.audio, request.span, course.cancelled)
        course.warnings += speech.warnings
        samples, silent = speech.samples, 0.0
        if wants_gate(request):
            samples, silent = audio.gate(samples)
            if silent == 1.0:  # a model that learned guidance takes digital silence for "anything"
                samples = audio.hush(len(samples))
        missing = int(SHORTEST * audio.RATE) - len(samples)
        return speech, np.pad(samples, (0, max(0, missing))), silent


def wants_gate(request: GenerateRequest) -> bool:
    """Return whether pauses are silenced before the model listens."""
    if request.gate is not None:
        return request.gate
    return read_spec(model_file(request.checkpoint)).motion == "controls"


def _animate(
    request: GenerateRequest,
    session: Session,
    device: torch.device,
    samples: np.ndarray,
    course: Course,
) -> tuple[Loaded, Sampled]:
    """Load the model and sample the motion; on lack of memory try smaller windows, then the CPU."""
    tries = [(device, size) for size in WINDOWS]
    tries += [(torch.device("cpu"), WINDOWS[1])] if device.type != "cpu" else []
    for attempt, (where, size) in enumerate(tries):
        try:
            with course.stage("Loading the model"):
                loaded = session.load(request.checkpoint, where)
            return loaded, sample_windows(request, loaded, samples, size, course)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            session.release(where)
            if attempt + 1 == len(tries):
                break
            then = "the CPU" if tries[attempt + 1][0] != where else "smaller windows"
            course.warnings.append(f"{device_name(where)} ran out of memory; went on with {then}.")
    raise DeviceError(
        "There is not enough memory for this clip.", hint="Close other programs or cut the clip."
    )


def _timing(request: GenerateRequest, loaded: Loaded, duration: float) -> tuple[int, float]:
    """Return how many frames the result has and at which rate: those that start in the clip."""
    spec = loaded.checkpoint.spec
    fps = request.fps or spec.fps
    if request.fps is None and spec.alignment == "published":
        samples = max(1, round(duration * audio.RATE))
        return max(1, loaded.model.frames(samples)), fps
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
    loaded: Loaded,
    sampled: Sampled,
    fps: float,
    tell: Callable[[float], None],
) -> Motion:
    """Bring sampled motion to the face: offsets of its vertices, or controls of its rig."""
    template = loaded.checkpoint.template
    if loaded.checkpoint.spec.motion == "vertices":
        from .vertex_motion import fit_vertices

        face = head_files.read(request.face) if request.face else None
        if face is None and template is None:
            raise FaceError(
                f"The model {loaded.checkpoint.spec.name} brings no head of its own.",
                hint="Give the head it should move, or convert it again with a template.",
            )
        return fit_vertices(request, session, loaded, sampled, fps, face, tell)
    from .control_motion import fit_controls

    return fit_controls(request, session, loaded, sampled, fps, _face(request), tell)


def _face(request: GenerateRequest) -> Face:
    return head_files.read(request.face or "demo")


def _report(
    request: GenerateRequest, loaded: Loaded, sampled: Sampled, motion: Motion, course: Course
) -> dict[str, Any]:
    spec = loaded.checkpoint.spec
    return motion.report | {
        "model": spec.name,
        "motion": spec.motion,
        "licence": spec.licence,
        "version": __version__,
        "device": str(loaded.device),
        "device_name": device_name(loaded.device),
        "precision": loaded.precision,
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
