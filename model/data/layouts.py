# SPDX-License-Identifier: GPL-3.0-or-later
"""Open a data set: our own folder, or VOCASET and BIWI as the community prepared them.

`open_data` checks everything that can be known from file headers and lists all problems at once;
`data.survey` then looks at the values. Facts about the two published layouts (splits, frame rates,
subject order) are those of DiffSpeaker@0f2ae2d `alm/data`, written down in our own words:

* `wav/<subject>_<…NN>.wav`, `vertices_npy/<same>.npy` (frames, 3V), `templates.pkl` (dict subject →
  (V, 3), a Python-2 pickle); NN, the last two digits, is the sentence's number.
* VOCASET: files at 60 fps, every second frame is read; 8 training subjects with sentences 1–40,
  2 + 2 unseen subjects with sentences 21–40 for validation and test.
* BIWI: 25 fps; 6 subjects, sentences 1–32 train, 33–36 validate, 37–40 test.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError
from . import dataset
from .dataset import Array, Clip, DataSet, read_pickle


@dataclass(frozen=True)
class Published:
    """The facts of one published data set's layout."""

    name: str
    fps: float  # as read
    stride: int  # every how manieth stored frame is read
    train: tuple[str, ...]  # subjects in style order
    validation: tuple[str, ...]
    test: tuple[str, ...]
    sentences: dict[str, range]  # split -> sentence numbers


VOCASET = Published(
    "vocaset",
    fps=30.0,
    stride=2,
    train=tuple(
        f"FaceTalk_{number}_TA"
        for number in (
            "170728_03272",
            "170904_00128",
            "170725_00137",
            "170915_00223",
            "170811_03274",
            "170913_03279",
            "170904_03276",
            "170912_03278",
        )
    ),
    validation=("FaceTalk_170811_03275_TA", "FaceTalk_170908_03277_TA"),
    test=("FaceTalk_170809_00138_TA", "FaceTalk_170731_00024_TA"),
    sentences={"train": range(1, 41), "validation": range(21, 41), "test": range(21, 41)},
)

BIWI = Published(
    "biwi",
    fps=25.0,
    stride=1,
    train=("F2", "F3", "F4", "M3", "M4", "M5"),
    validation=("F2", "F3", "F4", "M3", "M4", "M5"),
    test=("F2", "F3", "F4", "M3", "M4", "M5"),
    sentences={"train": range(1, 33), "validation": range(33, 37), "test": range(37, 41)},
)

PUBLISHED = {"vocaset": VOCASET, "biwi": BIWI}


def open_data(folder: Path, layout: str = "folder", tolerance: float = 0.25) -> DataSet:
    """Open a data set and check it.

    `layout`: "folder" (ours, `manifest.json`), "vocaset" or "biwi". `tolerance`: seconds by which a
    clip's audio and motion may differ in length.

    Raises:
        DataError: anything is missing or does not fit; everything is listed at once.
    """
    if not folder.is_dir():
        raise DataError(f"There is no data folder {folder}.")
    problems: list[str] = []
    if layout == "folder":
        found = open_folder(folder, problems)
    else:
        found = open_published(folder, PUBLISHED[layout], problems)
    for clip in found.clips:
        compare_lengths(clip, found.fps, tolerance, problems)
    if not problems and not found.split("train"):
        problems.append("no clip belongs to the split “train”")
    dataset.refuse(folder, problems)
    return found


def compare_lengths(clip: Clip, fps: float, tolerance: float, problems: list[str]) -> None:
    """Note a clip whose audio and motion differ in length by more than `tolerance` seconds."""
    motion = clip.frames / fps
    if abs(motion - clip.seconds) > tolerance:
        problems.append(
            f"{clip.name}: the audio is {clip.seconds:.2f} s long, the motion {motion:.2f} s"
        )


# ---------------------------------------------------------------- our own folder


def open_folder(folder: Path, problems: list[str]) -> DataSet:
    """Open a folder with `manifest.json`; problems of single clips are appended to `problems`."""
    manifest = read_manifest(folder)
    kind, fps = manifest["motion"], float(manifest["fps"])
    styles = tuple(manifest.get("styles", ["neutral"]))
    controls = tuple(manifest.get("controls", ()))
    templates = read_templates(folder, manifest.get("templates", {}), problems)
    channels = len(controls) if kind == "controls" else template_width(templates, problems)
    clips = []
    for entry in manifest["clips"]:
        clip = folder_clip(folder, entry, styles, channels, problems)
        if clip and kind == "vertices" and clip.subject not in templates:
            problems.append(f"{clip.name}: subject {clip.subject} has no template")
        elif clip:
            clips.append(clip)
    return DataSet(
        folder,
        kind,
        fps,
        channels,
        styles,
        tuple(clips),
        control_names=controls,
        templates=templates if kind == "vertices" else None,
    )


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest after checking the entries every clip relies on."""
    path = folder / "manifest.json"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{folder} has no manifest.json.") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not valid JSON: {error}.") from error
    if not isinstance(manifest, dict) or manifest.get("motion") not in ("controls", "vertices"):
        raise DataError(f'{path}: "motion" must be "controls" or "vertices".')
    if not isinstance(manifest.get("fps"), int | float) or manifest["fps"] <= 0:
        raise DataError(f'{path}: "fps" must be a number above 0.')
    if not isinstance(manifest.get("clips"), list):
        raise DataError(f'{path}: "clips" must be a list.')
    if manifest["motion"] == "controls" and not manifest.get("controls"):
        raise DataError(f'{path}: "controls" must name the channels of the motion.')
    return manifest


def read_templates(folder: Path, files: Mapping[str, str], problems: list[str]) -> dict[str, Array]:
    """Return each subject's neutral vertices (C,)."""
    templates = {}
    for subject, name in files.items():
        try:
            templates[subject] = np.load(folder / name, allow_pickle=False)
            templates[subject] = templates[subject].astype(np.float32).reshape(-1)
        except (OSError, ValueError) as error:
            problems.append(f"{name}: the template of {subject} cannot be read ({error})")
    return templates


def template_width(templates: dict[str, Array], problems: list[str]) -> int:
    """Return the one number of channels all templates have."""
    widths = sorted({len(template) for template in templates.values()})
    if len(widths) > 1:
        problems.append(f"templates differ in size: {', '.join(map(str, widths))} numbers")
    return widths[0] if widths else 0


def folder_clip(
    folder: Path,
    entry: dict[str, Any],
    styles: tuple[str, ...],
    channels: int,
    problems: list[str],
) -> Clip | None:
    """Return one clip of the manifest, or None after noting what is wrong with it."""
    name = str(entry.get("name", entry.get("motion", "?")))
    try:
        motion, audio = folder / entry["motion"], folder / entry["audio"]
        split = str(entry.get("split", "train"))
        split = "validation" if split == "val" else split
        if split not in dataset.SPLITS:
            raise DataError(f"split {split!r} is none of {', '.join(dataset.SPLITS)}")
        style = style_mix(entry.get("style", 0), styles)
    except KeyError as error:
        problems.append(f"{name}: the manifest gives no {error.args[0]}")
        return None
    except DataError as error:
        problems.append(f"{name}: {error}")
        return None
    spans: dict[str, Any] = {
        key: tuple(entry[key]) for key in ("audio_span", "motion_span") if key in entry
    }
    clip = Clip(name, str(entry.get("subject", "")), split, audio, motion, style, 0, 0, 0, **spans)
    return measured(clip, channels, int(entry.get("audio_rate", dataset.RATE)), problems)


def style_mix(style: Any, styles: tuple[str, ...]) -> tuple[float, ...]:
    """Return the mix (N,) that a name, an index or a mapping of names to weights stands for."""
    mix = [0.0] * len(styles)
    weights = style if isinstance(style, dict) else {style: 1.0}
    for name, weight in weights.items():
        index = name if isinstance(name, int) else styles.index(name) if name in styles else -1
        if not 0 <= index < len(styles):
            raise DataError(f"style {name!r} is none of {', '.join(styles)}")
        mix[index] += float(weight)
    total = sum(mix)
    if total <= 0:
        raise DataError("the weights of the style mix add up to nothing")
    return tuple(weight / total for weight in mix)


def measured(clip: Clip, channels: int, rate: int, problems: list[str]) -> Clip | None:
    """Return the clip with its lengths, from the files' headers; None after noting a problem."""
    frames = count_frames(clip, channels, problems)
    samples = count_samples(clip, rate, problems)
    if frames is None or samples is None:
        return None
    return replace(clip, frames=frames, samples=samples[0], rate=samples[1])


def count_frames(clip: Clip, channels: int, problems: list[str]) -> int | None:
    """Return how many frames the clip's motion has, or None after noting a problem."""
    if not clip.motion.is_file():
        problems.append(f"{clip.name}: {clip.motion.name} is missing")
        return None
    try:
        rows = dataset.mapped(clip.motion)
    except (DataError, OSError, ValueError) as error:
        problems.append(f"{clip.name}: {clip.motion.name} cannot be read ({error})")
        return None
    width = int(np.prod(rows.shape[1:])) if rows.ndim > 1 else 0
    if width != channels:
        problems.append(
            f"{clip.name}: {clip.motion.name} has {width} numbers a frame, expected {channels}"
        )
        return None
    first, last = clip.motion_span or (0, len(rows))
    if not 0 <= first < last <= len(rows):
        problems.append(f"{clip.name}: rows {first} to {last} are not in {clip.motion.name}")
        return None
    return -(-(last - first) // clip.stride)


def count_samples(clip: Clip, rate: int, problems: list[str]) -> tuple[int, int] | None:
    """Return (samples, rate) of the clip's audio, or None after noting a problem."""
    if not clip.audio.is_file():
        problems.append(f"{clip.name}: {clip.audio.name} is missing")
        return None
    try:
        if clip.audio.suffix == ".npy":
            length = len(dataset.mapped(clip.audio))
        else:
            length, rate = dataset.audio_facts(clip.audio)
    except (RuntimeError, OSError, ValueError, DataError) as error:
        problems.append(f"{clip.name}: {clip.audio.name} cannot be read ({error})")
        return None
    first, last = clip.audio_span or (0, length)
    if not 0 <= first < last <= length:
        problems.append(f"{clip.name}: samples {first} to {last} are not in {clip.audio.name}")
        return None
    return last - first, rate


# ---------------------------------------------------------------- VOCASET and BIWI


def open_published(folder: Path, facts: Published, problems: list[str]) -> DataSet:
    """Open the layout of a published data set; problems are appended to `problems`."""
    templates = {
        subject: np.asarray(template, dtype=np.float32).reshape(-1)
        for subject, template in read_pickle(folder / "templates.pkl").items()
    }
    channels = template_width(templates, problems)
    stems = {path.stem for path in (folder / "vertices_npy").glob("*.npy")}
    stems |= {path.stem for path in (folder / "wav").glob("*.wav")}
    clips = []
    for stem in sorted(stems):
        for clip in published_clips(folder, stem, facts):
            checked = measured(clip, channels, dataset.RATE, problems)
            if checked and clip.subject not in templates:
                problems.append(f"{stem}: subject {clip.subject} is not in templates.pkl")
            elif checked:
                clips.append(checked)
    return DataSet(
        folder, "vertices", facts.fps, channels, facts.train, tuple(clips), templates=templates
    )


def published_clips(folder: Path, stem: str, facts: Published) -> list[Clip]:
    """Return the file's clip for each split it belongs to (none for unused sentences)."""
    subject = stem.rpartition("_")[0]
    if not stem[-2:].isdigit():
        return []
    subjects = {"train": facts.train, "validation": facts.validation, "test": facts.test}
    style = tuple(float(name == subject) for name in facts.train)
    return [
        Clip(
            stem,
            subject,
            split,
            folder / "wav" / f"{stem}.wav",
            folder / "vertices_npy" / f"{stem}.npy",
            style if subject in facts.train else (),
            0,
            0,
            0,
            stride=facts.stride,
        )
        for split in dataset.SPLITS
        if subject in subjects[split] and int(stem[-2:]) in facts.sentences[split]
    ]
