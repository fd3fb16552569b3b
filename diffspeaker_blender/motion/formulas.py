# SPDX-License-Identifier: GPL-3.0-or-later
"""Formulas of correctives: read safely, worked out over whole curves.

A corrective's weight follows from the weights of other shapes: "4*jawOpen*(1-jawOpen)". The words
are names of shapes, numbers, + - * / and a few functions: what Blender evaluates in a driver
without Python, and nothing more, so a file from elsewhere can do no harm.

Legend: `F` frames, `K` shapes.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

LONGEST = 255
"""Characters that Blender keeps of a driver's expression."""

_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "min": lambda *values: np.minimum.reduce(np.broadcast_arrays(*values)),
    "max": lambda *values: np.maximum.reduce(np.broadcast_arrays(*values)),
    "abs": np.abs,
}
_OPERATORS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.divide,
}


@lru_cache(maxsize=512)
def _parsed(formula: str) -> ast.expr:
    """Return a formula's tree. Raises ValueError for anything but the words above."""
    if len(formula) > LONGEST:
        raise ValueError(f"a formula has more than {LONGEST} characters")
    try:
        tree = ast.parse(formula, mode="eval").body
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError(f"{formula!r} is no formula") from error
    for node in ast.walk(tree):
        allowed = isinstance(node, ast.BinOp | ast.Name | ast.operator | ast.unaryop | ast.Load)
        allowed |= isinstance(node, ast.Constant) and type(node.value) in (int, float)
        allowed |= isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd)
        if isinstance(node, ast.Call):
            allowed = isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS
            allowed &= bool(node.args) and not node.keywords
        if isinstance(node, ast.BinOp):
            allowed = type(node.op) in _OPERATORS
        if not allowed:
            raise ValueError(f"{formula!r} says more than a formula may")
    return tree


@lru_cache(maxsize=512)
def words(formula: str) -> tuple[str, ...]:
    """Return the names of the shapes that a formula reads. Raises ValueError for no formula."""
    names = [node.id for node in ast.walk(_parsed(formula)) if isinstance(node, ast.Name)]
    return tuple(dict.fromkeys(name for name in names if name not in _FUNCTIONS))


def evaluate(formula: str, columns: Mapping[str, Any]) -> Any:
    """Return a formula's values over columns (F,). Raises ValueError, KeyError for a name."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.nan_to_num(_value(_parsed(formula), columns), posinf=0.0, neginf=0.0)


def _value(node: ast.expr, columns: Mapping[str, Any]) -> Any:
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name):
        return columns[node.id]
    if isinstance(node, ast.UnaryOp):
        inner = _value(node.operand, columns)
        return -inner if isinstance(node.op, ast.USub) else inner
    if isinstance(node, ast.BinOp):
        return _OPERATORS[type(node.op)](_value(node.left, columns), _value(node.right, columns))
    assert isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    return _FUNCTIONS[node.func.id](*(_value(argument, columns) for argument in node.args))


def derived(weights: Floats, names: tuple[str, ...], formulas: tuple[str, ...]) -> Floats:
    """Return weights (F, K) in which every shape with a formula weighs what that says."""
    if not any(formulas):
        return weights
    columns = {name: weights[:, k] for k, name in enumerate(names) if not formulas[k]}
    found = weights.copy()
    for k, formula in enumerate(formulas):
        if formula:
            found[:, k] = evaluate(formula, columns)
    return found
