// The product of two int8 tensors.
#include <arm_neon.h>

#include "delegates/int4/kernels/neon/binary_rows_neon.h"
#include "delegates/int4/kernels/variants.h"

namespace tfq::int4 {
namespace {

template <typename Scale>
void RunScaled(const MulParams& params, int64_t count, const int8_t* a, const int8_t* b, int8_t* out,
               const Scale& scale) {
  const int16x8_t a_zero_point = vdupq_n_s16(static_cast<int16_t>(params.a_zero_point));
  const int16x8_t b_zero_point = vdupq_n_s16(static_cast<int16_t>(params.b_zero_point));
  const StageNeon stage(params.stage);
  ForEachPairNeon(count, a, b, out, [&](int8x16_t x, int8x16_t y) {
    return CombineNeon(x, y, a_zero_point, b_zero_point, stage,
                       [&](int16x4_t u, int16x4_t v) { return scale(vmull_s16(u, v)); });
  });
}

template <RoundingForm form>
void RunFixedPoint(const MulParams& params, int64_t count, const int8_t* a, const int8_t* b, int8_t* out) {
  const UniformScaleNeon scale(params.multiplier, params.shift);
  if (params.shift < 0) {
    RunScaled(params, count, a, b, out, [&](int32x4_t product) { return scale.MultiplyRight<form>(product); });
  } else {
    RunScaled(params, count, a, b, out, [&](int32x4_t product) { return scale.Multiply<form>(product); });
  }
}

void Run(const MulParams& params, int64_t count, const int8_t* a, const int8_t* b, int8_t* out) {
  if (params.scale != 0) {
    RunScaled(params, count, a, b, out, [&](int32x4_t product) {
      return vcvtnq_s32_f32(vmulq_n_f32(vcvtq_f32_s32(product), params.scale));  // saturates, as the stage does
    });
  } else if (params.stage.rounding == Rounding::kSingle) {
    RunFixedPoint<RoundingForm::kSingle>(params, count, a, b, out);
  } else {
    RunFixedPoint<RoundingForm::kAway>(params, count, a, b, out);
  }
}

}  // namespace

const MulKernel vmul_qs8_u16_neon = {"vmul_qs8_u16_neon", CpuTier::kNeon, Run};

}  // namespace tfq::int4
