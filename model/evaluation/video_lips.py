# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare predicted lips with lips measured from video: `python -m model evaluate --lips FOLDER`.

What a folder holds is said in `data/measured.py`.

Beside the model stand rows that frame it: the logarithm of the sound's energy, our gestures on the
true phones (`coarticulation.py`), whatever a caller adds (the corpus recipe adds a ridge), and the
real lips themselves. Every number is the mean over speakers of their clips' mean; shares (closures,
vowels, pauses) count every sound once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import soundfile

from ..data.measured import Recording, read
from ..errors import ConfigError
from ..phones.coarticulation import speech_curves
from ..phones.mouth_opening import mouth_width
from ..phones.phonemes import BILABIALS, OPEN_VOWELS, SILENCE, Phone, sound_of
from ..rig.controls import INDEX
from ..rig.rig import Rig

Array = npt.NDArray[np.float64]

LAGS = np.arange(-0.100, 0.1001, 0.010)
"""Seconds by which predictions are moved to find the best lag; positive: they were early."""
PAUSES = (0.3, 0.6, 1.0)
"""Seconds from which pauses between words are counted."""
SHUT = 0.2
"""Lips count as shut below this part of the recording's own wide opening (95th percentile)."""


class Lips(NamedTuple):
    """Lips over time: inner opening (F,), mouth width (F,) or None, frames a second from time 0."""

    opening: Array
    width: Array | None
    fps: float


Predict = Callable[[Array, int], Lips]
"""From samples (n,) and their rate in Hz to lips."""


# --- who predicts ------------------------------------------------------------------------------


def energy_lips(samples: Array, rate: int) -> Lips:
    """Return the baseline that any sound meter gives: log energy in 40 ms windows, 100 Hz."""
    hop, half = rate // 100, rate // 50
    power = np.concatenate([[0.0], np.cumsum(samples**2)])
    centres = np.arange(0, len(samples), hop)
    low, high = np.maximum(centres - half, 0), np.minimum(centres + half, len(samples))
    level = np.log10((power[high] - power[low]) / np.maximum(high - low, 1) + 1e-7)
    return Lips(level - level.min(), None, 100.0)


class MouthMeter:
    """Measure the mouth of a head that control curves move."""

    def __init__(self, rig: Rig | None = None) -> None:
        """Use a rig; by default the demo head's."""
        if rig is None:
            from ..rig import demo_head

            found = demo_head.load()
            rig = Rig(found.vertices, found.triangles)
        self._rig = rig

    def measure(self, controls: npt.NDArray[np.floating], fps: float) -> Lips:
        """Return the lips of control curves (F, C): the opening from the moved head itself."""
        opening = self._rig.opening(self._rig.evaluate(controls))
        names = ("jawOpen", "mouthPucker", "mouthFunnel", "mouthStretchLeft")
        parts = [controls[:, INDEX[name]].astype(np.float64) for name in names]
        return Lips(np.asarray(opening, np.float64), mouth_width(*parts), fps)


def checkpoint_lips(checkpoint: str, device: str, meter: MouthMeter) -> Predict:
    """Return a predictor that runs a control model.

    Raises:
        ConfigError: when called, if the model moves vertices and not named controls.
    """
    import tempfile

    from ..generation.generate import GenerateRequest, generate
    from ..generation.session import Session

    session = Session(device)

    def predict(samples: Array, rate: int) -> Lips:
        with tempfile.TemporaryDirectory() as folder:
            sound = Path(folder) / "sound.wav"
            soundfile.write(sound, samples, rate)
            motion = generate(GenerateRequest(str(sound), checkpoint=checkpoint), session=session)
        if motion.controls is None:
            raise ConfigError(
                "Lips are measured on models that move named controls.",
                hint="For a model that moves vertices give --data.",
            )
        return meter.measure(motion.controls, motion.fps)

    return predict


# --- scores ------------------------------------------------------------------------------------


Scores = dict[str, float]
"""Name → value; a share's name → its value, and ``#name`` how many cases it is of."""


def report(
    folder: Path,
    predict: Predict,
    *,
    meter: MouthMeter | None = None,
    others: Mapping[str, Predict] | None = None,
) -> dict[str, Any]:
    """Return the scores of a predictor, of the baselines and of the real lips on a folder.

    ``{"clips": {name: {who: scores}}, "mean": {who: scores}}`` where ``who`` is ``model``, a name
    of ``others``, ``log energy``, ``true phones`` or ``real lips``; scores are those of `score`.
    """
    meter = meter or MouthMeter()
    predictors = {"model": predict, **(others or {}), "log energy": energy_lips}
    clips: dict[str, dict[str, Scores]] = {}
    speakers: dict[str, str] = {}
    for clip in read(folder):
        name = clip.name if clip.speaker == clip.name else f"{clip.speaker}/{clip.name}"
        rows = {who: guess(clip.samples, clip.rate) for who, guess in predictors.items()}
        if clip.phones:
            rows["true phones"] = spoken_lips(clip, meter)
        clips[name] = {who: score(clip, lips) for who, lips in rows.items()}
        clips[name]["real lips"] = score_curves(clip, clip.opening, clip.width)
        speakers[name] = clip.speaker
    return {"folder": Path(folder).name, "clips": clips, "mean": means(clips, speakers)}


def evaluate(
    folder: Path,
    checkpoint: str,
    *,
    device: str = "auto",
    others: Mapping[str, Predict] | None = None,
) -> dict[str, Any]:
    """Return the `report` of a model file."""
    meter = MouthMeter()
    predict = checkpoint_lips(checkpoint, device, meter)
    return report(folder, predict, meter=meter, others=others)


def spoken_lips(clip: Recording, meter: MouthMeter, fps: float = 30.0) -> Lips:
    """Return the lips that our gestures make of a recording's true phones."""
    frames = int(np.ceil(len(clip.samples) / clip.rate * fps)) + 1
    curves = speech_curves(clip.phones, clip.samples, clip.rate, fps=fps, frames=frames)
    return meter.measure(curves, fps)


def score(clip: Recording, lips: Lips) -> Scores:
    """Return the scores of predicted lips: `score_curves`, and ``best r`` at ``lag`` seconds."""
    clock = np.arange(len(lips.opening)) / lips.fps
    moved = [np.interp(clip.times - lag, clock, lips.opening) for lag in LAGS]
    matches = [correlation(curve, clip.opening) for curve in moved]
    best = int(np.nanargmax(matches)) if np.isfinite(matches).any() else len(LAGS) // 2
    width = None if lips.width is None else np.interp(clip.times, clock, lips.width)
    scores = score_curves(clip, np.interp(clip.times, clock, lips.opening), width)
    return scores | {"best r": matches[best], "lag": float(LAGS[best])}


def score_curves(clip: Recording, opening: Array, width: Array | None) -> Scores:
    """Return the scores of an opening (F,) and width (F,) at the recording's video times.

    ``r``, ``width r``: correlation with the measured; ``closures``: share of p b m at which the
    lips shut; ``shut vowels``: share of open vowels whose widest moment is shut; ``jitter``: rms
    second difference over the standard deviation, the measured lips' taken as 1; ``p5``, ``p50``,
    ``p95``: percentiles of the opening while words are spoken; ``apart 0.3`` and so on: share of
    the pauses of at least so many seconds between words in whose middle half the lips are apart.
    """
    shut = SHUT * float(np.percentile(opening, 95))
    closures = moments(clip, opening, BILABIALS, np.min)
    vowels = moments(clip, opening, OPEN_VOWELS, np.max)
    real = roughness(clip.opening)
    scores = {
        "r": correlation(opening, clip.opening),
        "width r": np.nan if width is None else correlation(width, clip.width),
        **share("closures", closures < shut),
        **share("shut vowels", vowels < shut),
        "jitter": roughness(opening) / real if real else np.nan,
    }
    spoken = opening[speaking(clip)]
    for percent in (5, 50, 95):
        scores[f"p{percent}"] = float(np.percentile(spoken, percent)) if len(spoken) else np.nan
    lengths, levels = pauses(clip, opening)
    for least in PAUSES:
        scores |= share(f"apart {least:g}", levels[lengths >= least] > shut)
    return scores


def moments(
    clip: Recording, opening: Array, sounds: frozenset[str], pick: Callable[[Array], Any]
) -> Array:
    """Return the extreme opening around every phone of a kind, 60 ms before to 30 ms after."""
    margin = 0.06
    found = []
    for phone in clip.phones:
        inside = (clip.times > phone.start - margin) & (clip.times < phone.end + margin / 2)
        if sound_of(phone.name) in sounds and inside.any():
            found.append(float(pick(opening[inside])))
    return np.array(found)


def speaking(clip: Recording) -> npt.NDArray[np.bool_]:
    """Return which frames (F,) lie between the first word and the last; all where none is known."""
    spoken = [phone for phone in clip.phones if sound_of(phone.name) != SILENCE]
    if not spoken:
        return np.ones(len(clip.times), bool)
    return (clip.times >= spoken[0].start) & (clip.times <= spoken[-1].end)


def pauses(clip: Recording, opening: Array) -> tuple[Array, Array]:
    """Return lengths (N,) of the pauses between words, and openings (N,) in their middle halves."""
    found = []
    for phone in as_one_silence(clip)[1:-1]:
        quarter = (phone.end - phone.start) / 4
        inside = (clip.times >= phone.start + quarter) & (clip.times <= phone.end - quarter)
        if sound_of(phone.name) == SILENCE and inside.any():
            found.append((phone.end - phone.start, float(opening[inside].mean())))
    lengths, levels = np.array(found).reshape(-1, 2).T
    return lengths, levels


def as_one_silence(clip: Recording) -> list[Phone]:
    """Return a clip's phones with neighbouring silences joined."""
    joined: list[Phone] = []
    for phone in clip.phones:
        if joined and sound_of(phone.name) == sound_of(joined[-1].name) == SILENCE:
            joined[-1] = Phone(SILENCE, joined[-1].start, phone.end)
        else:
            joined.append(phone)
    return joined


def roughness(curve: Array) -> float:
    """Return the rms second difference over the standard deviation; 0 for what does not move."""
    if len(curve) < 3 or curve.std() < 1e-9:
        return 0.0
    return float(np.sqrt(np.mean(np.diff(curve, 2) ** 2)) / curve.std())


def correlation(one: Array, other: Array) -> float:
    """Return Pearson's correlation; NaN where one does not move."""
    if min(one.std(), other.std()) < 1e-9:
        return float("nan")
    return float(np.corrcoef(one, other)[0, 1])


def share(name: str, found: npt.NDArray[np.bool_]) -> Scores:
    """Return the share of true values under a name, and their number."""
    return {name: float(found.mean()) if len(found) else np.nan, f"#{name}": float(len(found))}


def means(
    clips: Mapping[str, Mapping[str, Scores]], speakers: Mapping[str, str]
) -> dict[str, Scores]:
    """Return each row's mean over speakers of their clips' mean; shares over all cases."""
    table: dict[str, Scores] = {}
    for who in dict.fromkeys(who for rows in clips.values() for who in rows):
        rows = {name: found[who] for name, found in clips.items() if who in found}
        table[who] = {}
        for name in dict.fromkeys(name for row in rows.values() for name in row):
            pairs = [(clip, row.get(name, np.nan)) for clip, row in rows.items()]
            known = [(clip, value) for clip, value in pairs if np.isfinite(value)]
            if name.startswith("#"):
                table[who][name] = sum(value for _, value in known)
            elif f"#{name}" in table[who] or any(f"#{name}" in row for row in rows.values()):
                weights = [rows[clip][f"#{name}"] for clip, _ in known]
                values = [value for _, value in known]
                table[who][name] = float(np.average(values, weights=weights)) if known else np.nan
            else:
                people: dict[str, list[float]] = {}
                for clip, value in known:
                    people.setdefault(speakers[clip], []).append(value)
                each = [float(np.mean(values)) for values in people.values()]
                table[who][name] = float(np.mean(each)) if each else np.nan
    return table


COLUMNS = (
    "r", "best r", "lag", "width r", "closures", "shut vowels", "jitter", "p5", "p50", "p95",
    *(f"apart {least:g}" for least in PAUSES),
)  # fmt: skip


def format_table(result: dict[str, Any]) -> str:
    """Return a report as a Markdown table: means first, then the model clip by clip."""
    lines = [
        f"Lips of {result['folder']} ({len(result['clips'])} recordings)",
        "",
        f"| | {' | '.join(COLUMNS)} |",
        "|---" * (len(COLUMNS) + 1) + "|",
    ]
    lines += [format_row(who, scores) for who, scores in result["mean"].items()]
    lines += [format_row(name, rows["model"]) for name, rows in result["clips"].items()]
    return "\n".join(lines)


def format_row(title: str, scores: Scores) -> str:
    """Return one row; the lag in milliseconds, shares in percent and of how many."""
    cells = []
    for name in COLUMNS:
        value = scores.get(name, float("nan"))
        if not np.isfinite(value):
            cells.append("–")
        elif name == "lag":
            cells.append(f"{value * 1000:+.0f} ms")
        elif f"#{name}" in scores:
            cells.append(f"{value:.0%} of {scores[f'#{name}']:.0f}")
        else:
            cells.append(f"{value:.3f}" if name.startswith("p") else f"{value:.2f}")
    return f"| {title} | {' | '.join(cells)} |"
