"""Verbs that reach for a device where there is no adb: exit code 3, one line that says what to install."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from android_bench import runtime
from tests.command import Command
from tfq_pipeline import native


@pytest.fixture
def no_adb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A PATH with `sh` and no adb, and the flag for a port at which no server listens."""
    (tmp_path / "bin").mkdir()
    for name in ("sh", "cat", "uname"):
        (tmp_path / "bin" / name).symlink_to(Path("/bin") / name)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"--adb_port={probe.getsockname()[1]}"


@pytest.mark.parametrize("device", ["R5CR1234", "all"])
def test_a_device_without_adb(tfq: Command, no_adb: str, tflite: Path, device: str) -> None:
    line = tfq("benchmark", tflite, f"--device={device}", no_adb).error(3)
    assert line == "adb: not found in PATH and no adb server is running; install it with: apt-get install adb"


def test_this_machine_is_listed_without_adb(tfq: Command, no_adb: str) -> None:
    done = tfq("devices", no_adb, "--json")
    (host,) = done.document()
    assert (host["serial"], host["state"], host["emulated"]) == ("host", "device", False)
    assert {"soc", "cores", "isa", "governor", "temperature_c", "abi"} <= set(host)
    assert done.err.startswith("tfq: adb: not found in PATH")
    assert tfq("devices", no_adb).out.startswith("host\n")


def test_flags_of_a_delegate(tfq: Command, tflite: Path, tmp_path: Path) -> None:
    text, other = tmp_path / "text.so", tmp_path / "other.so"
    text.write_text("hello")
    other.write_bytes(b"\x7fELF\x02\x01" + bytes(12) + (243).to_bytes(2, "little"))
    said = {
        f"--delegate={text}": "is no 64-bit ELF file, device 'host' is",
        f"--delegate={other}": "is built for processor 243, device 'host' is",
        f"--delegate={runtime.litert(native.host_platform()).library}": "is no external delegate: it lacks",
        "--delegate=/no/such.so": "delegate '/no/such.so': neither int4 nor the file of a library; give one of them",
        "--external_delegate_options=cpu": "'cpu' is not key:value; write 'key:value;key:value'",
        "--runtime=tflite": "runtime 'tflite': name its library with --runtime_library, such as libtensorflow-lite.so",
        "--min_secs=5 --max_secs=1": "min_secs=5, max_secs=1: give 0 <= min_secs <= max_secs",
    }
    for flags, message in said.items():
        assert message in tfq("benchmark", tflite, *flags.split()).error(2)
    assert f"{tmp_path}: cannot be read (Is a directory); give a readable file" in tfq("benchmark", tmp_path).error(2)
