# SPDX-License-Identifier: GPL-3.0-or-later
"""What the model is asked for, whoever asks: panel, script, command line or self-check."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True)
class SpeechRequest:
    """One line to speak. What is at its default is not sent: the worker has the same defaults."""

    audio: str
    """Sound file that libsndfile reads."""
    face: str
    """`.npz` with the head's vertices and triangles, or "demo"."""
    output: str
    """The `.npz` to write."""
    span: tuple[float, float] | None = None
    """(start, duration) in seconds of the file; None for all of it."""
    checkpoint: str = "bundled"
    """"bundled", or a `.safetensors` model file."""
    style: str | dict[str, float] | None = None
    """A name, or a mix {name: weight}; None for the model's first."""
    steps: int | None = None
    """Denoising steps; None for the model's own."""
    sampler: str | None = None
    """"published" or "corrected"; None for the model's own."""
    guidance: float | None = None
    """Guidance against silent speech; None for the model's own."""
    expression: float = 1.0
    """Share of what is no speech: blinks, brows, gaze."""
    rest: float = 0.5
    """How soon a pause shuts the lips: 0 only a long silence, 1 every pause, 0.5 as people do."""
    lead: float = 0.0
    """Seconds by which the face moves before the sound."""
    gate: bool | None = None
    """Silence pauses before listening; None as fits the model."""
    seed: int = 0
    """Same seed, same motion."""
    tolerance: float = 0.05
    """Largest error of the shapes, millimetres on a life-size head."""
    detail: bool = True
    """Add shapes for what the named ones cannot say."""
    controls: bool = False
    """Read controls off a vertex model's motion, for a character of another mesh."""
    keep: str | None = None
    """`.npz` of values that the motion must keep; the rest is filled in between them."""
    device: str = "auto"
    """"auto", "cpu", "cuda" or "mps"."""

    def fields(self) -> dict[str, Any]:
        """Return what goes over the wire: every field that is not at its default."""
        named = {entry.name: (getattr(self, entry.name), entry.default) for entry in fields(self)}
        sent = {name: value for name, (value, default) in named.items() if value != default}
        if self.span is not None:
            sent["span"] = list(self.span)
        return sent
