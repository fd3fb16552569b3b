# SPDX-License-Identifier: GPL-3.0-or-later
"""Find the command's module, let it read its arguments, run it.

    python -I …/model/__main__.py COMMAND …

Run like this, the package is loaded from this file's own folder, and nothing of the current folder
or of the environment lands on the module path: a `json.py` or `model/` beside a download is never
imported. `python -m model` works too, in a folder whose files one trusts.

A command's module has `add_arguments(parser)` and `run(arguments) -> int` and is imported only when
it is asked for; its docstring's first line describes it. Exit codes:

    0  done                          3  the input is at fault (one sentence says how)
    1  an unexpected error           4  cancelled
    2  wrong usage                   5  the result could not be written
"""

from __future__ import annotations

import sys

if not __package__:  # run as a file: it becomes the module that `-m model` would have run
    import importlib.util
    import runpy

    folder = __file__.replace("\\", "/").rpartition("/")[0] or "."
    found = importlib.util.spec_from_file_location(
        "model", f"{folder}/__init__.py", submodule_search_locations=[folder]
    )
    assert found is not None and found.loader is not None
    sys.modules["model"] = importlib.util.module_from_spec(found)
    found.loader.exec_module(sys.modules["model"])
    runpy.run_module("model", run_name="__main__", alter_sys=True)
    sys.exit()  # not reached: the command has exited

import argparse
import importlib
import importlib.util

from . import __version__
from .errors import Cancelled, ModelError, OutputError

COMMANDS = {
    "serve": (
        "worker.serve",
        "answer requests on standard input (what the Blender extension starts)",
    ),
    "generate": ("worker.generate_command", "speech and a head in, a motion file out"),
    "face-shapes": (
        "worker.face_shapes_command",
        "find the points of a character's face, or make its named shapes from them",
    ),
    "describe": ("worker.describe", "say which device, models and versions there are"),
    "convert": (
        "conversion.convert",
        "import an official DiffSpeaker checkpoint, running nothing in it",
    ),
    "train": ("training.train", "train a model, or go on training one"),
    "evaluate": ("evaluation.evaluate", "measure motions against recordings"),
    "synthetic": (
        "recipes.corpus.synthetic",
        "make a training set in VOCASET's layout, to try things out",
    ),
    "corpus": ("recipes.corpus.corpus", "build the speech corpus the bundled model learns from"),
    "compare": ("recipes.corpus.compare", "compare lips with measured ones, beside a regression"),
    "bundle": ("recipes.bundle", "ship a trained model: half precision, listed with its hash"),
    "fit": ("recipes.corpus.fit", "fit the gestures of speech to lips measured on video"),
    "head": ("recipes.head.build", "build the demo head"),
    "rigs": ("recipes.head.rigs", "derive the demo head's rig beforehand"),
    "preview": ("preview.preview", "picture or film a motion without Blender"),
}
DONE, UNEXPECTED, USAGE, BAD_INPUT, CANCELLED, NOT_WRITTEN = range(6)


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    if words and words[0] in ("--version", "-V"):
        print(f"DiffSpeaker {__version__}")
        return DONE
    if not words or words[0] in ("-h", "--help"):
        print(_overview())
        return DONE if words else USAGE
    if words[0] not in COMMANDS:
        print(f'There is no command "{words[0]}".\n\n{_overview()}', file=sys.stderr)
        return USAGE
    return _run(words[0], words[1:])


def _run(name: str, words: list[str]) -> int:
    module_name = f"{__package__}.{COMMANDS[name][0]}"
    if importlib.util.find_spec(module_name) is None:
        print(f'The command "{name}" is not part of this installation.', file=sys.stderr)
        return USAGE
    try:
        module = importlib.import_module(module_name)
        parser = argparse.ArgumentParser(f"model {name}", description=module.__doc__)
        parser.formatter_class = argparse.RawDescriptionHelpFormatter
        module.add_arguments(parser)
        return int(module.run(parser.parse_args(words)) or DONE)
    except (Cancelled, KeyboardInterrupt):
        print("Cancelled.", file=sys.stderr)
        return CANCELLED
    except OutputError as error:
        print(error, file=sys.stderr)
        return NOT_WRITTEN
    except ModelError as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    except ModuleNotFoundError as error:
        if (error.name or "").startswith(__package__ or "model"):
            raise
        print(
            f'The command "{name}" needs the Python package "{error.name}": install it first.',
            file=sys.stderr,
        )
        return UNEXPECTED


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(["usage: model COMMAND …", "", *lines, "", "  COMMAND --help  more"])


if __name__ == "__main__":
    sys.exit(main())
