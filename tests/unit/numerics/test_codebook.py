"""k-means in one dimension against scipy's."""

import numpy as np
import pytest
from scipy.cluster.vq import kmeans2

from tfq_pipeline.numerics.codebook import kmeans


@pytest.mark.parametrize("count", [2, 4, 16])
@pytest.mark.parametrize("shape", [(500,), (9, 8, 7)])
def test_centroids_are_those_of_lloyd_from_an_even_start(count, shape):
    values = np.random.default_rng(count).standard_t(4, shape)
    start = np.linspace(values.min(), values.max(), count)
    with np.testing.suppress_warnings() as quiet:
        quiet.filter(UserWarning)
        want, _ = kmeans2(values.reshape(-1, 1), start.reshape(-1, 1), iter=400, minit="matrix")
    np.testing.assert_allclose(kmeans(values, count), want[:, 0], atol=1e-12)


def test_values_that_are_few_are_their_own_centroids():
    np.testing.assert_array_equal(kmeans(np.array([3.0, -1.0, 3.0, 1.0]), 3), [-1.0, 1.0, 3.0])
    np.testing.assert_array_equal(kmeans(np.full(5, 2.0), 4), [2.0, 2.0, 2.0, 2.0])


@pytest.mark.parametrize(("values", "count"), [(np.zeros(0), 2), (np.ones(3), 0)])
def test_nothing_to_do_is_an_error(values, count):
    with pytest.raises(ValueError, match=f"cannot find {count} centroids of {values.size} values"):
        kmeans(values, count)
