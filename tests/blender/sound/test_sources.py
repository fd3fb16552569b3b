# SPDX-License-Identifier: GPL-3.0-or-later
"""What is heard of a strip: exact, alone, and refused in words where nothing is."""

from __future__ import annotations

import wave
from pathlib import Path

import bpy
import numpy as np
import pytest

from diffspeaker_blender.errors import AudioError
from diffspeaker_blender.sound import clip as sound
from diffspeaker_blender.sound import sources

RATE = 16_000
needs_mixer = pytest.mark.skipif(
    not bpy.app.build_options.audaspace,
    reason="this Blender has no audio and makes no sound strips",
)


def write_wav(path: Path, samples: np.ndarray, rate: int = RATE) -> Path:
    """Write (n,) or (n, channels) samples as 16-bit PCM."""
    data = np.atleast_2d(samples.T).T
    with wave.open(str(path), "wb") as file:
        file.setnchannels(data.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.round(data * 32767).astype("<i2").tobytes())
    return path


def tone(seconds: float = 4.0, rate: int = RATE, seed: int = 0) -> np.ndarray:
    """Return band-limited noise that differs everywhere, so a shift of one sample shows."""
    noise = np.random.default_rng(seed).normal(0, 0.1, int(seconds * rate))
    return np.convolve(noise, np.hanning(9) / 4, "same")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return four seconds of sound."""
    return write_wav(tmp_path / "línea one.wav", tone())


def add(path: Path, frame: int = 11, channel: int = 1, name: str = "Line") -> bpy.types.Strip:
    """Add a sound strip to the scene at 25 fps."""
    scene = bpy.context.scene
    scene.render.fps = 25
    editor = scene.sequence_editor or scene.sequence_editor_create()
    strips = editor.strips if hasattr(editor, "strips") else editor.sequences
    return strips.new_sound(name, str(path), channel, frame)


def handles(strip: bpy.types.Strip, first: int, last: int) -> None:
    """Trim a strip to [first, last) in every Blender."""
    if hasattr(strip, "left_handle"):
        strip.left_handle, strip.right_handle = first, last
    else:
        strip.frame_final_start, strip.frame_final_end = first, last


def heard(clip: sources.AudioClip, folder: Path) -> np.ndarray:
    """Return the clip's samples, read the way the worker would be told to."""
    return clip.decoded(folder).samples


def mixdown(scene: bpy.types.Scene, first: int, last: int, folder: Path) -> np.ndarray:
    """Return what Blender itself plays of the whole scene on these frames, mono."""
    scene.frame_start, scene.frame_end = first, last - 1
    path = folder / "reference.wav"
    bpy.ops.sound.mixdown(
        filepath=str(path), accuracy=64, container="WAV", codec="PCM", format="F32",
        channels="STEREO", mixrate=RATE,
    )  # fmt: skip
    samples = sound.read_float_wav(path)[0][: round((last - first) / 25 * RATE)]
    return samples.mean(1) * np.sqrt(2)


@needs_mixer
@pytest.mark.parametrize(("first", "last"), [(11, 111), (20, 60), (5, 40), (90, 130)])
def test_trimmed_strips_are_exact(file: Path, tmp_path: Path, first: int, last: int) -> None:
    """The span of the file is what Blender plays, to the sample, also past the file's ends."""
    strip = add(file)
    handles(strip, first, last)
    clip = sources.strip_clip(bpy.context.scene, strip)
    assert clip.start == pytest.approx(first / 25)
    assert clip.duration == pytest.approx((last - first) / 25)
    mine = heard(clip, tmp_path)
    wanted = mixdown(bpy.context.scene, first, last, tmp_path)
    assert len(mine) == len(wanted)
    np.testing.assert_allclose(mine, wanted, atol=1e-4)
    request = clip.request(tmp_path)
    assert request["audio"] == str(file)


@needs_mixer
def test_moved_and_trimmed_inside(file: Path, tmp_path: Path) -> None:
    """Moving the strip, its content trim and its sound offset all count."""
    strip = add(file)
    handles(strip, 30, 80)
    if hasattr(strip, "content_trim_start"):
        strip.content_trim_start = 5
    else:
        strip.animation_offset_start = 5
    if hasattr(strip, "sound_offset"):
        strip.sound_offset = 0.13
    clip = sources.strip_clip(bpy.context.scene, strip)
    first, last = (int(frame) for frame in sources.place(strip))
    wanted = mixdown(bpy.context.scene, first, last, tmp_path)
    mine = heard(clip, tmp_path)
    assert np.abs(wanted).max() > 0.01
    shifts = [np.abs(mine[9 + k : k - 9] - wanted[9:-9]).max() for k in (-1, 0, 1)]
    assert min(shifts) < 1e-3


@needs_mixer
def test_fps_base_counts(file: Path, tmp_path: Path) -> None:
    """At 29.97 the frames are a little longer than at 30."""
    bpy.context.scene.render.fps_base = 1.001
    strip = add(file)
    clip = sources.strip_clip(bpy.context.scene, strip)
    assert clip.start == pytest.approx(11 * 1.001 / 25)


@needs_mixer
def test_only_the_chosen_strip_is_heard(file: Path, tmp_path: Path) -> None:
    """Music and other characters beside the strip change nothing."""
    strip = add(file)
    add(write_wav(tmp_path / "music.wav", tone(seed=5)), channel=2, name="Music")
    np.testing.assert_allclose(
        heard(sources.strip_clip(bpy.context.scene, strip), tmp_path), tone(), atol=1e-3
    )


@needs_mixer
def test_stereo_is_averaged(tmp_path: Path) -> None:
    """Two channels become their mean; opposite channels do not vanish."""
    one, two = tone(seed=1), tone(seed=2)
    both = add(write_wav(tmp_path / "both.wav", np.stack([one, two], 1)))
    mine = heard(sources.strip_clip(bpy.context.scene, both), tmp_path)
    np.testing.assert_allclose(mine, (one + two) / 2, atol=1e-3)
    opposite = add(write_wav(tmp_path / "opposite.wav", np.stack([one, -one], 1)), channel=2)
    mine = heard(sources.strip_clip(bpy.context.scene, opposite), tmp_path)
    np.testing.assert_allclose(np.abs(mine), np.abs(one), atol=1e-3)


@needs_mixer
def test_retimed_strip_is_mixed_alone(file: Path, tmp_path: Path) -> None:
    """A sped-up strip sounds as in the sequencer, and the scene is as before."""
    strip = add(file)
    add(write_wav(tmp_path / "music.wav", tone(seed=5)), channel=2, name="Music")
    scene = bpy.context.scene
    screen = bpy.context.window.screen
    area = screen.areas[0]
    area.ui_type = "SEQUENCE_EDITOR"
    for other in sources.all_strips(scene.sequence_editor):
        other.select = other == strip
    scene.sequence_editor.active_strip = strip
    if hasattr(bpy.context.workspace, "sequencer_scene"):
        bpy.context.workspace.sequencer_scene = scene
    region = next(r for r in area.regions if r.type == "WINDOW")
    with bpy.context.temp_override(window=bpy.context.window, area=area, region=region):
        bpy.ops.sequencer.retiming_segment_speed_set(speed=200)
    assert len(strip.retiming_keys)
    scene.frame_start, scene.frame_end, scene.frame_current = 3, 7, 5
    before = {s.name: s.mute for s in sources.all_strips(scene.sequence_editor)}
    clip = sources.strip_clip(scene, strip)
    assert clip.samples is not None
    assert clip.duration == pytest.approx(2.0, abs=0.05)
    assert np.abs(clip.samples).mean() > 0.02
    assert (scene.frame_start, scene.frame_end, scene.frame_current) == (3, 7, 5)
    assert {s.name: s.mute for s in sources.all_strips(scene.sequence_editor)} == before
    assert len(sources.all_strips(scene.sequence_editor)) == 2


@needs_mixer
def test_animated_volume(file: Path, tmp_path: Path) -> None:
    """A fade-out is heard as a fade-out."""
    strip = add(file)
    for frame, volume in ((11, 1.0), (111, 0.0)):
        strip.volume = volume
        strip.keyframe_insert("volume", frame=frame)
    clip = sources.strip_clip(bpy.context.scene, strip)
    assert clip.samples is not None
    quarter = len(clip.samples) // 4
    loud = [float(np.abs(part).mean()) for part in np.split(clip.samples[: 4 * quarter], 4)]
    assert loud[0] > 1.3 * loud[1] > 1.3 * 1.3 * loud[2] > 1.3 * 1.3 * 1.5 * loud[3]


@needs_mixer
def test_cut_up_line_is_one_clip(file: Path, tmp_path: Path) -> None:
    """Pieces on one channel become one clip with silence in the gap."""
    one, two = add(file, 11, name="A"), add(file, 151, name="B")
    handles(one, 11, 61)
    clip = sources.strips_clip(bpy.context.scene, [two, one])
    assert clip.start == pytest.approx(11 / 25)
    assert clip.duration == pytest.approx((251 - 11) / 25)
    assert clip.samples is not None
    wanted = np.zeros(round(clip.duration * RATE))
    wanted[: 2 * RATE] = tone()[: 2 * RATE]
    at = round(140 / 25 * RATE)
    wanted[at : at + 4 * RATE] = tone()
    wrong = np.flatnonzero(np.abs(clip.samples - wanted) > 2e-3)
    assert len(wrong) < 64  # Blender stops a strip at the end of a block of 64 samples


@needs_mixer
def test_packed_file(file: Path, tmp_path: Path) -> None:
    """A packed sound needs no file on the disk."""
    strip = add(file)
    strip.sound.pack()
    file.unlink()
    clip = sources.strip_clip(bpy.context.scene, strip)
    request = clip.request(tmp_path)
    assert Path(request["audio"]).read_bytes()[:4] == b"RIFF"
    np.testing.assert_allclose(heard(clip, tmp_path), tone(), atol=1e-3)


@needs_mixer
def test_strip_in_a_meta(file: Path, tmp_path: Path) -> None:
    """A meta's handles cut what is heard of the strips inside, and its mute silences them."""
    strip = add(file)
    scene = bpy.context.scene
    area = bpy.context.window.screen.areas[0]
    area.ui_type = "SEQUENCE_EDITOR"
    if hasattr(bpy.context.workspace, "sequencer_scene"):
        bpy.context.workspace.sequencer_scene = scene
    strip.select = True
    region = next(r for r in area.regions if r.type == "WINDOW")
    with bpy.context.temp_override(window=bpy.context.window, area=area, region=region):
        bpy.ops.sequencer.meta_make()
    top = scene.sequence_editor
    meta = next(iter(top.strips if hasattr(top, "strips") else top.sequences))
    handles(meta, 31, 81)
    inner = meta.strips[0] if hasattr(meta, "strips") else meta.sequences[0]
    clip = sources.strip_clip(scene, inner)
    assert (clip.start, clip.duration) == pytest.approx((31 / 25, 2.0))
    np.testing.assert_allclose(
        heard(clip, tmp_path), tone()[round(0.8 * RATE) : round(2.8 * RATE)], atol=1e-3
    )
    assert sources.strip_clip(scene, meta).duration == pytest.approx(2.0)
    meta.mute = True
    with pytest.raises(AudioError, match="muted"):
        sources.strip_clip(scene, inner)


@needs_mixer
def test_refusals(file: Path, tmp_path: Path) -> None:
    """Missing, empty and foreign files, muted and silent strips: one sentence each, no crash."""
    scene = bpy.context.scene
    with pytest.raises(AudioError, match="missing"):
        sources.strip_clip(scene, add(tmp_path / "gone.wav"))
    (tmp_path / "empty.wav").touch()
    with pytest.raises(AudioError, match="empty"):
        sources.strip_clip(scene, add(tmp_path / "empty.wav", channel=2))
    (tmp_path / "text.wav").write_text("no sound at all, but long enough to look at" * 20)
    if bpy.app.build_options.audaspace:
        with pytest.raises(AudioError, match="decode"):
            sources.strip_clip(scene, add(tmp_path / "text.wav", channel=3))
        with pytest.raises(AudioError, match="decode"):
            sources.file_clip(tmp_path / "text.wav")
    strip = add(file, channel=4)
    strip.volume = 0.0
    with pytest.raises(AudioError, match="volume"):
        sources.strip_clip(scene, strip)
    strip.volume, strip.mute = 1.0, True
    with pytest.raises(AudioError, match="muted"):
        sources.strip_clip(scene, strip)
    strip.mute = False
    scene.sequence_editor.channels[4].mute = True
    with pytest.raises(AudioError, match="channel"):
        sources.strip_clip(scene, strip)
    with pytest.raises(AudioError, match="missing"):
        sources.file_clip(tmp_path / "nothing.wav")
    with pytest.raises(AudioError, match="folder"):
        sources.file_clip(tmp_path)
    with pytest.raises(AudioError, match="selected"):
        sources.strips_clip(scene, [])


@needs_mixer
def test_selected_strips(file: Path, tmp_path: Path) -> None:
    """Selected sound strips come in the order of the timeline; nothing selected is nothing."""
    assert sources.selected_strips(bpy.context) == []
    late, early = add(file, 200, 1, "late"), add(file, 20, 2, "early")
    add(file, 400, 3, "other").select = False
    late.select = early.select = True
    assert [strip.name for strip in sources.selected_strips(bpy.context)] == ["early", "late"]


def test_file_and_round_trip(file: Path, tmp_path: Path) -> None:
    """A plain file is a clip of its own, and a written clip reads back the same."""
    clip = sources.file_clip(file, start=2.5)
    assert (clip.start, clip.duration, clip.name) == (2.5, pytest.approx(4.0), "línea one")
    assert clip.request(tmp_path) == {"audio": str(file), "span": None}
    samples = tone(1.0).astype(np.float32)
    written = sources.write_clip(
        sources.AudioClip(samples, RATE, 0.0, 1.0), tmp_path / "sub folder" / "out.wav"
    )
    back, rate = sound.read_float_wav(written)
    assert rate == RATE
    np.testing.assert_array_equal(back[:, 0], samples)


@needs_mixer
@pytest.mark.parametrize("suffix", [".flac", ".ogg", ".mp3"])
def test_other_formats(tmp_path: Path, suffix: str) -> None:
    """Whatever Blender decodes arrives in the worker's hands, in place to within a millisecond."""
    soundfile = pytest.importorskip("soundfile")
    path = tmp_path / f"line{suffix}"
    samples = np.zeros(4 * 44_100, np.float32)
    samples[44_100:] = tone(3.0, 44_100)
    soundfile.write(path, samples, 44_100)
    strip = add(path)
    clip = sources.strip_clip(bpy.context.scene, strip)
    handed = clip.request(tmp_path)
    got, rate = soundfile.read(handed["audio"])
    onset = np.flatnonzero(np.abs(got) > 0.02)[0] / rate - (
        handed["span"][0] if handed["span"] else 0.0
    )
    assert onset == pytest.approx(1.0, abs=0.001 if suffix != ".mp3" else 0.005)


@needs_mixer
def test_long_clips_are_decoded_in_pieces(tmp_path: Path) -> None:
    """More than two minutes that only Blender decodes come at 16 kHz, whole and in place."""
    rate = 48_000
    samples = np.zeros(150 * rate)
    samples[140 * rate :] = tone(10.0, rate)
    path = write_wav(tmp_path / "long.wav", samples, rate)
    clip = sound.decode(sources.AudioClip(None, 0, 0.0, 145.0, source=path, span=(2.0, 145.0)))
    assert clip.rate == 16_000
    assert clip.samples is not None
    assert len(clip.samples) == 145 * 16_000
    assert np.flatnonzero(np.abs(clip.samples) > 0.02)[0] / 16_000 == pytest.approx(138.0, abs=0.01)


@needs_mixer
def test_speaker(file: Path) -> None:
    """A Speaker's sound starts where its NLA strip does, and its pitch is heard."""
    bpy.context.scene.frame_set(41)
    bpy.context.scene.render.fps = 25
    bpy.ops.object.speaker_add()
    speaker = bpy.context.object
    with pytest.raises(AudioError, match="no sound"):
        sources.speaker_clip(speaker)
    speaker.data.sound = bpy.data.sounds.load(str(file))
    clip = sources.speaker_clip(speaker)
    assert clip.start == pytest.approx(41 / 25)
    speaker.data.pitch = 2.0
    assert sources.speaker_clip(speaker).duration == pytest.approx(2.0)
    speaker.data.muted = True
    with pytest.raises(AudioError, match="muted"):
        sources.speaker_clip(speaker)
