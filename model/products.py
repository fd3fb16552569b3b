# SPDX-License-Identifier: GPL-3.0-or-later
"""Matrix products as fast on every machine.

Official Blenders build numpy without a fast BLAS. The engine that came along has fast products
of its own, so it multiplies what is large.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from . import native
from .errors import EngineError

if TYPE_CHECKING:
    from .network.engines.onnx_runtime import Session

Array = NDArray[np.float32]

LARGE = 4_000_000  # multiplications from which the way to the engine and back does not count


def product(left: Array, right: Array) -> Array:
    """Return left (m, k) times right (k, n), both float32."""
    size = left.shape[0] * left.shape[1] * right.shape[1]
    engine = _engine() if size >= LARGE else None
    if engine is None or left.dtype != np.float32 or right.dtype != np.float32:
        return np.asarray(left @ right)
    return engine.run({"left": left, "right": right}, ["product"])[0]


@cache
def _engine() -> Session | None:
    """Return what multiplies, None where no engine came along."""
    if native.library("onnxruntime") is None:
        return None
    from .network.engines import onnx_runtime
    from .network.engines.onnx_graph import Graph

    graph = Graph({})
    out = graph.add("MatMul", graph.input("left", "m", "k"), graph.input("right", "k", "n"))
    graph.output("product", out, "m", "n")
    try:
        return onnx_runtime.library().session(graph.to_bytes())
    except EngineError:  # said where the engine is needed; numpy multiplies, too
        return None
