# SPDX-License-Identifier: GPL-3.0-or-later
"""Make a data set in VOCASET's exact layout from the project's own parts: `synthetic OUT`.

Twelve made-up people (warped demo heads, each with a speaking style of their own) say sentences;
their faces move by phone tables on a rig. Speech is real where a folder with aligned phones is
given (`--speech`), else made by a small formant voice. 60 fps `.npy`, `templates.pkl`, 16 kHz
`.wav`, `FLAME_masks.pkl`: whatever trains on VOCASET trains on this. It measures a training
pipeline, not people.

Legend: `F` frames at 60 fps, `V` vertices, `C` controls, `n` samples.
"""

from __future__ import annotations

import argparse
import json
import pickle
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...data import layouts
from ...errors import ConfigError, OutputError
from ...phones.coarticulation import STYLES, Phone, speech_curves
from ...phones.nonverbal import life_curves
from ...rig import demo_head
from ...rig.controls import CONTROLS
from ...rig.rig import Rig
from .formants import speak

Floats = npt.NDArray[np.floating]

FPS = 60.0
RATE = 16_000
FIRST = {"train": 1, "validation": 21, "test": 21}  # sentence numbers, as in VOCASET


@dataclass(frozen=True)
class Utterance:
    """Samples (n,) at 16 kHz with the phones that are spoken."""

    samples: Floats
    phones: list[Phone]


@dataclass(frozen=True)
class Person:
    """One made-up subject."""

    name: str
    split: str
    template: Floats  # (V, 3) metres
    style: dict[str, float]  # mix of speaking styles
    gains: Floats  # (C,) how strongly each control is used


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("out", type=Path, help="new folder")
    parser.add_argument("--speech", type=Path, help="folder with phones.jsonl and its recordings")
    parser.add_argument("--sentences", type=int, default=8, help="of each training subject (8)")
    parser.add_argument("--unseen", type=int, default=5, help="of each unseen subject (5)")
    parser.add_argument("--seconds", type=float, default=3.0, help="longest sentence")
    parser.add_argument("--seed", type=int, default=0)


def run(arguments: argparse.Namespace) -> int:
    """Write the data set and say how large it is."""
    counts = {
        "train": arguments.sentences,
        "validation": arguments.unseen,
        "test": arguments.unseen,
    }
    if not 1 <= arguments.sentences <= 40 or not 1 <= arguments.unseen <= 20:
        raise ConfigError("A set has 1 to 40 sentences, and 1 to 20 of unseen subjects.")
    if arguments.speech:
        source = recorded(arguments.speech, arguments.seconds)
    else:
        source = made_up(arguments.seconds, arguments.seed)
    clips, seconds = make(arguments.out, source, counts, arguments.seed)
    print(f"{arguments.out}: {clips} sentences, {seconds:.0f} s")
    return 0


def make(
    out: Path, source: Iterator[Utterance], counts: dict[str, int], seed: int
) -> tuple[int, float]:
    """Write every subject's sentences; return how many and how long they are.

    Raises:
        ConfigError: the speech does not suffice.
        OutputError: the folder cannot be written.
    """
    face = demo_head.load()
    people = list(cast(face.vertices, seed))
    clips, seconds = 0, 0.0
    try:
        for folder in ("wav", "vertices_npy"):
            (out / folder).mkdir(parents=True, exist_ok=True)
        write_companions(out, people, Rig(face.vertices, face.triangles), face.triangles)
        for number, person in enumerate(people):
            rig = Rig(person.template, face.triangles)
            for sentence in range(counts[person.split]):
                utterance = next(source, None)
                if utterance is None:
                    raise ConfigError(
                        "There is not enough speech for so many sentences.",
                        hint="Ask for fewer, or for shorter ones with --seconds.",
                    )
                stem = f"{person.name}_sentence{FIRST[person.split] + sentence:02d}"
                write_sentence(out, stem, person, rig, utterance, 1000 * number + sentence)
                clips, seconds = clips + 1, seconds + len(utterance.samples) / RATE
            print(f"{person.name} ({person.split}): {counts[person.split]}", file=sys.stderr)
    except OSError as error:
        raise OutputError(f"{out} cannot be written: {error.strerror}.") from error
    return clips, seconds


# ---------------------------------------------------------------- people


def cast(vertices: Floats, seed: int) -> Iterator[Person]:
    """Yield VOCASET's twelve subjects with heads and manners of their own."""
    facts = layouts.VOCASET
    splits = [("train", facts.train), ("validation", facts.validation), ("test", facts.test)]
    random = np.random.default_rng(seed)
    for split, names in splits:
        for name in names:
            weights = random.dirichlet(np.full(len(STYLES), 0.7))
            gains = np.exp(random.normal(0, 0.12, len(CONTROLS)))
            style = dict(zip(STYLES, map(float, weights), strict=True))
            yield Person(name, split, warped(vertices, random), style, gains)


def warped(vertices: Floats, random: np.random.Generator) -> Floats:
    """Return another identity: sizes, a wider or narrower jaw, a longer or shorter lower face."""
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    middle, size = (low + high) / 2, high - low
    place = (vertices - middle) / size  # about ±0.5
    sizes = 1 + random.normal(0, 0.035, 3)
    wider = 1 + random.normal(0, 0.10) * smooth_step(-place[:, 1])
    longer = 1 + random.normal(0, 0.06) * smooth_step(-place[:, 1])
    deeper = 1 + random.normal(0, 0.05) * smooth_step(place[:, 2])
    factors = np.stack([wider, longer, deeper], axis=1) * sizes
    return np.asarray(middle + (vertices - middle) * factors, dtype=np.float64)


def smooth_step(value: Floats) -> Floats:
    """Rise smoothly from 0 to 1 between -0.3 and 0.5."""
    share = np.clip((value + 0.3) / 0.8, 0, 1)
    return np.asarray(share * share * (3 - 2 * share))


# ---------------------------------------------------------------- writing


def write_companions(
    out: Path, people: list[Person], rig: Rig, triangles: npt.NDArray[np.integer]
) -> None:
    """Write `templates.pkl`, `FLAME_masks.pkl` (lips, forehead, eye region) and the triangles."""
    names, masks = rig.regions()
    soft = dict(zip(names, masks, strict=True))
    upper = np.flatnonzero(soft["upper"] > 0.5)
    height = people[0].template[upper, 1]
    brow = upper[height > np.median(height)]
    regions = {
        "lips": np.flatnonzero(soft["lips"] > 0.5),
        "forehead": brow,
        "eye_region": np.setdiff1d(upper, brow),
    }
    templates = {person.name: person.template for person in people}
    for name, content in (("templates.pkl", templates), ("FLAME_masks.pkl", regions)):
        with (out / name).open("wb") as file:
            pickle.dump(content, file, protocol=2)
    np.save(out / "triangles.npy", triangles)


def write_sentence(
    out: Path, stem: str, person: Person, rig: Rig, utterance: Utterance, seed: int
) -> None:
    """Write one sentence's sound and vertices (F, 3V) float32 at 60 fps."""
    import soundfile

    frames = int(len(utterance.samples) / RATE * FPS)
    timing: dict[str, Any] = {"fps": FPS, "frames": frames, "style": person.style}
    speech = speech_curves(utterance.phones, utterance.samples, RATE, **timing)
    life = life_curves(utterance.phones, utterance.samples, RATE, **timing, seed=seed)
    controls = np.clip((speech + life) * person.gains, 0, 1)
    seal = CONTROLS.index("mouthClose")
    controls[:, seal] = speech[:, seal]  # people differ in much, but their lips do close
    vertices = person.template + rig.evaluate(controls)
    flat = vertices.reshape(frames, -1).astype(np.float32)
    np.save(out / "vertices_npy" / f"{stem}.npy", flat)
    soundfile.write(out / "wav" / f"{stem}.wav", utterance.samples, RATE, subtype="PCM_16")


# ---------------------------------------------------------------- speech


def recorded(folder: Path, longest: float) -> Iterator[Utterance]:
    """Yield recordings, cut at word boundaries into sentences of at most `longest` seconds.

    `phones.jsonl` has one object a line: "file" and "words", each [word, start, end,
    [[phone, start, end], …]] in seconds.
    """
    import soundfile

    listing = folder / "phones.jsonl"
    if not listing.is_file():
        raise ConfigError(f"{folder} has no phones.jsonl.")
    for line in listing.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        samples, rate = soundfile.read(folder / record["file"], dtype="float32", always_2d=True)
        if rate != RATE:
            raise ConfigError(f"{record['file']} is at {rate} Hz; 16,000 Hz is needed.")
        for start, end, phones in sentences(record["words"], longest):
            piece = samples[round(start * RATE) : round(end * RATE)].mean(axis=1)
            yield Utterance(piece, phones)


def sentences(words: list[Any], longest: float) -> Iterator[tuple[float, float, list[Phone]]]:
    """Yield (start, end, phones from 0) of runs of whole words, as long as they may be."""
    start = None
    phones: list[Phone] = []
    for _, first, last, inner in words:
        begin, end = float(first), float(last)
        if start is not None and end - start > longest:
            if phones[-1].end > 0.6 * longest:
                yield start, start + phones[-1].end, phones
            start, phones = None, []
        if end - begin > longest:
            continue
        start = begin if start is None else start
        offset = start
        phones += [Phone(name, a - offset, b - offset) for name, a, b in inner]
    if start is not None and phones and phones[-1].end > 0.6 * longest:
        yield start, start + phones[-1].end, phones


def made_up(longest: float, seed: int) -> Iterator[Utterance]:
    """Yield endless nonsense sentences of the formant voice."""
    random = np.random.default_rng(seed + 1)
    while True:
        phones = nonsense(longest * random.uniform(0.7, 1.0), random)
        yield Utterance(speak(phones, RATE, pitch=random.uniform(90, 240), random=random), phones)


def nonsense(seconds: float, random: np.random.Generator) -> list[Phone]:
    """Return syllables of consonant and vowel with short pauses, as timed phones."""
    consonants = "P B M F V T D N S Z SH K G L R W HH".split()
    vowels = "AA AE AH AO EH ER IH IY OW UH UW AY EY".split()
    phones = [Phone("SIL", 0.0, 0.15)]
    while phones[-1].end < seconds - 0.35:
        for sounds, shortest, widest in ((consonants, 0.05, 0.11), (vowels, 0.08, 0.18)):
            start = phones[-1].end
            name = str(random.choice(sounds))
            phones.append(Phone(name, start, start + random.uniform(shortest, widest)))
        if random.random() < 0.12:
            start = phones[-1].end
            phones.append(Phone("SIL", start, start + 0.15))
    phones.append(Phone("SIL", phones[-1].end, seconds))
    return phones
