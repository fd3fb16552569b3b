# SPDX-License-Identifier: GPL-3.0-or-later
"""Read sound files with libsndfile, through its C interface: WAV, FLAC, OGG, MP3, AIFF and more.

c channels   n samples
"""

from __future__ import annotations

import ctypes
import os
from functools import cache
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from . import native
from .errors import EngineError

_READ = 0x10
_RAW_PCM_16 = 0x040000 | 0x0002
_WINDOWS = os.name == "nt"


class DecodeError(Exception):
    """libsndfile cannot read a file, or stumbled in the middle of it."""


class _Info(ctypes.Structure):
    """SF_INFO of sndfile.h."""

    _fields_ = (
        ("frames", ctypes.c_int64),
        ("samplerate", ctypes.c_int),
        ("channels", ctypes.c_int),
        ("format", ctypes.c_int),
        ("sections", ctypes.c_int),
        ("seekable", ctypes.c_int),
    )


@cache
def _library() -> ctypes.CDLL:
    """Return libsndfile with its functions declared. Raises `EngineError` where there is none."""
    path = native.library("sndfile")
    if path is None:
        raise EngineError("The sound decoder is missing here.", "Install the extension again.")
    try:
        found = ctypes.CDLL(str(path))
    except OSError as error:
        raise EngineError(
            f"The sound decoder cannot be loaded here ({error}).",
            "Install the extension's zip for this system.",
        ) from error
    handle, count = ctypes.c_void_p, ctypes.c_int64
    name = ctypes.c_wchar_p if _WINDOWS else ctypes.c_char_p
    opening = found.sf_wchar_open if _WINDOWS else found.sf_open
    opening.argtypes, opening.restype = [name, ctypes.c_int, ctypes.POINTER(_Info)], handle
    found.sf_close.argtypes = [handle]
    found.sf_seek.argtypes, found.sf_seek.restype = [handle, count, ctypes.c_int], count
    found.sf_readf_float.argtypes = [handle, ctypes.c_void_p, count]
    found.sf_readf_float.restype = count
    found.sf_error.argtypes = [handle]
    return found


class SoundFile:
    """An open sound file; use it in a `with` statement."""

    def __init__(self, path: Path, raw_rate: int = 0) -> None:
        """Open a file; with `raw_rate`, one of bare mono 16-bit samples.

        Raises `DecodeError` or `EngineError`.
        """
        self.name = path.name
        about = _Info()
        if raw_rate:
            about.samplerate, about.channels, about.format = raw_rate, 1, _RAW_PCM_16
        opening = _library().sf_wchar_open if _WINDOWS else _library().sf_open
        name = str(path) if _WINDOWS else os.fsencode(path)
        self._handle = opening(name, _READ, ctypes.byref(about))
        if not self._handle:
            raise DecodeError(f"{path.name} is of no known kind")
        self.samplerate, self.channels = int(about.samplerate), int(about.channels)
        self._frames = int(about.frames)

    def __len__(self) -> int:
        """Return how many samples a channel has, as the file says."""
        return max(0, self._frames)

    def seek(self, sample: int) -> None:
        """Go on reading at a sample. Raises `DecodeError`."""
        if _library().sf_seek(self._handle, sample, os.SEEK_SET) < 0:
            raise DecodeError(f"{self.name} cannot be read from sample {sample}")

    def read(self, count: int) -> NDArray[np.float32]:
        """Return the next samples (n, c), at most `count`, fewer at the end.

        Raises `DecodeError` when the file is damaged here.
        """
        block = np.zeros((count, self.channels), np.float32)
        got = int(_library().sf_readf_float(self._handle, block.ctypes.data, count))
        if got < count and _library().sf_error(self._handle):
            raise DecodeError(f"{self.name} is damaged")
        return block[:got]

    def close(self) -> None:
        """Close the file; more than once is fine."""
        handle, self._handle = self._handle, None
        if handle:
            _library().sf_close(handle)

    def __enter__(self) -> SoundFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
