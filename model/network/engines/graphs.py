# SPDX-License-Identifier: GPL-3.0-or-later
"""The network of a control model as ONNX graphs, made from its description and its weights.

The same functions as `encoders/whisper.py` and `denoiser.py` compute, in the same order, so that no
second file has to travel with a model and none can grow stale: any checkpoint of this kind runs.
Four graphs, because four things happen at different times: mels become a stem once, windows of the
stem are encoded, what was heard meets the frames once a clip, and denoising happens every step.

Legend: M mel frames, S speech frames (M / 2), W encoder width, F motion frames, D latent, H heads,
K = D / H, L denoiser layers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from ..spec import CONTEXT, ModelSpec
from .onnx_graph import Array, Graph

ENCODER, DENOISER = "audio_encoder", "denoiser"
Weights = Mapping[str, Array]


def supports(spec: ModelSpec) -> bool:
    """Tell whether a model can be written as these graphs."""
    return spec.motion == "controls" and spec.encoder.kind == "whisper" and spec.alignment == "time"


def stem(spec: ModelSpec, weights: Weights) -> Graph:
    """mels (1, bins, M) → stem (S, W): the encoder's two convolutions."""
    graph = Graph(weights)
    bins, width = spec.encoder.config["bins"], spec.encoder.config["width"]
    values = graph.input("mels", 1, bins, "M")
    for name, channels, stride in (("conv1", bins, 1), ("conv2", width, 2)):
        values = graph.convolve(values, f"{ENCODER}.{name}", (width, channels, 3), stride)
        values = graph.add("Gelu", values)
    values = graph.add("Transpose", values, perm=[0, 2, 1])
    graph.output("stem", graph.reshape(values, -1, width), "S", width)
    return graph


def encode(spec: ModelSpec, weights: Weights) -> Graph:
    """stem and positions (S, W) → the hidden states listened to, joined or mixed (S, ·)."""
    config, width = spec.encoder.config, spec.encoder.config["width"]
    graph = Graph(weights)
    first = graph.input("stem", "S", width)
    values = graph.add("Add", first, graph.input("positions", "S", width))
    states = [first]
    for number in range(config["layers"]):
        values = _encoder_layer(graph, values, f"{ENCODER}.layers.{number}", config)
        states.append(values)
    if chosen := config.get("states"):
        heard = graph.add(
            "Concat", *(_plain(graph, states[index], width) for index in chosen), axis=1
        )
    else:
        heard = graph.norm(values, f"{ENCODER}.norm", width)
        if config.get("mix"):
            plain = [_plain(graph, state, width) for state in states[:-1]]
            heard = _mixed(graph, [*plain, heard])
    graph.output("features", heard, "S", "W")
    return graph


def _plain(graph: Graph, state: str, width: int) -> str:
    """Layer-normalise a hidden state without weights."""
    ones = graph.derived("ones", np.ones(width, np.float32))
    return graph.add("LayerNormalization", state, ones, axis=-1, epsilon=1e-5)


def _encoder_layer(graph: Graph, values: str, name: str, config: Mapping[str, int]) -> str:
    width = config["width"]
    normal = graph.norm(values, f"{name}.attention_norm", width)
    inputs = graph.linear(normal, f"{name}.qkv", width, 3 * width)
    query, keys, content = graph.split("Split", 3, inputs, axis=1, num_outputs=3)
    heard = graph.attention(query, keys, content, config["heads"])
    values = graph.add("Add", values, graph.linear(heard, f"{name}.out", width, width))
    normal = graph.norm(values, f"{name}.feedforward_norm", width)
    inner = graph.add("Gelu", graph.linear(normal, f"{name}.inner", width, 4 * width))
    return graph.add("Add", values, graph.linear(inner, f"{name}.outer", 4 * width, width))


def _mixed(graph: Graph, states: list[str]) -> str:
    """Mix hidden states by the softmax of the learned mix."""
    learned = graph.weight_of(f"{ENCODER}.mix", len(states))
    shares = np.exp(learned - learned.max())
    parts = [
        graph.add("Mul", state, graph.number(float(share)))
        for state, share in zip(states, shares / shares.sum(), strict=True)
    ]
    return graph.add("Sum", *parts)


def condition(spec: ModelSpec, weights: Weights) -> Graph:
    """features at the frames' times (F, W + energy) → each layer's speech keys and values."""
    graph = Graph(weights)
    features = graph.input("features", "F", spec.audio_width)
    hidden = graph.linear(features, f"{DENOISER}.audio_feature_map", spec.audio_width, spec.latent)
    for number in range(spec.context):
        hidden = _context_layer(graph, hidden, f"{DENOISER}.context.{number}", spec.latent)
    parts = [
        _project(graph, hidden, f"{_layer(number)}.multihead_attn", (1, 3), spec.latent)
        for number in range(spec.layers)
    ]
    graph.output("heard", graph.add("Concat", *parts, axis=1), "F", 2 * spec.latent * spec.layers)
    return graph


def _context_layer(graph: Graph, hidden: str, name: str, latent: int) -> str:
    """Let each frame (F, D) hear its neighbours: a convolution of each channel, then a network."""
    rows = graph.add("Unsqueeze", graph.add("Transpose", hidden, perm=[1, 0]), graph.integers(0))
    around = graph.convolve(rows, f"{name}.around", (latent, 1, CONTEXT), group=latent)
    around = graph.add("Transpose", graph.add("Squeeze", around, graph.integers(0)), perm=[1, 0])
    around = graph.norm(around, f"{name}.norm", latent)
    inner = graph.add("Gelu", graph.linear(around, f"{name}.linear1", latent, 2 * latent))
    return graph.add("Add", hidden, graph.linear(inner, f"{name}.linear2", 2 * latent, latent))


def denoise(spec: ModelSpec, weights: Weights) -> Graph:
    """One call of the denoiser, between its first and its last linear layer.

    state (F, D) is the noisy motion seen through the input projection; heard (F, 2DL) comes from
    `condition`; tokens (2, DL) are style and step; bias (1, H, F, 2 + F); positions (F, D).
    Gives features (F, D) before the output projection, and entry (F, D): the prediction seen
    through the input projection again.
    """
    latent, wide = spec.latent, spec.feedforward
    graph = Graph(weights)
    state = graph.input("state", "F", latent)
    heard = graph.input("heard", "F", 2 * latent * spec.layers)
    tokens = graph.input("tokens", 2, latent * spec.layers)
    bias = graph.input("bias", 1, spec.heads, "F", "T")
    values = graph.add("Add", state, graph.input("positions", "F", latent))
    values = graph.add("Add", values, graph.weight(f"{DENOISER}.vertice_map.bias", latent))
    speech = graph.split("Split", spec.layers, heard, axis=1, num_outputs=spec.layers)
    pairs = graph.split("Split", spec.layers, tokens, axis=1, num_outputs=spec.layers)
    for number in range(spec.layers):
        name = _layer(number)
        values = _attend_self(graph, values, pairs[number], bias, name, spec)
        values = _attend_speech(graph, values, pairs[number], speech[number], name, spec)
        normal = graph.norm(values, f"{name}.norm3", latent)
        inner = graph.add("Gelu", graph.linear(normal, f"{name}.linear1", latent, wide))
        values = graph.add("Add", values, graph.linear(inner, f"{name}.linear2", wide, latent))
    motion = graph.linear(values, f"{DENOISER}.motion_decoder", latent, spec.channels)
    enter = graph.weight(f"{DENOISER}.vertice_map.weight", latent, spec.channels)
    entry = graph.add("Gemm", motion, enter, transB=1)
    graph.output("features", values, "F", latent)
    graph.output("entry", entry, "F", latent)
    return graph


def _layer(number: int) -> str:
    return f"{DENOISER}.transformer_decoder.layers.{number}"


def _project(graph: Graph, values: str, name: str, rows: tuple[int, int], latent: int) -> str:
    """Apply the input projections `rows` of query 0, key 1, value 2: (F, D) → (F, count · D)."""
    start, stop = (row * latent for row in rows)
    parts = []
    for part, shape in (("in_proj_weight", (3 * latent, latent)), ("in_proj_bias", (3 * latent,))):
        whole = graph.weight_of(f"{name}.{part}", *shape)
        parts.append(graph.derived(f"{name}.{part}[{start}:{stop}]", whole[start:stop]))
    return graph.add("Gemm", values, *parts, transB=1)


def _attend_self(
    graph: Graph, values: str, pair: str, bias: str, name: str, spec: ModelSpec
) -> str:
    """Let frames (F, D) attend to the tokens (2, D) and, through the bias, to all frames."""
    latent, own = spec.latent, f"{name}.self_attn"
    inputs = _project(graph, graph.norm(values, f"{name}.norm1", latent), own, (0, 3), latent)
    query, keys, content = graph.split("Split", 3, inputs, axis=1, num_outputs=3)
    given = _project(graph, pair, own, (1, 3), latent)
    token_keys, token_values = graph.split("Split", 2, given, axis=1, num_outputs=2)
    keys = graph.add("Concat", token_keys, keys, axis=0)
    content = graph.add("Concat", token_values, content, axis=0)
    seen = graph.attention(query, keys, content, spec.heads, bias)
    return graph.add("Add", values, graph.linear(seen, f"{own}.out_proj", latent, latent))


def _attend_speech(
    graph: Graph, values: str, pair: str, speech: str, name: str, spec: ModelSpec
) -> str:
    """Let each frame attend to the tokens and to the speech of its own time: three keys a head."""
    latent, heads = spec.latent, spec.heads
    cross, split = f"{name}.multihead_attn", (heads, latent // heads)
    query = _project(graph, graph.norm(values, f"{name}.norm2", latent), cross, (0, 1), latent)
    query = graph.add("Mul", query, graph.number(1 / math.sqrt(split[1])))
    query = graph.reshape(query, -1, *split)  # (F, H, K)
    keys, content = (
        graph.reshape(part, -1, *split)
        for part in graph.split("Split", 2, speech, axis=1, num_outputs=2)
    )
    given = _project(graph, pair, cross, (1, 3), latent)
    token_keys, token_values = (
        graph.reshape(part, 2, *split)
        for part in graph.split("Split", 2, given, axis=1, num_outputs=2)
    )
    by_head = graph.add("Transpose", query, perm=[1, 0, 2])  # (H, F, K)
    tokens = graph.add("MatMul", by_head, graph.add("Transpose", token_keys, perm=[1, 2, 0]))
    tokens = graph.add("Transpose", tokens, perm=[1, 0, 2])  # (F, H, 2)
    own = graph.add("ReduceSum", graph.add("Mul", query, keys), graph.integers(2), keepdims=1)
    weights = graph.add("Softmax", graph.add("Concat", tokens, own, axis=2), axis=-1)
    first, last = graph.split("Split", 2, weights, graph.integers(2, 1), axis=2)
    first = graph.add("Transpose", first, perm=[1, 0, 2])  # (H, F, 2)
    out = graph.add("MatMul", first, graph.add("Transpose", token_values, perm=[1, 0, 2]))
    out = graph.add("Transpose", out, perm=[1, 0, 2])  # (F, H, K)
    out = graph.add("Add", out, graph.add("Mul", content, last))
    seen = graph.linear(graph.reshape(out, -1, latent), f"{cross}.out_proj", latent, latent)
    return graph.add("Add", values, seen)
