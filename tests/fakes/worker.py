# SPDX-License-Identifier: GPL-3.0-or-later
"""A worker process that misbehaves on demand: `python worker.py BEHAVIOUR`."""

import json
import os
import sys
import time
from pathlib import Path

PROTOCOL = 1


def say(**event):
    """Write one event."""
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


def requests():
    """Yield requests until the input ends."""
    for line in sys.stdin:
        yield json.loads(line)


def ready(**changes):
    """Say that requests are welcome."""
    say(
        **(
            {"type": "ready", "protocol": PROTOCOL, "version": "1.0.0", "pid": os.getpid()}
            | changes
        )
    )


def named(request):
    """Return the name of a request's sound file."""
    return Path(request.get("audio", "")).name


def done(request):
    """End a request well."""
    say(type="done", id=request["id"], output=request.get("output"), report={"seen": request})


def polite():
    """Answer as a good worker does; `slow` requests run until they are cancelled."""
    ready()
    slow = []
    for request in requests():
        kind = request["type"]
        if kind == "shutdown":
            return
        if kind == "cancel" and request["id"] in slow:
            slow.remove(request["id"])
            say(type="cancelled", id=request["id"])
        elif named(request) == "slow":
            slow.append(request["id"])
            say(type="progress", id=request["id"], stage="s", fraction=0.5, seconds_left=1.5)
        elif named(request) == "bad":
            say(type="failed", id=request["id"], kind="audio", message="It is bad.", hint="Fix it.")
        elif kind in ("generate", "describe"):
            done(request)


def dies_at_start():
    """Fail as a Python without torch does."""
    sys.exit("ModuleNotFoundError: No module named 'torch'")


def dies_mid_job():
    """Accept a request, then be gone without a word."""
    ready()
    for request in requests():
        say(type="progress", id=request["id"], stage="s", fraction=0.1, seconds_left=None)
        sys.stderr.write("about to fall over\n")
        sys.stderr.flush()
        os._exit(7)


def killed_mid_job():
    """Be killed by the system."""
    ready()
    for _ in requests():
        os.kill(os.getpid(), 9)


def babbles():
    """Print things that are no events around the real ones."""
    print("Downloading model… 100 %")
    ready()
    for request in requests():
        if request["type"] == "shutdown":
            return
        print("warning: something", flush=True)
        print('{"type": "done"', flush=True)
        print("[1, 2, 3]", flush=True)
        sys.stdout.buffer.write(b"\xff\xfe\x00 binary \n")
        say(type="progress", id=request["id"], fraction="not a number")
        say(type="done", id="nobody asked")
        done(request)
        say(type="done", id=request["id"])  # once is enough


def floods():
    """Fill the log, which must neither block nor be kept whole."""
    ready()
    for request in requests():
        if request["type"] == "shutdown":
            return
        for number in range(20000):
            sys.stderr.write(f"line {number} {'x' * 100}\n")
        done(request)


def ignores_cancel():
    """Never end a request, whatever is asked, and survive a polite end."""
    import signal

    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ready()
    sys.stderr.write("deaf\n")
    sys.stderr.flush()
    while True:
        time.sleep(0.05)


def wrong_version():
    """Come from a future release."""
    ready(protocol=99, version="9.9.9")
    time.sleep(120)


def old_version():
    """Come from a release that had no protocol number."""
    say(type="ready")
    time.sleep(120)


def never_ready():
    """Start, and say nothing."""
    time.sleep(120)


def huge_line():
    """Send a line that must not be held whole, then go on as if nothing was."""
    ready()
    for request in requests():
        if request["type"] == "shutdown":
            return
        for _ in range(12):
            sys.stdout.write("x" * 2**20)
        sys.stdout.write("\n")
        done(request)


def half_line():
    """End in the middle of an event."""
    ready()
    for _ in requests():
        sys.stdout.write('{"type": "done", "id": "job-')
        sys.stdout.flush()
        os._exit(0)


def closes_output():
    """Close the output but live on."""
    ready()
    os.close(1)
    time.sleep(120)


def stops():
    """Be stopped in the middle of a job, as by a debugger or a machine that swaps."""
    import signal

    ready()
    for _ in requests():
        os.kill(os.getpid(), signal.SIGSTOP)


def beats_for_ever():
    """Live on with a heartbeat and one progress over and over, and never get further."""
    ready()
    for request in requests():
        while True:
            say(type="alive")
            say(type="progress", id=request["id"], stage="s", fraction=0.5, seconds_left=1)
            time.sleep(0.01)


def beats():
    """Say nothing but a heartbeat for a while, then end well."""
    ready()
    for request in requests():
        if request["type"] == "shutdown":
            return
        for _ in range(30):
            say(type="alive")
            time.sleep(0.05)
        done(request)


def floods_progress():
    """Send events faster than anybody can take them, until a cancel is heard."""
    import threading

    ready()
    stop = threading.Event()

    def flood(name):
        number = 0
        while not stop.is_set():
            number += 1
            say(type="progress", id=name, stage="s", fraction=number % 1000 / 1000)
        say(type="cancelled", id=name)

    for request in requests():
        if request["type"] == "cancel":
            stop.set()
        elif request["type"] == "shutdown":
            os._exit(0)
        else:
            threading.Thread(target=flood, args=(request["id"],)).start()


def leaves_a_child():
    """Die in mid-job while a child of its own keeps the output open."""
    import subprocess

    ready()
    for _ in requests():
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(8)"])
        os._exit(3)


def wrong_ends():
    """End requests with nonsense, each in another way."""
    ready()
    odd = [
        {"report": 5}, {"report": ["a"]}, {"output": 7}, {"output": "/etc/passwd"}, {"output": ""},
        {"output": ["a"]}, {}, {"output": "a\0b"}, {"output": None, "report": {}},
    ]  # fmt: skip
    ends = [{"type": "done", **fields} for fields in odd]
    ends += [
        {"type": "failed", "message": {"a": 1}},
        {"type": "failed"},
        {"type": "failed", "message": "x" * 100_000, "hint": 10**400},
    ]
    for request in requests():
        if request["type"] == "shutdown":
            return
        say(type="progress", id=request["id"], fraction=10**400)
        say(type="progress", id=request["id"], fraction=[[[]]], stage={"a": 1})
        say(**(ends.pop(0) | {"id": request["id"]}))


def deaf():
    """Never read the input."""
    ready()
    time.sleep(120)


if __name__ == "__main__":
    globals()[sys.argv[1]]()
