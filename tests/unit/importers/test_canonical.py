"""The rewrites on hand-made graphs: which layer each spelling ends in. Needs no TensorFlow."""

import itertools

import numpy as np
import pytest

from tfq_pipeline.errors import UnsupportedLayer
from tfq_pipeline.importers.canonical import canonical
from tfq_pipeline.importers.ir import Call, Flat, Layer, Ref, TensorType, refs_in

SHAPE = TensorType((None, 4, 4, 8))


class Sketch:
    """Builds a graph call by call; every tensor is [None, 4, 4, 8] unless said."""

    def __init__(self):
        self.calls = []
        self.x = self.layer("InputLayer", (), batch_shape=SHAPE.shape, dtype="float32")

    def layer(self, kind, args, weights=(), types=(SHAPE,), **config):
        number = len(self.calls)
        made = Layer(kind, config, f"l{number}", f"l{number}", weights)
        return self.call(made, args, types)

    def call(self, layer, args, types=(SHAPE,)):
        self.calls.append(Call(len(self.calls), layer, tuple(args), {}, tuple(types)))
        return Ref(self.calls[-1].id)

    def op(self, name, *operands, types=(SHAPE,), **arguments):
        return self.layer("Op", operands, types=types, op=name, arguments=arguments)

    def done(self, *outputs):
        return canonical(Flat(tuple(self.calls), (self.x,), outputs))


def kinds(flat):
    return [c.layer.config["op"] if c.layer.kind == "Op" else c.layer.kind for c in flat.calls[1:]]


GATES = {
    "relu6": lambda s, x: s.op("relu6", s.op("add", x, 3.0)),
    "reversed": lambda s, x: s.op("relu6", s.op("add", 3, x)),
    "layer": lambda s, x: s.layer("ReLU", (s.op("add", x, np.float32(3)),), max_value=6.0),
    "activation": lambda s, x: s.layer("Activation", (s.op("add", x, 3.0),), activation="relu6"),
    "clip": lambda s, x: s.op("clip", s.op("add", x, 3.0), x_min=0, x_max=6),
}
SIXTHS = {
    "times": lambda s, x: s.op("multiply", x, 1 / 6),
    "by": lambda s, x: s.op("true_divide", x, 6.0),
    "array": lambda s, x: s.op("multiply", np.array([1 / 6], "float32"), x),
    "rescaling": lambda s, x: s.layer("Rescaling", (x,), scale=1 / 6, offset=0.0),
}
PRODUCTS = {
    "layer": lambda s, a, b: s.layer("Multiply", ([a, b],)),
    "op": lambda s, a, b: s.op("multiply", a, b),
}


@pytest.mark.parametrize(("gate", "sixth", "product"), itertools.product(GATES, SIXTHS, PRODUCTS))
def test_hard_swish_and_hard_sigmoid(gate, sixth, product):
    def spelled(order):
        s = Sketch()
        gated = GATES[gate](s, s.x)
        if order == "sigmoid":
            return s.done(SIXTHS[sixth](s, gated))
        if order == "gate first":
            return s.done(PRODUCTS[product](s, s.x, SIXTHS[sixth](s, gated)))
        if order == "x first":
            return s.done(PRODUCTS[product](s, SIXTHS[sixth](s, s.x), gated))
        return s.done(SIXTHS[sixth](s, PRODUCTS[product](s, gated, s.x)))

    assert kinds(spelled("sigmoid")) == ["HardSigmoid"]
    for order in ("gate first", "x first", "last"):
        assert kinds(spelled(order)) == ["HardSwish"]


def test_a_hard_swish_of_a_product_is_found():
    s = Sketch()
    x = s.op("multiply", s.x, s.op("sigmoid", s.x))
    assert kinds(s.done(s.op("multiply", x, s.op("multiply", GATES["relu6"](s, x), 1 / 6)))) == [
        "Activation",
        "Multiply",
        "HardSwish",
    ]


@pytest.mark.parametrize(
    "spell",
    [
        lambda s: s.op("multiply", s.op("multiply", s.x, GATES["relu6"](s, s.x)), 1 / 5),
        lambda s: s.op("true_divide", s.op("multiply", s.x, s.op("relu6", s.op("add", s.x, 2.0))), 6.0),
        lambda s: s.op("true_divide", s.op("multiply", s.op("tanh", s.x), GATES["relu6"](s, s.x)), 6.0),
        lambda s: s.op("true_divide", s.op("multiply", s.x, s.op("relu", s.op("add", s.x, 3.0))), 6.0),
        lambda s: s.op("true_divide", 6.0, GATES["relu6"](s, s.x)),
        lambda s: s.layer("Rescaling", (GATES["relu6"](s, s.x),), scale=1 / 6, offset=0.1),
        lambda s: s.op("multiply", GATES["relu6"](s, s.x), np.full((8,), 1 / 6, "float32")),
    ],
)
def test_what_is_no_hard_function_stays(spell):
    s = Sketch()
    assert not {"HardSwish", "HardSigmoid"} & set(kinds(s.done(spell(s))))


def test_what_another_reader_needs_stays_beside_the_fused_layer():
    s = Sketch()
    gate = GATES["relu6"](s, s.x)
    flat = s.done(s.op("multiply", s.op("multiply", s.x, gate), 1 / 6), gate)
    assert sorted(kinds(flat)) == ["HardSwish", "ReLU", "add"]


@pytest.mark.parametrize("kind", ["Dropout", "SpatialDropout2D", "GaussianNoise", "Identity", "RandomFlip", "MixUp"])
def test_what_does_nothing_at_inference_goes(kind):
    s = Sketch()
    flat = s.done(s.layer("ReLU", (s.layer(kind, (s.x,)),)))
    assert kinds(flat) == ["ReLU"]
    assert list(refs_in(list(flat.calls[1].args))) == [flat.inputs[0]]


@pytest.mark.parametrize(
    ("activation", "expected"),
    [
        ("linear", ["Conv2D"]),
        ("relu", ["Conv2D"]),
        ("relu6", ["Conv2D"]),
        ("softmax", ["Conv2D", "Softmax"]),
        ("hard_silu", ["Conv2D", "HardSwish"]),
        ("hard_sigmoid", ["Conv2D", "HardSigmoid"]),
        ("keras2_hard_sigmoid", ["Conv2D", "Activation"]),
        ("leaky_relu", ["Conv2D", "LeakyReLU"]),
        ("log_softmax", ["Conv2D", "log_softmax"]),
    ],
)
def test_activations_are_split_off_unless_a_kernel_fuses_them(activation, expected):
    s = Sketch()
    kernel = np.ones((1, 1, 8, 8), "float32")
    flat = s.done(s.layer("Conv2D", (s.x,), weights=(kernel,), activation=activation))
    assert kinds(flat) == expected
    assert flat.calls[1].layer.config["activation"] == (activation if len(expected) == 1 else "linear")
    assert {c.layer.origin for c in flat.calls[1:]} == {"l1"}


def test_a_shared_convolution_stays_shared_and_its_activations_do_not():
    s = Sketch()
    conv = Layer("Conv2D", {"activation": "tanh"}, "conv", "conv", (np.ones((1, 1, 8, 8), "float32"),))
    flat = s.done(s.call(conv, (s.call(conv, (s.x,)),)))
    convs = {c.layer for c in flat.calls if c.layer.kind == "Conv2D"}
    tanhs = {c.layer for c in flat.calls if c.layer.kind == "Activation"}
    assert (len(convs), len(tanhs)) == (1, 2)


def test_separable_convolution_becomes_two():
    s = Sketch()
    weights = (np.ones((3, 3, 8, 2), "float32"), np.ones((1, 1, 16, 5), "float32"), np.ones(5, "float32"))
    config = {
        "filters": 5,
        "kernel_size": (3, 3),
        "strides": (2, 2),
        "padding": "same",
        "dilation_rate": (1, 1),
        "depth_multiplier": 2,
        "use_bias": True,
        "activation": "relu",
    }
    flat = s.done(s.layer("SeparableConv2D", (s.x,), weights=weights, types=(TensorType((None, 2, 2, 5)),), **config))
    depthwise, pointwise = flat.calls[1:]
    assert (depthwise.layer.kind, pointwise.layer.kind) == ("DepthwiseConv2D", "Conv2D")
    assert depthwise.types[0].shape == (None, 2, 2, 16)
    assert pointwise.layer.config["activation"] == "relu"
    assert [len(c.layer.weights) for c in (depthwise, pointwise)] == [1, 2]


def test_operations_become_plain_layers_where_one_says_the_same():
    s = Sketch()
    pooled = s.op("mean", s.x, types=(TensorType((None, 8)),), axis=(1, 2))
    assert kinds(s.done(pooled)) == ["GlobalAveragePooling2D"]
    s = Sketch()
    assert kinds(s.done(s.op("mean", s.x, types=(TensorType((None, 4, 4)),), axis=-1))) == ["mean"]
    s = Sketch()
    assert kinds(s.done(s.op("reshape", s.x, types=(TensorType((None, 128)),), newshape=[-1, 128]))) == ["Reshape"]
    s = Sketch()
    assert kinds(s.done(s.op("reshape", s.x, types=(TensorType((None, 8)),), newshape=[-1, 8]))) == ["reshape"]
    s = Sketch()
    low = s.op("mean", s.x, types=(TensorType((4, 8)),), axis=(0, 1))
    assert kinds(s.done(s.op("add", s.x, low))) == ["mean", "add"]
    s = Sketch()
    assert kinds(s.done(s.op("add", s.x, s.op("concatenate", s.x, s.x, axis=1)))) == ["Concatenate", "Add"]


def test_a_split_becomes_slices():
    s = Sketch()
    halves = s.op("split", s.x, types=(TensorType((None, 4, 4, 4)),) * 2, indices_or_sections=2, axis=-1)
    flat = s.done(Ref(halves.call, 0), Ref(halves.call, 1))
    keys = [c.layer.config["arguments"]["key"][-1]["slice"] for c in flat.calls[1:]]
    assert keys == [[0, 4, None], [4, 8, None]]


def test_a_constant_kernel_and_bias_become_a_dense_layer():
    s = Sketch()
    product = s.op("matmul", s.x, np.ones((8, 3), "float64"), types=(TensorType((None, 4, 4, 3)),))
    flat = s.done(s.op("add", product, np.ones(3, "float32"), types=(TensorType((None, 4, 4, 3)),)))
    (dense,) = flat.calls[1:]
    assert dense.layer.kind == "Dense"
    assert [w.shape for w in dense.layer.weights] == [(8, 3), (3,)]
    assert all(w.dtype == np.float32 for w in dense.layer.weights)


def test_channels_first_names_the_layer():
    s = Sketch()
    with pytest.raises(UnsupportedLayer, match=r"layer 'l1' \(Conv2D\): it keeps its channels first"):
        s.done(s.layer("Conv2D", (s.x,), data_format="channels_first"))


def test_the_rewrites_are_idempotent():
    s = Sketch()
    x = s.layer("Conv2D", (s.x,), weights=(np.ones((1, 1, 8, 8), "float32"),), activation="hard_silu")
    once = s.done(s.op("add", s.op("softmax", x, axis=-1), 1.0))
    assert kinds(canonical(once)) == kinds(once)
