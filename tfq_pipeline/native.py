"""Where the compiled files lie: the delegate's shared library and the program that runs models on a device."""

from __future__ import annotations

import platform as _platform
from pathlib import Path

from tfq_pipeline.errors import BadInput

_ROOT = Path(__file__).parent / "_native"
_PROCESSORS = {"aarch64": "arm64", "arm64": "arm64", "x86_64": "x86_64", "amd64": "x86_64"}


def host_platform() -> str:
    """Name of this machine's platform, such as ``linux_x86_64``; the native build names its folders the same way."""
    processor = _platform.machine().lower()
    return f"{_platform.system().lower()}_{_PROCESSORS.get(processor, processor)}"


def library(platform: str | None = None) -> Path:
    """Path of the INT4 delegate.

    Args:
        platform: ``linux_x86_64``, ``linux_arm64`` and the like; None for this machine.

    Raises:
        BadInput: it was not built for that platform.
    """
    return _find("libtfq_int4_delegate.so", platform)


def runner(platform: str | None = None) -> Path:
    """Path of the program that runs a model on a device; arguments and errors as for `library`."""
    return _find("tfq_runner", platform)


def _find(name: str, platform: str | None) -> Path:
    platform = platform or host_platform()
    path = _ROOT / platform / name
    if not path.is_file():
        built = sorted(p.parent.name for p in _ROOT.glob(f"*/{name}"))
        raise BadInput(
            f"{name} is not built for {platform} (built: {', '.join(built) or 'none'}); "
            f"run `make native` in a checkout{_cross_compiler_hint(platform)}"
        )
    return path


def _cross_compiler_hint(platform: str) -> str:
    if platform == "linux_arm64" and platform != host_platform():
        return ", with g++-aarch64-linux-gnu installed"
    return ""
