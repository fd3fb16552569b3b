# SPDX-License-Identifier: GPL-3.0-or-later
"""What a training run says while it works: a progress line, `log.jsonl`, TensorBoard."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any, TextIO

INTERVAL = 10.0  # seconds between progress lines in a log; a terminal is updated twice a second


def clock(seconds: float) -> str:
    """Return a duration as h:mm:ss."""
    whole = max(0, round(seconds))
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


class Journal:
    """Write progress for people and numbers for tools; silent on all processes but the first."""

    def __init__(
        self, folder: Path, *, tensorboard: bool, active: bool = True, out: TextIO | None = None
    ) -> None:
        self.folder = folder
        self.active = active
        self.out = out or sys.stderr
        self.terminal = self.out.isatty()
        self.writer = board(folder) if tensorboard and active else None
        self.last = 0.0
        self.steps = 0
        self.speech = 0.0
        self.loss = 0.0
        self.started = time.monotonic()

    def step(
        self, loss: float, rate: float, done: int, total: int, epoch: int, speech: float
    ) -> None:
        """Note one step: its loss, learning rate, how far the run is, seconds of speech seen."""
        self.steps += 1
        self.speech += speech
        self.loss = loss if self.steps == 1 else 0.98 * self.loss + 0.02 * loss
        now = time.monotonic()
        if self.writer and done % 10 == 0:
            self.writer.add_scalar("train/loss", loss, done)
            self.writer.add_scalar("train/learning rate", rate, done)
        if not self.active or now - self.last < (0.5 if self.terminal else INTERVAL):
            return
        self.last = now
        pace = self.steps / max(now - self.started, 1e-9)
        self.line(
            f"epoch {epoch + 1}  step {done}/{total}  loss {self.loss:.5f}  rate {rate:.2e}  "
            f"{pace:.2f} steps/s ({self.speech / max(now - self.started, 1e-9):.0f} s of speech/s)"
            f"  left {clock((total - done) / pace)}",
            passing=True,
        )

    def progress(self, what: str, fraction: float) -> None:
        """Say how far a preparation is."""
        now = time.monotonic()
        if self.active and (
            fraction >= 1 or now - self.last > (0.5 if self.terminal else INTERVAL)
        ):
            self.last = now
            self.line(f"{what} {100 * fraction:.0f} %", passing=fraction < 1)

    def record(self, step: int, values: dict[str, Any]) -> None:
        """Append one row of numbers to `log.jsonl` and to TensorBoard."""
        if not self.active:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **values}, ensure_ascii=False) + "\n")
        for name, value in values.items():
            if self.writer and isinstance(value, int | float):
                self.writer.add_scalar(name.replace("_", "/", 1), value, step)

    def line(self, text: str, passing: bool = False) -> None:
        """Print a line; on a terminal a passing one is overwritten by the next."""
        if not self.active:
            return
        if self.terminal:
            self.out.write(f"\r\033[K{text}" + ("" if passing else "\n"))
        else:
            self.out.write(text + "\n")
        self.out.flush()

    def close(self) -> None:
        """Finish the terminal's line and the event file."""
        if self.writer:
            self.writer.close()


def board(folder: Path) -> Any:
    """Return a TensorBoard writer, or None where TensorBoard is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder / "events"))  # type: ignore[no-untyped-call]
