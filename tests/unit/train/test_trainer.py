"""What users bring to training: callbacks, losses, metrics, optimizers, replicas; files of the model in training."""

import subprocess
import sys
from functools import cache
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import tfq_pipeline as tfq
from tests.nets import images, mixed_net
from tfq_pipeline import recipe
from tfq_pipeline.errors import BadInput
from tfq_pipeline.graph.keras_graph import KerasGraph
from tfq_pipeline.lowering.reference import fake_quantized
from tfq_pipeline.passes.calibrate import calibrate
from tfq_pipeline.passes.quantize import LayerRequest, Request, quantize
from tfq_pipeline.train.learned_bits import LearnedBits
from tfq_pipeline.train.qat import Training, qat

ROOT = Path(__file__).parents[3]
DATA = images(96, batch=32)


@cache
def start():
    graph = KerasGraph.from_model(mixed_net()).fold_batch_norm()
    asked = LayerRequest(Request(4, True, "channel"), Request(8, False))
    return graph, quantize(graph, calibrate(graph, DATA, "minmax", 96), lambda *_: asked)


def train(trainer=None, checkpoints=None, **options):
    graph, plan = start()
    how = {"epochs": 2, "batch_size": 32, "learning_rate": 1e-2, "optimizer": "sgd", "weights": "lsq", **options}
    return qat(graph, plan, DATA, Training(**how), checkpoints=checkpoints, trainer=trainer)


def kernels(trained):
    return [op.kernel for op in trained.graph.linear_ops()]


class Watcher(tf_keras.callbacks.Callback):
    """Keeps what it is told, and the model's answers at the end of each epoch."""

    def __init__(self):
        super().__init__()
        self.steps, self.epochs, self.answers = 0, [], []

    def on_train_batch_end(self, batch, logs=None):
        self.steps += 1

    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append(dict(logs))
        self.answers.append(answers(self.model))


def answers(model):
    got = model(next(iter(DATA)).inputs[0], training=False)
    return (got["task"] if isinstance(got, dict) else got).numpy()


def test_callbacks_see_steps_and_epochs_and_can_stop_the_run():
    watcher = Watcher()
    stop = tf_keras.callbacks.EarlyStopping("loss", patience=1, min_delta=1e9, restore_best_weights=True)
    trained = train(tfq.Trainer(callbacks=(watcher, stop)), epochs=9)
    assert watcher.steps == 6  # the second epoch of three steps is no better
    assert trained.history["loss"] == [logs["loss"] for logs in watcher.epochs]
    # The weights are those of the better epoch, the first; a few answers fall on the other side of a tie.
    got = fake_quantized(trained.graph.before_fixed_outputs(), trained.plan)([next(iter(DATA)).inputs[0]])[0]
    first, second = (np.abs(got - answers).mean() for answers in watcher.answers)
    assert first < 0.1 * second


def test_a_callback_that_fails_says_so_and_loses_no_epoch(tmp_path):
    class Failing(tf_keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        train(tfq.Trainer(callbacks=(Failing(),)), tmp_path, epochs=3)
    watcher = Watcher()
    resumed = train(tfq.Trainer(callbacks=(watcher,)), tmp_path, epochs=3)
    assert watcher.steps == 3
    for a, b in zip(kernels(resumed), kernels(train(epochs=3)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_loss_metrics_and_optimizer_take_the_place_of_the_recipes(tmp_path):
    made = []

    def plain(rate):
        made.append(rate)
        return tf_keras.optimizers.SGD(0.0)

    cross_entropy = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    same = train(tfq.Trainer(loss=cross_entropy, metrics=("sparse_top_k_categorical_accuracy",)), tmp_path)
    for a, b in zip(kernels(same), kernels(train()), strict=True):
        np.testing.assert_array_equal(a, b)
    assert same.history["sparse_top_k_categorical_accuracy"] == [1.0, 1.0]  # the best five of five classes

    def nothing(labels, logits):
        return 0.0 * tf.reduce_sum(logits, axis=-1)

    idle = train(tfq.Trainer(loss=nothing, optimizer=plain), tmp_path)
    assert idle.history["loss"] == [0.0, 0.0]
    for a, b in zip(kernels(idle), [op.kernel for op in start()[0].linear_ops()], strict=True):
        np.testing.assert_array_equal(a, b)
    assert isinstance(made[0], tf_keras.optimizers.schedules.CosineDecay)
    assert len(list(tmp_path.iterdir())) == 2  # another loss does not go on from the first one's checkpoint


def scaled(factor):
    return lambda labels, logits: factor * tf_keras.losses.sparse_categorical_crossentropy(labels, logits, True)


def test_runs_that_learn_otherwise_go_on_from_checkpoints_of_their_own(tmp_path):
    brought = [{"optimizer": lambda rate, lr=lr: tf_keras.optimizers.SGD(lr)} for lr in (0.0, 0.05)]
    brought += [{"loss": scaled(factor)} for factor in (1.0, 2.0)]
    for number, parts in enumerate(brought, 1):
        watcher = Watcher()
        train(tfq.Trainer(callbacks=(watcher,), **parts), tmp_path, epochs=1)
        assert (watcher.steps, len(list(tmp_path.iterdir()))) == (3, number)
    watcher = Watcher()
    train(tfq.Trainer(callbacks=(watcher,), loss=scaled(2.0)), tmp_path, epochs=1)
    assert watcher.steps == 0


def test_a_run_that_a_callback_ended_stays_ended(tmp_path):
    def once():
        watcher = Watcher()
        stop = tf_keras.callbacks.EarlyStopping("loss", patience=1, min_delta=1e9, restore_best_weights=True)
        return train(tfq.Trainer(callbacks=(watcher, stop)), tmp_path, epochs=9), watcher.steps

    (first, steps), (again, none) = once(), once()
    assert (steps, none) == (6, 0)
    assert again.history == first.history
    for a, b in zip(kernels(first), kernels(again), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("brought", "message"),
    [
        ({"callbacks": (keras.callbacks.TerminateOnNaN(),)}, "callbacks: found TerminateOnNaN of keras; .*tf_keras"),
        ({"loss": keras.losses.MeanSquaredError()}, "loss: found MeanSquaredError of keras"),
        ({"loss": {"logits": "mse"}}, "loss: found losses by output; training is of models with one output"),
        ({"metrics": (keras.metrics.MeanSquaredError(),)}, "metrics: found MeanSquaredError of keras"),
        ({"optimizer": lambda rate: keras.optimizers.SGD(0.1)}, "optimizer: found SGD of keras"),
    ],
)
def test_parts_that_do_not_fit_are_refused(brought, message):
    with pytest.raises(BadInput, match=f"trainer: {message}"):
        train(tfq.Trainer(**brought))


def test_a_recipe_that_trains_nothing_wants_no_trainer():
    with pytest.raises(BadInput, match=r"recipe static_wi8_ai8: trains nothing, and a trainer was given"):
        tfq.quantize(mixed_net(), "static_wi8_ai8", calibration=DATA, trainer=tfq.Trainer())


def test_replicas_together_learn_what_one_does():
    program = [sys.executable, "-m", "tests.unit.train.replicas_process"]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize(
    ("weights", "activations", "bits"),
    [
        ("min_max", "moving_average", None),
        ("lsq", "lsq", None),
        ("logarithmic", "lsq_plus", None),
        ("codebook", "pact", None),
        ("lsq", "lsq", LearnedBits((2, 3, 4, 8), "bits", 0.9)),
    ],
)
def test_a_model_in_training_loads_from_either_file_and_answers_the_same(tmp_path, weights, activations, bits):
    watcher = Watcher()
    paths = [tmp_path / "model.keras", tmp_path / "model.h5"]
    savers = [tf_keras.callbacks.ModelCheckpoint(str(path)) for path in paths]
    train(tfq.Trainer(callbacks=(watcher, *savers)), epochs=1, weights=weights, activations=activations, bits=bits)
    for path in paths:
        np.testing.assert_array_equal(answers(tfq.load_trained(path)), watcher.answers[0])


def test_a_file_without_a_trained_model_is_named(tmp_path):
    (tmp_path / "some.keras").write_bytes(b"nothing")
    for name in ("some.keras", "none.h5"):
        with pytest.raises(BadInput, match=f"{name}: is no trained model"):
            tfq.load_trained(tmp_path / name)


def test_products_of_16_bits_round_otherwise_and_learn_alike():
    watcher = Watcher()
    exact = train(epochs=4)
    rounded = train(tfq.Trainer(precision="bfloat16", callbacks=(watcher,)), epochs=4)
    if "avx512_bf16" in Path("/proc/cpuinfo").read_text():  # elsewhere TensorFlow may leave the graph as it is
        assert any(np.any(a != b) for a, b in zip(kernels(exact), kernels(rounded), strict=True))
    assert rounded.history["loss"][-1] == pytest.approx(exact.history["loss"][-1], rel=0.05)
    assert not tf.config.optimizer.get_experimental_options().get("auto_mixed_precision_onednn_bfloat16", False)
    with pytest.raises(BadInput, match="precision: found 'float8'; take 'float32' or 'bfloat16'"):
        tfq.Trainer(precision="float8")


def test_mixed_precision_of_the_users_process_changes_nothing():
    brief = recipe.parse(
        "version: 1\npasses: [fold_batch_norm, calibrate, quantize, "
        "{qat: {epochs: 1, batch_size: 32, learning_rate: 1.0e-2}}, convert]\n",
        "a test",
        "brief",
    )
    model = mixed_net()
    wanted = tfq.quantize(model, brief, train=DATA).data
    tf_keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        assert tfq.quantize(model, brief, train=DATA).data == wanted
        assert tf_keras.mixed_precision.global_policy().name == "mixed_float16"
    finally:
        tf_keras.mixed_precision.set_global_policy("float32")
