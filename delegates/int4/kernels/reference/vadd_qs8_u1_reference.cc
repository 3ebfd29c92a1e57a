// The sum of two int8 tensors, straight from the definition.
#include "delegates/int4/kernels/output_stage.h"
#include "delegates/int4/kernels/variants.h"

namespace tfq::int4 {
namespace {

int32_t Term(const AddTerm& term, int8_t x) {
  const int32_t shifted = (x - term.zero_point) * (int32_t{1} << term.left);
  return MultiplyDoubleRounding(shifted, term.multiplier, -term.right, true);
}

void Run(const AddParams& params, int64_t count, const int8_t* a, const int8_t* b, int8_t* out) {
  const OutputStage& stage = params.stage;
  if (stage.rounding == Rounding::kSingle) {
    const int32_t half = int32_t{1} << (-params.shift - 1);
    for (int64_t i = 0; i < count; ++i) {
      const int32_t sum =
          (a[i] - params.a.zero_point) * params.a.multiplier + (b[i] - params.b.zero_point) * params.b.multiplier;
      const int32_t value = ((sum + half) >> -params.shift) + stage.zero_point;
      out[i] = static_cast<int8_t>(value < stage.min ? stage.min : value > stage.max ? stage.max : value);
    }
    return;
  }
  for (int64_t i = 0; i < count; ++i) {
    const int32_t sum = Term(params.a, a[i]) + Term(params.b, b[i]);
    out[i] = ApplyOutputStage(sum, params.multiplier, params.shift, true, stage);
  }
}

}  // namespace

const AddKernel vadd_qs8_u1_reference = {"vadd_qs8_u1_reference", CpuTier::kReference, Run};

}  // namespace tfq::int4
