# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person does with the add-on, from installing it to quitting; run inside the window."""

from __future__ import annotations

import time

import bpy
import drive
from drive import STAGE, addon, inside, press, shot, status, told, until


def head():
    return bpy.context.scene.diffspeaker.head


def settings():
    return bpy.context.scene.diffspeaker


def click_generate():
    """Press the button as the sequencer's panel does."""
    with inside("SEQUENCE_EDITOR", "UI"):
        return bpy.ops.diffspeaker.generate("INVOKE_DEFAULT")


def jaw():
    """Return how far the jaw's keys open at most (closures keep their strength on purpose)."""
    keys = head().data.shape_keys
    if keys is None:
        return 0.0
    most = 0.0
    for frame in range(1, 60, 2):
        bpy.context.scene.frame_set(frame)
        most = max(most, keys.key_blocks["jawOpen"].value)
    bpy.context.scene.frame_set(1)
    return most


def frame_face():
    """Look at the face through the scene's camera, in its painted colours."""
    space = drive.area("VIEW_3D").spaces.active
    space.shading.color_type = "VERTEX"
    space.region_3d.view_perspective = "CAMERA"


def main():
    drive.install()
    yield 0.5
    yield from drive.lay_out()
    shot("1_empty")
    drive.add_strip(STAGE / "line.wav", "line.wav")
    with inside("VIEW_3D", "UI"):
        bpy.ops.diffspeaker.add_demo_head("EXEC_DEFAULT", True)
    frame_face()
    yield 1.0
    shot("2_ready")
    yield from cancel_one()
    yield from finish_one()
    yield from undo_and_redo()
    yield from undo_in_mid_job()
    yield from turn_live_controls()
    yield from load_another_file()
    yield from save_and_open_again()
    yield from on_and_off()


def cancel_one():
    """Start a job and press Esc: it is gone within a second and nothing has changed."""
    settings().steps = 400
    click_generate()
    yield from until(lambda: status().fraction > 0.02, 90)
    shot("3_progress")
    began = time.monotonic()
    press("ESC")
    yield from until(lambda: not addon("jobs.queue").busy(), 5)
    told["esc_seconds"] = round(time.monotonic() - began, 2)
    told["after_cancel"] = status().message
    yield 0.3
    shot("4_cancelled")
    settings().steps = 0


def finish_one():
    """Generate a line twice, cold and warm; measure the second."""
    click_generate()
    yield from until(lambda: not addon("jobs.queue").busy(), 200)
    with drive.Stalls() as stalls:
        began, work = time.monotonic(), time.thread_time()
        click_generate()
        told["click_work_ms"] = round((time.thread_time() - work) * 1e3, 1)
        told["click_ms"] = round((time.monotonic() - began) * 1e3, 1)
        yield from until(lambda: not addon("jobs.queue").busy(), 200)
        told["warm_seconds"] = round(time.monotonic() - began, 2)
    told["stalls"] = stalls.told()
    told["message"] = status().message
    told["level"] = status().level
    told["jaw"] = round(jaw(), 3)
    best, value = 1, 0.0
    for frame in range(1, 60):
        bpy.context.scene.frame_set(frame)
        keys = head().data.shape_keys.key_blocks
        opening = max((abs(k.value) for k in keys if k.name.startswith("jawOpen")), default=0.0)
        best, value = (frame, opening) if opening > value else (best, value)
    bpy.context.scene.frame_set(best)
    yield 0.5
    shot("5_finished")


def undo_and_redo():
    """One undo step takes the whole result back; redo brings it again."""
    with inside("VIEW_3D"):
        bpy.ops.ed.undo()  # the second of the two results
        bpy.ops.ed.undo()
    yield 0.4
    told["jaw_after_undo"] = round(jaw(), 3)
    shot("6_undone")
    with inside("VIEW_3D"):
        bpy.ops.ed.redo()
        bpy.ops.ed.redo()
    yield 0.4
    told["jaw_after_redo"] = round(jaw(), 3)


def undo_in_mid_job():
    """Undo while the model works: the job goes on and its result arrives."""
    click_generate()
    yield from until(lambda: status().fraction > 0 or not addon("jobs.queue").busy(), 90)
    with inside("VIEW_3D"):
        bpy.ops.ed.undo()
    yield from until(lambda: not addon("jobs.queue").busy(), 200)
    told["message_after_undo_in_mid_job"] = status().message
    told["jaw_after_undo_in_mid_job"] = round(jaw(), 3)


def turn_live_controls():
    """A slider changes the curves without the model."""
    for kind in ("VIEW_3D", "SEQUENCE_EDITOR"):
        side = next(r for r in drive.area(kind).regions if r.type == "UI")
        side.tag_redraw()
    before = jaw()
    head().diffspeaker.intensity = 0.5
    yield from until(lambda: not addon("jobs.live").waiting(), 20)
    told["intensity_half"] = round(jaw() / before, 2) if before else None
    head().diffspeaker.intensity = 1.0
    yield from until(lambda: not addon("jobs.live").waiting(), 20)


def load_another_file():
    """Another file in mid-job: the job is dropped, the new file untouched."""
    scene_path = STAGE / "scene.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(scene_path))
    settings().steps = 400
    click_generate()
    yield from until(lambda: status().fraction > 0.02, 90)
    bpy.ops.wm.read_homefile(app_template="", use_empty=True, load_ui=False)
    yield 1.0
    told["busy_after_load"] = addon("jobs.queue").busy()
    told["message_after_load"] = status().message
    told["objects_after_load"] = len(bpy.data.objects)


def save_and_open_again():
    """The saved result is there again, with its live controls."""
    bpy.ops.wm.open_mainfile(filepath=str(STAGE / "scene.blend"), load_ui=True)
    yield 1.5
    told["jaw_reopened"] = round(jaw(), 3)
    told["clip_reopened"] = head().diffspeaker.clip
    shot("7_reopened")


def on_and_off():
    """Ten times off and on, in a window with everything drawn."""
    import addon_utils

    for _ in range(10):
        addon_utils.disable(drive.PACKAGE)
        yield 0.02
        addon_utils.enable(drive.PACKAGE)
        yield 0.02
    told["timer_left"] = bpy.app.timers.is_registered(addon("jobs.timer").tick)
    yield 0.3
    shot("8_after_ten_times")
