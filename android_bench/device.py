"""Where a model runs: this machine or one that adb reaches, behind one protocol."""

from __future__ import annotations

import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from android_bench import probe
from android_bench.probe import DeviceInfo
from tfq_pipeline.errors import DeviceFailed


@dataclass(frozen=True)
class Completed:
    """A command that ran to its end: exit code (128 + n for a death by signal n) and what it printed."""

    code: int
    stdout: str
    stderr: str


class Device(Protocol):
    """A machine that files can be put on and commands run on.

    Every call raises DeviceFailed when the device refuses, hangs or goes away: one line that names it and what was
    being done.
    """

    @property
    def serial(self) -> str:
        """What the user calls it."""

    def info(self) -> DeviceInfo:
        """What it is, asked anew."""

    def push(self, local: Path, remote: str) -> None:
        """Copies a file onto the device; it can be executed there."""

    def pull(self, remote: str, local: Path) -> None:
        """Copies a file from the device; `local` is whole or not there."""

    def shell(self, command: Sequence[str], timeout: float = 60.0, doing: str | None = None) -> Completed:
        """Runs a command to its end.

        Args:
            command: program and arguments, not interpreted by a shell.
            timeout: seconds after which the command is killed.
            doing: what to call the command in an error; its text otherwise.
        """

    def exists(self, remote: str) -> bool:
        """Whether there is such a file or folder."""

    def workdir(self) -> AbstractContextManager[str]:
        """A new folder on the device, removed at the end of the block."""


class HostDevice:
    """This machine."""

    serial = "host"

    def info(self) -> DeviceInfo:
        return probe.parse(
            self.shell(["sh", "-c", probe.SCRIPT], doing="asking what this machine is").stdout, self.serial, "host"
        )

    def push(self, local: Path, remote: str) -> None:
        try:
            shutil.copyfile(local, remote)
            Path(remote).chmod(0o755)
        except OSError as error:
            raise DeviceFailed(
                f"host: cannot copy {local} to {remote}: {error.strerror}; free some space or mend its rights"
            ) from error

    def pull(self, remote: str, local: Path) -> None:
        from android_bench.files import whole

        try:
            with whole(local) as part:
                shutil.copyfile(remote, part)
        except OSError as error:
            raise DeviceFailed(f"host: cannot copy {remote} to {local}: {error.strerror}") from error

    def shell(self, command: Sequence[str], timeout: float = 60.0, doing: str | None = None) -> Completed:
        try:
            done = subprocess.run(
                list(command), capture_output=True, timeout=timeout, stdin=subprocess.DEVNULL, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise DeviceFailed(
                f"host: no end after {timeout:g} s of {doing or shlex.join(command)}; ask for fewer runs"
            ) from error
        except OSError as error:
            raise DeviceFailed(f"host: cannot run {command[0]}: {error.strerror}") from error
        code = done.returncode if done.returncode >= 0 else 128 - done.returncode
        return Completed(code, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))

    def exists(self, remote: str) -> bool:
        return Path(remote).exists()

    @contextmanager
    def workdir(self) -> Iterator[str]:
        with tempfile.TemporaryDirectory(prefix="tfq-") as folder:
            yield folder


def died_of(code: int) -> str | None:
    """What killed a command, for a shell's exit code above 128; None when it ended by itself."""
    if not 128 < code < 128 + 65:
        return None
    number = code - 128
    known = {
        signal.SIGILL: "an instruction that this CPU does not have (SIGILL)",
        signal.SIGSEGV: "a memory fault (SIGSEGV)",
        signal.SIGKILL: "a kill, often for lack of memory (SIGKILL)",
        signal.SIGBUS: "a memory fault (SIGBUS)",
        signal.SIGABRT: "an abort of its own (SIGABRT)",
    }
    return (
        known.get(signal.Signals(number), f"signal {number}") if number in set(signal.Signals) else f"signal {number}"
    )
