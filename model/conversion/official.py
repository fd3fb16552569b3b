# SPDX-License-Identifier: GPL-3.0-or-later
"""Import the authors' released checkpoints (and anything trained with their program).

Their files are Lightning 1.9 pickles without a description: the sizes are read off the tensors, the
old weight-norm pair is folded into one weight, the position table is dropped (it is a constant) and
the rest must fit exactly. Nothing in the file is run; see `torch_files`.

Legend: V vertices, C channels = 3 V, D latent.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import CheckpointError, FaceError
from ..files import pickles
from ..network import checkpoint, diffusion
from ..network.checkpoint import Checkpoint
from ..network.denoiser import DiffSpeaker
from ..network.latent import LatentNetwork
from ..network.spec import (
    BIWI_STYLES,
    BIWI_UNITS,
    HUBERT_BASE,
    RESEARCH,
    VOCASET_STYLES,
    EncoderSpec,
    ModelSpec,
)
from .encoders import fold_weight_norm
from .torch_files import read_tensors

POSITIONS = "denoiser.PPE.pe"
CONVOLUTION = "audio_encoder.encoder.pos_conv_embed.conv"
STRIDES = [5, 2, 2, 2, 2, 2, 2]
TOLERANCE = 1e-7  # metres: fewer steps must give the motion of 50 this closely (1e-4 mm)
CANDIDATES = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 25, 40)


def convert(
    source: str | Path,
    target: str | Path,
    *,
    template: str | Path | NDArray[Any] | None = None,
    subject: str | None = None,
    encoder: str | None = None,
    heads: int = 4,
    encoder_heads: int | None = None,
    licence: str = RESEARCH,
    measure: bool = True,
) -> Checkpoint:
    """Turn an official `.ckpt` into one of our files and return what was written.

    template: a `.pkl` of templates (with `subject` choosing one of them), a `.ply`, `.obj` or
    `.npz` head, or vertices (V, 3). encoder: "hubert" or "wav2vec2", by default after the file's
    name. heads and encoder_heads cannot be read off tensors. With `measure`, a test sound decides
    the default number of steps (the fewest that give the motion of 50 to 1e-4 mm) and whether the
    encoder may compute in bfloat16 (no vertex may move by more than 0.05 mm).

    Raises `CheckpointError`, `FaceError` or `OutputError`.
    """
    source = Path(source)
    tensors = prepare(read_tensors(source))
    kind = encoder or ("wav2vec2" if "wav2vec" in source.name.lower() else "hubert")
    spec = infer(tensors, source.stem, kind, heads, encoder_heads).with_(licence=licence)
    tensors.pop(POSITIONS, None)
    checkpoint.check(spec, tensors, source.name)
    face = None if template is None else read_template(template, spec.vertices, subject)
    model = checkpoint.build(Checkpoint(spec, tensors, face))
    if measure:
        scale = units(spec, face)
        halved = bfloat16_error(model) <= 0.05e-3 * scale
        spec = spec.with_(
            steps=fewest_steps(model, scale), precision="bfloat16" if halved else "float32"
        )
    result = Checkpoint(spec, tensors | LatentNetwork.of(model).prepared(), face)
    checkpoint.save(target, result)
    return result


def prepare(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Fold the weight norm of the positional convolution and make every tensor float32."""
    tensors = fold_weight_norm(tensors, CONVOLUTION)
    return {key: value.detach().float().contiguous() for key, value in tensors.items()}


def infer(
    tensors: dict[str, Tensor], name: str, kind: str, heads: int, encoder_heads: int | None
) -> ModelSpec:
    """Read the description off the tensors. Raises `CheckpointError` naming what is missing."""
    try:
        latent, channels = tensors["denoiser.vertice_map.weight"].shape
        first = "denoiser.transformer_decoder.layers.0"
        feedforward = tensors[f"{first}.linear1.weight"].shape[0]
        styles, wide = tensors["denoiser.obj_vector.weight"].shape
        sizes = encoder_sizes(tensors, encoder_heads)
    except (KeyError, ValueError) as error:
        raise CheckpointError(
            f"{name} is no DiffSpeaker checkpoint: {error} is missing or has another form."
        ) from error
    period = repetition(tensors.get(POSITIONS)) or (25 if channels == 70110 else 30)
    return ModelSpec(
        name=name,
        motion="vertices",
        channels=channels,
        latent=latent,
        feedforward=feedforward,
        layers=wide // latent,
        heads=heads,
        encoder=EncoderSpec(kind, sizes),
        styles=style_names(styles, period),
        fps=float(period),
        period=period,
        smoothing=period == 30,
        notes="Imported from a DiffSpeaker checkpoint (theEricMa/DiffSpeaker).",
    )


def encoder_sizes(tensors: dict[str, Tensor], heads: int | None) -> dict[str, Any]:
    """Return the encoder's configuration; heads are 64 wide unless given. Raises `KeyError`."""
    prefix = "audio_encoder"
    convolutions = [
        tensors[f"{prefix}.feature_extractor.conv_layers.{index}.conv.weight"].shape
        for index in range(len(STRIDES))
    ]
    position = tensors[f"{CONVOLUTION}.weight"].shape  # (W, W / groups, kernel)
    inner, width = tensors[
        f"{prefix}.encoder.layers.0.feed_forward.intermediate_dense.weight"
    ].shape
    layers = {key.split(".")[3] for key in tensors if key.startswith(f"{prefix}.encoder.layers.")}
    return HUBERT_BASE | {
        "conv_dim": [shape[0] for shape in convolutions],
        "conv_kernel": [shape[2] for shape in convolutions],
        "conv_stride": STRIDES,
        "hidden_size": width,
        "intermediate_size": inner,
        "num_attention_heads": heads or max(1, width // 64),
        "num_hidden_layers": len(layers),
        "num_conv_pos_embeddings": position[2],
        "num_conv_pos_embedding_groups": position[0] // position[1],
    }


def repetition(positions: Tensor | None) -> int | None:
    """Return after how many rows a position table (1, L, D) repeats; None when it does not."""
    if positions is None or positions.dim() != 3:
        return None
    same = (positions[0, 1:] == positions[0, :1]).all(1).nonzero()
    return int(same[0, 0]) + 1 if len(same) else None


def style_names(count: int, period: int) -> tuple[str, ...]:
    """Return the training subjects' names of the known data sets, else plain numbers."""
    known = {30: VOCASET_STYLES, 25: BIWI_STYLES}.get(period, ())
    return known if len(known) == count else tuple(f"style {index}" for index in range(count))


def read_template(
    source: str | Path | NDArray[Any], vertices: int, subject: str | None = None
) -> Tensor:
    """Return a neutral face (V, 3) float32 from a file or array.

    Raises `FaceError` when it has another number of vertices.
    """
    if isinstance(source, np.ndarray):
        found = source
    elif Path(source).suffix.lower() in {".pkl", ".pickle"}:
        heads = read_templates(source)
        if subject is not None and subject not in heads:
            raise FaceError(
                f'There is no subject "{subject}" in it.', f"It has {', '.join(heads)}."
            )
        found = heads[subject] if subject is not None else next(iter(heads.values()))
    else:
        from ..rig import head_files

        found = head_files.read(source).vertices
    found = np.asarray(found, np.float32).reshape(-1, 3)
    if len(found) != vertices or not np.isfinite(found).all():
        raise FaceError(
            f"The template has {len(found)} vertices; the model moves {vertices}.",
            "Use the head that the model was trained on.",
        )
    return torch.from_numpy(np.ascontiguousarray(found))


def read_templates(path: str | Path) -> dict[str, NDArray[np.float32]]:
    """Read the authors' `templates.pkl` (subject → (V, 3)) or a FLAME model, running nothing.

    Raises `CheckpointError`, `FaceError` when it holds no heads.
    """
    path = Path(path)
    try:
        content = pickles.read(path)
    except FileNotFoundError as error:
        raise CheckpointError(f"There is no file {path}.", "Choose another one.") from error
    except (pickles.UnpicklingError, OSError) as error:
        raise CheckpointError(f"{path.name} is not a readable .pkl of arrays: {error}.") from error
    heads = {}
    for name, value in content.items() if isinstance(content, dict) else ():
        if isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.size % 3 == 0:
            shaped = value.shape[-1] == 3 and value.ndim in {2, 3}
            if shaped and (value.ndim == 2 or value.shape[0] == 1):
                heads[str(name)] = np.asarray(value, np.float32).reshape(-1, 3)
    if isinstance(content, dict) and "v_template" in heads:  # FLAME: its other arrays are no heads
        heads = {"v_template": heads["v_template"]}
    if not heads:
        raise FaceError(f"{path.name} holds no heads (V, 3).")
    return heads


def units(spec: ModelSpec, template: Tensor | None) -> float:
    """Return how many of the model's units make a metre."""
    if template is not None:
        from ..rig import head_files

        return head_files.metres(template.numpy())
    return BIWI_UNITS if spec.period == 25 else 1.0


@torch.no_grad()
def fewest_steps(model: DiffSpeaker, scale: float = 1.0, tolerance: float = TOLERANCE) -> int:
    """Measure the fewest sampling steps that give the motion of 50 within `tolerance` metres.

    A test sound is sampled in two styles and from two seeds; no vertex may differ by more than the
    tolerance in any of them. `scale` is units per metre.
    """
    frames = model.frames(len(probe_sound()))
    hidden = model.encode(probe_sound()[None].to(model.device), frames)[0]
    cases = [(0, 0), (len(model.spec.styles) - 1, 1)]
    exact = [_sampled(model, hidden, style, seed, 50) for style, seed in cases]
    for steps in CANDIDATES:
        worst = max(
            float(_distance(_sampled(model, hidden, *case, steps), right))
            for case, right in zip(cases, exact, strict=True)
        )
        if worst <= tolerance * scale:
            return steps
    return 50


@torch.no_grad()
def bfloat16_error(model: DiffSpeaker) -> float:
    """Measure how far a vertex moves, in the model's units, when the encoder uses bfloat16."""
    sound = probe_sound()[None].to(model.device)
    motions = []
    for precision in ("float32", "bfloat16"):
        features = model.features(sound, precision=precision)
        hidden = model.condition(features, model.frames(sound.shape[1]))[0]
        motions.append(_sampled(model, hidden, 0, 0, 10))
    return float(_distance(*motions))


def _sampled(model: DiffSpeaker, hidden: Tensor, style: int, seed: int, steps: int) -> Tensor:
    latents = diffusion.sample(model, hidden, model.style(style), seed=seed, steps=steps)
    return latents.motion()


def _distance(one: Tensor, other: Tensor) -> Tensor:
    """Return the largest distance of a vertex (or control) between two motions (F, C)."""
    apart = (one - other).abs()
    if apart.shape[1] % 3 == 0:
        apart = apart.view(len(apart), -1, 3).norm(dim=-1)
    return apart.max()


def probe_sound(seconds: float = 2.0) -> Tensor:
    """Return speech-like sound (n,) at 16 kHz: gliding harmonics in syllables, with noise."""
    time = torch.arange(int(seconds * 16_000)) / 16_000
    pitch = 2 * math.pi * torch.cumsum(120 + 30 * torch.sin(2 * math.pi * 0.7 * time), 0) / 16_000
    voice = sum(torch.sin(pitch * k) / k for k in range(1, 20))
    noise = torch.randn(len(time), generator=torch.Generator().manual_seed(0))
    syllables = torch.sin(math.pi * 4 * time).clamp(min=0)
    return (0.1 * voice + 0.05 * noise * (1 - syllables)) * (0.2 + syllables)
