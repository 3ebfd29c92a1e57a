"""Streams of batches can be cut and cut anew without losing or repeating a sample."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tfq_pipeline.data import Batch, Data


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
