# SPDX-License-Identifier: GPL-3.0-or-later
"""The software renderer: the right pixels, films with sound, and honest words without ffmpeg."""

from __future__ import annotations

import subprocess
import wave
import zlib
from argparse import ArgumentParser

import numpy as np
import pytest

from model.errors import OutputError
from model.preview import film, preview
from model.preview.rasterizer import Canvas, light, rasterize
from model.preview.scene import FRONT, MOUTH, Layer, Scene, plain
from model.rig import demo_head as heads
from model.rig.mesh import vertex_normals


@pytest.fixture(scope="module")
def head():
    return heads.load()


@pytest.fixture(scope="module")
def motion(head):
    """Return six frames that open the mouth."""
    return head.vertices + np.linspace(0, 0.6, 6)[:, None, None] * head.shapes["jawOpen"]


def square(depth):
    """Return two triangles that cover pixels 2..5 each way."""
    points = np.float32([[2, 2, depth], [6, 2, depth], [6, 6, depth], [2, 6, depth]])
    return points, np.array([[0, 1, 2], [0, 2, 3]])


def draw(canvas, points, triangles, front, back=(0, 0, 0)):
    front, back = (np.tile(np.float32(c), (len(points), 1)) for c in (front, back))
    rasterize(canvas, points, triangles, front, back)


def test_a_square_covers_its_pixels_and_no_others():
    canvas = Canvas.blank(8)
    points, triangles = square(1.0)
    draw(canvas, points, triangles[:, ::-1], (1, 1, 1))
    drawn = (canvas.picture == 1).all(1).reshape(8, 8)
    assert drawn[3:6, 3:6].all()
    assert drawn.sum() <= 25
    assert not drawn[:2].any()


def test_the_nearest_wins_in_any_order():
    for order in ((1.0, 2.0), (2.0, 1.0)):
        canvas = Canvas.blank(8)
        for depth in order:
            points, triangles = square(depth)
            draw(canvas, points, triangles[:, ::-1], (depth / 2, 0, 0))
        assert canvas.picture.reshape(8, 8, 3)[4, 4, 0] == pytest.approx(1.0)


def test_the_inner_side_has_its_own_colour():
    canvas = Canvas.blank(8)
    points, triangles = square(1.0)
    draw(canvas, points, triangles, (1, 1, 1), back=(0.5, 0, 0))
    assert canvas.picture.reshape(8, 8, 3)[4, 4].tolist() == pytest.approx([0.5, 0, 0], abs=1e-5)


@pytest.mark.parametrize("shift", [(-50, 0, 0), (0, 50, 0), (0, 0, 0)])
def test_triangles_off_the_picture_or_without_area_draw_nothing(shift):
    canvas = Canvas.blank(8)
    points, triangles = square(1.0)
    if shift == (0, 0, 0):
        points[:] = points[0]
    draw(canvas, points + np.float32(shift), triangles, (1, 1, 1), (1, 1, 1))
    assert (canvas.picture == Canvas.blank(8).picture).all()


def test_normals_of_a_ball_point_outwards(head):
    ball = slice(3931, 4477)
    normals = vertex_normals(head.vertices, head.triangles)[ball]
    points = head.vertices[ball]
    outwards = points - (points.min(0) + points.max(0)) / 2
    assert ((normals * outwards).sum(1) > 0).all()
    assert light(normals).shape == (546, 3)


def test_a_sheet_shows_every_frame_and_view(motion, head, tmp_path):
    path = preview.contact_sheet(
        motion, head.triangles, [0, 3, 5], tmp_path / "a sheet.png", size=64, columns=2
    )
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG")
    width, height = (int.from_bytes(data[k : k + 4], "big") for k in (16, 20))
    assert (width, height) == (4 * 64, 2 * 64)
    body = data[data.index(b"IDAT") + 4 : data.index(b"IEND") - 8]
    assert len(zlib.decompress(body)) == height * (width * 3 + 1)


def test_what_is_still_is_drawn_once_and_looks_the_same(motion, head):
    moving = Scene(motion, head.triangles, head)
    assert 0.1 < moving.moving.mean() < 0.6
    film_frame = moving.stage(FRONT, 128).draw(5).astype(int)
    alone = Scene(motion[5:], head.triangles, head).stage(FRONT, 128).draw(0).astype(int)
    assert np.abs(film_frame - alone).mean() < 0.2


def test_blenders_demo_head_is_recognised(motion, head):
    upright = motion[..., [0, 2, 1]] * np.float32([1, -1, 1]) + np.float32([0, 0, 0.178])
    scene = Scene(upright, head.triangles)
    assert scene.head is not None
    here = scene.stage(MOUTH, 96).draw(4).astype(int)
    there = Scene(motion, head.triangles).stage(MOUTH, 96).draw(4).astype(int)
    assert np.abs(here - there).mean() < 1.0


def test_another_head_is_drawn_plainly(head):
    other = head.vertices * np.float32([1.1, 1, 1])
    scene = Scene(other[None], head.triangles[:, ::-1])
    assert scene.head is None
    layer = plain(other, head.triangles)
    assert isinstance(layer, Layer)
    assert (layer.gloss > 0.5).sum() == 2 * 546


def test_a_film_has_pictures_and_sound(motion, head, tmp_path):
    program = film.ffmpeg()
    if program is None:
        pytest.skip("no ffmpeg")
    sound = tmp_path / "tone é.wav"
    with wave.open(str(sound), "wb") as file:
        file.setparams((1, 2, 16000, 3200, "NONE", ""))
        file.writeframes(bytes(6400))
    path = preview.video(motion, head.triangles, 30, sound, tmp_path / "film.mp4", size=64)
    said = subprocess.run([program, "-i", str(path)], capture_output=True, check=False).stderr
    assert b"Video: h264" in said
    assert b"Audio: aac" in said


def test_a_sound_that_is_none_is_named(motion, head, tmp_path):
    if film.ffmpeg() is None:
        pytest.skip("no ffmpeg")
    sound = tmp_path / "broken.wav"
    sound.write_bytes(b"no sound")
    with pytest.raises(OutputError, match=r"could not write film\.mp4"):
        preview.video(motion, head.triangles, 30, sound, tmp_path / "film.mp4", size=64)


def test_without_ffmpeg_there_are_pictures(motion, head, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(film, "ffmpeg", lambda: None)
    path = preview.video(motion[:2], head.triangles, 30, None, tmp_path / "film.mp4", size=32)
    assert sorted(p.name for p in path.iterdir()) == ["00000.png", "00001.png"]
    assert "no ffmpeg found" in capsys.readouterr().out


def test_the_command_draws_a_motion_file(head, tmp_path):
    motion = tmp_path / "motion.npz"
    np.savez(
        motion,
        weights=np.float32([[0], [1]]),
        shapes=head.shapes["jawOpen"][None],
        template=head.vertices,
        fps=30.0,
        controls=np.float32([[0.0], [1.0]]),
        control_names=np.array(["tongueTip"]),
    )
    parser = ArgumentParser()
    preview.add_arguments(parser)
    out = tmp_path / "sheet.png"
    words = [str(motion), str(out), "--size", "48", "--frames", "2"]
    assert preview.run(parser.parse_args(words)) == 0
    assert out.stat().st_size > 1000
