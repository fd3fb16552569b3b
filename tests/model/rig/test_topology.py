# SPDX-License-Identifier: GPL-3.0-or-later
"""Read heads of any identity, unit, axes and pose; refuse everything else in a sentence."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest

from model.errors import FaceError
from model.rig.landmarks import (
    FLAME_EDGES_SHA256,
    FLAME_LANDMARKS,
    FLAME_SKIN_VERTICES,
    edge_digest,
    find_landmarks,
)
from model.rig.mesh import fit_sphere, rotate, smoothstep
from model.rig.topology import FaceTopology
from tests.model.heads import Mesh, demo_head, flame_head, turn, warped

WARPS = ("long", "wide", "young")


@pytest.fixture(scope="module")
def demo() -> FaceTopology:
    return FaceTopology.from_mesh(*demo_head())


@pytest.fixture(scope="module")
def flame() -> FaceTopology:
    return FaceTopology.from_mesh(*flame_head())


def without_eyeballs(mesh: Mesh) -> Mesh:
    vertices, triangles = mesh
    skin = (triangles < FLAME_SKIN_VERTICES).all(1)
    return vertices[:FLAME_SKIN_VERTICES], triangles[skin]


@pytest.mark.parametrize("kind", WARPS)
def test_lips_and_lids_are_the_same_rings_on_every_identity(flame: FaceTopology, kind: str) -> None:
    """A warp moves vertices, not what they are."""
    other = FaceTopology.from_mesh(*warped(flame_head(), kind))
    assert other.mouth.contact == flame.mouth.contact == 3
    assert np.array_equal(other.mouth.side, flame.mouth.side)
    assert other.mouth.corners == flame.mouth.corners
    assert [lids.margin for lids in other.lids] == [4, 4]
    assert other.landmarks == flame.landmarks


def test_flame_table_is_what_the_rules_find(flame: FaceTopology) -> None:
    """The vertex numbers can be derived again from the mesh alone."""
    middle = flame.skin[flame.mirror[flame.skin] == flame.skin]
    found = find_landmarks(flame.positions, flame.skin, middle, flame.mouth)
    for side, lids in zip(("left", "right"), flame.lids, strict=True):
        found |= {f"eye_inner_{side}": lids.inner, f"eye_outer_{side}": lids.outer}
    assert {name: found[name] for name in FLAME_LANDMARKS} == FLAME_LANDMARKS


def test_flame_is_recognised_by_its_edges() -> None:
    """With or without eyeballs; not after a change of vertex order."""
    vertices, triangles = flame_head()
    skin = triangles[(triangles < FLAME_SKIN_VERTICES).all(1)]
    edges = np.concatenate([skin[:, [0, 1]], skin[:, [1, 2]], skin[:, [2, 0]]])
    assert edge_digest(edges) == FLAME_EDGES_SHA256
    assert FaceTopology.from_mesh(*without_eyeballs((vertices, triangles))).flame
    order = np.random.default_rng(0).permutation(len(vertices))
    shuffled = FaceTopology.from_mesh(vertices[order], np.argsort(order)[triangles])
    assert not shuffled.flame
    assert shuffled.mouth.contact == 3


def test_eyes_are_found_from_their_sockets() -> None:
    """Without eyeballs the centres are right to a millimetre of a life-size head."""
    for mesh in (flame_head(), warped(flame_head(), "wide")):
        whole, bare = FaceTopology.from_mesh(*mesh), FaceTopology.from_mesh(*without_eyeballs(mesh))
        for eye, inferred in zip(whole.eyes, bare.eyes, strict=True):
            centre = bare.frame.axes @ inferred.centre * bare.frame.unit + bare.frame.origin
            true = whole.frame.axes @ eye.centre * whole.frame.unit + whole.frame.origin
            assert np.linalg.norm(centre - true) * whole.frame.metres < 1.2e-3
            assert inferred.radius * bare.frame.unit == pytest.approx(
                eye.radius * whole.frame.unit, rel=0.08
            )


@pytest.mark.parametrize(
    ("scale", "angles"),
    [(0.01, (0, 0, 0)), (100.0, (-np.pi / 2, 0, 0)), (1.0, (0.5, -0.4, 0.3)), (1e3, (3, 0, 0.5))],
)
def test_canonical_positions_ignore_unit_axes_and_pose(
    demo: FaceTopology, scale: float, angles: tuple[float, float, float]
) -> None:
    """A moved head is the same head."""
    vertices, triangles = demo_head()
    moved = vertices @ turn(*angles).T * scale + np.array([3.0, -5.0, 160.0]) * scale
    other = FaceTopology.from_mesh(moved, triangles)
    assert np.abs(other.positions - demo.positions).max() < 1e-9
    assert other.landmarks == demo.landmarks


def test_a_mirrored_head_exchanges_its_sides(demo: FaceTopology) -> None:
    """Left is where the subject's left is, however the triangles are wound."""
    vertices, triangles = demo_head()
    for faces in (triangles, triangles[:, ::-1]):
        mirrored = FaceTopology.from_mesh(vertices * [-1, 1, 1], faces)
        assert np.allclose(mirrored.positions, demo.positions * [-1, 1, 1], atol=1e-9)
        assert mirrored.landmarks["corner_left"] == demo.landmarks["corner_right"]


def test_a_mirrored_flame_head_exchanges_the_tables_sides(flame: FaceTopology) -> None:
    """The table names sides of the original; a mirror turns them round."""
    vertices, triangles = flame_head()
    mirrored = FaceTopology.from_mesh(vertices * [-1, 1, 1], triangles)
    assert mirrored.landmarks["ear_left"] == flame.landmarks["ear_right"]
    assert mirrored.landmarks["menton"] == flame.landmarks["menton"]


def test_the_mirror_map_is_its_own_inverse(demo: FaceTopology) -> None:
    """On the symmetric demo head every skin vertex has a partner."""
    assert np.array_equal(demo.mirror[demo.mirror[demo.skin]], demo.skin)
    image = demo.positions[demo.mirror[demo.skin]] * [-1, 1, 1]
    assert np.abs(image - demo.positions[demo.skin]).max() < 1e-3


def _no_mouth(vertices: np.ndarray, triangles: np.ndarray) -> Mesh:
    loop = FaceTopology.from_mesh(vertices, triangles).mouth.loop
    hub = loop[0]
    lid = [[hub, a, b] for a, b in itertools.pairwise(loop[1:])]
    return vertices, np.vstack([triangles, lid])


REFUSED: dict[str, tuple[Callable[[np.ndarray, np.ndarray], Mesh], str]] = {
    "not finite": (lambda v, t: (v * np.where(np.arange(len(v)) == 5, np.nan, 1)[:, None], t),
                   "not finite"),
    "not points": (lambda v, t: (v[:, :2], t), "shape"),
    "no triangles": (lambda v, t: (v, t[:0]), "triangles"),
    "quads": (lambda v, t: (v, np.hstack([t, t[:, :1]])), "triangles"),
    "index": (lambda v, t: (v, t + 10_000), "names vertex"),
    "holes": (lambda v, t: (v, t[50:]), "open edge loops"),
    "mouth shut": (_no_mouth, "open edge loops"),
    "ball": (lambda v, t: (v, t[(t >= FLAME_SKIN_VERTICES).all(1)]), "open edge loops"),
}  # fmt: skip


@pytest.mark.parametrize("case", sorted(REFUSED))
def test_other_meshes_are_refused_in_a_sentence(case: str) -> None:
    """The message says what differs."""
    change, words = REFUSED[case]
    with pytest.raises(FaceError, match=words) as refusal:
        FaceTopology.from_mesh(*change(*demo_head()))
    assert refusal.value.message.endswith(".")


def test_a_head_whose_profile_is_scrambled_is_refused() -> None:
    """Right edges, but no face."""
    vertices, triangles = demo_head()
    noise = np.random.default_rng(1).normal(size=vertices.shape) * 0.05
    with pytest.raises(FaceError):
        FaceTopology.from_mesh(vertices + noise, triangles)


def test_small_vector_functions() -> None:
    """Sphere fit, smooth step and rotation agree with their definitions."""
    points = np.random.default_rng(2).normal(size=(50, 3))
    points = points / np.linalg.norm(points, axis=1, keepdims=True) * 2.5 + [1, 2, 3]
    centre, radius, deviation = fit_sphere(points)
    assert np.allclose(centre, [1, 2, 3]) and radius == pytest.approx(2.5) and deviation < 1e-9
    assert smoothstep(np.array([-1.0, 0.0, 0.5, 1.0, 2.0])).tolist() == [0, 0, 0.5, 1, 1]
    quarter = np.full(1, np.pi / 2)
    turned = rotate(np.array([[1.0, 0, 0]]), np.zeros(3), np.array([0, 0, 1.0]), quarter)
    assert np.allclose(turned, [[0, 1, 0]])
