# SPDX-License-Identifier: GPL-3.0-or-later
"""Formulas of correctives: worked out over curves, refused where they say more than that."""

from __future__ import annotations

import numpy as np
import pytest

from diffspeaker_blender.motion import formulas
from model.rig.shapes import FORMULAS
from model.rig.shapes import evaluate as in_the_worker


def test_the_workers_formulas_mean_the_same_here() -> None:
    """Both sides work every formula of the rig out alike, rest and full strength included."""
    names = sorted({word for one in FORMULAS.values() for word in formulas.words(one)})
    random = np.random.default_rng(1)
    poses = np.concatenate([np.zeros((1, len(names))), np.ones((1, len(names))),
                            random.random((50, len(names)))]).astype(np.float32)  # fmt: skip
    columns = dict(zip(names, poses.T, strict=True))
    for formula in FORMULAS.values():
        np.testing.assert_allclose(
            formulas.evaluate(formula, columns), in_the_worker(formula, columns), atol=1e-6
        )


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "jawOpen.__class__",
        "jawOpen**2",
        "min(a, key=b)",
        "eval('1')",
        "[jawOpen]",
        "lambda: 1",
        "'text'",
        "a if b else c",
        "",
        "a+" * 200 + "a",
        "(" * 400 + "a" + ")" * 400,
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    """A file from elsewhere cannot say more than a formula."""
    with pytest.raises(ValueError):
        formulas.words(text)


def test_derived_weights_replace_what_was_there() -> None:
    """Columns with a formula follow the others, and a division by nothing is nothing."""
    weights = np.array([[0.0, 9.0, 9.0], [0.5, 9.0, 9.0]], np.float32)
    found = formulas.derived(weights, ("a", "b", "c"), ("", "4*a*(1-a)", "a/a"))
    np.testing.assert_allclose(found, [[0, 0, 0], [0.5, 1, 1]], atol=1e-6)
