"""A Keras encoder block in INT4 is one partition of the delegate, with the runtime's outputs and a profile by node."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType

import tfq_pipeline as tfq
from tfq_pipeline import delegate
from tfq_pipeline.tflite import flatbuffer as fb

SEQUENCE, WIDTH = 12, 16
RNG = np.random.default_rng(3)
INPUTS = RNG.integers(-128, 128, (16, 1, SEQUENCE, WIDTH)).astype(np.int8)
# What the delegate matches, the runtime that computes so, and how many steps apart outputs may lie: XNNPACK multiplies
# sums in float32, so that one in a million of them differs.
RUNTIMES = {"litert": (OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES, 0), "xnnpack": (OpResolverType.AUTO, 1)}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Attention of two heads and two dense layers, each after a layer norm and beside a residual; a classifier."""
    import tf_keras

    layers = tf_keras.layers
    tf_keras.utils.set_random_seed(7)
    tokens = layers.Input((SEQUENCE, WIDTH), name="tokens")
    normal = layers.LayerNormalization(name="normal_1")(tokens)
    x = layers.Add(name="residual_1")([tokens, layers.MultiHeadAttention(2, 8, name="attention")(normal, normal)])
    hidden = layers.Dense(32, activation="relu", name="up")(layers.LayerNormalization(name="normal_2")(x))
    x = layers.Add(name="residual_2")([x, layers.Dense(WIDTH, name="down")(hidden)])
    x = layers.GlobalAveragePooling1D(name="pool")(layers.LayerNormalization(name="normal_3")(x))
    model = tf_keras.Model(tokens, layers.Dense(5, name="logits")(x), name="encoder")
    data = np.random.default_rng(0).normal(size=(32, SEQUENCE, WIDTH)).astype(np.float32)
    path: Path = tmp_path_factory.mktemp("encoder") / "encoder.tflite"
    tfq.quantize(model, recipe="static_wi4_ai8", calibration=data).save(path)
    return path


def _run(path: Path, resolver: OpResolverType, delegates: list[Any] | None = None) -> tuple[np.ndarray, int]:
    """The outputs of `INPUTS`, and how many nodes of the plan are delegates."""
    interpreter = Interpreter(
        str(path), experimental_delegates=delegates, experimental_op_resolver_type=resolver, num_threads=1
    )
    interpreter.allocate_tensors()
    source, sink = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    outputs = []
    for values in INPUTS:
        interpreter.set_tensor(source["index"], values)
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(sink["index"]).astype(np.int32))
    nodes = [op["op_name"] for op in interpreter._get_ops_details()]
    return np.concatenate(outputs), nodes.count("DELEGATE")


@pytest.mark.parametrize("match", RUNTIMES)
def test_an_encoder_is_one_partition_with_the_runtime_s_outputs(encoder: Path, tmp_path: Path, match: str) -> None:
    resolver, steps = RUNTIMES[match]
    report, profile = tmp_path / "report.json", tmp_path / "profile.json"
    ours, partitions = _run(encoder, resolver, [delegate.load(match=match, report=report, profile=profile)])
    expected, _ = _run(encoder, resolver)
    assert len(np.unique(expected)) > 20
    assert np.abs(ours - expected).max() <= steps
    told = json.loads(report.read_text())
    assert (told["delegated"], told["declined"], partitions) == (told["total"], [], 1)

    model = fb.read(encoder.read_bytes())
    profiled = {node["node"]: node for node in json.loads(profile.read_text())["nodes"]}
    kernels = {node["node"]: node["kernel"] for node in told["taken"]}
    for place, op in enumerate(fb.ops(model)):
        if op.name == "RESHAPE":  # the same memory, no work: never runs
            continue
        node = profiled[place]
        shapes = [list(fb.shape(tensor)) for tensor in op.outputs if tensor is not None]
        assert (node["op"], node["outputs"], node["kernel"]) == (op.name, shapes, kernels[place])
        assert node["kernel"]
        assert all(
            list(fb.shape(t)) in node["inputs"] for t in op.inputs if t is not None and not fb.is_constant(model, t)
        )
        assert node["calls"] == len(node["times_us"]) == len(INPUTS)
        assert 0 <= node["min_us"] <= node["median_us"] <= max(node["times_us"])
        assert node["total_us"] == pytest.approx(sum(node["times_us"]), abs=0.1)
    ops = {node["op"] for node in profiled.values()}
    assert ops >= {"SOFTMAX", "BATCH_MATMUL", "TRANSPOSE", "SUB", "RSQRT", "MEAN", "FULLY_CONNECTED"}
