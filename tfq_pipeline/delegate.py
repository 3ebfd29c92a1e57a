"""The INT4 delegate for Python's TFLite interpreters."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from tfq_pipeline import native
from tfq_pipeline.errors import BadInput, DeviceFailed


def _litert() -> Callable[..., Any]:
    from ai_edge_litert.interpreter import load_delegate

    loader: Callable[..., Any] = load_delegate
    return loader


def _tflite_runtime() -> Callable[..., Any]:
    from tflite_runtime.interpreter import load_delegate

    loader: Callable[..., Any] = load_delegate
    return loader


def _tensorflow() -> Callable[..., Any]:
    import tensorflow as tf

    loader: Callable[..., Any] = tf.lite.experimental.load_delegate
    return loader


# An interpreter takes delegates that its own package loaded.
_LOADERS: Mapping[str, Callable[[], Callable[..., Any]]] = {
    "litert": _litert,
    "tensorflow": _tensorflow,
    "tflite_runtime": _tflite_runtime,
}


def load(
    threads: int = 1,
    cpu: str = "auto",
    verbose: bool = False,
    report: str | os.PathLike[str] | None = None,
    profile: str | os.PathLike[str] | None = None,
    cache: str | os.PathLike[str] | None = None,
    match: str = "xnnpack",
    runtime: str = "litert",
) -> Any:
    """Loads the delegate for ``Interpreter(..., experimental_delegates=[delegate])``.

    Args:
        threads: that share the work.
        cpu: highest kernel tier to use: auto or a name of docs/delegate-kernels.md, such as avx2.
        verbose: says for each node which kernel it got, or why it was declined.
        report: file for what was taken and declined, as JSON.
        profile: file for the times of each node, as JSON, written when the interpreter goes.
        cache: folder that keeps packed weights.
        match: whose outputs the delegate's equal bit for bit: xnnpack is an interpreter as it comes, with XNNPACK;
            litert one without it; tflite_2.14 is tflite-runtime 2.14 without it.
        runtime: the package whose interpreter will use it: litert, tensorflow or tflite_runtime.

    Raises:
        BadInput: for an unknown runtime or an option that the delegate refuses, with its message.
        DeviceFailed: when the library does not load.
    """
    if runtime not in _LOADERS:
        raise BadInput(f"runtime '{runtime}': not known; give one of {', '.join(_LOADERS)}")
    options = {"threads": str(threads), "cpu": cpu, "verbose": "true" if verbose else "false", "match": match}
    files = {"report": report, "profile": profile, "cache": cache}
    options |= {key: os.fspath(path) for key, path in files.items() if path is not None}
    library = str(native.library())
    try:
        return _LOADERS[runtime]()(library, options)
    except ValueError as error:
        raise BadInput(" ".join(str(error).split())) from error
    except OSError as error:
        raise DeviceFailed(f"{library}: does not load: {error}; build it again with 'make native'") from error
