"""A run that is stopped in the middle and goes on from its checkpoint."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


class Stopped(Exception):
    pass


def resumed_and_straight(train: Callable[..., Any], step: int, folder: Path) -> tuple[Any, Any]:
    """What comes of a run that was stopped at a step, and of one that never was.

    Args:
        train: takes `progress` and `checkpoints` as `qat` does.
        step: at whose end the first run stops.
        folder: for its checkpoints.
    """

    def stop(done: int, of: int | None) -> None:
        if done == step:
            raise Stopped

    with pytest.raises(Stopped):
        train(progress=stop, checkpoints=folder)
    return train(checkpoints=folder), train()
