"""Runs this process as on a lesser CPU, by hiding features from everything that is loaded afterwards."""

from __future__ import annotations

import ctypes
from collections.abc import Collection, Mapping
from pathlib import Path

from tfq_pipeline.errors import BadInput

# Where the build puts hide_features.cc.
HIDE_LIBRARY = Path("build/native/host/delegates/int4/libint4_hide_features.so")

# Feature: leaf, subleaf, output register and bit of CPUID (Intel's manual, volume 2; names of /proc/cpuinfo).
_AMX: Mapping[str, tuple[int, int, str, int]] = {
    "amx_bf16": (7, 0, "edx", 22),
    "amx_tile": (7, 0, "edx", 24),
    "amx_int8": (7, 0, "edx", 25),
    "amx_fp16": (7, 1, "eax", 21),
}
_AVX512_AND_VNNI: Mapping[str, tuple[int, int, str, int]] = {
    "avx512f": (7, 0, "ebx", 16),
    "avx512dq": (7, 0, "ebx", 17),
    "avx512ifma": (7, 0, "ebx", 21),
    "avx512cd": (7, 0, "ebx", 28),
    "avx512bw": (7, 0, "ebx", 30),
    "avx512vl": (7, 0, "ebx", 31),
    "avx512vbmi": (7, 0, "ecx", 1),
    "avx512_vbmi2": (7, 0, "ecx", 6),
    "gfni": (7, 0, "ecx", 8),
    "avx512_vnni": (7, 0, "ecx", 11),
    "avx512_bitalg": (7, 0, "ecx", 12),
    "avx512_vpopcntdq": (7, 0, "ecx", 14),
    "avx512_vp2intersect": (7, 0, "edx", 8),
    "avx512_fp16": (7, 0, "edx", 23),
    "avx_vnni": (7, 1, "eax", 4),
    "avx512_bf16": (7, 1, "eax", 5),
    "avx_ifma": (7, 1, "eax", 23),
    "avx_vnni_int8": (7, 1, "edx", 4),
    "avx_ne_convert": (7, 1, "edx", 5),
    "avx_vnni_int16": (7, 1, "edx", 10),
    "avx10": (7, 1, "edx", 19),
}

# What each class lacks; "native" is the CPU as it is.
CLASSES: Mapping[str, Mapping[str, tuple[int, int, str, int]]] = {
    "native": {},
    "avx512_vnni": _AMX,
    "avx2": {**_AMX, **_AVX512_AND_VNNI},
}

_OUTPUTS = ("eax", "ebx", "ecx", "edx")


def hide(name: str, library: Path) -> None:
    """Makes this process one on a CPU of class `name`; call it before a runtime is imported.

    Args:
        library: what hide_features.cc was built to.

    Raises:
        BadInput: the library is missing, or this machine cannot hide features.
    """
    hidden = CLASSES[name]
    if not hidden:
        return
    if not library.is_file():
        raise BadInput(f"{library}: no such library; 'make bench' builds it where Google Benchmark is installed")
    flat = [n for leaf, sub, output, bit in hidden.values() for n in (leaf, sub, _OUTPUTS.index(output), 1 << bit)]
    function = ctypes.CDLL(str(library.absolute())).tfq_hide_cpu_features
    function.restype = ctypes.c_bool
    if not function((ctypes.c_uint32 * len(flat))(*flat), ctypes.c_int(len(hidden))):
        raise BadInput(
            f"CPU class '{name}': CPUID cannot be made to trap here (no cpuid_fault in /proc/cpuinfo); leave --as out"
        )


def can_hide() -> bool:
    """Whether CPUID can be made to trap here; Linux calls that cpuid_fault."""
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.is_file() and "cpuid_fault" in cpuinfo.read_text().split()


def worth_measuring(features: Collection[str]) -> list[str]:
    """The classes that differ on a CPU with these features: as it is, and each that lacks something it has."""
    return [name for name, hidden in CLASSES.items() if not hidden or hidden.keys() & set(features)]
