# SPDX-License-Identifier: GPL-3.0-or-later
"""The background job: one undo step, other files, undo in mid-job, no long breath on the way."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

bpy = pytest.importorskip("bpy")

from tests.blender.conftest import needs_sound, pump, values  # noqa: E402


def status():
    return bpy.context.window_manager.diffspeaker


def submit(line, steps=0, **given):
    """Queue a job as the button does."""
    from diffspeaker_blender.jobs import plan
    from diffspeaker_blender.jobs import queue as jobs

    bpy.context.scene.diffspeaker.steps = steps
    jobs.submit(plan.tasks(bpy.context, file=str(line), **given))
    return jobs


def test_a_job_ends_with_keys_and_a_sentence(addon, demo, line):
    """What the button starts, the timer finishes."""
    jobs = submit(line)
    assert status().busy
    pump(lambda: not jobs.busy())
    assert status().message.endswith("sound in sync")
    assert not status().busy
    assert values(demo, range(1, 25)).max() > 0.8


def test_progress_has_seconds_left(addon, demo, line):
    """The panel gets a fraction and the time that is left."""
    jobs = submit(line, steps=20)
    pump(lambda: status().fraction > 0.2)
    assert 0.2 < status().seconds_left < 2
    assert status().stage == "Denoising"
    jobs.cancel()


def test_cancel_ends_at_once_and_changes_nothing(addon, demo, line):
    """A cancelled job is gone with the next look, and the next one runs."""
    before = list(demo.data.shape_keys.key_blocks.keys())
    jobs = submit(line, steps=300)
    pump(lambda: status().fraction > 0)
    began = time.monotonic()
    assert jobs.cancel() == 1
    pump(lambda: not jobs.busy())
    assert time.monotonic() - began < 1.0
    assert "cancelled" in status().message
    assert list(demo.data.shape_keys.key_blocks.keys()) == before
    submit(line)
    pump(lambda: not jobs.busy())
    assert status().message.startswith("Mouth moved")


def test_jobs_queue_behind_one_another(addon, demo, line):
    """Three lines, one worker, one after the other."""
    for start in (1.0, 51.0, 101.0):
        other = line.with_name(f"{start:.0f}.wav")
        other.write_bytes(line.read_bytes())
        jobs = submit(other, steps=2, start=start)
    assert status().waiting == 2
    pump(lambda: not jobs.busy())
    from diffspeaker_blender.animation import clips

    assert clips.clips(demo) == ("1", "51", "101")


def test_another_file_in_mid_job_does_no_harm(addon, demo, line, tmp_path):
    """The job is dropped, the new file untouched, the worker still of use."""
    from diffspeaker_blender.jobs import timer

    other = tmp_path / "other.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(other), copy=True)
    jobs = submit(line, steps=300)
    pump(lambda: status().fraction > 0)
    bpy.ops.wm.open_mainfile(filepath=str(other))
    assert not jobs.busy()
    for _ in range(5):
        timer.tick()
    head = bpy.context.scene.diffspeaker.head
    assert head.data.shape_keys.animation_data is None or not status().message
    submit(line)
    pump(lambda: not jobs.busy())
    assert status().message.startswith("Mouth moved")


def test_a_head_that_is_gone_is_told(addon, demo, line):
    """Deleted in mid-job: a sentence, no traceback."""
    jobs = submit(line, steps=3)
    bpy.data.objects.remove(demo)
    pump(lambda: not jobs.busy())
    assert status().level == "ERROR"
    assert "no longer in this file" in status().message


@needs_sound
def test_a_strip_that_moved_meanwhile_is_followed(addon, demo, line):
    """The keys go where the sound is now."""
    from diffspeaker_blender.jobs import plan
    from diffspeaker_blender.jobs import queue as jobs

    scene = bpy.context.scene
    editor = scene.sequence_editor_create()
    strips = editor.strips if hasattr(editor, "strips") else editor.sequences
    strip = strips.new_sound("hello", str(line), 1, 10)
    strip.select = True
    scene.diffspeaker.steps = 3
    jobs.submit(plan.tasks(bpy.context))
    if hasattr(strip, "content_start"):
        strip.content_start += 50
    else:
        strip.frame_start += 50
    pump(lambda: not jobs.busy())
    assert values(demo, range(1, 60)).max() == 0
    assert values(demo, range(60, 84)).max() > 0.8
    assert "in sync" in status().message


def test_no_look_of_the_timer_takes_long(addon, demo, line):
    """From click to keys the main thread is never held 50 ms, but for the writing of the keys."""
    from diffspeaker_blender.jobs import queue as jobs
    from diffspeaker_blender.jobs import timer

    worst, looks = 0.0, []
    submit(line)
    pump(lambda: not jobs.busy())
    submit(line, steps=10)
    while status().fraction < 0.9:
        began = time.perf_counter()
        timer.tick()
        looks.append(time.perf_counter() - began)
        time.sleep(0.005)
    worst = max(looks)
    assert worst < 0.05, f"{worst * 1e3:.0f} ms"
    pump(lambda: not jobs.busy())


def test_the_slow_part_is_left_to_a_thread(addon, demo, line, monkeypatch):
    """Retiming, compacting and thinning never run on the main thread."""
    from diffspeaker_blender.motion import keys

    shape, threads = keys.shape, []

    def watched(*given):
        threads.append(threading.current_thread())
        return shape(*given)

    monkeypatch.setattr(keys, "shape", watched)
    jobs = submit(line)
    pump(lambda: not jobs.busy())
    assert len(threads) == 1
    assert threads[0] is not threading.main_thread()


def test_click_to_keys_costs_little_beside_the_model(addon, demo, line):
    """With a model that takes no time, a warm job is done within a second."""
    jobs = submit(line)
    pump(lambda: not jobs.busy())
    began = time.monotonic()
    submit(line)
    pump(lambda: not jobs.busy())
    assert time.monotonic() - began < 1.0


def test_a_finished_job_leaves_no_files(addon, demo, line):
    """The job's folder and the worker's are empty afterwards."""
    from diffspeaker_blender.settings import machine

    jobs = submit(line)
    pump(lambda: not jobs.busy())
    assert list(machine.work_folder().iterdir()) == []


def test_an_idle_worker_is_let_go(addon, demo, line, monkeypatch):
    """After the minutes of the preferences the memory is free again."""
    from diffspeaker_blender.jobs import timer
    from diffspeaker_blender.settings import machine

    jobs = submit(line)
    pump(lambda: not jobs.busy())
    assert timer.tick() == jobs.IDLE_TICK
    monkeypatch.setattr(machine, "get", lambda: machine.Defaults(keep_warm=0.0))
    timer.tick()
    assert jobs._schedule is None


def test_an_unexpected_error_stops_the_queue_in_words(addon, demo, line, monkeypatch):
    """The timer never raises: it tells, logs and stops."""
    from diffspeaker_blender.jobs import timer

    jobs = submit(line)
    monkeypatch.setattr(jobs._schedule, "step", lambda: 1 / 0)
    assert timer.tick() is None
    assert status().level == "ERROR"
    assert jobs._schedule is None


def test_same_seed_same_keys(addon, demo, line):
    """Generating twice gives the same curves."""
    jobs = submit(line)
    pump(lambda: not jobs.busy())
    first = values(demo, range(1, 25))
    submit(line)
    pump(lambda: not jobs.busy())
    np.testing.assert_array_equal(values(demo, range(1, 25)), first)


@needs_sound
def test_a_file_becomes_a_strip_and_the_scene_lasts_as_long(addon, demo, line):
    """What the panel's File speaks is heard in playback, once; again it is the same line."""
    from diffspeaker_blender.animation import clips
    from diffspeaker_blender.sound.strips import all_strips, place

    scene = bpy.context.scene
    scene.frame_end = 12
    chosen = scene.diffspeaker
    chosen.source, chosen.audio_file, chosen.audio_start = "FILE", str(line), 10.0
    for _again in range(2):
        bpy.ops.diffspeaker.generate()
        found = [strip for strip in all_strips(scene.sequence_editor) if strip.type == "SOUND"]
        assert len(found) == 1 and place(found[0])[0] == 10
        assert len(clips.clips(demo)) == 1
    record = clips.stored_clip(demo, clips.clips(demo)[0])
    assert record.source.kind == "strip" and len(record.takes) >= 1
    assert scene.frame_end >= record.span[1] > 12
