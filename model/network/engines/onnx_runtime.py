# SPDX-License-Identifier: GPL-3.0-or-later
"""ONNX Runtime through its C interface: one shared library serves every version of Python.

Its Python package is built anew for each Python, and Blender comes with many; the library inside
is the same. The interface is a table of functions that only ever grows at its end, so a function's
place in it is fixed (onnxruntime_c_api.h, `struct OrtApi`; places checked against 1.23).
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ... import native, processors
from ...errors import EngineError

Array = NDArray[np.float32]

API_VERSION = 18  # the oldest interface that has all we call; newer libraries still offer it
_PLACES = {
    "GetErrorMessage": 2,
    "CreateSessionFromArray": 8,
    "Run": 9,
    "CreateSessionOptions": 10,
    "DisableMemPattern": 17,
    "DisableCpuMemArena": 19,
    "CreateTensorWithDataAsOrtValue": 49,
    "GetTensorMutableData": 51,
    "GetDimensionsCount": 61,
    "GetDimensions": 62,
    "GetTensorTypeAndShape": 65,
    "CreateCpuMemoryInfo": 69,
    "ReleaseStatus": 93,
    "ReleaseSession": 95,
    "ReleaseValue": 96,
    "ReleaseTensorTypeAndShapeInfo": 99,
    "ReleaseSessionOptions": 100,
    "CreateEnvWithGlobalThreadPools": 119,
    "DisablePerSessionThreads": 120,
    "CreateThreadingOptions": 121,
    "ReleaseThreadingOptions": 122,
    "SetGlobalIntraOpNumThreads": 147,
    "SetGlobalInterOpNumThreads": 148,
    "SetGlobalSpinControl": 149,
}
_FLOAT = 1
_WARNING = 3  # the least severe message that is printed is an error
_WINDOWS_NEEDS = (
    "Install the Microsoft Visual C++ Redistributable 2015-2022, version 14.40 or newer, "
    "then restart Blender."
)
_OTHERS_NEED = (
    "Install the zip for this system (macOS 13 or newer, Linux with glibc 2.28 or newer), or "
    "PyTorch in the preferences."
)

Pointer: TypeAlias = ctypes.c_void_p
Size: TypeAlias = ctypes.c_size_t


class Library:
    """The loaded library, its functions by name and the one thread pool all sessions share."""

    def __init__(self, path: Path, threads: int) -> None:
        """Raises `EngineError` when the library cannot be loaded here."""
        self.path, self.threads = path, threads
        base = _load(path).OrtGetApiBase
        base.restype = ctypes.POINTER(Pointer * 2)
        get_api, get_version = base().contents
        self.version = ctypes.CFUNCTYPE(ctypes.c_char_p)(get_version)().decode()
        table = ctypes.CFUNCTYPE(Pointer, ctypes.c_uint32)(get_api)(API_VERSION)
        if not table:
            raise EngineError(f"ONNX Runtime {self.version} is too old.", _OTHERS_NEED)
        self._table = ctypes.cast(table, ctypes.POINTER(Pointer))
        self._environment = self._make_environment()
        self.memory = Pointer()
        self("CreateCpuMemoryInfo", 0, 0, ctypes.byref(self.memory))

    def __call__(self, name: str, *arguments: Any) -> None:
        """Call a function that answers with a status. Raises `EngineError` with its message."""
        address = self._table[_PLACES[name]]
        assert address is not None
        status = ctypes.CFUNCTYPE(Pointer)(address)(*(_plain(entry) for entry in arguments))
        if status:
            say = ctypes.CFUNCTYPE(ctypes.c_char_p, Pointer)(
                self._table[_PLACES["GetErrorMessage"]] or 0
            )
            words = (say(status) or b"").decode("utf-8", "replace")
            self.release("ReleaseStatus", Pointer(status))
            if "alloc" in words.lower() or "memory" in words.lower():
                raise MemoryError(words[:300])
            raise EngineError(f"ONNX Runtime cannot do this: {words[:300]}")

    def release(self, name: str, thing: Pointer) -> None:
        """Give an object back."""
        ctypes.CFUNCTYPE(None, Pointer)(self._table[_PLACES[name]] or 0)(thing)

    def session(self, graph: bytes) -> Session:
        """Return a session for a graph."""
        return Session(self, self._environment, graph)

    def _make_environment(self) -> Pointer:
        options, environment = Pointer(), Pointer()
        self("CreateThreadingOptions", ctypes.byref(options))
        self("SetGlobalIntraOpNumThreads", options, self.threads)
        self("SetGlobalInterOpNumThreads", options, 1)
        self("SetGlobalSpinControl", options, 0)  # threads that wait sleep: Blender needs the cores
        self("CreateEnvWithGlobalThreadPools", _WARNING, b"", options, ctypes.byref(environment))
        self.release("ReleaseThreadingOptions", options)
        return environment


class Session:
    """One graph, ready to run."""

    def __init__(self, library: Library, environment: Pointer, graph: bytes) -> None:
        self._library = library
        self._handle = Pointer()
        options = Pointer()
        library("CreateSessionOptions", ctypes.byref(options))
        library("DisablePerSessionThreads", options)
        library("DisableCpuMemArena", options)  # what a long clip needed is given back after it
        library("DisableMemPattern", options)
        try:
            library("CreateSessionFromArray", environment, graph, Size(len(graph)), options,
                    ctypes.byref(self._handle))  # fmt: skip
        finally:
            library.release("ReleaseSessionOptions", options)

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        """Return the outputs of those names. Raises `EngineError` or `MemoryError`."""
        arrays = [np.ascontiguousarray(array, np.float32) for array in inputs.values()]
        given = [self._lend(array) for array in arrays]
        answers = (Pointer * len(outputs))()
        try:
            self._library("Run", self._handle, None, _names(inputs), _list(given), Size(len(given)),
                          _names(outputs), Size(len(outputs)), answers)  # fmt: skip
            return [self._copy(Pointer(answer)) for answer in answers]
        finally:
            for value in (*given, *(Pointer(answer) for answer in answers if answer)):
                self._library.release("ReleaseValue", value)

    def _lend(self, array: Array) -> Pointer:
        """Return a value that uses the array's own memory; the array must outlive it."""
        value = Pointer()
        shape = (ctypes.c_int64 * array.ndim)(*array.shape)
        self._library("CreateTensorWithDataAsOrtValue", self._library.memory,
                      Pointer(array.ctypes.data), Size(array.nbytes), shape,
                      Size(array.ndim), _FLOAT, ctypes.byref(value))  # fmt: skip
        return value

    def _copy(self, value: Pointer) -> Array:
        call = self._library
        about, count, data = Pointer(), Size(), Pointer()
        call("GetTensorTypeAndShape", value, ctypes.byref(about))
        call("GetDimensionsCount", about, ctypes.byref(count))
        shape = (ctypes.c_int64 * count.value)()
        call("GetDimensions", about, shape, count)
        call.release("ReleaseTensorTypeAndShapeInfo", about)
        call("GetTensorMutableData", value, ctypes.byref(data))
        size = int(np.prod(list(shape)))
        if not size:
            return np.zeros(tuple(shape), np.float32)
        floats = np.ctypeslib.as_array(ctypes.cast(data, ctypes.POINTER(ctypes.c_float)), (size,))
        return np.array(floats, np.float32).reshape(tuple(shape))

    def __del__(self) -> None:
        if self._handle and ctypes is not None:  # modules are None at the very end
            self._library.release("ReleaseSession", self._handle)


def _plain(value: Any) -> Any:
    """Return an argument as C takes it: a whole number is an int unless it is wrapped already."""
    return ctypes.c_int(value) if isinstance(value, int) else value


def _names(names: Mapping[str, Any] | Sequence[str]) -> Any:
    return (ctypes.c_char_p * len(names))(*(name.encode() for name in names))


def _list(values: list[Pointer]) -> Any:
    return (Pointer * len(values))(*values)


def _load(path: Path) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise EngineError(
            f"ONNX Runtime cannot be loaded here ({error}).",
            _WINDOWS_NEEDS if sys.platform == "win32" else _OTHERS_NEED,
        ) from error


@cache
def library() -> Library:
    """Return the library, loaded once. Raises `EngineError` where there is none that works."""
    path = native.library("onnxruntime")
    if path is None:
        raise EngineError("The engine that speaks is missing here.", _OTHERS_NEED)
    return Library(path, processors.count())
