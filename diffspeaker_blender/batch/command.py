# SPDX-License-Identifier: GPL-3.0-or-later
"""`blender --command lipsync …`: one line, or a folder or manifest of them, without a window.

    blender --command lipsync --audio line.wav --head head.blend --export out.glb
    blender --command lipsync --batch lines.csv --out rendered --format glb --jobs 2
    blender --command lipsync --batch folder --out rendered --shard 2/5

The workers stay warm from line to line, a line that fails stops no other, and what is up to date is
skipped. Exit codes: 0 all is well, 1 a line failed, 2 wrong usage, 3 nothing could be started.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import math
import os
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import bpy

from ..character import demo_head, detect, fit, head
from ..errors import LipSyncError
from ..export import export
from ..jobs import placing, plan
from ..jobs.plan import Form, Place, Placement
from ..motion import motion
from ..paths import ADDON, absolute
from ..settings import machine
from ..sound import sources, strips
from ..worker import model_files
from ..worker.client import Worker
from ..worker.request import SpeechRequest
from ..worker.schedule import Schedule, State, Task
from . import lines as batch
from .lines import DEMO_HEAD, Line
from .report import STATES, Report

log = logging.getLogger(ADDON)

ALL_WELL, LINE_FAILED, USAGE, NOT_STARTED = range(4)
_MODES = {"named": "named", "exact": "exact", "compact": "compact", "frames": "every frame"}
_FRAME = 1.0  # where a line begins on the timeline


def main(arguments: Sequence[str]) -> int:
    """Run the command with its arguments and return its exit code."""
    try:
        given = _parser().parse_args(list(arguments))
        lines = _lines(given)
    except SystemExit as stop:
        return int(stop.code or 0)
    except LipSyncError as error:
        _say(str(error), sys.stderr)
        return USAGE
    try:
        machine.require_runtime()
        return _Run(given, lines, _report_path(given, lines)).carry()
    except LipSyncError as error:
        _say(str(error), sys.stderr)
        return NOT_STARTED
    except OSError as error:
        folder = error.filename or tempfile.gettempdir()
        _say(f"Nothing can be written to {folder} ({error.strerror or error}).", sys.stderr)
        return NOT_STARTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("blender --command lipsync", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--audio", type=absolute, help="sound file to speak")
    what.add_argument("--batch", type=absolute, help="folder of sound files, or a CSV manifest")
    parser.add_argument("--head", default=DEMO_HEAD, help=".blend with the head, or “demo”")
    parser.add_argument(
        "--object",
        "--character",
        default="",
        help="who speaks in that file: name of a mesh, an armature or a collection",
    )
    parser.add_argument(
        "--export", type=absolute, help="file to write for --audio; the suffix decides"
    )
    parser.add_argument("--out", type=absolute, help="folder to write to for --batch")
    parser.add_argument(
        "--format", default="glb", help="glb, gltf, fbx, usdc, abc, csv, json, blend"
    )
    parser.add_argument("--model", default="", help="model's name or .safetensors file")
    parser.add_argument("--style", default="", help="way of speaking")
    parser.add_argument("--seed", type=_number(int, 0, batch.LARGEST_SEED), default=0)
    parser.add_argument("--keys", default="named", choices=sorted(_MODES), help="form of the keys")
    parser.add_argument(
        "--thin", type=_number(float, 0, 100), default=0.0, metavar="MM", help="0 keys every frame"
    )
    parser.add_argument("--intensity", type=_number(float, 0, 3), default=1.0)
    parser.add_argument(
        "--fps", type=_frame_rate, default=0.0, help="1 to 1000; 0 takes the head file's"
    )
    parser.add_argument("--arkit", action="store_true", help="export ARKit's 52 shapes alone")
    parser.add_argument("--device", default="", help="auto, cpu, cuda or mps")
    parser.add_argument(
        "--with-audio", action="store_true", help="write the sound beside each file"
    )
    parser.add_argument("--jobs", type=_number(int, 1, 64), default=1, help="number of workers")
    parser.add_argument("--shard", default="1/1", help="share of the lines, such as 2/5")
    parser.add_argument("--report", type=absolute, help="JSON report; default beside the output")
    parser.add_argument("--force", action="store_true", help="also write what is up to date")
    return parser


def _number(kind: Callable[[str], float], least: float, most: float) -> Callable[[str], float]:
    """Return what argparse reads a number with: finite, and between two bounds."""

    def read(text: str) -> float:
        try:
            value = kind(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"“{text[:40]}” is no number") from error
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text[:40]} is not between {least} and {most}")
        return value

    return read


def _frame_rate(text: str) -> float:
    """Return frames a second; 0 for the head file's own."""
    value = _number(float, 0, 1000)(text)
    if 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than one frame a second")
    return value


def _lines(given: argparse.Namespace) -> list[Line]:
    """Return this machine's lines. Raises LipSyncError for what cannot come out well."""
    if given.head not in ("", DEMO_HEAD):
        given.head = str(absolute(given.head))
    if given.model.lower().endswith(".safetensors"):
        given.model = str(absolute(given.model))
    default = Line(
        Path(), Path(), given.head or DEMO_HEAD, given.style, given.model, given.seed, given.object
    )
    suffix = "." + given.format.lower().lstrip(".")
    if suffix != ".blend":
        export.kind_of(Path(given.format), suffix[1:] or "nothing")
    if given.audio is not None:
        output = given.export or given.audio.with_suffix(suffix)
        lines = [replace(default, audio=given.audio, output=output)]
    else:
        lines = _batch_lines(given, suffix, default)
    for line in lines:
        if line.output.suffix.lower() != ".blend":
            _require_format(line)
    others = {"the report": _report_path(given, lines)}
    if given.batch is not None:
        others["the list of lines"] = given.batch
        if _report_path(given, lines) == given.batch:
            raise LipSyncError("The report would overwrite the list of lines.", "Rename one.")
    batch.refuse_clashes(lines, others)
    return batch.shard(lines, given.shard)


def _batch_lines(given: argparse.Namespace, suffix: str, default: Line) -> list[Line]:
    """Return every line of a folder or a manifest. Raises LipSyncError."""
    if given.export is not None:
        raise LipSyncError("--export is for one line.", "Use --out and --format with --batch.")
    if not os.path.lexists(given.batch):
        raise LipSyncError(f"There is no {given.batch}.", "Name a folder or a CSV file.")
    folder = given.batch if given.batch.is_dir() else given.batch.parent
    read = batch.from_folder if given.batch.is_dir() else batch.from_manifest
    return read(given.batch, given.out or folder, suffix, default)


def _require_format(line: Line) -> None:
    """Refuse a file that could not be written after all the work. Raises LipSyncError."""
    try:
        export.kind_of(line.output)
    except LipSyncError as error:
        if line.row:
            raise LipSyncError(f"Line {line.row}: {error.message}", error.hint) from error
        raise


def _report_path(given: argparse.Namespace, lines: list[Line]) -> Path:
    """Return where the report goes: beside the written files, one for each share."""
    if given.report is not None:
        return Path(given.report)
    folder = lines[0].output.parent if lines else Path()
    if given.batch is not None:
        folder = given.out or (given.batch if given.batch.is_dir() else given.batch.parent)
    share = given.shard
    part = "" if share == "1/1" else "." + share.replace("/", "of")
    return Path(folder) / f"lipsync-report{part}.json"


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

    def __init__(self, given: argparse.Namespace, lines: list[Line], report: Path) -> None:
        self.given, self.lines = given, lines
        self.folder = Path(tempfile.mkdtemp(prefix="batch-", dir=machine.work_folder()))
        lanes = max(1, given.jobs)
        self.schedule = Schedule(lambda: _worker(lanes), _read, lanes)
        self.report = Report(report)
        self.faces: dict[tuple[str, str, str], tuple[Path, bool]] = {}
        self.measured: dict[tuple[str, str], tuple[str, dict[str, str]]] = {}
        self.options = {name: getattr(given, name) for name in _WRITTEN}
        self.options["version"] = _version()
        self.started: dict[int, float] = {}

    def carry(self) -> int:
        """Take every line through, a few ahead of the workers; return the exit code."""
        waiting = deque(self.lines)
        try:
            while waiting or self.schedule.busy:
                while waiting and len(self.schedule.tasks) < 2 * self.schedule.most_lanes:
                    self._prepare(waiting.popleft())
                for task in self.schedule.step():
                    self._finish(task)
                time.sleep(0.01)
        finally:
            self.schedule.stop()
            self.report.write()
        report = self.report
        told = ", ".join(f"{report.count(name)} {name}" for name in STATES)
        _say(f"{told}; report: {report.path}")
        if report.trouble:
            _say(f"The report could not be written: {report.trouble}.", sys.stderr)
        return LINE_FAILED if report.count("failed") or report.trouble else ALL_WELL

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
        except Exception as error:  # whatever is wrong with a line stops no other
            self._fail(line, error)
            return
        task = self.schedule.add(Task(request.fields(), (line, clip, digest)))
        self.started[id(task)] = time.monotonic()

    def _fields(self, line: Line) -> dict[str, Any]:
        model = _model_of(line)
        face, foreign = self._face(line)
        return {
            "checkpoint": model.checkpoint if model else (line.model or model_files.BUNDLED),
            "face": str(face),
            "controls": foreign,
            "style": line.style or None,
            "seed": line.seed,
            "device": self.given.device or machine.get().device,
        }

    def _face(self, line: Line) -> tuple[Path, bool]:
        """Return the face to speak with, read once for all its lines, and whether it is another's.

        A mapped character plays controls: of a vertex model, these are read on a FLAME head.
        """
        who = (line.head, line.character, line.model)
        if who not in self.faces:
            target, model = self._open(line), _model_of(line)
            plan.check(target, model)
            mapped = detect.is_mapped(target)
            foreign = mapped and plan.need_of(model) != "any"
            if mapped and not foreign:
                self.faces[who] = Path("demo"), False
            else:
                shown = plan.head_of_model(model) if foreign else target
                file = self.folder / f"face{len(self.faces)}.npz"
                self.faces[who] = head.write_face(shown, file), foreign
        return self.faces[who]

    def _open(self, line: Line) -> bpy.types.Object:
        """Open a head's file (or an empty one with the demo head) and return who speaks in it."""
        if line.head == DEMO_HEAD:
            bpy.ops.wm.read_homefile(use_empty=True)
            return demo_head.add_demo_head(bpy.context)  # type: ignore[no-any-return]
        path = Path(line.head)
        if not path.is_file():
            raise LipSyncError(f"There is no head file {path}.", "Check its path.")
        try:
            bpy.ops.wm.open_mainfile(filepath=str(path), load_ui=False)
        except RuntimeError as error:
            raise LipSyncError(f"{path.name} cannot be opened: {error}") from error
        wanted = line.character
        found = None if wanted else plan.chosen_head(bpy.context)
        found = found or fit.find(bpy.context, wanted)
        if found is None:
            raise LipSyncError(f"{path.name} holds no head {wanted}".rstrip() + ".")
        plain = head.looks_like_head(found) or plan.is_own(found, _model_of(line))
        if plain and detect.speaker_of(found) is None:
            return found  # type: ignore[no-any-return]
        return self._fitted(line, found)

    def _fitted(self, line: Line, found: bpy.types.Object) -> bpy.types.Object:
        """Return the face of a character, measured once for all its lines. Raises LipSyncError."""
        face = detect.speaker_of(found)
        name, known = self.measured.get((line.head, line.character), ("", {}))
        if face is None and name in bpy.data.objects:
            face = bpy.data.objects[name]
            notes = detect.notes(face, make=True)
            for entry, value in known.items():
                notes[entry] = value
        elif face is None:
            face = fit.ensure(found)
            notes = detect.notes(face)
            texts = {n: v for n, v in notes.items() if n.startswith("diffspeaker.")}
            texts = {n: v for n, v in texts.items() if isinstance(v, str)}  # pointers die
            self.measured[line.head, line.character] = face.name, texts
        return face  # type: ignore[no-any-return]

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
        except Exception as error:  # whatever is wrong with a line stops no other
            self._fail(line, error, seconds=seconds)
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
        target, scene = self._open(line), bpy.context.scene
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
            bpy.ops.wm.save_as_mainfile(filepath=str(line.output), compress=True)
            return
        sound = clip if self.given.with_audio else None
        export.export(
            [bpy.data.objects[placed.head]],
            line.output,
            with_audio=sound,
            arkit=self.given.arkit,
        )

    def _fail(self, line: Line, error: Exception, **more: object) -> None:
        """Note why a line failed; what nobody foresaw goes to the log as well."""
        if not isinstance(error, LipSyncError | OSError | RuntimeError):
            log.error("%s", line.named, exc_info=error)
        self._tell(line, "failed", str(error) or type(error).__name__, **more)

    def _tell(self, line: Line, status: str, message: str, **more: object) -> None:
        self.report.note(line, status, message, **more)
        place = f"[{len(self.report.entries)}/{len(self.lines)}]"
        _say(f"{place} {line.audio.name} → {line.output.name}: {message}")


def _say(text: str, stream: Any = None) -> None:
    """Print a line, also one with names that the console's encoding lacks."""
    stream = stream or sys.stdout
    encoding = getattr(stream, "encoding", None) or "utf-8"
    with contextlib.suppress(OSError, ValueError):  # the reader of the pipe has gone
        print(text.encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)


_WRITTEN = ("keys", "thin", "intensity", "fps", "with_audio", "arkit")


def _model_of(line: Line) -> model_files.ModelFile | None:
    """Return the model that a line asks for, None where it is unknown."""
    return model_files.find(line.model or model_files.BUNDLED, machine.models_folder())


def _version() -> str:
    """Return what changes when an update may speak otherwise: the bundled weights' digest."""
    about = model_files.bundled_path()
    return batch.content_of(about).hex() if about.is_file() else ""


def _fps(rate: float) -> tuple[int, float]:
    """Return Blender's whole frame rate and base: 29.97 is 30 / 1.001."""
    whole = round(rate)
    return whole, whole / rate


def _add_strip(scene: bpy.types.Scene, path: Path) -> None:
    """Put the sound in the sequencer; a Blender built without sound goes without it."""
    try:
        strips.add_sound(scene, path, int(_FRAME))
    except LipSyncError as error:
        _say(str(error), sys.stderr)


_commands: list[object] = []


def register() -> None:
    """Make `blender --command lipsync` known."""
    _commands.append(bpy.utils.register_cli_command("lipsync", main))


def unregister() -> None:
    """Forget it again."""
    while _commands:
        bpy.utils.unregister_cli_command(_commands.pop())
