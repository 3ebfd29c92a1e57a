"""The precision that models are made in, whatever the user's process has for models of its own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def float32() -> Iterator[None]:
    """Layers of tf_keras that are made inside compute in float32, also where mixed precision is the global policy."""
    # Who has not imported it has set no policy.
    tf_keras = sys.modules.get("tf_keras")
    if tf_keras is None:
        yield
        return
    policy = tf_keras.mixed_precision.global_policy()
    tf_keras.mixed_precision.set_global_policy("float32")
    try:
        yield
    finally:
        tf_keras.mixed_precision.set_global_policy(policy)
