"""The emulated device's root file system: a small Debian for arm64 with the real adbd, built once and kept."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from android_bench.emulator.apt import Apt, find_mirror, unpack
from android_bench.files import default_cache
from tfq_pipeline.errors import DeviceFailed

SUITE = "trixie"
ADBD = "/usr/lib/android-sdk/platform-tools/adbd"
PACKAGES = (
    *("adbd", "dash", "coreutils", "sed", "grep", "procps", "util-linux"),
    *("findutils", "debianutils", "libc-bin", "libstdc++6"),
)
SHIM = Path(__file__).parent / "shim.cc"
COMPILER = "aarch64-linux-gnu-g++"

# Debian's adbd has no getprop beside it; scripts for phones expect one.
_GETPROP = """#!/bin/sh
if [ -n "$1" ]; then exec sed -n "s/^$1=//p" /run/build.prop; fi
exec sed 's/^\\([^=]*\\)=\\(.*\\)$/[\\1]: [\\2]/' /run/build.prop
"""


@dataclass(frozen=True)
class Rootfs:
    """A root file system that is ready to start.

    Attributes:
        root: the device's ``/``.
        qemu: the static user-mode emulator on this machine.
        versions: Debian versions by package name.
    """

    root: Path
    qemu: Path
    versions: dict[str, str]


def folder(cache: Path | None = None) -> Path:
    """Where the root file system of this recipe lies; a changed recipe has another folder."""
    recipe = "\n".join([SUITE, *PACKAGES, _GETPROP, SHIM.read_text()])
    return (cache or default_cache() / "emulator") / f"{SUITE}-arm64-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"


def load(cache: Path | None = None) -> Rootfs | None:
    """The root file system in the cache, None when it was not built yet."""
    place = folder(cache)
    try:
        versions = json.loads((place / "versions.json").read_text())
    except FileNotFoundError:
        return None
    return Rootfs(place / "root", place / "qemu-aarch64", versions)


def prepare(cache: Path | None = None, mirror: str | None = None) -> Rootfs:
    """Gives the root file system, building it when it is not in the cache.

    Args:
        cache: folder to keep it in; the user's cache folder by default.
        mirror: URI of a Debian archive; that of this machine's apt by default.

    Raises:
        DeviceFailed: no network or mirror, a program is missing, or this machine is of a kind that cannot emulate.
    """
    if found := load(cache):
        return found
    if platform.machine() != "x86_64":
        raise DeviceFailed(
            f"emulator: it runs on x86_64 hosts, this is {platform.machine()}; use --device=host or a device behind adb"
        )
    if shutil.which(COMPILER) is None:
        raise DeviceFailed(f"emulator: {COMPILER} not found; install it with: apt-get install g++-aarch64-linux-gnu")
    place = folder(cache)
    place.parent.mkdir(parents=True, exist_ok=True)
    with _locked(place.parent / "lock"):
        if found := load(cache):
            return found
        with tempfile.TemporaryDirectory(dir=place.parent, prefix=".building-") as name:
            built = Path(name) / "built"
            _build(Path(name), built, mirror or find_mirror())
            built.rename(place)
    ready = load(cache)
    if ready is None:
        raise DeviceFailed(f"emulator: {place} vanished while it was built; run prepare again")
    return ready


def _build(work: Path, built: Path, mirror: str) -> None:
    apt = Apt(work, mirror, SUITE)
    apt.update()
    packages = apt.install("arm64", PACKAGES)
    emulator = apt.download("amd64", "qemu-user", work / "host")

    root = built / "root"
    for name in ("bin", "sbin", "lib"):
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
    for package in packages:
        unpack(package, root)
    for name in ("proc", "sys", "dev", "run", "tmp", "root", "etc", "system/bin", "data/local/tmp"):
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\n")
    getprop = root / "usr/bin/getprop"
    getprop.write_text(_GETPROP)
    getprop.chmod(0o755)
    (root / "system/bin/sh").symlink_to("/usr/bin/dash")
    if not (root / ADBD.lstrip("/")).is_file():
        raise DeviceFailed(f"emulator: Debian {SUITE} on {mirror} has no {ADBD}; give another --mirror")

    unpack(emulator, work / "host", only="./usr/bin/qemu-aarch64")
    shutil.copyfile(work / "host/usr/bin/qemu-aarch64", built / "qemu-aarch64")
    (built / "qemu-aarch64").chmod(0o755)
    _compile(root / "usr/lib/tfq-shim.so")
    versions = dict(file.name.split("_")[:2] for file in [*packages, emulator])
    (built / "versions.json").write_text(json.dumps({k: v.replace("%3a", ":") for k, v in versions.items()}, indent=1))


def _compile(output: Path) -> None:
    command = [COMPILER, "-O2", "-Wall", "-Wextra", "-std=c++17", "-shared", "-fPIC", "-o", str(output), str(SHIM)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise DeviceFailed(
            f"emulator: {COMPILER} cannot build {SHIM.name}: {(done.stderr.splitlines() or ['no message'])[0]}"
        )


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Holds an exclusive lock on a file; the kernel lets go of it when the process ends, however it ends."""
    handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
