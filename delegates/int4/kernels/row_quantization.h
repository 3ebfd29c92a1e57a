// How a row becomes int8 at run time: its whole range and zero, in 255 steps. The vector forms of each tier equal this
// scalar form bit for bit; values that are not numbers become the lowest.
//
// Functions are static: each tier's file is compiled for its own instruction set, and a shared inline copy could come
// from any.
#ifndef TFQ_DELEGATES_INT4_KERNELS_ROW_QUANTIZATION_H_
#define TFQ_DELEGATES_INT4_KERNELS_ROW_QUANTIZATION_H_

#include <cmath>
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

// low <= 0 <= high.
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

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_KERNELS_ROW_QUANTIZATION_H_
