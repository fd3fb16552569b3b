"""Speech, a checkpoint and a face become a motion: windows, seed, progress, cancel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .motion import Motion

Progress = Callable[[str, float, float | None], None]


@dataclass(frozen=True)
class GenerateRequest:
    """Everything one generation depends on.

    audio         sound file: anything libsndfile decodes (wav, flac, ogg, mp3, aiff, …)
    output        the `.npz` to write ("" writes nothing)
    checkpoint    "bundled" or a `.safetensors` made by `python -m model convert`
    span          (start, duration) in seconds of the file, or None for all of it
    face          `.npz` (vertices, triangles), `.ply` or `.obj`; None: the checkpoint's own
                  template; "demo": the demo head
    style         a name, an index, a mix {name: weight}, or None for the first
    steps         denoising steps; None: the checkpoint's own
    sampler       "published" or "corrected"; None: the checkpoint's own
    guidance      classifier-free guidance; None: the checkpoint's own
    expression    0..1, how much of the non-verbal motion (blinks, brows, gaze) is kept
    intensity     factor on the whole motion, 1 as generated
    seed          same seed, device and model: same motion
    fps           frames a second of the result; None: the model's own
    tolerance     largest vertex error (mm on a life-size head) of the factored form
    detail        controls models: add shapes for what named controls cannot say
    dense         write the offsets of every frame, too
    device        "auto", "cpu", "cuda", "cuda:1", "mps"
    """

    audio: str
    output: str = ""
    checkpoint: str = "bundled"
    span: tuple[float, float] | None = None
    face: str | None = None
    style: str | int | dict[str, float] | None = None
    steps: int | None = None
    sampler: str | None = None
    guidance: float | None = None
    expression: float = 1.0
    intensity: float = 1.0
    seed: int = 0
    fps: float | None = None
    tolerance: float = 0.05
    detail: bool = True
    dense: bool = False
    device: str = "auto"

    @classmethod
    def from_message(cls, fields: dict[str, Any]) -> GenerateRequest:
        """Check the fields of a request from the wire. Raises `ConfigError` naming the field."""
        raise NotImplementedError


def generate(
    request: GenerateRequest,
    *,
    session: Any,
    progress: Progress,
    cancelled: Callable[[], bool],
) -> Motion:
    """Return the motion of a request; raises `ModelError` or `Cancelled`."""
    raise NotImplementedError


BUNDLED = Path(__file__).with_name("weights") / "bundled.safetensors"
