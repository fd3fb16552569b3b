# SPDX-License-Identifier: GPL-3.0-or-later
"""A head without face shapes gets them from the demo head, whatever its mesh is made of."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from model.__main__ import main
from model.errors import FaceError
from model.rig import demo_head as heads
from model.rig.any_mesh import AnyMesh, closest_on_triangles
from model.rig.controls import CONTROLS, INDEX
from model.rig.face_points import NAMES, guess_points
from model.rig.landmarks import FLAME_LANDMARKS
from model.rig.rig import Rig
from model.rig.topology import FaceTopology
from model.rig.transfer import Made, make_shapes
from tests.model.heads import Mesh, demo_head, flame_head, warped

Array = NDArray[np.floating]
MM = 1000.0


def skin_of(mesh: AnyMesh) -> NDArray[np.bool_]:
    """The largest part of a mesh."""
    return np.asarray(mesh.part == np.bincount(mesh.part).argmax())


def foreign(mesh: Mesh, seed: int = 5) -> tuple[Mesh, NDArray[np.int64]]:
    """Shuffle a mesh's vertices and cut every skin triangle in three: another's topology.

    Returns it and where the first mesh's vertices have gone.
    """
    vertices, triangles = mesh
    centre = vertices[triangles].mean(1)
    a, b, c = triangles.T
    new = len(vertices) + np.arange(len(triangles))
    cut = np.concatenate([np.stack(t, 1) for t in ((a, b, new), (b, c, new), (c, a, new))])
    order = np.random.default_rng(seed).permutation(len(vertices) + len(centre))
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return (np.concatenate([vertices, centre])[order], place[cut]), place[: len(vertices)]


@pytest.fixture(scope="module")
def made() -> tuple[Mesh, Mesh, NDArray[np.int64], Made]:
    """A wide head of foreign topology, what it comes from, and its shapes from guessed points."""
    known = warped(demo_head(), "wide")
    other, place = foreign(known)
    mesh = AnyMesh(*other)
    guess = guess_points(mesh, skin_of(mesh))
    return known, other, place, make_shapes(mesh, skin_of(mesh), guess.points, heads.load())


def test_a_seam_is_closed_and_lips_that_touch_are_not() -> None:
    """Edges on one another are a seam; points on one another in the middle of skin are not."""
    square = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0.0]])
    seam = AnyMesh(square, [[0, 1, 2], [3, 4, 5]])
    assert len(seam.positions) == 4
    assert len(np.unique(seam.part)) == 1
    fan = np.array([[np.cos(t), np.sin(t), 0] for t in np.arange(6) * np.pi / 3] + [[0, 0, 1.0]])
    faces = np.array([[k, (k + 1) % 6, 6] for k in range(6)])
    below = fan * [1, 1, -1] + [0, 0, 2.0]  # the two tips touch, their rims do not
    both = AnyMesh(np.concatenate([fan, below]), np.concatenate([faces, faces + 7]))
    assert len(both.positions) == 14
    assert len(np.unique(both.part)) == 2


def test_the_way_along_the_edges() -> None:
    """Distances are sums of edges, and what is not joined is out of reach."""
    mesh = AnyMesh([[0, 0, 0], [3, 0, 0], [3, 4, 0], [9, 9, 9], [10, 9, 9], [9, 10, 9.0]],
                   [[0, 1, 2], [3, 4, 5]])  # fmt: skip
    assert np.allclose(mesh.distance([0])[:3], [0, 3, 5])
    assert np.isinf(mesh.distance([0])[3:]).all()
    assert np.isinf(mesh.distance([0], limit=4.0)[2])


def test_the_nearest_point_of_a_triangle() -> None:
    """Against a search over a fine grid of its points."""
    random = np.random.default_rng(1)
    triangles, points = random.normal(size=(40, 3, 3)), random.normal(size=(40, 3)) * 2
    shares = closest_on_triangles(points, triangles)
    assert np.allclose(shares.sum(1), 1)
    assert (shares > -1e-9).all()
    near = np.linalg.norm(np.einsum("nk,nkc->nc", shares, triangles) - points, axis=1)
    steps = np.linspace(0, 1, 60)
    grid = np.array([(u, v, 1 - u - v) for u in steps for v in steps if u + v <= 1 + 1e-9])
    there = np.einsum("gk,nkc->ngc", grid, triangles)
    best = np.linalg.norm(there - points[:, None], axis=2).min(1)
    assert (near <= best + 1e-9).all()


def test_points_are_found_by_shape() -> None:
    """On FLAME's sample head the guess lies where its landmarks are."""
    mesh = AnyMesh(*flame_head())
    guess = guess_points(mesh, skin_of(mesh))
    assert guess.doubtful == ()
    vertices = flame_head()[0]
    for name, limit in (("nose_tip", 5), ("eye_inner_left", 8), ("eye_outer_right", 8)):
        error = np.linalg.norm(guess.points[name] - vertices[FLAME_LANDMARKS[name]]) * MM
        assert error < limit, name
    for name, vertex in (("corner_left", 1728), ("corner_right", 2843)):
        assert np.linalg.norm(guess.points[name] - vertices[vertex]) * MM < 8, name


def test_a_plain_head_speaks(made: tuple[Mesh, Mesh, NDArray[np.int64], Made]) -> None:
    """The mouth opens, lips and lids shut, and nothing outside the face stirs."""
    _known, _other, _place, result = made
    found = result.measures
    assert found["opening"] > 14
    assert found["sealed"] < max(found["rest"], 0) + 0.5
    assert found["half sealed"] < max(found["rest"], 0) + 0.8
    assert found["shut left"] < 1.2
    assert found["shut right"] < 1.2
    assert result.counts["eyes"] == 2


def test_what_is_carried_is_what_the_rig_would_do(
    made: tuple[Mesh, Mesh, NDArray[np.int64], Made],
) -> None:
    """Against the rig derived on that very head, whose topology the transfer never saw."""
    known, _other, place, result = made
    _names, truth = Rig(*known).named_shapes()
    face = FaceTopology.from_mesh(*known)
    seen = face.is_skin & (face.mouth.ring >= face.mouth.contact)
    for lids in face.lids:  # what lies in the sockets is hidden, and no such part of another mesh
        seen[[v for ring in lids.rings[: lids.margin] for v in ring]] = False
    for name, limit in (
        ("jawOpen", 3.5), ("mouthPucker", 1.8), ("mouthSmileLeft", 1.8), ("browInnerUp", 1.8),
        ("mouthUpperUpLeft", 1.8),
    ):  # fmt: skip
        own, theirs = truth[INDEX[name]], result.shapes[INDEX[name], place]
        moving = seen & (np.linalg.norm(own, axis=1) > 1e-3)
        error = np.linalg.norm(own - theirs, axis=1)[moving].mean() * MM
        print(name, error)
        assert error < limit, (name, error)


def test_lids_close_without_the_brow(made: tuple[Mesh, Mesh, NDArray[np.int64], Made]) -> None:
    """A blink stays about its eye: half a mouth above it nothing moves, nor on the other side."""
    _known, (vertices, _), _place, result = made
    shape = np.linalg.norm(result.shapes[INDEX["eyeBlinkLeft"]], axis=1) * MM
    skin = shape > 0.5
    assert 6 < shape.max() < 16
    assert (vertices[skin, 0] > 0.008).all()
    assert np.ptp(vertices[skin, 1]) < 0.045


def test_a_socket_without_a_ball_is_an_eye() -> None:
    """Eyes that were left out are read from the holes in the front view, and still close."""
    mesh = AnyMesh(*demo_head())
    whole = guess_points(mesh, skin_of(mesh))
    alone = AnyMesh(mesh.positions, mesh.triangles[skin_of(mesh)[mesh.triangles[:, 0]]])
    guess = guess_points(alone, skin_of(alone))
    assert guess.doubtful == ()
    for name in ("eye_inner_left", "eye_outer_right"):
        assert np.linalg.norm(guess.points[name] - whole.points[name]) * MM < 13, name
    found = make_shapes(alone, skin_of(alone), guess.points, heads.load()).measures
    assert found["shut left"] < 1.2
    assert found["shut right"] < 1.2


def test_a_coarse_head_and_a_turned_one_are_read(tmp_path: Path) -> None:
    """Which lip a point is on is told by its triangle; a turn of 50 degrees is found."""
    vertices, triangles = demo_head()
    angle = np.radians(50)
    spin = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0]])
    upright = vertices[:, [0, 2, 1]] * [1, -1, 1]
    turned = np.stack([upright @ [*spin[0]], upright @ [*spin[1]], upright[:, 2]], axis=1)
    arrays = {"vertices": turned, "triangles": triangles, "owner": np.zeros(len(turned)), "face": 0}
    np.savez(tmp_path / "in.npz", **arrays)
    assert main(["face-shapes", str(tmp_path / "in.npz"), str(tmp_path / "out.npz")]) == 0
    with np.load(tmp_path / "out.npz") as found:
        points = dict(zip(found["names"].tolist(), found["points"], strict=True))
    back = points["nose_tip"] @ np.array([*spin, [0, 0, 1.0]])
    front = upright[upright[:, 1].argmin()]
    assert np.linalg.norm(back - front) * MM < 6


def test_a_ball_has_no_face(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Refused when the points are looked for, in a sentence."""
    ring = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    up = np.linspace(-1, 1, 17)[1:-1]
    wide = np.sqrt(1 - up**2)
    ball = np.stack([np.outer(wide, np.cos(ring)), np.outer(wide, np.sin(ring)),
                     np.repeat(up[:, None], 24, 1)], -1).reshape(-1, 3)  # fmt: skip
    k = np.arange(14)[:, None] * 24 + np.arange(24)
    beside = np.arange(14)[:, None] * 24 + (np.arange(24) + 1) % 24
    corners = np.stack([k, beside, k + 24, beside, beside + 24, k + 24], -1)
    faces = corners.reshape(-1, 3)
    arrays = {"vertices": ball, "triangles": faces, "owner": np.zeros(len(ball)), "face": 0}
    np.savez(tmp_path / "in.npz", **arrays)
    assert main(["face-shapes", str(tmp_path / "in.npz"), str(tmp_path / "out.npz")]) == 3
    assert "No face was found" in capsys.readouterr().err


def test_lips_that_are_one_surface_are_refused() -> None:
    """A mask without a mouth cannot speak, and is told what it lacks."""
    vertices, triangles = demo_head()
    mesh = AnyMesh(vertices, triangles)
    guess = guess_points(mesh, skin_of(mesh))
    upper, lower = (guess.points[f"lip_{side}"] for side in ("upper", "lower"))
    corners = np.array([guess.points[f"corner_{side}"] for side in ("left", "right")])
    patch = np.concatenate([corners, upper[None], lower[None]])
    ids = [int(((vertices - p) ** 2).sum(1).argmin()) for p in patch]
    sewn = np.concatenate([triangles, [[ids[0], ids[3], ids[2]], [ids[1], ids[2], ids[3]]]])
    closed = AnyMesh(vertices, sewn)
    with pytest.raises(FaceError, match="one surface"):
        make_shapes(closed, skin_of(closed), guess.points, heads.load())


def test_points_that_are_no_face_are_refused() -> None:
    """A point left behind is noticed before anything is computed."""
    mesh = AnyMesh(*demo_head())
    guess = guess_points(mesh, skin_of(mesh))
    astray = guess.points | {"nose_tip": guess.points["nose_tip"] + [0.2, 0.3, 0.0]}
    with pytest.raises(FaceError, match="do not lie"):
        make_shapes(mesh, skin_of(mesh), astray, heads.load())


def test_the_command_finds_points_whichever_way_the_character_looks(tmp_path: Path) -> None:
    """In Blender's axes, facing +X: the points come back in the same axes."""
    vertices, triangles = demo_head()
    facing = vertices[:, [2, 0, 1]]  # front, left, up
    arrays = {"vertices": facing, "triangles": triangles, "owner": np.zeros(len(facing)), "face": 0}
    np.savez(tmp_path / "in.npz", **arrays)
    assert main(["face-shapes", str(tmp_path / "in.npz"), str(tmp_path / "out.npz")]) == 0
    with np.load(tmp_path / "out.npz") as found:
        points = dict(zip(found["names"].tolist(), found["points"], strict=True))
        assert not found["doubtful"].any()
    assert set(points) == set(NAMES)
    assert points["nose_tip"][0] > facing[:, 0].max() - 0.004
    assert points["eye_outer_left"][1] > 0.03


def test_the_command_says_what_is_wrong_with_its_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One sentence, and the exit code for bad input."""
    (tmp_path / "in.npz").write_bytes(b"nothing")
    assert main(["face-shapes", str(tmp_path / "in.npz"), str(tmp_path / "out.npz")]) == 3
    assert "holds no character" in capsys.readouterr().err


def test_the_command_makes_shapes_in_blenders_axes(
    made: tuple[Mesh, Mesh, NDArray[np.int64], Made], tmp_path: Path
) -> None:
    """The jaw goes down along -Z, and the report says what was measured."""
    _known, (vertices, triangles), _place, result = made
    upright = vertices * [1, 1, -1]
    upright = upright[:, [0, 2, 1]]
    mesh = AnyMesh(vertices, triangles)
    guess = guess_points(mesh, skin_of(mesh)).points
    places = np.array([guess[n] for n in NAMES]) * [1, 1, -1]
    np.savez(
        tmp_path / "in.npz", vertices=upright, triangles=triangles, owner=np.zeros(len(upright)),
        face=0, names=np.array(NAMES), points=places[:, [0, 2, 1]],
    )  # fmt: skip
    assert main(["face-shapes", str(tmp_path / "in.npz"), str(tmp_path / "out.npz")]) == 0
    with np.load(tmp_path / "out.npz") as file:
        jaw = file["shapes"][INDEX["jawOpen"]]
        assert tuple(file["names"]) == CONTROLS
        measures = json.loads(str(file["report"]))["measures"]
    assert measures["opening"] == pytest.approx(result.measures["opening"], abs=0.2)
    assert jaw[:, 2].min() < -0.012
