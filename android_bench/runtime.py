"""The runtime library that the runner opens: the same release of LiteRT on this machine and on a device."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from android_bench.elf import neighbours
from android_bench.files import default_cache, whole
from tfq_pipeline.errors import DeviceFailed

_PACKAGE = "ai-edge-litert"
_MEMBER = "ai_edge_litert/libLiteRt.so"
_WHEEL_TAGS = {"linux_arm64": ("manylinux_2_27_aarch64", "manylinux_2_28_aarch64", "manylinux_2_17_aarch64")}


@dataclass(frozen=True)
class Runtime:
    """A runtime library on this machine's disk, made for some platform.

    Attributes:
        version: empty where only the library itself can say.
        companions: libraries that it needs and a device may not have.
    """

    name: str
    version: str
    library: Path
    companions: tuple[Path, ...] = ()


def litert(target: str, cache: Path | None = None) -> Runtime:
    """libLiteRt.so for a platform, in the version that is installed here.

    Args:
        target: name of a platform, such as ``linux_arm64``.
        cache: folder that keeps what was fetched; the user's cache folder by default.

    Raises:
        DeviceFailed: the package is not installed, or there is no library for that platform, or no network to fetch it.
    """
    spec = importlib.util.find_spec("ai_edge_litert")
    if spec is None or not spec.submodule_search_locations:
        raise DeviceFailed(f"runtime litert: {_PACKAGE} is not installed; run: pip install {_PACKAGE}")
    version = importlib.metadata.version(_PACKAGE)
    if target == host_platform():
        return Runtime("litert", version, Path(spec.submodule_search_locations[0]) / "libLiteRt.so")
    if target not in _WHEEL_TAGS:
        raise DeviceFailed(
            f"runtime litert: no library for {target}; there is one for {host_platform()} and {', '.join(_WHEEL_TAGS)}"
        )
    library = (cache or default_cache() / "runtime") / f"{_PACKAGE}-{version}-{target}" / "libLiteRt.so"
    if not library.is_file():
        library.parent.mkdir(parents=True, exist_ok=True)
        _fetch(version, target, library)
    return Runtime("litert", version, library)


def custom(library: Path, name: str) -> Runtime:
    """A library that the user names, such as Debian's libtensorflow-lite.so, with what it needs from its folder."""
    if not library.is_file():
        raise DeviceFailed(f"runtime {name}: no library {library}")
    return Runtime(name, "", library, tuple(neighbours(library)))


def host_platform() -> str:
    """Name of this machine's platform."""
    return "linux_" + {"aarch64": "arm64"}.get(platform.machine(), platform.machine())


def _fetch(version: str, target: str, library: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="tfq-wheel-") as folder:
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--only-binary=:all:",
            "--dest",
            folder,
        ]
        command += [f"--platform={tag}" for tag in _WHEEL_TAGS[target]]
        command += [f"--python-version={sys.version_info.major}.{sys.version_info.minor}", f"{_PACKAGE}=={version}"]
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode != 0 or not wheels:
            cause = next((line for line in reversed(done.stderr.splitlines()) if "ERROR" in line), "no message")
            raise DeviceFailed(
                f"runtime litert: cannot fetch {_PACKAGE} {version} for {target} ({cause}); see network and pip index"
            )
        with zipfile.ZipFile(wheels[0]) as wheel, whole(library) as part:
            part.write_bytes(wheel.read(_MEMBER))
