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
  ForEachPairNeon(count, a, b, out, [&](int8x16_t x, int8x16_t y) {
    return CombineNeon(x, y, a_zero_point, b_zero_point,
                       [&](int16x4_t u, int16x4_t v) { return scale(vmull_s16(u, v)); });
  });
}

void Run(const MulParams& params, int64_t count, const int8_t* a, const int8_t* b, int8_t* out) {
  const OutputStage stage = params.stage;
  if (params.scale == 0) {
    const UniformScaleNeon scale(params.multiplier, params.shift);
    if (stage.rounding == Rounding::kSingle) {
      RunScaled(params, count, a, b, out,
                [&](int32x4_t product) { return ApplyStageNeon<RoundingForm::kSingle>(product, scale, stage); });
    } else {
      RunScaled(params, count, a, b, out,
                [&](int32x4_t product) { return ApplyStageNeon<RoundingForm::kAway>(product, scale, stage); });
    }
    return;
  }
  const float32x4_t low = vdupq_n_f32(static_cast<float>(stage.min - stage.zero_point));
  const float32x4_t high = vdupq_n_f32(static_cast<float>(stage.max - stage.zero_point));
  RunScaled(params, count, a, b, out, [&](int32x4_t product) {
    const float32x4_t scaled = vmulq_n_f32(vcvtq_f32_s32(product), params.scale);
    return vaddq_s32(vcvtnq_s32_f32(vminq_f32(vmaxq_f32(scaled, low), high)), vdupq_n_s32(stage.zero_point));
  });
}

}  // namespace

const MulKernel vmul_qs8_u16_neon = {"vmul_qs8_u16_neon", CpuTier::kNeon, Run};

}  // namespace tfq::int4
