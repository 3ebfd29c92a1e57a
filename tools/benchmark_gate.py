#!/usr/bin/env python3
"""The test behind `tflite_benchmark_test`: fails when a model is slower or less accurate than it may be.

Needs nothing but the standard library; the work is done by the `tfq` command.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from typing import Any


def run_tfq(command: list[str]) -> Any:
    """Runs a verb of `tfq` and returns its JSON document; ends the program with the verb's exit code when it fails."""
    done = subprocess.run([*command, "--json"], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(done.returncode)
    return json.loads(done.stdout)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tfq", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--device", default="host")
    parser.add_argument("--delegate")
    parser.add_argument("--data")
    parser.add_argument("--max_latency_ms", type=float)
    parser.add_argument("--min_accuracy", type=float)
    parser.add_argument("flags", nargs="*", help="more flags of tfq benchmark")
    args = parser.parse_args()
    tfq = os.path.abspath(args.tfq)
    delegate = [f"--delegate={args.delegate}"] if args.delegate else []

    failures = []
    if args.max_latency_ms is not None:
        for run in run_tfq([tfq, "benchmark", args.model, f"--device={args.device}", *delegate, *args.flags]):
            median = run["latency_ms"]["median"]
            print(f"{run['device']}: median latency {median:.3f} ms, may be {args.max_latency_ms:.3f} ms")
            if median > args.max_latency_ms:
                failures.append(f"latency on {run['device']}")
    if args.min_accuracy is not None:
        accuracy = run_tfq([tfq, "evaluate", args.model, f"--data={args.data}", *delegate])["metrics"]["accuracy"]
        print(f"accuracy {accuracy:.4f}, must be {args.min_accuracy:.4f}")
        if accuracy < args.min_accuracy:
            failures.append("accuracy")
    if failures:
        print(f"FAILED: {', '.join(failures)}")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
