"""Sound arrives at 16 kHz as the recorded resamplers deliver it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from model import audio
from tests.model import parity


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_resampling_is_the_recorded_one(tmp_path: Path, rate: int) -> None:
    """soxr's HQ to rounding; the published code's older resampler to its known 2 to 3 %."""
    arrays = parity.Arrays("audio.npz")
    path = tmp_path / "in.wav"
    soundfile.write(path, arrays[f"rs{rate}_x"].numpy(), rate, subtype="FLOAT")
    out = audio.load(path).samples
    expected = arrays[f"rs{rate}_y_soxr_hq"].numpy()
    assert len(out) == len(expected)
    np.testing.assert_allclose(out, expected, atol=1e-5, rtol=0)
    older = arrays[f"rs{rate}_y_librosa092"].numpy()
    assert np.std(out - older) < 0.05 * np.std(older)
