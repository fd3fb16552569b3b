# SPDX-License-Identifier: GPL-3.0-or-later
"""Describe a model completely: everything needed to build the network from its file alone."""

import json
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from ..errors import CheckpointError, ConfigError, StyleError

FORMAT = 1
CONTEXT = 9  # motion frames that a context layer spans

COMMERCIAL = "commercial use allowed"
RESEARCH = "research only"

VOCASET_STYLES = (
    "FaceTalk_170728_03272_TA",
    "FaceTalk_170904_00128_TA",
    "FaceTalk_170725_00137_TA",
    "FaceTalk_170915_00223_TA",
    "FaceTalk_170811_03274_TA",
    "FaceTalk_170913_03279_TA",
    "FaceTalk_170904_03276_TA",
    "FaceTalk_170912_03278_TA",
)
BIWI_STYLES = ("F2", "F3", "F4", "M3", "M4", "M5")

# HuBERT-base and wav2vec 2.0-base share every size; names follow the files' own configuration.
HUBERT_BASE: dict[str, Any] = {
    "conv_dim": [512] * 7,
    "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
    "conv_stride": [5, 2, 2, 2, 2, 2, 2],
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "num_conv_pos_embeddings": 128,
    "num_conv_pos_embedding_groups": 16,
    "layer_norm_eps": 1e-5,
}
# Whisper-tiny's encoder. `mix`: learn a softmax mix of all hidden states, not only the last one;
# `states` (then without `mix`): join these hidden states side by side, and build no layer behind
# the last of them; lips follow how speech sounds, which is in the middle layers, not what it says;
# `energy`: append the log energy of each 10 ms half of a 20 ms frame (2 more features);
# `level`: shift every clip's loudest mel bin to one fixed level, so recording gain does not matter.
BIWI_UNITS = 0.83 / 0.15
"""BIWI's units in a metre: its heads are 0.83 of them wide (an estimate: a head of 150 mm)."""

WHISPER_TINY: dict[str, Any] = {
    "width": 384,
    "heads": 6,
    "layers": 4,
    "bins": 80,
    "positions": 1500,
    "mix": True,
    "energy": True,
    "level": True,
}
_CHOICES = {
    "motion": ("vertices", "controls"),
    "alignment": ("published", "time"),
    "sampler": ("published", "corrected"),
    "precision": ("float32", "bfloat16"),
}
ENCODER_KINDS = ("hubert", "wav2vec2", "whisper")
# The most that a description may ask for: far above any model, far below what stops a machine.
MOST = {
    "channels": 1_000_000,
    "latent": 16_384,
    "feedforward": 65_536,
    "layers": 64,
    "heads": 256,
    "period": 100_000,
    "steps": 500,
}
MOST_IN_ENCODER = 65_536
MOST_ENCODER_LAYERS = 128
LONGEST = 2**20  # characters of a description


@dataclass(frozen=True)
class EncoderSpec:
    """A speech encoder: which kind, and the sizes it is built from."""

    kind: str
    """"hubert", "wav2vec2" or "whisper"."""
    config: dict[str, Any] = field(default_factory=dict)
    """Sizes and options; see `HUBERT_BASE` and `WHISPER_TINY`."""

    def __post_init__(self) -> None:
        if self.kind not in ENCODER_KINDS:
            raise ConfigError(
                f'Unknown speech encoder "{str(self.kind)[:40]}".',
                f"Known: {', '.join(ENCODER_KINDS)}.",
            )
        if not isinstance(self.config, dict) or len(self.config) > 100:
            raise ConfigError("The speech encoder's sizes are no table.")
        for name, value in self.config.items():
            _check_size(str(name)[:40], value)

    @property
    def width(self) -> int:
        """Numbers per 20 ms speech frame that the encoder gives."""
        if self.kind == "whisper":
            states = len(self.config.get("states", ())) or 1
            return states * int(self.config["width"]) + 2 * bool(self.config.get("energy"))
        return int(self.config["hidden_size"])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_size(name: str, value: Any) -> None:
    """Raise `ConfigError` unless a size of the speech encoder is a number, or a short list.

    What no encoder is built from (a library's own words in a configuration) may be a short text.
    """
    if isinstance(value, str) and len(value) <= 200 and name not in HUBERT_BASE | WHISPER_TINY:
        return
    most = MOST_ENCODER_LAYERS if "layers" in name else MOST_IN_ENCODER
    values = value if isinstance(value, list | tuple) else [value]
    plain = all(isinstance(one, bool) or (_is_number(one) and 0 <= one <= most) for one in values)
    if not plain or len(values) > 64:
        raise ConfigError(f"The speech encoder's {name} is no size, or larger than {most:,}.")


def _listed(value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise TypeError("a list is missing")
    return tuple(value)


def _check_words(words: Any, what: str, least: int) -> None:
    """Raise `ConfigError` unless a list holds texts that can be shown."""
    listed = isinstance(words, tuple | list) and least <= len(words) <= 10_000
    if not listed or not all(isinstance(word, str) and len(word) <= 100_000 for word in words):
        raise ConfigError(f"The model's {what} makes no sense.")


_RANGES = {"fps": (1.0, 1000.0), "guidance": (-10.0, 10.0), "dropout": (0.0, 1.0)}


@dataclass(frozen=True)
class ModelSpec:
    """Sizes, conventions and labels of one trained model; JSON inside its checkpoint file."""

    name: str
    """What a person calls it."""
    motion: str
    """"vertices" (offsets from the template, 3 per vertex) or "controls" (named curves)."""
    channels: int
    """Width of one motion frame: 3 × vertices, or the number of controls."""
    latent: int
    """Width of the denoiser."""
    feedforward: int
    """Inner width of the denoiser's feed-forward blocks."""
    encoder: EncoderSpec
    """The speech encoder."""
    styles: tuple[str, ...]
    """Names of the speaking styles, in the order of the style table's rows."""
    fps: float
    """Motion frames per second."""
    period: int
    """Period of the positional encoding and of the attention bias, in frames."""
    layers: int = 1
    """Denoiser layers."""
    heads: int = 4
    """Attention heads."""
    context: int = 0
    """Layers that look at the speech around each motion frame (±4 frames each) before the denoiser
    does, which by itself sees the speech of the same frame only; 0 as published."""
    alignment: str = "published"
    """"published": the clip's speech frames are stretched over its motion frames (first to first,
    last to last); "time": motion frame i looks at speech at i / fps seconds."""
    smoothing: bool = False
    """Average each inner frame with its two neighbours, as published for VOCASET."""
    sampler: str = "published"
    """"published" (the pinned library's rule) or "corrected" (textbook, no noise left)."""
    steps: int = 50
    """Default number of denoising steps; 50 is the published one."""
    guidance: float = 0.0
    """Default guidance strength against silent speech; 0 is off."""
    dropout: float = 0.1
    """Dropout during training."""
    precision: str = "float32"
    """Number format the speech encoder may compute in where the processor has it: "bfloat16" when
    that was measured to move no vertex by more than 0.05 mm, else "float32"."""
    control_names: tuple[str, ...] = ()
    """Names of the controls when `motion` is "controls"."""
    licence: str = ""
    """Label that is shown to users: `COMMERCIAL`, `RESEARCH` or a sentence."""
    notes: str = ""
    """Where the weights come from."""
    format: int = FORMAT
    """Version of this description."""

    def __post_init__(self) -> None:
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise ConfigError(
                    f'{name} is "{str(getattr(self, name))[:40]}".',
                    f"It must be one of {', '.join(known)}.",
                )
        for name, most in MOST.items():
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value <= most:
                raise ConfigError(f"The model's {name} must be a whole number from 1 to {most:,}.")
        for name, (low, high) in _RANGES.items():
            if not _is_number(getattr(self, name)) or not low <= getattr(self, name) <= high:
                raise ConfigError(f"The model's {name} must be a number from {low:g} to {high:g}.")
        _check_words(self.styles, "list of styles", least=1)
        _check_words(self.control_names, "list of controls", least=0)
        _check_words((self.name, self.licence, self.notes), "name, licence or notes", least=0)
        if self.latent % (2 * self.heads):
            raise ConfigError(
                f"latent ({self.latent}) must be a multiple of twice the heads ({self.heads})."
            )
        if self.motion == "vertices" and self.channels % 3:
            raise ConfigError(f"{self.channels} channels are not a multiple of 3 per vertex.")
        if self.motion == "controls" and len(self.control_names) != self.channels:
            raise ConfigError(
                f"{len(self.control_names)} control names for {self.channels} channels."
            )
        if self.audio_width % 2:
            raise ConfigError(f"The speech encoder's width ({self.audio_width}) must be even.")

    @property
    def audio_width(self) -> int:
        """Width of a speech frame, and of the diffusion step's sinusoid, as published."""
        return self.encoder.width

    @property
    def vertices(self) -> int:
        """Number of vertices of a vertex model; 0 for a control model."""
        return self.channels // 3 if self.motion == "vertices" else 0

    def style_index(self, style: int | str) -> int:
        """Return the row of a style given by name or number.

        Raises `StyleError` naming the known styles.
        """
        if isinstance(style, str) and style in self.styles:
            return self.styles.index(style)
        if isinstance(style, int) and 0 <= style < len(self.styles):
            return style
        raise StyleError(
            f'The model "{self.name}" has no style "{style}".',
            f"It has {', '.join(self.styles)} (0 to {len(self.styles) - 1}).",
        )

    def to_json(self) -> str:
        """Return the description as one JSON object."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> "ModelSpec":
        """Read a description back; raise `CheckpointError` when it is not one of ours."""
        try:
            values: Any = json.loads(text) if len(text) <= LONGEST else None
            version = int(values["format"])
        except (ValueError, KeyError, TypeError, RecursionError, OverflowError) as error:
            raise CheckpointError("The model file's description is not readable.") from error
        if version > FORMAT:
            raise CheckpointError(
                f"The model file has format {version}; this version reads up to {FORMAT}.",
                "Update the extension.",
            )
        unknown = set(values) - {entry.name for entry in fields(cls)}
        if unknown:
            raise CheckpointError(
                f"The model file describes unknown things: {', '.join(sorted(unknown))[:200]}."
            )
        try:
            values["encoder"] = EncoderSpec(**values["encoder"])
            values["styles"] = _listed(values["styles"])
            values["control_names"] = _listed(values.get("control_names", []))
            return cls(**values)
        except (TypeError, KeyError, ValueError, AttributeError, OverflowError) as error:
            raise CheckpointError(
                f"The model file's description is incomplete: {error}."
            ) from error

    def with_(self, **changes: Any) -> "ModelSpec":
        """Return a copy with some fields changed, validated again."""
        return replace(self, **changes)


def vocaset(encoder: str = "hubert") -> ModelSpec:
    """Describe the published VOCASET model (5,023 vertices, 8 styles, 30 fps)."""
    return ModelSpec(
        name=f"DiffSpeaker VOCASET ({encoder})",
        motion="vertices",
        channels=15069,
        latent=512,
        feedforward=1024,
        encoder=EncoderSpec(encoder, HUBERT_BASE),
        styles=VOCASET_STYLES,
        fps=30.0,
        period=30,
        smoothing=True,
        licence=RESEARCH,
    )


def biwi(encoder: str = "hubert") -> ModelSpec:
    """Describe the published BIWI model (23,370 vertices, 6 styles, 25 fps)."""
    return ModelSpec(
        name=f"DiffSpeaker BIWI ({encoder})",
        motion="vertices",
        channels=70110,
        latent=1024,
        feedforward=2048,
        encoder=EncoderSpec(encoder, HUBERT_BASE),
        styles=BIWI_STYLES,
        fps=25.0,
        period=25,
        licence=RESEARCH,
    )
