"""The head: recognised, checked, imported (skeleton: signatures are final)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .errors import Finding


@dataclass(frozen=True)
class HeadReport:
    """What `check_head` found."""

    usable: bool
    kind: str
    """"flame", "demo" (the project's own connectivity), or "" when not recognised."""
    findings: tuple[Finding, ...]
    """Blocking ones first; the rest are remarks."""

    @property
    def reason(self) -> str:
        """Return why the head is refused, in one sentence; empty when usable."""
        raise NotImplementedError


def find_head(context: Any) -> Any | None:
    """Return the active object if it is a head, else the one head of the scene, else None."""
    raise NotImplementedError


def check_head(obj: Any, need: str = "any") -> HeadReport:
    """Say whether `obj` can be animated ("any" head, or "flame" order only), and why not."""
    raise NotImplementedError


def face_arrays(obj: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return Basis vertices (V, 3) float32 in object space and triangles (T, 3) int32."""
    raise NotImplementedError


def write_face(obj: Any, path: str | Path) -> Path:
    """Write `face_arrays` as the .npz that the worker reads."""
    raise NotImplementedError


def millimetres(obj: Any, scene: Any) -> float:
    """Return how many millimetres one unit of the mesh's own space is."""
    raise NotImplementedError


def fix(obj: Any, name: str) -> None:
    """Apply the fix a Finding names: "make-editable", "object-mode", "single-user"."""
    raise NotImplementedError


def import_flame(path: str | Path, *, name: str = "") -> Any:
    """Add the FLAME head in a .ply, .obj, .pkl or .npz file to the scene. Raises HeadError."""
    raise NotImplementedError
