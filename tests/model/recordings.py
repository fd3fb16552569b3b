# SPDX-License-Identifier: GPL-3.0-or-later
"""Small made-up data sets in every layout, with audio that the motion can be learned from."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import soundfile

from model.data import dataset, layouts

CONTROLS = ("jawOpen", "mouthClose", "eyeBlinkLeft")
VERTICES = 12


def babble(seconds: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return noise (n,) whose loudness comes and goes, and that loudness at 60 Hz."""
    random = np.random.default_rng(seed)
    loud = np.clip(np.sin(np.linspace(0, seconds * 9 + seed, round(seconds * 60))), 0, 1)
    count = round(seconds * 16_000)
    envelope = np.interp(np.arange(count) / 16_000, np.arange(len(loud)) / 60, loud)
    return (envelope * random.normal(0, 0.1, count)).astype(np.float32), loud.astype(np.float32)


def controls(folder: Path, clips: int = 8, seconds: float = 1.6) -> Path:
    """Write our own layout with control curves; every fourth clip is for validation."""
    (folder / "audio").mkdir(parents=True)
    entries = []
    for index in range(clips):
        length = seconds + 0.1 * (index % 3)
        samples, loud = babble(length, index)
        curves = np.stack([loud, 1 - loud, np.zeros_like(loud)], 1)[::2].astype(np.float16)
        soundfile.write(folder / "audio" / f"{index}.wav", samples, 16_000)
        np.save(folder / f"{index}.npy", curves)
        entries.append(
            {
                "name": f"clip{index}",
                "audio": f"audio/{index}.wav",
                "motion": f"{index}.npy",
                "subject": f"s{index % 2}",
                "style": index % 2,
                "split": "validation" if index % 4 == 3 else "train",
            }
        )
    dataset.write_manifest(
        folder,
        entries,
        motion="controls",
        fps=30,
        styles=("calm", "lively"),
        controls=CONTROLS,
    )
    return folder


def vocaset(folder: Path, sentences: int = 2, seconds: float = 1.0) -> Path:
    """Write VOCASET's layout: 60 fps, a Python-2 style pickle of templates, FLAME_masks.pkl."""
    (folder / "wav").mkdir(parents=True)
    (folder / "vertices_npy").mkdir()
    facts = layouts.VOCASET
    templates = {}
    for number, subject in enumerate((*facts.train, *facts.validation, *facts.test)):
        random = np.random.default_rng(number)
        templates[subject] = random.normal(0, 0.05, (VERTICES, 3))
        for sentence in range(21, 21 + sentences):
            samples, loud = babble(seconds, 100 * number + sentence)
            motion = np.repeat(templates[subject][None], len(loud), 0)
            motion[:, :4, 1] += 0.004 * loud[:, None]
            motion[:, 6:, 2] += 0.001 * loud[::-1, None]
            stem = f"{subject}_sentence{sentence:02d}"
            soundfile.write(folder / "wav" / f"{stem}.wav", samples, 16_000)
            flat = motion.reshape(len(loud), -1).astype(np.float32)
            np.save(folder / "vertices_npy" / f"{stem}.npy", flat)
    with (folder / "templates.pkl").open("wb") as file:
        pickle.dump(templates, file, protocol=2)
    masks = {
        "lips": np.arange(4),
        "forehead": np.arange(6, 9),
        "eye_region": np.arange(8, 12),
    }
    with (folder / "FLAME_masks.pkl").open("wb") as file:
        pickle.dump(masks, file, protocol=2)
    return folder
