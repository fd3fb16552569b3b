# SPDX-License-Identifier: GPL-3.0-or-later
"""Speech and its text → timed phones, by forced alignment with pocketsphinx.

Aligning every voice with one tool matters more than whose times are best: a synthesiser's own
durations run 80–90 ms late, and a corpus that mixes clocks teaches a mouth that is never on time.
Development only: needs the ``pocketsphinx`` and ``hibari-tts`` packages.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from ...errors import CorpusError
from ...phones.coarticulation import Phone

RATE = 16_000
HOP = 0.01  # seconds per pocketsphinx frame
MODIFIER = {"ə": "AH", "ᵊ": "AH", "ᵻ": "IH", "ɾ": "T", "T": "T", "ʤ": "JH", "ʧ": "CH"}
IPA = {
    **dict(zip("AIOWYiɪɛæɑɔʊuʌɜ", "EY AY OW AW OY IY IH EH AE AA AO UH UW AH ER".split(),
               strict=True)),
    **dict(zip("pbtdkɡfvθðszʃʒhmnŋlɹjw",
               "P B T D K G F V TH DH S Z SH ZH HH M N NG L R Y W".split(), strict=True)),
    **MODIFIER,
}  # fmt: skip


def words_of(text: str) -> list[str]:
    """Split a transcript into lower-case dictionary words; digits and symbols are dropped."""
    spaced = re.sub(r"[^a-z' ]", " ", text.lower().replace("’", "'").replace("-", " "))
    return [word for word in (part.strip("'") for part in spaced.split()) if word]


@cache
def phonemizer() -> Any:
    """Return hibari's phonemizer, loaded once: it spells words the dictionary lacks."""
    try:
        from hibari import Hibari
    except ImportError as error:
        raise CorpusError("hibari-tts is not installed", "pip install hibari-tts") from error
    return Hibari()


def pronounce(word: str) -> str:
    """Spell one word as space-separated ARPAbet phones, e.g. ``"L IH N D"``."""
    ipa = "".join(phonemizer().phonemize(word))
    spelled = " ".join(IPA[symbol] for symbol in ipa if symbol in IPA)
    return spelled.replace("AH R", "ER").replace("ER R", "ER")


def align(samples: np.ndarray, text: str) -> list[Phone]:
    """Align (n,) float32 speech at 16 kHz with its words; gaps come back as ``SIL``.

    Raises:
        CorpusError: the text has no words, or the audio does not contain them.
    """
    try:
        from pocketsphinx import Decoder
    except ImportError as error:
        raise CorpusError("pocketsphinx is not installed", "pip install pocketsphinx") from error
    words = words_of(text)
    if not words:
        raise CorpusError(f"nothing to align in “{text}”")
    decoder = Decoder(lm=None, loglevel="FATAL", bestpath=False, beam=1e-120, wbeam=1e-100,
                      pbeam=1e-120)  # fmt: skip
    for word in set(words):
        if decoder.lookup_word(word) is None:
            decoder.add_word(word, pronounce(word), True)
    pcm = (np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes()
    decoder.set_align_text(" ".join(words))
    try:
        run(decoder, pcm)
        decoder.set_alignment()  # second pass: words → phones
        run(decoder, pcm)
        found = decoder.get_alignment()
    except RuntimeError as error:
        raise CorpusError(f"the audio does not say “{text}”") from error
    if found is None:
        raise CorpusError(f"the audio does not say “{text}”")
    return fill_gaps(
        [Phone(p.name, p.start * HOP, (p.start + p.duration) * HOP) for w in found for p in w],
        len(samples) / RATE,
    )


def run(decoder: Any, pcm: bytes) -> None:
    """Feed one whole utterance (16-bit PCM) through the decoder."""
    decoder.start_utt()
    decoder.process_raw(pcm, full_utt=True)
    decoder.end_utt()


def fill_gaps(phones: Sequence[Phone], duration: float) -> list[Phone]:
    """Return phones covering 0..duration without holes; pauses and noises are named ``SIL``."""
    filled: list[Phone] = []
    at = 0.0
    for phone in phones:
        name = phone.name if phone.name.isalpha() and phone.name.isupper() else "SIL"
        if phone.start > at + 1e-6:
            filled.append(Phone("SIL", at, phone.start))
        filled.append(Phone(name, max(phone.start, at), phone.end))
        at = phone.end
    if duration > at + 1e-6:
        filled.append(Phone("SIL", at, duration))
    return filled
