"""A layer that the converter folds nothing across."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tf_keras

from tfq_pipeline.tflite import edit
from tfq_pipeline.tflite import flatbuffer as fb


class Barrier(tf_keras.layers.Layer):
    """The identity, as a fake quantization, which becomes a QUANTIZE and a DEQUANTIZE in a float .tflite.

    TFLiteConverter would otherwise multiply a scale or a constant into the weights of another layer, across a tensor
    that the plan quantizes.
    """

    def call(self, x: Any) -> Any:
        return tf.quantization.fake_quant_with_min_max_args(x, -1.0, 1.0, num_bits=16)


def remove_barriers(model: Any) -> None:
    """Takes every QUANTIZE that a DEQUANTIZE reads out of a float file, in place, and joins what they parted."""
    main = model.subgraphs[0]
    quantized = {
        int(op.operator.outputs[0]): (op.index, int(op.operator.inputs[0]))
        for op in fb.ops(model)
        if op.name == "QUANTIZE"
    }
    moved: dict[int, int] = {}
    gone: set[int] = set()
    for op in fb.ops(model):
        source = int(op.operator.inputs[0]) if op.name == "DEQUANTIZE" else -1
        if source in quantized:
            index, moved[int(op.operator.outputs[0])] = quantized[source]
            gone |= {op.index, index}
    main.operators = [o for i, o in enumerate(main.operators) if i not in gone]
    for operator in main.operators:
        edit.map_inputs(operator, lambda i: moved.get(i, i))
    edit.move_ports(model, {}, moved)
