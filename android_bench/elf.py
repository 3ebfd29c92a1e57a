"""What an ELF file says of itself: its processor, and which other libraries it wants (DT_NEEDED)."""

from __future__ import annotations

import struct
from pathlib import Path

_LOAD, _DYNAMIC = 1, 2
_NEEDED, _STRTAB = 1, 5
_MAGIC = b"\x7fELF\x02\x01"  # 64 bits, little-endian
_PROCESSORS = {62: "x86_64", 183: "arm64"}  # e_machine


def processor(path: Path) -> str | None:
    """``x86_64``, ``arm64`` or the number of another; None when it is no 64-bit little-endian ELF file."""
    with path.open("rb") as file:
        header = file.read(20)
    if len(header) < 20 or header[:6] != _MAGIC:
        return None
    (machine,) = struct.unpack_from("<H", header, 18)
    return _PROCESSORS.get(machine, f"processor {machine}")


def needed(library: Path) -> list[str]:
    """Names in the order of the file; none when it is not a 64-bit little-endian ELF file with a dynamic section."""
    data = library.read_bytes()
    if data[:6] != _MAGIC:
        return []
    (offset,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    # Type, flags, offset in the file, address, physical address, size in the file.
    headers = [struct.unpack_from("<IIQQQQ", data, offset + i * size) for i in range(count)]
    dynamic = next(((h[2], h[5]) for h in headers if h[0] == _DYNAMIC), (0, 0))
    entries = list(struct.iter_unpack("<qQ", data[dynamic[0] : dynamic[0] + dynamic[1] // 16 * 16]))
    address = next((value for tag, value in entries if tag == _STRTAB), 0)
    strings = next((h[2] + address - h[3] for h in headers if h[0] == _LOAD and h[3] <= address < h[3] + h[5]), 0)
    names = [strings + value for tag, value in entries if tag == _NEEDED]
    return [data[start : data.index(b"\0", start)].decode() for start in names]


def neighbours(library: Path) -> list[Path]:
    """Every library that `library` wants, directly or through another, and that lies in its folder."""
    found: dict[str, Path] = {}
    waiting = [library]
    while waiting:
        for name in needed(waiting.pop()):
            path = library.parent / name
            if name not in found and path.is_file():
                found[name] = path
                waiting.append(path)
    return sorted(found.values())
