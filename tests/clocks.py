# SPDX-License-Identifier: GPL-3.0-or-later
"""Time limits of tests: as promised on a quiet machine, longer on a busy one."""

from __future__ import annotations

import os


def allow(seconds: float) -> float:
    """Return a limit for something that takes `seconds` at most when nothing else runs."""
    if not hasattr(os, "getloadavg"):
        return 2.0 * seconds
    waiting = os.getloadavg()[0] / (os.cpu_count() or 1)
    return seconds * max(1.0, 2.0 * waiting)
