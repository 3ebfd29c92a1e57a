"""Ranges that are read off a histogram, against the exact values, a search by SciPy and published optima."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, optimize, stats

from tfq_pipeline.calibration import entropy, mse, percentile
from tfq_pipeline.calibration.histogram import MAX_BINS, Histogram

VALUES = st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=40).map(lambda v: np.array(v, np.float32))


def histogram(x: np.ndarray, cuts: list[int]) -> Histogram:
    state = Histogram()
    for part in np.split(x, sorted(cuts)):
        if part.size:
            state = state.update(part)
    return state


@settings(deadline=None)
@given(VALUES, st.lists(st.integers(0, 40), max_size=4))
def test_batches_do_not_matter_and_every_value_is_in_its_bin(x, cuts):
    state = histogram(x, cuts)
    assert state == Histogram().update(x) or state.exponent > Histogram().update(x).exponent
    edges = np.arange(state.first, state.first + len(state.counts) + 1) * state.width
    expected, _ = np.histogram(x.astype(np.float64), np.append(edges[:-1], np.nextafter(edges[-1], np.inf)))
    np.testing.assert_array_equal(state.counts, expected)
    assert len(state.counts) <= MAX_BINS
    assert (state.low, state.high) == (x.min(), x.max())


def test_bins_stay_fine_when_the_range_grows():
    rng = np.random.default_rng(0)
    state = Histogram()
    for scale in (1e-6, 1.0, 300.0):
        state = state.update(rng.normal(0, scale, 1000))
    assert MAX_BINS / 4 <= len(state.counts) <= MAX_BINS
    assert state.counts.sum() == 3000


@pytest.mark.parametrize("p", [99.0, 99.9, 100.0])
def test_percentile_is_the_exact_one_within_a_bin(p):
    x = np.random.default_rng(1).standard_t(3, 200_000).astype(np.float32)
    observer = percentile.Percentile(p)
    for part in np.split(x, 10):
        observer = observer.update(part)
    low, high = observer.range()
    width = observer.histogram.width
    np.testing.assert_allclose([low, high], np.percentile(x, [100 - p, p]), atol=width)


@pytest.mark.parametrize("p", [50.0, 100.1, float("nan")])
def test_a_percentile_out_of_range_is_an_error(p):
    with pytest.raises(ValueError, match="percentile must be above 50"):
        percentile.Percentile(p)
    with pytest.raises(ValueError, match="percentile must be above 50"):
        percentile.row_ranges(np.ones((2, 3)), p)


def gaussian_optimum(bits: int) -> float:
    """Clipping level of a standard normal with least squared error for 2^bits - 1 symmetric levels, by integration."""
    qmax = 2 ** (bits - 1) - 1

    def error(limit: float) -> float:
        step = limit / qmax
        total = 2 * integrate.quad(lambda v: (v - limit) ** 2 * stats.norm.pdf(v), limit, 12)[0]
        for level in range(-qmax, qmax + 1):
            low, high = (level - 0.5) * step, (level + 0.5) * step
            low, high = max(low, -limit), min(high, limit)
            total += integrate.quad(lambda v, q=level * step: (v - q) ** 2 * stats.norm.pdf(v), low, high)[0]
        return total

    return float(optimize.minimize_scalar(error, bounds=(1.0, 5.0), method="bounded").x)


@pytest.mark.parametrize("bits", [3, 4])
def test_mse_finds_the_optimum_of_a_gaussian(bits):
    x = np.random.default_rng(2).normal(size=(1, 400_000)).astype(np.float32)
    expected = gaussian_optimum(bits)
    low, high = mse.Mse(bits, symmetric=True).update(x).range()
    np.testing.assert_allclose([-low, high], expected, rtol=0.06)
    low_row, high_row = mse.row_ranges(x, bits, symmetric=True)
    np.testing.assert_allclose([-low_row[0], high_row[0]], expected, rtol=0.06)


def test_mse_is_no_worse_than_random_ranges():
    rng = np.random.default_rng(3)
    x = np.maximum(rng.standard_t(3, 20_000), -0.5)

    def error(low: float, high: float) -> float:
        step = (high - low) / 15
        bottom = round(low / step)
        return float(np.mean((np.clip(np.rint(x / step), bottom, bottom + 15) * step - x) ** 2))

    found = error(*mse.Mse(4).update(x).range())
    others = [error(x.min() * a, x.max() * b) for a, b in rng.uniform(0.05, 1, (400, 2))]
    assert found <= min(others) * 1.03


def test_mse_of_rows_with_zero_points_is_no_worse_than_a_finer_grid_of_ranges():
    rows = np.random.default_rng(8).standard_t(4, (3, 64)).astype(np.float32) + np.float32([[0.0], [2.0], [-6.0]])

    def error(row, low, high):
        step = (high - low) / 15
        bottom = round(low / step)
        return np.mean((np.clip(np.rint(row / step), bottom, bottom + 15) * step - row) ** 2)

    for row, low, high in zip(rows, *mse.row_ranges(rows, 4, symmetric=False), strict=True):
        full = min(row.min(), 0.0), max(row.max(), 0.0)
        shares = np.linspace(0.02, 1, 150)
        least = min(
            error(row, full[0] * a, full[1] * b)
            for a in (shares if full[0] else [1.0])
            for b in (shares if full[1] else [1.0])
        )
        assert error(row, float(low), float(high)) <= 1.1 * least


def test_mse_and_entropy_keep_a_range_that_is_used_evenly():
    x = np.random.default_rng(4).uniform(-2, 6, 200_000)
    np.testing.assert_allclose(mse.Mse().update(x).range(), (-2, 6), rtol=0.02)
    np.testing.assert_allclose(entropy.Entropy().update(x).range(), (-2, 6), rtol=0.05)


@pytest.mark.parametrize("one_sided", [False, True])
def test_entropy_leaves_outliers_out_and_keeps_the_bulk(one_sided):
    x = np.random.default_rng(5).normal(0, 1, 200_000)
    x = np.maximum(x, 0) if one_sided else x
    x[:5] = [60, 70, 80, 90, 100]
    low, high = entropy.Entropy().update(x).range()
    assert 2.0 < high < 12.0
    assert low == 0.0 if one_sided else low < 0.0


@pytest.mark.parametrize("at", [-0.8, 0.35, 2.1])
@pytest.mark.parametrize("share", [0.5, 3.0])
def test_a_value_that_returns_again_and_again_does_not_narrow_the_range_of_entropy(at, share):
    """What a layer makes of a constant background; the other values keep 99.7 % of them."""
    x = np.random.default_rng(8).normal(0, 1, 100_000)
    low, high = entropy.Entropy().update(np.concatenate([x, np.full(int(share * len(x)), at)])).range()
    assert -5.0 < low < -3.0
    assert 3.0 < high < 5.0


def test_divergence_is_that_of_scipy():
    """Four bins, two levels, the last bin clipped: P = (2, 2, 8), Q = (2, 2, 4), by hand."""
    centers = np.array([0.5, 1.5, 2.5, 3.5])
    found = entropy._divergence(centers, np.array([2.0, 2.0, 4.0, 4.0]), 0.0, 3.0, 3)
    assert found == pytest.approx(stats.entropy([2, 2, 8], [2, 2, 4]))


@pytest.mark.parametrize("levels", [4, 16, 256])
def test_divergences_by_running_sums_are_those_of_the_bins(levels):
    rng = np.random.default_rng(levels)
    centers = np.arange(-300, 700) + 0.5
    counts = np.floor(rng.exponential(3, 1000)) * (rng.uniform(size=1000) < 0.3)
    # Some hold one bin, an empty one, fewer than levels, or nothing.
    lows = np.concatenate([rng.uniform(-310, 100, 60), np.arange(-30.0, 30.0), [2000.0, 5.0]])
    highs = np.concatenate([rng.uniform(100, 720, 60), np.arange(-30.0, 30.0) + rng.integers(1, 9, 60), [3000.0, 4.0]])
    expected = [entropy._divergence(centers, counts, a, b, levels) for a, b in zip(lows, highs, strict=True)]
    assert 2 <= np.isinf(expected).sum() < 60
    found = entropy._divergences(centers, counts, lows, highs, levels)
    np.testing.assert_allclose(found, expected, atol=0.1 * entropy._ROUGH)


def test_rows_are_independent_and_dead_ones_are_empty():
    rows = np.random.default_rng(6).normal(size=(3, 500)).astype(np.float32)
    rows[1] = 0.0
    for low, high in (
        mse.row_ranges(rows, 4, True),
        mse.row_ranges(rows, 4, False),
        entropy.row_ranges(rows, 4),
        percentile.row_ranges(rows, 99.0),
    ):
        assert low.shape == high.shape == (3,)
        assert low[1] == high[1] == 0.0
        assert (high[[0, 2]] > 1.0).all()
    for symmetric in (True, False):
        alone, among = (mse.row_ranges(r, 4, symmetric)[1] for r in (rows[2:], rows))
        np.testing.assert_allclose(alone, among[2:])
