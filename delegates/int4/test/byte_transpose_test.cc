#include "delegates/int4/ops/byte_transpose.h"

#include <gtest/gtest.h>

#include <vector>

namespace tfq::int4 {
namespace {

// Rows with room behind them, which stays as it is.
TEST(ByteTranspose, EveryValueGoesToItsPlaceAndNoFurther) {
  constexpr int64_t kSizes[] = {1, 7, 8, 9, 16, 23};
  constexpr int64_t kRoom = 3;
  for (const int64_t rows : kSizes) {
    for (const int64_t columns : kSizes) {
      std::vector<int8_t> from(static_cast<size_t>(rows * (columns + kRoom)));
      for (size_t i = 0; i < from.size(); ++i) from[i] = static_cast<int8_t>(i * 37 + i / 256);
      std::vector<int8_t> to(static_cast<size_t>(columns * (rows + kRoom)), -99), expected = to;
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t c = 0; c < columns; ++c) {
          expected[static_cast<size_t>(c * (rows + kRoom) + r)] = from[static_cast<size_t>(r * (columns + kRoom) + c)];
        }
      }
      TransposeBytes(rows, columns, {from.data(), columns + kRoom}, {to.data(), rows + kRoom});
      EXPECT_EQ(to, expected) << rows << " x " << columns;
    }
  }
}

}  // namespace
}  // namespace tfq::int4
