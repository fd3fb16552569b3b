# SPDX-License-Identifier: GPL-3.0-or-later
"""A worker that speaks without a network: `python speaker.py [SECONDS]`. Standard library + numpy.

It answers as the real one does and writes a plausible motion for the face it is sent: the jaw opens
and shuts three times a second, and every third beat the lips round; a seed shifts the beat. SECONDS
is how long it pretends to think (a `steps` of the request counts in tenths of a second instead).
"""

import json
import os
import queue
import struct
import sys
import threading
import time
from pathlib import Path

import numpy as np

FPS = 30.0


def say(**event):
    """Write one event."""
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


def seconds_of(request):
    """Return the length of the sound that is asked for."""
    if request.get("span"):
        return float(request["span"][1])
    content = Path(request["audio"]).read_bytes()  # also of floats, which `wave` refuses
    (a_second,) = struct.unpack_from("<I", content, content.index(b"fmt ") + 16)
    (size,) = struct.unpack_from("<I", content, content.index(b"data") + 4)
    return size / a_second


def write_motion(request):
    """Write a motion of two shapes for the request's face; return how many frames it has."""
    if request["face"] == "demo":
        vertices = np.random.default_rng(0).normal(0, 0.08, (5023, 3)).astype(np.float32)
    else:
        with np.load(request["face"]) as face:
            vertices = face["vertices"].astype(np.float32)
    size = float(np.ptp(vertices, axis=0).max())
    low = np.argsort(vertices[:, 1])[: len(vertices) // 5]
    shapes = np.zeros((2, *vertices.shape), np.float32)
    shapes[0, low, 1] = -0.05 * size
    shapes[1, low, 2] = 0.02 * size
    frames = max(1, round(seconds_of(request) * FPS))
    beat = np.arange(frames) / FPS * 3 + 0.37 * request.get("seed", 0)
    weights = np.stack([np.sin(np.pi * beat) ** 2, (np.floor(beat) % 3 == 2) * 0.5], axis=1)
    np.savez(
        request["output"],
        weights=(weights * request.get("intensity", 1.0)).astype(np.float32),
        shapes=shapes,
        names=np.array(["jawOpen", "mouthPucker"]),
        fps=FPS,
        template=vertices,
        report=json.dumps({"device": "fake"}),
    )
    return frames


def think(request, duration, cancelled):
    """Report progress for a while; return False when the request was cancelled meanwhile."""
    duration = request["steps"] / 10 if request.get("steps") else duration
    end = time.monotonic() + duration
    while (left := end - time.monotonic()) > 0:
        if request["id"] in cancelled:
            return False
        fraction = 1 - left / max(duration, 1e-9)
        say(type="progress", id=request["id"], stage="Denoising", fraction=fraction,
            seconds_left=left)  # fmt: skip
        time.sleep(min(left, 0.05))
    return request["id"] not in cancelled


def answer(request, duration, cancelled):
    """End a request in exactly one way."""
    if request["type"] == "describe":
        say(type="done", id=request["id"], output=None, report={
            "version": "1.0.0", "python": "3.11.0", "device": "cpu", "device_name": "Fake CPU",
            "devices": ["cpu"], "packages": {"torch": "2.0"},
            "models": [{"name": "Fake", "licence": "none"}]})  # fmt: skip
    elif not think(request, duration, cancelled):
        say(type="cancelled", id=request["id"])
    elif not Path(request["audio"]).is_file():
        say(type="failed", id=request["id"], kind="AudioError", message="The sound is missing.",
            hint="Choose another.")  # fmt: skip
    elif request.get("seed") == 666:
        os._exit(9)
    else:
        frames = write_motion(request)
        say(type="done", id=request["id"], output=request["output"], report={"frames": frames})


def main():
    """Read requests in one thread, answer them in another."""
    duration = float(sys.argv[1]) if len(sys.argv) > 1 else 0.0
    say(type="ready", protocol=1, version="1.0.0", pid=os.getpid())
    waiting, cancelled = queue.Queue(), set()

    def read():
        for line in sys.stdin:
            request = json.loads(line)
            if request["type"] == "cancel":
                cancelled.add(request["id"])
            else:
                waiting.put(request)
            if request["type"] == "shutdown":
                return
        waiting.put({"type": "shutdown"})

    threading.Thread(target=read, daemon=True).start()
    while (request := waiting.get())["type"] != "shutdown":
        answer(request, duration, cancelled)


if __name__ == "__main__":
    main()
