// The same values in another order of axes.
#include "delegates/int4/ops/transpose.h"

#include <algorithm>
#include <cstring>

#include "delegates/int4/describe.h"
#include "delegates/int4/ops/byte_transpose.h"
#include "delegates/int4/ops/share.h"

namespace tfq::int4 {
namespace {

class Transpose : public Op {
 public:
  explicit Transpose(Dims order) : order_(std::move(order)) {}

  std::string Resize(const Shapes& inputs, Shapes* outputs) override {
    const std::string problem = PlanTranspose(inputs[0], order_, &plan_);
    if (!problem.empty()) return problem;
    *outputs = {plan_.output};
    return "";
  }

  size_t scratch_bytes() const override { return 0; }

  void Run(const Operands& operands, const Workspace& workspace) override {
    const int8_t* in = operands.input<int8_t>();
    int8_t* out = operands.output<int8_t>();
    const size_t last = plan_.sizes.size() - 1;
    // The axis of the output along which the input's neighbours lie: with the last one it makes matrices.
    const size_t near =
        static_cast<size_t>(std::find(plan_.strides.begin(), plan_.strides.end(), 1) - plan_.strides.begin());
    std::vector<int64_t> out_strides(plan_.sizes.size(), 1);
    for (size_t i = last; i-- > 0;) out_strides[i] = out_strides[i + 1] * plan_.sizes[i + 1];
    int64_t pieces = 1;
    for (size_t i = 0; i < last; ++i) pieces *= i == near ? 1 : plan_.sizes[i];
    const int64_t values = pieces * plan_.sizes[last] * (near == last ? 1 : plan_.sizes[near]);
    ShareRange(workspace.pool, pieces, 1, values * kOperations, [&](int64_t begin, int64_t end, int32_t) {
      for (int64_t piece = begin; piece < end; ++piece) {
        int64_t from = 0, to = 0, rest = piece;
        for (size_t i = last; i-- > 0;) {
          if (i == near) continue;
          from += rest % plan_.sizes[i] * plan_.strides[i];
          to += rest % plan_.sizes[i] * out_strides[i];
          rest /= plan_.sizes[i];
        }
        if (near == last) {
          std::memcpy(out + to, in + from, static_cast<size_t>(plan_.sizes[last]));
        } else {
          TransposeBytes(plan_.sizes[last], plan_.sizes[near], {in + from, plan_.strides[last]},
                         {out + to, out_strides[near]});
        }
      }
    });
  }

 private:
  static constexpr int64_t kOperations = 4;  // multiplications that a value costs about as much as

  Dims order_;
  TransposePlan plan_;
};

}  // namespace

std::string PlanTranspose(const Dims& input, const Dims& order, TransposePlan* plan) {
  const size_t rank = input.size();
  std::vector<bool> seen(rank);
  const bool permutation = order.size() == rank && std::all_of(order.begin(), order.end(), [&](int32_t axis) {
                             if (axis < 0 || static_cast<size_t>(axis) >= rank || seen[static_cast<size_t>(axis)])
                               return false;
                             return static_cast<bool>(seen[static_cast<size_t>(axis)] = true);
                           });
  if (!permutation) {
    return "its order is " + Shape(order.data(), order.data() + order.size()) + ", for " +
           Number(static_cast<int64_t>(rank)) + " axes";
  }
  std::vector<int64_t> strides(rank, 1);
  for (size_t i = rank; i-- > 1;) strides[i - 1] = strides[i] * input[i];
  *plan = TransposePlan();
  for (const int32_t axis : order) {
    const size_t from = static_cast<size_t>(axis);
    plan->output.push_back(input[from]);
    if (input[from] == 1) continue;
    if (!plan->sizes.empty() && plan->strides.back() == strides[from] * input[from]) {
      plan->sizes.back() *= input[from];
      plan->strides.back() = strides[from];
    } else {
      plan->sizes.push_back(input[from]);
      plan->strides.push_back(strides[from]);
    }
  }
  if (plan->sizes.empty()) {
    plan->sizes = {1};
    plan->strides = {1};
  }
  return "";
}

Dims TransposeOrderOf(const NodeView& view) {
  const abi::Tensor& order = *view.constant(0);
  const int32_t* axes = static_cast<const int32_t*>(order.data);
  return Dims(axes, axes + order.bytes / sizeof(int32_t));
}

std::unique_ptr<Op> MakeTranspose(const NodeView& view, const Options&) {
  return std::make_unique<Transpose>(TransposeOrderOf(view));
}

}  // namespace tfq::int4
