"""Sessions on a device that says what the test wants: errors, checksums, nodes, results."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from android_bench import probe
from android_bench.device import Completed
from android_bench.experiment import Delegate, Experiment, Settings
from android_bench.probe import DeviceInfo
from android_bench.session import open_session
from tfq_pipeline import native
from tfq_pipeline.errors import BadInput, DeviceFailed

SAID = {
    "runtime": {"name": "litert", "version": "2.3.0"},
    "threads": 1,
    "seed": 0,
    "samples": 0,
    "init_ns": 4_000_000,
    "warmup_ns": [9_000_000],
    "runs_ns": [2_000_000, 1_000_000, 3_000_000],
    "memory": {"peak_kb": 2048, "init_footprint_kb": 10, "overall_footprint_kb": 20},
    "nodes": 4,
    "delegate": None,
    "inputs": [],
    "outputs": [],
    "ops": [],
}
TAKEN = {"delegated": 2, "total": 4, "declined": [{"node": 3, "op": "SOFTMAX", "reason": "not an INT4 layer"}]}


class FakeDevice:
    """Answers the runner's command with what it is given; files arrive as they are, or damaged."""

    serial = "fake"

    def __init__(self, answer: Completed, damaged: bool = False) -> None:
        self.answer, self.damaged = answer, damaged
        self.files: dict[str, bytes] = {}
        self.commands: list[list[str]] = []

    def info(self) -> DeviceInfo:
        return probe.parse("@uname\n6.1 x86_64\n", "fake", "adb")

    def push(self, local: Path, remote: str) -> None:
        self.files[remote] = local.read_bytes()[: -1 if self.damaged else None]

    def pull(self, remote: str, local: Path) -> None:
        local.write_bytes(self.files[remote])

    def shell(self, command: Sequence[str], timeout: float = 60.0, doing: str | None = None) -> Completed:
        if command[0] == "sha256sum":
            sums = (f"{hashlib.sha256(self.files[name]).hexdigest()}  {name}\n" for name in command[1:])
            return Completed(0, "".join(sums), "")
        self.commands.append([*command, f"({doing}, {timeout:g} s)"])
        return self.answer

    def exists(self, remote: str) -> bool:
        return remote in self.files

    @contextmanager
    def workdir(self) -> Iterator[str]:
        yield "/w"


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file to push, with native files that exist."""
    for name in ("runner", "delegate", "m.tflite"):
        (tmp_path / name).write_text(name)
    monkeypatch.setattr(native, "runner", lambda _: tmp_path / "runner")
    monkeypatch.setattr(native, "library", lambda _: tmp_path / "delegate")
    return tmp_path / "m.tflite"


def run(device: FakeDevice, experiment: Experiment) -> dict[str, Any]:
    with open_session(device) as session:
        return session.benchmark(experiment)


def says(**changes: object) -> Completed:
    return Completed(0, json.dumps({**SAID, **changes}), "INFO: noise\n")


def test_result(model: Path) -> None:
    result = run(FakeDevice(says()), Experiment(model))
    assert result["latency_ms"]["median"] == 2.0
    assert result["latency_ms"]["first"] == 9.0
    assert result["latency_ms"]["init"] == 4.0
    assert result["memory"] == {"peak_mb": 2.0, "init_footprint_kb": 10, "overall_footprint_kb": 20}
    assert result["nodes"] == {"delegated": 0, "total": 4, "declined": []}
    assert result["model_sha256"] == hashlib.sha256(b"m.tflite").hexdigest()
    assert (result["throttled"], result["throttled_known"], result["emulated"]) == (False, False, False)
    json.dumps(result)


def test_without_warm_up_the_first_run_is_the_first(model: Path) -> None:
    assert run(FakeDevice(says(warmup_ns=[])), Experiment(model))["latency_ms"]["first"] == 2.0


def test_delegate_gets_its_options_and_its_report_is_the_nodes(model: Path) -> None:
    device = FakeDevice(says(delegate=TAKEN))
    experiment = Experiment(model, Delegate("int4", {"cpu": "neon"}), Settings(threads=2))
    assert run(device, experiment)["nodes"] == TAKEN
    (command,) = device.commands
    assert "--external_delegate_options=threads:2;cpu:neon;report:/w/delegate.json" in command
    assert "--delegate_report=/w/delegate.json" in command


def test_delegate_that_takes_nothing_is_an_error_unless_allowed(model: Path) -> None:
    nothing = {"delegated": 0, "total": 1, "declined": [{"node": 0, "op": "ADD", "reason": "float"}]}
    device = FakeDevice(says(delegate=nothing))
    with pytest.raises(DeviceFailed, match=r"took none of 1 nodes \(ADD: float\)"):
        run(device, Experiment(model, Delegate("int4")))
    result = run(device, Experiment(model, Delegate("int4"), allow_undelegated=True))
    assert result["nodes"]["delegated"] == 0


class SlowingDevice(FakeDevice):
    """Takes a second longer for each run than for the one before; with a delegate it takes half as long."""

    def shell(self, command: Sequence[str], timeout: float = 60.0, doing: str | None = None) -> Completed:
        if command[0] != "sha256sum":
            delegated = any("external_delegate_path" in flag for flag in command)
            ns = (len(self.commands) + 1) * 10**9 // (2 if delegated else 1)
            self.answer = says(runs_ns=[ns, ns, ns], delegate=TAKEN if delegated else None)
        return super().shell(command, timeout, doing)


def test_experiments_take_turns_and_are_compared_within_rounds(model: Path) -> None:
    device = SlowingDevice(says())
    with open_session(device) as session:
        alone, delegated = session.interleave([Experiment(model), Experiment(model, Delegate("int4"))], rounds=20)
    turns = ["--external_delegate_path=/w/delegate" in command for command in device.commands]
    pairs = [tuple(turns[i : i + 2]) for i in range(0, 40, 2)]
    assert set(pairs) == {(True, False), (False, True)}
    assert (alone["rounds"], alone["num_runs"], alone["warmup_runs"]) == (20, 60, 20)
    assert alone["of_first"] == {"median": 1.0, "q1": 1.0, "q3": 1.0}
    assert delegated["of_first"]["median"] == pytest.approx(0.5, rel=0.1)
    assert delegated["nodes"] == TAKEN
    assert run(FakeDevice(says()), Experiment(model))["of_first"] is None


def test_file_that_arrives_damaged(model: Path) -> None:
    with pytest.raises(DeviceFailed, match="is not what it was sent as"):
        run(FakeDevice(says(), damaged=True), Experiment(model))


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (Completed(2, "", "tfq_runner: /w/m.tflite is not a model\n"), BadInput, r"^/\S+/m\.tflite is not a model$"),
        (
            Completed(3, "", "ERROR: node 3\ntfq_runner: compile: 504\n"),
            DeviceFailed,
            r"compile: 504 \[ERROR: node 3\]",
        ),
        (Completed(132, "", ""), DeviceFailed, "died of an instruction that this CPU does not have"),
        (Completed(127, "", "sh: no\n"), DeviceFailed, r"ended with exit code 127 \(sh: no\)"),
        (Completed(0, '{"half', ""), DeviceFailed, "printed no JSON"),
    ],
)
def test_failures_are_one_line(model: Path, answer: Completed, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        run(FakeDevice(answer), Experiment(model))
    assert "\n" not in str(caught.value)


def test_delegate_that_is_no_file(model: Path) -> None:
    with pytest.raises(BadInput, match="neither int4 nor the file of a library"):
        run(FakeDevice(says()), Experiment(model, Delegate("gpu")))
