# SPDX-License-Identifier: GPL-3.0-or-later
"""Write ONNX graphs: the few parts of the format that a network of this kind is made of.

A graph is a protocol buffer (onnx.proto, IR version 9), written when a model is loaded and dropped
when its session is made; on the disk there are only the weights. All numbers are float32.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ...errors import CheckpointError

Array = NDArray[np.float32]
Attribute = int | float | str | Sequence[int]

OPSET = 20
_IR = 9
_FLOAT, _INT64 = 1, 7
_MICROSOFT = "com.microsoft"


class Graph:
    """A graph under construction; every method adds a node and returns its output's name."""

    def __init__(self, weights: Mapping[str, Array]) -> None:
        self.weights: dict[str, Array] = {}
        """The weights used so far, by name: what a session must be given."""
        self._known = weights
        self._nodes: list[bytes] = []
        self._constants: list[bytes] = []
        self._inputs: list[bytes] = []
        self._outputs: list[bytes] = []
        self._numbers = itertools.count()

    def input(self, name: str, *shape: int | str) -> str:
        """Declare an input; a text in the shape is a length that may vary."""
        self._inputs.append(_value_info(name, shape))
        return name

    def output(self, name: str, value: str, *shape: int | str) -> None:
        """Give a value out under a name."""
        self._nodes.append(_node("Identity", [value], [name]))
        self._outputs.append(_value_info(name, shape))

    def weight(self, name: str, *shape: int) -> str:
        """Use one of the known weights. Raises `CheckpointError` when it is of another shape."""
        self.weights[name] = self.weight_of(name, *shape)
        return name

    def weight_of(self, name: str, *shape: int) -> Array:
        """Return a known weight itself. Raises `CheckpointError` as `weight` does."""
        if name not in self._known:
            raise CheckpointError(f"The model does not fit its description; missing: {name}.")
        found = self._known[name]
        if found.shape != shape:
            sizes = f"{name} is {list(found.shape)}, not {list(shape)}"
            raise CheckpointError(f"The model does not fit its description; wrong size: {sizes}.")
        return found

    def derived(self, name: str, array: Array) -> str:
        """Use an array computed from the weights."""
        self.weights[name] = array
        return name

    def integers(self, *values: int) -> str:
        """Return a constant list of whole numbers."""
        name = self._new()
        raw = np.array(values, "<i8").tobytes()
        self._constants.append(
            b"".join([_varint_field(1, len(values)), _varint_field(2, _INT64),
                      _bytes_field(8, name.encode()), _bytes_field(9, raw)])
        )  # fmt: skip
        return name

    def number(self, value: float) -> str:
        """Return a constant number."""
        name = self._new()
        raw = np.array(value, "<f4").tobytes()
        self._constants.append(
            b"".join([_varint_field(2, _FLOAT), _bytes_field(8, name.encode()),
                      _bytes_field(9, raw)])
        )  # fmt: skip
        return name

    def add(self, kind: str, *inputs: str, domain: str = "", **attributes: Attribute) -> str:
        """Add a node of one output."""
        return self.split(kind, 1, *inputs, domain=domain, **attributes)[0]

    def split(
        self, kind: str, count: int, *inputs: str, domain: str = "", **attributes: Attribute
    ) -> list[str]:
        """Add a node of several outputs."""
        outputs = [self._new() for _ in range(count)]
        self._nodes.append(_node(kind, inputs, outputs, domain, attributes))
        return outputs

    # -- what networks are made of --------------------------------------------------------------

    def linear(self, values: str, name: str, inputs: int, outputs: int) -> str:
        """values (rows, in) → (rows, out) with the weights `name`.weight and `name`.bias."""
        weight = self.weight(f"{name}.weight", outputs, inputs)
        return self.add("Gemm", values, weight, self.weight(f"{name}.bias", outputs), transB=1)

    def convolve(
        self, values: str, name: str, sizes: tuple[int, int, int], stride: int = 1, group: int = 1
    ) -> str:
        """values (1, in, n) → (1, out, ·); sizes are those of the weight: out, in, width (odd)."""
        parts = [self.weight(f"{name}.weight", *sizes), self.weight(f"{name}.bias", sizes[0])]
        pads = [sizes[2] // 2] * 2
        return self.add("Conv", values, *parts, pads=pads, strides=[stride], group=group)

    def norm(self, values: str, name: str, width: int) -> str:
        """Normalise the last axis with the weights `name`.weight and `name`.bias."""
        parts = [self.weight(f"{name}.{part}", width) for part in ("weight", "bias")]
        return self.add("LayerNormalization", values, *parts, axis=-1, epsilon=1e-5)

    def reshape(self, values: str, *shape: int) -> str:
        """Change the shape; -1 is what is left, 0 keeps a length."""
        return self.add("Reshape", values, self.integers(*shape))

    def attention(self, query: str, keys: str, values: str, heads: int, bias: str = "") -> str:
        """Attend: (rows, D) each, bias (1, heads, rows, keys) or none → (rows, D)."""
        first = [self.add("Unsqueeze", part, self.integers(0)) for part in (query, keys, values)]
        extra = ["", "", bias] if bias else []
        out = self.add("MultiHeadAttention", *first, *extra, domain=_MICROSOFT, num_heads=heads)
        return self.add("Squeeze", out, self.integers(0))

    def to_bytes(self) -> bytes:
        """Return the model as ONNX Runtime reads it."""
        head = b"".join(_bytes_field(1, node) for node in self._nodes) + _bytes_field(2, b"speak")
        ends = [*(_bytes_field(5, tensor) for tensor in self._constants),
                *(_bytes_field(11, value) for value in self._inputs),
                *(_bytes_field(12, value) for value in self._outputs)]  # fmt: skip
        parts: list[bytes | memoryview] = [head, *ends]
        for name, array in self.weights.items():
            parts += _tensor(name, np.ascontiguousarray(array, "<f4"))
        size = sum(len(part) for part in parts)
        versions = [_bytes_field(1, b"") + _varint_field(2, OPSET),
                    _bytes_field(1, _MICROSOFT.encode()) + _varint_field(2, 1)]  # fmt: skip
        first = [_varint_field(1, _IR), *(_bytes_field(8, version) for version in versions)]
        return b"".join([*first, _varint(7 << 3 | 2), _varint(size), *parts])

    def _new(self) -> str:
        return f"v{next(self._numbers)}"


# --- the wire format -----------------------------------------------------------------------------


def _varint(value: int) -> bytes:
    value &= 0xFFFFFFFFFFFFFFFF
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _varint_field(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _bytes_field(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _node(
    kind: str,
    inputs: Sequence[str],
    outputs: Sequence[str],
    domain: str = "",
    attributes: Mapping[str, Attribute] | None = None,
) -> bytes:
    parts = [_bytes_field(1, name.encode()) for name in inputs]
    parts += [_bytes_field(2, name.encode()) for name in outputs]
    parts += [_bytes_field(4, kind.encode())]
    parts += [_bytes_field(5, _attribute(*pair)) for pair in (attributes or {}).items()]
    return b"".join([*parts, _bytes_field(7, domain.encode())])


def _attribute(name: str, value: Attribute) -> bytes:
    head = _bytes_field(1, name.encode())
    if isinstance(value, float):
        return head + _varint(2 << 3 | 5) + np.float32(value).tobytes() + _varint_field(20, 1)
    if isinstance(value, int):
        return head + _varint_field(3, value) + _varint_field(20, 2)
    if isinstance(value, str):
        return head + _bytes_field(4, value.encode()) + _varint_field(20, 3)
    return head + b"".join(_varint_field(8, entry) for entry in value) + _varint_field(20, 7)


def _tensor(name: str, array: Array) -> tuple[bytes, memoryview]:
    """Return a weight as an entry of the graph: its head, and its numbers where they lie."""
    about = b"".join(_varint_field(1, size) for size in array.shape) + _varint_field(2, _FLOAT)
    about += _bytes_field(8, name.encode()) + _varint(9 << 3 | 2) + _varint(array.nbytes)
    size = _varint(len(about) + array.nbytes)
    return _varint(5 << 3 | 2) + size + about, array.data.cast("B")


def _value_info(name: str, shape: Sequence[int | str]) -> bytes:
    sizes = [
        _varint_field(1, size) if isinstance(size, int) else _bytes_field(2, size.encode())
        for size in shape
    ]
    dimensions = b"".join(_bytes_field(1, size) for size in sizes)
    tensor = _varint_field(1, _FLOAT) + _bytes_field(2, dimensions)
    return _bytes_field(1, name.encode()) + _bytes_field(2, _bytes_field(1, tensor))
