# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever Blender plays is heard, to the sample's place, whatever codec its container holds."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest

bpy = pytest.importorskip("bpy", reason="needs Blender's Python module")

from diffspeaker_blender.errors import AudioError  # noqa: E402
from diffspeaker_blender.sound import clip as sound  # noqa: E402
from diffspeaker_blender.sound import formats, sources  # noqa: E402
from tests.blender.sound.test_sources import add, needs_mixer, tone, write_wav  # noqa: E402

RATE = 16_000
SECONDS = 2.0
_FFMPEG = pytest.importorskip("imageio_ffmpeg", reason="makes the files").get_ffmpeg_exe()

CODECS = {
    "u8.wav": "-c:a pcm_u8",
    "s24.wav": "-c:a pcm_s24le -ac 2",
    "s32.wav": "-c:a pcm_s32le",
    "f32.wav": "-c:a pcm_f32le",
    "f64.wav": "-c:a pcm_f64le",
    "extensible.wav": "-c:a pcm_s16le -ac 6",
    "alaw.wav": "-c:a pcm_alaw",
    "mulaw.wav": "-c:a pcm_mulaw",
    "ima.wav": "-c:a adpcm_ima_wav",
    "ms.wav": "-c:a adpcm_ms",
    "g726.wav": "-c:a g726 -ar 8000",
    "ac3.wav": "-c:a ac3 -ar 48000 -b:a 192k",
    "rf64.wav": "-rf64 always",
    "long.w64": "",
    "plain.flac": "",
    "plain.ogg": "-c:a libvorbis",
    "plain.opus": "-c:a libopus -ar 48000",
    "flac.ogg": "-c:a flac",
    "speex.ogg": "-c:a libspeex",
    "plain.caf": "-c:a pcm_s16be",
    "alac.caf": "-c:a alac",
    "plain.aiff": "",
    "sowt.aifc": "-f aiff -c:a pcm_s16le",
    "alaw.aifc": "-f aiff -c:a pcm_alaw",
    "plain.au": "-c:a pcm_s16be",
    "mulaw.au": "-c:a pcm_mulaw",
    "plain.mp3": "",
    "mp3.wav": "-c:a libmp3lame -f wav",
    "plain.mp2": "",
    "plain.m4a": "-c:a aac",
    "alac.m4a": "-c:a alac",
    "plain.aac": "",
    "plain.ac3": "-ar 48000 -b:a 192k",
    "plain.wma": "-c:a wmav2",
    "plain.wv": "",
    "plain.tta": "",
    "plain.mka": "-c:a pcm_s16le",
    "plain.webm": "-c:a libopus -ar 48000",
}


def words(text: str, *more: str) -> list[str]:
    return [*text.split(), *more]


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a sound that begins after half a second of silence."""
    samples = np.concatenate([np.zeros(RATE // 2), 4 * tone(SECONDS - 0.5)])
    return write_wav(tmp_path_factory.mktemp("sound") / "spoken.wav", samples)


def convert(spoken: Path, path: Path, options: str) -> Path:
    """Write the sound in another form; skip where this FFmpeg lacks the encoder."""
    command = [_FFMPEG, "-v", "error", "-y", "-i", str(spoken), *words(options), str(path)]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    if told.returncode:
        pytest.skip(told.stderr.strip().splitlines()[-1])
    return path


def handed(clip: sources.AudioClip, folder: Path) -> tuple[np.ndarray, int]:
    """Return what the worker's library reads of a clip's request, mono, and its rate."""
    soundfile = pytest.importorskip("soundfile")
    request = clip.request(folder)
    samples, rate = soundfile.read(request["audio"], always_2d=True)
    first, length = request["span"] or (0.0, len(samples) / rate)
    return samples.mean(1)[round(first * rate) : round((first + length) * rate)], rate


@needs_mixer
@pytest.mark.parametrize("name", CODECS)
def test_every_codec_is_heard_in_its_place(spoken: Path, tmp_path: Path, name: str) -> None:
    """As a file and as a strip: the whole length, and the first word where it is spoken."""
    path = convert(spoken, tmp_path / name, CODECS[name])
    clip = sources.file_clip(path)
    assert clip.source == path, "a line is known by its file, whoever decodes it"
    assert clip.duration == pytest.approx(SECONDS, abs=0.12)
    strip = add(path, frame=1)
    for one in (clip, sources.strip_clip(bpy.context.scene, strip)):
        samples, rate = handed(one, tmp_path)
        assert len(samples) / rate == pytest.approx(one.duration, abs=0.002)
        onset = np.flatnonzero(np.abs(samples) > 0.25 * np.abs(samples).max())[0] / rate
        assert onset == pytest.approx(0.5, abs=0.1)


@needs_mixer
def test_a_film_is_heard(spoken: Path, tmp_path: Path) -> None:
    """Sound beside pictures, also where the container looks like a sound file's."""
    for name, options in (("a.mp4", "-c:a aac"), ("a.ogv", "-c:v libtheora -c:a libvorbis"),
                          ("a.mkv", "-c:a flac"), ("a.avi", "-c:a ac3 -ar 48000")):  # fmt: skip
        picture = "-f lavfi -i color=size=64x64:rate=25:duration=2 -map 0:a -map 1:v -shortest "
        path = convert(spoken, tmp_path / name, picture + options)
        assert sources.file_clip(path).duration == pytest.approx(SECONDS, abs=0.15)


def header(data_size: int, *, average: int = 2 * RATE, fmt_size: int = 16) -> bytes:
    """Return the 44 bytes before 16-bit mono samples, with a field or two that lie."""
    form = struct.pack("<HHIIHH", 1, 1, RATE, average, 2, 16)
    return (
        b"RIFF" + struct.pack("<I", (36 + data_size) & 0xFFFFFFFF) + b"WAVE"
        + b"fmt " + struct.pack("<I", fmt_size) + form + b"data" + struct.pack("<I", data_size)
    )  # fmt: skip


LIES = {
    "killed recorder": header(0),
    "written to a pipe": header(0xFFFF_FFFF),
    "longer than it is": header(10 * RATE * 2),
    "wrong bytes a second": header(2 * 2 * RATE, average=1),
    "no bytes a second": header(2 * 2 * RATE, average=0),
}


@needs_mixer
@pytest.mark.parametrize("lie", LIES)
def test_lengths_are_counted_not_believed(tmp_path: Path, lie: str) -> None:
    """Two seconds are two seconds, whatever the header says."""
    body = (tone(SECONDS) * 32767).astype("<i2").tobytes()
    (tmp_path / "a.wav").write_bytes(LIES[lie] + body)
    clip = sources.file_clip(tmp_path / "a.wav")
    assert clip.duration == pytest.approx(SECONDS, abs=0.01)
    assert handed(clip, tmp_path)[0].std() > 0.01
    strip = add(tmp_path / "a.wav", frame=1)
    assert handed(sources.strip_clip(bpy.context.scene, strip), tmp_path)[0].std() > 0.01


@pytest.mark.parametrize("size", [1, 8, 12, 19, 20, 24, 35, 36, 43, 44])
@pytest.mark.parametrize("kind", ["wav", "aiff", "flac", "ogg", "caf", "au", "rf64"])
def test_a_file_that_is_cut_in_its_header_is_a_sentence(
    spoken: Path, tmp_path: Path, kind: str, size: int
) -> None:
    """Wherever a download broke off: an AudioError, or a clip of which the worker says more."""
    whole = {"rf64": "a.wav"}.get(kind, f"a.{kind}")
    options = {"rf64": "-rf64 always", "ogg": "-c:a libvorbis", "caf": "-c:a pcm_s16be"}
    path = convert(spoken, tmp_path / whole, options.get(kind, ""))
    path.write_bytes(path.read_bytes()[:size])
    try:
        clip = sources.file_clip(path)
    except AudioError as error:
        assert path.name in str(error) or "sound" in str(error)
        return
    assert clip.duration < 0.1 or not sound.has_aud() or kind in ("flac", "aiff")


def test_the_sizes_of_a_header_are_looked_at(tmp_path: Path) -> None:
    """A format chunk of no size, endless chunks, and names that no file can have."""
    path = tmp_path / "a.wav"
    for content in (
        header(4, fmt_size=0) + b"1234",
        b"RIFF\0\0\0\0WAVE" + b"\0" * 90_000,
        b"RIFF\0\0\0\0WAVEJUNK\xf0\xff\xff\xff",
        b"FORM\0\0\0\0AIFC" + b"\0" * 60,
    ):
        path.write_bytes(content)
        assert not formats.surely_read(path)
    with pytest.raises(AudioError, match="cannot be read"):
        sources.file_clip(tmp_path / "a\0b.wav")
