// Products of two tensors, one of which may lack the rows and columns of the other (squeeze and excitation).
#include "delegates/int4/ops/mul.h"

#include "delegates/int4/describe.h"
#include "delegates/int4/ops/requantize.h"
#include "delegates/int4/ops/share.h"

namespace tfq::int4 {
namespace {

class Mul : public Op {
 public:
  Mul(const NodeView& view, const Options& options) : kernel_(ChooseMul(options.cpu)), params_(MakeMulParams(view)) {}

  std::string Resize(const Shapes& inputs, Shapes* outputs) override {
    const std::string problem = PlanMul(inputs[0], inputs[1], &plan_);
    if (!problem.empty()) return problem;
    *outputs = {plan_.once == 0 ? inputs[1] : inputs[0]};
    return "";
  }

  size_t scratch_bytes() const override { return 0; }

  void Run(const Operands& operands, const Workspace& workspace) override {
    const int8_t* a = operands.input<int8_t>(0);
    const int8_t* b = operands.input<int8_t>(1);
    int8_t* out = operands.output<int8_t>();
    const int64_t rows = plan_.images * plan_.pixels;
    ShareRange(workspace.pool, rows, 1, rows * plan_.channels * kOperations, [&](int64_t begin, int64_t end, int32_t) {
      if (plan_.once < 0) {
        const int64_t first = begin * plan_.channels;
        kernel_->run(params_, (end - begin) * plan_.channels, a + first, b + first, out + first);
        return;
      }
      for (int64_t row = begin; row < end; ++row) {
        const int64_t whole = row * plan_.channels, once = row / plan_.pixels * plan_.channels;
        kernel_->run(params_, plan_.channels, a + (plan_.once == 0 ? once : whole),
                     b + (plan_.once == 1 ? once : whole), out + whole);
      }
    });
  }

 private:
  static constexpr int64_t kOperations = 8;  // multiplications that a value costs about as much as

  const MulKernel* kernel_;
  MulParams params_;
  MulPlan plan_;
};

}  // namespace

// The runtimes multiply the scales in float32. XNNPACK's product is in float32 on x86 and in fixed point on arm64.
MulParams MakeMulParams(const NodeView& view) {
  const float scale = view.input(0)->params.scale * view.input(1)->params.scale / view.output()->params.scale;
  MulParams params = {view.input(0)->params.zero_point,        view.input(1)->params.zero_point, 0, 0, 0,
                      MakeOutputStage(view, Rounding::kDouble)};
  QuantizeMultiplier(static_cast<double>(scale), &params.multiplier, &params.shift);
  if (view.match == Match::kXnnpack) {
#if defined(__aarch64__)
    params.stage.rounding = Rounding::kSingle;
#else
    params.scale = scale;
#endif
  }
  return params;
}

std::string PlanMul(const Dims& a, const Dims& b, MulPlan* plan) {
  const auto is_once = [](const Dims& one, const Dims& all) {
    return one.size() == 4 && all.size() == 4 && one[0] == all[0] && one[1] == 1 && one[2] == 1 && one[3] == all[3];
  };
  if (a == b) {
    *plan = {-1, 1, 1, ElementsOf(a.data(), a.data() + a.size())};
    // Cut into rows that threads can share.
    if (!a.empty() && a.back() > 0) *plan = {-1, 1, plan->channels / a.back(), a.back()};
    return "";
  }
  if (!is_once(a, b) && !is_once(b, a)) {
    return "it multiplies " + Shape(a.data(), a.data() + a.size()) + " by " + Shape(b.data(), b.data() + b.size()) +
           " (taken: equal shapes, or one value a channel)";
  }
  const Dims& all = is_once(a, b) ? b : a;
  *plan = {is_once(a, b) ? 0 : 1, all[0], int64_t{all[1]} * all[2], all[3]};
  return "";
}

int32_t ConstantFactor(const NodeView& view) {
  for (int32_t i = 0; i < 2; ++i) {
    const abi::Tensor& tensor = *view.input(static_cast<size_t>(i));
    const bool constant = tensor.allocation_type == abi::AllocationType::kConstant && tensor.data != nullptr;
    // The product has the other's dimensions.
    const bool smaller = tensor.dims->size <= view.input(static_cast<size_t>(1 - i))->dims->size;
    if (constant && smaller && ElementsOf(tensor.dims->begin(), tensor.dims->end()) == 1) return i;
  }
  return -1;
}

const char* MulName(const NodeView& view, const Options& options) {
  return ConstantFactor(view) >= 0 ? LookupName(view, options) : ChooseMul(options.cpu)->name;
}

std::unique_ptr<Op> MakeMul(const NodeView& view, const Options& options) {
  if (ConstantFactor(view) >= 0) return MakeMulByConstant(view, options);
  return std::make_unique<Mul>(view, options);
}

}  // namespace tfq::int4
