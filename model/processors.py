# SPDX-License-Identifier: GPL-3.0-or-later
"""How many processors there are for us, and work shared out over them.

numpy lets other threads run while it computes, so blocks of a long clip are worked on side by side;
its own BLAS has one thread (see `__init__`), so nothing ever waits spinning.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

MOST = 8


def count() -> int:
    """Return how many threads may compute at once: those we may use, or fewer when we are told."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    told = os.environ.get("OMP_NUM_THREADS", "")
    wanted = int(told) if told.isdecimal() and int(told) else MOST
    return max(1, min(there or 1, wanted, MOST))


def each(work: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """Yield the result of every item in order, worked on side by side.

    Closing the iterator, or an error in the loop around it, lets go of what has not begun.
    """
    if len(items) < 2 or count() < 2:
        yield from map(work, items)
        return
    pool = ThreadPoolExecutor(count(), "block")
    try:
        yield from pool.map(work, items)
    finally:
        pool.shutdown(cancel_futures=True)
