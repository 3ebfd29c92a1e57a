"""Keras 3 models become flat tf_keras models whose outputs equal the original's, on real images where they can."""

import keras
import numpy as np
import pytest
import tf_keras
from keras import layers, ops

from tfq_pipeline import importers
from tfq_pipeline.datasets import fashion_mnist
from tfq_pipeline.errors import BadInput, GateFailed, UnsupportedLayer

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def photos():
    """Eight real images, float32 [8, 28, 28, 1] in 0..255."""
    return fashion_mnist.arrays("test")[0][:8] * 255.0


def randomize(model, seed=3):
    """Statistics and biases that a trained model could have, so that no layer hides behind zeros and ones."""
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        path = variable.path
        if path.endswith(("moving_variance", "gamma")):
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
        elif path.endswith(("moving_mean", "beta", "bias")):
            variable.assign(rng.normal(0.0, 0.2, variable.shape))
    return model


def flat_list(outputs):
    return [np.asarray(t) for t in keras.tree.flatten(outputs)]


def ported(model, tmp_path, *inputs):
    """The import of the saved model, after its outputs were compared with the model's own."""
    randomize(model)
    path = tmp_path / "model.keras"
    model.save(path)
    imported = importers.load(path)
    assert isinstance(imported.model, tf_keras.Model)
    assert imported.format == "keras3"
    compare(model, imported, *inputs)
    return imported


def compare(model, imported, *inputs):
    arrays = list(inputs) or [
        np.random.default_rng(0).normal(size=(4, *t.shape[1:])).astype(t.dtype) for t in model.inputs
    ]
    want = flat_list(model(arrays if len(arrays) > 1 else arrays[0], training=False))
    got = flat_list(imported.model(arrays, training=False))
    assert len(want) == len(got)
    for expected, actual in zip(want, got, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=0, atol=TOLERANCE * max(1.0, np.abs(expected).max()))
    assert imported.model.output_shape is not None
    assert all(type(m).__name__ not in ("Functional", "Sequential", "TFOpLambda") for m in imported.model.layers)


def kinds(imported):
    return [type(m).__name__ for m in imported.model.layers]


def test_sequential(tmp_path, photos):
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1), name="image"),
            layers.Rescaling(1 / 255),
            layers.RandomFlip(),
            layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(6.0),
            layers.DepthwiseConv2D(3, activation="relu"),
            layers.BatchNormalization(scale=False),
            layers.LeakyReLU(0.1),
            layers.Dropout(0.3),
            layers.AveragePooling2D(2),
            layers.Flatten(),
            layers.GaussianNoise(0.1),
            layers.Dense(10, activation="softmax", name="logits"),
        ]
    )
    imported = ported(model, tmp_path, photos)
    assert kinds(imported) == [
        "InputLayer",
        "Rescaling",
        "Conv2D",
        "BatchNormalization",
        "ReLU",
        "DepthwiseConv2D",
        "BatchNormalization",
        "LeakyReLU",
        "AveragePooling2D",
        "Flatten",
        "Dense",
        "Softmax",
    ]
    assert imported.layer_names["logits"] == imported.layer_names["logits_softmax"] == "logits"
    (spec,) = imported.input_specs
    assert (spec.name, spec.shape, spec.dtype) == ("image", (28, 28, 1), "float32")


def test_residual(tmp_path, photos):
    image = keras.Input((28, 28, 1))
    x = layers.Conv2D(8, 3, padding="same", activation="relu")(image)
    y = layers.Conv2D(8, 3, padding="same")(x)
    x = layers.Add()([x, y])
    x = layers.Concatenate()([layers.MaxPooling2D()(x), layers.Conv2D(4, 2, strides=2)(x)])
    x = layers.GlobalAveragePooling2D(keepdims=True)(layers.ZeroPadding2D(((1, 0), (0, 1)))(x))
    model = keras.Model(image, layers.Dense(5)(layers.Reshape((12,))(layers.UpSampling2D(1)(x))))
    ported(model, tmp_path, photos)


def test_nested_two_levels(tmp_path, photos):
    def head(channels):
        inner = keras.Input((None, None, channels))
        block = keras.Sequential([layers.Conv2D(4, 3, name="conv"), layers.BatchNormalization(name="bn")], name="block")
        return keras.Model(inner, layers.ReLU(name="relu")(block(inner)), name="stem")

    image = keras.Input((28, 28, 1))
    x = head(1)(image)
    x = keras.Sequential([keras.Input((26, 26, 4)), layers.Conv2D(3, 1, name="conv")], name="neck")(x, training=False)
    model = keras.Model(image, layers.Activation("sigmoid")(x))
    imported = ported(model, tmp_path, photos)
    assert imported.layer_names["stem_block_conv"] == "stem/block/conv"
    assert imported.layer_names["neck_conv"] == "neck/conv"


def test_a_shared_layer_stays_one_and_a_shared_relu_becomes_two(tmp_path, photos):
    image = keras.Input((28, 28, 1))
    shared, relu = layers.Conv2D(1, 3, padding="same", activation="hard_silu", name="shared"), layers.ReLU()
    x = relu(shared(image))
    x = relu(layers.Add()([shared(x), image]))
    imported = ported(keras.Model(image, x), tmp_path, photos)
    assert kinds(imported).count("Conv2D") == 1
    assert len(imported.model.get_layer("shared")._inbound_nodes) == 2
    assert kinds(imported).count("ReLU") == kinds(imported).count("HardSwish") == 2


def test_a_nested_model_called_twice_shares_its_layers(tmp_path):
    inner = keras.Input((6,))
    tower = keras.Model(inner, layers.Dense(4, activation="tanh", name="dense")(inner), name="tower")
    left, right = keras.Input((6,), name="left"), keras.Input((6,), name="right")
    model = keras.Model([left, right], layers.Subtract()([tower(left), tower(right)]))
    imported = ported(model, tmp_path)
    assert kinds(imported).count("Dense") == 1
    assert imported.layer_names["tower_dense"] == "tower/dense"


def test_two_inputs_and_two_outputs_in_dicts(tmp_path):
    inputs = {"b": keras.Input((8, 8, 2), name="wide"), "a": keras.Input((3,), name="flat")}
    x = layers.Flatten()(layers.Conv2D(2, 3, name="conv")(inputs["b"]))
    outputs = {"y": layers.Concatenate()([x, inputs["a"]]), "x": layers.Dense(3)(inputs["a"])}
    model = randomize(keras.Model(inputs, outputs))
    path = tmp_path / "model.keras"
    model.save(path)
    imported = importers.load(path)
    assert [s.name for s in imported.input_specs] == ["flat", "wide"]
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(4, 3)).astype("float32"), rng.normal(size=(4, 8, 8, 2)).astype("float32")
    want = model({"a": a, "b": b})
    got = imported.model([a, b])
    np.testing.assert_allclose(got[0], want["x"], atol=1e-5)
    np.testing.assert_allclose(got[1], want["y"], atol=1e-5)


def test_a_nested_model_with_a_list_of_inputs_and_outputs(tmp_path):
    a, b = keras.Input((5,)), keras.Input((5,))
    inner = keras.Model([a, b], [layers.Dense(3)(a), layers.Maximum()([a, b])], name="inner")
    left, right = keras.Input((5,)), keras.Input((5,))
    y, z = inner([layers.Dense(5)(right), left])
    ported(keras.Model([left, right], [z, y]), tmp_path)


SPELLINGS = {
    "activation": lambda x: layers.Activation("hard_silu")(x),
    "hard_swish": lambda x: layers.Activation("hard_swish")(x),
    "operation": lambda x: ops.hard_silu(x),
    "operators": lambda x: x * ops.relu6(x + 3.0) / 6.0,
    "reversed": lambda x: (1.0 / 6.0) * (ops.relu6(3.0 + x) * x),
    "applications": lambda x: layers.Multiply()([x, layers.ReLU(6.0)(x + 3.0) * (1.0 / 6.0)]),
    "hard sigmoid": lambda x: x * layers.Activation("hard_sigmoid")(x),
    "rescaling": lambda x: layers.Rescaling(1.0 / 6.0)(ops.multiply(layers.Activation("relu6")(x + 3), x)),
    "clip": lambda x: x * (ops.clip(x + 3.0, 0.0, 6.0) / 6.0),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_hard_swish_is_one_layer_in_every_spelling(spelling, tmp_path, photos):
    image = keras.Input((28, 28, 1))
    x = layers.Conv2D(4, 3)(layers.Rescaling(1 / 32)(image))
    imported = ported(keras.Model(image, SPELLINGS[spelling](x)), tmp_path, photos)
    assert kinds(imported) == ["InputLayer", "Rescaling", "Conv2D", "HardSwish"]


def test_products_that_are_no_hard_swish_stay(tmp_path):
    x = keras.Input((4,))
    y = layers.Dense(4)(x)
    outputs = [y * ops.relu6(x + 3.0) / 6.0, x * ops.relu6(x + 3.0) / 5.0, x * ops.relu6(x + 2.0) / 6.0]
    imported = ported(keras.Model(x, outputs), tmp_path)
    assert "HardSwish" not in kinds(imported)


def test_squeeze_and_excite(tmp_path, photos):
    image = keras.Input((28, 28, 1))
    x = layers.Conv2D(8, 3, activation="silu")(layers.Rescaling(1 / 255)(image))
    gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = layers.Conv2D(2, 1, activation="relu")(gate)
    gate = layers.Conv2D(8, 1, activation="hard_sigmoid")(gate)
    imported = ported(keras.Model(image, layers.Multiply()([x, gate])), tmp_path, photos)
    assert kinds(imported).count("HardSigmoid") == 1


ARITHMETIC = {
    "scalars": lambda x: (3.0 - x) * 2 / 255 + 0.5,
    "powers": lambda x: ops.sqrt(ops.abs(x) ** 2 + 1.0) - (-x),
    "arrays": lambda x: x * np.linspace(0.5, 2.0, 4, dtype="float32") + np.ones((6, 6, 4), "float32"),
    "broadcast": lambda x: x - ops.mean(x, axis=(1, 2), keepdims=True),
    "lower rank": lambda x: x * ops.mean(x, axis=(0, 1, 2)),
    "reductions": lambda x: ops.concatenate(
        [ops.max(x, axis=(1, 2)), ops.sum(x, axis=(1, 2)), ops.var(x, axis=(1, 2))]
    ),
    "slices": lambda x: x[:, 1:-1, ::2, ..., :3],
    "index": lambda x: x[:, 0, None],
    "reshape": lambda x: ops.reshape(x, (-1, 36, 4)),
    "transpose": lambda x: ops.transpose(x, (0, 3, 1, 2)),
    "split": lambda x: ops.add(*ops.split(x, 2, axis=-1)),
    "split at": lambda x: ops.split(x, [1, 3], axis=1),
    "stack": lambda x: ops.stack([x, ops.tanh(x)], axis=1),
    "squeeze": lambda x: ops.squeeze(ops.expand_dims(x[:, :1], 2), axis=(1,)),
    "pad": lambda x: ops.pad(x, ((0, 0), (1, 2), (0, 0), (0, 0))),
    "where": lambda x: ops.where(x > 0.0, x, x * 0.1),
    "clip": lambda x: ops.clip(x, -1.0, 1.0),
    "softmax": lambda x: ops.softmax(x, axis=1) + ops.log_softmax(x),
    "einsum": lambda x: ops.einsum("bhwc,bhwd->bcd", x, x),
    "matmul": lambda x: ops.matmul(x, ops.transpose(x, (0, 1, 3, 2))),
    "resize": lambda x: ops.image.resize(x, (9, 5), interpolation="nearest"),
    "pools": lambda x: ops.max_pool(x, 2) + ops.average_pool(x, 2, strides=2, padding="same"),
    "activations": lambda x: (
        ops.leaky_relu(x, 0.3) + ops.elu(x) + ops.gelu(x) + ops.gelu(x, approximate=False) + ops.celu(x) + ops.selu(x)
    ),
    "extrema": lambda x: ops.maximum(x, 0.1) + ops.minimum(x, ops.square(x)),
    "moves": lambda x: ops.moveaxis(ops.swapaxes(x, 1, 3), 2, 1),
    "tile": lambda x: ops.repeat(ops.tile(x, (1, 2, 1, 1)), 2, axis=2),
    "flip": lambda x: ops.flip(x, axis=1),
    "argmax": lambda x: ops.cast(ops.argmax(x, axis=-1), "float32"),
    "normalize": lambda x: ops.normalize(x, axis=-1),
    "take": lambda x: ops.take(x, [2, 0], axis=-1),
}


@pytest.mark.parametrize("name", ARITHMETIC)
def test_operations(name, tmp_path):
    x = keras.Input((6, 6, 4))
    ported(keras.Model(x, ARITHMETIC[name](layers.Conv2D(4, 1)(x))), tmp_path)


ACTIVATIONS = sorted(
    n
    for n in dir(keras.activations)
    if n[0].islower()
    and n
    not in ("deserialize", "get", "serialize", "linear", "sparsemax", "sparse_plus", "sparse_sigmoid", "threshold")
)


def test_activations_of_keras_3(tmp_path):
    x = keras.Input((6,))
    h = layers.Dense(6)(x) * 4.0
    model = keras.Model(
        x, [layers.Activation(n)(h) for n in ACTIVATIONS] + [layers.Dense(6, activation=n)(h) for n in ACTIVATIONS]
    )
    imported = ported(model, tmp_path)
    fused = {m.get_config()["activation"] for m in imported.model.layers if type(m).__name__ == "Dense"}
    assert fused == {"linear", "relu", "relu6"}


def test_layers_by_config(tmp_path):
    x = keras.Input((12, 12, 4))
    y = layers.SeparableConv2D(6, 3, depth_multiplier=2, strides=2, padding="same", activation="relu")(x)
    y = layers.Conv2DTranspose(4, 3, strides=2, padding="same")(y)
    y = layers.PReLU(shared_axes=(1, 2))(layers.LayerNormalization()(y))
    y = layers.ELU(0.5)(layers.GroupNormalization(2)(layers.Cropping2D(1)(y)))
    y = layers.Conv2D(8, 3, groups=4, dilation_rate=2)(y)
    y = layers.Permute((2, 1, 3))(layers.SpatialDropout2D(0.2)(y))
    y = layers.Softmax(axis=1)(layers.Identity()(y))
    z = layers.Conv1D(3, 3, padding="causal")(layers.Reshape((-1, 8))(y))
    z = layers.TimeDistributed(layers.Dense(3))(z)
    z = layers.MultiHeadAttention(2, 4)(z, z)
    imported = ported(keras.Model(x, [z, layers.Conv3D(2, 2)(layers.Reshape((12, 12, 4, 1))(x))]), tmp_path)
    names = [n for n, user in imported.layer_names.items() if user == "separable_conv2d"]
    assert sorted(names) == ["separable_conv2d_depthwise", "separable_conv2d_pointwise"]


def test_sequences(tmp_path):
    tokens = keras.Input((7,), dtype="int32")
    x = layers.Embedding(20, 4, mask_zero=True)(tokens)
    x = layers.Bidirectional(layers.LSTM(3, return_sequences=True))(x)
    x = layers.GRU(4)(x)
    data = np.random.default_rng(0).integers(0, 20, (4, 7)).astype("int32")
    imported = ported(keras.Model(tokens, x), tmp_path, data)
    assert imported.input_specs[0].dtype == "int32"


def test_normalization_with_adapted_statistics(tmp_path, photos):
    norm = layers.Normalization(axis=None)
    norm.adapt(photos)
    per_channel = layers.Normalization(mean=[0.5], variance=[4.0])
    ported(keras.Sequential([keras.Input((28, 28, 1)), norm, per_channel, layers.Conv2D(2, 3)]), tmp_path, photos)


def test_mixed_precision_becomes_float32(tmp_path):
    policy = "mixed_float16"
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, dtype=policy)(image)
    x = layers.BatchNormalization(dtype=policy)(x)
    model = randomize(keras.Model(image, layers.Dense(2, dtype="float32")(layers.Flatten(dtype=policy)(x))))
    imported = importers.load(model)
    assert {w.dtype.name for w in imported.model.weights} == {"float32"}
    assert all(m.compute_dtype == "float32" for m in imported.model.layers)
    for ours, theirs in zip(imported.model.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@keras.saving.register_keras_serializable(package="importer_tests")
class Block(layers.Layer):
    """A custom layer made of built-in ones, as users write them."""

    def __init__(self, filters, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.conv, self.norm = layers.Conv2D(filters, 3, padding="same"), layers.BatchNormalization()

    def call(self, inputs, training=None):
        x = self.norm(self.conv(inputs), training=training)
        return ops.relu(x) + inputs if inputs.shape[-1] == self.filters else ops.relu6(x)

    def get_config(self):
        return {**super().get_config(), "filters": self.filters}


@keras.saving.register_keras_serializable(package="importer_tests")
class OwnDense(layers.Layer):
    """A custom layer with variables of its own."""

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 3), name="kernel")
        self.bias = self.add_weight(shape=(3,), name="bias")

    def call(self, inputs):
        return ops.matmul(inputs, self.kernel) + self.bias


def test_custom_layers_of_standard_parts_are_opened(tmp_path, photos):
    image = keras.Input((28, 28, 1))
    block = Block(4, name="block")
    x = Block(4, name="again")(block(image))
    imported = ported(keras.Model(image, OwnDense(name="own")(layers.Flatten()(x))), tmp_path, photos)
    assert kinds(imported).count("Conv2D") == 2
    dense = imported.model.layers[-1]
    assert type(dense).__name__ == "Dense"
    assert dense.use_bias
    assert any(path.startswith("block/conv2d") for path in imported.layer_names.values())


class Subclassed(keras.Model):
    """A subclassed model that never had a functional graph."""

    def __init__(self):
        super().__init__()
        self.block, self.head = Block(3), layers.Dense(2, activation="softmax")

    def call(self, inputs, training=None):
        return self.head(layers.Flatten()(self.block(inputs, training=training)))


def test_a_subclassed_model_object_is_opened():
    model = Subclassed()
    model(np.zeros((1, 8, 8, 3), "float32"))
    imported = importers.load(randomize(model))
    x = np.random.default_rng(0).normal(size=(4, 8, 8, 3)).astype("float32")
    np.testing.assert_allclose(imported.model(x), model(x), atol=1e-5)


def test_a_subclassed_model_that_was_never_called_is_refused():
    with pytest.raises(BadInput, match="call it on a batch first"):
        importers.load(Subclassed())


def test_lambda_objects_are_opened_and_lambda_files_refused(tmp_path):
    x = keras.Input((4,))
    model = keras.Model(x, layers.Lambda(lambda t: t * 2.0 + ops.sum(t, axis=-1, keepdims=True), name="scale")(x))
    compare(model, importers.load(model))
    model.save(tmp_path / "model.keras")
    with pytest.raises(UnsupportedLayer, match=r"layer 'scale' \(Lambda\).*replace it"):
        importers.load(tmp_path / "model.keras")


def test_a_function_as_activation_is_opened():
    x = keras.Input((4,))
    model = keras.Model(x, layers.Dense(4, activation=lambda t: ops.relu6(t) * 0.5)(x))
    imported = importers.load(model)
    compare(model, imported)
    assert kinds(imported) == ["InputLayer", "Dense", "ReLU", "OpLayer"]


def test_a_recorded_training_flag_is_overridden_as_keras_3_does(tmp_path):
    x = keras.Input((4,))
    ported(keras.Model(x, layers.Dropout(0.5)(layers.BatchNormalization()(x, training=True), training=True)), tmp_path)


def test_channels_first_is_refused():
    x = keras.Input((3, 8, 8))
    model = keras.Model(x, layers.MaxPooling2D(data_format="channels_first", name="pool")(x))
    with pytest.raises(UnsupportedLayer, match=r"layer 'pool'.*channels_last"):
        importers.load(model)


def test_what_has_no_counterpart_names_the_layer():
    x = keras.Input((8,))
    model = keras.Model(x, ops.fft((layers.Dense(8)(x), layers.Dense(8)(x)))[0])
    with pytest.raises(UnsupportedLayer, match=r"layer 'fft2?'.*no counterpart"):
        importers.load(model)


def test_a_custom_layer_that_cannot_be_followed_names_its_class():
    import tensorflow as tf

    class Raw(layers.Layer):
        def call(self, inputs):
            return tf.signal.fft(tf.cast(inputs, tf.complex64))

        def compute_output_spec(self, inputs):
            return keras.KerasTensor(inputs.shape)

    x = keras.Input((8,))
    with pytest.raises(UnsupportedLayer, match=r"layer 'raw' \(Raw\).*keras.ops"):
        importers.load(keras.Model(x, Raw(name="raw")(x)))


def test_a_custom_class_that_the_file_does_not_bring(tmp_path):
    class Unknown(layers.Layer):
        def call(self, inputs):
            return inputs * 2.0

    keras.Sequential([keras.Input((3,)), Unknown(name="mine")]).save(tmp_path / "model.keras")
    with pytest.raises(UnsupportedLayer, match=r"layer 'mine' \(Unknown\).*does not bring the code"):
        importers.load(tmp_path / "model.keras")


def test_a_port_that_differs_names_the_first_layer_that_does():
    class Liar(layers.Layer):
        """Computes other values on arrays than what its symbolic call says."""

        def call(self, inputs):
            return inputs + 1.0 if isinstance(inputs, keras.KerasTensor) else inputs + 2.0

    x = keras.Input((3,))
    h = Liar(name="liar")(layers.Dense(3, name="first")(x))
    with pytest.raises(GateFailed, match="layer 'liar'"):
        importers.load(keras.Model(x, layers.Dense(2, name="last")(h)))


def test_an_imported_model_imports_again_unchanged(tmp_path):
    x = keras.Input((6, 6, 4))
    y = ops.split(x * np.arange(4, dtype="float32"), 2, axis=-1)[0] + 1.0
    first = ported(keras.Model(x, layers.Activation("hard_silu")(y)), tmp_path)
    first.model.save(tmp_path / "canonical.keras")
    again = importers.load(tmp_path / "canonical.keras")
    assert again.format == "keras2"
    assert kinds(again) == kinds(first)
    data = np.random.default_rng(0).normal(size=(4, 6, 6, 4)).astype("float32")
    np.testing.assert_array_equal(again.model(data), first.model(data))


@pytest.mark.parametrize(
    ("build", "side"),
    [
        (lambda: keras.applications.MobileNetV2((32, 32, 3), alpha=0.35, weights=None, classes=5), 32),
        (lambda: keras.applications.MobileNetV3Small((64, 64, 3), weights=None, minimalistic=False, classes=5), 64),
        pytest.param(
            lambda: keras.applications.EfficientNetB0(input_shape=(32, 32, 3), weights=None, classes=5),
            32,
            marks=pytest.mark.slow,
        ),
    ],
    ids=["MobileNetV2", "MobileNetV3Small", "EfficientNetB0"],
)
def test_applications(build, side, photos):
    model = randomize(build())
    imported = importers.load(model)
    images = np.zeros((4, side, side, 3), "float32")
    images[:, :28, :28] = photos[:4]
    want, got = np.asarray(model(images)), np.asarray(imported.model(images))
    assert np.ptp(want) > 1e-3
    np.testing.assert_allclose(got, want, atol=1e-5)
    assert "OpLayer" not in kinds(imported)
