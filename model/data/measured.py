# SPDX-License-Identifier: GPL-3.0-or-later
"""Recordings of people with lips measured on video, and whose they are.

A folder holds, for every recording, ``NAME.wav`` or ``NAME.flac`` and ``NAME.npz``: ``fps``;
``inner``, the opening between the inner lips, and ``width``, the distance of the mouth's corners,
both over the distance of the outer corners of the eyes; and, unless it is 0, ``offset_ms``: video
time = audio time + offset.  Phones, where known, lie beside it as ``NAME.phones.json`` or for the
whole folder in ``phones.json``.  A folder of such folders is one of speakers, named after them.

Frame i of a video shows the middle of its exposure: (i + ½) / fps seconds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile

from ..errors import ConfigError
from ..phones.phonemes import Phone

Array = npt.NDArray[np.float64]

FAULTY_OFFSET = 125.0
"""Milliseconds; a larger stated offset is a measuring fault and taken as 0."""
WIDE = 90
"""Percentile of a recording's opening that counts as wide open."""


@dataclass(frozen=True)
class Recording:
    """One clip: sound, measured lips at ``times`` (seconds of the sound), phones where known."""

    name: str
    speaker: str
    samples: Array
    rate: int
    times: Array
    opening: Array
    width: Array
    phones: tuple[Phone, ...]

    @property
    def relative(self) -> npt.NDArray[np.float32]:
        """Opening (1: wide for this speaker) and width (1: usual for this speaker), (F, 2).

        People and cameras differ in size; what is left is how the lips move.
        """
        wide = max(float(np.percentile(self.opening, WIDE)), 1e-3)
        usual = float(np.median(self.width))
        return np.stack([self.opening / wide, self.width / usual], 1).astype(np.float32)


def read(folder: Path) -> list[Recording]:
    """Return every recording of a folder, or of the folders in it.

    Raises:
        ConfigError: there is none, or one cannot be read.
    """
    folder = Path(folder)
    found = list(read_folder(folder))
    for inner in sorted(path for path in folder.glob("*") if path.is_dir()):
        found += read_folder(inner, inner.name)
    if not found:
        raise ConfigError(
            f"{folder} has no measured lips.", hint="It needs NAME.npz beside NAME.wav or .flac."
        )
    return found


def read_folder(folder: Path, speaker: str = "") -> Iterator[Recording]:
    """Yield the recordings that lie in a folder itself; without a name each has its own speaker."""
    listing = folder / "phones.json"
    listed = json.loads(listing.read_text(encoding="utf-8")) if listing.is_file() else {}
    for path in sorted(folder.glob("*.npz")):
        own = path.with_suffix(".phones.json")
        rows = json.loads(own.read_text(encoding="utf-8")) if own.is_file() else None
        phones = as_phones(rows if rows is not None else listed.get(path.stem, ()))
        yield read_recording(path, speaker or path.stem.split("_")[0], phones)


def read_recording(path: Path, speaker: str, phones: tuple[Phone, ...] = ()) -> Recording:
    """Read one recording by its ``.npz``.

    Raises:
        ConfigError: it or its sound cannot be read.
    """
    sound = next((p for p in map(path.with_suffix, (".wav", ".flac")) if p.is_file()), path)
    try:
        samples, rate = soundfile.read(sound, always_2d=True)
        with np.load(path) as arrays:
            fps = float(arrays["fps"])
            offset = float(arrays["offset_ms"]) if "offset_ms" in arrays else 0.0
            opening: Array = arrays["inner"].astype(np.float64)
            width: Array = arrays["width"].astype(np.float64)
    except (OSError, KeyError, ValueError, soundfile.LibsndfileError) as error:
        raise ConfigError(f"{path} or its sound cannot be read: {error}.") from error
    mono: Array = samples.mean(1, dtype=np.float64)
    late = 0.0 if abs(offset) > FAULTY_OFFSET else offset / 1000
    times: Array = np.asarray((np.arange(len(opening)) + 0.5) / fps - late, np.float64)
    return Recording(path.stem, speaker, mono, rate, times, opening, width, phones)


def as_phones(rows: Sequence[Any] | dict[str, Any]) -> tuple[Phone, ...]:
    """Return phones from rows of [phone, start, end, …], or of words with their phones inside."""
    if isinstance(rows, dict):
        return tuple(Phone(*phone[:3]) for word in rows["words"] for phone in word[3])
    return tuple(Phone(*row[:3]) for row in rows)
