"""The whole bench: models, kernels, comparisons as each class of CPU, measures beside targets.

python -m delegates.int4.bench --document docs/performance.md
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from delegates.int4.bench import compare, cpu_class, measures

_BUILD = Path("build/native/host/delegates/int4")


def main() -> None:
    parser = argparse.ArgumentParser(description="Runs the whole bench.")
    parser.add_argument("--output", type=Path, default=Path("out/bench"), help="folder of models and results")
    parser.add_argument("--document", type=Path, help="text whose marked tables are made anew")
    parser.add_argument("--quick", action="store_true", help="short runs of a few models: shows that it works")
    args = parser.parse_args()

    def module(name: str, *flags: str) -> None:
        subprocess.run([sys.executable, "-m", f"delegates.int4.bench.{name}", *flags], check=True)

    some = ["dense_32x1024x1024"] if args.quick else []
    module("models", f"--output={args.output}", *some)
    kernels = [str(_BUILD / "int4_kernels_bench"), f"--benchmark_out={args.output / measures.KERNELS}"]
    subprocess.run([*kernels, f"--benchmark_min_time={0.001 if args.quick else 0.1}"], check=True)
    classes = cpu_class.worth_measuring(compare.about()["isa"])
    if not cpu_class.can_hide():
        print(f"not measured, because this machine cannot hide CPU features: {', '.join(classes[1:]) or 'nothing'}")
        classes = classes[:1]
    for name in set(cpu_class.CLASSES).difference(classes):  # of an earlier run, maybe on another machine
        (args.output / f"{name}.json").unlink(missing_ok=True)
    for name in classes:
        threads = ["1", "2"] if name == "native" else ["1"]
        flags = [f"--models={args.output}", f"--json={args.output / name}.json", f"--as={name}", "--threads", *threads]
        module("compare", *flags, *(["--quick"] if args.quick else []), "--", *some)
    module("measures", f"--results={args.output}", *([f"--document={args.document}"] if args.document else []))


if __name__ == "__main__":
    main()
