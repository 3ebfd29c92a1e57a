"""Starts and stops the emulated device: adbd under user-mode emulation in namespaces of its own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import adbutils

from android_bench import adb
from android_bench.emulator.rootfs import ADBD, Rootfs, prepare
from android_bench.files import default_cache, whole
from tfq_pipeline.errors import BadInput, DeviceFailed

# They differ in which kernels they can run: none of the extras, dot product, dot product and i8mm, all that qemu knows.
CPUS = (
    *("cortex-a53", "cortex-a72", "cortex-a55", "cortex-a76", "neoverse-n1"),
    *("neoverse-v1", "cortex-a710", "neoverse-n2", "max"),
)
DEFAULT_CPU = "cortex-a76"

_START_S = 30.0
# The adb server looks for emulators of its own accord on these ports and would list the device twice.
_SCANNED_PORTS = range(5555, 5586)

_INSIDE = Path(__file__).parent / "inside.sh"


@dataclass(frozen=True)
class Running:
    """A started device.

    Attributes:
        serial: what adb calls it, ``127.0.0.1:PORT``.
        pid: of the process that holds its namespaces; killing it ends everything inside.
        born: that process's start time in clock ticks since boot, so that a pid used again is not mistaken for it.
    """

    serial: str
    pid: int
    born: int
    cpu: str
    adb_port: int
    log: str

    def alive(self) -> bool:
        """Whether it still runs."""
        return _born(self.pid) == self.born


def start(rootfs: Rootfs, cpu: str, adb_port: int, storage_mb: int, logs: Path, outlive: bool) -> Running:
    """Starts a device and connects the adb server to it.

    Args:
        storage_mb: size of /data/local/tmp, which lies in memory.
        outlive: whether it goes on when the thread that started it ends.

    Raises:
        BadInput: no such CPU.
        DeviceFailed: this machine refuses what the emulation needs, or the device does not come up.
    """
    if cpu not in CPUS:
        raise BadInput(f"emulator: no CPU '{cpu}'; there are: {', '.join(CPUS)}")
    for program, package in (("unshare", "util-linux"), ("setpriv", "util-linux")):
        if shutil.which(program) is None:
            raise DeviceFailed(f"emulator: {program} not found; install it with: apt-get install {package}")
    server = adb.client(adb_port)
    port = _free_port()
    serial = f"127.0.0.1:{port}"
    logs.mkdir(parents=True, exist_ok=True)
    log = logs / f"adbd-{port}.log"
    environment = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "LC_ALL": "C",
        "R": str(rootfs.root),
        "Q": str(rootfs.qemu),
        "M": str(storage_mb),
        "CPU": cpu,
        "A": ADBD,
        "P": _properties(rootfs, cpu, port),
    }
    command = [
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
        "--pid",
        "--uts",
        "--fork",
        "--kill-child",
        "sh",
        str(_INSIDE),
    ]
    if not outlive:
        command = ["setpriv", "--pdeathsig", "KILL", *command]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait_until_up(process, port, log)
        _connect(server, serial)
    except BaseException:
        process.kill()
        process.wait()
        raise
    _children[process.pid] = process
    return Running(serial, process.pid, _born(process.pid), cpu, adb_port, str(log))


def stop(running: Running) -> None:
    """Ends a device and takes it off the adb server's list; one that is gone already is no error."""
    if running.alive():
        # unshare does not heed SIGTERM while it waits for its child.
        with contextlib.suppress(ProcessLookupError):
            os.kill(running.pid, signal.SIGKILL)
    if process := _children.pop(running.pid, None):
        process.wait()
    with contextlib.suppress(DeviceFailed, adbutils.AdbError, OSError):
        adb.client(running.adb_port).disconnect(running.serial)
    Path(running.log).unlink(missing_ok=True)


class Emulator:
    """An emulated arm64 device that lives as long as the block.

    Args:
        cpu: one of `CPUS`.
        cache: folder that keeps the root file system; the user's cache folder by default.
        mirror: URI of the Debian archive to build it from; that of this machine's apt by default.
        adb_port: port of the adb server to connect to it.
        storage_mb: size of its storage.

    Example:
        >>> with Emulator(cpu="cortex-a53") as emulator:
        ...     AdbDevice(emulator.serial).shell(["uname", "-m"])
    """

    def __init__(
        self,
        cpu: str = DEFAULT_CPU,
        cache: Path | None = None,
        mirror: str | None = None,
        adb_port: int = adb.DEFAULT_PORT,
        storage_mb: int = 256,
    ) -> None:
        self._cpu, self._cache, self._mirror, self._adb_port, self._storage_mb = (
            cpu,
            cache,
            mirror,
            adb_port,
            storage_mb,
        )
        self._running: Running | None = None
        self._logs: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> Emulator:
        rootfs = prepare(self._cache, self._mirror)
        self._logs = tempfile.TemporaryDirectory(prefix="tfq-emulator-")
        try:
            self._running = start(
                rootfs, self._cpu, self._adb_port, self._storage_mb, Path(self._logs.name), outlive=False
            )
        except BaseException:
            self._logs.cleanup()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._running is not None:
            stop(self._running)
        if self._logs is not None:
            self._logs.cleanup()

    @property
    def running(self) -> Running:
        """The started device."""
        if self._running is None:
            raise RuntimeError("the emulator was not started: use it in a with block")
        return self._running

    @property
    def serial(self) -> str:
        """What adb calls it."""
        return self.running.serial


def remember(running: Running, cache: Path | None = None) -> None:
    """Writes down a device that was started to outlive this process."""
    folder = _records(cache)
    folder.mkdir(parents=True, exist_ok=True)
    with whole(folder / f"{running.pid}.json") as part:
        part.write_text(json.dumps(asdict(running)))


def remembered(cache: Path | None = None) -> list[Running]:
    """Devices that were written down and still run; forgets those that do not."""
    return list(_living(cache))


def _living(cache: Path | None) -> Iterator[Running]:
    for file in sorted(_records(cache).glob("*.json")):
        running = Running(**json.loads(file.read_text()))
        if running.alive():
            yield running
        else:
            file.unlink(missing_ok=True)


def _records(cache: Path | None) -> Path:
    return (cache or default_cache() / "emulator") / "running"


# Processes started here, to be reaped when they are stopped; stopping by pid alone would leave zombies.
_children: dict[int, subprocess.Popen[bytes]] = {}


def _born(pid: int) -> int:
    """Start time of a process, -1 when there is none or it is dead and only waits to be reaped."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return -1
    return -1 if fields[0] == "Z" else int(fields[19])


def _properties(rootfs: Rootfs, cpu: str, port: int) -> str:
    version = rootfs.versions.get("qemu-user", "unknown").partition("+")[0].rpartition(":")[2]
    return "\n".join(
        [
            f"service.adb.listen_addrs=tcp:{port}",
            "ro.product.name=tfq_emulator",
            "ro.product.model=tfq_emulator",
            "ro.product.device=tfq_emulator",
            "ro.product.cpu.abi=arm64-v8a",
            f"ro.soc.model=emulated {cpu}",
            "ro.kernel.qemu=1",
            f"ro.tfq.emulator=qemu-aarch64 {version}",
            f"ro.tfq.cpu={cpu}",
        ]
    )


def _free_port() -> int:
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port not in _SCANNED_PORTS:
            return port


def _wait_until_up(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise DeviceFailed(why(log.read_text(errors="replace")))
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.02)
    last = _last(log.read_text(errors="replace"))
    raise DeviceFailed(f"emulator: adbd does not listen after {_START_S:g} s; its log ends: {last}")


def _connect(server: adbutils.AdbClient, serial: str) -> None:
    deadline = time.monotonic() + _START_S
    answer = ""
    while time.monotonic() < deadline:
        try:
            answer = server.connect(serial, timeout=10)
            if adb.states(server.port).get(serial) == "device":
                return
        except (adbutils.AdbError, OSError) as error:
            answer = str(error)
        time.sleep(0.02)
    raise DeviceFailed(f"emulator: adb does not reach {serial}: {answer.strip()}")


def why(log: str) -> str:
    """What to tell the user when the namespaces or mounts were refused."""
    if "unshare:" in log:
        return (
            f"emulator: no user namespaces here ({_last(log)}); allow them (kernel.unprivileged_userns_clone=1, "
            "kernel.apparmor_restrict_unprivileged_userns=0, a container that permits them) or use --device=host"
        )
    if "binfmt_misc" in log:
        return (
            f"emulator: no private binfmt_misc here ({_last(log)}); it needs Linux 6.7 or newer with binfmt_misc "
            f"(modprobe binfmt_misc), this is {os.uname().release}"
        )
    return f"emulator: it did not start: {_last(log)}"


def _last(log: str) -> str:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return lines[-1] if lines else "no message"
