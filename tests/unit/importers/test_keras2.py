"""Keras 2 models (.h5, .keras, SavedModel, objects) take the same canonical form, with the outputs they had."""

import json
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers

from tfq_pipeline import importers
from tfq_pipeline.errors import BadInput, UnsupportedLayer


def kinds(imported):
    return [type(m).__name__ for m in imported.model.layers]


def compare(model, imported, *inputs):
    arrays = list(inputs) or [
        np.random.default_rng(0).normal(size=(4, *t.shape[1:])).astype("float32") for t in model.inputs
    ]
    want = tf.nest.flatten(model(arrays if len(arrays) > 1 else arrays[0], training=False))
    got = tf.nest.flatten(imported.model(arrays, training=False))
    for expected, actual in zip(want, got, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * max(1.0, np.abs(expected).max()))


@pytest.fixture(scope="module")
def net():
    """Nested, shared, with operators, slices and a Keras 2 hard sigmoid; statistics as if trained."""
    inner = layers.Input((14, 14, 8))
    block = tf_keras.Sequential(
        [layers.DepthwiseConv2D(3, padding="same", name="dw"), layers.BatchNormalization(name="bn")]
    )
    tower = tf_keras.Model(inner, layers.ReLU(6.0, name="relu")(block(inner)), name="tower")
    image = layers.Input((28, 28, 1), name="image")
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="swish", name="stem")(layers.Rescaling(1 / 64)(image))
    x = tower(tower(x))
    gate = layers.Dense(8, activation="hard_sigmoid", name="gate")(tf.reduce_mean(x, [1, 2], keepdims=True))
    x = layers.Dropout(0.2)(x * gate)
    x = x * tf.nn.relu6(x + 3.0) * (1.0 / 6.0)
    x = tf.concat([x[:, 1:], 1.0 - x[:, :-1]], -1)
    model = tf_keras.Model(image, layers.Dense(10, activation="softmax", name="logits")(layers.GlobalMaxPooling2D()(x)))
    rng = np.random.default_rng(5)
    model.set_weights([np.abs(w) + rng.uniform(0.1, 0.5, w.shape) if w.ndim == 1 else w for w in model.get_weights()])
    return model


@pytest.mark.parametrize(("suffix", "form"), [(".h5", "keras2"), (".keras", "keras2"), ("", "saved_model")])
def test_files(net, tmp_path, suffix, form):
    path = tmp_path / f"model{suffix}"
    net.save(path)
    imported = importers.load(path)
    assert imported.format == form
    compare(net, imported, np.random.default_rng(1).uniform(0, 255, (4, 28, 28, 1)).astype("float32"))
    assert kinds(imported).count("DepthwiseConv2D") == 1
    assert kinds(imported).count("HardSwish") == 1
    assert not {"Functional", "Sequential", "TFOpLambda", "SlicingOpLambda", "Dropout"} & set(kinds(imported))
    assert imported.layer_names["logits_softmax"] == "logits"
    assert [v for v in imported.layer_names.values() if v.startswith("tower/") and v.endswith("/dw")]


def test_an_object(net):
    imported = importers.load(net)
    assert imported.format == "tf_keras"
    compare(net, imported, np.random.default_rng(1).uniform(0, 255, (4, 28, 28, 1)).astype("float32"))


OPERATIONS = {
    "arithmetic": lambda x: (3.0 - x) / 2 + tf.square(x) - tf.abs(-x),
    "logic": lambda x: tf.where(x > 0, x, 0.0) + tf.cast(tf.less(x, 0.5), "float32"),
    "reductions": lambda x: tf.reduce_max(x, -1) + tf.reduce_sum(x, axis=-1) + tf.math.reduce_variance(x, 3),
    "shapes": lambda x: tf.expand_dims(tf.squeeze(tf.transpose(x, [0, 3, 1, 2])[:, :1], 1), -1),
    "reshape": lambda x: tf.reshape(x, [-1, 36, 4]),
    "split": lambda x: tf.split(x, [1, 3], -1),
    "split evenly": lambda x: tf.split(x, 2, -1),
    "stack": lambda x: tf.stack([x, tf.tanh(x)], 1),
    "pad": lambda x: tf.pad(x, [[0, 0], [1, 1], [2, 0], [0, 0]]),
    "clip": lambda x: tf.clip_by_value(x, -0.5, 0.5),
    "depth to space": lambda x: tf.nn.space_to_depth(tf.nn.depth_to_space(x, 2), 2),
    "resize": lambda x: tf.image.resize(x, (3, 9)),
    "pools": lambda x: tf.nn.max_pool2d(x, 2, 2, "VALID") + tf.nn.avg_pool2d(x, 2, 2, "SAME"),
    "activations": lambda x: tf.nn.leaky_relu(x) + tf.nn.gelu(x) + tf.nn.softmax(x) + tf.nn.elu(x) + tf.sigmoid(x),
    "normalize": lambda x: tf.math.l2_normalize(x, -1),
    "matmul": lambda x: tf.matmul(x, np.linspace(-1, 1, 12, dtype="float32").reshape(4, 3)),
    "einsum": lambda x: tf.einsum("bhwc,bhwd->bcd", x, x),
    "tile": lambda x: tf.tile(x, [1, 2, 1, 1]),
    "backend": lambda x: tf_keras.backend.mean(x) + tf_keras.backend.clip(x, 0, 6),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_tensorflow_functions(name):
    x = layers.Input((6, 6, 4))
    model = tf_keras.Model(x, OPERATIONS[name](layers.Conv2D(4, 1)(x)))
    imported = importers.load(model)
    compare(model, imported)
    assert all(len(tf.nest.flatten(m.output)) == 1 for m in imported.model.layers)


class Scale(layers.Layer):
    """A custom layer of TensorFlow functions and a variable."""

    def build(self, shape):
        self.kernel = self.add_weight("kernel", (shape[-1], 3))
        self.bias = self.add_weight("bias", (3,))

    def call(self, inputs):
        return tf.nn.relu(tf.matmul(inputs, self.kernel) + self.bias)


def test_a_custom_layer_object_is_opened():
    x = layers.Input((5,))
    model = tf_keras.Model(x, Scale(name="own")(x))
    imported = importers.load(model)
    compare(model, imported)
    assert kinds(imported) == ["InputLayer", "Dense", "ReLU"]
    assert set(imported.layer_names.values()) >= {model.inputs[0].node.layer.name}


class Subclassed(tf_keras.Model):
    """A subclassed model that never had a functional graph."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = layers.Conv2D(3, 3, activation="relu"), layers.Dense(2)

    def call(self, inputs, training=None):
        return self.head(tf.reduce_mean(self.conv(inputs), [1, 2]))


def test_a_subclassed_model_object_is_opened():
    model = Subclassed()
    with pytest.raises(BadInput, match="call it on a batch first"):
        importers.load(model)
    x = np.random.default_rng(0).normal(size=(4, 8, 8, 3)).astype("float32")
    expected = model(x)
    imported = importers.load(model)
    np.testing.assert_allclose(imported.model(x), expected, atol=1e-5)
    assert kinds(imported) == ["InputLayer", "Conv2D", "GlobalAveragePooling2D", "Dense"]


def test_mixed_precision_becomes_float32_and_free_sizes_stay_free(tmp_path):
    x = layers.Input((None, None, 3))
    y = layers.GlobalAveragePooling2D(dtype="mixed_float16")(layers.Conv2D(4, 3, dtype="mixed_float16")(x))
    model = tf_keras.Model(x, layers.Dense(2, dtype="float32")(y))
    model.save(tmp_path / "model.h5")
    imported = importers.load(tmp_path / "model.h5")
    assert imported.input_specs[0].shape == (None, None, 3)
    assert {m.compute_dtype for m in imported.model.layers} == {"float32"}
    for ours, theirs in zip(imported.model.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_two_inputs_in_an_h5(tmp_path):
    a, b = layers.Input((4,), name="a"), layers.Input((4,), name="b")
    shared = layers.Dense(3, name="shared")
    model = tf_keras.Model({"a": a, "b": b}, {"sum": shared(a) + shared(b), "difference": shared(a) - shared(b)})
    model.save(tmp_path / "model.h5")
    imported = importers.load(tmp_path / "model.h5")
    data = [np.random.default_rng(i).normal(size=(4, 4)).astype("float32") for i in range(2)]
    want = model(dict(zip("ab", data, strict=True)))
    got = imported.model(data)
    np.testing.assert_allclose(got[0], want["difference"], atol=1e-6)
    np.testing.assert_allclose(got[1], want["sum"], atol=1e-6)
    assert [s.name for s in imported.input_specs] == ["a", "b"]


def test_training_true_is_refused():
    x = layers.Input((4,))
    with pytest.raises(UnsupportedLayer, match=r"layer 'bn'.*training=True"):
        importers.load(tf_keras.Model(x, layers.BatchNormalization(name="bn")(x, training=True)))


def test_a_quantized_model_is_refused():
    import tensorflow_model_optimization as tfmot

    model = tf_keras.Sequential([layers.Input((4,)), layers.Dense(2, name="dense")])
    with pytest.raises(UnsupportedLayer, match="quantized, pruned or clustered already"):
        importers.load(tfmot.quantization.keras.quantize_model(model))


def test_a_lambda_in_a_file_is_refused_before_its_code_runs(tmp_path):
    x = layers.Input((4,))
    tf_keras.Model(x, layers.Lambda(lambda t: t * 2, name="twice")(x)).save(tmp_path / "model.h5")
    with pytest.raises(UnsupportedLayer, match=r"layer 'twice' \(Lambda\)"):
        importers.load(tmp_path / "model.h5")


def test_a_custom_class_in_an_h5_is_named(tmp_path):
    tf_keras.Sequential([layers.Input((4,)), Scale(name="own")]).save(tmp_path / "model.h5")
    with pytest.raises(UnsupportedLayer, match=r"layer 'own' \(Scale\).*does not bring the code"):
        importers.load(tmp_path / "model.h5")


def test_files_of_older_keras_2_load(tmp_path, net):
    """TensorFlow 2.12 to 2.15 wrote module names of the keras package."""
    net.save(tmp_path / "new.keras")
    with zipfile.ZipFile(tmp_path / "new.keras") as source, zipfile.ZipFile(tmp_path / "old.keras", "w") as target:
        for name in source.namelist():
            data = source.read(name)
            if name == "config.json":
                data = data.replace(b"tf_keras", b"keras")
            if name == "metadata.json":
                data = json.dumps({"keras_version": "2.13.1", "date_saved": "2023-08-01@10:00:00"}).encode()
            target.writestr(name, data)
    compare(net, importers.load(tmp_path / "old.keras"), np.ones((2, 28, 28, 1), "float32"))


def test_exported_saved_models_say_what_to_do(tmp_path):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.export(tmp_path / "exported", verbose=False)
    with pytest.raises(BadInput, match=r"without Keras metadata.*a recipe that trains"):
        importers.load(tmp_path / "exported")


def test_keras_3_writes_h5_too(tmp_path):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, activation="hard_sigmoid")])
    model.save(tmp_path / "model.h5")
    imported = importers.load(tmp_path / "model.h5")
    assert (imported.format, kinds(imported)) == ("keras3", ["InputLayer", "Dense", "HardSigmoid"])


def test_weights_alone_are_refused(tmp_path, net):
    net.save_weights(tmp_path / "w.h5")
    net.save_weights(tmp_path / "w.weights.h5")
    for name in ("w.h5", "w.weights.h5"):
        with pytest.raises(BadInput, match="weights alone; save the whole model"):
            importers.load(tmp_path / name)


def test_other_objects_are_refused():
    with pytest.raises(BadInput, match="model is a dict; want a path"):
        importers.load({})


def test_hard_swish_converts_to_the_fused_operator_and_hard_sigmoid_keeps_its_values():
    from tfq_pipeline.importers.op_layer import HardSigmoid, HardSwish, OpLayer

    x = layers.Input((8, 8, 4))
    h = HardSwish()(layers.Conv2D(4, 3)(x))
    h = OpLayer("get_item", {"key": ["ellipsis", {"slice": [None, None, 2]}]})(OpLayer("add", scalars={"0": 1.0})(h))
    model = tf_keras.Model(x, HardSigmoid()(h))
    content = tf.lite.TFLiteConverter.from_keras_model(model).convert()
    interpreter = tf.lite.Interpreter(model_content=content)
    interpreter.allocate_tensors()
    ops = [op["op_name"] for op in interpreter._get_ops_details()]
    assert ops.count("HARD_SWISH") == 1
    data = np.random.default_rng(0).normal(size=(1, 8, 8, 4)).astype("float32")
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], data)
    interpreter.invoke()
    h = model.layers[1](data).numpy()
    h = h * np.clip(h + 3, 0, 6) / 6 + 1
    expected = np.clip(h[..., ::2] + 3, 0, 6) / 6
    np.testing.assert_allclose(
        interpreter.get_tensor(interpreter.get_output_details()[0]["index"]), expected, atol=1e-5
    )
