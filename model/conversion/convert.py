# SPDX-License-Identifier: GPL-3.0-or-later
"""Import an official DiffSpeaker checkpoint (.ckpt) as one .safetensors, running nothing in it.

python build.py model convert FILE.ckpt OUT.safetensors [--template templates.pkl|HEAD.ply|HEAD.obj]
"""

from __future__ import annotations

import argparse

from ..network.spec import RESEARCH


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `convert` takes."""
    add = parser.add_argument
    add("checkpoint", help="the authors' .ckpt, or one trained with their program")
    add("output", help=".safetensors to write")
    add("--template", help="neutral head: the authors' templates.pkl, or a .ply, .obj or .npz")
    add("--subject", help="whose head of templates.pkl; default: the first")
    add("--encoder", choices=("hubert", "wav2vec2"), help="default: after the file's name")
    add("--heads", type=int, default=4, help="attention heads; they cannot be read off the file")
    add("--licence", default=RESEARCH, help=f'label shown to users; default: "{RESEARCH}"')
    add("--no-measure", dest="measure", action="store_false", help="keep 50 steps and float32")


def run(arguments: argparse.Namespace) -> int:
    """Convert one file and say what it holds."""
    from .official import convert

    spec = convert(
        arguments.checkpoint,
        arguments.output,
        template=arguments.template,
        subject=arguments.subject,
        encoder=arguments.encoder,
        heads=arguments.heads,
        licence=arguments.licence,
        measure=arguments.measure,
    ).spec
    print(
        f"{arguments.output}: {spec.vertices:,} vertices at {spec.fps:g} fps, "
        f"{len(spec.styles)} styles, {spec.steps} steps; {spec.licence}"
    )
    return 0
