"""Models on this machine and on the emulated arm64 device: figures of the right shape, outputs equal bit for bit."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import android_bench
from android_bench.adb import AdbDevice
from android_bench.device import HostDevice
from android_bench.emulator import Emulator
from android_bench.experiment import Settings
from tests.command import Command
from tfq_pipeline import native
from tfq_pipeline.errors import BadInput

FEW = Settings(runs=5, min_secs=0.0)
PIXELS = 36  # the dense layer sees each pixel of the 6x6 image as a row of its own


@pytest.fixture(params=["host", "emulated"])
def where(request: pytest.FixtureRequest, emulator: Emulator) -> str:
    """A device's name."""
    return "host" if request.param == "host" else emulator.serial


@pytest.mark.parametrize("delegate", [None, "int4"])
def test_benchmark(model: Path, where: str, delegate: str | None, adb_port: int) -> None:
    (result,) = android_bench.benchmark(model, where, delegate, settings=FEW, adb_port=adb_port)
    emulated = where != "host"
    assert result["model"] == str(model)
    assert result["device"] == ("emulator" if emulated else "host")
    assert result["emulated"] is emulated
    assert (result["runtime"], result["runtime_version"]) == ("litert", "2.3.0")
    assert (result["delegate"], result["threads"], result["num_runs"]) == (delegate, 1, 5)
    latency = result["latency_ms"]
    assert 0 < latency["min"] <= latency["p5"] <= latency["median"] <= latency["p95"] <= latency["max"]
    assert latency["min"] <= latency["avg"] <= latency["max"]
    assert latency["first"] > 0
    assert latency["init"] > 0
    assert result["memory"]["peak_mb"] > 1
    assert result["memory"]["overall_footprint_kb"] >= result["memory"]["init_footprint_kb"] > 0
    assert result["nodes"]["delegated"] == (0 if delegate is None else 3)
    assert result["nodes"]["total"] == 3
    assert isinstance(result["throttled"], bool)
    assert result["energy_mj_per_inference"] is None


# What the delegate is told to round like, and the runtime that rounds so.
@pytest.mark.parametrize(("match", "xnnpack"), [("litert", False), ("xnnpack", True)])
@pytest.mark.parametrize("threads", [1, 2])
def test_delegate_equals_the_runtime_of_the_device(
    model: Path, samples: np.ndarray, device: AdbDevice, match: str, xnnpack: bool, threads: int
) -> None:
    settings = Settings(threads=threads, use_xnnpack=xnnpack)
    by_device = []
    for where in (HostDevice(), device):
        (alone,) = android_bench.run_model(model, [samples], where, settings=settings)
        assert (alone.shape, alone.dtype) == ((6 * PIXELS, 10), np.int8)
        assert len(np.unique(alone)) > 100
        (delegated,) = android_bench.run_model(
            model, [samples], where, "int4", delegate_options={"match": match}, settings=settings
        )
        np.testing.assert_array_equal(delegated, alone, err_msg=where.serial)
        by_device.append(alone.astype(np.int32))
    # LiteRT's own kernels round differently on arm64 and x86: one step here and there, never more in three layers.
    assert np.abs(by_device[0] - by_device[1]).max() <= 1


def test_outputs_are_those_of_the_python_interpreter(model: Path, samples: np.ndarray) -> None:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(model))
    interpreter.allocate_tensors()
    expected = []
    for sample in samples:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], sample[None])
        interpreter.invoke()
        expected.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))
    np.testing.assert_array_equal(android_bench.run_model(model, [samples])[0], np.concatenate(expected))


def test_profile_names_the_ops(model: Path) -> None:
    settings = Settings(runs=3, min_secs=0.0, use_xnnpack=False, profile=True)
    (result,) = android_bench.benchmark(model, settings=settings)
    assert [op["name"] for op in result["ops"]] == ["CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"]
    assert {op["calls"] for op in result["ops"]} == {3}


def test_profile_shows_the_nodes_of_the_delegate_one_by_one(model: Path, where: str, adb_port: int) -> None:
    settings = Settings(runs=3, warmup=2, min_secs=0.0, profile=True)
    (result,) = android_bench.benchmark(model, where, "int4", settings=settings, adb_port=adb_port)
    outside = [op for op in result["ops"] if not op["inside_delegate"]]
    assert [(op["name"], op["calls"]) for op in outside] == [("TfqInt4Delegate", 3)]
    nodes = [op for op in result["ops"] if op["inside_delegate"]]
    assert [(op["node"], op["name"], op["inputs"], op["outputs"]) for op in nodes] == [
        (0, "CONV_2D", [[1, 12, 12, 8]], [[1, 6, 6, 16]]),
        (1, "DEPTHWISE_CONV_2D", [[1, 6, 6, 16]], [[1, 6, 6, 16]]),
        (2, "FULLY_CONNECTED", [[1, 6, 6, 16]], [[PIXELS, 10]]),
    ]
    tier = "neon_dotprod" if where != "host" else ("_avx" if native.host_platform().endswith("x86_64") else "_neon")
    assert [op["kernel"].split("_")[0] for op in nodes] == ["gemm", "dwconv", "gemm"]
    assert tier in nodes[0]["kernel"]
    for op in nodes:
        assert op["calls"] == 3
        assert 0 < op["min_ms"] <= op["median_ms"]
        assert op["min_ms"] <= op["avg_ms"]
    # The nodes are what the partition consists of; the runtime counts whole microseconds.
    assert sum(op["avg_ms"] for op in nodes) <= outside[0]["avg_ms"] + 0.001


def test_nothing_stays_on_the_device(model: Path, device: AdbDevice, adb_port: int) -> None:
    android_bench.benchmark(model, device.serial, settings=FEW, adb_port=adb_port)
    assert device.shell(["ls", "/data/local/tmp"]).stdout == ""


def test_devices_lists_both(emulator: Emulator, adb_port: int) -> None:
    listed = {entry["serial"]: entry for entry in android_bench.devices(adb_port)}
    assert listed["host"]["emulated"] is False
    assert listed[emulator.serial]["emulated"] is True
    assert {entry["state"] for entry in listed.values()} == {"device"}


def test_emulator_by_name_is_stopped_afterwards(model: Path, adb_port: int, emulator: Emulator) -> None:
    (result,) = android_bench.benchmark(model, "emulator", "int4", settings=FEW, cpu="cortex-a53", adb_port=adb_port)
    assert (result["device"], result["cpu"]) == ("emulator", "Cortex-A53")
    assert [entry["serial"] for entry in android_bench.devices(adb_port)] == ["host", emulator.serial]


def test_wrong_input_is_named(model: Path, samples: np.ndarray) -> None:
    with pytest.raises(BadInput, match=r"input 0 is uint8, the model wants 'image' \(int8 \[1,12,12,8\]"):
        android_bench.run_model(model, [samples.view(np.uint8)])
    with pytest.raises(BadInput, match="input 0 has 2880 bytes, not a multiple of what 'image'"):
        android_bench.run_model(model, [samples[:, :5]])
    with pytest.raises(BadInput, match="names 2 files, the model has 1 inputs"):
        android_bench.run_model(model, [samples, samples])
    with pytest.raises(BadInput, match="no samples"):
        android_bench.run_model(model, [samples[:0]])


def test_broken_model_is_named(model: Path, tmp_path: Path, where: str, adb_port: int) -> None:
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(model.read_bytes()[:900])
    with pytest.raises(BadInput, match=f"{broken}: damaged TFLite model"):
        android_bench.benchmark(broken, where, settings=FEW, adb_port=adb_port)


def test_bad_delegate_option_is_named(model: Path, where: str, adb_port: int) -> None:
    with pytest.raises(BadInput, match=r"refused its options: .*colour"):
        android_bench.benchmark(
            model, where, "int4", delegate_options={"colour": "red"}, settings=FEW, adb_port=adb_port
        )


def test_device_that_goes_away_gives_no_result(model: Path, adb_port: int, capfd: pytest.CaptureFixture[str]) -> None:
    with Emulator(adb_port=adb_port) as emulator:
        watcher = AdbDevice(emulator.serial, adb_port)

        def kill_when_running() -> None:
            while "--graph=" not in watcher.shell(["ps", "-ef"]).stdout:
                time.sleep(0.05)
            os.kill(emulator.running.pid, signal.SIGKILL)

        thread = threading.Thread(target=kill_when_running)
        thread.start()
        flags = (f"--device={emulator.serial}", f"--adb_port={adb_port}", "--min_secs=60", "--json")
        line = Command(capfd)("benchmark", model, *flags).error(3)
        thread.join()
    assert line.startswith(f"device '{emulator.serial}'")
    assert "tfq_runner on int4.tflite" in line
