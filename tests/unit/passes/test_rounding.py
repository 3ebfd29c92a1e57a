"""GPTQ, QuantEase and AdaRound: against brute force where all choices can be tried, against each other where not."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfq_pipeline.passes.adaround import adaround
from tfq_pipeline.passes.gptq import gptq
from tfq_pipeline.passes.quantease import quantease

TECHNIQUES = {"gptq": gptq, "quantease": quantease, "adaround": adaround}


def one_group(technique, target, scale, a, *options):
    """The technique on a layer without groups."""
    options = [o[None] if isinstance(o, np.ndarray) else o for o in options]
    return technique(target[None], scale[None], a[None], *options)[0]


def problem(seed: int, outputs: int, values: int, bits: int = 4):
    """Random weights and correlated inputs, as the layer after a ReLU sees them."""
    rng = np.random.default_rng(seed)
    x = np.maximum(rng.normal(size=(4 * values, values)) @ rng.normal(size=(values, values)), 0)
    a = x.T @ x / len(x) + 0.01 * np.eye(values)
    target = rng.normal(size=(outputs, values))
    qmax = 2 ** (bits - 1) - 1
    return target, np.abs(target).max(axis=1, keepdims=True) / qmax, a, qmax


def error(q, target, scale, a):
    difference = q * scale - target
    return np.einsum("ok,kl,ol->o", difference, a, difference)


def nearest(target, scale, qmax):
    return np.clip(np.rint(target / scale), -qmax, qmax)


@pytest.mark.parametrize("name", sorted(TECHNIQUES))
@pytest.mark.parametrize(("outputs", "values"), [(5, 9), (16, 64), (3, 150)])
def test_better_than_rounding_to_nearest(name, outputs, values):
    target, scale, a, qmax = problem(values, outputs, values)
    q = one_group(TECHNIQUES[name], target, scale, a, -qmax, qmax)
    assert q.dtype == np.int8
    assert np.abs(q).max() <= qmax
    before = error(nearest(target, scale, qmax), target, scale, a).sum()
    assert error(q, target, scale, a).sum() < 0.9 * before


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000))
def test_close_to_the_best_of_all_choices(seed):
    target, scale, a, qmax = problem(seed, 1, 3, bits=2)
    choices = np.array(list(itertools.product(range(-qmax, qmax + 1), repeat=3)))
    best = min(error(q[None], target, scale, a)[0] for q in choices)
    started = one_group(gptq, target, scale, a, -qmax, qmax)
    found = error(one_group(quantease, target, scale, a, -qmax, qmax, started), target, scale, a)[0]
    first = error(nearest(target, scale, qmax), target, scale, a)[0]
    assert best <= found + 1e-12
    assert found <= first + 1e-12 or found <= error(started, target, scale, a)[0] + 1e-12


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000))
def test_quantease_never_makes_any_output_worse_and_ends_where_no_single_change_helps(seed):
    target, scale, a, qmax = problem(seed, 4, 8)
    start = nearest(target, scale, qmax)
    q = one_group(quantease, target, scale, a, -qmax, qmax, start, 100)
    reached = error(q, target, scale, a)
    assert (reached <= error(start, target, scale, a) + 1e-9).all()
    for output, value, step in itertools.product(range(4), range(8), (-1, 1)):
        other = q.astype(int)
        other[output, value] = np.clip(other[output, value] + step, -qmax, qmax)
        assert error(other, target, scale, a)[output] >= reached[output] - 1e-9


def test_adaround_stays_next_to_the_real_value():
    target, scale, a, qmax = problem(7, 6, 30)
    real = target / scale
    q = one_group(adaround, target, scale, a, -qmax, qmax)
    assert (np.abs(q - real) <= 1.0 + 1e-9).all()


@pytest.mark.parametrize("name", sorted(TECHNIQUES))
def test_uncorrelated_inputs_round_to_nearest(name):
    """With a diagonal metric every weight stands alone, and nearest is best."""
    target, scale, _, qmax = problem(3, 4, 20)
    q = one_group(TECHNIQUES[name], target, scale, np.diag(np.full(20, 2.0)), -qmax, qmax)
    np.testing.assert_array_equal(q, nearest(target, scale, qmax))


def test_gptq_is_that_of_the_paper():
    """Algorithm 1 written out with the inverse updated after each input, without blocks or a Cholesky factor."""
    target, scale, a, qmax = problem(11, 7, 140)
    weights, inverse = target.copy(), np.linalg.inv(a)
    expected = np.empty(target.shape)
    left = list(np.argsort(-np.diag(a)))
    while left:
        k = left[0]
        expected[:, k] = np.clip(np.rint(weights[:, k] / scale[:, 0]), -qmax, qmax)
        miss = (weights[:, k] - expected[:, k] * scale[:, 0]) / inverse[k, k]
        weights -= miss[:, None] * inverse[k]
        inverse = inverse - np.outer(inverse[:, k], inverse[k]) / inverse[k, k]
        left = left[1:]
    q = one_group(gptq, target, scale, a, -qmax, qmax)
    assert (q != expected).mean() < 0.002


@pytest.mark.parametrize("name", sorted(TECHNIQUES))
def test_a_scale_for_each_block_of_inputs(name):
    target, _, a, qmax = problem(5, 4, 64)
    blocks = np.abs(target.reshape(4, 2, 32)).max(axis=2) / qmax
    scale = np.repeat(blocks, 32, axis=1)
    q = one_group(TECHNIQUES[name], target, scale, a, -qmax, qmax)
    assert error(q, target, scale, a).sum() < 0.9 * error(nearest(target, scale, qmax), target, scale, a).sum()


@pytest.mark.parametrize("name", sorted(TECHNIQUES))
def test_groups_are_independent(name):
    parts = [problem(seed, 2, 9) for seed in (1, 2, 3)]
    target, scale, a = (np.stack([part[i] for part in parts]) for i in range(3))
    q = TECHNIQUES[name](target, scale, a, -7, 7)
    for g, (t, s, m, _) in enumerate(parts):
        np.testing.assert_array_equal(q[g], one_group(TECHNIQUES[name], t, s, m, -7, 7))
