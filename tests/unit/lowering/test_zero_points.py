"""Why weights are symmetric: what the runtimes do with zero points of INT4 weights."""

from __future__ import annotations

import numpy as np
import pytest
import tf_keras

from tfq_pipeline import recipe
from tfq_pipeline.errors import BadInput, DeviceFailed
from tfq_pipeline.graph.keras_graph import KerasGraph
from tfq_pipeline.lowering.lower import lower
from tfq_pipeline.passes.quantize import LayerRequest, Request, quantize
from tfq_pipeline.tflite import edit
from tfq_pipeline.tflite import flatbuffer as fb
from tfq_pipeline.tflite.interpreter import RUNTIMES, open_model

CHANNEL, GROUP = Request(4, True, "channel"), Request(4, True, "group", group_size=32)


def dense(asked: Request):
    """A dense layer of 64 inputs, and its weights' tensor."""
    values = tf_keras.Input((64,))
    graph = KerasGraph.from_model(tf_keras.Model(values, tf_keras.layers.Dense(8)(values)))
    plan = quantize(graph, None, lambda *_: LayerRequest(asked, None))
    model = fb.read(lower(graph, plan, "float32", "float32", {}))
    return model, next(op for op in fb.ops(model) if op.name == "FULLY_CONNECTED").inputs[1]


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("kind", ["INT8", "INT32", "INT64"])
def test_zero_points_of_groups_change_nothing(runtime, kind):
    model, weights = dense(GROUP)
    x = [np.random.default_rng(0).normal(size=(1, 64)).astype(np.float32)]
    plain = fb.pack(model)
    weights.quantization.details.zeroPoints = edit.add_constant(model, "zero_points", kind, np.full((8, 2), 3))
    for xnnpack in (True, False):
        run = [open_model(f, runtime=runtime, default_delegates=xnnpack).run(x)[0] for f in (plain, fb.pack(model))]
        np.testing.assert_array_equal(*run)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_zero_points_of_channels_are_refused(runtime):
    model, weights = dense(CHANNEL)
    weights.quantization.zeroPoint = np.full(8, 3, np.int64)
    for xnnpack in (True, False):
        with pytest.raises(DeviceFailed, match="zero-point"):
            open_model(fb.pack(model), runtime=runtime, default_delegates=xnnpack)


@pytest.mark.parametrize(
    "weights", ["{symmetric: false}", "{bits: 4, granularity: group, group_size: 32, symmetric: false}"]
)
def test_a_recipe_that_asks_for_them_is_refused_with_the_reason(weights):
    text = f"version: 1\npasses:\n  - calibrate\n  - quantize: {{weights: {weights}}}\n  - convert\n"
    with pytest.raises(
        BadInput, match=r"mine, line 4: .*symmetric: is false, but no runtime reads zero points of weig"
    ):
        recipe.parse(text, "mine", "mine")
