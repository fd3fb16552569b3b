# SPDX-License-Identifier: GPL-3.0-or-later
"""A sound file becomes 16 kHz mono speech: any rate, any channels, any length, checked and gated.

n samples   c channels   F frames
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .errors import AudioError, Cancelled
from .resampling import RATE, Resampler
from .sound_file import DecodeError, SoundFile

Array = NDArray[np.float32]
LONGEST = 4 * 3600.0  # seconds; beyond that a file is taken for a mistake
FASTEST = 1_000_000  # Hz; a higher sample rate is a damaged header
_BLOCK = 2**18  # samples of all channels handled at a time


@dataclass(frozen=True)
class Speech:
    """What is heard of one file or a span of it.

    samples (n,)  float32 mono at `RATE`
    duration      seconds, from the file's own rate
    rate          Hz of the file
    channels      of the file
    warnings      sentences for the report
    """

    samples: Array
    duration: float
    rate: int
    channels: int
    warnings: tuple[str, ...] = ()


def load(
    path: str | Path,
    span: tuple[float, float] | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Speech:
    """Read a sound file, or `span` = (start, duration) seconds of it, as mono speech at 16 kHz.

    The channels are averaged (where that would cancel them out, the loudest one is taken), and
    resampled block by block, so that an hour needs little memory. A span that reaches past either
    end of the file is silent there. Raises `AudioError` with one sentence, or `Cancelled`.
    """
    path = Path(path)
    with _open(path) as file:
        rate, channels = int(file.samplerate), int(file.channels)
        first, count = _extent(file, path.name, span)
        mixed = _read(file, first, count, None, cancelled)
        if mixed.energy < 1e-3 * mixed.loudest:  # opposite channels: the mean is all but silent
            mixed = _read(file, first, count, mixed.best, cancelled)
    if not mixed.heard:
        raise AudioError(
            f"{path.name} ends before the asked span starts ({_span_words(span)}).",
            hint="Check the strip's offset, or choose another file.",
        )
    return Speech(mixed.samples, count / rate, rate, channels, _warnings(path.name, mixed, rate))


def duration(path: str | Path) -> float:
    """Return a sound file's length in seconds. Raises `AudioError`."""
    with _open(Path(path)) as file:
        return len(file) / int(file.samplerate)


@dataclass
class _Mixed:
    """A mono signal at `RATE`, and what was seen while it was read."""

    samples: Array
    energy: float = 0.0  # sum of squares of the mono signal
    loudest: float = 0.0  # sum of squares of the loudest channel
    best: int = 0  # its number
    heard: int = 0  # samples that came from the file
    clipped: int = 0  # samples at full scale
    whole: bool = True  # False when the file gave fewer samples than its header promises


def _open(path: Path) -> SoundFile:
    """Open a sound file with libsndfile, or say in one sentence why that fails."""
    if not os.path.lexists(path):  # false for a name too long, too
        raise AudioError(f"There is no sound file {path}.", hint="Choose another file.")
    if not path.is_file():
        raise AudioError(f"{path} is not a file.", hint="Choose a sound file.")
    if path.stat().st_size == 0:
        raise AudioError(f"{path.name} is empty.", hint="Export the sound again.")
    raw = RATE if path.suffix.lower() in (".raw", ".pcm") else 0
    try:
        file = SoundFile(path, raw)
    except DecodeError as error:
        raise AudioError(
            f"{path.name} is not a sound file that can be read here.",
            hint="Use WAV, FLAC, OGG or MP3; Blender's mix-down writes any of them.",
        ) from error
    if not 1000 <= file.samplerate <= FASTEST or file.channels < 1:
        file.close()
        raise AudioError(f"{path.name} gives no usable sample rate or no channel.")
    return file


def _extent(file: SoundFile, name: str, span: tuple[float, float] | None) -> tuple[int, int]:
    """Return the first sample and the number of samples to read, at the file's own rate."""
    rate = file.samplerate
    if span is None:
        first, count = 0, len(file)
        if count <= 0:
            raise AudioError(f"{name} holds no sound.", hint="Export the sound again.")
    else:
        start, length = span
        if not (math.isfinite(start) and math.isfinite(length)) or length <= 0:
            raise AudioError(f"The span {_span_words(span)} of {name} has no length.")
        first, count = round(start * rate), max(1, round(length * rate))
    if count > LONGEST * rate:
        raise AudioError(
            f"{name} would be {count / rate / 3600:.1f} hours; the most is {LONGEST / 3600:g}.",
            hint="Cut it into shorter strips.",
        )
    return first, count


def _span_words(span: tuple[float, float] | None) -> str:
    return "all of it" if span is None else f"{span[1]:g} s from {span[0]:g} s"


def _read(
    file: SoundFile, first: int, count: int, channel: int | None, cancelled: Callable[[], bool]
) -> _Mixed:
    """Read samples `first:first + count` as mono at `RATE`: the mean, or one `channel`."""
    stream = Resampler(file.samplerate)
    seen = _Mixed(np.zeros(0, np.float32))
    energies = np.zeros(file.channels)
    parts = []
    for block in _blocks(file, first, count, seen):
        if cancelled():
            raise Cancelled
        if not np.isfinite(block).all():
            raise AudioError(
                f"{file.name} holds samples that are not numbers.",
                hint="Export the sound again.",
            )
        energies += np.square(block, dtype=np.float64).sum(axis=0)
        seen.clipped += int((np.abs(block) >= 0.999).any(axis=1).sum())
        mono = block.mean(axis=1) if channel is None else block[:, channel]
        seen.energy += float(np.square(mono, dtype=np.float64).sum())
        parts.append(stream.push(mono))
    parts.append(stream.finish())
    seen.best, seen.loudest = int(energies.argmax()), float(energies.max(initial=0.0))
    seen.samples = _joined(parts, math.ceil(count * RATE / file.samplerate - 1e-9))
    return seen


def _blocks(file: SoundFile, first: int, count: int, seen: _Mixed) -> Iterator[Array]:
    """Yield (n, c) blocks of the asked extent; silence where the file has none."""
    width = file.channels
    size = max(1, _BLOCK // width)  # of up to a thousand channels
    before = min(count, max(0, -first))
    for start in range(0, before, size):
        yield np.zeros((min(size, before - start), width), np.float32)
    inside = max(0, min(count - before, len(file) - max(0, first)))
    while seen.heard < inside:
        try:
            if not seen.heard:
                file.seek(max(0, first))
            block = file.read(min(size, inside - seen.heard))
        except DecodeError as error:
            raise AudioError(
                f"{file.name} is damaged: decoding stopped after "
                f"{seen.heard / file.samplerate:.1f} s.",
                hint="Export the sound again.",
            ) from error
        if not len(block):
            seen.whole = False
            break
        seen.heard += len(block)
        yield block
    rest = count - before - seen.heard
    for start in range(0, rest, size):
        yield np.zeros((min(size, rest - start), width), np.float32)


def _joined(parts: list[Array], count: int) -> Array:
    """Return exactly `count` samples: the resampler may give one more or fewer.

    Each part is let go when it is copied, so an hour is held once.
    """
    joined, place = np.zeros(count, np.float32), 0
    parts.reverse()
    while parts:
        part = parts.pop()[: count - place]
        joined[place : place + len(part)] = part
        place += len(part)
    return joined


def _warnings(name: str, mixed: _Mixed, rate: int) -> tuple[str, ...]:
    found = []
    if not mixed.whole:
        found.append(f"{name} is shorter than it says; the missing end is taken as silence.")
    if mixed.clipped > 0.001 * max(1, mixed.heard):
        share = 100 * mixed.clipped / mixed.heard
        found.append(f"{share:.1f} % of the samples are clipped; a cleaner recording moves better.")
    if mixed.loudest <= 1e-9 * max(1, mixed.heard):
        found.append(f"{name} is silent here.")
    if rate < RATE:
        found.append(f"The recording has only {rate / 1000:g} kHz; hissing sounds are missing.")
    return tuple(found)


def _quiet_hops(samples: Array, shortest: float) -> NDArray[np.bool_]:
    """Return for every 10 ms whether it lies in a quiet stretch of at least `shortest` seconds."""
    level = _levels(samples, RATE // 100)
    loud, floor = float(np.percentile(level, 95)), float(np.percentile(level, 10))
    threshold = max(3e-4, min(loud * 10 ** (-30 / 20), floor * 2))
    if loud < 1e-3:  # -60 dBFS: nobody speaks
        threshold = np.inf
    return _long_runs(level < threshold, max(1, round(shortest * 100)))


def pauses(samples: Array, shortest: float = 0.1) -> list[tuple[float, float]]:
    """Return the stretches (start, end) in seconds of at least `shortest` in which nobody speaks.

    They are what lies in the lower third of the clip's own range of levels, in decibels, so they
    are found over a noise floor, too; where that range is narrow (music, crowds) there are none.
    A click in a pause does not end it. Digital silence throughout is one pause.
    """
    hop = RATE // 100
    if len(samples) < 10 * hop:
        return []
    level = _levels(samples, hop)
    if float(np.percentile(level, 95)) < 1e-3:  # -60 dBFS: nobody speaks
        return [(0.0, len(samples) / RATE)]
    smooth = np.convolve(np.pad(level, 2, mode="edge"), np.full(5, 0.2), "valid")
    decibels = 20 * np.log10(np.maximum(smooth, 1e-5))
    floor, loud = np.percentile(decibels, (5, 95))
    floor = max(floor, loud - 50)  # digital silence is no room's
    if loud - floor < 12:
        return []
    loudly = _long_runs(decibels >= floor + max(6.0, 0.3 * (loud - floor)), 7)
    quiet = _long_runs(~loudly, round(100 * shortest))
    return [(start / 100, stop / 100) for start, stop in _runs(quiet)]


def gate(samples: Array, *, shortest: float = 0.35, fade: float = 0.05) -> tuple[Array, float]:
    """Silence the pauses: return the gated samples and the share of time that is silent, 0..1.

    A speech encoder that normalises its input turns the hiss of a pause, or of an empty strip, into
    speech. Stretches of at least `shortest` seconds that stay far below the clip's own speech level
    and near its noise floor become digital silence, with a `fade` (s) outwards; a closure of p, b
    or m is much shorter and stays.
    """
    hop = RATE // 100
    quiet = _quiet_hops(samples, shortest)
    hops = len(quiet)
    reach = max(1, round(fade * 100))
    kernel = np.ones(2 * reach + 1) / (2 * reach + 1)
    grown = np.convolve(np.pad(~quiet, reach, mode="edge"), kernel, "valid")  # 0 in, 1 out
    curve = np.minimum(1.0, 2 * grown)  # full loudness where speech is within half the fade
    if quiet.all():
        curve[:] = 0
    gated, centres = np.empty(len(samples), np.float32), (np.arange(hops) + 0.5) * hop
    for start in range(0, len(samples), _BLOCK):
        end = min(len(samples), start + _BLOCK)
        gated[start:end] = samples[start:end] * np.interp(np.arange(start, end), centres, curve)
    return gated, float(quiet.mean())


def _levels(samples: Array, hop: int) -> Array:
    """Return the root mean square around the mean of every `hop` samples, in blocks."""
    middle, levels = samples.mean(dtype=np.float64).astype(np.float32), []
    for start in range(0, max(1, len(samples)), 1000 * hop):
        block = samples[start : start + 1000 * hop] - middle
        rows = np.pad(block, (0, -len(block) % hop)).reshape(-1, hop)
        levels.append(np.square(rows).mean(axis=1))
    found: Array = np.sqrt(np.concatenate(levels) + 1e-20)
    return found


def hush(count: int) -> Array:
    """Return (n,) of a quiet room: noise at -80 dBFS, always the same."""
    dice, room = np.random.default_rng(0), np.empty(count, np.float32)
    for start in range(0, count, _BLOCK):
        block = room[start : start + _BLOCK]
        block[:] = 1e-4 * dice.standard_normal(len(block))
    return room


def _runs(flags: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return the runs of True as (first, behind the last)."""
    edges = np.flatnonzero(np.diff(np.pad(flags, 1).astype(np.int8)))
    return [(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]


def _long_runs(flags: NDArray[np.bool_], shortest: int) -> NDArray[np.bool_]:
    """Keep only runs of True that last at least `shortest`."""
    kept = np.zeros_like(flags)
    for start, stop in _runs(flags):
        if stop - start >= min(shortest, len(flags)):
            kept[start:stop] = True
    return kept
