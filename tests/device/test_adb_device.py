"""The adb device against the real adb, the real adbd and an emulated arm64 CPU."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from pathlib import Path

import pytest

from android_bench.adb import AdbDevice, states
from android_bench.emulator import CPUS, Emulator
from tests.device.conftest import STORAGE_MB
from tfq_pipeline.errors import BadInput, DeviceFailed


def listening(port: int) -> list[str]:
    """Local addresses, in the kernel's hexadecimal, of the sockets that listen on a port."""
    found = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            _, local, _, state, *_ = line.split()
            address, _, number = local.partition(":")
            if int(number, 16) == port and state == "0A":
                found.append(address)
    return found


def test_exit_codes_and_streams_arrive_apart(device: AdbDevice) -> None:
    done = device.shell(["sh", "-c", "echo out; echo err >&2; exit 7"])
    assert (done.code, done.stdout, done.stderr) == (7, "out\n", "err\n")
    assert device.shell(["true"]).code == 0
    assert device.shell(["no-such-program"]).code == 127
    assert device.shell(["sh", "-c", "kill -SEGV $$"]).code == 139


def test_arguments_reach_the_program_as_they_are(device: AdbDevice) -> None:
    words = ["a b", "$HOME", "semi;colon", "quote'd", 'double"d', "*"]
    assert device.shell(["printf", "%s\\n", *words]).stdout.splitlines() == words


def test_output_larger_than_a_packet_arrives_whole(device: AdbDevice) -> None:
    done = device.shell(["seq", "1", "60000"])
    assert done.stdout.split() == [str(i) for i in range(1, 60001)]


def test_push_and_pull_keep_every_byte(device: AdbDevice, tmp_path: Path) -> None:
    content = os.urandom(3_000_001)
    (tmp_path / "sent").write_bytes(content)
    with device.workdir() as folder:
        device.push(tmp_path / "sent", f"{folder}/file")
        assert device.exists(f"{folder}/file")
        device.pull(f"{folder}/file", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == content
    assert not device.exists(folder)


def test_pull_of_nothing_leaves_nothing(device: AdbDevice, tmp_path: Path) -> None:
    with pytest.raises(DeviceFailed, match="pulling /data/local/tmp/none failed"):
        device.pull("/data/local/tmp/none", tmp_path / "none")
    assert list(tmp_path.iterdir()) == []


def test_workdir_goes_when_the_block_fails(device: AdbDevice) -> None:
    with pytest.raises(ZeroDivisionError), device.workdir() as folder:
        raise ZeroDivisionError
    assert not device.exists(folder)


def test_full_disk_is_said_and_leaves_room(device: AdbDevice, tmp_path: Path) -> None:
    big = tmp_path / "big"
    with big.open("wb") as file:
        file.truncate((STORAGE_MB + 16) << 20)
    small = tmp_path / "small"
    small.write_bytes(b"x" * 1000)
    with device.workdir() as folder:
        with pytest.raises(DeviceFailed, match=r"pushing big \(\d+ bytes\) to .* failed \(.*No space left on device\)"):
            device.push(big, f"{folder}/big")
        device.push(small, f"{folder}/small")
        assert not device.exists(f"{folder}/big")


def test_command_without_end_is_killed(device: AdbDevice) -> None:
    with pytest.raises(DeviceFailed, match=r"no end after 1 s of sleep 31\.5"):
        device.shell(["sleep", "31.5"], timeout=1)
    assert "31.5" not in device.shell(["ps", "-ef"]).stdout


def test_what_it_is(device: AdbDevice) -> None:
    info = device.info()
    assert info.emulated
    assert info.emulator is not None
    assert re.match(r"qemu-aarch64 \d+", info.emulator)
    assert (info.abi, info.platform) == ("arm64-v8a", "linux_arm64")
    assert "asimddp" in info.isa
    assert info.cores[0].name == "Cortex-A76"
    # No sensor of this machine may pass for the device's.
    assert info.governor is None


def test_no_such_serial_lists_what_there_is(emulator: Emulator, adb_port: int) -> None:
    with pytest.raises(BadInput, match=rf"device 'nope': .* it lists: {emulator.serial} \(device\)"):
        AdbDevice("nope", adb_port)


def test_adbd_listens_on_loopback_only(emulator: Emulator) -> None:
    port = int(emulator.serial.rpartition(":")[2])
    addresses = listening(port)
    # 127.0.0.1, as IPv4 and as the IPv6 address that stands for it.
    assert addresses
    assert set(addresses) <= {"0100007F", "0000000000000000FFFF00000100007F"}


def test_device_that_goes_away_while_running(adb_port: int) -> None:
    with Emulator(adb_port=adb_port) as emulator:
        device = AdbDevice(emulator.serial, adb_port)
        watcher = AdbDevice(emulator.serial, adb_port)

        def kill_when_running() -> None:
            while "sleep 60" not in watcher.shell(["ps", "-ef"]).stdout:
                time.sleep(0.05)
            os.kill(emulator.running.pid, signal.SIGKILL)

        thread = threading.Thread(target=kill_when_running)
        thread.start()
        with (
            pytest.raises(DeviceFailed, match=rf"device '{emulator.serial}'.* while running the test"),
            device.workdir(),
        ):
            device.shell(["sh", "-c", "echo begun; sleep 60; echo done"], doing="the test")
        thread.join()
        assert not emulator.running.alive()
    assert emulator.serial not in states(adb_port)


def test_device_that_hangs_and_recovers(adb_port: int) -> None:
    with Emulator(adb_port=adb_port) as emulator:
        device = AdbDevice(emulator.serial, adb_port)
        pid = emulator.running.pid
        adbd = int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
        os.kill(adbd, signal.SIGSTOP)
        try:
            with pytest.raises(DeviceFailed, match="no end after 1 s of true"):
                device.shell(["true"], timeout=1)
        finally:
            os.kill(adbd, signal.SIGCONT)
        assert device.shell(["echo", "back"]).stdout == "back\n"


@pytest.mark.parametrize(("cpu", "feature", "has"), [("cortex-a53", "asimddp", False), ("max", "i8mm", True)])
def test_cpu_is_the_one_that_was_asked_for(adb_port: int, cpu: str, feature: str, has: bool) -> None:
    with Emulator(cpu=cpu, adb_port=adb_port) as emulator:
        assert (feature in AdbDevice(emulator.serial, adb_port).info().isa) is has


def test_unknown_cpu_lists_those_that_there_are(adb_port: int) -> None:
    with (
        pytest.raises(BadInput, match=f"no CPU 'z80'; there are: {', '.join(CPUS)}"),
        Emulator("z80", adb_port=adb_port),
    ):
        pass
