"""What stays warm between requests: loaded models, derived rigs, and the choice of device."""

from __future__ import annotations

import os
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..errors import CheckpointError, DeviceError
from ..network.checkpoint import Checkpoint, build, load
from ..network.denoiser import DiffSpeaker
from ..network.encoders.speech_encoder import has_bfloat16

if TYPE_CHECKING:
    from ..rig.head_files import Face
    from ..rig.rig import Rig

BUNDLED = Path(__file__).parents[1] / "weights" / "bundled.safetensors"


@dataclass(frozen=True)
class Loaded:
    """A model on its device, and the file it came from."""

    checkpoint: Checkpoint
    model: DiffSpeaker
    device: torch.device

    @property
    def precision(self) -> str:
        """The number format that the speech encoder computes in here."""
        return self.checkpoint.spec.precision if has_bfloat16(self.device) else "float32"


class Session:
    """Models and rigs of one process; the least recently used ones are let go.

    `keep` models stay loaded. `device` is what "auto" in a request means. `cache` is a folder where
    derived rigs are kept for the next process; none by default.
    """

    def __init__(
        self, device: str = "auto", *, keep: int = 2, cache: str | Path | None = None
    ) -> None:
        self.device, self.keep = device, max(1, keep)
        self.cache = Path(cache) if cache else None
        self._models: OrderedDict[tuple[Any, ...], Loaded] = OrderedDict()
        self._rigs: OrderedDict[str, Rig] = OrderedDict()

    def load(self, checkpoint: str, device: torch.device) -> Loaded:
        """Return a model on a device, from memory when its file has not changed.

        Raises `CheckpointError`, or `DeviceError` when the device has no room for it.
        """
        path = model_file(checkpoint)
        about = path.stat()
        key = (str(path.resolve()), about.st_mtime_ns, about.st_size, str(device))
        if key not in self._models:
            while len(self._models) >= self.keep:
                self._models.popitem(last=False)
            opened = load(path)
            model = build(opened, str(device))
            self._models[key] = Loaded(opened, model, device)
        self._models.move_to_end(key)
        return self._models[key]

    def rig(self, face: Face) -> Rig:
        """Return the control rig of a face, derived once. Raises `FaceError`."""
        from ..rig.rig import Rig

        if face.key not in self._rigs:
            while len(self._rigs) >= 4:
                self._rigs.popitem(last=False)
            self._rigs[face.key] = Rig(face.vertices, face.triangles, cache=self.cache)
        self._rigs.move_to_end(face.key)
        return self._rigs[face.key]

    def choose(self, device: str = "auto") -> torch.device:
        """Return the device for a request: the one it names, else CUDA, then MPS, then the CPU.

        Raises `DeviceError` when a named device is not there.
        """
        wanted = self.device if device in ("", "auto") else device
        if wanted in ("", "auto"):
            return torch.device(available()[0])
        try:
            chosen = torch.device(wanted)
        except RuntimeError as error:
            raise DeviceError(f'"{wanted}" is no device.', hint=_devices_hint()) from error
        usable = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": _mps()}
        missing = chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count()
        if missing or not usable.get(chosen.type, False):
            raise DeviceError(f"This machine has no device {wanted}.", hint=_devices_hint())
        return chosen

    def release(self, device: torch.device) -> None:
        """Give cached memory of a device back after it ran out."""
        if device.type == "cuda":
            torch.cuda.empty_cache()
        elif device.type == "mps":
            torch.mps.empty_cache()


def model_file(checkpoint: str) -> Path:
    """Return the file of a request's checkpoint. Raises `CheckpointError` when there is none."""
    path = BUNDLED if checkpoint in ("", "bundled") else Path(checkpoint)
    if not os.path.isfile(path):  # noqa: PTH113 - False for a name too long, too
        what = "The bundled model is" if path == BUNDLED else f"The model file {path} is"
        raise CheckpointError(f"{what} missing.", hint="Choose another, or install it again.")
    return path


def available() -> list[str]:
    """Return the devices of this machine, best first."""
    cuda = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    return [*(cuda if torch.cuda.is_available() else []), *(["mps"] if _mps() else []), "cpu"]


def device_name(device: str | torch.device) -> str:
    """Return a device in words a person knows."""
    chosen = torch.device(device)
    if chosen.type == "cuda":
        return str(torch.cuda.get_device_name(chosen))
    return {"cpu": "CPU", "mps": "Apple GPU"}.get(chosen.type, chosen.type)


def _mps() -> bool:
    return bool(torch.backends.mps.is_available())


def _devices_hint() -> str:
    return f"It has {', '.join(available())}."


def out_of_memory(error: BaseException) -> bool:
    """Tell whether an error means that a device's memory ran out."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "out of memory" in str(error).lower()
