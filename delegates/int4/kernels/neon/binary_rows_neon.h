// Goes through two int8 arrays sixteen values at a time.
#ifndef TFQ_DELEGATES_INT4_KERNELS_NEON_BINARY_ROWS_NEON_H_
#define TFQ_DELEGATES_INT4_KERNELS_NEON_BINARY_ROWS_NEON_H_

#include <arm_neon.h>

#include <cstdint>
#include <cstring>

#include "delegates/int4/kernels/neon/output_stage_neon.h"

namespace tfq::int4 {

// out[i..i+15] = combine(a[i..i+15], b[i..i+15]); a ragged end goes through a copy, so that nothing is read past it.
template <typename Combine>
static inline void ForEachPairNeon(int64_t count, const int8_t* a, const int8_t* b, int8_t* out,
                                   const Combine& combine) {
  int64_t i = 0;
  for (; i + 16 <= count; i += 16) vst1q_s8(out + i, combine(vld1q_s8(a + i), vld1q_s8(b + i)));
  if (i == count) return;
  const size_t rest = static_cast<size_t>(count - i);
  int8_t last_a[16] = {}, last_b[16] = {}, last_out[16];
  std::memcpy(last_a, a + i, rest);
  std::memcpy(last_b, b + i, rest);
  vst1q_s8(last_out, combine(vld1q_s8(last_a), vld1q_s8(last_b)));
  std::memcpy(out + i, last_out, rest);
}

// The sixteen outputs of four(x, y), which takes four values of each, less their zero points, and gives 32 bits, before
// the stage's zero point.
template <typename Four>
static inline int8x16_t CombineNeon(int8x16_t a, int8x16_t b, int16x8_t a_zero_point, int16x8_t b_zero_point,
                                    const StageNeon& stage, const Four& four) {
  const auto eight = [&](int16x8_t x, int16x8_t y) {
    x = vsubq_s16(x, a_zero_point);
    y = vsubq_s16(y, b_zero_point);
    return stage.Words(four(vget_low_s16(x), vget_low_s16(y)), four(vget_high_s16(x), vget_high_s16(y)));
  };
  return stage.Clamp(eight(vmovl_s8(vget_low_s8(a)), vmovl_s8(vget_low_s8(b))),
                     eight(vmovl_high_s8(a), vmovl_high_s8(b)));
}

// A multiplier and a shift for all channels, ties away from zero.
struct UniformScaleNeon {
  int32x4_t multiplier;
  int32x4_t shift;

  UniformScaleNeon(int32_t of_all, int32_t shift_of_all)
      : multiplier(vdupq_n_s32(of_all)), shift(vdupq_n_s32(shift_of_all)) {}

  template <RoundingForm form>
  int32x4_t Multiply(int32x4_t value) const {
    return ScaleAnyNeon(value, multiplier, shift, vdupq_n_s32(-1), form);
  }

  // Of a shift below zero.
  template <RoundingForm form>
  int32x4_t MultiplyRight(int32x4_t value) const {
    return ScaleRightNeon<form>(value, multiplier, shift, vdupq_n_s32(-1));
  }
};

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_KERNELS_NEON_BINARY_ROWS_NEON_H_
