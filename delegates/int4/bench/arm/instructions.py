"""Instructions that whole models execute on emulated arm64 CPUs: INT4 with the delegate against int8 with XNNPACK.

    python -m delegates.int4.bench.arm.instructions --models out/bench mobilenet_v2

Runner, runtime and delegate are those that run on a device. qemu-user (its dynamic build, the only one with plugins)
counts instructions of the whole process; the difference between one with two runs and one with one run is what a run
takes. Emulated: it says how much is executed, nothing about how long a real CPU takes for it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from android_bench.runtime import litert

EMULATOR = "qemu-aarch64"
_LIBRARIES = Path("/usr/aarch64-linux-gnu/lib")
_NATIVE = Path("tfq_pipeline/_native/linux_arm64")
_PLUGIN = Path(__file__).with_name("count_instructions.cc")
_CPUINFO = """processor\t: 0
BogoMIPS\t: 100.00
Features\t: {features}
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: {part}
CPU revision\t: 0

"""
_V8 = "fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid"
_V82 = f"{_V8} atomics fphp asimdhp asimdrdm lrcpc dcpop asimddp"


@dataclass(frozen=True)
class Cpu:
    """A CPU that qemu emulates, and what its /proc/cpuinfo says: XNNPACK chooses its kernels by that."""

    model: str
    features: str
    part: str


# By tier of the delegate. No real CPU that this emulator knows has I8MM, and on `max` qemu 7.2 dies in XNNPACK's int8.
CPUS = {
    "neon": Cpu("cortex-a53", _V8, "0xd03"),
    "neon_dotprod": Cpu("cortex-a76", _V82, "0xd0b"),
}


@dataclass(frozen=True)
class Count:
    """Instructions of one run of a model, on one thread."""

    model: str
    tier: str
    int8: int
    int4: int
    int4_stock: int

    @property
    def of_int8(self) -> float:
        return self.int4 / self.int8

    @property
    def of_stock(self) -> float:
        return self.int4 / self.int4_stock


@contextmanager
def plugin() -> Iterator[Path]:
    """The counting plugin, built for this machine."""
    with tempfile.TemporaryDirectory(prefix="tfq-plugin-") as folder:
        library = Path(folder) / "libcount.so"
        subprocess.run(["g++", "-std=c++17", "-O2", "-shared", "-fPIC", "-o", library, _PLUGIN], check=True)
        yield library


def executed(counter: Path, cpu: Cpu, graph: Path, flags: list[str]) -> int:
    """Instructions of one run of `graph` after a first one.

    Raises:
        RuntimeError: the emulated program failed; its last line says why.
    """
    with tempfile.TemporaryDirectory(prefix="tfq-root-") as folder:
        root = Path(folder)
        (root / "proc").mkdir()
        (root / "proc/cpuinfo").write_text(_CPUINFO.format(features=cpu.features, part=cpu.part))
        (root / "lib").symlink_to(_LIBRARIES)
        counts = []
        for runs in (1, 2):
            file = root / f"count{runs}"
            command = [EMULATOR, "-cpu", cpu.model, "-L", str(root), "-plugin", f"{counter},out={file}"]
            command += [str(_NATIVE / "tfq_runner"), f"--graph={graph}", "--runtime=litert", "--num_threads=1"]
            command += [f"--runtime_library={litert('linux_arm64').library}", "--warmup_runs=1", f"--num_runs={runs}"]
            command += ["--min_secs=0", "--max_secs=100000", f"--output_json={root / 'result.json'}", *flags]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(f"{graph} on {cpu.model}: {(done.stderr.splitlines() or ['no message'])[-1]}")
            counts.append(int(file.read_text()))
        return counts[1] - counts[0]


def count(counter: Path, models: Path, name: str, tier: str) -> Count:
    """Counts one model in int8 (XNNPACK), INT4 with the delegate, and INT4 as the runtime runs it alone."""
    cpu = CPUS[tier]
    delegate = [f"--external_delegate_path={_NATIVE / 'libtfq_int4_delegate.so'}"]
    delegate += [f"--external_delegate_options=cpu:{tier}"]
    int8, int4 = models / f"{name}.i8.tflite", models / f"{name}.i4.tflite"
    return Count(
        name,
        tier,
        executed(counter, cpu, int8, []),
        executed(counter, cpu, int4, delegate),
        executed(counter, cpu, int4, []),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Counts instructions of whole models on emulated arm64 CPUs.")
    parser.add_argument("names", nargs="+", help="models, such as mobilenet_v2")
    parser.add_argument(
        "--models", type=Path, default=Path("out/bench"), help="folder of NAME.i8.tflite and NAME.i4.tflite"
    )
    parser.add_argument("--tiers", nargs="+", choices=CPUS, default=list(CPUS))
    parser.add_argument("--json", type=Path, required=True, help="where the counts go")
    args = parser.parse_args()
    with plugin() as counter:
        counts = [count(counter, args.models, name, tier) for name in args.names for tier in args.tiers]
    args.json.write_text(json.dumps([asdict(one) for one in counts], indent=1) + "\n")


if __name__ == "__main__":
    main()
