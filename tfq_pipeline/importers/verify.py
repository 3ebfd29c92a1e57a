"""Compares the port with the model it came from, on random inputs that the model could meet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tfq_pipeline.errors import GateFailed
from tfq_pipeline.importers.build import Built
from tfq_pipeline.importers.ir import Call, Flat, Ref, refs_in

TOLERANCE = 1e-5
SAMPLES = 4
# Sizes for dimensions that the model leaves free: an image's sides, a sequence's length.
FREE_IMAGE, FREE_SEQUENCE = 64, 16


def random_inputs(flat: Flat, seed: int = 0) -> list[np.ndarray]:
    """One array [4, ...] for each input, in the range that the layers reading it expect.

    Integer inputs of an embedding stay below its size; inputs that are rescaled are 0..255; inputs that are
    normalized lie within two standard deviations of the mean; all others are standard normal.
    """
    rng = np.random.default_rng(seed)
    return [_random_input(flat, ref, rng) for ref in flat.inputs]


def _random_input(flat: Flat, ref: Ref, rng: np.random.Generator) -> np.ndarray:
    call = next(c for c in flat.calls if c.id == ref.call)
    dtype = call.types[0].dtype
    free = FREE_IMAGE if len(call.types[0].shape or ()) >= 4 else FREE_SEQUENCE
    shape = (SAMPLES, *(free if n is None else n for n in (call.types[0].shape or (None,))[1:]))
    readers = [c for c in flat.calls if ref in refs_in(list(c.args))]
    sizes = [c.layer.config["input_dim"] for c in readers if c.layer.kind == "Embedding"]
    if sizes:
        return rng.integers(0, min(sizes), shape).astype(dtype)
    if dtype == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    if any(_is_pixel_scale(c) for c in readers) or dtype == "uint8":
        return rng.integers(0, 256, shape).astype(dtype)
    if dtype.startswith("int"):
        return rng.integers(0, 2, shape).astype(dtype)
    values = rng.standard_normal(shape)
    for reader in readers:
        if reader.layer.kind == "Normalization" and len(reader.layer.weights) >= 2:
            mean, variance = reader.layer.weights[:2]
            values = mean + np.clip(values, -2, 2) * np.sqrt(variance)
    return values.astype(dtype)


def _is_pixel_scale(call: Call) -> bool:
    return call.layer.kind == "Rescaling" and bool(np.all(np.abs(np.asarray(call.layer.config["scale"])) < 0.1))


def check(
    run: Callable[[Sequence[np.ndarray]], Sequence[np.ndarray]],
    run_probes: Callable[[Sequence[Any], Sequence[np.ndarray]], Sequence[np.ndarray]],
    flat: Flat,
    built: Built,
) -> float:
    """The largest difference between the outputs of the original and the port.

    Args:
        run: the original on a list of inputs, outputs flattened.
        run_probes: the original's values of the given tensors of its outermost graph.

    Raises:
        GateFailed: an output differs by more than 1e-5 of its largest magnitude (at least 1); names the first layer
            of the user's model that does.
    """
    inputs = random_inputs(flat)
    worst = 0.0
    for index, (want, got) in enumerate(zip(run(inputs), _outputs(built.model, inputs), strict=True)):
        error = difference(want, got)
        worst = max(worst, error)
        if error > TOLERANCE:
            layer = _first_difference(run_probes, flat, built, inputs)
            raise GateFailed(
                f"layer '{layer}': the port to Keras 2 differs from the original here; output {index} of the model is "
                f"off by {error:.2g} of its range, allowed is {TOLERANCE:g}; replace this layer and report the model"
            )
    return worst


def difference(want: np.ndarray, got: np.ndarray) -> float:
    """max |want - got| / max(1, max |want|); infinite where the shapes differ or one is NaN and the other not."""
    want, got = np.asarray(want), np.asarray(got)
    if want.shape != got.shape:
        return float("inf")
    if want.size == 0:
        return 0.0
    want, got = want.astype(np.float64), got.astype(np.float64)
    equal = (want == got) | (np.isnan(want) & np.isnan(got))
    gap = np.where(equal, 0.0, np.abs(want - got))
    if not np.isfinite(gap).all():
        return float("inf")
    finite = np.abs(want[np.isfinite(want)])
    return float(gap.max() / max(1.0, finite.max() if finite.size else 0.0))


def _outputs(model: Any, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    import tensorflow as tf

    return [np.asarray(t) for t in tf.nest.flatten(model(list(inputs), training=False))]


def _first_difference(
    run_probes: Callable[[Sequence[Any], Sequence[np.ndarray]], Sequence[np.ndarray]],
    flat: Flat,
    built: Built,
    inputs: Sequence[np.ndarray],
) -> str:
    import tf_keras

    if not flat.probes:
        return "(model)"
    wanted = run_probes([tensor for _, tensor, _ in flat.probes], inputs)
    port = tf_keras.Model(built.model.inputs, [built.tensors[ref] for _, _, ref in flat.probes])
    for (name, _, _), want, got in zip(flat.probes, wanted, _outputs(port, inputs), strict=True):
        if difference(want, got) > TOLERANCE:
            return name
    return flat.probes[-1][0]
