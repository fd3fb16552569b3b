# SPDX-License-Identifier: GPL-3.0-or-later
"""Training settings: a small TOML file, every value named, checked and explained.

`load(path, overrides)` returns a frozen `Settings`. Unknown names are refused with the nearest
right one; a value of the wrong kind is refused with the kind that was expected. Every field's
meaning is the comment beside it here and in `configs/*.toml`.
"""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import ConfigError

CONFIGS = Path(__file__).parent / "configs"


@dataclass(frozen=True)
class Run:
    """Where and how a run happens; nothing here changes the result on one machine but the seed."""

    output: str = "runs/run"  # folder for checkpoints, state and logs
    seed: int = 1234
    threads: int = 0  # CPU threads for torch, 0 = leave as is
    device: str = "auto"  # auto | cpu | cuda | mps
    precision: str = "float32"  # float32 | bfloat16 | float16 (activations; weights stay float32)
    tensorboard: bool = True
    save_steps: int = 500  # steps between saved states; a state is also saved after every epoch
    validate_epochs: int = 1  # epochs between validations
    preview_epochs: int = 0  # epochs between preview pictures, 0 = none
    sample_clips: int = 0  # validation clips also sampled fully and measured
    prefetch: int = 2  # batches prepared ahead by a background thread


@dataclass(frozen=True)
class Data:
    """Which data set is read."""

    layout: str = "folder"  # folder (manifest.json) | vocaset | biwi
    path: str = "data"  # relative paths start at the config file's folder
    fps: float = 0.0  # 0 = the data set's own rate
    cache: str = ""  # folder for precomputed encoder features, "" = inside the data set
    features: bool = True  # precompute features when the encoder is frozen
    repeat: int = 1  # times the training list is repeated in one epoch
    standardise: str = "none"  # none | global (one scale) | channel (mean and scale of each)
    size: float = 1.0  # root mean square of the standardised motion; the noise's is 1
    tolerance: float = 0.25  # seconds by which audio and motion may differ in length


@dataclass(frozen=True)
class Model:
    """The network; see `spec.ModelSpec`."""

    name: str = "model"
    latent: int = 512
    feedforward: int = 1024
    layers: int = 1
    heads: int = 4
    period: int = 0  # frames of the positional period, 0 = one second
    encoder: str = ""  # folder, file or hub name of the pre-trained encoder
    encoder_kind: str = "whisper"  # whisper | hubert | wav2vec2
    states: list[int] = field(default_factory=list)  # Whisper's states to join, [] = mix them all
    context: int = 0  # layers that look at the speech around a frame
    alignment: str = "time"  # time | published
    smoothing: bool = False
    sampler: str = "corrected"  # corrected | published
    steps: int = 10
    guidance: float = 0.0
    dropout: float = 0.1  # in the denoiser while training
    start: str = ""  # checkpoint whose weights training starts from
    licence: str = ""
    notes: str = ""


@dataclass(frozen=True)
class Batch:
    """How clips become batches."""

    size: int = 32  # clips a step, over all processes
    seconds: float = 0.0  # random crops of this length, 0 = whole clips
    drop_audio: float = 0.0  # share of clips trained without audio (for guidance)
    drop_style: float = 0.0  # share of clips trained with the mean of all styles
    level: float = 0.0  # random gain in dB, uniform within ± this (only with raw audio)


@dataclass(frozen=True)
class Loss:
    """Weights of the loss terms, in squared units of the (standardised) motion."""

    position: float = 1.0
    velocity: float = 1.0
    acceleration: float = 0.0
    kind: str = "squared"  # squared | huber (in standardised units, knee at 1)
    padding: str = "masked"  # masked | published (the mean also runs over padding)
    channels: dict[str, float] = field(default_factory=dict)  # control name or prefix* -> weight


@dataclass(frozen=True)
class Optimiser:
    """AdamW, its schedule and its guards."""

    learning_rate: float = 1e-4
    encoder_learning_rate: float = 0.0  # 0 = the encoder stays frozen
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.01
    epochs: int = 100
    steps: int = 0  # stop after this many steps; 0 = epochs decide
    warmup_steps: int = 0
    schedule: str = "constant"  # constant | cosine
    final_rate: float = 0.0  # share of the learning rate left at the end of the cosine
    clip: float = 0.0  # largest gradient norm, 0 = no clipping
    ema: float = 0.0  # decay of the averaged weights that are saved, 0 = none
    noise_steps: str = "all"  # all (uniform over the schedule) | sampled (only the sampler's own)


@dataclass(frozen=True)
class Settings:
    """A complete training configuration."""

    run: Run = field(default_factory=Run)
    data: Data = field(default_factory=Data)
    model: Model = field(default_factory=Model)
    batch: Batch = field(default_factory=Batch)
    loss: Loss = field(default_factory=Loss)
    optimiser: Optimiser = field(default_factory=Optimiser)
    folder: Path = field(default_factory=Path)  # what relative paths start from

    def resolve(self, path: str) -> Path:
        """Return a path of the settings, relative ones taken from the config file's folder."""
        return Path(path) if Path(path).is_absolute() else self.folder / path

    def plain(self) -> dict[str, dict[str, Any]]:
        """Return the sections as plain dictionaries (for logs and for comparing on resume)."""
        return {name: dataclasses.asdict(getattr(self, name)) for name in SECTIONS}


SECTIONS: dict[str, type] = {
    "run": Run,
    "data": Data,
    "model": Model,
    "batch": Batch,
    "loss": Loss,
    "optimiser": Optimiser,
}

CHOICES = {
    "run.device": ("auto", "cpu", "cuda", "mps"),
    "run.precision": ("float32", "bfloat16", "float16"),
    "data.layout": ("folder", "vocaset", "biwi"),
    "data.standardise": ("none", "global", "channel"),
    "model.encoder_kind": ("whisper", "hubert", "wav2vec2"),
    "model.alignment": ("time", "published"),
    "model.sampler": ("corrected", "published"),
    "loss.kind": ("squared", "huber"),
    "loss.padding": ("masked", "published"),
    "optimiser.schedule": ("constant", "cosine"),
    "optimiser.noise_steps": ("all", "sampled"),
}

AT_LEAST_ONE = ("batch.size", "model.latent", "model.layers", "model.heads", "data.repeat")
SHARES = ("batch.drop_audio", "batch.drop_style", "optimiser.ema", "model.dropout")


def load(path: Path, overrides: list[str] | None = None) -> Settings:
    """Read a TOML file and apply `section.key=value` overrides.

    A bare name of a ready-made config ("small", "bundled") is found in `configs/`; its relative
    paths then start at the current folder.

    Raises:
        ConfigError: the file is missing or no TOML, or a name or value is wrong.
    """
    source, folder = find(path)
    try:
        values = tomllib.loads(source.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{source.name} is not valid TOML: {error}.") from error
    except OSError as error:
        raise ConfigError(f"{source} cannot be read: {error.strerror}.") from error
    for override in overrides or []:
        apply_override(values, override)
    return build(values, folder)


def find(path: Path) -> tuple[Path, Path]:
    """Return the config's file and the folder its relative paths start from."""
    if path.is_file():
        return path, path.resolve().parent
    ready = CONFIGS / f"{path.name.removesuffix('.toml')}.toml"
    if path.parent == Path() and ready.is_file():
        return ready, Path.cwd()
    names = ", ".join(sorted(file.stem for file in CONFIGS.glob("*.toml")))
    raise ConfigError(f"There is no config file {path}.", hint=f"Ready-made ones are: {names}.")


def apply_override(values: dict[str, Any], override: str) -> None:
    """Set one `section.key=value`; the value is TOML, or plain text where it is no TOML."""
    name, separator, text = override.partition("=")
    section, dot, key = name.strip().partition(".")
    if not separator or not dot:
        raise ConfigError(f"--set {override} is not of the form section.key=value.")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    table = values.setdefault(section, {})
    *parents, last = key.split(".", 1)
    if parents:
        table = table.setdefault(parents[0], {})
    table[last] = value


def build(values: dict[str, Any], folder: Path) -> Settings:
    """Check plain tables and return the frozen settings."""
    sections = {}
    for name, table in values.items():
        if name not in SECTIONS:
            raise ConfigError(f"Unknown section [{name}].", hint=nearest(name, list(SECTIONS)))
        if not isinstance(table, dict):
            raise ConfigError(f"{name} must be a section: write [{name}] on a line of its own.")
        sections[name] = read_section(name, table)
    settings = Settings(**sections, folder=folder)
    check(settings)
    return settings


def read_section(section: str, table: dict[str, Any]) -> Any:
    """Return one section's dataclass from its table."""
    kind = SECTIONS[section]
    expected = typing.get_type_hints(kind)
    for key, value in table.items():
        if key not in expected:
            raise ConfigError(
                f"Unknown setting {section}.{key}.", hint=nearest(key, list(expected))
            )
        table[key] = converted(f"{section}.{key}", value, expected[key])
    return kind(**table)


def converted(name: str, value: Any, kind: Any) -> Any:
    """Return `value` as `kind` (whole numbers pass as decimal ones)."""
    plain = typing.get_origin(kind) or kind
    if plain is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, plain) or (plain is int and isinstance(value, bool)):
        words = {int: "a whole number", float: "a number", str: "a text in quotes", list: "a list"}
        wanted = words.get(plain, "true or false" if plain is bool else "a table")
        raise ConfigError(f"{name} must be {wanted}, not {value!r}.")
    return value


def check(settings: Settings) -> None:
    """Raise ConfigError for a value outside its choices or range."""
    for name, choices in CHOICES.items():
        value = lookup(settings, name)
        if value not in choices:
            hint = nearest(str(value), list(choices))
            raise ConfigError(f"{name} is {value!r}; it must be {' | '.join(choices)}.", hint=hint)
    for name in AT_LEAST_ONE:
        if lookup(settings, name) < 1:
            raise ConfigError(f"{name} must be at least 1, not {lookup(settings, name)}.")
    for name in SHARES:
        if not 0.0 <= lookup(settings, name) < 1.0:
            raise ConfigError(f"{name} must be from 0 to below 1, not {lookup(settings, name)}.")
    for name in ("optimiser.learning_rate", "data.size"):
        if lookup(settings, name) <= 0:
            raise ConfigError(f"{name} must be above 0.")


def lookup(settings: Settings, name: str) -> Any:
    """Return the value of `section.key`."""
    section, key = name.split(".")
    return getattr(getattr(settings, section), key)


def nearest(name: str, names: list[str]) -> str:
    """Say which right name a wrong one is closest to, or list them."""
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f"Did you mean {close[0]}?"
    return f"Known names: {', '.join(names)}."
