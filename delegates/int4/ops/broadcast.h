// Operators of two tensors, one of which is repeated along the axes where it has one value.
#ifndef TFQ_DELEGATES_INT4_OPS_BROADCAST_H_
#define TFQ_DELEGATES_INT4_OPS_BROADCAST_H_

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>

#include "delegates/int4/ops/op.h"
#include "delegates/int4/ops/runtime_kernels.h"
#include "delegates/int4/ops/share.h"

namespace tfq::int4 {

// Where the values of a row of the output come from.
struct BroadcastRow {
  int64_t first;
  int64_t second;
};

// Neighbouring axes along which the same tensor is repeated, or none, are one axis here: rows are as long as they can
// be.
struct BroadcastPlan {
  Dims output;
  int64_t rows = 0;
  int64_t columns = 0;
  int64_t first_step = 0;  // from column to column: 1, or 0 where one value serves all
  int64_t second_step = 0;
  // By axis, without the last: how many values there are, and how far apart they lie, 0 where they are repeated.
  std::vector<int64_t> sizes;
  std::vector<int64_t> first_strides;
  std::vector<int64_t> second_strides;
  // Whether each tensor is repeated along one axis at most: the runtime's kernels then go over rows as these are.
  bool simple = true;

  BroadcastRow Row(int64_t row) const;
};

// Returns why these dimensions do not go together, or nothing.
std::string PlanBroadcast(const Dims& first, const Dims& second, BroadcastPlan* plan);

// The values of one tensor in a row.
struct RowValues {
  const int8_t* data;
  int64_t step;
};

// Calls run(count, a, b, out) for columns begin..end-1 of a row, with as many values of both tensors as of the output.
template <typename Run>
void RunColumns(int64_t begin, int64_t end, const RowValues& a, const RowValues& b, int8_t* out, const Run& run) {
  constexpr int64_t kPiece = 64 * kVectorBlock;
  int8_t repeated[kPiece];
  const RowValues& one = a.step == 0 ? a : b;
  if (one.step == 0) std::memset(repeated, *one.data, static_cast<size_t>(std::min(kPiece, end - begin)));
  for (int64_t c = begin; c < end; c += kPiece) {
    run(std::min(kPiece, end - c), a.step == 0 ? repeated : a.data + c, b.step == 0 ? repeated : b.data + c, out + c);
  }
}

// Calls task(begin, end, a, b, out) for all rows, or for pieces of them that begin at multiples of kVectorBlock, on all
// threads; `cost` is how many multiplications a value costs about as much as.
template <typename Task>
void ShareBroadcast(const BroadcastPlan& plan, const Operands& operands, const Workspace& workspace, int64_t cost,
                    const Task& task) {
  const int8_t* a = operands.input<int8_t>(0);
  const int8_t* b = operands.input<int8_t>(1);
  int8_t* out = operands.output<int8_t>();
  const int64_t operations = plan.rows * plan.columns * cost;
  if (plan.rows == 1) {
    ShareRange(workspace.pool, plan.columns, kVectorBlock, operations, [&](int64_t begin, int64_t end, int32_t) {
      task(begin, end, RowValues{a, plan.first_step}, RowValues{b, plan.second_step}, out);
    });
    return;
  }
  ShareRange(workspace.pool, plan.rows, 1, operations, [&](int64_t begin, int64_t end, int32_t) {
    for (int64_t row = begin; row < end; ++row) {
      const BroadcastRow at = plan.Row(row);
      task(0, plan.columns, RowValues{a + at.first, plan.first_step}, RowValues{b + at.second, plan.second_step},
           out + row * plan.columns);
    }
  });
}

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_OPS_BROADCAST_H_
