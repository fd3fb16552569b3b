# SPDX-License-Identifier: GPL-3.0-or-later
"""Every lip shape as numbers: how four curves of the mouth move, for each control.

The curves are the contact line and the vermilion border of the upper and the lower lip.  Each is
given at three places, the midline, half-way and the corner, as (outwards, up, forwards) in half
mouth widths at full strength.  Between them an even quartic runs along the lip and a smooth step
across it.  The numbers are judged by eye on rendered heads; none is measured.
"""

from __future__ import annotations

from dataclasses import dataclass

Triple = tuple[float, float, float]
Curve = tuple[Triple, Triple, Triple]

STILL: Curve = ((0, 0, 0), (0, 0, 0), (0, 0, 0))


@dataclass(frozen=True)
class LipShape:
    """Motion of the lips for one control (both sides at once)."""

    upper_contact: Curve = STILL
    upper_border: Curve = STILL
    lower_contact: Curve = STILL
    lower_border: Curve = STILL
    inner: float = 0.45
    """How much of the contact line's motion the innermost ring shares."""
    reach: float = 1.7
    """How far the skin follows, in half mouth widths from the lips."""
    handles: tuple[tuple[Triple, Triple], ...] = ()
    """Patches of skin: (offset from the left mouth corner, motion), in half mouth widths."""
    chin: Triple | None = None
    """Motion of the chin's foremost point."""


SIDED: dict[str, LipShape] = {
    "mouthStretch": LipShape(
        ((0, 0.01, -0.03), (0.10, 0.0, -0.06), (0.24, -0.05, -0.12)),
        ((0, 0.0, -0.03), (0.08, -0.01, -0.06), (0.22, -0.05, -0.11)),
        ((0, -0.03, -0.04), (0.10, -0.04, -0.07), (0.24, -0.05, -0.12)),
        ((0, -0.02, -0.03), (0.09, -0.03, -0.06), (0.22, -0.06, -0.11)),
        reach=2.0,
    ),
    "mouthSmile": LipShape(
        ((0, 0.02, -0.07), (0.12, 0.085, -0.10), (0.27, 0.235, -0.17)),
        ((0, 0.02, -0.06), (0.10, 0.09, -0.08), (0.23, 0.225, -0.13)),
        ((0, 0.005, -0.07), (0.12, 0.07, -0.10), (0.27, 0.235, -0.17)),
        ((0, 0.005, -0.05), (0.10, 0.075, -0.08), (0.23, 0.215, -0.13)),
        reach=2.4,
        handles=(
            ((0.55, 1.05, -0.1), (0.06, 0.16, 0.07)),
            ((0.62, 0.45, -0.3), (0.17, 0.17, 0.03)),
        ),
    ),
    "mouthFrown": LipShape(
        ((0, 0.0, 0.0), (0.02, -0.055, 0.0), (0.06, -0.21, -0.04)),
        ((0, -0.01, 0.0), (0.02, -0.06, 0.0), (0.06, -0.20, -0.03)),
        ((0, 0.0, 0.0), (0.02, -0.055, 0.0), (0.06, -0.21, -0.04)),
        ((0, 0.02, 0.02), (0.02, -0.03, 0.02), (0.06, -0.20, -0.03)),
    ),
    "mouthDimple": LipShape(
        ((0, 0, 0), (0.04, 0.0, -0.03), (0.16, 0.02, -0.16)),
        ((0, 0, 0), (0.03, 0.0, -0.02), (0.13, 0.02, -0.12)),
        ((0, 0, 0), (0.04, 0.0, -0.03), (0.16, 0.02, -0.16)),
        ((0, 0, 0), (0.03, 0.0, -0.02), (0.13, 0.02, -0.12)),
        reach=1.4,
    ),
    "mouthUpperUp": LipShape(
        ((0, 0.24, 0.02), (0.02, 0.21, 0.02), (0.02, 0.04, 0.0)),
        ((0, 0.17, 0.03), (0.01, 0.17, 0.03), (0.02, 0.05, 0.01)),
        ((0, 0, 0), (0, 0, 0), (0.02, 0.04, 0)),
        ((0, 0, 0), (0, 0, 0), (0.02, 0.03, 0)),
        handles=(((-0.12, 0.85, 0.1), (0.01, 0.10, 0.02)),),
    ),
    "mouthLowerDown": LipShape(
        ((0, 0, 0), (0, 0, 0), (0.03, -0.04, -0.02)),
        ((0, 0, 0), (0, 0, 0), (0.03, -0.04, -0.02)),
        ((0, -0.28, 0.03), (0.03, -0.26, 0.01), (0.03, -0.05, -0.02)),
        ((0, -0.19, 0.02), (0.02, -0.18, 0.0), (0.03, -0.06, -0.02)),
        reach=1.5,
    ),
    "mouthPress": LipShape(
        ((0, 0.0, -0.05), (0, 0.0, -0.05), (0.03, 0, -0.07)),
        ((0, -0.075, -0.03), (0, -0.07, -0.03), (0.03, -0.01, -0.05)),
        ((0, 0.0, -0.05), (0, 0.0, -0.05), (0.03, 0, -0.07)),
        ((0, 0.085, -0.02), (0, 0.075, -0.02), (0.03, 0.01, -0.05)),
        reach=1.3,
    ),
}
"""Shapes that are split into a left and a right control."""

WHOLE: dict[str, LipShape] = {
    "mouthPucker": LipShape(
        ((0, -0.02, 0.30), (-0.17, -0.02, 0.27), (-0.38, 0.0, 0.17)),
        ((0, 0.03, 0.20), (-0.10, 0.02, 0.19), (-0.34, 0, 0.15)),
        ((0, 0.0, 0.30), (-0.17, 0.0, 0.27), (-0.38, 0.0, 0.17)),
        ((0, -0.03, 0.18), (-0.10, -0.03, 0.17), (-0.34, 0, 0.15)),
        inner=0.3,
        reach=1.9,
    ),
    "mouthFunnel": LipShape(
        ((0, 0.20, 0.34), (-0.13, 0.17, 0.29), (-0.30, 0.0, 0.16)),
        ((0, 0.09, 0.20), (-0.08, 0.08, 0.19), (-0.26, 0, 0.14)),
        ((0, -0.24, 0.36), (-0.13, -0.21, 0.31), (-0.30, 0.0, 0.16)),
        ((0, -0.13, 0.18), (-0.08, -0.12, 0.17), (-0.26, 0, 0.14)),
        inner=0.3,
        reach=1.9,
    ),
    "mouthRollUpper": LipShape(
        ((0, 0.02, -0.26), (0, 0.02, -0.24), (0, 0, -0.05)),
        ((0, -0.13, -0.05), (0, -0.11, -0.06), (0, -0.01, -0.03)),
        inner=0.9,
        reach=1.3,
    ),
    "mouthRollLower": LipShape(
        lower_contact=((0, -0.01, -0.27), (0, -0.01, -0.25), (0, 0, -0.05)),
        lower_border=((0, 0.17, -0.08), (0, 0.14, -0.08), (0, 0.01, -0.03)),
        inner=0.9,
        reach=1.3,
    ),
    "mouthShrugUpper": LipShape(
        ((0, 0.10, 0.12), (0, 0.09, 0.10), (0, 0.02, 0.02)),
        ((0, 0.12, 0.07), (0, 0.11, 0.07), (0, 0.03, 0.02)),
        reach=1.4,
    ),
    "mouthShrugLower": LipShape(
        lower_contact=((0, 0.13, 0.12), (0, 0.11, 0.10), (0, -0.02, 0.01)),
        lower_border=((0, 0.18, 0.13), (0, 0.15, 0.11), (0, -0.03, 0.01)),
        reach=1.6,
        chin=(0, 0.20, 0.05),
    ),
    "lipTuck": LipShape(
        ((0, 0.06, 0.03), (0, 0.05, 0.02), (0, 0.01, 0)),
        ((0, 0.04, 0.02), (0, 0.035, 0.02), (0, 0.01, 0)),
        ((0, 0.0, -0.03), (0, 0.0, -0.03), (0, 0.0, -0.02)),
        ((0, 0.06, -0.05), (0, 0.05, -0.05), (0, 0.01, -0.02)),
        inner=0.9,
        reach=1.5,
    ),
    "cheekPuff": LipShape(
        ((0, 0, 0.06), (0, 0, 0.06), (-0.05, 0, 0.03)),
        ((0, 0.03, 0.10), (0, 0.03, 0.09), (-0.02, 0, 0.05)),
        ((0, 0, 0.06), (0, 0, 0.06), (-0.05, 0, 0.03)),
        ((0, -0.03, 0.10), (0, -0.03, 0.09), (-0.02, 0, 0.05)),
        reach=1.6,
    ),
    "jawOpen": LipShape(
        ((0, 0.03, 0.0), (-0.03, 0.03, 0.0), (-0.13, 0.0, -0.02)),
        ((0, 0.02, 0), (-0.03, 0.02, 0), (-0.12, 0, -0.01)),
        ((0, 0.02, -0.05), (-0.04, 0.03, -0.04), (-0.13, 0.0, -0.02)),
        ((0, 0.0, -0.02), (-0.03, 0.0, -0.02), (-0.12, 0, -0.01)),
        reach=2.0,
    ),
}
"""Shapes of both sides; `jawOpen`'s narrows the corners and wraps the lips while the jaw drops."""
