// The sum of two int8 tensors.
#include <arm_neon.h>

#include "delegates/int4/kernels/neon/binary_rows_neon.h"
#include "delegates/int4/kernels/variants.h"

namespace tfq::int4 {
namespace {

struct TermNeon {
  int32x4_t left;
  UniformScaleNeon scale;
};

TermNeon MakeTerm(const AddTerm& term) { return {vdupq_n_s32(term.left), {term.multiplier, -term.right}}; }

// Without shifts to the right there is no second rounding.
template <bool shifts_right>
inline int32x4_t Apply(int16x4_t x, const TermNeon& term) {
  constexpr RoundingForm form = shifts_right ? RoundingForm::kAway : RoundingForm::kUpward;
  return term.scale.Multiply<form>(vshlq_s32(vmovl_s16(x), term.left));
}

template <bool shifts_right>
void RunTwice(const AddParams& params, int64_t count, const int8_t* a, const int8_t* b, int8_t* out) {
  const TermNeon a_term = MakeTerm(params.a), b_term = MakeTerm(params.b);
  const UniformScaleNeon scale(params.multiplier, params.shift);
  const int16x8_t a_zero_point = vdupq_n_s16(static_cast<int16_t>(params.a.zero_point));
  const int16x8_t b_zero_point = vdupq_n_s16(static_cast<int16_t>(params.b.zero_point));
  const StageNeon stage(params.stage);
  ForEachPairNeon(count, a, b, out, [&](int8x16_t x, int8x16_t y) {
    return CombineNeon(x, y, a_zero_point, b_zero_point, stage, [&](int16x4_t u, int16x4_t v) {
      const int32x4_t sum = vaddq_s32(Apply<shifts_right>(u, a_term), Apply<shifts_right>(v, b_term));
      return scale.Multiply<RoundingForm::kAway>(sum);
    });
  });
}

void RunOnce(const AddParams& params, int64_t count, const int8_t* a, const int8_t* b, int8_t* out) {
  const int16x8_t a_zero_point = vdupq_n_s16(static_cast<int16_t>(params.a.zero_point));
  const int16x8_t b_zero_point = vdupq_n_s16(static_cast<int16_t>(params.b.zero_point));
  const int32x4_t shift = vdupq_n_s32(params.shift);
  const StageNeon stage(params.stage);
  ForEachPairNeon(count, a, b, out, [&](int8x16_t x, int8x16_t y) {
    return CombineNeon(x, y, a_zero_point, b_zero_point, stage, [&](int16x4_t u, int16x4_t v) {
      const int32x4_t sum =
          vmlaq_n_s32(vmulq_n_s32(vmovl_s16(u), params.a.multiplier), vmovl_s16(v), params.b.multiplier);
      return vrshlq_s32(sum, shift);
    });
  });
}

void Run(const AddParams& params, int64_t count, const int8_t* a, const int8_t* b, int8_t* out) {
  if (params.stage.rounding == Rounding::kSingle) {
    RunOnce(params, count, a, b, out);
  } else if (params.a.right > 0 || params.b.right > 0) {
    RunTwice<true>(params, count, a, b, out);
  } else {
    RunTwice<false>(params, count, a, b, out);
  }
}

}  // namespace

const AddKernel vadd_qs8_u16_neon = {"vadd_qs8_u16_neon", CpuTier::kNeon, Run};

}  // namespace tfq::int4
