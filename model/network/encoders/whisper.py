# SPDX-License-Identifier: GPL-3.0-or-later
"""Whisper's encoder without its 30 s of padding, and the mel spectrogram that feeds it.

Written from the published description (Radford et al. 2022) and checked against a CTranslate2
export of the weights. Clips of any length: shorter ones are not padded, longer ones run in windows
of 1,500 positions that share four seconds.

Legend: B batch, n samples at 16 kHz, M mel frames (100 a second), S speech frames (50 a second),
L layers, W width.
"""

import math
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ...progress import UNWATCHED, Watch
from ..frames import windows
from .speech_encoder import SpeechEncoder, clip_lengths, in_windows

RATE, FFT, HOP = 16_000, 400, 160
OVERLAP = 200  # speech frames that two windows share
FLOOR = 8.0  # decades below the clip's loudest mel bin that still count
LEVEL = 1.0  # log10 power given to the loudest bin when `level` is on: usual for read speech
CHUNK = 6_000  # mel frames per spectrogram piece


class WhisperLayer(nn.Module):
    """Pre-norm transformer layer."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.feedforward_norm = nn.LayerNorm(width)
        self.inner = nn.Linear(width, 4 * width)
        self.outer = nn.Linear(4 * width, width)

    def forward(self, values: Tensor, mask: Tensor | None) -> Tensor:
        """values (B, S, W), mask (B, 1, 1, S) True where keys are real → (B, S, W)."""
        qkv = self.qkv(self.attention_norm(values)).view(*values.shape[:2], 3, self.heads, -1)
        query, key, value = qkv.movedim(-3, 0).transpose(2, 3)  # each (B, H, S, K)
        out = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        values = values + self.out(out.transpose(1, 2).flatten(2))
        inner = functional.gelu(self.inner(self.feedforward_norm(values)))
        return values + self.outer(inner)  # type: ignore[no-any-return]


class WhisperEncoder(SpeechEncoder):
    """16 kHz audio → speech features, 50 a second; feature j is centred on j / 50 s."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        width, layers = config["width"], config["layers"]
        self.bins: int = config["bins"]
        self.width: int = width
        self.limit: int = config["positions"]
        self.overlap = min(OVERLAP, self.limit // 4)
        self.with_energy = bool(config.get("energy"))
        self.levelled = bool(config.get("level"))
        self.conv1 = nn.Conv1d(self.bins, width, 3, padding=1)
        self.conv2 = nn.Conv1d(width, width, 3, stride=2, padding=1)
        self.layers = nn.ModuleList(WhisperLayer(width, config["heads"]) for _ in range(layers))
        self.chosen: tuple[int, ...] = tuple(config.get("states", ()))
        self.norm = None if self.chosen else nn.LayerNorm(width)
        self.mix = nn.Parameter(torch.zeros(layers + 1)) if config.get("mix") else None

    def prepare(self, audio: Tensor, lengths: Tensor | None) -> Tensor:
        """Take audio (B, n) as it is: the mel spectrogram does the normalising."""
        return audio

    def forward(self, audio: Tensor, lengths: Tensor | None, watch: Watch = UNWATCHED) -> Tensor:
        """audio (B, n), lengths (B,) valid samples or None → (B, S, features)."""
        return self.combine(*self.hidden_states(audio, lengths, watch))

    def hidden_states(
        self, audio: Tensor, lengths: Tensor | None = None, watch: Watch = UNWATCHED
    ) -> tuple[Tensor, Tensor]:
        """Return the hidden states that are listened to (B, S, ·, W) and the log energy (B, S, 2).

        State 0 is the convolutions' output without positions. The states are each layer-normalised
        without weights (they grow from layer to layer), the last one by the encoder's own final
        norm. With chosen `states` those are returned, with a mix all (B, S, L+1, W), else the last
        (B, S, 1, W). While the encoder is frozen, training may store these once and learn `combine`
        alone.
        """
        mels, energy, counts = log_mels(audio, lengths, self.bins, self.levelled)
        watch(0.1)
        mask = frame_mask(counts, audio.device)
        stem = self.stem(mels.to(self.conv1.weight), mask)
        if stem.shape[1] <= self.limit:
            states = self.transform(stem, mask)
            watch(1.0)
        else:  # one by one: windows of a padded batch would differ from those of each clip alone
            clips = zip(stem, counts, strict=True)
            rows = [self.windowed(clip[None, :count], watch)[0] for clip, count in clips]
            states = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        return states, energy.to(states)

    def windowed(self, stem: Tensor, watch: Watch) -> Tensor:
        """Run the layers over one long clip (1, S, W) in windows → (1, S, ·, W)."""
        count = len(list(windows(stem.shape[1], self.limit, self.overlap)))
        done = 0

        def window(piece: Tensor) -> Tensor:
            nonlocal done
            out = self.transform(piece, None)
            done += 1
            watch(0.1 + 0.9 * done / count)
            return out

        return in_windows(stem, window, self.limit, self.overlap)

    def combine(self, states: Tensor, energy: Tensor) -> Tensor:
        """Join or mix states (B, S, ·, W) and append the energy (B, S, 2) → (B, S, features)."""
        if self.mix is None:
            mixed = states.flatten(2)
        else:
            mixed = torch.einsum("bslw,l->bsw", states, self.mix.softmax(0).to(states))
        return torch.cat((mixed, energy.to(mixed)), -1) if self.with_energy else mixed

    def stem(self, mels: Tensor, mask: Tensor | None) -> Tensor:
        """Convolve mels (B, bins, M) → (B, S, W); what lies behind a clip's end stays silent."""
        values = functional.gelu(self.conv1(mels))
        if mask is not None:
            values = values * mask.repeat_interleave(2, 1)[:, None]
        return functional.gelu(self.conv2(values)).mT

    def transform(self, stem: Tensor, mask: Tensor | None) -> Tensor:
        """Run the layers over (B, S, W) → the hidden states listened to (B, S, ·, W)."""
        positions = sinusoids(self.limit, self.width)[: stem.shape[1]].to(stem)
        values = stem + positions
        keys = None if mask is None else mask[:, None, None, :]
        states = [stem]
        for layer in self.layers:
            values = layer(values, keys)
            states.append(values)
        if self.norm is None:
            return torch.stack([self.plain(states[index]) for index in self.chosen], 2)
        last = self.norm(values)
        if self.mix is None:
            return last[:, :, None]  # type: ignore[no-any-return]
        return torch.stack((*(self.plain(state) for state in states[:-1]), last), 2)

    def plain(self, state: Tensor) -> Tensor:
        """Layer-normalise a hidden state (B, S, W) without weights."""
        return functional.layer_norm(state, (self.width,))


def frame_mask(counts: list[int], device: torch.device) -> Tensor | None:
    """Return (B, S) True where clips of those frame counts are real; None when all are."""
    if len(set(counts)) == 1:
        return None
    limit = torch.tensor(counts, device=device)
    return torch.arange(max(counts), device=device)[None, :] < limit[:, None]


@torch.no_grad()
def log_mels(
    audio: Tensor, lengths: Tensor | None, bins: int, levelled: bool
) -> tuple[Tensor, Tensor, list[int]]:
    """Return the log-mel spectrograms (B, bins, M), log energies (B, S, 2) and frames S per clip.

    Each clip is treated alone, whatever its neighbours in the batch; behind its end is zero.
    """
    mels, energies = [], []
    for clip, length in zip(audio, clip_lengths(audio, lengths), strict=True):
        mel = log_mel(clip[:length].float(), bins, levelled)  # (bins + 1, M)
        mels.append(mel[:bins].mT)
        energies.append(mel[bins].view(-1, 2))
    counts = [len(energy) for energy in energies]
    pad = nn.utils.rnn.pad_sequence
    return pad(mels, batch_first=True).mT, pad(energies, batch_first=True), counts


def log_mel(clip: Tensor, bins: int, levelled: bool) -> Tensor:
    """Return a clip's log-mel spectrogram and, as last row, log energy: (bins + 1, M), M even.

    Whisper's recipe: Hann window of 25 ms every 10 ms, power, mel filters, log10, no lower than 8
    under the clip's maximum, (x + 4) / 4. The energy is the log of the mels' mean, treated alike.
    """
    hop = 2 * HOP  # two mel frames make a speech frame
    clip = functional.pad(clip, (0, max(hop, -(-len(clip) // hop) * hop) - len(clip)))
    power = _mel_power(clip, bins)
    logs = torch.cat((power, power.mean(0, keepdim=True))).clamp(min=1e-10).log10()
    peak = logs[:bins].max()
    if levelled and float(peak) > -9.0:
        logs = logs + (LEVEL - peak)
        peak = torch.full_like(peak, LEVEL)
    return (torch.maximum(logs, peak - FLOOR) + 4.0) / 4.0


def _mel_power(clip: Tensor, bins: int) -> Tensor:
    """Return mel power (bins, M) of a clip whose length is a multiple of the hop, in pieces."""
    half = FFT // 2
    margin = min(half, len(clip) - 1)
    padded = functional.pad(clip[None, None], (margin, margin), mode="reflect")[0, 0]
    padded = functional.pad(padded, (half - margin, half - margin))
    frames = len(clip) // HOP
    filters = mel_filters(bins).to(clip)
    window = torch.hann_window(FFT, device=clip.device)
    pieces = []
    for start in range(0, frames, CHUNK):
        end = min(frames, start + CHUNK)
        part = padded[start * HOP : (end - 1) * HOP + FFT]
        spectrum = torch.fft.rfft(part.unfold(0, FFT, HOP) * window)  # (M', FFT/2 + 1)
        pieces.append(filters @ spectrum.abs().square().mT)
    return torch.cat(pieces, 1)


@lru_cache(maxsize=4)
def mel_filters(bins: int) -> Tensor:
    """Return triangular mel filters (bins, FFT/2 + 1), each of unit area, on Slaney's mel scale.

    Linear below 1 kHz (200/3 Hz per mel), logarithmic above (factor 6.4 in 27 mels).
    """
    step = math.log(6.4) / 27.0
    top = 15.0 + math.log(RATE / 2 / 1000.0) / step
    mels = np.linspace(0.0, top, bins + 2)
    edges = np.where(mels < 15.0, mels * 200.0 / 3.0, 1000.0 * np.exp(step * (mels - 15.0)))
    hertz = np.fft.rfftfreq(FFT, 1.0 / RATE)[None, :]
    rise = (hertz - edges[:-2, None]) / np.diff(edges)[:-1, None]
    fall = (edges[2:, None] - hertz) / np.diff(edges)[1:, None]
    area = 2.0 / (edges[2:] - edges[:-2])[:, None]
    filters = np.maximum(0.0, np.minimum(rise, fall)) * area
    return torch.from_numpy(filters.astype(np.float32))


@lru_cache(maxsize=4)
def sinusoids(positions: int, width: int) -> Tensor:
    """Return Whisper's positions (positions, width): sines of every rate, then cosines."""
    half = width // 2
    rates = torch.exp(-math.log(10000.0) / (half - 1) * torch.arange(half).float())
    angles = torch.arange(positions)[:, None] * rates[None, :]
    return torch.cat((angles.sin(), angles.cos()), 1)


def rename_ctranslate2(arrays: dict[str, NDArray[np.float32]]) -> dict[str, Tensor]:
    """Rename CTranslate2's encoder arrays to `WhisperEncoder`'s keys; the mix starts even.

    Raises `KeyError` naming what is missing.
    """
    names = {"conv1": "conv1", "conv2": "conv2", "layer_norm": "norm"}
    arrays = {key.replace("/", "."): value for key, value in arrays.items()}
    layers = 0
    while f"encoder.layer_{layers}.ffn.linear_0.weight" in arrays:
        source, target = f"layer_{layers}", f"layers.{layers}"
        names |= {
            f"{source}.self_attention.layer_norm": f"{target}.attention_norm",
            f"{source}.self_attention.linear_0": f"{target}.qkv",
            f"{source}.self_attention.linear_1": f"{target}.out",
            f"{source}.ffn.layer_norm": f"{target}.feedforward_norm",
            f"{source}.ffn.linear_0": f"{target}.inner",
            f"{source}.ffn.linear_1": f"{target}.outer",
        }
        layers += 1
    tensors = {"mix": torch.zeros(layers + 1)}
    for source, target in names.items():
        pair = ("gamma", "beta") if source.endswith("norm") else ("weight", "bias")
        for ours, theirs in zip(("weight", "bias"), pair, strict=True):
            tensors[f"{target}.{ours}"] = torch.from_numpy(arrays[f"encoder.{source}.{theirs}"])
    return tensors
