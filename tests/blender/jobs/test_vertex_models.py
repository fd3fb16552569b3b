# SPDX-License-Identifier: GPL-3.0-or-later
"""A vertex model speaks on the mesh it was trained on, and through controls on other characters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

bpy = pytest.importorskip("bpy", reason="needs Blender's Python module")

from diffspeaker_blender.character import detect, head  # noqa: E402
from diffspeaker_blender.errors import HeadError  # noqa: E402
from diffspeaker_blender.jobs import plan  # noqa: E402
from diffspeaker_blender.worker.model_files import ModelFile  # noqa: E402
from tests.model.heads import flame_head  # noqa: E402


def model(vertices, *, template=True):
    """A vertex model of some mesh."""
    return ModelFile(
        "authors", Path("authors.safetensors"), "Authors", ("one",), "vertices", 25.0,
        "research only", "", 1.0, template=template, vertices=vertices,
    )  # fmt: skip


def mesh(count, name="Face", triangles=()):
    """An object of so many vertices in the scene."""
    data = bpy.data.meshes.new(name)
    places = np.random.default_rng(1).normal(size=(count, 3)) if np.isscalar(count) else count
    data.from_pydata(np.asarray(places).tolist(), [], np.asarray(triangles, int).tolist())
    obj = bpy.data.objects.new(name, data)
    bpy.context.collection.objects.link(obj)
    bpy.context.view_layer.objects.active = obj
    return obj


@pytest.mark.parametrize("template", [True, False])
def test_a_mesh_of_another_topology_is_its_own_models_head(empty, template):
    """BIWI's 23,370 vertices with a model of 23,370; another number is refused with both said."""
    biwi = mesh(23370)
    assert plan.is_own(biwi, model(23370))
    plan.check(biwi, model(23370, template=template))
    with pytest.raises(HeadError, match=r"23,370 vertices, this model moves a head of 20,000"):
        plan.check(biwi, model(20000))
    assert not plan.is_own(biwi, None)


def test_flames_meshes_are_judged_as_before(empty):
    """5,023 vertices that are joined to nothing are still no FLAME head."""
    with pytest.raises(HeadError, match="joined differently"):
        plan.check(mesh(5023), model(5023, template=False))
    with pytest.raises(HeadError, match="5,022 vertices"):
        plan.check(mesh(5022), model(5023))


def test_a_mapped_character_needs_a_head_to_read_the_motion_on(empty, monkeypatch):
    """Without a FLAME head in the file the way out is said; BIWI cannot be read at all."""
    face = mesh(300)
    monkeypatch.setattr(detect, "is_mapped", lambda obj: obj == face)
    plan.check(face, None)
    with pytest.raises(HeadError) as told:
        plan.check(face, model(5023))
    assert "Import a FLAME head" in told.value.hint
    with pytest.raises(HeadError, match="cannot be read as face controls"):
        plan.check(face, model(23370))


def test_a_flame_head_in_the_file_is_enough(empty, monkeypatch):
    """It may be hidden; a head of another making is not taken for it."""
    vertices, triangles = flame_head()
    face = mesh(300)
    monkeypatch.setattr(detect, "is_mapped", lambda obj: obj == face)
    mesh(5023, "Other")
    flame = mesh(vertices, "FLAME", triangles)
    flame.hide_viewport = True
    plan.check(face, model(5023))
    assert plan.head_of_model(model(5023)) == flame
    assert head.check_head(flame, "flame").usable
