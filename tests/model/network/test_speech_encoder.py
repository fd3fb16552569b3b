# SPDX-License-Identifier: GPL-3.0-or-later
"""Whisper's encoder, alignment in time, and windows over long clips."""

from __future__ import annotations

import importlib.util
import itertools
import subprocess
import sys

import numpy as np
import pytest
import torch

from model.conversion.encoders import import_whisper
from model.errors import Cancelled, CheckpointError
from model.network import frames as timing
from model.network.denoiser import DiffSpeaker
from model.network.encoders import speech_encoder, whisper
from model.network.spec import WHISPER_TINY, EncoderSpec
from model.progress import Watch
from tests.model import tiny
from tests.shared import shared

SMALL = {**WHISPER_TINY, "width": 32, "heads": 2, "layers": 2, "bins": 20, "positions": 100}
CLICK = 16_000


def encoder(**changes: object) -> whisper.WhisperEncoder:
    """Build a small untrained encoder."""
    torch.manual_seed(0)
    return whisper.WhisperEncoder({**SMALL, **changes}).eval()


def sound(seconds: float, seed: int = 0) -> torch.Tensor:
    """Return noise with syllables (n,)."""
    random = torch.Generator().manual_seed(seed)
    samples = torch.randn(round(seconds * CLICK), generator=random)
    time = torch.arange(len(samples)) / CLICK
    return 0.1 * samples * (0.05 + torch.sin(4 * torch.pi * time).clamp(min=0))


def test_whispers_weights_give_the_reference_encoders_features() -> None:
    """Against a numpy encoder that was checked with CTranslate2, on the same mel spectrogram."""
    source = shared("data/encoder/whisper_tiny.en_encoder_fp16.npz")
    place = importlib.util.spec_from_file_location(
        "ct2_whisper", shared("data/scripts/ct2_whisper.py")
    )
    assert place is not None and place.loader is not None
    reference = importlib.util.module_from_spec(place)
    place.loader.exec_module(reference)
    arrays = {key.replace(".", "/"): value for key, value in np.load(source).items()}
    names = {key: key.replace("position/encodings", "position_encodings") for key in arrays}
    arrays = {names[key]: value for key, value in arrays.items()}
    ours = whisper.WhisperEncoder({**WHISPER_TINY, "level": False}).eval()
    tensors = import_whisper(source)
    ours.load_state_dict({key.removeprefix("audio_encoder."): v for key, v in tensors.items()})
    clip = sound(3.0)
    mel = whisper.log_mel(clip, 80, levelled=False)[:80]
    # OpenAI's positions are float32; the file rounds them to half precision.
    positions = whisper.sinusoids(1500, 384).numpy()
    key = "encoder/position_encodings/encodings"
    np.testing.assert_allclose(arrays[key], positions, atol=5e-4)
    arrays[key] = positions
    expected = reference.encode(arrays, mel.numpy(), 6)
    with torch.no_grad():
        states, _ = ours.hidden_states(clip[None])
    assert states.shape == (1, 150, 5, 384)
    np.testing.assert_allclose(states[0, :, -1].numpy(), expected, atol=5e-4)


def test_the_mel_spectrogram_is_whispers() -> None:
    extractor = pytest.importorskip("transformers").WhisperFeatureExtractor()
    clip = sound(2.0)
    theirs = extractor(clip.numpy(), sampling_rate=CLICK, return_tensors="np").input_features[0]
    ours = whisper.log_mel(clip, 80, levelled=False)[:80].numpy()
    np.testing.assert_allclose(whisper.mel_filters(80).numpy(), extractor.mel_filters.T, atol=1e-7)
    # Theirs goes on into 30 s of silence, so the last frames differ where the clip ends.
    np.testing.assert_allclose(ours[:, :-3], theirs[:, : ours.shape[1] - 3], atol=1e-5)


def test_recording_gain_does_not_matter_when_levelled() -> None:
    clip = sound(1.0)
    with torch.no_grad():
        loud, quiet = (encoder()(gain * clip[None], None) for gain in (1.0, 0.03))
        assert (loud - quiet).abs().max() < 1e-3
        plain = encoder(level=False)
        assert (plain(clip[None], None) - plain(0.03 * clip[None], None)).abs().max() > 0.05


@pytest.mark.parametrize("samples", [0, 1, 100, 320, 321, 5000])
def test_every_length_gives_finite_features(samples: int) -> None:
    with torch.no_grad():
        for clip in (torch.zeros(1, samples), torch.ones(1, samples), torch.randn(1, samples)):
            out = encoder()(clip, None)
            assert out.shape == (1, max(1, -(-samples // 320)), 34)
            assert torch.isfinite(out).all()


@pytest.mark.parametrize("seconds", [(1.0, 0.6), (3.1, 1.23)])
def test_a_clip_in_a_padded_batch_gives_what_it_gives_alone(seconds: tuple[float, float]) -> None:
    """Also when the longer clip needs windows (more than 2 s here)."""
    clips = [sound(length, seed) for seed, length in enumerate(seconds)]
    lengths = torch.tensor([len(clip) for clip in clips])
    batch = torch.nn.utils.rnn.pad_sequence(clips, batch_first=True)
    with torch.no_grad():
        together = encoder()(batch, lengths)
        for row, clip in enumerate(clips):
            alone = encoder()(clip[None], None)[0]
            torch.testing.assert_close(together[row, : len(alone)], alone, atol=2e-5, rtol=0)


def test_the_mix_starts_even_and_learns() -> None:
    model = encoder()
    states, energy = model.hidden_states(sound(0.5)[None])
    assert states.shape == (1, 25, 3, 32) and energy.shape == (1, 25, 2)
    out = model.combine(states, energy)
    torch.testing.assert_close(out[..., :32], states.mean(2))
    torch.testing.assert_close(out[..., 32:], energy)
    out.sum().backward()
    assert model.mix is not None and model.mix.grad is not None
    last = encoder(mix=False, energy=False)
    assert last.mix is None
    assert last(sound(0.5)[None], None).shape == (1, 25, 32)


def test_chosen_states_come_joined_and_need_no_layer_behind_them() -> None:
    whole = encoder()
    part = whisper.WhisperEncoder(SMALL | {"layers": 1, "mix": False, "states": [0, 1]}).eval()
    kept = whole.state_dict()
    part.load_state_dict({name: kept[name] for name in part.state_dict()})
    with torch.no_grad():
        states, energy = whole.hidden_states(sound(0.5)[None])
        features = part(sound(0.5)[None], None)
    torch.testing.assert_close(features, torch.cat((states[:, :, 0], states[:, :, 1], energy), -1))
    assert not any(name.startswith("norm") for name in part.state_dict())


def test_context_lets_a_frame_hear_its_neighbours() -> None:
    small = EncoderSpec("whisper", SMALL | {"mix": False, "states": [1, 2]})
    torch.manual_seed(0)
    model = DiffSpeaker(tiny.spec("controls", encoder=small, context=2)).eval()
    features = torch.randn(1, 60, small.width)
    changed = features.clone()
    changed[:, 30] += 1.0  # 0.6 s, frame 18
    with torch.no_grad():
        moved = (model.condition(changed, 36) - model.condition(features, 36)).abs().amax(-1)[0]
    heard = torch.nonzero(moved > 1e-7)[:, 0]
    assert (heard.min(), heard.max()) == (10, 26)


def test_a_missing_or_foreign_whisper_file_is_one_sentence(tmp_path) -> None:
    with pytest.raises(CheckpointError, match="no Whisper encoder"):
        import_whisper(tmp_path / "none.npz")
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(CheckpointError, match="no Whisper encoder"):
        import_whisper(tmp_path / "other.npz")


def test_long_clips_report_progress_and_stop_when_asked() -> None:
    heard: list[float] = []
    clip = sound(9.0)[None]
    with torch.no_grad():
        encoder(positions=250)(clip, None, Watch(heard.append))
        assert len(heard) > 3 and heard == sorted(heard) and heard[-1] == pytest.approx(1.0)
        with pytest.raises(Cancelled):
            encoder()(clip, None, Watch(None, lambda: True))


@pytest.mark.parametrize("fps", [25.0, 30.0, 60.0])
def test_features_are_read_at_the_time_of_their_frame(fps: float) -> None:
    """A ramp over time is reproduced at every frame's own second, whatever the clip's length."""
    seconds = torch.arange(101)[None, :, None] / speech_encoder.FEATURE_RATE + 0.0125
    frames = int(2.0 * fps)
    out = speech_encoder.at_times(seconds, frames, fps, 0.0125)[0, :, 0]
    expected = (torch.arange(frames) / fps).clamp(min=0.0125)
    torch.testing.assert_close(out, expected, atol=1e-6, rtol=0)


def test_time_alignment_moves_a_sound_and_its_feature_together() -> None:
    """A click at 0.5 s raises the energy feature of the frame at 0.5 s, in a longer clip too."""
    described = tiny.spec("controls").with_(encoder=tiny.spec().encoder)
    assert described.alignment == "time"
    for seconds in (1.0, 1.7):
        clip = torch.zeros(1, round(seconds * CLICK))
        clip[0, CLICK // 2] = 1.0
        with torch.no_grad():
            energy = encoder()(clip, None)[..., -2:]
        frames = timing.frame_count(described, clip.shape[1])
        assert frames == round(seconds * 30)
        heard = speech_encoder.at_times(energy, frames, 30.0)[0].sum(1)
        assert int(heard.argmax()) == 15


def test_windows_cover_everything_and_overlap() -> None:
    for total in (1, 99, 100, 101, 250, 1000, 1234):
        spans = list(timing.windows(total, 100, 20))
        assert spans[0][0] == 0 and spans[-1][1] == total
        for (_, end), (start, _) in itertools.pairwise(spans):
            assert end - start >= 20
        assert all(end - start <= 100 for start, end in spans)


def test_cross_faded_windows_keep_what_does_not_depend_on_the_window() -> None:
    values = torch.randn(2, 517, 3)
    out = speech_encoder.in_windows(values, lambda piece: 2 * piece, 100, 20)
    torch.testing.assert_close(out, 2 * values)


def test_start_up_imports_nothing_slow() -> None:
    """Checking a model, encoding and sampling need neither transformers nor torch's compiler."""
    code = """
import sys, torch
from model.network import checkpoint, denoiser, diffusion, spec
from model.network.encoders import whisper
checkpoint.expected_shapes(spec.vocaset())
ears = spec.EncoderSpec("whisper", spec.WHISPER_TINY | {"layers": 1})
model = denoiser.DiffSpeaker(spec.vocaset().with_(encoder=ears, alignment="time")).eval()
hidden = model.encode(torch.zeros(1, 3200), 6)
diffusion.sample(model, hidden, model.style(0), steps=2).motion()
print([name for name in ("transformers", "torch._dynamo", "sympy") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
