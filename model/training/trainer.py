# SPDX-License-Identifier: GPL-3.0-or-later
"""The training loop: batches in, checkpoints out, resumable at every step.

The loop owns the place in the run. It saves a state every `save_steps` and at the end of every
epoch, stops cleanly when asked (Ctrl-C, SIGTERM), and refuses to continue past a loss that is no
number: the last good checkpoint stays.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from ..errors import ModelError, OutputError
from ..network import checkpoint
from . import batches, state
from .batches import Batch, Source
from .log import Journal, clock
from .objective import Average, Objective, freeze, optimiser, rate_factor, set_rate
from .settings import Settings
from .state import Place

LAST, BEST = "last.safetensors", "best.safetensors"

Check = Callable[["Trainer"], dict[str, Any]]  # extra numbers after an epoch


class TrainingError(ModelError):
    """Training cannot go on; the message says where it stopped and what is safe."""

    kind = "training"


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    finished: bool
    step: int
    loss: float  # of the last validation, or nan


class Trainer:
    """A run in progress."""

    def __init__(
        self,
        settings: Settings,
        source: Source,
        objective: Objective,
        accelerator: Accelerator,
        journal: Journal,
        template: Tensor | None = None,
    ) -> None:
        self.settings = settings
        self.source = source
        self.model = objective.model
        self.accelerator = accelerator
        self.journal = journal
        self.template = template
        self.folder = settings.resolve(settings.run.output)
        self.trained = freeze(self.model, settings.optimiser.encoder_learning_rate > 0)
        self.average = Average(self.trained, settings.optimiser.ema)
        self.place = Place(settings=settings.plain())
        raw = optimiser(self.trained, settings.optimiser)
        self.objective, self.optimiser = accelerator.prepare(objective, raw)
        self.raw_optimiser = raw
        self.validation_loss = math.nan
        self.stopping = False

    # ------------------------------------------------------------ extent

    @property
    def steps(self) -> int:
        """Return after how many steps the run ends."""
        settings = self.settings.optimiser
        whole = settings.epochs * len(batches.epoch_plan(self.source, 0))
        return min(settings.steps, whole) if settings.steps else whole

    def resume(self) -> None:
        """Go on from the saved state.

        Raises:
            CheckpointError: it is missing, damaged or of another network.
        """
        self.place = state.load_state(
            self.folder, self.trained, self.average.values, self.raw_optimiser
        )
        if self.accelerator.scaler is not None and self.place.scaler:
            self.accelerator.scaler.load_state_dict(self.place.scaler)

    # ------------------------------------------------------------ the loop

    def run(self, check: Check | None = None) -> Outcome:
        """Train to the end, or until asked to stop; `check` measures more after an epoch."""
        total = self.steps
        with asked_to_stop(self):
            while self.place.step < total and not self.stopping:
                self.epoch(total)
                if not self.stopping:
                    self.after_epoch(total, check)
            if self.stopping:
                self.save()
        self.journal.close()
        return Outcome(not self.stopping, self.place.step, self.validation_loss)

    def epoch(self, total: int) -> None:
        """Train on what is left of the epoch in progress."""
        place, source, run = self.place, self.source, self.settings.run
        plan = batches.epoch_plan(source, place.epoch)[place.batch :]
        rank, processes = self.accelerator.process_index, self.accelerator.num_processes
        prepared = batches.ahead(
            plan, lambda items: batches.train_batch(source, items, rank, processes), run.prefetch
        )
        self.objective.train()
        last = time.monotonic()
        for batch in prepared:
            loss = self.step(batch.to(self.accelerator.device), total)
            now = time.monotonic()
            place.seconds, last = place.seconds + now - last, now
            place.loss_sum += loss
            place.batch += 1
            self.tell(loss, total, batch)
            if place.step % run.save_steps == 0:
                self.save_state()
            if self.stopping or place.step >= total:
                break
        prepared.close()

    def step(self, batch: Batch, total: int) -> float:
        """Take one optimiser step and return the loss over all processes."""
        place, accelerator = self.place, self.accelerator
        torch.manual_seed(
            batches.mixed_seed(self.source.seed, 8, place.step, accelerator.process_index)
        )
        settings = self.settings.optimiser
        set_rate(self.raw_optimiser, rate_factor(place.step, total, settings))
        self.optimiser.zero_grad(set_to_none=True)
        loss, whole = self.measure(batch)
        if not math.isfinite(whole):
            self.refuse(batch)
        accelerator.backward(loss)
        if settings.clip:
            accelerator.clip_grad_norm_(self.trained.values(), settings.clip)
        self.optimiser.step()
        place.step += 1
        self.average.update(place.step)
        return whole

    def measure(self, batch: Batch) -> tuple[Tensor, float]:
        """Return this process's share of the loss (for gradients) and the loss of all.

        Sums are divided by the count over all processes, times the number of processes because
        data-parallel gradients are averaged: the gradient is that of the whole batch.
        """
        terms = self.objective(batch)
        counts, sums = terms.counts.detach(), terms.sums.detach()
        if self.accelerator.num_processes > 1:
            both = self.accelerator.reduce(torch.stack([counts, sums]), "sum")
            counts, sums = both[0], both[1]
        settings = self.settings.loss
        factors = counts.new_tensor([settings.position, settings.velocity, settings.acceleration])
        share = (factors * terms.sums / counts).sum() * self.accelerator.num_processes
        return share, float((factors * sums / counts).sum())

    def refuse(self, batch: Batch) -> None:
        """Stop at a loss that is no number.

        Raises:
            TrainingError: always.
        """
        place = self.place
        names = ", ".join(batch.names[:6]) + (" …" if len(batch.names) > 6 else "")
        raise TrainingError(
            f"The loss is no number at step {place.step + 1} (epoch {place.epoch + 1}, batch "
            f"{place.batch + 1}: {names}).",
            hint=f"The last good state and checkpoint in {self.folder} are kept. Lower the "
            "learning rate, set optimiser.clip, or look at these clips; then use --resume.",
        )

    def tell(self, loss: float, total: int, batch: Batch) -> None:
        """Report one step."""
        speech = float(batch.valid.sum()) / self.source.data.fps
        self.journal.step(
            loss,
            self.raw_optimiser.param_groups[0]["lr"],
            self.place.step,
            total,
            self.place.epoch,
            speech * self.accelerator.num_processes,
        )

    # ------------------------------------------------------------ after an epoch

    def after_epoch(self, total: int, check: Check | None) -> None:
        """Close the epoch: validate, log, save."""
        place, run = self.place, self.settings.run
        row: dict[str, Any] = {
            "epoch": place.epoch + 1,
            "train_loss": place.loss_sum / max(place.batch, 1),
        }
        finished = place.step >= total
        place.epoch, place.batch, place.loss_sum = place.epoch + 1, 0, 0.0
        if run.validate_epochs and (finished or place.epoch % run.validate_epochs == 0):
            self.average.swap()
            row |= self.validate()
            if check:
                row |= check(self)
            self.keep_best(row)
            self.average.swap()
        row["seconds"] = round(place.seconds, 1)
        self.journal.record(place.step, row)
        self.journal.line(told(place, row))
        self.save()

    @torch.no_grad()
    def validate(self) -> dict[str, Any]:
        """Return the validation loss with the present (averaged) weights, in evaluation mode."""
        self.objective.eval()
        objective = self.accelerator.unwrap_model(self.objective)
        terms = torch.zeros(2, 3)
        for batch in batches.validation_batches(self.source):
            measured = objective(batch.to(self.accelerator.device))
            terms += torch.stack([measured.sums, measured.counts]).cpu()
        self.objective.train()
        if not float(terms[1].sum()):
            return {}
        settings = self.settings.loss
        factors = torch.tensor([settings.position, settings.velocity, settings.acceleration])
        self.validation_loss = float((factors * terms[0] / terms[1].clamp(min=1)).sum())
        return {"validation_loss": self.validation_loss}

    def keep_best(self, row: dict[str, Any]) -> None:
        """Save the checkpoint with the lowest validation loss (called with averaged weights)."""
        loss = row.get("validation_loss", math.inf)
        if loss < self.place.best:
            self.place.best = loss
            row["best"] = True
            if self.accelerator.is_main_process:
                self.save_checkpoint(BEST)

    # ------------------------------------------------------------ saving

    def save(self) -> None:
        """Save the state and the checkpoint of averaged weights (first process only)."""
        self.save_state()
        if self.accelerator.is_main_process:
            self.average.swap()
            try:
                self.save_checkpoint(LAST)
            finally:
                self.average.swap()

    def save_checkpoint(self, name: str) -> None:
        """Write the present weights as a model file."""
        try:
            checkpoint.save(self.folder / name, checkpoint.of(self.model, self.template))
        except OutputError as error:
            hint = "Free some space, then go on with --resume; the last saved state is whole."
            raise OutputError(error.message, hint) from error

    def save_state(self) -> None:
        """Write the training state (first process only)."""
        if not self.accelerator.is_main_process:
            return
        scaler = self.accelerator.scaler
        self.place.scaler = scaler.state_dict() if scaler is not None else {}
        state.save_state(
            self.folder, self.place, self.trained, self.average.values, self.raw_optimiser
        )


def told(place: Place, row: dict[str, Any]) -> str:
    """Return an epoch's numbers as one line."""
    numbers = "  ".join(
        f"{name.replace('_', ' ')} {value:.6g}"
        for name, value in row.items()
        if isinstance(value, float) and name != "seconds"
    )
    best = "  (best so far)" if row.get("best") else ""
    return f"epoch {row['epoch']} done, step {place.step}, {clock(place.seconds)}: {numbers}{best}"


@contextmanager
def asked_to_stop(trainer: Trainer) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end the run, saved, after the step in progress; twice: at once."""

    def ask(number: int, _frame: object) -> None:
        if trainer.stopping:
            raise KeyboardInterrupt
        trainer.stopping = True
        trainer.journal.line("Stopping after this step; the run is being saved …")

    kept = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            kept[number] = signal.signal(number, ask)
    except ValueError:  # not the main thread: nobody presses Ctrl-C here
        pass
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


def folder_of(settings: Settings) -> Path:
    """Return where the run writes."""
    return settings.resolve(settings.run.output)
