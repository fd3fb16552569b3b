# SPDX-License-Identifier: GPL-3.0-or-later
"""What one generation depends on, and the check of what comes over the wire."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from ..errors import RequestError

Style = str | int | dict[str, float] | None


@dataclass(frozen=True)
class GenerateRequest:
    """Everything one generation depends on; defaults are the model's own or "as generated"."""

    audio: str
    """Sound file: anything libsndfile decodes (WAV, FLAC, OGG, MP3, AIFF, …)."""
    output: str = ""
    """The `.npz` to write; "" writes nothing."""
    checkpoint: str = "bundled"
    """"bundled", or a `.safetensors` made by `python build.py model convert` or `train`."""
    span: tuple[float, float] | None = None
    """(start, duration) in seconds of the file; None for all of it."""
    face: str | None = None
    """`.npz` (vertices, triangles), `.ply` or `.obj`; "demo" for the demo head; None for the
    checkpoint's own template, or the demo head where it has none."""
    style: Style = None
    """A name, a number, a mix {name: weight}; None for the first."""
    steps: int | None = None
    """Denoising steps; None for the checkpoint's own."""
    sampler: str | None = None
    """"published" or "corrected"; None for the checkpoint's own."""
    guidance: float | None = None
    """Guidance against silent speech; None for the checkpoint's own."""
    expression: float = 1.0
    """0..1, how much of the non-verbal motion (blinks, brows, gaze) is kept."""
    intensity: float = 1.0
    """Factor on the whole motion; lips that must close still do."""
    rest: float = 0.5
    """0..1, how soon a pause shuts the lips: 0 only a long silence, 1 every pause, 0.5 as people
    do. For models of controls, and where pauses are silenced."""
    lead: float = 0.0
    """Seconds by which the face moves before the sound."""
    gate: bool | None = None
    """Silence pauses and noise floors before listening; None: for control models only, because the
    published ones must hear what the published program hears."""
    seed: int = 0
    """Same seed, device and model: same motion."""
    fps: float | None = None
    """Frames a second of the result; None for the model's own."""
    tolerance: float = 0.05
    """Largest vertex error of the factored form, mm on a life-size head."""
    detail: bool = True
    """Control models: add shapes for what the named ones cannot say."""
    dense: bool = False
    """Also write the offsets of every frame."""
    controls: bool = False
    """Vertex models: also read the controls off the motion, for a character that has no such mesh.
    Needs a face whose lips the rig can read."""
    keep: str | None = None
    """Control models: `.npz` of values that the motion must keep (controls, names, mask, fps); the
    rest is filled in between them."""
    device: str = "auto"
    """"auto", "cpu", "cuda", "cuda:1" or "mps"."""

    def __post_init__(self) -> None:
        if not self.audio:
            raise RequestError("The request names no sound file.", hint="Give one as audio.")
        _between("steps", self.steps, 1, 500)
        _between("fps", self.fps, 1, 1000)
        _between("intensity", self.intensity, 0, 10)
        _between("expression", self.expression, 0, 2)
        _between("rest", self.rest, 0, 1)
        _between("lead", self.lead, -5, 5)
        _between("guidance", self.guidance, -10, 10)
        _between("tolerance", self.tolerance, 1e-4, 100)
        _between("seed", self.seed, 0, 2**63 - 1)
        if self.sampler not in (None, "published", "corrected"):
            raise RequestError(f'sampler is "{self.sampler}"; it is "published" or "corrected".')

    @classmethod
    def from_message(cls, message: dict[str, Any]) -> GenerateRequest:
        """Check the fields of a request from the wire. Raises `RequestError` naming the field."""
        given = {key: value for key, value in message.items() if key not in ("type", "id")}
        known = {entry.name for entry in fields(cls)}
        unknown = sorted(set(given) - known)
        if unknown:
            raise RequestError(
                f"The request has unknown fields: {', '.join(unknown)[:200]}.",
                hint="The extension and the model are of different versions; install it again.",
            )
        checked = {key: _FIELD_CHECKS[key](key, value) for key, value in given.items()}
        return cls(**({"audio": ""} | checked))


def _between(name: str, value: float | None, low: float, high: float) -> None:
    if value is not None and not low <= value <= high:
        raise RequestError(f"{name} is {_shown(value)}; it must be from {low:g} to {high:g}.")


LONGEST_TEXT = 4096  # characters; no system has longer paths that open
LATEST = 1e6  # seconds into a file, or before it


def _shown(value: Any) -> str:
    """Return a value as an error message may show it."""
    try:
        return f"{value!r:.50}"
    except (ValueError, RecursionError):  # an integer of more digits than Python prints
        return f"a {type(value).__name__}"


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise RequestError(f"{name} must be a text, not {_shown(value)}.")
    if len(value) > LONGEST_TEXT:
        raise RequestError(f"{name} is longer than {LONGEST_TEXT:,} characters.")
    return value


def _number(name: str, value: Any) -> float:
    wrong = isinstance(value, bool) or not isinstance(value, int | float)
    if wrong or not -1e300 < value < 1e300:  # false for NaN, too
        raise RequestError(f"{name} must be a number, not {_shown(value)}.")
    return float(value)


def _whole(name: str, value: Any) -> int:
    number = _number(name, value)
    if number != int(number):
        raise RequestError(f"{name} must be a whole number, not {_shown(value)}.")
    return int(value)


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise RequestError(f"{name} must be true or false, not {_shown(value)}.")
    return value


def _span(name: str, value: Any) -> tuple[float, float]:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise RequestError(f"{name} must be [start, duration] in seconds, not {_shown(value)}.")
    start, duration = _number(name, value[0]), _number(name, value[1])
    if abs(start) > LATEST or abs(duration) > LATEST:
        raise RequestError(f"{name} is [{start:g}, {duration:g}]; that is beyond any recording.")
    return start, duration


def _style(name: str, value: Any) -> Style:
    if isinstance(value, dict):
        if len(value) > 1000:
            raise RequestError(f"{name} mixes more than 1,000 styles.")
        return {_text(name, key): _number(name, weight) for key, weight in value.items()}
    return _text(name, value) if isinstance(value, str) else _whole(name, value)


def _optional(check: Any) -> Any:
    return lambda name, value: None if value is None else check(name, value)


_FIELD_CHECKS: dict[str, Any] = {
    **dict.fromkeys(("audio", "output", "checkpoint", "device"), _text),
    **dict.fromkeys(("face", "sampler", "keep"), _optional(_text)),
    **dict.fromkeys(("expression", "intensity", "tolerance", "rest", "lead"), _number),
    **dict.fromkeys(("guidance", "fps"), _optional(_number)),
    **dict.fromkeys(("detail", "dense", "controls"), _flag),
    "gate": _optional(_flag),
    "seed": _whole,
    "steps": _optional(_whole),
    "span": _optional(_span),
    "style": _optional(_style),
}
