"""Makes the models that the bench runs: structures in wide use, random weights, every format that is compared.

    python -m delegates.int4.bench.models --output out/bench

Speed depends on shapes, types and the ops around the layers, not on what the weights are worth: weights are random
(He et al. 2015, arXiv:1502.01852) and batch norms hold the statistics of a random batch, which keeps the ranges of
activations sane. Each float model is converted once; ai-edge-quantizer makes the other formats of it. INT4 weights with
static int8 activations, which it has for no depthwise convolution, come from its int8 file: the same graph with coarser
weights.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tfq_pipeline.lowering.rewrite_weights import quantized_bias
from tfq_pipeline.lowering.steady import bias_scale
from tfq_pipeline.numerics.affine import from_range, quantize, weight_range
from tfq_pipeline.tflite import flatbuffer as fb
from tfq_pipeline.tflite.operators import LINEAR

_CALIBRATION_SAMPLES = 2
_MOMENTUM_OF_ONE_BATCH = 0.0

Shape = tuple[int, ...]


def _application(name: str, **options: Any) -> Callable[[Shape], Any]:
    def build(shape: Shape) -> Any:
        import tf_keras

        return getattr(tf_keras.applications, name)(
            input_shape=shape, weights=None, classifier_activation=None, **options
        )

    return build


def _efficientnet_lite0(shape: Shape) -> Any:
    """EfficientNet-B0 (Tan and Le 2019, arXiv:1905.11946) without squeeze-and-excite and with ReLU6."""
    from tf_keras import Model, layers

    def convolved(x: Any, channels: int | None, kernel: int, stride: int = 1, active: bool = True) -> Any:
        if channels is None:
            x = layers.DepthwiseConv2D(kernel, stride, "same", use_bias=False)(x)
        else:
            x = layers.Conv2D(channels, kernel, stride, "same", use_bias=False)(x)
        x = layers.BatchNormalization()(x)
        return layers.ReLU(6.0)(x) if active else x

    image = layers.Input(shape)
    x = convolved(image, 32, 3, 2)
    for kernel, expand, channels, repeats, stride in (
        (3, 1, 16, 1, 1),
        (3, 6, 24, 2, 2),
        (5, 6, 40, 2, 2),
        (3, 6, 80, 3, 2),
        (5, 6, 112, 3, 1),
        (5, 6, 192, 4, 2),
        (3, 6, 320, 1, 1),
    ):
        for step in (stride, *[1] * (repeats - 1)):
            before = x
            if expand > 1:
                x = convolved(x, expand * before.shape[-1], 1)
            x = convolved(convolved(x, None, kernel, step), channels, 1, active=False)
            if step == 1 and before.shape[-1] == channels:
                x = layers.Add()([before, x])
    x = layers.GlobalAveragePooling2D()(convolved(x, 1280, 1))
    return Model(image, layers.Dense(1000)(x))


def _dense(units: int) -> Callable[[Shape], Any]:
    def build(shape: Shape) -> Any:
        from tf_keras import Sequential, layers

        return Sequential([layers.Input(shape), layers.Dense(units)])

    return build


def _transformer(shape: Shape) -> Any:
    """One encoder block (Vaswani et al. 2017, arXiv:1706.03762), normalized first, with 64 channels a head."""
    from tf_keras import Model, layers

    sequence, width = shape
    heads = width // 64
    tokens = layers.Input(shape)

    def split(x: Any) -> Any:
        return layers.Permute((2, 1, 3))(layers.Reshape((sequence, heads, 64))(layers.Dense(width)(x)))

    normal = layers.LayerNormalization()(tokens)
    query, key, value = split(normal), layers.Permute((1, 3, 2))(split(normal)), split(normal)
    attention = layers.Softmax()(layers.Lambda(lambda both: both[0] @ both[1] / 8.0)([query, key]))
    mixed = layers.Permute((2, 1, 3))(layers.Lambda(lambda both: both[0] @ both[1])([attention, value]))
    x = layers.Add()([tokens, layers.Dense(width)(layers.Reshape((sequence, width))(mixed))])
    hidden = layers.Dense(4 * width, activation="relu")(layers.LayerNormalization()(x))
    return Model(tokens, layers.Add()([x, layers.Dense(width)(hidden)]))


@dataclass(frozen=True)
class Structure:
    """A model to make: the shape of one input, without the batch, and how it is built."""

    name: str
    shape: Shape
    build: Callable[[Shape], Any]
    batch: int = 1
    dense: bool = False


_IMAGE = (224, 224, 3)

STRUCTURES: tuple[Structure, ...] = (
    Structure("mobilenet_v1", _IMAGE, _application("MobileNet")),
    Structure("mobilenet_v2", _IMAGE, _application("MobileNetV2")),
    Structure("mobilenet_v3_small", _IMAGE, _application("MobileNetV3Small", include_preprocessing=False)),
    Structure("mobilenet_v3_large", _IMAGE, _application("MobileNetV3Large", include_preprocessing=False)),
    Structure("efficientnet_lite0", _IMAGE, _efficientnet_lite0),
    Structure("resnet50", _IMAGE, _application("ResNet50")),
    Structure("transformer", (128, 512), _transformer, dense=True),
    Structure("dense_1x4096x4096", (4096,), _dense(4096), dense=True),
    Structure("dense_32x1024x1024", (1024,), _dense(1024), batch=32, dense=True),
)


def make(structure: Structure, seed: int = 0) -> dict[str, bytes]:
    """The files of a structure by format.

    f32, i8 and i4 (both with static int8 activations); of dense models also i4_dynamic (INT4 per channel, activations
    quantized at run time), i4b32_dynamic (in blocks of 32) and i4_weight_only.
    """
    from ai_edge_quantizer import recipe

    floating = _float_model(structure, seed)
    int8 = _quantized(floating, recipe.static_wi8_ai8(), _samples(structure, seed))
    files = {"f32": floating, "i8": int8, "i4": int4_weights(int8)}
    if structure.dense:
        files["i4_dynamic"] = _quantized(floating, recipe.dynamic_wi4c_afp32())
        files["i4b32_dynamic"] = _quantized(floating, recipe.dynamic_wi4b32_afp32())
        files["i4_weight_only"] = _quantized(floating, recipe.weight_only_wi4_afp32())
    return files


def _samples(structure: Structure, seed: int, count: int = _CALIBRATION_SAMPLES) -> np.ndarray:
    """[count, batch, ...] float32 in [-1, 1]."""
    rng = np.random.default_rng(seed)
    return rng.uniform(-1, 1, (count, structure.batch, *structure.shape)).astype(np.float32)


def _float_model(structure: Structure, seed: int) -> bytes:
    import tensorflow as tf
    import tf_keras

    tf_keras.utils.set_random_seed(seed)
    model = structure.build(structure.shape)
    # One stream of numbers: equal weights in two layers would be stored once.
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, tf_keras.layers.BatchNormalization):
            layer.momentum = _MOMENTUM_OF_ONE_BATCH
        for variable in layer.trainable_weights:
            if "kernel" in variable.name:
                variable.assign(_he_normal(rng, tuple(variable.shape), "depthwise" in variable.name))
    model(_samples(structure, seed, 4).reshape(-1, *structure.shape), training=True)
    function = tf.function(lambda x: model(x, training=False))
    signature = function.get_concrete_function(tf.TensorSpec((structure.batch, *structure.shape), name="x"))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([signature], model)
    return bytes(converter.convert())


def _he_normal(rng: np.random.Generator, shape: Shape, depthwise: bool) -> np.ndarray:
    """A Keras kernel [..., in, out], or [height, width, channels, 1] of a depthwise convolution."""
    inputs = np.prod(shape[:-2] if depthwise else shape[:-1])
    return rng.normal(0, np.sqrt(2 / inputs), shape).astype(np.float32)


def _quantized(floating: bytes, recipe: Any, samples: np.ndarray | None = None) -> bytes:
    """What ai-edge-quantizer makes of a float file."""
    from ai_edge_litert.interpreter import Interpreter
    from ai_edge_quantizer import quantizer

    tool = quantizer.Quantizer(floating, recipe)
    ranges = None
    if samples is not None:
        (name, signature), *_ = Interpreter(model_content=floating).get_signature_list().items()
        ranges = tool.calibrate({name: [{signature["inputs"][0]: sample} for sample in samples]})
    return bytes(tool.quantize(ranges, enable_progress_report=False).quantized_model)


def int4_weights(int8: bytes) -> bytes:
    """The same static int8 model with the weights of its linear ops at 4 bits, one scale a channel."""
    model = fb.read(int8)
    for op in fb.ops(model):
        if op.name not in LINEAR:
            continue
        at, axis = LINEAR[op.name], LINEAR[op.name].channel_axis
        weights = op.inputs[at.weights]
        if not fb.is_constant(model, weights) or fb.type_name(weights) != "INT8":
            continue
        real = fb.array(model, weights) * _along(fb.scales(weights), axis, len(fb.shape(weights)))
        affine = from_range(*weight_range(real, axis), 4, symmetric=True, narrow=True, axis=axis)
        fb.set_array(model, weights, "INT4", quantize(real, affine))
        _set_scales(weights, affine.scale, axis)
        if at.bias < len(op.inputs) and op.inputs[at.bias] is not None:
            bias = op.inputs[at.bias]
            values = fb.array(model, bias) * fb.scales(bias).astype(np.float64)
            scale = bias_scale(float(fb.scales(op.inputs[at.input])[0]), affine)
            fb.set_array(model, bias, "INT32", quantized_bias(values, scale, len(scale)))
            _set_scales(bias, scale.astype(np.float32), 0)
    return fb.pack(model)


def _along(scale: np.ndarray, axis: int, rank: int) -> np.ndarray:
    return scale.reshape([-1 if i == axis else 1 for i in range(rank)])


def _set_scales(tensor: Any, scale: np.ndarray, axis: int) -> None:
    quantization = fb.schema().QuantizationParametersT()
    quantization.scale, quantization.zeroPoint = scale, np.zeros(len(scale), np.int64)
    quantization.quantizedDimension = axis
    tensor.quantization = quantization


def write(structures: Iterable[Structure], folder: Path) -> None:
    """Makes what the folder does not hold yet: FOLDER/NAME.FORMAT.tflite."""
    folder.mkdir(parents=True, exist_ok=True)
    for structure in structures:
        if (folder / f"{structure.name}.f32.tflite").exists():
            continue
        files = make(structure)
        # The float file last: it says that the others are there.
        for kind in sorted(files, key="f32".__eq__):
            fb.write_file(folder / f"{structure.name}.{kind}.tflite", files[kind])
        print(f"{structure.name}: " + ", ".join(f"{kind} {len(data)} bytes" for kind, data in files.items()))


def main() -> None:
    names = [structure.name for structure in STRUCTURES]
    parser = argparse.ArgumentParser(description="Makes the models that the bench runs.")
    parser.add_argument("--output", type=Path, default=Path("out/bench"), help="folder of the files")
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"of {', '.join(names)}; all where none is named")
    args = parser.parse_args()
    if unknown := set(args.models) - set(names):
        parser.error(f"unknown model {', '.join(sorted(unknown))}; known: {', '.join(names)}")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    write([s for s in STRUCTURES if not args.models or s.name in args.models], args.output)


if __name__ == "__main__":
    main()
