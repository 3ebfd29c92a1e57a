"""The public calls: a device by name, a model on it, a list of what there is."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from android_bench import adb
from android_bench.device import Device, HostDevice
from android_bench.emulator import DEFAULT_CPU, Emulator
from android_bench.experiment import Delegate, Experiment, Settings
from android_bench.session import open_session
from tfq_pipeline.errors import BadInput, DeviceFailed
from tfq_pipeline.tflite import flatbuffer

_LOG = logging.getLogger(__name__)


@contextmanager
def open_device(name: str, cpu: str = DEFAULT_CPU, adb_port: int = adb.DEFAULT_PORT) -> Iterator[Device]:
    """A device by name.

    Args:
        name: ``host``, ``emulator`` (started for the block and stopped after it) or a serial that adb lists.
        cpu: the CPU that the emulator shows.
        adb_port: port of the adb server.

    Raises:
        BadInput: adb lists no such device.
        DeviceFailed: adb is missing, or the device cannot be used.
    """
    with ExitStack() as stack:
        if name == "host":
            yield HostDevice()
        elif name == "emulator":
            yield adb.AdbDevice(stack.enter_context(Emulator(cpu=cpu, adb_port=adb_port)).serial, adb_port)
        else:
            yield adb.AdbDevice(name, adb_port)


def benchmark(
    models: Sequence[str | Path] | str | Path,
    device: str = "host",
    delegate: str | Sequence[str | None] | None = None,
    *,
    rounds: int = 1,
    delegate_options: Mapping[str, str] | None = None,
    settings: Settings | None = None,
    runtime: str = "litert",
    runtime_library: str | Path | None = None,
    allow_undelegated: bool = False,
    cpu: str = DEFAULT_CPU,
    adb_port: int = adb.DEFAULT_PORT,
) -> list[dict[str, Any]]:
    """Measures models on a device.

    Args:
        models: one .tflite file or several.
        device: ``host``, ``emulator``, a serial, or ``all`` for every device that adb lists.
        delegate: ``int4``, the path of an external delegate's library for that device, or None for the runtime alone;
            several to measure each model with each.
        rounds: turns that all of these take, on each device; after more than one, results are compared with the first.
        delegate_options: keys and values for the delegate.
        settings: threads, runs and the like.
        runtime: ``litert``, or ``tflite`` with `runtime_library`.
        allow_undelegated: whether a delegate that takes nothing is no error.
        cpu: the CPU that the emulator shows.
        adb_port: port of the adb server.

    Returns:
        The `benchmark` document: an object for each model and delegate on each device.

    Raises:
        BadInput: a model, option or device that there is not.
        DeviceFailed: the device or the runtime fails, or the delegate takes nothing.
    """
    if rounds < 1:
        raise BadInput(f"rounds={rounds}: the least is 1")
    plan = [
        Experiment(
            _whole(model),
            Delegate(name, dict(delegate_options or {})) if name else None,
            settings or Settings(),
            runtime,
            Path(runtime_library) if runtime_library else None,
            allow_undelegated,
        )
        for model in ([models] if isinstance(models, str | Path) else models)
        for name in ([delegate] if delegate is None or isinstance(delegate, str) else delegate)
    ]
    results = []
    for name in _names(device, adb_port):
        with open_device(name, cpu, adb_port) as opened, open_session(opened) as session:
            results += session.interleave(plan, rounds)
    return results


def run_model(
    model: str | Path,
    inputs: Sequence[np.ndarray],
    device: str | Device = "host",
    delegate: str | None = None,
    *,
    delegate_options: Mapping[str, str] | None = None,
    settings: Settings | None = None,
    runtime: str = "litert",
    runtime_library: str | Path | None = None,
    allow_undelegated: bool = False,
    cpu: str = DEFAULT_CPU,
    adb_port: int = adb.DEFAULT_PORT,
) -> list[np.ndarray]:
    """Runs samples through a model on a device and returns the raw outputs, to compare devices bit for bit.

    Args:
        inputs: an array for each input, in the model's order, [samples, ...], of the model's own types.
        device: a name as in `benchmark`, or a device that is open already.

    Returns:
        An array for each output, [samples, ...].
    """
    experiment = Experiment(
        _whole(model),
        Delegate(delegate, dict(delegate_options or {})) if delegate else None,
        settings or Settings(),
        runtime,
        Path(runtime_library) if runtime_library else None,
        allow_undelegated,
    )
    with ExitStack() as stack:
        opened = stack.enter_context(open_device(device, cpu, adb_port)) if isinstance(device, str) else device
        return stack.enter_context(open_session(opened)).outputs(experiment, inputs)


def devices(adb_port: int = adb.DEFAULT_PORT) -> list[dict[str, Any]]:
    """This machine and every device that adb lists, as plain data; ``state`` says whether one can be used.

    Without adb the list holds this machine alone, and a warning says why.
    """
    found: list[dict[str, Any]] = [{**HostDevice().info().to_dict(), "state": "device"}]
    try:
        listed = adb.states(adb_port)
    except DeviceFailed as error:
        _LOG.warning("%s", error)
        return found
    for serial, state in sorted(listed.items()):
        known: dict[str, Any] = {**dict.fromkeys(found[0]), "serial": serial, "kind": "adb"}
        if state == "device":
            try:
                known = adb.AdbDevice(serial, adb_port).info().to_dict()
            except DeviceFailed as error:
                _LOG.warning("%s", error)
        found.append({**known, "state": state})
    return found


def _whole(model: str | Path) -> Path:
    """The path of a file that is a whole model: a runtime dies of a damaged one, on a device far away."""
    flatbuffer.read(model)
    return Path(model)


def _names(device: str, adb_port: int) -> list[str]:
    if device != "all":
        return [device]
    usable = [serial for serial, state in sorted(adb.states(adb_port).items()) if state == "device"]
    if not usable:
        raise DeviceFailed(
            "device 'all': adb lists no device that can be used; connect one, or use --device=host or --device=emulator"
        )
    return usable
