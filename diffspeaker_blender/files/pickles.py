# SPDX-License-Identifier: GPL-3.0-or-later
"""Read pickles of arrays without running anything in them.

A pickle is a program for a small stack machine, and its words for "call" and "import" are how files
attack. This is such a machine in plain Python in which those words only take notes: an array is
noted as shape, kind and bytes, and is built from them when they agree; whatever else a file names
becomes an `Opaque`, a note of its name, arguments and state. No class is looked up, no function of
the file's choice is called, and numpy never sees a dtype or a pickle of the file's making: its own
dtype state can turn the file's bytes into object pointers.

Sizes are compared with what the file holds before anything is allocated: the memo is a dictionary,
so an index costs nothing, and keys are plain values, so that none takes long to hash.
"""

from __future__ import annotations

import codecs
import math
import re
import struct
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np

__all__ = ["Named", "Opaque", "UnpicklingError", "load", "read"]

LARGEST = 300 * 2**20  # bytes of a file; FLAME's own have 60
MOST_STEPS = 3_000_000  # opcodes; the published files have some thousand
MOST_AXES = 32
_LONGEST_NUMBER = 400  # characters or bytes of one number
_PLAIN = re.compile(r"[iu][1248]|f[248]|b1|\?|bool|u?int(8|16|32|64)|float(16|32|64)")
_DAMAGE = (IndexError, KeyError, ValueError, TypeError, AttributeError, OverflowError, struct.error,
           RecursionError, MemoryError)  # fmt: skip


@dataclass(frozen=True)
class Named:
    """A class or function that the file names; it was not looked up."""

    name: str
    """Module and name, as in "torch._utils._rebuild_tensor_v2"."""


@dataclass(eq=False)
class Opaque:
    """What the file would have made by a call; nothing was called."""

    name: str
    """What would have been called."""
    arguments: tuple[Any, ...] = field(default=(), repr=False)
    """With what."""
    state: Any = field(default=None, repr=False)
    """What the file then set on it."""


@dataclass(eq=False)
class _Kind:
    """A numpy dtype as noted: its code ("f8"), byte order, and whether it is a plain number."""

    code: str
    order: str = "="
    plain: bool = True


@dataclass(eq=False)
class _Blank:
    """An array whose content comes with the next BUILD; `places` are its entries in the memo."""

    places: list[int] = field(default_factory=list)


Builders = Mapping[str, Callable[..., Any]]


def read(path: Path, builders: Builders | None = None) -> Any:
    """Return the content of a pickle file: containers, text, numbers, arrays and `Opaque`.

    `builders` are functions of ours for names of the file's, called with its arguments. Raises
    `UnpicklingError`, or `OSError` when the file cannot be read.
    """
    size = path.stat().st_size
    if size > LARGEST:
        raise UnpicklingError(f"it is larger than {LARGEST // 2**20} MB")
    return load(path.read_bytes(), builders)


def load(
    data: bytes,
    builders: Builders | None = None,
    persistent: Callable[[Any], Any] | None = None,
    named: list[str] | None = None,
) -> Any:
    """Return what a pickle in memory holds; see `read`.

    `persistent` is told what the file keeps elsewhere; `named` receives every name in the file.
    """
    machine = _Machine(data, {**_BUILDERS, **(builders or {})}, persistent, named)
    try:
        return machine.run()
    except _DAMAGE as error:
        raise UnpicklingError("it is damaged or was made to mislead") from error


# -- what the file may build -------------------------------------------------------------------


def _kind(code: Any, *_: Any) -> _Kind:
    text = code.decode("ascii", "replace") if isinstance(code, bytes) else str(code)
    order = text[:1] if text[:1] in ("<", ">", "=", "|") else ""
    text = text[len(order) :]
    return _Kind(text, order or "=", bool(_PLAIN.fullmatch(text)))


def _set_kind(kind: _Kind, state: Any) -> None:
    """Take the byte order from a dtype's state; anything but a plain number stays unread."""
    _, order, inner, names, fields, *rest = state
    flags = rest[2] if len(rest) > 2 else 0
    if inner is not None or names is not None or fields is not None or flags != 0:
        kind.plain = False
    if order not in ("<", ">", "=", "|"):
        kind.plain = False
    kind.order = order


def _array(shape: Any, kind: Any, fortran: Any, content: Any) -> Any:
    """Return the array that shape, kind and bytes agree on, or an `Opaque` for other kinds."""
    if not isinstance(kind, _Kind) or not kind.plain or isinstance(content, list):
        return Opaque("numpy.ndarray", (shape, getattr(kind, "code", "")))
    sizes = tuple(shape) if isinstance(shape, tuple | list) else (shape,)
    if len(sizes) > MOST_AXES or not all(type(size) is int and size >= 0 for size in sizes):
        raise UnpicklingError("an array has an impossible shape")
    raw = _raw(content)
    dtype = np.dtype(kind.code)
    if kind.order in ("<", ">"):
        dtype = dtype.newbyteorder("<" if kind.order == "<" else ">")
    if math.prod(sizes) * dtype.itemsize != len(raw) or (not raw and max(sizes, default=0) > 2**20):
        raise UnpicklingError("an array's shape does not fit its bytes")
    flat = np.frombuffer(raw, dtype)
    made = flat.reshape(sizes, order="F" if fortran in (True, "F") else "C")
    return made if made.dtype.isnative else made.astype(made.dtype.newbyteorder("="))


def _raw(content: Any) -> bytes:
    """Return an array's bytes; Python 2 pickled them as text, here read as Latin-1."""
    if isinstance(content, str):
        return content.encode("latin-1")
    if isinstance(content, bytes):
        return content
    raise UnpicklingError("an array has no bytes")


def _number(kind: Any, content: Any = b"") -> Any:
    made = _array((), kind, False, content)
    return made if isinstance(made, Opaque) else made.item()


def _bytes(content: Any = b"", *_: Any) -> bytes:
    """Return what `bytes` or `bytearray` was called with; never a number of zeros."""
    return _raw(content)


def _frombuffer(content: Any, kind: Any, shape: Any, order: Any = "C", *_: Any) -> Any:
    return _array(shape, kind, order, content)


_BUILDERS: dict[str, Callable[..., Any]] = {
    "numpy.dtype": _kind,
    "numpy.core.multiarray._reconstruct": lambda *_: _Blank(),
    "numpy.core.multiarray.scalar": _number,
    "numpy.core.numeric._frombuffer": _frombuffer,
    "_codecs.encode": _bytes,
    "collections.OrderedDict": lambda *_: {},
    "collections.defaultdict": lambda *_: {},
    "builtins.dict": lambda *_: {},
    "builtins.set": lambda items=(), *_: items,
    "builtins.frozenset": lambda items=(), *_: items,
    "builtins.bytes": _bytes,
    "builtins.bytearray": _bytes,
}


# -- the machine -------------------------------------------------------------------------------


class _Machine:
    """The stack, the memo and the place in the file."""

    def __init__(
        self,
        data: bytes,
        builders: Builders,
        persistent: Callable[[Any], Any] | None,
        named: list[str] | None,
    ) -> None:
        self.data, self.builders, self.persistent = data, builders, persistent
        self.named = named if named is not None else []
        self.place = 0
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.made = 0  # bytes of arrays and byte strings that calls have made

    def run(self) -> Any:
        """Carry out one opcode after the other until STOP."""
        for _ in range(MOST_STEPS):
            opcode = self.data[self.place]
            self.place += 1
            if opcode == 0x2E:  # STOP
                return self.pop()
            action = _ACTIONS.get(opcode)
            if action is None:
                raise UnpicklingError(f"it has an unknown opcode {opcode:#04x}")
            action(self)
        raise UnpicklingError(f"it has more than {MOST_STEPS:,} steps")

    def take(self, count: int) -> bytes:
        """Return the next bytes; the file must have them."""
        end = self.place + count
        if count < 0 or end > len(self.data):
            raise UnpicklingError("it ends too early")
        piece = self.data[self.place : end]
        self.place = end
        return piece

    def whole(self, count: int, signed: bool = False) -> int:
        """Return an integer of `count` bytes."""
        return int.from_bytes(self.take(count), "little", signed=signed)

    def line(self) -> bytes:
        """Return the rest of a line."""
        end = self.data.index(b"\n", self.place)
        return self.take(end + 1 - self.place)[:-1]

    def pop(self) -> Any:
        """Take the uppermost value, which must lie above the last mark."""
        if self.marks and len(self.stack) <= self.marks[-1]:
            raise UnpicklingError("its stack is confused")
        return self.stack.pop()

    def above_mark(self) -> list[Any]:
        """Take everything above the last mark."""
        start = self.marks.pop()
        taken = self.stack[start:]
        del self.stack[start:]
        return taken

    def remember(self, index: int) -> None:
        """Note the uppermost value under an index."""
        value = self.stack[-1]
        self.memo[index] = value
        if isinstance(value, _Blank):
            value.places.append(index)

    def name(self, module: Any, name: Any) -> Named:
        """Note a name of the file's, in the spelling of Python 3 and numpy 1."""
        full = f"{module}.{name}".replace("numpy._core.", "numpy.core.")
        full = full.replace("__builtin__.", "builtins.").replace("copy_reg.", "copyreg.")
        if len(full) > 500:
            raise UnpicklingError("it has a name of more than 500 characters")
        self.named.append(full)
        return Named(full)

    def call(self, what: Any, arguments: Any) -> Any:
        """Return what a builder of ours makes of a call, else a note of it."""
        given = tuple(arguments) if isinstance(arguments, tuple | list) else (arguments,)
        name = what.name if isinstance(what, Named | Opaque) else type(what).__name__
        if isinstance(what, Named) and name in self.builders:
            return self.counted(self.builders[name](*given))
        if name == "copyreg._reconstructor" and given and isinstance(given[0], Named):
            name = given[0].name  # how Python 2 made an object
        return Opaque(name, given)

    def counted(self, made: Any) -> Any:
        """Return what was made; a file may not have its bytes copied over and over."""
        self.made += made.nbytes if isinstance(made, np.ndarray) else 0
        self.made += len(made) if isinstance(made, bytes) else 0
        if self.made > 2 * LARGEST:
            raise UnpicklingError("its arrays are larger than the file")
        return made

    def build(self) -> None:
        """Give the uppermost value its state: bytes to an array, an order to a kind."""
        state, target = self.pop(), self.stack[-1]
        if isinstance(target, _Blank):
            shape, kind, fortran, content = state[-4:]
            made = self.stack[-1] = self.counted(_array(shape, kind, fortran, content))
            for index in target.places:
                self.memo[index] = made
        elif isinstance(target, _Kind):
            _set_kind(target, state)
        elif isinstance(target, Opaque):
            target.state = state

    def put_items(self, pairs: list[Any]) -> None:
        """Put keys and values into the uppermost dictionary."""
        target = self.stack[-1]
        if not isinstance(target, dict):
            return  # a foreign container: nobody here reads it
        for at in range(0, len(pairs) - 1, 2):
            target[_key(pairs[at])] = pairs[at + 1]

    def put_values(self, values: list[Any]) -> None:
        """Append values to the uppermost list."""
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(values)


def _key(value: Any) -> Any:
    """Return a key of a dictionary: a plain value, else a note (tuples can take for ever)."""
    if value is None or isinstance(value, str | bytes | int | float):
        return value
    if isinstance(value, tuple) and len(value) <= 8 and all(
        item is None or isinstance(item, str | int | float) for item in value
    ):  # fmt: skip
        return value
    return f"<{type(value).__name__}>"


def _number_of(text: bytes) -> Any:
    if len(text) > _LONGEST_NUMBER:
        raise UnpicklingError("it has a number of too many digits")
    if text in (b"00", b"01"):
        return text == b"01"
    return int(text.removesuffix(b"L"))


def _long(machine: _Machine, count: int) -> int:
    if not 0 <= count <= _LONGEST_NUMBER:
        raise UnpicklingError("it has a number of too many digits")
    return machine.whole(count, signed=True)


def _text_2(line: bytes) -> str:
    """Return a quoted string of Python 2, each byte as its Latin-1 letter."""
    if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in (b"'", b'"'):
        raise UnpicklingError("it has a string without quotes")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on unknown escapes
        return codecs.escape_decode(line[1:-1])[0].decode("latin-1")  # type: ignore[attr-defined,no-any-return]


def _utf8(piece: bytes) -> str:
    return piece.decode("utf-8", "surrogatepass")


def _push(value: Callable[[_Machine], Any]) -> Callable[[_Machine], None]:
    """Return the action that puts a value on the stack."""
    return lambda machine: machine.stack.append(value(machine))


def _tuple_of(count: int) -> Callable[[_Machine], None]:
    def act(machine: _Machine) -> None:
        machine.stack.append(tuple(machine.pop() for _ in range(count))[::-1])

    return act


def _dictionary(machine: _Machine) -> None:
    pairs = machine.above_mark()
    machine.stack.append({})
    machine.put_items(pairs)


def _set_item(machine: _Machine) -> None:
    value, key = machine.pop(), machine.pop()
    machine.put_items([key, value])


def _append(machine: _Machine) -> None:
    value = machine.pop()
    machine.put_values([value])


def _reduce(machine: _Machine) -> None:
    arguments, what = machine.pop(), machine.pop()
    machine.stack.append(machine.call(what, arguments))


def _new_object_named(machine: _Machine) -> None:
    _names, arguments, what = machine.pop(), machine.pop(), machine.pop()
    machine.stack.append(machine.call(what, arguments))


def _object(machine: _Machine) -> None:
    what, *arguments = machine.above_mark()
    machine.stack.append(machine.call(what, arguments))


def _instance(machine: _Machine) -> None:
    what = machine.name(machine.line().decode(), machine.line().decode())
    machine.stack.append(machine.call(what, machine.above_mark()))


def _global(machine: _Machine) -> None:
    machine.stack.append(machine.name(machine.line().decode(), machine.line().decode()))


def _stack_global(machine: _Machine) -> None:
    name, module = machine.pop(), machine.pop()
    machine.stack.append(machine.name(module, name))


def _frame(machine: _Machine) -> None:
    machine.take(8)  # how much could be read ahead; nothing here reads ahead


def _drop(machine: _Machine) -> None:
    machine.pop()


def _drop_marked(machine: _Machine) -> None:
    machine.above_mark()


def _elsewhere(machine: _Machine) -> None:
    told = machine.pop()
    kept = machine.persistent(told) if machine.persistent else Opaque("something kept elsewhere")
    machine.stack.append(kept)


def _version(machine: _Machine) -> None:
    if machine.whole(1) > 5:
        raise UnpicklingError("it is of a newer kind than is known here")


_ACTIONS: dict[int, Callable[[_Machine], None]] = {
    0x80: _version,
    0x95: _frame,
    0x28: lambda m: m.marks.append(len(m.stack)),  # MARK
    0x30: _drop,  # POP
    0x31: _drop_marked,  # POP_MARK
    0x32: lambda m: m.stack.append(m.stack[-1]),  # DUP
    0x4E: _push(lambda m: None),
    0x88: _push(lambda m: True),
    0x89: _push(lambda m: False),
    0x49: _push(lambda m: _number_of(m.line())),  # INT
    0x4C: _push(lambda m: _number_of(m.line())),  # LONG
    0x4A: _push(lambda m: m.whole(4, signed=True)),  # BININT
    0x4B: _push(lambda m: m.whole(1)),
    0x4D: _push(lambda m: m.whole(2)),
    0x8A: _push(lambda m: _long(m, m.whole(1))),  # LONG1
    0x8B: _push(lambda m: _long(m, m.whole(4, signed=True))),  # LONG4
    0x46: _push(lambda m: float(m.line()[:_LONGEST_NUMBER])),  # FLOAT
    0x47: _push(lambda m: struct.unpack(">d", m.take(8))[0]),  # BINFLOAT
    0x53: _push(lambda m: _text_2(m.line())),  # STRING
    0x54: _push(lambda m: m.take(m.whole(4, signed=True)).decode("latin-1")),  # BINSTRING
    0x55: _push(lambda m: m.take(m.whole(1)).decode("latin-1")),
    0x56: _push(lambda m: m.line().decode("raw-unicode-escape")),  # UNICODE
    0x58: _push(lambda m: _utf8(m.take(m.whole(4)))),  # BINUNICODE
    0x8C: _push(lambda m: _utf8(m.take(m.whole(1)))),
    0x8D: _push(lambda m: _utf8(m.take(m.whole(8)))),
    0x42: _push(lambda m: m.take(m.whole(4))),  # BINBYTES
    0x43: _push(lambda m: m.take(m.whole(1))),
    0x8E: _push(lambda m: m.take(m.whole(8))),
    0x96: _push(lambda m: m.take(m.whole(8))),  # BYTEARRAY8
    0x5D: _push(lambda m: []),
    0x8F: _push(lambda m: []),  # EMPTY_SET: read as a list
    0x29: _push(lambda m: ()),
    0x7D: _push(lambda m: {}),
    0x6C: _push(lambda m: m.above_mark()),  # LIST
    0x91: _push(lambda m: m.above_mark()),  # FROZENSET
    0x74: _push(lambda m: tuple(m.above_mark())),  # TUPLE
    0x85: _tuple_of(1),
    0x86: _tuple_of(2),
    0x87: _tuple_of(3),
    0x64: _dictionary,
    0x61: _append,
    0x65: lambda m: m.put_values(m.above_mark()),  # APPENDS
    0x90: lambda m: m.put_values(m.above_mark()),  # ADDITEMS
    0x73: _set_item,
    0x75: lambda m: m.put_items(m.above_mark()),  # SETITEMS
    0x70: lambda m: m.remember(_number_of(m.line())),  # PUT
    0x71: lambda m: m.remember(m.whole(1)),
    0x72: lambda m: m.remember(m.whole(4)),
    0x94: lambda m: m.remember(len(m.memo)),  # MEMOIZE
    0x67: _push(lambda m: m.memo[_number_of(m.line())]),  # GET
    0x68: _push(lambda m: m.memo[m.whole(1)]),
    0x6A: _push(lambda m: m.memo[m.whole(4)]),
    0x63: _global,
    0x93: _stack_global,
    0x52: _reduce,
    0x81: _reduce,  # NEWOBJ: cls.__new__(cls, *arguments)
    0x92: _new_object_named,
    0x62: lambda m: m.build(),
    0x6F: _object,
    0x69: _instance,
    0x51: _elsewhere,  # BINPERSID
}
