# SPDX-License-Identifier: GPL-3.0-or-later
"""Training: reproducible, resumable, the same on two processes, and never silent about a fault."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file

from model.errors import CheckpointError, ConfigError, OutputError
from model.network import checkpoint
from model.training import batches, settings, train, trainer
from model.training import state as training_state
from tests.model import recordings, tiny
from tests.shared import ROOT

POSIX = pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")

SMALL = {
    "run": {"threads": 1, "device": "cpu", "tensorboard": False, "prefetch": 0},
    "data": {"path": "set", "standardise": "channel"},
    "model": {
        "latent": 32,
        "feedforward": 32,
        "encoder": "encoder.safetensors",
        "encoder_kind": "hubert",
        "steps": 4,
    },
    "batch": {"size": 2, "seconds": 0.8},
    "optimiser": {"learning_rate": 3e-3, "epochs": 3, "ema": 0.9, "warmup_steps": 2, "clip": 1.0},
}


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder with a small data set and a tiny random speech encoder."""
    AcceleratorState._reset_state(reset_partial_state=True)  # one process, many runs
    recordings.controls(tmp_path / "set")
    tiny.checkpoint(tmp_path / "encoder.safetensors", tiny.spec())
    return tmp_path


def chosen(folder: Path, **changes: dict) -> settings.Settings:
    """Return the small settings with some sections changed."""
    values = {name: dict(table) for name, table in SMALL.items()}
    for name, table in changes.items():
        values.setdefault(name, {}).update(table)
    values["run"].setdefault("output", "run")
    return settings.build(values, folder)


def command(folder: Path, *overrides: str, launcher: tuple[str, ...] = ()) -> list[str]:
    """Return the command line of the small run."""
    lines = []
    for section, table in SMALL.items():
        for key, value in table.items():
            text = str(value).lower() if isinstance(value, bool) else json.dumps(value)
            lines.append(f"{section}.{key}={text}")
    words = [word for line in (*lines, *overrides) for word in ("--set", line)]
    (folder / "empty.toml").write_text("", encoding="utf-8")
    return [sys.executable, *launcher, "-m", "model", "train", str(folder / "empty.toml"), *words]


def environment() -> dict[str, str]:
    """Return an environment in which `-m model` is found and one thread is used."""
    return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """Return the last checkpoint's tensors."""
    return load_file(folder / "last.safetensors")


def largest_difference(first: Path, second: Path) -> float:
    """Return how far two runs' checkpoints differ."""
    one, other = weights(first), weights(second)
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def log(folder: Path) -> list[dict]:
    """Return a run's rows of numbers."""
    text = (folder / "log.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_a_run_learns_and_its_checkpoint_speaks(folder) -> None:
    """Validation loss falls; the checkpoint loads and carries the motion's standardisation."""
    outcome = train.train(chosen(folder, optimiser={"epochs": 12}))
    rows = log(folder / "run")
    assert outcome.finished
    assert rows[-1]["validation_loss"] < 0.8 * rows[0]["validation_loss"]
    kept = checkpoint.load(folder / "run" / "best.safetensors")
    assert kept.spec.control_names == recordings.CONTROLS
    assert kept.spec.styles == ("calm", "lively")
    assert float(kept.tensors["motion.scale"][0]) != 1.0


def test_the_same_seed_gives_the_same_weights(folder) -> None:
    """Two runs agree to the bit, also with batches prepared ahead; another seed differs."""
    train.train(chosen(folder, run={"output": "a"}))
    train.train(chosen(folder, run={"output": "b", "prefetch": 3}))
    train.train(chosen(folder, run={"output": "c", "seed": 5}))
    assert largest_difference(folder / "a", folder / "b") == 0
    assert largest_difference(folder / "a", folder / "c") > 0


@POSIX
@pytest.mark.parametrize("encoder", [0.0, 1e-3], ids=["frozen", "encoder learns"])
def test_killed_in_mid_epoch_and_resumed(folder, encoder: float) -> None:
    """After kill -9 and --resume the numbers are those of an uninterrupted run, to the bit."""
    more = {"epochs": 5, "encoder_learning_rate": encoder}
    train.train(chosen(folder, run={"output": "whole"}, optimiser=more))
    overrides = ("run.output=killed", "run.save_steps=1", "data.repeat=1", "optimiser.epochs=5")
    words = command(folder, *overrides, f"optimiser.encoder_learning_rate={encoder}")
    process = subprocess.Popen(words, env=environment(), stderr=subprocess.DEVNULL)
    state = folder / "killed" / training_state.STATE
    wait_for(lambda: state.exists() and step_of(state) >= 4, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    step = step_of(state) if state.exists() else 4
    assert 4 <= step < 40
    subprocess.run([*words, "--resume"], env=environment(), check=True, capture_output=True)
    assert largest_difference(folder / "whole", folder / "killed") == 0
    losses = [row["validation_loss"] for row in log(folder / "whole")]
    assert [row["validation_loss"] for row in log(folder / "killed")][-1] == losses[-1]


def step_of(state: Path) -> int:
    """Return a state's step, or -1 while it is being replaced."""
    try:
        return training_state.read(state)[1].step
    except CheckpointError:
        return -1


def wait_for(condition, process: subprocess.Popen, seconds: float = 60) -> None:
    """Wait until a condition holds, or fail when the process ends before."""
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "the run ended too early"
        assert time.monotonic() < end, "the run never came that far"


@POSIX
def test_interrupting_saves(folder) -> None:
    """Ctrl-C ends after the step, says so, exits with 4, and --resume comes to the same end."""
    train.train(chosen(folder, run={"output": "whole"}, optimiser={"epochs": 40}))
    words = command(folder, "run.output=stopped", "optimiser.epochs=40")
    process = subprocess.Popen(words, env=environment(), stderr=subprocess.PIPE, text=True)
    wait_for((folder / "stopped" / "log.jsonl").exists, process)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 4, said
    assert "--resume" in said
    subprocess.run([*words, "--resume"], env=environment(), check=True, capture_output=True)
    assert largest_difference(folder / "whole", folder / "stopped") == 0


def test_two_processes_give_the_curve_of_one(folder) -> None:
    """Two gloo processes sharing a batch learn what one process with that batch learns."""
    one = {"size": 4}
    changed = {"model": {"dropout": 0.0}, "batch": one}
    train.train(chosen(folder, run={"output": "one"}, **changed))
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    words = command(
        folder, "run.output=two", "batch.size=4", "model.dropout=0.0", launcher=launcher
    )
    done = subprocess.run(words, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "cpu × 2" in done.stderr
    for first, second in zip(log(folder / "one"), log(folder / "two"), strict=True):
        assert first["train_loss"] == pytest.approx(second["train_loss"], rel=1e-4)
        assert first["validation_loss"] == pytest.approx(second["validation_loss"], rel=1e-4)


def test_a_loss_that_is_no_number_stops(folder, monkeypatch) -> None:
    """The message names step, batch and clips; the last good state and checkpoint stay."""
    train.train(chosen(folder, optimiser={"epochs": 1}))
    before = weights(folder / "run")
    measure = trainer.Trainer.measure

    def broken(self, batch):
        share, whole = measure(self, batch)
        return share, float("nan") if self.place.step == 9 else whole

    monkeypatch.setattr(trainer.Trainer, "measure", broken)
    with pytest.raises(
        trainer.TrainingError, match=r"step 10 \(epoch 2, batch 2: clip\d"
    ) as caught:
        train.train(chosen(folder), resume=True)
    assert "last good" in str(caught.value)
    after = weights(folder / "run")
    assert all(torch.equal(before[name], after[name]) for name in before)


@POSIX
def test_a_full_disk_keeps_the_last_state(folder) -> None:
    """Where no more bytes can be written the run says so, and what was saved stays whole."""
    train.train(chosen(folder, optimiser={"epochs": 1}))
    limit = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000));"
        "from model.__main__ import main; sys.exit(main(sys.argv[1:]))"
    )
    words = command(folder, "run.output=run", "optimiser.epochs=3")
    words = [sys.executable, "-c", limit, *words[3:], "--resume"]
    done = subprocess.run(words, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 5, done.stderr
    assert "Free some space" in done.stderr
    assert step_of(folder / "run" / training_state.STATE) == 8
    checkpoint.load(folder / "run" / "last.safetensors")


def test_damaged_states_are_named(folder) -> None:
    """A truncated state is refused with a way out; the previous one still works."""
    train.train(chosen(folder, optimiser={"epochs": 2}))
    state = folder / "run" / training_state.STATE
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="damaged") as caught:
        train.train(chosen(folder), resume=True)
    assert training_state.PREVIOUS in str(caught.value)
    state.unlink()
    assert train.train(chosen(folder), resume=True).step == 24


def test_a_state_of_another_network_is_refused(folder) -> None:
    """Resuming with other sizes names the tensor that does not fit."""
    train.train(chosen(folder, optimiser={"epochs": 1}))
    with pytest.raises(CheckpointError, match="another network"):
        train.train(chosen(folder, model={"latent": 64}), resume=True)


def test_a_run_is_never_overwritten_by_accident(folder) -> None:
    """Starting in a used folder asks for --resume or --restart."""
    train.train(chosen(folder, optimiser={"epochs": 1}))
    with pytest.raises(ConfigError, match="already holds a run"):
        train.train(chosen(folder))
    assert train.train(chosen(folder, optimiser={"epochs": 1}), restart=True).step == 8


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("optimiser.learning_rat=1", "Did you mean learning_rate?"),
        ("optimizer.epochs=1", "Did you mean optimiser?"),
        ("loss.padding=mask", "Did you mean masked?"),
        ("batch.size=many", "must be a whole number"),
        ("batch.size=0", "at least 1"),
        ("model.dropout=1.5", "below 1"),
        ("epochs=3", "section.key=value"),
    ],
)
def test_settings_are_checked(override: str, words: str) -> None:
    """A wrong name or value is refused with the nearest right one."""
    with pytest.raises(ConfigError) as caught:
        settings.load(Path("small"), [override])
    assert words in str(caught.value)


def test_every_ready_made_config_is_whole() -> None:
    """All shipped configs load; the paper's four have its sizes."""
    names = sorted(path.stem for path in settings.CONFIGS.glob("*.toml"))
    assert {"small", "bundled", "vocaset-hubert", "biwi-wav2vec2"} <= set(names)
    loaded = {name: settings.load(Path(name)) for name in names}
    assert loaded["vocaset-hubert"].model.latent == 512
    assert loaded["biwi-hubert"].model.latent == 1024
    assert loaded["vocaset-wav2vec2"].optimiser.epochs == 9000


def test_loss_weights_by_name(folder) -> None:
    """Patterns weigh channels; a name that no channel has is refused with the nearest."""
    found = chosen(folder, loss={"channels": {"mouth*": 3.0}})
    assert train.train(found).finished
    wrong = chosen(folder, run={"output": "x"}, loss={"channels": {"jawOpne": 2.0}})
    with pytest.raises(ConfigError, match="Did you mean jawOpen"):
        train.train(wrong)


def test_vertices_in_vocaset_layout(folder) -> None:
    """VOCASET's layout trains, with whole clips, sampled lip error and a template to show."""
    recordings.vocaset(folder / "voca")
    data = {"path": "voca", "layout": "vocaset", "standardise": "global"}
    outcome = train.train(
        chosen(
            folder,
            data=data,
            batch={"seconds": 0.0, "size": 4},
            run={"sample_clips": 2},
            model={"alignment": "published", "smoothing": True},
        )
    )
    row = log(folder / "run")[-1]
    assert outcome.finished
    assert row["sampled_lve"] > 0
    assert checkpoint.load(folder / "run" / "last.safetensors").template.shape == (12, 3)


def test_going_on_from_a_checkpoint(folder) -> None:
    """`model.start` continues a model, its encoder now learning too, with its standardisation."""
    train.train(chosen(folder))
    more = chosen(
        folder,
        run={"output": "tuned"},
        model={"start": "run/last.safetensors"},
        optimiser={"encoder_learning_rate": 1e-4, "epochs": 1},
    )
    train.train(more)
    first, second = weights(folder / "run"), weights(folder / "tuned")
    assert torch.equal(first["motion.scale"], second["motion.scale"])
    front = "audio_encoder.feature_extractor.conv_layers.0.conv.weight"
    projection = "audio_encoder.feature_projection.projection.weight"
    assert torch.equal(first[front], second[front])
    assert not torch.equal(first[projection], second[projection])


def test_a_batch_is_shared_without_overlap(folder) -> None:
    """Ranks take every n-th clip of one plan; together they have the whole batch."""
    run = chosen(folder, batch={"size": 4})
    from accelerate import Accelerator

    from model.training.log import Journal

    journal = Journal(folder / "x", tensorboard=False, active=False)
    source = train.build(run, Accelerator(cpu=True), journal).source
    items = batches.epoch_plan(source, 0)[0]
    whole = batches.train_batch(source, items)
    parts = [batches.train_batch(source, items, rank, 2) for rank in range(2)]
    assert sorted(whole.names) == sorted(parts[0].names + parts[1].names)
    assert torch.equal(whole.motion[0::2], parts[0].motion)


def test_half_precision(folder) -> None:
    """bfloat16 activations train; the saved weights stay float32."""
    outcome = train.train(chosen(folder, run={"precision": "bfloat16"}))
    assert outcome.finished
    assert weights(folder / "run")["denoiser.vertice_map.weight"].dtype == torch.float32


def test_unused_errors_are_ours() -> None:
    """A training error is a model error, so the command line turns it into one sentence."""
    assert issubclass(trainer.TrainingError, Exception)
    assert OutputError.kind == "output"
