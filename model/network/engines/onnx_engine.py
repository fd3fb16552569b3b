# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a control model with ONNX Runtime and numpy: no torch, on the processor.

Legend: n samples at 16 kHz, M mel frames, S speech frames, W encoder width, F frames, D latent,
L layers, N styles, T steps.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...progress import Watch
from .. import tables
from ..encoders import mel
from ..frames import at_times, windows
from ..sampling import draw
from ..spec import CONTEXT, ModelSpec
from ..tensors import read_spec, read_tensors
from . import graphs, onnx_runtime
from .engine import Array, Ends, Engine, Predict

PIECE = 6000  # motion frames that pass through a graph at a time
OVERLAP = 200  # speech frames that two windows of the encoder share


class OnnxEngine(Engine):
    """A control model on the processor."""

    name = "ONNX Runtime"

    def __init__(self, spec: ModelSpec, weights: dict[str, Array]) -> None:
        """Raises `EngineError` without the library, `CheckpointError` when weights do not fit."""
        written = [
            make(spec, weights)
            for make in (graphs.stem, graphs.encode, graphs.condition, graphs.denoise)
        ]
        self._tokens = tables.Tokens(spec, weights)
        channels = spec.channels
        ends = Ends(
            weights["denoiser.vertice_map.weight"],
            weights["denoiser.motion_decoder.weight"],
            weights["denoiser.motion_decoder.bias"],
            weights.get("motion.mean", np.zeros(channels, np.float32)),
            weights.get("motion.scale", np.ones(channels, np.float32)),
        )
        super().__init__(spec, ends, None)
        library = onnx_runtime.library()
        sessions = [library.session(graph.to_bytes()) for graph in written]
        self._stem, self._encode, self._condition, self._denoise = sessions

    @classmethod
    def load(cls, path: Path) -> OnnxEngine:
        """Read a model file. Raises `CheckpointError` or `EngineError`."""
        spec, weights = read_spec(path), read_tensors(path)
        return cls(spec, weights)

    @property
    def about(self) -> str:
        """Name, version and threads, for a report."""
        library = onnx_runtime.library()
        return f"{self.name} {library.version}, {library.threads} threads"

    def listen(self, samples: Array, frames: int, watch: Watch) -> Array:
        """Return each layer's speech keys and values at every frame: (F, 2DL)."""
        config = self.spec.encoder.config
        sound = mel.log_mel(samples, config["bins"], bool(config.get("level")))
        watch(0.1)
        energy = sound[config["bins"]].reshape(-1, 2).copy() if config.get("energy") else None
        heard = self._encoded(sound[: config["bins"]], watch.part(0.1, 1.0))
        del sound  # 120 MB an hour
        return self._conditioned(heard, energy, frames)

    def _stemmed(self, mels: Array, start: int, end: int) -> Array:
        """Run the encoder's convolutions over (bins, M) for some speech frames → (end - start, W).

        An output sees two mel frames on either side of its own; four to spare keep the edges of a
        piece, which see silence instead, out of the result.
        """
        low, high = max(0, start - 2), min(mels.shape[1] // 2, end + 2)
        given = np.ascontiguousarray(mels[None, :, 2 * low : 2 * high])
        (piece,) = self._stem.run({"mels": given}, ["stem"])
        return piece[start - low : end - low]

    def _conditioned(self, heard: Array, energy: Array | None, frames: int) -> Array:
        """Bring what was heard (S, ·) to the frames and to the denoiser, in pieces: (F, 2DL)."""
        spec = self.spec
        reach = CONTEXT // 2 * spec.context  # frames that a frame also hears
        result = np.zeros((0, 0), np.float32)
        for start in range(0, frames, PIECE):
            end = min(frames, start + PIECE)
            low, high = max(0, start - reach), min(frames, end + reach)
            features = at_times(heard, high - low, spec.fps, low)
            if energy is not None:
                loud = at_times(energy, high - low, spec.fps, low)
                features = np.concatenate([features, loud], axis=1)
            (piece,) = self._condition.run({"features": features}, ["heard"])
            if not start:
                result = np.empty((frames, piece.shape[1]), np.float32)
            result[start:end] = piece[start - low : end - low]
        return result

    def _encoded(self, mels: Array, watch: Watch) -> Array:
        """Run the encoder over mels (bins, M) in windows that cross-fade → (S, ·)."""
        config, total = self.spec.encoder.config, mels.shape[1] // 2
        limit = config["positions"]
        positions = mel.sinusoids(limit, config["width"])
        spans = list(windows(total, limit, min(OVERLAP, limit // 4)))
        result, covered = np.zeros((0, 0), np.float32), 0
        for number, (start, end) in enumerate(spans):
            window = {
                "stem": self._stemmed(mels, start, end),
                "positions": positions[: end - start],
            }
            (piece,) = self._encode.run(window, ["features"])
            if not number:
                result = np.empty((total, piece.shape[1]), np.float32)
            shared = covered - start
            if shared > 0:
                rise = ((np.arange(shared) + 1) / (shared + 1))[:, None].astype(np.float32)
                piece[:shared] = result[start:covered] * (1 - rise) + piece[:shared] * rise
            result[start:end] = piece
            covered = end
            watch((number + 1) / len(spans))
        return result

    def start(self, frames: int, seed: int, noise: Array | None) -> Array:
        """Return the first noise, projected: (F, D)."""
        if noise is None:
            noise = draw(seed, frames, self.spec.channels)
        return noise @ self.ends.enter.T

    def clip(self, heard: Array, style: Array, steps: list[int]) -> Predict:
        """Prepare some frames (F, 2DL) for the diffusion steps (T,)."""
        spec, frames = self.spec, len(heard)
        fixed = {
            "heard": heard,
            "bias": tables.bias(spec.heads, frames, spec.period),
            "positions": tables.positions(spec.latent, spec.period, frames),
        }
        tokens = self._tokens(style, steps)  # (T, 2, DL)

        def predict(state: Array, index: int) -> tuple[Array, Array]:
            given = fixed | {"state": state, "tokens": tokens[index]}
            features, entry = self._denoise.run(given, ["features", "entry"])
            return features, entry

        return predict
