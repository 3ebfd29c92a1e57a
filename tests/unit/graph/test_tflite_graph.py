"""The .tflite backend of Graph: what it reads equals what the Keras backend of the same model reads and computes."""

import numpy as np
import pytest

from tests.nets import images, mixed_net
from tfq_pipeline.errors import BadInput
from tfq_pipeline.graph.keras_graph import KerasGraph
from tfq_pipeline.graph.protocol import Weights
from tfq_pipeline.graph.tflite_graph import TfliteGraph
from tfq_pipeline.lowering.lower import lower_float
from tfq_pipeline.tflite import flatbuffer as fb


@pytest.fixture(scope="module")
def keras():
    return KerasGraph.from_model(mixed_net()).fold_batch_norm()


@pytest.fixture(scope="module")
def graph(keras):
    return TfliteGraph.read(lower_float(keras))


@pytest.fixture(scope="module")
def unfolded():
    import tensorflow as tf

    return TfliteGraph.read(tf.lite.TFLiteConverter.from_keras_model(mixed_net()).convert())


def test_linear_operators_are_those_of_the_keras_backend(graph, keras):
    pairs = list(zip(graph.linear_ops(), keras.linear_ops(), strict=True))
    for mine, theirs in pairs:
        assert theirs.name in (mine.name, *mine.name.split("/"))
        assert (mine.op, mine.channel_axis, mine.activation) == (theirs.op, theirs.channel_axis, theirs.activation)
        assert (mine.strides, mine.dilations) == (theirs.strides, theirs.dilations)
        assert mine.padding == theirs.padding or mine.kernel.shape[1:3] == (1, 1)
        np.testing.assert_allclose(mine.kernel, theirs.kernel, atol=1e-6)
        zeros = np.zeros(mine.channels)  # the converter leaves a bias of zeros out
        np.testing.assert_allclose(zeros if mine.bias is None else mine.bias, theirs.bias, atol=1e-6)
    assert len(pairs) == 7


def test_tensors_tell_what_they_read_and_share(graph):
    tensors = {t.name: t for t in graph.tensors()}
    assert tensors["mixed/join/concat"].joined == ("mixed/lone_bn/BiasAdd", "mixed/side/Relu")
    assert tensors["mixed/flat/Reshape"].same_scale_as == "mixed/pool/MaxPool"
    assert tensors["mixed/residual_relu/Relu"].reads == ("mixed/stem/Relu6", "mixed/project/BiasAdd")
    assert tensors["probabilities"].fixed == (1 / 256, -128)
    assert (graph.inputs[0].name, graph.inputs[0].shape, graph.outputs) == ("image", (12, 12, 3), ("probabilities",))


def test_it_captures_and_runs_what_keras_computes(graph, keras):
    data = images(50, batch=20)
    pairs = {"mixed/stem/Relu6": "stem", "mixed/join/concat": "join", "image": "image"}
    captured = zip(graph.capture(list(pairs), data), keras.capture(list(pairs.values()), data), data, strict=True)
    for mine, theirs, batch in captured:
        for name, other in pairs.items():
            np.testing.assert_allclose(mine[name], theirs[other], atol=1e-5)
        np.testing.assert_allclose(graph.run(batch.inputs)[0], keras.run(batch.inputs)[0], atol=1e-6)


def test_a_batch_norm_that_the_converter_left_becomes_a_depthwise_convolution(unfolded):
    assert unfolded.batch_norms() == ("mixed/lone_bn/FusedBatchNormV32",)
    folded = unfolded.fold_batch_norm()
    assert folded.batch_norms() == ()
    assert [op.op for op in folded.linear_ops()].count("DEPTHWISE_CONV_2D") == 2
    x = next(iter(images())).inputs
    np.testing.assert_allclose(folded.run(x)[0], unfolded.run(x)[0], atol=1e-6)
    assert unfolded.batch_norms() == ("mixed/lone_bn/FusedBatchNormV32",), "folding leaves the graph as it was"


@pytest.mark.parametrize("name", ["ADD", "MUL", "SUB"])
@pytest.mark.parametrize("constant_first", [False, True])
def test_an_operation_by_a_channel_constant_folds_into_the_layer_before_it(name, constant_first):
    import tensorflow as tf

    rng = np.random.default_rng(0)
    kernel, constant = rng.normal(size=(3, 3, 2, 4)).astype(np.float32), rng.normal(size=4).astype(np.float32)
    operation = {"ADD": tf.add, "MUL": tf.multiply, "SUB": tf.subtract}[name]

    # The converter folds these itself, unless the constant becomes one after it is done.
    @tf.function(input_signature=[tf.TensorSpec((1, 6, 6, 2)), tf.TensorSpec((4,))])
    def net(x, c):
        y = tf.nn.conv2d(x, kernel, 1, "SAME")
        return tf.nn.relu(operation(c, y) if constant_first else operation(y, c))

    model = fb.read(tf.lite.TFLiteConverter.from_concrete_functions([net.get_concrete_function()]).convert())
    main = model.subgraphs[0]
    at = next(i for i in map(int, main.inputs) if fb.shape(main.tensors[i]) == (4,))
    main.inputs = np.array([i for i in main.inputs if i != at], np.int32)
    model.buffers.append(fb.schema().BufferT())
    main.tensors[at].buffer = len(model.buffers) - 1
    fb.set_array(model, main.tensors[at], "FLOAT32", constant)
    model.signatureDefs = None

    graph = TfliteGraph.read(fb.pack(model))
    folded = graph.fold_batch_norm()
    assert [op.name for op in folded.ops] == ["CONV_2D"]
    x = rng.normal(size=(3, 6, 6, 2)).astype(np.float32)
    np.testing.assert_allclose(folded.run([x])[0], graph.run([x])[0], atol=1e-5)


def test_new_weights_change_the_layer_and_nothing_else(graph):
    before = {op.name: op for op in graph.linear_ops()}
    stem = before["mixed/stem/Relu6"]
    changed = graph.with_weights({stem.name: Weights(stem.kernel * 2, stem.bias + 1)})
    for op in changed.linear_ops():
        factor, shift = (2, 1) if op.name == stem.name else (1, 0)
        np.testing.assert_array_equal(op.kernel, before[op.name].kernel * factor)
        if op.name == stem.name or before[op.name].bias is not None:
            np.testing.assert_array_equal(op.bias, before[op.name].bias + shift)
    x = next(iter(images())).inputs
    assert not np.array_equal(changed.run(x)[0], graph.run(x)[0])


def test_a_shared_constant_is_left_to_the_other_operator():
    import tensorflow as tf

    kernel = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)

    @tf.function(input_signature=[tf.TensorSpec((1, 4))])
    def net(x):
        return tf.matmul(tf.nn.relu(tf.matmul(x, kernel)), kernel)

    data = tf.lite.TFLiteConverter.from_concrete_functions([net.get_concrete_function()]).convert()
    graph = TfliteGraph.read(data)
    first, second = graph.linear_ops()
    changed = graph.with_weights({first.name: Weights(first.kernel + 1, first.bias)}).linear_ops()
    np.testing.assert_array_equal(changed[0].kernel, first.kernel + 1)
    np.testing.assert_array_equal(changed[1].kernel, second.kernel)


def test_weights_in_half_precision_become_float32(keras):
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(keras.net.build(batch_size=1))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tf.float16]
    graph = TfliteGraph.read(converter.convert())
    assert len(graph.linear_ops()) == 7
    assert "DEQUANTIZE" not in [op.name for op in graph.ops]
    x = next(iter(images())).inputs
    np.testing.assert_allclose(graph.run(x)[0], keras.run(x)[0], atol=0.01)


def test_a_quantized_file_is_refused(keras):
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(keras.net.build(batch_size=1))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    with pytest.raises(BadInput, match=r"the model: quantized already \(operator .* give the float model"):
        TfliteGraph.read(converter.convert())


def test_a_file_of_batches_takes_any_number_of_samples(keras):
    import tensorflow as tf

    files = [tf.lite.TFLiteConverter.from_keras_model(keras.net.build(batch_size=n)).convert() for n in (1, 4)]
    one, four = map(TfliteGraph.read, files)
    for count in (10, 4, 3):
        x = [next(iter(images(count))).inputs[0]]
        np.testing.assert_allclose(four.run(x)[0], one.run(x)[0], atol=1e-6)
        assert len(four.run(x)[0]) == count


def test_a_converted_model_gives_the_ranges_that_keras_gives():
    """A layer that is called twice has one range over both calls."""
    import tf_keras

    from tfq_pipeline.lowering.convert import float_graph
    from tfq_pipeline.passes.calibrate import calibrate

    layers = tf_keras.layers
    image = tf_keras.Input((12, 12, 3), name="image")
    shared = layers.Conv2D(3, 3, padding="same", name="shared")
    x = layers.Add(name="sum")([shared(image), shared(shared(image))])
    graph = KerasGraph.from_model(tf_keras.Model(image, layers.ReLU(name="last")(x)))
    by_keras = calibrate(graph, images(), "minmax", 96)
    by_file = calibrate(graph, images(), "minmax", 96, runner=float_graph(graph))
    assert by_file.samples == by_keras.samples == 96
    assert set(by_file.ranges) == set(by_keras.ranges) >= {"image", "shared", "last"}
    for name, limits in by_keras.ranges.items():
        np.testing.assert_allclose(by_file.ranges[name], limits, rtol=1e-4, atol=1e-5)
