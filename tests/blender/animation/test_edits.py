# SPDX-License-Identifier: GPL-3.0-or-later
"""An animator takes over: the controls' curves alone, correctives that never disagree with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bpy
import numpy as np
import pytest

from diffspeaker_blender.animation import actions, clips
from diffspeaker_blender.character import drivers, head
from diffspeaker_blender.motion.motion import Motion, load
from diffspeaker_blender.motion.sparse import played
from tests.blender.animation.test_clips import evaluated
from tests.shared import ROOT, shared

PYTHON = ROOT / ".environments" / "worker" / "bin" / "python"
SAMPLE = ROOT / "model" / "samples" / "vivian.flac"
FRAMES = range(1, 90, 4)


def lips_of(motion: Motion) -> np.ndarray:
    """Return the vertices of the lips."""
    assert motion.regions is not None
    return np.flatnonzero(motion.regions[motion.region_names.index("lips")] > 0.5)


@pytest.fixture(scope="module", params=["demo", "flame"])
def spoken(request: Any, tmp_path_factory: Any) -> tuple[str, Motion, Path]:
    """Return a real line, spoken by the bundled model for a head."""
    import subprocess

    if not PYTHON.exists():
        pytest.skip("no worker environment")
    flame = None if request.param == "demo" else shared("data/flame/FLAME_sample.ply")
    out = tmp_path_factory.mktemp("line") / "line.npz"
    words = ["-m", "model", "generate", str(SAMPLE), str(out), "--no-detail", "--duration", "3.2"]
    face = ["--face", str(flame or "demo")]
    subprocess.run([str(PYTHON), *words, *face], cwd=ROOT, check=True, timeout=300)
    return request.param, load(out), out


@pytest.fixture
def speaker(spoken: tuple[str, Motion, Path]) -> tuple[Any, Motion]:
    """Return a head with the line on it in few keys."""
    kind, motion, _file = spoken
    scene = bpy.context.scene
    scene.render.fps = 30
    if kind == "demo":
        from diffspeaker_blender.character.demo_head import add_demo_head

        obj = add_demo_head(bpy.context)
        turned = np.stack([motion.shapes[..., 0], -motion.shapes[..., 2], motion.shapes[..., 1]], 2)
        motion = Motion(**{**vars(motion), "shapes": np.ascontiguousarray(turned)})
    else:
        obj = head.import_flame(shared("data/flame/FLAME_sample.ply"))
        bpy.context.view_layer.objects.active = obj
    clips.apply_motion(obj, motion, clip="line", start_frame=1, tolerance=0.5)
    return obj, motion


def curves(obj: Any) -> dict[str, Any]:
    key = obj.data.shape_keys
    data = key.animation_data
    bag = actions.channels(data.action, actions.slot_of(data.action, data))
    return {actions.key_in(curve.data_path): curve for curve in bag.fcurves}


def gap(obj: Any, motion: Motion, frame: int) -> float:
    """Return how far the lips part at a frame more than at rest, in millimetres, at the middle.

    Lip vertices that the seal carries up face those that it carries down; the jaw tells them apart.
    """
    upper, lower = middle_pair(obj, motion)
    points = evaluated(obj, frame)
    rest = head.face_arrays(obj)[0]
    unit = head.millimetres(obj)
    return float(np.linalg.norm(points[upper] - points[lower]) * unit
                 - np.linalg.norm(rest[upper] - rest[lower]) * unit)  # fmt: skip


def middle_pair(obj: Any, motion: Motion) -> tuple[int, int]:
    """Return an upper and a lower vertex of the inner lips' middle: what a full seal meets."""
    jaw, close = (motion.shapes[motion.names.index(n)] for n in ("jawOpen", "mouthClose"))
    lips, rest = lips_of(motion), head.face_arrays(obj)[0]
    opened = np.linalg.norm(jaw[lips], axis=1)
    upper = lips[opened < 0.08 * opened.max()]
    lower = lips[opened > 0.9 * opened.max()]
    shut = rest + jaw + close
    apart = np.linalg.norm(shut[upper][:, None] - shut[lower][None], axis=2)
    one, two = np.unravel_index(apart.argmin(), apart.shape)
    return int(upper[one]), int(lower[two])


def set_all(curve: Any, values: Any) -> None:
    """Change the values of a curve's keys, handles along."""
    for point in curve.keyframe_points:
        point.interpolation = "LINEAR"
        point.co.y = values(point.co)
    curve.update()


def test_the_curves_are_the_controls_in_groups(speaker: tuple[Any, Motion]) -> None:
    """No corrective has keys; drivers need no Python; the groups are what an animator expects."""
    obj, motion = speaker
    key, found = obj.data.shape_keys, curves(obj)
    assert found and not any("." in name for name in found) and len(found) <= 40
    groups = list(dict.fromkeys(curve.group.name for curve in found.values()))
    assert groups[:2] == ["Jaw", "Lips"]
    assert set(groups) <= {"Jaw", "Lips", "Tongue", "Eyes", "Brows"}
    driven = [drivers.drives(key, name) for name in list(dict(key.key_blocks)) if "." in name]
    assert len(driven) >= 40 and all(driven)
    assert all(driver.driver.is_simple_expression for driver in key.animation_data.drivers)
    assert all(driver.driver.is_valid for driver in key.animation_data.drivers)
    sizes = [len(curve.keyframe_points) / motion.frames * motion.fps for curve in found.values()]
    assert max(sizes) < 20 and sum(sizes) < 140  # of 30 and 1170 with a key on every frame


def test_blender_shows_what_the_keys_say(speaker: tuple[Any, Motion]) -> None:
    """`fcurve.evaluate` and our own evaluation agree, between frames as well."""
    obj, _motion = speaker
    for curve in curves(obj).values():
        keys = actions.read_keys(curve)
        points = curve.keyframe_points
        slopes = [
            (p.handle_right.y - p.co.y) / max(p.handle_right.x - p.co.x, 1e-6) for p in points
        ]
        whole = np.column_stack([keys, slopes])
        frames = np.arange(keys[0, 0], keys[-1, 0], 0.37)
        shown = [curve.evaluate(frame) for frame in frames]
        np.testing.assert_allclose(shown, played(whole, frames), atol=2e-4)


def test_the_lips_keep_within_the_tolerance(speaker: tuple[Any, Motion]) -> None:
    """Half a millimetre at 95 of 100 frames, drivers and all."""
    obj, motion = speaker
    lips, rest, unit = lips_of(motion), head.face_arrays(obj)[0], head.millimetres(obj)
    errors = []
    for row in range(0, motion.frames, 2):
        wanted = rest + motion.offsets(slice(row, row + 1))[0]
        off = np.linalg.norm(evaluated(obj, row + 1)[lips] - wanted[lips], axis=1)
        errors.append(float(off.max()) * unit)
    assert np.percentile(errors, 95) < 0.6 and max(errors) < 2.5


def test_no_jaw_and_resting_lips_are_the_rest_pose(speaker: tuple[Any, Motion]) -> None:
    """jawOpen = 0 with the lips' own curves at rest: nothing of a corrective is left."""
    obj, motion = speaker
    for name, curve in curves(obj).items():
        if name.startswith(("jaw", "mouth", "lip", "cheekPuff")):
            set_all(curve, lambda _co: 0.0)
    lips, rest, unit = lips_of(motion), head.face_arrays(obj)[0], head.millimetres(obj)
    for frame in FRAMES:
        moved = np.linalg.norm(evaluated(obj, frame)[lips] - rest[lips], axis=1)
        assert moved.max() * unit < 0.2


def test_mouth_close_like_jaw_open_shuts_the_lips(speaker: tuple[Any, Motion]) -> None:
    """At every frame, whatever the other lip controls do there."""
    obj, motion = speaker
    found = curves(obj)
    jaw = found["jawOpen"]
    value = {frame: max(jaw.evaluate(frame), 0.01) for frame in FRAMES}
    for name in ("jawOpen", "mouthClose", "lipTuck"):
        if name not in found:
            continue
        curve = found[name]
        curve.keyframe_points.clear()
        for frame in FRAMES:
            wanted = 0.0 if name == "lipTuck" else value[frame]
            curve.keyframe_points.insert(frame, wanted).interpolation = "LINEAR"
        curve.update()
    assert max(gap(obj, motion, frame) for frame in FRAMES) < 0.3


def test_half_the_jaw_is_half_the_opening(speaker: tuple[Any, Motion]) -> None:
    """Scaling the jaw opens the lips less, smoothly, in proportion."""
    obj, motion = speaker
    for name, curve in curves(obj).items():
        if name != "jawOpen":
            set_all(curve, lambda _co: 0.0)
    curve = curves(obj)["jawOpen"]
    frame = max(FRAMES, key=curve.evaluate)
    full = curve.evaluate(frame)
    opened = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        set_all(curve, lambda _co, share=share: share * full)
        opened.append(gap(obj, motion, frame))
    assert np.all(np.diff(opened) > 0)
    assert opened[2] == pytest.approx(opened[4] / 2, rel=0.15)


def test_a_copied_head_keeps_its_own_drivers(speaker: tuple[Any, Motion]) -> None:
    """Drivers of a copy read the copy's own shape keys."""
    obj, _motion = speaker
    twin = obj.copy()
    twin.data = obj.data.copy()
    bpy.context.scene.collection.objects.link(twin)
    key = twin.data.shape_keys
    targets = {v.targets[0].id for d in key.animation_data.drivers for v in d.driver.variables}
    assert targets == {key}
