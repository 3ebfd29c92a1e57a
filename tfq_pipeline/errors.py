"""Errors that reach the user: one line that says what was found and what to do, with the exit code of the contract."""

from __future__ import annotations


class TfqError(Exception):
    """Base of every error that a user can cause or mend.

    The message is one line: it names the file, layer or flag, what was found and what to do.
    """

    exit_code = 2


class BadInput(TfqError):
    """Bad usage or bad input: a file, a flag, a recipe, data or a layer (exit code 2)."""


class UnsupportedLayer(BadInput):
    """A layer that cannot be imported or quantized (exit code 2).

    Args:
        layer: name of the layer.
        kind: its class, such as ``Conv3D``.
        cause: why it cannot be taken.
        mend: what the user can do about it.
    """

    def __init__(self, layer: str, kind: str, cause: str, mend: str) -> None:
        super().__init__(f"layer '{layer}' ({kind}): {cause}; {mend}")
        self.layer, self.kind, self.cause, self.mend = layer, kind, cause, mend


class GateFailed(TfqError):
    """A gate, verification or comparison failed (exit code 1)."""

    exit_code = 1


class DeviceFailed(TfqError):
    """The device or the runtime failed (exit code 3)."""

    exit_code = 3
