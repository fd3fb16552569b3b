# SPDX-License-Identifier: GPL-3.0-or-later
"""Fit the gestures' timing and openings to lips measured on video: `python -m model fit FOLDER`.

The folder is one that `measured.read` understands, with phones.  Seconds of video must not decide
fifty numbers freely, so every number is drawn towards the present table: sounds of a class move
together, single sounds a little against their class, timings a little; each speaker has a gain of
his own.  The penalised least squares are solved by Levenberg and Marquardt's method on the very
curves that the product makes.  Nothing is written: the program prints the scores of every clip left
out in turn, and the fitted numbers, to be judged and put into `phonemes.py` and `styles.py`.

The table in `phonemes.py` came from here: started from a table tuned by eye, fitted to six GRID
recordings (CC BY 4.0), rounded.  Development only; needs scipy.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...data import measured
from ...evaluation import video_lips
from ...phones.coarticulation import speech_curves
from ...phones.gestures import Sounds
from ...phones.mouth_opening import lip_opening
from ...phones.phonemes import SILENCE, SOUNDS, sound_of
from ...phones.styles import TIMING, Timing

Array = npt.NDArray[np.float64]

CLASSES = (
    "P B M", "F V", "S Z", "SH ZH CH JH", "T D N L TH DH", "K G NG HH", "W UW OW UH", "R ER",
    "AA AE AO AW AY", "EH EY AH", "IH IY Y OY", SILENCE,
)  # fmt: skip
TIMES = {"lead": 0.03, "rise": 0.04, "fall": 0.04, "hold": 0.2, "loudness": 0.06, "parted": 0.03}
"""Timings that are fitted, with the standard deviation of the belief in the present ones."""
CLASS_OPENING, SOUND_OPENING = 0.020, 0.012  # outer-eye distances
CLASS_GRIP, SOUND_GRIP = 0.4, 0.3  # of the logarithm
SPEAKER_GAIN = 0.25
NOISE = 0.05  # what the model cannot know; larger than its errors, for neighbouring frames agree
CLOCK = 100.0  # frames a second of the curves compared


@dataclass(frozen=True)
class Layout:
    """Which number of the unknowns means what, for a set of recordings."""

    heard: tuple[str, ...]
    clips: int

    @property
    def size(self) -> int:
        return len(TIMES) + 2 * len(CLASSES) + 2 * len(self.heard) + self.clips

    def split(self, unknowns: Array) -> tuple[Array, ...]:
        """Return timings, class openings and grips, sound openings and grips, speaker gains."""
        sizes = [len(TIMES), len(CLASSES), len(CLASSES), len(self.heard), len(self.heard)]
        return tuple(np.split(unknowns, np.cumsum(sizes)))

    def gains(self, unknowns: Array) -> Array:
        """Return every recording's factor on the opening."""
        return np.asarray(1.0 + SPEAKER_GAIN * self.split(unknowns)[5])

    def model(self, unknowns: Array) -> tuple[Timing, Sounds]:
        """Return the timing and the sounds that the unknowns (standard normal a priori) mean."""
        times, class_open, class_grip, sound_open, sound_grip, _ = self.split(unknowns)
        moved = {
            name: max(
                getattr(TIMING, name) + value * sd, 0.0 if name in ("lead", "loudness") else 0.01
            )
            for (name, sd), value in zip(TIMES.items(), times, strict=True)
        }
        sounds = {}
        for number, names in enumerate(CLASSES):
            for name in names.split():
                wider = CLASS_OPENING * class_open[number]
                firmer = CLASS_GRIP * class_grip[number]
                if name in self.heard:
                    wider += SOUND_OPENING * sound_open[self.heard.index(name)]
                    firmer += SOUND_GRIP * sound_grip[self.heard.index(name)]
                sounds[name] = tuple(
                    replace(
                        aim,
                        opening=max(aim.opening + wider, 0.0),
                        grip=aim.grip * float(np.exp(firmer)),
                    )
                    for aim in SOUNDS[name]
                )
        return replace(TIMING, **moved), sounds


def opening(clip: measured.Recording, timing: Timing, sounds: Sounds) -> video_lips.Lips:
    """Return the lips that the gestures make of a recording's phones."""
    frames = int(len(clip.samples) / clip.rate * CLOCK) + 1
    curves = speech_curves(
        clip.phones, clip.samples, clip.rate, fps=CLOCK, frames=frames, timing=timing, sounds=sounds
    )
    return video_lips.Lips(lip_opening(curves), None, CLOCK)


def fit(clips: Sequence[measured.Recording]) -> tuple[Timing, Sounds]:
    """Return the timing and sounds that fit recordings best."""
    from scipy.optimize import least_squares

    heard = {sound_of(phone.name) for clip in clips for phone in clip.phones}
    layout = Layout(tuple(sorted(heard)), len(clips))

    def residuals(unknowns: Array) -> Array:
        timing, sounds = layout.model(unknowns)
        errors = [unknowns]
        for clip, gain in zip(clips, layout.gains(unknowns), strict=True):
            found = opening(clip, timing, sounds)
            clock = np.arange(len(found.opening)) / CLOCK
            error = gain * np.interp(clip.times, clock, found.opening) - clip.opening
            errors.append(error * importance(clip) / NOISE)
        return np.concatenate(errors)

    start = np.zeros(layout.size)
    found = least_squares(residuals, start, diff_step=1e-2, max_nfev=12)
    return layout.model(found.x)


def importance(clip: measured.Recording) -> Array:
    """Return each video frame's weight (F,): 1 in and near speech, 0.5 elsewhere."""
    spoken = [phone for phone in clip.phones if sound_of(phone.name) != SILENCE]
    if not spoken:
        return np.full(len(clip.times), 0.5)
    near = (clip.times > spoken[0].start - 0.25) & (clip.times < spoken[-1].end + 0.25)
    return np.where(near, 1.0, 0.5)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("folder", type=Path, help="recordings with measured lips and phones")


def run(arguments: argparse.Namespace) -> int:
    """Print scores of clips left out, and the numbers fitted to all."""
    clips = [clip for clip in measured.read(arguments.folder) if clip.phones]
    print("correlation with the lips as the table stands, and fitted to all other clips")
    for clip in clips:
        others = fit([other for other in clips if other is not clip]) if len(clips) > 1 else None
        before = video_lips.score(clip, opening(clip, TIMING, SOUNDS))
        after = video_lips.score(clip, opening(clip, *others)) if others else {"r": float("nan")}
        print(f"  {clip.name}: {before['r']:.3f}  {after['r']:.3f}", flush=True)
    timing, sounds = fit(clips)
    print(timing)
    for name, aims in sounds.items():
        print(f"  {name:3}", "  ".join(f"{aim.opening:.3f} {aim.grip:.2f}" for aim in aims))
    return 0
