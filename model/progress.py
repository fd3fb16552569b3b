# SPDX-License-Identifier: GPL-3.0-or-later
"""Let a long computation report how far it is and be stopped between two of its steps."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from .errors import Cancelled

Progress = Callable[[str, float, float | None], None]
"""Told a stage's name, the whole's fraction done, and the seconds left where they are known."""

STAGES = {
    "Reading the sound": 0.03,
    "Loading the model": 0.04,
    "Listening": 0.48,
    "Moving the face": 0.30,
    "Fitting the head": 0.15,
}
"""Stages of one generation and their shares of its time."""


@dataclass(frozen=True)
class Watch:
    """Who wants to know and who may stop; call it with the fraction done after every step."""

    progress: Callable[[float], None] | None = None
    """Told the fraction done, 0 to 1."""
    cancelled: Callable[[], bool] | None = None
    """Asked whether to stop."""

    def __call__(self, fraction: float) -> None:
        """Raise `Cancelled` when asked to stop, else pass the fraction on."""
        if self.cancelled is not None and self.cancelled():
            raise Cancelled()
        if self.progress is not None:
            self.progress(min(1.0, fraction))

    def part(self, start: float, end: float) -> "Watch":
        """Return a watch whose 0 to 1 is this one's `start` to `end`."""
        outer = self.progress
        if outer is None:
            return self
        return Watch(lambda fraction: outer(start + (end - start) * fraction), self.cancelled)


UNWATCHED = Watch()


@dataclass
class Course:
    """One generation under way: who wants to know, who may stop it, what has been noticed."""

    progress: Progress
    cancelled: Callable[[], bool]
    warnings: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    def tell(self, stage: str, fraction: float) -> None:
        """Report the whole's fraction from a stage's, and raise `Cancelled` when asked to stop."""
        if self.cancelled():
            raise Cancelled
        before = 0.0
        for name, share in STAGES.items():
            if name == stage:
                before += share * min(1.0, max(0.0, fraction))
                break
            before += share
        spent = time.monotonic() - self.began
        left = spent * (1 - before) / before if before > 0.1 and spent > 0.3 else None
        self.progress(stage, before, left)

    @contextmanager
    def stage(self, name: str) -> Iterator[Callable[[float], None]]:
        """Time a stage and give it a way to report its fraction."""
        start = time.monotonic()
        self.tell(name, 0.0)
        yield lambda fraction: self.tell(name, fraction)
        self.seconds[name] = round(self.seconds.get(name, 0.0) + time.monotonic() - start, 3)
