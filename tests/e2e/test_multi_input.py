"""A model with two inputs and two outputs through the command: from Keras, as .tflite, as one without signatures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.command import Command
from tfq_pipeline.tflite import flatbuffer as fb
from tfq_pipeline.tflite.interpreter import open_model

# By recipe, how far outputs may lie from the float model's, by their largest.
RECIPES = {
    "static_wi8_ai8": 0.05,
    "dynamic_wi8_afp32": 0.03,
    "weight_only_wi8_afp32": 0.01,
    "static_wi8_ai16": 0.01,
}
RNG = np.random.default_rng(0)
INPUTS = {
    "right": RNG.normal(size=(40, 6)).astype(np.float32),
    "left": RNG.uniform(size=(40, 8, 8, 3)).astype(np.float32),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``two.keras``, ``two.tflite``, ``bare.tflite``, ``data.npz``: inputs in another order than the model's."""
    import tensorflow as tf
    import tf_keras

    layers, folder = tf_keras.layers, tmp_path_factory.mktemp("two")
    tf_keras.utils.set_random_seed(1)
    left, right = tf_keras.Input((8, 8, 3), name="left"), tf_keras.Input((6,), name="right")
    x = layers.Conv2D(8, 3, activation="relu")(left)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Concatenate()([x, layers.Dense(8, activation="relu")(right)])
    model = tf_keras.Model([left, right], [layers.Dense(3, name="three")(x), layers.Dense(2, name="two")(x)])
    model.save(folder / "two.keras")
    converted = tf.lite.TFLiteConverter.from_keras_model(model).convert()
    (folder / "two.tflite").write_bytes(converted)
    bare = fb.read(converted)
    bare.signatureDefs = None
    (folder / "bare.tflite").write_bytes(fb.pack(bare))
    np.savez(folder / "data.npz", **INPUTS, y=RNG.integers(0, 2, 40))
    np.savez(folder / "wanted.npz", *model.predict([INPUTS["left"], INPUTS["right"]], verbose=0))
    return folder


@pytest.fixture
def tfq(capfd: pytest.CaptureFixture[str]) -> Command:
    return Command(capfd)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("name", ["two.keras", "two.tflite", "bare.tflite"])
def test_inputs_and_outputs_keep_their_places(tfq: Command, models: Path, tmp_path: Path, name: str, recipe: str):
    output, data = tmp_path / "out.tflite", f"--calibration={models / 'data.npz'}"
    document = tfq("quantize", models / name, f"--recipe={recipe}", data, f"--output={output}", "--json").document()
    checked = document["verification"]
    assert checked["max_abs_error_lsb"] <= checked["limit_lsb"]
    assert checked["runtimes"]["litert"] == checked["runtimes"]["tensorflow"] == "loads"
    made = open_model(output)
    assert [port.name for port in made.input_ports] in (["left", "right"], ["right", "left"])
    wanted = sorted(np.load(models / "wanted.npz").values(), key=lambda y: y.shape[1])
    got = sorted(made.run([INPUTS[port.name] for port in made.input_ports]), key=lambda y: y.shape[1])
    for mine, theirs in zip(got, wanted, strict=True):
        assert np.abs(mine - theirs).max() < RECIPES[recipe] * np.abs(theirs).max()


def test_a_file_without_signatures_is_measured_under_the_same_names(tfq: Command, models: Path, tmp_path: Path):
    output, data = tmp_path / "out.tflite", models / "data.npz"
    tfq("quantize", models / "bare.tflite", "--recipe=static_wi8_ai8", f"--calibration={data}", f"--output={output}")
    for file in (models / "bare.tflite", output):
        assert tfq("evaluate", file, f"--data={data}", "--json").document()["samples"] == 40
    wrong = tmp_path / "wrong.npz"
    np.savez(wrong, left=INPUTS["left"], other=INPUTS["right"])
    done = tfq(
        "quantize", models / "bare.tflite", "--recipe=static_wi8_ai8", f"--calibration={wrong}", "--output=o.tflite"
    )
    assert done.error(2).endswith("no array for input 'right' (found: left, other); name it 'right'")
