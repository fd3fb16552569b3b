# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures agree with the published program's numbers to the last bits."""

from __future__ import annotations

import numpy as np
import pytest

from model.evaluation import metrics
from tests.shared import shared


def made_up(frames: int, vertices: int, seed: int) -> np.ndarray:
    """Return the fixtures' input (T, V, 3): a hash of its indices, float32."""
    place = (seed * frames + np.arange(frames)[:, None, None]) * vertices
    index = ((place + np.arange(vertices)[None, :, None]) * 3 + np.arange(3)).astype(np.uint64)
    hashed = index * np.uint64(2654435761) % np.uint64(2**32)
    hashed ^= hashed >> np.uint64(15)
    hashed = hashed * np.uint64(2246822519) % np.uint64(2**32)
    hashed ^= hashed >> np.uint64(13)
    return ((hashed / 2**32 - 0.5) * 0.02).astype(np.float32)


def check(z, name, truth, predicted, template, lips, upper) -> None:
    """Compare every stored number."""
    errors = metrics.lip_errors(truth, predicted, lips)
    assert errors == pytest.approx(z[f"{name}_lve_per_frame"], rel=1e-6)
    moved = metrics.upper_dynamics(truth, template, upper)
    ours = metrics.upper_dynamics(predicted, template, upper)
    assert moved == pytest.approx(float(z[f"{name}_std_gt"]), rel=1e-6)
    assert ours == pytest.approx(float(z[f"{name}_std_pred"]), rel=1e-6)
    assert moved - ours == pytest.approx(float(z[f"{name}_fdd"]), rel=1e-4)


@pytest.mark.parametrize(("name", "vertices"), [("vocaset", 5023), ("biwi", 23370)])
def test_published_lve_and_fdd(name: str, vertices: int) -> None:
    """LVE per frame to 1e-6 and FDD to 1e-4 of the reference, on its own regions."""
    z = np.load(shared("reference/parity/metrics.npz"))
    regions = np.load(shared("reference/parity/regions.npz"))
    frames = int(z[f"{name}_T"])
    truth, predicted = made_up(frames, vertices, 1), made_up(frames, vertices, 2)
    assert truth.astype(float).sum() == pytest.approx(z[f"{name}_gt_checksum"][0])
    template = made_up(1, vertices, 3)[0]
    check(z, name, truth, predicted, template, regions[f"{name}_lips"], regions[f"{name}_upper"])
    assert metrics.lip_errors(truth, predicted, regions[f"{name}_lips"]).mean() == pytest.approx(
        float(z[f"{name}_lve"]), rel=1e-6
    )


def test_a_small_stored_case() -> None:
    """The stored case needs no data set; one of its lists has a duplicate."""
    z = np.load(shared("reference/parity/metrics.npz"))
    check(
        z,
        "small",
        z["small_gt"],
        z["small_pred"],
        z["small_template"][0],
        z["small_lips"],
        z["small_upper"],
    )


def test_opening_pair_is_found_in_the_motion() -> None:
    """The two vertices that part the most are the mouth's opening."""
    motion = np.zeros((20, 6, 3))
    motion[:, :, 0] = np.arange(6)
    motion[:, 4, 1] = np.sin(np.arange(20))
    motion[:, 1, 1] = -np.sin(np.arange(20)) - 2
    assert set(metrics.opening_pair(motion, np.arange(6))) == {1, 4}
    assert metrics.opening_difference(motion, motion, (1, 4)) == 0


def test_closures_count_both_ways() -> None:
    """A closure one frame late counts; one that is missing or made up does not."""
    truth, ours = np.zeros(30), np.zeros(30)
    truth[5:7] = truth[15:17] = 1
    ours[7:9] = ours[25:26] = 1
    counts = metrics.closures(truth, ours)
    assert (counts.true, counts.found, counts.made, counts.right) == (2, 1, 2, 1)
    assert (counts + counts).recall == 0.5


def test_lag_has_a_sign() -> None:
    """A prediction that follows late has a positive lag."""
    curve = np.random.default_rng(0).normal(size=80)
    assert metrics.lag(curve, np.roll(curve, 2)) == 2
    assert metrics.lag(curve, np.roll(curve, -1)) == -1


def test_interval_is_the_published_one() -> None:
    """1.96 σ / √n with the population σ; one replication has no width."""
    interval = metrics.Interval.of([1.0, 2.0, 3.0])
    assert interval.half == pytest.approx(1.96 * np.std([1, 2, 3]) / np.sqrt(3))
    assert metrics.Interval.of([4.0]).half == 0
