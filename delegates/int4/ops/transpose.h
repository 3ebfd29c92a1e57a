// Which order of axes a TRANSPOSE has.
#ifndef TFQ_DELEGATES_INT4_OPS_TRANSPOSE_H_
#define TFQ_DELEGATES_INT4_OPS_TRANSPOSE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "delegates/int4/ops/op.h"

namespace tfq::int4 {

// Axes without those of one value, and neighbours that stay neighbours as one: axis i of the output, `sizes[i]` values
// that lie `strides[i]` apart in the input.
struct TransposePlan {
  Dims output;
  std::vector<int64_t> sizes;
  std::vector<int64_t> strides;
};

// Axis i of the output is axis order[i] of the input. Returns why there is no such transpose, or nothing.
std::string PlanTranspose(const Dims& input, const Dims& order, TransposePlan* plan);

// The order of a TRANSPOSE node, int32.
Dims TransposeOrderOf(const NodeView& view);

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_OPS_TRANSPOSE_H_
