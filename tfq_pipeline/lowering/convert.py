"""TFLiteConverter, full integer: structure, activation scales and fused operators come from it."""

from __future__ import annotations

import contextlib
import io
import warnings
from typing import Any, Literal

from tfq_pipeline.errors import GateFailed

IoType = Literal["int8", "float32"]


def convert_float(model: Any) -> bytes:
    """The float .tflite of a tf_keras model with batch size 1.

    Raises:
        GateFailed: when the converter refuses.
    """
    return _convert(model, None, None)


def convert_fake_quantized(model: Any, inputs: IoType, outputs: IoType) -> bytes:
    """The integer .tflite of a fake-quantized tf_keras model with batch size 1; ranges come from its FakeQuant nodes.

    Args:
        inputs, outputs: "int8", or "float32" with a (de)quantization at that end.

    Raises:
        GateFailed: when the converter refuses.
    """
    return _convert(model, inputs, outputs)


def _convert(model: Any, inputs: IoType | None, outputs: IoType | None) -> bytes:
    import tensorflow as tf

    types = {"int8": tf.int8, "float32": tf.float32}
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    if inputs is not None and outputs is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.inference_input_type = types[inputs]
        converter.inference_output_type = types[outputs]
    said = io.StringIO()
    try:
        # The converter warns of missing statistics for inputs, which FakeQuant nodes give, and prints its folders.
        with warnings.catch_warnings(), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            warnings.simplefilter("ignore")
            return bytes(converter.convert())
    except Exception as error:  # the converter raises a class of its own for every refusal
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise GateFailed(
            f"model '{model.name}': TFLiteConverter refused it: {first}; --verbosity=1 shows all of it"
        ) from error
