// What a kernel has to compute, written a second time and in another way: exact 64-bit sums, and roundings as floor
// divisions.
#ifndef TFQ_DELEGATES_INT4_TEST_ORACLE_H_
#define TFQ_DELEGATES_INT4_TEST_ORACLE_H_

#include <algorithm>
#include <cstdint>

#include "delegates/int4/kernels/registry.h"

namespace tfq::int4 {

inline int64_t FloorDivide(int64_t a, int64_t b) { return a / b - (a % b != 0 && (a < 0) != (b < 0) ? 1 : 0); }

// a / 2^power to the nearest integer, halves upward; power 0 to 62.
inline int64_t RoundUpward(int64_t a, int32_t power) {
  if (power == 0) return a;
  return FloorDivide(a + (int64_t{1} << (power - 1)), int64_t{1} << power);
}

// a / 2^power to the nearest integer, halves away from zero.
inline int64_t RoundAway(int64_t a, int32_t power) { return a < 0 ? -RoundUpward(-a, power) : RoundUpward(a, power); }

// x * multiplier * 2^(shift - 31) for output channel `channel` of `channels`; results that leave 32 bits lose the upper
// bits.
inline int32_t OracleMultiply(int32_t x, int32_t multiplier, int32_t shift, Rounding rounding, int32_t channel,
                              int32_t channels) {
  if (rounding == Rounding::kSingle) return static_cast<int32_t>(RoundUpward(int64_t{x} * multiplier, 31 - shift));
  const int32_t shifted = static_cast<int32_t>(int64_t{x} * (int64_t{1} << std::max(shift, 0)));
  const int64_t high = RoundUpward(int64_t{shifted} * multiplier, 31);
  const bool away =
      rounding == Rounding::kDouble || (rounding == Rounding::kDoubleByEights && channel >= channels - channels % 8);
  const int32_t right = std::max(-shift, 0);
  return static_cast<int32_t>(away ? RoundAway(high, right) : RoundUpward(high, right));
}

inline int8_t OracleOutput(int64_t sum, int32_t multiplier, int32_t shift, const OutputStage& stage, int32_t channel,
                           int32_t channels) {
  const int32_t scaled =
      OracleMultiply(static_cast<int32_t>(sum), multiplier, shift, stage.rounding, channel, channels);
  const int64_t value = int64_t{scaled} + stage.zero_point;
  return static_cast<int8_t>(std::min<int64_t>(std::max<int64_t>(value, stage.min), stage.max));
}

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_TEST_ORACLE_H_
