// Transposed matrices of bytes, in squares of 8 that fit registers.
#ifndef TFQ_DELEGATES_INT4_OPS_BYTE_TRANSPOSE_H_
#define TFQ_DELEGATES_INT4_OPS_BYTE_TRANSPOSE_H_

#include <cstdint>
#include <cstring>

namespace tfq::int4 {

// Rows of one matrix, `stride` bytes apart.
template <typename Byte>
struct ByteMatrix {
  Byte* data;
  int64_t stride;
};

// Exchanges, in squares of squares, what lies above the diagonal with what lies below: `bits` is the width of an inner
// square, `mask` the lower half of each pair.
template <int32_t bits>
inline void ExchangeSquares(uint64_t mask, uint64_t* rows) {
  constexpr int32_t kStep = bits / 8;
  for (int32_t i = 0; i < 8; ++i) {
    if ((i & kStep) != 0) continue;
    const uint64_t above = rows[i], below = rows[i + kStep];
    rows[i] = (above & mask) | (below & mask) << bits;
    rows[i + kStep] = (below & ~mask) | (above & ~mask) >> bits;
  }
}

// Row r of an 8 x 8 matrix is rows[r], its first byte the lowest.
inline void TransposeSquare(uint64_t* rows) {
  ExchangeSquares<32>(0x00000000ffffffff, rows);
  ExchangeSquares<16>(0x0000ffff0000ffff, rows);
  ExchangeSquares<8>(0x00ff00ff00ff00ff, rows);
}

// to[c][r] = from[r][c].
inline void TransposeBytes(int64_t rows, int64_t columns, ByteMatrix<const int8_t> from, ByteMatrix<int8_t> to) {
  constexpr int64_t kSide = 8;
  const int64_t square_rows = rows / kSide * kSide, square_columns = columns / kSide * kSide;
  for (int64_t r = 0; r < square_rows; r += kSide) {
    for (int64_t c = 0; c < square_columns; c += kSide) {
      uint64_t square[kSide];
      for (int64_t i = 0; i < kSide; ++i) std::memcpy(&square[i], from.data + (r + i) * from.stride + c, kSide);
      TransposeSquare(square);
      for (int64_t i = 0; i < kSide; ++i) std::memcpy(to.data + (c + i) * to.stride + r, &square[i], kSide);
    }
  }
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = r < square_rows ? square_columns : 0; c < columns; ++c) {
      to.data[c * to.stride + r] = from.data[r * from.stride + c];
    }
  }
}

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_OPS_BYTE_TRANSPOSE_H_
