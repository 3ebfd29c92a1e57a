"""Whether tflite-runtime loads a file, asked in a process of its own.

tflite-runtime 2.14 fails on every model ("vector::reserve") in a process that imported tensorflow before it: the two
share symbols.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

_SECONDS = 120


def loads_in_tflite_runtime(data: bytes) -> str:
    """ "loads", or the runtime's reason not to."""
    with tempfile.TemporaryDirectory(prefix="tfq-") as folder:
        path = os.path.join(folder, "model.tflite")
        with open(path, "wb") as file:
            file.write(data)
        result = subprocess.run(
            [sys.executable, "-m", __name__, path],
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    if result.returncode == 0:
        return "loads"
    lines = [line.strip() for line in result.stderr.splitlines() if line.strip()]
    return lines[-1] if lines else f"the process ended with code {result.returncode}"


def main(path: str) -> int:
    from tflite_runtime.interpreter import Interpreter

    try:
        Interpreter(path).allocate_tensors()
    except (RuntimeError, ValueError) as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
