// Sums of two tensors.
#include <cmath>

#include "delegates/int4/ops/broadcast.h"
#include "delegates/int4/ops/requantize.h"

namespace tfq::int4 {
namespace {

constexpr int32_t kAddLeftShift = 20;  // bits that the built-in kernel keeps below a step of its inputs

// The built-in kernel scales both inputs to twice the larger scale, adds, and scales the sum.
struct AddScales {
  double larger_twice;
  double a;
  double b;
  double output;
};

AddScales MakeScales(const NodeView& view) {
  const float a = view.input(0)->params.scale, b = view.input(1)->params.scale;
  const double twice = 2 * static_cast<double>(std::max(a, b));
  return {twice, a / twice, b / twice,
          twice / ((1 << kAddLeftShift) * static_cast<double>(view.output()->params.scale))};
}

// Its vector loop shifts left by what the multiplier leaves, its plain loop by 20 and then right.
AddTerm MakeTerm(double real, int32_t zero_point, bool vector) {
  AddTerm term = {zero_point, 0, kAddLeftShift, 0};
  int32_t shift;
  QuantizeMultiplier(real, &term.multiplier, &shift);
  if (vector) {
    term.left = kAddLeftShift + shift;
  } else {
    term.right = -shift;
  }
  return term;
}

AddParams MakeDouble(const NodeView& view, bool vector) {
  const AddScales scales = MakeScales(view);
  AddParams params;
  params.a = MakeTerm(scales.a, view.input(0)->params.zero_point, vector);
  params.b = MakeTerm(scales.b, view.input(1)->params.zero_point, vector);
  QuantizeMultiplier(scales.output, &params.multiplier, &params.shift);
  params.stage = MakeOutputStage(view, Rounding::kDouble);
  return params;
}

AddParams MakeSingle(const NodeView& view) {
  const LinearTerms terms = XnnpackTerms(view);
  AddParams params;
  params.a = {view.input(0)->params.zero_point, terms.a, 0, 0};
  params.b = {view.input(1)->params.zero_point, terms.b, 0, 0};
  params.multiplier = 1;
  params.shift = -terms.right;
  params.stage = MakeOutputStage(view, Rounding::kSingle);
  return params;
}

class Add : public Op {
 public:
  Add(const NodeView& view, const Options& options) : kernel_(ChooseAdd(options.cpu)), match_(view.match) {
    if (XnnpackRuns(view)) {
      vector_ = rest_ = MakeSingle(view);
    } else {
      vector_ = MakeDouble(view, true);
      rest_ = MakeDouble(view, false);
    }
  }

  std::string Resize(const Shapes& inputs, Shapes* outputs) override {
    const std::string problem = PlanBroadcast(inputs[0], inputs[1], &plan_);
    if (problem.empty()) *outputs = {plan_.output};
    return problem;
  }

  size_t scratch_bytes() const override { return 0; }

  void Run(const Operands& operands, const Workspace& workspace) override {
    const int64_t vector = plan_.simple ? VectorPart(match_, plan_.columns) : 0;
    ShareBroadcast(plan_, operands, workspace, kOperations,
                   [&](int64_t begin, int64_t end, const RowValues& a, const RowValues& b, int8_t* out) {
                     const auto run = [&](const AddParams& params, int64_t first, int64_t last) {
                       RunColumns(first, last, a, b, out,
                                  [&](int64_t count, const int8_t* x, const int8_t* y, int8_t* sum) {
                                    kernel_->run(params, count, x, y, sum);
                                  });
                     };
                     run(vector_, begin, std::min(end, vector));
                     run(rest_, std::max(begin, vector), end);
                   });
  }

 private:
  static constexpr int64_t kOperations = 8;  // multiplications that a value costs about as much as

  const AddKernel* kernel_;
  Match match_;
  AddParams vector_;
  AddParams rest_;
  BroadcastPlan plan_;
};

}  // namespace

const char* AddName(const NodeView&, const Options& options) { return ChooseAdd(options.cpu)->name; }

std::unique_ptr<Op> MakeAdd(const NodeView& view, const Options& options) {
  return std::make_unique<Add>(view, options);
}

}  // namespace tfq::int4
