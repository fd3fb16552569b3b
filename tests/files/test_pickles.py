# SPDX-License-Identifier: GPL-3.0-or-later
"""A pickle is read, never run: arrays come out, everything else is a note, bombs do not go off."""

from __future__ import annotations

import os
import pickle
import random
import struct
import time
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from diffspeaker_blender.files import pickles

CONTENT = {
    "floats": np.arange(12.0).reshape(4, 3),
    "columns first": np.asfortranarray(np.arange(12, dtype=">i4").reshape(3, 4)),
    "flags": np.array([True, False]),
    "half": np.array([1, 2.5], np.float16),
    "nothing": np.zeros((0, 3)),
}


def short(text: str) -> bytes:
    return b"X" + struct.pack("<I", len(text)) + text.encode()


def whole(number: int) -> bytes:
    return b"J" + struct.pack("<i", number)


def group(*parts: bytes) -> bytes:
    return b"(" + b"".join(parts) + b"t"


def name(module: str, what: str) -> bytes:
    return b"c" + module.encode() + b"\n" + what.encode() + b"\n"


def array(shape: bytes, kind: str, flags: int, body: bytes) -> bytes:
    """Return the opcodes of an array, with a state of the writer's choice."""
    dtype = name("numpy", "dtype") + group(short(kind), b"\x89", b"\x88") + b"R"
    dtype += group(whole(3), short("|"), b"NNN", whole(-1), whole(-1), whole(flags)) + b"b"
    made = name("numpy.core.multiarray", "_reconstruct")
    made += group(name("numpy", "ndarray"), group(whole(0)), short("b")) + b"R"
    raw = b"B" + struct.pack("<I", len(body)) + body
    return made + group(whole(1), shape, dtype, b"\x89", raw) + b"b"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_and_plain_values_come_back(protocol: int) -> None:
    """Every protocol, byte order and memory order gives the array that was put in."""
    plain = {"t": (1, 2.5, "ü", None, True), "long": -(2**70), "b": b"\x00\xff", "l": [[1], {}],
             "number": np.float32(3), "ordered": OrderedDict(a=1), "set": {1, 2}}  # fmt: skip
    found = pickles.load(pickle.dumps({**CONTENT, **plain, "again": CONTENT["flags"]}, protocol))
    for key, right in CONTENT.items():
        np.testing.assert_array_equal(found[key], right)
        assert found[key].dtype.isnative and found[key].dtype.kind == right.dtype.kind
    assert found["again"] is found["flags"]
    assert found["t"] == plain["t"] and found["long"] == plain["long"] and found["b"] == plain["b"]
    assert found["number"] == 3 and found["ordered"] == {"a": 1} and sorted(found["set"]) == [1, 2]


def test_object_pointers_are_never_made_of_bytes() -> None:
    """A dtype of objects whose flags deny it: numpy would take the bytes for pointers."""
    body = struct.pack("<Q", id(None)) * 12
    for kind, flags in (("O", 0), ("O8", 0), ("O", 63), ("V8", 0), ("S8", 0), ("M8", 0)):
        shape = group(whole(4), whole(3))
        found = pickles.load(b"\x80\x02" + array(shape, kind, flags, body) + b".")
        assert isinstance(found, pickles.Opaque)


class Command:
    """Runs a command when a careless reader loads it."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_nothing_runs(tmp_path: Path, protocol: int) -> None:
    """A call becomes a note of it."""
    mark = tmp_path / "ran"
    data = pickle.dumps({"a": Command(mark), "b": np.ones(2)}, protocol)
    named: list[str] = []
    found = pickles.load(data, named=named)
    assert found["a"].name in named and found["a"].name.endswith(".mkdir")
    assert found["b"].tolist() == [1, 1]
    assert not mark.exists()
    pickle.loads(data)
    assert mark.is_dir()  # the attack is a working one


def nested_keys(depth: int) -> bytes:
    """Return a dictionary whose key is a tuple of tuples, 2^depth leaves of one memo entry."""
    doubled = b"".join(b"q" + bytes([n]) + b"0h" + bytes([n]) + b"h" + bytes([n]) + b"\x86"
                       for n in range(depth))  # fmt: skip
    return b"\x80\x02}K\x01" + doubled + b"K\x01s."


def copies(count: int) -> bytes:
    """Return one megabyte of text that is turned into bytes over and over."""
    text = b"X" + struct.pack("<I", 2**20) + b"a" * 2**20 + b"q\x00"
    again = name("_codecs", "encode") + b"h\x00" + short("latin-1") + b"\x86R0"
    return b"\x80\x02" + text + again * count + b"."


BOMBS = {
    "a memo index of four billion": b"\x80\x02]r\xff\xff\xff\xff.",
    "tuples as keys": nested_keys(60),
    "an array of 10^18": b"\x80\x02"
    + array(group(whole(10**9), whole(10**9)), "f8", 0, b"")
    + b".",
    "an empty array of 10^9 rows": b"\x80\x02"
    + array(group(whole(2 * 10**9), whole(0)), "f8", 0, b"")
    + b".",
    "a negative axis": b"\x80\x02" + array(group(whole(-1)), "f8", 0, b"") + b".",
    "ten thousand axes": b"\x80\x02" + array(b"(" + b"K\x01" * 10000 + b"t", "u1", 0, b"a") + b".",
    "bytes of 2^63": b"\x80\x04\x8e" + struct.pack("<Q", 2**63) + b"abc.",
    "text of 4 GB": b"\x80\x02X\xff\xff\xff\xffabc.",
    "a number of 2^31 bytes": b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b"a.",
    "a number of a million digits": b"I" + b"1" * 10**6 + b"\n.",
    "deep lists": b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b".",
    "endless steps": b"\x80\x02" + b"N0" * 3_000_000 + b"N.",
    "bytes(10^9)": b"\x80\x02" + name("builtins", "bytes") + whole(10**9) + b"\x85R.",
    "copies": copies(2000),
}


@pytest.mark.parametrize("what", BOMBS)
def test_bombs_do_not_go_off(what: str) -> None:
    """They are refused, or were never dangerous; either way soon and in little memory."""
    import tracemalloc

    tracemalloc.start()
    began = time.process_time()
    try:
        pickles.load(BOMBS[what])
    except pickles.UnpicklingError as error:
        assert str(error)
    spent = time.process_time() - began
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 800e6, peak
    assert spent < 20, spent  # tracing makes everything four times slower


def test_damage_is_one_kind_of_error() -> None:
    """Whatever is changed in a file, it is read or refused: no crash, no other exception."""
    dice = random.Random(20)
    seeds = [pickle.dumps({**CONTENT, "x": [1, "a", {2: 3.5}], "y": Command(Path("x"))}, protocol)
             for protocol in range(6)]  # fmt: skip
    refused = 0
    for _ in range(3000):
        data = bytearray(dice.choice(seeds))
        for _ in range(dice.choice((1, 1, 2, 8))):
            at = dice.randrange(len(data))
            data[at] = dice.choice((0, 0xFF, 0x7F, dice.randrange(256), ord("q"), ord("R")))
        if dice.random() < 0.2:
            del data[dice.randrange(len(data)) :]
        try:
            found = pickles.load(bytes(data))
        except pickles.UnpicklingError:
            refused += 1
            continue
        for value in found.values() if isinstance(found, dict) else ():
            if isinstance(value, np.ndarray):
                assert value.dtype.kind in "fiub"
    assert 500 < refused < 3000
