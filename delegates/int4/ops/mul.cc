// Products of two tensors.
#include "delegates/int4/ops/mul.h"

#include "delegates/int4/ops/broadcast.h"
#include "delegates/int4/ops/requantize.h"

namespace tfq::int4 {
namespace {

class Mul : public Op {
 public:
  Mul(const NodeView& view, const Options& options) : kernel_(ChooseMul(options.cpu)), params_(MakeMulParams(view)) {}

  std::string Resize(const Shapes& inputs, Shapes* outputs) override {
    const std::string problem = PlanBroadcast(inputs[0], inputs[1], &plan_);
    if (problem.empty()) *outputs = {plan_.output};
    return problem;
  }

  size_t scratch_bytes() const override { return 0; }

  void Run(const Operands& operands, const Workspace& workspace) override {
    ShareBroadcast(plan_, operands, workspace, kOperations,
                   [&](int64_t begin, int64_t end, const RowValues& a, const RowValues& b, int8_t* out) {
                     RunColumns(begin, end, a, b, out,
                                [&](int64_t count, const int8_t* x, const int8_t* y, int8_t* product) {
                                  kernel_->run(params_, count, x, y, product);
                                });
                   });
  }

 private:
  static constexpr int64_t kOperations = 8;  // multiplications that a value costs about as much as

  const MulKernel* kernel_;
  MulParams params_;
  BroadcastPlan plan_;
};

}  // namespace

// The runtimes multiply the scales in float32. XNNPACK's product is in float32 on x86 and in fixed point on arm64.
MulParams MakeMulParams(const NodeView& view) {
  const float scale = ProductRatio(view);
  MulParams params = {view.input(0)->params.zero_point,        view.input(1)->params.zero_point, 0, 0, 0,
                      MakeOutputStage(view, Rounding::kDouble)};
  QuantizeMultiplier(static_cast<double>(scale), &params.multiplier, &params.shift);
  if (XnnpackRuns(view)) {
#if defined(__aarch64__)
    params.stage.rounding = Rounding::kSingle;
#else
    params.scale = scale;
#endif
  }
  return params;
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
