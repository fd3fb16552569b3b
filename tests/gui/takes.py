# SPDX-License-Identifier: GPL-3.0-or-later
"""What an animator does with a line: edit, drag, generate again, redo, switch, move, undo."""

from __future__ import annotations

import time

import bpy
import drive
from drive import STAGE, addon, inside, shot, status, told, until
from story import click_generate, frame_face, head, settings

START = "content_start" if bpy.app.version >= (5, 1) else "frame_start"


def line():
    (record,) = addon("jobs.lines").records_of(head()).values()
    return record


def curve(name="jawOpen"):
    actions = addon("animation.actions")
    holder = head().data.shape_keys.animation_data
    bag = actions.channels(holder.action, actions.slot_of(holder.action, holder))
    return next(c for c in bag.fcurves if name in c.data_path)


def state():
    """Return what undo has to bring back."""
    record, strip = line(), drive.strips()[0]
    values = [round(curve().evaluate(f), 3) for f in range(1, 90)]
    return {
        "takes": len(record.takes),
        "shown": record.shown,
        "jaw": round(head().diffspeaker.jaw, 2),
        "start": round(record.start_frame),
        "strip": round(getattr(strip, START)),
        "curve": values,
        "edited": list(addon("animation.clips").edited(head(), head().diffspeaker.clip)),
    }


def push(name):
    with inside("VIEW_3D"):
        bpy.ops.ed.undo_push(message=name)


def main():
    drive.install()
    yield 0.5
    yield from drive.lay_out()
    drive.add_strip(STAGE / "line.wav", "line.wav")
    bpy.context.scene.render.fps = 30
    with inside("VIEW_3D", "UI"):
        bpy.ops.diffspeaker.add_demo_head("EXEC_DEFAULT", True)
    frame_face()
    yield 1.0
    steps, told["steps"] = [], []

    def done(name):
        steps.append((name, state()))

    click_generate()
    yield from until(lambda: not addon("jobs.queue").busy(), 200)
    yield 0.3
    done("generate")
    yield from edit_three_keys()
    done("edit")
    yield from drag_a_slider()
    done("drag")
    settings().seed = 3
    click_generate()
    yield from until(lambda: not addon("jobs.queue").busy(), 200)
    yield 0.3
    told["after_again"] = [status().message, status().hint]
    done("again")
    shot("takes_1_again")
    with inside("VIEW_3D", "UI"):
        bpy.ops.diffspeaker.redo_range("EXEC_DEFAULT", True, first=40, last=60)
    yield from until(lambda: not addon("jobs.queue").busy(), 200)
    yield 0.3
    done("redo")
    with inside("VIEW_3D", "UI"):
        bpy.ops.diffspeaker.show_take("EXEC_DEFAULT", True, take=0)
    yield 0.3
    done("switch")
    strip = drive.strips()[0]
    setattr(strip, START, getattr(strip, START) + 20)
    push("Move Strip")
    yield from until(lambda: line().start_frame > 10, 10)
    yield 0.5
    done("move")
    bpy.context.scene.frame_set(45)
    yield 0.5
    shot("takes_2_moved")
    yield from look_at_curves()
    yield from undo_all(steps)


def edit_three_keys():
    edited = curve()
    for frame, value in ((30, 0.5), (34, 0.62), (38, 0.3)):
        edited.keyframe_points.insert(frame, value)
    edited.update()
    push("Edit Keys")
    yield 0.3


def drag_a_slider():
    """Move a control many times a second; note how soon the curve follows."""
    record, worst, begun = curve().evaluate(34), 0.0, time.monotonic()
    for step in range(40):
        wanted = 1.0 - 0.3 * (step + 1) / 40
        head().diffspeaker.jaw = wanted
        yield 0.025
        worst = max(worst, abs(curve().evaluate(34) / record - wanted))
    told["drag_seconds"] = round(time.monotonic() - begun, 2)
    told["drag_behind"] = round(worst, 3)
    yield 0.5
    told["drag_end"] = round(curve().evaluate(34) / record, 3)
    push("Drag Jaw")


def look_at_curves():
    """Show the line in the Graph Editor and the Dope Sheet."""
    block = head().data.shape_keys
    where = drive.area("VIEW_3D")
    for kind, name in (("FCURVES", "takes_3_graph"), ("DOPESHEET", "takes_4_dope")):
        where.ui_type = kind
        yield 0.5
        area_kind = "GRAPH_EDITOR" if kind == "FCURVES" else "DOPESHEET_EDITOR"
        with inside(area_kind):
            if kind == "FCURVES":
                where.spaces.active.dopesheet.show_only_selected = True
                bpy.ops.graph.view_all()
            else:
                bpy.ops.action.view_all()
        yield 1.0
        shot(name)
    told["curves"] = len(block.key_blocks)
    where.ui_type = "VIEW_3D"
    yield 0.5


def undo_all(steps):
    """Undo step by step: each brings back what was there before, curves and controls alike."""
    told["undo"] = []
    for (name, _after), (_, before) in zip(reversed(steps[1:]), reversed(steps[:-1]), strict=True):
        with inside("VIEW_3D"):
            bpy.ops.ed.undo()
        yield 0.8
        now = state()
        wrong = {key: (now[key], before[key]) for key in before if now[key] != before[key]}
        far = max(abs(a - b) for a, b in zip(now["curve"], before["curve"], strict=True))
        wrong.pop("curve", None)
        told["undo"].append([name, wrong, round(far, 3)])
    shot("takes_5_undone")
