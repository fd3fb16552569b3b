# SPDX-License-Identifier: GPL-3.0-or-later
"""What stays warm between requests: loaded models, derived rigs, and the choice of engine.

The extension's own engine, ONNX Runtime, runs models of controls on the processor. torch runs all
others, and everything where there is a graphics card; it is imported only when it is needed.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import native
from ..errors import CheckpointError, DeviceError, EngineError
from ..network.engines import graphs
from ..network.spec import ModelSpec
from ..network.tensors import read_spec

if TYPE_CHECKING:
    from ..network.engines.engine import Engine
    from ..rig.head_files import Face
    from ..rig.rig import Rig

BUNDLED = Path(__file__).parents[1] / "weights" / "bundled.safetensors"
ENGINES = ("auto", "onnx", "torch")
NO_TORCH = "Install the runtime in the extension's preferences."


class Session:
    """Models and rigs of one process; the least recently used ones are let go.

    `keep` models stay loaded. `device` is what "auto" in a request means, `engine` which engine is
    used: "auto", "onnx" or "torch". `cache` is a folder where derived rigs are kept for the next
    process; none by default.
    """

    def __init__(
        self,
        device: str = "auto",
        *,
        engine: str = "auto",
        keep: int = 2,
        cache: str | Path | None = None,
    ) -> None:
        self.device, self.wanted, self.keep = device, engine, max(1, keep)
        self.cache = Path(cache) if cache else None
        self._models: OrderedDict[tuple[Any, ...], Engine] = OrderedDict()
        self._rigs: OrderedDict[str, Rig] = OrderedDict()

    def load(self, checkpoint: str, device: str = "auto") -> Engine:
        """Return a model on a device, from memory when its file has not changed.

        Raises `CheckpointError`, `EngineError` when nothing here can run it, or `DeviceError`.
        """
        path = model_file(checkpoint)
        about = path.stat()
        kind, device = self.choose(read_spec(path), device)
        key = (str(path.resolve()), about.st_mtime_ns, about.st_size, kind, device)
        if key not in self._models:
            while len(self._models) >= self.keep:
                self._models.popitem(last=False)
            self._models[key] = open_model(path, kind, device)
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

    def choose(self, spec: ModelSpec, device: str = "auto") -> tuple[str, str]:
        """Return the engine ("onnx" or "torch") and the device that run a model.

        A named device is taken as it is; else a graphics card with torch, else the processor.
        Raises `EngineError` when nothing here can run the model, `DeviceError` when a named device
        is not there.
        """
        wanted = (self.device if device in ("", "auto") else device) or "auto"
        light = graphs.supports(spec) and self.wanted != "torch"
        if wanted == "auto" and self.wanted != "onnx" and _torch_has_a_card():
            return "torch", devices()[0]
        trouble = _library_trouble() if light and wanted in ("auto", "cpu") else None
        if light and wanted in ("auto", "cpu") and trouble is None:
            return "onnx", "cpu"
        if trouble is not None and (self.wanted == "onnx" or not native.has("torch")):
            raise trouble
        if not native.has("torch"):
            if wanted not in ("auto", "cpu"):
                raise DeviceError(f"The device {wanted} needs PyTorch.", NO_TORCH)
            raise EngineError(f"The model {spec.name} needs PyTorch.", NO_TORCH)
        from ..network.engines import torch_engine

        return "torch", torch_engine.choose("cpu" if wanted == "auto" else wanted)


def open_model(path: Path, kind: str, device: str) -> Engine:
    """Load a model into an engine. Raises `CheckpointError`, or `EngineError`."""
    if kind == "onnx":
        from ..network.engines.onnx_engine import OnnxEngine

        try:
            return OnnxEngine.load(path)
        except (KeyError, IndexError, TypeError, ValueError, ArithmeticError) as error:
            raise CheckpointError(f"{path.name} does not fit its description ({error}).") from error
    from ..network.engines.torch_engine import TorchEngine

    return TorchEngine.load(path, device)


def model_file(checkpoint: str) -> Path:
    """Return the file of a request's checkpoint. Raises `CheckpointError` when there is none."""
    path = BUNDLED if checkpoint in ("", "bundled") else Path(checkpoint)
    if not os.path.isfile(path):  # noqa: PTH113 - False for a name too long, too
        what = "The bundled model is" if path == BUNDLED else f"The model file {path} is"
        raise CheckpointError(f"{what} missing.", hint="Choose another, or install it again.")
    return path


def devices() -> list[str]:
    """Return the devices that models can use here, best first."""
    if not _torch_has_a_card():
        return ["cpu"]
    from ..network.engines import torch_engine

    return torch_engine.devices()


def device_name(device: str) -> str:
    """Return a device in words a person knows."""
    if device == "cpu":
        return "CPU"
    from ..network.engines import torch_engine

    return torch_engine.device_name(device)


def release(device: str) -> None:
    """Give cached memory of a device back after it ran out."""
    if device != "cpu":
        from ..network.engines import torch_engine

        torch_engine.release(device)


def out_of_memory(error: BaseException) -> bool:
    """Tell whether an error means that a device's memory ran out."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and "out of memory" in str(error).lower()


def _library_trouble() -> EngineError | None:
    """Return why the carried engine cannot be loaded here, None when it can."""
    from ..network.engines import onnx_runtime

    try:
        onnx_runtime.library()
    except EngineError as error:
        return error
    return None


def _torch_has_a_card() -> bool:
    """Tell whether torch finds a graphics card; it is asked only where one may be."""
    if not (native.has("torch") and native.may_have_card()):
        return False
    from ..network.engines import torch_engine

    return torch_engine.devices()[0] != "cpu"
