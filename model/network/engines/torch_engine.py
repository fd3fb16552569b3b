# SPDX-License-Identifier: GPL-3.0-or-later
"""Run any model with torch: the authors' checkpoints, graphics cards, and what was just trained.

Legend: n samples at 16 kHz, F frames, C channels, D latent, N styles, T steps.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...errors import DeviceError
from ...progress import Watch
from .. import checkpoint
from ..denoiser import DiffSpeaker
from ..encoders.speech_encoder import has_bfloat16
from ..latent import LatentNetwork
from .engine import Array, Ends, Engine, Predict


class TorchEngine(Engine):
    """A model in torch."""

    name = "PyTorch"

    def __init__(self, model: DiffSpeaker, template: Tensor | None = None) -> None:
        motion, denoiser = model.motion, model.denoiser
        ends = Ends(
            _numpy(denoiser.vertice_map.weight),
            _numpy(denoiser.motion_decoder.weight),
            _numpy(denoiser.motion_decoder.bias),
            _numpy(motion.mean),
            _numpy(motion.scale),
        )
        super().__init__(model.spec, ends, None if template is None else _numpy(template))
        self.model, self.device = model, str(model.device)
        self.precision = model.spec.precision if has_bfloat16(model.device) else "float32"

    @classmethod
    def load(cls, path: Path, device: str) -> TorchEngine:
        """Read a model file. Raises `CheckpointError`."""
        opened = checkpoint.load(path)
        return cls(checkpoint.build(opened, device), opened.template)

    @property
    def about(self) -> str:
        """Name, version and threads, for a report."""
        return f"{self.name} {torch.__version__}, {torch.get_num_threads()} threads"

    @torch.inference_mode()
    def listen(self, samples: Array, frames: int, watch: Watch) -> Array:
        """Return the denoiser's speech input at every frame: (F, D)."""
        sound = torch.from_numpy(np.ascontiguousarray(samples))[None].to(self.model.device)
        progress, cancelled = watch.progress, watch.cancelled
        return _numpy(self.model.encode(sound, frames, progress=progress, cancelled=cancelled)[0])

    @torch.inference_mode()
    def start(self, frames: int, seed: int, noise: Array | None) -> Array:
        """Return the first noise, projected: (F, D)."""
        given = None if noise is None else torch.from_numpy(noise)
        return _numpy(LatentNetwork.of(self.model).start(1, frames, seed, given)[0])

    @torch.inference_mode()
    def clip(self, heard: Array, style: Array, steps: list[int]) -> Predict:
        """Prepare some frames (F, D) for the diffusion steps (T,)."""
        network = LatentNetwork.of(self.model)
        rows = self._tensor(heard), self._tensor(style)
        prepared = network.prepare(*rows, steps, None)

        @torch.inference_mode()
        def predict(state: Array, index: int) -> tuple[Array, Array]:
            features = prepared(self._tensor(state), index)
            return _numpy(features[0]), _numpy(network.again(features)[0])

        return predict

    def _tensor(self, array: Array) -> Tensor:
        """Return an array as a batch of one, in the network's number format."""
        return torch.from_numpy(array)[None].to(self.model.denoiser.vertice_map.weight)


def devices() -> list[str]:
    """Return the devices of this machine, best first."""
    cuda = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    mps = torch.backends.mps.is_available()
    return [*(cuda if torch.cuda.is_available() else []), *(["mps"] if mps else []), "cpu"]


def choose(wanted: str) -> str:
    """Return the device of that name. Raises `DeviceError` when it is not there."""
    there = devices()
    hint = f"It has {', '.join(there)}."
    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise DeviceError(f'"{wanted}" is no device.', hint=hint) from error
    name = f"cuda:{device.index or 0}" if device.type == "cuda" else device.type
    if name not in there:
        raise DeviceError(f"This machine has no device {wanted}.", hint=hint)
    return name


def device_name(device: str) -> str:
    """Return a device in words a person knows."""
    if device.startswith("cuda"):
        return str(torch.cuda.get_device_name(device))
    return {"cpu": "CPU", "mps": "Apple GPU"}.get(device, device)


def release(device: str) -> None:
    """Give cached memory of a device back after it ran out."""
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
    elif device == "mps":
        torch.mps.empty_cache()


def _numpy(tensor: Tensor) -> Array:
    return np.asarray(tensor.detach().float().cpu().numpy(), np.float32)
