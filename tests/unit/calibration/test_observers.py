"""Observers: what they estimate, that states are values, and each error."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfq_pipeline.calibration import OBSERVERS
from tfq_pipeline.calibration.minmax import MinMax
from tfq_pipeline.calibration.moving_average import MovingAverage
from tfq_pipeline.calibration.observer import Observer

BATCH = st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=8).map(lambda v: np.array(v, np.float32))
BATCHES = st.lists(BATCH, min_size=1, max_size=8)


def observe(observer: Observer, batches: list[np.ndarray]) -> Observer:
    return functools.reduce(lambda state, batch: state.update(batch), batches, observer)


@settings(deadline=None)
@given(BATCHES)
def test_minmax_is_the_range_of_everything(batches):
    everything = np.concatenate(batches)
    assert observe(MinMax(), batches).range() == (everything.min(), everything.max())


@settings(deadline=None)
@given(BATCHES, st.floats(0.0, 0.999))
def test_moving_average_is_a_weighted_mean_of_batch_ranges(batches, decay):
    n = len(batches)
    # The weight of batch i: the first keeps decay^(n-1), each later one enters with 1 - decay and then fades.
    weights = [decay ** (n - 1)] + [(1 - decay) * decay ** (n - 1 - i) for i in range(1, n)]
    low = sum(w * float(b.min()) for w, b in zip(weights, batches, strict=True))
    high = sum(w * float(b.max()) for w, b in zip(weights, batches, strict=True))
    np.testing.assert_allclose(observe(MovingAverage(decay), batches).range(), (low, high), rtol=1e-9, atol=1e-6)


def test_moving_average_starts_at_the_first_batch():
    assert MovingAverage().update(np.array([3.0, 5.0])).range() == (3.0, 5.0)


@pytest.mark.parametrize("name", sorted(OBSERVERS))
class TestEveryObserver:
    def test_states_are_values(self, name):
        first = OBSERVERS[name]().update(np.array([[1.0, 2.0]]))
        found = first.range()
        second = first.update(np.array([-7.0, 9.0]))
        assert first.range() == found
        assert second.range() != found
        assert second == first.update(np.array([-7.0, 9.0]))

    @settings(deadline=None, max_examples=30)
    @given(batches=BATCHES)
    def test_the_range_is_ordered_and_inside_what_was_seen_or_0(self, name, batches):
        everything = np.concatenate(batches).astype(np.float64)
        low, high = observe(OBSERVERS[name](), batches).range()
        assert min(everything.min(), 0.0) * 1.0001 <= low <= high <= max(everything.max(), 0.0) * 1.0001

    def test_constant_data(self, name):
        for constant in np.array([0.0, 3.5, -1e-30, 1e30], np.float32).tolist():
            low, high = OBSERVERS[name]().update(np.full((2, 5), constant, np.float32)).range()
            assert np.isfinite([low, high]).all()
            assert min(constant, 0.0) <= low <= high <= max(constant, 0.0)

    def test_not_finite_values_are_counted(self, name):
        with pytest.raises(ValueError, match="2 NaN and 1 infinite among 5 observed values"):
            OBSERVERS[name]().update(np.array([np.nan, 1.0, np.inf, np.nan, 0.0], np.float32))
        with pytest.raises(ValueError, match="0 NaN and 1 infinite among 2"):
            OBSERVERS[name]().update(np.array([-np.inf, 1.0]))

    def test_no_data(self, name):
        with pytest.raises(ValueError, match="no data was observed"):
            OBSERVERS[name]().range()
        with pytest.raises(ValueError, match=r"empty batch of shape \(0, 3\)"):
            OBSERVERS[name]().update(np.zeros((0, 3)))

    def test_integers_and_one_value(self, name):
        assert OBSERVERS[name]().update(np.array(4, np.uint8)).range()[1] == 4.0


@pytest.mark.parametrize("decay", [-0.1, 1.0, float("nan")])
def test_bad_decay(decay):
    with pytest.raises(ValueError, match="decay must be"):
        MovingAverage(decay)
