"""Let a long computation report how far it is and be stopped between two of its steps."""

from collections.abc import Callable
from dataclasses import dataclass

from .errors import Cancelled


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
