# SPDX-License-Identifier: GPL-3.0-or-later
"""Train a model, or go on training one: `python build.py model train CONFIG.toml`.

CONFIG is a TOML file, or the name of a ready-made one (small, bundled, vocaset-hubert,
vocaset-wav2vec2, biwi-hubert, biwi-wav2vec2). Single values are changed with
`--set section.key=value`. Several processes or machines run the same command through torchrun or
`accelerate launch`; `batch.size` counts the clips of all of them together.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs

from ..conversion.encoders import keep_states, load_encoder
from ..data import dataset, layouts
from ..data.dataset import DataSet, Statistics
from ..errors import ConfigError
from ..network import checkpoint
from ..network.denoiser import DiffSpeaker
from ..network.sampling import schedule
from ..network.spec import ModelSpec
from . import feature_cache, losses, settings
from .batches import Source
from .feature_cache import FeatureCache
from .log import Journal
from .objective import Objective
from .settings import Settings
from .state import PREVIOUS, STATE
from .trainer import Outcome, Trainer, folder_of

PRECISION = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("config", type=Path, help="a TOML file or the name of a ready-made one")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        dest="overrides",
        help="change one setting (may be repeated)",
    )
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--resume", action="store_true", help="go on with the run in its folder")
    start.add_argument("--restart", action="store_true", help="discard the run in its folder")


def run(arguments: argparse.Namespace) -> int:
    """Train as told; 0 when the run came to its end, 4 when it was stopped and saved."""
    chosen = settings.load(arguments.config, arguments.overrides)
    outcome = train(chosen, resume=arguments.resume, restart=arguments.restart)
    return 0 if outcome.finished else 4


def train(chosen: Settings, *, resume: bool = False, restart: bool = False) -> Outcome:
    """Run one training from settings.

    Raises:
        ModelError: settings, data or checkpoint do not fit, or the loss is no number any more.
    """
    folder = folder_of(chosen)
    prepare_folder(folder, resume, restart)
    if chosen.run.threads:
        torch.set_num_threads(chosen.run.threads)
    accelerator = make_accelerator(chosen)
    if chosen.batch.size % accelerator.num_processes:
        raise ConfigError(
            f"batch.size {chosen.batch.size} cannot be shared by {accelerator.num_processes} "
            "processes.",
            hint="Make it a multiple of their number.",
        )
    main = accelerator.is_main_process
    journal = Journal(folder, tensorboard=chosen.run.tensorboard, active=main)
    trainer = build(chosen, accelerator, journal)
    if resume:
        trainer.resume()
        journal.line(f"Going on at step {trainer.place.step} of {trainer.steps}.")
    describe(trainer, journal)
    outcome = trainer.run(checks(chosen))
    ended = "Finished" if outcome.finished else "Stopped; go on with --resume"
    journal.line(f"{ended}. {folder / 'last.safetensors'}")
    return outcome


def prepare_folder(folder: Path, resume: bool, restart: bool) -> None:
    """Refuse to overwrite a run by accident."""
    states = [folder / STATE, folder / PREVIOUS]
    if restart:
        for path in [*states, folder / "log.jsonl"]:
            path.unlink(missing_ok=True)
    elif not resume and any(path.exists() for path in states):
        raise ConfigError(
            f"{folder} already holds a run.",
            hint="Add --resume to go on with it, --restart to discard it, or set run.output.",
        )


def make_accelerator(chosen: Settings) -> Accelerator:
    """Return the accelerator: one process or many, on the asked device and precision."""
    device, train_encoder = chosen.run.device, chosen.optimiser.encoder_learning_rate > 0
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("run.device is cuda, but torch sees no CUDA device.")
    return Accelerator(
        cpu=device == "cpu" or (device == "auto" and not accelerated()),
        mixed_precision=PRECISION[chosen.run.precision],
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=train_encoder)],
    )


def accelerated() -> bool:
    """Return whether torch sees anything faster than the CPU."""
    return torch.cuda.is_available() or torch.backends.mps.is_available()


def build(chosen: Settings, accelerator: Accelerator, journal: Journal) -> Trainer:
    """Open the data, build the network and put a run together."""
    found = layouts.open_data(
        chosen.resolve(chosen.data.path), chosen.data.layout, chosen.data.tolerance
    )
    weights = losses.channel_weights(found.control_names, chosen.loss.channels)
    statistics = dataset.survey(
        found,
        chosen.data.standardise,
        partial(journal.progress, "looking at the motion"),
        chosen.data.size,
    )
    torch.manual_seed(chosen.run.seed)
    model = build_model(chosen, found, statistics).to(accelerator.device)
    statistics = Statistics(model.motion.mean.cpu().numpy(), model.motion.scale.cpu().numpy())
    cache = None
    if chosen.data.features and not chosen.optimiser.encoder_learning_rate:
        with accelerator.main_process_first():
            cache = build_cache(chosen, found, model, journal)
    source = Source(
        found,
        statistics,
        chosen.batch,
        chosen.run.seed,
        cache,
        repeat=chosen.data.repeat,
        stretched=model.spec.alignment == "published",
    )
    objective = Objective(
        model,
        chosen.loss,
        None if weights is None else weights.to(accelerator.device),
        sampled_steps(chosen),
        train_encoder=chosen.optimiser.encoder_learning_rate > 0,
    ).to(accelerator.device)
    return Trainer(chosen, source, objective, accelerator, journal, shared_template(found))


def build_model(chosen: Settings, found: DataSet, statistics: Statistics) -> DiffSpeaker:
    """Return the network, with a pre-trained encoder or the weights of `model.start`."""
    wanted = chosen.model
    if wanted.start:
        return started(chosen, found)
    source = wanted.encoder
    if source and chosen.resolve(source).exists():
        source = str(chosen.resolve(source))
    encoder, tensors = load_encoder(source, wanted.encoder_kind)
    if wanted.states:
        encoder, tensors = keep_states(encoder, tensors, wanted.states)
    spec = ModelSpec(
        name=wanted.name,
        motion=found.kind,
        channels=found.channels,
        latent=wanted.latent,
        feedforward=wanted.feedforward,
        encoder=encoder,
        styles=found.styles,
        fps=found.fps,
        period=wanted.period or round(found.fps),
        layers=wanted.layers,
        heads=wanted.heads,
        context=wanted.context,
        alignment=wanted.alignment,
        smoothing=wanted.smoothing,
        sampler=wanted.sampler,
        steps=wanted.steps,
        guidance=wanted.guidance,
        dropout=wanted.dropout,
        control_names=found.control_names,
        licence=wanted.licence,
        notes=wanted.notes,
    )
    model = DiffSpeaker(spec)
    fill(model, tensors, wanted.encoder)
    model.motion.mean.copy_(torch.from_numpy(statistics.mean))
    model.motion.scale.copy_(torch.from_numpy(statistics.scale))
    return model


def fill(model: DiffSpeaker, tensors: dict[str, torch.Tensor], source: str) -> None:
    """Put an encoder's tensors into the network.

    Raises:
        ConfigError: some are missing or of another size.
    """
    if not tensors:
        return
    try:
        missing, unexpected = model.load_state_dict(tensors, strict=False)
    except RuntimeError as error:
        raise ConfigError(f"The speech encoder {source} does not fit: {error}.") from error
    optional = {"audio_encoder.mix", "audio_encoder.masked_spec_embed"}
    lacking = [name for name in missing if name.startswith("audio_encoder.")]
    lacking = [name for name in lacking if name not in optional]
    if lacking or unexpected:
        names = ", ".join([*lacking, *unexpected][:4])
        raise ConfigError(f"The speech encoder {source} does not fit the network: {names}.")


def started(chosen: Settings, found: DataSet) -> DiffSpeaker:
    """Return the network of `model.start`, whose motion must be the data set's.

    The checkpoint's own standardisation stays in force.
    """
    kept = checkpoint.load(chosen.resolve(chosen.model.start))
    spec = kept.spec
    if spec.channels != found.channels or spec.styles != found.styles or spec.fps != found.fps:
        raise ConfigError(
            f"model.start was trained on {spec.channels} channels, {len(spec.styles)} styles, "
            f"{spec.fps:g} fps; the data has {found.channels}, {len(found.styles)}, "
            f"{found.fps:g}."
        )
    model = DiffSpeaker(spec.with_(dropout=chosen.model.dropout, steps=chosen.model.steps))
    model.load_state_dict(kept.tensors, strict=False)
    return model


def build_cache(
    chosen: Settings, found: DataSet, model: DiffSpeaker, journal: Journal
) -> FeatureCache:
    """Compute the frozen encoder's features, or open those of an earlier run."""
    tensors = {
        name: value
        for name, value in model.audio_encoder.state_dict().items()
        if name != "mix"  # what is stored does not depend on it
    }
    name = feature_cache.fingerprint(repr(model.spec.encoder), tensors)
    home = chosen.resolve(chosen.data.cache) if chosen.data.cache else found.folder
    encode, width = feature_cache.encoder_of(model.eval())
    progress = partial(journal.progress, "computing speech features")
    return feature_cache.build(found, home / f"features-{name}", encode, width, progress)


def sampled_steps(chosen: Settings) -> list[int] | None:
    """Return the diffusion steps the sampler will visit, or None to train on all."""
    if chosen.optimiser.noise_steps == "all":
        return None
    return schedule().timesteps(chosen.model.steps)


def shared_template(found: DataSet) -> torch.Tensor | None:
    """Return the mean of all templates (V, 3), the face a vertex model shows by default."""
    if not found.templates:
        return None
    mean = np.mean(list(found.templates.values()), axis=0, dtype=np.float32)
    return torch.from_numpy(mean.reshape(-1, 3))


def describe(trainer: Trainer, journal: Journal) -> None:
    """Say in two lines what is about to be trained."""
    found, spec = trainer.source.data, trainer.model.spec
    hours = sum(clip.seconds for clip in found.split("train")) / 3600
    size = sum(value.numel() for value in trainer.trained.values()) / 1e6
    journal.line(
        f"{len(found.split('train'))} clips, {hours:.2f} h; {found.channels} {found.kind} channels "
        f"at {found.fps:g} fps; {len(found.styles)} styles; "
        f"{len(found.split('validation'))} clips to validate"
    )
    journal.line(
        f"{size:.2f} M trained weights on {trainer.accelerator.device.type} × "
        f"{trainer.accelerator.num_processes}, {spec.encoder.kind} encoder "
        f"{'precomputed' if trainer.source.cache else 'in the loop'}, {trainer.steps} steps"
    )


def checks(chosen: Settings):  # type: ignore[no-untyped-def]
    """Return what else is measured after an epoch: sampled clips and a preview, or None."""
    if not chosen.run.sample_clips and not chosen.run.preview_epochs:
        return None
    from .validation import EpochChecks

    return EpochChecks(chosen)
