"""This machine as a device, adb that is missing, files that are whole or not there."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

import android_bench
from android_bench import adb
from android_bench.device import HostDevice, died_of
from android_bench.files import sha256, whole
from tfq_pipeline.errors import DeviceFailed


@pytest.fixture
def free_port() -> int:
    """A port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_host_runs_and_cleans_up(tmp_path: Path) -> None:
    host = HostDevice()
    (tmp_path / "script").write_text("#!/bin/sh\necho out; echo err >&2; exit 3\n")
    with host.workdir() as folder:
        host.push(tmp_path / "script", f"{folder}/script")
        done = host.shell([f"{folder}/script"])
        host.pull(f"{folder}/script", tmp_path / "back")
        assert host.exists(f"{folder}/script")
    assert (done.code, done.stdout, done.stderr) == (3, "out\n", "err\n")
    assert (tmp_path / "back").read_text() == (tmp_path / "script").read_text()
    assert not host.exists(folder)


def test_host_reports_deaths_like_a_shell() -> None:
    assert HostDevice().shell(["sh", "-c", "kill -SEGV $$"]).code == 139


def test_host_time_limit() -> None:
    with pytest.raises(DeviceFailed, match=r"no end after 0.2 s of sleep 30"):
        HostDevice().shell(["sleep", "30"], timeout=0.2)


def test_host_missing_program_and_file(tmp_path: Path) -> None:
    with pytest.raises(DeviceFailed, match="cannot run no-such-program"):
        HostDevice().shell(["no-such-program"])
    with pytest.raises(DeviceFailed, match="cannot copy"):
        HostDevice().pull(str(tmp_path / "none"), tmp_path / "back")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("code", "text"), [(132, "does not have"), (139, "SIGSEGV"), (137, "SIGKILL"), (143, "signal 15"), (1, None)]
)
def test_cause_of_death(code: int, text: str | None) -> None:
    cause = died_of(code)
    assert cause is None if text is None else cause is not None and text in cause


def test_missing_adb_names_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, free_port: int) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DeviceFailed, match="apt-get install adb"):
        adb.AdbDevice("X", free_port)


def test_devices_without_adb_are_this_machine(
    monkeypatch: pytest.MonkeyPatch, free_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(adb.shutil, "which", lambda _: None)
    assert [entry["serial"] for entry in android_bench.devices(free_port)] == ["host"]
    assert "apt-get install adb" in caplog.text


def test_whole_leaves_the_old_file_when_the_block_fails(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("old")
    with pytest.raises(TypeError), whole(target) as part:
        part.write_text("half") + None  # type: ignore[operator]
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("file", "old")]
    with whole(target) as part:
        part.write_text("new")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("file", "new")]


def test_sha256_of_a_known_text(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
