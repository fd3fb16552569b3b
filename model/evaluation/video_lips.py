"""Compare predicted lips with lips measured from video: `python -m model evaluate --lips FOLDER`.

What a folder holds is said in `measured.py`.

Beside the model stand three rows that frame it: the logarithm of the sound's energy, our gestures
on the true phones (`coarticulation.py`), and the real lips themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import soundfile

from ..errors import ConfigError
from ..phones.coarticulation import speech_curves
from ..phones.mouth_opening import mouth_width
from ..phones.phonemes import BILABIALS, OPEN_VOWELS, sound_of
from ..rig.controls import INDEX
from ..rig.rig import Rig
from .measured import Recording, read

Array = npt.NDArray[np.float64]

LAGS = np.arange(-0.060, 0.0601, 0.010)
"""Seconds by which predictions are moved to find the best lag; positive: they were early."""
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


def report(folder: Path, predict: Predict, *, meter: MouthMeter | None = None) -> dict[str, Any]:
    """Return the scores of a predictor, of the baselines and of the real lips on a folder.

    ``{"clips": {name: {who: scores}}, "median": {who: scores}}`` where ``who`` is ``model``,
    ``log energy``, ``true phones`` or ``real lips`` and the scores are those of `score`.
    """
    meter = meter or MouthMeter()
    clips: dict[str, dict[str, dict[str, float]]] = {}
    for clip in read(folder):
        rows = {
            "model": predict(clip.samples, clip.rate),
            "log energy": energy_lips(clip.samples, clip.rate),
        }
        if clip.phones:
            rows["true phones"] = spoken_lips(clip, meter)
        clips[clip.name] = {who: score(clip, lips) for who, lips in rows.items()}
        clips[clip.name]["real lips"] = score_curves(clip, clip.opening, clip.width)
    return {"folder": Path(folder).name, "clips": clips, "median": medians(clips)}


def evaluate(folder: Path, checkpoint: str, *, device: str = "auto") -> dict[str, Any]:
    """Return the `report` of a model file."""
    meter = MouthMeter()
    return report(folder, checkpoint_lips(checkpoint, device, meter), meter=meter)


def spoken_lips(clip: Recording, meter: MouthMeter, fps: float = 30.0) -> Lips:
    """Return the lips that our gestures make of a recording's true phones."""
    frames = int(np.ceil(len(clip.samples) / clip.rate * fps)) + 1
    curves = speech_curves(clip.phones, clip.samples, clip.rate, fps=fps, frames=frames)
    return meter.measure(curves, fps)


def score(clip: Recording, lips: Lips) -> dict[str, float]:
    """Return the scores of predicted lips: `score_curves`, and ``best r`` at ``lag`` seconds."""
    clock = np.arange(len(lips.opening)) / lips.fps
    moved = [np.interp(clip.times - lag, clock, lips.opening) for lag in LAGS]
    matches = [correlation(curve, clip.opening) for curve in moved]
    best = int(np.nanargmax(matches)) if np.isfinite(matches).any() else len(LAGS) // 2
    width = None if lips.width is None else np.interp(clip.times, clock, lips.width)
    scores = score_curves(clip, np.interp(clip.times, clock, lips.opening), width)
    return scores | {"best r": matches[best], "lag": float(LAGS[best])}


def score_curves(clip: Recording, opening: Array, width: Array | None) -> dict[str, float]:
    """Return the scores of an opening (F,) and width (F,) at the recording's video times.

    ``r``, ``width r``: correlation with the measured; ``closures``: share of p b m at which the
    lips shut; ``shut vowels``: share of open vowels whose widest moment is shut; ``d'``: distance
    of narrowest closure and widest vowel in their pooled standard deviation; ``jitter``: rms second
    difference over the standard deviation; ``wide``: 95th percentile of the opening.
    """
    wide = float(np.percentile(opening, 95))
    closures = moments(clip, opening, BILABIALS, np.min)
    vowels = moments(clip, opening, OPEN_VOWELS, np.max)
    return {
        "r": correlation(opening, clip.opening),
        "width r": np.nan if width is None else correlation(width, clip.width),
        "closures": share(closures < SHUT * wide),
        "shut vowels": share(vowels < SHUT * wide),
        "d'": separation(closures, vowels),
        "jitter": float(np.sqrt(np.mean(np.diff(opening, 2) ** 2)) / max(opening.std(), 1e-9)),
        "wide": wide,
    }


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


def correlation(one: Array, other: Array) -> float:
    """Return Pearson's correlation; NaN where one does not move."""
    if min(one.std(), other.std()) < 1e-9:
        return float("nan")
    return float(np.corrcoef(one, other)[0, 1])


def share(found: npt.NDArray[np.bool_]) -> float:
    """Return the share of true values; NaN where there are none."""
    return float(found.mean()) if len(found) else float("nan")


def separation(low: Array, high: Array) -> float:
    """Return d': the difference of two means over their pooled standard deviation."""
    if min(len(low), len(high)) < 2:
        return float("nan")
    return float((high.mean() - low.mean()) / max(np.sqrt((low.var() + high.var()) / 2), 1e-6))


def medians(clips: dict[str, dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Return each row's median over clips; shares are means, for a median of shares says little."""
    table: dict[str, dict[str, float]] = {}
    for who in dict.fromkeys(who for rows in clips.values() for who in rows):
        rows = [found[who] for found in clips.values() if who in found]
        table[who] = {}
        for name in rows[0]:
            values = np.array([row[name] for row in rows])
            values = values[np.isfinite(values)]
            middle = np.mean if name in ("closures", "shut vowels") else np.median
            table[who][name] = float(middle(values)) if len(values) else float("nan")
    return table


COLUMNS = ("r", "best r", "lag", "width r", "closures", "shut vowels", "d'", "jitter", "wide")


def format_table(result: dict[str, Any]) -> str:
    """Return a report as a Markdown table: medians first, then the model clip by clip."""
    lines = [
        f"Lips of {result['folder']} ({len(result['clips'])} recordings)",
        "",
        f"| | {' | '.join(COLUMNS)} |",
        "|---" * (len(COLUMNS) + 1) + "|",
    ]
    lines += [format_row(who, scores) for who, scores in result["median"].items()]
    lines += [format_row(name, rows["model"]) for name, rows in result["clips"].items()]
    return "\n".join(lines)


def format_row(title: str, scores: dict[str, float]) -> str:
    """Return one row; the lag in milliseconds, shares in percent."""
    cells = []
    for name in COLUMNS:
        value = scores.get(name, float("nan"))
        if not np.isfinite(value):
            cells.append("–")
        elif name == "lag":
            cells.append(f"{value * 1000:+.0f} ms")
        elif name in ("closures", "shut vowels"):
            cells.append(f"{value:.0%}")
        else:
            cells.append(f"{value:.2f}" if name != "wide" else f"{value:.3f}")
    return f"| {title} | {' | '.join(cells)} |"
