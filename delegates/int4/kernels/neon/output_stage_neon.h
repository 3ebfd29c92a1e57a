// The vector form of output_stage.h for NEON: four channels at a time, equal to the scalar form bit for bit.
#ifndef TFQ_DELEGATES_INT4_KERNELS_NEON_OUTPUT_STAGE_NEON_H_
#define TFQ_DELEGATES_INT4_KERNELS_NEON_OUTPUT_STAGE_NEON_H_

#include <arm_neon.h>

#include <cstdint>

#include "delegates/int4/kernels/output_stage.h"

namespace tfq::int4 {

// What the stage takes of four channels.
struct ScaleNeon {
  int32x4_t multiplier;
  int32x4_t shift;
  int32x4_t ties_away;  // all ones where the second rounding sends ties away from zero
};

// Of the channels from `channel` on; `ties_away_begin` as TiesAwayBegin() gives it.
static inline ScaleNeon LoadScaleNeon(const int32_t* multiplier, const int32_t* shift, int32_t channel,
                                      int32_t ties_away_begin) {
  const int32_t lanes[4] = {0, 1, 2, 3};
  const int32x4_t channels = vaddq_s32(vdupq_n_s32(channel), vld1q_s32(lanes));
  return {vld1q_s32(multiplier), vld1q_s32(shift),
          vreinterpretq_s32_u32(vcgeq_s32(channels, vdupq_n_s32(ties_away_begin)))};
}

// The 64-bit rounding shift keeps what a 32-bit doubling multiply would lose before it rounds.
static inline int32x4_t MultiplySingleRoundingNeon(int32x4_t x, const ScaleNeon& scale) {
  const int32x4_t left = vsubq_s32(scale.shift, vdupq_n_s32(31));
  const int64x2_t low = vmull_s32(vget_low_s32(x), vget_low_s32(scale.multiplier));
  const int64x2_t high = vmull_high_s32(x, scale.multiplier);
  return vcombine_s32(vmovn_s64(vrshlq_s64(low, vmovl_s32(vget_low_s32(left)))),
                      vmovn_s64(vrshlq_s64(high, vmovl_high_s32(left))));
}

// SRSHL rounds ties upward; taking one from a negative number first sends its ties away from zero.
template <bool some_ties_away>
static inline int32x4_t MultiplyDoubleRoundingNeon(int32x4_t x, const ScaleNeon& scale) {
  const int32x4_t zero = vdupq_n_s32(0);
  const int32x4_t left = vmaxq_s32(scale.shift, zero);
  const int32x4_t right = vminq_s32(scale.shift, zero);
  const int32x4_t high = vqrdmulhq_s32(vshlq_s32(x, left), scale.multiplier);
  if (!some_ties_away) return vrshlq_s32(high, right);
  const int32x4_t minus_one = vandq_s32(vshrq_n_s32(vandq_s32(high, right), 31), scale.ties_away);
  return vrshlq_s32(vqaddq_s32(high, minus_one), right);
}

// Four outputs, clamped, still 32 bits wide.
template <RoundingForm form>
static inline int32x4_t ApplyOutputStageNeon(int32x4_t sum, const ScaleNeon& scale, const OutputStage& stage) {
  const int32x4_t scaled = form == RoundingForm::kSingle
                               ? MultiplySingleRoundingNeon(sum, scale)
                               : MultiplyDoubleRoundingNeon<form == RoundingForm::kAway>(sum, scale);
  const int32x4_t value = vaddq_s32(scaled, vdupq_n_s32(stage.zero_point));
  return vminq_s32(vmaxq_s32(value, vdupq_n_s32(stage.min)), vdupq_n_s32(stage.max));
}

// int8 of two vectors of clamped outputs, in order.
static inline int8x8_t NarrowNeon(int32x4_t low, int32x4_t high) {
  return vmovn_s16(vcombine_s16(vmovn_s32(low), vmovn_s32(high)));
}

// Writes the first `count` (1..8) bytes.
static inline void StorePartNeon(int8_t* to, int8x8_t bytes, int32_t count) {
  if (count >= 8) {
    vst1_s8(to, bytes);
    return;
  }
  uint64_t part = vget_lane_u64(vreinterpret_u64_s8(bytes), 0);
  for (int32_t i = 0; i < count; ++i, part >>= 8) to[i] = static_cast<int8_t>(part);
}

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_KERNELS_NEON_OUTPUT_STAGE_NEON_H_
