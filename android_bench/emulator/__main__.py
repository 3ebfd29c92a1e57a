"""python -m android_bench.emulator prepare|start|stop|status: the emulated device by hand."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from android_bench import adb
from android_bench.emulator import process, rootfs
from tfq_pipeline.errors import TfqError


def main(arguments: list[str] | None = None) -> int:
    """Runs one verb; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m android_bench.emulator", description="An emulated arm64 device behind adb."
    )
    parser.add_argument("verb", choices=("prepare", "start", "stop", "status"))
    parser.add_argument("--cpu", default=process.DEFAULT_CPU, help=f"one of {', '.join(process.CPUS)}")
    parser.add_argument("--cache", type=Path, default=None, help="folder that keeps the root file system")
    parser.add_argument("--mirror", default=None, help="URI of a Debian archive; that of this machine's apt by default")
    parser.add_argument("--adb_port", type=int, default=adb.DEFAULT_PORT, help="port of the adb server")
    parser.add_argument("--storage_mb", type=int, default=256, help="size of the device's storage")
    flags = parser.parse_args(arguments)
    try:
        {"prepare": _prepare, "start": _start, "stop": _stop, "status": _status}[flags.verb](flags)
    except TfqError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def _prepare(flags: argparse.Namespace) -> None:
    begin = time.monotonic()
    ready = rootfs.prepare(flags.cache, flags.mirror)
    versions = f"adbd {ready.versions['adbd']}, qemu-user {ready.versions['qemu-user']}"
    print(f"{ready.root} ({versions}) in {time.monotonic() - begin:.1f} s")


def _start(flags: argparse.Namespace) -> None:
    ready = rootfs.prepare(flags.cache, flags.mirror)
    logs = Path(tempfile.gettempdir())
    running = process.start(ready, flags.cpu, flags.adb_port, flags.storage_mb, logs, outlive=True)
    process.remember(running, flags.cache)
    print(running.serial)


def _stop(flags: argparse.Namespace) -> None:
    for running in process.remembered(flags.cache):
        process.stop(running)
        print(f"stopped {running.serial}")


def _status(flags: argparse.Namespace) -> None:
    ready = rootfs.load(flags.cache)
    print(f"root file system: {ready.root if ready else 'not built; run prepare'}")
    for running in process.remembered(flags.cache):
        print(f"{running.serial} {running.cpu} pid {running.pid}")


if __name__ == "__main__":
    sys.exit(main())
