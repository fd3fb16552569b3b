# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring a pre-trained speech encoder under this project's key names.

Three sources: Whisper's encoder in CTranslate2's layout (`.npz`), a folder or hub name in the
transformers library's layout (HuBERT, wav2vec 2.0, Whisper), or one of our own `.safetensors`
models, whose encoder is taken. The hub is asked only when the name is no path.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ..errors import CheckpointError, ConfigError
from ..network import checkpoint
from ..network.encoders.whisper import rename_ctranslate2
from ..network.spec import HUBERT_BASE, WHISPER_TINY, EncoderSpec

PREFIX = "audio_encoder."
HEADS = ("lm_head", "quantizer", "project_q", "project_hid", "decoder.")


def load_encoder(source: str, kind: str) -> tuple[EncoderSpec, dict[str, Tensor]]:
    """Return an encoder's description and its tensors (`audio_encoder.*`).

    An empty `source` gives base sizes and no tensors: an untrained encoder.

    Raises:
        CheckpointError: the files cannot be read or do not hold such an encoder.
        ConfigError: the source does not exist.
    """
    if not source:
        return EncoderSpec(kind, dict(WHISPER_TINY if kind == "whisper" else HUBERT_BASE)), {}
    path = Path(source)
    if path.suffix == ".npz" and kind == "whisper":
        tensors = import_whisper(path)
        return EncoderSpec(kind, whisper_sizes(tensors)), tensors
    if path.suffix == ".safetensors" and path.is_file():
        return from_model(path)
    return from_transformers(path if path.is_dir() else hub_folder(source), kind)


def from_model(path: Path) -> tuple[EncoderSpec, dict[str, Tensor]]:
    """Take the encoder out of one of our own models."""
    found = checkpoint.load(path)
    tensors = {name: value for name, value in found.tensors.items() if name.startswith(PREFIX)}
    return found.spec.encoder, tensors


def whisper_sizes(tensors: dict[str, Tensor]) -> dict[str, Any]:
    """Return the configuration that the tensors' shapes imply (heads are 64 wide)."""
    width, bins = tensors[f"{PREFIX}conv1.weight"].shape[:2]
    layers = len({name.split(".")[2] for name in tensors if ".layers." in name})
    return WHISPER_TINY | {
        "width": int(width),
        "bins": int(bins),
        "heads": int(width) // 64,
        "layers": layers,
    }


def keep_states(
    encoder: EncoderSpec, tensors: dict[str, Tensor], states: list[int]
) -> tuple[EncoderSpec, dict[str, Tensor]]:
    """Return a Whisper encoder that joins some hidden states and ends behind the last of them.

    Raises:
        ConfigError: it is no Whisper encoder, or has no such states.
    """
    if encoder.kind != "whisper":
        raise ConfigError("Only Whisper's hidden states can be chosen.", "Remove model.states.")
    layers = int(encoder.config["layers"])
    if min(states) < 0 or max(states) > layers:
        raise ConfigError(f"model.states is {states}; the encoder has states 0 to {layers}.")
    config = encoder.config | {"layers": max(states), "mix": False, "states": list(states)}
    kept = {f"{PREFIX}layers.{layer}." for layer in range(max(states))} | {f"{PREFIX}conv"}
    left = {name: t for name, t in tensors.items() if name.startswith(tuple(kept))}
    return EncoderSpec("whisper", config), left


def hub_folder(name: str) -> Path:
    """Return the local folder of a model on the hub, downloading it where that is allowed."""
    try:
        from huggingface_hub import snapshot_download

        patterns = ["config.json", "*.safetensors", "pytorch_model.bin"]
        return Path(snapshot_download(name, allow_patterns=patterns))
    except Exception as error:
        raise ConfigError(
            f"The speech encoder “{name}” is neither a file, a folder nor reachable on the hub.",
            hint="Set model.encoder to a folder with config.json and model.safetensors.",
        ) from error


def from_transformers(folder: Path, kind: str) -> tuple[EncoderSpec, dict[str, Tensor]]:
    """Read an encoder that the transformers library saved."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        tensors = read_weights(folder)
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"{folder} holds no readable speech encoder: {error}.") from error
    if kind == "whisper":
        renamed = {f"{PREFIX}{name}": value for name, value in whisper_names(tensors).items()}
        return EncoderSpec(kind, whisper_sizes(renamed)), renamed
    if config.get("do_stable_layer_norm") or config.get("feat_extract_norm", "group") != "group":
        raise CheckpointError(
            f"{folder.name} is of another build (layer-normalised front end).",
            hint="Only the base sizes of HuBERT and wav2vec 2.0 are supported.",
        )
    sizes = HUBERT_BASE | {key: config[key] for key in HUBERT_BASE if key in config}
    renamed = {f"{PREFIX}{name}": value for name, value in hubert_names(tensors).items()}
    return EncoderSpec(kind, sizes), renamed


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Return the tensors of `model.safetensors` or, read without running code, of the `.bin`."""
    if (folder / "model.safetensors").is_file():
        tensors = load_file(str(folder / "model.safetensors"))
    else:
        tensors = torch.load(folder / "pytorch_model.bin", map_location="cpu", weights_only=True)
    return {name: value.float() for name, value in tensors.items()}


def hubert_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Drop prefixes and training heads; fold the positional convolution's weight norm."""
    out = {}
    for name, value in tensors.items():
        short = name.removeprefix("hubert.").removeprefix("wav2vec2.")
        if not short.startswith(HEADS):
            out[short] = value
    return fold_weight_norm(out, "encoder.pos_conv_embed.conv")


def fold_weight_norm(tensors: dict[str, Tensor], convolution: str) -> dict[str, Tensor]:
    """Return tensors with a convolution's weight norm folded into one weight.

    weight = g · v / ‖v‖ for each tap, the norm being over both channel axes. The names before and
    after PyTorch 2.0 are both known; computed in float64.
    """
    tensors = dict(tensors)
    for scale, direction in (
        ("weight_g", "weight_v"),
        ("parametrizations.weight.original0", "parametrizations.weight.original1"),
    ):
        if f"{convolution}.{scale}" in tensors and f"{convolution}.{direction}" in tensors:
            g = tensors.pop(f"{convolution}.{scale}").double()
            v = tensors.pop(f"{convolution}.{direction}").double()
            tensors[f"{convolution}.weight"] = (g * v / v.norm(dim=(0, 1), keepdim=True)).float()
    return tensors


def whisper_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the encoder's tensors and fuse query, key (which has no bias) and value."""
    short = {
        name.removeprefix("model.").removeprefix("encoder."): value
        for name, value in tensors.items()
        if name.removeprefix("model.").startswith("encoder.")
    }
    layers = len({name.split(".")[1] for name in short if name.startswith("layers.")})
    out = {"mix": torch.zeros(layers + 1)}
    for name in ("conv1", "conv2"):
        out |= {f"{name}.{part}": short[f"{name}.{part}"] for part in ("weight", "bias")}
    pairs = {"layer_norm": "norm"}
    for layer in range(layers):
        place = f"layers.{layer}"
        pairs |= {
            f"{place}.self_attn_layer_norm": f"{place}.attention_norm",
            f"{place}.self_attn.out_proj": f"{place}.out",
            f"{place}.final_layer_norm": f"{place}.feedforward_norm",
            f"{place}.fc1": f"{place}.inner",
            f"{place}.fc2": f"{place}.outer",
        }
        attention = f"{place}.self_attn"
        weights = [short[f"{attention}.{part}_proj.weight"] for part in "qkv"]
        query, value = (short[f"{attention}.{part}_proj.bias"] for part in "qv")
        out[f"{place}.qkv.weight"] = torch.cat(weights)
        out[f"{place}.qkv.bias"] = torch.cat((query, torch.zeros_like(query), value))
    for source, target in pairs.items():
        for part in ("weight", "bias"):
            out[f"{target}.{part}"] = short[f"{source}.{part}"]
    return out


def import_whisper(path: str | Path) -> dict[str, Tensor]:
    """Read Whisper's encoder from CTranslate2's layout (.npz) → tensors named `audio_encoder.*`.

    The layer mix starts even. Raises `CheckpointError`.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: np.asarray(file[key], np.float32) for key in file.files}
        return {f"audio_encoder.{key}": value for key, value in rename_ctranslate2(arrays).items()}
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} holds no Whisper encoder: {error}.") from error
