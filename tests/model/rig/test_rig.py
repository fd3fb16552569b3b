# SPDX-License-Identifier: GPL-3.0-or-later
"""The rig does to any head what its controls say, and its shapes replay it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from model.errors import FaceError
from model.phones.coarticulation import Phone, life_curves, speech_curves
from model.rig import derivation
from model.rig.controls import CONTROLS, INDEX
from model.rig.head_frame import LIFE_EYE_DISTANCE
from model.rig.rig import Rig
from model.rig.shapes import FORMULAS, HANG, evaluate
from model.rig.topology import FaceTopology
from tests.model.heads import Mesh, demo_head, flame_head, turn, warped
from tests.shared import shared

HEADS = ("demo", "flame", "flame long", "flame wide", "flame young")
SPEECH_HEADS = ("demo", "flame")
Array = NDArray[np.floating]

_cache: dict[str, tuple[Mesh, FaceTopology, Rig]] = {}


def head(name: str) -> tuple[Mesh, FaceTopology, Rig]:
    """Return mesh, topology and rig of a head; each is derived once."""
    if name not in _cache:
        family, _, kind = name.partition(" ")
        mesh = demo_head() if family == "demo" else flame_head()
        if kind == "parted":
            mesh = mesh[0] + head(family)[2].evaluate(pose(jawOpen=0.2))[0], mesh[1]
        elif kind:
            mesh = warped(mesh, kind)
        _cache[name] = (mesh, FaceTopology.from_mesh(*mesh), Rig(*mesh))
    return _cache[name]


def pose(**strengths: float) -> Array:
    """One frame of controls; a name without its side means both."""
    controls = np.zeros((1, len(CONTROLS)), dtype=np.float32)
    for name, value in strengths.items():
        for full in (name, f"{name}Left", f"{name}Right"):
            if full in INDEX:
                controls[0, INDEX[full]] = value
    return controls


def swap(name: str) -> str:
    """Exchange the sides of a control's name."""
    return name.replace("Left", "#").replace("Right", "Left").replace("#", "Right")


def millimetres(topology: FaceTopology, offsets: Array) -> Array:
    """Lengths of offsets (..., 3) in millimetres of a life-size head."""
    return np.asarray(np.linalg.norm(offsets, axis=-1) * topology.frame.metres * 1e3)


def moved(name: str, controls: Array) -> Array:
    """Canonical positions (F, V, 3) of a head under controls."""
    (vertices, _), topology, rig = head(name)
    return np.asarray(topology.frame.canonical(vertices + rig.evaluate(controls)))


def gaps(name: str, controls: Array) -> Array:
    """Signed height (F, n) between the lips along the inner contour, mm; negative is overlap.

    Measured between the two contact lines as drawn, not between the rig's vertex pairs.
    """
    mouth, frames = head(name)[1].mouth, []
    for points in moved(name, controls):
        lines = []
        for side in (1, -1):
            lip = [v for v in mouth.rings[mouth.contact] if mouth.side[v] == side]
            chain = points[sorted(lip, key=lambda v: mouth.along[v])]
            lines.append(chain[np.argsort(chain[:, 0])])
        low, high = (f(line[k, 0] for line in lines) for f, k in ((max, 0), (min, -1)))
        across = np.linspace(low, high, 61)
        upper, lower = (np.interp(across, line[:, 0], line[:, 1]) for line in lines)
        frames.append(upper - lower)
    return np.array(frames) * LIFE_EYE_DISTANCE * 1e3


def test_control_names_are_unique_and_keep_their_order() -> None:
    """Files store columns by this order."""
    assert len(set(CONTROLS)) == len(CONTROLS) == 55
    assert CONTROLS[0] == "eyeBlinkLeft" and CONTROLS[-1] == "tongueBack"
    assert all(swap(name) in INDEX for name in CONTROLS)


@pytest.mark.parametrize("name", HEADS)
def test_rest_is_rest_and_every_control_moves_something(name: str) -> None:
    """Zero controls give exactly zero; the tongue moves only where there is one."""
    rig = head(name)[2]
    assert not rig.evaluate(np.zeros((2, len(CONTROLS)))).any()
    sealed = ("mouthClose",)
    extent = millimetres(head(name)[1], rig.evaluate(np.eye(len(CONTROLS)))).max(1)
    for control, most in zip(CONTROLS, extent, strict=True):
        if control.startswith("tongue"):
            assert most == 0
        elif control not in sealed:
            assert most > 0.8, control


@pytest.mark.parametrize("name", HEADS)
def test_lips_never_cross_deeper_than_at_rest(name: str) -> None:
    """Open at any jaw angle, with what speech adds: no interpenetration along the contour."""
    rest = np.minimum(gaps(name, pose()), 0)
    shapes: list[dict[str, float]] = [
        {}, {"mouthPucker": 0.8}, {"mouthFunnel": 0.7}, {"mouthSmile": 0.8}, {"mouthStretch": 0.8},
        {"mouthPress": 0.7}, {"mouthShrugLower": 0.7},
    ]  # fmt: skip
    for shape in shapes:
        for jaw in (0.0, 0.1, 0.3, 0.8):
            deeper = gaps(name, pose(jawOpen=jaw, **shape)).min() - rest.min()
            assert deeper > -0.6, (shape, jaw)


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("jaw", [0.0, 0.1, 0.3, 0.6, 0.8])
def test_a_seal_shuts_the_lips_at_any_jaw_opening(name: str, jaw: float) -> None:
    """No slit anywhere along the contour, and no more overlap than soft lips have."""
    rest = min(gaps(name, pose()).min(), -1.1)
    for shape in ({}, {"mouthPucker": 0.7}, {"mouthFunnel": 0.5}, {"mouthSmile": 0.8}):
        gap = gaps(name, pose(jawOpen=jaw, mouthClose=1, **shape))
        assert gap.max() < 0.1, shape
        assert gap.min() > rest - 0.6, shape


@pytest.mark.parametrize("name", ["demo parted", "flame parted"])
def test_a_mouth_that_rests_open_can_shut(name: str) -> None:
    """A neutral with parted lips is sealed all the same."""
    assert gaps(name, pose()).max() > 3
    for jaw in (0.0, 0.3):
        assert gaps(name, pose(jawOpen=jaw, mouthClose=1)).max() < 0.1


@pytest.mark.parametrize("name", HEADS)
def test_opening_follows_the_jaw_and_the_seal(name: str) -> None:
    """As measured on video: inner-lip opening over the distance of the outer eye corners."""
    rig = head(name)[2]
    jaws = np.vstack([pose(jawOpen=jaw) for jaw in np.linspace(0, 1, 9)])
    opening = rig.opening(rig.evaluate(jaws))
    assert np.all(np.diff(opening) >= 0) and 0.15 < opening[-1] < 0.5
    shut = jaws.copy()
    shut[:, INDEX["mouthClose"]] = 1
    assert rig.opening(rig.evaluate(shut)).max() == 0


@pytest.mark.parametrize("name", HEADS)
def test_f_brings_the_lower_lip_to_the_upper_teeth(name: str) -> None:
    """Whatever the jaw does within speech, in the middle third of the lip."""
    topology, rig = head(name)[1], head(name)[2]
    contact = rig._head.contact
    middle = rig._head.active[contact.lower[np.abs(contact.along) < 0.34]]
    for jaw in (0.0, 0.1, 0.25):
        points = moved(name, pose(jawOpen=jaw, lipTuck=1))[0, middle]
        above = (points[:, 1] - contact.teeth.edge) * LIFE_EYE_DISTANCE * 1e3
        assert np.abs(above).max() < 1.2, jaw
    assert rig.opening(rig.evaluate(pose(lipTuck=1))).max() < 0.06
    assert topology.half_width > 0.3


def seen_through_lids(name: str, controls: Array) -> int:
    """Count eyeball vertices that some view from the front sees past the skin."""
    topology = head(name)[1]
    points = moved(name, controls)[0]
    skin = topology.triangles[topology.is_skin[topology.triangles[:, 0]]]
    seen = 0
    for lids in topology.lids:
        centre, radius = lids.eye.centre, lids.eye.radius
        away = np.linalg.norm(points[skin].mean(1) - centre, axis=1)
        around = points[skin[away < 3.6 * radius]]
        ball = points[lids.eye.ball]
        front = ball[ball[:, 2] > centre[2] + 0.2 * radius]
        for view in ((0.0, 0.0), (0.5, 0.0), (-0.5, 0.0), (0.0, 0.4), (0.0, -0.4)):
            towards = np.array([np.sin(view[0]), np.sin(view[1]), 1.0])
            seen += int((~_hit(front, towards, around)).sum())
    return seen


def _hit(origins: Array, direction: Array, triangles: Array) -> NDArray[np.bool_]:
    """Whether rays from origins (n, 3) along direction (3,) meet triangles (m, 3, 3)."""
    a, edge1, edge2 = triangles[:, 0], *(triangles[:, k] - triangles[:, 0] for k in (1, 2))
    across = np.cross(direction, edge2)
    size = (edge1 * across).sum(1)
    size = np.where(np.abs(size) < 1e-12, np.inf, size)
    arm = origins[:, None] - a
    u = (arm * across).sum(-1) / size
    turned = np.cross(arm, edge1)
    v = turned @ direction / size
    far = (turned * edge2).sum(-1) / size
    inside = (u > -1e-3) & (v > -1e-3) & (u + v < 1.001) & (far > -1e-4)
    return np.asarray(inside.any(1))


@pytest.mark.parametrize("name", HEADS)
def test_a_blink_covers_the_eyes(name: str) -> None:
    """Open eyes show the ball; closed lids hide it from the front and from the sides."""
    open_, shut = seen_through_lids(name, pose()), seen_through_lids(name, pose(eyeBlink=1))
    assert open_ > 100
    assert shut == 0


@pytest.mark.parametrize("name", HEADS)
def test_lids_keep_their_distance_from_the_balls(name: str) -> None:
    """A lid turns about the ball: it comes no nearer than it is at rest."""
    topology = head(name)[1]
    rest, shut = topology.positions, moved(name, pose(eyeBlink=1))[0]
    for lids in topology.lids:
        margin = lids.rings[lids.margin]
        before, after = (
            np.linalg.norm(p[margin] - lids.eye.centre, axis=1).min() for p in (rest, shut)
        )
        assert after > before - 0.01


def test_only_the_face_moves() -> None:
    """Scalp, ears and the neck's edge of FLAME's own masks stay where they are."""
    _, topology, rig = head("flame")
    offsets = millimetres(topology, rig.evaluate(np.eye(len(CONTROLS))))
    with np.load(shared("data/flame/flame_masks.npz")) as masks:
        for region in ("left_ear", "right_ear", "boundary"):
            assert offsets[:, masks[region]].max() < 1e-3, region
        brows = [k for k, control in enumerate(CONTROLS) if control.startswith("brow")]
        scalp = offsets[:, masks["scalp"]]
        assert np.delete(scalp, brows, axis=0).max() < 1e-3
        assert scalp[brows].max() < 1.5
        balls = offsets[:, np.concatenate([masks["left_eyeball"], masks["right_eyeball"]])]
        looks = [k for k, control in enumerate(CONTROLS) if control.startswith("eyeLook")]
        assert np.delete(balls, looks, axis=0).max() == 0


@pytest.mark.parametrize("name", HEADS)
def test_neck_and_crown_stay(name: str) -> None:
    """On every head, from its own geometry."""
    _, topology, rig = head(name)
    offsets = millimetres(topology, rig.evaluate(np.eye(len(CONTROLS))))
    y, z = topology.positions[:, 1], topology.positions[:, 2]
    assert offsets[:, topology.neck].max() < 1e-3
    assert offsets[:, (y > 1.3) | (z < -1.6)].max() < 1e-3


def test_sides_mirror_on_a_symmetric_head() -> None:
    """What Left does on the left, Right does on the right."""
    _, topology, rig = head("demo")
    offsets = rig.evaluate(np.eye(len(CONTROLS)))
    other = offsets[[INDEX[swap(name)] for name in CONTROLS]]
    image = (other @ topology.frame.axes * [-1, 1, 1])[:, topology.mirror]
    own = offsets @ topology.frame.axes
    assert millimetres(topology, (image - own)[:, topology.skin]).max() < 0.05
    left = topology.positions[:, 0] > 0.6
    blink = rig.evaluate(pose(eyeBlinkLeft=1))[0]
    assert (
        np.abs(blink[left]).max() > 0 and not np.abs(blink[~(topology.positions[:, 0] > 0)]).any()
    )


def test_left_and_right_add_up_to_both() -> None:
    """Halves of a lip shape are halves."""
    rig = head("demo")[2]
    for name in ("mouthSmile", "mouthStretch", "browDown"):
        both = rig.evaluate(pose(**{name: 1.0}))
        one = rig.evaluate(pose(**{f"{name}Left": 1.0})) + rig.evaluate(
            pose(**{f"{name}Right": 1.0})
        )
        assert np.abs(both - one).max() * head("demo")[1].frame.metres < 0.4e-3


@pytest.mark.parametrize("angles", [(-np.pi / 2, 0, 0), (0.4, 0.3, -0.5)])
def test_offsets_turn_and_scale_with_the_head(angles: tuple[float, float, float]) -> None:
    """Any axes and unit: the same motion on the same head."""
    (vertices, triangles), topology, rig = head("demo")
    turned, scale = turn(*angles), 100.0
    other = Rig(vertices @ turned.T * scale + np.array([3.0, 5.0, 160.0]), triangles)
    controls = np.vstack([np.eye(len(CONTROLS)), speech(30)])
    difference = other.evaluate(controls) - rig.evaluate(controls) @ turned.T * scale
    assert millimetres(topology, difference / scale).max() < 1e-2


def test_a_mirrored_head_moves_mirrored() -> None:
    """Left controls move the subject's left."""
    (vertices, triangles), topology, rig = head("demo")
    other = Rig(vertices * [-1, 1, 1], triangles[:, ::-1])
    swapped = other.evaluate(np.eye(len(CONTROLS)))[[INDEX[swap(name)] for name in CONTROLS]]
    difference = swapped * [-1, 1, 1] - rig.evaluate(np.eye(len(CONTROLS)))
    assert millimetres(topology, difference).max() < 1e-2


def test_a_head_without_eyeballs_speaks_the_same() -> None:
    """Centres inferred from the sockets change the lids by little and the mouth by less."""
    (vertices, triangles), topology, rig = head("flame")
    skin = len(topology.skin)
    bare = Rig(vertices[:skin], triangles[(triangles < skin).all(1)])
    difference = bare.evaluate(speech(40)) - rig.evaluate(speech(40))[:, :skin]
    apart = millimetres(topology, difference).max(0)
    inside = [v for lids in topology.lids for ring in lids.rings[: lids.margin] for v in ring]
    apart[inside] = 0  # the bottom of the socket is never seen
    assert apart.max() < 1.5
    assert apart[topology.positions[:skin, 1] < -0.4].max() < 0.4


def speech(frames: int) -> Array:
    """Controls (F, C) of a sentence with closures, tucks and round vowels, with life."""
    words = """SIL P IY T ER B AO T F AY V B L UW SH UW Z F R AH M M AY M AH DH ER SIL"""
    names = words.split()
    length = frames / 30 / len(names)
    phones = [Phone(p, k * length, (k + 1) * length) for k, p in enumerate(names)]
    time = np.arange(int(frames / 30 * 16000)) / 16000
    sound = (0.1 * np.sin(2 * np.pi * 140 * time) * (1 + np.sin(9 * time))).astype(np.float32)
    lips = speech_curves(phones, sound, 16000, fps=30, frames=frames)
    life = life_curves(phones, sound, 16000, fps=30, frames=frames, seed=4)
    return np.asarray(np.clip(lips + life, 0, 1))


@pytest.mark.parametrize("name", SPEECH_HEADS)
def test_named_shapes_replay_speech_by_formula_and_details_make_it_exact(name: str) -> None:
    """Formulas alone hold 0.45 mm at 95 of 100 frames; details the tolerance; errors are true."""
    _, topology, rig = head(name)
    controls = speech(120)
    exact = rig.evaluate(controls)
    for detail, usual, most in ((False, 0.45, 1.3), (True, 0.0501, 0.0501)):
        solution = rig.fit(controls, detail=detail)
        played = np.einsum("fk,kvc->fvc", solution.weights, solution.shapes)
        error = millimetres(topology, played - exact).max(1)
        assert np.percentile(error, 95) < usual and error.max() < most
        assert np.allclose(error, solution.errors * 1e3, atol=2e-3)


def test_weights_keep_their_meaning_and_correctives_their_formulas() -> None:
    """A control's own shape weighs what the control says; the others follow from those alone."""
    rig = head("demo")[2]
    controls = speech(60)
    solution = rig.fit(controls, detail=False)
    names, weights = solution.names, solution.weights
    assert names == rig.named_shapes()[0] and len(set(names)) == len(names)
    assert names[: len(CONTROLS)] == CONTROLS and not any(solution.formulas[: len(CONTROLS)])
    expected = controls.copy()
    jaw, seal = expected[:, INDEX["jawOpen"]], expected[:, INDEX["mouthClose"]]
    jaw[:] = np.maximum(jaw, HANG * seal)
    seal *= jaw
    assert np.allclose(weights[:, : len(CONTROLS)], expected, atol=1e-6)
    columns = dict(zip(CONTROLS, weights.T, strict=False))
    for k, formula in enumerate(solution.formulas[len(CONTROLS) :], len(CONTROLS)):
        assert any(control.startswith(names[k].split(".")[0]) for control in CONTROLS)
        assert np.allclose(weights[:, k], evaluate(formula, columns), atol=1e-6)
        assert 0 < len(formula) < 256, "Blender cuts a longer expression"


@pytest.mark.parametrize("name", SPEECH_HEADS)
def test_the_animators_edits_do_what_they_say(name: str) -> None:
    """At any frame mouthClose = jawOpen shuts the lips, and half the jaw is half the opening."""
    _, topology, rig = head(name)
    names, shapes = rig.named_shapes()
    corners = topology.positions[[lids.outer for lids in topology.lids]]
    scale = np.linalg.norm(corners[0] - corners[1]) * LIFE_EYE_DISTANCE * 1e3
    jaw, close = names.index("jawOpen"), names.index("mouthClose")
    primaries = rig.fit(speech(90), detail=False).weights[::3, : len(CONTROLS)]
    primaries[:, INDEX["lipTuck"]] = 0  # under the teeth is not shut

    def gap(weights: Array) -> Array:
        columns = dict(zip(CONTROLS, weights.T, strict=True))
        derived = [evaluate(formula, columns) for formula in FORMULAS.values()]
        offsets = np.einsum("fk,kvc->fvc", np.c_[weights, np.stack(derived, 1)], shapes)
        return rig.opening(offsets) * scale

    shut = primaries.copy()
    shut[:, close] = shut[:, jaw] = np.maximum(shut[:, jaw], HANG)
    assert gap(shut).max() < 0.3
    alone = np.zeros((5, len(CONTROLS)), np.float32)
    alone[:, jaw] = 0.4 * np.array([0, 0.25, 0.5, 0.75, 1])
    opened = gap(alone)
    assert np.all(np.diff(opened) > 0) and opened[2] == pytest.approx(opened[4] / 2, rel=0.12)


def test_dragging_single_shapes_does_what_their_names_say() -> None:
    """Each control's shape alone is the exact pose; jawOpen with mouthClose is a shut mouth."""
    rig = head("demo")[2]
    names, shapes = rig.named_shapes()
    exact = rig.evaluate(np.eye(len(CONTROLS)))
    for k, name in enumerate(CONTROLS):
        if name != "mouthClose":
            assert np.allclose(shapes[k], exact[k], atol=1e-6), name
    both = shapes[names.index("jawOpen")] + shapes[names.index("mouthClose")]
    assert np.allclose(both, rig.evaluate(pose(jawOpen=1, mouthClose=1))[0], atol=1e-6)
    assert rig.opening(both[None] * 0.5)[0] < 0.02


def test_a_tolerance_is_kept_or_not_needed() -> None:
    """A loose tolerance adds no details, a tight one adds some, and both are met."""
    rig = head("demo")[2]
    controls = speech(60)
    loose, tight = (rig.fit(controls, tolerance=t) for t in (1.5e-3, 0.02e-3))
    assert not any(n.startswith("detail.") for n in loose.names)
    assert any(n.startswith("detail.") for n in tight.names)
    assert tight.errors.max() <= 0.021e-3


def test_regions_are_soft_masks_of_the_right_places() -> None:
    """Jaw below, lips around the mouth, upper face above, nothing at the back."""
    _, topology, rig = head("demo")
    names, masks = rig.regions()
    assert names == ("jaw", "lips", "upper") and masks.shape == (3, len(topology.positions))
    assert masks.min() >= 0 and masks.max() <= 1
    chin, lip = topology.landmarks["menton"], topology.landmarks["corner_left"]
    brow = topology.nearest(topology.eyes[0].centre + np.array([0, 0.35, 0.3]))
    assert masks[0, chin] > 0.9 and masks[1, lip] == 1 and masks[2, brow] > 0.9
    assert masks[2, chin] == 0 and masks[1, brow] == 0 and masks[0, brow] == 0
    assert not masks[:, topology.neck].any()


def test_teeth_corneas_and_brows_in_the_mesh_follow() -> None:
    """Parts of a joined mesh go with the jaw, the eyes or the nearest skin; the rest stays."""
    (vertices, triangles), topology, _ = head("demo")
    box = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * 0.004
    sides = [[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1], [2, 3, 7], [2, 7, 6]]
    sides += [[0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]]
    mouth, eye = topology.mouth_centre, topology.eyes[0]
    offsets = np.array([[0, -0.2, -0.35], [0, 0.17, -0.35], [0, 4.0, 0], [0, 0, 0.12]])
    bases = (mouth, mouth, 0 * mouth, topology.point("pogonion"))
    places = [base + offset for base, offset in zip(bases, offsets, strict=True)]
    boxes = [topology.frame.origin + topology.frame.axes @ p * topology.frame.unit for p in places]
    cornea = vertices[eye.ball] + 0.0004
    ball = triangles[(np.isin(triangles, eye.ball)).all(1)] - eye.ball.min() + len(vertices)
    start = len(vertices) + len(cornea)
    mesh = np.vstack([vertices, cornea, *(box + b for b in boxes)])
    more = [np.array(sides) + start + 8 * k for k in range(len(boxes))]
    rig = Rig(mesh, np.vstack([triangles, ball, *more]))
    controls = np.vstack([pose(jawOpen=1), pose(eyeLookOutLeft=1)])
    opened, looked = millimetres(topology, rig.evaluate(controls))
    lower, upper, hat, beard = (slice(start + 8 * k, start + 8 * k + 8) for k in range(4))
    assert opened[lower].min() > 20 and opened[beard].min() > 20
    assert opened[upper].max() == 0 and opened[hat].max() == 0
    assert looked[len(vertices) : start].max() > 4 and opened[len(vertices) : start].max() == 0
    names, shapes = rig.named_shapes()
    assert millimetres(topology, shapes[names.index("jawOpen")])[beard].min() > 20


def test_derivations_are_kept_and_read_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second rig of a head comes from its cache file, and is the same rig."""
    mesh, _, rig = head("long")  # the demo head's own is shipped, and needs no cache
    first = Rig(*mesh, cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 1

    def fail(*_: object) -> None:
        raise AssertionError("derived again")

    with monkeypatch.context() as patch:
        patch.setattr(derivation, "derive", fail)
        again = Rig(*mesh, cache=tmp_path)
    controls = speech(20)
    assert np.array_equal(first.evaluate(controls), again.evaluate(controls))
    assert np.array_equal(first.evaluate(controls), rig.evaluate(controls))
    for damage in (lambda whole: b"half a file", lambda whole: whole[: len(whole) // 2]):
        for file in tmp_path.iterdir():
            file.write_bytes(damage(file.read_bytes()))
        assert np.array_equal(Rig(*mesh, cache=tmp_path).evaluate(controls), rig.evaluate(controls))


def test_wrong_input_is_refused() -> None:
    """A mesh that is no head, and controls of the wrong width."""
    with pytest.raises(FaceError):
        Rig(np.zeros((10, 3)), np.zeros((1, 3), dtype=int))
    with pytest.raises(ValueError, match="55"):
        head("demo")[2].evaluate(np.zeros((3, 52)))


def test_a_long_clip_holds_its_bound_with_few_frames_held(monkeypatch):
    """Details found on the frames that need them most serve all the others, within tolerance."""
    from model.rig import fitting, head_files

    face = head_files.read("demo")
    rig = Rig(face.vertices, face.triangles)
    controls = np.random.default_rng(5).random((600, len(CONTROLS))).astype(np.float32) ** 3
    whole = rig.fit(controls, tolerance=0.4e-3)
    monkeypatch.setattr(fitting, "HELD", 60)
    part = rig.fit(controls, tolerance=0.4e-3)
    assert len(part.errors) == len(controls)
    assert part.errors.max() <= 0.4e-3 * 1.001 and whole.errors.max() <= 0.4e-3 * 1.001
    assert len(part.names) < 1.5 * len(whole.names)
