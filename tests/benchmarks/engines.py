# SPDX-License-Identifier: GPL-3.0-or-later
"""Time both engines in one run: a minute warm, a cold line, a worker's start, beside busy others.

    python -m tests.benchmarks.engines [--threads 2] [--busy 2]

Every figure is a process of its own that is told how many threads it has; wall time is the median
of three, processor time is user and system time of all its threads. With `--busy N` the minute is
timed again beside N processes that each burn a core.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VOICE = ROOT / "model" / "samples" / "vivian.flac"
ENGINES = ("onnx", "torch")

MINUTE = """
import json, os, sys, time
sys.path.insert(0, sys.argv[1])
from model.generation.generate import GenerateRequest, generate
from model.generation.session import Session
if sys.argv[3] == "torch":
    import torch
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
session = Session("cpu", engine=sys.argv[3], cache=sys.argv[4])
request = GenerateRequest(audio=sys.argv[2])
generate(request, session=session)
runs = []
for _ in range(3):
    began, spent = time.perf_counter(), time.process_time()
    report = generate(request, session=session).report
    runs.append({"wall": time.perf_counter() - began, "cpu": time.process_time() - spent,
                 "stages": report["seconds"]})
runs.sort(key=lambda run: run["wall"])
status = open("/proc/self/status").read() if os.path.exists("/proc/self/status") else ""
peak = next((int(line.split()[1]) / 1024 for line in status.splitlines() if "VmHWM" in line), 0)
print(json.dumps(runs[1] | {"peak": peak}))
"""
LINE = """
import sys
sys.path.insert(0, sys.argv[1])
from model.generation.generate import GenerateRequest, generate
from model.generation.session import Session
session = Session("cpu", engine=sys.argv[3], cache=sys.argv[4])
generate(GenerateRequest(audio=sys.argv[2], span=(0, 5)), session=session)
"""


def main() -> None:
    """Print one line a figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--busy", type=int, default=2)
    given = parser.parse_args()
    environment = os.environ | {"OMP_NUM_THREADS": str(given.threads)}
    engines = [name for name in ENGINES if name == "onnx" or importlib.util.find_spec("torch")]
    with tempfile.TemporaryDirectory() as folder:
        minute = written_minute(Path(folder))
        if hasattr(os, "getloadavg"):
            print(f"load average {os.getloadavg()[0]:.1f}, {os.cpu_count()} processors")
        for name in engines:
            show(f"{name}: 60 s, warm", measured(minute, name, environment))
        for name in engines:
            started(name, folder, environment)
        ready(environment)
        if given.busy:
            beside(given.busy, engines, minute, environment)


def written_minute(folder: Path) -> Path:
    """Write a minute of speech."""
    import numpy as np
    import soundfile

    samples, rate = soundfile.read(VOICE, dtype="float32")
    path = folder / "minute.wav"
    soundfile.write(path, np.resize(samples, 60 * rate), rate)
    return path


def measured(minute: Path, engine: str, environment: dict[str, str]) -> dict:
    """Return the figures of a process that speaks a minute, warm."""
    command = [
        sys.executable,
        "-I",
        "-c",
        MINUTE,
        str(ROOT),
        str(minute),
        engine,
        str(minute.parent),
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def show(what: str, found: dict) -> None:
    """Print one measurement."""
    stages = ", ".join(f"{name.lower()} {seconds:.2f}" for name, seconds in found["stages"].items())
    speed = 60 / found["wall"]
    print(f"{what}: {found['wall']:.2f} s ({speed:.0f} × real time), {found['cpu']:.2f} s of "
          f"processor time, peak {found['peak']:.0f} MB; {stages}", flush=True)  # fmt: skip


def started(engine: str, folder: str, environment: dict[str, str]) -> None:
    """Time a fresh process that speaks five seconds: the head's rig new, then known."""
    cache = Path(folder) / f"rigs-{engine}"
    command = [sys.executable, "-I", "-c", LINE, str(ROOT), str(VOICE), engine, str(cache)]
    times = []
    for _ in range(4):
        began = time.perf_counter()
        subprocess.run(command, env=environment, check=True)
        times.append(time.perf_counter() - began)
    print(f"{engine}: a 5 s line, fresh process: {times[0]:.2f} s on a new head, "
          f"{statistics.median(times[1:]):.2f} s on a known one", flush=True)  # fmt: skip


def ready(environment: dict[str, str]) -> None:
    """Time the worker from its start to its first word."""
    command = [sys.executable, "-I", str(ROOT / "model" / "__main__.py"), "serve"]
    times = []
    for _ in range(5):
        began = time.perf_counter()
        worker = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert worker.stdout is not None
        worker.stdout.readline()
        times.append(time.perf_counter() - began)
        worker.communicate()
    print(f"worker ready: {statistics.median(times):.2f} s", flush=True)


def beside(count: int, engines: list[str], minute: Path, environment: dict[str, str]) -> None:
    """Time the minute again beside processes that burn a core each."""
    burn = [sys.executable, "-I", "-c", "while True: pass"]
    busy = [subprocess.Popen(burn) for _ in range(count)]
    try:
        for name in engines:
            show(f"{name}: 60 s, warm, beside {count} busy processes",
                 measured(minute, name, environment))  # fmt: skip
    finally:
        for process in busy:
            process.kill()
            process.wait()


if __name__ == "__main__":
    main()
