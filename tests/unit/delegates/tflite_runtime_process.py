"""Runs models on tflite-runtime in a process of its own: it fails beside tensorflow, which other tests import.

    python tflite_runtime_process.py FOLDER [DELEGATE [KEY=VALUE ...]]

For each NAME.tflite in FOLDER, fed NAME.npy, writes NAME.out.npy, or NAME.error with the runtime's reason.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from tflite_runtime.interpreter import Interpreter, OpResolverType, load_delegate


def run(model: Path, delegates: list[Any] | None) -> np.ndarray:
    interpreter = Interpreter(
        str(model),
        experimental_delegates=delegates,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], np.load(model.with_suffix(".npy")))
    interpreter.invoke()
    return np.array(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))


def main(folder: str, library: str | None = None, *options: str) -> None:
    for model in sorted(Path(folder).glob("*.tflite")):
        delegates = None
        if library is not None:
            delegates = [load_delegate(library, dict(option.split("=") for option in options))]
        try:
            np.save(model.with_suffix(".out.npy"), run(model, delegates))
        except RuntimeError as error:
            model.with_suffix(".error").write_text(str(error))


if __name__ == "__main__":
    main(*sys.argv[1:])
