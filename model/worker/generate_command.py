# SPDX-License-Identifier: GPL-3.0-or-later
"""Turn a recording and a head into a motion file, without Blender.

    python build.py model generate SPEECH.wav OUT.npz [--face HEAD.ply] [--style NAME]

OUT.npz holds weights (F, K), shapes (K, V, 3), names, fps, template (V, 3) and a JSON report; with
--dense also offsets (F, V, 3). Frame i is i / fps seconds after the start.
"""

from __future__ import annotations

import argparse
import json
import sys

from ..errors import RequestError
from ..generation.request import GenerateRequest, Style


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `generate` takes."""
    add = parser.add_argument
    add("audio", help="recording: WAV, FLAC, OGG, MP3, AIFF, …")
    add("output", help="motion file to write (.npz)")
    add("--checkpoint", default="bundled", metavar="FILE", help=".safetensors; default: bundled")
    add("--face", metavar="HEAD", help=".ply, .obj or .npz head, or demo")
    add("--style", help='name, number, or a mix such as "neutral=0.7,mumbled=0.3"')
    add("--start", type=float, help="second of the recording to start at")
    add("--duration", type=float, help="seconds to use")
    add("--steps", type=int, help="denoising steps; default: the model's own")
    add("--sampler", choices=("published", "corrected"), help="default: the model's own")
    add("--guidance", type=float, help="guidance against silent speech; default: the model's own")
    add("--intensity", type=float, default=1.0, help="factor on the motion")
    add("--expression", type=float, default=1.0, help="0..1, how much blinks, brows, gaze move")
    add("--seed", type=int, default=0)
    add("--fps", type=float, help="frames a second; default: the model's own")
    add("--tolerance", type=float, default=0.05, metavar="MM", help="largest vertex error")
    add("--no-detail", dest="detail", action="store_false", help="named shapes only")
    add("--gate", action=argparse.BooleanOptionalAction, help="silence noise in pauses")
    add("--dense", action="store_true", help="also write every frame's offsets")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1 or mps")
    add("--report", action="store_true", help="print the whole report as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Generate one motion, with progress on standard error."""
    request = _request(arguments)
    from ..generation.generate import generate
    from ..generation.session import Session

    shown = sys.stderr.isatty()

    def show(stage: str, fraction: float, left: float | None) -> None:
        rest = "" if left is None else f", {left:.0f} s left"
        print(f"\r{fraction:4.0%}  {stage}{rest}\x1b[K", end="", file=sys.stderr, flush=True)

    quiet = lambda stage, fraction, left: None  # noqa: E731
    try:
        motion = generate(request, session=Session(), progress=show if shown else quiet)
    finally:
        if shown:
            print("\r\x1b[K", end="", file=sys.stderr)
    for warning in motion.report["warnings"]:
        print(f"Note: {warning}", file=sys.stderr)
    if arguments.report:
        print(json.dumps(motion.report, indent=1))
    else:
        facts = motion.report
        print(
            f"{request.output}: {motion.frames} frames at {motion.fps:g} fps, "
            f"{len(motion.names)} shapes, {facts['seconds']['total']:.1f} s on "
            f"{facts['device_name']}; {facts['model']}, {facts['licence']}"
        )
    return 0


def _request(arguments: argparse.Namespace) -> GenerateRequest:
    given = vars(arguments).copy()
    given.pop("report")
    start, duration = given.pop("start"), given.pop("duration")
    if start is not None or duration is not None:
        given["span"] = (start or 0.0, duration or _rest(given["audio"], start or 0.0))
    given["style"] = parse_style(given["style"])
    return GenerateRequest.from_message(given)


def _rest(path: str, start: float) -> float:
    from ..audio import duration

    return max(1e-3, duration(path) - start)


def parse_style(text: str | None) -> Style:
    """Read a style from the command line: a name, a number or a mix. Raises `RequestError`."""
    if text is None or "=" not in text:
        return int(text) if text and text.lstrip("-").isdigit() else text
    mix = {}
    for part in text.split(","):
        name, _, weight = part.partition("=")
        try:
            mix[name.strip()] = float(weight)
        except ValueError as error:
            raise RequestError(
                f'"{part}" is no share of a style.', hint='Write "neutral=0.7,mumbled=0.3".'
            ) from error
    return mix
