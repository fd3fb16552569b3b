"""A fresh file for every test, and a process that ends: see the comments for Blender's traps."""

from __future__ import annotations

import os
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest

bpy = pytest.importorskip("bpy", reason="needs Blender's Python module")


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
