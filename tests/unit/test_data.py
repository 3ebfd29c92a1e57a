"""Streams of batches can be cut and cut anew without losing or repeating a sample."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tfq_pipeline import datasets
from tfq_pipeline.data import Batch, Data, random_order


def stream(sizes):
    edges = np.cumsum([0, *sizes])
    return Data(
        "s",
        lambda: iter([Batch((np.arange(a, b),), np.arange(a, b)) for a, b in pairwise(edges)]),
        int(edges[-1]),
    )


@given(st.lists(st.integers(1, 9), max_size=6), st.integers(1, 12), st.integers(0, 40))
def test_rebatched_and_taken_samples_keep_their_order(sizes, size, count):
    data = stream(sizes)
    got = list(data.rebatched(size))
    assert all(len(b) == size for b in got[:-1])
    assert [int(v) for b in got for v in b.inputs[0]] == list(range(sum(sizes)))
    head = data.take(count)
    assert [int(v) for b in head for v in b.labels] == list(range(min(count, sum(sizes))))
    assert head.samples == min(count, sum(sizes))


def test_every_pass_has_one_order_and_each_epoch_its_own() -> None:
    x = np.arange(100, dtype=np.float32)[:, None]
    data = datasets.in_memory("numbers", (x,), x[:, 0].astype(np.int32), 32, random_order(3), {})

    def seen(part: Data) -> list[float]:
        batches = list(part)
        assert all((batch.inputs[0][:, 0] == batch.labels).all() for batch in batches)
        return [float(v) for batch in batches for v in batch.inputs[0][:, 0]]

    assert seen(data) == seen(data) == seen(data.epoch(0))
    assert seen(data.take(10)) == seen(data)[:10]
    orders = [seen(data.epoch(number)) for number in range(3)]
    assert orders[1] == seen(data.epoch(1))
    assert len({tuple(order) for order in orders}) == 3
    assert all(sorted(order) == x[:, 0].tolist() for order in orders)
