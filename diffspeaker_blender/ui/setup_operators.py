# SPDX-License-Identifier: GPL-3.0-or-later
"""Set up and check: the runtime, model files, the cache, and one second of speech as proof."""

# mypy: disable-error-code="valid-type,no-any-return"
from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bpy
from bpy.props import StringProperty
from bpy_extras.io_utils import ImportHelper

from ..errors import LipSyncError, SetupError
from ..jobs import background, queue, status
from ..jobs.status import refuse
from ..paths import ADDON, absolute
from ..settings import machine
from ..worker import model_files, runtime
from ..worker.client import package_root, worker_command
from ..worker.process import carry
from ..worker.request import SpeechRequest
from ..worker.schedule import Task
from . import report


class DIFFSPEAKER_OT_install_runtime(bpy.types.Operator):
    """Make a Python with PyTorch once; needs a network, or a folder of wheels"""

    bl_idname = "diffspeaker.install_runtime"
    bl_label = "Install PyTorch"

    def execute(self, _context: bpy.types.Context) -> set[str]:
        chosen = machine.get()
        wheels = None
        if chosen.source == "WHEELS":
            wheels = absolute(bpy.path.abspath(chosen.wheels)) if chosen.wheels else None
        try:
            if chosen.source == "WHEELS" and wheels is None:
                raise SetupError("No folder of wheels is chosen.", "Choose it in the preferences.")
            queue.forget_worker()
            background.start("Installing PyTorch", _install(wheels))
        except LipSyncError as error:
            return refuse(self, error)
        return {"FINISHED"}


def _install(wheels: Path | None) -> background.Work:
    """Return the work; where, and whether the network may be used, is decided now."""
    folder, online = machine.runtime_folder(), bpy.app.online_access

    def work(told: background.Report, cancelled: Callable[[], bool]) -> str:
        found = runtime.install(
            folder, wheels=wheels, online=online, progress=told, cancelled=cancelled
        )
        return f"PyTorch is installed. {found}"

    return work


class DIFFSPEAKER_OT_remove_runtime(bpy.types.Operator):
    """Remove the Python with PyTorch and free its disk space; it can be installed again"""

    bl_idname = "diffspeaker.remove_runtime"
    bl_label = "Remove"

    def execute(self, _context: bpy.types.Context) -> set[str]:
        queue.forget_worker()
        try:
            runtime.remove(machine.runtime_folder())
        except LipSyncError as error:
            return refuse(self, error)
        status.say("PyTorch was removed")
        return {"FINISHED"}


class DIFFSPEAKER_OT_stop_chore(bpy.types.Operator):
    """Stop; what is already there is kept, so that it can go on later"""

    bl_idname = "diffspeaker.stop_chore"
    bl_label = "Stop"

    def execute(self, _context: bpy.types.Context) -> set[str]:
        background.stop()
        return {"FINISHED"}


class DIFFSPEAKER_OT_open_preferences(bpy.types.Operator):
    """Show runtime, device, model files and cache in the preferences"""

    bl_idname = "diffspeaker.open_preferences"
    bl_label = "Open Preferences"

    def execute(self, _context: bpy.types.Context) -> set[str]:
        bpy.ops.preferences.addon_show(module=ADDON)
        return {"FINISHED"}


class DIFFSPEAKER_OT_import_checkpoint(bpy.types.Operator, ImportHelper):  # type: ignore[misc]
    """Add a model: an official DiffSpeaker .ckpt, read without running code in it, or our own"""

    bl_idname = "diffspeaker.import_checkpoint"
    bl_label = "Import Model"

    filter_glob: StringProperty(default="*.ckpt;*.safetensors", options={"HIDDEN"})
    template: StringProperty(
        name="Template",
        description="The dataset's templates.pkl, or any FLAME head; the authors' file has none",
        subtype="FILE_PATH",
        options={"SKIP_SAVE", *machine.PATH},
    )

    def execute(self, _context: bpy.types.Context) -> set[str]:
        path = absolute(bpy.path.abspath(self.filepath))  # type: ignore[attr-defined]
        template = absolute(bpy.path.abspath(self.template)) if self.template else None
        try:
            folder = machine.made(machine.models_folder())
            target = folder / path.with_suffix(".safetensors").name
            if not path.is_file():
                raise SetupError(f"There is no file {path}.", "Choose a model file.")
            own = path.suffix == ".safetensors"
            python = None if own else machine.require_torch()
            background.start(f"Importing {path.name}", _import(python, path, target, template))
        except LipSyncError as error:
            return refuse(self, error)
        return {"FINISHED"}


def _import(
    python: Path | None, path: Path, target: Path, template: Path | None
) -> background.Work:
    """Return the work of copying a file of ours, or of converting an official one."""

    def work(told: background.Report, cancelled: Callable[[], bool]) -> str:
        if python is None:
            told("copying", 0.5, None)
            model_files.read(path)
            target.write_bytes(path.read_bytes())
        else:
            options = ["--template", str(template)] if template else []
            told("reading", 0.3, None)
            command = worker_command(
                python, package_root(), "convert", str(path), str(target), *options
            )
            answer = carry(command, cancelled)
            if answer.code:
                raise SetupError(answer.last_words)
        model = model_files.read(target)
        return f"{model.name} was imported ({model.licence})"

    def checked(told: background.Report, cancelled: Callable[[], bool]) -> str:
        try:
            return work(told, cancelled)
        except ValueError as error:
            raise SetupError(
                f"{error}.", "Choose an official .ckpt or a converted file."
            ) from error

    return checked


class DIFFSPEAKER_OT_remove_model(bpy.types.Operator):
    """Delete this model file; the bundled one stays"""

    bl_idname = "diffspeaker.remove_model"
    bl_label = "Remove Model File"

    model: StringProperty(name="Model", options={"SKIP_SAVE"})

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        return context.window_manager.invoke_confirm(self, event)  # type: ignore[return-value]

    def execute(self, _context: bpy.types.Context) -> set[str]:
        ours = model_files.models(machine.models_folder())
        found = next((one for one in ours if one.id == self.model), None)
        if found is None or found.id == model_files.BUNDLED:
            return refuse(self, SetupError(f"There is no model “{self.model}” to remove."))
        queue.forget_worker()
        found.path.unlink(missing_ok=True)
        return {"FINISHED"}


class DIFFSPEAKER_OT_clear_cache(bpy.types.Operator):
    """Delete our own files in the cache folder; other files and saved files' caches stay"""

    bl_idname = "diffspeaker.clear_cache"
    bl_label = "Clear"

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        files = list(machine.cache_files())
        if not files:
            self.report({"INFO"}, "There is nothing to clear")
            return {"CANCELLED"}
        size = sum(size for _path, size in files) / 1e6
        message = (
            f"Delete {len(files)} files ({size:.1f} MB) in {machine.cache_folder()}? Point caches "
            "of files that were never saved are among them."
        )
        return context.window_manager.invoke_confirm(  # type: ignore[return-value]
            self, event, title="Clear the Cache", message=message, confirm_text="Delete"
        )

    def execute(self, _context: bpy.types.Context) -> set[str]:
        count, size = machine.clear_cache()
        self.report({"INFO"}, f"{count} files were deleted, {size:.1f} MB are free again")
        return {"FINISHED"}


class DIFFSPEAKER_OT_check_setup(bpy.types.Operator):
    """Start the model, let it speak one second, and say what works and how fast"""

    bl_idname = "diffspeaker.check_setup"
    bl_label = "Check My Setup"

    def invoke(self, _context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        try:
            queue.submit(self._tasks(status.say))
        except LipSyncError as error:
            _tell(report.of_trouble(error))
            return refuse(self, error)
        return {"FINISHED"}

    def execute(self, _context: bpy.types.Context) -> set[str]:
        try:
            queue.run(self._tasks(print))
        except LipSyncError as error:
            _tell(report.of_trouble(error))
            return refuse(self, error)
        return {"FINISHED"}

    def _tasks(self, say: Callable[[str], None]) -> list[Task]:
        """Return what is asked: a description, then one second of speech on the demo head."""
        machine.require_runtime()
        folder = Path(tempfile.mkdtemp(prefix="check-", dir=machine.work_folder()))
        payload = SimpleNamespace(clip="Set-up check", folder=folder)
        request = SpeechRequest(
            str(package_root() / "model" / "samples" / "vivian.flac"),
            face="demo",
            output=str(folder / "motion.npz"),
            span=(1.5, 1.0),
            device=machine.get().device,
        )
        found = report.Findings(began=time.monotonic())

        def described(task: Task) -> None:
            found.description, found.error = task.report, task.error

        def spoken(task: Task) -> None:
            found.speech, found.error = task.report, found.error or task.error
            found.seconds = time.monotonic() - found.began
            _tell(report.of_findings(found))
            say(report.verdict(found))

        describe = Task(None, SimpleNamespace(clip=payload.clip, folder=None), on_end=described)
        return [describe, Task(request.fields(), payload, on_end=spoken)]


def _tell(text: str) -> None:
    machine.set_report(text)


class DIFFSPEAKER_OT_copy_report(bpy.types.Operator):
    """Copy versions, device and the last check for a bug report; no file names of yours"""

    bl_idname = "diffspeaker.copy_report"
    bl_label = "Copy Report"

    def execute(self, context: bpy.types.Context) -> set[str]:
        text: Any = report.of_blender() + "\n" + machine.get().report
        context.window_manager.clipboard = text
        self.report({"INFO"}, "The report is on the clipboard")
        return {"FINISHED"}


_CLASSES = (
    DIFFSPEAKER_OT_install_runtime,
    DIFFSPEAKER_OT_remove_runtime,
    DIFFSPEAKER_OT_stop_chore,
    DIFFSPEAKER_OT_open_preferences,
    DIFFSPEAKER_OT_import_checkpoint,
    DIFFSPEAKER_OT_remove_model,
    DIFFSPEAKER_OT_clear_cache,
    DIFFSPEAKER_OT_check_setup,
    DIFFSPEAKER_OT_copy_report,
)

register, unregister = bpy.utils.register_classes_factory(_CLASSES)
