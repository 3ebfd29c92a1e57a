"""The example model on its real data: quantized, measured on all test images, and run on a device over the real adb."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.command import Command
from tfq_pipeline import datasets
from tfq_pipeline.tflite.interpreter import open_model

MODEL = Path(__file__).parents[2] / "examples" / "fashion_mnist" / "mobilenet.keras"


@pytest.mark.device
def test_int4_from_keras_to_an_arm64_device(tfq: Command, tmp_path: Path, adb_port: int) -> None:
    output = tmp_path / "mobilenet.tflite"
    document: dict[str, Any] = tfq(
        "quantize", MODEL, "--recipe=static_wi4_ai8", "--data=fashion_mnist", f"--output={output}", "--json"
    ).document()
    assert document["inspect"]["size_bytes"] <= 0.20 * document["inspect"]["float_size_bytes"]
    assert {entry["bits"] for entry in document["inspect"]["weights"]} == {4}
    assert document["metrics"]["float"]["accuracy"] > 0.92
    assert document["metrics"]["accuracy_drop"] <= 1.0

    evaluated = tfq("evaluate", output, "--data=fashion_mnist", "--delegate=int4", "--json").document()
    assert evaluated["samples"] == 10_000
    assert evaluated["metrics"]["accuracy"] == document["metrics"]["quantized"]["accuracy"]
    for xnnpack in (True, False):
        plain = open_model(output, default_delegates=xnnpack)
        delegated = open_model(output, delegate="int4", default_delegates=xnnpack)
        for batch in datasets.load("fashion_mnist", "test", 1000).take(1000):
            np.testing.assert_array_equal(delegated.run(batch.inputs)[0], plain.run(batch.inputs)[0])

    quick = ("--num_runs=2", "--warmup_runs=1", "--min_secs=0", f"--adb_port={adb_port}", "--json")
    for delegate in ([], ["--delegate=int4"]):
        (entry,) = tfq("benchmark", output, "--device=emulator", *delegate, *quick).document()
        assert (entry["device"], entry["emulated"]) == ("emulator", True)
        assert entry["device_info"]["abi"].startswith("arm64")
        assert entry["nodes"]["total"] == sum(document["inspect"]["ops"].values())
        assert entry["nodes"]["delegated"] == (entry["nodes"]["total"] if delegate else 0)
