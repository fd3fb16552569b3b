# SPDX-License-Identifier: GPL-3.0-or-later
"""Count keys and measure errors of every form in which a line is written, and time the writing.

    BPY_PYTHON -m tests.benchmarks.keys LINE.npz ...

Each LINE.npz comes from `python -m model generate SPEECH.wav LINE.npz` (with details), for the demo
head. Errors are distances on the lips from the rig's own motion, in millimetres: at 95 of 100
frames, and at most.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from diffspeaker_blender.motion import keys
from diffspeaker_blender.motion.formulas import derived
from diffspeaker_blender.motion.keys import Recipe
from diffspeaker_blender.motion.motion import Adjustments, Motion, load
from diffspeaker_blender.motion.sparse import played

FORMS = (
    ("named, few keys, 0.5 mm", "named", 0.5),
    ("named, few keys, 1 mm", "named", 1.0),
    ("named, every frame", "named", 0.0),
    ("exact", "exact", 0.0),
    ("compact", "compact", 0.0),
)
UNIT = 1000.0  # millimetres of the demo head's unit


def without_details(motion: Motion) -> Motion:
    """Return a motion as Named Controls asks for it."""
    kept = [k for k, name in enumerate(motion.names) if not name.startswith("detail.")]
    return replace(
        motion,
        weights=motion.weights[:, kept],
        shapes=motion.shapes[kept],
        names=tuple(motion.names[k] for k in kept),
        formulas=tuple(motion.formulas[k] for k in kept),
    )


def errors(exact: Motion, shaped: Any) -> np.ndarray:
    """Return how far the lips are off at each frame (F,), in millimetres."""
    assert exact.regions is not None
    lips = np.flatnonzero(exact.regions[exact.region_names.index("lips")] > 0.5)
    curves = [played(curve, shaped.frames) for curve in shaped.curves]
    placed = shaped.placed
    weights = derived(np.stack(curves, 1).astype(np.float32), placed.names, placed.formulas)
    flat = placed.shapes[:, lips].reshape(len(placed.shapes), -1)
    wanted = exact.weights @ exact.shapes[:, lips].reshape(len(exact.shapes), -1)
    off = (weights @ flat - wanted).reshape(len(weights), -1, 3)
    return np.linalg.norm(off, axis=2).max(1) * UNIT


def report(path: Path) -> None:
    """Print a line of numbers for each form."""
    exact = load(path)
    print(f"{path.stem}: {exact.frames / exact.fps:.1f} s")
    for title, mode, tolerance in FORMS:
        motion = without_details(exact) if mode == "named" else exact
        recipe = Recipe(mode, tolerance, 0.0, exact.fps, UNIT, Adjustments())
        began = time.perf_counter()
        shaped = keys.shape(motion, recipe)
        took = time.perf_counter() - began
        seconds, counts = exact.frames / exact.fps, [len(c) for c in shaped.curves if len(c)]
        off = errors(exact, shaped)
        print(
            f"  {title:24s} {len(counts):3d} curves, {sum(counts) / seconds:6.0f} keys/s, "
            f"busiest {max(counts) / seconds:4.1f}/s, error {np.percentile(off, 95):.2f} / "
            f"{off.max():.2f} mm, {took:.2f} s{writing(motion, mode, tolerance, shaped)}"
        )


def writing(motion: Motion, mode: str, tolerance: float, shaped: Any) -> str:
    """Return how long Blender takes to write the keys, "" without Blender."""
    try:
        import bpy
    except ImportError:
        return ""
    from diffspeaker_blender.animation import clips
    from diffspeaker_blender.character.demo_head import add_demo_head

    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.context.scene.render.fps = round(motion.fps)
    face = add_demo_head(bpy.context)
    turned = np.stack([motion.shapes[..., 0], -motion.shapes[..., 2], motion.shapes[..., 1]], 2)
    motion = replace(motion, shapes=np.ascontiguousarray(turned))
    clips.apply_motion(face, motion, clip="a", mode=mode, tolerance=tolerance, start_frame=0)
    began = time.perf_counter()
    clips.adjust_clip(face, "a", Adjustments(jaw=0.9))
    again = time.perf_counter() - began
    frames = min(len(shaped.frames), 240)
    began = time.perf_counter()
    for frame in range(frames):
        bpy.context.scene.frame_set(frame)
    shown = (time.perf_counter() - began) / frames
    return f"; slider to curves {again:.2f} s; a frame {shown * 1e3:.1f} ms"


def main() -> None:
    """Report every file that is named."""
    for name in sys.argv[1:]:
        report(Path(name))
    sys.stdout.flush()


if __name__ == "__main__":
    main()
