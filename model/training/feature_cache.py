# SPDX-License-Identifier: GPL-3.0-or-later
"""Precomputed speech features: a frozen encoder hears every recording once, not once an epoch.

Legend: `S` speech features (50 a second), `W` numbers of each. For Whisper with a learned mix, `W`
holds all hidden states and the energy, so that the mix still learns; else what the encoder returns.

One half-precision array (rows at 50 Hz) and an index beside it, memory-mapped, so features larger
than memory train. The folder is named after a fingerprint of the encoder, so features of another
encoder are never taken by mistake; a broken build continues where it stopped.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..data.dataset import FEATURE_RATE, Array, Clip, DataSet, read_audio
from ..errors import OutputError
from ..network.denoiser import DiffSpeaker

Encode = Callable[[Array], Array]  # (n,) at 16 kHz -> (S, W)


@dataclass(frozen=True)
class FeatureCache:
    """Features of every recording of a data set."""

    rows: npt.NDArray[np.float16]  # (total, width), memory-mapped
    places: dict[str, tuple[int, int]]  # recording -> first row, number of rows

    def read(self, clip: Clip, start: int, stop: int, fps: float) -> npt.NDArray[np.float16]:
        """Return features (S, W) float16 of frames `start` to `stop`, and one to lean on.

        `start` lies on a whole feature (see `DataSet.grid`), so no interpolation is needed here. A
        recording that ends early repeats its last feature.
        """
        first, count = self.places[recording(clip)]
        begin = round(start / fps * FEATURE_RATE)
        end = begin + 1 + int(np.ceil((stop - start) / fps * FEATURE_RATE))
        places = np.clip(np.arange(begin, end), 0, count - 1)
        return self.rows[first : first + count][places]

    def read_all(self, clip: Clip) -> npt.NDArray[np.float16]:
        """Return every feature (S, W) of a recording."""
        first, count = self.places[recording(clip)]
        return self.rows[first : first + count]


def recording(clip: Clip) -> str:
    """Return what tells one recording from another: its file, and its span of a long one."""
    span = "" if clip.audio_span is None else f"#{clip.audio_span[0]}-{clip.audio_span[1]}"
    return f"{clip.audio.parent.name}/{clip.audio.name}{span}"


def fingerprint(description: str, tensors: dict[str, Tensor]) -> str:
    """Return a short name for an encoder: its description and all of its weights."""
    digest = hashlib.sha256(description.encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].detach().cpu().float().numpy().tobytes())
    return digest.hexdigest()[:12]


def build(
    data: DataSet,
    folder: Path,
    encode: Encode,
    width: int,
    progress: Callable[[float], None] | None = None,
) -> FeatureCache:
    """Compute what is missing in `folder` and return the cache.

    Raises:
        OutputError: the disk is full or the folder cannot be written.
    """
    recordings = {recording(clip): clip for clip in data.clips}
    stored = read_index(folder)
    if set(recordings) <= set(stored) and (folder / "features.f16").is_file():
        return opened(folder, stored, width)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        fill(recordings, stored, folder, encode, width, progress)
    except OSError as error:
        raise OutputError(
            f"The speech features cannot be written to {folder}: {error.strerror or error}.",
            hint="Free some space or set data.cache to another folder; the build will continue.",
        ) from error
    return opened(folder, stored, width)


def fill(
    recordings: dict[str, Clip],
    stored: dict[str, tuple[int, int]],
    folder: Path,
    encode: Encode,
    width: int,
    progress: Callable[[float], None] | None,
) -> None:
    """Append the features of recordings that are not stored yet, and list them."""
    end = max((first + count for first, count in stored.values()), default=0)
    path = folder / "features.f16"
    path.touch()
    missing = [name for name in recordings if name not in stored]
    with path.open("r+b") as file, (folder / "index.jsonl").open("a", encoding="utf-8") as index:
        file.seek(end * width * 2)
        file.truncate()  # drop half a recording that a broken build left
        for number, name in enumerate(missing):
            clip = recordings[name]
            block = encode(read_audio(clip, 0, clip.samples))
            file.write(np.clip(block, -65504, 65504).astype("<f2").tobytes())
            file.flush()
            stored[name] = (end, len(block))
            index.write(json.dumps([name, end, len(block)]) + "\n")
            index.flush()
            end += len(block)
            if progress:
                progress((number + 1) / len(missing))


def read_index(folder: Path) -> dict[str, tuple[int, int]]:
    """Return the listed recordings; a last line that was cut off is left out."""
    path = folder / "index.jsonl"
    if not path.is_file():
        return {}
    stored = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            name, first, count = json.loads(line)
        except ValueError:
            continue
        stored[name] = (int(first), int(count))
    return stored


def opened(folder: Path, places: dict[str, tuple[int, int]], width: int) -> FeatureCache:
    """Map the array file."""
    rows = np.memmap(folder / "features.f16", "<f2", mode="r").reshape(-1, width)
    return FeatureCache(rows, places)


def encoder_of(model: DiffSpeaker) -> tuple[Encode, int]:
    """Return how the model's encoder hears a recording, and the width `W` of what is stored."""
    encoder: Any = model.audio_encoder
    states = getattr(encoder, "mix", None) is not None
    width = model.spec.audio_width  # chosen states come joined, as the denoiser takes them
    if states:
        width = (len(encoder.layers) + 1) * encoder.width + 2

    @torch.no_grad()
    def encode(audio: Array) -> Array:
        sound = torch.from_numpy(audio)[None].to(model.device)
        if not states:
            return model.features(sound)[0].float().cpu().numpy()
        hidden, energy = encoder.hidden_states(encoder.prepare(sound, None))
        return torch.cat((hidden.flatten(2), energy), -1)[0].float().cpu().numpy()

    return encode, width


def combined(model: DiffSpeaker, stored: Tensor) -> Tensor:
    """Return the encoder's features (B, S, audio width) of stored ones (B, S, W)."""
    encoder: Any = model.audio_encoder
    stored = stored.float()
    if getattr(encoder, "mix", None) is None:
        return stored
    states = stored[..., :-2].reshape(*stored.shape[:-1], -1, encoder.width)
    return encoder.combine(states, stored[..., -2:])  # type: ignore[no-any-return]
