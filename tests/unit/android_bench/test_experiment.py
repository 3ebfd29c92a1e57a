"""Experiments as data: what they refuse, what they hand to the runner."""

from __future__ import annotations

from pathlib import Path

import pytest

from android_bench.experiment import Delegate, Experiment, Settings, delegate_options
from tfq_pipeline.errors import BadInput


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"threads": 0}, "threads=0: the least is 1"),
        ({"runs": 0}, "runs=0: the least is 1"),
        ({"warmup": -1}, "warmup=-1: the least is 0"),
        ({"min_secs": 5.0, "max_secs": 2.0}, "give 0 <= min_secs <= max_secs"),
        ({"min_secs": -1.0}, "give 0 <= min_secs <= max_secs"),
    ],
)
def test_settings_out_of_range(fields: dict[str, float], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        Settings(**fields)  # type: ignore[arg-type]


def test_flags_are_benchmark_models() -> None:
    flags = Settings(threads=2, runs=7, warmup=3, min_secs=0.5, max_secs=9.0, run_delay=0.1, use_xnnpack=False).flags()
    assert flags[:6] == [
        *("--num_threads=2", "--num_runs=7", "--warmup_runs=3", "--min_secs=0.5", "--max_secs=9.0", "--run_delay=0.1"),
    ]
    assert flags[-1] == "--use_xnnpack=false"


def test_delegate_options_are_read() -> None:
    assert delegate_options("threads:2;report:/tmp/a:b;") == {"threads": "2", "report": "/tmp/a:b"}
    assert delegate_options("") == {}


@pytest.mark.parametrize("text", ["threads", "threads=2", ":2"])
def test_entry_that_is_no_option_is_an_error(text: str) -> None:
    with pytest.raises(BadInput, match="is not key:value"):
        delegate_options(text)


@pytest.mark.parametrize("options", [{"a:b": "c"}, {"": "c"}, {"a": "b;c"}])
def test_options_that_the_runner_would_misread_are_refused(options: dict[str, str]) -> None:
    with pytest.raises(BadInput, match="delegate option"):
        Delegate("int4", options)


def test_missing_model_and_unknown_runtime(tmp_path: Path) -> None:
    model = tmp_path / "m.tflite"
    with pytest.raises(BadInput, match="no such file"):
        Experiment(model)
    model.touch()
    with pytest.raises(BadInput, match="runtime 'onnx': not known; give litert or tflite"):
        Experiment(model, runtime="onnx")
    with pytest.raises(BadInput, match="name its library"):
        Experiment(model, runtime="tflite")
