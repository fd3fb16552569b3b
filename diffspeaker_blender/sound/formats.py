# SPDX-License-Identifier: GPL-3.0-or-later
"""Which sound files the worker's decoder surely reads, told by container and codec; pure.

What is in doubt (a codec inside a container, sizes that a killed recorder left at zero) is decoded
by Blender, which plays it: a container's first bytes promise nothing. Lengths are counted from the
samples that are there, never from what a header claims of time or bytes a second.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_UNKNOWN = (0, 0xFFFF_FFFF)  # sizes that a recorder writes before it knows better
_AIFC = (b"NONE", b"sowt", b"twos", b"fl32", b"FL32", b"fl64", b"FL64", b"in24", b"in32")
_CHUNKS = 4096  # more before the sound is no sound file


def surely_read(path: Path) -> bool:
    """Return whether the worker reads a file for certain. Raises OSError."""
    try:
        with path.open("rb") as file:
            head = file.read(12)
            for magic, look in _LOOKS.items():
                if head.startswith(magic):
                    return look(file, path.stat().st_size) is not None
    except (struct.error, ValueError, ZeroDivisionError):  # cut in the middle of a header
        pass
    return False


def seconds(path: Path) -> float | None:
    """Return the exact length of a file that is surely read, None where it cannot be told.

    Raises OSError.
    """
    if not surely_read(path):
        return None
    with path.open("rb") as file:
        head = file.read(12)
        look = next(look for magic, look in _LOOKS.items() if head.startswith(magic))
        return look(file, path.stat().st_size) or None


# Each of these returns the length in seconds, 0 when only decoding can tell, and None when the
# worker's decoder may refuse the file.


def _wave(file: BinaryIO, size: int) -> float | None:
    """Look into RIFF and RF64: plain samples of a whole number of bytes, and a size."""
    file.seek(0)
    head = file.read(12)
    if head[8:12] != b"WAVE" or head[:4] == b"RIFX":
        return None
    frame = rate = long_size = 0
    for name, length in _chunks(file, "<"):
        if name == b"ds64":
            long_size = struct.unpack("<QQ", file.read(16))[1]
            file.seek(-16, 1)
        elif name == b"fmt ":
            frame, rate = _wave_format(file.read(length))
            file.seek(-length, 1)
            if not frame:
                return None
        elif name == b"data":
            told = long_size if length == 0xFFFF_FFFF and long_size else length
            if told in _UNKNOWN or not rate:
                return None
            return min(told, size - file.tell()) // frame / rate
    return None


def _wave_format(form: bytes) -> tuple[int, int]:
    """Return bytes of a frame and Hz; zeros for a codec."""
    kind, channels, rate, _average, frame, bits = struct.unpack_from("<HHIIHH", form)
    if kind == _EXTENSIBLE and len(form) >= 26:
        kind = struct.unpack_from("<H", form, 24)[0]
    plain = kind in (_PCM, _FLOAT) and bits in (8, 16, 24, 32, 64)
    if not plain or frame != channels * bits // 8 or not frame or not 1000 <= rate <= 1_000_000:
        return 0, 0
    return frame, rate


def _aiff(file: BinaryIO, size: int) -> float | None:
    """Look into AIFF, and AIFF-C with plain samples."""
    file.seek(8)
    kind = file.read(4)
    if kind not in (b"AIFF", b"AIFC"):
        return None
    for name, length in _chunks(file, ">"):
        if name != b"COMM":
            continue
        form = file.read(length)
        channels, frames, bits = struct.unpack_from(">hIh", form)
        exponent, mantissa = struct.unpack_from(">HQ", form, 8)  # an 80-bit float
        rate = mantissa * 2.0 ** ((exponent & 0x7FFF) - 16383 - 63)
        if kind == b"AIFC" and form[18:22] not in _AIFC:
            return None
        width = channels * ((bits + 7) // 8)
        if not frames or width <= 0 or not 1000 <= rate <= 1_000_000:
            return None
        return float(min(frames, size // width) / rate)
    return None


def _caf(file: BinaryIO, size: int) -> float | None:
    """Look into a Core Audio file: plain samples alone."""
    file.seek(8)
    rate = frame = 0.0
    for _chunk in range(_CHUNKS):
        head = file.read(12)
        if len(head) < 12:
            return None
        name, length = struct.unpack(">4sq", head)
        begin = file.tell()
        if name == b"desc":
            rate, kind, _flags, frame = struct.unpack(">d4sII", file.read(20))
            if kind != b"lpcm" or not frame or not 1000 <= rate <= 1_000_000:
                return None
        elif name == b"data":
            left = size - begin - 4  # a count of edits comes first
            held = left if length == -1 else min(length - 4, left)
            return max(0.0, held // frame / rate) if frame else None
        if length < 0:
            return None
        file.seek(begin + length)
    return None


def _au(file: BinaryIO, size: int) -> float | None:
    """Look into a Sun or NeXT file: plain samples and µ-law."""
    file.seek(0)
    _magic, begin, length, encoding, rate, channels = struct.unpack(">4sIIIII", file.read(24))
    width = channels * {1: 1, 2: 1, 3: 2, 4: 3, 5: 4, 6: 4, 7: 8}.get(encoding, 0)
    if not width or not 1000 <= rate <= 1_000_000 or size <= begin:
        return None
    held = size - begin if length == 0xFFFF_FFFF else min(length, size - begin)
    return float(held // width / rate)


def _ogg(file: BinaryIO, size: int) -> float | None:
    """Look into an Ogg stream: Vorbis or Opus, and nothing beside it (a film, FLAC, Speex)."""
    file.seek(0)
    packets = []
    for _page in range(2):
        head = file.read(27)
        if len(head) < 27 or head[:4] != b"OggS":
            return None
        lengths = file.read(head[26])
        packets.append((head[5], file.read(sum(lengths))))
    (_flags, first), (begins, second) = packets
    if begins & 2 or not second:  # the second page begins a second stream
        return None
    file.seek(max(0, size - 70_000))
    tail = file.read()
    place = tail.rfind(b"OggS")
    end = struct.unpack_from("<q", tail, place + 6)[0]  # samples up to the last page's end
    if first.startswith(b"\x01vorbis"):
        return float(max(0, end) / struct.unpack_from("<I", first, 12)[0])
    if first.startswith(b"OpusHead"):
        return float(max(0, end - struct.unpack_from("<H", first, 10)[0]) / 48_000)
    return None


def _flac(file: BinaryIO, _size: int) -> float | None:
    """Look into a FLAC file's first block: rate and number of samples, which may be unknown."""
    file.seek(8)
    block = file.read(34)
    if len(block) < 34:
        return None
    packed = int.from_bytes(block[10:18], "big")
    rate, samples = packed >> 44, packed & (1 << 36) - 1
    return samples / rate if rate else None


def _chunks(file: BinaryIO, order: str) -> Iterator[tuple[bytes, int]]:
    """Yield the chunks after a container's 12 bytes; `file` stands at each one's content."""
    file.seek(12)
    for _chunk in range(_CHUNKS):
        head = file.read(8)
        if len(head) < 8:
            return
        name, length = struct.unpack(f"{order}4sI", head)
        begin = file.tell()
        yield name, length
        file.seek(begin + length + (length & 1))


_LOOKS = {
    b"RIFF": _wave,
    b"RF64": _wave,
    b"FORM": _aiff,
    b"caff": _caf,
    b".snd": _au,
    b"OggS": _ogg,
    b"fLaC": _flac,
}
