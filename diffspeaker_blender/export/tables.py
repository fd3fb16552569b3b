# SPDX-License-Identifier: GPL-3.0-or-later
"""Curves as tables: CSV for spreadsheets and engines, JSON for programs."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np

from .stand_ins import Baked


def write_csv(path: Path, baked: list[Baked], first: int, fps: float) -> None:
    """Write one row a frame: frame, seconds from the first, and one column a shape key."""
    several = len(baked) > 1
    names = [f"{one.object_name}:{n}" if several else n for one in baked for n in one.names]
    values = np.concatenate([one.values for one in baked], 1)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["frame", "seconds", *names])
        for row, weights in enumerate(values):
            writer.writerow([first + row, f"{row / fps:.6f}", *(f"{w:.6g}" for w in weights)])


def write_json(path: Path, baked: list[Baked], first: int, fps: float) -> None:
    """Write the same as JSON: frames a second, first frame, and names and weights of each mesh."""
    heads = [
        {
            "object": one.object_name,
            "names": list(one.names),
            "weights": [[round(float(w), 6) for w in row] for row in one.values],
        }
        for one in baked
    ]
    content = {"format": "diffspeaker-curves", "version": 1, "fps": fps, "first_frame": first}
    path.write_text(json.dumps({**content, "heads": heads}), encoding="utf-8")
