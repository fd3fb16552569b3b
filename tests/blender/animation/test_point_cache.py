# SPDX-License-Identifier: GPL-3.0-or-later
"""Point caches: exact on every frame, first among the modifiers, at rest outside the clip."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import bpy
import numpy as np
import pytest

from diffspeaker_blender.animation import point_cache
from diffspeaker_blender.errors import ExportError
from diffspeaker_blender.motion.motion import retime
from tests.blender.animation.test_clips import evaluated, worst
from tests.strategies import talking


@pytest.mark.parametrize(("fps", "start"), [(30, 1.0), (24, 100.4)])
def test_cache_is_exact(grid: SimpleNamespace, tmp_path: Path, fps: int, start: float) -> None:
    """What the modifier shows is the motion at every frame, and rest elsewhere."""
    bpy.context.scene.render.fps = fps
    motion = talking(1, 60, vertices=600)
    path = point_cache.write_cache(
        motion, grid.vertices, tmp_path / "häd.pc2", fps=fps, start_frame=start
    )
    grid.object.modifiers.new("Triangulate", "TRIANGULATE")
    modifier = point_cache.apply_cache(grid.object, path)
    assert next(iter(grid.object.modifiers)) == modifier
    assert worst(grid.object, grid.vertices, motion, start) < 1e-6
    last = int(retime(motion, fps, start_frame=start)[1][-1])
    np.testing.assert_allclose(evaluated(grid.object, last + 20), grid.vertices, atol=1e-7)
    np.testing.assert_allclose(evaluated(grid.object, 0), grid.vertices, atol=1e-7)
    assert point_cache.remove_cache(grid.object)
    assert not point_cache.remove_cache(grid.object)
    assert [m.name for m in grid.object.modifiers] == ["Triangulate"]


def test_refusals(grid: SimpleNamespace, tmp_path: Path) -> None:
    """A wrong name, a wrong mesh and a folder that cannot be: one sentence each, nothing left."""
    motion = talking(1, 10, vertices=600)
    with pytest.raises(ExportError, match=r"Call it \.pc2"):
        point_cache.write_cache(motion, grid.vertices, tmp_path / "a.abc", fps=24)
    with pytest.raises(ExportError, match="600"):
        point_cache.write_cache(motion, grid.vertices[:-1], tmp_path / "a.pc2", fps=24)
    (tmp_path / "file").touch()
    with pytest.raises(ExportError, match="could not be written"):
        point_cache.write_cache(motion, grid.vertices, tmp_path / "file" / "a.pc2", fps=24)
