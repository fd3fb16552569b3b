# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure sampling in latent space against plain vertex-space sampling, the encoders and start-up.

    python -m tests.benchmarks.sampler [--seconds 1 10 60] [--threads 2] [--plain-steps 3]

Both samplers run at the published sizes with random weights, 50 steps, from the same noise; each
measurement is a process of its own, so that its peak memory is its own. Every plain step costs the
same, so by default 3 of the 50 are run and multiplied; `--plain-steps 50` runs them all. The plain
sampler is the tests' oracle: dense masks, full width, as the published code computes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from model import __version__  # before torch, as in the model process: it sets how threads wait
from tests.shared import ROOT

STEPS = 50


def main() -> None:
    """Run all measurements and print tables, or one measurement as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--seconds", type=float, nargs="+", default=[1, 10, 60])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--plain-steps", type=int, default=3)
    parser.add_argument("--data", nargs="+", default=["vocaset", "biwi"])
    parser.add_argument("--skip-encoders", action="store_true")
    parser.add_argument("--case", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        kind, name, seconds = arguments.case
        print(json.dumps(measure(kind, name, float(seconds), arguments)))
        return
    print(machine(arguments.threads))
    samplers(arguments)
    if not arguments.skip_encoders:
        encoders(arguments)
    print(f"\nprocess start to ready: {ready():.2f} s")


def samplers(arguments: argparse.Namespace) -> None:
    """Print the table of both samplers."""
    print(
        f"\n50 steps; plain: {arguments.plain_steps} steps measured and scaled; memory: peak RSS;"
    )
    print("ratio by wall time, and by processor time (which other programs disturb least)")
    print("data    audio frames   plain s latent s  ratio  (cpu) 4 steps s  plain MB latent MB")
    for name in arguments.data:
        for seconds in arguments.seconds:
            plain = ask("plain", name, seconds, arguments)
            fast = ask("latent", name, seconds, arguments)
            row = f"{name:8}{seconds:3g} s{fast['frames']:7d}"
            row += f"{plain['wall']:10.2f}{fast['wall']:9.2f}{plain['wall'] / fast['wall']:7.1f}"
            row += f"{plain['cpu'] / fast['cpu']:7.1f}{fast['few']:10.2f}"
            print(f"{row}{plain['memory']:10.0f}{fast['memory']:10.0f}", flush=True)


def encoders(arguments: argparse.Namespace) -> None:
    """Print the table of encoders."""
    print("\nencoder          audio   float32 s  bfloat16 s  peak MB")
    for name in ("hubert", "whisper"):
        for seconds in arguments.seconds:
            out = ask("encoder", name, seconds, arguments)
            row = f"{name:15}{seconds:5g} s{out['wall']:12.2f}{out['half']:12.2f}"
            print(f"{row}{out['memory']:9.0f}", flush=True)


def ask(kind: str, name: str, seconds: float, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run one measurement in a process of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.sampler", "--case", kind, name, str(seconds)]
    command += ["--threads", str(arguments.threads)]
    command += ["--plain-steps", str(arguments.plain_steps)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def measure(kind: str, name: str, seconds: float, arguments: argparse.Namespace) -> dict[str, Any]:
    """Do one measurement; wall seconds and peak memory."""
    import torch

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    with torch.no_grad():
        if kind == "encoder":
            out = measure_encoder(name, seconds)
        else:
            out = measure_sampler(kind, name, seconds, arguments.plain_steps)
    return out | {"memory": peak_memory()}


def measure_sampler(kind: str, name: str, seconds: float, plain_steps: int) -> dict[str, Any]:
    """Time one sampler, dense motion included."""
    import torch

    from model.network import diffusion, latent, sampling, spec
    from model.network.denoiser import DiffSpeaker
    from tests.model import plain, tiny

    published = {"vocaset": spec.vocaset, "biwi": spec.biwi}[name]()
    frames = DiffSpeaker.frames  # the published rule, from the published encoder's sizes
    with torch.device("meta"):
        count = frames(DiffSpeaker(published), round(seconds * 16_000))
    model = DiffSpeaker(published.with_(encoder=tiny.spec().encoder)).eval()
    model.denoiser.motion_decoder.weight.normal_(0, 1e-4)
    hidden = torch.randn(1, count, published.latent)
    style = model.style(0)
    schedule = sampling.schedule()
    out: dict[str, Any] = {"frames": count}
    if kind == "plain":
        noise = torch.randn(1, count, published.channels)
        moves = schedule.moves(STEPS, "published")[:plain_steps]
        denoise = plain.sample
        denoise(model, hidden[:, :8], noise[:, :8], style, moves[:1])
        wall, cpu = timed(lambda: denoise(model, hidden, noise, style, moves))
        return out | {"wall": wall * STEPS / plain_steps, "cpu": cpu * STEPS / plain_steps}
    latent.LatentNetwork.of(model)
    diffusion.sample(model, hidden[:, :8], style, steps=2)
    out["few"], _ = timed(lambda: diffusion.sample(model, hidden, style, steps=4).motion())
    wall, cpu = timed(lambda: diffusion.sample(model, hidden, style, steps=STEPS).motion())
    return out | {"wall": wall, "cpu": cpu}


def timed(call: Callable[[], Any]) -> tuple[float, float]:
    """Return the wall and processor seconds of a call."""
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - cpu


def measure_encoder(name: str, seconds: float) -> dict[str, Any]:
    """Time one encoder of published size."""
    import torch

    from model.network import spec
    from model.network.encoders import speech_encoder
    from model.progress import UNWATCHED

    config = spec.HUBERT_BASE if name == "hubert" else spec.WHISPER_TINY
    encoder = speech_encoder.build_encoder(spec.EncoderSpec(name, config)).eval()
    audio = encoder.prepare(0.1 * torch.randn(1, round(seconds * 16_000)), None)
    encoder(audio[:, :16_000], None, UNWATCHED)
    out = {}
    for key, precision in (("wall", "float32"), ("half", "bfloat16")):
        with speech_encoder.computing_in(precision, audio.device):
            out[key], _ = timed(lambda: encoder(audio, None, UNWATCHED))
    return out


def peak_memory() -> float:
    """Return this process's peak resident memory in MB; 0 where it cannot be asked."""
    try:
        import resource
    except ImportError:
        return 0.0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def ready() -> float:
    """Return the seconds from starting the model process to its first event."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "model", "serve"], cwd=ROOT,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.readline()
    seconds = time.perf_counter() - began
    process.communicate(b"", timeout=30)
    return seconds


def machine(threads: int) -> str:
    """Describe what runs this."""
    import os
    import platform

    import torch

    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    level = torch.backends.cpu.get_cpu_capability()
    return (
        f"DiffSpeaker {__version__}, torch {torch.__version__}, {threads} of {os.cpu_count()} "
        f"processors ({platform.machine()}, {level}), load {load:.1f} at the start"
    )


if __name__ == "__main__":
    main()
