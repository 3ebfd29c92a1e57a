// What follows the sum of a layer between 16-bit activations: 64 bits in, one int16 out.
//
// Functions are static: each tier's file is compiled for its own instruction set, and a shared inline copy could come
// from any.
#ifndef TFQ_DELEGATES_INT4_KERNELS_WIDE_STAGE_H_
#define TFQ_DELEGATES_INT4_KERNELS_WIDE_STAGE_H_

#include <cstddef>
#include <cstdint>

#include "delegates/int4/kernels/output_stage.h"
#include "delegates/int4/kernels/registry.h"

namespace tfq::int4 {

// To the nearest integer, halves away from zero. Values that leave 32 bits stay outside of them.
static inline int64_t RoundHalfAway(double value) {
  constexpr double kFar = 4e9;
  const double near = value < -kFar ? -kFar : value > kFar ? kFar : value;
  const int64_t whole = static_cast<int64_t>(near);
  const double rest = near - static_cast<double>(whole);  // exact
  return whole + (rest >= 0.5 ? 1 : 0) - (rest <= -0.5 ? 1 : 0);
}

// sum * multiplier * 2^(shift - 31) with the multiplier in 16 bits. Exact for |sum| < 2^47; larger ones wrap.
static inline int64_t MultiplyReduced(int64_t sum, int32_t multiplier, int32_t shift) {
  const int64_t reduced = multiplier < 0x7fff0000 ? (multiplier + (1 << 15)) >> 16 : 0x7fff;
  const int32_t right = 15 - shift;
  return static_cast<int64_t>(static_cast<uint64_t>(sum) * static_cast<uint64_t>(reduced) +
                              (uint64_t{1} << (right - 1))) >>
         right;
}

static inline int64_t WrappingAdd64(int64_t a, int64_t b) {
  return static_cast<int64_t>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b));
}

template <WideRounding rounding>
static inline int64_t ScaleWide(int64_t sum, const WideChannel& channel) {
  switch (rounding) {
    case WideRounding::kReduced:
      return MultiplyReduced(sum, channel.multiplier, channel.shift);
    case WideRounding::kReal:
      return RoundHalfAway(static_cast<double>(sum) * channel.scale);
    case WideRounding::kDoubleUpward:
      return MultiplyDoubleRounding(static_cast<int32_t>(sum), channel.multiplier, channel.shift, false);
    case WideRounding::kSingle:
      return MultiplySingleRounding(static_cast<int32_t>(sum), channel.multiplier, channel.shift);
  }
  return 0;
}

template <WideRounding rounding>
static inline void ApplyWideRounding(const int64_t* sums, const WideChannel* channels, int32_t count,
                                     const WideStage& stage, int16_t* out) {
  for (int32_t i = 0; i < count; ++i) {
    const int64_t value = ScaleWide<rounding>(WrappingAdd64(sums[i], channels[i].bias), channels[i]);
    out[i] = static_cast<int16_t>(value < stage.min ? stage.min : value > stage.max ? stage.max : value);
  }
}

// `count` consecutive output channels.
static inline void ApplyWideStage(const int64_t* sums, const WideChannel* channels, int32_t count,
                                  const WideStage& stage, int16_t* out) {
  switch (stage.rounding) {
    case WideRounding::kReduced:
      return ApplyWideRounding<WideRounding::kReduced>(sums, channels, count, stage, out);
    case WideRounding::kReal:
      return ApplyWideRounding<WideRounding::kReal>(sums, channels, count, stage, out);
    case WideRounding::kDoubleUpward:
      return ApplyWideRounding<WideRounding::kDoubleUpward>(sums, channels, count, stage, out);
    case WideRounding::kSingle:
      return ApplyWideRounding<WideRounding::kSingle>(sums, channels, count, stage, out);
  }
}

// The same of several rows. Sums and channels go on, without meaning, up to a whole vector.
static inline void ApplyWideRows(const int64_t* sums, ptrdiff_t sums_stride, int32_t rows, const WideChannel* channels,
                                 int32_t count, const WideStage& stage, int16_t* out, ptrdiff_t out_stride) {
  for (int32_t m = 0; m < rows; ++m, sums += sums_stride, out += out_stride) {
    ApplyWideStage(sums, channels, count, stage, out);
  }
}

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_KERNELS_WIDE_STAGE_H_
