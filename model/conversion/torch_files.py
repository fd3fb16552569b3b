# SPDX-License-Identifier: GPL-3.0-or-later
"""Read the tensors of a PyTorch or Lightning checkpoint without running anything in it.

Such a file is a zip of one pickle and, beside it, the tensors' bytes. The pickle is read by
`files.pickles`, so nothing is imported or called; a tensor is noted as storage, offset, size and
strides, and is made only when the storage holds what they ask for.
"""

from __future__ import annotations

import math
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import CheckpointError
from ..files import pickles

# What a training program's checkpoint has reason to name; the classes are never imported. Anything
# else in a file is either damage or an attack, and is refused by its name.
KNOWN_PACKAGES = (
    "alm", "argparse", "collections", "functools", "lightning", "lightning_fabric",
    "lightning_utilities", "numpy", "omegaconf", "pathlib", "pytorch_lightning", "torch",
    "torchmetrics", "transformers", "typing",
)  # fmt: skip
KNOWN_BUILTINS = ("bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "int",
                  "list", "long", "object", "set", "slice", "str", "tuple", "unicode")  # fmt: skip
KNOWN_OTHERS = ("_codecs.encode", "copyreg._reconstructor")
LARGEST = 8 * 2**30  # bytes of all tensors; the authors' files have 0.5
_KINDS = {
    "Double": torch.float64, "Float": torch.float32, "Half": torch.float16,
    "BFloat16": torch.bfloat16, "Long": torch.int64, "Int": torch.int32, "Short": torch.int16,
    "Char": torch.int8, "Byte": torch.uint8, "Bool": torch.bool,
}  # fmt: skip


@dataclass(frozen=True)
class _Storage:
    """A stretch of numbers in the zip."""

    key: str
    kind: torch.dtype


@dataclass(frozen=True)
class _Noted:
    """A tensor as the pickle describes it: a view into a storage."""

    storage: _Storage
    offset: int
    size: tuple[int, ...]
    strides: tuple[int, ...]


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the `state_dict` of a PyTorch or Lightning checkpoint, on the CPU.

    Raises `CheckpointError` when the file is missing, truncated, refers to code that no DiffSpeaker
    checkpoint has reason to name, or holds no tensors.
    """
    if not path.is_file():
        raise CheckpointError(f"There is no checkpoint {path}.", "Choose another one.")
    try:
        with zipfile.ZipFile(path) as archive:
            return _tensors(archive, path)
    except (zipfile.BadZipFile, pickles.UnpicklingError, KeyError, ValueError, TypeError,
            AttributeError, IndexError, OverflowError, NotImplementedError, RuntimeError,
            EOFError) as error:  # fmt: skip
        raise CheckpointError(
            f"{path.name} is not a whole PyTorch checkpoint.",
            "Download it again; it must be the authors' .ckpt file.",
        ) from error
    except OSError as error:
        raise CheckpointError(f"{path.name} cannot be read: {error}.") from error


def _tensors(archive: zipfile.ZipFile, path: Path) -> dict[str, Tensor]:
    entries = {entry.filename: entry for entry in archive.infolist()}
    folder = next((name for name in entries if name.endswith("/data.pkl")), "")
    prefix = folder.removesuffix("data.pkl")
    if entries.get(f"{prefix}byteorder") and archive.read(f"{prefix}byteorder") != b"little":
        raise CheckpointError(f"{path.name} was saved on a big-endian machine.")
    named: list[str] = []
    content = pickles.load(
        _stored(archive, entries[folder], pickles.LARGEST), _BUILDERS, _note_storage, named
    )
    refuse_unknown(named, path)
    found = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(found, dict) or not found:
        raise CheckpointError(f"{path.name} holds no weights (no state_dict).")
    foreign = [str(key) for key, value in found.items() if not isinstance(value, _Noted)]
    if foreign:
        raise CheckpointError(f"{path.name} holds entries that are no tensors: {foreign[:8]}.")
    _refuse_inflated(found, entries, prefix)
    storages: dict[str, Tensor] = {}
    return {
        str(key): _tensor(noted, archive, entries, prefix, storages) for key, noted in found.items()
    }


def _stored(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, most: int) -> bytes:
    """Return an entry's bytes, which PyTorch never compresses: no file grows while it is read."""
    if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > most:
        raise ValueError("an entry is compressed or too large")
    return archive.read(entry)


def _refuse_inflated(
    found: dict[Any, _Noted], entries: dict[str, zipfile.ZipInfo], prefix: str
) -> None:
    """Raise ValueError when the tensors claim more than their storages hold."""
    total = 0
    for noted in found.values():
        wanted = math.prod(noted.size) * noted.storage.kind.itemsize
        total += wanted
        if wanted > entries[f"{prefix}data/{noted.storage.key}"].file_size or total > LARGEST:
            raise ValueError("a tensor is larger than its storage")


def _tensor(
    noted: _Noted,
    archive: zipfile.ZipFile,
    entries: dict[str, zipfile.ZipInfo],
    prefix: str,
    storages: dict[str, Tensor],
) -> Tensor:
    """Return one tensor; raise ValueError when its view reaches outside of its storage."""
    key, kind = noted.storage.key, noted.storage.kind
    if key not in storages:
        raw = _stored(archive, entries[f"{prefix}data/{key}"], LARGEST)
        storages[key] = torch.frombuffer(bytearray(raw), dtype=torch.uint8) if raw else torch.empty(
            0, dtype=torch.uint8
        )  # fmt: skip
    values = storages[key]
    values = values[: len(values) // kind.itemsize * kind.itemsize].view(kind)
    if 0 in noted.size:
        return torch.empty(noted.size, dtype=kind)
    reach = sum((n - 1) * step for n, step in zip(noted.size, noted.strides, strict=True))
    if noted.offset + reach >= len(values):
        raise ValueError("a tensor reaches outside of its storage")
    return torch.as_strided(values, noted.size, noted.strides, noted.offset)


# -- what the pickle's words are noted as ------------------------------------------------------


def _note_storage(told: Any) -> _Storage:
    what, kind, key, *_ = told
    name = kind.name.rpartition(".")[2].removesuffix("Storage")
    if what != "storage" or not isinstance(key, str) or name not in _KINDS:
        raise pickles.UnpicklingError("it keeps something unknown beside the pickle")
    return _Storage(key, _KINDS[name])


def _note_tensor(storage: Any, offset: Any, size: Any, strides: Any, *_: Any) -> _Noted:
    numbers = (offset, *size, *strides)
    if not isinstance(storage, _Storage) or len(size) != len(strides) or len(size) > 16:
        raise pickles.UnpicklingError("a tensor has no storage")
    if not all(type(number) is int and 0 <= number < 2**48 for number in numbers):
        raise pickles.UnpicklingError("a tensor has an impossible size")
    return _Noted(storage, offset, tuple(size), tuple(strides))


_BUILDERS = {
    "torch._utils._rebuild_tensor_v2": _note_tensor,
    "torch._utils._rebuild_tensor": _note_tensor,
    "torch._utils._rebuild_parameter": lambda tensor, *_: tensor,
    "torch._tensor._rebuild_from_type_v2": lambda _make, _kind, arguments, *_: _note_tensor(
        *arguments
    ),
}


def refuse_unknown(named: list[str], path: Path) -> None:
    """Raise `CheckpointError` naming the first thing that a checkpoint has no reason to name."""
    for name in named:
        package, _, rest = name.partition(".")
        known = rest in KNOWN_BUILTINS if package == "builtins" else package in KNOWN_PACKAGES
        if not known and name not in KNOWN_OTHERS:
            raise CheckpointError(
                f"{path.name} refers to {name[:100]}, which no DiffSpeaker checkpoint needs; "
                "nothing in it was run.",
                "Do not trust this file.",
            )
