// How a row becomes integers at run time. The vector forms of each tier equal this scalar form bit for bit.
//
// Functions are static: each tier's file is compiled for its own instruction set, and a shared inline copy could come
// from any.
#ifndef TFQ_DELEGATES_INT4_KERNELS_ROW_QUANTIZATION_H_
#define TFQ_DELEGATES_INT4_KERNELS_ROW_QUANTIZATION_H_

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "delegates/int4/kernels/registry.h"

namespace tfq::int4 {

// A range below this counts as empty: its reciprocal would overflow.
constexpr float kSmallestRange = 1e-30f;

struct RowScale {
  RowQuantization quantization;
  float inverse;
};

static inline float ClampSteps(float value, float low, float high) {
  return value > low ? (value < high ? value : high) : low;
}

// One digit: the whole range and zero, in 255 steps; values that are not numbers become the lowest. low <= 0 <= high.
static inline RowScale ScaleOfRange(float low, float high) {
  const float range = high - low;
  if (!(range >= kSmallestRange)) return {{1.0f, 0}, 0.0f};
  const float inverse = 255.0f / range;
  const float zero_point = ClampSteps(-128.0f - low * inverse, -128.0f, 127.0f);
  return {{range / 255.0f, static_cast<int32_t>(std::lrintf(zero_point))}, inverse};
}

static inline int8_t QuantizeValue(float value, const RowScale& scale) {
  const float steps = ClampSteps(value * scale.inverse, -255.0f, 255.0f);
  const int32_t q = static_cast<int32_t>(std::lrintf(steps)) + scale.quantization.zero_point;
  return static_cast<int8_t>(q < -128 ? -128 : q > 127 ? 127 : q);
}

// What the largest value of a row becomes: the highest digit has room for what rounding adds.
constexpr float kLargestFixed = 127.0f * 65536.0f;
static_assert(kDigits == 3, "127 in the highest of three digits");

// A row whose largest magnitude is below this counts as empty: what would scale it up has no float.
constexpr float kSmallestLargest = 1e-30f;

// What makes a row integers of up to kLargestFixed, and the scale of each digit. A row that holds something other than
// a number, or infinity, has scales of NaN, which its outputs take on.
struct FixedScale {
  RowQuantization digits[kDigits];
  float inverse;
};

// `largest` is the row's largest magnitude, or NaN or infinity where it holds either.
static inline FixedScale ScaleOfLargest(float largest) {
  FixedScale scale = {};
  if (largest < kSmallestLargest) return scale;
  const bool finite = largest <= 3.4e38f;
  scale.inverse = finite ? kLargestFixed / largest : 0.0f;
  float step = finite ? largest / kLargestFixed : std::nanf("");
  for (RowQuantization& digit : scale.digits) {
    digit.scale = step;
    step *= 256.0f;
  }
  return scale;
}

// Digit values of value * inverse, each from -128 to 127.
static inline void SplitValue(float value, float inverse, int8_t (&digits)[kDigits]) {
  int32_t rest = inverse == 0 ? 0 : static_cast<int32_t>(std::lrintf(value * inverse));
  for (int8_t& digit : digits) {
    digit = static_cast<int8_t>(static_cast<uint32_t>(rest) & 255u);
    rest = (rest - digit) >> 8;
  }
}

// The digits of a row's values from number `begin` on: all lowest digits, then all of the next.
static inline void SplitValues(const float* row, int32_t begin, int32_t count, float inverse, int8_t* values) {
  for (int32_t i = begin; i < count; ++i) {
    int8_t digits[kDigits];
    SplitValue(row[i], inverse, digits);
    for (int32_t d = 0; d < kDigits; ++d) values[ptrdiff_t(d) * count + i] = digits[d];
  }
}

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_KERNELS_ROW_QUANTIZATION_H_
