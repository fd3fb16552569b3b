# SPDX-License-Identifier: GPL-3.0-or-later
"""Turn a training run's checkpoint into the bundled model, and list it with its hash.

``python build.py model bundle runs/bundled/last.safetensors`` writes half-precision
``weights/bundled.safetensors`` and ``weights/models.json``, which names every file that ships.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import torch

from ..errors import CheckpointError
from ..network import checkpoint
from ..network.spec import COMMERCIAL

WEIGHTS = Path(__file__).parents[1] / "weights"
MANIFEST = WEIGHTS / "models.json"
LARGEST = 40_000_000  # bytes that a repository should carry


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe ``python build.py model bundle``."""
    parser.add_argument("checkpoint", type=Path, help="the trained model to ship")
    parser.add_argument("--name", default="Bundled", help="what users see")
    parser.add_argument("--steps", type=int, default=0, help="denoising steps; 0 keeps the run's")


def run(arguments: argparse.Namespace) -> int:
    """Write the bundled model and its manifest."""
    trained = checkpoint.load(arguments.checkpoint)
    spec = replace(
        trained.spec,
        name=arguments.name,
        licence=COMMERCIAL,
        steps=arguments.steps or trained.spec.steps,
    )
    target = WEIGHTS / "bundled.safetensors"
    checkpoint.save(target, replace(trained, spec=spec), dtype=torch.float16)
    checkpoint.load(target)  # what ships must load
    if target.stat().st_size > LARGEST:
        raise CheckpointError(f"{target.name} is {target.stat().st_size / 1e6:.0f} MB, above 40")
    size = target.stat().st_size
    entry = {
        "name": spec.name,
        "licence": spec.licence,
        "bytes": size,
        "sha256": hashlib.sha256(target.read_bytes()).hexdigest(),
    }
    MANIFEST.write_text(json.dumps({target.name: entry}, indent=2) + "\n", encoding="utf-8")
    print(f"{target.name}: {size / 1e6:.1f} MB, sha256 {entry['sha256']}")
    return 0
