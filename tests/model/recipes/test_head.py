# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo head as it ships: a sound mesh, a pleasant pose, parts that follow the face."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from model.errors import FaceError
from model.preview.rasterizer import Canvas, rasterize
from model.preview.scene import EYES, View
from model.recipes.head import loops as headloops
from model.recipes.head import parts
from model.rig import demo_head as heads
from model.rig.controls import CONTROLS
from model.rig.rig import Rig

SKIN = 3931
BALL = 546


@pytest.fixture(scope="module")
def head():
    return heads.load()


@pytest.fixture(scope="module")
def rig(head):
    return Rig(head.vertices, head.triangles)


def pose(rig, head, **controls):
    """Return the face with controls set; a name without its side sets both."""
    row = np.zeros((1, len(CONTROLS)))
    for name, value in controls.items():
        for one in [name] if name in CONTROLS else [f"{name}Left", f"{name}Right"]:
            row[0, CONTROLS.index(one)] = value
    return head.vertices + rig.evaluate(row)[0]


def edges(triangles):
    """Return every directed edge."""
    return [(int(t[k]), int(t[(k + 1) % 3])) for t in triangles for k in range(3)]


def test_it_is_small_enough_to_ship():
    assert heads.ASSET.stat().st_size <= 1_000_000


def test_the_mesh_is_sound(head):
    """Every edge is used once each way, but for the mouth's and the neck's open edge."""
    assert head.vertices.shape == (SKIN + 2 * BALL, 3)
    counts = Counter(edges(head.triangles))
    assert max(counts.values()) == 1
    following = {a: b for a, b in counts if (b, a) not in counts}
    loops = []
    while following:
        start, here = next(iter(following.items()))
        loop = [start]
        del following[start]
        while here != start:
            loop.append(here)
            here = following.pop(here)
        loops.append(len(loop))
    assert len(loops) == 2
    assert 32 in loops
    area = np.linalg.norm(_cross(head.vertices, head.triangles), axis=1) / 2
    assert area.min() > 1e-10


def _cross(vertices, triangles):
    corner = vertices[triangles].astype(np.float64)
    return np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])


def test_it_is_symmetric_and_life_size(head):
    points = head.vertices
    left, right = points[:SKIN], points[:SKIN] * [-1, 1, 1]
    order = [np.lexsort(np.round(side * 1e4).T) for side in (left, right)]
    assert np.abs(left[order[0]] - right[order[1]]).max(1).mean() < 1e-4
    assert 0.25 < np.ptp(points[:, 1]) < 0.33
    assert 0.058 < 2 * headloops.EYE_CENTRE[0] < 0.066


def test_what_ships_is_what_the_code_makes(head):
    """Loops, eyeballs and ears of today's code are in the file (the fill-in needs SciPy)."""
    mouth = np.concatenate(headloops.mouth_loops())
    apex, eye = headloops.eye_loops()
    inner, nostril = headloops.nostril_loops()
    made = np.concatenate([mouth, apex[None], *eye, inner[None], *nostril])
    made[np.abs(made[:, 0]) < 1e-4, 0] = 0
    nearest = [np.abs(head.vertices[:SKIN] - point).sum(1).min() for point in made]
    assert max(nearest) < 1e-5
    assert np.allclose(head.vertices[SKIN : SKIN + BALL], headloops.eyeball()[0], atol=1e-6)
    assert np.allclose(head.parts["ears"].vertices, parts.ears().vertices, atol=heads.STEP)


def test_shapes_are_the_rigs_own(head, rig):
    """A stale file would give the Blender head keys that its motions do not fit."""
    names, shapes = rig.named_shapes()
    moving = {n: s for n, s in zip(names, shapes, strict=True) if np.abs(s).max() > 1e-6}
    assert set(moving) == set(head.shapes)
    for name, shape in moving.items():
        assert np.abs(head.shapes[name] - shape).max() < 2e-5, (
            f"{name}: run python build.py model head model/weights/head.npz --shapes-only"
        )


def test_a_new_build_is_the_same_twice(monkeypatch):
    pytest.importorskip("scipy")
    from model.recipes.head import skin

    monkeypatch.setattr(skin, "CANDIDATES", 6_000)
    one, two = (skin.build(vertices=2501, rounds=1) for _ in range(2))
    assert len(one.vertices) == 2501
    assert np.array_equal(one.vertices, two.vertices)
    assert np.array_equal(one.triangles, two.triangles)
    assert np.array_equal(one.mirror[one.mirror], np.arange(2501))


# -- the face -------------------------------------------------------------------------------------


def test_lips_touch_but_do_not_cross_at_rest():
    contact = headloops.mouth_loops()[3]
    gap = contact[:8, 1] - contact[:8:-1, 1]
    assert (gap >= 0).all()
    assert gap.max() < 1e-4


def test_lids_lie_on_the_eyeballs():
    _, rings = headloops.eye_loops()
    for ring in rings[2:7]:
        away = np.linalg.norm(ring - headloops.EYE_CENTRE, axis=1)
        assert away.min() > headloops.EYE_RADIUS * 1.03


def pixels(head, face, view, names=()):
    """Count pixels that show an eyeball, or one of the named parts: drawn white, all else black."""
    posed = head.pose(face)
    vertices, triangles, white = [face], [head.triangles], np.zeros(len(face), bool)
    white[SKIN:] = not names
    whites, count = [white], len(face)
    for name in names:
        vertices.append(posed[name])
        triangles.append(head.parts[name].triangles + count)
        whites.append(np.ones(len(posed[name]), bool))
        count += len(posed[name])
    points, corners = np.concatenate(vertices), np.concatenate(triangles)
    colours = np.repeat(np.concatenate(whites)[:, None], 3, 1).astype(np.float32)
    canvas = Canvas.blank(400)
    canvas.picture[:] = 0
    rasterize(canvas, view.camera(head.vertices).project(points, 400), corners, colours, colours)
    return int((canvas.picture.max(1) > 0.5).sum())


@pytest.mark.parametrize("view", [EYES, View(35, 0, 2.4, 0.62), View(0, -25, 2.4, 0.62)])
def test_lids_cover_the_eyes(head, rig, view):
    assert pixels(head, head.vertices, view) > 300
    assert pixels(head, pose(rig, head, eyeBlink=1.0), view) == 0


# -- the parts ------------------------------------------------------------------------------------


def test_lower_teeth_follow_the_jaw_and_upper_ones_stay(head, rig):
    teeth = head.parts["teeth"]
    moved = head.pose(pose(rig, head, jawOpen=0.7))["teeth"]
    upper, lower = teeth.jaw == 0, teeth.jaw == 1
    assert (upper | lower).all()
    assert np.array_equal(moved[upper], teeth.vertices[upper])
    drop = (moved - teeth.vertices)[lower]
    assert drop[:, 1].min() < -0.012
    assert drop[:, 1].max() < -0.001
    before = np.linalg.norm(np.diff(teeth.vertices[lower], axis=0), axis=1)
    after = np.linalg.norm(np.diff(moved[lower], axis=0), axis=1)
    assert np.abs(after - before).max() < 2e-4


@pytest.mark.parametrize("azimuth", [-40, 0, 40])
def test_nothing_of_the_mouths_inside_shows_between_shut_lips(head, rig, azimuth):
    inside = ("teeth", "gums", "tongue", "mouth")
    view = View(azimuth, 0, 3.0, 0.40)
    assert pixels(head, pose(rig, head, jawOpen=0.5), view, inside) > 400
    assert pixels(head, head.vertices, view, inside) <= 4
    sealed = pose(rig, head, jawOpen=0.3, mouthClose=1.0)
    assert pixels(head, sealed, view, inside) <= 4


def test_parts_shapes_replay_their_pose(head, rig):
    """What Blender's driven keys give is what `pose` gives, where the face's keys are exact."""
    halves = {"jawOpen.half": 0.5 * head.shapes["jawOpen"]}
    for name in ("jawOpen", "jawOpen.half", "eyeBlinkLeft", "browInnerUp"):
        face = head.vertices + head.shapes[name] + halves.get(name, 0)
        for key, posed in head.pose(face).items():
            part = head.parts[key]
            shape = part.shapes.get(name, np.zeros_like(part.vertices))
            if name in halves:
                shape = shape + 0.5 * part.shapes.get("jawOpen", 0)
            if "jawOpen" not in name and part.jaw.any():
                continue  # skin of the chin that creeps moves the posed jaw, not the driven one
            assert np.abs(part.vertices + shape - posed).max() <= heads.SEEN * 1.01


def test_tongue_has_shapes_of_its_own(head):
    tongue = head.parts["tongue"]
    assert {"tongueOut", "tongueTip", "tongueBack"} <= set(tongue.shapes)
    out = head.pose(head.vertices, {"tongueOut": 1.0})["tongue"]
    assert out[:, 2].max() - tongue.vertices[:, 2].max() > 0.015


def test_renewed_shapes_are_the_same(head):
    """What `--shapes-only` writes is what a whole build writes."""
    from model.recipes.head import build

    again = build.renew_shapes(head)
    assert np.array_equal(again.jaw_vertices, head.jaw_vertices)
    for name, part in again.parts.items():
        assert part.shapes.keys() == head.parts[name].shapes.keys()
        for key, shape in part.shapes.items():
            assert np.abs(shape - head.parts[name].shapes[key]).max() < 3 * heads.STEP


# -- the file -------------------------------------------------------------------------------------


def test_save_and_load_keep_a_head(head, tmp_path):
    path = tmp_path / "a head.npz"
    heads.save(path, head)
    again = heads.load(path)
    assert np.array_equal(again.triangles, head.triangles)
    assert again.shapes.keys() == head.shapes.keys()
    assert np.allclose(again.parts["hair"].vertices, head.parts["hair"].vertices, atol=heads.STEP)
    assert np.allclose(again.shapes["jawOpen"], head.shapes["jawOpen"], atol=heads.STEP)


@pytest.mark.parametrize("content", [b"", b"not an archive"])
def test_a_broken_file_is_named(tmp_path, content):
    path = tmp_path / "head.npz"
    path.write_bytes(content)
    with pytest.raises(FaceError, match=r"head\.npz cannot be read"):
        heads.load(path)
    with pytest.raises(FaceError, match="cannot be read"):
        heads.load(tmp_path / "missing.npz")
