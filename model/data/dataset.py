# SPDX-License-Identifier: GPL-3.0-or-later
"""Speech with motion, read from disk as training needs it.

Legend: `F` frames, `C` channels (3 × vertices, or face controls), `N` styles, `n` samples.

A `DataSet` is a list of `Clip`s and the few facts they share. Nothing but an index is held in
memory: motion is memory-mapped (`.npy`, `.pc2`) and audio is read by position, so a set larger
than memory trains. `layouts.py` opens the VOCASET and BIWI layouts and our own folder:

    manifest.json
      {"format": 1, "motion": "controls" | "vertices", "fps": 30, "styles": ["neutral", ...],
       "controls": ["jawOpen", ...],                     controls only
       "templates": {"anna": "anna.npy"},                vertices only, (V, 3)
       "clips": [{"name": "anna_01", "audio": "audio/anna_01.wav", "motion": "motion/anna_01.npy",
                  "subject": "anna", "style": "neutral", "split": "train"}, ...]}

    audio   a sound file of any rate and channel count, or one long mono `.npy` (int16, float16 or
            float32) with "audio_span": [first sample, end] and "audio_rate": 16000 in the clip
    motion  `.npy` (F, C) or (F, V, 3), float16/32/64; "motion_span": [first row, end] picks rows of
            one long array; `.pc2` point caches; `.npz` as `python build.py model generate` writes
    style   a name, an index, or a mix such as {"neutral": 0.7, "energetic": 0.3}
    split   "train", "validation" or "test"

Frame i of a motion is at i / fps seconds after the audio's first sample. Vertices are absolute, in
the template's units and axes; controls are plain numbers.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, gcd
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import DataError
from ..files import pickles
from ..resampling import resample

Array = npt.NDArray[np.float32]

RATE = 16_000  # Hz, of the audio every encoder hears
FEATURE_RATE = 50  # Hz, of the features every encoder returns
SPLITS = ("train", "validation", "test")
CHUNK = 4096  # rows looked at once while surveying


@dataclass(frozen=True)
class Clip:
    """One utterance with its motion."""

    name: str
    subject: str
    split: str
    audio: Path
    motion: Path
    style: tuple[float, ...]  # mix over the set's styles, sums to 1; empty: subject never trained
    frames: int  # after taking every `stride`-th
    samples: int  # of the audio, at `rate`
    rate: int  # Hz
    audio_span: tuple[int, int] | None = None  # samples of a long array
    motion_span: tuple[int, int] | None = None  # rows of a long array
    stride: int = 1  # 2: VOCASET's 60 fps read as 30

    @property
    def seconds(self) -> float:
        """Return the audio's length."""
        return self.samples / self.rate


@dataclass(frozen=True)
class DataSet:
    """Clips with what they share; `layouts.open_data` makes one."""

    folder: Path
    kind: str  # "vertices" | "controls"
    fps: float
    channels: int
    styles: tuple[str, ...]
    clips: tuple[Clip, ...]
    control_names: tuple[str, ...] = ()
    templates: dict[str, Array] | None = None  # subject -> (C,); vertices only

    def split(self, name: str) -> list[Clip]:
        """Return the clips of one split, in the set's order."""
        return [clip for clip in self.clips if clip.split == name]

    def template(self, clip: Clip) -> Array | None:
        """Return the neutral vertices (C,) of the clip's subject; None for controls."""
        return None if self.templates is None else self.templates[clip.subject]

    def grid(self) -> int:
        """Return the frames between crop starts that fall on whole features (30 fps: 3)."""
        whole = round(self.fps)
        return whole // gcd(whole, FEATURE_RATE) if whole == self.fps else 1

    def motion(self, clip: Clip, start: int = 0, stop: int | None = None) -> Array:
        """Return offsets from the template, or controls, (F, C) of frames `start` to `stop`."""
        stop = clip.frames if stop is None else min(stop, clip.frames)
        rows = read_motion(clip, start, stop)
        template = self.template(clip)
        return rows if template is None else rows - template

    def audio(self, clip: Clip, start: int = 0, stop: int | None = None) -> Array:
        """Return mono samples (n,) at 16 kHz that belong to frames `start` to `stop`.

        A crop is zero-padded where the recording ends before the motion does.
        """
        if start == 0 and stop is None:
            return read_audio(clip, 0, clip.samples)
        stop = clip.frames if stop is None else stop
        first = round(start / self.fps * clip.rate)
        last = round(stop / self.fps * clip.rate)
        samples = read_audio(clip, first, min(last, clip.samples))
        wanted = round((stop - start) / self.fps * RATE)
        return np.pad(samples, (0, max(0, wanted - len(samples))))[:wanted]


@dataclass(frozen=True)
class Statistics:
    """Mean and scale per channel (C,) by which training sees the motion as (x - mean) / scale."""

    mean: Array
    scale: Array

    def forward(self, motion: Array) -> Array:
        """Return standardised motion."""
        return np.asarray((motion - self.mean) / self.scale, dtype=np.float32)


# ---------------------------------------------------------------- reading


def read_audio(clip: Clip, first: int, last: int) -> Array:
    """Return samples `first` to `last` (counted at the clip's own rate) as 16 kHz mono float32."""
    if clip.audio.suffix == ".npy":
        offset = clip.audio_span[0] if clip.audio_span else 0
        block = np.asarray(mapped(clip.audio)[offset + first : offset + last])
    else:
        import soundfile

        with soundfile.SoundFile(clip.audio) as file:
            file.seek(first)
            block = file.read(max(0, last - first), dtype="float32", always_2d=True).mean(axis=1)
    if block.dtype == np.int16:
        block = block.astype(np.float32) / 32768.0
    return resample(block.astype(np.float32, copy=False), clip.rate)


def read_mono(path: Path) -> Array:
    """Return a whole sound file as mono samples (n,) at 16 kHz, its channels averaged."""
    import soundfile

    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return resample(samples.mean(axis=1), rate)


def audio_facts(path: Path) -> tuple[int, int]:
    """Return (samples, rate) of a sound file without reading it."""
    import soundfile

    facts = soundfile.info(str(path))
    return int(facts.frames), int(facts.samplerate)


@lru_cache(maxsize=256)
def mapped(path: Path) -> npt.NDArray[np.generic]:
    """Return an array file as rows, memory-mapped where its format allows it.

    `.npy` (rows, …), `.pc2` (frames, points, 3), `.npz` of a generated motion (frames, C).
    """
    if path.suffix == ".pc2":
        return point_cache(path)
    if path.suffix == ".npz":
        return generated(path)
    try:
        return np.asanyarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except ValueError as error:
        raise DataError(f"{path.name} is no array file: {error}.") from error


def point_cache(path: Path) -> npt.NDArray[np.float32]:
    """Map a PC2 point cache (32-byte header, then little-endian float32 positions)."""
    with path.open("rb") as file:
        header = file.read(32)
    if len(header) < 32 or header[:11] != b"POINTCACHE2":
        raise DataError(f"{path.name} is no PC2 point cache.")
    _, points, _, _, frames = struct.unpack("<iiffi", header[12:])
    return np.memmap(path, "<f4", mode="r", offset=32, shape=(frames, points, 3))


def generated(path: Path) -> npt.NDArray[np.float32]:
    """Return absolute vertices (F, C) of a motion file that `generate` wrote."""
    with np.load(path, allow_pickle=False) as file:
        missing = {"weights", "shapes", "template"} - set(file.files)
        if missing:
            raise DataError(f"{path.name} lacks {', '.join(sorted(missing))}.")
        weights, shapes = file["weights"], file["shapes"]
        flat = shapes.reshape(len(shapes), -1)
        return np.asarray(weights @ flat + file["template"].reshape(1, -1), dtype=np.float32)


def read_pickle(path: Path) -> dict[str, npt.NDArray[np.generic]]:
    """Return a pickled dictionary of arrays (also one written by Python 2); nothing in it runs."""
    try:
        content = pickles.read(path)
    except FileNotFoundError:
        raise DataError(f"{path} is missing.") from None
    except (pickles.UnpicklingError, OSError) as error:
        raise DataError(f"{path.name} is no dictionary of arrays: {error}.") from error
    found = content if isinstance(content, dict) else {"it": content}
    for name, value in found.items():
        if not isinstance(value, np.ndarray):
            what = value.name if isinstance(value, pickles.Opaque) else type(value).__name__
            raise DataError(f"{path.name} is no dictionary of arrays: “{name}” is {what[:100]}.")
    return {str(name): value for name, value in found.items()}


def read_motion(clip: Clip, start: int, stop: int) -> Array:
    """Return rows (F, C) float32 of frames `start` to `stop` as the file has them."""
    offset = clip.motion_span[0] if clip.motion_span else 0
    rows = mapped(clip.motion)[
        offset + start * clip.stride : offset + (stop - 1) * clip.stride + 1 : clip.stride
    ]
    return np.asarray(rows, dtype=np.float32).reshape(len(rows), -1)


# ---------------------------------------------------------------- surveying


def survey(
    data: DataSet,
    standardise: str,
    progress: Callable[[float], None] | None = None,
    size: float = 1.0,
) -> Statistics:
    """Look at every frame once: refuse NaNs, and measure the training motion.

    `standardise`: "none" (0 and 1), "global" (one scale: the root mean square of all offsets) or
    "channel" (mean and standard deviation of each; a channel that hardly moves keeps scale 1).
    `size`: how large the standardised motion becomes, 1 = as large as the noise. Thousands of
    vertices that move together shine through noise of their own size even at the noisiest step, and
    a network that can see the answer does not listen; 0.03 hides them.

    Raises:
        DataError: some frames are not finite numbers; all such clips are listed.
    """
    total = np.zeros(data.channels)
    squares = np.zeros(data.channels)
    count = 0
    bad = []
    for index, clip in enumerate(data.clips):
        for rows in chunks(data, clip):
            if not np.isfinite(rows).all():
                bad.append(f"{clip.motion.name} ({clip.name}) has values that are not numbers")
                break
            if clip.split == "train":
                total += rows.sum(axis=0, dtype=np.float64)
                squares += np.square(rows, dtype=np.float64).sum(axis=0)
                count += len(rows)
        if progress:
            progress((index + 1) / len(data.clips))
    refuse(data.folder, bad)
    measured = statistics(total, squares, max(count, 1), standardise)
    if standardise == "none":
        return measured
    return Statistics(measured.mean, measured.scale / np.float32(size))


def chunks(data: DataSet, clip: Clip) -> Iterator[Array]:
    """Yield the clip's motion a few thousand frames at a time."""
    for start in range(0, clip.frames, CHUNK):
        yield data.motion(clip, start, start + CHUNK)


def statistics(
    total: npt.NDArray[np.float64],
    squares: npt.NDArray[np.float64],
    count: int,
    standardise: str,
) -> Statistics:
    """Return mean and scale from sums over `count` frames."""
    channels = len(total)
    mean = np.zeros(channels, dtype=np.float32)
    scale = np.ones(channels, dtype=np.float32)
    if standardise == "global":
        scale[:] = max(float(np.sqrt(squares.sum() / (count * channels))), 1e-12)
    elif standardise == "channel":
        mean = (total / count).astype(np.float32)
        deviation = np.sqrt(np.maximum(squares / count - (total / count) ** 2, 0.0))
        floor = 1e-3 * max(float(deviation.max()), 1e-9)
        scale = np.where(deviation > floor, deviation, 1.0).astype(np.float32)
    return Statistics(mean, scale)


def refuse(folder: Path, problems: list[str], limit: int = 40) -> None:
    """Raise one DataError that names every problem (the first `limit` in full)."""
    if not problems:
        return
    shown = "\n  ".join(problems[:limit])
    rest = f"\n  … and {len(problems) - limit} more" if len(problems) > limit else ""
    count = f"{len(problems)} problem" + ("s" if len(problems) > 1 else "")
    raise DataError(
        f"{folder} has {count}:\n  {shown}{rest}",
        hint="Mend or remove these files, then start again; nothing was trained.",
    )


def write_manifest(
    folder: Path,
    clips: list[dict[str, object]],
    *,
    motion: str,
    fps: float,
    styles: tuple[str, ...] = ("neutral",),
    controls: tuple[str, ...] = (),
    templates: dict[str, str] | None = None,
) -> Path:
    """Write `manifest.json` of our own layout (see the module's text) and return its path."""
    manifest: dict[str, object] = {
        "format": 1,
        "motion": motion,
        "fps": fps,
        "styles": list(styles),
    }
    if motion == "controls":
        manifest["controls"] = list(controls)
    if templates:
        manifest["templates"] = templates
    manifest["clips"] = clips
    path = folder / "manifest.json"
    path.write_text(json.dumps(manifest, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return path


def frames_for(seconds: float, fps: float) -> int:
    """Return how many frames fit into a length: frames at 0, 1/fps, … below `seconds`."""
    return max(1, ceil(seconds * fps - 1e-9))
