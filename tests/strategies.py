# SPDX-License-Identifier: GPL-3.0-or-later
"""Generated inputs for the property tests: motions that talk, on small and quick meshes."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from diffspeaker_blender.motion.motion import Motion

CONTROLS = ("jawOpen", "mouthClose", "mouthPucker", "mouthSmileLeft", "browInnerUp", "eyeBlinkLeft")


def talking(
    seed: int,
    frames: int = 90,
    fps: float = 30.0,
    vertices: int = 24,
    closures: tuple[int, ...] = (),
    life_size: float = 0.004,
    hurry: float = 1.0,
) -> Motion:
    """Return a named motion of smooth curves, shut at rows `closures`.

    `mouthClose` undoes the jaw at vertex 0, as the seal of a real head does.
    """
    random = np.random.default_rng(seed)
    time = np.arange(frames)[:, None] / fps
    rates = hurry * random.uniform(1, 5, (1, len(CONTROLS)))
    controls = 0.5 - 0.5 * np.cos(2 * np.pi * (rates * time + random.random((1, len(CONTROLS)))))
    controls *= random.uniform(0.3, 1.0, (1, len(CONTROLS)))
    controls[:, 0] += 0.1
    controls[:, 1] = 0.0
    for row in closures:
        if row < frames:
            controls[row, 1] = 1.0
    weights = controls.copy()
    weights[:, 1] = controls[:, 0] * controls[:, 1]
    shapes = random.normal(0, life_size, (len(CONTROLS), vertices, 3))
    shapes[1, 0] = -shapes[0, 0]
    shapes[2:, 0] = 0.0
    return Motion(
        weights=weights.astype(np.float32),
        shapes=shapes.astype(np.float32),
        names=CONTROLS,
        fps=fps,
        controls=controls.astype(np.float32),
        control_names=CONTROLS,
    )


@st.composite
def motions(draw: st.DrawFn, **fixed: object) -> Motion:
    """Draw a talking motion; keyword arguments of `talking` may be fixed."""
    frames = draw(st.integers(2, 120))
    chosen = {
        "seed": draw(st.integers(0, 2**31)),
        "frames": frames,
        "fps": draw(st.sampled_from((25.0, 30.0, 60.0))),
        "closures": tuple(draw(st.lists(st.integers(0, frames - 1), max_size=5))),
    }
    return talking(**{**chosen, **fixed})  # type: ignore[arg-type]


scene_rates = st.sampled_from((23.976, 24.0, 25.0, 29.97, 30.0, 48.0, 59.94, 60.0))
"""Frames per second of scenes, `fps_base` included."""

tolerances = st.floats(0.05e-3, 2e-3)
"""Metres that thinning may cost."""
