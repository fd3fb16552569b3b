# SPDX-License-Identifier: GPL-3.0-or-later
"""Tiny random models, heads and sounds: everything real but the size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
import torch

from model.network import checkpoint as files
from model.network.denoiser import DiffSpeaker
from model.network.spec import WHISPER_TINY, EncoderSpec, ModelSpec
from model.rig.controls import CONTROLS

HUBERT = {
    "conv_dim": [16] * 7,
    "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
    "conv_stride": [5, 2, 2, 2, 2, 2, 2],
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "layer_norm_eps": 1e-5,
}
VERTICES = 10


def spec(motion: str = "vertices", vertices: int = VERTICES, **changes: object) -> ModelSpec:
    """Describe a model that runs in milliseconds."""
    controls = CONTROLS if motion == "controls" else ()
    values: dict = {
        "name": f"tiny {motion}",
        "motion": motion,
        "channels": len(controls) or 3 * vertices,
        "latent": 32,
        "feedforward": 64,
        "encoder": EncoderSpec("hubert", HUBERT),
        "styles": ("calm", "lively"),
        "fps": 30.0,
        "period": 30,
        "alignment": "time" if motion == "controls" else "published",
        "smoothing": motion == "vertices",
        "steps": 4,
        "control_names": controls,
        "licence": "commercial use allowed",
    }
    return ModelSpec(**(values | changes))


def listening(**changes: object) -> ModelSpec:
    """Describe a control model with a small Whisper encoder."""
    config = {**WHISPER_TINY, "width": 64, "heads": 2, "layers": 2, "bins": 20, "positions": 500}
    return spec("controls", encoder=EncoderSpec("whisper", config), **changes)


def checkpoint(path: Path, described: ModelSpec, *, template: bool = True, seed: int = 0) -> Path:
    """Save random weights for a description: motion of a few millimetres."""
    torch.manual_seed(seed)
    model = DiffSpeaker(described)
    with torch.no_grad():
        size = 0.2 if described.motion == "controls" else 1e-3
        model.denoiser.motion_decoder.weight.normal_(0, size)
        model.denoiser.motion_decoder.bias.normal_(0, size)
    shape = torch.from_numpy(head(described.vertices)[0]).float() if described.vertices else None
    files.save(path, files.of(model, shape if template else None))
    return path


def head(vertices: int = VERTICES) -> tuple[np.ndarray, np.ndarray]:
    """Return vertices (V, 3) in metres and triangles of a lopsided closed blob."""
    rng = np.random.default_rng(7)
    points = rng.normal(size=(vertices, 3)) * [0.05, 0.08, 0.06] + [0.0, 1.6, 0.02]
    corners = np.stack(
        [np.arange(vertices - 2), np.arange(1, vertices - 1), np.arange(2, vertices)]
    )
    return points, corners.T.copy()


def sound(
    path: Path, seconds: float = 1.0, rate: int = 16000, channels: int = 1, level: float = 0.3
) -> Path:
    """Write a voice-like buzz with syllables, in any format that the suffix names."""
    time = np.arange(max(1, round(seconds * rate))) / rate
    buzz = sum(np.sin(2 * np.pi * 140 * k * time) / k for k in range(1, 12))
    syllables = np.clip(np.sin(2 * np.pi * 4 * time) + 0.4, 0, 1)
    samples = level * buzz / np.abs(buzz).max(initial=1e-9) * syllables
    soundfile.write(path, np.repeat(samples[:, None], channels, axis=1), rate)
    return path
