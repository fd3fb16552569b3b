# SPDX-License-Identifier: GPL-3.0-or-later
"""Put what pip says into words for a progress bar and for an error message."""

from __future__ import annotations

import re
from collections.abc import Iterable

_WHEEL = re.compile(r"([\w.]+)-\d[^/\\\s]*\.whl")
_SIZE = re.compile(r"\(\d[\d.]* ?[kMG]?B\)")
_VERBS = {"Collecting": "Looking for", "Downloading": "Downloading"}


def stage(line: str) -> str:
    """Return a line of pip's as a stage: no paths, no addresses, no tags."""
    verb, _, rest = line.strip().partition(" ")
    wheel, size = _WHEEL.search(rest), _SIZE.search(rest)
    name = wheel[1] if wheel else re.split(r"[\s=<>!~;\[(]", rest, maxsplit=1)[0]
    return " ".join(part for part in (_VERBS.get(verb, "Adding"), name, size and size[0]) if part)


def explain(last: str, words: Iterable[str]) -> tuple[str, str]:
    """Put pip's complaint into (what happened, what to do)."""
    text = "\n".join(words)
    for sign, message, hint in (
        ("No space left", "The disk is full.", "Free some space; what is downloaded is kept."),
        ("Errno 28", "The disk is full.", "Free some space; what is downloaded is kept."),
        (
            "No matching distribution",
            f"A package is not to be had for this Python: {last}",
            "Add its wheel to the folder, or choose another Python in the preferences.",
        ),
        (
            "Connection",
            "The network could not be reached.",
            "Check it and install again; what is downloaded is kept.",
        ),
        (
            "SSL",
            "The connection could not be secured.",
            "Check the clock and the proxy, or install from a folder of wheels.",
        ),
        ("Permission", f"A file could not be written: {last}", "Choose another folder."),
    ):
        if sign in text:
            return message, hint
    return f"pip failed: {last}", "Install again; if it stays, use a folder of wheels."
