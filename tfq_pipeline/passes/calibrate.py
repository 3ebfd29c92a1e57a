"""Calibration: streams data through the float graph and gives every activation a range."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tfq_pipeline.calibration import OBSERVERS
from tfq_pipeline.calibration.observer import Observer
from tfq_pipeline.calibration.outliers import Outliers, outliers
from tfq_pipeline.data import Data
from tfq_pipeline.errors import BadInput
from tfq_pipeline.graph.protocol import Graph, Tensor

Range = tuple[float, float]

# Samples that outlier statistics are made of: enough to see which tensors and channels stand out.
_LOOKED_AT = 32


@dataclass(frozen=True)
class Calibration:
    """What was seen of the activations.

    Attributes:
        ranges: by tensor, as real values.
        samples: how many samples are behind them.
        outliers: statistics by tensor, of the first samples.
    """

    ranges: Mapping[str, Range]
    samples: int
    outliers: Mapping[str, Outliers] = field(default_factory=dict)


def calibrate(
    graph: Graph,
    data: Data,
    method: str,
    samples: int,
    options: Mapping[str, object] | None = None,
    progress: Callable[[int, int | None], None] = lambda done, of: None,
    runner: Graph | None = None,
) -> Calibration:
    """Ranges of all activations with a scale of their own; tensors that must share a scale get the union of their
    ranges.

    Args:
        graph: folded.
        data: unlabelled samples; only the first `samples` are read.
        method: name of an observer in `tfq_pipeline.calibration.OBSERVERS`.
        samples: how many samples to read at most.
        options: keyword arguments of the observer.
        progress: told the samples done and the total after each batch.
        runner: computes what `graph` does under the same names, faster.

    Raises:
        BadInput: for empty data, or NaN or infinity in the data or in a layer's output, naming the layer.
    """
    tensors = graph.tensors()
    observed = [t for t in tensors if t.same_scale_as is None]
    states: dict[str, Observer] = {t.name: OBSERVERS[method](**(options or {})) for t in observed}
    head = data.take(samples)
    statistics: dict[str, Outliers] = {}
    done = 0
    sizes = iter(len(batch) for batch in head)
    for values in (runner or graph).capture([t.name for t in observed], head):
        for tensor in observed:
            try:
                states[tensor.name] = states[tensor.name].update(values[tensor.name])
            except ValueError as error:
                raise BadInput(
                    f"layer '{tensor.name}' ({tensor.type}): {error} while calibrating on {data.name}; "
                    "check the data and the layer's weights for NaN and infinity"
                ) from error
        if not statistics:
            statistics = {name: outliers(x[:_LOOKED_AT]) for name, x in values.items()}
        # Not to be kept while the next batch is made.
        del values
        done += next(sizes)
        progress(done, head.samples)
    if not done:
        raise BadInput(f"calibration data {data.name}: found no samples; give at least one, 100 to 1000 are usual")
    ranges = {name: state.range() for name, state in states.items()}
    for group in shared_scales(tensors):
        low, high = min(ranges[name][0] for name in group), max(ranges[name][1] for name in group)
        ranges.update(dict.fromkeys(group, (low, high)))
    return Calibration(ranges, done, statistics)


def shared_scales(tensors: tuple[Tensor, ...]) -> tuple[tuple[str, ...], ...]:
    """Groups of tensors with a scale of their own that one operator reads together, so that they have to share it.

    A tensor whose scale TFLite fixes joins no group: what reads it requantizes.
    """
    by_name = {t.name: t for t in tensors}
    groups: list[set[str]] = []
    for tensor in tensors:
        if not tensor.joined:
            continue
        members = {
            name
            for name in (scale_source(tensors, n) for n in (tensor.name, *tensor.joined))
            if by_name[name].fixed is None
        }
        touching = [g for g in groups if g & members]
        groups = [g for g in groups if not g & members] + [members.union(*touching)]
    return tuple(tuple(sorted(g)) for g in groups)


def scale_source(tensors: Sequence[Tensor], name: str) -> str:
    """The tensor whose scale `name` has."""
    sources = {t.name: t.same_scale_as for t in tensors}
    while (source := sources[name]) is not None:
        name = source
    return name
