"""`blender --command lipsync …`: one line, or a folder or manifest of them, without a window.

    blender --command lipsync --audio line.wav --head head.blend --export out.glb
    blender --command lipsync --batch lines.csv --out rendered --format glb --jobs 2
    blender --command lipsync --batch folder --out rendered --shard 2/5

The workers stay warm from line to line, a line that fails stops no other, and what is up to date is
skipped. Exit codes: 0 all is well, 1 a line failed, 2 wrong usage, 3 nothing could be started.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import bpy

from ..character import demo_head, head
from ..errors import LipSyncError
from ..export import export
from ..jobs import placing
from ..jobs.plan import Form, Place, Placement
from ..motion import motion
from ..settings import machine
from ..sound import sources
from ..worker import model_files
from ..worker.client import Worker
from ..worker.request import SpeechRequest
from ..worker.schedule import Schedule, State, Task
from . import lines as batch
from .lines import DEMO_HEAD, Line, Report

ALL_WELL, LINE_FAILED, USAGE, NOT_STARTED = range(4)
_MODES = {"named": "named", "compact": "compact", "frames": "every frame"}
_FRAME = 1.0  # where a line begins on the timeline


def main(arguments: Sequence[str]) -> int:
    """Run the command with its arguments and return its exit code."""
    try:
        given = _parser().parse_args(list(arguments))
        lines = _lines(given)
    except SystemExit as stop:
        return int(stop.code or 0)
    except LipSyncError as error:
        print(error, file=sys.stderr)
        return USAGE
    try:
        machine.require_runtime()
        return _Run(given, lines).carry()
    except LipSyncError as error:
        print(error, file=sys.stderr)
        return NOT_STARTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("blender --command lipsync", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--audio", type=Path, help="sound file to speak")
    what.add_argument("--batch", type=Path, help="folder of sound files, or a CSV manifest")
    parser.add_argument("--head", default=DEMO_HEAD, help=".blend with the head, or “demo”")
    parser.add_argument("--object", default="", help="name of the head in its file")
    parser.add_argument("--export", type=Path, help="file to write for --audio; the suffix decides")
    parser.add_argument("--out", type=Path, help="folder to write to for --batch")
    parser.add_argument(
        "--format", default="glb", help="glb, gltf, fbx, usdc, abc, csv, json, blend"
    )
    parser.add_argument("--model", default="", help="model's name or .safetensors file")
    parser.add_argument("--style", default="", help="way of speaking")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keys", default="named", choices=sorted(_MODES), help="form of the keys")
    parser.add_argument("--thin", type=float, default=0.0, metavar="MM", help="0 keeps every key")
    parser.add_argument("--intensity", type=float, default=1.0)
    parser.add_argument("--fps", type=float, default=0.0, help="0 takes the head file's")
    parser.add_argument("--device", default="", help="auto, cpu, cuda or mps")
    parser.add_argument(
        "--with-audio", action="store_true", help="write the sound beside each file"
    )
    parser.add_argument("--jobs", type=int, default=1, help="number of workers")
    parser.add_argument("--shard", default="1/1", help="share of the lines, such as 2/5")
    parser.add_argument("--report", type=Path, help="JSON report; default beside the output")
    parser.add_argument("--force", action="store_true", help="also write what is up to date")
    return parser


def _lines(given: argparse.Namespace) -> list[Line]:
    """Return this machine's lines. Raises LipSyncError when the arguments make no sense."""
    default = Line(Path(), Path(), given.head, given.style, given.model, given.seed)
    suffix = "." + given.format.lower().lstrip(".")
    if given.audio is not None:
        output = given.export or given.audio.with_suffix(suffix)
        return [Line(given.audio, output, given.head, given.style, given.model, given.seed)]
    if given.export is not None:
        raise LipSyncError("--export is for one line.", "Use --out and --format with --batch.")
    if not given.batch.exists():
        raise LipSyncError(f"There is no {given.batch}.", "Name a folder or a CSV file.")
    folder = given.batch if given.batch.is_dir() else given.batch.parent
    read = batch.from_folder if given.batch.is_dir() else batch.from_manifest
    lines = read(given.batch, given.out or folder, suffix, default)
    return batch.shard(lines, given.shard)


def _read(path: Path, _payload: object) -> motion.Motion:
    return motion.load(path)


def _worker(lanes: int) -> Worker:
    """Return a worker that leaves the other lanes their share of the processor."""
    worker = machine.new_worker()
    if lanes > 1:
        worker.environment["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // lanes))
    return worker


class _Run:
    """One run over all lines: what is asked, the workers, the report, and faces already read."""

    def __init__(self, given: argparse.Namespace, lines: list[Line]) -> None:
        self.given, self.lines = given, lines
        self.folder = Path(tempfile.mkdtemp(prefix="batch-", dir=machine.work_folder()))
        lanes = max(1, given.jobs)
        self.schedule = Schedule(lambda: _worker(lanes), _read, lanes)
        self.report = Report(given.report or self._report_path())
        self.faces: dict[str, Path] = {}
        self.options = {name: getattr(given, name) for name in _WRITTEN}
        self.started: dict[int, float] = {}

    def carry(self) -> int:
        """Take every line through, a few ahead of the workers; return the exit code."""
        waiting = list(self.lines)
        try:
            while waiting or self.schedule.busy:
                while waiting and len(self.schedule.tasks) < 2 * self.schedule.most_lanes:
                    self._prepare(waiting.pop(0))
                for task in self.schedule.step():
                    self._finish(task)
                time.sleep(0.01)
        finally:
            self.schedule.stop()
        report = self.report
        told = ", ".join(f"{report.count(name)} {name}" for name in ("done", "skipped", "failed"))
        print(f"{told}; report: {report.path}")
        return LINE_FAILED if report.count("failed") else ALL_WELL

    def _report_path(self) -> Path:
        folder = self.lines[0].output.parent if self.lines else Path()
        if self.given.batch is not None:
            folder = self.given.out or folder
        share = self.given.shard
        part = "" if share == "1/1" else "." + share.replace("/", "of")
        return folder / f"lipsync-report{part}.json"

    def _prepare(self, line: Line) -> None:
        """Skip a line that is up to date, else ask for its motion."""
        try:
            digest = batch.fingerprint(line, self.options)
            if not self.given.force and self.report.up_to_date(line, digest):
                self._tell(line, "skipped", "up to date", fingerprint=digest)
                return
            clip = sources.file_clip(line.audio)
            folder = Path(tempfile.mkdtemp(dir=self.folder))
            request = SpeechRequest(
                **clip.request(folder), **self._fields(line), output=str(folder / "m.npz")
            )
        except (LipSyncError, OSError) as error:
            self._tell(line, "failed", str(error))
            return
        task = self.schedule.add(Task(request.fields(), (line, clip, digest)))
        self.started[id(task)] = time.monotonic()

    def _fields(self, line: Line) -> dict[str, Any]:
        model = model_files.find(line.model or model_files.BUNDLED, machine.models_folder())
        return {
            "checkpoint": model.checkpoint if model else (line.model or model_files.BUNDLED),
            "face": str(self._face(line.head)),
            "style": line.style or None,
            "seed": line.seed,
            "device": self.given.device or machine.get().device,
        }

    def _face(self, name: str) -> Path:
        """Return the face of a head's file, read once for all its lines."""
        if name not in self.faces:
            target = self._open(name)
            self.faces[name] = head.write_face(target, self.folder / f"face{len(self.faces)}.npz")
        return self.faces[name]

    def _open(self, name: str) -> bpy.types.Object:
        """Open a head's file (or an empty one with the demo head) and return the head."""
        if name == DEMO_HEAD:
            bpy.ops.wm.read_homefile(use_empty=True)
            return demo_head.add_demo_head(bpy.context)  # type: ignore[no-any-return]
        path = Path(name)
        if not path.is_file():
            raise LipSyncError(f"There is no head file {path}.", "Check its path.")
        try:
            bpy.ops.wm.open_mainfile(filepath=str(path.resolve()), load_ui=False)
        except RuntimeError as error:
            raise LipSyncError(f"{path.name} cannot be opened: {error}") from error
        wanted = self.given.object
        found = bpy.data.objects.get(wanted) if wanted else head.find_head(bpy.context)
        if found is None:
            raise LipSyncError(f"{path.name} holds no head {wanted}".rstrip() + ".")
        report = head.check_head(found)
        if not report.usable:
            raise LipSyncError(report.reason)
        return found  # type: ignore[no-any-return]

    def _finish(self, task: Task) -> None:
        """Write one line's file, or note why there is none."""
        line, clip, digest = task.payload
        seconds = time.monotonic() - self.started.pop(id(task))
        if task.state is not State.READY:
            self._tell(line, "failed", str(task.error or "cancelled"), seconds=seconds)
            return
        try:
            placed = self._place(line, clip, task.result)
            self._write(line, clip, placed)
        except (LipSyncError, OSError, RuntimeError) as error:
            self._tell(line, "failed", str(error), seconds=seconds)
            return
        self._tell(
            line,
            "done",
            placed.sentence,
            fingerprint=digest,
            seconds=round(seconds, 3),
            millimetres=round(placed.millimetres, 3),
            frames=placed.frames,
            model=task.report,
        )

    def _place(self, line: Line, clip: sources.AudioClip, result: motion.Motion) -> placing.Placed:
        """Put the motion on a fresh head, with the sound in the sequencer."""
        target, scene = self._open(line.head), bpy.context.scene
        if self.given.fps:
            scene.render.fps, scene.render.fps_base = _fps(self.given.fps)
        rate = sources.scene_fps(scene)
        scene.frame_start, scene.frame_end = 1, math.ceil(_FRAME + clip.duration * rate)
        _add_strip(scene, line.audio)  # type: ignore[arg-type]
        form = Form(
            _MODES[self.given.keys], tolerance=self.given.thin, intensity=self.given.intensity
        )
        place = Place(line.audio.stem, _FRAME / rate, clip.duration)
        placement = Placement.of(target, scene, place, form)  # type: ignore[arg-type]
        full, shaped = placing.prepare(result, placement)
        return placing.place(full, shaped, placement)

    def _write(self, line: Line, clip: sources.AudioClip, placed: placing.Placed) -> None:
        line.output.parent.mkdir(parents=True, exist_ok=True)
        if line.output.suffix.lower() == ".blend":
            bpy.ops.wm.save_as_mainfile(filepath=str(line.output.resolve()), compress=True)
            return
        sound = clip if self.given.with_audio else None
        export.export([bpy.data.objects[placed.head]], line.output, with_audio=sound)

    def _tell(self, line: Line, status: str, message: str, **more: object) -> None:
        self.report.note(line, status, message, **more)
        place = f"[{len(self.report.entries)}/{len(self.lines)}]"
        print(f"{place} {line.audio.name} → {line.output.name}: {message}", flush=True)


_WRITTEN = ("object", "keys", "thin", "intensity", "fps", "with_audio")


def _fps(rate: float) -> tuple[int, float]:
    """Return Blender's whole frame rate and base: 29.97 is 30 / 1.001."""
    whole = round(rate)
    return whole, whole / rate


def _add_strip(scene: bpy.types.Scene, path: Path) -> None:
    """Put the sound in the sequencer; a Blender built without sound goes without it."""
    editor = scene.sequence_editor_create()
    strips = editor.strips if hasattr(editor, "strips") else editor.sequences  # type: ignore[attr-defined]
    try:
        strips.new_sound(path.stem, str(path.resolve()), 1, int(_FRAME))
    except RuntimeError as error:
        print(f"The sound is not in the sequencer: {error}", file=sys.stderr)


_commands: list[object] = []


def register() -> None:
    """Make `blender --command lipsync` known."""
    _commands.append(bpy.utils.register_cli_command("lipsync", main))


def unregister() -> None:
    """Forget it again."""
    while _commands:
        bpy.utils.unregister_cli_command(_commands.pop())
