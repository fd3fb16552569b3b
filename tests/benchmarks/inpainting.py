# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure redone ranges and guided takes of the bundled model on its sample voice.

    python -m tests.benchmarks.inpainting

For each range: the largest jump of a vertex between two frames at its seams, beside the same jump
of a plain splice and those of the rest of the line (median, 95th percentile, largest), millimetres
on the demo head; then how far a hand-set key is missed, and what the curve does beside it.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from model.generation.generate import GenerateRequest, generate
from model.generation.session import Session
from model.motion import Motion
from tests.shared import ROOT

VOICE = str(ROOT / "model" / "samples" / "vivian.flac")
RANGES = ((40, 60), (80, 120), (150, 210), (20, 280))


def main() -> None:
    """Print the two tables."""
    session = Session("cpu")
    before = make(session)
    print(f"{before.frames} frames, {before.fps:g} a second")
    print("range    changes         seam   splice   median     95th  largest  kept changed by")
    for first, last in RANGES:
        for changes in ({"seed": 7}, {"seed": 3, "style": "energetic"}):
            print(row(session, before, first, last, changes))
    print("\nguide                     missed by (mm)   largest step beside it   without")
    for frame, name, value in ((50, "jawOpen", 0.8), (100, "mouthPucker", 0.7)):
        print(guided(session, before, frame, name, value))


def make(session: Session, **changes: Any) -> Motion:
    return generate(GenerateRequest(audio=VOICE, detail=False, **changes), session=session)


def kept(session: Session, before: Motion, mask: Any, controls: Any, **changes: Any) -> Motion:
    """Return a take that keeps the masked values."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "keep.npz"
        names = np.array(before.control_names)
        np.savez(path, controls=controls, names=names, mask=mask, fps=before.fps)
        return make(session, keep=str(path), **changes)


def row(session: Session, before: Motion, first: int, last: int, changes: dict[str, Any]) -> str:
    mask = np.ones(before.frames, bool)
    mask[first : last + 1] = False
    after = kept(session, before, mask, before.controls, **changes)
    free = make(session, **changes)
    plain = np.where(mask[:, None], before.weights, free.weights)
    jumps, spliced = steps(after), steps(replace(after, weights=plain))
    seams = [first - 1, last]
    rest = np.delete(jumps, seams)
    far = np.abs(after.controls - before.controls)[mask].max()
    words = " ".join(str(value) for value in changes.values())
    found = (jumps[seams].max(), spliced[seams].max(), *np.percentile(rest, [50, 95, 100]))
    numbers = "".join(f"{number:9.2f}" for number in found)
    return f"{first:3}-{last:3}  {words:12}{numbers}  {far:.1e}"


def guided(session: Session, before: Motion, frame: int, name: str, value: float) -> str:
    mask, wanted = np.zeros(before.controls.shape, bool), before.controls.copy()
    place = before.control_names.index(name)
    mask[frame, place], wanted[frame, place] = True, value
    after = kept(session, before, mask, wanted)
    column = after.names.index(name)
    reach = np.linalg.norm(after.shapes[column], axis=1).max()
    missed = 1e3 * abs(after.weights[frame, column] - value) * reach
    beside = np.abs(np.diff(after.controls[frame - 8 : frame + 9, place])).max()
    largest = np.abs(np.diff(before.controls[:, place])).max()
    what = f"{name} = {value} at {frame}"
    return f"{what:26}{missed:14.4f}{beside:25.3f}{largest:10.3f}"


def steps(motion: Motion) -> Any:
    """Return the largest move of a vertex from each frame to the next (F-1,), millimetres."""
    return 1e3 * np.linalg.norm(np.diff(motion.offsets(), axis=0), axis=2).max(1)


if __name__ == "__main__":
    main()
