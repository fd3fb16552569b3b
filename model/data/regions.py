# SPDX-License-Identifier: GPL-3.0-or-later
"""Which vertices are lips and which are the upper face: read from a data set's companion files.

VOCASET: `FLAME_masks.pkl` (lips; forehead ∪ eye_region). BIWI: `regions/lve.txt` and
`regions/fdd.txt` (indices). Our own folder, or to replace either: `regions.json` with "lips" and
"upper", and optionally "opening" (the two vertices whose distance is the mouth's opening) and
"millimetres" (per unit of the data).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import DataError
from ..network.spec import BIWI_UNITS
from .dataset import read_pickle

VOCASET_MILLIMETRES = 1000.0  # the data are in metres
BIWI_MILLIMETRES = 1000 / BIWI_UNITS  # an estimate: a head 0.83 units wide is taken as 150 mm


@dataclass(frozen=True)
class Regions:
    """Vertex indices of a face's parts."""

    lips: npt.NDArray[np.int64]
    upper: npt.NDArray[np.int64]
    pair: tuple[int, int] | None = None  # above and below the mouth's opening
    millimetres: float | None = None  # per unit of the data set, where known
    estimated: bool = False  # whether that is an estimate

    def within(self) -> tuple[npt.NDArray[np.int64], Regions]:
        """Return all vertices of the regions, and the regions counted within those."""
        extra = np.asarray(self.pair or (), dtype=np.int64)
        kept = np.unique(np.concatenate([self.lips, self.upper, extra]))
        pair = None
        if self.pair:
            pair = (int(np.searchsorted(kept, self.pair[0])), int(kept.searchsorted(self.pair[1])))
        lips, upper = np.searchsorted(kept, self.lips), np.searchsorted(kept, self.upper)
        return kept, replace(self, lips=lips, upper=upper, pair=pair)


def read_regions(folder: Path, layout: str, given: Path | None = None) -> Regions:
    """Return the regions of a data set, or those of a file given instead.

    Raises:
        DataError: the companion file is missing or broken.
    """
    own = given or folder / "regions.json"
    if given or own.is_file():
        return from_json(own)
    if layout == "vocaset":
        masks = read_pickle(folder / "FLAME_masks.pkl")
        upper = np.union1d(taken(masks, "forehead"), taken(masks, "eye_region"))
        return Regions(taken(masks, "lips"), upper, millimetres=VOCASET_MILLIMETRES)
    if layout == "biwi":
        return Regions(
            indices(folder / "regions" / "lve.txt"),
            indices(folder / "regions" / "fdd.txt"),
            millimetres=BIWI_MILLIMETRES,
            estimated=True,
        )
    raise DataError(
        f"{folder} has no regions.json, so lips and upper face are unknown.",
        hint='Write one with the vertex indices: {"lips": [...], "upper": [...]}.',
    )


def taken(masks: dict[str, npt.NDArray[np.generic]], name: str) -> npt.NDArray[np.int64]:
    """Return one mask's indices."""
    if name not in masks:
        raise DataError(f"FLAME_masks.pkl has no region “{name}”.")
    return np.asarray(masks[name], dtype=np.int64).reshape(-1)


def indices(path: Path) -> npt.NDArray[np.int64]:
    """Return the whole numbers of a text file, separated by commas or space."""
    try:
        words = path.read_text(encoding="utf-8").replace(",", " ").split()
        return np.asarray([int(word) for word in words], dtype=np.int64)
    except OSError:
        raise DataError(f"{path} is missing.") from None
    except ValueError as error:
        raise DataError(f"{path.name} must hold vertex numbers only: {error}.") from error


def from_json(path: Path) -> Regions:
    """Read `regions.json`."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        pair = values.get("opening")
        return Regions(
            np.asarray(values["lips"], dtype=np.int64),
            np.asarray(values["upper"], dtype=np.int64),
            None if pair is None else (int(pair[0]), int(pair[1])),
            values.get("millimetres"),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is no readable list of regions: {error}.") from error
