# SPDX-License-Identifier: GPL-3.0-or-later
"""Test poses: what a mapped face does for a sound, shown until the same button is pressed again."""

from __future__ import annotations

POSES: dict[str, dict[str, float]] = {
    "AH": {
        "jawOpen": 0.45,
        "mouthLowerDownLeft": 0.3,
        "mouthLowerDownRight": 0.3,
        "mouthUpperUpLeft": 0.2,
        "mouthUpperUpRight": 0.2,
    },
    "EE": {
        "jawOpen": 0.12,
        "mouthStretchLeft": 0.5,
        "mouthStretchRight": 0.5,
        "mouthSmileLeft": 0.3,
        "mouthSmileRight": 0.3,
        "mouthLowerDownLeft": 0.3,
        "mouthLowerDownRight": 0.3,
    },
    "OO": {"jawOpen": 0.15, "mouthPucker": 0.8, "mouthFunnel": 0.3},
    "M": {"jawOpen": 0.25, "mouthClose": 1.0},
    "F": {"jawOpen": 0.15, "lipTuck": 1.0},
    "BLINK": {"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0},
}
"""Name of a pose → our controls."""
LABELS = {"AH": "Ah", "EE": "Ee", "OO": "Oo", "M": "M", "F": "F", "BLINK": "Blink"}
