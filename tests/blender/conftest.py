# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests in Blender share: a fresh file, the add-on with a fake worker, a head, a sound."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

bpy = pytest.importorskip("bpy", reason="needs Blender's Python module")

FAKE = Path(__file__).resolve().parents[1] / "fakes" / "speaker.py"


@pytest.fixture
def empty():
    """Begin with an empty file."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    return bpy.context.scene


@pytest.fixture
def addon(empty, monkeypatch, tmp_path):
    """Switch the add-on on with a fake worker and folders of its own; switch it off again."""
    import diffspeaker_blender
    from diffspeaker_blender.settings import machine
    from diffspeaker_blender.worker.client import Worker

    monkeypatch.setenv("DIFFSPEAKER_FOLDER", str(tmp_path / "data é"))
    monkeypatch.setenv("DIFFSPEAKER_PYTHON", sys.executable)
    monkeypatch.setattr(machine, "new_worker", lambda: Worker([sys.executable, str(FAKE)]))
    diffspeaker_blender.register()
    yield diffspeaker_blender
    diffspeaker_blender.unregister()


@pytest.fixture
def line(tmp_path):
    """Return one second of sound."""
    from tests.fakes.sound import write_test_sound

    return write_test_sound(tmp_path / "line one.wav")


@pytest.fixture
def demo(addon):
    """Return the demo head in the scene."""
    bpy.ops.diffspeaker.add_demo_head()
    return bpy.context.scene.diffspeaker.head


needs_sound = pytest.mark.skipif(
    not bpy.app.build_options.audaspace, reason="this Blender is built without Audaspace"
)


def driven(head):
    """Return the key that the last result drives for the fake's jawOpen.

    A head with a jawOpen of its own, of another shape, gets a second key.
    """
    from diffspeaker_blender.jobs import queue

    name = next(key for key in queue.last().applied.keys if key.startswith("jawOpen"))
    return head.data.shape_keys.key_blocks[name]


def values(head, frames):
    """Return the evaluated value of the jaw's key at some frames."""
    found = []
    for frame in frames:
        bpy.context.scene.frame_set(int(frame))
        found.append(driven(head).value)
    return np.array(found)


def pump(until, patience=20.0):
    """Call the timer's function as Blender's loop would, until something holds."""
    from diffspeaker_blender.jobs import timer

    end = time.monotonic() + patience
    while not until():
        assert time.monotonic() < end, bpy.context.window_manager.diffspeaker.message
        timer.tick()
        time.sleep(0.01)


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Start each test from an empty file; one process keeps all its state otherwise."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    yield


@pytest.fixture
def grid() -> SimpleNamespace:
    """Return a bumpy sheet of 30 x 20 vertices as the active object: quick stand-in for a head."""
    mesh = bpy.data.meshes.new("Face")
    across, up = np.meshgrid(np.linspace(-0.1, 0.1, 30), np.linspace(-0.1, 0.1, 20))
    vertices = np.stack([across, 0.02 * np.cos(20 * across), up], -1).reshape(-1, 3)
    corner = (np.arange(19)[:, None] * 30 + np.arange(29)).ravel()
    quads = np.stack([corner, corner + 1, corner + 31, corner + 30], 1)
    mesh.from_pydata(vertices.tolist(), [], quads.tolist())
    return SimpleNamespace(object=link(mesh, "Face"), vertices=vertices.astype(np.float32))


def link(mesh: object, name: str) -> object:
    """Put a mesh in the scene as the active, selected object."""
    obj = bpy.data.objects.new(name, mesh)
    bpy.context.scene.collection.objects.link(obj)
    bpy.context.view_layer.objects.active = obj
    obj.select_set(True)
    return obj


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave without Blender's own shutdown: 4.2 may crash and 4.5 may hang for ever in it."""
    status = getattr(config, "_diffspeaker_status", None)
    if status is not None:
        os._exit(status)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Remember the result for `pytest_unconfigure`."""
    session.config._diffspeaker_status = int(exitstatus)  # type: ignore[attr-defined]
