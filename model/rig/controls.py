# SPDX-License-Identifier: GPL-3.0-or-later
"""What a face can be told to do: the controls' names, their order, and what each kind is for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_NAMES = """
    eyeBlinkLeft eyeBlinkRight eyeSquintLeft eyeSquintRight eyeWideLeft eyeWideRight
    eyeLookInLeft eyeLookOutLeft eyeLookUpLeft eyeLookDownLeft
    eyeLookInRight eyeLookOutRight eyeLookUpRight eyeLookDownRight
    browInnerUp browDownLeft browDownRight browOuterUpLeft browOuterUpRight
    cheekPuff cheekSquintLeft cheekSquintRight noseSneerLeft noseSneerRight
    jawOpen jawForward jawLeft jawRight mouthClose mouthFunnel mouthPucker
    mouthLeft mouthRight mouthSmileLeft mouthSmileRight mouthFrownLeft mouthFrownRight
    mouthDimpleLeft mouthDimpleRight mouthStretchLeft mouthStretchRight
    mouthRollLower mouthRollUpper mouthShrugLower mouthShrugUpper mouthPressLeft mouthPressRight
    mouthLowerDownLeft mouthLowerDownRight mouthUpperUpLeft mouthUpperUpRight
    lipTuck tongueOut tongueTip tongueBack
"""

CONTROLS: tuple[str, ...] = tuple(_NAMES.split())
"""Every control, in the order of the columns of a control array; each runs from 0 to 1.

The names are ARKit's where ARKit has one.  As a control, `mouthClose` is a lip seal: 1 means that
the lips are shut whatever the jaw does.  (As a *shape* it is ARKit's: see `shapes.py`.)
`lipTuck` puts the lower lip under the upper teeth (f, v); `tongueTip` and `tongueBack` raise the
tongue.
"""

INDEX: dict[str, int] = {name: column for column, name in enumerate(CONTROLS)}
"""Column of each control."""

CLOSURES = ("mouthClose", "mouthPress", "lipTuck", "eyeBlink")
"""Beginnings of controls that intensity never makes less: it must not open a closed mouth."""

EXPRESSIVE = ("eye", "brow", "cheekSquint", "noseSneer")
"""Beginnings of controls that live besides speech."""

BLINK = "eyeBlink"
"""Beginning of the lids' controls."""


def gains(names: tuple[str, ...], intensity: float, expression: float) -> NDArray[np.float32]:
    """Return what intensity and expression multiply each control (C,) by."""
    gain = np.full(len(names), intensity, np.float32)
    for index, name in enumerate(names):
        if name.startswith(CLOSURES):
            gain[index] = 1.0
        if name.startswith(BLINK):  # a half-hearted blink looks sleepy, not calm
            gain[index] *= min(1.0, 2 * expression)
        elif name.startswith(EXPRESSIVE):
            gain[index] *= expression
    return gain
