// Operators of two tensors, one of which is repeated along the axes where it has one value.
#ifndef TFQ_DELEGATES_INT4_OPS_BROADCAST_H_
#define TFQ_DELEGATES_INT4_OPS_BROADCAST_H_

#include <cstdint>
#include <string>

#include "delegates/int4/ops/op.h"

namespace tfq::int4 {

// Where the values of a row of the output come from.
struct BroadcastRow {
  int64_t first;
  int64_t second;
};

struct BroadcastPlan {
  Dims output;
  int64_t rows = 0;
  int64_t columns = 0;
  int64_t first_step = 0;  // from column to column: 1, or 0 where one value serves all
  int64_t second_step = 0;
  // By axis, without the last: how far apart the values lie, 0 where they are repeated.
  std::vector<int64_t> first_strides;
  std::vector<int64_t> second_strides;

  BroadcastRow Row(int64_t row) const;
};

// Returns why these dimensions do not go together, or nothing.
std::string PlanBroadcast(const Dims& first, const Dims& second, BroadcastPlan* plan);

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_OPS_BROADCAST_H_
