# SPDX-License-Identifier: GPL-3.0-or-later
"""What the lips do when nobody speaks: how long a pause must be for them to shut.

People's lips stay apart in most pauses between words, in about half of those over 0.6 s and hardly
ever in those over 1 s. A network that hears the words sees the pause coming, but not reliably how
long it will be; the sound says so exactly. So the network parts the lips and this shuts them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

LONGEST, SHORTEST = 1.70, 0.12  # seconds of the shortest pause that shuts, at rest 0 and 1
SHUTTING, PARTING = 0.20, 0.16  # seconds that lips take between words
SETTLING = 0.4  # seconds that they take after the last word, and before the first
MOUTH = ("jaw", "mouth", "lip", "tongue")
JAW, SEAL = "jawOpen", "mouthClose"
HANGING = 0.17  # jawOpen with which lips are apart by a quarter of a wide opening
MOOD = ("mouthSmile", "mouthFrown", "mouthDimple")  # what a face may do with its mouth shut

Span = tuple[float, float]


def shortest_pause(rest: float) -> float:
    """Return the seconds from which a pause shuts the lips, for rest from 0 (parted) to 1."""
    return LONGEST + (SHORTEST - LONGEST) * min(max(rest, 0.0), 1.0)


def shut(times: NDArray[np.floating], pauses: Sequence[Span], rest: float) -> NDArray[np.float32]:
    """Return how far the lips are at rest (F,), 0 as generated to 1 shut, at times in seconds.

    `pauses` are quiet stretches (start, end) in seconds. Those that begin or end the clip hold to
    its end. Others shut over their first part, and the lips part again before the next word.
    """
    level = np.zeros(len(times), np.float32)
    if not len(times):
        return level
    least, last = shortest_pause(rest), times[-1]
    for start, end in pauses:
        first, final = start <= 0.02, end >= last - 0.05
        if end - start < least:
            continue
        most = SETTLING if first or final else (end - start) / 4  # in a short pause lips are quick
        shutting, parting = (SETTLING,) * 2 if first or final else (SHUTTING, PARTING)
        falls = np.ones_like(level) if first else ease((times - start) / min(shutting, most))
        rises = np.ones_like(level) if final else ease((end - times) / min(parting, most))
        level = np.maximum(level, np.minimum(falls, rises))
    return level


def parted(times: NDArray[np.floating], pauses: Sequence[Span], rest: float) -> NDArray[np.float32]:
    """Return how far lips that a pause would shut are kept apart (F,), from rest 0.5 to 1 at 0.

    Only in pauses between words that `shut` leaves alone.
    """
    level = np.zeros(len(times), np.float32)
    least, last = shortest_pause(rest), times[-1] if len(times) else 0.0
    for start, end in pauses:
        if start > 0.02 and end < last - 0.05 and 2 * SHORTEST < end - start < least:
            quarter = (end - start) / 4
            level = np.maximum(
                level, ease((times - start) / quarter) * ease((end - times) / quarter)
            )
    return np.asarray(level * max(0.0, 1 - 2 * rest), np.float32)


def ease(x: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return the minimum-jerk rise from 0 (x ≤ 0) to 1 (x ≥ 1)."""
    x = np.clip(x, 0.0, 1.0)
    return np.asarray(x * x * x * (10.0 + x * (6.0 * x - 15.0)), np.float32)


def rest_lips(
    controls: NDArray[np.float32],
    names: tuple[str, ...],
    level: NDArray[np.float32],
    apart: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Return controls (F, C) whose mouth goes to its neutral, shut state by a level (F,).

    Where ``apart`` (F,) is above 0 the jaw hangs at least so far that the lips part.
    """
    still = np.array([name.startswith(MOUTH) and not name.startswith(MOOD) for name in names])
    rested = np.asarray(controls * (1 - level[:, None] * still), np.float32)
    if apart is not None and JAW in names:
        rested[:, names.index(JAW)] = np.maximum(rested[:, names.index(JAW)], HANGING * apart)
        seals = [index for index, name in enumerate(names) if name == SEAL]
        rested[:, seals] *= 1 - apart[:, None]
    return rested
