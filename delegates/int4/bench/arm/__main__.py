"""What can be said of ARM without an ARM machine: modelled inner loops and executed instructions, beside their targets.

python -m delegates.int4.bench.arm --document docs/performance.md
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from delegates.int4.bench.arm.inner_loops import MCA, InnerLoop, inner_loops
from delegates.int4.bench.arm.instructions import CPUS, EMULATOR, Count, count, plugin
from delegates.int4.bench.measures import refresh, table

_MODELS = ("mobilenet_v1", "mobilenet_v2", "mobilenet_v3_small", "efficientnet_lite0")
_OF_BOUND = 0.85
_OF_INT8 = {"neon": 0.9, "neon_dotprod": 1.0}
_PACKAGES = {MCA: "llvm-19", EMULATOR: "qemu-user", "aarch64-linux-gnu-objdump": "g++-aarch64-linux-gnu"}


def _verdict(met: bool) -> str:
    return "met" if met else "not met"


def loop_table(loops: Sequence[InnerLoop]) -> str:
    head = ("kernel", "CPU model", "instructions", "products", "cycles", "bound", "of the bound", f"≥ {_OF_BOUND:.0%}")
    rows = (
        (
            loop.kernel,
            loop.cpu,
            str(loop.instructions),
            str(loop.products),
            f"{loop.cycles:.1f}",
            f"{loop.bound:.1f}",
            f"{loop.share:.0%}",
            _verdict(round(loop.share, 2) >= _OF_BOUND),
        )
        for loop in loops
    )
    return table(head, rows)


def count_table(counts: Sequence[Count]) -> str:
    head = ("model", "tier", "int8 XNNPACK", "INT4 delegate", "INT4 stock", "of int8", "target", "", "of stock")
    rows = []
    for c in counts:
        target = _OF_INT8.get(c.tier)
        rows.append(
            (
                c.model,
                c.tier,
                f"{c.int8 / 1e6:.1f} M",
                f"{c.int4 / 1e6:.1f} M",
                f"{c.int4_stock / 1e6:.1f} M",
                f"{c.of_int8:.3f}",
                f"≤ {target:g}" if target else "",
                _verdict(c.of_int8 <= target) if target else "",
                f"{c.of_stock:.3f}",
            )
        )
    return table(head, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description="Models and counts the delegate on ARM.")
    parser.add_argument("names", nargs="*", default=list(_MODELS), help="models to count")
    parser.add_argument("--output", type=Path, default=Path("out/bench"), help="folder of models and results")
    parser.add_argument("--document", type=Path, help="text whose marked tables are made anew")
    args = parser.parse_args()
    if missing := [package for program, package in _PACKAGES.items() if shutil.which(program) is None]:
        parser.error(f"needs the Debian packages {', '.join(missing)}")
    subprocess.run(
        [sys.executable, "-m", "delegates.int4.bench.models", f"--output={args.output}", *args.names], check=True
    )
    loops = inner_loops()
    with plugin() as counter:
        counts = [count(counter, args.output, name, tier) for name in args.names for tier in CPUS]
    results = {"inner_loops": [asdict(loop) for loop in loops], "instructions": [asdict(c) for c in counts]}
    (args.output / "arm.json").write_text(json.dumps(results, indent=1) + "\n")
    parts = {"arm loops": loop_table(loops), "arm instructions": count_table(counts)}
    for title, part in parts.items():
        print(f"\n{title}\n\n{part}")
    if args.document:
        args.document.write_text(refresh(args.document.read_text(), parts))


if __name__ == "__main__":
    main()
