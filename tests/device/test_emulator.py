"""The emulated device by hand: its command, what it says when refused, that it ends with who started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from android_bench.adb import states
from android_bench.emulator import process, rootfs
from android_bench.emulator.__main__ import main
from tfq_pipeline.errors import DeviceFailed


def test_start_status_stop(adb_port: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    # The root file system of the user's cache, so that it is not built again; records of what runs stay apart.
    built = rootfs.prepare()
    (cache / rootfs.folder(cache).name).symlink_to(built.root.parent)
    flags = [f"--cache={cache}", f"--adb_port={adb_port}"]
    assert main(["start", "--cpu=cortex-a72", *flags]) == 0
    serial = capsys.readouterr().out.strip()
    assert states(adb_port)[serial] == "device"
    assert main(["status", *flags]) == 0
    assert f"{serial} cortex-a72 pid" in capsys.readouterr().out
    assert main(["stop", *flags]) == 0
    assert capsys.readouterr().out == f"stopped {serial}\n"
    assert serial not in states(adb_port)
    assert main(["stop", *flags]) == 0
    assert capsys.readouterr().out == ""


def test_bad_cpu_is_exit_code_2(adb_port: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["start", "--cpu=z80", f"--adb_port={adb_port}"]) == 2
    assert "no CPU 'z80'" in capsys.readouterr().err


def test_unreachable_mirror_leaves_no_half_built_device(tmp_path: Path) -> None:
    with pytest.raises(DeviceFailed, match=r"cannot fetch lists of packages .* from http://127\.0\.0\.1:9/debian"):
        rootfs.prepare(tmp_path, "http://127.0.0.1:9/debian")
    assert rootfs.load(tmp_path) is None
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_device_ends_with_the_process_that_started_it(adb_port: int) -> None:
    script = (
        "import sys, time\nfrom android_bench.emulator import Emulator\n"
        f"with Emulator(adb_port={adb_port}) as e:\n    print(e.running.pid, flush=True)\n    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and Path(f"/proc/{pid}").exists():
        time.sleep(0.05)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize(
    ("log", "message"),
    [
        ("unshare: unshare failed: Operation not permitted\n", "no user namespaces here .*Operation not permitted"),
        ("mount: proc/sys/fs/binfmt_misc: permission denied.\n", "no private binfmt_misc here .* Linux 6.7"),
        ("", "it did not start: no message"),
    ],
)
def test_what_this_machine_refuses_is_said_plainly(log: str, message: str) -> None:
    with pytest.raises(DeviceFailed, match=message):
        raise DeviceFailed(process.why(log))
