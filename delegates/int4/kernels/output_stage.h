// From the 32-bit sum to the int8 output: the scalar form, which the vector forms of each tier equal bit for bit.
//
// Functions are static: each tier's file is compiled for its own instruction set, and a shared inline copy could come
// from any.
#ifndef TFQ_DELEGATES_INT4_KERNELS_OUTPUT_STAGE_H_
#define TFQ_DELEGATES_INT4_KERNELS_OUTPUT_STAGE_H_

#include <cstdint>

#include "delegates/int4/kernels/registry.h"

namespace tfq::int4 {

static inline int32_t WrappingAdd(int32_t a, int32_t b) {
  return static_cast<int32_t>(static_cast<uint32_t>(a) + static_cast<uint32_t>(b));
}

// round(x * multiplier * 2^(shift - 31)), ties upward; bits above the 32nd are lost. multiplier >= 0, -31 <= shift
// <= 30.
static inline int32_t MultiplySingleRounding(int32_t x, int32_t multiplier, int32_t shift) {
  const int32_t right = 31 - shift;
  const int64_t rounding = int64_t{1} << (right - 1);
  return static_cast<int32_t>((int64_t{x} * multiplier + rounding) >> right);
}

// The same, rounded twice; ties of the second rounding go upward or away from zero. A left shift loses the bits above
// the 32nd.
static inline int32_t MultiplyDoubleRounding(int32_t x, int32_t multiplier, int32_t shift, bool ties_away) {
  const int32_t left = shift > 0 ? shift : 0;
  const int32_t right = shift > 0 ? 0 : -shift;
  const int32_t shifted = static_cast<int32_t>(static_cast<uint32_t>(x) << left);
  const int32_t high = static_cast<int32_t>((int64_t{shifted} * multiplier + (int64_t{1} << 30)) >> 31);
  const int32_t mask = static_cast<int32_t>((int64_t{1} << right) - 1);
  const int32_t remainder = high & mask;
  const int32_t threshold = (mask >> 1) + (ties_away && high < 0 ? 1 : 0);
  return (high >> right) + (remainder > threshold ? 1 : 0);
}

// First of `channels` output channels whose ties go away from zero, under the double roundings.
static inline int32_t TiesAwayBegin(Rounding rounding, int32_t channels) {
  if (rounding == Rounding::kDouble) return 0;
  return rounding == Rounding::kDoubleByEights ? channels / 8 * 8 : channels;
}

// The forms that a vector stage has; kAway rounds channels before TiesAwayBegin() upward.
enum class RoundingForm { kSingle, kUpward, kAway };

// What the channels before `channel_end` of `channels` need.
static inline RoundingForm FormOf(Rounding rounding, int32_t channels, int32_t channel_end) {
  if (rounding == Rounding::kSingle) return RoundingForm::kSingle;
  return TiesAwayBegin(rounding, channels) < channel_end ? RoundingForm::kAway : RoundingForm::kUpward;
}

// How a vector stage goes about some channels. Where the shift to the right of the second rounding lies in 2..24, which
// is where layers have it, the upper halves of the products are enough.
enum class StageForm {
  kShort,    // every shift within 2..24, no ties away from zero
  kGeneral,  // any shift, no ties away from zero
  kAway,     // any shift, some ties away from zero
};

static inline int8_t ApplyOutputStage(int32_t sum, int32_t multiplier, int32_t shift, bool ties_away,
                                      const OutputStage& stage) {
  const int32_t scaled = stage.rounding == Rounding::kSingle
                             ? MultiplySingleRounding(sum, multiplier, shift)
                             : MultiplyDoubleRounding(sum, multiplier, shift, ties_away);
  const int64_t value = int64_t{scaled} + stage.zero_point;
  return static_cast<int8_t>(value < stage.min ? stage.min : value > stage.max ? stage.max : value);
}

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_KERNELS_OUTPUT_STAGE_H_
