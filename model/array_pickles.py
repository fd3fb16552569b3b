"""Read the pickled dictionaries of arrays that published data sets ship, and nothing else.

A pickle can run any code; this reader knows six constructors of numpy arrays and refuses the rest.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import IO, Any

import numpy as np

from .errors import DataError


class ArraysOnly(pickle.Unpickler):
    """Unpickle dictionaries of numpy arrays and nothing else: no code of the file runs."""

    ALLOWED = frozenset(
        (module, name)
        for core in ("numpy.core", "numpy._core")
        for module, name in (
            (f"{core}.multiarray", "_reconstruct"),
            (f"{core}.multiarray", "scalar"),
            (f"{core}.numeric", "_frombuffer"),
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
            ("_codecs", "encode"),
        )
    )

    def find_class(self, module: str, name: str) -> Any:
        """Return one of the few allowed constructors."""
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        home = "numpy._core" if hasattr(np, "_core") else "numpy.core"
        module = module.replace("numpy._core", "numpy.core").replace("numpy.core", home)
        return super().find_class(module, name)


def read_pickle(path: Path) -> dict[str, Any]:
    """Return a pickled dictionary of arrays (also one written by Python 2)."""
    try:
        with path.open("rb") as file:
            return dict(load_arrays(file))
    except FileNotFoundError:
        raise DataError(f"{path} is missing.") from None
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{path.name} is no dictionary of arrays: {error}.") from error


def load_arrays(file: IO[bytes]) -> Any:
    """Unpickle with Python 2's text read as latin-1."""
    return ArraysOnly(file, encoding="latin1").load()
