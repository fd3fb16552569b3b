"""Read lips from sound: a small regression from Whisper features to lips measured on video.

Phone tables say which sounds open a mouth; only measured lips say how far, how late and for whom.
The corpus builder fits this reader on a folder of clips with measured lips (``NAME.wav`` beside
``NAME.npz`` with ``fps``, ``inner``, ``width``, ``offset_ms``) and blends what it reads into the
curves that the tables make. Seconds of video are enough because Whisper already hears the sounds.
Development only; the folder and the fitted weights stay where the corpus is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from ...conversion.encoders import import_whisper
from ...data.dataset import read_mono
from ...errors import CorpusError
from ...network.encoders.whisper import WhisperEncoder
from ...network.frames import FEATURE_RATE
from ...network.spec import WHISPER_TINY
from . import augment

Array = npt.NDArray[np.float32]

CONTEXT = (-0.08, 0.0, 0.08)  # seconds around a frame that the regression sees
PENALTY = 2000.0  # ridge; flat between 1,000 and 10,000 when a speaker is left out
COPIES = 6  # of each clip at other speeds, rooms and microphones
LARGEST_OFFSET = 100.0  # ms; a larger stated offset is a measuring fault and taken as 0


@dataclass(frozen=True)
class MeasuredClip:
    """Audio (n,) at 16 kHz with lip measures at ``times`` (seconds of audio).

    ``lips`` (frames, 2): inner opening and mouth width, each relative to the clip's own open mouth
    (90th percentile) and rest width (median) — speakers and cameras differ in scale.
    """

    name: str
    samples: Array
    times: Array
    lips: Array


@dataclass(frozen=True)
class LipReader:
    """A linear map from standardised features to relative opening and width."""

    encoder: WhisperEncoder
    mean: Array
    scale: Array
    weights: Array  # (features, 2)
    bias: Array  # (2,)

    def read(self, samples: Array, fps: float, frames: int) -> Array:
        """Return (frames, 2): opening (0 shut … 1 wide for this voice) and width (1 = rest)."""
        times = (np.arange(frames) / fps).astype(np.float32)
        features = at(hear(self.encoder, samples), times)
        return ((features - self.mean) / self.scale @ self.weights + self.bias).astype(np.float32)


def load_encoder(path: Path) -> WhisperEncoder:
    """Build the frozen Whisper encoder from a CTranslate2-style ``.npz``."""
    encoder = WhisperEncoder(WHISPER_TINY | {"energy": False})
    tensors = import_whisper(path)
    encoder.load_state_dict({key.removeprefix("audio_encoder."): t for key, t in tensors.items()})
    return encoder.eval()


@torch.no_grad()
def hear(encoder: WhisperEncoder, samples: Array) -> Array:
    """Return the encoder's last hidden state (S, width), 50 frames a second."""
    states, _ = encoder.hidden_states(torch.from_numpy(np.ascontiguousarray(samples))[None])
    return np.asarray(states[0, :, -1].numpy())


def at(features: Array, times: Array) -> Array:
    """Interpolate features at the given seconds and their context → (frames, 3 · width)."""
    columns = []
    for shift in CONTEXT:
        place = np.clip((times + shift) * FEATURE_RATE, 0, len(features) - 1)
        low = np.floor(place).astype(int)
        high = np.minimum(low + 1, len(features) - 1)
        part = (place - low)[:, None]
        columns.append(features[low] * (1 - part) + features[high] * part)
    return np.concatenate(columns, axis=1).astype(np.float32)


def measured_clips(folder: Path) -> list[MeasuredClip]:
    """Read every measured clip of a folder.

    Raises:
        CorpusError: there is none.
    """
    clips = []
    for path in sorted(folder.glob("*.npz")):
        mono = read_mono(path.with_suffix(".wav"))
        with np.load(path) as found:
            fps, offset = float(found["fps"]), float(found["offset_ms"])
            opening = found["inner"] / np.percentile(found["inner"], 90)
            width = found["width"] / np.median(found["width"])
        offset = 0.0 if abs(offset) > LARGEST_OFFSET else offset / 1000
        times = np.arange(len(opening), dtype=np.float32) / fps - offset
        lips = np.stack([opening, width], axis=1).astype(np.float32)
        clips.append(MeasuredClip(path.stem, mono, times, lips))
    if not clips:
        raise CorpusError(f"{folder} has no measured lips (NAME.npz beside NAME.wav)")
    return clips


def heard(
    encoder: WhisperEncoder, clip: MeasuredClip, copies: int
) -> Iterator[tuple[Array, Array]]:
    """Yield (features, lips) of a clip and of seeded variations of its sound."""
    yield at(hear(encoder, clip.samples), clip.times), clip.lips
    for index in range(copies):
        random = np.random.default_rng(index)
        factor = float(np.exp(random.normal(0.0, 0.10)))
        samples, _ = augment.change_speed(clip.samples, [], factor)
        if random.random() < 0.5:
            samples = augment.change_microphone(samples, random)
        samples = augment.add_noise(samples, random)
        yield at(hear(encoder, samples), clip.times / factor), clip.lips


def fit(encoder: WhisperEncoder, clips: list[MeasuredClip], copies: int = COPIES) -> LipReader:
    """Fit a ridge regression on all clips and their variations."""
    pairs = [pair for clip in clips for pair in heard(encoder, clip, copies)]
    x = np.concatenate([pair[0] for pair in pairs])
    y = np.concatenate([pair[1] for pair in pairs])
    mean, scale, bias = x.mean(0), x.std(0) + 1e-6, y.mean(0)
    x = (x - mean) / scale
    penalty = PENALTY * (1 + copies) * np.eye(x.shape[1], dtype=np.float32)
    weights = np.linalg.solve(x.T @ x + penalty, x.T @ (y - bias))
    return LipReader(encoder, mean, scale, weights.astype(np.float32), bias)
