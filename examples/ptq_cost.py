"""Time and memory of post-training quantization to int8, beside TFLiteConverter's, on a net of MobileNetV2's size.

    python -m examples.ptq_cost [--samples 512] [--runs 3] [--memory_samples 5000]

The net is Keras' MobileNetV2 for 224 x 224 images with random weights and the batch statistics of random images, so
nothing is downloaded. Both programs read the same images, each run in a process of its own, one after the other in
turn; a time is that of the call that makes the .tflite, the net being in memory and TensorFlow imported.
"""

from __future__ import annotations

import json
import math
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_integer("samples", 512, "Images to calibrate with, for the time.", lower_bound=1)
flags.DEFINE_integer("runs", 3, "Runs of each program.", lower_bound=1)
flags.DEFINE_integer("memory_samples", 5000, "Images to calibrate with, for the memory; 0 leaves it out.")
flags.DEFINE_string("only", None, "Runs one of the programs in this process and prints what it took as JSON.")

SIZE, BATCH = 224, 32


def images(count: int) -> Iterator[np.ndarray]:
    """Batches of random images, float32 [BATCH, SIZE, SIZE, 3] in -1..1."""
    rng = np.random.default_rng(0)
    for start in range(0, count, BATCH):
        yield rng.random((min(BATCH, count - start), SIZE, SIZE, 3), np.float32) * 2 - 1


def net() -> Any:
    """MobileNetV2 whose batch norms know the statistics of random images."""
    import keras

    keras.utils.set_random_seed(0)
    model = keras.applications.MobileNetV2(weights=None)
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for layer in norms:
        layer.momentum = 0.0
    model(next(images(8)), training=True)
    return model


def by_tfq(model: Any, samples: int) -> bytes:
    """Recipe static_wi8_ai8 with so many samples, verification included."""
    import tfq_pipeline as tfq
    from tfq_pipeline import recipe
    from tfq_pipeline.data import Batch, Data

    text = recipe.text("static_wi8_ai8").replace("samples: 512", f"samples: {samples}")
    data = Data("random images", lambda: (Batch((x,)) for x in images(samples)), samples)
    return tfq.quantize(model, recipe.parse(text, "static_wi8_ai8", "static_wi8_ai8"), calibration=data).data


def by_converter(model: Any, samples: int) -> bytes:
    """TFLiteConverter alone, full integer."""
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([image[None]] for x in images(samples) for image in x)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    return bytes(converter.convert())


PROGRAMS: Mapping[str, Callable[[Any, int], bytes]] = {"tfq": by_tfq, "TFLiteConverter": by_converter}


def measured(program: str, samples: int) -> dict[str, Any]:
    """Seconds, peak memory of the process in MB, and what the process had taken before."""
    model = net()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    size = len(PROGRAMS[program](model, samples))
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": round(seconds, 2), "peak_mb": peak // 1024, "before_mb": before // 1024, "bytes": size}


def apart(program: str, samples: int) -> dict[str, Any]:
    """`measured` in a process of its own."""
    command = [sys.executable, "-m", "examples.ptq_cost", f"--only={program}", f"--samples={samples}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{program} failed: {done.stderr.strip().splitlines()[-1]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    print(json.dumps({"program": program, "samples": samples, **found}), file=sys.stderr, flush=True)
    return found


def batch_megabytes() -> float:
    """Size of all activations that a batch makes, as calibration sees them."""
    from tfq_pipeline import importers

    graph = importers.open_graph(net()).graph.fold_batch_norm()
    shapes = [t.shape for t in graph.tensors() if t.same_scale_as is None]
    return 4 * BATCH * sum(math.prod(n or 1 for n in shape) for shape in shapes) / 2**20


def main(argv: list[str]) -> None:
    """Measures and prints."""
    del argv
    if FLAGS.only:
        print(json.dumps(measured(FLAGS.only, FLAGS.samples)))
        return
    seconds: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    for _ in range(FLAGS.runs):
        for name in PROGRAMS:
            seconds[name].append(apart(name, FLAGS.samples)["seconds"])
    medians = {name: float(np.median(values)) for name, values in seconds.items()}
    result: dict[str, Any] = {"samples": FLAGS.samples, "seconds": medians}
    result["ratio"] = round(medians["tfq"] / medians["TFLiteConverter"], 3)
    if FLAGS.memory_samples:
        found = apart("tfq", FLAGS.memory_samples)
        batch = round(batch_megabytes())
        result["memory"] = {"samples": FLAGS.memory_samples, **found, "batch_of_activations_mb": batch}
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    app.run(main)
