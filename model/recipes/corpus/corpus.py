# SPDX-License-Identifier: GPL-3.0-or-later
"""Build the bundled model's training corpus: speech of many kinds, timed phones, control curves.

    people with measured lips ────┐
    real speech with phone times ─┤
    synthetic voices ─► align ────┼─► clips ─► variations ─► phones, lips ─► curves ─► a folder
    noise and music (no phones) ──┘

``python -m model corpus OUT --speech FOLDER`` runs everything again on any machine. Nothing it
writes is part of the product; what it needs beyond the worker's packages are ``pocketsphinx`` and,
for synthetic voices, ``hibari-tts``, the Kokoro parts and the ``flite`` program.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from ... import audio
from ...data import measured
from ...data.dataset import read_mono
from ...errors import CorpusError
from ...phones.coarticulation import STYLES, Lips, Phone, life_curves, speech_curves
from ...resampling import resample
from ...rig.controls import CONTROLS
from . import augment
from .align import RATE, align, fill_gaps
from .lip_reader import Ear, LipReader, fit
from .sentences import sentences
from .voices import Voice, installed_voices

log = logging.getLogger(__name__)
HELD_OUT = 10  # every tenth speaker is never trained on
FPS = 30
READ_RATE = 100  # Hz at which lips are read
VOICE_SHARE = {"hibari": 4.0, "kokoro": 0.15, "flite": 1.0}  # of --minutes, for one voice of each


@dataclass(frozen=True)
class Clip:
    """One utterance.

    Attributes:
        name: unique file stem.
        speaker: whoever speaks; a speaker is either trained on or held out, never both.
        source: ``people``, ``librispeech``, ``hibari``, ``kokoro``, ``flite`` or ``no speech``.
        split: ``train`` or ``validation``.
        samples: (n,) float32 at 16 kHz.
        phones: timed phones covering the clip.
        base: name of the clip that this is a variation of, or its own.
        factor: how many times faster than its base it is.
    """

    name: str
    speaker: str
    source: str
    split: str
    samples: np.ndarray
    phones: list[Phone]
    base: str = ""
    factor: float = 1.0

    @property
    def seconds(self) -> float:
        return len(self.samples) / RATE


def seed_of(name: str) -> int:
    """Return a seed that depends on the name alone, so that any part can be rebuilt alone."""
    return zlib.crc32(name.encode("utf-8"))


def split_of(speaker: str) -> str:
    """Return the split of a speaker by name: about one in `HELD_OUT` is held out."""
    return "validation" if seed_of(speaker) % HELD_OUT == 0 else "train"


def aligned_speech(folder: Path) -> Iterator[Clip]:
    """Yield recordings listed in ``phones.jsonl`` (file, words → phones with times in seconds).

    Raises:
        CorpusError: the folder has no ``phones.jsonl``.
    """
    listing = folder / "phones.jsonl"
    if not listing.is_file():
        raise CorpusError(f"{folder} has no phones.jsonl", "Align it first: see docs/training.md")
    for line in listing.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        samples = read_mono(folder / record["file"])
        phones = [Phone(*phone) for word in record["words"] for phone in word[3]]
        speaker = record["file"].split("-")[0]
        yield Clip(
            Path(record["file"]).stem, f"libri-{speaker}", "librispeech", split_of(speaker),
            samples, fill_gaps(phones, len(samples) / RATE),
        )  # fmt: skip


def measured_speech(clips: Iterable[measured.Recording]) -> Iterator[Clip]:
    """Yield the recordings with measured lips whose phones are known."""
    for clip in clips:
        if clip.phones:
            samples = resample(clip.samples.astype(np.float32), clip.rate)
            phones = fill_gaps(clip.phones, len(samples) / RATE)
            name = f"people-{clip.speaker}-{clip.name}"
            yield Clip(name, f"people-{clip.speaker}", "people", "train", samples, phones)


def synthetic_speech(voice: Voice, texts: Iterator[str], minutes: float) -> Iterator[Clip]:
    """Yield aligned utterances of one voice until ``minutes`` are full; unalignable ones drop."""
    random = np.random.default_rng(seed_of(voice.name))
    spoken = 0.0
    while spoken < minutes * 60:
        text = next(texts)
        samples = voice.speak(text, float(np.exp(random.normal(0.0, 0.15))))
        try:
            phones = align(samples, text)
        except CorpusError as error:
            log.info("%s: %s", voice.name, error)
            spoken += 0.5  # a voice that never aligns must still end
            continue
        name = f"{voice.name}-{int(spoken * 1000):07d}"
        clip = Clip(name, voice.name, voice.name.split("-")[0], "train", samples, phones)
        spoken += clip.seconds
        yield clip


def silent_clips(minutes: float) -> Iterator[Clip]:
    """Yield noise, hush and music of 6–12 s whose only phone is ``SIL``."""
    random = np.random.default_rng(7)
    spoken = 0.0
    while spoken < minutes * 60:
        samples = augment.without_speech(float(random.uniform(6, 12)), random)
        seconds = len(samples) / RATE
        name = f"nospeech-{int(spoken * 1000):07d}"
        split = "validation" if random.random() < 1 / HELD_OUT else "train"
        yield Clip(name, "no speech", "no speech", split, samples, [Phone("SIL", 0.0, seconds)])
        spoken += seconds


def variations(clip: Clip, count: int, babble: np.ndarray) -> Iterator[Clip]:
    """Yield the clip itself and ``count`` changed copies."""
    yield clip
    for index in range(count):
        name = f"{clip.name}~{index + 1}"
        samples, phones = augment.vary(
            clip.samples, clip.phones, np.random.default_rng(seed_of(name)), babble
        )
        factor = len(clip.samples) / len(samples)
        yield replace(
            clip, name=name, samples=samples, phones=phones, base=clip.name, factor=factor
        )


def write_clips(clips: Iterable[Clip], folder: Path, done: set[str]) -> None:
    """Write ``audio/NAME.flac`` and append to ``clips.jsonl``.

    Pauses are silenced, as they will be before the network listens. Names in ``done`` are passed
    over and new ones added to it: a broken run goes on where it was.
    """
    (folder / "audio").mkdir(parents=True, exist_ok=True)
    with (folder / "clips.jsonl").open("a", encoding="utf-8") as file:
        for clip in clips:
            if clip.name in done:
                continue
            peak = max(1.0, float(np.abs(clip.samples).max()))
            samples, silent = audio.gate((clip.samples / peak).astype(np.float32))
            samples = audio.hush(len(samples)) if silent == 1.0 else samples
            path = folder / "audio" / f"{clip.name}.flac"
            soundfile.write(path, samples, RATE, subtype="PCM_16")
            phones = [[p.name, round(p.start, 4), round(p.end, 4)] for p in clip.phones]
            record = {"name": clip.name, "speaker": clip.speaker, "source": clip.source,
                      "split": clip.split, "seconds": clip.seconds, "phones": phones,
                      "base": clip.base or clip.name, "factor": round(clip.factor, 6)}  # fmt: skip
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
            done.add(clip.name)


def read_clips(folder: Path) -> list[dict[str, Any]]:
    """Return the records of ``clips.jsonl``; none where there is no such file."""
    listing = folder / "clips.jsonl"
    if not listing.is_file():
        return []
    return [json.loads(line) for line in listing.read_text(encoding="utf-8").splitlines()]


def collect(arguments: argparse.Namespace) -> None:
    """Write every clip and variation as FLAC with its phones."""
    out, speech = arguments.out, arguments.speech
    out.mkdir(parents=True, exist_ok=True)
    done = {record["name"] for record in read_clips(out)}
    real = list(aligned_speech(speech)) if speech else []
    transcripts = read_transcripts(speech) if speech else []
    babble = np.concatenate([clip.samples for clip in real[:20]] or [np.zeros(0, np.float32)])
    for clip in real:
        write_clips(variations(clip, arguments.variations, babble), out, done)
    people = list(measured_speech(seen(arguments)))
    counts = Counter(clip.speaker for clip in people)
    for clip in people:  # one speaker with most of the clips shall not have most of the say
        few = counts[clip.speaker] < max(counts.values())
        write_clips(variations(clip, 2 * arguments.variations if few else 0, babble), out, done)
    write_clips(silent_clips(arguments.minutes), out, done)
    voices, missing = installed_voices(arguments.voices)
    for sentence in missing:
        log.warning("left out: %s", sentence)
    for voice in voices:
        minutes = arguments.minutes * VOICE_SHARE[voice.name.split("-")[0]]
        texts = sentences(transcripts, seed_of(voice.name))
        for clip in synthetic_speech(voice, texts, minutes):
            write_clips(variations(clip, min(arguments.variations, 1), babble), out, done)
        log.info("%s done", voice.name)


def read_transcripts(folder: Path) -> list[str]:
    """Return the texts of ``transcripts.jsonl`` if the folder has one."""
    listing = folder / "transcripts.jsonl"
    if not listing.is_file():
        return []
    return [json.loads(line)["text"] for line in listing.read_text("utf-8").splitlines()]


# --- curves ----------------------------------------------------------------------------------


def style_mixes(name: str, count: int) -> Iterator[dict[str, float]]:
    """Yield the styles one clip is animated in: neutral first, then random ones and blends."""
    yield {"neutral": 1.0}
    random = np.random.default_rng(seed_of(name))
    for _ in range(count - 1):
        if random.random() < 0.7:
            yield {str(random.choice(STYLES[1:])): 1.0}
        else:
            weights = random.dirichlet(np.ones(len(STYLES)))
            yield {
                style: round(float(weight), 4)
                for style, weight in zip(STYLES, weights, strict=True)
            }


def animate(folder: Path, styles: int, lips: KnownLips) -> None:
    """Turn phones and lips into control curves; write ``motion.npy`` and ``manifest.json``."""
    entries = []
    blocks: list[np.ndarray] = []
    at = 0
    for record in read_clips(folder):
        samples = read_mono(folder / "audio" / f"{record['name']}.flac")
        phones = [Phone(*phone) for phone in record["phones"]]
        frames = math.ceil(len(samples) / RATE * FPS)
        known = lips.of(record, folder, frames)
        for index, mix in enumerate(style_mixes(record["name"], styles)):
            name = f"{record['name']}@{index}"
            speech = speech_curves(
                phones, samples, RATE, fps=FPS, frames=frames, style=mix, lips=known
            )
            life = life_curves(
                phones, samples, RATE, fps=FPS, frames=frames, seed=seed_of(name), style=mix
            )
            blocks.append((speech + life).astype(np.float16))
            entries.append({"name": name, "audio": f"audio/{record['name']}.flac",
                            "motion": "motion.npy", "motion_span": [at, at + frames],
                            "subject": record["speaker"], "style": mix,
                            "split": record["split"]})  # fmt: skip
            at += frames
    np.save(folder / "motion.npy", np.concatenate(blocks))
    manifest = {"format": 1, "motion": "controls", "fps": FPS, "styles": list(STYLES),
                "controls": list(CONTROLS), "clips": entries}  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    hours = sum(record["seconds"] for record in read_clips(folder)) / 3600
    print(f"{len(entries)} animated clips of {hours:.2f} h of sound in {folder}")


@dataclass
class KnownLips:
    """What is known of the lips of every clip: measured, read by a reader, or nothing."""

    people: dict[str, measured.Recording]
    """Measured recordings by the names of their clips."""
    reader: LipReader | None
    share: float
    """How much of the lips is not the phone table's."""
    seen: float = 0.5
    """How much of that is measured, where it is; a reader's is the rest. Of people whose every
    sentence is known a network would learn each twitch by heart; a reader only knows the rule."""
    read: dict[str, np.ndarray] = field(default_factory=dict)
    """Lips (F, 2) at `READ_RATE`, by base clip: its variations move alike."""

    def of(self, record: dict[str, Any], folder: Path, frames: int) -> Lips | None:
        """Return a clip's lips at its frames."""
        if self.reader is None or record["source"] == "no speech":
            return None
        times = np.arange(frames) / FPS * record["factor"]  # on the base's clock
        base = record["base"]
        if base not in self.read:
            samples = read_mono(folder / "audio" / f"{base}.flac")
            clock = np.arange(math.ceil(len(samples) / RATE * READ_RATE) + 1) / READ_RATE
            self.read[base] = self.reader.read(samples, clock.astype(np.float32))
        read = self.read[base]
        curves = at(times, np.arange(len(read)) / READ_RATE, read)
        if base not in self.people:
            return Lips(curves, self.share)
        clip = self.people[base]
        measured_curves = at(times, clip.times, clip.relative)
        return Lips(curves + self.seen * (measured_curves - curves), self.share, seen=True)


def at(times: np.ndarray, clock: np.ndarray, curves: np.ndarray) -> np.ndarray:
    """Return curves (n, 2) given at seconds (n,) at other seconds (F,)."""
    return np.stack([np.interp(times, clock, curve) for curve in curves.T], axis=1)


def seen(arguments: argparse.Namespace) -> list[measured.Recording]:
    """Return the recordings of people to learn from: those of ``--lips``, less ``--without``."""
    if not arguments.lips:
        return []
    left_out = set(arguments.without)
    return [clip for clip in measured.read(arguments.lips) if clip.speaker not in left_out]


def opened_ears(names: Iterable[str]) -> list[Ear]:
    """Open ears named as ENCODER@STATES, e.g. ``tiny.npz@2+3``."""
    ears = []
    for name in names:
        source, _, states = name.rpartition("@")
        ears.append(Ear(source, [int(state) for state in states.split("+")]))
    return ears


def known_lips(arguments: argparse.Namespace) -> KnownLips:
    """Fit the lip reader on the measured people.

    Raises:
        CorpusError: no encoder was named.
    """
    clips = seen(arguments)
    people = {f"people-{clip.speaker}-{clip.name}": clip for clip in clips}
    if not clips:
        return KnownLips({}, None, 0.0)
    if not arguments.ears:
        raise CorpusError("--lips needs --ears, Whisper encoders to read lips with")
    ears = opened_ears(arguments.ears)
    return KnownLips(people, fit(ears, clips), arguments.share)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe ``python -m model corpus``."""
    parser.add_argument("out", type=Path, help="folder to build the corpus in")
    parser.add_argument("--speech", type=Path, help="folder of recordings with phones.jsonl")
    parser.add_argument("--voices", nargs="*", default=list(VOICE_SHARE), help="speech engines")
    parser.add_argument("--minutes", type=float, default=8.0, help="per synthetic voice")
    parser.add_argument("--variations", type=int, default=3, help="changed copies of each clip")
    parser.add_argument("--styles", type=int, default=2, help="animations of each clip")
    parser.add_argument("--lips", type=Path, help="folder of people with lips measured on video")
    parser.add_argument("--without", nargs="*", default=[], help="people of --lips to leave out")
    parser.add_argument(
        "--ears",
        nargs="*",
        default=[],
        metavar="ENCODER@STATES",
        help="Whisper encoders and hidden states to read lips with, e.g. tiny.npz@2+3",
    )
    parser.add_argument("--share", type=float, default=0.75, help="of the mouth that is read")
    parser.add_argument("--stage", choices=["all", "clips", "curves"], default="all")


def run(arguments: argparse.Namespace) -> int:
    """Build the corpus; an interrupted build continues."""
    if arguments.stage != "curves":
        collect(arguments)
    if arguments.stage != "clips":
        animate(arguments.out, arguments.styles, known_lips(arguments))
    return 0
