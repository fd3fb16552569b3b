"""What is heard of a strip, a file or a speaker, as one AudioClip (skeleton: signatures are final)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class AudioClip:
    """A stretch of sound and its place on the timeline: decoded, or still in its file."""

    samples: np.ndarray | None
    """(n,) float32 mono; None while the sound stays in `source` for the worker to decode."""
    rate: int
    """Hz of `samples`; 0 while undecoded."""
    start: float
    """Second on the scene's timeline (frame / fps) at which the clip begins."""
    duration: float
    """Seconds."""
    name: str = ""
    """Human name: the strip's, the file's or the speaker's."""
    source: Path | None = None
    """File to decode when `samples` is None."""
    span: tuple[float, float] | None = None
    """(start, duration) seconds inside `source`; None for the whole file."""

    def request(self, folder: Path) -> dict[str, Any]:
        """Return the worker's `audio` and `span` fields, writing a WAV into `folder` if needed."""
        raise NotImplementedError


def strip_clip(scene: Any, strip: Any) -> AudioClip:
    """Return exactly what is heard of one strip. Raises AudioError."""
    raise NotImplementedError


def strips_clip(scene: Any, strips: list[Any]) -> AudioClip:
    """Return one clip for a cut-up line: strips of one channel, gaps as silence. Raises AudioError."""
    raise NotImplementedError


def file_clip(path: str | Path, start: float = 0.0) -> AudioClip:
    """Return a whole sound file as a clip at `start` seconds. Raises AudioError."""
    raise NotImplementedError


def speaker_clip(obj: Any, scene: Any = None) -> AudioClip:
    """Return the sound of a Speaker object. Raises AudioError."""
    raise NotImplementedError


def write_clip(clip: AudioClip, path: str | Path) -> Path:
    """Write the clip's samples as a mono 32-bit float WAV. Raises AudioError."""
    raise NotImplementedError


def selected_strips(context: Any) -> list[Any]:
    """Return the selected strips that have sound, in timeline order, in every Blender version."""
    raise NotImplementedError


def sequencer_scene(context: Any) -> Any:
    """Return the scene whose sequencer the user sees."""
    raise NotImplementedError


def scene_fps(scene: Any) -> float:
    """Return frames per second including `fps_base`."""
    return float(scene.render.fps) / float(scene.render.fps_base)
