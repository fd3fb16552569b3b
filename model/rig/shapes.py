# SPDX-License-Identifier: GPL-3.0-or-later
"""Named shapes that add up, for a rig that does not: primaries, and correctives by formula.

A jaw and lids rotate and lips seal at any jaw opening, while shape keys only add.  So the
controls' own shapes, the *primaries*, get company: *correctives* that take over what their sum
misses ("jawOpen.half" is an in-between, "mouthLowerDown.close" keeps sealed lips shut while the
lower lip is drawn down).  A corrective has no life of its own: its weight is a formula of the
primaries' weights, in words that a Blender driver evaluates without Python.  An animator's curves
are the primaries alone; whatever is done to them, the correctives agree.

The primaries keep their meaning: each weighs exactly what its control says.  The exception is
`mouthClose`, which as a shape is ARKit's: it undoes the lips' opening of a full jawOpen, so it
weighs seal × jawOpen, and an animator who drags both to the same value gets shut lips.  Formulas
read the seal back as mouthClose over jawOpen; a jaw behind sealed lips therefore hangs by at least
`HANG`.

Legend: `F` frames, `K` shapes, `A` active vertices, `N` = 3 A coordinates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..products import product

Array = NDArray[np.float32]
Evaluate = Callable[[Array], Array]

SAMPLES = 640
"""Random poses from which correctives are learnt."""

HANG = 0.01
"""Least jawOpen behind sealed lips (0.2° of the jaw)."""

SEAL = f"min(mouthClose/max(jawOpen,{HANG}),1)"
"""How far the lips are sealed, 0..1, as the primaries' weights tell it."""

_OPEN = f"(1-{SEAL})"
_ROUND = "mouthPucker*(1-.6*mouthFunnel)"  # rounding purses the lips from the corners


def _both(name: str) -> str:
    return f".5*({name}Left+{name}Right)"


MOUTH: dict[str, str] = {
    "jawOpen.half": "4*jawOpen*(1-jawOpen)",
    "mouthClose.half": "4*mouthClose*(1-jawOpen)",
    "mouthClose.rest": f"{SEAL}*(1-jawOpen)",
    "mouthFunnel.close": f"mouthFunnel*{SEAL}",
    "mouthPucker.close": f"mouthPucker*{SEAL}",
    "mouthLowerDown.close": f"{_both('mouthLowerDown')}*{SEAL}",
    "mouthUpperUp.close": f"{_both('mouthUpperUp')}*{SEAL}",
    "mouthStretch.close": f"{_both('mouthStretch')}*{SEAL}",
    "mouthSmile.close": f"{_both('mouthSmile')}*{SEAL}",
    "mouthRollLower.close": f"mouthRollLower*{SEAL}",
    "mouthRollUpper.close": f"mouthRollUpper*{SEAL}",
    "mouthShrugLower.close": f"mouthShrugLower*{SEAL}",
    "mouthShrugUpper.close": f"mouthShrugUpper*{SEAL}",
    "mouthPucker.round": f"{_ROUND}*{_OPEN}",
    "mouthPucker.jaw": f"jawOpen*{_ROUND}*{_OPEN}",
    "mouthPucker.lowerDown": f"{_both('mouthLowerDown')}*{_ROUND}*{_OPEN}",
    "mouthPucker.upperUp": f"{_both('mouthUpperUp')}*{_ROUND}*{_OPEN}",
    "mouthPucker.funnel": f"mouthFunnel*{_ROUND}*{_OPEN}",
    "lipTuck.half": "4*lipTuck*(1-lipTuck)",
    "lipTuck.close": f"lipTuck*{SEAL}",
    "lipTuck.jaw": f"jawOpen*lipTuck*{_OPEN}",
    "lipTuck.wide": f"min(jawOpen,.3)*lipTuck*{_OPEN}",
    "lipTuck.pucker": f"mouthPucker*lipTuck*{_OPEN}",
    "lipTuck.round": f"jawOpen*lipTuck*{_ROUND}*{_OPEN}",
    "lipTuck.funnel": f"mouthFunnel*lipTuck*{_OPEN}",
    "lipTuck.stretch": f"{_both('mouthStretch')}*lipTuck*{_OPEN}",
    "lipTuck.smile": f"{_both('mouthSmile')}*lipTuck*{_OPEN}",
    "lipTuck.lowerDown": f"{_both('mouthLowerDown')}*lipTuck*{_OPEN}",
    "lipTuck.rollLower": f"mouthRollLower*lipTuck*{_OPEN}",
}
"""Correctives of jaw and lips, and their formulas."""

_EYE: dict[str, str] = {
    "eyeBlink.half": "4*{blink}*(1-{blink})",
    "eyeBlink.squint": "{blink}*{squint}",
    "eyeBlink.wide": "{blink}*{wide}",
    "eyeBlink.down": "{blink}*{down}",
    "eyeBlink.up": "{blink}*{up}",
    "eyeLookOut.half": "4*({out}+{into})*(1-{out}-{into})",
    "eyeLookUp.half": "4*({up}+{down})*(1-{up}-{down})",
    "eyeLookUp.aside": "({up}-{down})*({out}-{into})",
}
_EYE_WORDS = {
    "blink": "eyeBlink", "squint": "eyeSquint", "wide": "eyeWide", "up": "eyeLookUp",
    "down": "eyeLookDown", "out": "eyeLookOut", "into": "eyeLookIn",
}  # fmt: skip


def eye_formulas(side: str) -> dict[str, str]:
    """Return correctives of one eye: half-way of its turns, and what the lids do together."""
    words = {word: name + side for word, name in _EYE_WORDS.items()}
    return {
        name.replace(".", f"{side}."): formula.format(**words) for name, formula in _EYE.items()
    }


FORMULAS: dict[str, str] = MOUTH | eye_formulas("Left") | eye_formulas("Right")
"""Every corrective and its formula, in the order of the shapes."""


@dataclass(frozen=True)
class ShapeSet:
    """Named shapes over the active vertices of one rig."""

    names: tuple[str, ...]
    """Primaries, then correctives."""
    shapes: Array
    """Canonical offsets (K, N)."""


def shape_weights(controls: Array, names: tuple[str, ...]) -> Array:
    """Return the weights (F, K) of primaries and correctives that controls (F, C) ask for.

    `names` are the controls'.  Between 0 and 1, but for gaze where two turns are combined.
    """
    weights = np.clip(controls, 0, 1)
    jaw, close = names.index("jawOpen"), names.index("mouthClose")
    weights[:, jaw] = np.maximum(weights[:, jaw], HANG * weights[:, close])
    weights[:, close] *= weights[:, jaw]
    columns = {name: weights[:, k] for k, name in enumerate(names)}
    derived = [evaluate(formula, columns) for formula in FORMULAS.values()]
    return np.concatenate([weights, np.stack(derived, axis=1)], axis=1).astype(np.float32)


def evaluate(formula: str, columns: dict[str, Array]) -> Array:
    """Return one of `FORMULAS` over whole columns (F,)."""
    words = {"min": np.minimum, "max": np.maximum, "__builtins__": {}}
    return np.asarray(eval(formula, words, columns), np.float32)


def build_shapes(exact: Evaluate, names: tuple[str, ...], groups: list[Array]) -> ShapeSet:
    """Make the named shapes of a rig.

    `exact` turns controls (F, C) into canonical offsets (F, A, 3); `groups` are the active
    vertices of the left eye, the right eye and the rest.
    """
    single = np.eye(len(names), dtype=np.float32)
    own = exact(single).reshape(len(names), -1)
    jaw, close = names.index("jawOpen"), names.index("mouthClose")
    own[close] = exact((single[jaw] + single[close])[None]).ravel() - own[jaw]
    poses = random_poses(names, SAMPLES)
    weights = shape_weights(poses, names)
    rest = exact(poses).reshape(SAMPLES, -1) - weights[:, : len(names)] @ own
    known = list(FORMULAS)
    shapes = np.zeros((len(known), rest.shape[1]), dtype=np.float32)
    for vertices, family in zip(
        groups, (eye_formulas("Left"), eye_formulas("Right"), MOUTH), strict=True
    ):
        coordinates = (3 * vertices[:, None] + np.arange(3)).ravel()
        rows = [known.index(name) for name in family]
        columns = weights[:, [len(names) + row for row in rows]]
        found = np.zeros((len(rows), rest.shape[1]), dtype=np.float32)
        found[:, coordinates] = _regress(columns, rest[:, coordinates])
        shapes[rows] = found
    return ShapeSet(names + tuple(known), np.concatenate([own, shapes]).astype(np.float32))


def _regress(weights: Array, targets: Array) -> Array:
    """Return the shapes (K, N) for which weights (S, K) come nearest to targets (S, N)."""
    gram = weights.T @ weights
    gram[np.diag_indices_from(gram)] += 1e-4 * np.trace(gram) / len(gram) + 1e-9
    return np.asarray(np.linalg.solve(gram, weights.T @ targets), dtype=np.float32)


def main_directions(residual: Array, count: int) -> Array:
    """Return the main directions (count, N) of residual (S, N), scaled to weigh at most 1 there."""
    values, vectors = np.linalg.eigh(product(residual, residual.T).astype(np.float64))
    leading = vectors[:, ::-1][:, : min(count, len(values))].T
    directions = leading @ residual
    length = np.linalg.norm(directions, axis=1, keepdims=True)
    directions = directions / np.maximum(length, 1e-12)
    use = residual @ directions.T
    peak = use[np.abs(use).argmax(0), np.arange(use.shape[1])]
    return np.asarray(directions * peak[:, None], dtype=np.float32)


def random_poses(names: tuple[str, ...], count: int) -> Array:
    """Return speech-like random controls (count, C), the same each time."""
    random = np.random.default_rng(7)
    poses = np.zeros((count, len(names)))

    def some(chance: float, most: float = 1.0) -> NDArray[np.float64]:
        return random.random(count) * most * (random.random(count) < chance)

    def often_full(chance: float) -> NDArray[np.float64]:
        return np.minimum(some(chance, 1.6), 1.0)

    def put(name: str, values: NDArray[np.float64]) -> None:
        poses[:, names.index(name)] = np.clip(values, 0, 1)

    seal = often_full(0.4)
    put("mouthClose", seal)
    tuck = often_full(0.35) * (1 - 0.6 * seal)
    put("lipTuck", tuck)
    put("jawOpen", 0.8 * random.random(count) ** 1.4 * (1 - 0.5 * seal) * (1 - 0.5 * tuck))
    for name, chance, most in (
        ("mouthPucker", 0.45, 1.0), ("mouthFunnel", 0.4, 0.8), ("mouthRollLower", 0.15, 0.5),
        ("mouthRollUpper", 0.15, 0.5), ("mouthShrugLower", 0.2, 0.5),
        ("mouthShrugUpper", 0.15, 0.5), ("jawForward", 0.15, 0.5), ("cheekPuff", 0.1, 0.5),
    ):  # fmt: skip
        put(name, some(chance, most))
    for name, chance, most in (
        ("mouthStretch", 0.5, 0.8), ("mouthSmile", 0.3, 0.6), ("mouthLowerDown", 0.4, 0.5),
        ("mouthUpperUp", 0.3, 0.4), ("mouthPress", 0.3, 0.5), ("mouthFrown", 0.1, 0.5),
    ):  # fmt: skip
        both = some(chance, most)
        for side in ("Left", "Right"):
            put(name + side, both * random.uniform(0.75, 1.25, count))
    for side in ("Left", "Right"):
        put(f"eyeBlink{side}", some(0.6))
        put(f"eyeSquint{side}", some(0.4, 0.6))
        put(f"eyeWide{side}", some(0.3, 0.6))
        aside, level = random.normal(0, 0.3, count), random.normal(0, 0.3, count)
        for name, value in (("Out", aside), ("In", -aside), ("Up", level), ("Down", -level)):
            put(f"eyeLook{name}{side}", value)
    return poses.astype(np.float32)
