// What a mean goes over.
#ifndef TFQ_DELEGATES_INT4_OPS_MEAN_H_
#define TFQ_DELEGATES_INT4_OPS_MEAN_H_

#include <cstdint>
#include <string>

#include "delegates/int4/ops/op.h"

namespace tfq::int4 {

// Of [outer][count][inner] values, the mean over `count`.
struct MeanPlan {
  int64_t outer = 0;
  int64_t count = 0;
  int64_t inner = 0;
  Dims output;
};

// `axes` may count from the end and name an axis twice. Returns why such a mean is not taken, or nothing.
std::string PlanMean(const Dims& input, const Dims& axes, bool keep_dims, MeanPlan* plan);

// The axes of a MEAN node, int32, any number of them.
Dims MeanAxesOf(const NodeView& view);

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_OPS_MEAN_H_
