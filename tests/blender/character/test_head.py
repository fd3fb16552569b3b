# SPDX-License-Identifier: GPL-3.0-or-later
"""Heads: recognised, refused with what differs, made editable, imported without running code."""

from __future__ import annotations

import pickle
from pathlib import Path
from types import SimpleNamespace

import bpy
import numpy as np
import pytest

from diffspeaker_blender.character import flame_files, head
from diffspeaker_blender.errors import HeadError
from tests.shared import ROOT, shared

DEMO = ROOT / "model" / "weights" / "head.npz"


def make(vertices: np.ndarray, triangles: np.ndarray, name: str = "Head") -> bpy.types.Object:
    """Add a mesh to the scene as the active object."""
    mesh = bpy.data.meshes.new(name)
    mesh.from_pydata(vertices.tolist(), [], triangles.tolist())
    obj = bpy.data.objects.new(name, mesh)
    bpy.context.collection.objects.link(obj)
    bpy.context.view_layer.objects.active = obj
    return obj


@pytest.fixture
def demo() -> bpy.types.Object:
    """Return the bundled head's mesh as an object."""
    with np.load(DEMO) as stored:
        return make(stored["vertices"], stored["triangles"])


@pytest.fixture
def flame() -> bpy.types.Object:
    """Return FLAME's sample head as imported."""
    return head.import_flame(shared("data/flame/FLAME_sample.ply"))


def test_flame_is_recognised(flame: bpy.types.Object) -> None:
    """FLAME's connectivity is known by its edges; place, size and modifiers do not matter."""
    flame.location, flame.scale = (3, 2, 1), (100, 100, 100)
    flame.modifiers.new("Subdivision", "SUBSURF")
    for need in ("any", "flame"):
        report = head.check_head(flame, need)
        assert (report.usable, report.kind, report.reason) == (True, "flame", "")
    assert flame.rotation_euler.x == pytest.approx(np.pi / 2)
    assert head.millimetres(flame) == 1000


def test_flame_in_another_order(flame: bpy.types.Object) -> None:
    """A reordered FLAME head is called that, and never animated."""
    vertices, triangles = head.face_arrays(flame)
    order = np.random.default_rng(0).permutation(len(vertices))
    place = np.argsort(order)
    moved = make(vertices[order], place[triangles])
    for need in ("any", "flame", "own"):
        report = head.check_head(moved, need)
        assert not report.usable
        assert report.findings[0].code == "vertex-order"
        assert "another order" in report.reason


def test_one_vertex_less(flame: bpy.types.Object) -> None:
    """5,022 vertices are refused with both numbers."""
    vertices, triangles = head.face_arrays(flame)
    kept = triangles[(triangles < 5022).all(1)]
    report = head.check_head(make(vertices[:5022], kept))
    assert "5,022" in report.reason
    assert "5,023" in report.reason


def test_the_bundled_head(demo: bpy.types.Object) -> None:
    """The project's own head is fine for its own model, and refused for FLAME's vertex order."""
    assert head.check_head(demo).usable
    assert head.check_head(demo).kind == "head"
    report = head.check_head(demo, "flame")
    assert not report.usable
    assert "bundled model" in report.reason
    assert head.millimetres(demo) == 1000


def test_a_model_with_a_head_of_its_own_is_left_to_the_worker(demo: bpy.types.Object) -> None:
    """A vertex model trained on this very mesh may move it; one for FLAME's vertices may not."""
    assert head.check_head(demo, "own").usable
    assert not head.check_head(demo, "flame").usable


def test_cut_head(demo: bpy.types.Object) -> None:
    """A head with a hole too many is refused: its mouth cannot be told from the hole."""
    vertices, triangles = head.face_arrays(demo)
    report = head.check_head(make(vertices, triangles[40:]))
    assert not report.usable
    assert "joined differently" in report.reason


@pytest.mark.parametrize("scale", [1.0, 100.0, 1000.0, 39.37, 0.37])
def test_units(demo: bpy.types.Object, scale: float) -> None:
    """The unit a head was modelled in is told by its size."""
    vertices, triangles = head.face_arrays(demo)
    unit = head.millimetres(make(vertices * scale, triangles))
    assert unit == pytest.approx(1000 / scale, rel=0.15 if scale == 0.37 else 2e-3)


def test_the_basis_counts(demo: bpy.types.Object) -> None:
    """Vertices come from the Basis, whatever shape keys and modifiers make of them."""
    before, _ = head.face_arrays(demo)
    demo.shape_key_add(name="Basis")
    smile = demo.shape_key_add(name="Smile")
    smile.points[0].co.x += 1
    smile.value = 1.0
    demo.active_shape_key_index = 1
    after, triangles = head.face_arrays(demo)
    np.testing.assert_array_equal(before, after)
    assert triangles.shape == (9964, 3)
    assert triangles.dtype == np.int32


def test_states_that_refuse(demo: bpy.types.Object) -> None:
    """Edit Mode and absolute keys are named, and their fix mends them."""
    demo.shape_key_add(name="Basis")
    demo.data.shape_keys.use_relative = False
    assert "absolute" in head.check_head(demo).reason
    head.fix(demo, head.check_head(demo).fix.fix)
    assert head.check_head(demo).usable
    bpy.ops.object.mode_set(mode="EDIT")
    report = head.check_head(demo)
    assert "Edit Mode" in report.reason
    head.fix(demo, report.fix.fix)
    assert head.check_head(demo).usable
    assert not head.check_head(None).usable
    camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
    assert "no mesh" in head.check_head(camera).reason


def test_shared_mesh_is_a_remark(demo: bpy.types.Object) -> None:
    """Two objects with one mesh will both speak: said, not refused, and one click parts them."""
    twin = bpy.data.objects.new("Twin", demo.data)
    bpy.context.collection.objects.link(twin)
    report = head.check_head(demo)
    assert report.usable
    assert report.findings[0].code == "multi-user"
    head.fix(demo, report.findings[0].fix)
    assert head.check_head(demo).findings == ()
    assert twin.data != demo.data


@pytest.mark.parametrize("override", [False, True])
def test_linked_head(demo: bpy.types.Object, tmp_path: Path, override: bool) -> None:
    """A linked head is refused with its file's name; Make Editable makes it speak here."""
    library = tmp_path / "characters.blend"
    bpy.data.libraries.write(str(library), {demo}, fake_user=True)
    bpy.ops.wm.read_factory_settings(use_empty=True)
    with bpy.data.libraries.load(str(library), link=True) as (_source, target):
        target.objects = ["Head"]
    obj = target.objects[0]
    bpy.context.collection.objects.link(obj)
    if override:
        obj = obj.override_create(remap_local_usages=True)
    report = head.check_head(obj)
    assert not report.usable
    assert "characters.blend" in report.reason
    head.fix(obj, report.fix.fix)
    obj = bpy.context.collection.objects["Head"]
    assert head.check_head(obj).usable
    obj.shape_key_add(name="Basis")
    path = tmp_path / "shot.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(path))
    bpy.ops.wm.open_mainfile(filepath=str(path))
    assert bpy.context.collection.objects["Head"].data.shape_keys is not None


def test_find_head(demo: bpy.types.Object, grid: SimpleNamespace) -> None:
    """The active head wins; else the only one; of two, none is guessed."""
    assert head.find_head(bpy.context) == demo  # the sheet is active
    bpy.context.view_layer.objects.active = demo
    assert head.find_head(bpy.context) == demo
    twin = demo.copy()
    bpy.context.collection.objects.link(twin)
    bpy.context.view_layer.objects.active = grid.object
    assert head.find_head(bpy.context) is None


# -- files ------------------------------------------------------------------------------------


def test_ply_styles(tmp_path: Path) -> None:
    """Text and binary PLY in both byte orders, extra properties and quads included."""
    header = (
        "ply\nformat {style} 1.0\ncomment é\nelement vertex 4\nproperty float x\nproperty float y\n"
        "property float z\nproperty uchar red\nelement face 1\n"
        "property list uchar int vertex_indices\nend_header\n"
    )
    points = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0.5]], np.float32)
    text = "".join(f"{x} {y} {z} 7\n" for x, y, z in points) + "4 0 1 2 3\n"
    (tmp_path / "ascii.ply").write_text(header.format(style="ascii") + text, encoding="utf-8")
    for style, order in (("binary_little_endian", "<"), ("binary_big_endian", ">")):
        kind = [("p", order + "f4", 3), ("red", "u1")]
        rows = np.zeros(4, kind)
        rows["p"] = points
        body = rows.tobytes() + b"\x04" + np.arange(4, dtype=order + "i4").tobytes()
        (tmp_path / f"{style}.ply").write_bytes(header.format(style=style).encode() + body)
    for path in sorted(tmp_path.glob("*.ply")):
        found = flame_files.read(path)
        np.testing.assert_array_equal(found.heads[path.stem], points)
        assert found.triangles is not None
        assert found.triangles.tolist() == [[0, 1, 2], [0, 2, 3]]


def test_obj_keeps_the_order(tmp_path: Path) -> None:
    """Vertices come as they stand in the file, negative and slashed indices included."""
    (tmp_path / "a.obj").write_text(
        "# c\nv 0 0 0\nv 1 0 0\nv 0 2 0\nvt 0 0\nf 1/1/1 2//1 3\nv 0 0 1\nf -1 -2 -3\n"
    )
    found = flame_files.read(tmp_path / "a.obj")
    assert found.heads["a"].tolist() == [[0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 1]]
    assert found.triangles is not None
    assert found.triangles.tolist() == [[0, 1, 2], [3, 2, 1]]


class Chumpy:
    """Pickles like FLAME's wrapped arrays, as an object of a module that is not installed."""

    def __init__(self, x: np.ndarray) -> None:
        self.x = x


class Evil:
    """Tries to run something when it is loaded."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path(EVIL),)  # type: ignore[return-value]


EVIL = ""


def test_flame_pickle_runs_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FLAME's .pkl gives its template; classes in it stay inert, whatever they would do."""
    mark = tmp_path / "ran"
    monkeypatch.setitem(globals(), "EVIL", str(mark))
    vertices = np.random.default_rng(0).normal(0, 0.1, (6, 3))
    content = {
        "v_template": Chumpy(vertices),
        "f": np.array([[0, 1, 2], [3, 4, 5]], np.uint32),
        "J_regressor": Chumpy(np.eye(2)),
        "evil": Evil(),
    }
    path = tmp_path / "generic model.pkl"
    path.write_bytes(pickle.dumps(content, protocol=2))
    found = flame_files.read(path)
    np.testing.assert_allclose(found.heads["generic model"], vertices, rtol=1e-6)
    assert found.triangles is not None
    assert found.triangles.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert not mark.exists()
    obj = head.import_flame(path)
    assert len(obj.data.vertices) == 6


def test_templates_borrow_faces(tmp_path: Path) -> None:
    """A templates.pkl holds heads without faces: they come from the head file beside it."""
    heads = {f"subject {k}": np.random.default_rng(k).normal(0, 0.1, (4, 3)) for k in range(3)}
    path = tmp_path / "templates.pkl"
    path.write_bytes(pickle.dumps(heads, protocol=2))
    with pytest.raises(HeadError, match="without faces"):
        head.import_flame(path)
    (tmp_path / "any.obj").write_text("v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nf 1 2 3\nf 1 3 4\n")
    obj = head.import_flame(path, name="subject 2")
    assert (obj.name, len(obj.data.polygons)) == ("subject 2", 2)
    with pytest.raises(HeadError, match="subject 1"):
        head.import_flame(path, name="subject 9")


def test_npz(tmp_path: Path) -> None:
    """Both FLAME's own names and the project's are understood."""
    points = np.eye(3, dtype=np.float64)
    np.savez(tmp_path / "flame.npz", v_template=points, f=np.array([[0, 1, 2]]),
             posedirs=np.array([{}], object))  # fmt: skip
    np.savez(tmp_path / "ours.npz", vertices=points, triangles=np.array([[0, 1, 2]]))
    for name in ("flame", "ours"):
        found = flame_files.read(tmp_path / f"{name}.npz")
        np.testing.assert_array_equal(found.heads[name], points)


@pytest.mark.parametrize("name", ["a.ply", "a.obj", "a.pkl", "a.npz", "a.fbx", "gone.ply"])
@pytest.mark.parametrize("content", [b"", b"ply\nformat ascii 1.0\n", b"\x80\x04K\x01.", b"PK\x03"])
def test_broken_files(tmp_path: Path, name: str, content: bytes) -> None:
    """Whatever is wrong with a file, it is one sentence that names it."""
    if name != "gone.ply":
        (tmp_path / name).write_bytes(content)
    with pytest.raises(HeadError, match=name):
        head.import_flame(tmp_path / name)


def test_faces_out_of_range(tmp_path: Path) -> None:
    """A face that asks for a missing vertex is damage, not a crash."""
    (tmp_path / "a.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 9\n")
    with pytest.raises(HeadError, match="damaged"):
        head.import_flame(tmp_path / "a.obj")
