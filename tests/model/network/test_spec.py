# SPDX-License-Identifier: GPL-3.0-or-later
"""A model file's description is believed only within bounds; what it says is refused by name."""

from __future__ import annotations

import json
import struct
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from model.errors import ModelError
from model.network.spec import ModelSpec, biwi, vocaset
from model.worker.describe import describe_model
from tests.model import tiny

GOOD = asdict(tiny.spec())
ODD = {
    "layers": [10**9, 0, -1, 2.5, "3", True, None, [1]],
    "channels": [10**12, 10**400, {}],
    "heads": [10**9],
    "latent": [2**40, 33],
    "period": [10**9],
    "steps": [10**9],
    "fps": [float("nan"), float("inf"), -30, "30", None, 10**400],
    "guidance": [float("nan"), 10**10, "a"],
    "dropout": [float("nan"), 2],
    "styles": [None, 5, [], [1, 2], [["a"]], ["x" * 10**6], "calm"],
    "control_names": [5, [None], {"a": 1}],
    "name": [None, 5, ["a"]],
    "encoder": [
        None, [], "hubert", {"kind": "hubert"}, {"kind": ["a"], "config": {}},
        {"kind": "hubert", "config": {**GOOD["encoder"]["config"], "num_hidden_layers": 10**9}},
        {"kind": "hubert", "config": {**GOOD["encoder"]["config"], "conv_dim": [512] * 10**5}},
        {"kind": "hubert", "config": {**GOOD["encoder"]["config"], "hidden_size": "a"}},
        {"kind": "hubert", "config": {**GOOD["encoder"]["config"], "hidden_size": 10**9}},
        {"kind": "hubert", "config": [1]},
    ],
    "format": ["x", None, 10**400, 99],
    "surprise": [1],
}  # fmt: skip


@pytest.mark.parametrize(("field", "value"), [(f, v) for f, vs in ODD.items() for v in vs])
def test_descriptions_that_make_no_sense_are_one_sentence(tmp_path: Path, field, value) -> None:
    """At once, from the description alone, and `describe` goes on to the next file."""
    began = time.process_time()
    text = json.dumps({**GOOD, field: value})
    with pytest.raises(ModelError) as caught:
        ModelSpec.from_json(text)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1000
    header = json.dumps({"__metadata__": {"spec": text}}).encode()
    path = tmp_path / "odd.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    assert describe_model(path)["error"]
    assert time.process_time() - began < 2


@pytest.mark.parametrize(
    "text", ["", "null", "[]", "{", "[" * 100_000, '{"format": 1}', "1" * 5000]
)
def test_text_that_is_no_description_is_one_sentence(text: str) -> None:
    with pytest.raises(ModelError):
        ModelSpec.from_json(text)


@pytest.mark.parametrize("spec", [vocaset(), biwi(), tiny.spec(), tiny.spec("controls")])
def test_descriptions_survive_their_file(spec: ModelSpec) -> None:
    assert ModelSpec.from_json(spec.to_json()) == spec
