# SPDX-License-Identifier: GPL-3.0-or-later
"""One file holds a model: written whole, read strictly, described completely."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from model.errors import CheckpointError, ConfigError, OutputError, StyleError
from model.network import checkpoint, spec
from model.network.checkpoint import Checkpoint
from model.network.denoiser import DiffSpeaker
from model.network.latent import LatentNetwork
from model.network.spec import EncoderSpec, ModelSpec
from tests.model import tiny


def saved(path: Path, *, seed: int = 0, **changes: object) -> Checkpoint:
    """Save a tiny random model with a template and return it."""
    torch.manual_seed(seed)
    described = tiny.spec(**changes)
    made = checkpoint.of(DiffSpeaker(described), torch.randn(described.vertices, 3))
    checkpoint.save(path, made)
    return made


def test_a_model_comes_back_as_it_was_written(tmp_path: Path) -> None:
    made = saved(tmp_path / "a.safetensors")
    read = checkpoint.load(tmp_path / "a.safetensors")
    assert read.spec == made.spec
    assert read.template is not None and torch.equal(read.template, made.template)
    assert set(read.tensors) == set(made.tensors)
    assert all(torch.equal(read.tensors[key], made.tensors[key]) for key in made.tensors)
    assert not list(tmp_path.glob("*.partial"))


def test_half_precision_on_disk_is_float32_in_memory(tmp_path: Path) -> None:
    made = saved(tmp_path / "a.safetensors")
    checkpoint.save(tmp_path / "b.safetensors", made, dtype=torch.bfloat16)
    assert (tmp_path / "b.safetensors").stat().st_size < (tmp_path / "a.safetensors").stat().st_size
    read = checkpoint.load(tmp_path / "b.safetensors")
    key = "denoiser.vertice_map.weight"
    assert read.tensors[key].dtype == torch.float32
    torch.testing.assert_close(read.tensors[key], made.tensors[key], atol=0, rtol=1e-2)


def test_every_missing_unexpected_and_misshapen_tensor_is_named(tmp_path: Path) -> None:
    made = saved(tmp_path / "a.safetensors")
    tensors = dict(made.tensors)
    del tensors["denoiser.motion_decoder.bias"]
    tensors["denoiser.surprise"] = torch.zeros(1)
    tensors["denoiser.obj_vector.weight"] = torch.zeros(3, 3)
    with pytest.raises(CheckpointError) as caught:
        checkpoint.check(made.spec, tensors, "it")
    for name in (
        "denoiser.motion_decoder.bias",
        "denoiser.surprise",
        "obj_vector.weight is [3, 3]",
    ):
        assert name in str(caught.value)


def test_weights_that_are_not_numbers_are_refused(tmp_path: Path) -> None:
    made = saved(tmp_path / "a.safetensors")
    made.tensors["denoiser.vertice_map.bias"][0] = float("nan")
    with pytest.raises(CheckpointError, match=r"vertice_map\.bias"):
        checkpoint.save(tmp_path / "b.safetensors", made)
    assert not (tmp_path / "b.safetensors").exists()


def test_a_truncated_file_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    saved(path)
    data = path.read_bytes()
    for size in (0, 5, 1000, len(data) - 1):
        path.write_bytes(data[:size])
        with pytest.raises(CheckpointError, match="not a complete"):
            checkpoint.load(path)


def test_files_that_are_no_models_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no model file"):
        checkpoint.load(tmp_path / "none.safetensors")
    (tmp_path / "x.ckpt").write_bytes(b"PK\x03\x04")
    with pytest.raises(CheckpointError, match="convert"):
        checkpoint.load(tmp_path / "x.ckpt")
    save_file({"a": torch.zeros(1)}, str(tmp_path / "bare.safetensors"))
    with pytest.raises(CheckpointError, match="no model description"):
        checkpoint.load(tmp_path / "bare.safetensors")


def test_an_unwritable_folder_is_an_output_error(tmp_path: Path) -> None:
    made = saved(tmp_path / "a.safetensors")
    with pytest.raises(OutputError):
        checkpoint.save(tmp_path / "a.safetensors" / "inside.safetensors", made)


def test_standardisation_may_be_left_out(tmp_path: Path) -> None:
    made = saved(tmp_path / "a.safetensors")
    tensors = load_file(str(tmp_path / "a.safetensors"))
    for key in ("motion.mean", "motion.scale", "motion.template"):
        del tensors[key]
    metadata = {"spec": made.spec.to_json()}
    save_file(tensors, str(tmp_path / "b.safetensors"), metadata=metadata)
    model = checkpoint.build(checkpoint.load(tmp_path / "b.safetensors"))
    assert bool((model.motion.scale == 1).all()) and bool((model.motion.mean == 0).all())


def test_prepared_products_are_used_and_forgotten_when_weights_change(tmp_path: Path) -> None:
    described = tiny.spec(vertices=40)
    torch.manual_seed(0)
    first = DiffSpeaker(described)
    torch.nn.init.normal_(first.denoiser.motion_decoder.weight)
    prepared = LatentNetwork.of(first).prepared()
    made = checkpoint.of(first)
    with_products = Checkpoint(made.spec, made.tensors | prepared)
    checkpoint.save(tmp_path / "a.safetensors", with_products)
    model = checkpoint.build(checkpoint.load(tmp_path / "a.safetensors"))
    used = LatentNetwork.of(model)
    assert torch.equal(used.product, prepared["latent.product"])
    assert LatentNetwork.of(model) is used
    with torch.no_grad():
        model.denoiser.motion_decoder.weight.mul_(2)
    torch.testing.assert_close(LatentNetwork.of(model).product, 2 * prepared["latent.product"])
    assert not set(prepared) & set(checkpoint.of(model).tensors)


def test_descriptions_survive_json() -> None:
    for described in (spec.vocaset(), spec.biwi("wav2vec2"), tiny.spec("controls")):
        assert ModelSpec.from_json(described.to_json()) == described


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not readable"),
        ("[]", "not readable"),
        ("{}", "not readable"),
        ('{"format": 99}', "Update"),
        ('{"format": 1, "colour": 1}', "unknown things"),
        ('{"format": 1}', "incomplete"),
    ],
)
def test_foreign_descriptions_are_one_sentence(text: str, words: str) -> None:
    with pytest.raises(CheckpointError, match=words):
        ModelSpec.from_json(text)


@pytest.mark.parametrize(
    "changes",
    [
        {"motion": "bones"},
        {"latent": 30},
        {"channels": 31},
        {"steps": 0},
        {"styles": ()},
        {"fps": 0.0},
        {"sampler": "guess"},
    ],
)
def test_impossible_settings_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        tiny.spec(**changes)


def test_an_unknown_encoder_is_refused() -> None:
    with pytest.raises(ConfigError, match="hubert"):
        EncoderSpec("ears")


def test_styles_are_found_by_name_and_number() -> None:
    described = tiny.spec()
    assert described.style_index("lively") == described.style_index(1) == 1
    for wrong in ("furious", 2, -1):
        with pytest.raises(StyleError, match="calm, lively"):
            described.style_index(wrong)


def test_published_sizes_have_the_recorded_keys() -> None:
    """All but the folded weight norm and the position table, shape by shape."""
    import json

    from tests.shared import shared

    for described in (spec.vocaset(), spec.biwi()):
        name = "vocaset" if described.period == 30 else "biwi"
        text = shared(f"reference/parity/ckpt_keys_{name}.json").read_text(encoding="utf-8")
        recorded = {key: tuple(shape) for key, shape in json.loads(text).items()}
        assert recorded.pop("denoiser.PPE.pe")[2] == described.latent
        conv = "audio_encoder.encoder.pos_conv_embed.conv.weight"
        recorded[conv] = recorded.pop(f"{conv}_v")
        del recorded[f"{conv}_g"]
        ours = {key: tuple(shape) for key, shape in checkpoint.expected_shapes(described).items()}
        for key in checkpoint.STANDARDISATION:
            del ours[key]
        assert ours == recorded


def test_a_changed_copy_is_validated_again() -> None:
    with pytest.raises(ConfigError):
        tiny.spec().with_(steps=0)
    assert replace(tiny.spec(), steps=3) == tiny.spec().with_(steps=3)
