# SPDX-License-Identifier: GPL-3.0-or-later
"""Lips that meet at p, b and m whatever the jaw does, by what the character has for it.

ARKit's `mouthClose` is a corrective of `jawOpen`: on its own it drives the lips through each other.
Our seal is "shut, however far the jaw is open", so the corrective gets seal × jaw × ratio, where
the ratio is solved on the mesh: what the jaw parts, the corrective must bring together. What else
parts the lips lets go while they are sealed. Without a corrective the jaw itself lets go.

Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from .fewshapes import control_features
from .mapping import JAW, SEAL, TUCK, Term
from .probe import Reading

_PARTS = 0.01
"""Mouth widths of parting from which a shape has to let go while the lips are sealed."""
_CLOSES = -0.05
"""Mouth widths that correctives must bring the lips together by, to be used."""
_LEAST = 0.65
"""The smallest share of its jaw that a face is driven by."""
_BITE, _POSE = 0.5, 0.75
"""How much the jaw lets go when the lower lip goes under the teeth: by a shape that only rolls it
in, by one that is the whole mouth of an f."""


def jaw_share(opening: float) -> float:
    """Return the share of a jaw that opens as far as ours, for one that parts the lips `opening`.

    Mouth widths at full strength. A jawOpen made to scan yawns opens half as far again as the one
    that our motion was measured with: driven fully, its owner would shout.
    """
    ours = float(control_features()[JAW][0])
    return min(1.0, max(_LEAST, ours / opening)) if opening > _PARTS else 1.0


def of_keys(
    terms: Mapping[str, list[Term]],
    readings: Mapping[str, Reading],
    closers: list[str],
    *,
    posed: bool = False,
) -> tuple[dict[str, list[Term]], str]:
    """Return the terms of all shapes with the seal worked in, and how the lips are sealed.

    terms: shape → what drives it, not knowing of the seal. closers: the corrective's shapes.
    posed: the bite is a ready mouth, not made of a rolled lip.
    """
    bite = _POSE if posed else _BITE
    closing = sum(readings[key].opening for key in closers)
    jaws = [
        (key, term) for key, found in terms.items() for term in found if term.controls == (JAW,)
    ]
    share = jaw_share(sum(term.gain * readings[key].opening for key, term in jaws))
    sealed: dict[str, list[Term]] = {}
    opened = 0.0
    for key, found in terms.items():
        parting = readings[key].opening
        rows = []
        for term in found:
            if parting <= _PARTS:
                rows.append(term)
            elif term.controls != (JAW,):
                rows.append(replace(term, unless=(*term.unless, SEAL)))
            else:
                # The bite lets the jaw rise, for the lower lip has to reach the teeth.
                gain = round(term.gain * share, 4)
                unless = () if closing < _CLOSES else (SEAL,)
                rows.append(replace(term, gain=gain * (1 - bite), unless=unless))
                rows.append(replace(term, gain=gain * bite, unless=(*unless, TUCK)))
                opened += gain * parting
        sealed[key] = rows
    if closing >= _CLOSES:
        return sealed, "gate"
    for key in closers:
        ratio = opened / -closing
        sealed[key] = [
            Term(round(ratio * (1 - bite), 4), (JAW, SEAL)),
            Term(round(ratio * bite, 4), (JAW, SEAL), (TUCK,)),
        ]
    return sealed, "key"
