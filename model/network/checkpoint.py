# SPDX-License-Identifier: GPL-3.0-or-later
"""One file per model: tensors in safetensors form, the `ModelSpec` as JSON in its metadata.

Reading runs no code from the file and is strict: every missing, unexpected or misshapen tensor is
named, and a weight that is not a number is an error rather than a silent pose.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..errors import CheckpointError, OutputError
from ..files import safe_write
from .denoiser import DiffSpeaker
from .latent import PREPARED, LatentNetwork
from .spec import ModelSpec
from .tensors import TEMPLATE, read_spec

# A file may leave these out: no standardisation means 0 and 1.
STANDARDISATION = ("motion.mean", "motion.scale")


@dataclass(frozen=True)
class Checkpoint:
    """A described set of weights, ready for `build`."""

    spec: ModelSpec
    """What the tensors belong to."""
    tensors: dict[str, Tensor]
    """Weights under the published key names (`audio_encoder.*`, `denoiser.*`, `motion.*`)."""
    template: Tensor | None = None
    """Neutral face (V, 3) float32 in the model's own units, when the file carries one."""


def load(path: str | Path, *, dtype: torch.dtype = torch.float32) -> Checkpoint:
    """Read a model file, check it against its own description and cast it to `dtype`.

    Raises `CheckpointError` when the file is missing, truncated, not a model, or does not fit.
    """
    path = Path(path)
    spec = read_spec(path)
    try:
        with safe_open(str(path), "pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, RuntimeError) as error:
        raise CheckpointError(f"{path.name} cannot be read: {error}.") from error
    template = tensors.pop(TEMPLATE, None)
    tensors = {key: tensor.to(dtype) for key, tensor in tensors.items()}
    check(spec, tensors, path.name)
    return Checkpoint(spec, tensors, None if template is None else template.to(torch.float32))


def build(checkpoint: Checkpoint, device: str | torch.device = "cpu") -> DiffSpeaker:
    """Build the network around a checkpoint's tensors (not copied on the CPU), in eval mode."""
    with torch.device("meta"):
        model = DiffSpeaker(checkpoint.spec)
    tensors = dict(checkpoint.tensors)
    dtype = tensors["denoiser.vertice_map.weight"].dtype
    channels = checkpoint.spec.channels
    tensors.setdefault("motion.mean", torch.zeros(channels, dtype=dtype))
    tensors.setdefault("motion.scale", torch.ones(channels, dtype=dtype))
    prepared = {key: tensors.pop(key) for key in PREPARED if key in tensors}
    model.load_state_dict(tensors, strict=True, assign=True)
    model = model.to(device).eval()
    if len(prepared) == len(PREPARED):
        LatentNetwork.remember(model, *prepared.values())
    return model


def of(model: DiffSpeaker, template: Tensor | None = None) -> Checkpoint:
    """Return a network's present weights with their description, ready to be saved."""
    return Checkpoint(model.spec, dict(model.state_dict()), template)


def save(path: str | Path, checkpoint: Checkpoint, *, dtype: torch.dtype | None = None) -> None:
    """Write a model file, in `dtype` when given; the old file stays until the new one is whole.

    Raises `CheckpointError` when the tensors do not fit the description, `OutputError` when the
    file cannot be written.
    """
    path = Path(path)
    check(checkpoint.spec, checkpoint.tensors, path.name)
    tensors = {
        key: tensor.detach().to("cpu", dtype or tensor.dtype).contiguous().clone()
        for key, tensor in checkpoint.tensors.items()
    }
    if checkpoint.template is not None:
        tensors[TEMPLATE] = checkpoint.template.detach().to("cpu", torch.float32).contiguous()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with safe_write.written(path) as part:
            save_file(tensors, str(part), metadata={"spec": checkpoint.spec.to_json()})
    except (OSError, SafetensorError) as error:
        raise OutputError(f"{path} cannot be written: {error}.") from error


def check(spec: ModelSpec, tensors: Mapping[str, Tensor], name: str = "The model") -> None:
    """Raise `CheckpointError` unless the tensors are exactly what the description needs."""
    expected = expected_shapes(spec)
    missing = sorted(set(expected) - set(tensors) - set(STANDARDISATION))
    expected |= prepared_shapes(spec)
    unexpected = sorted(set(tensors) - set(expected))
    misshapen = [
        f"{key} is {list(tensors[key].shape)}, not {list(shape)}"
        for key, shape in expected.items()
        if key in tensors and tensors[key].shape != shape
    ]
    complaints = [
        f"{label}: {', '.join(keys)}"
        for label, keys in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("wrong size", misshapen),
        )
        if keys
    ]
    if complaints:
        raise CheckpointError(f"{name} does not fit its description; {'; '.join(complaints)}.")
    broken = [key for key, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())]
    if broken:
        raise CheckpointError(f"{name} holds weights that are not numbers: {', '.join(broken)}.")


def expected_shapes(spec: ModelSpec) -> dict[str, torch.Size]:
    """Return every key and shape that the network of a description has, without memory for it."""
    try:
        with torch.device("meta"):
            network = DiffSpeaker(spec)
    except (KeyError, IndexError, TypeError, ValueError, RuntimeError, ArithmeticError) as error:
        raise CheckpointError(
            f"The model's description cannot be built ({type(error).__name__}: {str(error)[:100]})."
        ) from error
    return {key: tensor.shape for key, tensor in network.state_dict().items()}


def prepared_shapes(spec: ModelSpec) -> dict[str, torch.Size]:
    """Return the keys and shapes of what a file may carry to save computing it."""
    return {key: torch.Size((spec.latent, spec.latent)) for key in PREPARED}
