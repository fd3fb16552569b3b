# SPDX-License-Identifier: GPL-3.0-or-later
"""Save and restore everything a run needs to go on as if it had never stopped.

`state.safetensors` holds the trained weights, their average (EMA), AdamW's moments and, as JSON in
its metadata, the place in the run. Randomness needs no saving: it follows from the place
(`batches.py`). A new state replaces the old one in one rename; the one before is kept as
`state.previous.safetensors`. No file of ours is ever unpickled.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ..errors import CheckpointError, OutputError

STATE = "state.safetensors"
PREVIOUS = "state.previous.safetensors"


@dataclass
class Place:
    """Where a run stands."""

    step: int = 0  # optimiser steps taken
    epoch: int = 0  # epoch in progress, from 0
    batch: int = 0  # next batch of that epoch
    loss_sum: float = 0.0  # of this epoch's batches so far
    best: float = float("inf")  # lowest validation loss
    seconds: float = 0.0  # of training so far
    settings: dict[str, Any] = field(default_factory=dict)
    scaler: dict[str, Any] = field(default_factory=dict)  # of half-precision gradients


def save_state(
    folder: Path,
    place: Place,
    trained: dict[str, nn.Parameter],
    average: dict[str, Tensor],
    optimiser: torch.optim.Optimizer,
) -> None:
    """Write the state; the last one becomes the previous one.

    Raises:
        OutputError: it cannot be written (the old state stays).
    """
    tensors = {f"weight.{name}": value.detach() for name, value in trained.items()}
    tensors |= {f"average.{name}": value for name, value in average.items()}
    for name, parameter in trained.items():
        for key, value in optimiser.state.get(parameter, {}).items():
            tensors[f"{key}.{name}"] = value
    tensors = {name: value.cpu().contiguous().clone() for name, value in tensors.items()}
    write(folder, tensors, json.dumps(asdict(place)))


def write(folder: Path, tensors: dict[str, Tensor], place: str) -> None:
    """Write a state file beside the old one, then let it take its place."""
    partial, state = folder / "state.partial", folder / STATE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_file(tensors, str(partial), metadata={"place": place})
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        if state.exists():
            state.replace(folder / PREVIOUS)
        partial.replace(state)
    except (OSError, SafetensorError) as error:
        partial.unlink(missing_ok=True)
        raise OutputError(
            f"The training state cannot be written to {folder}: {error}.",
            hint="Free some space, then go on with --resume; the last saved state is whole.",
        ) from error


def load_state(
    folder: Path,
    trained: dict[str, nn.Parameter],
    average: dict[str, Tensor],
    optimiser: torch.optim.Optimizer,
) -> Place:
    """Fill weights, average and optimiser from the newest state and return the place.

    Where a crash fell between two renames the previous state is taken.

    Raises:
        CheckpointError: the state is missing, damaged or of another network.
    """
    path = folder / STATE
    if not path.exists() and (folder / PREVIOUS).exists():
        path = folder / PREVIOUS
    tensors, place = read(path)
    for name, parameter in trained.items():
        with torch.no_grad():
            parameter.copy_(taken(tensors, f"weight.{name}", parameter, path))
        if f"average.{name}" in tensors:
            average[name] = taken(tensors, f"average.{name}", parameter, path)
            average[name] = average[name].to(parameter.device)
        state = optimiser.state[parameter]
        for key in ("step", "exp_avg", "exp_avg_sq"):
            if f"{key}.{name}" in tensors:
                value = tensors[f"{key}.{name}"]
                state[key] = value if key == "step" else value.to(parameter.device)
    return place


def read(path: Path) -> tuple[dict[str, Tensor], Place]:
    """Return a state file's tensors and place."""
    try:
        with safe_open(str(path), "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            place = Place(**json.loads((file.metadata() or {})["place"]))
    except FileNotFoundError:
        raise CheckpointError(f"There is no training state in {path.parent}.") from None
    except (SafetensorError, OSError, RuntimeError, LookupError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"The training state {path.name} is damaged ({error}).",
            hint=f"Delete it and go on from {PREVIOUS} with --resume, or use --restart.",
        ) from error
    return tensors, place


def taken(tensors: dict[str, Tensor], name: str, like: Tensor, path: Path) -> Tensor:
    """Return one tensor of a state after checking that it fits the network."""
    value = tensors.get(name)
    if value is None or value.shape != like.shape:
        found = "is missing" if value is None else f"is {tuple(value.shape)}"
        raise CheckpointError(
            f"{path.name} is of another network: {name} {found}, expected {tuple(like.shape)}.",
            hint="Use the settings this run was started with, or --restart.",
        )
    return value
