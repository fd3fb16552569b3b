# SPDX-License-Identifier: GPL-3.0-or-later
"""The recorded numbers of the published code, and our network around the same weights."""

from __future__ import annotations

import json
from functools import cache

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from model.conversion import official
from model.network import checkpoint
from model.network.checkpoint import Checkpoint
from model.network.denoiser import DiffSpeaker
from model.network.spec import BIWI_STYLES, VOCASET_STYLES, EncoderSpec, ModelSpec
from tests.shared import shared

SETTINGS = ("A", "B")


class Arrays:
    """One recorded file; arrays come as tensors of a chosen dtype, integers as they are."""

    def __init__(self, name: str, dtype: torch.dtype = torch.float32) -> None:
        self.file = np.load(shared(f"reference/parity/{name}"))
        self.dtype = dtype

    def __getitem__(self, key: str) -> Tensor:
        value = torch.from_numpy(np.asarray(self.file[key]))
        return value.to(self.dtype) if value.is_floating_point() else value

    def __contains__(self, key: str) -> bool:
        return key in self.file.files

    def one_hot(self, key: str, styles: int) -> Tensor:
        """Return style mix weights of recorded style numbers."""
        return torch.nn.functional.one_hot(self[key], styles).to(self.dtype)


def spec(setting: str) -> ModelSpec:
    """Describe recorded configuration A (VOCASET-like) or B (BIWI-like, two layers)."""
    config = json.loads(shared("reference/parity/encoder_tiny.json").read_text(encoding="utf-8"))
    vocaset = setting == "A"
    return ModelSpec(
        name=f"parity {setting}",
        motion="vertices",
        channels=30,
        latent=64,
        feedforward=128,
        layers=1 if vocaset else 2,
        encoder=EncoderSpec("hubert" if vocaset else "wav2vec2", config),
        styles=VOCASET_STYLES if vocaset else BIWI_STYLES,
        fps=30.0 if vocaset else 25.0,
        period=30 if vocaset else 25,
        smoothing=vocaset,
    )


@cache
def model(setting: str, dtype: torch.dtype = torch.float32) -> DiffSpeaker:
    """Build the network with the recorded weights."""
    tensors = load_file(str(shared(f"reference/parity/{setting}_weights.safetensors")))
    described = spec(setting)
    built = checkpoint.build(Checkpoint(described, official.prepare(tensors)))
    return built.to(dtype)
