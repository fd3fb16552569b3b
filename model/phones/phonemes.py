# SPDX-License-Identifier: GPL-3.0-or-later
"""The speech sounds: what a mouth aims at for each, and how other phone sets map onto them.

The inventory is ARPAbet without stress digits, plus ``SIL``.  `SOUNDS` gives one or two `Aim`s a
sound (diphthongs move).  Openings are the distance between the inner lips over the distance between
the outer corners of the eyes, as measured on video; everything else is a control's weight in 0..1.

Where the numbers come from: shapes, jaws and contacts are an animator's judgement, with rounding
and spreading later reduced to what real widths show.  Openings, grips and the timing in
`styles.py` were fitted (`fit.py`) to the lips of six GRID speakers, 18 s, each number drawn
towards its class and its starting value; sounds that GRID lacks follow their class.  On a clip left
out, the median correlation with the measured opening rose from 0.69 to 0.72 when the fit started
from a table tuned by eye, and was 0.78 when it started from this one, which had seen the clips.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Aim:
    """What one sound, or one half of a diphthong, wants of the mouth.

    Attributes:
        opening: inner-lip opening / outer-eye distance in fluent speech of middling loudness.
        grip: how strongly the sound insists on that opening against its neighbours.
        jaw: jawOpen wanted, and ``bite`` how strongly.
        pucker, funnel, spread, press: lip shapes wanted, and ``lips`` how strongly (0: neighbours).
        seal, tuck: 1 where the lips shut or the lower lip meets the teeth, whatever the neighbours.
        tongue, tip, back: tongue out between the teeth, its tip up, its back up.
        share: part of the sound's duration; the shares of a sound sum to 1.
    """

    opening: float
    grip: float
    jaw: float
    bite: float
    pucker: float = 0.0
    funnel: float = 0.0
    spread: float = 0.0
    press: float = 0.0
    lips: float = 0.0
    seal: float = 0.0
    tuck: float = 0.0
    tongue: float = 0.0
    tip: float = 0.0
    back: float = 0.0
    share: float = 1.0


@dataclass(frozen=True)
class Phone:
    """A speech sound in time.

    ``name`` is ARPAbet, IPA or ``SIL`` (see `sound_of`); ``start`` and ``end`` are in seconds.
    """

    name: str
    start: float
    end: float


SILENCE = "SIL"

SOUNDS: dict[str, tuple[Aim, ...]] = {
    # vowels
    "AA": (Aim(0.140, 0.81, 0.50, 1.0, spread=0.04, lips=0.6),),
    "AE": (Aim(0.124, 0.73, 0.44, 1.0, spread=0.22, lips=0.7),),
    "AH": (Aim(0.105, 0.63, 0.32, 0.8, lips=0.35),),
    "AO": (Aim(0.121, 0.75, 0.42, 1.0, pucker=0.16, funnel=0.17, lips=0.8),),
    "AW": (
        Aim(0.159, 0.91, 0.50, 1.0, spread=0.06, lips=0.6, share=0.6),
        Aim(0.083, 0.59, 0.24, 0.8, pucker=0.26, funnel=0.11, lips=0.8, share=0.4),
    ),
    "AY": (
        Aim(0.143, 0.89, 0.48, 1.0, spread=0.08, lips=0.6, share=0.6),
        Aim(0.104, 0.63, 0.24, 0.8, spread=0.30, lips=0.7, share=0.4),
    ),
    "EH": (Aim(0.136, 0.72, 0.35, 0.9, spread=0.19, lips=0.6),),
    "ER": (Aim(0.070, 0.79, 0.20, 0.7, pucker=0.24, funnel=0.14, lips=0.7),),
    "EY": (
        Aim(0.146, 0.77, 0.34, 0.9, spread=0.24, lips=0.7, share=0.5),
        Aim(0.123, 0.64, 0.22, 0.8, spread=0.34, lips=0.8, share=0.5),
    ),
    "IH": (Aim(0.095, 0.62, 0.22, 0.7, spread=0.21, lips=0.5),),
    "IY": (Aim(0.108, 0.74, 0.18, 0.8, spread=0.41, lips=0.9),),
    "OW": (
        Aim(0.103, 1.13, 0.32, 0.9, pucker=0.30, funnel=0.11, lips=0.9, share=0.5),
        Aim(0.057, 1.17, 0.20, 0.8, pucker=0.45, funnel=0.04, lips=1.0, share=0.5),
    ),
    "OY": (
        Aim(0.111, 0.83, 0.36, 0.9, pucker=0.34, funnel=0.17, lips=0.9, share=0.5),
        Aim(0.101, 0.74, 0.22, 0.8, spread=0.29, lips=0.8, share=0.5),
    ),
    "UH": (Aim(0.084, 0.89, 0.22, 0.7, pucker=0.24, funnel=0.12, lips=0.7),),
    "UW": (Aim(0.060, 1.11, 0.16, 0.8, pucker=0.51, funnel=0.03, lips=1.0),),
    # bilabials and labiodentals
    "P": (Aim(0.037, 0.70, 0.12, 0.8, press=0.35, lips=0.3, seal=1.0),),
    "B": (Aim(0.036, 0.70, 0.12, 0.8, press=0.25, lips=0.3, seal=1.0),),
    "M": (Aim(0.037, 0.70, 0.12, 0.7, press=0.15, lips=0.3, seal=1.0),),
    "F": (Aim(0.025, 1.05, 0.12, 0.9, tuck=1.0),),
    "V": (Aim(0.030, 1.03, 0.12, 0.9, tuck=0.9),),
    # tongue against teeth and gums
    "TH": (Aim(0.070, 0.51, 0.16, 0.7, spread=0.04, lips=0.25, tongue=0.7),),
    "DH": (Aim(0.070, 0.42, 0.16, 0.6, lips=0.2, tongue=0.55),),
    "T": (Aim(0.070, 0.43, 0.14, 0.5, tip=1.0),),
    "D": (Aim(0.069, 0.42, 0.14, 0.5, tip=1.0),),
    "N": (Aim(0.065, 0.40, 0.15, 0.4, tip=1.0),),
    "L": (Aim(0.094, 0.43, 0.20, 0.4, tip=0.9),),
    "S": (Aim(0.083, 0.65, 0.09, 1.0, spread=0.17, lips=0.45),),
    "Z": (Aim(0.083, 0.64, 0.09, 1.0, spread=0.15, lips=0.4),),
    "SH": (Aim(0.088, 0.82, 0.10, 1.0, pucker=0.19, funnel=0.43, lips=0.95),),
    "ZH": (Aim(0.088, 0.82, 0.11, 1.0, pucker=0.17, funnel=0.41, lips=0.95),),
    "CH": (Aim(0.088, 0.82, 0.10, 1.0, pucker=0.17, funnel=0.41, lips=0.9),),
    "JH": (Aim(0.087, 0.83, 0.11, 1.0, pucker=0.15, funnel=0.38, lips=0.9),),
    # glides and the back of the mouth
    "R": (Aim(0.050, 0.73, 0.16, 0.5, pucker=0.20, funnel=0.08, lips=0.75),),
    "W": (Aim(0.032, 1.29, 0.10, 0.8, pucker=0.54, funnel=0.03, lips=1.0),),
    "Y": (Aim(0.086, 0.55, 0.14, 0.6, spread=0.29, lips=0.6),),
    "K": (Aim(0.105, 0.34, 0.18, 0.35, back=1.0),),
    "G": (Aim(0.092, 0.34, 0.18, 0.35, back=1.0),),
    "NG": (Aim(0.093, 0.35, 0.18, 0.35, back=1.0),),
    "HH": (Aim(0.113, 0.20, 0.22, 0.2),),
    SILENCE: (Aim(0.000, 0.60, 0.02, 0.5, spread=0.15, lips=0.35),),
}

VOWELS = frozenset(
    {"AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW"}
)
OPEN_VOWELS = frozenset({"AA", "AE", "AH", "AO", "AW", "AY", "EH"})
BILABIALS = frozenset({"P", "B", "M"})
TONGUE_STOPS = frozenset({"T", "D", "N"})
ROUNDED = frozenset({"AO", "OW", "OY", "UH", "UW", "ER", "W", "R", "SH", "ZH", "CH", "JH"})

_OTHER = {
    # reduced ARPAbet and the marks of aligners
    "AX": "AH", "AXR": "ER", "IX": "IH", "UX": "UW", "DX": "D", "EL": "L", "EM": "M", "EN": "N",
    "NX": "N", "WH": "W", "HV": "HH", "Q": "SIL", "SP": "SIL", "SPN": "SIL", "NSN": "SIL",
    "PAU": "SIL", "H#": "SIL", "+NSN+": "SIL", "+SPN+": "SIL", "": "SIL", "<SIL>": "SIL",
    # IPA and its relatives, English first
    "p": "P", "b": "B", "m": "M", "f": "F", "v": "V", "t": "T", "d": "D", "n": "N", "l": "L",
    "s": "S", "z": "Z", "k": "K", "g": "G", "ɡ": "G", "h": "HH", "w": "W", "j": "Y", "r": "R",
    "θ": "TH", "ð": "DH", "ʃ": "SH", "ʒ": "ZH", "tʃ": "CH", "dʒ": "JH", "ŋ": "NG", "ɹ": "R",
    "ɫ": "L", "ɾ": "D", "a": "AA", "ɑ": "AA", "ɒ": "AO", "ɔ": "AO", "æ": "AE", "ʌ": "AH",
    "ɐ": "AH", "ə": "AH", "ɜ": "ER", "ɝ": "ER", "ɚ": "ER", "e": "EH", "ɛ": "EH", "i": "IY",
    "ɪ": "IH", "o": "OW", "u": "UW", "ʊ": "UH", "aɪ": "AY", "aʊ": "AW", "eɪ": "EY", "oʊ": "OW",
    "əʊ": "OW", "ɔɪ": "OY",
    # phones that English lacks, by what the lips do
    "y": "UW", "ʏ": "UH", "ø": "ER", "œ": "ER", "ɯ": "IH", "ɨ": "IH", "ɤ": "AH", "ɵ": "UH",
    "ɶ": "AO", "ɸ": "F", "β": "B", "ʋ": "V", "ɱ": "M", "ç": "Y", "x": "K", "χ": "K", "ɣ": "G",
    "ʁ": "G", "ʀ": "G", "q": "K", "ɢ": "G", "ʔ": "HH", "ħ": "HH", "ʕ": "HH", "ɦ": "HH", "c": "K",
    "ɟ": "G", "ɲ": "N", "ɳ": "N", "ɴ": "NG", "ʎ": "L", "ɭ": "L", "ɬ": "L", "ʂ": "SH", "ʐ": "ZH",
    "ɕ": "SH", "ʑ": "ZH", "ʈ": "T", "ɖ": "D", "ts": "S", "dz": "Z", "tɕ": "CH", "dʑ": "JH",
    "tʂ": "CH", "ʙ": "B", "ʍ": "W", "ɥ": "W", "ɰ": "G", "ɻ": "R", "ɽ": "R",
}  # fmt: skip

_MARKS = str.maketrans("", "", "ːˑʰʲʷˠˤ̩̯̥̃͡ˈˌ")


def sound_of(name: str) -> str:
    """Return the inventory's sound for a phone of ARPAbet, IPA or an aligner.

    A name that nobody knows counts as its first letter where that is known, else as ``AH``: an
    unknown sound is still a sound, and a half-open mouth is the safest guess.
    """
    bare = name.strip().rstrip("0123456789")
    for candidate in (bare, bare.upper(), bare.translate(_MARKS), bare.translate(_MARKS)[:1]):
        if candidate in SOUNDS:
            return candidate
        if candidate in _OTHER:
            return _OTHER[candidate]
    return "AH"
