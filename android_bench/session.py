"""Runs experiments on a device: puts files there, runs the runner, reads what it says, leaves nothing behind."""

from __future__ import annotations

import json
import logging
import random
import shlex
import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from android_bench import elf, latency, runtime
from android_bench.device import Completed, Device, died_of
from android_bench.experiment import Delegate, Experiment
from android_bench.files import sha256
from android_bench.probe import DeviceInfo
from tfq_pipeline.errors import BadInput, DeviceFailed

_LOG = logging.getLogger(__name__)
_RUNNER_BAD_INPUT = 2


@dataclass(frozen=True)
class Session:
    """A folder on a device in which experiments are run; made by `open_session`."""

    device: Device
    info: DeviceInfo
    folder: str
    _pushed: dict[Path, str]

    def benchmark(self, experiment: Experiment) -> dict[str, Any]:
        """Measures one experiment; returns the `benchmark` object of the interface.

        Raises:
            BadInput: the model or an option is refused.
            DeviceFailed: the device or the runtime fails, or the delegate takes nothing.
        """
        return self.interleave([experiment], rounds=1)[0]

    def interleave(self, experiments: Sequence[Experiment], rounds: int) -> list[dict[str, Any]]:
        """Measures experiments that take turns, each once a round, in a new order every round.

        Returns:
            The `benchmark` object of each, over the runs of all rounds. After more than one round `of_first` compares
            it with the first: median and quartiles over rounds of the quotient of their medians.

        Raises:
            BadInput, DeviceFailed: as `benchmark`.
        """
        before = self.info
        said: list[list[dict[str, Any]]] = [[] for _ in experiments]
        nodes: list[dict[str, Any]] = [{} for _ in experiments]
        order = random.Random(experiments[0].settings.seed)
        for _ in range(rounds):
            for i in order.sample(range(len(experiments)), len(experiments)):
                said[i].append(self._run(experiments[i], experiments[i].settings.flags()))
                nodes[i] = _nodes(said[i][-1], experiments[i])
        medians = [[statistics.median(turn["runs_ns"]) for turn in turns] for turns in said]
        results = []
        for i, experiment in enumerate(experiments):
            # Apart from the measured runs: profiling costs more than a small op does.
            ops = self._profile(experiment) if experiment.settings.profile else []
            result = _result(experiment, said[i], nodes[i], ops, before, self.device.info())
            results.append({**result, "of_first": latency.ratio(medians[i], medians[0]) if rounds > 1 else None})
        return results

    def outputs(self, experiment: Experiment, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Runs samples through the model.

        Args:
            inputs: an array for each of the model's inputs, in the model's order, [samples, ...].

        Returns:
            An array for each output, [samples, ...], in the model's order and types.
        """
        if not inputs or any(len(x) == 0 for x in inputs):
            raise BadInput(f"{experiment.model}: no samples to run; give at least one")
        with tempfile.TemporaryDirectory(prefix="tfq-io-") as name:
            local = Path(name)
            for i, array in enumerate(inputs):
                (local / f"input{i}").write_bytes(np.ascontiguousarray(array).tobytes())
                self.device.push(local / f"input{i}", f"{self.folder}/input{i}")
            said = self._run(
                experiment,
                [
                    f"--num_threads={experiment.settings.threads}",
                    f"--use_xnnpack={str(experiment.settings.use_xnnpack).lower()}",
                    "--input=" + ",".join(f"{self.folder}/input{i}" for i in range(len(inputs))),
                    "--input_type=" + ",".join(array.dtype.name for array in inputs),
                    f"--output_prefix={self.folder}/output",
                ],
            )
            _nodes(said, experiment)
            self._pull({f"{self.folder}/output{i}": local / f"output{i}" for i in range(len(said["outputs"]))})
            arrays = []
            for i, tensor in enumerate(said["outputs"]):
                flat = np.fromfile(local / f"output{i}", dtype=np.dtype(tensor["type"]))
                batch, *rest = tensor["shape"] or [1]
                arrays.append(flat.reshape(said["samples"] * batch, *rest))
            return arrays

    def _profile(self, experiment: Experiment) -> list[dict[str, Any]]:
        """Times by op: the runtime's, to which a delegate's partition is one op, then the delegate's node by node."""
        profile = f"{self.folder}/profile.json"
        own = experiment.delegate is not None and experiment.delegate.own
        said = self._run(
            experiment,
            [*experiment.settings.flags(), "--enable_op_profiling=true"],
            {"profile": profile} if own else {},
        )
        ops = [_runtime_op(op) for op in said["ops"]]
        if own and self.device.exists(profile):
            with tempfile.TemporaryDirectory(prefix="tfq-io-") as name:
                local = Path(name) / "profile.json"
                self._pull({profile: local})
                nodes = json.loads(local.read_text())["nodes"]
            ops += [_delegate_op(node, len(said["warmup_ns"])) for node in nodes]
        return ops

    def _run(
        self, experiment: Experiment, flags: Sequence[str], delegate_options: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        from tfq_pipeline import native

        library = _runtime(experiment, self.info)
        runner = native.runner(self.info.platform)
        self._put(experiment.model, runner, library.library, *library.companions)
        model = self._path(experiment.model)
        command = [
            *(["env", f"LD_LIBRARY_PATH={self.folder}"] if library.companions else []),
            self._path(runner),
            f"--graph={model}",
            f"--runtime={library.name}",
            f"--runtime_library={self._path(library.library)}",
            f"--runtime_version={library.version}",
            *flags,
        ]
        if experiment.delegate is not None:
            command += self._delegate_flags(experiment.delegate, experiment.settings.threads, delegate_options or {})
        what = f"tfq_runner on {experiment.model.name}"
        _LOG.debug("%s: %s", self.device.serial, shlex.join(command))
        done = self.device.shell(command, timeout=experiment.settings.time_limit(), doing=what)
        if done.code != 0:
            raise _failure(done, self.device.serial, what, self._names(experiment))
        try:
            said: dict[str, Any] = json.loads(done.stdout)
        except ValueError as error:
            raise DeviceFailed(
                f"device '{self.device.serial}': {what} printed no JSON ({done.stdout[-60:]!r}); run: make native"
            ) from error
        return said

    def _delegate_flags(self, delegate: Delegate, threads: int, more_options: Mapping[str, str]) -> list[str]:
        from tfq_pipeline import native

        options = {**delegate.options, **more_options}
        library = Path(delegate.name)
        flags = []
        if delegate.own:
            library = native.library(self.info.platform)
            report = f"{self.folder}/delegate.json"
            options = {"threads": str(threads), **options, "report": report}
            flags.append(f"--delegate_report={report}")
        elif not library.is_file():
            raise BadInput(f"delegate '{delegate.name}': neither int4 nor the file of a library; give one of them")
        else:
            built = elf.processor(library)
            if built is None or not self.info.platform.endswith(built):
                found = f"built for {built}" if built else "no 64-bit ELF file"
                raise BadInput(
                    f"delegate '{delegate.name}': is {found}, device '{self.device.serial}' is {self.info.platform}; "
                    "give a library that is built for it"
                )
        self._put(library)
        flags.append(f"--external_delegate_path={self._path(library)}")
        if options:
            flags.append("--external_delegate_options=" + ";".join(f"{key}:{value}" for key, value in options.items()))
        return flags

    def _put(self, *files: Path) -> None:
        """Pushes files that were not pushed before and makes sure that they arrived whole."""
        new = [file for file in dict.fromkeys(files) if file not in self._pushed]
        for file in new:
            taken = self._pushed.values()
            remote = f"{self.folder}/{file.name}"
            remote = f"{self.folder}/{len(taken)}-{file.name}" if remote in taken else remote
            self.device.push(file, remote)
            self._pushed[file] = remote
        if new:
            self._verify({self._path(file): sha256(file) for file in new})

    def _names(self, experiment: Experiment) -> dict[str, str]:
        """What the user calls the files on the device, by their paths there."""
        names = {remote: str(local) for local, remote in self._pushed.items()}
        if experiment.delegate is not None and experiment.delegate.own:
            from tfq_pipeline import native

            names[self._path(native.library(self.info.platform))] = experiment.delegate.name
        return names

    def _path(self, local: Path) -> str:
        """Where a pushed file lies on the device."""
        return self._pushed[local]

    def _pull(self, files: Mapping[str, Path]) -> None:
        """Fetches files by path on the device and makes sure that they arrived whole."""
        for remote, local in files.items():
            self.device.pull(remote, local)
        self._verify({remote: sha256(local) for remote, local in files.items()})

    def _verify(self, wanted: Mapping[str, str]) -> None:
        """Compares SHA-256 checksums by path on the device."""
        said = self.device.shell(["sha256sum", *wanted], doing="checking the files").stdout
        found = {path: checksum for checksum, _, path in (line.partition("  ") for line in said.splitlines())}
        for path, checksum in wanted.items():
            if found.get(path) != checksum:
                raise DeviceFailed(
                    f"device '{self.device.serial}': {path} is not what it was sent as (its SHA-256 differs); run again"
                )


@contextmanager
def open_session(device: Device) -> Iterator[Session]:
    """A session on a device; its folder there is removed at the end."""
    with device.workdir() as folder:
        yield Session(device, device.info(), folder, {})


def _runtime(experiment: Experiment, info: DeviceInfo) -> runtime.Runtime:
    if experiment.runtime_library is not None:
        return runtime.custom(experiment.runtime_library, experiment.runtime)
    return runtime.litert(info.platform)


def _failure(done: Completed, serial: str, what: str, names: Mapping[str, str]) -> BadInput | DeviceFailed:
    """The error that a failed run of the runner stands for, in the user's names of files."""
    lines = done.stderr.splitlines()
    said = next((line.partition(": ")[2] for line in reversed(lines) if line.startswith("tfq_runner: ")), None)
    if said is None:
        cause = died_of(done.code)
        last = next((line for line in reversed(lines) if line.strip()), "no message")
        return DeviceFailed(
            f"device '{serial}': {what} died of {cause}"
            if cause
            else f"device '{serial}': {what} ended with exit code {done.code} ({last.strip()})"
        )
    # What the runtime itself logged says more than its status code.
    logged = next((line.strip() for line in lines if line.startswith("ERROR: ")), None)
    for remote, local in names.items():
        said = said.replace(remote, local)
    text = f"{said} [{logged}]" if logged else said
    return BadInput(text) if done.code == _RUNNER_BAD_INPUT else DeviceFailed(f"device '{serial}': {text}")


def _nodes(said: Mapping[str, Any], experiment: Experiment) -> dict[str, Any]:
    """The ``nodes`` object of a result.

    Raises:
        DeviceFailed: the project's own delegate took nothing and that was not allowed.
    """
    if experiment.delegate is None:
        return {"delegated": 0, "total": said["nodes"], "declined": []}
    report = said["delegate"]
    if report is None:
        return {"delegated": None, "total": said["nodes"], "declined": []}
    if report["delegated"] == 0 and not experiment.allow_undelegated:
        reasons = sorted({f"{entry['op']}: {entry['reason']}" for entry in report["declined"]})
        raise DeviceFailed(
            f"{experiment.model}: delegate {experiment.delegate.name} took none of {report['total']} nodes "
            f"({'; '.join(reasons[:3]) or 'no reason given'}); leave it out or allow this with --allow_undelegated"
        )
    return {"delegated": report["delegated"], "total": report["total"], "declined": report["declined"]}


def _runtime_op(op: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": op["name"],
        "node": op["node"],
        "inside_delegate": op["inside_delegate"],
        "kernel": None,
        "inputs": None,
        "outputs": None,
        "calls": op["calls"],
        "avg_ms": op["total_ns"] / op["calls"] / 1e6,
        "min_ms": None,
        "median_ms": None,
    }


def _delegate_op(node: Mapping[str, Any], warmup: int) -> dict[str, Any]:
    """An entry of the delegate's profile, which holds the warm-up runs too."""
    times = node["times_us"][warmup:]
    return {
        "name": node["op"],
        "node": node["node"],
        "inside_delegate": True,
        "kernel": node["kernel"],
        "inputs": node["inputs"],
        "outputs": node["outputs"],
        "calls": len(times),
        "avg_ms": sum(times) / len(times) / 1e3,
        "min_ms": min(times) / 1e3,
        "median_ms": statistics.median(times) / 1e3,
    }


def _result(
    experiment: Experiment,
    turns: Sequence[Mapping[str, Any]],
    nodes: Mapping[str, Any],
    ops: Sequence[Mapping[str, Any]],
    before: DeviceInfo,
    after: DeviceInfo,
) -> dict[str, Any]:
    settings, said = experiment.settings, turns[0]
    first = (said["warmup_ns"] or said["runs_ns"])[0]
    runs = [ns for turn in turns for ns in turn["runs_ns"]]
    memory = said["memory"]
    return {
        "model": str(experiment.model),
        "model_sha256": sha256(experiment.model),
        "device": "emulator" if after.emulator else after.serial,
        "device_info": after.to_dict(),
        "cpu": after.cores[0].name if after.cores else None,
        "runtime": said["runtime"]["name"],
        "runtime_version": said["runtime"]["version"],
        "delegate": experiment.delegate.name if experiment.delegate else None,
        "delegate_options": dict(experiment.delegate.options) if experiment.delegate else {},
        "xnnpack": settings.use_xnnpack,
        "threads": settings.threads,
        "rounds": len(turns),
        "num_runs": len(runs),
        "warmup_runs": sum(len(turn["warmup_ns"]) for turn in turns),
        "seed": settings.seed,
        "latency_ms": latency.summarize(runs, first, said["init_ns"]),
        "memory": {
            "peak_mb": memory["peak_kb"] / 1024,
            "init_footprint_kb": memory["init_footprint_kb"],
            "overall_footprint_kb": memory["overall_footprint_kb"],
        },
        "nodes": dict(nodes),
        "ops": list(ops),
        "energy_mj_per_inference": None,
        "throttled": bool(before.throttled or after.throttled),
        "throttled_known": after.throttled is not None,
        "temperature_c": {"before": before.temperature_c, "after": after.temperature_c},
        "emulated": after.emulated,
        "timestamp": datetime.now(UTC).isoformat(timespec="seconds"),
    }
