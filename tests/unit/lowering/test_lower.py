"""Lowered files: integers as planned, integer only, equal to the fake-quantized model, damaged files refused."""

import numpy as np
import pytest
import tf_keras

from tests.nets import images, mixed_net
from tfq_pipeline.data import Batch, Data
from tfq_pipeline.errors import BadInput, GateFailed
from tfq_pipeline.graph.keras_graph import KerasGraph
from tfq_pipeline.graph.protocol import Weights
from tfq_pipeline.graph.tflite_graph import TfliteGraph
from tfq_pipeline.importers.op_layer import HardSigmoid, HardSwish, OpLayer
from tfq_pipeline.lowering.convert import float_graph
from tfq_pipeline.lowering.lower import lower, lower_float
from tfq_pipeline.lowering.reference import fake_quantized
from tfq_pipeline.lowering.steady import settled
from tfq_pipeline.lowering.verify import verify
from tfq_pipeline.passes.calibrate import calibrate
from tfq_pipeline.passes.quantize import LayerRequest, Request, quantize
from tfq_pipeline.plan import TensorPlan
from tfq_pipeline.tflite import flatbuffer as fb
from tfq_pipeline.tflite import metadata
from tfq_pipeline.tflite.inspect import inspect
from tfq_pipeline.tflite.interpreter import open_model

layers = tf_keras.layers


def request(bits, granularity="channel", activations=8):
    return lambda *_: LayerRequest(Request(bits, True, granularity), Request(activations, False))


def tflite(model):
    """What a user has who converted the model, without its signature."""
    import tensorflow as tf

    converted = fb.read(tf.lite.TFLiteConverter.from_keras_model(model).convert())
    converted.signatureDefs = None
    return TfliteGraph.read(fb.pack(converted))


BACKENDS = {"keras": KerasGraph.from_model, "tflite": tflite}


def planned(model, data, bits, granularity="channel", backend="keras", activations=8):
    graph = BACKENDS[backend](model).fold_batch_norm()
    return graph, quantize(graph, calibrate(graph, data, "minmax", 96), request(bits, granularity, activations))


CASES = [(4, "channel", "keras"), (8, "tensor", "keras"), (4, "channel", "tflite"), (8, "channel", "tflite")]


@pytest.fixture(scope="module", params=CASES, ids=lambda p: "-".join(map(str, p)))
def lowered(request):
    graph, plan = planned(mixed_net(), images(), *request.param)
    return graph, plan, lower(graph, plan, "int8", "int8", {"float_size_bytes": len(lower_float(graph))})


def test_the_file_is_integer_only_and_agrees_with_the_fake_quantized_model(lowered):
    graph, plan, data = lowered
    result = verify(data, graph, plan, fake_quantized(graph, plan), images(), require_integer=True)
    assert result.samples == 96
    assert result.max_abs_error_lsb <= result.limit_lsb
    assert result.mean_abs_error_lsb < 0.5
    assert result.argmax_agreement > 0.95
    assert (result.float_ops, result.unfolded_batch_norms) == (0, 0)
    assert result.runtimes["litert"] == result.runtimes["tensorflow"] == "loads"


def test_other_weights_take_the_place_of_those_that_were_converted():
    """The file is the one that a conversion of its own gives, also where a layer gains its bias."""
    inputs = tf_keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, use_bias=False, activation="relu", name="first")(inputs)
    model = tf_keras.Model(inputs, layers.Dense(5, name="last")(layers.Flatten()(x)))
    rng = np.random.default_rng(4)
    data = Data("noise", lambda: iter([Batch((rng.normal(size=(32, 8, 8, 3)).astype(np.float32),))]), 32)
    graph = KerasGraph.from_model(model)
    other = graph.with_weights(
        {op.name: Weights(op.kernel[::-1].copy(), np.ones(op.channels, np.float32)) for op in graph.linear_ops()}
    )
    plan = quantize(other, calibrate(other, data, "minmax", 32), request(4))
    again = lower(other, plan, "int8", "int8", {})
    assert again != lower(graph, plan, "int8", "int8", {})
    (batch,) = data
    wanted = open_model(again).run(batch.inputs)[0]
    given = open_model(lower(other, plan, "int8", "int8", {}, like=float_graph(graph))).run(batch.inputs)[0]
    np.testing.assert_array_equal(given, wanted)


def test_a_depthwise_layer_of_4_bits_is_not_moved_upward_by_its_two_roundings():
    tf_keras.utils.set_random_seed(1)
    inputs = tf_keras.Input((8, 8, 64))
    model = tf_keras.Model(inputs, layers.DepthwiseConv2D(3, name="depthwise")(inputs))
    x = np.random.default_rng(8).uniform(0, 1, (96, 8, 8, 64)).astype(np.float32)
    data = Data("noise", lambda: iter([Batch((x,))]), len(x))
    graph, plan = planned(model, data, 4)
    source = plan.activations[graph.linear_ops()[0].input].affine
    target, weights = plan.activations["depthwise"].affine, plan.weights["depthwise"].affine
    _, shift = np.frexp(float(source.scale[0]) * weights.scale / float(target.scale[0]))
    assert shift.max() < 0
    runner, reference = open_model(lower(graph, plan, "int8", "int8", {})), fake_quantized(graph, plan)
    moved = (runner.run([x])[0] - reference([x])[0]).mean() / target.scale[0]
    # As they are, ties of the second rounding move outputs by 2^-(right + 1) steps.
    assert abs(moved) < 0.3 * np.mean(2.0 ** (shift - 1))


def test_inspect_tells_bits_granularity_layers_and_sizes(lowered):
    _, plan, data = lowered
    found = inspect(data)
    assert found["ops"]["CONV_2D"] == 3
    assert found["float_ops"] == found["unfolded_batch_norms"] == 0
    assert found["size_bytes"] == len(data)
    assert found["compression_ratio"] == pytest.approx(found["float_size_bytes"] / len(data), abs=1e-3)
    assert len(plan.weights) == 7
    by_layer = {w["layer"]: w for w in found["weights"]}
    assert set(by_layer) == set(plan.weights)
    for name, weight in by_layer.items():
        count = int(np.prod(weight["shape"]))
        assert weight["bits"] == plan.weights[name].bits
        assert weight["granularity"] == plan.weights[name].granularity
        assert weight["bytes"] == (-(-count // 2) if weight["bits"] == 4 else count)


def test_the_runtime_reads_the_signature_by_the_users_names():
    graph, plan = planned(mixed_net(), images(), 8)
    lowered = (graph, plan, lower(graph, plan, "int8", "int8", {}))
    model = open_model(lowered[2])
    (signature,) = fb.read(lowered[2]).signatureDefs
    assert [fb.text(t.name) for t in signature.inputs] == ["image"]
    assert [fb.text(t.name) for t in signature.outputs] == ["probabilities"]
    out = model.run(next(iter(images())).inputs)[0]
    assert out.shape == (40, 5)
    np.testing.assert_allclose(out.sum(axis=1), 1.0, atol=0.03)


def test_integers_that_a_pass_chose_are_stored():
    graph, plan = planned(mixed_net(), images(), 4)
    dense = next(op for op in graph.linear_ops() if op.name == "hidden")
    chosen = np.random.default_rng(0).integers(-7, 8, dense.kernel.shape).astype(np.int8)
    old = plan.weights["hidden"]
    plan = plan.with_weights({"hidden": TensorPlan(4, "uniform", "channel", old.affine, chosen)})
    model = fb.read(lower(graph, plan, "int8", "int8", {}))
    index = next(int(i) for i, e in metadata.read(model)["operators"].items() if e["layer"] == "hidden")
    op = next(op for op in fb.ops(model) if op.index == index)
    np.testing.assert_array_equal(fb.array(model, op.inputs[1]), chosen)


def test_a_file_with_other_integers_fails_verification():
    graph, plan = planned(mixed_net(), images(), 8)
    model = fb.read(lower(graph, plan, "int8", "int8", {}))
    op = next(op for op in fb.ops(model) if op.name == "FULLY_CONNECTED")
    values = fb.array(model, op.inputs[1]).copy()
    values[0, 0] ^= 1
    fb.set_array(model, op.inputs[1], "INT8", values)
    with pytest.raises(GateFailed, match="layer 'hidden': the file's weights are not the plan's 8-bit integers"):
        verify(fb.pack(model), graph, plan, fake_quantized(graph, plan), images(8), require_integer=True)


def test_a_skipped_layer_fails_an_integer_recipe_and_passes_another():
    graph = KerasGraph.from_model(mixed_net()).fold_batch_norm()
    ask = request(8)

    def skipping(name, kind, op):
        return LayerRequest(None, None) if name == "hidden" else ask()

    plan = quantize(graph, calibrate(graph, images(), "minmax", 96), skipping)
    data = lower(graph, plan, "float32", "float32", {})
    with pytest.raises(GateFailed, match="stay float"):
        verify(data, graph, plan, fake_quantized(graph, plan), images(16), require_integer=True)
    result = verify(data, graph, plan, fake_quantized(graph, plan), images(16), require_integer=False)
    assert result.float_ops >= 1


def test_a_float_head_gets_the_steps_of_the_integers_before_it():
    graph = KerasGraph.from_model(mixed_net()).fold_batch_norm()
    ask = request(4)

    def skipping(name, kind, op):
        return LayerRequest(None, None) if name in ("logits", "probabilities") else ask()

    plan = quantize(graph, calibrate(graph, images(), "minmax", 96), skipping)
    data = lower(graph, plan, "float32", "float32", {})
    result = verify(data, graph, plan, fake_quantized(graph, plan), images(64), require_integer=False)
    assert result.limit_lsb > 1
    assert result.argmax_agreement > 0.9
    # Integers that are not at the end are held to as well.
    model = fb.read(data)
    dense = next(op for op in fb.ops(model) if op.name == "FULLY_CONNECTED" and fb.type_name(op.outputs[0]) == "INT8")
    bias = fb.array(model, dense.inputs[2])
    fb.set_array(model, dense.inputs[2], "INT32", bias + 20_000)
    with pytest.raises(GateFailed, match="of its largest output, where rounding explains"):
        verify(fb.pack(model), graph, plan, fake_quantized(graph, plan), images(64), require_integer=False)


def single(layer, two=False):
    tf_keras.utils.set_random_seed(1)
    image = tf_keras.Input((8, 8, 4), name="image")
    x = layers.Conv2D(4, 3, padding="same", name="first")(image)
    y = layer([x, layers.Conv2D(4, 1, name="second")(image)]) if two else layer(x)
    return tf_keras.Model(image, layers.Conv2D(4, 1, name="last")(y) if len(y.shape) == 4 else y)


def op_layer(op, scalars=None, **arguments):
    return lambda: OpLayer(op=op, scalars=scalars, arguments=arguments)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("activations", [8, 4])
@pytest.mark.parametrize(
    ("layer", "operator", "two"),
    [
        pytest.param(*case, id=case[1] if isinstance(case[1], str) else None)
        for case in [
            (HardSwish, "HARD_SWISH", False),
            (HardSigmoid, "MUL", False),
            (lambda: layers.Activation("swish"), "LOGISTIC", False),
            (lambda: layers.Activation("tanh"), "TANH", False),
            (lambda: layers.LeakyReLU(0.1), "LEAKY_RELU", False),
            (lambda: layers.AveragePooling2D(), "AVERAGE_POOL_2D", False),
            (lambda: layers.GlobalAveragePooling2D(), "MEAN", False),
            (lambda: layers.UpSampling2D(2, interpolation="bilinear"), "RESIZE_BILINEAR", False),
            (lambda: layers.ZeroPadding2D(), "PAD", False),
            (lambda: layers.Conv2DTranspose(4, 3, strides=2, padding="same"), "TRANSPOSE_CONV", False),
            (lambda: layers.Multiply(), "MUL", True),
            (lambda: layers.Maximum(), "MAXIMUM", True),
            (lambda: layers.Average(), "ADD", True),
            (lambda: layers.Concatenate(), "CONCATENATION", True),
            (op_layer("add", {"1": 3.0}), "ADD", False),
            (op_layer("subtract", {"0": 1.0}), "SUB", False),
            (op_layer("max", axis=[1, 2], keepdims=True), "REDUCE_MAX", False),
            (op_layer("transpose", axes=[0, 2, 1, 3]), "TRANSPOSE", False),
            (
                op_layer("get_item", key=[{"slice": [None, None, None]}, {"slice": [1, 5, None]}]),
                "STRIDED_SLICE",
                False,
            ),
        ]
    ],
)
def test_every_kind_of_operator_becomes_integer(layer, operator, two, activations, backend):
    x = np.random.default_rng(0).uniform(-1, 1, (48, 8, 8, 4)).astype(np.float32)
    data = Data("noise", lambda: iter([Batch((x,))]), 48)
    graph, plan = planned(single(layer(), two), data, 8, backend=backend, activations=activations)
    file = lower(graph, plan, "int8", "int8", {})
    # A constant that the .tflite backend folds into the convolution before it leaves no operator.
    assert operator in inspect(file)["ops"] or (backend == "tflite" and operator in ("ADD", "MUL", "SUB"))
    assert verify(file, graph, plan, fake_quantized(graph, plan), data, require_integer=True).float_ops == 0


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("bits", [2, 4])
def test_activations_of_few_bits_take_no_more_values_in_the_file(bits, backend):
    graph, plan = planned(mixed_net(), images(), 8, backend=backend, activations=bits)
    file = lower(graph, plan, "int8", "int8", {})
    verify(file, graph, plan, fake_quantized(graph, plan), images(), require_integer=True)
    narrow = {float(t.affine.scale[0]) for t in plan.activations.values() if t.bits == bits}
    found = [
        (index, tensor)
        for index, tensor in enumerate(fb.read(file).subgraphs[0].tensors)
        if fb.type_name(tensor) == "INT8" and len(fb.scales(tensor)) == 1 and float(fb.scales(tensor)[0]) in narrow
    ]
    kept = [index for index, tensor in found if "unclipped" not in fb.text(tensor.name)]
    runner = open_model(file, keep_tensors=True, default_delegates=False)
    batch = next(iter(images(seed=3)))
    # Three times what calibration saw: every tensor meets values beyond both ends.
    raw = [runner.input_ports[0].to_file(3 * batch.inputs[0])]
    seen = [values for values in runner.run_raw(raw, kept) if values.size > 1]
    assert len(seen) >= 8
    assert all(values.min() >= 128 - 2**bits for values in seen)
    assert any(len(np.unique(values)) == 2**bits for values in seen)


@pytest.mark.parametrize("backend", BACKENDS)
def test_layers_between_activations_of_4_bits_give_what_exact_sums_give_to_the_last_value(backend):
    tf_keras.utils.set_random_seed(5)
    random = tf_keras.initializers.RandomNormal(stddev=0.1, seed=3)
    image = tf_keras.Input((10, 10, 4), name="image")
    x = layers.Conv2D(16, 1, activation="relu", name="first")(image)
    x = layers.DepthwiseConv2D(3, activation="relu", bias_initializer=random, name="depthwise")(x)
    x = layers.Conv2D(24, 1, bias_initializer=random, name="signed")(x)
    x = layers.Conv2D(24, 1, activation="relu", bias_initializer=random, name="last")(x)
    noise = np.random.default_rng(0).normal(size=(96, 10, 10, 4)).astype(np.float32)
    data = Data("noise", lambda: iter([Batch((noise,))]), 96)
    graph, plan = planned(tf_keras.Model(image, x), data, 4, backend=backend, activations=4)
    moved = settled(graph, plan)
    for op in graph.linear_ops():
        np.testing.assert_array_equal(
            moved.weights[op.name].integers(op.kernel), plan.weights[op.name].integers(op.kernel)
        )
        np.testing.assert_allclose(moved.weights[op.name].affine.scale, plan.weights[op.name].affine.scale, rtol=5.1e-3)
    assert _otherwise(graph, plan, noise) > 0
    assert _otherwise(graph, moved, noise) == 0


def _otherwise(graph, plan, noise):
    """How many values of layers behind the first the file rounds otherwise than sums in double of what they read."""
    file = lower(graph, plan, "int8", "int8", {})
    tensors = fb.read(file).subgraphs[0].tensors
    steps = {
        float(fb.scales(t)[0]): i
        for i, t in enumerate(tensors)
        if len(fb.scales(t)) == 1
        and fb.type_name(t) == "INT8"
        and not any(part in fb.text(t.name) for part in ("_unclipped", "lowest_of_"))
    }
    ops = graph.linear_ops()
    grids = {name: plan.activations[name].affine for name in [op.output for op in ops]}
    runner = open_model(file, keep_tensors=True, default_delegates=False)
    wanted = [steps[float(grid.scale[0])] for grid in grids.values()]
    raw = dict(zip(grids, runner.run_raw([runner.input_ports[0].to_file(noise)], wanted), strict=True))
    found = 0
    for op in ops[1:]:
        read, written = grids[op.input], grids[op.output]
        # Files hold 4 bits at the upper end of int8.
        x = (raw[op.input].astype(np.float64) - 120 - read.zero_point[0]) * read.scale[0]
        kernel = plan.weights[op.name].represented(op.kernel).astype(np.float64)
        if op.op == "DEPTHWISE_CONV_2D":
            windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(1, 2))
            sums = np.einsum("bhwcyx,yxc->bhwc", windows, kernel[0])
        else:
            sums = np.einsum("bhwi,oi->bhwo", x, kernel[:, 0, 0])
        integers = np.floor((sums + op.bias) / written.scale[0] + 0.5) + written.zero_point[0]
        found += int((np.clip(integers, -8, 7) + 120 != raw[op.output]).sum())
    return found


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("layer", [layers.AveragePooling2D(4), layers.GlobalAveragePooling2D()])
def test_means_of_activations_of_4_bits_have_8(layer, backend):
    x = np.random.default_rng(0).uniform(-1, 1, (48, 8, 8, 4)).astype(np.float32)
    data = Data("noise", lambda: iter([Batch((x,))]), 48)
    graph, plan = planned(single(layer), data, 8, backend=backend, activations=4)
    file = lower(graph, plan, "int8", "int8", {})
    (op,) = (op for op in fb.ops(fb.read(file)) if op.name in ("MEAN", "AVERAGE_POOL_2D"))
    (tensor,) = op.outputs
    index = int(op.operator.outputs[0])
    values = open_model(file, keep_tensors=True, default_delegates=False).run_raw(
        [open_model(file).input_ports[0].to_file(x)], [index]
    )[0]
    assert len(np.unique(values)) > 16
    mean = graph.tensors()[2].name
    source = plan.activations.get(mean, plan.activations[graph.tensors()[1].name])
    step = source.affine.scale[0] / (1 if mean in plan.activations else 16)
    assert fb.scales(tensor)[0] == pytest.approx(step)
    if mean in plan.activations:
        assert plan.activations[mean].bits == 8
        assert plan.reasons[mean] == "outputs of MEAN have 8 bits or more"


def test_inputs_and_fixed_scales_keep_8_bits():
    _, plan = planned(mixed_net(), images(), 8, activations=4)
    assert {name: t.bits for name, t in plan.activations.items() if t.bits == 8} == {"image": 8, "probabilities": 8}
    assert plan.reasons["image"] == "inputs of a model have 8 bits or more"


def test_a_shared_dense_layer_gets_a_bias_for_each_input_scale():
    left, right = tf_keras.Input((4,), name="left"), tf_keras.Input((4,), name="right")
    dense = layers.Dense(3, bias_initializer="ones", name="twin")
    model = tf_keras.Model([left, right], layers.Add()([dense(left), dense(right)]))
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(64, 4)).astype(np.float32), 10 * rng.normal(size=(64, 4)).astype(np.float32)
    data = Data("pair", lambda: iter([Batch((a, b))]), 64)
    graph, plan = planned(model, data, 8)
    file = lower(graph, plan, "int8", "int8", {})
    verify(file, graph, plan, fake_quantized(graph, plan), data, require_integer=True)
    got = open_model(file).run([a, b])[0]
    want = graph.run([a, b])[0]
    assert np.abs(got - want).max() < 0.05 * np.abs(want).max()


@pytest.mark.parametrize("damage", ["empty", "text", "cut", "folder", "missing"])
def test_a_bad_file_is_one_line_that_names_it(tmp_path, damage, lowered):
    path = tmp_path / "bad.tflite"
    content = {"empty": b"", "text": b"hello, this is not a model", "cut": lowered[2][: len(lowered[2]) // 2]}
    if damage == "folder":
        path.mkdir()
    elif damage != "missing":
        path.write_bytes(content[damage])
    with pytest.raises(BadInput, match=r"bad\.tflite: ") as error:
        inspect(path)
    assert "\n" not in str(error.value)


def test_a_write_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(BadInput, match="cannot be written"):
        fb.write_file(tmp_path / "missing" / "out.tflite", b"data")
    assert list(tmp_path.iterdir()) == []


def test_a_limit_that_no_value_comes_near_is_no_obstacle():
    """Steps of less than 6 / 2^31: kernels refuse to count those to 6."""
    layers = tf_keras.layers
    image = tf_keras.Input((6, 6, 3), name="image")
    x = layers.Conv2D(4, 3, activation="relu6", name="tiny", kernel_initializer="ones")(image)
    model = tf_keras.Model(image, layers.Conv2D(2, 1, name="last", kernel_initializer="ones")(x))
    model.get_layer("tiny").set_weights([np.full((3, 3, 3, 4), 2e-9, np.float32), np.zeros(4, np.float32)])
    graph = KerasGraph.from_model(model)
    data = images(20, 6)
    request = LayerRequest(Request(8, True, "channel"), Request(8, False))
    plan = quantize(graph, calibrate(graph, data, "minmax", 20), lambda *_: request)
    assert float(plan.activations["tiny"].affine.scale[0]) < 6 / 2**31
    file = lower(graph, plan, "int8", "int8", {})
    verify(file, graph, plan, fake_quantized(graph, plan), data, require_integer=True)
    x = next(iter(data)).inputs
    wanted = graph.run(x)[0]
    assert np.abs(open_model(file).run(x)[0] - wanted).max() < 0.03 * wanted.max()
