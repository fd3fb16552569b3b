# SPDX-License-Identifier: GPL-3.0-or-later
"""AudioClip: a stretch of sound with its place on the timeline, and how it reaches the worker.

The sound stays in its file where the worker can read it; Blender's own decoder is only asked for
the rest (video files, AAC, …), and lets go of Python's lock while it works.
"""

from __future__ import annotations

import math
import os
import struct
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import AudioError
from ..files import safe_write
from ..paths import absolute
from . import formats

_LONG = 120.0
"""Seconds from which a decoded clip is thinned towards the worker's own rate at once."""
_WORKER_RATE = 16_000
_PIECE = 30.0  # seconds decoded at a time
_WHOLE = _LONG  # seconds up to which a file is decoded in one go


@dataclass(frozen=True)
class AudioClip:
    """What is heard of a strip, a file or a speaker: decoded samples, or where to find them."""

    samples: NDArray[np.float32] | None
    """(n,) mono; None while the sound stays in `source` or `packed`."""
    rate: int
    """Hz of `samples`; 0 while there are none."""
    start: float
    """Second on the scene's timeline (frame / fps) at which the clip begins."""
    duration: float
    """Seconds."""
    name: str = ""
    """Human name: the strip's, the file's or the speaker's."""
    source: Path | None = None
    """File that holds the sound; where it came from when there are `samples`."""
    span: tuple[float, float] | None = None
    """(start, duration) seconds inside that file; None for all of it."""
    packed: bytes | None = field(default=None, repr=False)
    """The file's bytes when it is packed into the .blend; `source` gives its name then."""

    def request(self, folder: Path) -> dict[str, Any]:
        """Return the worker's `audio` and `span`, writing a file into `folder` where one is needed.

        Raises AudioError.
        """
        if self.samples is not None:
            path = write_clip(self, Path(folder) / "clip.wav")
            return {"audio": str(path), "span": None}
        assert self.source is not None
        path = self.source
        if self.packed is not None:
            path = Path(folder) / f"packed{self.source.suffix}"
            _write(path, self.packed)
        if _blender_decodes(path):
            return decode(replace(self, source=path, packed=None)).request(folder)
        return {"audio": str(path), "span": list(self.span) if self.span else None}

    def decoded(self, folder: Path) -> AudioClip:
        """Return the clip with its samples in memory; `folder` is for packed bytes."""
        if self.samples is not None:
            return self
        path = self.source
        if self.packed is not None and path is not None:
            path = Path(folder) / f"packed{path.suffix}"
            _write(path, self.packed)
        return decode(replace(self, source=path, packed=None))


def file_clip(path: str | Path, start: float = 0.0) -> AudioClip:
    """Return a whole sound file as a clip at `start` seconds. Raises AudioError.

    What the worker might refuse is decoded at once, so that its length is counted, not believed.
    """
    path = absolute(path)
    check_file(path)
    clip = AudioClip(None, 0, float(start), 0.0, path.stem, path)
    if _blender_decodes(path):
        return replace(decode(clip), source=path)  # a line is known by its file
    duration = formats.seconds(path)
    if duration is None and has_aud():
        sound = _aud_sound(path)
        duration = max(0.0, sound.length / sound.specs[0])
    return replace(clip, duration=duration or 0.0)


def _blender_decodes(path: Path) -> bool:
    """Return whether Blender shall decode a file: the worker may not, and Blender plays it.

    MP3 is left to Blender, too: the two disagree on an encoder's leading silence in files without
    a LAME header, and the animator hears Blender's version.
    """
    raw = path.suffix.lower() in (".raw", ".pcm")  # bare samples, which only the worker takes
    try:
        return not raw and has_aud() and not formats.surely_read(path)
    except OSError:
        return False  # the worker's own message is the better one


def check_file(path: Path) -> None:
    """Refuse what is no readable, non-empty file. Raises AudioError."""
    try:
        with path.open("rb") as stream:
            empty = not stream.read(1)
    except FileNotFoundError as error:
        raise AudioError(
            f"The sound file {path.name} is missing ({path.parent}).",
            "Find it with File > External Data > Find Missing Files, or choose another.",
        ) from error
    except IsADirectoryError as error:
        raise AudioError(f"{path.name} is a folder.", "Choose a sound file in it.") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise AudioError(f"{path.name} cannot be read: {reason}.") from error
    if empty:
        raise AudioError(f"The sound file {path.name} is empty.", "Export it again.")


# -- decoding ---------------------------------------------------------------------------------


def decode(clip: AudioClip) -> AudioClip:
    """Return the clip with its samples decoded by Blender, mono, silence where the file has none.

    Long clips are decoded in pieces and thinned to 16 kHz or a little more. Raises AudioError.
    """
    assert clip.source is not None
    sound = _aud_sound(clip.source)
    if sound is None:
        raise AudioError(
            f"This Blender cannot decode {clip.source.name}.", "Convert it to WAV, FLAC or OGG."
        )
    return replace(clip, **decode_sound(sound, clip.span), source=None, span=None, packed=None)


def decode_sound(sound: Any, span: tuple[float, float] | None) -> dict[str, Any]:
    """Return samples, rate and duration of (a span of) an `aud.Sound`. Raises AudioError.

    How long a sound is, its samples say: headers of killed recorders and odd encoders do not know.
    """
    import aud

    try:
        rate = round(sound.specs[0])
        last = math.inf if span is None else round(span[0] * rate) + max(1, round(span[1] * rate))
        first = 0 if span is None else round(span[0] * rate)
        if sound.length <= _WHOLE * rate:  # decoded in one go: no place has to be looked for
            samples, every = _cut(mono(sound.data()), first, last), 1
        else:
            every = max(1, rate // _WORKER_RATE) if last - first > _LONG * rate else 1
            samples = _in_pieces(sound, rate, first, last, every)
    except (aud.error, RuntimeError) as error:  # type: ignore[misc]
        raise AudioError(f"Blender cannot decode the sound ({error}).") from error
    if not len(samples):
        raise AudioError("There is no sound in that file.", "Choose another file.")
    return {"samples": samples, "rate": rate // every, "duration": len(samples) * every / rate}


def _cut(samples: NDArray[np.float32], first: int, last: float) -> NDArray[np.float32]:
    """Return samples first … last - 1, silence outside of what there is; all where last is inf."""
    if last == math.inf:
        return samples
    room = np.zeros(int(last) - first, np.float32)
    inside = samples[max(0, first) : max(0, int(last))]
    begin = max(0, -first)
    room[begin : begin + len(inside)] = inside
    return room


def _in_pieces(sound: Any, rate: int, first: int, last: float, every: int) -> NDArray[np.float32]:
    """Return samples of a long sound, decoded piece by piece until it or the span ends."""
    step = round(_PIECE * rate) // every * every
    parts, place = [], first
    while place < last:
        end = int(min(place + step, last))
        part, heard = _samples(sound, rate, place, end, every)
        ended = last == math.inf and heard < end - place
        parts.append(part[: -(-heard // every)] if ended else part)
        place = end
        if ended:
            break
    return np.concatenate(parts) if parts else np.empty(0, np.float32)


def _samples(
    sound: Any, rate: int, first: int, last: int, every: int
) -> tuple[NDArray[np.float32], int]:
    """Return samples first … last - 1 of a sound, low-passed and thinned, and how many it has.

    Outside of it is silence. `limit` cuts fractions of a sample away, so it is asked for a little
    more on both sides.
    """
    margin = 16 * every if every > 1 else 0
    begin, end = first - margin, last + margin
    room = np.zeros(end - begin, np.float32)
    heard = 0
    if end > 0:
        low = max(begin, 0)
        start = (low + 0.25) / rate if low else 0.0  # an MP3 seeked by almost nothing is 25 ms off
        got = mono(sound.limit(start, (end + 1.25) / rate).data())[: end - low]
        room[low - begin : low - begin + len(got)] = got
        heard = max(0, min(last, low + len(got)) - first)
    if every == 1:
        return room, heard
    taps = np.sinc(np.arange(-margin, margin + 1) / every * 0.9) * np.hanning(2 * margin + 3)[1:-1]
    thinned = np.convolve(room, taps / taps.sum(), "valid")[::every]
    return thinned.astype(np.float32), heard


def mono(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the mean of the channels; where they cancel out, the loudest one."""
    if samples.ndim == 1 or samples.shape[1] == 1:
        return np.ascontiguousarray(samples.reshape(-1), np.float32)
    mean = samples.mean(1)
    power = np.square(samples, dtype=np.float64).sum(0)
    if np.square(mean, dtype=np.float64).sum() < 1e-3 * power.max(initial=0.0):
        mean = samples[:, int(power.argmax())]
    return np.ascontiguousarray(mean, np.float32)


def has_aud() -> bool:
    """Return whether this Blender has its audio module: some builds lack it."""
    try:
        import aud  # noqa: F401
    except ImportError:
        return False
    return True


def _aud_sound(path: Path) -> Any | None:
    """Open a file with Blender's decoder; None when this Blender has none. Raises AudioError.

    `specs` is asked before anything else: reading an unreadable file's samples aborts the whole
    process in Blender 4.5 and 5.0, reading its specs only raises.
    """
    if not has_aud():
        return None
    import aud

    sound = aud.Sound.file(str(path))
    try:
        rate, channels = sound.specs
    except (aud.error, RuntimeError) as error:  # type: ignore[misc]
        raise AudioError(
            f"{path.name} is no sound Blender can decode.", "Choose another file or convert it."
        ) from error
    if rate < 1000 or channels < 1:
        raise AudioError(f"{path.name} holds no sound.", "Choose another file.")
    return sound


# -- writing ----------------------------------------------------------------------------------


def write_clip(clip: AudioClip, path: str | Path, *, signed: bool = False) -> Path:
    """Write the clip's samples as a mono 32-bit float WAV. Raises AudioError.

    signed: with the name of the software in it, so that `is_ours` knows the file again.
    """
    if clip.samples is None:
        raise AudioError(f"“{clip.name}” has not been decoded yet.")
    path, body = Path(path), np.ascontiguousarray(clip.samples, "<f4").tobytes()
    if len(body) > 2**32 - 64:
        raise AudioError(f"“{clip.name}” is too long for a WAV file.", "Cut it into strips.")
    form = struct.pack("<HHIIHH", 3, 1, clip.rate, clip.rate * 4, 4, 32)
    mark = _SIGNED if signed else b""
    size = 4 + 8 + len(form) + len(mark) + 8 + len(body)
    head = b"RIFF" + struct.pack("<I", size) + b"WAVEfmt " + struct.pack("<I", len(form)) + form
    _write(path, head + mark + b"data" + struct.pack("<I", len(body)) + body)
    return path


_SOFTWARE = b"DiffSpeaker Lip-Sync"
_SIGNED = (
    b"LIST" + struct.pack("<I", 12 + len(_SOFTWARE)) + b"INFOISFT"
    + struct.pack("<I", len(_SOFTWARE)) + _SOFTWARE
)  # fmt: skip
"""The field for the software in a WAV's own list of facts."""


def is_ours(path: Path) -> bool:
    """Return whether we wrote a sound beside an export: only such a file is ever overwritten."""
    try:
        with path.open("rb") as file:
            return file.read(36 + len(_SIGNED)).endswith(_SIGNED)
    except OSError:
        return False


def read_float_wav(path: Path) -> tuple[NDArray[np.float32], int]:
    """Return samples (n, channels) and rate of a 32-bit float WAV, as `mixdown` writes it."""
    data = path.read_bytes()
    place, rate, channels = 12, 0, 1
    while place + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, place)
        if name == b"fmt ":
            channels, rate = struct.unpack_from("<HI", data, place + 10)
        elif name == b"data":
            count = min(size, len(data) - place - 8) // 4 // channels * channels
            samples = np.frombuffer(data, "<f4", count, place + 8)
            return samples.reshape(-1, channels).astype(np.float32), rate
        place += 8 + size + (size & 1)
    raise AudioError("Blender's mix-down wrote no sound.")


def _write(path: Path, data: bytes) -> None:
    """Write a whole file, or say why not. Raises AudioError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        safe_write.write(path, data, durable=False)
    except OSError as error:
        raise AudioError(
            f"The sound could not be written to {path.parent} ({error.strerror or error}).",
            "Free some space, or choose another cache folder in the preferences.",
        ) from error


def write_beside(path: Path, sound: AudioClip | Path, begin: float) -> tuple[list[Path], list[str]]:
    """Put the sound beside the file, beginning at second `begin`; return files and remarks.

    A file that is not ours is never overwritten: a recording often lies where its export goes,
    and bears the same name.
    """
    if isinstance(sound, Path):
        try:
            content = sound.read_bytes()
            target = _free(path.with_suffix(sound.suffix), content)
            if not os.path.lexists(target):
                safe_write.write(target, content, durable=False)
        except OSError as error:
            return [], [f"The sound was not written ({error.strerror or error})."]
        return [target], []
    try:
        with tempfile.TemporaryDirectory() as folder:
            clip = sound.decoded(Path(folder))
        assert clip.samples is not None
        shift = round((begin - clip.start) * clip.rate)
        lead = np.zeros(max(0, -shift), np.float32)
        samples = np.concatenate([lead, clip.samples[max(0, shift) :]])
        target = _free(path.with_suffix(".wav"))
        return [write_clip(replace(clip, samples=samples), target, signed=True)], []
    except AudioError as error:
        return [], [f"The sound was not written: {error}"]


def _free(wanted: Path, content: bytes | None = None) -> Path:
    """Return a name beside an export that takes no file of the user's away."""
    names = [wanted, *(wanted.with_stem(f"{wanted.stem}-sound{n}") for n in ("", *range(2, 1000)))]
    for path in names:
        if not os.path.lexists(path) or is_ours(path):
            return path
        if content is not None and path.is_file() and path.read_bytes() == content:
            return path
    raise AudioError(f"Too many sounds lie beside {wanted.name}.", "Choose another folder.")
