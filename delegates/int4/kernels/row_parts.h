// The rows of a tile in parts whose sums fit the registers.
#ifndef TFQ_DELEGATES_INT4_KERNELS_ROW_PARTS_H_
#define TFQ_DELEGATES_INT4_KERNELS_ROW_PARTS_H_

#include <cstdint>

namespace tfq::int4 {

// Up to kMr rows in parts of at most kMost, nearly the same number each: a part of a single row would read all the
// weights for little. Part i is rows begin[i] to begin[i + 1].
template <int32_t kMr, int32_t kMost>
struct RowParts {
  static constexpr int32_t kParts = (kMr + kMost - 1) / kMost;

  explicit RowParts(int32_t rows) : count((rows + kMost - 1) / kMost), begin{} {
    const int32_t each = rows / count, longer = rows % count;
    for (int32_t i = 0; i < count; ++i) begin[i + 1] = begin[i] + each + (i < longer ? 1 : 0);
  }

  int32_t count;
  int32_t begin[kParts + 1];
};

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_KERNELS_ROW_PARTS_H_
