# SPDX-License-Identifier: GPL-3.0-or-later
"""The speech encoder reproduces recorded numbers, padded batches too, at every length."""

from __future__ import annotations

import json

import pytest
import torch

from model.errors import Cancelled
from model.network.encoders import hubert, speech_encoder
from model.network.spec import HUBERT_BASE
from model.progress import Watch
from tests.model import parity
from tests.shared import shared

SINGLE = 1e-5


@pytest.mark.parametrize("setting", parity.SETTINGS)
@pytest.mark.parametrize("name", ["enc_out", "enc_out_nomask"])
def test_a_clip_gives_the_recorded_features(setting: str, name: str) -> None:
    arrays = parity.Arrays(f"{setting}_encoder.npz")
    with torch.no_grad():
        out = parity.model(setting).audio_encoder(arrays["enc_audio"], None)
    torch.testing.assert_close(out, arrays[name], atol=SINGLE, rtol=0)


@pytest.mark.parametrize("setting", parity.SETTINGS)
def test_double_precision_gives_the_recorded_features(setting: str) -> None:
    """Folded weight norm is kept in float32, hence 1e-7 and not less."""
    arrays = parity.Arrays(f"{setting}_encoder.npz", torch.float64)
    with torch.no_grad():
        out = parity.model(setting, torch.float64).audio_encoder(arrays["enc_audio"], None)
    torch.testing.assert_close(out, arrays["enc_out64"], atol=2e-7, rtol=0)


@pytest.mark.parametrize("setting", parity.SETTINGS)
def test_a_padded_batch_gives_the_recorded_features(setting: str) -> None:
    arrays = parity.Arrays(f"{setting}_encoder.npz")
    with torch.no_grad():
        out = parity.model(setting).audio_encoder(arrays["encpad_audio"], arrays["encpad_mask"])
    torch.testing.assert_close(out, arrays["encpad_out"], atol=SINGLE, rtol=0)


@pytest.mark.parametrize("setting", parity.SETTINGS)
def test_features_arrive_at_the_denoiser_as_recorded(setting: str) -> None:
    arrays, model = parity.Arrays(f"{setting}_encoder.npz"), parity.model(setting)
    with torch.no_grad():
        features = model.audio_encoder(arrays["enc_audio"], None)
        hidden = model.condition(features, arrays["enc_hidden"].shape[1])
    torch.testing.assert_close(hidden, arrays["enc_hidden"], atol=SINGLE, rtol=0)


def test_normalisation_is_the_recorded_one() -> None:
    arrays = parity.Arrays("audio.npz")
    out = speech_encoder.normalise(arrays["norm_in"][None])[0]
    torch.testing.assert_close(out, arrays["norm_out"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["hubert_base_ls960", "wav2vec2_base_960h"])
def test_the_base_sizes_are_the_recorded_configurations(name: str) -> None:
    text = shared(f"reference/parity/encoder_{name}.json").read_text(encoding="utf-8")
    recorded = json.loads(text)
    assert {key: recorded[key] for key in HUBERT_BASE} == HUBERT_BASE
    assert len(hubert.HubertEncoder(recorded | {"num_hidden_layers": 1}).encoder.layers) == 1


def test_pieces_of_any_size_give_the_same_features(monkeypatch: pytest.MonkeyPatch) -> None:
    model = parity.model("A").audio_encoder
    audio = torch.randn(1, 40_000, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = model(audio, None)
        for piece in (7, 50, 10_000):
            monkeypatch.setattr(hubert, "PIECE", piece)
            torch.testing.assert_close(model(audio, None), whole, atol=1e-5, rtol=0)


def test_windows_of_a_long_clip_agree_with_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random weights attend everywhere, so windows differ a little; they must not jump."""
    model = parity.model("A").audio_encoder
    audio = torch.randn(1, 16_000 * 12, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = model(audio, None)
        monkeypatch.setattr(hubert, "EXACT_FRAMES", 300)
        monkeypatch.setattr(hubert, "WINDOW", 200)
        monkeypatch.setattr(hubert, "OVERLAP", 50)
        pieces = model(audio, None)
    assert pieces.shape == whole.shape
    steps = (pieces[0, 1:] - pieces[0, :-1]).norm(dim=1)
    wholly = (whole[0, 1:] - whole[0, :-1]).norm(dim=1)
    assert steps.max() < 1.2 * wholly.max()
    assert (pieces - whole).abs().mean() < 0.1 * whole.abs().mean()


def test_encoding_reports_progress_and_stops_when_asked() -> None:
    model = parity.model("A").audio_encoder
    audio, heard = torch.randn(1, 48_000), []
    with torch.no_grad():
        model(audio, None, Watch(heard.append))
        assert heard == sorted(heard) and heard[-1] == pytest.approx(1.0)
        with pytest.raises(Cancelled):
            model(audio, None, Watch(None, lambda: True))


def test_transformers_own_hubert_gives_the_same_features() -> None:
    """At base size, against the library that the published code uses."""
    transformers = pytest.importorskip("transformers.models.hubert.modeling_hubert")
    from transformers.models.hubert.configuration_hubert import HubertConfig

    torch.manual_seed(0)
    sizes = {**HUBERT_BASE, "num_hidden_layers": 2}
    theirs = transformers.HubertModel(HubertConfig(**sizes)).eval()
    ours = hubert.HubertEncoder(sizes).eval()
    tensors = dict(theirs.state_dict())
    prefix = "encoder.pos_conv_embed.conv"
    g = tensors.pop(f"{prefix}.parametrizations.weight.original0")
    v = tensors.pop(f"{prefix}.parametrizations.weight.original1")
    tensors[f"{prefix}.weight"] = g * v / v.norm(dim=(0, 1), keepdim=True)
    ours.load_state_dict(tensors)
    audio = speech_encoder.normalise(torch.randn(1, 24_000))
    with torch.no_grad():
        expected = theirs(audio).last_hidden_state
        torch.testing.assert_close(ours(audio, None), expected, atol=5e-5, rtol=0)


def test_training_masks_spans_and_leaves_the_convolutions_alone() -> None:
    """As published: SpecAugment over time, dropout and layerdrop on; the front end frozen."""
    torch.manual_seed(0)
    config = parity.spec("A").encoder.config
    encoder = hubert.HubertEncoder(config).train()
    audio = torch.randn(2, 16_000)
    one, other = encoder(audio, None), encoder(audio, None)
    assert not torch.equal(one, other)
    one.sum().backward()
    assert encoder.masked_spec_embed.grad is not None
    assert all(weight.grad is None for weight in encoder.feature_extractor.parameters())
    with torch.no_grad():
        values = torch.zeros(4, 400, 32)
        hidden = (encoder.mask_spans(values) != 0).any(-1)
    assert 0.02 < float(hidden.float().mean()) < 0.08
    assert encoder.eval()(audio, None).equal(encoder(audio, None))
