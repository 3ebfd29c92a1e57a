// Sums of two tensors of one shape.
#include <cmath>

#include "delegates/int4/ops/op.h"
#include "delegates/int4/ops/requantize.h"
#include "delegates/int4/ops/runtime_kernels.h"
#include "delegates/int4/ops/share.h"

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

// XNNPACK multiplies both inputs by integers of 21 bits at most and shifts their sum once.
AddParams MakeSingle(const NodeView& view) {
  const float output = view.output()->params.scale;
  const float a = view.input(0)->params.scale / output, b = view.input(1)->params.scale / output;
  int exponent;
  std::frexp(std::max(a, b), &exponent);
  const int32_t shift = 20 - (exponent - 1);
  AddParams params;
  params.a = {view.input(0)->params.zero_point, static_cast<int32_t>(std::lrint(std::ldexp(a, shift))), 0, 0};
  params.b = {view.input(1)->params.zero_point, static_cast<int32_t>(std::lrint(std::ldexp(b, shift))), 0, 0};
  params.multiplier = 1;
  params.shift = -shift;
  params.stage = MakeOutputStage(view, Rounding::kSingle);
  return params;
}

class Add : public Op {
 public:
  Add(const NodeView& view, const Options& options) : kernel_(ChooseAdd(options.cpu)), match_(options.match) {
    if (match_ == Match::kXnnpack) {
      vector_ = rest_ = MakeSingle(view);
    } else {
      vector_ = MakeDouble(view, true);
      rest_ = MakeDouble(view, false);
    }
  }

  std::string Resize(const Shapes& inputs, Shapes* outputs) override {
    if (inputs[0] != inputs[1]) return "inputs differ in shape";
    *outputs = {inputs[0]};
    count_ = ElementsOf(inputs[0].data(), inputs[0].data() + inputs[0].size());
    return "";
  }

  size_t scratch_bytes() const override { return 0; }

  void Run(const Operands& operands, const Workspace& workspace) override {
    const int8_t* a = operands.input<int8_t>(0);
    const int8_t* b = operands.input<int8_t>(1);
    int8_t* out = operands.output<int8_t>();
    const int64_t vector = VectorPart(match_, count_);
    ShareRange(workspace.pool, vector, kVectorBlock, vector * kOperations, [&](int64_t begin, int64_t end, int32_t) {
      kernel_->run(vector_, end - begin, a + begin, b + begin, out + begin);
    });
    kernel_->run(rest_, count_ - vector, a + vector, b + vector, out + vector);
  }

 private:
  static constexpr int64_t kOperations = 8;  // multiplications that a value costs about as much as

  const AddKernel* kernel_;
  Match match_;
  AddParams vector_;
  AddParams rest_;
  int64_t count_ = 0;
};

}  // namespace

const char* AddName(const NodeView&, const Options& options) { return ChooseAdd(options.cpu)->name; }

std::unique_ptr<Op> MakeAdd(const NodeView& view, const Options& options) {
  return std::make_unique<Add>(view, options);
}

}  // namespace tfq::int4
