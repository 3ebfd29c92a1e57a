"""int16 activations from the recipe to the delegate."""

from __future__ import annotations

from pathlib import Path

import pytest

import tfq_pipeline
from tests.command import Command
from tests.nets import images, mixed_net

RECIPE = """
version: 1
passes:
  - fold_batch_norm
  - calibrate: {method: minmax, samples: 64}
  - quantize:
      weights: {bits: 4, symmetric: true, granularity: channel}
      activations: {bits: 16, symmetric: true}
  - convert: {inputs: int16, outputs: int16}
"""


@pytest.mark.parametrize("weights", [8, 4])
def test_benchmark_with_the_delegate_takes_every_layer(weights: int, tfq: Command, tmp_path: Path) -> None:
    recipe = tmp_path / "static_wi4_ai16.yaml"
    recipe.write_text(RECIPE)
    path = tmp_path / "model.tflite"
    chosen = recipe if weights == 4 else "static_wi8_ai16"
    tfq_pipeline.quantize(mixed_net(), recipe=chosen, calibration=images()).save(path)
    quick = ("--num_runs=3", "--warmup_runs=1", "--min_secs=0", "--json")
    (entry,) = tfq("benchmark", path, "--device=host", "--delegate=int4", *quick).document()
    declined = {node["op"]: node["reason"] for node in entry["nodes"]["declined"]}
    linear = {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"}
    assert entry["nodes"]["delegated"] == 7
    assert not linear & set(declined)
