"""Sub-byte packing against a bit-by-bit computation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tfq_pipeline.numerics.packing import pack_bits, pack_int4, packed_size, unpack_bits, unpack_int4

SHAPES = arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)


@st.composite
def bits_and_values(draw: st.DrawFn) -> tuple[int, np.ndarray]:
    bits = draw(st.sampled_from([2, 4]))
    half = 1 << (bits - 1)
    return bits, draw(arrays.arrays(np.int8, SHAPES, elements=st.integers(-half, half - 1)))


@settings(deadline=None)
@given(bits_and_values())
def test_unpack_inverts_pack(case):
    bits, values = case
    np.testing.assert_array_equal(unpack_bits(pack_bits(values, bits), values.size, bits), values.reshape(-1))


@settings(deadline=None)
@given(bits_and_values())
def test_bytes_are_one_little_endian_number(case):
    bits, values = case
    number = sum((int(v) % (1 << bits)) << (i * bits) for i, v in enumerate(values.reshape(-1)))
    assert pack_bits(values, bits).tobytes() == number.to_bytes(packed_size(values.size, bits), "little")


def test_low_nibble_first_and_odd_count_padded_with_zero():
    np.testing.assert_array_equal(pack_int4(np.array([[1, -1], [7, -8], [-3, 0]])[:, 0]), [0x71, 0x0D])
    assert pack_int4(np.array([-1], np.int8)).dtype == np.uint8
    np.testing.assert_array_equal(unpack_int4(b"\xf1\x08", 3), [1, -1, -8])


@pytest.mark.parametrize(("bits", "bad"), [(4, 8), (4, -9), (2, 2), (2, -3)])
def test_values_that_do_not_fit(bits, bad):
    with pytest.raises(ValueError, match=f"do not fit in {bits} bits"):
        pack_bits(np.array([0, bad]), bits)


def test_other_bad_arguments():
    with pytest.raises(ValueError, match="3 bits"):
        pack_bits(np.zeros(3, np.int8), 3)
    with pytest.raises(ValueError, match="only integers"):
        pack_int4(np.zeros(3))
    with pytest.raises(ValueError, match="take 2 bytes, found 1"):
        unpack_int4(np.zeros(1, np.uint8), 3)
