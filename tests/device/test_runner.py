"""The runner's command line: what it refuses and how, what it writes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from android_bench import runtime
from tfq_pipeline import native


def run(*flags: str, library: bool = True) -> subprocess.CompletedProcess[str]:
    own = [f"--runtime_library={runtime.litert(runtime.host_platform()).library}"] if library else []
    command = [str(native.runner()), *own, *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "--graph is missing"),
        (["--graph=x", "--colour=red"], "no flag --colour; there are: graph, runtime,"),
        (["--graph=x", "model.tflite"], "'model.tflite' is not a flag"),
        (["--graph=x", "--num_threads=0"], "--num_threads: '0' is too small"),
        (["--graph=x", "--num_runs=many"], "--num_runs: 'many' is not a whole number"),
        (["--graph=x", "--min_secs=nan"], "--min_secs: 'nan' is not a number of seconds"),
        (["--graph=x", "--use_xnnpack=maybe"], "--use_xnnpack: 'maybe' is not true or false"),
        (["--graph=x", "--external_delegate_options=threads"], "'threads' is not key:value"),
        (["--graph=x", "--runtime=onnx"], "'onnx' is not a runtime"),
        (["--graph=x", "--input=a"], "--input and --output_prefix go together"),
        (["--graph=/nowhere/x.tflite"], "no model file /nowhere/x.tflite"),
    ],
)
def test_bad_usage_is_one_line_and_exit_code_2(flags: list[str], message: str) -> None:
    done = run(*flags)
    assert done.returncode == 2
    assert done.stdout == ""
    last = done.stderr.splitlines()[-1]
    assert last.startswith("tfq_runner: ")
    assert message in last


def test_missing_library_is_named_and_exit_code_3(model: Path) -> None:
    done = run(f"--graph={model}", "--runtime_library=/nowhere/libX.so", library=False)
    assert done.returncode == 3
    assert "cannot open library /nowhere/libX.so" in done.stderr


def test_library_of_another_kind_is_named(model: Path) -> None:
    done = run(f"--graph={model}", "--runtime=tflite")
    assert done.returncode == 3
    assert "no symbol TfLiteVersion" in done.stderr


def test_json_goes_to_the_file_that_is_named(model: Path, tmp_path: Path) -> None:
    done = run(f"--graph={model}", "--num_runs=3", "--min_secs=0", f"--output_json={tmp_path}/said.json")
    assert (done.returncode, done.stdout) == (0, "")
    said = json.loads((tmp_path / "said.json").read_text())
    assert len(said["runs_ns"]) == 3
    assert said["inputs"] == [{"name": "image", "type": "int8", "shape": [1, 12, 12, 8], "bytes": 1152}]
    assert [path.name for path in tmp_path.iterdir()] == ["said.json"]


def test_runs_until_both_limits_are_reached(model: Path) -> None:
    said = json.loads(run(f"--graph={model}", "--num_runs=1", "--min_secs=0.2").stdout)
    assert sum(said["runs_ns"]) <= 10**9
    assert len(said["runs_ns"]) > 1
    said = json.loads(run(f"--graph={model}", "--num_runs=1000000", "--min_secs=0", "--max_secs=0.2").stdout)
    assert 1 <= len(said["runs_ns"]) < 1000000


def test_missing_folder_for_outputs_leaves_nothing(model: Path, samples: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(samples.tobytes())
    done = run(f"--graph={model}", f"--input={tmp_path}/in", f"--output_prefix={tmp_path}/none/out")
    assert done.returncode == 3
    assert "cannot write" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
