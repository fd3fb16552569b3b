# SPDX-License-Identifier: GPL-3.0-or-later
"""Memory grows with the length of the sound, and no faster than is promised."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.shared import ROOT

PROMISED = 2.0e9  # bytes for each hour of sound, beside 0.6 GB for program, model and head
SCRIPT = """
import resource, sys
sys.path.insert(0, sys.argv[1])
import model
from model.generation.generate import generate
from model.generation.request import GenerateRequest
from model.generation.session import Session
from model.rig import fitting
fitting.HELD = 500  # what a clip of a few minutes holds at once does not grow with an hour
generate(GenerateRequest(audio=sys.argv[2], output=sys.argv[3]), session=Session(engine="onnx"))
try:  # Linux counts what the parent held at the fork into ru_maxrss, but not into VmHWM
    status = open("/proc/self/status").read()
    print(int(status.split("VmHWM:")[1].split()[0]) * 1024)
except OSError:
    unit = 1 if sys.platform == "darwin" else 1024
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)
"""


def peak(sound: Path) -> int:
    """Return the most bytes that generating a motion held."""
    words = [sys.executable, "-c", SCRIPT, str(ROOT), str(sound), str(sound.with_suffix(".npz"))]
    return int(subprocess.run(words, capture_output=True, check=True).stdout.split()[-1])


@pytest.mark.skipif(os.name == "nt", reason="no peak memory of a child there")
def test_an_hour_of_sound_stays_within_what_is_promised(tmp_path: Path) -> None:
    """The slope between a short clip and a longer one, bundled model and demo head."""
    speech, rate = soundfile.read(ROOT / "model" / "samples" / "vivian.flac", dtype="float32")
    peaks = []
    for minutes in (0.5, 3.0):
        path = tmp_path / f"{minutes}.wav"
        soundfile.write(path, np.resize(speech, int(minutes * 60 * rate)), rate)
        peaks.append(peak(path))
    an_hour = (peaks[1] - peaks[0]) / 2.5 * 60
    assert an_hour < PROMISED, f"{an_hour / 1e9:.2f} GB an hour"
    assert peaks[0] < 0.6e9, f"{peaks[0] / 1e9:.2f} GB"
