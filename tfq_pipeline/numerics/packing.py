"""Sub-byte packing as TFLite stores INT4 and INT2 constants: row-major, the first value in the lowest bits.

Rows are not padded: only the last byte of the tensor may hold fewer values, and its spare high bits are 0.
"""

from __future__ import annotations

import numpy as np

PACKABLE_BITS = (2, 4)


def packed_size(count: int, bits: int) -> int:
    """Bytes that `count` values of `bits` bits take."""
    return -(-count * bits // 8)


def pack_bits(values: np.ndarray, bits: int) -> np.ndarray:
    """Packs signed integers of any shape into uint8 [ceil(size * bits / 8)].

    Raises:
        ValueError: for bits other than 2 or 4, values that are not integers, or a value that does not fit.
    """
    values = np.asarray(values)
    _check_bits(bits)
    if values.dtype.kind not in "iu":
        raise ValueError(f"only integers can be packed, found {values.dtype}")
    half = 1 << (bits - 1)
    flat = values.reshape(-1)
    if flat.size and (flat.min() < -half or flat.max() >= half):
        raise ValueError(f"values from {flat.min()} to {flat.max()} do not fit in {bits} bits ({-half} to {half - 1})")
    per_byte = 8 // bits
    fields = np.zeros(packed_size(flat.size, bits) * per_byte, np.uint8)
    fields[: flat.size] = flat.astype(np.int8).view(np.uint8) & ((1 << bits) - 1)
    shifts = np.arange(per_byte, dtype=np.uint8) * bits
    packed: np.ndarray = np.bitwise_or.reduce(fields.reshape(-1, per_byte) << shifts, axis=1).astype(np.uint8)
    return packed


def unpack_bits(packed: np.ndarray | bytes, count: int, bits: int) -> np.ndarray:
    """The first `count` values of what `pack_bits` wrote, int8 [count]; spare bits are not looked at.

    Raises:
        ValueError: for bits other than 2 or 4, or a number of bytes that is not `packed_size(count, bits)`.
    """
    _check_bits(bits)
    data = np.frombuffer(packed, np.uint8) if isinstance(packed, bytes) else np.asarray(packed, np.uint8).reshape(-1)
    if count < 0 or data.size != packed_size(count, bits):
        raise ValueError(f"{count} values of {bits} bits take {packed_size(count, bits)} bytes, found {data.size}")
    shifts = np.arange(8 // bits, dtype=np.uint8) * bits
    fields = (data[:, None] >> shifts) & ((1 << bits) - 1)
    half = 1 << (bits - 1)
    return ((fields.reshape(-1)[:count].astype(np.int16) ^ half) - half).astype(np.int8)


def pack_int4(values: np.ndarray) -> np.ndarray:
    """`pack_bits` at 4 bits: low nibble first."""
    return pack_bits(values, 4)


def unpack_int4(packed: np.ndarray | bytes, count: int) -> np.ndarray:
    """`unpack_bits` at 4 bits."""
    return unpack_bits(packed, count, 4)


def _check_bits(bits: int) -> None:
    if bits not in PACKABLE_BITS:
        raise ValueError(f"values of {bits} bits cannot be packed, only of {PACKABLE_BITS}")
