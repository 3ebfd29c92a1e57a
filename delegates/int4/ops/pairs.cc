// Functions of two int8 values that decomposed normalizations consist of, and that no vector kernel has: a table of all
// pairs, made once.
#include <algorithm>
#include <cmath>

#include "delegates/int4/kernels/output_stage.h"
#include "delegates/int4/ops/broadcast.h"
#include "delegates/int4/ops/requantize.h"

namespace tfq::int4 {
namespace {

constexpr int32_t kValues = 256;

// A real factor in fixed point.
struct Factor {
  explicit Factor(double real) { QuantizeMultiplier(real, &multiplier, &shift); }
  int32_t operator()(int32_t x) const { return MultiplyDoubleRounding(x, multiplier, shift, true); }
  int32_t multiplier, shift;
};

// [second + 128][first + 128]
using Pairs = std::vector<int8_t>;

// combine(first_term(x), second_term(y)) of all pairs, clamped to the stage's range.
template <typename FirstTerm, typename SecondTerm, typename Combine>
Pairs MakePairs(const FirstTerm& first_term, const SecondTerm& second_term, const OutputStage& stage,
                const Combine& combine) {
  int32_t first[kValues];
  for (int32_t x = 0; x < kValues; ++x) first[x] = first_term(x + INT8_MIN);
  Pairs pairs(kValues * kValues);
  int8_t* row = pairs.data();
  for (int32_t y = INT8_MIN; y <= INT8_MAX; ++y, row += kValues) {
    const int32_t second = second_term(y);
    for (int32_t x = 0; x < kValues; ++x) {
      row[x] = static_cast<int8_t>(std::clamp(combine(first[x], second), stage.min, stage.max));
    }
  }
  return pairs;
}

// What the built-in kernels do: both inputs to twice the larger scale, `left` bits up; then function(first, second)
// times `output`.
template <typename Function>
Pairs MakeBuiltIn(const NodeView& view, int32_t left, double twice, double output, const Function& function) {
  const abi::QuantizationParams &a = view.input(0)->params, &b = view.input(1)->params;
  const Factor scale_a(static_cast<double>(a.scale) / twice), scale_b(static_cast<double>(b.scale) / twice);
  const Factor scale_out(output);
  const OutputStage stage = MakeOutputStage(view, Rounding::kDouble);
  return MakePairs([&](int32_t x) { return scale_a((x - a.zero_point) * (1 << left)); },
                   [&](int32_t y) { return scale_b((y - b.zero_point) * (1 << left)); }, stage,
                   [&](int32_t x, int32_t y) { return scale_out(function(x, y)) + stage.zero_point; });
}

Pairs MakeSquares(const NodeView& view) {
  constexpr int32_t kLeft = 7;
  // The runtime multiplies these in float32.
  const double twice = static_cast<double>(2 * std::max(view.input(0)->params.scale, view.input(1)->params.scale));
  const double unit = static_cast<double>(static_cast<float>(1 << (2 * kLeft)) * view.output()->params.scale);
  return MakeBuiltIn(view, kLeft, twice, twice * twice / unit, [](int32_t x, int32_t y) { return (x - y) * (x - y); });
}

Pairs MakeDifferences(const NodeView& view) {
  if (XnnpackRuns(view)) {
    const LinearTerms terms = XnnpackTerms(view);
    const OutputStage stage = MakeOutputStage(view, Rounding::kSingle);
    const int32_t a_zero_point = view.input(0)->params.zero_point, b_zero_point = view.input(1)->params.zero_point;
    return MakePairs(
        [&](int32_t x) { return (x - a_zero_point) * terms.a; },
        [&](int32_t y) { return (y - b_zero_point) * terms.b; }, stage,
        [&](int32_t x, int32_t y) { return ((x - y + (1 << (terms.right - 1))) >> terms.right) + stage.zero_point; });
  }
  constexpr int32_t kLeft = 20;
  const double twice = 2 * static_cast<double>(std::max(view.input(0)->params.scale, view.input(1)->params.scale));
  const double output = twice / ((1 << kLeft) * static_cast<double>(view.output()->params.scale));
  return MakeBuiltIn(view, kLeft, twice, output, [](int32_t x, int32_t y) { return x - y; });
}

class OfPairs : public Op {
 public:
  OfPairs(Pairs pairs, const Options& options) : kernel_(ChooseLookup(options.cpu)), pairs_(std::move(pairs)) {}

  std::string Resize(const Shapes& inputs, Shapes* outputs) override {
    const std::string problem = PlanBroadcast(inputs[0], inputs[1], &plan_);
    if (problem.empty()) *outputs = {plan_.output};
    return problem;
  }

  size_t scratch_bytes() const override { return 0; }

  void Run(const Operands& operands, const Workspace& workspace) override {
    const int8_t* pairs = pairs_.data();
    ShareBroadcast(plan_, operands, workspace, kOperations,
                   [=](int64_t begin, int64_t end, const RowValues& a, const RowValues& b, int8_t* out) {
                     if (b.step == 0 && a.step == 1) {
                       // Pairs of one second value are a table of 256.
                       kernel_->run(pairs + (*b.data - INT8_MIN) * kValues, end - begin, a.data + begin, out + begin);
                     } else {
                       LookUp(pairs, begin, end, a, b, out);
                     }
                   });
  }

 private:
  static constexpr int64_t kOperations = 16;  // multiplications that a value costs about as much as

  static void LookUp(const int8_t* pairs, int64_t begin, int64_t end, const RowValues& a, const RowValues& b,
                     int8_t* out) {
    const int8_t* middle = pairs + (0 - INT8_MIN) * (kValues + 1);
    const RowValues first = a, second = b;  // which `out` cannot reach
    for (int64_t i = begin; i < end; ++i) {
      out[i] = middle[second.data[i * second.step] * kValues + first.data[i * first.step]];
    }
  }

  const LookupKernel* kernel_;
  Pairs pairs_;
  BroadcastPlan plan_;
};

}  // namespace

const char* LookupPairsName(const NodeView&, const Options&) { return "table of pairs"; }

std::unique_ptr<Op> MakeSquaredDifference(const NodeView& view, const Options& options) {
  return std::make_unique<OfPairs>(MakeSquares(view), options);
}

std::unique_ptr<Op> MakeSub(const NodeView& view, const Options& options) {
  return std::make_unique<OfPairs>(MakeDifferences(view), options);
}

}  // namespace tfq::int4
