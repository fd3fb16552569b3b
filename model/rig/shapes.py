"""Named shapes that add up, for a rig that does not: correctives, bounded weights, details.

A jaw and lids rotate and lips seal at any jaw opening, while shape keys only add.  So the
controls' own shapes get company: *correctives* that take over what the sum misses ("jawOpen.half"
is an in-between, "mouthClose.rest" shuts lips that are parted at rest) and, last, unnamed
*details* of one clip.

The controls' own shapes keep their meaning: each weighs exactly what its control says.  The
exception is `mouthClose`, which as a shape is ARKit's: it undoes the lips' opening of a full
jawOpen, so it weighs seal × jawOpen, and an animator who drags both to the same value gets shut
lips.

Legend: `F` frames, `K` shapes, `A` active vertices, `N` = 3 A coordinates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Evaluate = Callable[[Array], Array]
Columns = dict[str, Array]

LIP_MODES = 16
"""Correctives of the lips that have no formula: main directions of what the formulas leave."""

HEADROOM = 2.0
"""How much further than in the samples those correctives reach at weight 1."""

SAMPLES = 480
"""Random poses from which correctives are learnt."""

BOUND = 1.0
"""Correctives may weigh −1 to 1; the controls' own shapes 0 to 1."""


@dataclass(frozen=True)
class ShapeSet:
    """Named shapes over the active vertices of one rig."""

    names: tuple[str, ...]
    """Controls, then correctives."""
    shapes: Array
    """Canonical offsets (K, N)."""
    controls: int
    """How many of them are the controls' own."""

    @property
    def own(self) -> Array:
        """The controls' own shapes (C, N)."""
        return self.shapes[: self.controls]

    @property
    def correctives(self) -> Array:
        """The others (K − C, N)."""
        return self.shapes[self.controls :]


def as_columns(controls: Array, names: tuple[str, ...]) -> Columns:
    """Split controls (F, C) into named columns (F,), clipped to 0..1."""
    return {name: np.clip(controls[:, k], 0, 1) for k, name in enumerate(names)}


def own_weights(columns: Columns) -> Array:
    """Weights (F, C) of the controls' own shapes: the controls, with mouthClose as ARKit's."""
    weights = np.stack(list(columns.values()), axis=1)
    weights[:, list(columns).index("mouthClose")] *= columns["jawOpen"]
    return weights


def mouth_formulas(c: Columns) -> Columns:
    """Correctives of jaw and lips whose weights follow from the controls: name → weight (F,)."""
    jaw, seal, tuck = c["jawOpen"], c["mouthClose"], c["lipTuck"]
    pucker, funnel = c["mouthPucker"], c["mouthFunnel"]
    return {
        "jawOpen.half": 4 * jaw * (1 - jaw),
        "mouthClose.half": 4 * seal * jaw * (1 - jaw),
        "mouthClose.rest": seal * (1 - jaw),
        "mouthFunnel.close": funnel * seal,
        "mouthPucker.half": 4 * pucker * (1 - pucker),
        "mouthPucker.jaw": pucker * jaw,
        "mouthPucker.funnel": pucker * funnel,
        "lipTuck.jaw": tuck * jaw,
        "lipTuck.half": 4 * tuck * jaw * (1 - jaw),
        "lipTuck.close": tuck * seal,
    }


def eye_formulas(c: Columns, side: str) -> Columns:
    """Correctives of one eye: half-way of its turns, and what the lids do together."""
    blink, squint = c[f"eyeBlink{side}"], c[f"eyeSquint{side}"]
    up, down = c[f"eyeLookUp{side}"], c[f"eyeLookDown{side}"]
    out, inwards = c[f"eyeLookOut{side}"], c[f"eyeLookIn{side}"]
    aside, level = out + inwards, up + down
    return {
        f"eyeBlink{side}.half": 4 * blink * (1 - blink),
        f"eyeBlink{side}.squint": blink * squint,
        f"eyeBlink{side}.wide": blink * c[f"eyeWide{side}"],
        f"eyeBlink{side}.look": blink * (down - up),
        f"eyeLookOut{side}.half": 4 * aside * (1 - aside),
        f"eyeLookUp{side}.half": 4 * level * (1 - level),
        f"eyeLookUp{side}.aside": (up - down) * (out - inwards),
    }


def start(columns: Columns, names: tuple[str, ...]) -> Array:
    """First guess (F, correctives) of the corrective weights, by formula where there is one."""
    known = mouth_formulas(columns)
    for side in ("Left", "Right"):
        known |= eye_formulas(columns, side)
    nothing = np.zeros_like(columns["jawOpen"])
    guess = [known.get(name, nothing) for name in names[len(columns) :]]
    return np.clip(np.stack(guess, axis=1), -BOUND, BOUND)


def build_shapes(evaluate: Evaluate, names: tuple[str, ...], groups: list[Array]) -> ShapeSet:
    """Make the named shapes of a rig.

    `evaluate` turns controls (F, C) into canonical offsets (F, A, 3); `groups` are the active
    vertices of the left eye, the right eye and the rest.
    """
    single = np.eye(len(names), dtype=np.float32)
    own = evaluate(single).reshape(len(names), -1)
    jaw, close = names.index("jawOpen"), names.index("mouthClose")
    own[close] = evaluate((single[jaw] + single[close])[None]).ravel() - own[jaw]
    poses = random_poses(names, SAMPLES)
    columns = as_columns(poses, names)
    rest = evaluate(poses).reshape(SAMPLES, -1) - own_weights(columns) @ own
    found: list[tuple[tuple[str, ...], Array]] = []
    formulas = [eye_formulas(columns, "Left"), eye_formulas(columns, "Right")]
    for vertices, formula in zip(groups, [*formulas, mouth_formulas(columns)], strict=True):
        coordinates = (3 * vertices[:, None] + np.arange(3)).ravel()
        weights, part = np.stack(list(formula.values()), axis=1), rest[:, coordinates]
        shapes = _regress(weights, part)
        labels = tuple(formula)
        if "jawOpen.half" in formula:
            modes = HEADROOM * main_directions(part - weights @ shapes, LIP_MODES)
            labels += tuple(f"mouthClose.lips{k + 1:02d}" for k in range(len(modes)))
            shapes = np.concatenate([shapes, modes])
        spread = np.zeros((len(shapes), rest.shape[1]), dtype=np.float32)
        spread[:, coordinates] = shapes
        found.insert(0 if "jawOpen.half" in formula else len(found), (labels, spread))
    corrective_names = tuple(name for labels, _ in found for name in labels)
    stacked = np.concatenate([own, *(shapes for _, shapes in found)]).astype(np.float32)
    return ShapeSet(names + corrective_names, stacked, len(names))


def _regress(weights: Array, targets: Array) -> Array:
    """Return the shapes (K, N) for which weights (S, K) come nearest to targets (S, N)."""
    gram = weights.T @ weights
    gram[np.diag_indices_from(gram)] += 1e-4 * np.trace(gram) / len(gram) + 1e-9
    return np.asarray(np.linalg.solve(gram, weights.T @ targets), dtype=np.float32)


def main_directions(residual: Array, count: int) -> Array:
    """Return the main directions (count, N) of residual (S, N), scaled to weigh at most 1 there."""
    values, vectors = np.linalg.eigh((residual @ residual.T).astype(np.float64))
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
    put("jawOpen", 0.8 * random.random(count) ** 1.4 * (1 - 0.5 * seal))
    put("lipTuck", often_full(0.35) * (1 - 0.6 * seal))
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
