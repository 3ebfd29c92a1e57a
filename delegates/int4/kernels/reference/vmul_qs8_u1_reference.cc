// The product of two int8 tensors, straight from the definition.
#include <cmath>

#include "delegates/int4/kernels/output_stage.h"
#include "delegates/int4/kernels/variants.h"

namespace tfq::int4 {
namespace {

void Run(const MulParams& params, int64_t count, const int8_t* a, const int8_t* b, int8_t* out) {
  const OutputStage& stage = params.stage;
  const float low = static_cast<float>(stage.min - stage.zero_point);
  const float high = static_cast<float>(stage.max - stage.zero_point);
  for (int64_t i = 0; i < count; ++i) {
    const int32_t product = (a[i] - params.a_zero_point) * (b[i] - params.b_zero_point);
    if (params.scale == 0) {
      out[i] = ApplyOutputStage(product, params.multiplier, params.shift, true, stage);
      continue;
    }
    const float scaled = static_cast<float>(product) * params.scale;
    const float clamped = scaled < low ? low : scaled > high ? high : scaled;
    out[i] = static_cast<int8_t>(std::lrint(clamped) + stage.zero_point);
  }
}

}  // namespace

const MulKernel vmul_qs8_u1_reference = {"vmul_qs8_u1_reference", CpuTier::kReference, Run};

}  // namespace tfq::int4
