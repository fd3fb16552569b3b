# SPDX-License-Identifier: GPL-3.0-or-later
"""Sample any length of speech: in one piece up to the published limit, then in windows that blend.

    n samples   F frames   D latent   C channels

The output layer is linear, so cross-fading the last features (F, D) of two windows cross-fades
their motion. Windows start at multiples of the positional period, so the phase never jumps.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import RequestError
from ..motion import resample
from ..network.engines.engine import Engine, Latents, Sampling
from ..network.frames import frame_count
from ..network.sampling import draw
from ..progress import Watch
from ..rig.controls import EXPRESSIVE, gains
from .inpainting import Keep, read_keep
from .rest import MOUTH, Span

if TYPE_CHECKING:
    from ..network.spec import ModelSpec
    from ..progress import Course
    from .request import GenerateRequest

Array = NDArray[np.float32]
WINDOWS = (3000, 600, 150)  # frames in one piece: the published limit, then smaller for less memory
FAR = 600  # frames in one piece of a model of controls: it learned on crops far shorter than that
CRISP = 0.5  # of a mouth's second difference; measured lips are then as smooth as ours
OVERLAP = 2.0  # seconds that neighbouring windows share
LIVELY = (
    1.25  # spread of the noise behind blinks, brows and gaze; at 1 a short sampler blinks rarely
)


@dataclass(frozen=True)
class Sampled:
    """A clip's motion in the model's latent form: motion = features @ weightᵀ + bias.

    features (F, D)   weight (C, D)   bias (C,)   fps, the rate at which frame i is i / fps seconds
    seams             how the windows' joints compare with the rest (empty for one window)
    pauses            quiet stretches (start, end) of the sound, in seconds
    """

    features: Array
    weight: Array
    bias: Array
    fps: float
    seams: dict[str, Any]
    pauses: tuple[Span, ...] = ()

    def motion(self) -> Array:
        """Return the motion (F, C)."""
        return self.features @ self.weight.T + self.bias

    def to(self, frames: int, fps: float, lead: float = 0.0) -> Sampled:
        """Return the same motion at another rate, exactly `frames` long, `lead` seconds earlier."""
        features = resample(self.features, self.fps, fps, frames, lead)
        pauses = tuple((start - lead, end - lead) for start, end in self.pauses)
        return replace(self, features=features, fps=fps, pauses=pauses)


def crisper(sampled: Sampled, names: tuple[str, ...]) -> Sampled:
    """Return controls whose mouth moves as sharply as people's.

    A network that is taught by the mean error rounds corners off, a fifth against measured lips.
    Half of the second difference is taken back, in the mouth alone: features (F, 2D).
    """
    padded = np.pad(sampled.features, ((1, 1), (0, 0)), mode="edge")
    bend = padded[2:] - 2 * sampled.features + padded[:-2]
    mouth = np.array([name.startswith(MOUTH) for name in names], np.float32)[:, None]
    features = np.concatenate((sampled.features, bend), axis=1)
    weight = np.concatenate((sampled.weight, -CRISP / 2 * mouth * sampled.weight), axis=1)
    return replace(sampled, features=features, weight=weight)


def sizes(spec: ModelSpec) -> list[int]:
    """Return how many frames to sample in one piece, and what to try when memory runs out."""
    return [size for size in WINDOWS if spec.motion == "vertices" or size <= FAR]


def sample_windows(
    request: GenerateRequest, engine: Engine, samples: Array, size: int, course: Course
) -> Sampled:
    """Listen to samples (n,) and sample their motion in windows of at most `size` frames."""
    spec = engine.spec
    frames = frame_count(spec, len(samples))
    how = Sampling(
        style=engine.style(0 if request.style is None else request.style),
        steps=request.steps,
        sampler=request.sampler,
        guidance=spec.guidance if request.guidance is None else request.guidance,
    )
    with course.stage("Listening") as tell:
        heard = _listen(engine, samples, frames, bool(how.guidance), tell)
    keep = kept(request, engine, frames)
    spans = plan(frames, size, round(OVERLAP * spec.fps), spec.period)
    seeds = [0, request.seed] if spec.motion == "controls" and request.seed else [request.seed]
    with course.stage("Moving the face") as tell:
        takes = [
            _take(engine, heard, spans, how, seed, keep, _part(tell, number, len(seeds)))
            for number, seed in enumerate(seeds)
        ]
    whole = takes[0] if len(takes) == 1 else join(takes[0], takes[1], spec.control_names)
    features, weight, bias = whole.features, whole.weight, whole.bias
    seams = measure_seams(features, weight, bias, spans) if len(spans) > 1 else {}
    sampled = Sampled(features, weight, bias, spec.fps, seams)
    return crisper(sampled, spec.control_names) if spec.motion == "controls" else sampled


@dataclass(frozen=True)
class Heard:
    """What an engine heard in a whole clip."""

    speech: Array
    """(F, ·), in the engine's own form."""
    silence: Array | None
    """The same for silence of that length, where guidance needs it."""


def _take(
    engine: Engine,
    heard: Heard,
    spans: list[tuple[int, int]],
    how: Sampling,
    seed: int,
    keep: Keep | None,
    tell: Callable[[float], None],
) -> Latents:
    """Sample a whole clip with one seed, window by window, blended."""
    spec = engine.spec
    noise = lively_noise(spec, len(heard.speech), seed) if spec.motion == "controls" else None
    pieces: list[Latents] = []
    for start, stop in spans:
        piece = engine.sample(
            heard.speech[start:stop],
            None if heard.silence is None else heard.silence[start:stop],
            how,
            seed=seed,
            noise=None if noise is None else noise[start:stop],
            put_back=None if keep is None else keep.part(start, stop).hook(),
            watch=Watch(_part(tell, len(pieces), len(spans))),
        )
        pieces.append(piece)
    return replace(pieces[0], features=blend([piece.features for piece in pieces], spans))


def kept(request: GenerateRequest, engine: Engine, frames: int) -> Keep | None:
    """Return what a request keeps, as the network sees it: unshaded, normalised, at its rate.

    Raises `RequestError`.
    """
    if request.keep is None:
        return None
    spec, ends = engine.spec, engine.ends
    if spec.motion != "controls":
        raise RequestError(
            f"The model {spec.name} moves vertices; only a model of controls can fill a range.",
            hint="Generate the whole line again.",
        )
    gain = gains(spec.control_names, request.intensity, request.expression)
    back = np.where(gain > 0, 1 / np.maximum(gain, 1e-6), 0.0)
    scale, mean = ends.scale, ends.mean
    keep = read_keep(request.keep, spec.control_names).to(frames, spec.fps, -request.lead)
    return keep.scaled((back / scale).astype(np.float32), -mean / scale)


def lively_noise(spec: ModelSpec, frames: int, seed: int) -> Array:
    """Return the noise (F, C) that a control model starts from, drawn for all windows at once.

    What a face does besides speaking starts from a wider spread.
    """
    spread = 1 + (LIVELY - 1) * np.array(expressive(spec.control_names), np.float32)
    return draw(seed, frames, spec.channels) * spread


def expressive(names: tuple[str, ...]) -> list[float]:
    """Return 1 for each control that lives besides speech, 0 for jaw, lips and tongue."""
    return [float(name.startswith(EXPRESSIVE)) for name in names]


def join(speech: Latents, life: Latents, names: tuple[str, ...]) -> Latents:
    """Take jaw, lips and tongue from one take and the rest from another, in factored form.

    A seed decides how a face lives, never how it says the words: speech is always take 0's.
    """
    share = np.array(expressive(names), np.float32)[:, None]  # (C, 1)
    weight = np.concatenate([speech.weight * (1 - share), life.weight * share], axis=1)  # (C, 2D)
    return Latents(np.concatenate([speech.features, life.features], axis=1), weight, speech.bias)


def _listen(
    engine: Engine, samples: Array, frames: int, guided: bool, tell: Callable[[float], None]
) -> Heard:
    """Encode the sound, and silence of the same length where guidance needs it."""
    if not guided:
        return Heard(engine.listen(samples, frames, Watch(tell)), None)
    speech = engine.listen(samples, frames, Watch(_part(tell, 0, 2)))
    silence = engine.listen(np.zeros_like(samples), frames, Watch(_part(tell, 1, 2)))
    return Heard(speech, silence)


def _part(tell: Callable[[float], None], index: int, count: int) -> Callable[[float], None]:
    """Return a report of one of `count` equal parts of a stage."""
    return lambda fraction: tell((index + fraction) / count)


def plan(frames: int, size: int, overlap: int, period: int) -> list[tuple[int, int]]:
    """Return (start, stop) of windows that cover `frames`, each about `size` frames long.

    Starts are multiples of `period`; neighbours share at least `overlap` frames.
    """
    if frames <= size:
        return [(0, frames)]
    step = max(period, (size - overlap) // period * period)
    spans = []
    for start in range(0, frames, step):
        stop = min(frames, start + max(size, step + overlap))
        spans.append((start, stop))
        if stop == frames:
            break
    return spans


def blend(pieces: list[Array], spans: list[tuple[int, int]]) -> Array:
    """Cross-fade windows' features (·, D) where they overlap → (F, D)."""
    if len(pieces) == 1:
        return pieces[0]
    total = np.zeros((spans[-1][1], pieces[0].shape[1]), np.float32)
    for index, (piece, (start, stop)) in enumerate(zip(pieces, spans, strict=True)):
        share = np.ones(stop - start, np.float32)
        if index:
            shared = spans[index - 1][1] - start
            share[:shared] *= _rise(shared)
        if index + 1 < len(spans):
            shared = stop - spans[index + 1][0]
            share[-shared:] *= 1 - _rise(shared)
        total[start:stop] += share[:, None] * piece
    return total


def _rise(shared: int) -> Array:
    """Return a ramp from 0 to 1 over `shared` frames, flat at both ends (smoothstep)."""
    t = (np.arange(shared) + 0.5) / shared
    return (t * t * (3 - 2 * t)).astype(np.float32)


def measure_seams(
    features: Array, weight: Array, bias: Array, spans: list[tuple[int, int]]
) -> dict[str, Any]:
    """Compare the largest change of a channel between two frames at the seams and elsewhere."""
    inside = np.zeros(len(features) - 1, bool)
    for (_, stop), (start, _) in itertools.pairwise(spans):
        inside[start : stop - 1] = True
    jumps = np.empty(len(inside), np.float32)
    for start in range(0, len(jumps), 256):
        change = np.diff(features[start : start + 257], axis=0)
        jumps[start : start + len(change)] = np.abs(change @ weight.T).max(axis=1)
    return {
        "windows": len(spans),
        "largest_jump_at_seams": float(jumps[inside].max()),
        "largest_jump_elsewhere": float(jumps[~inside].max()),
    }
