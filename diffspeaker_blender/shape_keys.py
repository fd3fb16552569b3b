"""Motion → shape keys and F-curves (skeleton: signatures are final)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .errors import Finding
from .motion import Adjustments, Motion


@dataclass(frozen=True)
class Applied:
    """What was written, as names so that it survives undo and file loading."""

    object_name: str
    clip: str
    action_name: str
    keys: tuple[str, ...]
    """Shape key names in the order of the motion's shapes."""
    frames: tuple[int, int]
    """First and last scene frame of the sound's span."""
    keyframes: int
    millimetres: float
    """How far the mouth moves."""
    findings: tuple[Finding, ...] = ()

    def sentence(self) -> str:
        """Return "Mouth moved 14.2 mm over 212 frames"."""
        raise NotImplementedError


def apply_motion(
    obj: Any,
    motion: Motion,
    *,
    mode: str = "named",
    action_name: str = "",
    start_frame: float = 1.0,
    nla: bool = False,
    clip: str = "",
    scene: Any = None,
    tolerance: float = 0.0,
    adjustments: Adjustments | None = None,
    reuse: bool = False,
) -> Applied:
    """Write `motion` on `obj`; mode "named" | "compact" | "every frame"; tolerance mm, 0 = all keys."""
    raise NotImplementedError


def adjust_clip(obj: Any, clip: str, adjustments: Adjustments, *, scene: Any = None) -> Applied:
    """Rewrite one clip's keys from the stored motion with other live controls."""
    raise NotImplementedError


def remove_motion(obj: Any, clip: str = "") -> int:
    """Take away one clip (or all) and the keys nothing else uses; return keys removed."""
    raise NotImplementedError


def clips(obj: Any) -> tuple[str, ...]:
    """Return the names of the clips stored on this head, in timeline order."""
    raise NotImplementedError


def load_stored(obj: Any, clip: str) -> tuple[Motion, Adjustments] | None:
    """Return the motion as generated and the live controls it is shown with."""
    raise NotImplementedError


def verify(obj: Any, applied: Applied, *, scene: Any = None) -> tuple[Finding, ...]:
    """Say why nothing would move, each with a fix; empty when the head really moves."""
    raise NotImplementedError


def fix(obj: Any, name: str) -> None:
    """Apply the fix a Finding names ("unmute-keys", "assign-action", "leave-nla", "widen-sliders" …)."""
    raise NotImplementedError
