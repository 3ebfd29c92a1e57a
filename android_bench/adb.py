"""Devices behind an adb server.

adb's own client prints what it got and exits with 0 when the connection to the device drops in the middle. So commands
are not run through it: this module speaks the shell protocol over adbutils' connection, and a stream that ends without
the exit packet is a lost device.
"""

from __future__ import annotations

import shlex
import shutil
import socket
import struct
import subprocess
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import adbutils

from android_bench import probe
from android_bench.device import Completed
from android_bench.files import whole
from android_bench.probe import DeviceInfo
from tfq_pipeline.errors import BadInput, DeviceFailed

DEFAULT_PORT = 5037
FOLDER = "/data/local/tmp"

_STDOUT, _STDERR, _EXIT = 1, 2, 3
_SYNC_BLOCK = 65536  # the most that the sync protocol carries in one packet
_TRANSFER_STALL_S = 60.0
_LOST = (adbutils.AdbError, EOFError, OSError)


class _Stalled(Exception):
    """Nothing came before the deadline."""


class _Connection(adbutils.AdbDevice):
    """An adbutils device whose transfers do not wait for ever: adbutils opens them without a time limit."""

    def open_transport(self, command: str | None = None, timeout: float | None = None) -> adbutils.AdbConnection:
        return super().open_transport(command, timeout if timeout is not None else _TRANSFER_STALL_S)


def client(port: int = DEFAULT_PORT) -> adbutils.AdbClient:
    """A client of the adb server at `port` on this machine; starts the server where there is none and never stops one.

    Raises:
        DeviceFailed: there is no server and no adb to start one, or it does not start.
    """
    try:
        socket.create_connection(("127.0.0.1", port), timeout=2).close()
    except OSError:
        adb = shutil.which("adb")
        if adb is None:
            raise DeviceFailed(
                "adb: not found in PATH and no adb server is running; install it with: apt-get install adb"
            ) from None
        try:
            # The server inherits what start-server has open: give it nothing that someone waits on.
            subprocess.run(
                [adb, "-P", str(port), "start-server"],
                **dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL),  # type: ignore[call-overload]
                timeout=20,
                check=True,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise DeviceFailed(
                f"adb: the server does not start on port {port} ({error}); try: adb -P {port} start-server"
            ) from error
    return adbutils.AdbClient(host="127.0.0.1", port=port)


def states(port: int = DEFAULT_PORT) -> dict[str, str]:
    """State of every device that the adb server lists, by serial: ``device``, ``offline``, ``unauthorized``..."""
    try:
        return {entry.serial: entry.state for entry in client(port).list()}
    except _LOST as error:
        raise DeviceFailed(f"adb: the server on port {port} does not list its devices ({_cause(error)})") from error


class AdbDevice:
    """A device that the adb server lists.

    Raises:
        BadInput: the server lists no such serial.
        DeviceFailed: it lists it in a state in which nothing can be run, or its adbd is too old.
    """

    def __init__(self, serial: str, port: int = DEFAULT_PORT) -> None:
        listed = states(port)
        if serial not in listed:
            there = ", ".join(f"{name} ({state})" for name, state in sorted(listed.items())) or "none"
            raise BadInput(
                f"device '{serial}': adb lists no such device; it lists: {there}; connect it, or give one of those"
            )
        if listed[serial] != "device":
            mend = {
                "unauthorized": "allow this computer on the device's screen",
                "offline": "reconnect it, or run: adb reconnect offline",
            }
            raise DeviceFailed(
                f"device '{serial}' is {listed[serial]}; {mend.get(listed[serial], 'see: adb devices -l')}"
            )
        self._serial = serial
        self._port = port
        self._connection = _Connection(client(port), serial=serial)
        with self._watch("asking for its features"):
            features = self._connection.get_features().split(",")
        if "shell_v2" not in features:
            raise DeviceFailed(
                f"device '{serial}': its adbd reports no exit codes (no shell_v2); Android 7 or newer is needed"
            )

    @property
    def serial(self) -> str:
        return self._serial

    def info(self) -> DeviceInfo:
        return probe.parse(
            self.shell(["sh", "-c", probe.SCRIPT], doing="asking what it is").stdout, self._serial, "adb"
        )

    def push(self, local: Path, remote: str) -> None:
        doing = f"pushing {local.name} ({local.stat().st_size} bytes)"
        refused = None
        with self._watch(doing), self._connection.open_transport() as stream:
            stream.send_command("sync:")
            stream.check_okay()
            refused = _send(stream.conn, local, remote)
        if refused is not None:
            self._remove(remote, quietly=True)
            folder = remote.rpartition("/")[0] or "/"
            raise DeviceFailed(
                f"device '{self._serial}': {doing} to {folder} failed ({refused}); free some space there"
            )

    def pull(self, remote: str, local: Path) -> None:
        doing = f"pulling {remote}"
        try:
            size = self._connection.sync.stat(remote).size
            with whole(local) as part:
                got = self._connection.sync.pull_file(remote, part)
                if got != size:
                    raise EOFError(f"{got} of {size} bytes came")
        except _LOST as error:
            self._require_present(doing, error)
            raise DeviceFailed(f"device '{self._serial}': {doing} failed ({_cause(error)}); is it there?") from error

    def shell(self, command: Sequence[str], timeout: float = 60.0, doing: str | None = None) -> Completed:
        what = doing or shlex.join(command)
        output: dict[int, bytearray] = {_STDOUT: bytearray(), _STDERR: bytearray()}
        try:
            with self._watch(f"running {what}"), self._connection.open_transport(timeout=timeout) as stream:
                # The command's own pid goes first, so that one that hangs can be killed: closing only closes its pipes.
                stream.send_command(f"shell,v2,raw:echo $$ >&2; exec {shlex.join(command)}")
                code = _collect(stream, output, time.monotonic() + timeout)
        except _Stalled as error:
            self._kill(bytes(output[_STDERR].partition(b"\n")[0]))
            raise DeviceFailed(
                f"device '{self._serial}': no end after {timeout:g} s of {what}; "
                "raise the time limit, ask for fewer runs, or see whether the device hangs"
            ) from error
        stderr = output[_STDERR].partition(b"\n")[2]
        return Completed(code, output[_STDOUT].decode(errors="replace"), stderr.decode(errors="replace"))

    def exists(self, remote: str) -> bool:
        return self.shell(["ls", "-d", remote]).code == 0

    @contextmanager
    def workdir(self) -> Iterator[str]:
        folder = f"{FOLDER}/tfq-{uuid.uuid4().hex[:12]}"
        made = self.shell(["mkdir", "-p", folder])
        if made.code != 0:
            raise DeviceFailed(
                f"device '{self._serial}': cannot make {folder} ({made.stderr.strip()}); free some space there"
            )
        try:
            yield folder
        except BaseException:
            self._remove(folder, quietly=True)
            raise
        self._remove(folder, quietly=False)

    def _remove(self, folder: str, quietly: bool) -> None:
        try:
            self.shell(["rm", "-rf", folder], timeout=20)
        except DeviceFailed:
            # A device that is gone cannot be cleaned; what happened before is the error to show.
            if not quietly:
                raise

    def _kill(self, pid: bytes) -> None:
        if pid.isdigit():
            try:
                with self._connection.open_transport(timeout=5) as stream:
                    stream.send_command(f"shell,v2,raw:kill -9 {pid.decode()}")
                    _collect(stream, {}, time.monotonic() + 5)
            except (_Stalled, *_LOST):
                return  # it hangs or is gone: the caller says so

    def _present(self) -> bool:
        try:
            return states(self._port).get(self._serial) == "device"
        except DeviceFailed:
            return False

    def _require_present(self, doing: str, error: Exception) -> None:
        # The server notices a lost device a moment after the stream breaks.
        time.sleep(0.2)
        if not self._present():
            raise DeviceFailed(
                f"device '{self._serial}' went away while {doing}; see its cable and `adb devices`, then run again"
            ) from error

    @contextmanager
    def _watch(self, doing: str) -> Iterator[None]:
        try:
            yield
        except _LOST as error:
            self._require_present(doing, error)
            raise DeviceFailed(
                f"device '{self._serial}': lost the connection while {doing} ({_cause(error)}); run again"
            ) from error


def _send(conn: socket.socket, local: Path, remote: str) -> str | None:
    """Sends a file by the sync protocol; returns what the device says against it, None when it took the file.

    adbutils can push too, but in small writes that wait for each other, and it drops the device's message.
    """
    target = f"{remote},{0o100755}".encode()
    try:
        conn.sendall(b"SEND" + struct.pack("<I", len(target)) + target)
        with local.open("rb") as file:
            while block := file.read(_SYNC_BLOCK):
                conn.sendall(b"DATA" + struct.pack("<I", len(block)) + block)
        conn.sendall(b"DONE" + struct.pack("<I", int(time.time())))
    except (BrokenPipeError, ConnectionResetError):
        # A device that refuses closes its end while we still send; its message waits to be read.
        pass
    reader = conn.makefile("rb")
    answer = reader.read(8)
    if len(answer) < 8:
        raise EOFError("the stream ended early")
    message = reader.read(struct.unpack("<I", answer[4:])[0])
    return None if answer[:4] == b"OKAY" else message.decode(errors="replace")


def _collect(stream: adbutils.AdbConnection, output: dict[int, bytearray], deadline: float) -> int:
    """Reads packets (a byte of kind, four of length, the payload) until that of the exit code, and returns it.

    Raises:
        _Stalled: the deadline passed.
        EOFError: the stream ended without the exit packet.
    """
    okay = _exactly(stream, 4, deadline)
    if okay != b"OKAY":
        size = int(_exactly(stream, 4, deadline), 16) if okay == b"FAIL" else 0
        raise adbutils.AdbError(_exactly(stream, size, deadline).decode(errors="replace"))
    while True:
        kind, *length = _exactly(stream, 5, deadline)
        payload = _exactly(stream, int.from_bytes(bytes(length), "little"), deadline)
        if kind == _EXIT:
            return payload[0]
        output.setdefault(kind, bytearray()).extend(payload)


def _exactly(stream: adbutils.AdbConnection, size: int, deadline: float) -> bytes:
    got = bytearray()
    while len(got) < size:
        stream.conn.settimeout(max(deadline - time.monotonic(), 0.001))
        try:
            chunk = stream.conn.recv(size - len(got))
        except TimeoutError as error:
            raise _Stalled from error
        if not chunk:
            raise EOFError("the stream ended early")
        got += chunk
    return bytes(got)


def _cause(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
