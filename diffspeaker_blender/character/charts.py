# SPDX-License-Identifier: GPL-3.0-or-later
"""Mouth charts: what drawings are called and in what order they lie, read from names or numbers.

Pure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from .drawn import NOTHING


@dataclass(frozen=True)
class Chart:
    """One way to draw a mouth's sounds."""

    title: str
    drawings: tuple[tuple[str, str], ...]
    """Name and sound (of `drawn.SOUNDS`), in the usual order."""


CHARTS: dict[str, Chart] = {
    "RHUBARB": Chart(
        "Letters A–H, X (Rhubarb, Harmony)",
        (
            ("A", "PP"),
            ("B", "SS"),
            ("C", "E"),
            ("D", "aa"),
            ("E", "oh"),
            ("F", "ou"),
            ("G", "FF"),
            ("H", "nn"),
            ("X", "sil"),
        ),
    ),
    "BLAIR": Chart(
        "Preston Blair (Papagayo, Moho)",
        (
            ("AI", "aa"),
            ("E", "E"),
            ("etc", "SS"),
            ("FV", "FF"),
            ("L", "nn"),
            ("MBP", "PP"),
            ("O", "oh"),
            ("rest", "sil"),
            ("U", "ou"),
            ("WQ", "W"),
        ),
    ),
    "VOWELS": Chart(
        "Vowels A I U E O, closed",
        (("A", "aa"), ("I", "ih"), ("U", "ou"), ("E", "E"), ("O", "oh"), ("N", "PP")),
    ),
    "VISEMES": Chart(
        "Fifteen visemes (Oculus)",
        tuple(
            (name, name)
            for name in (
                "sil", "PP", "FF", "TH", "DD", "kk", "CH", "SS", "nn", "RR", "aa", "E", "ih", "oh",
                "ou",
            )
        ),
    ),
    "FEW": Chart(
        "Closed, open, half …",
        (("closed", "PP"), ("open", "aa"), ("half", "E"), ("oo", "ou"), ("o", "oh")),
    ),
}  # fmt: skip
"""Identifier → chart."""

_WORDS = {
    "sil": "x rest idle neutral sil silence default normal relaxed pause",
    "PP": "a_ closed close shut m mbp bmp pbm mpb bpm pp b p m_b_p mm ん n",
    "FF": "fv vf ff f v",
    "aa": "ai aa ah a aah ay open wide あ",
    "E": "e eh ae え",
    "ih": "i ee ih iy ii smile い",
    "oh": "o oh ao お",
    "ou": "u oo ou uu uw woo う",
    "W": "wq w q wqu qw",
    "SS": "etc cons consonants consonant s ss teeth cdgknrsthyz cdgknrsyz sz st",
    "DD": "d dd t tt dt td dtn",
    "kk": "k kk g kg gk",
    "nn": "l ll nn ln nl",
    "TH": "th dh",
    "CH": "ch sh j chsh chj shch chshj chjsh",
    "RR": "r rr er",
    "uh": "uh half",
}
"""Sound → what its drawing is called."""
_NAMED = {word.replace("_", ""): s for s, words in _WORDS.items() for word in words.split()}
_NAMED["uh"] = _NAMED["half"] = "E"
_ANYTHING = set(
    "x rest idle neutral silence default normal relaxed pause closed close shut open wide half "
    "smile".split()
)
"""Words that doors and eyes are called by, too."""
_MOUTH = re.compile(r"mouths?|lips?|phonemes?|phone|visemes?|vis|vrc|talk|口", re.IGNORECASE)
_BREAK = re.compile(r"[^0-9A-Za-z\u0080-\uffff]+")
_LETTERS = dict(CHARTS["RHUBARB"].drawings)
_FEWEST = 3


def read(labels: Sequence[str]) -> dict[str, str]:
    """Return the sound of each label that names one; nothing where they make no mouth.

    "mouth_A", "01 MBP.png", "Mouth-closed.001": what all have in common says nothing, nor do
    numbers. Single letters are Rhubarb's where B, C or D is among them, else vowels.
    """
    marked = [label for label in labels if any(map(_MOUTH.fullmatch, _parts(label)))]
    bare = {label: _bare(label) for label in (marked if len(marked) >= _FEWEST else labels)}
    letters = {word.upper() for word in bare.values() if len(word) == 1}
    rhubarb = len(letters & set("BCD")) > 1 and "A" in letters
    found = {}
    for label, word in bare.items():
        sound = _LETTERS.get(word.upper()) if rhubarb and len(word) == 1 else None
        sound = sound or _NAMED.get(word.lower())
        if sound is not None:
            found[label] = sound
    if len(marked) < _FEWEST and {bare[label].lower() for label in found} <= _ANYTHING:
        return {}
    sounds = set(found.values())
    opens, shuts = sounds & {"aa", "E", "oh", "ih"}, sounds & {"PP", "sil"}
    single = sum(len(bare[label]) == 1 for label in found)
    enough = len(sounds) >= _FEWEST and opens and (shuts or len(sounds) > _FEWEST)
    if not enough or (single == len(found) and len(sounds) <= _FEWEST):
        return {}
    return found


def _bare(label: str) -> str:
    """Return what is left of a label without the words for a mouth, numbers and file endings."""
    kept = [word for word in _parts(label) if not _MOUTH.fullmatch(word)]
    if len(kept) > 1 and all(len(word) <= 2 for word in kept):
        return "".join(kept)  # "M_B_P", "A I"
    return kept[-1] if kept else ""


def _parts(label: str) -> list[str]:
    """Return the words of a label: "01_mouthA.png" → "mouth", "A"."""
    plain = re.sub(r"\.(?:\d+|png|jpe?g|tiff?|exr|webp|svg)$", "", label, flags=re.IGNORECASE)
    plain = re.sub(r"([a-z])([A-Z])", r"\1 \2", plain)
    return [word for word in _BREAK.split(plain) if word and not word.isdigit()]


def usual(count: int) -> str:
    """Return the chart whose order so many numbered drawings most likely have."""
    if count < 6:
        return "FEW"
    if count > 14:
        return "VISEMES"
    return "RHUBARB" if count < 10 else "BLAIR"


def in_order(chart: str, count: int) -> list[str]:
    """Return the sound of each of so many drawings that lie in a chart's order."""
    sounds = [sound for _, sound in CHARTS[chart].drawings]
    return [sounds[k] if k < len(sounds) else NOTHING for k in range(count)]


def named(text: str) -> str:
    """Return the sound that a word names by itself: "MBP", "rest", "PP". Raises ValueError."""
    for chart in CHARTS.values():
        for name, sound in chart.drawings:
            if text == sound or (len(name) > 1 and text.lower() == name.lower()):
                return sound
    if text.lower() in _NAMED:
        return _NAMED[text.lower()]
    raise ValueError(f"“{text}” names no mouth")
