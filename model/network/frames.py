# SPDX-License-Identifier: GPL-3.0-or-later
"""How sound, speech features and motion frames lie over each other in time.

Legend: n samples at 16 kHz, S speech frames (50 a second), F motion frames, W features.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from .spec import ModelSpec

Array = NDArray[np.float32]

RATE = 16_000
FEATURE_RATE = 50.0


def frame_count(spec: ModelSpec, samples: int) -> int:
    """Return how many motion frames a clip of 16 kHz samples gets; at least one.

    "published": int(L / 50 · fps) of the encoder's L frames, in floating point as published (it is
    at times one less than integer arithmetic gives). "time": every frame that starts in the clip.
    """
    if spec.alignment == "time":
        return max(1, math.ceil(samples * spec.fps / RATE - 1e-9))
    return max(1, published_frames(feature_count(samples, spec.encoder.config), spec.fps))


def published_frames(features: int, fps: float) -> int:
    """Return int(L / 50 · fps), evaluated in that order in floating point."""
    return int((features / FEATURE_RATE) * fps)


def feature_count(samples: int, config: dict[str, list[int]]) -> int:
    """Return how many frames the convolutions of HuBERT or wav2vec 2.0 make of `samples`."""
    for kernel, stride in zip(config["conv_kernel"], config["conv_stride"], strict=True):
        samples = (samples - kernel) // stride + 1 if samples >= kernel else 0
    return samples


def at_times(features: Array, frames: int, fps: float, first: int = 0) -> Array:
    """Read (S, W) at i / fps seconds for motion frames i, from `first` → (F, W), linear, ends held.

    Feature j is centred on j / 50 seconds.
    """
    position = np.clip(np.arange(first, first + frames) / fps * FEATURE_RATE, 0, len(features) - 1)
    low = np.minimum(position.astype(np.int64), max(0, len(features) - 2))
    high = np.minimum(low + 1, len(features) - 1)
    share = (position - low).astype(np.float32)[:, None]
    return np.asarray(features[low] + share * (features[high] - features[low]), np.float32)


def windows(total: int, size: int, overlap: int) -> Iterator[tuple[int, int]]:
    """Yield (start, end) that cover 0..total in pieces of at most `size` sharing ≥ `overlap`.

    Pieces are of nearly equal length, so the last one is never a stump.
    """
    if total <= size:
        yield 0, total
        return
    count = math.ceil((total - overlap) / (size - overlap))
    for index in range(count):
        start = round(index * (total - size) / (count - 1))
        yield start, start + size
