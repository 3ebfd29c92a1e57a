"""Outlier statistics against what is known of distributions and of planted outliers."""

from __future__ import annotations

import numpy as np
import pytest

from tests.nets import images, mixed_net
from tfq_pipeline.calibration.outliers import outliers, weight_outliers
from tfq_pipeline.graph.keras_graph import KerasGraph
from tfq_pipeline.passes.calibrate import calibrate


def test_known_distributions():
    rng = np.random.default_rng(0)
    uniform, normal = outliers(rng.uniform(-1, 1, (20_000, 8))), outliers(rng.normal(size=(20_000, 8)))
    assert uniform.kurtosis == pytest.approx(1.8, abs=0.02)
    assert normal.kurtosis == pytest.approx(3.0, abs=0.05)
    assert uniform.peak == pytest.approx(1.0, abs=0.01)
    # The 99.9th percentile of |x| is 3.29, the largest of 160,000 about 4.5.
    assert 1.25 < normal.peak < 1.55
    assert uniform.channels == normal.channels == ()


def test_planted_outliers_are_found_with_their_size():
    rng = np.random.default_rng(1)
    x = rng.uniform(-1, 1, (4000, 16)).astype(np.float32)
    x[:, 3] *= 20
    x[17, 5] = -60.0
    found = outliers(x)
    assert [channel for channel, _ in found.channels] == [5, 3]
    np.testing.assert_allclose([ratio for _, ratio in found.channels], [60, 20], rtol=0.01)
    assert found.peak == pytest.approx(60 / np.percentile(np.abs(x), 99.9), rel=1e-5)


@pytest.mark.parametrize("x", [np.zeros((3, 4)), np.full((3, 4), 2.0), np.zeros(5), np.eye(64)[:1] * 1e30])
def test_degenerate_tensors_give_finite_numbers(x):
    found = outliers(x)
    assert np.isfinite([found.peak, found.kurtosis]).all()
    assert found.peak == 1.0


def test_a_scale_for_each_output_channel_hides_how_these_differ():
    kernel = np.random.default_rng(2).normal(size=(32, 1, 1, 64)).astype(np.float32)
    even = weight_outliers(kernel, 0)
    uneven = weight_outliers(kernel * np.geomspace(1e-3, 1e3, 32).reshape(32, 1, 1, 1).astype(np.float32), 0)
    assert uneven.peak == pytest.approx(even.peak, rel=1e-4)
    kernel[..., 9] *= 30
    assert [channel for channel, _ in weight_outliers(kernel, 0).channels] == [9]


def test_calibration_gives_the_statistics_of_its_first_samples():
    graph = KerasGraph.from_model(mixed_net()).fold_batch_norm()
    found = calibrate(graph, images(), "minmax", 96).outliers
    (first, *_) = graph.capture(["hidden"], images())
    assert found["hidden"] == outliers(first["hidden"][:32])
    assert set(found) == {t.name for t in graph.tensors() if t.same_scale_as is None}
