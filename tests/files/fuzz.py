# SPDX-License-Identifier: GPL-3.0-or-later
"""Let one reader meet damaged and hostile files: `python fuzz.py READER FILES`; 0 when right."""

from __future__ import annotations

import io
import json
import pickle
import random
import struct
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

SLOWEST, LARGEST = 10.0, 2 * 2**30
INTERESTING = (b"\xff\xff\xff\xff", b"\x00\x00\x00\x00", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f",
               b"-1", b"999999999", b"nan", b"1e999", b"\x80", b"\n", b"{", b"[", b" ")  # fmt: skip
Seeds = dict[str, list[bytes]]


def main(reader: str, count: int) -> int:
    """Meet every bomb and `count` changed files; print how many were read and how many refused."""
    read, seeds, bombs, sentence = READERS[reader]()
    told = {"read": 0, "refused": 0}
    for name, data in [*bombs, *changed(seeds, count, random.Random(reader))]:
        path = Path(name)
        path.write_bytes(data)
        began = time.process_time()
        try:
            read(path)
            told["read"] += 1
        except sentence as error:
            told["refused"] += 1
            words = str(error)
            if not words.strip() or "\n" in words or "Traceback" in words:
                raise SystemExit(f"{name}: no sentence: {words!r}") from error
        except BaseException:
            Path("culprit" + path.suffix).write_bytes(data)
            raise
        spent = time.process_time() - began
        if spent > SLOWEST:
            raise SystemExit(f"{name}: {spent:.1f} s, {data[:80]!r}")
        path.unlink(missing_ok=True)
    check_memory()
    print(told["read"], told["refused"])
    return 0


def check_memory() -> None:
    """Exit when the process ever held more than is allowed."""
    try:
        import resource
    except ImportError:
        return
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    if peak > LARGEST:
        raise SystemExit(f"{peak / 1e9:.1f} GB at most")


def changed(seeds: Seeds, count: int, dice: random.Random) -> Iterator[tuple[str, bytes]]:
    """Yield files made of the seeds, each damaged in its own way."""
    for number in range(count):
        suffix = dice.choice(list(seeds))
        data = bytearray(dice.choice(seeds[suffix]))
        for _ in range(dice.choice((1, 1, 1, 3, 20))):
            if not data:
                break
            # The beginning is where headers are: half of all changes go there.
            at = dice.randrange(min(len(data), 400) if dice.random() < 0.5 else len(data))
            way = dice.randrange(6)
            if way == 0:
                data[at] = dice.randrange(256)
            elif way == 1:
                data[at] ^= 1 << dice.randrange(8)
            elif way == 2:
                piece = dice.choice(INTERESTING)
                data[at : at + len(piece)] = piece
            elif way == 3:
                data[at:at] = dice.choice(INTERESTING) * dice.choice((1, 1, 50))
            elif way == 4:
                del data[at : at + dice.randrange(1, 64)]
            else:
                data[at:at] = data[at : at + dice.randrange(1, 2000)]
        if dice.random() < 0.15:
            del data[dice.randrange(len(data) + 1) :]
        yield f"{number}{suffix}", bytes(data)


# -- seeds -------------------------------------------------------------------------------------


def packed(**arrays: np.ndarray) -> bytes:
    """Return an .npz."""
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def inflated(name: str, claim: bytes, zeros: int) -> bytes:
    """Return a compressed .npz whose one entry is mostly zeros."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{name}.npy", header(claim) + bytes(zeros))
    return stream.getvalue()


def header(shape: bytes, descr: bytes = b"'<f4'") -> bytes:
    """Return an .npy header."""
    text = b"{'descr': " + descr + b", 'fortran_order': False, 'shape': " + shape + b", }"
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


POINTS = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
CORNERS = np.stack([np.arange(38), np.arange(1, 39), np.arange(2, 40)], 1).astype(np.int32)


def meshes() -> Seeds:
    """Return heads in every form."""
    top = (
        f"element vertex {len(POINTS)}\nproperty float x\nproperty float y\nproperty float z\n"
        f"element face {len(CORNERS)}\nproperty list uchar int vertex_indices\nend_header\n"
    )
    text = "".join(f"{x} {y} {z}\n" for x, y, z in POINTS)
    text += "".join(f"3 {a} {b} {c}\n" for a, b, c in CORNERS)
    binary = POINTS.astype("<f4").tobytes()
    binary += b"".join(b"\x03" + corner.astype("<i4").tobytes() for corner in CORNERS)
    swapped = POINTS.astype(">f4").tobytes()
    swapped += b"".join(b"\x03" + corner.astype(">i4").tobytes() for corner in CORNERS)
    obj = "".join(f"v\t{x}\t{y}\t{z}\n" for x, y, z in POINTS)
    obj += "".join(f"f {a}/1 {b}//2 {c}\n" for a, b, c in CORNERS + 1)
    kinds = {"ascii": text.encode(), "binary_little_endian": binary, "binary_big_endian": swapped}
    plys = [f"ply\nformat {kind} 1.0\n{top}".encode() + body for kind, body in kinds.items()]
    npz = packed(vertices=POINTS, triangles=CORNERS)
    return {".ply": plys, ".obj": [obj.encode()], ".npz": [npz]}


def mesh_bombs() -> list[tuple[str, bytes]]:
    """Return heads that claim more than they hold."""
    top = b"ply\nformat %s 1.0\nelement vertex %d\nproperty float x\nproperty float y\n"
    top += b"property float z\nelement face %d\nproperty list %s int vertex_indices\nend_header\n"
    points = POINTS.astype("<f4").tobytes()
    little = b"binary_little_endian"
    return [
        ("vertices.ply", top % (little, 10**9, 1, b"uchar")),
        ("vertices-text.ply", top % (b"ascii", 10**9, 1, b"uchar") + b"1 2 3\n" * 10),
        ("faces.ply", top % (little, 40, 10**9, b"uchar") + points),
        ("minus.ply", top % (little, 40, 1, b"char") + points + b"\xff" * 400),
        ("minus-all.ply", top % (little, 40, 10**5, b"int") + points + b"\xff" * 400_000),
        ("long-list.ply", top % (little, 40, 1, b"uint") + points + b"\xff\xff\xff\x7f"),
        ("list-text.ply", top % (b"ascii", 0, 1, b"uint") + b"1000000000 1 1 1"),
        ("nothing.ply", b"ply\nformat ascii 1.0\nelement rows 1000000000\nend_header\n"),
        ("polygon.obj", b"v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nf" + b" 1 2 3" * 100_000),
        ("lines.obj", b"\n" * 20_000_000),
        ("one-line.obj", b"v" + b" 1" * 5_000_000),
        ("joined.obj", b"v 1 \\\n" * 500_000),
        ("far.obj", b"v 1e308 0 0\nv -1e308 0 0\nv 0 1e308 0\nv 0 0 1\nf 1 2 3\n"),
        ("index.obj", b"v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nf 1 2 99999999999999999999\n"),
        ("claim.npz", inflated("vertices", b"(1000000000000, 3)", 100)),
        ("zeros.npz", inflated("vertices", b"(100000000, 3)", 2**26)),
    ]


def pickled() -> list[bytes]:
    """Return pickled heads of every protocol."""
    content = {"v_template": POINTS.astype(float), "f": CORNERS, "names": ["a"], "n": 3.5}
    return [pickle.dumps(content, protocol) for protocol in range(6)]


def pickle_bombs() -> list[tuple[str, bytes]]:
    """Return pickles that would fill the memory, hang, or make pointers of bytes."""
    memo = b"".join(b"q%c0h%ch%c\x86" % (n, n, n) for n in range(100))
    pointers = (
        b"\x80\x02}X\x0a\x00\x00\x00v_templatecnumpy.core.multiarray\n_reconstruct\n(cnumpy\n"
        b"ndarray\n(J\x00\x00\x00\x00tX\x01\x00\x00\x00btR(J\x01\x00\x00\x00(J\x04\x00\x00\x00"
        b"J\x03\x00\x00\x00tcnumpy\ndtype\n(X\x01\x00\x00\x00O\x89\x88tR(J\x03\x00\x00\x00"
        b"X\x01\x00\x00\x00|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffJ\x00\x00\x00\x00tb\x89"
        b"B\x60\x00\x00\x00" + b"\x41" * 96 + b"tbs."
    )
    return [
        ("memo.pkl", b"\x80\x02]r\xff\xff\xff\xff."),
        ("keys.pkl", b"\x80\x02}K\x01" + memo + b"K\x01s."),
        ("pointers.pkl", pointers),
        ("deep.pkl", b"\x80\x02" + b"]" * 500_000 + b"a" * 499_999 + b"."),
        ("dictionaries.pkl", b"\x80\x02" + b"}" * 2_900_000 + b"."),
        ("digits.pkl", b"L" + b"9" * 10**6 + b"L\n."),
    ]


def motion_seeds() -> Seeds:
    """Return motion files."""
    whole = packed(
        weights=np.ones((5, 2), np.float32), shapes=np.ones((2, 40, 3), np.float32),
        names=np.array(["a", "b"]), fps=np.float64(30), template=POINTS,
        report=np.array(json.dumps({"x": 1})), controls=np.ones((5, 2), np.float32),
        control_names=np.array(["jawOpen", "b"]), mask=np.ones(5, bool),
    )  # fmt: skip
    return {".npz": [whole]}


def motion_bombs() -> list[tuple[str, bytes]]:
    """Return motion files that claim more than they hold."""
    return [
        ("claim.npz", inflated("weights", b"(1000000000, 1000)", 10)),
        ("rows.npz", inflated("weights", b"(1000000000, 0)", 0)),
    ]


def model_seeds() -> Seeds:
    """Return a small model file."""
    from tests.model import tiny

    path = tiny.checkpoint(Path("seed.safetensors"), tiny.spec(vertices=4))
    return {".safetensors": [path.read_bytes()]}


def model_bombs() -> list[tuple[str, bytes]]:
    """Return model files that would hang or fill the memory."""

    def made(entries: dict, spec: object = None, body: bytes = b"") -> bytes:
        meta = {} if spec is None else {"__metadata__": {"spec": json.dumps(spec)}}
        head = json.dumps({**meta, **entries}).encode()
        return struct.pack("<Q", len(head)) + head + body

    tensor = {"dtype": "F32", "shape": [2**18], "data_offsets": [0, 2**20]}
    many = {f"t{number}": tensor for number in range(50_000)}
    deep = b"[" * 5_000_000
    return [
        ("overlap.safetensors", made(many, {"format": 1}, bytes(2**20))),
        ("deep.safetensors", struct.pack("<Q", len(deep)) + deep),
        ("layers.safetensors", made({}, {"format": 1, "layers": 10**9})),
        ("size.safetensors", struct.pack("<Q", 2**63) + b"{}"),
        ("number.safetensors", made({}, None) + b"1" * 100),
        ("shape.safetensors", made({"a": {**tensor, "shape": [-2, -(2**17)]}}, None, bytes(2**20))),
        ("spec.safetensors", made({}, "x" * 3_000_000)),
    ]


def sound_seeds() -> Seeds:
    """Return sounds in common forms."""
    import soundfile

    samples = 0.3 * np.sin(np.arange(4000) / 9.0)
    seeds: Seeds = {}
    for kind, subtype in (("WAV", "PCM_16"), ("WAV", "FLOAT"), ("FLAC", None), ("OGG", None),
                          ("AIFF", "PCM_16"), ("MP3", None), ("CAF", "PCM_16")):  # fmt: skip
        stream = io.BytesIO()
        soundfile.write(stream, samples, 16000, format=kind, subtype=subtype)
        seeds.setdefault(f".{kind.lower()}", []).append(stream.getvalue())
    return seeds


def sound_bombs() -> list[tuple[str, bytes]]:
    """Return sounds whose headers make no sense."""

    def wave(channels: int, rate: int, bits: int, size: int) -> bytes:
        form = struct.pack("<HHIIHH", 1, channels, rate, rate * 2 % 2**32, max(1, bits // 8), bits)
        return (b"RIFF" + struct.pack("<I", size) + b"WAVEfmt \x10\x00\x00\x00" + form
                + b"data" + struct.pack("<I", size) + bytes(4000))  # fmt: skip

    return [
        ("channels.wav", wave(1024, 16000, 16, 4000)),
        ("rate.wav", wave(1, 2**31 - 1, 16, 4000)),
        ("slow.wav", wave(1, 1, 16, 4000)),
        ("large.wav", wave(1, 8000, 8, 2**32 - 1)),
        ("bits.wav", wave(1, 16000, 0, 4000)),
    ]


def checkpoint_seeds() -> Seeds:
    """Return small PyTorch checkpoints."""
    import torch

    stream = io.BytesIO()
    content = {"state_dict": {"a": torch.ones(4, 3), "b": torch.ones(2).half()}, "epoch": 3}
    torch.save(content, stream)
    return {".ckpt": [stream.getvalue()]}


def checkpoint_bombs() -> list[tuple[str, bytes]]:
    """Return checkpoints whose pickle is a bomb, or whose entries inflate."""
    bombs = []
    for name, data in pickle_bombs():
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            archive.writestr("archive/data.pkl", data)
        bombs.append((f"{name}.ckpt", stream.getvalue()))
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(2**27))
    return [*bombs, ("zeros.ckpt", stream.getvalue())]


# -- readers -----------------------------------------------------------------------------------

Reader = tuple[
    Callable[[Path], object], Seeds, list[tuple[str, bytes]], tuple[type[Exception], ...]
]


def heads() -> Reader:
    """The worker's heads."""
    from model.errors import FaceError
    from model.rig import head_files

    return head_files.read, meshes(), mesh_bombs(), (FaceError,)


def addon_heads() -> Reader:
    """The add-on's heads, FLAME's pickles among them."""
    from diffspeaker_blender.character import flame_files
    from diffspeaker_blender.errors import HeadError

    seeds = meshes() | {".pkl": pickled()}
    return flame_files.read, seeds, mesh_bombs() + pickle_bombs(), (HeadError,)


def motions() -> Reader:
    """Both ends' motion files."""
    from diffspeaker_blender.errors import MotionError
    from diffspeaker_blender.motion import motion
    from model.errors import ConfigError
    from model.motion import Motion

    def both(path: Path) -> None:
        try:
            Motion.load(path)
        except ConfigError:
            motion.load(path)
            return
        motion.load(path)

    return both, motion_seeds(), motion_bombs(), (MotionError, ConfigError)


def models() -> Reader:
    """The worker's model files: description, tensors, and torch's own way to them."""
    from model.errors import ModelError
    from model.network import checkpoint
    from model.network.tensors import read_spec, read_tensors

    def both(path: Path) -> None:
        read_spec(path)
        read_tensors(path)
        checkpoint.load(path)

    return both, model_seeds(), model_bombs(), (ModelError,)


def catalogue() -> Reader:
    """The add-on's list of models: never an error, the good one is always there."""
    from diffspeaker_blender.worker import model_files

    folder = Path("models")
    folder.mkdir()
    (folder / "good.safetensors").write_bytes(model_seeds()[".safetensors"][0])

    def listed(path: Path) -> None:
        path.replace(folder / path.name)
        found = {model.id for model in model_files.models(folder)}
        (folder / path.name).unlink()
        if "good" not in found:
            raise AssertionError(f"{path.name} took the good model away")
        if path.stem not in found:
            raise ValueError("it was left out")

    return listed, model_seeds(), model_bombs(), (ValueError,)


def sounds() -> Reader:
    """The worker's sounds."""
    from model import audio
    from model.errors import AudioError

    return audio.load, sound_seeds(), sound_bombs(), (AudioError,)


def checkpoints() -> Reader:
    """PyTorch checkpoints."""
    from model.conversion.torch_files import read_tensors
    from model.errors import CheckpointError

    return read_tensors, checkpoint_seeds(), checkpoint_bombs(), (CheckpointError,)


def kept() -> Reader:
    """What a request keeps."""
    from model.errors import RequestError
    from model.generation.inpainting import read_keep

    return (
        lambda path: read_keep(path, ("jawOpen",)), motion_seeds(), motion_bombs(), (RequestError,)
    )  # fmt: skip


def rigs() -> Reader:
    """The cache of rigs: a damaged entry is none."""
    from model.rig import derivation, head_files

    face = head_files.read("demo")
    folder = Path("rigs")
    wide = face.vertices * np.float32([1.02, 1.0, 1.0])  # the demo head's own rig is shipped
    derivation.cached_derivation(wide, face.triangles, folder)
    (entry,) = folder.iterdir()

    def load(path: Path) -> None:
        try:
            derivation._load(path)
        except (KeyError, TypeError, IndexError, OSError) as error:
            raise ValueError("it is damaged") from error

    return load, {".npz": [entry.read_bytes()]}, motion_bombs(), (ValueError,)


def plain_pickles() -> Reader:
    """The machine itself."""
    from diffspeaker_blender.files import pickles

    return pickles.read, {".pkl": pickled()}, pickle_bombs(), (pickles.UnpicklingError,)


READERS: dict[str, Callable[[], Reader]] = {
    "heads": heads,
    "head_files": addon_heads,
    "motions": motions,
    "models": models,
    "catalogue": catalogue,
    "sounds": sounds,
    "checkpoints": checkpoints,
    "kept": kept,
    "rigs": rigs,
    "pickles": plain_pickles,
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
