"""Import an official DiffSpeaker checkpoint (.ckpt) as one .safetensors, running nothing in it.

python -m model convert FILE.ckpt OUT.safetensors [--template templates.pkl|HEAD.ply|HEAD.obj]
"""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `convert` takes."""
    parser.add_argument("checkpoint", help="the authors' .ckpt file")
    parser.add_argument("output", help=".safetensors to write")
    parser.add_argument(
        "--template", help="the neutral head: the authors' templates.pkl, or a .ply or .obj"
    )
    parser.add_argument("--subject", help="whose template of templates.pkl; default: the first")


def run(arguments: argparse.Namespace) -> int:
    """Convert one file and say what it holds."""
    from . import official

    print(official.convert_command(arguments))
    return 0
