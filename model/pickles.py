"""Read other people's pickles without running anything in them.

A pickle is a program. Two readers that let none of it happen: `read_tensors` for PyTorch and
Lightning checkpoints (PyTorch's own restricted loader, with an inert stand-in for every class the
file names) and `read_arrays` for the data sets' `.pkl` files (numpy arrays and plain Python only).
"""

import io
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .errors import CheckpointError

# What a training program's checkpoint has reason to name; the classes are never imported. Anything
# else in a file is either damage or an attack, and is refused by its name.
KNOWN_PACKAGES = (
    "alm", "argparse", "collections", "functools", "lightning", "lightning_fabric",
    "lightning_utilities", "numpy", "omegaconf", "pathlib", "pytorch_lightning", "torch",
    "torchmetrics", "transformers", "typing",
)  # fmt: skip
KNOWN_BUILTINS = ("bool", "bytearray", "complex", "dict", "float", "frozenset", "int", "list",
                  "object", "set", "slice", "str", "tuple")  # fmt: skip


class Inert:
    """Stand in for a foreign class: takes whatever it is given and does nothing with it."""

    def __new__(cls, *_: Any, **__: Any) -> "Inert":
        """Ignore the arguments."""
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        """Ignore the arguments."""

    def __setstate__(self, state: Any) -> None:
        """Drop the state."""


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the `state_dict` of a PyTorch or Lightning checkpoint, on the CPU.

    Raises `CheckpointError` when the file is missing, truncated, refers to code that no DiffSpeaker
    checkpoint has reason to name, or holds no tensors.
    """
    if not path.is_file():
        raise CheckpointError(f"There is no checkpoint {path}.", "Choose another one.")
    try:
        named = torch.serialization.get_unsafe_globals_in_checkpoint(str(path))
        refuse_unknown(named, path)
        stand_ins: list[Any] = [(_stand_in(name), name) for name in named]
        with torch.serialization.safe_globals(stand_ins), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old storage classes; nothing the user can act on
            content = torch.load(str(path), map_location="cpu", weights_only=True, mmap=True)
    except CheckpointError:
        raise
    except Exception as error:  # a damaged file can fail anywhere inside the reader
        raise CheckpointError(
            f"{path.name} is not a whole PyTorch checkpoint.",
            "Download it again; it must be the authors' .ckpt file.",
        ) from error
    tensors = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(tensors, dict) or not tensors:
        raise CheckpointError(f"{path.name} holds no weights (no state_dict).")
    foreign = [str(key) for key, value in tensors.items() if not isinstance(value, Tensor)]
    if foreign:
        raise CheckpointError(f"{path.name} holds entries that are no tensors: {foreign[:8]}.")
    return {str(key): value for key, value in tensors.items()}


def refuse_unknown(named: list[str], path: Path) -> None:
    """Raise `CheckpointError` naming the first thing that a checkpoint has no reason to name."""
    for name in named:
        package, _, rest = name.partition(".")
        known = rest in KNOWN_BUILTINS if package == "builtins" else package in KNOWN_PACKAGES
        if not known:
            raise CheckpointError(
                f"{path.name} refers to {name}, which no DiffSpeaker checkpoint needs; nothing "
                "in it was run.",
                "Do not trust this file.",
            )


def _stand_in(name: str) -> Any:
    """Return something harmless to put where a file names a class or function."""
    if name in {"collections.defaultdict", "builtins.dict"}:
        return _empty_dict
    return type(name.rpartition(".")[2], (Inert,), {})


def _empty_dict(*_: Any) -> dict[Any, Any]:
    return {}


# numpy's own two functions that put an array and a number together.
_BUILDERS: dict[str, Any] = {
    "_reconstruct": np.zeros(0).__reduce__()[0],
    "scalar": np.float64(0).__reduce__()[0],
}


class _ArrayUnpickler(pickle.Unpickler):
    """Rebuild numpy arrays; everything else that the pickle names becomes an inert object."""

    def find_class(self, module: str, name: str) -> Any:
        """Return the few functions that make up an array, else an inert stand-in."""
        if name in {"_reconstruct", "scalar"} and module.endswith("core.multiarray"):
            return _BUILDERS[name]
        if (module, name) in {("numpy", "ndarray"), ("numpy", "dtype")}:
            return getattr(np, name)
        if (module, name) == ("_codecs", "encode"):
            return _latin_bytes
        return type(name, (_Sparse if module.startswith("scipy.sparse") else Inert,), {})


class _Sparse(Inert):
    """A scipy sparse matrix that nobody here needs."""


def _latin_bytes(text: str, *_: Any) -> bytes:
    return text.encode("latin-1")


def read_arrays(path: Path) -> Any:
    """Return the content of a `.pkl` of arrays (written by Python 2 or 3): dicts, lists, arrays.

    Raises `CheckpointError` when the file is missing or damaged.
    """
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numpy's notes on arrays from Python 2
            return _ArrayUnpickler(io.BufferedReader(file), encoding="latin1").load()
    except FileNotFoundError as error:
        raise CheckpointError(f"There is no file {path}.", "Choose another one.") from error
    except Exception as error:  # a damaged file can fail anywhere inside the reader
        raise CheckpointError(f"{path.name} is not a readable .pkl of arrays.") from error
