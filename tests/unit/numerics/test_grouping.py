"""Groups of input channels: shapes, the inverse, and parameters against a loop over slices."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfq_pipeline.numerics.affine import fake_quantize, from_range, weight_range
from tfq_pipeline.numerics.grouping import from_groups, group_count, group_parameters, to_groups


@settings(deadline=None)
@given(
    st.integers(1, 4), st.lists(st.integers(1, 3), max_size=2), st.integers(1, 70), st.sampled_from([16, 17, 32, 256])
)
def test_from_groups_inverts_to_groups(channels, taps, inputs, size):
    w = np.arange(1, channels * int(np.prod(taps)) * inputs + 1, dtype=np.float32).reshape(channels, *taps, inputs)
    grouped = to_groups(w, size)
    assert grouped.shape == (channels * group_count(inputs, size), *taps, size)
    np.testing.assert_array_equal(from_groups(grouped, w.shape), w)


def test_each_group_is_quantized_like_its_slice():
    w = np.random.default_rng(0).normal(size=(3, 2, 2, 40)).astype(np.float32)
    grouped = to_groups(w, 16)
    affine = from_range(*weight_range(grouped, 0), 4, symmetric=True, narrow=True, axis=0)
    scale, zero_point = group_parameters(affine, channels=3)
    assert scale.shape == zero_point.shape == (3, 3)
    whole = from_groups(fake_quantize(grouped, affine), w.shape)
    for channel in range(3):
        for group in range(3):
            run = slice(16 * group, min(16 * (group + 1), 40))
            part = w[channel, ..., run]
            alone = from_range(*weight_range(part, None), 4, symmetric=True, narrow=True)
            assert scale[channel, group] == alone.scale[0]
            np.testing.assert_array_equal(whole[channel, ..., run], fake_quantize(part, alone))


def test_bad_arguments():
    for size in (15, 257):
        with pytest.raises(ValueError, match="16 to 256"):
            to_groups(np.zeros((2, 32)), size)
    with pytest.raises(ValueError, match="no input channels"):
        to_groups(np.zeros(32), 16)
    with pytest.raises(ValueError, match="do not make a tensor"):
        from_groups(np.zeros((4, 16)), (3, 32))
    with pytest.raises(ValueError, match="not groups of 3 channels"):
        group_parameters(from_range(np.zeros(4), np.ones(4), 4, symmetric=True, axis=0), 3)
