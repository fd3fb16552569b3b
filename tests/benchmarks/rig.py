# SPDX-License-Identifier: GPL-3.0-or-later
"""Time the rig: derivation, named shapes, evaluation and solving, on one core.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.rig

Prints one line per head, in processor time: seconds to derive, seconds for its named shapes,
milliseconds per frame to evaluate and to solve 10 s of speech-like motion at 30 fps, and the
largest errors.
"""

from __future__ import annotations

import time

import numpy as np

from model.rig.controls import CONTROLS
from model.rig.rig import Rig
from model.rig.shapes import random_poses
from tests.model.heads import ASSET, Mesh, demo_head, flame_head
from tests.shared import SHARED

FRAMES = 300


def wandering(frames: int) -> np.ndarray:
    """Controls (F, C) that glide between random speech-like poses, five a second."""
    keys = random_poses(CONTROLS, frames // 6 + 2)
    place = np.arange(frames) / 6
    before, share = place.astype(int), (place % 1)[:, None]
    share = share * share * (3 - 2 * share)
    return keys[before] * (1 - share) + keys[before + 1] * share


def report(name: str, mesh: Mesh) -> None:
    """Print the timings of one head."""
    start = time.process_time()
    rig = Rig(*mesh)
    derived = time.process_time()
    rig.named_shapes()
    shaped = time.process_time()
    controls = wandering(FRAMES)
    rig.evaluate(controls)
    evaluated = time.process_time()
    named = rig.fit(controls, detail=False)
    replayed = time.process_time()
    full = rig.fit(controls)
    solved = time.process_time()
    print(
        f"{name:6s} derive {derived - start:.2f} s, shapes {shaped - derived:.2f} s, "
        f"evaluate {(evaluated - shaped) / FRAMES * 1e3:.2f} ms, "
        f"named {(replayed - evaluated) / FRAMES * 1e3:.2f} ms "
        f"({named.errors.max() * 1e3:.2f} mm), "
        f"with {len(full.names) - len(named.names)} details "
        f"{(solved - replayed) / FRAMES * 1e3:.2f} ms ({full.errors.max() * 1e3:.3f} mm)"
    )


def main() -> None:
    """Time the demo head, and FLAME's sample where it is present."""
    if ASSET.exists():
        report("demo", demo_head())
    if (SHARED / "data/flame/FLAME_sample.ply").exists():
        report("flame", flame_head())


if __name__ == "__main__":
    main()
