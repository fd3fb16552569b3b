# SPDX-License-Identifier: GPL-3.0-or-later
"""Things for synthetic voices to say: transcripts, command sentences, letters, numbers, word lists.

Ordinary prose leaves many sound pairs rare and never says a lone letter; the made-up sentences
fill those in. Everything is drawn from a seeded generator.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

LETTERS = "ay bee see dee ee eff gee aitch eye jay kay ell em en oh pee queue are ess tee you vee"
NUMBERS = "zero one two three four five six seven eight nine ten eleven twelve thirty fifty hundred"
WORDS = {
    "verb": "bring move paint open follow watch push carry find keep throw wash choose bend fold",
    "colour": "blue red white green brown purple yellow black orange silver",
    "place": "at by in with near under above behind before from",
    "thing": "paper bottle window river mother shoe apple voice music thumb beach bridge puppet "
    "farm village bubble chef vision measure mushroom wolf beaver vampire yacht oil toy cow fox",
    "adverb": "now again please soon quickly slowly maybe together forever",
    "person": "my father|Bob|the woman|Peter|your boss|Mabel|the judge|nobody|Vivian|the chief",
    "feeling": "loves|believes in|would buy|forgot|must improve|offered|hates|embraced|measures",
}
FRAMES = (
    "{verb} {colour} {place} {letter} {number} {adverb}",
    "{verb} the {colour} {thing} {place} the {thing} {adverb}",
    "{person} {feeling} the {colour} {thing}",
    "{person} {feeling} {number} {thing}s, and {person} {feeling} {letter} {number}",
    "why {feeling} a {thing} when {person} said {number}, {number}, {letter}?",
    "oh! {thing}, {thing}, {thing}. {verb} {adverb}!",
)


def choices(key: str) -> list[str]:
    """Return the fillers for one slot of a sentence frame."""
    if key == "letter":
        return LETTERS.split()
    if key == "number":
        return NUMBERS.split()
    return WORDS[key].split("|" if "|" in WORDS[key] else None)


def make_sentence(random: np.random.Generator) -> str:
    """Return one made-up sentence; every slot is filled on its own."""
    sentence = str(random.choice(FRAMES))
    while "{" in sentence:
        key = sentence[sentence.index("{") + 1 : sentence.index("}")]
        sentence = sentence.replace("{" + key + "}", str(random.choice(choices(key))), 1)
    return sentence


def sentences(transcripts: Sequence[str], seed: int) -> Iterator[str]:
    """Yield texts without end: half from transcripts (≤ 30 words each), half made up."""
    random = np.random.default_rng(seed)
    while True:
        if transcripts and random.random() < 0.5:
            words = str(random.choice(transcripts)).split()
            start = int(random.integers(max(len(words) - 12, 1)))
            yield " ".join(words[start : start + int(random.integers(8, 30))])
        else:
            yield ". ".join(make_sentence(random) for _ in range(int(random.integers(1, 4))))
