# SPDX-License-Identifier: GPL-3.0-or-later
"""The authors' files are imported exactly, and nothing in any file is ever run."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from model.conversion import official, torch_files
from model.errors import CheckpointError, FaceError
from model.network import checkpoint, diffusion, sampling
from model.network.denoiser import DiffSpeaker
from model.network.spec import BIWI_STYLES, RESEARCH, VOCASET_STYLES
from tests.model import plain, tiny
from tests.shared import shared


class Attack:
    """A pickle that would create a file when it is run."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return os.mkdir, (str(self.proof),)


def official_file(path: Path, *, channels: int = 30, styles: int = 8, period: int = 30) -> Path:
    """Write a file as the authors' program would, around a tiny random network."""
    torch.manual_seed(0)
    described = tiny.spec(
        channels=channels, styles=tuple(map(str, range(styles))), latent=64, heads=4
    )
    tensors = dict(DiffSpeaker(described).state_dict())
    tensors["denoiser.motion_decoder.weight"] = 1e-3 * torch.randn(channels, 64)
    for key in checkpoint.STANDARDISATION:
        del tensors[key]
    conv = official.CONVOLUTION
    weight = tensors.pop(f"{conv}.weight")
    norm = weight.norm(dim=(0, 1), keepdim=True)
    tensors[f"{conv}.weight_g"], tensors[f"{conv}.weight_v"] = norm, 3 * weight
    table = torch.randn(period, 64).repeat(3, 1)
    tensors[official.POSITIONS] = table[None]
    torch.save({"epoch": 3, "state_dict": tensors, "optimizer_states": []}, path)
    return path


def test_the_recorded_lightning_file_is_imported(tmp_path: Path) -> None:
    """A plain restricted load refuses it; ours gets the weights and imports nothing it names."""
    source = shared("reference/parity/tiny_lightning.ckpt")
    with pytest.raises(pickle.UnpicklingError):
        torch.load(source, weights_only=True)
    target = tmp_path / "tiny.safetensors"
    made = official.convert(source, target, encoder_heads=4)
    read = checkpoint.load(target)
    assert read.spec == made.spec
    assert (made.spec.latent, made.spec.feedforward, made.spec.layers) == (16, 32, 1)
    assert made.spec.styles == VOCASET_STYLES and made.spec.fps == made.spec.period == 30
    assert made.spec.smoothing and made.spec.licence == RESEARCH
    assert len([key for key in read.tensors if key.startswith("denoiser.")]) == 29
    import sys

    assert "omegaconf" not in sys.modules and "alm" not in sys.modules
    model = checkpoint.build(read)
    audio = torch.randn(1, 16_000)
    hidden = model.encode(audio, model.frames(16_000))
    assert torch.isfinite(diffusion.sample(model, hidden, model.style(0)).motion()).all()


def test_sizes_are_read_off_the_tensors(tmp_path: Path) -> None:
    source = official_file(tmp_path / "biwi_wav2vec2.ckpt", styles=6, period=25)
    made = official.convert(source, tmp_path / "out.safetensors", encoder_heads=4)
    assert made.spec.styles == BIWI_STYLES
    assert (made.spec.fps, made.spec.period, made.spec.smoothing) == (25, 25, False)
    assert made.spec.encoder.kind == "wav2vec2"
    assert made.spec.encoder.config["num_conv_pos_embedding_groups"] == 4


def test_the_weight_norm_is_folded_into_one_weight(tmp_path: Path) -> None:
    source = official_file(tmp_path / "a.ckpt")
    made = official.convert(source, tmp_path / "a.safetensors", encoder_heads=4, measure=False)
    stored = torch.load(source, weights_only=True)["state_dict"]
    g, v = (stored[f"{official.CONVOLUTION}.weight_{part}"] for part in "gv")
    expected = torch._weight_norm(v, g, dim=2)
    weight = made.tensors[f"{official.CONVOLUTION}.weight"]
    torch.testing.assert_close(weight, expected)


def test_fewer_steps_are_chosen_only_when_they_give_the_same_motion(tmp_path: Path) -> None:
    source = official_file(tmp_path / "a.ckpt")
    made = official.convert(source, tmp_path / "a.safetensors", encoder_heads=4)
    model = checkpoint.build(made)
    sound = official.probe_sound()[None]
    hidden = model.encode(sound, model.frames(sound.shape[1]))
    shape = (1, hidden.shape[1], made.spec.channels)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(5))
    style = model.style(3)
    motions = [
        plain.sample(model, hidden, noise, style, sampling.schedule().moves(steps, "published"))
        for steps in (made.spec.steps, 50)
    ]
    assert (motions[0] - motions[1]).abs().max() < 5 * official.TOLERANCE
    kept = official.convert(source, tmp_path / "b.safetensors", encoder_heads=4, measure=False)
    assert kept.spec.steps == 50


def test_every_wrong_key_is_named(tmp_path: Path) -> None:
    source = official_file(tmp_path / "a.ckpt")
    content = torch.load(source, weights_only=True)
    del content["state_dict"]["denoiser.motion_decoder.bias"]
    content["state_dict"]["denoiser.extra"] = torch.zeros(1)
    torch.save(content, source)
    with pytest.raises(CheckpointError, match=r"motion_decoder\.bias.*denoiser\.extra"):
        official.convert(source, tmp_path / "a.safetensors", encoder_heads=4)
    del content["state_dict"]["denoiser.vertice_map.weight"]
    torch.save(content, source)
    with pytest.raises(CheckpointError, match="no DiffSpeaker checkpoint"):
        official.convert(source, tmp_path / "a.safetensors")
    assert not (tmp_path / "a.safetensors").exists()


@pytest.mark.parametrize("place", ["beside the weights", "as a weight", "instead of them"])
def test_a_malicious_checkpoint_runs_nothing(tmp_path: Path, place: str) -> None:
    proof = tmp_path / "proof"
    weights = {"denoiser.vertice_map.weight": torch.zeros(2, 3)}
    content: object = {"state_dict": weights, "callbacks": Attack(proof)}
    if place == "as a weight":
        content = {"state_dict": {"denoiser.vertice_map.weight": Attack(proof)}}
    elif place == "instead of them":
        content = Attack(proof)
    torch.save(content, tmp_path / "evil.ckpt")
    with pytest.raises(CheckpointError, match=r"mkdir.*nothing"):
        official.convert(tmp_path / "evil.ckpt", tmp_path / "out.safetensors")
    assert not proof.exists()
    pickle.loads(pickle.dumps(Attack(proof)))  # the attack is real: a plain load does run it
    assert proof.is_dir()


def test_a_class_in_a_known_package_is_not_run_either(tmp_path: Path) -> None:
    """`torch.hub` and the like are named inside packages a checkpoint may name."""
    proof = tmp_path / "proof"

    class Sly:
        def __reduce__(self) -> tuple[object, tuple[object, ...]]:
            return np.save, (str(proof), np.zeros(1))

    content = {"state_dict": {"a": torch.zeros(1)}, "hyper": Sly()}
    torch.save(content, tmp_path / "sly.ckpt")
    with pytest.raises(CheckpointError, match="no DiffSpeaker checkpoint"):
        official.convert(tmp_path / "sly.ckpt", tmp_path / "out.safetensors")
    assert not list(tmp_path.glob("proof*"))


def test_damaged_files_are_one_sentence(tmp_path: Path) -> None:
    whole = official_file(tmp_path / "a.ckpt").read_bytes()
    path = tmp_path / "b.ckpt"
    for data in (b"", b"not a checkpoint", whole[:100], whole[: len(whole) // 2], whole[:-10]):
        path.write_bytes(data)
        with pytest.raises(CheckpointError, match="whole PyTorch checkpoint"):
            official.convert(path, tmp_path / "out.safetensors")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(CheckpointError):
        official.convert(path, tmp_path / "out.safetensors")
    with pytest.raises(CheckpointError, match="no checkpoint"):
        official.convert(tmp_path / "none.ckpt", tmp_path / "out.safetensors")


def repacked(source: Path, target: Path, change: str) -> Path:
    """Write a checkpoint again with its pickle changed or compressed."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for entry in old.infolist():
            data = old.read(entry)
            if change == "compressed":
                entry.compress_type = zipfile.ZIP_DEFLATED
            elif entry.filename.endswith("data.pkl"):
                data = data.replace(b"K\x04K\x03\x86", b"J\x00\xca\x9a\x3bK\x03\x86")
                data = data.replace(b"K\x03K\x01\x86", b"K\x00K\x00\x86")
            new.writestr(entry, data)
    return target


@pytest.mark.parametrize("change", ["compressed", "three billion numbers from one"])
def test_a_checkpoint_does_not_grow_while_it_is_read(tmp_path: Path, change: str) -> None:
    """Zip bombs and views with strides of zero are refused before anything is made of them."""
    torch.save({"state_dict": {"a": torch.ones(4, 3)}}, tmp_path / "a.ckpt")
    assert torch_files.read_tensors(tmp_path / "a.ckpt")["a"].tolist() == [[1.0] * 3] * 4
    path = repacked(tmp_path / "a.ckpt", tmp_path / "b.ckpt", change)
    assert path.read_bytes() != (tmp_path / "a.ckpt").read_bytes()
    with pytest.raises(CheckpointError, match="whole PyTorch checkpoint"):
        torch_files.read_tensors(path)


def test_tensors_come_back_as_they_were_saved(tmp_path: Path) -> None:
    """Views, transposes, shared storages, halves and parameters are read as they were."""
    base = torch.randn(6, 4)
    kept = {
        "whole": base, "turned": base.T, "part": base[1:3, 2:], "flat": base[0].expand(1, 4),
        "half": base.half(), "brain": base.bfloat16(), "long": torch.arange(5), "empty": base[:0],
        "number": torch.tensor(3.0), "learned": torch.nn.Parameter(base.clone()),
        "flag": torch.tensor([True, False]),
    }  # fmt: skip
    torch.save({"state_dict": kept}, tmp_path / "a.ckpt")
    found = torch_files.read_tensors(tmp_path / "a.ckpt")
    assert list(found) == list(kept)
    for key, right in kept.items():
        assert torch.equal(found[key], right) and found[key].dtype == right.dtype, key


def test_weights_that_are_not_numbers_are_refused(tmp_path: Path) -> None:
    source = official_file(tmp_path / "a.ckpt")
    content = torch.load(source, weights_only=True)
    content["state_dict"]["denoiser.vertice_map.weight"][0, 0] = float("inf")
    torch.save(content, source)
    with pytest.raises(CheckpointError, match=r"not numbers: denoiser\.vertice_map\.weight"):
        official.convert(source, tmp_path / "a.safetensors", encoder_heads=4)


def test_templates_come_from_the_authors_pickle(tmp_path: Path) -> None:
    heads = {"one": np.random.rand(10, 3), "two": np.random.rand(10, 3)}
    (tmp_path / "templates.pkl").write_bytes(pickle.dumps(heads, protocol=2))
    read = official.read_templates(tmp_path / "templates.pkl")
    assert list(read) == ["one", "two"]
    np.testing.assert_allclose(read["two"], heads["two"], rtol=1e-6)
    source = official_file(tmp_path / "a.ckpt")
    made = official.convert(
        source, tmp_path / "a.safetensors", template=tmp_path / "templates.pkl",
        subject="two", encoder_heads=4, measure=False,
    )  # fmt: skip
    assert made.template is not None
    np.testing.assert_allclose(made.template.numpy(), heads["two"], rtol=1e-6)
    with pytest.raises(FaceError, match="one, two"):
        official.read_template(tmp_path / "templates.pkl", 10, "three")
    with pytest.raises(FaceError, match="10 vertices; the model moves 11"):
        official.read_template(tmp_path / "templates.pkl", 11)


def test_a_template_from_python_2_is_read(tmp_path: Path) -> None:
    """Arrays as Python 2 pickled them: byte strings, numpy's old module path."""
    array = np.arange(12, dtype=np.float64).reshape(4, 3)
    text = (
        b"(dp0\nS'FaceTalk'\np1\ncnumpy.core.multiarray\n_reconstruct\np2\n(cnumpy\nndarray\np3\n"
        b"(I0\ntp4\nS'b'\np5\ntp6\nRp7\n(I1\n(I4\nI3\ntp8\ncnumpy\ndtype\np9\n(S'f8'\np10\nI0\nI1\n"
        b"tp11\nRp12\n(I3\nS'<'\np13\nNNNI-1\nI-1\nI0\ntp14\nbI00\nS"
        + repr(array.tobytes())[1:].encode("latin-1")
        + b"\np15\ntp16\nbs."
    )
    (tmp_path / "old.pkl").write_bytes(text)
    np.testing.assert_array_equal(official.read_templates(tmp_path / "old.pkl")["FaceTalk"], array)


def test_a_malicious_template_runs_nothing(tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    content = {"one": np.zeros((4, 3)), "two": Attack(proof)}
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps(content))
    assert list(official.read_templates(tmp_path / "evil.pkl")) == ["one"]
    assert not proof.exists()
    for data in (b"", b"garbage", pickle.dumps([1, 2]), pickle.dumps({"a": 1})):
        (tmp_path / "bad.pkl").write_bytes(data)
        with pytest.raises((CheckpointError, FaceError)):
            official.read_templates(tmp_path / "bad.pkl")


def test_a_flame_model_gives_its_template_only(tmp_path: Path) -> None:
    content = {
        "shapedirs": np.zeros((4, 3, 5)),
        "J": np.zeros((5, 3)),
        "v_template": np.ones((4, 3)),
    }
    (tmp_path / "flame.pkl").write_bytes(pickle.dumps(content, protocol=2))
    assert list(official.read_templates(tmp_path / "flame.pkl")) == ["v_template"]
