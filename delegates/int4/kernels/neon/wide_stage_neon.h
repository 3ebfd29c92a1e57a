// The vector form of wide_stage.h for NEON, equal to the scalar form bit for bit.
#ifndef TFQ_DELEGATES_INT4_KERNELS_NEON_WIDE_STAGE_NEON_H_
#define TFQ_DELEGATES_INT4_KERNELS_NEON_WIDE_STAGE_NEON_H_

#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

#include "delegates/int4/kernels/neon/output_stage_neon.h"
#include "delegates/int4/kernels/wide_stage.h"

namespace tfq::int4 {

// Two channels, of the roundings that take 64-bit sums.
template <WideRounding rounding>
struct WideScaleNeon {
  int64x2_t bias;
  float64x2_t scale;
  int32x2_t reduced;
  int64x2_t half;  // of what the shift takes away
  int64x2_t shift;

  explicit WideScaleNeon(const WideChannel* channels) {
    static_assert(sizeof(WideChannel) == 3 * sizeof(int64_t));
    const int64x2x3_t parts = vld3q_s64(&channels->bias);
    bias = parts.val[0];
    scale = vreinterpretq_f64_s64(parts.val[1]);
    if (rounding != WideRounding::kReduced) return;
    const int32x2_t multiplier = vmovn_s64(parts.val[2]);
    reduced = vmin_s32(vrshr_n_s32(multiplier, 16), vdup_n_s32(0x7fff));
    shift = vsubq_s64(vshrq_n_s64(parts.val[2], 32), vdupq_n_s64(15));
    half = vshlq_s64(vdupq_n_s64(1), vsubq_s64(vnegq_s64(shift), vdupq_n_s64(1)));
  }

  // sum * reduced: 64 bits of it, from the product with each half of the sum.
  int64x2_t Product(int64x2_t sum) const {
    const uint64x2_t low = vmull_u32(vreinterpret_u32_s32(vmovn_s64(sum)), vreinterpret_u32_s32(reduced));
    const uint64x2_t high = vmull_u32(vreinterpret_u32_s32(vshrn_n_s64(sum, 32)), vreinterpret_u32_s32(reduced));
    return vreinterpretq_s64_u64(vaddq_u64(low, vshlq_n_u64(high, 32)));
  }

  // Saturates to 32 bits, for only 16 are asked for.
  int32x2_t Apply(const int64_t* sums) const {
    const int64x2_t sum = vaddq_s64(vld1q_s64(sums), bias);
    if (rounding == WideRounding::kReal) return vqmovn_s64(vcvtaq_s64_f64(vmulq_f64(vcvtq_f64_s64(sum), scale)));
    return vqmovn_s64(vshlq_s64(vaddq_s64(Product(sum), half), shift));
  }
};

// Four channels.
template <WideRounding rounding,
          bool in_64_bits = rounding == WideRounding::kReduced || rounding == WideRounding::kReal>
struct WideScalesNeon {
  WideScaleNeon<rounding> low;
  WideScaleNeon<rounding> high;

  explicit WideScalesNeon(const WideChannel* channels) : low(channels), high(channels + 2) {}

  int32x4_t Apply(const int64_t* sums) const { return vcombine_s32(low.Apply(sums), high.Apply(sums + 2)); }
};

template <WideRounding rounding>
struct WideScalesNeon<rounding, false> {
  static constexpr RoundingForm kForm =
      rounding == WideRounding::kSingle ? RoundingForm::kSingle : RoundingForm::kUpward;

  int32x4_t bias;
  int32x4_t multiplier;
  int32x4_t shift;

  explicit WideScalesNeon(const WideChannel* channels) {
    int32_t of[3][4];
    for (int i = 0; i < 4; ++i) {
      of[0][i] = static_cast<int32_t>(channels[i].bias);
      of[1][i] = channels[i].multiplier;
      of[2][i] = channels[i].shift;
    }
    bias = vld1q_s32(of[0]);
    multiplier = vld1q_s32(of[1]);
    shift = vld1q_s32(of[2]);
  }

  int32x4_t Apply(const int64_t* sums) const {
    const int32x4_t sum = vcombine_s32(vmovn_s64(vld1q_s64(sums)), vmovn_s64(vld1q_s64(sums + 2)));
    return ScaleAnyNeon(vaddq_s32(sum, bias), multiplier, shift, vdupq_n_s32(0), kForm);
  }
};

// Writes the first `count` (1..4) values.
static inline void StoreWidePartNeon(int16_t* to, int16x4_t values, int32_t count) {
  if (count >= 4) {
    vst1_s16(to, values);
    return;
  }
  uint64_t part = vget_lane_u64(vreinterpret_u64_s16(values), 0);
  for (int32_t i = 0; i < count; ++i, part >>= 16) to[i] = static_cast<int16_t>(part);
}

template <WideRounding rounding>
static inline void ApplyWideRoundingNeon(const int64_t* sums, ptrdiff_t sums_stride, int32_t rows,
                                         const WideChannel* channels, int32_t count, const WideStage& stage,
                                         int16_t* out, ptrdiff_t out_stride) {
  const int16x4_t min = vdup_n_s16(static_cast<int16_t>(stage.min)), max = vdup_n_s16(static_cast<int16_t>(stage.max));
  for (int32_t i = 0; i < count; i += 4) {
    const WideScalesNeon<rounding> scales(channels + i);
    for (int32_t m = 0; m < rows; ++m) {
      const int16x4_t values = vqmovn_s32(scales.Apply(sums + m * sums_stride + i));
      StoreWidePartNeon(out + m * out_stride + i, vmin_s16(vmax_s16(values, min), max), count - i);
    }
  }
}

// ApplyWideRows(), of four channels at a time.
static inline void ApplyWideRowsNeon(const int64_t* sums, ptrdiff_t sums_stride, int32_t rows,
                                     const WideChannel* channels, int32_t count, const WideStage& stage, int16_t* out,
                                     ptrdiff_t out_stride) {
  switch (stage.rounding) {
    case WideRounding::kReduced:
      return ApplyWideRoundingNeon<WideRounding::kReduced>(sums, sums_stride, rows, channels, count, stage, out,
                                                           out_stride);
    case WideRounding::kReal:
      return ApplyWideRoundingNeon<WideRounding::kReal>(sums, sums_stride, rows, channels, count, stage, out,
                                                        out_stride);
    case WideRounding::kDoubleUpward:
      return ApplyWideRoundingNeon<WideRounding::kDoubleUpward>(sums, sums_stride, rows, channels, count, stage, out,
                                                                out_stride);
    case WideRounding::kSingle:
      return ApplyWideRoundingNeon<WideRounding::kSingle>(sums, sums_stride, rows, channels, count, stage, out,
                                                          out_stride);
  }
}

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_KERNELS_NEON_WIDE_STAGE_NEON_H_
