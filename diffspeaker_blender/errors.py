# SPDX-License-Identifier: GPL-3.0-or-later
"""What can go wrong inside Blender, each with a sentence for the person at the screen.

LipSyncError            base: everything the extension raises on purpose
├── AudioError          the strip, file or speaker cannot be heard
│   └── SilentError     it is muted, turned down to nothing, or shorter than a frame
├── HeadError           the mesh cannot be animated as it is
├── MotionError         the motion file does not fit or is damaged
├── ExportError         the file could not be written, or lost the animation
└── WorkerError         the model process cannot run or answer
    └── SetupError      the model runtime is missing or cannot be installed
"""

from __future__ import annotations

from dataclasses import dataclass


class LipSyncError(Exception):
    """Something the user can understand and act on: what happened, then what to do about it."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        """Return message and hint as one paragraph, ready for `report({'ERROR'}, …)`."""
        return f"{self.message} {self.hint}".strip()


class AudioError(LipSyncError):
    """The chosen strip, file or speaker gives no sound that could be animated."""


class SilentError(AudioError):
    """Nothing is heard of a strip, on purpose: beside others it is passed over."""


class HeadError(LipSyncError):
    """The chosen object cannot carry the motion; `report` of `head.check_head` has the details."""


class MotionError(LipSyncError):
    """A motion file is unreadable, incomplete, or made for another mesh."""


class ExportError(LipSyncError):
    """Nothing usable could be written, or what was written has lost its animation."""


class WorkerError(LipSyncError):
    """The model process could not start, died, or answered with nonsense."""


class SetupError(WorkerError):
    """The Python that holds the model's libraries is missing, broken or could not be built."""


@dataclass(frozen=True)
class Finding:
    """One thing that was noticed about the user's scene, and the way out of it."""

    code: str
    """Stable identifier, such as "keys-muted"; tests and buttons refer to it."""
    message: str
    """What is the matter, one sentence."""
    fix: str = ""
    """Name to hand to `head.fix` or `shape_keys.fix`; empty when only the user can mend it."""
    fix_label: str = ""
    """Title Case label of the button that applies `fix`."""
    blocking: bool = True
    """Whether the motion is refused or stays invisible until this is mended."""
