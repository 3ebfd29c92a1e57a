"""What a device is: one shell script that runs on any of them, and the reader of what it prints."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass

# Sections begin with a line "@name". Any file may be missing: phones, emulators and desktops each lack some. Few
# processes, since each costs a tenth of a second on an emulated device.
SCRIPT = r"""
echo @uname; uname -rm
echo @properties; getprop 2>/dev/null
echo @libc
for f in /lib/ld-linux-aarch64.so.1 /lib64/ld-linux-x86-64.so.2 /system/bin/linker64; do [ -e $f ] && echo $f; done
echo @files; cd /sys/devices/system/cpu
grep -sH . present cpu[0-9]*/cpufreq/cpuinfo_max_freq cpu[0-9]*/cpufreq/scaling_max_freq \
  cpu[0-9]*/cpufreq/scaling_governor /sys/class/thermal/thermal_zone*/type /sys/class/thermal/thermal_zone*/temp \
  /sys/class/thermal/cooling_device*/type /sys/class/thermal/cooling_device*/cur_state
echo @memory; grep -s MemTotal /proc/meminfo
echo @cpuinfo; cat /proc/cpuinfo 2>/dev/null
true
"""

# Only what changes how fast our kernels or XNNPACK's run; the names are those of /proc/cpuinfo.
FEATURES = (
    *("asimd", "asimddp", "asimdhp", "i8mm", "bf16", "sve", "sve2", "sme"),
    *("sse4_1", "avx", "avx2", "fma", "f16c", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8"),
)

# Implementer 0x41 (Arm) part numbers, from the cores' technical reference manuals.
ARM_CORES = {
    0xD03: "Cortex-A53",
    0xD04: "Cortex-A35",
    0xD05: "Cortex-A55",
    0xD07: "Cortex-A57",
    0xD08: "Cortex-A72",
    0xD09: "Cortex-A73",
    0xD0A: "Cortex-A75",
    0xD0B: "Cortex-A76",
    0xD0C: "Neoverse-N1",
    0xD0D: "Cortex-A77",
    0xD40: "Neoverse-V1",
    0xD41: "Cortex-A78",
    0xD44: "Cortex-X1",
    0xD46: "Cortex-A510",
    0xD47: "Cortex-A710",
    0xD48: "Cortex-X2",
    0xD49: "Neoverse-N2",
    0xD4D: "Cortex-A715",
    0xD4E: "Cortex-X3",
}


@dataclass(frozen=True)
class Core:
    """One core: its number, its highest frequency in kHz (None where the kernel does not say) and its design's name."""

    index: int
    max_khz: int | None
    name: str | None


@dataclass(frozen=True)
class DeviceInfo:
    """What is known about a device; None where it is not.

    Attributes:
        soc: name of the chip, or of the processor on a desktop.
        isa: features of the first core, as /proc/cpuinfo names them.
        temperature_c: the hottest CPU zone in degrees Celsius.
        throttled: whether the kernel holds a CPU below its highest frequency.
        platform: name of the folder of native files that run on it, such as ``linux_arm64``.
        emulated: a software CPU stands behind it; timings say nothing about a phone.
    """

    serial: str
    kind: str
    model: str | None
    soc: str | None
    cores: tuple[Core, ...]
    isa: tuple[str, ...]
    governor: str | None
    temperature_c: float | None
    throttled: bool | None
    memory_mb: int | None
    abi: str
    platform: str
    system: str | None
    emulated: bool
    emulator: str | None = None

    def to_dict(self) -> dict[str, object]:
        """Plain data for JSON."""
        return asdict(self)


def parse(text: str, serial: str, kind: str) -> DeviceInfo:
    """Reads the output of `SCRIPT`.

    Args:
        text: standard output of the script.
        serial: what the device is called.
        kind: ``host`` or ``adb``.
    """
    sections = _sections(text)
    release, machine = [*" ".join(sections.get("uname", [])).split(), "", ""][:2]
    properties = dict(re.findall(r"^\[(.+?)\]: \[(.*)\]$", "\n".join(sections.get("properties", [])), re.MULTILINE))
    files = dict(line.partition(":")[::2] for line in sections.get("files", []))
    processors = _processors(sections.get("cpuinfo", []))
    first = processors[0] if processors else {}
    maxima = _by_core(files, "cpuinfo_max_freq")
    governors = sorted({value for path, value in files.items() if path.endswith("/scaling_governor")})
    emulator = properties.get("ro.tfq.emulator")
    emulated = emulator is not None or "1" in (properties.get("ro.kernel.qemu"), properties.get("ro.boot.qemu"))
    android = properties.get("ro.build.version.release")
    flags = (first.get("Features") or first.get("flags") or "").split()
    return DeviceInfo(
        serial=serial,
        kind=kind,
        model=properties.get("ro.product.model"),
        soc=properties.get("ro.soc.model") or properties.get("ro.board.platform") or first.get("model name"),
        cores=tuple(
            Core(i, maxima.get(i), _core_name(processors[i]) if i < len(processors) else None)
            for i in _indices(files.get("present", ""), len(processors))
        ),
        isa=tuple(f for f in FEATURES if f in flags),
        governor="+".join(governors) or None,
        temperature_c=_temperature(files),
        throttled=_throttled(maxima, _by_core(files, "scaling_max_freq"), files),
        memory_mb=_memory_mb(sections.get("memory", [])),
        abi=properties.get("ro.product.cpu.abi") or machine,
        platform=_platform(machine, sections.get("libc", [])),
        system=f"Android {android}" if android else (f"Linux {release}" if release else None),
        emulated=emulated,
        emulator=emulator,
    )


def _sections(text: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    current: list[str] = []
    for line in text.splitlines():
        if line.startswith("@"):
            current = found.setdefault(line[1:].strip(), [])
        elif line.strip():
            current.append(line.strip())
    return found


def _processors(lines: list[str]) -> list[dict[str, str]]:
    found: list[dict[str, str]] = []
    for line in lines:
        key, colon, value = line.partition(":")
        if not colon:
            continue
        if key.strip() == "processor":
            found.append({})
        if found:
            found[-1].setdefault(key.strip(), value.strip())
    return found


def _core_name(processor: Mapping[str, str]) -> str | None:
    try:
        if int(processor.get("CPU implementer", ""), 16) == 0x41:
            part = int(processor.get("CPU part", ""), 16)
            return ARM_CORES.get(part, f"Arm part {part:#x}")
    except ValueError:
        pass  # not an ARM core
    return processor.get("model name")


def _indices(present: str, fallback: int) -> list[int]:
    """Reads the kernel's list format, such as ``0-3,6``."""
    numbers: list[int] = []
    for part in present.split(","):
        first, _, last = part.partition("-")
        if first.strip().isdigit():
            numbers += range(int(first), int(last or first) + 1)
    return numbers or list(range(fallback))


def _by_core(files: Mapping[str, str], name: str) -> dict[int, int]:
    matches = ((re.fullmatch(rf"cpu(\d+)/cpufreq/{name}", path), value) for path, value in files.items())
    return {int(match[1]): int(value) for match, value in matches if match and value.isdigit()}


def _zones(files: Mapping[str, str], kind: str, reading: str) -> list[tuple[str, int]]:
    """Name and reading of every thermal zone or cooling device."""
    found = []
    for path, name in files.items():
        value = files.get(path.removesuffix("type") + reading, "")
        if f"/{kind}" in path and path.endswith("/type") and re.fullmatch(r"-?\d+", value):
            found.append((name.lower(), int(value)))
    return found


def _temperature(files: Mapping[str, str]) -> float | None:
    # Kernels give thousandths of a degree; some phones give whole degrees.
    readings = [
        value / 1000 if abs(value) > 1000 else float(value)
        for name, value in _zones(files, "thermal_zone", "temp")
        if re.search(r"cpu|soc|pkg|tctl|coretemp", name)
    ]
    return max((r for r in readings if -40 < r < 150), default=None)


def _throttled(maxima: Mapping[int, int], limits: Mapping[int, int], files: Mapping[str, str]) -> bool | None:
    cooling = [
        state for name, state in _zones(files, "cooling_device", "cur_state") if re.search(r"cpu|processor", name)
    ]
    known = [i for i in maxima if i in limits]
    if not known and not cooling:
        return None
    return any(limits[i] < maxima[i] for i in known) or any(state > 0 for state in cooling)


def _memory_mb(lines: list[str]) -> int | None:
    match = re.search(r"(\d+) kB", " ".join(lines))
    return int(match[1]) // 1024 if match else None


def _platform(machine: str, loaders: list[str]) -> str:
    processor = {"aarch64": "arm64", "arm64": "arm64"}.get(machine, machine)
    glibc = any("ld-linux" in loader for loader in loaders)
    return f"{'linux' if glibc or not loaders else 'android'}_{processor}"
