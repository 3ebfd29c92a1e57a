"""Masks against counting and brute force."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfq_pipeline.numerics.sparsity import block_means, lamp, largest, n_of_m


@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.floats(0.0, 1.0))
def test_the_smallest_go_and_their_number_is_the_share(values, share):
    scores = np.array(values, np.float32)
    mask = largest(scores, share)
    assert (~mask).sum() == int(share * scores.size)
    if mask.any() and not mask.all():
        assert scores[~mask].max() <= scores[mask].min()


@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (1, 2), (4, 8)])
def test_n_of_m_keeps_the_best_of_all_choices(n, m):
    scores = np.random.default_rng(n * m).random((3, 2 * m)).astype(np.float32)
    mask = n_of_m(scores, n, m)
    for group, kept in zip(scores.reshape(-1, m), mask.reshape(-1, m), strict=True):
        best = max(itertools.combinations(range(m), n), key=lambda chosen: group[list(chosen)].sum())
        assert tuple(np.flatnonzero(kept)) == best


def test_block_means_are_those_of_neighbours_along_the_last_axis():
    scores = np.random.default_rng(0).random((2, 3, 8)).astype(np.float32)
    means = block_means(scores, 4)
    for i, j, k in np.ndindex(scores.shape):
        first = k // 4 * 4
        assert means[i, j, k] == pytest.approx(np.mean([float(v) for v in scores[i, j, first : first + 4]]), rel=1e-6)


def test_lamp_is_its_definition_and_leaves_each_layer_its_largest_weight():
    rng = np.random.default_rng(1)
    weights = {"small": 0.01 * rng.normal(size=(3, 4)), "large": rng.normal(size=30)}
    for name, scores in lamp(weights).items():
        squares = weights[name] ** 2
        for score, square in zip(scores.ravel(), squares.ravel(), strict=True):
            assert score == pytest.approx(square / squares[squares >= square].sum())
        assert scores.max() == pytest.approx(1.0)
