# SPDX-License-Identifier: GPL-3.0-or-later
"""Turn clips into batches, the same ones every time.

Legend: `B` clips of this process, `F` frames, `C` channels, `S` speech features, `N` styles.

Whatever is random about a batch (order, crop, noise level, noise, what is dropped) follows from
(seed, epoch, place in the epoch) alone. So a resumed run sees what an uninterrupted one would have
seen, and two processes with half a batch each see what one process with the whole batch sees.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..data.dataset import Array, Clip, DataSet, Statistics, frames_for
from . import settings
from .feature_cache import FeatureCache

Block = npt.NDArray[Any]


@dataclass(frozen=True)
class Batch:
    """Clips as tensors, zero-padded to the longest."""

    motion: Tensor  # (B, F, C) standardised offsets or controls
    valid: Tensor  # (B, F) bool
    style: Tensor  # (B, N) mix
    seeds: Tensor  # (B,) int64: the source of each clip's noise
    heard: Tensor  # (B,) bool: False where the audio is dropped
    features: Tensor | None  # (B, S, width) precomputed, or
    audio: Tensor | None  # (B, n) raw 16 kHz
    lengths: Tensor | None  # (B,) samples of raw audio
    names: tuple[str, ...] = ()

    def to(self, device: torch.device) -> Batch:
        """Return the batch on another device."""
        moved: dict[str, Any] = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        for name, value in moved.items():
            if isinstance(value, Tensor):
                moved[name] = value.to(device, non_blocking=True)
        return Batch(**moved)


@dataclass(frozen=True)
class Item:
    """One clip's place in a batch."""

    clip: Clip
    seed: int


@dataclass(frozen=True)
class Source:
    """What batches are cut from."""

    data: DataSet
    statistics: Statistics
    settings: settings.Batch
    seed: int
    cache: FeatureCache | None = None
    repeat: int = 1
    stretched: bool = False  # features are stretched over the clip's frames, as published

    @property
    def crop(self) -> int | None:
        """Return the frames of a random crop, or None for whole clips."""
        seconds = self.settings.seconds
        return frames_for(seconds, self.data.fps) if seconds > 0 else None


def mixed_seed(*numbers: int) -> int:
    """Return one well-mixed 63-bit number for several small ones."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


def epoch_plan(source: Source, epoch: int) -> list[list[Item]]:
    """Return the batches of one epoch, each over all processes.

    A clip longer than the crop appears as often as crops fit into it. Whole clips are grouped by
    length, so that little padding is needed. What is left over at the end joins the next epoch's
    shuffle, except that a set smaller than one batch fills it by repetition.
    """
    random = np.random.default_rng(mixed_seed(source.seed, 1, epoch))
    clips = [
        clip
        for clip in source.data.split("train") * source.repeat
        for _ in range(-(-clip.frames // source.crop) if source.crop else 1)
    ]
    size = source.settings.size
    order = random.permutation(len(clips))
    if len(order) < size:
        order = np.resize(order, size)
    if source.crop is None:
        order = grouped(order, [clip.frames for clip in clips], size * 16)
    batches = [order[start : start + size] for start in range(0, len(order) - size + 1, size)]
    random.shuffle(batches)
    return [
        [
            Item(clips[index], mixed_seed(source.seed, 2, epoch, place, slot))
            for slot, index in enumerate(batch)
        ]
        for place, batch in enumerate(batches)
    ]


def grouped(order: Block, frames: list[int], span: int) -> Block:
    """Sort a shuffled order by length within spans of some batches."""
    spans = [order[start : start + span] for start in range(0, len(order), span)]
    return np.concatenate([sorted(part, key=lambda index: frames[index]) for part in spans])


def train_batch(source: Source, items: list[Item], rank: int = 0, processes: int = 1) -> Batch:
    """Return this process's share of a planned batch."""
    return collate(source, items[rank::processes], training=True)


def validation_batches(source: Source, split: str = "validation") -> Iterator[Batch]:
    """Yield the split's clips in order of length, from their start, with fixed seeds.

    A clip of a subject that was never trained takes the styles in turn.
    """
    clips = sorted(source.data.split(split), key=lambda clip: clip.frames)
    size = max(1, min(source.settings.size, 16))
    for start in range(0, len(clips), size):
        items = [
            Item(clip, mixed_seed(source.seed, 3, start + slot))
            for slot, clip in enumerate(clips[start : start + size])
        ]
        yield collate(source, items, training=False)


def collate(source: Source, items: list[Item], *, training: bool) -> Batch:
    """Read, cut and pad the clips of a batch."""
    cuts = [cut(source, item, training) for item in items]
    lengths = [stop - start for start, stop in cuts]
    motions, sounds = [], []
    for item, (start, stop) in zip(items, cuts, strict=True):
        motions.append(source.statistics.forward(source.data.motion(item.clip, start, stop)))
        sounds.append(hear(source, item, start, stop, training))
    frames = max(lengths)
    valid = torch.arange(frames) < torch.tensor(lengths)[:, None]
    padded = torch.from_numpy(stack(motions))
    sound = torch.from_numpy(stack(sounds))
    cached = source.cache is not None
    return Batch(
        motion=padded,
        valid=valid,
        style=torch.from_numpy(np.stack([style(source, item, training) for item in items])),
        seeds=torch.tensor([item.seed for item in items]),
        heard=torch.tensor([not drops(source, item, 5, training) for item in items]),
        features=sound if cached else None,
        audio=None if cached else sound,
        lengths=None if cached else torch.tensor([len(part) for part in sounds]),
        names=tuple(item.clip.name for item in items),
    )


def cut(source: Source, item: Item, training: bool) -> tuple[int, int]:
    """Return the first and last frame of a clip's crop (from the start when validating)."""
    frames, crop = item.clip.frames, source.crop
    if crop is None or frames <= crop:
        return 0, frames
    if not training:
        return 0, crop
    grid = source.data.grid()
    places = (frames - crop) // grid + 1
    start = grid * int(np.random.default_rng((item.seed, 4)).integers(places))
    return start, start + crop


def hear(source: Source, item: Item, start: int, stop: int, training: bool) -> Block:
    """Return a crop's features (S, W), or its raw audio (n,) with a random level."""
    whole = start == 0 and stop == item.clip.frames
    if source.cache is not None:
        if whole and source.stretched:
            return source.cache.read_all(item.clip)
        return source.cache.read(item.clip, start, stop, source.data.fps)
    audio = source.data.audio(item.clip, start, None if whole else stop)
    if training and source.settings.level:
        decibels = source.settings.level * np.random.default_rng((item.seed, 7)).uniform(-1, 1)
        audio *= np.float32(10 ** (decibels / 20))
    return audio


def style(source: Source, item: Item, training: bool) -> Array:
    """Return a clip's style mix (N,), sometimes the mean of all styles while training."""
    count = len(source.data.styles)
    if training and drops(source, item, 6, training):
        return np.full(count, 1.0 / count, dtype=np.float32)
    if not item.clip.style:
        return np.asarray(np.eye(count)[item.seed % count], np.float32)
    return np.asarray(item.clip.style, np.float32)


def drops(source: Source, item: Item, purpose: int, training: bool) -> bool:
    """Return whether a training clip goes without its audio (5) or its style (6)."""
    share = source.settings.drop_audio if purpose == 5 else source.settings.drop_style
    return training and bool(np.random.default_rng((item.seed, purpose)).random() < share)


def stack(parts: list[Block]) -> Block:
    """Stack arrays of different length, zero-padded at their ends."""
    longest = max(len(part) for part in parts)
    block = np.zeros((len(parts), longest, *parts[0].shape[1:]), dtype=parts[0].dtype)
    for row, part in zip(block, parts, strict=True):
        row[: len(part)] = part
    return block


def ahead(
    plan: Iterable[list[Item]], make: Callable[[list[Item]], Batch], depth: int
) -> Generator[Batch, None, None]:
    """Yield batches that one background thread prepares up to `depth` ahead (0: none)."""
    if depth <= 0:
        yield from map(make, plan)
        return
    ready: queue.Queue[Batch | BaseException | None] = queue.Queue(depth)
    stopped = threading.Event()

    def put(entry: Batch | BaseException | None) -> None:
        while not stopped.is_set():
            try:
                return ready.put(entry, timeout=0.2)
            except queue.Full:
                continue

    def work() -> None:
        try:
            for items in plan:
                if stopped.is_set():
                    return
                put(make(items))
            put(None)
        except BaseException as error:
            put(error)

    thread = threading.Thread(target=work, name="batches", daemon=True)
    thread.start()
    try:
        while (entry := ready.get()) is not None:
            if isinstance(entry, BaseException):
                raise entry
            yield entry
    finally:
        stopped.set()
        thread.join()
