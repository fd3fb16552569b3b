# SPDX-License-Identifier: GPL-3.0-or-later
"""Read `.npz` and `.npy` files of plain arrays; what they declare is checked before it is believed.

numpy's own reader allocates what a header claims and inflates what a zip holds. Here an array's
header must agree with the entry's size, the sizes together stay under a limit, and only numbers,
flags and text are read: no objects, no records.
"""

from __future__ import annotations

import io
import math
import re
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

LARGEST = 2**30  # bytes of all arrays of a file
_MOST_ENTRIES = 20_000
_LONGEST_HEADER = 4096
# numpy's header is a Python literal; of all that one may say, this is what arrays need.
_HEADER = re.compile(
    rb"\{\s*'descr':\s*'([<>|=](?:[fiub][1248]|U\d{1,6}))',\s*'fortran_order':\s*(True|False),"
    rb"\s*'shape':\s*\(((?:\d{1,15}L?(?:,\s*\d{1,15}L?){0,31},?\s*)?)\),?\s*\}\s*"
)
_DAMAGE = (zipfile.BadZipFile, zlib.error, KeyError, TypeError, IndexError, OverflowError, EOFError,
           NotImplementedError, RuntimeError, AttributeError, MemoryError, ValueError)  # fmt: skip


def read_npz(
    source: Path | bytes, names: Collection[str] | None = None, largest: int = LARGEST
) -> dict[str, NDArray[Any]]:
    """Return the plain arrays of an `.npz` by name: all, or those in `names` that are there.

    Entries of other kinds (objects, records) are left out. Raises `ValueError` with a reason when
    the file is damaged or declares more than `largest` bytes, OSError when it cannot be read.
    """
    opened: Path | io.BytesIO = io.BytesIO(source) if isinstance(source, bytes) else source
    try:
        with zipfile.ZipFile(opened) as archive:
            return _entries(archive, names, largest)
    except _DAMAGE as error:
        raise ValueError(_reason(error)) from error


def _reason(error: BaseException) -> str:
    known = str(error) if type(error) is ValueError else ""
    return known if known.startswith("it ") else "it is no whole file of arrays"


def _entries(
    archive: zipfile.ZipFile, names: Collection[str] | None, largest: int
) -> dict[str, NDArray[Any]]:
    chosen = []
    for entry in archive.infolist():
        name = entry.filename.removesuffix(".npy")
        if names is None or name in names:
            chosen.append((name, entry))
    if len(chosen) > _MOST_ENTRIES or sum(entry.file_size for _, entry in chosen) > largest:
        raise ValueError(f"it declares more than {largest / 1e6:,.0f} MB")
    found = {}
    for name, entry in chosen:
        with archive.open(entry) as stream:
            array = _array(stream, entry.file_size)
        if array is not None:
            found[name] = array
    return found


def _array(stream: IO[bytes], size: int) -> NDArray[Any] | None:
    """Return one array of `size` bytes, header and all; None when it is of a kind left out."""
    start = stream.read(8)
    if start[:6] != b"\x93NUMPY" or start[6:7] not in (b"\x01", b"\x02"):
        return None
    length = int.from_bytes(stream.read(2 if start[6] == 1 else 4), "little")
    found = _HEADER.fullmatch(stream.read(length)) if length <= _LONGEST_HEADER else None
    if found is None:
        return None
    dtype, fortran = np.dtype(found[1].decode()), found[2] == b"True"
    shape = tuple(int(word) for word in found[3].replace(b"L", b"").split(b",") if word.strip())
    bytes_needed = math.prod(shape) * dtype.itemsize
    if bytes_needed > size or (not bytes_needed and max(shape, default=0) > 2**20):
        raise ValueError("it declares larger arrays than it holds")
    raw = bytearray(bytes_needed)
    view, filled = memoryview(raw), 0
    while filled < bytes_needed:
        piece = stream.read(min(2**24, bytes_needed - filled))
        if not piece:
            raise ValueError("it ends too early")
        view[filled : filled + len(piece)] = piece
        filled += len(piece)
    if stream.read(1):  # also makes zipfile compare the checksum
        raise ValueError("it holds more than it declares")
    if not dtype.itemsize:
        return np.zeros(shape, dtype)
    return np.frombuffer(raw, dtype).reshape(shape, order="F" if fortran else "C")
