"""Import an official DiffSpeaker checkpoint (.ckpt) as one .safetensors, running nothing in it.

python -m model convert FILE.ckpt OUT.safetensors [--template templates.pkl|HEAD.ply|HEAD.obj]
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's arguments."""
    parser.add_argument("checkpoint", type=Path, help="the authors' .ckpt file")
    parser.add_argument("output", type=Path, help="the .safetensors file to write")
    parser.add_argument(
        "--template", type=Path, help="neutral head: templates.pkl, or a .ply, .obj or .npz head"
    )
    parser.add_argument("--subject", help="whose head to take from templates.pkl")
    parser.add_argument(
        "--encoder", choices=("hubert", "wav2vec2"), help="default: after the file's name"
    )
    parser.add_argument("--heads", type=int, default=4, help="attention heads of the denoiser")
    parser.add_argument(
        "--encoder-heads", type=int, help="attention heads of the speech encoder (default: 64 wide)"
    )
    parser.add_argument(
        "--keep-steps",
        action="store_true",
        help="keep 50 denoising steps instead of measuring the fewest that give the same motion",
    )


def run(arguments: argparse.Namespace) -> int:
    """Convert one file and say what it holds."""
    from . import official

    result = official.convert(
        arguments.checkpoint,
        arguments.output,
        template=arguments.template,
        subject=arguments.subject,
        encoder=arguments.encoder,
        heads=arguments.heads,
        encoder_heads=arguments.encoder_heads,
        measure=not arguments.keep_steps,
    )
    spec = result.spec
    print(
        f"{arguments.output}: {spec.vertices} vertices, {spec.fps:g} fps, "
        f"{len(spec.styles)} styles, {spec.layers} layer(s) of {spec.latent}, {spec.steps} steps, "
        f"{'with' if result.template is not None else 'without'} a template, {spec.licence}."
    )
    return 0
