// The vector form of output_stage.h for NEON, equal to the scalar form bit for bit.
//
// Multipliers below one half (shift < 0) are what layers have. With r = -shift they take two instructions in each
// rounding: SQRDMULH and SRSHL are the double rounding; SQDMULH, which does not round, and SRSHL are the single one,
// since floor((x * m + 2^(30 + r)) / 2^(31 + r)) = floor((floor(x * m / 2^31) + 2^(r - 1)) / 2^r).
#ifndef TFQ_DELEGATES_INT4_KERNELS_NEON_OUTPUT_STAGE_NEON_H_
#define TFQ_DELEGATES_INT4_KERNELS_NEON_OUTPUT_STAGE_NEON_H_

#include <arm_neon.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "delegates/int4/kernels/output_stage.h"
#include "delegates/int4/kernels/unroll.h"

namespace tfq::int4 {

// What multiplies 4 * kVectors channels.
template <int kVectors>
struct ScaleNeon {
  int32x4_t multiplier[kVectors];
  int32x4_t shift[kVectors];
  int32_t channel;          // the first
  int32_t ties_away_begin;  // as TiesAwayBegin() gives it

  ScaleNeon(const int32_t* multipliers, const int32_t* shifts, int32_t first, int32_t ties_away)
      : channel(first), ties_away_begin(ties_away) {
    TFQ_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      multiplier[v] = vld1q_s32(multipliers + 4 * v);
      shift[v] = vld1q_s32(shifts + 4 * v);
    }
  }

  // Whether every multiplier is below one half.
  bool OnlyRight() const {
    int32x4_t highest = shift[0];
    TFQ_UNROLL
    for (int v = 1; v < kVectors; ++v) highest = vmaxq_s32(highest, shift[v]);
    return vmaxvq_s32(highest) < 0;
  }

  // All ones where the second rounding sends ties away from zero.
  int32x4_t TiesAway(int v) const {
    const int32_t lanes[4] = {0, 1, 2, 3};
    const int32x4_t channels = vaddq_s32(vdupq_n_s32(channel + 4 * v), vld1q_s32(lanes));
    return vreinterpretq_s32_u32(vcgeq_s32(channels, vdupq_n_s32(ties_away_begin)));
  }
};

// SRSHL rounds ties upward; taking one from a negative number first sends its ties away from zero.
static inline int32x4_t ShiftTiesAwayNeon(int32x4_t high, int32x4_t right, int32x4_t ties_away) {
  const int32x4_t minus_one = vandq_s32(vshrq_n_s32(vandq_s32(high, right), 31), ties_away);
  return vrshlq_s32(vqaddq_s32(high, minus_one), right);
}

// Every shift below zero.
template <RoundingForm form>
static inline int32x4_t ScaleRightNeon(int32x4_t sum, int32x4_t multiplier, int32x4_t shift, int32x4_t ties_away) {
  if (form == RoundingForm::kSingle) return vrshlq_s32(vqdmulhq_s32(sum, multiplier), shift);
  const int32x4_t high = vqrdmulhq_s32(sum, multiplier);
  return form == RoundingForm::kAway ? ShiftTiesAwayNeon(high, shift, ties_away) : vrshlq_s32(high, shift);
}

template <RoundingForm form, int kRows, int kVectors>
static inline void ScaleRightNeon(int32x4_t (&sums)[kRows][kVectors], const ScaleNeon<kVectors>& scale) {
  TFQ_UNROLL
  for (int v = 0; v < kVectors; ++v) {
    const int32x4_t ties_away = form == RoundingForm::kAway ? scale.TiesAway(v) : vdupq_n_s32(0);
    TFQ_UNROLL
    for (int m = 0; m < kRows; ++m) {
      sums[m][v] = ScaleRightNeon<form>(sums[m][v], scale.multiplier[v], scale.shift[v], ties_away);
    }
  }
}

// Any shift. The 64-bit rounding shift keeps what a 32-bit doubling multiply would lose before it rounds.
static inline int32x4_t ScaleAnyNeon(int32x4_t sum, int32x4_t multiplier, int32x4_t shift, int32x4_t ties_away,
                                     RoundingForm form) {
  if (form == RoundingForm::kSingle) {
    const int32x4_t left = vsubq_s32(shift, vdupq_n_s32(31));
    const int64x2_t low =
        vrshlq_s64(vmull_s32(vget_low_s32(sum), vget_low_s32(multiplier)), vmovl_s32(vget_low_s32(left)));
    const int64x2_t high = vrshlq_s64(vmull_high_s32(sum, multiplier), vmovl_high_s32(left));
    return vuzp1q_s32(vreinterpretq_s32_s64(low), vreinterpretq_s32_s64(high));
  }
  const int32x4_t zero = vdupq_n_s32(0);
  const int32x4_t high = vqrdmulhq_s32(vshlq_s32(sum, vmaxq_s32(shift, zero)), multiplier);
  return ShiftTiesAwayNeon(high, vminq_s32(shift, zero), form == RoundingForm::kAway ? ties_away : zero);
}

// The rare case, out of the way.
template <int kVectors>
static __attribute__((noinline)) void ScaleRowsAnyNeon(int32x4_t* sums, int32_t rows, const ScaleNeon<kVectors>& scale,
                                                       RoundingForm form) {
  for (int v = 0; v < kVectors; ++v) {
    for (int32_t m = 0; m < rows; ++m) {
      int32x4_t& sum = sums[m * kVectors + v];
      sum = ScaleAnyNeon(sum, scale.multiplier[v], scale.shift[v], scale.TiesAway(v), form);
    }
  }
}

// Multiplies the sums, in place.
template <int kRows, int kVectors>
static inline void ScaleRowsNeon(int32x4_t (&sums)[kRows][kVectors], const ScaleNeon<kVectors>& scale, bool only_right,
                                 RoundingForm form) {
  if (!only_right) {
    int32x4_t copy[kRows][kVectors];
    std::memcpy(copy, sums, sizeof(sums));
    const ScaleNeon<kVectors> scale_copy = scale;  // lest the scale itself have to lie in memory
    ScaleRowsAnyNeon(copy[0], kRows, scale_copy, form);
    std::memcpy(sums, copy, sizeof(sums));
    return;
  }
  switch (form) {
    case RoundingForm::kSingle:
      return ScaleRightNeon<RoundingForm::kSingle>(sums, scale);
    case RoundingForm::kUpward:
      return ScaleRightNeon<RoundingForm::kUpward>(sums, scale);
    case RoundingForm::kAway:
      return ScaleRightNeon<RoundingForm::kAway>(sums, scale);
  }
}

// What follows the multiplication.
struct StageNeon {
  int16x8_t zero_point;
  int8x16_t min;
  int8x16_t max;

  explicit StageNeon(const OutputStage& stage)
      : zero_point(vdupq_n_s16(static_cast<int16_t>(stage.zero_point))),
        min(vdupq_n_s8(static_cast<int8_t>(stage.min))),
        max(vdupq_n_s8(static_cast<int8_t>(stage.max))) {}

  // Eight outputs before the clamp. Saturation to 16 and 8 bits keeps what the clamp would.
  int16x8_t Words(int32x4_t low, int32x4_t high) const {
    return vqaddq_s16(vqmovn_high_s32(vqmovn_s32(low), high), zero_point);
  }
  int8x8_t Clamp(int16x8_t words) const {
    return vmin_s8(vmax_s8(vqmovn_s16(words), vget_low_s8(min)), vget_low_s8(max));
  }
  int8x16_t Clamp(int16x8_t low, int16x8_t high) const {
    return vminq_s8(vmaxq_s8(vqmovn_high_s16(vqmovn_s16(low), high), min), max);
  }
};

// Writes the first `count` (1..8) bytes.
static inline void StorePartNeon(int8_t* to, int8x8_t bytes, int32_t count) {
  if (count >= 8) {
    vst1_s8(to, bytes);
    return;
  }
  uint64_t part = vget_lane_u64(vreinterpret_u64_s8(bytes), 0);
  for (int32_t i = 0; i < count; ++i, part >>= 8) to[i] = static_cast<int8_t>(part);
}

// Writes eight outputs of each of kRows rows, or less: the first `rows` rows and `columns` columns.
template <int kRows>
static inline void StoreRowsNeon(const int32x4_t (&values)[kRows][2], const StageNeon& stage, int32_t rows,
                                 int32_t columns, int8_t* out, ptrdiff_t stride) {
  if (rows >= kRows && columns >= 8) {
    TFQ_UNROLL
    for (int m = 0; m + 1 < kRows; m += 2, out += 2 * stride) {
      const int8x16_t two =
          stage.Clamp(stage.Words(values[m][0], values[m][1]), stage.Words(values[m + 1][0], values[m + 1][1]));
      vst1_s8(out, vget_low_s8(two));
      vst1_s8(out + stride, vget_high_s8(two));
    }
    if (kRows % 2 != 0) vst1_s8(out, stage.Clamp(stage.Words(values[kRows - 1][0], values[kRows - 1][1])));
    return;
  }
  TFQ_UNROLL
  for (int m = 0; m < kRows; ++m, out += stride) {
    if (m >= rows) break;
    StorePartNeon(out, stage.Clamp(stage.Words(values[m][0], values[m][1])), columns);
  }
}

// The first `count` of the lower or the upper four bytes.
static inline void StoreFourNeon(int8_t* to, int8x8_t bytes, bool upper, int32_t count) {
  const uint64_t both = vget_lane_u64(vreinterpret_u64_s8(bytes), 0);
  const uint32_t four = static_cast<uint32_t>(upper ? both >> 32 : both);
  if (count >= 4) {
    std::memcpy(to, &four, 4);
  } else {
    for (int32_t i = 0; i < count; ++i) to[i] = static_cast<int8_t>(four >> (8 * i));
  }
}

// Writes four outputs of each of kRows rows, or less: the first `rows` rows and `columns` columns.
template <int kRows>
static inline void StoreFoursNeon(const int32x4_t (&values)[kRows][1], const StageNeon& stage, int32_t rows,
                                  int32_t columns, int8_t* out, ptrdiff_t stride) {
  TFQ_UNROLL
  for (int m = 0; m < kRows; m += 2, out += 2 * stride) {
    if (m >= rows) break;
    const int8x8_t two = stage.Clamp(stage.Words(values[m][0], values[m + 1 < kRows ? m + 1 : m][0]));
    StoreFourNeon(out, two, false, columns);
    if (m + 1 < rows) StoreFourNeon(out + stride, two, true, columns);
  }
}

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_KERNELS_NEON_OUTPUT_STAGE_NEON_H_
