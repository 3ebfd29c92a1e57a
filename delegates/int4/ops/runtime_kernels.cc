#include "delegates/int4/ops/runtime_kernels.h"

#include <algorithm>
#include <cmath>

namespace tfq::int4 {

float ProductRatio(const NodeView& view) {
  return view.input(0)->params.scale * view.input(1)->params.scale / view.output()->params.scale;
}

bool XnnpackRuns(const NodeView& view) {
  if (view.match != Match::kXnnpack) return false;
  const float output = view.output()->params.scale;
  const auto sums = [&](const TensorView& input) {
    const float ratio = input.tensor->params.scale / output;
    return ratio >= 1.0f / 1024 && ratio < 256;
  };
  switch (view.kind) {
    case OpKind::kAdd:
    case OpKind::kSub:
      return sums(view.inputs[0]) && sums(view.inputs[1]);
    case OpKind::kMul: {
      const float ratio = ProductRatio(view);
      return ratio >= 1.0f / 65536 && ratio < 256;
    }
    default:
      return false;
  }
}

LinearTerms XnnpackTerms(const NodeView& view) {
  const float output = view.output()->params.scale;
  const float a = view.input(0)->params.scale / output, b = view.input(1)->params.scale / output;
  int exponent;
  std::frexp(std::max(a, b), &exponent);
  const int32_t right = 20 - (exponent - 1);
  return {static_cast<int32_t>(std::lrint(std::ldexp(a, right))),
          static_cast<int32_t>(std::lrint(std::ldexp(b, right))), right};
}

}  // namespace tfq::int4
