# SPDX-License-Identifier: GPL-3.0-or-later
"""Read model files with numpy alone: `.safetensors` is a JSON header and then plain numbers."""

from __future__ import annotations

import json
import os
import struct
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import CheckpointError
from .spec import ModelSpec

Array = NDArray[np.float32]

TEMPLATE = "motion.template"  # the neutral face, when a file carries one
LONGEST_HEADER = 10_000_000  # bytes; a model of a thousand tensors has a hundredth of that
_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4"}


def read_spec(path: str | Path) -> ModelSpec:
    """Read only the description of a model file; cheap, no tensor is touched.

    Raises `CheckpointError`.
    """
    path = Path(path)
    metadata = _header(path)[0].get("__metadata__", {})
    if not isinstance(metadata, dict) or not isinstance(metadata.get("spec"), str):
        raise CheckpointError(
            f"{path.name} holds tensors but no model description.",
            "Only models saved or converted by this program can be used.",
        )
    return ModelSpec.from_json(metadata["spec"])


def read_tensors(path: str | Path) -> dict[str, Array]:
    """Return every tensor of a model file as float32, by name.

    Nothing in the file is run. Raises `CheckpointError` when it is damaged or holds a number that
    is none.
    """
    path = Path(path)
    header, start = _header(path)
    try:
        content = np.memmap(path, np.uint8, "r")[start:]
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path.name} cannot be read: {error}.") from error
    tensors, total = {}, 0
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        tensors[name] = _tensor(path.name, name, entry, content)
        total += tensors[name].size
        if total > len(content):  # tensors never share bytes: a small file could fill the memory
            raise CheckpointError(f"{path.name} is damaged: its tensors lie over each other.")
    broken = [name for name, array in tensors.items() if not np.isfinite(array).all()]
    if broken:
        names = ", ".join(broken)
        raise CheckpointError(f"{path.name} holds weights that are not numbers: {names}.")
    return tensors


def _tensor(file: str, name: str, entry: Any, content: NDArray[np.uint8]) -> Array:
    try:
        kind, shape = _TYPES[entry["dtype"]], tuple(int(size) for size in entry["shape"])
        if len(shape) > 8 or min(shape, default=0) < 0:
            raise ValueError("its shape makes no sense")
        first, last = (int(offset) for offset in entry["data_offsets"])
        fits = 0 <= first <= last <= len(content)
        if not fits or last - first != prod(shape) * np.dtype(kind).itemsize:
            raise ValueError("its place is not in the file")
        flat = content[first:last].view(kind)
        if entry["dtype"] == "BF16":  # the upper half of a float32
            flat = (flat.astype(np.uint32) << 16).view(np.float32)
        return np.array(flat, np.float32).reshape(shape)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise CheckpointError(f"{file} is damaged at {name[:80]} ({error}).") from error


def _header(path: Path) -> tuple[dict[str, Any], int]:
    """Return the header of a file and where its numbers start. Raises `CheckpointError`."""
    if not os.path.isfile(path):  # noqa: PTH113 - False for a name too long, too
        raise CheckpointError(f"There is no model file {path}.", "Choose another one.")
    try:
        with path.open("rb") as file:
            size = struct.unpack("<Q", file.read(8))[0]
            if size > LONGEST_HEADER:
                raise ValueError("no header")
            header = json.loads(file.read(size).decode("utf-8"))
        if not isinstance(header, dict):
            raise ValueError("no header")
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name[:2] != "__"]
        if 8 + size + max(ends, default=0) > path.stat().st_size:
            raise ValueError("cut short")
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError,
            struct.error, RecursionError) as error:  # fmt: skip
        hint = ""
        if path.suffix in {".ckpt", ".pt", ".pth"}:
            hint = "Import it first: python build.py model convert FILE.ckpt OUT.safetensors"
        raise CheckpointError(
            f"{path.name} is not a complete .safetensors model file.", hint
        ) from error
    return header, 8 + size
